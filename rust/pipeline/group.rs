//! Some consecutive rows, column by column.

use std::sync::Arc;

use crate::allocation::resize;
use crate::canonical::columns;
use crate::count::{CountWriter, Counter};
use crate::error::Result;
use crate::features::RowBuilder;
use crate::layout::Layout;
use crate::packed::{self, Gap};
use crate::simd::Backend;
use crate::windows::Row;

/// What a file keeps of every row besides its composition and sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Log-space features.
    Log,
    /// Counts of every k, in 16 bits each.
    Counts16,
    /// Counts of every k, in 32 bits each.
    Counts32,
    /// Nothing: all of it follows from the sequence.
    Packed,
}

impl Store {
    /// Counts of windows of so many letters, or of whole records.
    pub fn counts(window: usize) -> Self {
        // The last window holds less than two.
        let is_short = window > 0 && u16::try_from(2 * window).is_ok();
        if is_short { Self::Counts16 } else { Self::Counts32 }
    }

    /// The store that a file's metadata names.
    pub fn named(name: &str, window: usize) -> Option<Self> {
        match name {
            "log" => Some(Self::Log),
            "counts" => Some(Self::counts(window)),
            "packed" => Some(Self::Packed),
            _ => None,
        }
    }
}

/// The fields of a column of fixed-size lists, row after row.
#[derive(Clone, Debug)]
pub enum Values {
    /// Features.
    F32(Vec<f32>),
    /// Counts of rows of at most 65,535 letters.
    U16(Vec<u16>),
    /// Counts.
    U32(Vec<u32>),
}

impl Values {
    fn clear(&mut self) {
        match self {
            Self::F32(values) => values.clear(),
            Self::U16(values) => values.clear(),
            Self::U32(values) => values.clear(),
        }
    }
}

/// Some consecutive rows, column by column.
#[derive(Clone, Debug)]
pub struct Group {
    /// Record names.
    pub ids: Vec<Arc<str>>,
    /// Positions of the files among the inputs.
    pub sources: Vec<i32>,
    /// First letters on the records.
    pub starts: Vec<u64>,
    /// Numbers of letters.
    pub lengths: Vec<u64>,
    /// GC fractions.
    pub gc: Vec<f32>,
    /// Valid windows, one column per k in the order of the layout.
    pub windows: Vec<Vec<u64>>,
    /// Features, or counts in one column per k in the order of the layout.
    pub values: Vec<Values>,
    /// Sequences at two bits a base, one after the other.
    pub packed: Vec<u8>,
    /// Bytes of each in `packed`.
    pub packed_lengths: Vec<usize>,
    /// Letters of all rows that are not bases.
    pub gaps: Vec<Gap>,
    /// Entries of each row in `gaps`.
    pub gap_counts: Vec<usize>,
}

impl Group {
    fn new(n_blocks: usize, store: Store) -> Self {
        Self {
            ids: Vec::new(),
            sources: Vec::new(),
            starts: Vec::new(),
            lengths: Vec::new(),
            gc: Vec::new(),
            windows: vec![Vec::new(); n_blocks],
            values: match store {
                Store::Log => vec![Values::F32(Vec::new())],
                Store::Counts16 => vec![Values::U16(Vec::new()); n_blocks],
                Store::Counts32 => vec![Values::U32(Vec::new()); n_blocks],
                Store::Packed => Vec::new(),
            },
            packed: Vec::new(),
            packed_lengths: Vec::new(),
            gaps: Vec::new(),
            gap_counts: Vec::new(),
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Forgets the rows and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.ids.clear();
        self.sources.clear();
        self.starts.clear();
        self.lengths.clear();
        self.gc.clear();
        self.windows.iter_mut().for_each(Vec::clear);
        self.values.iter_mut().for_each(Values::clear);
        self.packed.clear();
        self.packed_lengths.clear();
        self.gaps.clear();
        self.gap_counts.clear();
    }
}

/// What is kept of each row.
#[derive(Clone, Debug)]
pub struct Content {
    /// The fields of a row.
    pub layout: Layout,
    /// Features, counts or neither.
    pub store: Store,
    /// Whether the sequence is kept.
    pub sequence: bool,
}

/// Fills groups, one after another, with tables of its own.
pub struct GroupBuilder {
    content: Content,
    backend: Backend,
    counter: Counter,
    rows: RowBuilder,
    counts: CountWriter,
}

impl GroupBuilder {
    /// A builder of groups of such rows.
    pub fn new(content: Content, backend: Backend) -> Self {
        let ks = content.layout.ks();
        Self {
            counter: Counter::new(ks, backend),
            rows: RowBuilder::new(content.layout.clone(), backend),
            counts: CountWriter::new(backend),
            content,
            backend,
        }
    }

    /// An empty group.
    pub fn group(&self) -> Group {
        Group::new(self.content.layout.ks().count(), self.content.store)
    }

    /// Appends rows to a group.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn fill(&mut self, rows: &[Row], group: &mut Group) -> Result<()> {
        rows.iter().try_for_each(|row| self.append(row, group))
    }

    fn append(&mut self, row: &Row, group: &mut Group) -> Result<()> {
        let letters = row.letters();
        self.counter.count(letters);
        let composition = self.counter.composition();
        group.ids.push(Arc::clone(&row.id));
        group.sources.push(row.source as i32);
        group.starts.push(row.start);
        group.lengths.push(composition.length);
        group.gc.push(composition.gc_fraction() as f32);
        for (k, windows) in self.content.layout.ks().zip(&mut group.windows) {
            windows.push(self.counter.windows(k));
        }
        self.append_values(group)?;
        if self.content.sequence {
            let before = (group.packed.len(), group.gaps.len());
            let runs = self.counter.runs();
            packed::pack(letters, runs, self.backend, &mut group.packed, &mut group.gaps)?;
            group.packed_lengths.push(group.packed.len() - before.0);
            group.gap_counts.push(group.gaps.len() - before.1);
        }
        Ok(())
    }

    fn append_values(&mut self, group: &mut Group) -> Result<()> {
        for (k, values) in self.content.layout.ks().zip(&mut group.values) {
            match values {
                Values::F32(fields) => {
                    let start = fields.len();
                    resize(fields, start + self.content.layout.n_fields())?;
                    self.rows.write(&self.counter, &mut fields[start..]);
                }
                Values::U16(fields) => {
                    let start = fields.len();
                    resize(fields, start + columns(k).len())?;
                    let counts = self.counter.counts(k);
                    self.counts.write(counts, k, &mut fields[start..], |count| count as u16);
                }
                Values::U32(fields) => {
                    let start = fields.len();
                    resize(fields, start + columns(k).len())?;
                    let counts = self.counter.counts(k);
                    self.counts.write(counts, k, &mut fields[start..], |count| count as u32);
                }
            }
        }
        Ok(())
    }
}
