//! FASTQ text to records.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memrchr};

use super::records::{Header, Mistake, Parsed, Piece, can_stand_in_line, keep_letters};
use super::text_buffer::TextBuffer;
use crate::simd::Backend;

/// The lines of a record, and where the next one begins.
struct Lines {
    header: Range<usize>,
    letters: Range<usize>,
    separator: Range<usize>,
    quality: Range<usize>,
    /// Blank lines before the header.
    blank: u64,
    /// Line ends of the record itself: 4, or 3 at the end of a file.
    ends: u64,
    next: usize,
}

/// One past a line's end, and whether there is a line end at all.
fn line(text: &[u8], at: usize) -> (Range<usize>, usize, u64) {
    match memchr(b'\n', &text[at..]) {
        Some(length) => (at..at + length, at + length + 1, 1),
        None => (at..text.len(), text.len(), 0),
    }
}

/// The four lines from `at` on; nothing where only blank lines are left.
fn lines(text: &[u8], mut at: usize) -> Option<Lines> {
    let mut blank = 0;
    loop {
        let (content, next, end) = line(text, at);
        if !text[content].iter().all(|byte| b" \t".contains(byte)) {
            break;
        }
        if end == 0 {
            return None;
        }
        at = next;
        blank += 1;
    }
    let (header, at, a) = line(text, at);
    let (letters, at, b) = line(text, at);
    let (separator, at, c) = line(text, at);
    let (quality, next, d) = line(text, at);
    Some(Lines { header, letters, separator, quality, blank, ends: a + b + c + d, next })
}

/// The length of the whole records at the beginning of `text`, and of the blank lines
/// behind each.
pub(super) fn whole_records(text: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match lines(text, at) {
            Some(record) if record.ends == 4 => at = record.next,
            Some(record) => return record.header.start,
            None => return memrchr(b'\n', &text[at..]).map_or(at, |end| at + end + 1),
        }
    }
}

/// Parses whole FASTQ records whose line ends are all `\n`.
pub(super) fn parse(mut text: TextBuffer, backend: Backend) -> Parsed {
    let mut parsed = Parsed::default();
    let mut kept = 0;
    let mut at = 0;
    while let Some(record) = lines(&text, at) {
        parsed.lines += record.blank;
        let header = Header::parse(text[record.header.clone()].split_at(1).1);
        let letters = check(&text, &record).and_then(|()| {
            let letters = append(&mut text, &record, kept, backend)?;
            check_quality(&text[record.quality.clone()], letters).map(|()| letters)
        });
        match letters {
            Ok(letters) => {
                let piece = Piece { header: Some(header), letters: kept..kept + letters };
                parsed.pieces.push(piece);
                kept += letters;
            }
            Err((line, message)) => {
                parsed.mistake = Some(Mistake { line: parsed.lines + line, message });
                break;
            }
        }
        parsed.lines += record.ends;
        at = record.next;
    }
    parsed.lines += memchr_iter(b'\n', &text[at..]).count() as u64;
    text.truncate(kept);
    parsed.letters = text;
    parsed
}

/// Where in text that begins anywhere the first record begins, if that is
/// certain: four whole lines after a line end, or three and what is there if
/// that `is_all`. Line ends may be `\r\n` here.
///
/// Only a header begins with `@` *and* has a line of letters behind it: a line
/// of quality that begins so has a header there, or a blank line and then no
/// `+`.
pub(super) fn find_record(text: &[u8], is_all: bool) -> Option<usize> {
    memchr_iter(b'\n', text).map(|end| end + 1).find(|&at| {
        text.get(at) == Some(&b'@')
            && lines(text, at).is_some_and(|record| {
                (record.ends == 4 || (is_all && record.ends == 3)) && is_record(text, &record)
            })
    })
}

/// Whether text that begins with `@` and is cut off may be the beginning of a
/// record.
pub(super) fn may_begin_record(text: &[u8]) -> bool {
    let (_, letters, _) = line(text, 0);
    let (letters, separator, _) = line(text, letters);
    text[letters].iter().all(|&byte| can_stand_in_line(byte))
        && text.get(separator).is_none_or(|&byte| byte == b'+')
}

fn is_record(text: &[u8], record: &Lines) -> bool {
    let of = |line: &Range<usize>| {
        let line = &text[line.clone()];
        line.strip_suffix(b"\r").unwrap_or(line)
    };
    let letters = of(&record.letters);
    text[record.separator.clone()].first() == Some(&b'+')
        && has_quality(of(&record.quality), without_blanks(letters))
        && letters.iter().all(|&byte| can_stand_in_line(byte))
}

/// Whether a line of quality has a character for each letter. Blanks in it may be such or
/// stand there as they may in a line of letters.
fn has_quality(quality: &[u8], letters: usize) -> bool {
    quality.len() == letters || without_blanks(quality) == letters
}

fn without_blanks(line: &[u8]) -> usize {
    line.iter().filter(|byte| !b" \t".contains(byte)).count()
}

/// Whether the first three of the lines can be those of a record; else which of them is
/// wrong, and how.
fn check(text: &[u8], record: &Lines) -> std::result::Result<(), (u64, String)> {
    if text[record.header.start] != b'@' {
        return Err((0, "a FASTQ record must begin with '@'".into()));
    }
    // The quality of a record without letters may be missing at the very end.
    if record.ends < 3 {
        return Err((0, "the FASTQ record is truncated".into()));
    }
    if text.get(record.separator.start) != Some(&b'+') {
        let message = "no '+' line after one line of sequence: FASTQ records must have four \
                       lines each";
        return Err((2, message.into()));
    }
    Ok(())
}

fn check_quality(quality: &[u8], letters: usize) -> std::result::Result<(), (u64, String)> {
    if has_quality(quality, letters) {
        return Ok(());
    }
    let count = without_blanks(quality);
    Err((3, format!("the quality has {count} characters and the sequence {letters}")))
}

fn append(
    text: &mut [u8],
    record: &Lines,
    to: usize,
    backend: Backend,
) -> std::result::Result<usize, (u64, String)> {
    let line = record.letters.clone();
    if backend.all_bases(&text[line.clone()]) {
        let letters = line.len();
        text.copy_within(line, to);
        Ok(letters)
    } else {
        keep_letters(text, line, to).map_err(|message| (1, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids_and_letters(parsed: &Parsed) -> Vec<(String, String)> {
        let pieces = parsed.pieces.iter();
        pieces
            .map(|piece| {
                let letters = &parsed.letters[piece.letters.clone()];
                let id = piece.header.as_ref().map(|header| header.id.clone());
                (id.unwrap(), String::from_utf8_lossy(letters).into_owned())
            })
            .collect()
    }

    #[test]
    fn four_lines_are_a_record() {
        let text = b"\n@a x\nACGN\n+a\n@@@@\n\n@b\n\n+\n\n@c\nAC\n+\n>+";
        let parsed = parse(text.to_vec().into(), Backend::Scalar);
        let expected = [("a", "ACGN"), ("b", ""), ("c", "AC")];
        let expected = expected.map(|(id, letters)| (id.to_string(), letters.to_string()));
        assert_eq!(ids_and_letters(&parsed), expected);
        assert_eq!(parsed.mistake, None);
        assert_eq!(parsed.lines, 13);
    }

    #[test]
    fn lines_of_spaces_are_blank() {
        let text = b" \n\t\n@a\nAC\n+\n!!\n  \n@b\nAC\n+\n! \n\n \t";
        let parsed = parse(text.to_vec().into(), Backend::Scalar);
        let expected = ["a", "b"].map(|id| (id.to_string(), "AC".to_string()));
        assert_eq!(ids_and_letters(&parsed), expected);
        assert_eq!((parsed.mistake, parsed.lines), (None, 12));
        assert_eq!(whole_records(text), 30);
    }

    #[test]
    fn blanks_in_a_line_of_letters_have_no_quality() {
        for text in ["@a\nAC \tG \n+\n!!!\n", "@a\nACG\t\n+\n!!!\t\n", "@a\nACG\n+\n! !\n"] {
            let parsed = parse(text.as_bytes().to_vec().into(), Backend::Scalar);
            assert_eq!(ids_and_letters(&parsed), [("a".to_string(), "ACG".to_string())]);
            assert_eq!(parsed.mistake, None);
            let within = ["x\n", text].concat();
            assert_eq!(find_record(within.as_bytes(), false), Some(2));
        }
        let parsed = parse(b"@a\nAC \n+\n!!!\n".to_vec().into(), Backend::Scalar);
        let mistake = parsed.mistake.unwrap();
        assert_eq!(mistake.line, 3);
        assert!(mistake.message.contains("has 3 characters and the sequence 2"));
    }

    #[test]
    fn whole_records_end_before_the_first_incomplete_one() {
        let text = b"@a\nAC\n+\n!!\n@b\nAC\n+\n!";
        assert_eq!(whole_records(text), 11);
        assert_eq!(whole_records(&text[..11]), 11);
        assert_eq!(whole_records(&text[..10]), 0);
    }

    #[test]
    fn mistakes_name_the_line() {
        for (text, line, blame) in [
            ("@a\nAC\n+\n!!\nx", 4, "begin with '@'"),
            ("@a\nAC\nAC\n+\n!!!!\n", 2, "four lines"),
            ("@a\nAC\n+\n!\n", 3, "quality has 1"),
            ("@a\nAC\n+\n!!\n@b\nAC\n", 4, "truncated"),
            ("@a\nAE\n+\n!!\n", 1, "'E'"),
        ] {
            let mistake = parse(text.as_bytes().to_vec().into(), Backend::Scalar).mistake.unwrap();
            assert_eq!(mistake.line, line, "{text:?}");
            assert!(mistake.message.contains(blame), "{}", mistake.message);
        }
    }
}
