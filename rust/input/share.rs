//! One of several shares of the inputs, by their bytes.
//!
//! The inputs behind each other are a row of bytes, cut into equal parts. A file
//! belongs to the part that it lies in. One that lies in several is divided
//! between records where it is FASTA or FASTQ, plain or BGZF: a record belongs to
//! the part that its first byte lies in, or in BGZF, that the block lies in
//! where the line before it ends. Any other belongs to the part that its middle
//! lies in.

use std::fs;
use std::ops::Range;

use super::boundary::{Divisible, Place};
use super::discover::Source;
use crate::checksums::sum;
use crate::error::{Error, Result};

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
            // What is no file, but is fed by somebody, cannot be read twice.
            let is_file = fs::metadata(&source.path).is_ok_and(|metadata| metadata.is_file());
            let divisible = if whole || !is_file { None } else { Divisible::of(&source) };
            if let Some(file) = divisible {
                let within = ours.start.max(start) - start..ours.end.min(end) - start;
                source.range = records(&source, file, within, size)?;
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

/// The records that begin within some bytes of a file; nothing if none does.
fn records(
    source: &Source,
    file: Divisible,
    within: Range<u64>,
    size: u64,
) -> Result<Option<Range<Place>>> {
    let end_of_file = Place::plain(size);
    // What precedes the first record belongs to it.
    let start = match within.start {
        0 => Place::default(),
        from => file.next_record(&source.path, from)?.unwrap_or(end_of_file),
    };
    let end = if within.end == size {
        end_of_file
    } else {
        file.next_record(&source.path, within.end)?.unwrap_or(end_of_file)
    };
    Ok((start < end).then_some(start..end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::stop::StopFlag;
    use crate::input::text::{TextReader, bgzf, count};
    use crate::input::text_buffer::TextPool;
    use crate::simd::Backend;
    use proptest::prelude::*;
    use std::path::Path;

    fn source(folder: &Path, name: &str, content: &[u8]) -> Source {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        let size = Some(content.len() as u64);
        Source { path, name: name.into(), found: false, size, range: None }
    }

    /// The records of a file, or of a part of one.
    fn read(source: &Source) -> Vec<(String, Vec<u8>)> {
        let mut reader =
            TextReader::open(source, &StopFlag::default(), &TextPool::default()).unwrap();
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        while let Some(chunk) = reader.next_chunk().unwrap() {
            let parsed = chunk.parse(Backend::Scalar);
            assert_eq!(parsed.mistake, None);
            for piece in parsed.pieces {
                if let Some(header) = piece.header {
                    records.push((header.id, Vec::new()));
                }
                // A part that began within a record would have nowhere to put it.
                records.last_mut().unwrap().1.extend(&parsed.letters[piece.letters]);
            }
        }
        assert_eq!(reader.take_warnings(), Vec::<String>::new());
        records
    }

    /// The sources of all shares, and which input each is of.
    fn shares(sources: &[Source], count: u64, whole: bool) -> Vec<(usize, Source)> {
        let share = |index| share(sources.to_vec(), Shard { index, count }, whole).unwrap();
        (0..count)
            .flat_map(|index| {
                let share = share(index);
                (share.first..).zip(share.sources).collect::<Vec<_>>()
            })
            .collect()
    }

    /// FASTA with everything that looks like a header and is none.
    fn fasta(records: usize) -> Vec<u8> {
        let mut text = Vec::new();
        for i in 0..records {
            text.extend(format!(">r{i} a>b\n").into_bytes());
            text.extend(b"ACGT".repeat(i * i % 37));
            text.extend([b"\n" as &[u8], b"\r\n", b"\r"][i % 3]);
        }
        text
    }

    /// FASTQ whose quality is full of what begins other lines.
    fn fastq(records: usize, newline: &str, is_ended: bool) -> Vec<u8> {
        let mut text = String::new();
        for i in 0..records {
            let length = i * i % 37;
            let letters: String = "ACGTN".chars().cycle().skip(i).take(length).collect();
            let quality: String = "@+@r>".chars().cycle().skip(i).take(length).collect();
            let again = if i % 4 == 0 { "@+r" } else { "" };
            let lines = [format!("@r{i} @x"), letters, format!("+{again}"), quality];
            text += &(lines.join(newline) + newline);
            text += ["", "", newline][i % 3];
        }
        let text = text.trim_end().to_owned();
        (if is_ended { text + newline } else { text }).into_bytes()
    }

    #[test]
    fn all_shares_together_are_the_inputs() {
        let folder = tempfile::tempdir().unwrap();
        let plain = fasta(40);
        let sources = [
            source(folder.path(), "a.fa", &plain),
            source(folder.path(), "none.fa", b""),
            source(folder.path(), "b.fq", b"@r\nACGTACGTACGT\n+\n>>>>>>>>>>>>\n"),
            source(folder.path(), "many.fq", &fastq(40, "\n", true)),
            source(folder.path(), "crlf.fq", &fastq(40, "\r\n", false)),
            source(folder.path(), "d.fa", &[b"\n \n", &plain[..]].concat()),
            source(folder.path(), "blocks.fa", &bgzf(&plain, 97)),
            source(folder.path(), "blocks.fq", &bgzf(&fastq(40, "\r\n", true), 61)),
            source(folder.path(), "last.fa", b""),
        ];
        for count in [1, 2, 3, 7, 50, 1000, 20_000] {
            for whole in [false, true] {
                let parts = shares(&sources, count, whole);
                assert!(parts.windows(2).all(|pair| pair[0].0 <= pair[1].0));
                for (i, source) in sources.iter().enumerate() {
                    let parts: Vec<_> = parts.iter().filter(|(of, _)| *of == i).collect();
                    let records: Vec<_> = parts.iter().flat_map(|(_, part)| read(part)).collect();
                    assert_eq!(records, read(source), "{count} {}", source.name);
                    assert!(!(parts.len() > 1 && whole));
                    assert!(!parts.is_empty());
                }
            }
        }
        let parts = shares(&sources, 50, false);
        for (i, source) in sources.iter().enumerate() {
            let parts = parts.iter().filter(|(of, _)| *of == i).count();
            let is_short = ["none.fa", "last.fa", "b.fq"].contains(&&*source.name);
            assert_eq!(parts > 2, !is_short, "{}", source.name);
        }
    }

    #[test]
    fn what_cannot_be_divided_is_in_one_share() {
        let folder = tempfile::tempdir().unwrap();
        let of_two_lines = b"@a\nACGT\nACGT\n+\n!!!!\n!!!!\n".repeat(9);
        let sources = [
            source(folder.path(), "gzip.fa.gz", &[&[0x1f, 0x8b][..], &fasta(40)].concat()),
            source(folder.path(), "lines.fq", &of_two_lines),
            source(folder.path(), "returns.fq", &fastq(40, "\r", true)),
            source(folder.path(), "no.fa", b"no sequences\n>a\nACGT\n"),
        ];
        for count in [2, 5, 300] {
            let parts = shares(&sources, count, false);
            assert_eq!(parts.len(), sources.len(), "{count}");
            assert!(parts.iter().all(|(_, part)| part.range.is_none()));
        }
    }

    #[test]
    fn blocks_between_other_members_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let gzip = |text: &[u8]| {
            use std::io::Write;
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        let text = fasta(40);
        let file = [bgzf(&text, 90), gzip(&text), bgzf(&text, 1000), bgzf(b"", 1)].concat();
        let source = source(folder.path(), "a.fa.gz", &file);
        let expected = read(&source);
        assert_eq!(expected.len(), 120);
        for count in [2, 3, 11, 200] {
            let parts = shares(std::slice::from_ref(&source), count, false);
            assert!(parts.len() > 1);
            let records: Vec<_> = parts.iter().flat_map(|(_, part)| read(part)).collect();
            assert_eq!(records, expected, "{count}");
        }
    }

    #[test]
    fn lines_and_records_before_a_part_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("a.fa", b"\n>a\nAC\r\nGT\r>b > c\rA\n\n>c\nA\n>d\nC".to_vec()),
            ("a.fq", b"\n@a\nAC\n+\n@>\n\n@b\nA\n+\n@\n@c\nA\n+\n@\n@d\nC\n+\n@\n".to_vec()),
        ] {
            let blocks = source(folder.path(), "blocks", &bgzf(&text, 4));
            for source in [source(folder.path(), name, &text), blocks] {
                let parts = shares(std::slice::from_ref(&source), 1000, false);
                assert!(parts.len() > 2, "{}", source.name);
                let mut before = (0, 0);
                for (_, part) in parts {
                    let counted = part.before().map(|before| self::count(&before).unwrap());
                    assert_eq!(counted.unwrap_or_default(), before);
                    let here = self::count(&part).unwrap();
                    before = (before.0 + here.0, before.1 + here.1);
                }
                assert_eq!(before, self::count(&source).unwrap());
            }
        }
    }

    #[test]
    fn what_is_fed_by_somebody_is_not_divided() {
        let fed = |name: &str| {
            let path = "/nowhere/at/all".into();
            Source { path, name: name.into(), found: true, size: Some(100), range: None }
        };
        let sources = [fed("a"), fed("b"), fed("c")];
        let shares: Vec<usize> = (0..2)
            .map(|index| share(sources.to_vec(), Shard { index, count: 2 }, false).unwrap())
            .map(|share| share.sources.iter().filter(|source| source.range.is_none()).count())
            .collect();
        assert_eq!(shares, [1, 2]);
    }

    #[test]
    fn a_share_is_of_files() {
        let source =
            Source { path: "-".into(), name: "-".into(), found: false, size: None, range: None };
        let shard = Shard { index: 0, count: 2 };
        assert!(matches!(share(vec![source], shard, false), Err(Error::Input { .. })));
    }

    /// Text of records, some longer than a share, and what is in it.
    fn records() -> impl Strategy<Value = Vec<u8>> {
        let lengths =
            proptest::collection::vec(prop_oneof![9 => 0usize..90, 1 => 0usize..3000], 1..30);
        let newline = proptest::sample::select(vec!["\n", "\r\n"]);
        (lengths, newline, 1usize..100, any::<bool>(), any::<bool>()).prop_map(
            |(lengths, newline, width, is_fastq, is_ended)| {
                let mut text = String::new();
                for (i, length) in lengths.into_iter().enumerate() {
                    let letters: String = "GATTACAN".chars().cycle().skip(i).take(length).collect();
                    if is_fastq {
                        let quality: String = "+@>I".chars().cycle().skip(i).take(length).collect();
                        let lines = [format!("@r{i}"), letters, "+".into(), quality];
                        text += &(lines.join(newline) + newline);
                    } else {
                        text += &[">r", &i.to_string(), " >x", newline].concat();
                        for line in letters.as_bytes().chunks(width) {
                            text += std::str::from_utf8(line).unwrap();
                            text += newline;
                        }
                    }
                }
                // The last line of FASTQ may be empty, and then it needs its end.
                if !is_ended && !text.ends_with(&newline.repeat(2)) {
                    text.truncate(text.trim_end().len());
                }
                text.into_bytes()
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_shares_of_any_file_are_the_file(
            text in records(),
            block_len in prop_oneof![1usize..50, 50usize..5000],
            count in prop_oneof![1u64..20, 20u64..400],
            blocked in any::<bool>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let file = if blocked { bgzf(&text, block_len) } else { text };
            let source = source(folder.path(), "a", &file);
            let parts = shares(std::slice::from_ref(&source), count, false);
            let records: Vec<_> = parts.iter().flat_map(|(_, part)| read(part)).collect();
            prop_assert!(records == read(&source));
        }
    }
}
