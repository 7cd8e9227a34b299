//! One of several shares of the inputs, by their bytes.
//!
//! The inputs behind each other are a row of bytes, cut into equal parts. A file
//! belongs to the part that it lies in. One that lies in several is divided
//! between records where it is plain FASTA: a record belongs to the part that
//! its `>` lies in. Any other belongs to the part that its middle lies in.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use memchr::memchr_iter;

use super::compression::is_plain;
use super::discover::Source;
use crate::checksums::sum;
use crate::error::{Error, Result};

/// Bytes read at a time.
const BLOCK: usize = 1 << 20;

/// Which share of how many; counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Number of the share.
    pub index: u64,
    /// Number of shares.
    pub count: u64,
}

/// A share of the inputs.
#[derive(Clone, Debug)]
pub struct Share {
    /// Its files, or parts of them.
    pub sources: Vec<Source>,
    /// Position of the first of them among all inputs.
    pub first: usize,
    /// Number of all inputs, and their bytes.
    pub inputs: usize,
    /// Bytes of all inputs.
    pub bytes: u64,
    /// A sum of the names and sizes of all inputs.
    pub digest: u64,
}

/// The share of `sources` that a shard has; with `whole`, no file is divided.
///
/// # Errors
/// If an input has no size, or cannot be read.
pub fn share(sources: Vec<Source>, shard: Shard, whole: bool) -> Result<Share> {
    let inputs = sources.len();
    let mut described = Vec::new();
    let mut bytes = 0;
    for source in &sources {
        let size = source.size.ok_or_else(|| {
            Error::input(&source.path, "is not a file: only files can be divided into shards")
        })?;
        described.extend_from_slice(source.name.as_bytes());
        described.push(0);
        described.extend_from_slice(&size.to_le_bytes());
        bytes += size;
    }
    let cut = |i: u64| (u128::from(bytes) * u128::from(i) / u128::from(shard.count)) as u64;
    let ours = cut(shard.index)..cut(shard.index + 1);
    let is_last = shard.index + 1 == shard.count;
    let mut first = 0;
    let mut chosen = Vec::new();
    let mut start = 0;
    for (position, mut source) in sources.into_iter().enumerate() {
        let size = source.size.unwrap_or_default();
        let end = start + size;
        let belongs = if size == 0 {
            ours.contains(&start) || (is_last && start == bytes)
        } else if ours.start <= start && end <= ours.end {
            true
        } else if ours.start.max(start) < ours.end.min(end) {
            if !whole && is_plain_fasta(&source.path)? {
                let within = ours.start.max(start) - start..ours.end.min(end) - start;
                source.range = records(&source.path, within, size)?;
                source.range.is_some()
            } else {
                ours.contains(&(start + size / 2))
            }
        } else {
            false
        };
        if belongs {
            if chosen.is_empty() {
                first = position;
            }
            chosen.push(source);
        }
        start = end;
    }
    Ok(Share { sources: chosen, first, inputs, bytes, digest: sum(&described) })
}

/// Lines and records of a file before a byte of it, which begins a line.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn count_before(path: &Path, end: u64) -> io::Result<(u64, u64)> {
    let mut file = File::open(path)?.take(end);
    let (mut lines, mut records) = (0, 0);
    let mut block = vec![0; BLOCK];
    let mut last = b'\n';
    loop {
        let count = file.read(&mut block)?;
        if count == 0 {
            return Ok((lines, records));
        }
        for &byte in &block[..count] {
            lines += u64::from(byte == b'\r' || (byte == b'\n' && last != b'\r'));
            records += u64::from(byte == b'>' && ends_line(last));
            last = byte;
        }
    }
}

/// The records that begin within some bytes of a file; nothing if none does.
fn records(path: &Path, within: Range<u64>, size: u64) -> Result<Option<Range<u64>>> {
    let io = |error| Error::io(path, error);
    let mut file = File::open(path).map_err(io)?;
    // What precedes the first record belongs to it.
    let start = match within.start {
        0 => Some(0),
        from => next_header(&mut file, from, within.end).map_err(io)?,
    };
    let Some(start) = start else {
        return Ok(None);
    };
    let end = next_header(&mut file, within.end, size).map_err(io)?;
    Ok(Some(start..end.unwrap_or(size)))
}

/// The first header that begins from `from` on and before `to`.
fn next_header(file: &mut File, from: u64, to: u64) -> io::Result<Option<u64>> {
    let Some(before) = from.checked_sub(1) else {
        return Ok(Some(0));
    };
    file.seek(SeekFrom::Start(before))?;
    let mut block = vec![0; BLOCK];
    let mut at = before;
    let mut last = None;
    while at < to {
        let room = (to - at).min(BLOCK as u64) as usize;
        let count = file.read(&mut block[..room])?;
        if count == 0 {
            break;
        }
        for i in memchr_iter(b'>', &block[..count]) {
            let previous = if i > 0 { Some(block[i - 1]) } else { last };
            if previous.is_some_and(ends_line) {
                return Ok(Some(at + i as u64));
            }
        }
        last = Some(block[count - 1]);
        at += count as u64;
    }
    Ok(None)
}

fn ends_line(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}

/// Whether a file is FASTA without compression, by its beginning.
fn is_plain_fasta(path: &Path) -> Result<bool> {
    let io = |error| Error::io(path, error);
    let mut head = Vec::new();
    File::open(path).map_err(io)?.take(1 << 16).read_to_end(&mut head).map_err(io)?;
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head);
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    Ok(is_plain(&head) && first == Some(&b'>'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn source(folder: &Path, name: &str, content: &[u8]) -> Source {
        let path = folder.join(name);
        File::create(&path).unwrap().write_all(content).unwrap();
        let size = Some(content.len() as u64);
        Source { path, name: name.into(), found: false, size, range: None }
    }

    /// The text of all shares, and of which input it is.
    fn texts(sources: &[Source], count: u64, whole: bool) -> Vec<(usize, Vec<u8>)> {
        let mut texts: Vec<(usize, Vec<u8>)> = Vec::new();
        for index in 0..count {
            let share = share(sources.to_vec(), Shard { index, count }, whole).unwrap();
            for (i, source) in share.sources.iter().enumerate() {
                let content = std::fs::read(&source.path).unwrap();
                let range = source.range.clone().unwrap_or(0..content.len() as u64);
                let text = &content[range.start as usize..range.end as usize];
                texts.push((share.first + i, text.to_vec()));
            }
        }
        texts
    }

    #[test]
    fn all_shares_together_are_the_inputs() {
        let folder = tempfile::tempdir().unwrap();
        let mut plain = Vec::new();
        for i in 0..40 {
            plain.extend(format!(">r{i} a>b\n").into_bytes());
            plain.extend(b"ACGT".repeat(i * i % 37));
            plain.extend([b"\n" as &[u8], b"\r\n", b"\r"][i % 3]);
        }
        let sources = [
            source(folder.path(), "empty.fa", b""),
            source(folder.path(), "a.fa", &plain),
            source(folder.path(), "none.fa", b""),
            source(folder.path(), "b.fq", b"@r\nACGTACGTACGT\n+\n>>>>>>>>>>>>\n"),
            source(folder.path(), "c.fa.gz", &[&[0x1f, 0x8b][..], &plain].concat()),
            source(folder.path(), "d.fa", &[b"\n \n", &plain[..]].concat()),
            source(folder.path(), "last.fa", b""),
        ];
        let contents: Vec<Vec<u8>> =
            sources.iter().map(|source| std::fs::read(&source.path).unwrap()).collect();
        for count in [1, 2, 3, 7, 50, 1000, 20_000] {
            for whole in [false, true] {
                let texts = texts(&sources, count, whole);
                assert!(texts.windows(2).all(|pair| pair[0].0 <= pair[1].0));
                for (i, content) in contents.iter().enumerate() {
                    let parts: Vec<&[u8]> =
                        texts.iter().filter(|text| text.0 == i).map(|text| &text.1[..]).collect();
                    assert_eq!(&parts.concat(), content, "{count} {i}");
                    let is_divided = parts.len() > 1;
                    assert!(!(is_divided && (whole || i == 3 || i == 4)));
                    let begins = |part: &&[u8]| part.first() == Some(&b'>');
                    assert!(parts.iter().skip(1).all(begins));
                    assert!(!parts.is_empty());
                }
            }
        }
        assert!(texts(&sources, 7, false).len() > sources.len());
    }

    #[test]
    fn lines_and_records_before_a_byte_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let text = b"\n>a\nAC\r\nGT\r>b > c\rA\n\n>c\n";
        let source = source(folder.path(), "a.fa", text);
        let at = text.len() as u64 - 3;
        assert_eq!(count_before(&source.path, at).unwrap(), (7, 2));
        assert_eq!(count_before(&source.path, 0).unwrap(), (0, 0));
    }

    #[test]
    fn a_share_is_of_files() {
        let source =
            Source { path: "-".into(), name: "-".into(), found: false, size: None, range: None };
        let shard = Shard { index: 0, count: 2 };
        assert!(matches!(share(vec![source], shard, false), Err(Error::Input { .. })));
    }
}
