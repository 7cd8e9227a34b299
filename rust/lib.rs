//! Canonical k-mer counting and log-space feature assembly for DNA sequences.
//!
//! [`featurize::featurize`] turns sequence files into a feature file;
//! [`memory`] does the same for sequences and arrays in memory. Below them,
//! from the files to the numbers: [`input`] reads text and records,
//! [`windows`] cuts them, [`count`] and [`features`] make a row of each
//! window, with the kernels of [`simd`], and [`arrow`] writes the rows;
//! [`pipeline`] runs all of it on several threads. [`layout`] says what every
//! field of a row means, and [`naive`] computes the same from the definitions.
//! [`loss`] is for who trains on the rows: what a model says of them is held
//! against them there.

mod allocation;
pub mod arrow;
pub mod canonical;
mod checksums;
pub mod count;
pub mod dna;
pub mod error;
pub mod features;
pub mod featurize;
pub mod input;
pub mod layout;
pub mod loss;
pub mod memory;
pub mod merge;
pub mod naive;
mod output;
pub mod packed;
pub mod pipeline;
mod platform;
pub mod row_file;
pub mod simd;
pub mod windows;

#[cfg(feature = "python")]
mod python;

#[cfg(feature = "python")]
#[global_allocator]
static ALLOCATOR: allocation::OneLineAndOut = allocation::OneLineAndOut;
