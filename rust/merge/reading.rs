//! Record batches of feature files, read ahead by several threads.

mod messages;

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use arrow_array::RecordBatch;
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::Block;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_schema::{ArrowError, SchemaRef};

use crate::allocation::zeros;
use crate::checksums::Checksums;
use crate::error::{Error, Result};
use crate::platform::read_exact_at;
use messages::check_message;

/// Bytes of batches that are read at a time, unless one is larger.
const RUN: u64 = 1 << 24;

/// The end of an Arrow file: the footer's length and Arrow's own magic.
const END: u64 = 10;

/// Some batches behind each other, and which of the files they are from.
pub(super) type Run = (usize, Vec<RecordBatch>);

/// Reads each `of`-th run of batches of all `parts`, from the `share`-th on, and
/// sends them as long as someone takes them.
pub(super) fn read_share(
    parts: &[(PathBuf, i32)],
    share: usize,
    of: usize,
    send: &SyncSender<Result<Run>>,
) {
    let mut memory = Memory::default();
    let mut run = 0;
    for (part, (path, _)) in parts.iter().enumerate() {
        let input = match Input::open(path) {
            Ok(input) => input,
            // Whoever sees that tells: it may be the only one.
            Err(error) => {
                let _ = send.send(Err(error));
                return;
            }
        };
        for batches in input.runs() {
            if run % of == share {
                let read = input.read(batches, &mut memory).map(|batches| (part, batches));
                let failed = read.is_err();
                if send.send(read).is_err() || failed {
                    return;
                }
            }
            run += 1;
        }
    }
}

/// Memory that batches were read into, to be used again once they are gone.
#[derive(Default)]
struct Memory(VecDeque<Buffer>);

impl Memory {
    /// Memory of at least so many bytes.
    ///
    /// # Errors
    /// If there is no more.
    fn take(&mut self, length: usize) -> Result<MutableBuffer> {
        if let Some(buffer) = self.0.pop_front() {
            match buffer.into_mutable() {
                Ok(free) if free.len() >= length => return Ok(free),
                Ok(_) => {}
                Err(in_use) => self.0.push_front(in_use),
            }
        }
        // In words of eight bytes, on which Arrow's columns start.
        let words = length.div_ceil(size_of::<u64>());
        Ok(MutableBuffer::from(zeros::<u64>(words)?))
    }
}

/// A feature file that is read from its beginning to its end.
pub(super) struct Input {
    path: PathBuf,
    file: File,
    checksums: Checksums,
    schema: SchemaRef,
    decoder: FileDecoder,
    blocks: Vec<Block>,
}

impl Input {
    /// Opens a file, and reads all but its batches.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or has no checksums.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let io = |error| Error::io(path, error);
        let file = File::open(path).map_err(io)?;
        let message = "has no checksums: only files of kvae featurize --shard can be merged";
        let checksums = Checksums::open(&file, path)?.ok_or_else(|| Error::input(path, message))?;
        let size = file.metadata().map_err(io)?.len();
        let mut end = [0; END as usize];
        read_exact_at(&file, &mut end, size.saturating_sub(END)).map_err(io)?;
        let length = read_footer_length(end).map_err(|error| read_error(path, error))?;
        let mut footer = vec![0; length];
        read_exact_at(&file, &mut footer, size.saturating_sub(END + length as u64)).map_err(io)?;
        let not_whole = |error: ArrowError| read_error(path, error);
        let footer = arrow_ipc::root_as_footer(&footer)
            .map_err(|error| not_whole(ArrowError::ParseError(error.to_string())))?;
        let missing = || not_whole(ArrowError::ParseError("no schema in the footer".into()));
        let schema = footer.schema().ok_or_else(missing)?;
        let schema: SchemaRef = Arc::new(try_fb_to_schema(schema).map_err(not_whole)?);
        let mut input = Self {
            path: path.to_path_buf(),
            decoder: FileDecoder::new(schema.clone(), footer.version()),
            blocks: footer.recordBatches().iter().flatten().copied().collect(),
            file,
            checksums,
            schema,
        };
        for block in footer.dictionaries().iter().flatten() {
            let mut memory = Memory::default();
            let (bytes, _) = input.read_bytes(bytes_of(block), &mut memory)?;
            check_message(&input.schema, block, &bytes).map_err(not_whole)?;
            input.decoder.read_dictionary(block, &bytes).map_err(not_whole)?;
        }
        Ok(input)
    }

    /// The columns of the file.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Which batches to read at a time.
    fn runs(&self) -> impl Iterator<Item = Range<usize>> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let start = next;
            let first = bytes_of(self.blocks.get(start)?).start;
            next += 1;
            while self.blocks.get(next).is_some_and(|block| bytes_of(block).end - first <= RUN) {
                next += 1;
            }
            Some(start..next)
        })
    }

    fn read(&self, run: Range<usize>, memory: &mut Memory) -> Result<Vec<RecordBatch>> {
        let blocks = &self.blocks[run];
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
            return Ok(Vec::new());
        };
        let start = bytes_of(first).start;
        let (bytes, whole) = self.read_bytes(start..bytes_of(last).end, memory)?;
        let batches = blocks.iter().map(|block| {
            let wrong = |error| read_error(&self.path, error);
            let at = bytes_of(block);
            if at.start < start || at.end - start > bytes.len() as u64 {
                return Err(wrong(ArrowError::ParseError("batches in another order".into())));
            }
            let length = (at.end - at.start) as usize;
            let bytes = bytes.slice_with_length((at.start - start) as usize, length);
            check_message(&self.schema, block, &bytes).map_err(wrong)?;
            let batch = self.decoder.read_record_batch(block, &bytes).map_err(wrong)?;
            batch.ok_or_else(|| wrong(ArrowError::ParseError("an empty message".into())))
        });
        let batches = batches.collect();
        memory.0.push_back(whole);
        batches
    }

    /// Bytes of the file that were found to be whole, and all the memory that
    /// they are in.
    fn read_bytes(&self, bytes: Range<u64>, memory: &mut Memory) -> Result<(Buffer, Buffer)> {
        let chunks = self.checksums.chunks_of(bytes.clone());
        if bytes.start >= bytes.end || bytes.end > chunks.end {
            let error = ArrowError::ParseError("a batch beyond the end".into());
            return Err(read_error(&self.path, error));
        }
        let length = (chunks.end - chunks.start) as usize;
        let mut buffer = memory.take(length)?;
        let into = &mut buffer.as_slice_mut()[..length];
        self.checksums.read(&self.file, &self.path, chunks.start, into)?;
        let whole = Buffer::from(buffer);
        let start = (bytes.start - chunks.start) as usize;
        Ok((whole.slice_with_length(start, (bytes.end - bytes.start) as usize), whole))
    }
}

/// Where the message of a batch and its body are.
fn bytes_of(block: &Block) -> Range<u64> {
    let start = block.offset() as u64;
    let length = (block.metaDataLength() as u64).saturating_add(block.bodyLength() as u64);
    start..start.saturating_add(length)
}

fn read_error(path: &Path, error: ArrowError) -> Error {
    let text = match error {
        ArrowError::IoError(_, error) => return Error::io(path, error),
        other => other.to_string(),
    };
    let line = text.lines().next().unwrap_or_default();
    Error::input(path, format!("is not a whole Arrow file ({line}): featurize again"))
}
