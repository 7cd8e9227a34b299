//! Counts in the order of the columns.

use crate::count::Counts;
use crate::simd::{Backend, HEPTAMERS, HEPTAMERS_PADDED};

/// Writes the counts of one k as a row of integers.
#[derive(Clone, Debug)]
pub struct CountWriter {
    backend: Backend,
    /// Counts of 7-mers by column, and the space that moving them needs.
    sevens: Box<[u8; HEPTAMERS_PADDED]>,
}

impl CountWriter {
    /// A writer with this backend's kernels.
    pub fn new(backend: Backend) -> Self {
        Self { backend, sevens: Box::new([0; HEPTAMERS_PADDED]) }
    }

    /// Writes the count of every column of `k`; `narrow` makes the row's
    /// integers of counts that may be large.
    ///
    /// # Panics
    /// If `row` is not as wide as there are columns.
    pub fn write<T: Copy + From<u8>>(
        &mut self,
        counts: Counts<'_>,
        k: usize,
        row: &mut [T],
        narrow: impl Fn(u64) -> T,
    ) {
        if let Counts::Bytes(table) = counts {
            self.backend.compact_heptamers(table, &mut self.sevens);
            let sevens = &self.sevens[..HEPTAMERS];
            assert_eq!(row.len(), sevens.len(), "a row has a field per column");
            for (field, &count) in row.iter_mut().zip(sevens) {
                *field = T::from(count);
            }
            return;
        }
        let counts = counts.iter(k);
        assert_eq!(row.len(), counts.len(), "a row has a field per column");
        for (field, count) in row.iter_mut().zip(counts) {
            *field = narrow(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::Counter;
    use crate::naive;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn rows_are_the_counts_of_the_definition(
            sequence in proptest::collection::vec(
                proptest::sample::select(b"ACGTNacgt".to_vec()), 0..2000),
            repeats in 0usize..600,
            k in 1usize..=8,
        ) {
            let sequence = [&sequence[..], &b"A".repeat(repeats)].concat();
            let expected: Vec<u64> = naive::count(&sequence, k).into_values().collect();
            for backend in Backend::available() {
                let mut counter = Counter::new([k], backend);
                counter.count(&sequence);
                let mut row = vec![u16::MAX; expected.len()];
                CountWriter::new(backend)
                    .write(counter.counts(k), k, &mut row, |count| count as u16);
                prop_assert!(row.iter().map(|&count| u64::from(count)).eq(expected.clone()));
            }
        }
    }
}
