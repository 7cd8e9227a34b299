//! Zstandard.

use std::io;

use zstd::stream::raw::{Decoder, Operation};

use super::Fault;
use super::members::{Codec, Step};

/// Decodes zstd frames; skippable ones come out empty.
pub(super) struct Zstd(Decoder<'static>);

impl Zstd {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Decoder::new()?))
    }
}

impl Codec for Zstd {
    fn restart(&mut self) -> Result<(), Fault> {
        Ok(self.0.reinit()?)
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Fault> {
        let status =
            self.0.run_on_buffers(input, output).map_err(|error| fault(&error.to_string()))?;
        Ok(Step {
            consumed: status.bytes_read,
            produced: status.bytes_written,
            ended: status.remaining == 0,
        })
    }
}

/// zstd names its errors; the crate passes on nothing else.
fn fault(name: &str) -> Fault {
    match name {
        "Frame requires too much memory for decoding" => {
            Fault::Unsupported("its window is above 128 MiB, as zstd --long writes it".into())
        }
        "Allocation error : not enough memory" => Fault::Read(io::ErrorKind::OutOfMemory.into()),
        "Dictionary mismatch" => Fault::Unsupported("it needs a dictionary".into()),
        _ => Fault::Corrupt(name.to_owned()),
    }
}
