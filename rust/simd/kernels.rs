//! Kernel bodies in portable Rust, shaped so that the compiler vectorises
//! them.
//!
//! Each is `#[inline(always)]` and instantiated by `super` once per backend
//! with that backend's instructions enabled; compiled plainly they are the
//! reference.

use std::ops::{Add, AddAssign};

use crate::dna::{self, CODE};
use crate::layout::PSEUDOCOUNT;

/// Windows turned into indices at a time: the index buffer stays in L1 beside
/// the counters.
pub(super) const BLOCK: usize = 512;

/// Bases after the last window start of a block that its windows reach into.
const REACH: usize = 6;

/// Index of a window that is not counted: one past the last 7-mer.
pub(super) const NOT_COUNTED: u16 = 1 << 14;

/// Letters of one block and of the windows' reach, padded to whole vectors.
pub(super) type Letters = [u8; BLOCK + PADDING];

/// Letters after a block: at least the reach.
const PADDING: usize = 64;

/// Indices of the windows that start in one block.
pub(super) type Indices = [u16; BLOCK];

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

/// A sum of counts: 32 bits where the sequence is short, for speed.
pub trait Sum: Copy + Default + AddAssign + Add<Output = Self> + Into<u64> {
    /// One more occurrence.
    const ONE: Self;
}

impl Sum for u32 {
    const ONE: Self = 1;
}

impl Sum for u64 {
    const ONE: Self = 1;
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
    letters.iter().fold(0, |others, &letter| others | u8::from(!is_base(letter))) == 0
}

/// Canonical 7-mers of the windows that start in the block, as 14-bit
/// integers; right wherever the window holds nothing but bases.
#[inline(always)]
fn canonical_heptamers(letters: &Letters, indices: &mut Indices) {
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

/// [`canonical_heptamers`], and whether all letters are bases.
#[inline(always)]
pub(super) fn find_indices(letters: &Letters, indices: &mut Indices) -> bool {
    canonical_heptamers(letters, indices);
    all_bases(letters)
}

/// Marks the windows that hold a letter which is not a base.
#[cold]
#[inline(never)]
fn exclude_broken_windows(letters: &Letters, indices: &mut Indices) {
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
/// the windows that are not counted. Returns whether all letters are bases.
#[inline(always)]
pub(super) fn count_heptamers<T: Tally>(letters: &[u8], table: &mut [T; super::TABLE]) -> bool {
    count_heptamers_with(letters, table, find_indices)
}

/// [`count_heptamers`], with a way to find the indices of a block of letters,
/// right wherever there are only bases, and to tell whether there are.
#[inline(always)]
pub(super) fn count_heptamers_with<T: Tally>(
    letters: &[u8],
    table: &mut [T; super::TABLE],
    find_indices: impl Fn(&Letters, &mut Indices) -> bool,
) -> bool {
    let n_windows = letters.len().saturating_sub(REACH);
    let mut buffer: Letters = [b'A'; BLOCK + PADDING];
    let mut indices: Indices = [0; BLOCK];
    let mut only_bases = n_windows > 0 || all_bases(letters);
    let mut start = 0;
    while start < n_windows {
        let n = BLOCK.min(n_windows - start);
        let available = &letters[start..letters.len().min(start + BLOCK + PADDING)];
        let block: &Letters = if let Ok(whole) = available.try_into() {
            whole
        } else {
            buffer[..available.len()].copy_from_slice(available);
            &buffer
        };
        if !find_indices(block, &mut indices) {
            only_bases = false;
            exclude_broken_windows(block, &mut indices);
        }
        for &index in &indices[..n] {
            let counter = &mut table[usize::from(index)];
            *counter = counter.next();
        }
        start += n;
    }
    only_bases
}

/// k-mers in the middle of (k+2)-mers.
#[inline(always)]
pub(super) fn middles<T: Sum>(longer: &[T], sums: &mut [T]) {
    let n = sums.len();
    debug_assert_eq!(longer.len(), 16 * n);
    sums.fill(T::default());
    for same_first in longer.chunks_exact(4 * n) {
        for (sum, four) in sums.iter_mut().zip(same_first.as_chunks::<4>().0) {
            *sum += four[0] + four[1] + four[2] + four[3];
        }
    }
}

/// k-mers that are the first or the second half of (k+1)-mers.
#[inline(always)]
pub(super) fn halves<T: Sum>(longer: &[T], sums: &mut [T]) {
    let n = sums.len();
    debug_assert_eq!(longer.len(), 4 * n);
    for (sum, four) in sums.iter_mut().zip(longer.as_chunks::<4>().0) {
        *sum = four[0] + four[1] + four[2] + four[3];
    }
    for same_first in longer.chunks_exact(n) {
        for (sum, &count) in sums.iter_mut().zip(same_first) {
            *sum += count;
        }
    }
}

/// For every 5-mer, the sum over the sixteen 7-mers that have it in the
/// middle.
#[inline(always)]
pub(super) fn sum_ends(table: &[u8; super::TABLE], sums: &mut [u32; 1 << 10]) {
    // The four 7-mers that differ in the last base stand side by side: they
    // are added as bytes of one word, in two 16-bit halves that hold the sum
    // of sixteen bytes with ease.
    let fours: [&[[u8; 4]]; 4] =
        std::array::from_fn(|first| table[first << 12..(first + 1) << 12].as_chunks().0);
    for (middle, sum) in sums.iter_mut().enumerate() {
        let mut halves = 0u32;
        for same_first in fours {
            let four = u32::from_le_bytes(same_first[middle]);
            halves += (four & 0x00ff_00ff) + ((four >> 8) & 0x00ff_00ff);
        }
        *sum = (halves & 0xffff) + (halves >> 16);
    }
}

/// Moves the counts of the canonical 7-mers together, in the order of the
/// columns, and returns the greatest.
#[inline(always)]
pub(super) fn compact_heptamers(
    table: &[u8; super::TABLE],
    counts: &mut [u8; super::HEPTAMERS_PADDED],
) -> u8 {
    // Of the four 7-mers that differ in the last base, a prefix is canonical:
    // all four are copied, and the next ones overwrite what does not count.
    let mut to = 0;
    let mut greatest = 0;
    for (four, &keep) in table[..1 << 14].chunks_exact(4).zip(&CANONICAL_OF_FOUR) {
        // The minimum changes nothing: it tells the compiler the bound.
        let at = to.min(super::HEPTAMERS);
        counts[at..at + 4].copy_from_slice(four);
        to += usize::from(keep);
    }
    for &count in &counts[..super::HEPTAMERS] {
        greatest = greatest.max(count);
    }
    greatest
}

/// How many of the four 7-mers that share their first six bases are canonical.
pub(super) static CANONICAL_OF_FOUR: [u8; 1 << 12] = {
    let mut canonical = [0; 1 << 12];
    let mut six = 0;
    while six < canonical.len() {
        let mut last = 0;
        while last < 4 {
            let kmer = (six as u32) << 2 | last;
            canonical[six] += (dna::canonical(kmer, 7) == kmer) as u8;
            last += 1;
        }
        six += 1;
    }
    canonical
};

/// Looks every count up; none may exceed `greatest`.
#[inline(always)]
pub(super) fn look_up(counts: &[u8], greatest: u8, logarithms: &[f32; 256], row: &mut [f32]) {
    if greatest < 16 && counts.len() > 256 {
        look_up_pairs(counts, logarithms, row);
    } else {
        look_up_each(counts, logarithms, row);
    }
}

/// Looks counts below 16 up, two at a time.
#[inline(always)]
fn look_up_pairs(counts: &[u8], logarithms: &[f32; 256], row: &mut [f32]) {
    let pairs: [[f32; 2]; 256] = std::array::from_fn(|i| [logarithms[i & 15], logarithms[i >> 4]]);
    let (twos, rest) = counts.as_chunks();
    let (fields, last) = row.as_chunks_mut();
    for (fields, &two) in fields.iter_mut().zip(twos) {
        let two = u16::from_le_bytes(two);
        *fields = pairs[usize::from((two | two >> 4) & 0xff)];
    }
    look_up_each(rest, logarithms, last);
}

#[inline(always)]
pub(super) fn look_up_each(counts: &[u8], logarithms: &[f32; 256], row: &mut [f32]) {
    for (field, &count) in row.iter_mut().zip(counts) {
        *field = logarithms[usize::from(count)];
    }
}

/// The natural logarithm of a positive, normal number, to about 1e-12.
///
/// Without calls or branches, so that loops over it are vectorised.
#[inline(always)]
fn ln(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    const EXPONENT_OF_1: u64 = 1023;
    let bits = x.to_bits();
    let mantissa = f64::from_bits(bits & MANTISSA | EXPONENT_OF_1 << 52);
    // From 1 to 2, halved where that brings it nearer to 1.
    let is_high = mantissa > std::f64::consts::SQRT_2;
    let m = if is_high { 0.5 * mantissa } else { mantissa };
    let exponent = to_f64(bits >> 52) + if is_high { 1.0 } else { 0.0 };
    // ln m = 2 artanh s, by its series.
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let series = 1.0 / 15.0;
    let series = series * z + 1.0 / 13.0;
    let series = series * z + 1.0 / 11.0;
    let series = series * z + 1.0 / 9.0;
    let series = series * z + 1.0 / 7.0;
    let series = series * z + 1.0 / 5.0;
    let series = series * z + 1.0 / 3.0;
    let series = series * z + 1.0;
    (exponent - EXPONENT_OF_1 as f64) * std::f64::consts::LN_2 + 2.0 * s * series
}

/// An integer below 2^52 as it is, by way of the bits of a float: conversions
/// of 64-bit integers are not vectorised everywhere.
#[inline(always)]
fn to_f64(x: u64) -> f64 {
    const TWO_TO_52: u64 = 0x4330 << 48;
    f64::from_bits(TWO_TO_52 | x) - f64::from_bits(TWO_TO_52)
}

/// ln(count / total + pseudocount) of every count below 2^52.
#[inline(always)]
pub(super) fn log_frequencies(counts: &[u64], total: u64, logarithms: &mut [f32]) {
    // All frequencies are 0 where there is nothing.
    let share = 1.0 / to_f64(total.max(1));
    for (logarithm, &count) in logarithms.iter_mut().zip(counts) {
        *logarithm = ln(to_f64(count) * share + PSEUDOCOUNT) as f32;
    }
}

/// Packs letters four a byte, the first in the lowest bits; right wherever
/// there are only bases.
#[inline(always)]
pub(super) fn pack(letters: &[u8], packed: &mut [u8]) {
    let code = |letter: u8| {
        let actg = (letter >> 1) & 3;
        actg ^ (actg >> 1)
    };
    let (fours, rest) = letters.as_chunks();
    for (byte, &[a, b, c, d]) in packed.iter_mut().zip(fours) {
        *byte = code(a) | code(b) << 2 | code(c) << 4 | code(d) << 6;
    }
    if let Some(byte) = packed.get_mut(fours.len()) {
        *byte = rest.iter().rev().fold(0, |byte, &letter| byte << 2 | code(letter));
    }
}
