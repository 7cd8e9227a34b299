//! Records to rows: windows, and what is left out.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::allocation;
use crate::error::{Error, Result};
use crate::input::discover::Source;
use crate::input::records::{Header, Parsed};
use crate::input::text::count;
use crate::input::text_buffer::TextBuffer;
use crate::layout::SHORTEST_RUN;

/// Record names of one file that are compared with one another; the memory
/// for more would grow without bound.
const NAMES_COMPARED: usize = 1 << 22;

/// How records become rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cutting {
    /// Letters in a window; the remainder of a record is joined to its last
    /// window. 0 makes every record one row.
    pub window: usize,
    /// Shorter records are left out.
    pub min_length: u64,
}

/// What will be a row of features.
#[derive(Clone, Debug)]
pub struct Row {
    /// Position of the file among the inputs.
    pub source: u32,
    /// Name of the record.
    pub id: Arc<str>,
    /// Where the row begins on the record.
    pub start: u64,
    text: Arc<TextBuffer>,
    range: Range<usize>,
}

impl Row {
    /// The row's letters.
    pub fn letters(&self) -> &[u8] {
        &self.text[self.range.clone()]
    }
}

/// What became of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records in the file.
    pub records: u64,
    /// Rows made of them.
    pub rows: u64,
    /// Letters in those rows.
    pub letters: u64,
    /// Records left out because they were too short.
    pub too_short: u64,
    /// Rows left out because they had no valid 7-mer.
    pub without_kmer: u64,
}

/// The record at hand.
struct Record {
    id: Arc<str>,
    /// Letters that are in rows already.
    cut: u64,
    /// Letters that wait for more.
    held: Vec<u8>,
}

/// Names of a file that are odd, for one warning each.
#[derive(Default)]
struct OddNames {
    missing: u64,
    replaced: u64,
    repeated: u64,
    first_repeated: Option<Arc<str>>,
}

/// Cuts the records of one file, chunk after chunk.
pub struct Windower {
    cutting: Cutting,
    path: PathBuf,
    source: u32,
    /// What others read of the file before.
    skipped: Option<Source>,
    /// Lines and records in that, once somebody asked.
    before: Option<(u64, u64)>,
    line: u64,
    record: Option<Record>,
    hasher: RandomState,
    names: HashSet<u64>,
    odd: OddNames,
    tally: Tally,
}

impl Windower {
    /// For the file at `path`, the `source`-th of the inputs.
    pub fn new(cutting: Cutting, source: u32, path: PathBuf) -> Self {
        Self {
            cutting,
            path,
            source,
            skipped: None,
            before: None,
            line: 1,
            record: None,
            hasher: RandomState::new(),
            names: HashSet::new(),
            odd: OddNames::default(),
            tally: Tally::default(),
        }
    }

    /// For a part of a file, behind another part, if there is one.
    #[must_use]
    pub fn after(mut self, skipped: Option<Source>) -> Self {
        self.skipped = skipped;
        self
    }

    /// Lines and records of the file before what is read of it. Few ask: it
    /// takes reading them.
    fn before(&mut self) -> (u64, u64) {
        let skipped = &self.skipped;
        // What cannot be read was just being read.
        *self.before.get_or_insert_with(|| {
            skipped.as_ref().and_then(|part| count(part).ok()).unwrap_or_default()
        })
    }

    /// Takes the file's next chunk and appends the rows that are certain.
    ///
    /// # Errors
    /// If the text has a mistake, or a row is too long for the file format.
    pub fn push(&mut self, parsed: Parsed, rows: &mut Vec<Row>) -> Result<()> {
        let text = Arc::new(parsed.letters);
        let mut pieces = parsed.pieces.into_iter().peekable();
        while let Some(piece) = pieces.next() {
            if let Some(header) = piece.header {
                self.end_record(rows)?;
                self.begin_record(header);
            }
            let whole = pieces.peek().is_some() && parsed.mistake.is_none();
            self.extend(&text, piece.letters, whole, rows)?;
        }
        if let Some(mistake) = parsed.mistake {
            let line = self.before().0 + self.line + mistake.line;
            return Err(Error::input_at(&self.path, line, mistake.message));
        }
        self.line += parsed.lines;
        Ok(())
    }

    /// Ends the file: appends its last rows and says what became of it, with
    /// warnings that name it.
    ///
    /// # Errors
    /// If a row is too long for the file format.
    pub fn finish(mut self, rows: &mut Vec<Row>) -> Result<(Tally, Vec<String>)> {
        self.end_record(rows)?;
        let warnings = self.odd.warnings(&crate::error::printable(&self.path));
        Ok((self.tally, warnings))
    }

    fn begin_record(&mut self, header: Header) {
        self.tally.records += 1;
        self.odd.replaced += u64::from(header.replaced);
        let id: Arc<str> = if header.id.is_empty() {
            self.odd.missing += 1;
            format!("record_{}", self.before().1 + self.tally.records).into()
        } else {
            header.id.into()
        };
        let is_new = self.names.len() >= NAMES_COMPARED
            || self.names.insert(self.hasher.hash_one(id.as_bytes()));
        if !is_new {
            self.odd.repeated += 1;
            self.odd.first_repeated.get_or_insert_with(|| Arc::clone(&id));
        }
        self.record = Some(Record { id, cut: 0, held: Vec::new() });
    }

    /// Adds letters to the record at hand; `whole` says that no more follow.
    fn extend(
        &mut self,
        text: &Arc<TextBuffer>,
        mut range: Range<usize>,
        whole: bool,
        rows: &mut Vec<Row>,
    ) -> Result<()> {
        let Some(mut record) = self.record.take() else {
            return Ok(());
        };
        if !record.held.is_empty() {
            range = self.complete_held(&mut record, text, range, rows)?;
        }
        let uncut = record.held.len() + range.len();
        if record.held.is_empty() && (whole || self.may_cut(record.cut, uncut)) {
            range.start = self.cut(&mut record, text, range.clone(), whole, rows)?;
        }
        allocation::append(&mut record.held, &text[range])?;
        self.record = Some(record);
        Ok(())
    }

    /// Whether windows can be cut although the record may go on.
    fn may_cut(&self, cut: u64, uncut: usize) -> bool {
        self.cutting.window > 0 && cut + uncut as u64 >= self.cutting.min_length
    }

    /// Cuts the windows that begin in the held letters and end in the new
    /// ones, if it is certain already where they end; returns what is left of
    /// the new ones.
    fn complete_held(
        &mut self,
        record: &mut Record,
        text: &Arc<TextBuffer>,
        range: Range<usize>,
        rows: &mut Vec<Row>,
    ) -> Result<Range<usize>> {
        let window = self.cutting.window;
        if !self.may_cut(record.cut, record.held.len() + range.len()) {
            return Ok(range);
        }
        let missing = record.held.len().next_multiple_of(window) - record.held.len();
        if range.len() < missing + window {
            return Ok(range);
        }
        let middle = range.start + missing;
        let mut held = std::mem::take(&mut record.held);
        allocation::append(&mut held, &text[range.start..middle])?;
        let held = Arc::new(TextBuffer::from(held));
        for start in (0..held.len()).step_by(window) {
            self.emit(record, &held, start..start + window, rows)?;
        }
        Ok(middle..range.end)
    }

    /// Cuts whole windows while as much again is left; all of it if the
    /// record ends here. Returns where the rest begins.
    fn cut(
        &mut self,
        record: &mut Record,
        text: &Arc<TextBuffer>,
        range: Range<usize>,
        whole: bool,
        rows: &mut Vec<Row>,
    ) -> Result<usize> {
        if whole && record.cut + (range.len() as u64) < self.cutting.min_length.max(1) {
            self.tally.too_short += 1;
            // Nothing is left for the record's end to count again.
            record.cut = u64::MAX;
            return Ok(range.end);
        }
        let window = self.cutting.window;
        let mut start = range.start;
        while window > 0 && range.end - start >= 2 * window {
            self.emit(record, text, start..start + window, rows)?;
            start += window;
        }
        if whole {
            self.emit(record, text, start..range.end, rows)?;
            start = range.end;
        }
        Ok(start)
    }

    fn end_record(&mut self, rows: &mut Vec<Row>) -> Result<()> {
        let Some(mut record) = self.record.take() else {
            return Ok(());
        };
        let held = std::mem::take(&mut record.held);
        if record.cut == 0 || !held.is_empty() {
            let end = held.len();
            self.cut(&mut record, &Arc::new(held.into()), 0..end, true, rows)?;
        }
        Ok(())
    }

    fn emit(
        &mut self,
        record: &mut Record,
        text: &Arc<TextBuffer>,
        range: Range<usize>,
        rows: &mut Vec<Row>,
    ) -> Result<()> {
        let row = Row {
            source: self.source,
            id: Arc::clone(&record.id),
            start: record.cut,
            text: Arc::clone(text),
            range,
        };
        let length = row.letters().len();
        record.cut += length as u64;
        if u32::try_from(length).is_err() {
            let message = format!(
                "record '{}' is longer than 4,294,967,295 letters: use a --window",
                record.id
            );
            return Err(Error::input(&self.path, message));
        }
        if has_run(row.letters(), SHORTEST_RUN) {
            self.tally.rows += 1;
            self.tally.letters += length as u64;
            rows.push(row);
        } else {
            self.tally.without_kmer += 1;
        }
        Ok(())
    }
}

/// Whether there are `k` bases in a row anywhere: mostly at the very start.
fn has_run(letters: &[u8], k: usize) -> bool {
    let mut run = 0;
    letters.iter().any(|&letter| {
        run = if crate::dna::CODE[usize::from(letter)] < 4 { run + 1 } else { 0 };
        run >= k
    })
}

impl OddNames {
    fn warnings(self, path: &str) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.missing > 0 {
            warnings.push(format!(
                "{path}: {} records without a name are called record_N",
                self.missing
            ));
        }
        if self.replaced > 0 {
            warnings.push(format!(
                "{path}: {} record names are not UTF-8; the bytes concerned are replaced",
                self.replaced
            ));
        }
        if let Some(first) = self.first_repeated {
            warnings.push(format!(
                "{path}: {} records have the name of an earlier one, the first '{first}'",
                self.repeated
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests;
