//! What a file is, told by its first bytes.

use super::Format;

/// Bytes that [`Format::detect`] needs at most.
pub(super) const LONGEST_MAGIC: usize = 6;

/// Bytes that [`foreign`] needs at most: a tar header is one block of 512.
pub(super) const HEAD_LEN: usize = 512;

const GZIP: &[u8] = &[0x1f, 0x8b];
const BZIP2: &[u8] = b"BZh";
const XZ: &[u8] = b"\xfd7zXZ\0";
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// A frame that carries no data; its first byte is one of sixteen.
const ZSTD_SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];

/// Where a tar header says that it is one.
const TAR_OFFSET: usize = 257;
/// As POSIX and GNU tar write it. Five letters alone are not enough: lower-case
/// u, s, t, a and r are IUPAC codes.
const TAR: [&[u8]; 2] = [b"ustar\0", b"ustar  \0"];

/// Files that are no sequence text, and what to do about each.
const FOREIGN: [(&[u8], &str); 12] = [
    (b"PK\x03\x04", "a zip archive: unzip it first"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x9d", "a UNIX compress (.Z) file: uncompress it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: extract it first"),
    (b"Rar!\x1a\x07", "a RAR archive: extract it first"),
    (b"\x04\x22\x4d\x18", "an lz4 file: decompress it first"),
    (b"LZIP\x01", "an lzip file: decompress it first"),
    (b"BAM\x01", "a BAM file: convert it with samtools fasta"),
    (b"CRAM", "a CRAM file: convert it with samtools fasta"),
    (b"ARROW1", "an Arrow file, not sequences: name the FASTA or FASTQ file"),
    (b"PAR1", "a Parquet file, not sequences: name the FASTA or FASTQ file"),
    (b"\x89HDF", "an HDF5 file, not sequences: name the FASTA or FASTQ file"),
];

impl Format {
    /// How data that begins with `head` is compressed. A BGZF file is found to
    /// be gzip.
    pub(super) fn detect(head: &[u8]) -> Self {
        match head {
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0x50..=0x5f, rest @ ..] if rest.starts_with(ZSTD_SKIPPABLE) => Self::Zstd,
            _ if head.starts_with(GZIP) => Self::Gzip,
            _ if head.starts_with(XZ) => Self::Xz,
            _ if head.starts_with(ZSTD) => Self::Zstd,
            _ => Self::Plain,
        }
    }

    /// Whether a file of this format may go on with `head`.
    pub(super) fn goes_on_with(self, head: &[u8]) -> bool {
        match Self::detect(head) {
            Self::Gzip => matches!(self, Self::Gzip | Self::Bgzf),
            format => format == self,
        }
    }

    /// Whether `tail` is the beginning of this format's magic bytes, cut short.
    pub(super) fn is_cut_magic(self, tail: &[u8]) -> bool {
        match (self, tail) {
            (Self::Plain, _) => false,
            (Self::Gzip | Self::Bgzf, _) => GZIP.starts_with(tail),
            (Self::Bzip2, _) => BZIP2.starts_with(tail),
            (Self::Xz, _) => XZ.starts_with(tail),
            (Self::Zstd, [0x50..=0x5f, rest @ ..]) => ZSTD_SKIPPABLE.starts_with(rest),
            (Self::Zstd, _) => ZSTD.starts_with(tail),
        }
    }
}

/// What `head` looks like when it is the start of a file that holds no
/// sequence text, and what to do about it.
pub(super) fn foreign(head: &[u8]) -> Option<String> {
    let is_tar = head
        .get(TAR_OFFSET..)
        .is_some_and(|field| TAR.iter().any(|magic| field.starts_with(magic)));
    let looks_like = if is_tar {
        Some("a tar archive: extract it first")
    } else {
        FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)).map(|&(_, looks_like)| looks_like)
    };
    looks_like.map(|what| format!("looks like {what}"))
}
