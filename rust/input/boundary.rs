//! Where records begin, found from anywhere in a file.
//!
//! Whoever looks from the same byte finds the same place, so that parts of a
//! file fit together although no one has seen all of it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use memchr::memchr_iter;

use super::compression::{Block, Decoder, Format};
use super::discover::Source;
use super::fastq;
use super::stop::StopFlag;
use crate::error::{Error, Result};

/// Text that is read before looking at it.
const STEP: usize = 1 << 16;

/// The longest FASTQ record that is believed to be one.
const LONGEST: usize = 1 << 30;

/// A place between two bytes of text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Where the byte after it is in the file; in a BGZF file, where the block
    /// with that byte begins.
    pub byte: u64,
    /// In a BGZF file, bytes of the block's text before it.
    pub within: usize,
}

impl Place {
    /// In a file that is not compressed.
    pub(super) fn plain(byte: u64) -> Self {
        Self { byte, within: 0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Fasta,
    Fastq,
}

/// How a file is divided between records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Divisible {
    kind: Kind,
    is_blocked: bool,
}

impl Divisible {
    /// FASTA, or FASTQ of four lines a record, without compression or as BGZF;
    /// nothing for any other file, and one that cannot be read.
    pub(super) fn of(source: &Source) -> Option<Self> {
        let mut decoder = Decoder::open(source, &StopFlag::default()).ok()?;
        let is_blocked = match decoder.format() {
            Format::Plain => false,
            Format::Bgzf => true,
            _ => return None,
        };
        let mut head = vec![b'\n'; STEP];
        let mut length = 1;
        while length < head.len() {
            match decoder.read(&mut head[length..]).ok()? {
                0 => break,
                count => length += count,
            }
        }
        let is_whole = length < head.len();
        head.truncate(length);
        if head[1..].starts_with(b"\xef\xbb\xbf") {
            head.drain(1..4);
        }
        let first = head.iter().position(|byte| !b" \t\r\n".contains(byte))?;
        let kind = match head[first] {
            b'>' => Kind::Fasta,
            // A record that goes on and on may be one.
            b'@' => match fastq::find_record(&head, is_whole) {
                Some(at) if at == first => Kind::Fastq,
                None if !is_whole && fastq::may_begin_record(&head[first..]) => Kind::Fastq,
                _ => return None,
            },
            _ => return None,
        };
        Some(Self { kind, is_blocked })
    }

    /// The first record that begins at `from` or later; in a BGZF file, the
    /// first one after a line that ends in a block that begins there or later.
    ///
    /// # Errors
    /// If the file cannot be read, or seems to be one endless record.
    pub(super) fn next_record(self, path: &Path, from: u64) -> Result<Option<Place>> {
        let found =
            if self.is_blocked { self.in_blocks(path, from) } else { self.plain(path, from) };
        found.map_err(|error| Error::io(path, error))
    }

    fn plain(self, path: &Path, from: u64) -> io::Result<Option<Place>> {
        let Some(before) = from.checked_sub(1) else {
            return Ok(Some(Place::default()));
        };
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(before))?;
        let mut search = Search::new(self.kind);
        let mut count = 1;
        while count > 0 {
            count = (&mut file).take(STEP as u64).read_to_end(&mut search.text)?;
            if let Some(at) = search.find(count == 0)? {
                return Ok(Some(Place::plain(before + at)));
            }
        }
        Ok(None)
    }

    fn in_blocks(self, path: &Path, from: u64) -> io::Result<Option<Place>> {
        let mut file = File::open(path)?;
        let mut next = Block::find(&mut file, from)?;
        while let Some(first) = next {
            let mut search = Search::new(self.kind);
            // Where the text of each block begins that may hold the record.
            let mut starts = Vec::new();
            let mut block = Some(first);
            let mut end = from;
            loop {
                let is_last = block.is_none();
                if let Some(block) = block {
                    starts.push((search.length(), block.start));
                    search.text.extend_from_slice(&block.text);
                    end = block.end;
                }
                if let Some(at) = search.find(is_last)? {
                    let i = starts.partition_point(|(start, _)| *start <= at) - 1;
                    let (start, byte) = starts[i];
                    return Ok(Some(Place { byte, within: (at - start) as usize }));
                }
                if is_last {
                    break;
                }
                let keep = starts.partition_point(|(start, _)| *start < search.passed);
                starts.drain(..keep.saturating_sub(1));
                block = Block::read(&mut file, end)?;
            }
            // Something else than blocks: there may be more behind it.
            next = Block::find(&mut file, end)?;
        }
        Ok(None)
    }
}

/// Where the first record begins that a part of a file from `from` on has; `None` for a
/// file that is not divided, and within it for one without such a record.
///
/// # Errors
/// If the file cannot be read.
pub fn next_record(source: &Source, from: u64) -> Result<Option<Option<Place>>> {
    Divisible::of(source).map(|file| file.next_record(&source.path, from)).transpose()
}

/// A search for the first record in text that begins anywhere and comes bit by
/// bit.
struct Search {
    kind: Kind,
    text: Vec<u8>,
    /// Bytes before `text` that hold no record.
    passed: u64,
    /// Text that is too short to look at it once more.
    looked_at: usize,
}

impl Search {
    fn new(kind: Kind) -> Self {
        Self { kind, text: Vec::new(), passed: 0, looked_at: 0 }
    }

    /// Bytes seen so far.
    fn length(&self) -> u64 {
        self.passed + self.text.len() as u64
    }

    /// Where the record begins, if that is certain; `is_all` says that no more
    /// text comes.
    fn find(&mut self, is_all: bool) -> io::Result<Option<u64>> {
        if self.text.len() < self.looked_at && !is_all {
            return Ok(None);
        }
        let found = match self.kind {
            Kind::Fasta => find_header(&self.text),
            Kind::Fastq => fastq::find_record(&self.text, is_all),
        };
        if let Some(at) = found {
            return Ok(Some(self.passed + at as u64));
        }
        match self.kind {
            Kind::Fasta => {
                let passed = self.text.len().saturating_sub(1);
                self.text.drain(..passed);
                self.passed += passed as u64;
            }
            Kind::Fastq if self.text.len() > LONGEST => {
                let message = "no FASTQ record begins in 1 GiB of text";
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            Kind::Fastq => self.looked_at = 2 * self.text.len(),
        }
        Ok(None)
    }
}

/// The first `>` after a line end.
fn find_header(text: &[u8]) -> Option<usize> {
    let is_header = |&at: &usize| at > 0 && matches!(text[at - 1], b'\n' | b'\r');
    memchr_iter(b'>', text).find(is_header)
}
