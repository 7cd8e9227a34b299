//! Records of FASTA and FASTQ text, in the pieces that chunks cut them into.

use std::ops::Range;

use super::text_buffer::TextBuffer;

/// The header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The first word; empty where there is none.
    pub id: String,
    /// Whether the word had bytes that are not UTF-8 and were replaced.
    pub replaced: bool,
}

impl Header {
    /// The header in a line without its `>` or `@`.
    pub(super) fn parse(line: &[u8]) -> Self {
        let is_space = |&byte: &u8| byte == b' ' || byte == b'\t';
        let word = line.split(is_space).next().unwrap_or_default();
        let id = String::from_utf8_lossy(word);
        Self { replaced: matches!(id, std::borrow::Cow::Owned(_)), id: id.into_owned() }
    }
}

/// A record, or what of it stands in one chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The header; nothing where the record began in an earlier chunk.
    pub header: Option<Header>,
    /// Its letters in [`Parsed::letters`].
    pub letters: Range<usize>,
}

/// A mistake in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// 0-based line within the chunk.
    pub line: u64,
    /// What is wrong.
    pub message: String,
}

/// The records of a chunk of text.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The letters of all pieces, without line ends and spaces.
    pub letters: TextBuffer,
    /// The records in the order of the text. The last one may go on in the
    /// next chunk.
    pub pieces: Vec<Piece>,
    /// Line ends in the chunk.
    pub lines: u64,
    /// What stopped the parser; the pieces before it stand.
    pub mistake: Option<Mistake>,
}

/// Letters that stand for several bases or for none: they count in the length
/// and break windows.
const AMBIGUOUS: &[u8] = b"RYSWKMBDHVN-*";

/// Copies a line with other letters than bases to `to`, without spaces.
///
/// Returns how many letters were kept, or what is wrong with the first one
/// that cannot stand in a sequence.
pub(super) fn keep_letters(
    text: &mut [u8],
    line: Range<usize>,
    to: usize,
) -> std::result::Result<usize, String> {
    let mut kept = 0;
    for at in line {
        let letter = text[at];
        if letter == b' ' || letter == b'\t' {
            continue;
        }
        if !can_stand_in_line(letter) {
            return Err(wrong_letter(letter));
        }
        text[to + kept] = letter;
        kept += 1;
    }
    Ok(kept)
}

/// Whether a byte can stand in a line of letters; spaces are left out of it.
pub(super) fn can_stand_in_line(byte: u8) -> bool {
    let upper = byte.to_ascii_uppercase();
    b"ACGTU \t".contains(&upper) || AMBIGUOUS.contains(&upper)
}

fn wrong_letter(letter: u8) -> String {
    match letter {
        b';' => "';' comments are not FASTA: remove them".into(),
        b'>' => "a '>' within a sequence: a header must begin its line".into(),
        letter if letter.is_ascii_alphabetic() => format!(
            "letter '{}' is neither a base nor an IUPAC code (is this a protein file?)",
            char::from(letter)
        ),
        letter => format!(
            "character '{}' cannot stand in a sequence",
            char::from(letter).escape_default()
        ),
    }
}
