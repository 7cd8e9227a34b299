use super::*;
use crate::input::records::{Mistake, Piece};
use proptest::prelude::*;

fn header(id: &str) -> Header {
    Header { id: id.into(), replaced: false }
}

/// The chunks of records given as (name, letters), cut after every
/// `chunk` letters.
fn chunks(records: &[(&str, Vec<u8>)], chunk: usize) -> Vec<Parsed> {
    let mut chunks = vec![Parsed::default()];
    for (id, letters) in records {
        let mut header = Some(header(id));
        let mut rest = &letters[..];
        loop {
            let last = chunks.last_mut().unwrap();
            let room = chunk - last.letters.len();
            let (now, later) = rest.split_at(room.min(rest.len()));
            let start = last.letters.len();
            last.letters.extend_from_slice(now).unwrap();
            let letters = start..last.letters.len();
            last.pieces.push(Piece { header: header.take(), letters });
            rest = later;
            if last.letters.len() == chunk {
                chunks.push(Parsed::default());
            }
            if rest.is_empty() {
                break;
            }
        }
    }
    chunks
}

fn rows(
    records: &[(&str, Vec<u8>)],
    chunk: usize,
    cutting: Cutting,
) -> (Vec<(String, u64, Vec<u8>)>, Tally) {
    let mut windower = Windower::new(cutting, 0, "x.fa".into());
    let mut rows = Vec::new();
    for parsed in chunks(records, chunk) {
        windower.push(parsed, &mut rows).unwrap();
    }
    let (tally, _) = windower.finish(&mut rows).unwrap();
    let rows = rows.into_iter();
    (rows.map(|row| (row.id.to_string(), row.start, row.letters().to_vec())).collect(), tally)
}

/// The contract, for whole records.
fn expected(records: &[(&str, Vec<u8>)], cutting: Cutting) -> (Vec<(String, u64, Vec<u8>)>, Tally) {
    let mut tally = Tally::default();
    let mut rows = Vec::new();
    for (id, letters) in records {
        tally.records += 1;
        if (letters.len() as u64) < cutting.min_length || letters.is_empty() {
            tally.too_short += 1;
            continue;
        }
        let n = letters.len().checked_div(cutting.window).unwrap_or(1).max(1);
        for i in 0..n {
            let start = i * cutting.window;
            let end = if i + 1 == n { letters.len() } else { start + cutting.window };
            let window = &letters[start..end];
            if window.windows(7).any(|x| x.iter().all(|&x| x != b'N')) {
                tally.rows += 1;
                tally.letters += window.len() as u64;
                rows.push(((*id).to_string(), start as u64, window.to_vec()));
            } else {
                tally.without_kmer += 1;
            }
        }
    }
    (rows, tally)
}

fn letters(length: usize) -> Vec<u8> {
    (0..length).map(|i| b"ACGT"[i * i % 7 % 4]).collect()
}

#[test]
fn remainders_are_joined_to_the_last_window() {
    let cutting = Cutting { window: 5000, min_length: 1000 };
    for (length, windows) in [
        (999, &[][..]),
        (1000, &[1000]),
        (9999, &[9999]),
        (10_000, &[5000, 5000]),
        (14_999, &[5000, 9999]),
        (15_000, &[5000, 5000, 5000]),
    ] {
        let records = [("a", letters(length))];
        let (rows, _) = rows(&records, 1 << 20, cutting);
        let lengths: Vec<usize> = rows.iter().map(|row| row.2.len()).collect();
        assert_eq!(lengths, windows, "{length}");
    }
}

#[test]
fn odd_names_are_warned_of_once_a_file() {
    let mut windower = Windower::new(Cutting { window: 0, min_length: 0 }, 0, "x.fa".into());
    let records: Vec<(&str, Vec<u8>)> =
        ["", "a", "", "a", "a"].map(|id| (id, b"ACGTACG".to_vec())).into();
    let mut rows = Vec::new();
    for parsed in chunks(&records, 100) {
        windower.push(parsed, &mut rows).unwrap();
    }
    let (_, warnings) = windower.finish(&mut rows).unwrap();
    let ids: Vec<&str> = rows.iter().map(|row| &*row.id).collect();
    assert_eq!(ids, ["record_1", "a", "record_3", "a", "a"]);
    assert_eq!(warnings.len(), 2);
    assert!(warnings[1].contains("2 records have the name of an earlier one, the first 'a'"));
}

#[test]
fn mistakes_are_told_with_the_line_of_the_file() {
    let cutting = Cutting { window: 0, min_length: 0 };
    let mut windower = Windower::new(cutting, 0, "x.fa".into());
    let mut rows = Vec::new();
    windower.push(Parsed { lines: 10, ..Parsed::default() }, &mut rows).unwrap();
    let mistake = Some(Mistake { line: 2, message: "wrong".into() });
    let error = windower.push(Parsed { mistake, ..Parsed::default() }, &mut rows).unwrap_err();
    assert_eq!(error.to_string(), "x.fa, line 13: wrong");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn chunk_ends_do_not_matter(
        lengths in proptest::collection::vec(0usize..100, 0..12),
        gaps in proptest::collection::vec(0usize..600, 0..30),
        chunk in 1usize..120,
        window in 0usize..30,
        min_length in 0u64..70,
    ) {
        let cutting = Cutting { window, min_length };
        let names: Vec<String> = (0..lengths.len()).map(|i| format!("r{i}")).collect();
        let mut all = letters(lengths.iter().sum());
        for gap in gaps {
            if let Some(letter) = all.get_mut(gap) {
                *letter = b'N';
            }
        }
        let mut records = Vec::new();
        for (name, &length) in names.iter().zip(&lengths) {
            records.push((name.as_str(), all.drain(..length).collect()));
        }
        prop_assert_eq!(rows(&records, chunk, cutting), expected(&records, cutting));
    }
}
