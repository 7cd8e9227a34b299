//! Feature files behind each other, as one.
//!
//! The rows are those of the files, in their order; batches end where they would
//! if all rows had been computed together, so that the bytes are the same.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_ipc::reader::FileReader;
use arrow_schema::{ArrowError, Schema};
use serde_json::Value;

use crate::arrow::{FeatureWriter, Settings};
use crate::checksums::Checksums;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::pipeline::{BATCH_ROWS, BatchEnds, Content, Flush, Store};

/// Pieces of the output that wait to be written.
const PIECES_AHEAD: usize = 2;

/// Joins `parts`, feature files of the same options, each with the position of
/// the first of its sources among `sources`. The file is written to `out`, from
/// where it will be moved to `target`.
///
/// Returns the rows and the letters in them. `watch` hears of the rows so far,
/// and stops the work by an error.
///
/// # Errors
/// If a part cannot be read, is damaged, or was written with other options or by
/// another version; if there is no row, or `out` cannot be written.
pub fn merge(
    parts: &[(PathBuf, i32)],
    sources: &[String],
    out: &Path,
    target: &Path,
    watch: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<(u64, u64)> {
    let Some((first, _)) = parts.first() else {
        return Err(Error::Argument("no file to merge".into()));
    };
    let schema = open(first)?.schema();
    let (content, settings) = options(&schema).ok_or_else(|| unreadable(first))?;
    let mut writer = FeatureWriter::create(out, target, content, &settings, sources)?;
    if *writer.schema() != *schema {
        return Err(Error::input(
            first,
            "was written by another version of kvae, which alone can merge it",
        ));
    }
    for (path, _) in parts {
        if open(path)?.schema() != schema {
            let message = format!(
                "has rows of other options than {}: featurize them alike",
                crate::error::printable(first)
            );
            return Err(Error::input(path, message));
        }
    }
    let (mut rows, mut letters) = (0, 0);
    let (send, receive) = sync_channel::<Flush>(PIECES_AHEAD);
    thread::scope(|scope| {
        let flushing = scope.spawn(move || receive.into_iter().try_for_each(|flush| flush()));
        let mut joined = Joined { ends: BatchEnds::default(), parts: Vec::new() };
        let mut write = |parts: &[Part]| -> Result<()> {
            for flush in writer.write_rows(parts)? {
                // The receiver leaves early only if it failed, which it will tell.
                send.send(flush).map_err(|_| Error::Interrupted)?;
            }
            Ok(())
        };
        let mut read = || -> Result<()> {
            for (path, first) in parts {
                for batch in open(path)? {
                    let batch = batch.map_err(|error| read_error(path, error))?;
                    rows += batch.num_rows() as u64;
                    letters += joined.push(path, &batch, *first, &mut write)?;
                    watch(rows)?;
                }
            }
            if !joined.parts.is_empty() {
                write(&joined.parts)?;
            }
            Ok(())
        };
        let result = read();
        drop(send);
        let flushed = flushing.join().unwrap_or(Err(Error::Interrupted));
        flushed.and(result)
    })?;
    if rows == 0 {
        return Err(Error::input(first, "no row is left in this file and those after it"));
    }
    writer.finish()?;
    Ok((rows, letters))
}

/// Rows, and the position of the first of their file's sources.
type Part = (RecordBatch, i32);

/// Rows of the batch that will be written next.
struct Joined {
    ends: BatchEnds,
    parts: Vec<Part>,
}

impl Joined {
    /// Adds the rows of a batch, and writes the batches that are whole; returns
    /// the letters of the rows.
    fn push(
        &mut self,
        path: &Path,
        batch: &RecordBatch,
        first: i32,
        write: &mut dyn FnMut(&[Part]) -> Result<()>,
    ) -> Result<u64> {
        let lengths = batch.column_by_name("length");
        let lengths = lengths.and_then(|column| column.as_primitive_opt::<UInt64Type>());
        let ids = batch.column_by_name("id").and_then(|column| column.as_string_opt::<i32>());
        let (Some(lengths), Some(ids)) = (lengths, ids) else {
            return Err(unreadable(path));
        };
        let mut start = 0;
        for (row, (&length, id)) in lengths.values().iter().zip(ids.iter()).enumerate() {
            if self.ends.add(length as usize, id.map_or(0, str::len)) {
                self.parts.push((batch.slice(start, row + 1 - start), first));
                write(&self.parts)?;
                self.parts.clear();
                start = row + 1;
            }
        }
        let letters = lengths.values().iter().sum();
        if start < batch.num_rows() {
            self.parts.push((batch.slice(start, batch.num_rows() - start), first));
        }
        Ok(letters)
    }
}

/// The options that a file was written with, from its metadata.
fn options(schema: &Schema) -> Option<(Content, Settings)> {
    let metadata: Value = serde_json::from_str(schema.metadata().get("kvae")?).ok()?;
    let whole = |value: &Value| value.as_u64().and_then(|value| usize::try_from(value).ok());
    let blocks = metadata["layout"]["blocks"].as_array()?;
    let ks: Vec<usize> = blocks.iter().filter_map(|block| whole(&block["k"])).collect();
    let layout = Layout::new(&ks).ok()?;
    let window = whole(&metadata["window"])?;
    let store = Store::named(metadata["store"].as_str()?, window)?;
    let sequence = schema.field_with_name("sequence").is_ok();
    let min_length = metadata["min_length"].as_u64()?;
    Some((
        Content { layout, store, sequence },
        Settings { window, min_length, batch_rows: BATCH_ROWS },
    ))
}

fn open(path: &Path) -> Result<FileReader<CheckedFile>> {
    let file = CheckedFile::open(path)?;
    FileReader::try_new(file, None).map_err(|error| read_error(path, error))
}

fn unreadable(path: &Path) -> Error {
    Error::input(path, "is no feature file: featurize again")
}

fn read_error(path: &Path, error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, error) => match error.downcast::<Error>() {
            Ok(ours) => ours,
            Err(error) => Error::io(path, error),
        },
        other => {
            let text = other.to_string();
            let line = text.lines().next().unwrap_or_default();
            Error::input(path, format!("is not a whole Arrow file ({line}): featurize again"))
        }
    }
}

/// A file whose bytes are held against its checksums when they are read.
struct CheckedFile {
    path: PathBuf,
    file: File,
    checksums: Checksums,
    position: u64,
}

impl CheckedFile {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io(path, error))?;
        let message = "has no checksums: only files of kvae featurize --shard can be merged";
        let checksums = Checksums::open(&file, path)?.ok_or_else(|| Error::input(path, message))?;
        Ok(Self { path: path.to_path_buf(), file, checksums, position: 0 })
    }
}

impl Read for CheckedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.position.saturating_add(buffer.len() as u64);
        self.checksums
            .check(&self.file, &self.path, self.position..end)
            .map_err(io::Error::other)?;
        self.file.seek(SeekFrom::Start(self.position))?;
        let count = self.file.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for CheckedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Current(offset) => {
                let to = self.position.checked_add_signed(offset);
                to.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?
            }
            to => self.file.seek(to)?,
        };
        Ok(self.position)
    }
}
