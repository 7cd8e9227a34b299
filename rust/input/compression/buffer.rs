//! The bytes of a file as they are on disk.

use std::io::{self, ErrorKind, Read};

/// Bytes asked of the file at a time: large enough to make the calls cheap,
/// small enough to stay in the second-level cache.
///
/// A block of BGZF has room in it.
const BUFFER_LEN: usize = if cfg!(fuzzing) { 1 << 16 } else { 256 * 1024 };

/// A reader with a buffer that is filled on request and can be bypassed.
pub(super) struct InputBuffer {
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// `buffer[start..end]` was read and not consumed.
    start: usize,
    end: usize,
    /// A terminal goes on after its end of file: it is asked only once.
    at_end: bool,
    consumed: u64,
}

impl InputBuffer {
    pub(super) fn new(reader: Box<dyn Read + Send>) -> Self {
        Self { reader, buffer: vec![0; BUFFER_LEN], start: 0, end: 0, at_end: false, consumed: 0 }
    }

    /// The bytes that are at hand.
    pub(super) fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Marks the first `count` buffered bytes as used.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        self.consumed += count as u64;
        debug_assert!(self.start <= self.end);
    }

    /// Bytes used since the start of the file.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Reads more bytes behind the buffered ones and returns how many; 0 is
    /// the end of the file, or a buffer with no room left.
    pub(super) fn fill(&mut self) -> io::Result<usize> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let room = &mut self.buffer[self.end..];
        if self.at_end || room.is_empty() {
            return Ok(0);
        }
        let count = read_some(&mut *self.reader, room)?;
        self.at_end = count == 0;
        self.end += count;
        Ok(count)
    }

    /// The next `count` bytes without using them; fewer at the end of the file.
    pub(super) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.buffered().len() < count {
            if self.fill()? == 0 {
                break;
            }
        }
        let buffered = self.buffered();
        Ok(&buffered[..count.min(buffered.len())])
    }

    /// Reads into `output`: what is buffered first, then straight from the
    /// file.
    pub(super) fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        let buffered = self.buffered();
        if !buffered.is_empty() {
            let count = buffered.len().min(output.len());
            output[..count].copy_from_slice(&buffered[..count]);
            self.consume(count);
            return Ok(count);
        }
        if self.at_end || output.is_empty() {
            return Ok(0);
        }
        let count = read_some(&mut *self.reader, output)?;
        self.at_end = count == 0;
        self.consumed += count as u64;
        Ok(count)
    }
}

/// One read that a signal does not disturb.
fn read_some(reader: &mut dyn Read, output: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(output) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
