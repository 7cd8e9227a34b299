//! A file on its way from the disk to the cutter.

use std::collections::VecDeque;

use crate::error::{Error, Result};
use crate::input::compression::Blocks;
use crate::input::records::Parsed;
use crate::input::text::{Chunk, Piece, TextReader};
use crate::input::text_buffer::TextBuffer;

/// A file that is being read: its reader, and what was read and is not cut yet.
///
/// Workers take what there is to do and put back what came of it; chunks and runs
/// of blocks are numbered within the file.
pub(super) struct OpenFile {
    reader: Reader,
    /// Runs of blocks, which become chunks.
    runs: VecDeque<Run>,
    first_run: usize,
    chunks: VecDeque<ChunkState>,
    first_chunk: usize,
}

enum Reader {
    Idle(Box<TextReader>),
    /// A worker has it, or opens the file.
    Busy,
    /// At the end, with what the reader said.
    Ended(Result<Vec<String>>),
    /// The file is left out.
    Skipped,
}

enum Run {
    Packed(Blocks),
    Inflating,
    Text(Result<TextBuffer>),
}

enum ChunkState {
    Text(Chunk),
    Parsing,
    Parsed(Parsed),
}

/// What the cutter can take of a file.
pub(super) enum FileStep {
    Chunk(Parsed),
    End(Result<Vec<String>>),
    Skip,
}

impl OpenFile {
    /// A file that a worker opens, or one that is left out.
    pub(super) fn new(is_skipped: bool) -> Self {
        Self {
            reader: if is_skipped { Reader::Skipped } else { Reader::Busy },
            runs: VecDeque::new(),
            first_run: 0,
            chunks: VecDeque::new(),
            first_chunk: 0,
        }
    }

    /// Chunks, and runs of blocks, that wait.
    pub(super) fn pending(&self) -> usize {
        self.runs.len() + self.chunks.len()
    }

    /// The reader, if it may read on: what follows the last blocks goes behind
    /// their text.
    pub(super) fn take_reader(&mut self) -> Option<Box<TextReader>> {
        let is_joined = self.runs.is_empty();
        self.take_reader_if(|reader| is_joined || reader.is_blocked())
    }

    /// The reader, if it is there and `wanted`.
    fn take_reader_if(&mut self, wanted: impl Fn(&TextReader) -> bool) -> Option<Box<TextReader>> {
        match std::mem::replace(&mut self.reader, Reader::Busy) {
            Reader::Idle(reader) if wanted(&reader) => Some(reader),
            other => {
                self.reader = other;
                None
            }
        }
    }

    /// Takes the reader back, with what it read.
    pub(super) fn put_piece(&mut self, mut reader: Box<TextReader>, piece: Piece) {
        match piece {
            Piece::Chunk(chunk) => self.chunks.push_back(ChunkState::Text(chunk)),
            Piece::Blocks(blocks) => self.runs.push_back(Run::Packed(blocks)),
            Piece::Nothing => {}
            Piece::End => {
                self.reader = Reader::Ended(Ok(reader.take_warnings()));
                return;
            }
        }
        self.reader = Reader::Idle(reader);
    }

    /// Ends the file with a mistake.
    pub(super) fn fail(&mut self, error: Error) {
        self.reader = Reader::Ended(Err(error));
    }

    /// Blocks to inflate.
    pub(super) fn take_blocks(&mut self) -> Option<(usize, Blocks)> {
        let i = self.runs.iter().position(|run| matches!(run, Run::Packed(_)))?;
        match std::mem::replace(&mut self.runs[i], Run::Inflating) {
            Run::Packed(blocks) => Some((self.first_run + i, blocks)),
            _ => None,
        }
    }

    /// The text of blocks.
    pub(super) fn put_text(&mut self, run: usize, text: Result<TextBuffer>) {
        self.runs[run - self.first_run] = Run::Text(text);
    }

    /// The reader and the text of the next blocks, if both are there.
    pub(super) fn take_text(&mut self) -> Option<(Box<TextReader>, Result<TextBuffer>)> {
        let Some(Run::Text(_)) = self.runs.front() else {
            return None;
        };
        let reader = self.take_reader_if(|_| true)?;
        self.first_run += 1;
        match self.runs.pop_front() {
            Some(Run::Text(text)) => Some((reader, text)),
            _ => None,
        }
    }

    /// Text to parse.
    pub(super) fn take_chunk(&mut self) -> Option<(usize, Chunk)> {
        let i = self.chunks.iter().position(|chunk| matches!(chunk, ChunkState::Text(_)))?;
        match std::mem::replace(&mut self.chunks[i], ChunkState::Parsing) {
            ChunkState::Text(text) => Some((self.first_chunk + i, text)),
            _ => None,
        }
    }

    /// The records of a chunk.
    pub(super) fn put_parsed(&mut self, chunk: usize, parsed: Parsed) {
        self.chunks[chunk - self.first_chunk] = ChunkState::Parsed(parsed);
    }

    /// What the cutter can take of this file, if it is the first.
    pub(super) fn next_step(&mut self) -> Option<FileStep> {
        if let Some(ChunkState::Parsed(parsed)) = self.chunks.front_mut() {
            let parsed = std::mem::take(parsed);
            self.chunks.pop_front();
            self.first_chunk += 1;
            return Some(FileStep::Chunk(parsed));
        }
        if !self.chunks.is_empty() {
            return None;
        }
        match std::mem::replace(&mut self.reader, Reader::Busy) {
            Reader::Ended(result) => Some(FileStep::End(result)),
            Reader::Skipped => Some(FileStep::Skip),
            other => {
                self.reader = other;
                None
            }
        }
    }
}
