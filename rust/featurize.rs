//! Sequence files to a feature file.

use std::num::NonZeroUsize;
use std::path::Path;

use crate::arrow::{FeatureWriter, Settings};
use crate::error::{Error, Result};
use crate::input::discover::{Input, Source, discover_among, list_named};
use crate::input::share::{Shard, share};
use crate::layout::Layout;
use crate::pipeline::{
    self, BATCH_ROWS, Content, Flush, Group, Plan, Progress, Sink, Store, Summary,
};
use crate::simd::Backend;
use crate::windows::Cutting;

/// What to keep of every row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Log-space features.
    Log,
    /// Counts.
    Counts,
    /// Only the sequence.
    Packed,
}

/// How to featurize.
#[derive(Clone, Debug)]
pub struct Options {
    /// The k-mers of a row.
    pub layout: Layout,
    /// Letters in a window; 0 makes every record one row.
    pub window: usize,
    /// Shorter records are left out.
    pub min_length: u64,
    /// What to keep of every row.
    pub kept: Kept,
    /// Keep the sequence too.
    pub sequence: bool,
    /// Leave files with mistakes out.
    pub skip_bad: bool,
    /// What is wrong with each of the files to read, where that is known already.
    pub bad: Option<Vec<Option<String>>>,
    /// The share of the inputs to featurize, if not all.
    pub shard: Option<Shard>,
    /// Number of threads.
    pub threads: NonZeroUsize,
}

impl Options {
    fn store(&self) -> Store {
        match self.kept {
            Kept::Log => Store::Log,
            Kept::Packed => Store::Packed,
            Kept::Counts => Store::counts(self.window),
        }
    }
}

impl Sink for FeatureWriter {
    fn write(&mut self, batch: &[Group]) -> Result<Vec<Flush>> {
        self.write_batch(batch)
    }
}

/// Writes the rows of all sequence files in `inputs` to a new file at `out`,
/// which will be moved to `target` if all goes well.
///
/// `watch` is called several times a second with the progress and the bytes
/// of all inputs, where they are known.
///
/// # Errors
/// If an input is missing, damaged or no sequence file, no row is left,
/// `target` is one of the inputs, or `out` cannot be written.
pub fn featurize(
    inputs: &[Input],
    out: &Path,
    target: &Path,
    options: &Options,
    watch: &mut dyn FnMut(Progress, Option<u64>) -> Result<()>,
) -> Result<Summary> {
    if options.kept == Kept::Packed && !options.sequence {
        let message = "a packed store is nothing but the sequences: it cannot leave them out";
        return Err(Error::Argument(message.into()));
    }
    let mut warnings = Vec::new();
    let sources = discover_among(inputs, &mut |warning| warnings.push(warning))?;
    refuse_target(inputs, &sources, target)?;
    let sources = share_of(sources, options)?;
    let plan = plan(options, &sources)?;
    let settings =
        Settings { window: options.window, min_length: options.min_length, batch_rows: BATCH_ROWS };
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    let mut writer = FeatureWriter::create(out, target, plan.content.clone(), &settings, &names)?;
    let bytes: Option<u64> = sources.iter().map(Source::bytes).sum();
    let mut watch = |progress| watch(progress, bytes);
    let mut summary = pipeline::run(&sources, &plan, &mut writer, &mut watch)?;
    writer.finish()?;
    warnings.append(&mut summary.warnings);
    summary.warnings = warnings;
    Ok(summary)
}

/// What is wrong with each of the files that [`featurize`] would read.
///
/// # Errors
/// If an input is missing, and what `watch` returns.
pub fn find_bad(
    inputs: &[Input],
    options: &Options,
    watch: &mut dyn FnMut(Progress, Option<u64>) -> Result<()>,
) -> Result<Vec<Option<String>>> {
    let sources = share_of(discover_among(inputs, &mut |_| ())?, options)?;
    let plan = plan(options, &sources)?;
    pipeline::find_bad(&sources, &plan, &mut |progress| watch(progress, None))
}

fn share_of(sources: Vec<Source>, options: &Options) -> Result<Vec<Source>> {
    match options.shard {
        Some(shard) => Ok(share(sources, shard, options.skip_bad)?.sources),
        None => Ok(sources),
    }
}

fn plan(options: &Options, sources: &[Source]) -> Result<Plan> {
    if options.bad.as_ref().is_some_and(|bad| bad.len() != sources.len()) {
        return Err(Error::Argument("the inputs have changed while they were read".into()));
    }
    Ok(Plan {
        cutting: Cutting { window: options.window, min_length: options.min_length },
        content: Content {
            layout: options.layout.clone(),
            store: options.store(),
            sequence: options.sequence,
        },
        threads: options.threads,
        backend: Backend::active()?,
        skip_bad: options.skip_bad,
        bad: options.bad.clone(),
        may_be_empty: options.shard.is_some(),
    })
}

/// Refuses to replace what is being read, lists of files included.
fn refuse_target(inputs: &[Input], sources: &[Source], target: &Path) -> Result<()> {
    let Ok(target_file) = target.canonicalize() else {
        return Ok(());
    };
    let lists = inputs.iter().filter_map(|input| match input {
        Input::Path(path) => list_named(path),
        Input::Found(_) => None,
    });
    let mut read = lists.chain(sources.iter().map(|source| source.path.as_path()));
    match read.find(|path| path.canonicalize().is_ok_and(|file| file == target_file)) {
        Some(_) => Err(Error::input(target, "the output is one of the inputs: choose another -o")),
        None => Ok(()),
    }
}
