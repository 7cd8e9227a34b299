//! Counts and rows straight from the definitions.
//!
//! Slow, obvious and sharing no table with the fast code, which the tests and
//! benchmarks hold against it.

use std::collections::BTreeMap;

/// 2-bit letter of a base, or nothing for a letter that breaks windows.
fn base(letter: u8) -> Option<char> {
    match letter.to_ascii_uppercase() {
        b'A' => Some('A'),
        b'C' => Some('C'),
        b'G' => Some('G'),
        b'T' | b'U' => Some('T'),
        _ => None,
    }
}

fn reverse_complement(kmer: &str) -> String {
    kmer.chars()
        .rev()
        .map(|base| match base {
            'A' => 'T',
            'C' => 'G',
            'G' => 'C',
            _ => 'A',
        })
        .collect()
}

/// Every canonical k-mer with its count, zeros included, in lexicographic
/// order.
pub fn count(sequence: &[u8], k: usize) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for word in 0..4usize.pow(k as u32) {
        let kmer: String = (0..k)
            .map(|i| char::from(b"ACGT"[word / 4usize.pow((k - 1 - i) as u32) % 4]))
            .collect();
        counts.insert(reverse_complement(&kmer).min(kmer), 0);
    }
    for window in sequence.windows(k) {
        let Some(kmer) = window.iter().map(|&x| base(x)).collect::<Option<String>>() else {
            continue;
        };
        let canonical = reverse_complement(&kmer).min(kmer);
        *counts.entry(canonical).or_default() += 1;
    }
    counts
}

/// The row of a sequence in float64: length, the blocks of `leading`, GC, the
/// blocks of `trailing`.
pub fn row(sequence: &[u8], leading: &[usize], trailing: &[usize]) -> Vec<f64> {
    let block = |k: usize| {
        let counts = count(sequence, k);
        let sum: u64 = counts.values().sum();
        counts.into_values().map(move |count| {
            let frequency = if sum == 0 { 0.0 } else { count as f64 / sum as f64 };
            (frequency + 1e-6).ln()
        })
    };
    let bases: Vec<char> = sequence.iter().filter_map(|&x| base(x)).collect();
    let strong = bases.iter().filter(|&&x| x == 'G' || x == 'C').count();
    let gc = if bases.is_empty() { 0.0 } else { strong as f64 / bases.len() as f64 };
    let mut row = vec![(sequence.len() as f64).ln()];
    row.extend(leading.iter().flat_map(|&k| block(k)));
    row.push((gc + 1e-6).ln());
    row.extend(trailing.iter().flat_map(|&k| block(k)));
    row
}
