//! Counts to log-space rows.

use crate::count::{Counter, Counts};
use crate::layout::{Content, Layout, PSEUDOCOUNT};
use crate::simd::{Backend, HEPTAMERS, HEPTAMERS_PADDED};

/// Turns the counts of one sequence after another into rows.
#[derive(Clone, Debug)]
pub struct RowBuilder {
    layout: Layout,
    backend: Backend,
    /// Rows are not read again soon.
    stream: bool,
    /// Counts of 7-mers by column, and the space that moving them needs.
    sevens: Box<[u8; HEPTAMERS_PADDED]>,
}

impl RowBuilder {
    /// A builder of rows of this layout.
    pub fn new(layout: Layout, backend: Backend) -> Self {
        Self { layout, backend, stream: false, sevens: Box::new([0; HEPTAMERS_PADDED]) }
    }

    /// The same for rows that are not read again soon, like those of an array
    /// that is larger than the caches: they go past them where that can be done.
    #[must_use]
    pub fn streaming(mut self) -> Self {
        self.stream = true;
        self
    }

    /// Writes the row of the sequence that `counter` counted last, which must
    /// have been made for the layout's k.
    ///
    /// # Panics
    /// If `row` is not as wide as the layout.
    pub fn write(&mut self, counter: &Counter, row: &mut [f32]) {
        assert_eq!(row.len(), self.layout.n_fields(), "a row has the layout's width");
        let composition = counter.composition();
        for i in 0..self.layout.blocks().len() {
            let block = self.layout.blocks()[i];
            let fields = &mut row[block.start..block.stop];
            match block.content {
                Content::Length => fields[0] = (composition.length as f64).ln() as f32,
                Content::Gc => fields[0] = (composition.gc_fraction() + PSEUDOCOUNT).ln() as f32,
                Content::Kmers(k) => self.write_kmers(counter, k, fields),
            }
        }
    }

    fn write_kmers(&mut self, counter: &Counter, k: usize, fields: &mut [f32]) {
        let total = counter.windows(k);
        match counter.counts(k) {
            // Few different counts for many fields: one logarithm each.
            Counts::Bytes(table) => {
                let greatest = self.backend.compact_heptamers(table, &mut self.sevens);
                let mut logarithms = [0.0; 256];
                // Whole vectors, whatever the greatest is.
                let n = (usize::from(greatest) + 1).next_multiple_of(16);
                self.backend.log_frequencies(&UP_TO_255[..n], total, &mut logarithms[..n]);
                let sevens = &self.sevens[..HEPTAMERS];
                self.backend.look_up(sevens, greatest, &logarithms, fields, self.stream);
            }
            Counts::Columns(counts) => self.backend.log_frequencies(counts, total, fields),
            counts @ Counts::Words(_) => {
                let counts: Vec<u64> = counts.iter(k).collect();
                self.backend.log_frequencies(&counts, total, fields);
            }
        }
    }
}

static UP_TO_255: [u64; 256] = {
    let mut numbers = [0; 256];
    let mut i = 0;
    while i < 256 {
        numbers[i] = i as u64;
        i += 1;
    }
    numbers
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use proptest::prelude::*;

    fn row(sequence: &[u8], ks: &[usize], backend: Backend) -> Vec<f32> {
        let layout = Layout::new(ks).unwrap();
        let mut counter = Counter::new(layout.ks(), backend);
        let mut row = vec![f32::NAN; layout.n_fields()];
        let mut builder = RowBuilder::new(layout, backend);
        counter.count(sequence);
        builder.write(&counter, &mut row);
        // Wherever it goes, and however, a row is the same.
        let mut builder = builder.streaming();
        for before in 0..3 {
            let mut rows = vec![f32::NAN; before + row.len()];
            builder.write(&counter, &mut rows[before..]);
            assert!(rows[before..] == row);
        }
        row
    }

    /// At most two units in the last place, or 2e-7 near zero.
    fn assert_close(value: f32, expected: f64, what: &str) {
        let rounded = expected as f32;
        let ulp = f64::from(f32::from_bits(rounded.abs().to_bits() + 1)) - f64::from(rounded.abs());
        let error = (f64::from(value) - expected).abs();
        assert!(error <= (2.0 * ulp).max(2e-7), "{what}: {value} instead of {expected}");
    }

    fn check(sequence: &[u8]) {
        for (ks, leading, trailing) in [
            (&[7, 4, 3][..], &[7, 4, 3][..], &[][..]),
            (&[7, 6, 5, 4, 3], &[7, 4, 3], &[5, 6]),
            (&[4], &[4], &[]),
        ] {
            let expected = naive::row(sequence, leading, trailing);
            for backend in Backend::available() {
                let row = row(sequence, ks, backend);
                assert_eq!(row.len(), expected.len());
                for (field, (&value, &expected)) in row.iter().zip(&expected).enumerate() {
                    assert_close(value, expected, &format!("{backend}, field {field}"));
                }
            }
        }
    }

    #[test]
    fn first_and_last_columns_are_exact() {
        check(b"AAAAAAACAAAAAAGAAAAAATAAAAACAAAAAACCTTTAAAATTACTTAAGGTCCGGACCTAGGAA");
        let every_end: Vec<u8> =
            (0..4096u32).flat_map(|kmer| crate::dna::letters(kmer, 6)).collect();
        for part in every_end.chunks(4000) {
            check(part);
        }
    }

    #[test]
    fn repeats_and_breaks_are_exact() {
        check(&[b'A'; 300]);
        check(&b"GATTACANNN".repeat(40));
        check(b"ACGTNNNNNNACGTACG");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn rows_match_the_definition(
            sequence in proptest::collection::vec(
                proptest::sample::select(b"ACGTacgtACGTacgtN".to_vec()), 7..400)
        ) {
            check(&sequence);
        }
    }
}
