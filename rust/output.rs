//! Large files that are written once, from their start to their end.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::allocation::zeros;
use crate::checksums::{CHUNK, sum};
use crate::error::{Error, Result};
use crate::platform::{is_direct, reserve, set_direct, write_all_at, write_at};

/// Bytes in a piece: whole chunks, each of which has a checksum.
const PIECE: usize = 1 << 24;

/// What the address and the size of a direct write are multiples of. Disks
/// want 512 or 4096; for more, [`Piece::write`] falls back to ordinary writes.
const ALIGNMENT: usize = 1 << 12;

/// Space that is asked for ahead, so that a large file lies in few places.
const RESERVED_AHEAD: u64 = 1 << 28;

/// A file that is put together here and written in large pieces, by anyone and
/// in any order.
///
/// What is longer than one piece goes past the page cache where the file system
/// can do that: a file larger than the memory gains nothing from the cache, and
/// clearing and filling its pages takes longer than computing what is in them.
pub(crate) struct OutputFile {
    file: Arc<File>,
    buffer: Buffer,
    /// Bytes in `buffer`, which begins at `written` in the file.
    filled: usize,
    written: u64,
    reserved: u64,
    /// Checksums of the full chunks.
    sums: Vec<u64>,
    /// Full pieces that no one has taken yet.
    pieces: Vec<Piece>,
    /// Buffers of pieces that were written.
    spare: Arc<Mutex<Vec<Buffer>>>,
}

impl OutputFile {
    /// Begins a file, replacing what is there; errors speak of `target`.
    ///
    /// # Errors
    /// If it cannot be created, or there is no memory.
    pub(crate) fn create(path: &Path, target: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|error| Error::io(target, error))?;
        Ok(Self {
            file: Arc::new(file),
            buffer: Buffer::new()?,
            filled: 0,
            written: 0,
            reserved: 0,
            sums: Vec::new(),
            pieces: Vec::new(),
            spare: Arc::default(),
        })
    }

    /// Bytes so far.
    pub(crate) fn position(&self) -> u64 {
        self.written + self.filled as u64
    }

    /// Appends all parts.
    ///
    /// # Errors
    /// If there is no memory: the file is lost then.
    pub(crate) fn put(&mut self, parts: &[IoSlice]) -> Result<()> {
        for part in parts {
            let mut rest = &part[..];
            while !rest.is_empty() {
                let room = CHUNK - self.filled % CHUNK;
                let (now, later) = rest.split_at(rest.len().min(room));
                self.buffer.bytes()[self.filled..][..now.len()].copy_from_slice(now);
                self.filled += now.len();
                rest = later;
                if now.len() == room {
                    // While the copy is in the nearest caches.
                    let start = self.filled - CHUNK;
                    self.sums.push(sum(&self.buffer.bytes()[start..][..CHUNK]));
                }
                if self.filled == PIECE {
                    self.close_piece()?;
                }
            }
        }
        Ok(())
    }

    /// Checksums of all that was put so far, one per chunk.
    pub(crate) fn sums(&mut self) -> Vec<u64> {
        let mut sums = self.sums.clone();
        let begun = self.filled % CHUNK;
        if begun > 0 {
            let start = self.filled - begun;
            sums.push(sum(&self.buffer.bytes()[start..][..begun]));
        }
        sums
    }

    /// The pieces that have become full; each is to be written before the file
    /// is finished.
    pub(crate) fn take_pieces(&mut self) -> Vec<Piece> {
        std::mem::take(&mut self.pieces)
    }

    /// Ends the file and waits until the device has it.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        for piece in self.take_pieces() {
            piece.write()?;
        }
        // The rest is of any size.
        set_direct(&self.file, false);
        write_all_at(&self.file, &self.buffer.bytes()[..self.filled], self.written)?;
        if self.reserved > 0 {
            self.file.set_len(self.position())?;
        }
        self.file.sync_all()
    }

    fn close_piece(&mut self) -> Result<()> {
        if self.written == 0 {
            set_direct(&self.file, true);
        }
        if self.written + PIECE as u64 > self.reserved {
            reserve(&self.file, self.written, RESERVED_AHEAD);
            self.reserved = self.written + RESERVED_AHEAD;
        }
        let next = spare(&self.spare).pop().map_or_else(Buffer::new, Ok)?;
        self.pieces.push(Piece {
            file: self.file.clone(),
            offset: self.written,
            buffer: std::mem::replace(&mut self.buffer, next),
            spare: self.spare.clone(),
        });
        self.written += PIECE as u64;
        self.filled = 0;
        Ok(())
    }
}

/// A part of a file that is to be written.
pub(crate) struct Piece {
    file: Arc<File>,
    offset: u64,
    buffer: Buffer,
    spare: Arc<Mutex<Vec<Buffer>>>,
}

impl Piece {
    /// Writes it to its place.
    pub(crate) fn write(mut self) -> io::Result<()> {
        let mut offset = self.offset;
        let mut rest = &*self.buffer.bytes();
        while !rest.is_empty() {
            match write_at(&self.file, rest, offset) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    offset += count as u64;
                    rest = &rest[count..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The device wants larger multiples, or a write ended between
                // two: an ordinary one will do, or say what is wrong.
                Err(error) if error.kind() == ErrorKind::InvalidInput && is_direct(&self.file) => {
                    set_direct(&self.file, false);
                }
                Err(error) => return Err(error),
            }
        }
        spare(&self.spare).push(self.buffer);
        Ok(())
    }
}

fn spare(spare: &Mutex<Vec<Buffer>>) -> MutexGuard<'_, Vec<Buffer>> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory of a piece, aligned for direct writes.
struct Buffer {
    memory: Vec<u8>,
    start: usize,
}

impl Buffer {
    fn new() -> Result<Self> {
        let memory = zeros::<u8>(PIECE + ALIGNMENT)?;
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Ok(Self { memory, start })
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + PIECE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|i| ((i * i) >> 7) as u8).collect()
    }

    #[test]
    fn files_hold_what_was_put_into_them() {
        let folder = tempfile::tempdir().unwrap();
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 12_345] {
            for part in [1 << 20, 999_999, 5 * PIECE] {
                let path = folder.path().join("file");
                let expected = bytes(length);
                let mut file = OutputFile::create(&path, &path).unwrap();
                for part in expected.chunks(part) {
                    let (a, b) = part.split_at(part.len() / 3);
                    file.put(&[IoSlice::new(a), IoSlice::new(b)]).unwrap();
                }
                assert_eq!(file.position(), length as u64);
                for piece in file.take_pieces().into_iter().rev() {
                    piece.write().unwrap();
                }
                file.finish().unwrap();
                assert!(std::fs::read(&path).unwrap() == expected, "{length} {part}");
            }
        }
    }

    #[test]
    fn buffers_are_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = OutputFile::create(&path, &path).unwrap();
        let part = bytes(PIECE);
        for _ in 0..5 {
            file.put(&[IoSlice::new(&part)]).unwrap();
            for piece in file.take_pieces() {
                piece.write().unwrap();
            }
            assert_eq!(spare(&file.spare).len(), 1);
        }
    }

    #[cfg(unix)]
    #[test]
    fn space_that_was_not_needed_is_given_back() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = OutputFile::create(&path, &path).unwrap();
        file.put(&[IoSlice::new(&bytes(PIECE + 5))]).unwrap();
        file.finish().unwrap();
        let used = path.metadata().unwrap().blocks() * 512;
        assert!(used < 2 * PIECE as u64, "{used} bytes on disk");
    }
}
