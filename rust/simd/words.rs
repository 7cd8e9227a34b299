//! Words of six bases at every few positions, and the k-mers in them.
//!
//! A word holds 7 - k k-mers of each k, so words that begin as many positions
//! apart hold every k-mer once, and counting takes a fraction of an increment
//! per base. Words and k-mers are integers here whose *lowest* two bits are the
//! first base, coded A = 0, C = 1, T = 2, G = 3: as letters give them, without
//! another step.

use super::kernels::all_bases;

/// Words of six bases.
pub const WORDS: usize = 1 << (2 * WORD_LENGTH);

/// Bases in a word.
pub const WORD_LENGTH: usize = 6;

/// Bases whose words, of any stride, lie in one integer of 64 bits.
const UNIT: usize = 24;

/// Letters packed at a time.
pub(super) const PART: usize = 64;

/// Bases whose words are counted at a time: whole units and whole parts.
pub(super) const BLOCK: usize = 1536;

/// Packed bytes of a block, of what its last words reach into, and of the last
/// load of a vector.
pub(super) const PACKED: usize = BLOCK / 4 + 64;

/// Packs letters four a byte, the first in the lowest bits; right where there
/// are only bases, which it tells.
#[inline(always)]
pub(super) fn pack_part(letters: &[u8; PART], packed: &mut [u8; PART / 4]) -> bool {
    for (byte, &four) in packed.iter_mut().zip(letters.as_chunks().0) {
        let codes = u32::from_le_bytes(four) >> 1 & 0x0303_0303;
        let twos = codes | codes >> 6;
        *byte = (twos | twos >> 12) as u8;
    }
    all_bases(letters)
}

/// Adds the words that begin at every `STRIDE`-th letter to `table`, and
/// returns whether all letters are bases; where not, it may stop anywhere.
#[inline(always)]
pub(super) fn count_words<const STRIDE: usize>(letters: &[u8], table: &mut [u16; WORDS]) -> bool {
    count_words_with::<STRIDE>(letters, table, pack_part, count_block::<STRIDE>)
}

/// [`count_words`], with a way to pack the letters of a part and one to count
/// so many words of a block.
#[inline(always)]
pub(super) fn count_words_with<const STRIDE: usize>(
    letters: &[u8],
    table: &mut [u16; WORDS],
    pack_part: impl Fn(&[u8; PART], &mut [u8; PART / 4]) -> bool,
    count_block: impl Fn(&[u8; PACKED], usize, &mut [u16; WORDS]),
) -> bool {
    let mut words = n_words(letters.len(), STRIDE);
    let mut packed = [0u8; PACKED];
    for start in (0..letters.len()).step_by(BLOCK) {
        let block = &letters[start..letters.len().min(start + BLOCK + PART)];
        let (parts, rest) = block.as_chunks();
        let mut only_bases = true;
        for (part, packed) in parts.iter().zip(packed.as_chunks_mut().0) {
            only_bases &= pack_part(part, packed);
        }
        if !rest.is_empty() {
            let mut part = [b'A'; PART];
            part[..rest.len()].copy_from_slice(rest);
            only_bases &= pack_part(&part, &mut packed.as_chunks_mut().0[parts.len()]);
        }
        if !only_bases {
            return false;
        }
        let here = words.min(BLOCK / STRIDE);
        count_block(&packed, here, table);
        words -= here;
    }
    true
}

/// Adds so many words of a block, each `STRIDE` bases after the one before.
#[inline(always)]
pub(super) fn count_block<const STRIDE: usize>(
    packed: &[u8; PACKED],
    words: usize,
    table: &mut [u16; WORDS],
) {
    let of_unit = UNIT / STRIDE;
    for first in (0..words).step_by(of_unit) {
        let at = first * STRIDE / 4;
        let Some(&unit) = packed[at..].first_chunk() else {
            return;
        };
        let unit = u64::from_le_bytes(unit);
        let mut add = |i: usize| {
            let counter = &mut table[(unit >> (2 * STRIDE * i)) as usize % WORDS];
            *counter = counter.wrapping_add(1);
        };
        if words - first >= of_unit {
            (0..of_unit).for_each(add);
        } else {
            (0..words - first).for_each(&mut add);
        }
    }
}

/// Whole words that begin at every `stride`-th of so many letters.
pub const fn n_words(letters: usize, stride: usize) -> usize {
    letters.saturating_sub(WORD_LENGTH - 1).div_ceil(stride)
}

/// Sums over the four words that differ in the last base alone, indexed by what
/// precedes it.
#[inline(always)]
pub(super) fn sum_lasts(words: &[u16], sums: &mut [u16]) {
    let (low, high) = words.split_at(2 * sums.len());
    let ((a, b), (c, d)) = (low.split_at(sums.len()), high.split_at(sums.len()));
    for ((((sum, a), b), c), d) in sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
        *sum = a + b + c + d;
    }
}

/// Sums over the four words that differ in the first base alone, and what is
/// `more`, both indexed by what follows it. The words are set to zero.
#[inline(always)]
pub(super) fn take_firsts(words: &mut [[u16; 4]], more: &[u16], sums: &mut [u16]) {
    let words = words.as_chunks_mut::<4>().0;
    let (sums, more) = (sums.as_chunks_mut::<4>().0, more.as_chunks::<4>().0);
    for ((sums, &more), fours) in sums.iter_mut().zip(more).zip(words) {
        // Four numbers side by side in 64 bits, of which none carries into the
        // next.
        let sum = |four: [u16; 4]| {
            let four: u64 = bytemuck::cast(four);
            let twos = four + (four >> 16);
            (twos + (twos >> 32)) as u16
        };
        let [a, b, c, d] = *fours;
        *fours = [[0; 4]; 4];
        *sums = [sum(a) + more[0], sum(b) + more[1], sum(c) + more[2], sum(d) + more[3]];
    }
}
