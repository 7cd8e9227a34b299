//! Counts of short k-mers from those of longer ones.
//!
//! Within a run of bases every inner k-mer is the middle of one (k+2)-mer and
//! a half of two (k+1)-mers, so its count is a sum over those. What the sums
//! miss at the ends of runs is added, so the counts are exact.
//!
//! The tables here are indexed by k-mers of *either strand*: an occurrence is
//! counted at its k-mer or at the reverse complement, whichever the longer
//! k-mer happened to hold. Only [`fold`] makes canonical k-mers of them.

use super::Run;
use crate::canonical::columns;
use crate::dna::CODE;
use crate::simd::Sum;

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
        let bases = run.of(sequence);
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

/// Completes sums over halves at the ends of runs, where a k-mer was found only
/// once, and folds half of them into columns.
pub(super) fn halve_and_fold<T: Sum>(
    twice: &mut [T],
    k: usize,
    sequence: &[u8],
    runs: &[Run],
    out: &mut [u64],
) {
    for run in runs {
        let bases = run.of(sequence);
        if bases.len() >= k {
            twice[encode(&bases[..k])] += T::ONE;
            twice[encode(&bases[bases.len() - k..])] += T::ONE;
        }
    }
    fold(twice, k, out);
    for count in out {
        debug_assert_eq!(*count % 2, 0);
        *count /= 2;
    }
}

/// The integer of a window that holds only bases.
fn encode(window: &[u8]) -> usize {
    window.iter().fold(0, |kmer, &letter| kmer << 2 | usize::from(CODE[usize::from(letter)] & 3))
}
