//! Counts to log-space rows.

use crate::count::{Counter, Counts};
use crate::layout::{Content, Layout, PSEUDOCOUNT};
use crate::simd::{Backend, HEPTAMERS, HEPTAMERS_PADDED};

/// Turns the counts of one sequence after another into rows.
#[derive(Debug)]
pub struct RowBuilder {
    layout: Layout,
    backend: Backend,
    /// One per block, since each k has its own total.
    logarithms: Vec<Logarithms>,
}

impl RowBuilder {
    /// A builder of rows of this layout.
    pub fn new(layout: Layout, backend: Backend) -> Self {
        let logarithms = layout.blocks().iter().map(|_| Logarithms::new()).collect();
        Self { layout, backend, logarithms }
    }

    /// Writes the row of the sequence that `counter` counted last, which must
    /// have been made for the layout's k.
    ///
    /// # Panics
    /// If `row` is not as wide as the layout.
    pub fn write(&mut self, counter: &Counter, row: &mut [f32]) {
        assert_eq!(row.len(), self.layout.n_fields(), "a row has the layout's width");
        let composition = counter.composition();
        for (block, logarithms) in self.layout.blocks().iter().zip(&mut self.logarithms) {
            let fields = &mut row[block.start..block.stop];
            match block.content {
                Content::Length => fields[0] = (composition.length as f64).ln() as f32,
                Content::Gc => fields[0] = (composition.gc_fraction() + PSEUDOCOUNT).ln() as f32,
                Content::Kmers(k) => {
                    logarithms.set_total(counter.windows(k));
                    write_block(logarithms, self.backend, counter, k, fields);
                }
            }
        }
    }
}

fn write_block(
    logarithms: &mut Logarithms,
    backend: Backend,
    counter: &Counter,
    k: usize,
    fields: &mut [f32],
) {
    let counts = counter.counts(k);
    if let Counts::Bytes(table) = counts {
        let mut columns = [0; HEPTAMERS_PADDED];
        let greatest = backend.compact_heptamers(table, &mut columns);
        let logarithms = logarithms.up_to(greatest);
        backend.look_up(&columns[..HEPTAMERS], greatest, logarithms, fields);
    } else {
        for (field, count) in fields.iter_mut().zip(counts.iter(k)) {
            *field = logarithms.of(count);
        }
    }
}

/// ln(count / total + pseudocount) as float32, remembered for small counts.
///
/// Rows of one length share their total, so most rows find what they need.
#[derive(Debug)]
struct Logarithms {
    total: u64,
    /// How many of `small` hold for `total`.
    known: usize,
    small: [f32; 256],
}

impl Logarithms {
    fn new() -> Self {
        Self { total: 0, known: 0, small: [0.0; 256] }
    }

    fn set_total(&mut self, total: u64) {
        if total != self.total {
            (self.total, self.known) = (total, 0);
        }
    }

    fn compute(&self, count: u64) -> f32 {
        // All frequencies of a row without windows are 0.
        let frequency = count as f64 / self.total.max(1) as f64;
        (frequency + PSEUDOCOUNT).ln() as f32
    }

    /// The logarithms of all counts up to `max` and maybe more.
    fn up_to(&mut self, max: u8) -> &[f32; 256] {
        while self.known <= usize::from(max) {
            self.small[self.known] = self.compute(self.known as u64);
            self.known += 1;
        }
        &self.small
    }

    fn of(&mut self, count: u64) -> f32 {
        match u8::try_from(count) {
            Ok(small) => self.up_to(small)[usize::from(small)],
            Err(_) => self.compute(count),
        }
    }
}

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
