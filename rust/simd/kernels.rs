//! Kernel bodies in portable Rust, shaped so that the compiler vectorises
//! them.
//!
//! Each is `#[inline(always)]` and instantiated by `super` once per backend
//! with that backend's instructions enabled; compiled plainly they are the
//! reference.

use crate::canonical::columns;
use crate::dna::CODE;

/// Windows turned into indices at a time: the index buffer stays in L1 beside
/// the counters.
pub(super) const BLOCK: usize = 512;

/// Bases after the last window start of a block that its windows reach into.
const REACH: usize = 6;

/// Index of a window that is not counted: one past the last 7-mer.
pub(super) const NOT_COUNTED: u16 = 1 << 14;

/// Letters of one block and of the windows' reach, padded to whole vectors.
type Letters = [u8; BLOCK + 16];

/// A counter of occurrences.
pub trait Tally: Copy + Default {
    /// One more, wrapping around at the type's end.
    #[must_use]
    fn next(self) -> Self;
}

impl Tally for u8 {
    #[inline(always)]
    fn next(self) -> Self {
        self.wrapping_add(1)
    }
}

impl Tally for u64 {
    #[inline(always)]
    fn next(self) -> Self {
        self.wrapping_add(1)
    }
}

/// Whether a letter is one of ACGTU in either case.
///
/// By comparisons, not by table, so that loops over it are vectorised.
#[inline(always)]
fn is_base(letter: u8) -> bool {
    let lower = letter | 0x20;
    (lower == b'a') | (lower == b'c') | (lower == b'g') | ((lower | 1) == b'u')
}

/// Whether every letter is a base.
#[inline(always)]
pub(super) fn all_bases(letters: &[u8]) -> bool {
    letters.iter().fold(true, |all, &letter| all & is_base(letter))
}

/// Number of letters G and C in either case.
#[inline(always)]
pub(super) fn count_gc(letters: &[u8]) -> u64 {
    let block_gc = |block: &[u8]| {
        // At most 255 letters, so that a byte holds the sum.
        block.iter().fold(0u8, |sum, &letter| {
            let lower = letter | 0x20;
            sum + u8::from((lower == b'g') | (lower == b'c'))
        })
    };
    letters.chunks(240).map(|block| u64::from(block_gc(block))).sum()
}

/// Canonical 7-mers of the windows that start in the block, as 14-bit
/// integers; right wherever the window holds nothing but bases.
#[inline(always)]
fn canonical_heptamers(letters: &Letters, indices: &mut [u16; BLOCK]) {
    const N: usize = BLOCK + 16;
    let mut codes = [0u8; N];
    for i in 0..N {
        // ASCII bits 1 and 2 tell A, C, T (U) and G apart as 0, 1, 2, 3.
        let actg = (letters[i] >> 1) & 3;
        codes[i] = actg ^ (actg >> 1);
    }
    // 2-mers, then 4-mers, of both strands. A reverse complement stands at
    // the start of its window like the forward k-mer.
    let mut forward2 = [0u8; N];
    let mut reverse2 = [0u8; N];
    for i in 0..N - 1 {
        forward2[i] = (codes[i] << 2) | codes[i + 1];
        reverse2[i] = ((codes[i + 1] << 2) | codes[i]) ^ 0b1111;
    }
    let mut forward4 = [0u8; N];
    let mut reverse4 = [0u8; N];
    for i in 0..N - 3 {
        forward4[i] = (forward2[i] << 4) | forward2[i + 2];
        reverse4[i] = (reverse2[i + 2] << 4) | reverse2[i];
    }
    for i in 0..BLOCK {
        let forward = (u16::from(forward4[i]) << 6) | u16::from(forward4[i + 4] >> 2);
        let reverse = (u16::from(reverse4[i + 3]) << 6) | u16::from(reverse4[i] & 0b11_1111);
        indices[i] = forward.min(reverse);
    }
}

/// Marks the windows that hold a letter which is not a base.
#[cold]
#[inline(never)]
fn exclude_broken_windows(letters: &Letters, indices: &mut [u16; BLOCK]) {
    let mut bases_since_break = 0;
    for (end, &letter) in letters[..BLOCK + REACH].iter().enumerate() {
        bases_since_break = if CODE[letter as usize] < 4 { bases_since_break + 1 } else { 0 };
        if end >= REACH && bases_since_break <= REACH {
            indices[end - REACH] = NOT_COUNTED;
        }
    }
}

/// Adds every 7-mer window of `letters` that holds nothing but bases to
/// `table`, at its canonical form's 14-bit integer; the entry past them takes
/// the windows that are not counted.
#[inline(always)]
pub(super) fn count_heptamers<T: Tally>(letters: &[u8], table: &mut [T; super::TABLE]) {
    let n_windows = letters.len().saturating_sub(REACH);
    let mut buffer: Letters = [0; BLOCK + 16];
    let mut indices = [0u16; BLOCK];
    let mut start = 0;
    while start < n_windows {
        let n = BLOCK.min(n_windows - start);
        let available = &letters[start..letters.len().min(start + BLOCK + 16)];
        let block: &Letters = if let Ok(whole) = available.try_into() {
            whole
        } else {
            buffer[..available.len()].copy_from_slice(available);
            buffer[available.len()..].fill(b'A');
            &buffer
        };
        canonical_heptamers(block, &mut indices);
        if !all_bases(&block[..n + REACH]) {
            exclude_broken_windows(block, &mut indices);
        }
        for &index in &indices[..n] {
            let counter = &mut table[usize::from(index)];
            *counter = counter.next();
        }
        start += n;
    }
}

/// For every 5-mer, the sum over the sixteen 7-mers that have it in the
/// middle.
#[inline(always)]
pub(super) fn sum_ends(table: &[u8; super::TABLE], sums: &mut [u64; 1 << 10]) {
    // The four 7-mers that differ in the last base stand side by side: they
    // are added as bytes of one word, in two 16-bit halves that hold the sum
    // of sixteen bytes with ease.
    for (middle, sum) in sums.iter_mut().enumerate() {
        let mut halves = 0u32;
        for first in 0..4 {
            let at = (first << 12) | (middle << 2);
            let four = u32::from_le_bytes([table[at], table[at + 1], table[at + 2], table[at + 3]]);
            halves += (four & 0x00ff_00ff) + ((four >> 8) & 0x00ff_00ff);
        }
        *sum = u64::from((halves & 0xffff) + (halves >> 16));
    }
}

/// The greatest count of a 7-mer.
#[inline(always)]
pub(super) fn max_count(table: &[u8; super::TABLE]) -> u8 {
    table[..1 << 14].iter().fold(0, |max, &count| max.max(count))
}

/// The logarithm of every canonical 7-mer's count, by columns.
#[inline(always)]
pub(super) fn look_up_heptamers(
    table: &[u8; super::TABLE],
    logarithms: &[f32; 256],
    row: &mut [f32; super::HEPTAMERS],
) {
    for (field, &kmer) in row.iter_mut().zip(&columns(7).kmers) {
        *field = logarithms[usize::from(table[usize::from(kmer as u16)])];
    }
}
