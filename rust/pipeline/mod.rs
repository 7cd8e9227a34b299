//! From sequence files to groups of rows, on all threads at once.
//!
//! Five kinds of work, from the files to the sink:
//!
//! 1. *read*: the next chunk of text of a file, in order within the file; of a
//!    BGZF file, the next blocks, which are inflated in any order and joined
//!    to text in theirs;
//! 2. *parse*: a chunk into records, in any order;
//! 3. *cut*: records into windows, strictly in order;
//! 4. *fill*: windows into groups of rows, in any order;
//! 5. *write*: the groups of a batch, strictly in order, into pieces of the
//!    file, which are flushed in any order.
//!
//! Every worker takes the job nearest to the sink that is allowed, so results
//! leave before more is read, and memory is bounded by the number of threads
//! ([`board`] keeps the limits). What is written does not depend on which
//! worker did what, nor on their number.

mod board;
mod cut;
mod group;
mod open_file;
mod work;

use std::num::NonZeroUsize;

use crate::error::{Error, Result};
use crate::input::discover::Source;
use crate::layout::SHORTEST_RUN;
use crate::simd::Backend;
use crate::windows::{Cutting, Tally};

pub(crate) use cut::BatchEnds;
pub use group::{Content, Group, GroupBuilder, Store, Values};

/// Rows in every batch, except the last and those closed early because their
/// sequences are long.
pub const BATCH_ROWS: usize = 512;

/// Where finished batches go.
pub trait Sink: Send {
    /// Takes the next batch, and returns what is to be done to keep it, by any
    /// worker and in any order. Most of that is done when the next one comes.
    ///
    /// # Errors
    /// If it cannot be taken, which stops the run.
    fn write(&mut self, batch: &[Group]) -> Result<Vec<Flush>>;
}

/// Something that keeps what a [`Sink`] has taken; an error stops the run.
pub type Flush = Box<dyn FnOnce() -> Result<()> + Send>;

/// How a run is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How records become rows.
    pub cutting: Cutting,
    /// What is kept of a row.
    pub content: Content,
    /// Number of worker threads.
    pub threads: NonZeroUsize,
    /// Instructions of the kernels.
    pub backend: Backend,
    /// Leave files with mistakes out instead of stopping at the first.
    pub skip_bad: bool,
    /// What is wrong with each source, where that is known already.
    pub bad: Option<Vec<Option<String>>>,
    /// That no row is left is no mistake.
    pub may_be_empty: bool,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read from the files, before decompression.
    pub bytes_read: u64,
    /// Rows written.
    pub rows: u64,
    /// Letters in those rows.
    pub letters: u64,
}

/// What became of the inputs.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The files, in the order of the inputs.
    pub names: Vec<String>,
    /// What became of each.
    pub files: Vec<Tally>,
    /// Messages about what was odd but not wrong.
    pub warnings: Vec<String>,
    /// Why files were left out ([`Plan::skip_bad`]).
    pub bad: Vec<String>,
}

impl Summary {
    /// The sum over all files.
    pub fn total(&self) -> Tally {
        self.files.iter().fold(Tally::default(), |sum, file| Tally {
            records: sum.records + file.records,
            rows: sum.rows + file.rows,
            letters: sum.letters + file.letters,
            too_short: sum.too_short + file.too_short,
            without_kmer: sum.without_kmer + file.without_kmer,
        })
    }
}

/// Reads all sources and hands their rows to the sink, batch after batch.
///
/// `watch` is called several times a second with the progress; an error from
/// it stops the run.
///
/// # Errors
/// The first mistake in the order of the sources, an error of the sink or of
/// `watch`, or [`Error::Argument`] if no row is left.
pub fn run(
    sources: &[Source],
    plan: &Plan,
    sink: &mut dyn Sink,
    watch: &mut dyn FnMut(Progress) -> Result<()>,
) -> Result<Summary> {
    let bad = match &plan.bad {
        Some(bad) => bad.clone(),
        None if plan.skip_bad => find_bad(sources, plan, watch)?,
        None => vec![None; sources.len()],
    };
    let mut summary = work::run(sources, plan, &bad, sink, watch)?;
    summary.names = sources.iter().map(|source| source.name.clone()).collect();
    summary.bad = bad.into_iter().flatten().collect();
    if summary.total().rows == 0 && !plan.may_be_empty {
        return Err(Error::Argument(nothing_left(&summary, plan.cutting)));
    }
    Ok(summary)
}

/// Reads all sources that can be read twice, and says what is wrong with each.
///
/// # Errors
/// Only what `watch` returns.
pub fn find_bad(
    sources: &[Source],
    plan: &Plan,
    watch: &mut dyn FnMut(Progress) -> Result<()>,
) -> Result<Vec<Option<String>>> {
    let mut bad = vec![None; sources.len()];
    work::find_bad(sources, plan, &mut bad, watch)?;
    Ok(bad)
}

fn nothing_left(summary: &Summary, cutting: Cutting) -> String {
    let total = summary.total();
    let mut reasons = Vec::new();
    if total.too_short > 0 {
        reasons.push(format!(
            "{} records are shorter than {} letters (see --min-length)",
            total.too_short,
            cutting.min_length.max(1)
        ));
    }
    if total.without_kmer > 0 {
        reasons.push(format!("{} windows have no run of {SHORTEST_RUN} bases", total.without_kmer));
    }
    reasons.extend(summary.bad.first().cloned());
    if reasons.is_empty() {
        reasons.push("the files hold no records".into());
    }
    format!("no row is left: {}", reasons.join("; "))
}
