//! What there is to do, and which of it may be done now.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::cut::{Cutter, Planned};
use super::group::Group;
use super::open_file::{FileStep, OpenFile};
use super::{Flush, Progress, Sink, Summary};
use crate::error::{Error, Result};
use crate::input::compression::Blocks;
use crate::input::records::Parsed;
use crate::input::text::{Chunk, Piece, TextReader};
use crate::input::text_buffer::TextBuffer;

/// Batches that are being filled or wait to be written.
const BATCHES_AHEAD: u64 = 3;

/// Flushes at a time: one less would leave the device idle in between.
const FLUSHES: usize = 2;

/// Chunks, or runs of blocks, of a file that wait while an earlier file is
/// being cut.
const CHUNKS_AHEAD: usize = 2;

/// A piece of work, with all it needs.
// Few exist at a time, so their size matters less than one more box.
#[allow(clippy::large_enum_variant)]
pub(super) enum Job<'a> {
    /// The next piece of a file; the reader is missing where the file is not
    /// open yet.
    Read {
        source: usize,
        reader: Option<Box<TextReader>>,
    },
    /// Text of blocks that goes back to the reader they came from.
    Join {
        source: usize,
        reader: Box<TextReader>,
        text: Result<TextBuffer>,
    },
    Inflate {
        source: usize,
        run: usize,
        blocks: Blocks,
    },
    Parse {
        source: usize,
        chunk: usize,
        text: Chunk,
    },
    Cut {
        cutter: Box<Cutter<'a>>,
        step: Step,
    },
    Fill {
        planned: Planned,
        group: Option<Group>,
    },
    Write {
        sink: &'a mut dyn Sink,
        batch: Vec<Group>,
    },
    Flush(Flush),
}

/// What the cutter is to take next.
pub(super) enum Step {
    OfFile(FileStep),
    Finish,
}

/// A piece of work that was done.
pub(super) enum Done<'a> {
    Read {
        source: usize,
        reader: Box<TextReader>,
        piece: Piece,
        bytes: u64,
    },
    Inflated {
        source: usize,
        run: usize,
        text: Result<TextBuffer>,
    },
    /// A file that could not be opened or read.
    ReadFailed {
        source: usize,
        error: Error,
    },
    Parsed {
        source: usize,
        chunk: usize,
        parsed: Parsed,
    },
    Cut {
        cutter: Box<Cutter<'a>>,
        planned: Vec<Planned>,
    },
    Finished {
        planned: Vec<Planned>,
        summary: Summary,
    },
    Filled {
        batch: u64,
        position: usize,
        group: Group,
    },
    Written {
        sink: &'a mut dyn Sink,
        batch: Vec<Group>,
        flushes: Vec<Flush>,
    },
    Flushed,
    /// Anything that must stop the run.
    Failed(Error),
}

/// A batch that is being filled.
struct Batch {
    groups: Vec<Option<Group>>,
    /// All of its groups are known.
    is_closed: bool,
}

impl Batch {
    fn is_complete(&self) -> bool {
        self.is_closed && self.groups.iter().all(Option::is_some)
    }
}

struct State<'a> {
    /// Files that are being read, in order, the first being cut.
    files: VecDeque<OpenFile>,
    first_file: usize,
    /// Missing while a worker has it, and once it has finished.
    cutter: Option<Box<Cutter<'a>>>,
    to_fill: VecDeque<Planned>,
    /// The batches that are not written yet, in order.
    batches: VecDeque<Batch>,
    first_batch: u64,
    /// Missing while a worker has it.
    sink: Option<&'a mut dyn Sink>,
    to_flush: VecDeque<Flush>,
    /// Flushes that workers have.
    flushing: usize,
    /// Groups whose memory can be used again.
    spare: Vec<Group>,
    summary: Option<Summary>,
    failure: Option<Error>,
    is_stopped: bool,
    progress: Progress,
}

/// The state of a run, shared by its workers.
pub(super) struct Board<'a> {
    /// Whether each source is left out.
    skipped: Vec<bool>,
    threads: usize,
    state: Mutex<State<'a>>,
    changed: Condvar,
}

impl<'a> Board<'a> {
    pub(super) fn new(
        skipped: Vec<bool>,
        threads: usize,
        cutter: Cutter<'a>,
        sink: &'a mut dyn Sink,
    ) -> Self {
        let state = State {
            files: VecDeque::new(),
            first_file: 0,
            cutter: Some(Box::new(cutter)),
            to_fill: VecDeque::new(),
            batches: VecDeque::new(),
            first_batch: 0,
            sink: Some(sink),
            to_flush: VecDeque::new(),
            flushing: 0,
            spare: Vec::new(),
            summary: None,
            failure: None,
            is_stopped: false,
            progress: Progress::default(),
        };
        Self { skipped, threads, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The next job; nothing when there will be none any more.
    pub(super) fn take(&self) -> Option<Job<'a>> {
        let mut state = self.lock();
        loop {
            if state.is_stopped {
                return None;
            }
            if let Some(job) = self.choose(&mut state) {
                return Some(job);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes note of what was done.
    pub(super) fn put(&self, done: Done<'a>) {
        self.lock().note(done);
        self.changed.notify_all();
    }

    /// Stops the run; the first reason given is the one that counts.
    pub(super) fn stop(&self, reason: Option<Error>) {
        self.lock().stop(reason);
        self.changed.notify_all();
    }

    /// Waits a little, or until the run has stopped, which it tells.
    pub(super) fn wait(&self, time: Duration) -> (bool, Progress) {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, time, |state| !state.is_stopped);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (state.is_stopped, state.progress)
    }

    /// The result of a run that has stopped.
    pub(super) fn into_result(self) -> Result<Summary> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (state.failure, state.summary) {
            (None, Some(summary)) => Ok(summary),
            (failure, _) => Err(failure.unwrap_or(Error::Interrupted)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        // A worker that panicked has stopped the run: see `work::Worker`.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job nearest to the sink that may be done now.
    fn choose(&self, state: &mut State<'a>) -> Option<Job<'a>> {
        state
            .flush()
            .or_else(|| state.write())
            .or_else(|| state.fill())
            .or_else(|| self.cut(state))
            .or_else(|| state.parse())
            .or_else(|| state.join())
            .or_else(|| state.inflate())
            .or_else(|| self.read(state))
            // Files that are left out are opened without a job, and may be all that was left.
            .or_else(|| self.cut(state))
    }

    fn cut(&self, state: &mut State<'a>) -> Option<Job<'a>> {
        if state.cutter.is_none() || state.to_fill.len() >= self.threads.saturating_mul(4) {
            return None;
        }
        let step = if let Some(file) = state.files.front_mut() {
            let step = file.next_step()?;
            if !matches!(step, FileStep::Chunk(_)) {
                state.files.pop_front();
                state.first_file += 1;
            }
            Step::OfFile(step)
        } else if state.first_file == self.skipped.len() {
            Step::Finish
        } else {
            return None;
        };
        state.cutter.take().map(|cutter| Job::Cut { cutter, step })
    }

    fn read(&self, state: &mut State<'a>) -> Option<Job<'a>> {
        for (i, file) in state.files.iter_mut().enumerate() {
            let room = if i == 0 { CHUNKS_AHEAD + self.threads } else { CHUNKS_AHEAD };
            if file.pending() < room
                && let Some(reader) = file.take_reader()
            {
                return Some(Job::Read { source: state.first_file + i, reader: Some(reader) });
            }
        }
        while state.files.len() <= self.threads {
            let source = state.first_file + state.files.len();
            let is_skipped = *self.skipped.get(source)?;
            state.files.push_back(OpenFile::new(is_skipped));
            if !is_skipped {
                return Some(Job::Read { source, reader: None });
            }
        }
        None
    }
}

impl<'a> State<'a> {
    fn flush(&mut self) -> Option<Job<'a>> {
        if self.flushing == FLUSHES {
            return None;
        }
        let flush = self.to_flush.pop_front()?;
        self.flushing += 1;
        Some(Job::Flush(flush))
    }

    fn write(&mut self) -> Option<Job<'a>> {
        if !self.to_flush.is_empty() {
            return None;
        }
        if self.sink.is_none() || !self.batches.front()?.is_complete() {
            return None;
        }
        let batch = self.batches.pop_front()?.groups.into_iter().flatten().collect();
        self.first_batch += 1;
        self.sink.take().map(|sink| Job::Write { sink, batch })
    }

    fn fill(&mut self) -> Option<Job<'a>> {
        let next = self.to_fill.front()?;
        // The batch that is being written counts too.
        if next.batch + 1 >= self.first_batch + BATCHES_AHEAD {
            return None;
        }
        let planned = self.to_fill.pop_front()?;
        Some(Job::Fill { planned, group: self.spare.pop() })
    }

    fn parse(&mut self) -> Option<Job<'a>> {
        self.of_files(|file, source| {
            let (chunk, text) = file.take_chunk()?;
            Some(Job::Parse { source, chunk, text })
        })
    }

    fn join(&mut self) -> Option<Job<'a>> {
        self.of_files(|file, source| {
            let (reader, text) = file.take_text()?;
            Some(Job::Join { source, reader, text })
        })
    }

    fn inflate(&mut self) -> Option<Job<'a>> {
        self.of_files(|file, source| {
            let (run, blocks) = file.take_blocks()?;
            Some(Job::Inflate { source, run, blocks })
        })
    }

    /// The first job that any file has, in their order.
    fn of_files(
        &mut self,
        job: impl Fn(&mut OpenFile, usize) -> Option<Job<'a>>,
    ) -> Option<Job<'a>> {
        let first = self.first_file;
        self.files.iter_mut().enumerate().find_map(|(i, file)| job(file, first + i))
    }

    /// A file whose job was done; it is gone if an earlier mistake ended it.
    fn file(&mut self, source: usize) -> Option<&mut OpenFile> {
        let i = source.checked_sub(self.first_file)?;
        self.files.get_mut(i)
    }

    fn note(&mut self, done: Done<'a>) {
        match done {
            Done::Read { source, reader, piece, bytes } => {
                self.progress.bytes_read += bytes;
                if let Some(file) = self.file(source) {
                    file.put_piece(reader, piece);
                }
            }
            Done::Inflated { source, run, text } => {
                if let Some(file) = self.file(source) {
                    file.put_text(run, text);
                }
            }
            Done::ReadFailed { source, error } => {
                if let Some(file) = self.file(source) {
                    file.fail(error);
                }
            }
            Done::Parsed { source, chunk, parsed } => {
                if let Some(file) = self.file(source) {
                    file.put_parsed(chunk, parsed);
                }
            }
            Done::Cut { cutter, planned } => {
                self.cutter = Some(cutter);
                self.plan(planned);
            }
            Done::Finished { planned, summary } => {
                self.plan(planned);
                if let Some(last) = self.batches.back_mut() {
                    last.is_closed = true;
                }
                self.summary = Some(summary);
                self.stop_if_finished();
            }
            Done::Filled { batch, position, group } => {
                let batch = &mut self.batches[(batch - self.first_batch) as usize];
                batch.groups[position] = Some(group);
            }
            Done::Flushed => {
                self.flushing -= 1;
                self.stop_if_finished();
            }
            Done::Written { sink, batch, flushes } => {
                self.to_flush.extend(flushes);
                for group in batch {
                    self.progress.rows += group.len() as u64;
                    self.progress.letters += group.lengths.iter().sum::<u64>();
                    self.keep(group);
                }
                self.sink = Some(sink);
                self.stop_if_finished();
            }
            Done::Failed(error) => self.stop(Some(error)),
        }
    }

    fn plan(&mut self, planned: Vec<Planned>) {
        for group in planned {
            let index = (group.batch - self.first_batch) as usize;
            if index == self.batches.len() {
                self.batches.push_back(Batch { groups: Vec::new(), is_closed: false });
            }
            let batch = &mut self.batches[index];
            debug_assert_eq!(batch.groups.len(), group.position);
            batch.groups.push(None);
            batch.is_closed = group.ends_batch;
            self.to_fill.push_back(group);
        }
    }

    fn keep(&mut self, mut group: Group) {
        // What a giant row needed is given back.
        const LARGEST: usize = 1 << 23;
        if group.packed.capacity() <= LARGEST {
            group.clear();
            self.spare.push(group);
        }
    }

    fn stop_if_finished(&mut self) {
        let is_flushed = self.to_flush.is_empty() && self.flushing == 0;
        if self.summary.is_some() && self.batches.is_empty() && self.sink.is_some() && is_flushed {
            self.stop(None);
        }
    }

    fn stop(&mut self, reason: Option<Error>) {
        if !self.is_stopped {
            self.is_stopped = true;
            self.failure = reason;
        }
    }
}
