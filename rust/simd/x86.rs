//! Kernels that the compiler does not find by itself, for x86-64.
//!
//! Each must give what its namesake in `super::kernels` gives.

use std::arch::x86_64::*;
use std::sync::LazyLock;

use super::kernels::{self, CANONICAL_OF_FOUR, Indices, Letters, Tally};
use super::words::{self, BLOCK, PACKED, PART};
use super::{HEPTAMERS, HEPTAMERS_PADDED, Moved, TABLE, USED, WORDS};

/// Clears a table with plain stores: it stays in the cache, where the C
/// library's way for this size starts too slowly.
#[target_feature(enable = "avx512f")]
pub(super) fn clear_avx512(table: &mut [u8; TABLE]) {
    const { assert!(USED <= (1 << 14) + 64) };
    for part in table[..(1 << 14) + 64].chunks_exact_mut(64) {
        // SAFETY: `part` has 64 bytes.
        unsafe { _mm512_storeu_si512(part.as_mut_ptr().cast(), _mm512_setzero_si512()) };
    }
}

/// See [`super::kernels::count_heptamers`], which the compiler vectorises well.
#[target_feature(enable = "avx2,bmi2")]
pub(super) fn count_heptamers_avx2<T: Tally>(letters: &[u8], table: &mut [T; TABLE]) -> bool {
    // A closure of this function has its instructions; a function passed by
    // name would be called through a shim that has not.
    kernels::count_heptamers_with(letters, table, |letters, indices| {
        kernels::find_indices(letters, indices)
    })
}

/// See [`super::kernels::count_heptamers`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,bmi2")]
pub(super) fn count_heptamers_avx512<T: Tally>(letters: &[u8], table: &mut [T; TABLE]) -> bool {
    kernels::count_heptamers_with(letters, table, |letters, indices| {
        canonical_heptamers_avx512(letters, indices)
    })
}

/// See [`super::words::count_words`].
// Closures of this function have its instructions: see `count_heptamers_avx2`.
#[allow(clippy::redundant_closure)]
#[target_feature(enable = "avx2,bmi2")]
pub(super) fn count_words_avx2<const STRIDE: usize>(
    letters: &[u8],
    table: &mut [u16; WORDS],
) -> bool {
    words::count_words_with::<STRIDE>(
        letters,
        table,
        |part, packed| pack_part_avx2(part, packed),
        |packed, n, table| words::count_block::<STRIDE>(packed, n, table),
    )
}

/// See [`super::words::pack_part`].
#[target_feature(enable = "avx2")]
fn pack_part_avx2(letters: &[u8; PART], packed: &mut [u8; PART / 4]) -> bool {
    let mut only_bases = _mm256_set1_epi8(-1);
    for (half, packed) in letters.as_chunks::<32>().0.iter().zip(packed.as_chunks_mut::<8>().0) {
        // SAFETY: the array has 32 bytes.
        let half = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
        only_bases = _mm256_and_si256(only_bases, bases_avx2(half));
        let codes = _mm256_and_si256(_mm256_srli_epi16(half, 1), _mm256_set1_epi8(3));
        // Weights of neighbours: 1 and 4, then 1 and 16.
        let twos = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(0x0401));
        let fours = _mm256_madd_epi16(twos, _mm256_set1_epi32(0x10_0001));
        // The lowest byte of each integer, four in each half.
        let lowest = _mm256_set1_epi32(0x0c08_0400);
        let bytes = _mm256_shuffle_epi8(fours, lowest);
        let high = _mm256_extracti128_si256(bytes, 1);
        let both = _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), high);
        *packed = _mm_cvtsi128_si64(both).to_le_bytes();
    }
    _mm256_movemask_epi8(only_bases) == -1
}

/// See [`super::words::take_firsts`].
#[target_feature(enable = "avx2")]
pub(super) fn take_firsts_avx2(words: &mut [[u16; 4]], more: &[u16], sums: &mut [u16]) {
    let words = words.as_chunks_mut::<16>().0;
    let (sums, more) = (sums.as_chunks_mut::<16>().0, more.as_chunks::<16>().0);
    // Sums of neighbours come in halves of vectors: pairs of sums in this order.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for ((sums, more), words) in sums.iter_mut().zip(more).zip(words) {
        let part: *mut __m256i = words.as_mut_ptr().cast();
        // SAFETY: there are four vectors of words, and one of each of the others.
        unsafe {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| _mm256_loadu_si256(part.add(i)));
            let twos = _mm256_hadd_epi16(_mm256_hadd_epi16(a, b), _mm256_hadd_epi16(c, d));
            let fours = _mm256_permutevar8x32_epi32(twos, order);
            let more = _mm256_loadu_si256(more.as_ptr().cast());
            _mm256_storeu_si256(sums.as_mut_ptr().cast(), _mm256_add_epi16(fours, more));
            for i in 0..4 {
                _mm256_storeu_si256(part.add(i), _mm256_setzero_si256());
            }
        }
    }
}

/// See [`super::words::count_words`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,bmi2")]
pub(super) fn count_words_avx512<const STRIDE: usize>(
    letters: &[u8],
    table: &mut [u16; WORDS],
) -> bool {
    words::count_words_with::<STRIDE>(
        letters,
        table,
        |part, packed| pack_part_avx512(part, packed),
        |packed, n, table| count_block_avx512::<STRIDE>(packed, n, table),
    )
}

/// See [`super::words::pack_part`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn pack_part_avx512(letters: &[u8; PART], packed: &mut [u8; PART / 4]) -> bool {
    // SAFETY: the array has 64 bytes.
    let part = unsafe { _mm512_loadu_si512(letters.as_ptr().cast()) };
    let codes = _mm512_and_si512(_mm512_srli_epi16(part, 1), _mm512_set1_epi8(3));
    // Weights of neighbours: 1 and 4, then 1 and 16.
    let twos = _mm512_maddubs_epi16(codes, _mm512_set1_epi16(0x0401));
    let fours = _mm512_madd_epi16(twos, _mm512_set1_epi32(0x10_0001));
    // SAFETY: the array has 16 bytes.
    unsafe { _mm_storeu_si128(packed.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(fours)) };
    bases_avx512(part) == !0
}

/// See [`super::words::count_block`].
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn count_block_avx512<const STRIDE: usize>(
    packed: &[u8; PACKED],
    words: usize,
    table: &mut [u16; WORDS],
) {
    /// Words in a vector.
    const LANES: usize = 32;
    let mut indices = [0u16; BLOCK / 2];
    // Each 64-bit lane gets the bytes that hold its four words.
    let (bytes, bits) = (spread(&Cut::<STRIDE>::BYTES), spread(&Cut::<STRIDE>::BITS));
    for (i, out) in indices[..words.next_multiple_of(LANES)].chunks_exact_mut(LANES).enumerate() {
        let part = &packed[i * LANES * STRIDE / 4..][..64];
        // SAFETY: the slice has 64 bytes.
        let part = unsafe { _mm512_loadu_si512(part.as_ptr().cast()) };
        let cut = _mm512_multishift_epi64_epi8(bits, _mm512_permutexvar_epi8(bytes, part));
        let cut = _mm512_and_si512(cut, _mm512_set1_epi16(WORDS as i16 - 1));
        // SAFETY: `out` has 32 16-bit integers.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), cut) };
    }
    for &index in &indices[..words] {
        let counter = &mut table[usize::from(index) % WORDS];
        *counter = counter.wrapping_add(1);
    }
}

/// How [`count_block_avx512`] cuts words out of packed bytes.
struct Cut<const STRIDE: usize>;

impl<const STRIDE: usize> Cut<STRIDE> {
    /// Lane j holds the words 4j to 4j + 3, which begin in byte j strides.
    const BYTES: Spread = {
        let mut bytes = [0; 64];
        let mut i = 0;
        while i < 64 {
            bytes[i] = (i / 8 * STRIDE + i % 8) as u8;
            i += 1;
        }
        bytes
    };

    /// Word i of a lane begins at bit 2i strides; its second byte eight bits
    /// later.
    const BITS: Spread = {
        let mut bits = [0; 64];
        let mut i = 0;
        while i < 64 {
            bits[i] = (2 * STRIDE * (i % 8 / 2) + 8 * (i % 2)) as u8;
            i += 1;
        }
        bits
    };
}

/// Which of 64 letters are bases.
#[target_feature(enable = "avx512f,avx512bw")]
fn bases_avx512(letters: __m512i) -> u64 {
    // A base is what its lowest four bits stand for, in lower case.
    let lower = _mm512_or_si512(letters, _mm512_set1_epi8(0x20));
    let expected = _mm512_shuffle_epi8(spread(BASE_OF_LOW_BITS), letters);
    _mm512_cmpeq_epi8_mask(lower, expected)
}

/// Which of 32 letters are bases: all bits of their bytes.
#[target_feature(enable = "avx2")]
fn bases_avx2(letters: __m256i) -> __m256i {
    // SAFETY: the array has 64 bytes.
    let bases = unsafe { _mm_loadu_si128(BASE_OF_LOW_BITS.as_ptr().cast()) };
    let lower = _mm256_or_si256(letters, _mm256_set1_epi8(0x20));
    let expected = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bases), letters);
    _mm256_cmpeq_epi8(lower, expected)
}

/// See [`super::Backend::move_lines`].
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
pub(super) fn move_lines_avx512(text: &mut [u8], from: usize, to: usize) -> Moved {
    let mut moved = Moved::default();
    // What is stored lies before what is read next.
    assert!(to <= from);
    while let Some(part) = text.get(from + moved.read..).and_then(<[u8]>::first_chunk::<64>) {
        // SAFETY: the array has 64 bytes.
        let part = unsafe { _mm512_loadu_si512(part.as_ptr().cast()) };
        let bases = bases_avx512(part);
        let ends = _mm512_cmpeq_epi8_mask(part, _mm512_set1_epi8(b'\n' as i8));
        let read = (bases | ends).trailing_ones();
        let of_read = if read == 64 { !0 } else { (1 << read) - 1 };
        let letters = (bases & of_read).count_ones();
        let kept = _mm512_maskz_compress_epi8(bases & of_read, part);
        let space = &mut text[to + moved.letters..][..64];
        if read == 64 {
            // SAFETY: `space` has 64 bytes.
            unsafe { _mm512_storeu_si512(space.as_mut_ptr().cast(), kept) };
        } else {
            let mask = (1 << letters) - 1;
            // SAFETY: as above.
            unsafe { _mm512_mask_storeu_epi8(space.as_mut_ptr().cast(), mask, kept) };
        }
        if read > 0 {
            moved.ends_line = ends >> (read - 1) & 1 == 1;
        }
        moved.read += read as usize;
        moved.letters += letters as usize;
        moved.lines += (ends & of_read).count_ones() as usize;
        if read < 64 {
            break;
        }
    }
    moved
}

/// See [`super::Backend::move_lines`].
#[target_feature(enable = "avx2,bmi2")]
pub(super) fn move_lines_avx2(text: &mut [u8], from: usize, to: usize) -> Moved {
    let mut moved = Moved::default();
    // A whole vector is stored, whatever of it is kept: nothing that is still
    // to be read may lie there.
    if from < to + 32 {
        return moved;
    }
    while let Some(part) = text.get(from + moved.read..).and_then(<[u8]>::first_chunk::<32>) {
        // SAFETY: the array has 32 bytes.
        let part = unsafe { _mm256_loadu_si256(part.as_ptr().cast()) };
        let letters = (_mm256_movemask_epi8(bases_avx2(part)) as u32).trailing_ones() as usize;
        let end = text.get(from + moved.read + letters);
        let is_line = letters < 32 && end == Some(&b'\n');
        if letters == 0 && !is_line {
            break;
        }
        let space = &mut text[to + moved.letters..][..32];
        // SAFETY: `space` has 32 bytes.
        unsafe { _mm256_storeu_si256(space.as_mut_ptr().cast(), part) };
        moved.read += letters + usize::from(is_line);
        moved.letters += letters;
        moved.lines += usize::from(is_line);
        moved.ends_line = is_line;
    }
    moved
}

/// Canonical 7-mers of a block, right wherever there are only bases, and
/// whether there are.
///
/// The bases are packed twice, four a byte: with the first one lowest, a
/// window's bits are the complement of its reverse complement; with the first
/// one highest, they are the window itself. Windows are then cut out of the
/// packed bits at every second bit, 32 at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi")]
fn canonical_heptamers_avx512(letters: &Letters, indices: &mut Indices) -> bool {
    /// Packed bytes of a block and what its last loads reach into.
    const PACKED: usize = size_of::<Letters>() / 4 + 16;
    let mut first_lowest = [0u8; PACKED];
    let mut first_highest = [0u8; PACKED];
    let mut bases = !0;
    for (i, part) in letters.chunks_exact(64).enumerate() {
        // SAFETY: `part` has 64 bytes.
        let part = unsafe { _mm512_loadu_si512(part.as_ptr().cast()) };
        bases &= bases_avx512(part);
        let actg = _mm512_and_si512(_mm512_srli_epi16(part, 1), _mm512_set1_epi8(3));
        let half = _mm512_and_si512(_mm512_srli_epi16(part, 2), _mm512_set1_epi8(1));
        let codes = _mm512_xor_si512(actg, half);
        let pack = |weights2: i16, weights4: i32| {
            let twos = _mm512_maddubs_epi16(codes, _mm512_set1_epi16(weights2));
            let fours = _mm512_madd_epi16(twos, _mm512_set1_epi32(weights4));
            _mm512_cvtepi32_epi8(fours)
        };
        // Weights of neighbours: 1 and 4, then 1 and 16; and the other way.
        let (lowest, highest) = (pack(0x0401, 0x10_0001), pack(0x0104, 0x1_0010));
        // SAFETY: there is room for 16 bytes: see `PACKED`.
        unsafe {
            _mm_storeu_si128(first_lowest[16 * i..16 * i + 16].as_mut_ptr().cast(), lowest);
            _mm_storeu_si128(first_highest[16 * i..16 * i + 16].as_mut_ptr().cast(), highest);
        }
    }
    let kmer = _mm512_set1_epi16((1 << 14) - 1);
    for (i, out) in indices.chunks_exact_mut(32).enumerate() {
        let load = |packed: &[u8; PACKED]| {
            // SAFETY: the slice has 16 bytes.
            let part = unsafe { _mm_loadu_si128(packed[8 * i..8 * i + 16].as_ptr().cast()) };
            _mm512_broadcast_i32x4(part)
        };
        // Each 64-bit lane gets the three bytes that hold its four windows.
        let lowest = _mm512_shuffle_epi8(load(&first_lowest), spread(LOWEST_BYTES));
        let highest = _mm512_shuffle_epi8(load(&first_highest), spread(HIGHEST_BYTES));
        let reverse = _mm512_multishift_epi64_epi8(spread(LOWEST_BITS), lowest);
        let forward = _mm512_multishift_epi64_epi8(spread(HIGHEST_BITS), highest);
        let canonical =
            _mm512_min_epu16(_mm512_andnot_si512(reverse, kmer), _mm512_and_si512(forward, kmer));
        // SAFETY: `out` has 32 16-bit integers.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), canonical) };
    }
    bases == !0
}

/// Constants of [`canonical_heptamers_avx512`], for the 64 bytes of a vector.
type Spread = [u8; 64];

#[target_feature(enable = "avx512f")]
fn spread(constant: &'static Spread) -> __m512i {
    // SAFETY: the array has 64 bytes.
    unsafe { _mm512_loadu_si512(constant.as_ptr().cast()) }
}

/// The one base in lower case with these lowest four bits.
static BASE_OF_LOW_BITS: &Spread = &{
    let mut bases = [0xff; 64];
    let mut i = 0;
    while i < 64 {
        bases[i + 1] = b'a';
        bases[i + 3] = b'c';
        bases[i + 4] = b't';
        bases[i + 5] = b'u';
        bases[i + 7] = b'g';
        i += 16;
    }
    bases
};

/// Lane j holds the windows 4j to 4j + 3, which begin in byte j.
static LOWEST_BYTES: &Spread = &{
    let mut bytes = [0x80; 64];
    let mut j = 0;
    while j < 8 {
        let mut i = 0;
        while i < 3 {
            bytes[8 * j + i] = (j + i) as u8;
            i += 1;
        }
        j += 1;
    }
    bytes
};

/// The same bytes, the first one highest.
static HIGHEST_BYTES: &Spread = &{
    let mut bytes = [0x80; 64];
    let mut j = 0;
    while j < 8 {
        let mut i = 0;
        while i < 3 {
            bytes[8 * j + i] = (j + 2 - i) as u8;
            i += 1;
        }
        j += 1;
    }
    bytes
};

/// Window i of a lane begins at bit 2i; its second byte eight bits later.
static LOWEST_BITS: &Spread = &{
    let mut bits = [0; 64];
    let mut i = 0;
    while i < 64 {
        bits[i] = (2 * (i % 8 / 2) + 8 * (i % 2)) as u8;
        i += 1;
    }
    bits
};

/// Window i of a lane ends at bit 24 - 2i, so it begins 14 bits below.
static HIGHEST_BITS: &Spread = &{
    let mut bits = [0; 64];
    let mut i = 0;
    while i < 64 {
        bits[i] = (10 - 2 * (i % 8 / 2) + 8 * (i % 2)) as u8;
        i += 1;
    }
    bits
};

/// For every 64 7-mers in a row, which of them are canonical.
static CANONICAL_OF_64: LazyLock<[u64; 1 << 8]> = LazyLock::new(|| {
    std::array::from_fn(|i| {
        let fours = CANONICAL_OF_FOUR[i * 16..][..16].iter().enumerate();
        fours.fold(0, |mask, (j, &keep)| mask | ((1u64 << keep) - 1) << (4 * j))
    })
});

/// See [`super::kernels::compact_heptamers`].
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
pub(super) fn compact_heptamers_avx512(
    table: &[u8; TABLE],
    counts: &mut [u8; HEPTAMERS_PADDED],
) -> u8 {
    let mut to = 0;
    let mut greatest = _mm512_setzero_si512();
    for (part, &mask) in table[..1 << 14].chunks_exact(64).zip(CANONICAL_OF_64.iter()) {
        // SAFETY: `part` has 64 bytes.
        let part = unsafe { _mm512_loadu_si512(part.as_ptr().cast()) };
        let kept = _mm512_maskz_compress_epi8(mask, part);
        greatest = _mm512_max_epu8(greatest, kept);
        let space = &mut counts[to..to + 64];
        // SAFETY: `space` has 64 bytes.
        unsafe { _mm512_storeu_si512(space.as_mut_ptr().cast(), kept) };
        to += mask.count_ones() as usize;
    }
    greatest_byte(greatest)
}

#[target_feature(enable = "avx512f")]
fn greatest_byte(bytes: __m512i) -> u8 {
    let mut array = [0u8; 64];
    // SAFETY: the array has 64 bytes.
    unsafe { _mm512_storeu_si512(array.as_mut_ptr().cast(), bytes) };
    array.into_iter().fold(0, u8::max)
}

/// Looks up the counts before the first field that a vector of `bytes` may be
/// streamed to, and returns what is left.
#[inline]
fn look_up_unaligned<'counts, 'row>(
    bytes: usize,
    counts: &'counts [u8],
    logarithms: &[f32; 256],
    row: &'row mut [f32],
) -> (&'counts [u8], &'row mut [f32]) {
    let head = row.as_ptr().align_offset(bytes).min(row.len());
    let (counts_before, counts) = counts.split_at(head);
    let (before, row) = row.split_at_mut(head);
    kernels::look_up_each(counts_before, logarithms, before);
    (counts, row)
}

/// See [`super::kernels::look_up`]; no count may exceed `greatest`. With
/// `STREAM` the row goes past the caches.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn look_up_avx512<const STREAM: bool>(
    mut counts: &[u8],
    greatest: u8,
    logarithms: &[f32; 256],
    mut row: &mut [f32],
) {
    if greatest >= 64 {
        kernels::look_up(counts, greatest, logarithms, row);
        return;
    }
    // SAFETY: the four loads end at the 64th of the 256 logarithms.
    let logs: [__m512; 4] =
        std::array::from_fn(|i| unsafe { _mm512_loadu_ps(logarithms[16 * i..].as_ptr()) });
    if STREAM {
        (counts, row) = look_up_unaligned(64, counts, logarithms, row);
    }
    let mut fields = row.chunks_exact_mut(16);
    let mut parts = counts.chunks_exact(16);
    for (fields, part) in fields.by_ref().zip(parts.by_ref()) {
        // SAFETY: `part` has 16 bytes.
        let part = unsafe { _mm_loadu_si128(part.as_ptr().cast()) };
        let indices = _mm512_cvtepu8_epi32(part);
        let mut found = _mm512_permutex2var_ps(logs[0], indices, logs[1]);
        if greatest >= 32 {
            let above = _mm512_test_epi32_mask(indices, _mm512_set1_epi32(32));
            let others = _mm512_permutex2var_ps(logs[2], indices, logs[3]);
            found = _mm512_mask_blend_ps(above, found, others);
        }
        // SAFETY: `fields` has 16 floats, aligned where they are streamed.
        unsafe {
            if STREAM {
                _mm512_stream_ps(fields.as_mut_ptr(), found);
            } else {
                _mm512_storeu_ps(fields.as_mut_ptr(), found);
            }
        }
    }
    kernels::look_up_each(parts.remainder(), logarithms, fields.into_remainder());
    if STREAM {
        // Whoever is told that the row is there sees it.
        _mm_sfence();
    }
}

/// For every 16 7-mers in a row, the order that moves the canonical ones to
/// the front.
static CANONICAL_FIRST: LazyLock<Vec<[u8; 16]>> = LazyLock::new(|| {
    let order = |keeps: &[u8]| {
        let mut order = [0; 16];
        let fours = keeps.iter().zip(0..);
        let kept = fours.flat_map(|(&keep, four)| (0..keep).map(move |i| 4 * four + i));
        order.iter_mut().zip(kept).for_each(|(to, from)| *to = from);
        order
    };
    CANONICAL_OF_FOUR.chunks_exact(4).map(order).collect()
});

/// See [`super::kernels::compact_heptamers`].
#[target_feature(enable = "avx2")]
pub(super) fn compact_heptamers_avx2(
    table: &[u8; TABLE],
    counts: &mut [u8; HEPTAMERS_PADDED],
) -> u8 {
    let mut to = 0;
    let orders = CANONICAL_FIRST.iter().zip(CANONICAL_OF_FOUR.chunks_exact(4));
    for (part, (order, keeps)) in table[..1 << 14].chunks_exact(16).zip(orders) {
        // SAFETY: both have 16 bytes.
        let (part, order) = unsafe {
            (_mm_loadu_si128(part.as_ptr().cast()), _mm_loadu_si128(order.as_ptr().cast()))
        };
        let space = &mut counts[to..to + 16];
        // SAFETY: `space` has 16 bytes.
        unsafe { _mm_storeu_si128(space.as_mut_ptr().cast(), _mm_shuffle_epi8(part, order)) };
        to += usize::from(keeps[0] + keeps[1] + keeps[2] + keeps[3]);
    }
    counts[..HEPTAMERS].iter().fold(0, |greatest, &count| greatest.max(count))
}

/// See [`super::kernels::look_up`]; no count may exceed `greatest`. With
/// `STREAM` the row goes past the caches.
#[target_feature(enable = "avx2")]
pub(super) fn look_up_avx2<const STREAM: bool>(
    mut counts: &[u8],
    greatest: u8,
    logarithms: &[f32; 256],
    mut row: &mut [f32],
) {
    if greatest >= 32 {
        kernels::look_up(counts, greatest, logarithms, row);
        return;
    }
    // SAFETY: the four loads end at the 32nd of the 256 logarithms.
    let logs: [__m256; 4] =
        std::array::from_fn(|i| unsafe { _mm256_loadu_ps(logarithms[8 * i..].as_ptr()) });
    if STREAM {
        (counts, row) = look_up_unaligned(32, counts, logarithms, row);
    }
    let mut fields = row.chunks_exact_mut(8);
    let mut parts = counts.chunks_exact(8);
    for (fields, part) in fields.by_ref().zip(parts.by_ref()) {
        // SAFETY: `part` has 8 bytes.
        let part = unsafe { _mm_loadl_epi64(part.as_ptr().cast()) };
        let indices = _mm256_cvtepu8_epi32(part);
        let pick = |low, high, bit| {
            // The permutation looks at three bits only; the next one, moved
            // to the sign, chooses between two of them.
            let choice =
                _mm256_castsi256_ps(_mm256_sllv_epi32(indices, _mm256_set1_epi32(31 - bit)));
            _mm256_blendv_ps(low, high, choice)
        };
        let of = |i: usize| _mm256_permutevar8x32_ps(logs[i], indices);
        let mut found = pick(of(0), of(1), 3);
        if greatest >= 16 {
            found = pick(found, pick(of(2), of(3), 3), 4);
        }
        // SAFETY: `fields` has 8 floats, aligned where they are streamed.
        unsafe {
            if STREAM {
                _mm256_stream_ps(fields.as_mut_ptr(), found);
            } else {
                _mm256_storeu_ps(fields.as_mut_ptr(), found);
            }
        }
    }
    kernels::look_up_each(parts.remainder(), logarithms, fields.into_remainder());
    if STREAM {
        // Whoever is told that the row is there sees it.
        _mm_sfence();
    }
}
