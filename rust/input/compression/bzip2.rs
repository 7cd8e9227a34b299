//! bzip2.

use bzip2::{Decompress, Status};

use super::Fault;
use super::members::{Codec, Step};

/// Decodes bzip2 streams.
pub(super) struct Bzip2(Decompress);

impl Bzip2 {
    pub(super) fn new() -> Self {
        Self(Decompress::new(false))
    }
}

impl Codec for Bzip2 {
    fn restart(&mut self) -> Result<(), Fault> {
        self.0 = Decompress::new(false);
        Ok(())
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Fault> {
        let (total_in, total_out) = (self.0.total_in(), self.0.total_out());
        let status = self
            .0
            .decompress(input, output)
            .map_err(|_| Fault::Corrupt("a CRC differs or a block makes no sense".into()))?;
        if status == Status::MemNeeded {
            return Err(Fault::Unsupported("not enough memory".into()));
        }
        Ok(Step {
            consumed: (self.0.total_in() - total_in) as usize,
            produced: (self.0.total_out() - total_out) as usize,
            ended: status == Status::StreamEnd,
        })
    }
}
