//! Records to rows: windows, and what is left out.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::input::records::{Header, Parsed};
use crate::layout::SHORTEST_RUN;

/// Record names of one file that are compared with one another; the memory
/// for more would grow without bound.
const NAMES_COMPARED: usize = 1 << 22;

/// How records become rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cutting {
    /// Letters in a window; the remainder of a record is joined to its last
    /// window. 0 makes every record one row.
    pub window: usize,
    /// Shorter records are left out.
    pub min_length: u64,
}

/// What will be a row of features.
#[derive(Clone, Debug)]
pub struct Row {
    /// Position of the file among the inputs.
    pub source: u32,
    /// Name of the record.
    pub id: Arc<str>,
    /// Where the row begins on the record.
    pub start: u64,
    text: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Row {
    /// The row's letters.
    pub fn letters(&self) -> &[u8] {
        &self.text[self.range.clone()]
    }
}

/// What became of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records in the file.
    pub records: u64,
    /// Rows made of them.
    pub rows: u64,
    /// Letters in those rows.
    pub letters: u64,
    /// Records left out because they were too short.
    pub too_short: u64,
    /// Rows left out because they had no valid 7-mer.
    pub without_kmer: u64,
}

/// The record at hand.
struct Record {
    id: Arc<str>,
    /// Letters that are in rows already.
    cut: u64,
    /// Letters that wait for more.
    held: Vec<u8>,
}

/// Names of a file that are odd, for one warning each.
#[derive(Default)]
struct OddNames {
    missing: u64,
    replaced: u64,
    repeated: u64,
    first_repeated: Option<Arc<str>>,
}

/// Cuts the records of one file, chunk after chunk.
pub struct Windower {
    cutting: Cutting,
    path: PathBuf,
    source: u32,
    line: u64,
    record: Option<Record>,
    hasher: RandomState,
    names: HashSet<u64>,
    odd: OddNames,
    tally: Tally,
}

impl Windower {
    /// For the file at `path`, the `source`-th of the inputs.
    pub fn new(cutting: Cutting, source: u32, path: PathBuf) -> Self {
        Self {
            cutting,
            path,
            source,
            line: 1,
            record: None,
            hasher: RandomState::new(),
            names: HashSet::new(),
            odd: OddNames::default(),
            tally: Tally::default(),
        }
    }

    /// Takes the file's next chunk and appends the rows that are certain.
    ///
    /// # Errors
    /// If the text has a mistake, or a row is too long for the file format.
    pub fn push(&mut self, parsed: Parsed, rows: &mut Vec<Row>) -> Result<()> {
        let text = Arc::new(parsed.letters);
        let mut pieces = parsed.pieces.into_iter().peekable();
        while let Some(piece) = pieces.next() {
            if let Some(header) = piece.header {
                self.end_record(rows)?;
                self.begin_record(header);
            }
            let whole = pieces.peek().is_some() && parsed.mistake.is_none();
            self.extend(&text, piece.letters, whole, rows)?;
        }
        if let Some(mistake) = parsed.mistake {
            return Err(Error::input_at(&self.path, self.line + mistake.line, mistake.message));
        }
        self.line += parsed.lines;
        Ok(())
    }

    /// Ends the file: appends its last rows and says what became of it, with
    /// warnings that name it.
    ///
    /// # Errors
    /// If a row is too long for the file format.
    pub fn finish(mut self, rows: &mut Vec<Row>) -> Result<(Tally, Vec<String>)> {
        self.end_record(rows)?;
        let warnings = self.odd.warnings(&crate::error::printable(&self.path));
        Ok((self.tally, warnings))
    }

    fn begin_record(&mut self, header: Header) {
        self.tally.records += 1;
        self.odd.replaced += u64::from(header.replaced);
        let id: Arc<str> = if header.id.is_empty() {
            self.odd.missing += 1;
            format!("record_{}", self.tally.records).into()
        } else {
            header.id.into()
        };
        let is_new = self.names.len() >= NAMES_COMPARED
            || self.names.insert(self.hasher.hash_one(id.as_bytes()));
        if !is_new {
            self.odd.repeated += 1;
            self.odd.first_repeated.get_or_insert_with(|| Arc::clone(&id));
        }
        self.record = Some(Record { id, cut: 0, held: Vec::new() });
    }

    /// Adds letters to the record at hand; `whole` says that no more follow.
    fn extend(
        &mut self,
        text: &Arc<Vec<u8>>,
        mut range: Range<usize>,
        whole: bool,
        rows: &mut Vec<Row>,
    ) -> Result<()> {
        let Some(mut record) = self.record.take() else {
            return Ok(());
        };
        if !record.held.is_empty() {
            range = self.complete_held(&mut record, text, range, rows)?;
        }
        let uncut = record.held.len() + range.len();
        if record.held.is_empty() && (whole || self.may_cut(record.cut, uncut)) {
            range.start = self.cut(&mut record, text, range.clone(), whole, rows)?;
        }
        record.held.extend_from_slice(&text[range]);
        self.record = Some(record);
        Ok(())
    }

    /// Whether windows can be cut although the record may go on.
    fn may_cut(&self, cut: u64, uncut: usize) -> bool {
        self.cutting.window > 0 && cut + uncut as u64 >= self.cutting.min_length
    }

    /// Cuts the windows that begin in the held letters and end in the new
    /// ones, if it is certain already where they end; returns what is left of
    /// the new ones.
    fn complete_held(
        &mut self,
        record: &mut Record,
        text: &Arc<Vec<u8>>,
        range: Range<usize>,
        rows: &mut Vec<Row>,
    ) -> Result<Range<usize>> {
        let window = self.cutting.window;
        if !self.may_cut(record.cut, record.held.len() + range.len()) {
            return Ok(range);
        }
        let missing = record.held.len().next_multiple_of(window) - record.held.len();
        if range.len() < missing + window {
            return Ok(range);
        }
        let middle = range.start + missing;
        let mut held = std::mem::take(&mut record.held);
        held.extend_from_slice(&text[range.start..middle]);
        let held = Arc::new(held);
        for start in (0..held.len()).step_by(window) {
            self.emit(record, &held, start..start + window, rows)?;
        }
        Ok(middle..range.end)
    }

    /// Cuts whole windows while as much again is left; all of it if the
    /// record ends here. Returns where the rest begins.
    fn cut(
        &mut self,
        record: &mut Record,
        text: &Arc<Vec<u8>>,
        range: Range<usize>,
        whole: bool,
        rows: &mut Vec<Row>,
    ) -> Result<usize> {
        if whole && record.cut + (range.len() as u64) < self.cutting.min_length.max(1) {
            self.tally.too_short += 1;
            // Nothing is left for the record's end to count again.
            record.cut = u64::MAX;
            return Ok(range.end);
        }
        let window = self.cutting.window;
        let mut start = range.start;
        while window > 0 && range.end - start >= 2 * window {
            self.emit(record, text, start..start + window, rows)?;
            start += window;
        }
        if whole {
            self.emit(record, text, start..range.end, rows)?;
            start = range.end;
        }
        Ok(start)
    }

    fn end_record(&mut self, rows: &mut Vec<Row>) -> Result<()> {
        let Some(mut record) = self.record.take() else {
            return Ok(());
        };
        let held = std::mem::take(&mut record.held);
        if record.cut == 0 || !held.is_empty() {
            let end = held.len();
            self.cut(&mut record, &Arc::new(held), 0..end, true, rows)?;
        }
        Ok(())
    }

    fn emit(
        &mut self,
        record: &mut Record,
        text: &Arc<Vec<u8>>,
        range: Range<usize>,
        rows: &mut Vec<Row>,
    ) -> Result<()> {
        let row = Row {
            source: self.source,
            id: Arc::clone(&record.id),
            start: record.cut,
            text: Arc::clone(text),
            range,
        };
        let length = row.letters().len();
        record.cut += length as u64;
        if u32::try_from(length).is_err() {
            let message = format!(
                "record '{}' is longer than 4,294,967,295 letters: use a --window",
                record.id
            );
            return Err(Error::input(&self.path, message));
        }
        if has_run(row.letters(), SHORTEST_RUN) {
            self.tally.rows += 1;
            self.tally.letters += length as u64;
            rows.push(row);
        } else {
            self.tally.without_kmer += 1;
        }
        Ok(())
    }
}

/// Whether there are `k` bases in a row anywhere: mostly at the very start.
fn has_run(letters: &[u8], k: usize) -> bool {
    let mut run = 0;
    letters.iter().any(|&letter| {
        run = if crate::dna::CODE[usize::from(letter)] < 4 { run + 1 } else { 0 };
        run >= k
    })
}

impl OddNames {
    fn warnings(self, path: &str) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.missing > 0 {
            warnings.push(format!(
                "{path}: {} records without a name are called record_N",
                self.missing
            ));
        }
        if self.replaced > 0 {
            warnings.push(format!(
                "{path}: {} record names are not UTF-8; the bytes concerned are replaced",
                self.replaced
            ));
        }
        if let Some(first) = self.first_repeated {
            warnings.push(format!(
                "{path}: {} records have the name of an earlier one, the first '{first}'",
                self.repeated
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
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
                last.letters.extend_from_slice(now);
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
    fn expected(
        records: &[(&str, Vec<u8>)],
        cutting: Cutting,
    ) -> (Vec<(String, u64, Vec<u8>)>, Tally) {
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
}
