//! Counts, rows and packed sequences of any bytes, on every backend, against the
//! definitions.

use std::num::NonZeroUsize;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use kvae::count::Counter;
use kvae::layout::Layout;
use kvae::simd::Backend;
use kvae::{memory, naive, packed};

use super::common::decoded;

/// Bases counted at most: counts leave a byte, lengths leave a window of 512.
const LONGEST: usize = 1 << 13;

#[derive(Arbitrary, Debug)]
struct Input {
    /// Its highest bit asks for all k up to this one.
    k: u8,
    /// Most of them none.
    repeats: u8,
    sequence: Vec<u8>,
}

/// Counts one sequence in every way.
pub(crate) fn count(data: &[u8]) {
    let Some(input) = decoded::<Input>(data) else {
        return;
    };
    let k = 1 + usize::from(input.k) % 8;
    let ks: Vec<usize> = if input.k < 128 { vec![k] } else { (1..=k).collect() };
    let mut sequence = spelled(&input.sequence);
    if input.repeats >= 192 {
        sequence = sequence.repeat(1 + usize::from(input.repeats % 64));
    }
    sequence.truncate(LONGEST);
    let codes: Vec<u8> = sequence.iter().map(|&letter| CODES[usize::from(letter)]).collect();
    let expected: Vec<Vec<u64>> = ks.iter().map(|&k| counts(&codes, k)).collect();
    let row = row(&codes);
    let layout = Layout::new(&[3]).unwrap();
    for backend in Backend::available() {
        let mut counter = Counter::new(ks.iter().copied(), backend);
        // What was counted before leaves nothing.
        counter.count(b"ACGTTGCATTNACGGGGGGGGGGGGT");
        counter.count(&sequence);
        for (&k, expected) in ks.iter().zip(&expected) {
            assert!(counter.counts(k).iter(k).eq(expected.iter().copied()), "{backend} {k}");
            assert_eq!(counter.windows(k), expected.iter().sum::<u64>());
        }

        let (mut bytes, mut gaps) = (Vec::new(), Vec::new());
        packed::pack(&sequence, counter.runs(), backend, &mut bytes, &mut gaps).unwrap();
        let unpacked = packed::unpack(&bytes, &gaps, sequence.len()).unwrap();
        assert!(unpacked.iter().map(|&base| CODES[usize::from(base)]).eq(codes.iter().copied()));
        assert!(unpacked.iter().all(|base| b"ACGTN".contains(base)));

        if !sequence.is_empty() {
            let fields =
                memory::featurize(&[&sequence], &layout, NonZeroUsize::MIN, backend).unwrap();
            let far = |(x, y): (&f32, &f64)| (f64::from(*x) - y).abs() > 2e-6 * y.abs().max(1.0);
            assert_eq!(fields.len(), row.len());
            assert!(!fields.iter().zip(&row).any(far), "{backend}");
        }
    }
}

const NO_BASE: u8 = 4;

/// A, C, G, T (and U) are 0 to 3 in either case.
const CODES: [u8; 256] = {
    let mut codes = [NO_BASE; 256];
    let letters = *b"ACGTUacgtu";
    let mut i = 0;
    while i < letters.len() {
        codes[letters[i] as usize] = [0, 1, 2, 3, 3][i % 5];
        i += 1;
    }
    codes
};

/// The counts of every column, window by window; the columns are those of the definition.
fn counts(codes: &[u8], k: usize) -> Vec<u64> {
    static COLUMNS: [OnceLock<Vec<usize>>; 9] = [const { OnceLock::new() }; 9];
    let columns = COLUMNS[k].get_or_init(|| {
        let number = |kmer: &String| {
            kmer.bytes().fold(0, |word, base| 4 * word + usize::from(CODES[usize::from(base)]))
        };
        naive::count(b"", k).keys().map(number).collect()
    });
    let mut found = vec![0; 4usize.pow(k as u32)];
    for window in codes.windows(k).filter(|window| !window.contains(&NO_BASE)) {
        let word = window.iter().fold(0, |word, &code| 4 * word + usize::from(code));
        let other = window.iter().rev().fold(0, |word, &code| 4 * word + usize::from(3 - code));
        found[word.min(other)] += 1;
    }
    columns.iter().map(|&word| found[word]).collect()
}

/// The row of k = 3.
fn row(codes: &[u8]) -> Vec<f64> {
    let log_fraction = |part: u64, whole: u64| {
        let fraction = if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        (fraction + 1e-6).ln()
    };
    let counts = counts(codes, 3);
    let windows = counts.iter().sum();
    let bases = codes.iter().filter(|&&code| code < NO_BASE).count();
    let strong = codes.iter().filter(|code| [1, 2].contains(*code)).count();
    let ends = [(codes.len() as f64).ln(), log_fraction(strong as u64, bases as u64)];
    let block = counts.iter().map(|&count| log_fraction(count, windows));
    ends[..1].iter().copied().chain(block).chain(ends[1..].iter().copied()).collect()
}

/// Mostly bases, so that there are windows; every byte stays possible.
fn spelled(bytes: &[u8]) -> Vec<u8> {
    bytes
        .iter()
        .map(|&b| if b < 0xf0 { b"ACGTacgtUuNn"[usize::from(b >> 2) % 10] } else { b & 0x7f })
        .collect()
}
