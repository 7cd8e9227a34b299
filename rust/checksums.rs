//! Checksums of a feature file, and what is read of it held against them.
//!
//! They stand between the end of the record batches and Arrow's footer, where
//! no Arrow reader looks:
//!
//! ```text
//! batches … | KVAESUMS | one sum per chunk | sum of the footer | end | KVAESUMS | footer
//! ```
//!
//! A chunk is 128 KiB of the file, whatever lies in it, so that a row costs the
//! reading of a chunk or two and not that of its batch. `end` is where the
//! chunks end and the first `KVAESUMS` begins; it stands there twice, so that a
//! file whose checksums were damaged is told from one that never had any. All
//! numbers are 64 bits wide, little-endian; sums are XXH3.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use twox_hash::XxHash3_64;

use crate::error::{Error, Result};
use crate::platform::read_exact_at;

/// Bytes of the file that have a sum of their own.
pub(crate) const CHUNK: usize = 1 << 17;

const MAGIC: &[u8; 8] = b"KVAESUMS";

/// Sum of the footer, end of the chunks, magic.
const CLOSING: u64 = 24;

/// The end of an Arrow file: the footer's length and Arrow's own magic.
const ARROW_END: u64 = 10;
const ARROW_MAGIC: &[u8; 6] = b"ARROW1";

/// The sum of some bytes.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// The sum of a whole file, which is read piece by piece.
///
/// # Errors
/// If it cannot be read.
#[cfg(feature = "python")]
pub(crate) fn sum_of_file(path: &Path) -> io::Result<u64> {
    use std::hash::Hasher;
    use std::io::Read;

    let mut file = File::open(path)?;
    let mut state = XxHash3_64::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(state.finish()),
            count => state.write(&piece[..count]),
        }
    }
}

/// What stands between the record batches and a footer; `end` is where it begins.
pub(crate) fn table(sums: &[u64], end: u64, footer: &[u8]) -> Vec<u8> {
    let mut table = MAGIC.to_vec();
    for number in sums.iter().copied().chain([sum(footer), end]) {
        table.extend_from_slice(&number.to_le_bytes());
    }
    table.extend_from_slice(MAGIC);
    table
}

/// The checksums of an open file, and which chunks were found to be whole.
#[derive(Debug)]
pub(crate) struct Checksums {
    /// Where the chunks end.
    end: u64,
    /// A bit per chunk.
    checked: Vec<AtomicU64>,
    /// Where the message of each record batch begins, and its body.
    batches: Vec<(u64, u64)>,
    /// Sum of all that follows the chunks, which is one of the whole file.
    digest: u64,
}

impl Checksums {
    /// Reads the checksums of a file; nothing where it has none, or is no Arrow
    /// file at all. What precedes the first record batch is checked.
    ///
    /// # Errors
    /// If the file cannot be read, or its checksums or footer are damaged.
    pub(crate) fn open(file: &File, path: &Path) -> Result<Option<Self>> {
        let Some(place) = find(file).map_err(|error| Error::io(path, error))? else {
            return Ok(None);
        };
        let Place::Whole { end, footer } = place else {
            return Err(damaged(path, "the table of its checksums"));
        };
        let io = |error| Error::io(path, error);
        let size = file.metadata().map_err(io)?.len();
        let mut tail = vec![0; (size - end) as usize];
        read_exact_at(file, &mut tail, end).map_err(io)?;
        let footer = &tail[(footer - end) as usize..];
        let stated = number(&tail[tail.len() - footer.len() - CLOSING as usize..]);
        if sum(footer) != stated {
            return Err(damaged(path, "its footer"));
        }
        let flat = &footer[..footer.len() - ARROW_END as usize];
        let parsed = arrow_ipc::root_as_footer(flat).map_err(|_| damaged(path, "its footer"))?;
        let batches: Vec<(u64, u64)> = parsed
            .recordBatches()
            .iter()
            .flatten()
            .map(|block| {
                let start = block.offset() as u64;
                (start, start.saturating_add(block.metaDataLength() as u64))
            })
            .collect();
        let words = end.div_ceil(CHUNK as u64).div_ceil(64) as usize;
        let checked = (0..words).map(|_| AtomicU64::new(0)).collect();
        let found = Self { end, checked, batches, digest: sum(&tail) };
        let first = found.batches.first().map_or(end, |(start, _)| *start);
        found.check(file, path, 0..first)?;
        found.check(file, path, end - 1..end)?;
        Ok(Some(found))
    }

    /// A sum of the whole file.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// Makes sure, once, that some bytes of the file are those that were written.
    ///
    /// # Errors
    /// If they are not, or cannot be read.
    pub(crate) fn check(&self, file: &File, path: &Path, bytes: Range<u64>) -> Result<()> {
        let bytes = bytes.start..bytes.end.min(self.end);
        if bytes.is_empty() {
            return Ok(());
        }
        let mut chunk = Vec::new();
        for i in bytes.start / CHUNK as u64..bytes.end.div_ceil(CHUNK as u64) {
            let (word, bit) = (&self.checked[(i / 64) as usize], 1 << (i % 64));
            if word.load(Ordering::Relaxed) & bit != 0 {
                continue;
            }
            let start = i * CHUNK as u64;
            chunk.resize((self.end - start).min(CHUNK as u64) as usize, 0);
            let mut stated = [0; 8];
            read_exact_at(file, &mut chunk, start)
                .and_then(|()| read_exact_at(file, &mut stated, self.end + 8 + 8 * i))
                .map_err(|error| Error::io(path, error))?;
            if sum(&chunk) != u64::from_le_bytes(stated) {
                return Err(damaged(path, &self.name(start..start + chunk.len() as u64)));
            }
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The whole chunks that some bytes lie in.
    pub(crate) fn chunks_of(&self, bytes: Range<u64>) -> Range<u64> {
        let chunk = CHUNK as u64;
        bytes.start / chunk * chunk..bytes.end.next_multiple_of(chunk).min(self.end)
    }

    /// Reads whole chunks of the file, and makes sure that they are those that
    /// were written.
    ///
    /// # Errors
    /// If they are not, or cannot be read.
    pub(crate) fn read(
        &self,
        file: &File,
        path: &Path,
        start: u64,
        chunks: &mut [u8],
    ) -> Result<()> {
        let mut stated = vec![0; 8 * chunks.len().div_ceil(CHUNK)];
        let sums = self.end + 8 + 8 * (start / CHUNK as u64);
        read_exact_at(file, chunks, start)
            .and_then(|()| read_exact_at(file, &mut stated, sums))
            .map_err(|error| Error::io(path, error))?;
        let starts = (start..).step_by(CHUNK);
        for ((chunk, stated), start) in chunks.chunks(CHUNK).zip(stated.chunks(8)).zip(starts) {
            if sum(chunk) != number(stated) {
                return Err(damaged(path, &self.name(start..start + chunk.len() as u64)));
            }
        }
        Ok(())
    }

    /// [`Checksums::check`] for what describes a record batch.
    pub(crate) fn check_message(&self, file: &File, path: &Path, batch: usize) -> Result<()> {
        match self.batches.get(batch) {
            Some(&(start, body)) => self.check(file, path, start..body),
            None => Ok(()),
        }
    }

    /// What lies in a part of the file.
    fn name(&self, bytes: Range<u64>) -> String {
        // The batch that the part begins in, and that which its last byte is in.
        let batch = |at| self.batches.partition_point(|(start, _)| *start <= at);
        match (batch(bytes.start), batch(bytes.end - 1)) {
            (0, 0) => "what precedes its first record batch".into(),
            (first, last) if first == last => format!("record batch {}", first - 1),
            (0, 1) => "record batch 0".into(),
            (first, last) => format!("one of record batches {} to {}", first.max(1) - 1, last - 1),
        }
    }
}

/// Where the checksums of a file are.
enum Place {
    Whole { end: u64, footer: u64 },
    Damaged,
}

fn find(file: &File) -> io::Result<Option<Place>> {
    let size = file.metadata()?.len();
    let Some(length_at) = size.checked_sub(ARROW_END) else {
        return Ok(None);
    };
    let mut last = [0; ARROW_END as usize];
    read_exact_at(file, &mut last, length_at)?;
    let (length, magic) = last.split_at(4);
    let length = u64::from(u32::from_le_bytes([length[0], length[1], length[2], length[3]]));
    let Some(footer) = length_at.checked_sub(length) else {
        return Ok(None);
    };
    let Some(closing_at) = footer.checked_sub(CLOSING) else {
        return Ok(None);
    };
    if magic != ARROW_MAGIC {
        return Ok(None);
    }
    let mut closing = [0; CLOSING as usize];
    read_exact_at(file, &mut closing, closing_at)?;
    let end = number(&closing[8..]);
    let is_closed = &closing[16..] == MAGIC;
    // No chunk is empty: a file has a head.
    let fits = end > 0
        && end < closing_at
        && end.div_ceil(CHUNK as u64) * 8 + end + MAGIC.len() as u64 == closing_at;
    let mut opening = [0; 8];
    if fits {
        read_exact_at(file, &mut opening, end)?;
    }
    Ok(match (is_closed, &opening == MAGIC) {
        (true, true) => Some(Place::Whole { end, footer }),
        (false, false) => None,
        _ => Some(Place::Damaged),
    })
}

fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn damaged(path: &Path, what: &str) -> Error {
    let message = format!(
        "{what} is damaged (checksums differ): featurize again, or give --no-verify \
         (verify=False) to read it as it is"
    );
    Error::input(path, message)
}
