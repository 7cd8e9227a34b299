//! Columns of a k-mer block: canonical k-mers in lexicographic order.

use std::sync::LazyLock;

use crate::dna::{self, MAX_K};

/// Both directions between the canonical k-mers of one k and their columns.
#[derive(Debug)]
pub struct Columns {
    /// k.
    pub k: usize,
    /// The canonical k-mer of each column, ascending.
    pub kmers: Vec<u32>,
    /// The column of every forward k-mer, by way of its canonical one.
    ///
    /// There is no filler value: each of the 4^k entries is a real column.
    pub column: Vec<u16>,
}

impl Columns {
    fn new(k: usize) -> Self {
        let forward = 0..dna::n_kmers(k) as u32;
        let kmers: Vec<u32> =
            forward.clone().filter(|&kmer| dna::canonical(kmer, k) == kmer).collect();
        let mut rank = vec![None; dna::n_kmers(k)];
        for (column, &kmer) in (0..).zip(&kmers) {
            rank[kmer as usize] = Some(column);
        }
        let column = forward.filter_map(|kmer| rank[dna::canonical(kmer, k) as usize]).collect();
        Self { k, kmers, column }
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.kmers.len()
    }

    /// Whether there are no columns: never, but clippy and readers ask.
    pub fn is_empty(&self) -> bool {
        self.kmers.is_empty()
    }

    /// The names of the columns: `["AAAAAAA", "AAAAAAC", …]`.
    pub fn names(&self) -> Vec<String> {
        self.kmers.iter().map(|&x| dna::spell(x, self.k)).collect()
    }
}

/// The columns of k-mers, `1 <= k <= 8`.
///
/// # Panics
/// If `k` is outside 1 to [`MAX_K`]: a defect of the caller, not of the data.
pub fn columns(k: usize) -> &'static Columns {
    static TABLES: LazyLock<Vec<Columns>> =
        LazyLock::new(|| (1..=MAX_K).map(Columns::new).collect());
    &TABLES[k - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn reverse_complement_text(kmer: &str) -> String {
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

    /// All words of length k over ACGT, spelled out.
    fn words(k: usize) -> Vec<String> {
        (0..k).fold(vec![String::new()], |words, _| {
            words
                .iter()
                .flat_map(|word| ["A", "C", "G", "T"].map(|base| format!("{word}{base}")))
                .collect()
        })
    }

    #[test]
    fn columns_agree_with_brute_force_over_text() {
        for k in 1..=MAX_K {
            let expected: BTreeSet<String> =
                words(k).into_iter().map(|word| reverse_complement_text(&word).min(word)).collect();
            let expected: Vec<String> = expected.into_iter().collect();
            let columns = columns(k);
            assert_eq!(columns.names(), expected, "k = {k}");
            assert_eq!(columns.column.len(), dna::n_kmers(k));
            for (kmer, word) in words(k).into_iter().enumerate() {
                let canonical = reverse_complement_text(&word).min(word);
                assert_eq!(expected[columns.column[kmer] as usize], canonical);
            }
        }
    }
}
