//! xz.

use std::io::{self, ErrorKind};

use lzma_rust2::{Action, Status, XzStream};

use super::Fault;
use super::members::{Codec, Step};

/// Memory a stream may ask for, in KiB. `xz -9` needs 64 MiB; a forged header
/// can ask for 4 GiB.
const MEMORY_LIMIT_KIB: u32 = 1024 * 1024;

/// Decodes xz streams.
pub(super) struct Xz(XzStream);

impl Xz {
    pub(super) fn new() -> Self {
        Self(XzStream::new_mem_limit(false, MEMORY_LIMIT_KIB))
    }
}

impl Codec for Xz {
    fn restart(&mut self) -> Result<(), Fault> {
        *self = Self::new();
        Ok(())
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Fault> {
        // Never `Action::Finish`: that the file has ended is noticed by the
        // caller, for all formats alike.
        let result = self.0.process(input, output, Action::Run).map_err(|error| fault(&error))?;
        Ok(Step {
            consumed: result.bytes_consumed,
            produced: result.bytes_produced,
            ended: result.status == Status::StreamEnd,
        })
    }

    fn padding_unit(&self) -> Option<u64> {
        Some(4)
    }
}

fn fault(error: &io::Error) -> Fault {
    let what = error.to_string();
    match error.kind() {
        ErrorKind::OutOfMemory => Fault::Unsupported("its dictionary is above 1 GiB".into()),
        ErrorKind::Unsupported => Fault::Unsupported(what),
        // A chain of filters is said to be invalid data.
        _ if what.contains("not supported") => Fault::Unsupported(what),
        _ => Fault::Corrupt(what),
    }
}
