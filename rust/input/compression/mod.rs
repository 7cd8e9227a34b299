//! The text of a file, whatever it was compressed with.
//!
//! [`Decoder`] tells the format by the first bytes, never by the name, reads
//! the file to its very end and checks every checksum on the way. One file of
//! this folder knows one format; `members` strings the parts of a file
//! together.

mod bgzf;
mod buffer;
mod bzip2;
mod gzip;
mod members;
mod signature;
mod xz;
mod zstd;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, printable};
use crate::input::boundary::Place;
use crate::input::discover::Source;
use crate::input::stop::{StopFlag, StoppableFile};
use crate::platform::{open, open_stdin};

use bgzf::BlockedPart;
pub use bgzf::{Block, Blocks};
use buffer::InputBuffer;
use members::{Codec, Members};

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Not at all.
    Plain,
    /// gzip, of any number of members.
    Gzip,
    /// Blocked gzip: members of at most 64 KiB that state their size.
    Bgzf,
    /// bzip2, of any number of streams.
    Bzip2,
    /// xz, of any number of streams.
    Xz,
    /// Zstandard, of any number of frames.
    Zstd,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Bgzf => "BGZF",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        })
    }
}

/// Why a file cannot be decoded. [`Decoder`] adds the path and the format.
#[derive(Debug)]
enum Fault {
    /// The operating system refused to read on.
    Read(io::Error),
    /// The file ends too early.
    Truncated,
    /// A checksum, a size or the coding is wrong.
    Corrupt(String),
    /// Bytes that belong to nothing, from this offset on.
    Trailing(u64),
    /// Sound data of a kind that is not decoded here.
    Unsupported(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl Fault {
    fn into_error(self, path: &Path, format: Format) -> Error {
        let message = match self {
            Self::Read(error) => return Error::io(path, error),
            Self::Truncated => {
                format!("the {format} data is truncated: copy or download the file again")
            }
            Self::Corrupt(what) => {
                format!("the {format} data is corrupt ({what}): copy or download the file again")
            }
            Self::Trailing(offset) => format!(
                "trailing bytes after the compressed data, from byte {offset} on: remove them \
                 or copy the file again"
            ),
            Self::Unsupported(what) => {
                format!("the {format} data cannot be read here ({what}): decompress it first")
            }
        };
        Error::input(path, message)
    }
}

/// Bytes that stand for a part of a file: some to begin with, a range of the file's own, and
/// some to end with. The first and the last ones are blocks that only a part of is meant.
///
/// # Errors
/// If the file cannot be read.
pub fn bytes_of_part(path: &Path, range: &Range<Place>) -> Result<(Vec<u8>, Range<u64>, Vec<u8>)> {
    let part = open(path).and_then(|mut file| BlockedPart::of(&mut file, range));
    let part = part.map_err(|error| Error::io(path, error))?;
    Ok((part.before, part.whole, part.after))
}

/// Reads a file as text, decompressing it on the way.
pub struct Decoder {
    path: PathBuf,
    format: Format,
    input: InputBuffer,
    /// `None` for a plain file.
    members: Option<Members>,
    may_have_blocks: bool,
    /// The decompressed bytes that were needed to judge the content.
    head: Cursor<Vec<u8>>,
}

impl Decoder {
    /// Opens `source` and reads as much as it takes to tell what it holds.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the file cannot be opened or read, and the errors of
    /// [`Decoder::from_reader`]. Once `stop` is set, every read fails.
    pub fn open(source: &Source, stop: &StopFlag) -> Result<Self> {
        let file = if source.path.as_os_str() == "-" { open_stdin() } else { open(&source.path) };
        let mut file = file.map_err(|error| Error::io(&source.path, error))?;
        let Some(range) = &source.range else {
            let file = StoppableFile::new(file, stop.clone());
            return Self::from_reader(source.path.clone(), Box::new(file));
        };
        let part = match BlockedPart::of(&mut file, range) {
            Ok(part) => part,
            Err(error) => return Err(Error::io(&source.path, error)),
        };
        file.seek(SeekFrom::Start(part.whole.start))
            .map_err(|error| Error::io(&source.path, error))?;
        let length = part.whole.end - part.whole.start;
        let whole = StoppableFile::new(file, stop.clone()).take(length);
        let inner = Cursor::new(part.before).chain(whole).chain(Cursor::new(part.after));
        Self::from_reader(source.path.clone(), Box::new(inner))
    }

    /// Decodes what `inner` yields; `path` is for messages.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when the content is compressed twice, is an archive or
    /// another kind of file that holds no sequence text, or is damaged close
    /// to its start; [`Error::Io`] when `inner` fails.
    pub fn from_reader(path: PathBuf, inner: Box<dyn Read + Send>) -> Result<Self> {
        let mut input = InputBuffer::new(inner);
        let (format, codec) = detect(&mut input)
            .and_then(|format| Ok((format, codec(format)?)))
            .map_err(|error| Error::io(&path, error))?;
        let mut decoder = Self {
            path,
            format,
            input,
            members: codec.map(|codec| Members::new(format, codec)),
            may_have_blocks: format == Format::Bgzf,
            head: Cursor::default(),
        };
        match decoder.judge_content() {
            Ok(None) => Ok(decoder),
            Ok(Some(complaint)) => Err(Error::input(decoder.path, complaint)),
            Err(fault) => Err(fault.into_error(&decoder.path, format)),
        }
    }

    /// How the file is compressed.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes of the file used so far, for progress.
    pub fn compressed_bytes(&self) -> u64 {
        self.input.consumed()
    }

    /// Takes the warnings that came up since the last call: one line each,
    /// naming the file.
    pub fn take_warnings(&mut self) -> Vec<String> {
        let warning = self.members.as_mut().and_then(Members::take_warning);
        warning.map(|warning| format!("{}: {warning}", printable(&self.path))).into_iter().collect()
    }

    /// Reads text into `buf` and returns how many bytes; 0 is the end of a
    /// file that was sound to its last byte (or an empty `buf`). A large `buf`
    /// (256 KiB and up) is filled without another copy.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when the compressed data is truncated, corrupt or
    /// followed by other bytes, [`Error::Io`] when the file cannot be read on.
    /// An error is final: what later calls return is unspecified.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let count = self.head.read(buf).map_err(|error| Error::io(&self.path, error))?;
        if count > 0 {
            return Ok(count);
        }
        self.decode(buf).map_err(|fault| fault.into_error(&self.path, self.format))
    }

    /// Like [`Decoder::read`], but stops at the end of the member at hand; 0 is
    /// that end.
    ///
    /// # Errors
    ///
    /// Those of [`Decoder::read`].
    pub fn read_member(&mut self, buf: &mut [u8]) -> Result<usize> {
        let count = self.head.read(buf).map_err(|error| Error::io(&self.path, error))?;
        match &mut self.members {
            Some(members) if count == 0 => members
                .read_member(&mut self.input, buf)
                .map_err(|fault| fault.into_error(&self.path, self.format)),
            _ => Ok(count),
        }
    }

    /// Whether the file is BGZF, and blocks are all that was seen of it so far.
    pub fn may_have_blocks(&self) -> bool {
        self.may_have_blocks
    }

    /// The next blocks of a BGZF file, to be inflated elsewhere. `None` where
    /// [`Decoder::read`] has to go on: within a member, at the end of the file,
    /// and where other members than blocks follow.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the file cannot be read on.
    pub fn take_blocks(&mut self) -> Result<Option<Blocks>> {
        let Some(members) = self.members.as_mut().filter(|members| members.is_between()) else {
            self.may_have_blocks = false;
            return Ok(None);
        };
        let blocks = Blocks::take(&self.path, &mut self.input).and_then(|blocks| {
            if blocks.is_some() {
                members.pass_over()?;
            }
            Ok(blocks)
        });
        let blocks = blocks.map_err(|fault| fault.into_error(&self.path, self.format))?;
        self.may_have_blocks = blocks.is_some();
        Ok(blocks)
    }

    fn decode(&mut self, buf: &mut [u8]) -> std::result::Result<usize, Fault> {
        match &mut self.members {
            Some(members) => members.read(&mut self.input, buf),
            None => Ok(self.input.read(buf)?),
        }
    }

    /// Looks at the start of the content and says what is wrong with it.
    fn judge_content(&mut self) -> std::result::Result<Option<String>, Fault> {
        if self.format == Format::Plain {
            let head = self.input.peek(signature::HEAD_LEN)?;
            return Ok(signature::foreign(head));
        }
        let head = self.decode_head()?;
        let inner = Format::detect(&head);
        let complaint = if inner == Format::Plain {
            signature::foreign(&head)
        } else {
            Some(format!(
                "the data is compressed twice ({inner} inside {}): decompress it once",
                self.format
            ))
        };
        self.head = Cursor::new(head);
        Ok(complaint)
    }

    fn decode_head(&mut self) -> std::result::Result<Vec<u8>, Fault> {
        let mut head = vec![0; signature::HEAD_LEN];
        let mut len = 0;
        while len < head.len() {
            match self.decode(&mut head[len..])? {
                0 => break,
                count => len += count,
            }
        }
        head.truncate(len);
        Ok(head)
    }
}

fn detect(input: &mut InputBuffer) -> io::Result<Format> {
    match Format::detect(input.peek(signature::LONGEST_MAGIC)?) {
        Format::Gzip if gzip::is_bgzf(input.peek(gzip::BGZF_HEADER_LEN)?) => Ok(Format::Bgzf),
        format => Ok(format),
    }
}

fn codec(format: Format) -> io::Result<Option<Box<dyn Codec>>> {
    Ok(match format {
        Format::Plain => None,
        Format::Gzip | Format::Bgzf => Some(Box::new(gzip::Gzip::new())),
        Format::Bzip2 => Some(Box::new(bzip2::Bzip2::new())),
        Format::Xz => Some(Box::new(xz::Xz::new())),
        Format::Zstd => Some(Box::new(zstd::Zstd::new()?)),
    })
}
