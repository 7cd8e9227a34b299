//! From paths on the command line to the text of sequence files.

pub mod boundary;
pub mod compression;
pub mod discover;
mod fasta;
mod fastq;
pub mod records;
pub mod share;
pub mod stop;
pub mod text;
pub mod text_buffer;
