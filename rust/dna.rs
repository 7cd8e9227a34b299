//! Bases, their 2-bit codes and k-mers as integers.
//!
//! A base is coded A = 0, C = 1, G = 2, T = 3, so that the integer order of
//! k-mers of one length is their lexicographic order. A k-mer is the integer
//! whose most significant base is the first one.

/// Code of a letter that is not a base: it breaks every window it is in.
pub const INVALID: u8 = 4;

/// 2-bit code of each letter; `U` is read as `T`, and everything else is
/// [`INVALID`].
pub const CODE: [u8; 256] = {
    let mut table = [INVALID; 256];
    let bases = *b"ACGTacgt";
    let mut i = 0;
    while i < bases.len() {
        table[bases[i] as usize] = (i % 4) as u8;
        i += 1;
    }
    table[b'U' as usize] = 3;
    table[b'u' as usize] = 3;
    table
};

/// The letters of the codes 0 to 3.
pub const BASES: [u8; 4] = *b"ACGT";

/// The longest k-mer that is counted.
pub const MAX_K: usize = 8;

/// Number of forward k-mers, 4^k.
pub const fn n_kmers(k: usize) -> usize {
    1 << (2 * k)
}

/// Number of canonical k-mers: half of all, and for even k the palindromes,
/// which are their own reverse complements, once more by half.
pub const fn n_canonical(k: usize) -> usize {
    let palindromes = if k.is_multiple_of(2) { n_kmers(k / 2) } else { 0 };
    usize::midpoint(n_kmers(k), palindromes)
}

/// Reverse complement of a k-mer.
pub const fn reverse_complement(kmer: u32, k: usize) -> u32 {
    let mut rest = kmer;
    let mut result = 0;
    let mut i = 0;
    while i < k {
        result = (result << 2) | (3 - (rest & 3));
        rest >>= 2;
        i += 1;
    }
    result
}

/// The lesser of a k-mer and its reverse complement.
pub const fn canonical(kmer: u32, k: usize) -> u32 {
    let other = reverse_complement(kmer, k);
    if other < kmer { other } else { kmer }
}

/// The letters of a k-mer.
pub fn letters(kmer: u32, k: usize) -> impl Iterator<Item = u8> {
    (0..k).rev().map(move |i| BASES[(kmer >> (2 * i)) as usize & 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bases_have_codes() {
        for letter in 0..=255u8 {
            let expected = match letter.to_ascii_uppercase() {
                b'A' => 0,
                b'C' => 1,
                b'G' => 2,
                b'T' | b'U' => 3,
                _ => INVALID,
            };
            assert_eq!(CODE[letter as usize], expected, "letter {letter}");
        }
    }

    fn spell(kmer: u32, k: usize) -> String {
        letters(kmer, k).map(char::from).collect()
    }

    #[test]
    fn reverse_complements_are_spelled_backwards() {
        assert_eq!(spell(reverse_complement(0b00_01_10_11, 4), 4), "ACGT");
        assert_eq!(spell(reverse_complement(0b00_00_01, 3), 3), "GTT");
        for k in 1..=MAX_K {
            for kmer in 0..n_kmers(k) as u32 {
                assert_eq!(reverse_complement(reverse_complement(kmer, k), k), kmer);
            }
        }
    }

    #[test]
    fn canonical_kmers_are_as_many_as_the_formula_says() {
        for k in 1..=MAX_K {
            let canonical = (0..n_kmers(k) as u32).filter(|&x| canonical(x, k) == x);
            assert_eq!(canonical.count(), n_canonical(k), "k = {k}");
        }
        assert_eq!((n_canonical(7), n_canonical(4), n_canonical(3)), (8192, 136, 32));
    }
}
