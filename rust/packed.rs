//! Sequences at two bits a base, with the letters that are none aside.

use std::ops::Range;

use crate::allocation;
use crate::count::Run;
use crate::dna::BASES;
use crate::error::Result;
use crate::simd::Backend;

/// A maximal stretch of letters that are not bases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// First letter.
    pub start: u32,
    /// Number of letters.
    pub length: u32,
}

/// Appends `sequence` to `packed`, four bases a byte, the first in the lowest
/// bits, letters that are not bases as A; and where those are, between its
/// `runs` of bases, to `gaps`.
///
/// # Errors
/// If there is no memory.
pub fn pack(
    sequence: &[u8],
    runs: &[Run],
    backend: Backend,
    packed: &mut Vec<u8>,
    gaps: &mut Vec<Gap>,
) -> Result<()> {
    let start = packed.len();
    allocation::resize(packed, start + sequence.len().div_ceil(4))?;
    let packed = &mut packed[start..];
    let is_whole = matches!(runs, [run] if run.length == sequence.len());
    if is_whole {
        backend.pack(sequence, packed);
        return Ok(());
    }
    let before = gaps.len();
    find_gaps(sequence.len(), runs, gaps);
    let mut bases = Vec::new();
    allocation::append(&mut bases, sequence)?;
    for gap in &gaps[before..] {
        bases[gap.start as usize..][..gap.length as usize].fill(b'A');
    }
    backend.pack(&bases, packed);
    Ok(())
}

/// What is left of a sequence between its runs of bases.
fn find_gaps(length: usize, runs: &[Run], gaps: &mut Vec<Gap>) {
    let mut end = 0;
    let after = Run { start: length, length: 0 };
    for run in runs.iter().chain(std::iter::once(&after)) {
        if run.start > end {
            gaps.push(Gap { start: end as u32, length: (run.start - end) as u32 });
        }
        end = run.start + run.length;
    }
}

/// The letters of a packed sequence: upper-case bases, and N in the gaps.
/// Nothing if there are fewer bytes than letters, or a gap is outside.
pub fn unpack(packed: &[u8], gaps: &[Gap], length: usize) -> Option<Vec<u8>> {
    let mut letters = Vec::with_capacity(4 * packed.len());
    for &byte in packed.get(..length.div_ceil(4))? {
        letters.extend_from_slice(&FOUR_BASES[usize::from(byte)]);
    }
    letters.truncate(length);
    for gap in gaps {
        let start = gap.start as usize;
        letters.get_mut(start..start + gap.length as usize)?.fill(b'N');
    }
    Some(letters)
}

/// Writes the letters of a stretch of a packed sequence: upper-case bases, and
/// N in the gaps, which are those of the whole sequence. `packed` begins with the
/// byte that has the first letter.
///
/// # Panics
/// If there are fewer bytes than letters.
pub fn unpack_stretch(packed: &[u8], gaps: &[Gap], stretch: Range<u64>, letters: &mut Vec<u8>) {
    let before = (stretch.start % 4) as usize;
    let length = (stretch.end - stretch.start) as usize;
    letters.clear();
    for &byte in &packed[..(before + length).div_ceil(4)] {
        letters.extend_from_slice(&FOUR_BASES[usize::from(byte)]);
    }
    letters.copy_within(before.., 0);
    letters.truncate(length);
    let within = |position: u64| position.clamp(stretch.start, stretch.end) - stretch.start;
    for gap in gaps {
        let start = u64::from(gap.start);
        let end = start + u64::from(gap.length);
        letters[within(start) as usize..within(end) as usize].fill(b'N');
    }
}

/// The letters of every packed byte.
static FOUR_BASES: [[u8; 4]; 256] = {
    let mut letters = [[0; 4]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut i = 0;
        while i < 4 {
            letters[byte][i] = BASES[byte >> (2 * i) & 3];
            i += 1;
        }
        byte += 1;
    }
    letters
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::Counter;
    use proptest::prelude::*;

    /// Packed by every backend alike.
    fn packed(sequence: &[u8]) -> (Vec<u8>, Vec<Gap>) {
        let mut results = Vec::new();
        for backend in Backend::available() {
            let mut counter = Counter::new([7], backend);
            counter.count(sequence);
            let (mut packed, mut gaps) = (vec![77], Vec::new());
            pack(sequence, counter.runs(), backend, &mut packed, &mut gaps).unwrap();
            assert_eq!(packed.remove(0), 77, "what was there stays");
            results.push((packed, gaps));
        }
        assert!(results.iter().all(|result| *result == results[0]));
        results.swap_remove(0)
    }

    #[test]
    fn first_base_is_in_the_lowest_bits() {
        let (packed, gaps) = packed(b"CATNNG");
        assert_eq!(packed, [0b00_11_00_01, 0b10_00]);
        assert_eq!(gaps, [Gap { start: 3, length: 2 }]);
    }

    proptest! {
        #[test]
        fn unpacking_restores_what_counts(
            sequence in proptest::collection::vec(
                prop_oneof![
                    60 => proptest::sample::select(b"ACGTacgtuU".to_vec()),
                    1 => proptest::sample::select(b"RYN-".to_vec()),
                ], 0..300)
        ) {
            let (packed, gaps) = packed(&sequence);
            prop_assert_eq!(packed.len(), sequence.len().div_ceil(4));
            let expected: Vec<u8> = sequence.iter().map(|x| match x.to_ascii_uppercase() {
                b'U' => b'T', x if b"ACGT".contains(&x) => x, _ => b'N',
            }).collect();
            prop_assert_eq!(unpack(&packed, &gaps, sequence.len()), Some(expected));
        }
    }
}
