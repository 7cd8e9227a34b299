//! FASTA and FASTQ text: the same records as a parser written from the documentation
//! finds, and a mistake on the line where that one finds it.

use std::sync::LazyLock;

use kvae::input::discover::Source;
use kvae::input::stop::StopFlag;
use kvae::input::text::TextReader;
use kvae::input::text_buffer::TextPool;
use kvae::simd::Backend;

use super::common::memory_file;

#[derive(Debug, PartialEq)]
enum Outcome {
    Records(Vec<(String, Vec<u8>)>),
    Mistake {
        line: u64,
        before: Vec<(String, Vec<u8>)>,
    },
    /// Neither FASTA nor FASTQ, or another kind of file.
    Refused,
}

/// Reads a text in every way.
pub(crate) fn records(text: &[u8]) {
    if is_compressed(text) {
        return;
    }
    let expected = naive(text);
    for backend in Backend::available() {
        assert_eq!(without_half_lines(read(text, backend), &expected), expected, "{backend}");
    }
}

/// Letters of the mistaken line may have been read with a chunk before it.
fn without_half_lines(mut found: Outcome, expected: &Outcome) -> Outcome {
    if let (Outcome::Mistake { before, .. }, Outcome::Mistake { before: whole, .. }) =
        (&mut found, expected)
        && let (Some((_, letters)), Some((_, whole))) = (before.last_mut(), whole.last())
    {
        letters.truncate(whole.len());
    }
    found
}

fn is_compressed(text: &[u8]) -> bool {
    let skippable = text.get(1..4) == Some(&[0x2a, 0x4d, 0x18]);
    let magic = [&b"\x1f\x8b"[..], b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    skippable || magic.iter().any(|magic| text.starts_with(magic))
}

static POOL: LazyLock<TextPool> = LazyLock::new(TextPool::default);

fn read(text: &[u8], backend: Backend) -> Outcome {
    let (_file, path) = memory_file(text);
    let source =
        Source { name: "x".into(), path: path.clone(), found: false, size: None, range: None };
    let complain = |message: String| {
        assert!(message.starts_with(path.to_str().unwrap()), "{message}");
        assert!(!message.contains('\n'), "{message}");
        Outcome::Refused
    };
    let mut reader = match TextReader::open(&source, &StopFlag::default(), &POOL) {
        Ok(reader) => reader,
        Err(error) => return complain(error.to_string()),
    };
    let mut records: Vec<(String, Vec<u8>)> = Vec::new();
    let mut line = 1;
    loop {
        let chunk = match reader.next_chunk() {
            Ok(None) => return Outcome::Records(records),
            Ok(Some(chunk)) => chunk,
            Err(error) => return complain(error.to_string()),
        };
        let parsed = chunk.parse(backend);
        for piece in parsed.pieces {
            let letters = &parsed.letters[piece.letters];
            match piece.header {
                Some(header) => records.push((header.id, letters.to_vec())),
                // Letters before the first record are no one's.
                None => {
                    if let Some(record) = records.last_mut() {
                        record.1.extend_from_slice(letters);
                    }
                }
            }
        }
        if let Some(mistake) = parsed.mistake {
            return Outcome::Mistake { line: line + mistake.line, before: records };
        }
        line += parsed.lines;
    }
}

/// From the documentation, line by line.
fn naive(text: &[u8]) -> Outcome {
    if foreign(text) {
        return Outcome::Refused;
    }
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let lines = lines(text);
    let first = text.iter().find(|byte| !b" \t\r\n".contains(byte));
    match first {
        None => Outcome::Records(Vec::new()),
        Some(b'>') => fasta(&lines),
        Some(b'@') => fastq(&lines),
        Some(_) => Outcome::Refused,
    }
}

fn foreign(text: &[u8]) -> bool {
    // No text that begins with '>', '@' or a blank is any of the others.
    let tar = text.get(257..).unwrap_or_default();
    tar.starts_with(b"ustar\0") || tar.starts_with(b"ustar  \0")
}

/// A line without its end, and whether it has one.
struct Line {
    text: Vec<u8>,
    ended: bool,
}

/// Lines end with `\n`, `\r\n` or `\r`; the last one may have no end.
fn lines(text: &[u8]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut line = Vec::new();
    let mut bytes = text.iter().peekable();
    while let Some(&byte) = bytes.next() {
        if byte == b'\r' {
            bytes.next_if_eq(&&b'\n');
        }
        if byte == b'\r' || byte == b'\n' {
            lines.push(Line { text: std::mem::take(&mut line), ended: true });
        } else {
            line.push(byte);
        }
    }
    if !line.is_empty() {
        lines.push(Line { text: line, ended: false });
    }
    lines
}

fn id(header: &[u8]) -> String {
    let word = header[1..].split(|byte| b" \t".contains(byte)).next().unwrap();
    String::from_utf8_lossy(word).into_owned()
}

/// The letters of a line, if there is nothing else in it.
fn letters(line: &[u8]) -> Option<Vec<u8>> {
    let letters: Vec<u8> = line.iter().copied().filter(|byte| !b" \t".contains(byte)).collect();
    let known = b"ACGTURYSWKMBDHVN-*acgturyswkmbdhvn";
    letters.iter().all(|letter| known.contains(letter)).then_some(letters)
}

fn fasta(lines: &[Line]) -> Outcome {
    let mut records: Vec<(String, Vec<u8>)> = Vec::new();
    for (number, line) in (1..).zip(lines) {
        if line.text.starts_with(b">") {
            records.push((id(&line.text), Vec::new()));
            continue;
        }
        let Some(letters) = letters(&line.text) else {
            return Outcome::Mistake { line: number, before: records };
        };
        if let Some(record) = records.last_mut() {
            record.1.extend(letters);
        }
    }
    Outcome::Records(records)
}

fn fastq(lines: &[Line]) -> Outcome {
    let mut records = Vec::new();
    let mut at = 0;
    let none = Line { text: Vec::new(), ended: false };
    while at < lines.len() {
        if lines[at].text.iter().all(|byte| b" \t".contains(byte)) {
            at += 1;
            continue;
        }
        let [header, sequence, plus, quality] =
            [0, 1, 2, 3].map(|i| lines.get(at + i).unwrap_or(&none));
        let mistake = if !header.text.starts_with(b"@") {
            Some(0)
        } else if !plus.ended {
            // Nothing follows: the record is cut short.
            Some(0)
        } else if !plus.text.starts_with(b"+") {
            Some(2)
        } else {
            None
        };
        let wrong = match (mistake, letters(&sequence.text)) {
            (None, Some(letters)) if has_quality(&quality.text, letters.len()) => {
                records.push((id(&header.text), letters));
                at += 4;
                continue;
            }
            (None, Some(_)) => 3,
            (None, None) => 1,
            (Some(line), _) => line,
        };
        return Outcome::Mistake { line: (at + 1 + wrong) as u64, before: records };
    }
    Outcome::Records(records)
}

/// A character for each letter, with blanks among them or without.
fn has_quality(line: &[u8], letters: usize) -> bool {
    let blanks = line.iter().filter(|byte| b" \t".contains(byte)).count();
    letters == line.len() || letters == line.len() - blanks
}
