//! Rows of feature files, gathered from anywhere in them by several threads.
//!
//! Rows are read, not mapped: reading takes just the bytes of a row from the
//! disk, and a file that is cut short meanwhile is an error and not the end of
//! the process. Whoever knows the files' framing says where their rows are.
//! Several files are one: the bytes of each are numbered on from those of the
//! one before.

use std::fs::File;
use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytemuck::{Pod, cast_slice_mut};

use crate::allocation::{reserve, resize};
use crate::checksums::Checksums;
use crate::count::Counter;
use crate::error::{Error, Result};
use crate::features::RowBuilder;
use crate::layout::{Content, Layout, PSEUDOCOUNT};
use crate::memory::fill;
use crate::packed::{self, Gap};
use crate::platform::read_exact_at;
use crate::simd::Backend;

/// Files that rows are read from.
#[derive(Debug)]
pub struct RowFile {
    /// In the order of their rows.
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    path: PathBuf,
    file: File,
    /// The number of its first byte.
    base: u64,
    /// Bytes in it when it was opened.
    size: u64,
    /// Nothing where the file has none, or is read as it is.
    checksums: Option<Checksums>,
}

/// Where the counts of a row are, all of one k.
#[derive(Clone, Debug)]
pub struct CountBlock {
    /// The k.
    pub k: usize,
    /// Bytes in a count: 2 or 4.
    pub size: usize,
    /// Where each row's counts begin in the file.
    pub offsets: Vec<u64>,
    /// The sum of each row's counts.
    pub totals: Vec<u64>,
}

/// What is stored of rows whose counts are.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Letters of each.
    pub lengths: Vec<u64>,
    /// GC fraction of each.
    pub gc: Vec<f32>,
    /// The counts of every k.
    pub blocks: Vec<CountBlock>,
}

/// A stretch of a packed sequence.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// Where the sequence begins in the file.
    pub offset: u64,
    /// The letters of the sequence that are wanted.
    pub letters: Range<u64>,
    /// The gaps of the sequence, or those of them that touch the stretch.
    pub gaps: Range<usize>,
}

impl RowFile {
    /// Opens files; what is read of them is checked if `verify` is set and they
    /// have checksums.
    ///
    /// # Errors
    /// If one cannot be opened, or its checksums are damaged.
    pub fn open<P: AsRef<Path>>(paths: &[P], verify: bool) -> Result<Self> {
        let mut base = 0;
        let mut members = Vec::with_capacity(paths.len());
        for path in paths {
            let path = path.as_ref();
            let file = File::open(path).map_err(|error| Error::io(path, error))?;
            let size = file.metadata().map_err(|error| Error::io(path, error))?.len();
            let checksums = if verify { Checksums::open(&file, path)? } else { None };
            members.push(Member { path: path.to_path_buf(), file, base, size, checksums });
            base += size;
        }
        Ok(Self { members })
    }

    /// The number of each file's first byte.
    pub fn bases(&self) -> Vec<u64> {
        self.members.iter().map(|member| member.base).collect()
    }

    /// A sum of each whole file; nothing where there is none, or it is not used.
    pub fn digests(&self) -> Vec<Option<u64>> {
        let digest = |member: &Member| member.checksums.as_ref().map(Checksums::digest);
        self.members.iter().map(digest).collect()
    }

    /// Makes sure that `length` bytes from `offset` on are those that were
    /// written, where that can be told.
    ///
    /// # Errors
    /// If they are not, or the file cannot be read.
    pub fn verify(&self, offset: u64, length: u64) -> Result<()> {
        self.member(offset).map_or(Ok(()), |member| member.verify(offset - member.base, length))
    }

    /// The same for what describes a record batch of one of the files.
    ///
    /// # Errors
    /// Those of [`RowFile::verify`].
    pub fn verify_message(&self, file: usize, batch: usize) -> Result<()> {
        let Some(Member { path, file, checksums: Some(checksums), .. }) = self.members.get(file)
        else {
            return Ok(());
        };
        checksums.check_message(file, path, batch)
    }

    fn member(&self, offset: u64) -> Option<&Member> {
        let next = self.members.partition_point(|member| member.base <= offset);
        self.members[..next].last()
    }

    /// Copies the rows of floats that begin at `offsets`, one after the other.
    ///
    /// # Errors
    /// If the file cannot be read.
    ///
    /// # Panics
    /// If `rows` is not a whole number of fields per offset.
    pub fn log_rows(&self, offsets: &[u64], threads: NonZeroUsize, rows: &mut [f32]) -> Result<()> {
        gather(rows, offsets, threads, || (), |(), &offset, row| self.read(offset, row))
    }

    /// Computes log-space rows from counts.
    ///
    /// # Errors
    /// If the file cannot be read.
    ///
    /// # Panics
    /// If `rows` has another size, or the counts of a k of the layout are missing.
    pub fn counted_rows(
        &self,
        layout: &Layout,
        counted: &Counted,
        threads: NonZeroUsize,
        backend: Backend,
        rows: &mut [f32],
    ) -> Result<()> {
        let indices: Vec<usize> = (0..counted.lengths.len()).collect();
        let tools = || (Vec::new(), Vec::new(), Vec::new());
        gather(rows, &indices, threads, tools, |(short, long, counts), &i, row| {
            for field in layout.blocks() {
                let fields = &mut row[field.start..field.stop];
                let Content::Kmers(k) = field.content else {
                    let value = match field.content {
                        Content::Length => counted.lengths[i] as f64,
                        _ => f64::from(counted.gc[i]) + PSEUDOCOUNT,
                    };
                    fields[0] = value.ln() as f32;
                    continue;
                };
                let mut blocks = counted.blocks.iter();
                let block = blocks.find(|block| block.k == k).expect("counts of every k");
                if block.size == 2 {
                    self.read_counts::<u16>(block.offsets[i], fields.len(), short, counts)?;
                } else {
                    self.read_counts::<u32>(block.offsets[i], fields.len(), long, counts)?;
                }
                backend.log_frequencies(counts, block.totals[i], fields);
            }
            Ok(())
        })
    }

    /// Computes log-space rows from stretches of packed sequences.
    ///
    /// # Errors
    /// If the file cannot be read, or a gap is not within its sequence.
    ///
    /// # Panics
    /// If `rows` has another size, or a stretch has no letters.
    pub fn packed_rows(
        &self,
        layout: &Layout,
        stretches: &[Stretch],
        gaps: &[Gap],
        threads: NonZeroUsize,
        backend: Backend,
        rows: &mut [f32],
    ) -> Result<()> {
        let tools = || {
            let counter = Counter::new(layout.ks(), backend);
            (counter, RowBuilder::new(layout.clone(), backend), Vec::new(), Vec::new())
        };
        gather(rows, stretches, threads, tools, |tools, stretch, row| {
            let (counter, builder, bytes, letters) = tools;
            let first = stretch.letters.start / 4;
            let end = stretch.letters.end.div_ceil(4);
            // A damaged length must not ask for more memory than there are bytes.
            let member = self.member(stretch.offset).ok_or_else(no_file)?;
            if end > (member.base + member.size).saturating_sub(stretch.offset) {
                return Err(member.cut_short());
            }
            resize(bytes, (end - first) as usize)?;
            self.read(stretch.offset + first, bytes)?;
            let gaps = gaps.get(stretch.gaps.clone()).unwrap_or_default();
            letters.clear();
            reserve(letters, 4 * bytes.len())?;
            packed::unpack_stretch(bytes, gaps, stretch.letters.clone(), letters);
            counter.count(letters);
            builder.write(counter, row);
            Ok(())
        })
    }

    fn read_counts<T: Pod + Into<u64>>(
        &self,
        offset: u64,
        n: usize,
        buffer: &mut Vec<T>,
        counts: &mut Vec<u64>,
    ) -> Result<()> {
        buffer.resize(n, T::zeroed());
        self.read(offset, buffer)?;
        counts.clear();
        counts.extend(buffer.iter().map(|&count| count.into()));
        Ok(())
    }

    fn read<T: Pod>(&self, offset: u64, values: &mut [T]) -> Result<()> {
        let bytes = cast_slice_mut(values);
        let member = self.member(offset).ok_or_else(no_file)?;
        let offset = offset - member.base;
        member.verify(offset, bytes.len() as u64)?;
        read_exact_at(&member.file, bytes, offset).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => member.cut_short(),
            _ => Error::io(&member.path, error),
        })
    }
}

fn no_file() -> Error {
    Error::Argument("there is no file to read rows from".into())
}

impl Member {
    fn verify(&self, offset: u64, length: u64) -> Result<()> {
        match &self.checksums {
            Some(checksums) => {
                checksums.check(&self.file, &self.path, offset..offset.saturating_add(length))
            }
            None => Ok(()),
        }
    }

    fn cut_short(&self) -> Error {
        Error::input(&self.path, "ends before its rows do: it was cut short or is damaged")
    }
}

/// [`fill`], with work that may fail.
fn gather<Item: Sync, Tools>(
    rows: &mut [f32],
    items: &[Item],
    threads: NonZeroUsize,
    tools: impl Fn() -> Tools + Sync,
    write: impl Fn(&mut Tools, &Item, &mut [f32]) -> Result<()> + Sync,
) -> Result<()> {
    let failure = Mutex::new(None);
    fill(rows, items, threads, tools, |tools, item, row| {
        if let Err(error) = write(tools, item, row) {
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;
    use std::io::Write;

    const THREADS: [usize; 2] = [1, 3];

    fn file_of(bytes: &[u8]) -> (tempfile::NamedTempFile, RowFile) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let rows = RowFile::open(&[file.path()], true).unwrap();
        (file, rows)
    }

    fn sequences() -> Vec<Vec<u8>> {
        (1..60usize)
            .map(|i| {
                let mut letters: Vec<u8> =
                    (0..i * 37).map(|j| b"ACGT"[(i + j * j + j / 7) % 4]).collect();
                if i % 3 == 0 {
                    letters[i..i + 5].fill(b'N');
                }
                letters
            })
            .collect()
    }

    #[test]
    fn rows_come_in_the_order_asked_for() {
        let values: Vec<f32> = (0..600u16).map(f32::from).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let (_file, file) = file_of(&bytes);
        for threads in THREADS.map(|n| NonZeroUsize::new(n).unwrap()) {
            let mut rows = [0.0; 9];
            file.log_rows(&[400, 0, 400], threads, &mut rows).unwrap();
            assert_eq!(rows.map(|x| x as i32), [100, 101, 102, 0, 1, 2, 100, 101, 102]);
            let error = file.log_rows(&[0, 2396], threads, &mut rows[..4]).unwrap_err();
            assert!(matches!(error, Error::Input { .. }), "{error}");
        }
    }

    #[test]
    fn a_damaged_length_asks_for_no_memory() {
        let (_file, file) = file_of(&[0; 100]);
        let layout = Layout::new(&[3]).unwrap();
        let mut row = vec![0.0; layout.n_fields()];
        for (offset, letters) in [(0, 0..401), (0, 0..u64::MAX), (99, 4..8), (u64::MAX, 0..8)] {
            let stretch = Stretch { offset, letters, gaps: 0..0 };
            let one = NonZeroUsize::MIN;
            let error = file
                .packed_rows(&layout, &[stretch], &[], one, Backend::Scalar, &mut row)
                .unwrap_err();
            assert!(error.to_string().contains("ends before its rows do"), "{error}");
        }
    }

    #[test]
    fn counts_and_sequences_give_the_rows_of_the_sequences() {
        let sequences = sequences();
        let layout = Layout::new(&[7, 4, 3]).unwrap();
        let backend = Backend::active().unwrap();
        let slices: Vec<&[u8]> = sequences.iter().map(Vec::as_slice).collect();
        let expected = memory::featurize(&slices, &layout, NonZeroUsize::MIN, backend).unwrap();

        let (mut bytes, mut stretches, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
        let mut stored = Counted { lengths: vec![], gc: vec![], blocks: vec![] };
        stored.blocks = layout
            .ks()
            .map(|k| CountBlock { k, size: 2 * (1 + k % 2), offsets: vec![], totals: vec![] })
            .collect();
        let mut counter = Counter::new(layout.ks(), backend);
        for sequence in &sequences {
            counter.count(sequence);
            let (offset, before) = (bytes.len() as u64, gaps.len());
            packed::pack(sequence, counter.runs(), backend, &mut bytes, &mut gaps).unwrap();
            let letters = 0..sequence.len() as u64;
            stretches.push(Stretch { offset, letters, gaps: before..gaps.len() });
            stored.lengths.push(sequence.len() as u64);
            stored.gc.push(counter.composition().gc_fraction() as f32);
            for block in &mut stored.blocks {
                block.offsets.push(bytes.len() as u64);
                block.totals.push(counter.windows(block.k));
                for count in counter.counts(block.k).iter(block.k) {
                    bytes.extend_from_slice(&count.to_le_bytes()[..block.size]);
                }
            }
        }
        let (_file, file) = file_of(&bytes);
        for threads in THREADS.map(|n| NonZeroUsize::new(n).unwrap()) {
            let mut rows = vec![f32::NAN; expected.len()];
            file.packed_rows(&layout, &stretches, &gaps, threads, backend, &mut rows).unwrap();
            assert!(rows == expected);
            let mut rows = vec![f32::NAN; expected.len()];
            file.counted_rows(&layout, &stored, threads, backend, &mut rows).unwrap();
            let difference = rows.iter().zip(&expected).map(|(x, y)| (x - y).abs());
            assert!(difference.fold(0.0, f32::max) < 2e-6);
        }

        // Any stretch of a sequence is the sequence of those letters.
        for (from, to) in [(0, 100), (1, 90), (2, 77), (3, 1000), (30, 45), (33, 40)] {
            let stretch = Stretch { letters: from..to, ..stretches[50].clone() };
            let part = &sequences[50][from as usize..to as usize];
            let expected = memory::featurize(&[part], &layout, NonZeroUsize::MIN, backend).unwrap();
            let mut rows = vec![f32::NAN; layout.n_fields()];
            file.packed_rows(&layout, &[stretch], &gaps, NonZeroUsize::MIN, backend, &mut rows)
                .unwrap();
            assert!(rows == expected, "{from}..{to}");
        }
    }
}
