//! Sequences at two bits a base, with the letters that are none aside.

use crate::dna::CODE;

/// A maximal stretch of letters that are not bases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// First letter.
    pub start: u32,
    /// Number of letters.
    pub length: u32,
}

/// Appends `sequence` to `packed`, four bases a byte, the first in the lowest
/// bits, letters that are not bases as A; and where those are to `gaps`.
pub fn pack(sequence: &[u8], packed: &mut Vec<u8>, gaps: &mut Vec<Gap>) {
    let code = |letter: u8| CODE[usize::from(letter)] & 3;
    let mut any_gap = false;
    for four in sequence.chunks(4) {
        let mut byte = 0;
        for (i, &letter) in four.iter().enumerate() {
            any_gap |= CODE[usize::from(letter)] > 3;
            byte |= code(letter) << (2 * i);
        }
        packed.push(byte);
    }
    if any_gap {
        find_gaps(sequence, gaps);
    }
}

fn find_gaps(sequence: &[u8], gaps: &mut Vec<Gap>) {
    let is_base = |letter: &u8| CODE[usize::from(*letter)] < 4;
    let mut start = 0;
    for stretch in sequence.chunk_by(|a, b| is_base(a) == is_base(b)) {
        if !is_base(&stretch[0]) {
            gaps.push(Gap { start, length: stretch.len() as u32 });
        }
        start += stretch.len() as u32;
    }
}

/// The letters of a packed sequence: upper-case bases, and N in the gaps.
///
/// # Panics
/// If `packed` is shorter than `length` bases.
pub fn unpack(packed: &[u8], gaps: &[Gap], length: usize) -> Vec<u8> {
    let mut letters: Vec<u8> = (0..length)
        .map(|i| crate::dna::BASES[usize::from(packed[i / 4] >> (2 * (i % 4)) & 3)])
        .collect();
    for gap in gaps {
        letters[gap.start as usize..][..gap.length as usize].fill(b'N');
    }
    letters
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn first_base_is_in_the_lowest_bits() {
        let (mut packed, mut gaps) = (Vec::new(), Vec::new());
        pack(b"CATNNG", &mut packed, &mut gaps);
        assert_eq!(packed, [0b00_11_00_01, 0b10_00]);
        assert_eq!(gaps, [Gap { start: 3, length: 2 }]);
    }

    proptest! {
        #[test]
        fn unpacking_restores_what_counts(
            sequence in proptest::collection::vec(
                proptest::sample::select(b"ACGTacgtuURYN-".to_vec()), 0..100)
        ) {
            let (mut packed, mut gaps) = (Vec::new(), Vec::new());
            pack(&sequence, &mut packed, &mut gaps);
            prop_assert_eq!(packed.len(), sequence.len().div_ceil(4));
            let expected: Vec<u8> = sequence.iter().map(|x| match x.to_ascii_uppercase() {
                b'U' => b'T', x if b"ACGT".contains(&x) => x, _ => b'N',
            }).collect();
            prop_assert_eq!(unpack(&packed, &gaps, sequence.len()), expected);
        }
    }
}
