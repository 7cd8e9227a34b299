//! Files as chunks of text that can be parsed independently.
//!
//! Cutting is serial, as decompression is, and cheap; parsing the chunks is
//! not, and may happen anywhere, at any time.

use memchr::{memchr, memchr_iter, memrchr};
use std::path::PathBuf;

use super::compression::{Blocks, Decoder};
use super::discover::Source;
use super::records::Parsed;
use super::stop::StopFlag;
use super::text_buffer::{TextBuffer, TextPool};
use super::{fasta, fastq};
use crate::error::{Error, Result};
use crate::simd::Backend;

/// Text in a chunk, unless a single header or FASTQ record is longer.
const CHUNK: usize = if cfg!(fuzzing) { 1 << 8 } else { 1 << 20 };

/// What may stand before the first record, once line ends are all `\n`.
const BLANKS: &[u8] = b" \t\n";

/// The longest header line, or FASTQ record, that is believed to be one.
const LONGEST: usize = 1 << 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Fasta,
    Fastq,
}

/// What is known of a file by the text so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Unseen,
    Blank,
    Records(Kind),
}

/// Text that can be parsed by itself.
#[derive(Debug)]
pub struct Chunk {
    text: TextBuffer,
    kind: Kind,
    /// The chunk begins within a line of letters.
    within_line: bool,
    /// Blank lines before the text, which were left out of it.
    blank_lines: u64,
}

impl Chunk {
    /// Its records; lines are counted from the blank ones before it on.
    pub fn parse(self, backend: Backend) -> Parsed {
        let mut parsed = match self.kind {
            Kind::Fasta => fasta::parse(self.text, self.within_line, backend),
            Kind::Fastq => fastq::parse(self.text, backend),
        };
        parsed.lines += self.blank_lines;
        if let Some(mistake) = &mut parsed.mistake {
            mistake.line += self.blank_lines;
        }
        parsed
    }
}

/// Lines and records of a file, or of a part of one.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn count(source: &Source) -> Result<(u64, u64)> {
    let mut reader = TextReader::open(source, &StopFlag::default(), &TextPool::default())?;
    let (mut lines, mut records) = (0, 0);
    while let Some(chunk) = reader.next_chunk()? {
        lines += chunk.blank_lines + memchr_iter(b'\n', &chunk.text).count() as u64;
        let parsed = chunk.parse(Backend::active()?);
        records += parsed.pieces.iter().filter(|piece| piece.header.is_some()).count() as u64;
    }
    // A file of blanks only has no chunk.
    Ok((lines + reader.blank_lines, records))
}

/// What the next step through a file brought.
#[derive(Debug)]
pub enum Piece {
    /// Text to parse.
    Chunk(Chunk),
    /// Blocks to inflate; their text goes into [`TextReader::take_text`].
    Blocks(Blocks),
    /// Nothing yet.
    Nothing,
    /// The file has ended.
    End,
}

/// Cuts a file into chunks.
///
/// [`TextReader::next_chunk`] reads it on one thread. Where it can be inflated
/// by several ([`TextReader::is_blocked`]), [`TextReader::next_piece`] hands
/// out blocks, and takes their texts back in order.
pub struct TextReader {
    path: PathBuf,
    decoder: Decoder,
    content: Content,
    /// Blank lines before the next chunk, which are not in `rest` any more.
    blank_lines: u64,
    /// Text that belongs to the next chunk.
    rest: TextBuffer,
    pool: TextPool,
    within_line: bool,
    /// The text so far ended with a carriage return, so that a line feed at
    /// its beginning belongs to it.
    after_return: bool,
    at_end: bool,
}

impl TextReader {
    /// Opens a file; once `stop` is set, reading it fails. The chunks' memory
    /// is from `pool`.
    ///
    /// # Errors
    /// If it cannot be opened, or is compressed in a way that is not known.
    pub fn open(source: &Source, stop: &StopFlag, pool: &TextPool) -> Result<Self> {
        Ok(Self::new(source.path.clone(), Decoder::open(source, stop)?, pool.clone()))
    }

    fn new(path: PathBuf, decoder: Decoder, pool: TextPool) -> Self {
        Self {
            path,
            decoder,
            content: Content::Unseen,
            blank_lines: 0,
            rest: pool.take(),
            pool,
            within_line: false,
            after_return: false,
            at_end: false,
        }
    }

    /// Bytes of the file read so far.
    pub fn bytes_read(&self) -> u64 {
        self.decoder.compressed_bytes()
    }

    /// What was odd but not wrong, each in one line that names the file.
    pub fn take_warnings(&mut self) -> Vec<String> {
        self.decoder.take_warnings()
    }

    /// Whether the file held nothing but blanks, once all of it was read.
    pub fn was_empty(&self) -> bool {
        !matches!(self.content, Content::Records(_))
    }

    /// Whether the next piece may be blocks. The text of all blocks handed out
    /// has to come back before the first piece after the last of them.
    pub fn is_blocked(&self) -> bool {
        self.decoder.may_have_blocks()
    }

    /// The next piece of the file.
    ///
    /// # Errors
    /// Those of [`TextReader::next_chunk`].
    pub fn next_piece(&mut self) -> Result<Piece> {
        if !self.is_blocked() {
            return Ok(self.next_chunk()?.map_or(Piece::End, Piece::Chunk));
        }
        if self.rest.is_empty() && self.content == Content::Unseen {
            // The content was judged by the text of the first members.
            self.finish_member()?;
        }
        let blocks = self.decoder.take_blocks()?;
        Ok(blocks.map_or(Piece::Nothing, Piece::Blocks))
    }

    /// Takes the text of the next blocks, for what can be parsed of it.
    ///
    /// # Errors
    /// Those of [`TextReader::next_chunk`].
    pub fn take_text(&mut self, text: &[u8]) -> Result<Piece> {
        let filled = self.rest.len();
        self.rest.extend_from_slice(text)?;
        self.unify_line_ends(filled);
        if self.rest.len() < CHUNK / 2 {
            return Ok(Piece::Nothing);
        }
        let Some(kind) = self.kind_so_far()? else {
            return Ok(Piece::Nothing);
        };
        let chunk = self.take_chunk(kind)?;
        if chunk.is_none() && self.rest.len() > LONGEST {
            return Err(self.endless());
        }
        Ok(chunk.map_or(Piece::Nothing, Piece::Chunk))
    }

    /// The next chunk; nothing at the end of the file.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, or is neither FASTA nor FASTQ.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        let mut target = CHUNK;
        loop {
            self.fill(target)?;
            let Some(kind) = self.kind()? else {
                return Ok(None);
            };
            if let Some(chunk) = self.take_chunk(kind)? {
                return Ok((!chunk.text.is_empty()).then_some(chunk));
            }
            if target >= LONGEST {
                return Err(self.endless());
            }
            target *= 2;
        }
    }

    /// The text that can be parsed by itself; nothing if more must be read to
    /// tell.
    fn take_chunk(&mut self, kind: Kind) -> Result<Option<Chunk>> {
        let Some(length) = self.cut(kind) else {
            return Ok(None);
        };
        let mut text = std::mem::replace(&mut self.rest, self.pool.take());
        self.rest.extend_from_slice(&text[length..])?;
        text.truncate(length);
        let within_line = self.within_line;
        self.within_line = kind == Kind::Fasta && text.last() != Some(&b'\n');
        let blank_lines = std::mem::take(&mut self.blank_lines);
        Ok(Some(Chunk { text, kind, within_line, blank_lines }))
    }

    fn endless(&self) -> Error {
        let message = "a single line or record is longer than 1 GiB: is this a sequence file?";
        Error::input(&self.path, message)
    }

    /// Reads the rest of a member that the decoder has begun.
    fn finish_member(&mut self) -> Result<()> {
        loop {
            let filled = self.rest.len();
            let decoder = &mut self.decoder;
            let read = self.rest.append(filled + CHUNK, |room| decoder.read_member(room))?;
            self.unify_line_ends(filled);
            if read == 0 {
                return Ok(());
            }
        }
    }

    /// Reads until there are `target` bytes of text, or all there is.
    fn fill(&mut self, target: usize) -> Result<()> {
        while self.rest.len() < target && !self.at_end {
            let filled = self.rest.len();
            let decoder = &mut self.decoder;
            let read = self.rest.append(target.max(CHUNK), |room| decoder.read(room))?;
            self.at_end = read == 0;
            self.unify_line_ends(filled);
        }
        Ok(())
    }

    /// Turns `\r\n` and a lone `\r` into `\n`, from `from` on.
    fn unify_line_ends(&mut self, from: usize) {
        let text = &mut self.rest;
        if !self.after_return && memchr(b'\r', &text[from..]).is_none() {
            return;
        }
        let mut to = from;
        for at in from..text.len() {
            let byte = text[at];
            if byte == b'\n' && self.after_return {
                self.after_return = false;
                continue;
            }
            self.after_return = byte == b'\r';
            text[to] = if byte == b'\r' { b'\n' } else { byte };
            to += 1;
        }
        text.truncate(to);
    }

    /// FASTA or FASTQ, by the first character that is not a blank; nothing
    /// for a file of blanks only.
    fn kind(&mut self) -> Result<Option<Kind>> {
        loop {
            let kind = self.kind_so_far()?;
            if kind.is_some() || self.at_end {
                return Ok(kind);
            }
            self.fill(self.rest.len() + CHUNK)?;
        }
    }

    /// The same, by the text that was read so far.
    fn kind_so_far(&mut self) -> Result<Option<Kind>> {
        const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
        if let Content::Records(kind) = self.content {
            return Ok(Some(kind));
        }
        if self.content == Content::Unseen && self.rest.starts_with(BYTE_ORDER_MARK) {
            self.rest.remove_front(BYTE_ORDER_MARK.len());
        }
        self.drop_blanks();
        let kind = match self.rest.iter().find(|&byte| !BLANKS.contains(byte)) {
            Some(b'>') => Some(Kind::Fasta),
            Some(b'@') => Some(Kind::Fastq),
            Some(&other) => return Err(Error::input(&self.path, neither(other))),
            None => None,
        };
        self.content = kind.map_or(Content::Blank, Content::Records);
        Ok(kind)
    }

    /// Leaves out the blank lines that the file begins with: there may be more of them than
    /// fit into memory.
    fn drop_blanks(&mut self) {
        let blanks = self.rest.iter().position(|byte| !BLANKS.contains(byte));
        let blanks = blanks.unwrap_or(self.rest.len());
        let whole_lines = memrchr(b'\n', &self.rest[..blanks]).map_or(0, |end| end + 1);
        self.blank_lines += memchr_iter(b'\n', &self.rest[..whole_lines]).count() as u64;
        // Of the blanks before something else in its line, one says as much as all.
        self.rest.remove_front(whole_lines.max(blanks.saturating_sub(1)));
    }

    /// How much of the text can be parsed by itself; nothing if more must be
    /// read to tell.
    fn cut(&self, kind: Kind) -> Option<usize> {
        if self.at_end {
            return Some(self.rest.len());
        }
        match kind {
            Kind::Fastq => Some(fastq::whole_records(&self.rest)).filter(|&length| length > 0),
            Kind::Fasta => match memrchr(b'\n', &self.rest) {
                Some(last) => Some(last + 1),
                // A single line: letters may be cut anywhere, a header not.
                None if self.within_line || self.rest[0] != b'>' => Some(self.rest.len()),
                None => None,
            },
        }
    }
}

fn neither(first: u8) -> String {
    let first = char::from(first).escape_default();
    format!("begins with '{first}': neither FASTA (which begins with '>') nor FASTQ ('@')")
}

/// BGZF with blocks of the given size, for tests.
#[cfg(test)]
pub(super) fn bgzf(text: &[u8], block_len: usize) -> Vec<u8> {
    use std::io::Write;
    let mut file = Vec::new();
    for block in text.chunks(block_len).chain([&b""[..]]) {
        let mut encoder =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(block).unwrap();
        let deflated = encoder.finish().unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(block);
        file.extend(b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0");
        file.extend((deflated.len() as u16 + 25).to_le_bytes());
        file.extend(deflated);
        file.extend(crc.sum().to_le_bytes());
        file.extend((block.len() as u32).to_le_bytes());
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Cursor, Read};

    /// Gives what it holds in portions of the given size.
    struct Portions(Cursor<Vec<u8>>, usize);

    impl Read for Portions {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            let n = buf.len().min(self.1);
            self.0.read(&mut buf[..n])
        }
    }

    fn reader(text: &[u8], portion: usize) -> TextReader {
        let path = PathBuf::from("x.fa");
        let inner = Portions(Cursor::new(text.to_vec()), portion);
        TextReader::new(
            path.clone(),
            Decoder::from_reader(path, Box::new(inner)).unwrap(),
            TextPool::default(),
        )
    }

    /// Records of all chunks, joined.
    fn records(text: &[u8], portion: usize) -> Vec<(String, String)> {
        let mut reader = reader(text, portion);
        let mut records: Vec<(String, String)> = Vec::new();
        while let Some(chunk) = reader.next_chunk().unwrap() {
            let parsed = chunk.parse(Backend::Scalar);
            assert_eq!(parsed.mistake, None);
            for piece in parsed.pieces {
                if let Some(header) = piece.header {
                    records.push((header.id, String::new()));
                }
                let letters = std::str::from_utf8(&parsed.letters[piece.letters]).unwrap();
                records.last_mut().unwrap().1 += letters;
            }
        }
        records
    }

    fn expected() -> Vec<(String, String)> {
        vec![("a".into(), "ACGTACGT".into()), ("b".into(), "GG".into())]
    }

    #[test]
    fn line_ends_marks_and_blanks_are_read_as_meant() {
        for text in [
            ">a x\nACGT\nACGT\n>b\nGG\n",
            ">a x\r\nACGT\r\nACGT\r\n>b\r\nGG",
            ">a x\rACGT\rACGT\r>b\rGG\r",
            "\u{feff}>a x\nACGT\nACGT\n>b\nGG",
            "\n \n>a\tx\n\nAC GT\nAC\tGT\n\n>b\nG\n\nG\n\n",
            "@a\nACGTACGT\n+\n!!!!!!!!\n@b\nGG\n+\n!!\n\n",
            "@a\r\nACGTACGT\r\n+\r\n!!!!!!!!\r\n@b\r\nGG\r\n+\r\n!!",
        ] {
            for portion in [1, 2, 3, 1000] {
                assert_eq!(records(text.as_bytes(), portion), expected(), "{text:?}");
            }
        }
    }

    #[test]
    fn long_lines_and_headers_pass_chunk_ends() {
        let letters = "ACGT".repeat(CHUNK);
        let name = "n".repeat(3 * CHUNK);
        let text = format!(">{name} x\n{letters}\n>b\nA\n");
        let expected = vec![(name, letters), ("b".into(), "A".into())];
        assert_eq!(records(text.as_bytes(), CHUNK / 3), expected);
    }

    /// Reads a file by pieces, several runs of blocks ahead.
    fn chunks_of_pieces(mut reader: TextReader) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        let mut runs = std::collections::VecDeque::new();
        loop {
            let may_go_on = runs.is_empty() || reader.is_blocked();
            let piece = if may_go_on && runs.len() < 3 {
                reader.next_piece().unwrap()
            } else {
                let blocks: Blocks = runs.pop_front().unwrap();
                reader.take_text(&blocks.inflate(TextBuffer::default()).unwrap()).unwrap()
            };
            match piece {
                Piece::Chunk(chunk) => chunks.push(chunk),
                Piece::Blocks(blocks) => runs.push_back(blocks),
                Piece::Nothing => {}
                Piece::End => return chunks,
            }
            assert!(reader.rest.len() <= 3 * CHUNK);
        }
    }

    #[test]
    fn blocks_give_the_text_of_the_file() {
        let lines = |newline: &str| {
            let mut text = String::from("\u{feff}");
            for i in 0..3000_usize {
                text.extend([">r", &i.to_string(), " x", newline]);
                for width in [i % 91, 1700] {
                    text.extend("GATTACA".chars().cycle().skip(i).take(width));
                    text += newline;
                }
            }
            text
        };
        for newline in ["\n", "\r\n", "\r"] {
            for block_len in [700, 65_280] {
                let text = lines(newline);
                let file = bgzf(text.as_bytes(), block_len);
                let chunks = chunks_of_pieces(reader(&file, 1 << 20));
                assert!(chunks.len() > 3);
                let joined: Vec<u8> =
                    chunks.into_iter().flat_map(|chunk| chunk.text.to_vec()).collect();
                let expected = lines("\n").trim_start_matches('\u{feff}').to_owned();
                assert!(joined == expected.as_bytes(), "{newline:?} {block_len}");
            }
        }
    }

    #[test]
    fn other_text_is_refused_and_blanks_are_empty() {
        let error = reader(b"id,length\n", 100).next_chunk().unwrap_err().to_string();
        assert!(error.starts_with("x.fa: begins with 'i': neither FASTA"), "{error}");
        for text in [&b""[..], b"\n \r\n\t\n"] {
            let mut reader = reader(text, 1);
            assert!(reader.next_chunk().unwrap().is_none());
            assert!(reader.was_empty());
        }
        let error = reader(b"\n\x0c>a\nA\n", 100).next_chunk().unwrap_err().to_string();
        assert!(error.contains("begins with '\\u{c}'"), "{error}");
        assert!(reader(b"\n\xef\xbb\xbf>a\nA\n", 100).next_chunk().is_err());
    }

    #[test]
    fn blanks_take_no_memory_and_their_lines_count() {
        let blanks = [" \n".repeat(2 * CHUNK), "\n".repeat(3), " ".repeat(3 * CHUNK)].concat();
        let n_lines = 2 * CHUNK as u64 + 3;
        for (records, mistake) in
            [("\n>a\nACGT\nAE\n", 3), ("\n@a\nAC\n+\n!!\n@b\nAE\n+\n!!\n", 6), (">a\nA\n", 0)]
        {
            let text = [&blanks, records].concat();
            for file in [text.as_bytes().to_vec(), bgzf(text.as_bytes(), 65_280)] {
                let chunk = chunks_of_pieces(reader(&file, CHUNK)).swap_remove(0);
                assert!(chunk.text.len() <= 50);
                let parsed = chunk.parse(Backend::Scalar);
                assert_eq!(parsed.mistake.map(|mistake| mistake.line), Some(n_lines + mistake));
            }
        }
    }

    #[test]
    fn blanks_between_fastq_records_are_passed_on() {
        let blanks = " \n".repeat(3 * CHUNK);
        let text = ["@a\nAC\n+\n!!\n", &blanks, "@b\nAE\n+\n!!\n"].concat();
        let mut reader = reader(text.as_bytes(), CHUNK);
        let (mut lines, mut mistakes) = (0, Vec::new());
        while let Some(chunk) = reader.next_chunk().unwrap() {
            assert!(chunk.text.len() <= 2 * CHUNK);
            let parsed = chunk.parse(Backend::Scalar);
            mistakes.extend(parsed.mistake.map(|mistake| lines + mistake.line));
            lines += parsed.lines;
        }
        assert_eq!(mistakes, [3 * CHUNK as u64 + 5]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn chunk_ends_do_not_matter(
            lengths in proptest::collection::vec(0usize..5000, 1..300),
            width in 1usize..200,
            portion in 1000usize..100_000,
        ) {
            let mut text = String::new();
            let mut expected = Vec::new();
            for (i, length) in lengths.into_iter().enumerate() {
                let letters: String = "GATTACA".chars().cycle().skip(i).take(length).collect();
                text.push_str(&[">r", &i.to_string(), " x\n"].concat());
                for line in letters.as_bytes().chunks(width) {
                    text += std::str::from_utf8(line).unwrap();
                    text += "\n";
                }
                expected.push((format!("r{i}"), letters));
            }
            prop_assert_eq!(records(text.as_bytes(), portion), expected);
        }
    }
}
