//! gzip (RFC 1952) and its blocked form, BGZF.

use flate2::{Crc, Decompress, FlushDecompress, Status};
use memchr::memchr;

use super::Fault;
use super::members::{Codec, Step};

/// Bytes of a BGZF member before its data.
pub(super) const BGZF_HEADER_LEN: usize = 18;

/// Bytes of a header before the optional fields.
const FIXED_LEN: usize = 10;
/// CRC-32 and size of the text.
const TRAILER_LEN: usize = 8;
/// The extra field is at most 64 KiB; nobody needs as much for names.
const HEADER_LEN_MAX: usize = 128 * 1024;
/// Size of the member without data that ends a BGZF file.
pub(super) const BGZF_END_LEN: u64 = 28;

const DEFLATE: u8 = 8;

const FLAG_HEADER_CRC: u8 = 1 << 1;
const FLAG_EXTRA: u8 = 1 << 2;
const FLAG_NAME: u8 = 1 << 3;
const FLAG_COMMENT: u8 = 1 << 4;
const FLAGS_RESERVED: u8 = 0b1110_0000;

/// Whether `header` begins a BGZF member: one whose first extra subfield, BC,
/// holds the member's size.
pub(super) fn is_bgzf(header: &[u8]) -> bool {
    bgzf_member_len(header).is_some()
}

/// The size that a BGZF member states.
pub(super) fn bgzf_member_len(header: &[u8]) -> Option<u64> {
    match header.first_chunk::<BGZF_HEADER_LEN>()? {
        [0x1f, 0x8b, DEFLATE, flags, _, _, _, _, _, _, len, 0, b'B', b'C', 2, 0, low, high]
            if flags & FLAG_EXTRA != 0 && *len >= 6 =>
        {
            Some(u64::from(u16::from_le_bytes([*low, *high])) + 1)
        }
        _ => None,
    }
}

/// Length of the header that `bytes` begin with; `None` when they end before
/// it does.
fn header_len(bytes: &[u8], flags: u8) -> Option<usize> {
    let mut len = FIXED_LEN;
    if flags & FLAG_EXTRA != 0 {
        let size = bytes.get(len..)?.first_chunk::<2>()?;
        len += 2 + usize::from(u16::from_le_bytes(*size));
    }
    for text in [FLAG_NAME, FLAG_COMMENT] {
        if flags & text != 0 {
            len += memchr(0, bytes.get(len..)?)? + 1;
        }
    }
    if flags & FLAG_HEADER_CRC != 0 {
        len += 2;
    }
    (len <= bytes.len()).then_some(len)
}

/// The header that `input` begins with; `None` when more input is needed.
fn complete_header(input: &[u8]) -> Result<Option<&[u8]>, Fault> {
    let Some(&[_, _, method, flags]) = input.first_chunk() else {
        return Ok(None);
    };
    if method != DEFLATE || flags & FLAGS_RESERVED != 0 {
        return Err(Fault::Corrupt("unknown method or flag in a header".into()));
    }
    let Some(len) = header_len(input, flags) else {
        return if input.len() < HEADER_LEN_MAX {
            Ok(None)
        } else {
            Err(Fault::Corrupt("a header without end".into()))
        };
    };
    let header = &input[..len];
    if flags & FLAG_HEADER_CRC != 0 {
        verify_header(header)?;
    }
    Ok(Some(header))
}

/// Compares the header's last two bytes with the CRC of those before.
fn verify_header(header: &[u8]) -> Result<(), Fault> {
    let Some((covered, stored)) = header.split_last_chunk::<2>() else {
        return Err(Fault::Truncated);
    };
    let mut crc = Crc::new();
    crc.update(covered);
    if crc.sum() as u16 == u16::from_le_bytes(*stored) {
        Ok(())
    } else {
        Err(Fault::Corrupt("the CRC of a header differs".into()))
    }
}

/// Decodes gzip members.
pub(super) struct Gzip {
    inflate: Decompress,
    crc: Crc,
    part: Part,
    /// Bytes of the current member used so far.
    member_len: u64,
    /// The size that the current member states, if it is a BGZF block.
    stated_len: Option<u64>,
    /// Whether the first member was a BGZF block, as then all should be.
    blocked: Option<bool>,
}

#[derive(Clone, Copy)]
enum Part {
    Header,
    Data,
    Trailer,
}

impl Gzip {
    pub(super) fn new() -> Self {
        Self {
            inflate: Decompress::new(false),
            crc: Crc::new(),
            part: Part::Header,
            member_len: 0,
            stated_len: None,
            blocked: None,
        }
    }

    fn read_header(&mut self, input: &[u8]) -> Result<Step, Fault> {
        let Some(header) = complete_header(input)? else {
            return Ok(Step::default());
        };
        self.stated_len = bgzf_member_len(header);
        self.blocked.get_or_insert(self.stated_len.is_some());
        self.part = Part::Data;
        Ok(Step { consumed: header.len(), ..Step::default() })
    }

    fn inflate(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Fault> {
        let (total_in, total_out) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self
            .inflate
            .decompress(input, output, FlushDecompress::None)
            .map_err(|error| Fault::Corrupt(error.to_string()))?;
        let step = Step {
            consumed: (self.inflate.total_in() - total_in) as usize,
            produced: (self.inflate.total_out() - total_out) as usize,
            ended: false,
        };
        self.crc.update(&output[..step.produced]);
        if status == Status::StreamEnd {
            self.part = Part::Trailer;
        }
        Ok(step)
    }

    fn read_trailer(&self, input: &[u8]) -> Result<Step, Fault> {
        let Some(&[c0, c1, c2, c3, s0, s1, s2, s3]) = input.first_chunk::<TRAILER_LEN>() else {
            return Ok(Step::default());
        };
        if u32::from_le_bytes([c0, c1, c2, c3]) != self.crc.sum() {
            return Err(Fault::Corrupt("the CRC differs".into()));
        }
        // Both sizes are modulo 2^32.
        if u32::from_le_bytes([s0, s1, s2, s3]) != self.crc.amount() {
            return Err(Fault::Corrupt("the size differs".into()));
        }
        let member_len = self.member_len + TRAILER_LEN as u64;
        if self.stated_len.is_some_and(|stated| stated != member_len) {
            return Err(Fault::Corrupt("a block states another size".into()));
        }
        Ok(Step { consumed: TRAILER_LEN, produced: 0, ended: true })
    }
}

impl Codec for Gzip {
    fn restart(&mut self) -> Result<(), Fault> {
        self.inflate.reset(false);
        self.crc.reset();
        self.part = Part::Header;
        self.member_len = 0;
        self.stated_len = None;
        Ok(())
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Fault> {
        let step = match self.part {
            Part::Header => self.read_header(input),
            Part::Data => self.inflate(input, output),
            Part::Trailer => self.read_trailer(input),
        }?;
        self.member_len += step.consumed as u64;
        Ok(step)
    }

    fn padding_unit(&self) -> Option<u64> {
        Some(1)
    }

    fn warning_at_end(&self) -> Option<&'static str> {
        let ends_as_bgzf = self.stated_len == Some(BGZF_END_LEN) && self.crc.amount() == 0;
        (self.blocked == Some(true) && !ends_as_bgzf).then_some(
            "no BGZF end-of-file block: the file may have lost its last blocks, compare its size \
             with the original",
        )
    }
}
