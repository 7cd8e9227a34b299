//! Blocked gzip, read so that its blocks can be inflated anywhere.
//!
//! A BGZF member states its compressed size in its header and its inflated
//! size in its trailer, so a file can be cut into runs of members without
//! looking into them.

use std::path::{Path, PathBuf};

use super::buffer::InputBuffer;
use super::gzip::{BGZF_END_LEN, BGZF_HEADER_LEN, Gzip, bgzf_member_len};
use super::members::Codec;
use super::{Fault, Format};
use crate::error::Error;
use crate::input::text_buffer::TextBuffer;

/// Text in a run of blocks.
const RUN_TEXT: usize = 1 << 20;

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
    /// If a block is corrupt.
    pub fn inflate(self, mut text: TextBuffer) -> Result<TextBuffer, Error> {
        // The spare byte lets the decoder see that a block has ended.
        text.append(text.len() + self.text_len + 1, |room| inflate(&self.bytes, room))
            .map(|_| text)
            .map_err(|fault| fault.into_error(&self.path, Format::Bgzf))
    }
}

/// Size and text length of the block that `input` goes on with; it is in the
/// buffer then. The last block of a file is left to the decoder, which warns
/// where it is missing.
fn next_block(input: &mut InputBuffer) -> Result<Option<(usize, usize)>, Fault> {
    let Some(len) = bgzf_member_len(input.peek(BGZF_HEADER_LEN)?) else {
        return Ok(None);
    };
    // One byte more tells whether the file goes on.
    let wanted = len as usize + usize::from(len == BGZF_END_LEN);
    let block = input.peek(wanted)?;
    if block.len() < wanted {
        return Ok(None);
    }
    let Some(&text_len) = block[..len as usize].last_chunk::<4>() else {
        return Ok(None);
    };
    let text_len = u32::from_le_bytes(text_len) as usize;
    Ok((text_len <= BLOCK_TEXT_MAX).then_some((len as usize, text_len)))
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
