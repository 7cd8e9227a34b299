//! Exact counts of canonical k-mers, of several k at once.
//!
//! Only 7-mers (and 8-mers) are counted base by base; shorter ones are
//! derived from them ([`derive`]). Where none is longer than five bases, longer
//! words are counted at every few positions instead ([`short`]).

mod columns;
mod derive;
mod short;

pub use columns::CountWriter;

use crate::canonical::columns;
use crate::dna::{self, CODE, MAX_K};
use crate::simd::{Backend, Sum, TABLE, USED};
use short::ShortCounter;

/// Sequences up to this length are counted in bytes first.
///
/// A byte wraps around at 256 occurrences, which is detected and costs a
/// second pass. Longer sequences are likely to have such a k-mer.
const NARROW_LENGTH: usize = if cfg!(fuzzing) { 1 << 10 } else { 1 << 16 };

/// What is known of a sequence besides its k-mers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Composition {
    /// Letters, of whatever kind.
    pub length: u64,
    /// Letters A, C, G and T (or U).
    pub acgt: u64,
    /// Letters G and C.
    pub gc: u64,
}

impl Composition {
    /// (G + C) / (A + C + G + T), 0 where there is no base at all.
    pub fn gc_fraction(&self) -> f64 {
        if self.acgt == 0 { 0.0 } else { self.gc as f64 / self.acgt as f64 }
    }
}

/// A maximal stretch of bases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First letter.
    pub start: usize,
    /// Number of bases.
    pub length: usize,
}

impl Run {
    /// Its bases.
    fn of<'a>(&self, sequence: &'a [u8]) -> &'a [u8] {
        &sequence[self.start..self.start + self.length]
    }
}

/// Finds the runs of bases of a sequence, in order.
fn find_runs(sequence: &[u8], all_bases: bool, runs: &mut Vec<Run>) {
    runs.clear();
    if all_bases {
        runs.extend((!sequence.is_empty()).then_some(Run { start: 0, length: sequence.len() }));
        return;
    }
    let is_base = |letter: &u8| CODE[usize::from(*letter)] != dna::INVALID;
    let mut start = 0;
    for stretch in sequence.chunk_by(|a, b| is_base(a) == is_base(b)) {
        if is_base(&stretch[0]) {
            runs.push(Run { start, length: stretch.len() });
        }
        start += stretch.len();
    }
}

/// The counts of one k, as they were found.
#[derive(Clone, Copy, Debug)]
pub enum Counts<'a> {
    /// 7-mers, by the integer of the canonical k-mer.
    Bytes(&'a [u8; TABLE]),
    /// 7- or 8-mers, by the integer of the canonical k-mer.
    Words(&'a [u64; TABLE]),
    /// Any other k, by column.
    Columns(&'a [u64]),
}

impl Counts<'_> {
    /// The count of every column, in order; `k` is the k they belong to.
    pub fn iter(&self, k: usize) -> impl ExactSizeIterator<Item = u64> + '_ {
        let kmers = &columns(k).kmers;
        (0..kmers.len()).map(move |column| match self {
            Self::Bytes(table) => u64::from(table[kmers[column] as usize]),
            Self::Words(table) => table[kmers[column] as usize],
            Self::Columns(counts) => counts[column],
        })
    }
}

/// Where the 7-mers of the sequence at hand were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Bytes,
    Words,
}

/// Counts one sequence after another into tables that it keeps.
#[derive(Debug)]
pub struct Counter {
    ks: Vec<usize>,
    backend: Backend,
    composition: Composition,
    runs: Vec<Run>,
    /// Counts all of it where no k is long.
    short: Option<ShortCounter>,
    width: Width,
    bytes: Box<[u8; TABLE]>,
    /// Allocated when a sequence first needs it.
    words: Option<Box<[u64; TABLE]>>,
    octamers: Option<Box<[u64; TABLE]>>,
    /// `shorter[k]`, by column, for those of k = 1 to 6 that were asked for.
    shorter: [Vec<u64>; 7],
}

/// An empty table, made on the heap: it is too large for the stack.
#[allow(clippy::unnecessary_box_returns)]
fn table<T: Default + Copy>() -> Box<[T; TABLE]> {
    let Ok(table) = vec![T::default(); TABLE].into_boxed_slice().try_into() else {
        unreachable!("the length is the array's")
    };
    table
}

impl Counter {
    /// A counter of these k, each from 1 to 8.
    pub fn new(ks: impl IntoIterator<Item = usize>, backend: Backend) -> Self {
        let ks: Vec<usize> = ks.into_iter().collect();
        debug_assert!(ks.iter().all(|k| (1..=MAX_K).contains(k)));
        let shorter =
            std::array::from_fn(|k| vec![0; if ks.contains(&k) { columns(k).len() } else { 0 }]);
        Self {
            octamers: ks.contains(&8).then(table),
            short: ShortCounter::new(&ks, backend),
            ks,
            backend,
            composition: Composition::default(),
            runs: Vec::new(),
            width: Width::Bytes,
            bytes: table(),
            words: None,
            shorter,
        }
    }

    /// Counts `sequence`, forgetting the one before.
    pub fn count(&mut self, sequence: &[u8]) {
        if let Some(short) = &mut self.short {
            self.composition = short.count(sequence, &mut self.runs, &mut self.shorter);
            return;
        }
        if !self.count_in_bytes(sequence) {
            self.count_in_words(sequence);
        }
        if let Some(octamers) = &mut self.octamers {
            octamers.fill(0);
            count_octamers(sequence, &self.runs, octamers);
        }
    }

    /// Length and GC of the sequence.
    pub fn composition(&self) -> Composition {
        self.composition
    }

    /// The sequence's runs of bases, in order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Valid windows of k bases: the sum of the counts of that k.
    pub fn windows(&self, k: usize) -> u64 {
        let windows = self.runs.iter().map(|run| (run.length + 1).saturating_sub(k));
        windows.sum::<usize>() as u64
    }

    /// The counts of one of the k given to [`Counter::new`]: a k-mer and its
    /// reverse complement together, a palindrome once per occurrence.
    pub fn counts(&self, k: usize) -> Counts<'_> {
        match (k, self.width, &self.words, &self.octamers) {
            (8, _, _, Some(octamers)) => Counts::Words(octamers),
            (7, Width::Words, Some(words), _) => Counts::Words(words),
            (7, ..) => Counts::Bytes(&self.bytes),
            _ => Counts::Columns(&self.shorter[k]),
        }
    }

    /// Counts with 7-mers in bytes, unless the sequence has too many of one.
    fn count_in_bytes(&mut self, sequence: &[u8]) -> bool {
        if sequence.len() > NARROW_LENGTH {
            return false;
        }
        self.backend.clear(&mut self.bytes);
        let all_bases = self.backend.count_heptamers(sequence, &mut self.bytes);
        find_runs(sequence, all_bases, &mut self.runs);
        let mut fives = [0u32; 1 << 10];
        self.backend.sum_ends(&self.bytes, &mut fives);
        // A count that wrapped around is missing from the sum.
        if u64::from(fives.iter().sum::<u32>()) != self.windows(7) {
            return false;
        }
        self.width = Width::Bytes;
        if self.ks.contains(&6) {
            let sevens: Vec<u32> = self.bytes[..1 << 14].iter().map(|&x| u32::from(x)).collect();
            self.derive_sixes(&sevens, sequence);
        }
        self.derive_shorter(fives, sequence);
        true
    }

    /// Counts with 7-mers in words, which hold any number.
    fn count_in_words(&mut self, sequence: &[u8]) {
        let mut words = self.words.take().unwrap_or_else(table);
        words[..USED].fill(0);
        let all_bases = self.backend.count_heptamers(sequence, &mut words);
        find_runs(sequence, all_bases, &mut self.runs);
        self.width = Width::Words;
        if self.ks.contains(&6) {
            self.derive_sixes(&words[..1 << 14], sequence);
        }
        let mut fives = [0; 1 << 10];
        self.backend.middles(&words[..1 << 14], &mut fives);
        self.derive_shorter(fives, sequence);
        self.words = Some(words);
    }

    fn derive_sixes<T: Sum>(&mut self, sevens: &[T], sequence: &[u8]) {
        let mut twice = [T::default(); 1 << 12];
        self.backend.halves(sevens, &mut twice);
        derive::halve_and_fold(&mut twice, 6, sequence, &self.runs, &mut self.shorter[6]);
    }

    /// From the 5-mers in the middle of 7-mers, all shorter ones, and with the
    /// shortest the composition.
    fn derive_shorter<T: Sum>(&mut self, mut fives: [T; 1 << 10], sequence: &[u8]) {
        derive::add_run_ends(&mut fives, 5, 7, sequence, &self.runs);
        let mut threes = [T::default(); 1 << 6];
        self.backend.middles(&fives, &mut threes);
        derive::add_run_ends(&mut threes, 3, 5, sequence, &self.runs);
        let mut ones = [T::default(); 1 << 2];
        self.backend.middles(&threes, &mut ones);
        derive::add_run_ends(&mut ones, 1, 3, sequence, &self.runs);
        derive::fold(&fives, 5, &mut self.shorter[5]);
        derive::fold(&threes, 3, &mut self.shorter[3]);
        derive::fold(&ones, 1, &mut self.shorter[1]);
        if self.ks.contains(&4) {
            let mut twice = [T::default(); 1 << 8];
            self.backend.halves(&fives, &mut twice);
            derive::halve_and_fold(&mut twice, 4, sequence, &self.runs, &mut self.shorter[4]);
        }
        if self.ks.contains(&2) {
            let mut twice = [T::default(); 1 << 4];
            self.backend.halves(&threes, &mut twice);
            derive::halve_and_fold(&mut twice, 2, sequence, &self.runs, &mut self.shorter[2]);
        }
        let [a, c, g, t] = ones.map(Into::into);
        let length = sequence.len() as u64;
        self.composition = Composition { length, acgt: a + c + g + t, gc: c + g };
    }
}

/// Adds the 8-mers of all runs to `table` at their canonical forms' integers.
fn count_octamers(sequence: &[u8], runs: &[Run], table: &mut [u64; TABLE]) {
    for run in runs {
        let (mut forward, mut reverse) = (0u16, 0u16);
        for (i, &letter) in run.of(sequence).iter().enumerate() {
            let code = u16::from(CODE[usize::from(letter)] & 3);
            forward = forward << 2 | code;
            reverse = reverse >> 2 | (3 - code) << 14;
            if i >= 7 {
                table[usize::from(forward.min(reverse))] += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use proptest::prelude::*;

    fn counts(counter: &Counter, k: usize) -> Vec<u64> {
        counter.counts(k).iter(k).collect()
    }

    fn check(sequence: &[u8], ks: &[usize]) {
        for backend in Backend::available() {
            let mut counter = Counter::new(ks.iter().copied(), backend);
            counter.count(sequence);
            for &k in ks {
                let expected: Vec<u64> = naive::count(sequence, k).into_values().collect();
                let text = String::from_utf8_lossy(sequence);
                assert_eq!(counts(&counter, k), expected, "{backend}, k = {k}, {text}");
                assert_eq!(counter.windows(k), expected.iter().sum::<u64>());
            }
        }
    }

    /// Sequences with breaks anywhere, of letters that are common or not.
    fn sequence(
        lengths: impl Into<proptest::collection::SizeRange>,
    ) -> impl Strategy<Value = Vec<u8>> {
        let letter = prop_oneof![
            40 => proptest::sample::select(b"ACGTacgtUu".to_vec()),
            1 => proptest::sample::select(b"NnRYKMSWBDHVX-*@`{[~\0\xff".to_vec()),
        ];
        proptest::collection::vec(letter, lengths)
    }

    #[test]
    fn counts_match_the_definition_at_every_short_length() {
        let mut state = 7u32;
        for length in 0..=200 {
            let sequence: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    b"ACGTACGTACGTACGTACGTACGTACGTACGN"[(state >> 27) as usize]
                })
                .collect();
            check(&sequence, &[7, 4, 3]);
        }
    }

    #[test]
    fn counts_match_around_block_ends() {
        let text: Vec<u8> = (0..1600u32).map(|i| b"GATTACAC"[(i * i / 3 % 8) as usize]).collect();
        for length in (500..540).chain(1010..1050) {
            check(&text[..length], &[7]);
            let mut broken = text[..length].to_vec();
            broken[length - 9] = b'N';
            broken[490] = b'-';
            check(&broken, &[7]);
        }
    }

    #[test]
    fn bytes_that_wrap_around_are_counted_wider() {
        for length in [255, 261, 262, 263, 518, 519, 5000, 70_000] {
            let backend = Backend::Scalar;
            let mut counter = Counter::new([7, 4, 3, 1], backend);
            counter.count(&vec![b'T'; length]);
            for k in [7, 4, 3, 1] {
                let counts = counts(&counter, k);
                assert_eq!(counts[0], (length + 1 - k) as u64, "k = {k}");
                assert_eq!(counts[1..].iter().sum::<u64>(), 0);
            }
        }
    }

    #[test]
    fn short_k_are_counted_in_pieces_and_without_wrapping_around() {
        // Around the room of a table and the ends of pieces; homopolymers and others.
        for length in [32_771, 65_535, 65_536, 65_540, 131_080] {
            for text in [&b"T"[..], b"ACGTTGCAAT", b"GATTACA"] {
                let mut sequence: Vec<u8> = text.iter().copied().cycle().take(length).collect();
                for broken in [false, true] {
                    if broken {
                        sequence[length / 3] = b'N';
                    }
                    for backend in Backend::available() {
                        let mut long = Counter::new([7, 5, 4, 3, 2, 1], backend);
                        long.count(&sequence);
                        for k in 3..=5 {
                            let mut short = Counter::new([k], backend);
                            short.count(&sequence);
                            assert!(counts(&short, k) == counts(&long, k), "{k} {length}");
                            assert_eq!(short.composition(), long.composition());
                            assert_eq!(short.runs(), long.runs());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn short_k_match_the_definition_at_every_short_length() {
        let text: Vec<u8> = (0..200u32).map(|i| b"GATTACAC"[(i * i / 3 % 8) as usize]).collect();
        for length in 0..=200 {
            check(&text[..length], &[4, 3]);
            check(&text[..length], &[5, 2]);
            check(&text[..length], &[3]);
        }
    }

    #[test]
    fn short_k_match_the_definition_around_block_ends() {
        let text: Vec<u8> = (0..3300u32).map(|i| b"GATTACAC"[(i * i / 3 % 8) as usize]).collect();
        for length in (1528..1546).chain(1590..1610).chain(3066..3082) {
            for ks in [[3], [4], [5]] {
                check(&text[..length], &ks);
            }
            let mut broken = text[..length].to_vec();
            broken[length - 9] = b'N';
            broken[1530.min(length / 2)] = b'-';
            check(&broken, &[4]);
        }
    }

    #[test]
    fn counter_forgets_the_sequence_before() {
        let mut counter = Counter::new([8, 7, 6, 5, 4, 3, 2, 1], Backend::Scalar);
        counter.count(&[b'A'; 1000]);
        counter.count(b"");
        for k in 1..=8 {
            assert_eq!(counts(&counter, k).iter().sum::<u64>(), 0);
        }
        assert_eq!(counter.composition(), Composition::default());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn all_k_match_the_definition(sequence in sequence(0..200)) {
            check(&sequence, &[1, 2, 3, 4, 5, 6, 7, 8]);
        }

        #[test]
        fn each_k_alone_matches_the_definition(sequence in sequence(0..60), k in 1usize..=8) {
            check(&sequence, &[k]);
        }

        #[test]
        fn long_sequences_match_the_definition(sequence in sequence(1000..3000)) {
            check(&sequence, &[7, 4, 3]);
        }

        #[test]
        fn reverse_complement_changes_nothing(sequence in sequence(0..1500)) {
            let reverse: Vec<u8> = sequence.iter().rev().map(|letter| {
                match letter.to_ascii_uppercase() {
                    b'A' => b'T', b'C' => b'G', b'G' => b'C', b'T' | b'U' => b'A', _ => b'N',
                }
            }).collect();
            let ks = [7, 6, 5, 4, 3, 2, 1, 8];
            let mut one = Counter::new(ks, Backend::Scalar);
            let mut other = Counter::new(ks, Backend::Scalar);
            one.count(&sequence);
            other.count(&reverse);
            for k in ks {
                prop_assert_eq!(counts(&one, k), counts(&other, k));
            }
            prop_assert_eq!(one.composition(), other.composition());
        }

        #[test]
        fn short_k_match_the_definition(
            sequence in sequence(0..2500),
            ks in proptest::sample::subsequence(vec![1, 2, 3, 4, 5], 1..=5),
        ) {
            check(&sequence, &ks);
            // A counter that has counted before counts the same.
            for backend in Backend::available() {
                let mut counter = Counter::new(ks.iter().copied(), backend);
                counter.count(&sequence);
                let first: Vec<_> = ks.iter().map(|&k| counts(&counter, k)).collect();
                counter.count(&b"ACGTN".repeat(300));
                counter.count(&sequence);
                prop_assert!(first == ks.iter().map(|&k| counts(&counter, k)).collect::<Vec<_>>());
            }
        }

        #[test]
        fn composition_matches_the_letters(sequence in sequence(0..700)) {
            let upper = sequence.to_ascii_uppercase();
            let count = |letters: &[u8]| upper.iter().filter(|x| letters.contains(x)).count() as u64;
            for backend in Backend::available() {
                let mut counter = Counter::new([3], backend);
                counter.count(&sequence);
                let composition = counter.composition();
                prop_assert_eq!(composition.length, sequence.len() as u64);
                prop_assert_eq!(composition.acgt, count(b"ACGTU"));
                prop_assert_eq!(composition.gc, count(b"GC"));
            }
        }
    }
}
