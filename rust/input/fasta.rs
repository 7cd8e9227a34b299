//! FASTA text to records.

use std::ops::Range;

use memchr::memchr;

use super::records::{Header, Mistake, Parsed, Piece, keep_letters};
use super::text_buffer::TextBuffer;
use crate::simd::Backend;

/// Parses a chunk of FASTA text whose line ends are all `\n`.
///
/// `within_line` says that the chunk begins inside a line of letters. The
/// letters are moved together in place, so no second buffer is filled.
pub(super) fn parse(mut text: TextBuffer, within_line: bool, backend: Backend) -> Parsed {
    let mut parsed = Parsed::default();
    let mut kept = 0;
    let mut at = 0;
    let mut may_be_header = !within_line;
    while at < text.len() {
        let moved = backend.move_lines(&mut text, at, kept);
        if moved.read > 0 {
            if parsed.pieces.is_empty() && moved.letters > 0 {
                parsed.pieces.push(Piece { header: None, letters: 0..0 });
            }
            parsed.lines += moved.lines as u64;
            kept += moved.letters;
            at += moved.read;
            may_be_header = moved.ends_line;
            continue;
        }
        let length = memchr(b'\n', &text[at..]);
        let end = length.map_or(text.len(), |length| at + length);
        let line = at..end;
        if may_be_header && text[at] == b'>' {
            close(&mut parsed.pieces, kept);
            let header = Some(Header::parse(&text[at + 1..end]));
            parsed.pieces.push(Piece { header, letters: kept..kept });
        } else if !line.is_empty() {
            match append(&mut text, line, kept, backend) {
                Ok(0) => {}
                Ok(letters) => {
                    if parsed.pieces.is_empty() {
                        parsed.pieces.push(Piece { header: None, letters: 0..0 });
                    }
                    kept += letters;
                }
                Err(message) => {
                    parsed.mistake = Some(Mistake { line: parsed.lines, message });
                    break;
                }
            }
        }
        parsed.lines += u64::from(length.is_some());
        may_be_header = true;
        at = end + 1;
    }
    close(&mut parsed.pieces, kept);
    text.truncate(kept);
    parsed.letters = text;
    parsed
}

fn close(pieces: &mut [Piece], kept: usize) {
    if let Some(piece) = pieces.last_mut() {
        piece.letters.end = kept;
    }
}

/// Moves the letters of a line to `to`, which is never behind the line, and
/// returns their number.
fn append(
    text: &mut [u8],
    line: Range<usize>,
    to: usize,
    backend: Backend,
) -> std::result::Result<usize, String> {
    if backend.all_bases(&text[line.clone()]) {
        let letters = line.len();
        text.copy_within(line, to);
        Ok(letters)
    } else {
        keep_letters(text, line, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn summary(parsed: &Parsed) -> Vec<(Option<&str>, String)> {
        let pieces = parsed.pieces.iter();
        pieces
            .map(|piece| {
                let letters = &parsed.letters[piece.letters.clone()];
                let id = piece.header.as_ref().map(|header| header.id.as_str());
                (id, String::from_utf8_lossy(letters).into_owned())
            })
            .collect()
    }

    #[test]
    fn lines_are_joined_and_spaces_dropped() {
        let text = b">a first\nACG\n\nTn N\t-\n>\n>b\tx\nuU".to_vec();
        let parsed = parse(text.into(), false, Backend::Scalar);
        let expected = [
            (Some("a"), "ACGTnN-".to_string()),
            (Some(""), String::new()),
            (Some("b"), "uU".to_string()),
        ];
        assert_eq!(summary(&parsed), expected);
        assert_eq!(parsed.lines, 6);
        assert_eq!(parsed.mistake, None);
    }

    #[test]
    fn a_chunk_may_begin_within_a_line() {
        let parsed = parse(b"ACG\nT\n>b\nA\n".to_vec().into(), true, Backend::Scalar);
        let expected = [(None, "ACGT".to_string()), (Some("b"), "A".to_string())];
        assert_eq!(summary(&parsed), expected);
        let parsed = parse(b">b\nA\n".to_vec().into(), true, Backend::Scalar);
        assert!(parsed.mistake.is_some(), "a '>' within a line is no header");
    }

    /// FASTA with lines of any length, of bases and of what else may stand there.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let bases =
            proptest::collection::vec(proptest::sample::select(b"ACGTacgtUu".to_vec()), 0..200);
        let line = prop_oneof![
            10 => bases,
            2 => Just(b"ACGTN RYK-*acgt".to_vec()),
            1 => Just(b"".to_vec()),
            2 => Just(b">r some name".to_vec()),
            1 => Just(b"AC>GT".to_vec()),
            1 => Just(b"ACGTE".to_vec()),
        ];
        let ends = proptest::collection::vec(line, 1..30);
        (ends, any::<bool>()).prop_map(|(lines, is_ended)| {
            let mut text = lines.join(&b'\n');
            text.extend(is_ended.then_some(b'\n'));
            text
        })
    }

    proptest! {
        #[test]
        fn all_backends_read_the_same(text in text(), within_line in any::<bool>()) {
            let expected = parse(text.clone().into(), within_line, Backend::Scalar);
            for backend in Backend::available() {
                let parsed = parse(text.clone().into(), within_line, backend);
                prop_assert_eq!(parsed.lines, expected.lines);
                // How much of a line with a mistake is kept does not matter.
                if expected.mistake.is_none() {
                    prop_assert_eq!(&*parsed.letters, &*expected.letters);
                    prop_assert_eq!(&parsed.pieces, &expected.pieces);
                }
                prop_assert_eq!(&parsed.mistake, &expected.mistake);
            }
        }
    }

    #[test]
    fn mistakes_name_the_line_and_keep_what_was_before() {
        for (line, blame) in [("MEQ", "'E'"), ("AC1", "'1'"), (";x", "';'"), ("A\0", "\\u{0}")] {
            let text = format!(">a\nACGT\n{line}\n");
            let parsed = parse(text.into_bytes().into(), false, Backend::Scalar);
            let mistake = parsed.mistake.clone().unwrap();
            assert_eq!(mistake.line, 2);
            assert!(mistake.message.contains(blame), "{}", mistake.message);
            assert_eq!(summary(&parsed), [(Some("a"), "ACGT".to_string())]);
        }
    }
}
