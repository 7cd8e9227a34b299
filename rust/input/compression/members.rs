//! A compressed file as a row of members.
//!
//! gzip calls its self-contained parts members, bzip2 and xz streams, zstd
//! frames. All of them may follow each other in one file, and the text is that
//! of all parts together.

use super::buffer::InputBuffer;
use super::signature::LONGEST_MAGIC;
use super::{Fault, Format};

/// What one call of [`Codec::step`] did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Step {
    /// Bytes used of the input.
    pub(super) consumed: usize,
    /// Bytes written to the output.
    pub(super) produced: usize,
    /// Whether the member is over, its checksums verified.
    pub(super) ended: bool,
}

/// The decoder of one member at a time.
pub(super) trait Codec: Send {
    /// Gets ready for the first byte of a member.
    fn restart(&mut self) -> Result<(), Fault>;

    /// Decodes from `input` to `output` as far as either reaches. A step that
    /// neither consumes nor produces asks for more input than there is.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Fault>;

    /// Zero bytes may follow a member in multiples of this.
    fn padding_unit(&self) -> Option<u64> {
        None
    }

    /// What to warn of when the file ends here.
    fn warning_at_end(&self) -> Option<&'static str> {
        None
    }
}

/// The members of a file, read one after another.
pub(super) struct Members {
    format: Format,
    codec: Box<dyn Codec>,
    place: Place,
    warning: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Inside,
    Between,
    End,
}

impl Members {
    pub(super) fn new(format: Format, codec: Box<dyn Codec>) -> Self {
        Self { format, codec, place: Place::Start, warning: None }
    }

    /// Whether the last member was read to its end and no other was entered.
    pub(super) fn is_between(&self) -> bool {
        self.place == Place::Between
    }

    /// Takes note that the members up to here were read by someone else.
    pub(super) fn pass_over(&mut self) -> Result<(), Fault> {
        self.codec.restart()
    }

    pub(super) fn take_warning(&mut self) -> Option<&'static str> {
        self.warning.take()
    }

    /// Decodes into `output` until it is full or `input` has to be waited for;
    /// 0 is the end of the file.
    pub(super) fn read(
        &mut self,
        input: &mut InputBuffer,
        output: &mut [u8],
    ) -> Result<usize, Fault> {
        let mut filled = 0;
        while filled < output.len() && self.place != Place::End {
            if self.place != Place::Inside {
                self.enter_next(input)?;
                continue;
            }
            filled += self.read_member(input, &mut output[filled..])?;
            if self.place == Place::Inside {
                break;
            }
        }
        Ok(filled)
    }

    /// Like [`Self::read`], but stops at the end of the member at hand; 0 is
    /// that end.
    pub(super) fn read_member(
        &mut self,
        input: &mut InputBuffer,
        output: &mut [u8],
    ) -> Result<usize, Fault> {
        let mut filled = 0;
        while filled < output.len() && self.place == Place::Inside {
            let step = self.codec.step(input.buffered(), &mut output[filled..])?;
            input.consume(step.consumed);
            filled += step.produced;
            if step.ended {
                self.place = Place::Between;
            } else if step.consumed == 0 && step.produced == 0 {
                if filled > 0 {
                    break;
                }
                if input.fill()? == 0 {
                    return Err(Fault::Truncated);
                }
            }
        }
        Ok(filled)
    }

    /// Moves to the next member or to the end of the file.
    fn enter_next(&mut self, input: &mut InputBuffer) -> Result<(), Fault> {
        let padded_evenly = self.skip_padding(input)?;
        let head = input.peek(LONGEST_MAGIC)?;
        match head {
            [] if padded_evenly => {
                self.warning = self.codec.warning_at_end();
                self.place = Place::End;
                Ok(())
            }
            _ if padded_evenly && self.format.goes_on_with(head) => {
                self.place = Place::Inside;
                self.codec.restart()
            }
            [] => Err(Fault::Truncated),
            _ if padded_evenly && self.format.is_cut_magic(head) => Err(Fault::Truncated),
            _ => Err(Fault::Trailing(input.consumed())),
        }
    }

    /// Skips the zero bytes that may follow a member and says whether their
    /// number is one that the format allows.
    fn skip_padding(&self, input: &mut InputBuffer) -> Result<bool, Fault> {
        let Some(unit) = self.codec.padding_unit() else {
            return Ok(true);
        };
        if self.place == Place::Start {
            return Ok(true);
        }
        let from = input.consumed();
        while input.peek(1)? == [0] {
            let buffered = input.buffered();
            let zeros = buffered.iter().position(|&byte| byte != 0);
            input.consume(zeros.unwrap_or(buffered.len()));
        }
        Ok((input.consumed() - from).is_multiple_of(unit))
    }
}
