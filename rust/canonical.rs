//! Columns of a k-mer block: canonical k-mers in lexicographic order.

use std::sync::LazyLock;

use crate::dna::{self, MAX_K};

/// The canonical k-mers of one k, by column.
#[derive(Debug)]
pub struct Columns {
    /// k.
    pub k: usize,
    /// The canonical k-mer of each column, ascending.
    pub kmers: Vec<u32>,
    /// Their reverse complements, in the same order.
    pub reverse: Vec<u32>,
}

impl Columns {
    fn new(k: usize) -> Self {
        let forward = 0..dna::n_kmers(k) as u32;
        let kmers: Vec<u32> = forward.filter(|&kmer| dna::canonical(kmer, k) == kmer).collect();
        let reverse = kmers.iter().map(|&kmer| dna::reverse_complement(kmer, k)).collect();
        Self { k, kmers, reverse }
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.kmers.len()
    }

    /// Whether there are no columns, which is never so.
    pub fn is_empty(&self) -> bool {
        self.kmers.is_empty()
    }

    /// The names of the columns, k letters each, one after another: `"AAAAAAAAAAAAAC…"`.
    pub fn spelled(&self) -> String {
        let mut text = String::with_capacity(self.len() * self.k);
        let letters = self.kmers.iter().flat_map(|&kmer| dna::letters(kmer, self.k));
        text.extend(letters.map(char::from));
        text
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
            let columns = columns(k);
            assert_eq!(columns.len(), expected.len());
            assert_eq!(columns.spelled(), expected.iter().cloned().collect::<String>(), "k = {k}");
            let reverse = columns.reverse.iter().flat_map(|&kmer| dna::letters(kmer, k));
            let expected: String = expected.iter().map(|x| reverse_complement_text(x)).collect();
            assert!(reverse.eq(expected.bytes()));
        }
    }
}
