//! The one step that sees all rows in order: it decides which row goes where.

use super::{BATCH_ROWS, Plan, Summary};
use crate::error::{Error, Result, printable};
use crate::input::discover::Source;
use crate::input::records::Parsed;
use crate::windows::{Row, Windower};

/// Rows in a group: one job's worth, and a buffer that fits the caches.
const GROUP_ROWS: usize = 32;

/// A group is closed early when it holds as many letters, so that the work is
/// shared evenly between threads.
const GROUP_LETTERS: usize = 1 << 20;

/// A batch is closed early when it holds as many letters, so that its
/// sequences fit into memory.
const BATCH_LETTERS: usize = 1 << 27;

/// Where batches end.
#[derive(Default)]
pub(crate) struct BatchEnds {
    rows: usize,
    letters: usize,
}

impl BatchEnds {
    /// Counts the next row; true if it is the last one of its batch.
    pub(crate) fn add(&mut self, letters: usize, id: usize) -> bool {
        self.rows += 1;
        // The name counts too: it may be longer than the sequence.
        self.letters += letters + id;
        let is_last = self.rows == BATCH_ROWS || self.letters >= BATCH_LETTERS;
        if is_last {
            *self = Self::default();
        }
        is_last
    }
}

/// Rows that make one group.
#[derive(Debug)]
pub(super) struct Planned {
    /// Number of the batch.
    pub(super) batch: u64,
    /// Position within the batch.
    pub(super) position: usize,
    pub(super) rows: Vec<Row>,
    /// The batch ends with this group.
    pub(super) ends_batch: bool,
}

/// Cuts the chunks of all files, in order, and plans groups and batches.
pub(super) struct Cutter<'a> {
    sources: &'a [Source],
    plan: &'a Plan,
    source: usize,
    file: Option<Windower>,
    /// Rows that no group has yet.
    rows: Vec<Row>,
    group: Vec<Row>,
    group_letters: usize,
    batch: u64,
    batch_groups: usize,
    ends: BatchEnds,
    summary: Summary,
}

impl<'a> Cutter<'a> {
    pub(super) fn new(sources: &'a [Source], plan: &'a Plan) -> Self {
        Self {
            sources,
            plan,
            source: 0,
            file: None,
            rows: Vec::new(),
            group: Vec::new(),
            group_letters: 0,
            batch: 0,
            batch_groups: 0,
            ends: BatchEnds::default(),
            summary: Summary::default(),
        }
    }

    /// Takes the next chunk of the file at hand.
    pub(super) fn push(&mut self, parsed: Parsed, planned: &mut Vec<Planned>) -> Result<()> {
        let file = self.file.get_or_insert_with(|| {
            let source = &self.sources[self.source];
            Windower::new(self.plan.cutting, self.source as u32, source.path.clone())
                .after(source.before())
        });
        file.push(parsed, &mut self.rows)?;
        self.plan_rows(planned);
        Ok(())
    }

    /// Ends the file at hand, of which there may have been no chunk at all.
    pub(super) fn end_file(
        &mut self,
        warnings: Vec<String>,
        planned: &mut Vec<Planned>,
    ) -> Result<()> {
        self.summary.warnings.extend(warnings);
        if let Some(file) = self.file.take() {
            let (tally, warnings) = file.finish(&mut self.rows)?;
            self.summary.files.push(tally);
            self.summary.warnings.extend(warnings);
        } else {
            self.empty_file()?;
        }
        self.source += 1;
        self.plan_rows(planned);
        Ok(())
    }

    /// Passes over a file that is left out.
    pub(super) fn skip_file(&mut self) {
        self.summary.files.push(crate::windows::Tally::default());
        self.source += 1;
    }

    /// Ends the run.
    pub(super) fn finish(&mut self, planned: &mut Vec<Planned>) -> Summary {
        if !self.group.is_empty() {
            self.close_group(true, planned);
        }
        std::mem::take(&mut self.summary)
    }

    fn empty_file(&mut self) -> Result<()> {
        let source = &self.sources[self.source];
        if source.range.is_some() {
            // Others have the records of this file.
            self.summary.files.push(crate::windows::Tally::default());
            return Ok(());
        }
        if !source.found {
            let message = "the file is empty: it holds no sequence";
            return Err(Error::input(&source.path, message));
        }
        let warning = format!("{}: the file is empty", printable(&source.path));
        self.summary.warnings.push(warning);
        self.summary.files.push(crate::windows::Tally::default());
        Ok(())
    }

    fn plan_rows(&mut self, planned: &mut Vec<Planned>) {
        for row in std::mem::take(&mut self.rows) {
            let (letters, id) = (row.letters().len(), row.id.len());
            self.group_letters += letters + id;
            self.group.push(row);
            let ends_batch = self.ends.add(letters, id);
            let is_full = self.group.len() == GROUP_ROWS || self.group_letters >= GROUP_LETTERS;
            if ends_batch || is_full {
                self.close_group(ends_batch, planned);
            }
        }
    }

    fn close_group(&mut self, ends_batch: bool, planned: &mut Vec<Planned>) {
        planned.push(Planned {
            batch: self.batch,
            position: self.batch_groups,
            rows: std::mem::take(&mut self.group),
            ends_batch,
        });
        self.group_letters = 0;
        self.batch_groups += 1;
        if ends_batch {
            self.batch += 1;
            self.batch_groups = 0;
        }
    }
}
