//! Feature files behind each other, as one.
//!
//! The rows are those of the files, in their order; batches end where they would
//! if all rows had been computed together, so that the bytes are the same.
//!
//! Some threads read ([`reading`]), this one puts the rows together, and others
//! write, so that the device is what it takes as long as.

mod reading;

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_schema::Schema;
use serde_json::Value;

use crate::allocation::{scope_of_threads, starting};
use crate::arrow::{FeatureWriter, Settings};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::pipeline::{BATCH_ROWS, BatchEnds, Content, Flush, Store};
use reading::{Input, read_share};

/// Pieces of the output that wait to be written.
const PIECES_AHEAD: usize = 1;

/// Threads that write: one less would leave the device idle in between.
const WRITERS: usize = 2;

/// Threads that read, at most: more would only be faster than the device.
const READERS: usize = 4;

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
    let schema = Input::open(first)?.schema().clone();
    let (content, settings) = options(&schema).ok_or_else(|| unreadable(first))?;
    let mut writer = FeatureWriter::create(out, target, content, &settings, sources)?;
    if *writer.schema() != *schema {
        return Err(Error::input(
            first,
            "was written by another version of kvae, which alone can merge it",
        ));
    }
    for (path, _) in parts {
        if *Input::open(path)?.schema() != schema {
            let message = format!(
                "has rows of other options than {}: featurize them alike",
                crate::error::printable(first)
            );
            return Err(Error::input(path, message));
        }
    }
    let (mut rows, mut letters) = (0, 0);
    let (send, receive) = sync_channel::<Flush>(PIECES_AHEAD);
    let to_write = Arc::new(Mutex::new(receive));
    let readers = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(READERS);
    scope_of_threads(|scope| {
        // Once all writers have left, nothing can be sent to them.
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                let to_write = Arc::clone(&to_write);
                starting(|| {
                    thread::Builder::new().spawn_scoped(scope, move || write_all(&to_write))
                })
            })
            .collect::<io::Result<_>>()
            .map_err(Error::NoThread)?;
        drop(to_write);
        let mut shares: Vec<_> = (0..readers)
            .map(|share| {
                let (send, receive) = sync_channel(1);
                let read = move || read_share(parts, share, readers, &send);
                starting(|| thread::Builder::new().spawn_scoped(scope, read)).map(|_| receive)
            })
            .collect::<io::Result<_>>()
            .map_err(Error::NoThread)?;
        let mut joined = Joined { ends: BatchEnds::default(), parts: Vec::new() };
        let mut write = |parts: &[Part]| -> Result<()> {
            for flush in writer.write_rows(parts)? {
                // The writers leave early only if one failed, which it will tell.
                send.send(flush).map_err(|_| Error::Interrupted)?;
            }
            Ok(())
        };
        let mut read = || -> Result<()> {
            // Every reader has each `readers`-th run of batches.
            for i in (0..readers).cycle() {
                let Ok(run) = shares[i].recv() else {
                    break;
                };
                let (part, batches) = run?;
                let (path, first) = &parts[part];
                for batch in batches {
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
        // Whoever still reads or waits for more to write stops.
        shares.clear();
        drop(send);
        let written: Vec<_> = writers.into_iter().map(ScopedJoinHandle::join).collect();
        let written = written.into_iter().map(|done| done.unwrap_or(Err(Error::Interrupted)));
        written.collect::<Result<()>>().and(result)
    })?;
    if rows == 0 {
        return Err(Error::input(first, "no row is left in this file and those after it"));
    }
    writer.finish()?;
    Ok((rows, letters))
}

/// Writes what comes, as long as it can.
fn write_all(to_write: &Mutex<Receiver<Flush>>) -> Result<()> {
    loop {
        let next = to_write.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(flush) => flush()?,
            Err(_) => return Ok(()),
        }
    }
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

fn unreadable(path: &Path) -> Error {
    Error::input(path, "is no feature file: featurize again")
}
