//! Counts of short k-mers from those of longer ones.
//!
//! Within a run of bases every inner k-mer is the middle of one (k+2)-mer and
//! a half of two (k+1)-mers, so its count is a sum over those. What the sums
//! miss at the ends of runs is added, so the counts are exact.
//!
//! The tables here are indexed by k-mers of *either strand*: an occurrence is
//! counted at its k-mer or at the reverse complement, whichever the longer
//! k-mer happened to hold. Only [`fold`] makes canonical k-mers of them.

use std::ops::{Add, AddAssign};

use super::Run;
use crate::canonical::columns;
use crate::dna::CODE;

/// A sum of counts: 32 bits where the sequence is short, for speed.
pub(super) trait Sum: Copy + Default + AddAssign + Add<Output = Self> + Into<u64> {
    const ONE: Self;
}

impl Sum for u32 {
    const ONE: Self = 1;
}

impl Sum for u64 {
    const ONE: Self = 1;
}

/// k-mers in the middle of (k+2)-mers, `N` = 4^k.
#[inline]
pub(super) fn middles<const N: usize, T: Sum>(longer: &[T]) -> [T; N] {
    debug_assert_eq!(longer.len(), 16 * N);
    let mut sums = [T::default(); N];
    for same_first in longer.chunks_exact(4 * N) {
        for (sum, four) in sums.iter_mut().zip(same_first.chunks_exact(4)) {
            *sum += four[0] + four[1] + four[2] + four[3];
        }
    }
    sums
}

/// k-mers that are the first or the second half of (k+1)-mers, `N` = 4^k:
/// every inner one is found twice, the first and the last of a run once.
#[inline]
pub(super) fn halves<const N: usize, T: Sum>(longer: &[T]) -> [T; N] {
    debug_assert_eq!(longer.len(), 4 * N);
    let mut sums = [T::default(); N];
    for (sum, four) in sums.iter_mut().zip(longer.chunks_exact(4)) {
        *sum = four[0] + four[1] + four[2] + four[3];
    }
    for same_first in longer.chunks_exact(N) {
        for (sum, &count) in sums.iter_mut().zip(same_first) {
            *sum += count;
        }
    }
    sums
}

/// Adds the k-mers that are the middle of no longer k-mer: the first and the
/// last of each run, and all of a run shorter than `longer`.
pub(super) fn add_run_ends<T: Sum>(
    counts: &mut [T],
    k: usize,
    longer: usize,
    sequence: &[u8],
    runs: &[Run],
) {
    for run in runs {
        let bases = &sequence[run.start..run.start + run.length];
        if bases.len() < longer {
            bases.windows(k).for_each(|window| counts[encode(window)] += T::ONE);
        } else {
            counts[encode(&bases[..k])] += T::ONE;
            counts[encode(&bases[bases.len() - k..])] += T::ONE;
        }
    }
}

/// Writes the counts of canonical k-mers, by column; nothing into an empty
/// `out`.
pub(super) fn fold<T: Sum>(either_strand: &[T], k: usize, out: &mut [u64]) {
    let columns = columns(k);
    for ((count, &kmer), &reverse) in out.iter_mut().zip(&columns.kmers).zip(&columns.reverse) {
        *count = either_strand[kmer as usize].into();
        if reverse != kmer {
            *count += either_strand[reverse as usize].into();
        }
    }
}

/// Completes the sums of [`halves`] at the ends of runs, and folds half of
/// them into columns.
pub(super) fn halve_and_fold<const N: usize, T: Sum>(
    mut twice: [T; N],
    k: usize,
    sequence: &[u8],
    runs: &[Run],
    out: &mut [u64],
) {
    for run in runs {
        let bases = &sequence[run.start..run.start + run.length];
        if bases.len() >= k {
            twice[encode(&bases[..k])] += T::ONE;
            twice[encode(&bases[bases.len() - k..])] += T::ONE;
        }
    }
    fold(&twice, k, out);
    for count in out {
        debug_assert_eq!(*count % 2, 0);
        *count /= 2;
    }
}

/// The integer of a window that holds only bases.
fn encode(window: &[u8]) -> usize {
    window.iter().fold(0, |kmer, &letter| kmer << 2 | usize::from(CODE[usize::from(letter)] & 3))
}
