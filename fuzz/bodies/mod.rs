//! What the fuzz targets do with an input, any bytes: it ends well or panics.
//!
//! A module of its own, since `tests/fuzzed.rs` does the same with inputs that were found.

// A target uses one of them.
#![allow(dead_code, unused_imports, clippy::unwrap_used)]

mod common;
mod count;
mod decompress;
mod records;
mod row_file;

pub(crate) use count::count;
pub(crate) use decompress::decompress;
pub(crate) use records::records;
pub(crate) use row_file::row_file;
