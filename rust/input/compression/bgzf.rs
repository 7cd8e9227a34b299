//! Blocked gzip, read so that its blocks can be inflated anywhere.
//!
//! A BGZF member states its compressed size in its header and its inflated
//! size in its trailer, so a file can be cut into runs of members without
//! looking into them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use flate2::Crc;
use memchr::memchr_iter;

use super::buffer::InputBuffer;
use super::gzip::{BGZF_END_LEN, BGZF_HEADER_LEN, Gzip, bgzf_member_len};
use super::members::Codec;
use super::{Fault, Format};
use crate::error::Error;
use crate::input::boundary::Place;
use crate::input::text_buffer::TextBuffer;

/// Text in a run of blocks.
const RUN_TEXT: usize = if cfg!(fuzzing) { 1 << 10 } else { 1 << 20 };

/// The most text in a block. Others are left to the decoder, which does not
/// believe what a block states.
const BLOCK_TEXT_MAX: usize = 1 << 16;

/// Whole members of a BGZF file, in order, still compressed.
#[derive(Debug)]
pub struct Blocks {
    path: PathBuf,
    bytes: Vec<u8>,
    text_len: usize,
}

impl Blocks {
    /// Takes the whole blocks at hand from `input`, which is at the start of a
    /// member. `None` where there is anything else: the end of the file, its
    /// end-of-file block, a block that is cut off, an ordinary gzip member.
    pub(super) fn take(path: &Path, input: &mut InputBuffer) -> Result<Option<Self>, Fault> {
        let mut blocks = Self { path: path.to_owned(), bytes: Vec::new(), text_len: 0 };
        while blocks.text_len < RUN_TEXT && blocks.bytes.len() < RUN_TEXT {
            let Some((len, text_len)) = next_block(input)? else {
                break;
            };
            blocks.bytes.extend_from_slice(&input.buffered()[..len]);
            blocks.text_len += text_len;
            input.consume(len);
        }
        Ok((!blocks.bytes.is_empty()).then_some(blocks))
    }

    /// Appends their text to `text`.
    ///
    /// # Errors
    /// If a block is corrupt, or there is no memory.
    pub fn inflate(self, mut text: TextBuffer) -> Result<TextBuffer, Error> {
        // The spare byte lets the decoder see that a block has ended.
        text.append(text.len() + self.text_len + 1, |room| {
            inflate(&self.bytes, room).map_err(|fault| fault.into_error(&self.path, Format::Bgzf))
        })
        .map(|_| text)
    }
}

/// Size and text length of the block that `input` goes on with; it is in the
/// buffer then. The last block of a file is left to the decoder, which warns
/// where it is missing.
fn next_block(input: &mut InputBuffer) -> Result<Option<(usize, usize)>, Fault> {
    let Some(len) = bgzf_member_len(input.peek(BGZF_HEADER_LEN)?) else {
        return Ok(None);
    };
    // One byte more tells whether the file goes on; zeros may pad it.
    let is_last = len == BGZF_END_LEN;
    let wanted = len as usize + usize::from(is_last);
    let block = input.peek(wanted)?;
    if block.len() < wanted || (is_last && block[len as usize] == 0) {
        return Ok(None);
    }
    let Some(&text_len) = block[..len as usize].last_chunk::<4>() else {
        return Ok(None);
    };
    let text_len = u32::from_le_bytes(text_len) as usize;
    Ok((text_len <= BLOCK_TEXT_MAX).then_some((len as usize, text_len)))
}

/// A block, and its text.
#[derive(Debug)]
pub struct Block {
    /// Where it begins in the file.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// Its text.
    pub text: Vec<u8>,
}

impl Block {
    /// The block that begins at `start`; nothing where there is none, or none
    /// that is whole.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(file: &mut File, start: u64) -> io::Result<Option<Self>> {
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(BGZF_HEADER_LEN as u64).read_to_end(&mut bytes)?;
        let Some(length) = bgzf_member_len(&bytes) else {
            return Ok(None);
        };
        file.take(length.saturating_sub(BGZF_HEADER_LEN as u64)).read_to_end(&mut bytes)?;
        let text_len = bytes.last_chunk().map_or(0, |&length| u32::from_le_bytes(length) as usize);
        if bytes.len() as u64 != length || text_len > BLOCK_TEXT_MAX {
            return Ok(None);
        }
        // The spare byte lets the decoder see that a block has ended.
        let mut text = vec![0; text_len + 1];
        Ok(inflate(&bytes, &mut text).ok().map(|count| {
            text.truncate(count);
            Self { start, end: start + length, text }
        }))
    }

    /// The first block that begins at `from` or later.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn find(file: &mut File, from: u64) -> io::Result<Option<Self>> {
        let mut at = from;
        let mut bytes = Vec::new();
        loop {
            file.seek(SeekFrom::Start(at))?;
            bytes.clear();
            file.take(RUN_TEXT as u64).read_to_end(&mut bytes)?;
            if bytes.len() < BGZF_HEADER_LEN {
                return Ok(None);
            }
            for i in memchr_iter(0x1f, &bytes) {
                // What only looks like a block cannot be inflated.
                if bgzf_member_len(&bytes[i..]).is_some()
                    && let Some(block) = Self::read(file, at + i as u64)?
                {
                    return Ok(Some(block));
                }
            }
            // A header may be cut by the end.
            at += (bytes.len() + 1 - BGZF_HEADER_LEN) as u64;
        }
    }
}

/// A part of a file as what stands for it: whole bytes of the file, and of
/// blocks that are divided, other blocks with some of their text.
///
/// Of a file that is not BGZF, it is nothing but the bytes.
#[derive(Debug)]
pub(super) struct BlockedPart {
    pub(super) before: Vec<u8>,
    pub(super) whole: Range<u64>,
    pub(super) after: Vec<u8>,
}

impl BlockedPart {
    pub(super) fn of(file: &mut File, part: &Range<Place>) -> io::Result<Self> {
        let (start, end) = (part.start, part.end);
        let mut head = Vec::new();
        file.seek(SeekFrom::Start(start.byte))?;
        file.take(BGZF_HEADER_LEN as u64).read_to_end(&mut head)?;
        let mut found = Self { before: Vec::new(), whole: start.byte..end.byte, after: Vec::new() };
        if bgzf_member_len(&head).is_none() {
            return Ok(found);
        }
        if start.within > 0 {
            let block = divided(file, start)?;
            let is_all = start.byte == end.byte;
            let upto = if is_all { end.within } else { block.text.len() };
            write_blocks(&block.text[start.within..upto], &mut found.before);
            found.whole = block.end..end.byte.max(block.end);
        }
        if end.within > 0 && (start.byte < end.byte || start.within == 0) {
            let block = divided(file, end)?;
            write_blocks(&block.text[..end.within], &mut found.after);
        }
        // All but the last part of a file lack its end.
        if end.byte < file.metadata()?.len() {
            write_block(b"", &mut found.after);
        }
        Ok(found)
    }
}

/// The block that a place is in.
fn divided(file: &mut File, place: Place) -> io::Result<Block> {
    let block = Block::read(file, place.byte)?.filter(|block| place.within <= block.text.len());
    let message = "the file was changed while it was read";
    block.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, message))
}

fn write_blocks(text: &[u8], out: &mut Vec<u8>) {
    text.chunks(BLOCK_TEXT_MAX / 2).for_each(|text| write_block(text, out));
}

/// Appends a block whose text is not compressed. Without text, it is one that
/// ends a file.
fn write_block(text: &[u8], out: &mut Vec<u8>) {
    let mut crc = Crc::new();
    crc.update(text);
    let mut data = vec![3, 0];
    if !text.is_empty() {
        // One stored piece, the last: its length, and that once more inverted.
        let length = text.len() as u16;
        data = [&[1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), text].concat();
    }
    out.extend_from_slice(b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0");
    let length = BGZF_HEADER_LEN + data.len() + 8;
    out.extend_from_slice(&(length as u16 - 1).to_le_bytes());
    out.extend_from_slice(&data);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
}

fn inflate(mut bytes: &[u8], text: &mut [u8]) -> Result<usize, Fault> {
    let mut codec = Gzip::new();
    let mut filled = 0;
    while !bytes.is_empty() {
        codec.restart()?;
        loop {
            let step = codec.step(bytes, &mut text[filled..])?;
            bytes = &bytes[step.consumed..];
            filled += step.produced;
            if step.ended {
                break;
            }
            if step.consumed == 0 && step.produced == 0 {
                return Err(Fault::Corrupt("a block states another size".into()));
            }
        }
    }
    Ok(filled)
}
