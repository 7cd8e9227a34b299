//! Counts, rows and packed sequences of any bytes, on every backend, against the
//! definitions.

#![no_main]

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use kvae::count::Counter;
use kvae::layout::Layout;
use kvae::simd::Backend;
use kvae::{memory, naive, packed};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    k: u8,
    /// As often as this: counts leave a byte, lengths leave a window of 512.
    repeats: u8,
    sequence: Vec<u8>,
}

fuzz_target!(|input: Input| {
    let k = 1 + usize::from(input.k) % 8;
    let once = spelled(&input.sequence);
    let sequence = once.repeat(1 + usize::from(input.repeats % 64));
    if sequence.len() > 1 << 14 {
        return;
    }
    let expected = expected(&sequence, k);
    let layout = Layout::new(&[3]).unwrap();
    let row = naive::row(&sequence, &[3], &[]);
    for backend in Backend::available() {
        let mut counter = Counter::new([k], backend);
        // What was counted before leaves nothing.
        counter.count(b"ACGTTGCATTNACGGGGGGGGGGGGT");
        counter.count(&sequence);
        let counts: Vec<u64> = counter.counts(k).iter(k).collect();
        assert!(counts == expected, "{backend} {k}");
        assert_eq!(counter.windows(k), expected.iter().sum::<u64>());

        let (mut bytes, mut gaps) = (Vec::new(), Vec::new());
        packed::pack(&sequence, counter.runs(), backend, &mut bytes, &mut gaps);
        let unpacked = packed::unpack(&bytes, &gaps, sequence.len()).unwrap();
        let pairs = sequence.iter().zip(&unpacked);
        assert!(pairs.clone().all(|(&letter, &base)| base == base_of(letter)));

        if !sequence.is_empty() {
            let fields = memory::featurize(&[&sequence], &layout, NonZeroUsize::MIN, backend);
            let far = |(x, y): (&f32, &f64)| (f64::from(*x) - y).abs() > 2e-6 * y.abs().max(1.0);
            assert!(!fields.iter().zip(&row).any(far), "{backend}");
        }
    }
});

/// The counts of every column: the definition, but for columns that are listed only once.
fn expected(sequence: &[u8], k: usize) -> Vec<u64> {
    static COLUMNS: [OnceLock<Vec<String>>; 9] = [const { OnceLock::new() }; 9];
    let columns = COLUMNS[k].get_or_init(|| naive::count(b"", k).into_keys().collect());
    let mut counts: HashMap<String, u64> = HashMap::new();
    let bases: Vec<u8> = sequence.iter().map(|&letter| base_of(letter)).collect();
    for window in bases.windows(k).filter(|window| !window.contains(&b'N')) {
        let complement = |&base: &u8| match base {
            b'A' => 'T',
            b'C' => 'G',
            b'G' => 'C',
            _ => 'A',
        };
        let kmer: String = window.iter().map(|&base| char::from(base)).collect();
        let other: String = window.iter().rev().map(complement).collect();
        *counts.entry(kmer.min(other)).or_default() += 1;
    }
    columns.iter().map(|kmer| counts.get(kmer).copied().unwrap_or(0)).collect()
}

/// Mostly bases, so that there are windows; every byte stays possible.
fn spelled(bytes: &[u8]) -> Vec<u8> {
    bytes
        .iter()
        .map(|&b| if b < 0xf0 { b"ACGTacgtUuNn"[usize::from(b >> 2) % 10] } else { b & 0x7f })
        .collect()
}

fn base_of(letter: u8) -> u8 {
    match letter.to_ascii_uppercase() {
        b'U' => b'T',
        upper if b"ACGT".contains(&upper) => upper,
        _ => b'N',
    }
}
