//! Workers, and the thread that watches them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::board::{Board, Done, Job, Step};
use super::cut::Cutter;
use super::group::GroupBuilder;
use super::open_file::FileStep;
use super::{Plan, Progress, Sink, Summary};
use crate::allocation::{scope_of_threads, starting};
use crate::error::{Error, Result};
use crate::input::discover::Source;
use crate::input::stop::StopFlag;
use crate::input::text::{Piece, TextReader};
use crate::input::text_buffer::TextPool;
use crate::windows::Windower;

/// How often the caller hears of the progress.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Runs all jobs on the plan's threads; the calling one only watches.
pub(super) fn run(
    sources: &[Source],
    plan: &Plan,
    bad: &[Option<String>],
    sink: &mut dyn Sink,
    watch: &mut dyn FnMut(Progress) -> Result<()>,
) -> Result<Summary> {
    let skipped = bad.iter().map(Option::is_some).collect();
    let cutter = Cutter::new(sources, plan);
    let stop = StopFlag::default();
    let pool = TextPool::default();
    let board = Board::new(skipped, plan.threads.get(), cutter, sink);
    scope_of_threads(|scope| {
        let mut n_workers = 0;
        for _ in 0..plan.threads.get() {
            let builder = GroupBuilder::new(plan.content.clone(), plan.backend);
            let (stop, pool) = (stop.clone(), pool.clone());
            let worker = Worker { board: &board, sources, plan, builder, stop, pool };
            let started = starting(|| thread::Builder::new().spawn_scoped(scope, || worker.run()));
            let Err(error) = started else {
                n_workers += 1;
                continue;
            };
            // Those that run do all the work.
            if n_workers == 0 {
                board.stop(Some(Error::NoThread(error)));
            }
            break;
        }
        loop {
            let (is_stopped, progress) = board.wait(WATCH_INTERVAL);
            if let Err(error) = watch(progress) {
                board.stop(Some(error));
            }
            if is_stopped {
                stop.set();
                break;
            }
        }
    });
    board.into_result()
}

struct Worker<'b, 'a> {
    board: &'b Board<'a>,
    sources: &'a [Source],
    plan: &'a Plan,
    builder: GroupBuilder,
    /// Ends reads that wait.
    stop: StopFlag,
    pool: TextPool,
}

/// Stops the run if the worker that has it panics, so that no other one waits
/// for it for ever.
struct StopOnPanic<'b, 'a>(&'b Board<'a>);

impl Drop for StopOnPanic<'_, '_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop(None);
        }
    }
}

impl<'a> Worker<'_, 'a> {
    fn run(mut self) {
        let _guard = StopOnPanic(self.board);
        while let Some(job) = self.board.take() {
            let done = self.work(job);
            self.board.put(done);
        }
    }

    fn work(&mut self, job: Job<'a>) -> Done<'a> {
        match job {
            Job::Read { source, reader } => match self.read(source, reader) {
                Ok((reader, piece, bytes)) => Done::Read { source, reader, piece, bytes },
                Err(error) => Done::ReadFailed { source, error },
            },
            Job::Join { source, mut reader, text } => {
                match text.and_then(|text| reader.take_text(&text)) {
                    Ok(piece) => Done::Read { source, reader, piece, bytes: 0 },
                    Err(error) => Done::ReadFailed { source, error },
                }
            }
            Job::Inflate { source, run, blocks } => {
                Done::Inflated { source, run, text: blocks.inflate(self.pool.take()) }
            }
            Job::Parse { source, chunk, text } => {
                Done::Parsed { source, chunk, parsed: text.parse(self.plan.backend) }
            }
            Job::Cut { mut cutter, step } => {
                let mut planned = Vec::new();
                let result = match step {
                    Step::OfFile(FileStep::Chunk(parsed)) => cutter.push(parsed, &mut planned),
                    Step::OfFile(FileStep::End(result)) => {
                        result.and_then(|warnings| cutter.end_file(warnings, &mut planned))
                    }
                    Step::OfFile(FileStep::Skip) => {
                        cutter.skip_file();
                        Ok(())
                    }
                    Step::Finish => {
                        let summary = cutter.finish(&mut planned);
                        return Done::Finished { planned, summary };
                    }
                };
                match result {
                    Ok(()) => Done::Cut { cutter, planned },
                    Err(error) => Done::Failed(error),
                }
            }
            Job::Fill { planned, group } => {
                let mut group = group.unwrap_or_else(|| self.builder.group());
                match self.builder.fill(&planned.rows, &mut group) {
                    Ok(()) => {
                        Done::Filled { batch: planned.batch, position: planned.position, group }
                    }
                    Err(error) => Done::Failed(error),
                }
            }
            Job::Write { sink, batch } => match sink.write(&batch) {
                Ok(flushes) => Done::Written { sink, batch, flushes },
                Err(error) => Done::Failed(error),
            },
            Job::Flush(flush) => match flush() {
                Ok(()) => Done::Flushed,
                Err(error) => Done::Failed(error),
            },
        }
    }

    fn read(
        &self,
        source: usize,
        reader: Option<Box<TextReader>>,
    ) -> Result<(Box<TextReader>, Piece, u64)> {
        let before = reader.as_ref().map_or(0, |reader| reader.bytes_read());
        let mut reader = match reader {
            Some(reader) => reader,
            None => Box::new(TextReader::open(&self.sources[source], &self.stop, &self.pool)?),
        };
        let piece = reader.next_piece()?;
        let bytes = reader.bytes_read() - before;
        Ok((reader, piece, bytes))
    }
}

/// Reads all files that can be read twice to their end, and says what is wrong
/// with those that have a mistake.
///
/// # Errors
/// What `watch` returns, or if no thread can be started.
pub(super) fn find_bad(
    sources: &[Source],
    plan: &Plan,
    bad: &mut [Option<String>],
    watch: &mut dyn FnMut(Progress) -> Result<()>,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let stop = StopFlag::default();
    let found = Mutex::new(bad);
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(source) = sources.get(i) else {
                return;
            };
            // Only regular files have a size; a pipe is read once.
            if source.size.is_some()
                && let Err(error) = check(source, plan, &stop)
                && let Ok(mut found) = found.lock()
            {
                found[i] = Some(error.to_string());
            }
        }
    };
    scope_of_threads(|scope| {
        let n_threads = plan.threads.get().min(sources.len());
        let start = |_| starting(|| thread::Builder::new().spawn_scoped(scope, work));
        let mut threads = Vec::new();
        for started in (0..n_threads).map(start) {
            match started {
                Ok(thread) => threads.push(thread),
                Err(error) if threads.is_empty() => return Err(Error::NoThread(error)),
                Err(_) => break,
            }
        }
        while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(WATCH_INTERVAL / 10);
            if let Err(error) = watch(Progress::default()) {
                next.store(sources.len(), Ordering::Relaxed);
                stop.set();
                return Err(error);
            }
        }
        Ok(())
    })
}

/// Reads a file to its end and forgets what was in it.
fn check(source: &Source, plan: &Plan, stop: &StopFlag) -> Result<()> {
    let mut reader = TextReader::open(source, stop, &TextPool::default())?;
    let mut windower = Windower::new(plan.cutting, 0, source.path.clone());
    let mut rows = Vec::new();
    while let Some(chunk) = reader.next_chunk()? {
        windower.push(chunk.parse(plan.backend), &mut rows)?;
        rows.clear();
    }
    if reader.was_empty() && !source.found {
        return Err(Error::input(&source.path, "the file is empty: it holds no sequence"));
    }
    windower.finish(&mut rows).map(|_| ())
}
