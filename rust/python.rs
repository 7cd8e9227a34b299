//! The extension module `kvae._core`: the only file that knows Python.
//!
//! Every function converts its arguments, lets go of the interpreter, calls
//! the function of the same name in this crate and hands its buffer over.

// Extracted arguments are owned, whether the function consumes them or not.
#![allow(clippy::needless_pass_by_value)]

#[cfg(unix)]
mod interruption;
mod loss;
mod row_file;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyOSError, PyOverflowError, PyTypeError};
use pyo3::import_exception;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyDict};

use crate::allocation;
use crate::canonical::columns;
use crate::error::Error;
use crate::featurize::{Kept, Options};
use crate::input::boundary;
use crate::input::compression;
use crate::input::discover::{self, Input, Source, discover_among};
use crate::input::share::{Shard, share};
use crate::layout::Layout;
use crate::memory;
use crate::packed::{self, Gap};
use crate::pipeline::{Progress, Summary};
use crate::simd::Backend;

import_exception!(kvae.errors, KvaeError);

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        KvaeError::new_err(error.to_string())
    }
}

/// A sequence held by Python, read in place.
enum Letters {
    Text(PyBackedStr),
    Bytes(PyBackedBytes),
    /// Text with other characters than ASCII, one letter each.
    Other(Vec<u8>),
}

impl Letters {
    fn extract(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(text) = object.extract::<PyBackedStr>() {
            let letter = |c: char| u8::try_from(c).unwrap_or(b'N');
            return Ok(if text.is_ascii() {
                Self::Text(text)
            } else {
                Self::Other(text.chars().map(letter).collect())
            });
        }
        object.extract().map(Self::Bytes).map_err(|_| {
            let kind = object.get_type();
            PyTypeError::new_err(format!("a sequence must be str or bytes, not {kind}"))
        })
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
            Self::Other(letters) => letters,
        }
    }
}

fn extract_all(sequences: &Bound<'_, PyAny>) -> PyResult<Vec<Letters>> {
    sequences.try_iter()?.map(|object| Letters::extract(&object?)).collect()
}

/// A whole number, which Python has of any size.
#[derive(Clone, Copy)]
struct Whole(i64);

impl<'py> FromPyObject<'_, 'py> for Whole {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object.extract().map(Self).map_err(|error| {
            if error.is_instance_of::<PyOverflowError>(object.py()) {
                return KvaeError::new_err(format!("{} is too large a number", &*object));
            }
            error
        })
    }
}

/// A number that must not be negative.
fn natural(name: &str, value: Whole) -> PyResult<usize> {
    let message = || KvaeError::new_err(format!("{name} = {} is negative", value.0));
    usize::try_from(value.0).map_err(|_| message())
}

fn naturals(name: &str, values: &[Whole]) -> PyResult<Vec<usize>> {
    values.iter().map(|&value| natural(name, value)).collect()
}

fn threads_or_all(threads: Option<Whole>) -> PyResult<NonZeroUsize> {
    let Some(threads) = threads else {
        // Affinity and control groups are respected by the standard library.
        return Ok(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN));
    };
    NonZeroUsize::new(natural("threads", threads)?)
        .ok_or_else(|| KvaeError::new_err("threads = 0: give at least 1"))
}

/// An array that owns a buffer of this crate, as a matrix.
fn matrix<'py, T: numpy::Element>(
    buffer: &Bound<'py, PyArray1<T>>,
    shape: [usize; 2],
) -> PyResult<Bound<'py, PyArray2<T>>> {
    buffer.reshape(shape)
}

/// Has the caller's array filled.
fn fill_out<T: numpy::Element, Filled>(
    out: &Bound<'_, PyArray2<T>>,
    shape: [usize; 2],
    fill: impl FnOnce(&mut [T]) -> Filled,
) -> PyResult<Filled> {
    if out.shape() != shape {
        let (rows, width) = (shape[0], shape[1]);
        let (given, columns) = (out.shape()[0], out.shape()[1]);
        return Err(KvaeError::new_err(format!(
            "out has the shape ({given}, {columns}), the result ({rows}, {width})"
        )));
    }
    let refused = |why: &str| KvaeError::new_err(format!("out {why}: give a C-contiguous array"));
    let mut out = out.try_readwrite().map_err(|_| refused("cannot be written"))?;
    let rows = out.as_slice_mut().map_err(|_| refused("is not contiguous"))?;
    Ok(fill(rows))
}

#[pyfunction]
fn layout(ks: Vec<Whole>) -> PyResult<String> {
    Ok(Layout::new(&naturals("k", &ks)?)?.to_json().to_string())
}

#[pyfunction]
fn kmers(k: Whole) -> PyResult<String> {
    let k = natural("k", k)?;
    Layout::new(&[k])?;
    Ok(columns(k).spelled())
}

#[pyfunction]
fn backend() -> PyResult<String> {
    Ok(Backend::active()?.to_string())
}

#[pyfunction]
fn available_threads() -> PyResult<usize> {
    Ok(threads_or_all(None)?.get())
}

#[pyfunction]
#[pyo3(signature = (sequences, k, threads, out=None))]
fn count_kmers<'py>(
    py: Python<'py>,
    sequences: &Bound<'py, PyAny>,
    k: Whole,
    threads: Option<Whole>,
    out: Option<Bound<'py, PyArray2<u32>>>,
) -> PyResult<Bound<'py, PyArray2<u32>>> {
    let k = natural("k", k)?;
    Layout::new(&[k])?;
    let threads = threads_or_all(threads)?;
    let backend = Backend::active()?;
    let sequences = extract_all(sequences)?;
    let slices: Vec<&[u8]> = sequences.iter().map(Letters::as_slice).collect();
    let shape = [slices.len(), columns(k).len()];
    if let Some(out) = out {
        fill_out(&out, shape, |counts| {
            py.detach(|| memory::count_into(&slices, k, threads, backend, counts))
        })??;
        return Ok(out);
    }
    let counts = py.detach(|| memory::count(&slices, k, threads, backend))?;
    matrix(&counts.into_pyarray(py), shape)
}

#[pyfunction]
#[pyo3(signature = (sequences, ks, threads, out=None))]
fn featurize_sequences<'py>(
    py: Python<'py>,
    sequences: &Bound<'py, PyAny>,
    ks: Vec<Whole>,
    threads: Option<Whole>,
    out: Option<Bound<'py, PyArray2<f32>>>,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let layout = Layout::new(&naturals("k", &ks)?)?;
    let threads = threads_or_all(threads)?;
    let backend = Backend::active()?;
    let sequences = extract_all(sequences)?;
    if let Some(i) = sequences.iter().position(|letters| letters.as_slice().is_empty()) {
        return Err(KvaeError::new_err(format!("sequence {i} is empty: it has no length feature")));
    }
    let slices: Vec<&[u8]> = sequences.iter().map(Letters::as_slice).collect();
    let shape = [slices.len(), layout.n_fields()];
    if let Some(out) = out {
        fill_out(&out, shape, |rows| {
            py.detach(|| memory::featurize_into(&slices, &layout, threads, backend, rows));
        })?;
        return Ok(out);
    }
    let rows = py.detach(|| memory::featurize(&slices, &layout, threads, backend))?;
    matrix(&rows.into_pyarray(py), shape)
}

/// Who hears how far a run is; what is raised then ends it.
struct Listener {
    callback: Option<Py<PyAny>>,
    raised: Option<PyErr>,
}

impl Listener {
    fn new(callback: Option<Bound<'_, PyAny>>) -> Self {
        Self { callback: callback.map(Bound::unbind), raised: None }
    }

    fn hear(&mut self, now: Progress, bytes: Option<u64>) -> Result<(), Error> {
        let called = Python::attach(|py| {
            py.check_signals()?;
            if let Some(callback) = &self.callback {
                callback.call1(py, (now.bytes_read, bytes, now.rows, now.letters))?;
            }
            Ok(())
        });
        called.map_err(|error| {
            self.raised = Some(error);
            Error::Interrupted
        })
    }

    /// The result of the run, unless something was raised.
    fn result<T>(self, result: Result<T, Error>) -> PyResult<T> {
        match self.raised {
            Some(raised) => Err(raised),
            None => Ok(result?),
        }
    }
}

/// A path, or a file that was found: path, name, bytes, and whether it was in a folder.
#[derive(FromPyObject)]
enum Named {
    Found((PathBuf, String, u64, bool)),
    Path(PathBuf),
}

fn inputs_of(named: Vec<Named>) -> Vec<Input> {
    let input = |named| match named {
        Named::Path(path) => Input::Path(path),
        Named::Found((path, name, size, found)) => {
            Input::Found(Source { path, name, found, size: Some(size), range: None })
        }
    };
    named.into_iter().map(input).collect()
}

fn gaps(
    starts: &PyReadonlyArray1<'_, u32>,
    lengths: &PyReadonlyArray1<'_, u32>,
) -> PyResult<Vec<Gap>> {
    let gaps = starts.as_slice()?.iter().zip(lengths.as_slice()?);
    Ok(gaps.map(|(&start, &length)| Gap { start, length }).collect())
}

/// Letters of packed sequences: `offsets` and `gap_offsets` say where each
/// one's bytes and gaps begin, and where the last one's end.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn unpack<'py>(
    py: Python<'py>,
    packed: PyReadonlyArray1<'py, u8>,
    offsets: PyReadonlyArray1<'py, i64>,
    lengths: PyReadonlyArray1<'py, u64>,
    gap_starts: PyReadonlyArray1<'py, u32>,
    gap_lengths: PyReadonlyArray1<'py, u32>,
    gap_offsets: PyReadonlyArray1<'py, i32>,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let (packed, offsets, lengths) = (packed.as_slice()?, offsets.as_slice()?, lengths.as_slice()?);
    let gaps = gaps(&gap_starts, &gap_lengths)?;
    let gap_offsets = gap_offsets.as_slice()?;
    let unpack_one = |i: usize| {
        let bytes = packed.get(*offsets.get(i)? as usize..*offsets.get(i + 1)? as usize)?;
        let gaps = gaps.get(*gap_offsets.get(i)? as usize..*gap_offsets.get(i + 1)? as usize)?;
        packed::unpack(bytes, gaps, *lengths.get(i)? as usize)
    };
    (0..lengths.len())
        .map(|i| match unpack_one(i) {
            Some(letters) => Ok(PyBytes::new(py, &letters)),
            None => Err(KvaeError::new_err(format!("packed sequence {i} is damaged"))),
        })
        .collect()
}

#[pyfunction]
#[allow(clippy::too_many_arguments)]
#[pyo3(signature = (
    inputs, out, target, ks, window, min_length, store, sequence, skip_bad, shard, threads,
    progress, bad=None
))]
fn featurize<'py>(
    py: Python<'py>,
    inputs: Vec<Named>,
    out: PathBuf,
    target: PathBuf,
    ks: Vec<Whole>,
    window: Whole,
    min_length: Whole,
    store: &str,
    sequence: bool,
    skip_bad: bool,
    shard: Option<(Whole, Whole)>,
    threads: Option<Whole>,
    progress: Option<Bound<'py, PyAny>>,
    bad: Option<Vec<Option<String>>>,
) -> PyResult<Bound<'py, PyDict>> {
    let inputs = inputs_of(inputs);
    let kept = match store {
        "log" => Kept::Log,
        "counts" => Kept::Counts,
        "packed" => Kept::Packed,
        other => {
            let message = format!("store '{other}' is unknown: use log, counts or packed");
            return Err(KvaeError::new_err(message));
        }
    };
    let options = Options {
        layout: Layout::new(&naturals("k", &ks)?)?,
        window: natural("window", window)?,
        min_length: natural("min_length", min_length)? as u64,
        kept,
        sequence,
        skip_bad,
        bad,
        shard: shard.map(|(index, count)| shard_of(index, count)).transpose()?,
        threads: threads_or_all(threads)?,
    };
    let mut listener = Listener::new(progress);
    let result = py.detach(|| {
        let mut watch = |now, bytes| listener.hear(now, bytes);
        crate::featurize::featurize(&inputs, &out, &target, &options, &mut watch)
    });
    describe(py, &listener.result(result)?)
}

/// Reads files to their ends, and says what is wrong with each.
#[pyfunction]
fn find_bad(
    py: Python<'_>,
    inputs: Vec<Named>,
    window: Whole,
    min_length: Whole,
    shard: Option<(Whole, Whole)>,
    threads: Option<Whole>,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<Vec<Option<String>>> {
    let inputs = inputs_of(inputs);
    let options = Options {
        layout: Layout::default(),
        window: natural("window", window)?,
        min_length: natural("min_length", min_length)? as u64,
        kept: Kept::Log,
        sequence: false,
        skip_bad: true,
        bad: None,
        shard: shard.map(|(index, count)| shard_of(index, count)).transpose()?,
        threads: threads_or_all(threads)?,
    };
    let mut listener = Listener::new(progress);
    let result = py.detach(|| {
        crate::featurize::find_bad(&inputs, &options, &mut |now, bytes| listener.hear(now, bytes))
    });
    listener.result(result)
}

/// A shard that is counted from 1.
fn shard_of(index: Whole, count: Whole) -> PyResult<Shard> {
    let (index, count) = (index.0, count.0);
    if 1 <= index && index <= count {
        return Ok(Shard { index: index as u64 - 1, count: count as u64 });
    }
    Err(KvaeError::new_err(format!("shard {index}/{count}: shards of {count} are 1 to {count}")))
}

/// The XXH3 of a file.
#[pyfunction]
fn sum_of_file(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    let sum = py.detach(|| crate::checksums::sum_of_file(&path));
    let sum = sum.map_err(|error| PyOSError::new_err((error.raw_os_error(), error.to_string())))?;
    Ok(format!("{sum:016x}"))
}

/// Which files of a folder are to be read, by their names.
#[pyfunction]
fn choose_named(folder: PathBuf, names: Vec<String>) -> PyResult<Vec<bool>> {
    Ok(discover::choose_named(&folder, &names)?)
}

/// Which inputs a shard reads.
#[pyfunction]
fn shard_inputs(
    py: Python<'_>,
    inputs: Vec<Named>,
    index: Whole,
    count: Whole,
    whole: bool,
) -> PyResult<Bound<'_, PyDict>> {
    let which = shard_of(index, count)?;
    let inputs = inputs_of(inputs);
    let found = py.detach(|| {
        // Whoever reads them hears the warnings.
        let sources = discover_among(&inputs, &mut |_| ())?;
        share(sources, which, whole)
    })?;
    let dict = PyDict::new(py);
    dict.set_item("inputs", found.inputs)?;
    dict.set_item("bytes", found.bytes)?;
    dict.set_item("digest", format!("{:016x}", found.digest))?;
    dict.set_item("first", found.first)?;
    let within = |source: &Source| source.range.as_ref().map(|at| (at.start.within, at.end.within));
    dict.set_item("within", found.sources.iter().map(within).collect::<Vec<_>>())?;
    let files: Vec<_> = found
        .sources
        .into_iter()
        .map(|source| {
            let size = source.size.unwrap_or_default();
            let range = source.range.map(|range| range.start.byte..range.end.byte);
            let range = range.unwrap_or(0..size);
            (source.name, source.path, size, range.start, range.end)
        })
        .collect();
    dict.set_item("files", files)?;
    Ok(dict)
}

/// Whether a file is divided between shards, and the first record of a part from `at` on: its
/// byte, or its block's, and its place within the block's text.
#[pyfunction]
fn next_record(py: Python<'_>, path: PathBuf, at: u64) -> PyResult<(bool, Option<(u64, usize)>)> {
    let source = Source { path, name: String::new(), found: false, size: None, range: None };
    let found = py.detach(|| boundary::next_record(&source, at))?;
    Ok((found.is_some(), found.flatten().map(|place| (place.byte, place.within))))
}

/// Bytes that stand for a part of a file, between two places as `next_record` gives them: some
/// to begin with, where the file's own begin and end, and some to end with.
#[pyfunction]
fn bytes_of_part(
    py: Python<'_>,
    path: PathBuf,
    start: (u64, usize),
    end: (u64, usize),
) -> PyResult<(Bound<'_, PyBytes>, u64, u64, Bound<'_, PyBytes>)> {
    let [start, end] = [start, end].map(|(byte, within)| boundary::Place { byte, within });
    let (before, own, after) = py.detach(|| compression::bytes_of_part(&path, &(start..end)))?;
    Ok((PyBytes::new(py, &before), own.start, own.end, PyBytes::new(py, &after)))
}

fn describe<'py>(py: Python<'py>, summary: &Summary) -> PyResult<Bound<'py, PyDict>> {
    let total = summary.total();
    let counts = HashMap::from([
        ("records", total.records),
        ("rows", total.rows),
        ("bases", total.letters),
        ("too_short", total.too_short),
        ("without_kmer", total.without_kmer),
    ]);
    let dict = counts.into_pyobject(py)?;
    dict.set_item("files", summary.files.len())?;
    let skipped: Vec<(&String, u64, u64)> = summary
        .names
        .iter()
        .zip(&summary.files)
        .filter(|(_, file)| file.too_short + file.without_kmer > 0)
        .map(|(name, file)| (name, file.too_short, file.without_kmer))
        .collect();
    dict.set_item("skipped", skipped)?;
    dict.set_item("warnings", &summary.warnings)?;
    dict.set_item("bad", &summary.bad)?;
    Ok(dict)
}

/// Joins feature files: paths, and the position of the first source of each.
/// Returns rows and letters.
#[pyfunction]
fn merge(
    py: Python<'_>,
    parts: Vec<(PathBuf, i32)>,
    sources: Vec<String>,
    out: PathBuf,
    target: PathBuf,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<(u64, u64)> {
    let progress = progress.map(Bound::unbind);
    let mut raised = None;
    let mut watch = |rows| {
        let called = Python::attach(|py| {
            py.check_signals()?;
            progress.as_ref().map_or(Ok(()), |callback| callback.call1(py, (rows,)).map(|_| ()))
        });
        called.map_err(|error| {
            raised = Some(error);
            Error::Interrupted
        })
    };
    let result = py.detach(|| crate::merge::merge(&parts, &sources, &out, &target, &mut watch));
    match raised {
        Some(raised) => Err(raised),
        None => Ok(result?),
    }
}

/// Remembers a file to remove if the process ends for want of memory, where no
/// exception can be raised; returns what [`forget_temporary`] takes. Neither asks for
/// memory.
#[pyfunction]
fn remember_temporary(path: &[u8]) -> Option<usize> {
    allocation::remember_temporary(path)
}

/// Forgets a file that is in its place, or gone.
#[pyfunction]
fn forget_temporary(place: Option<usize>) {
    if let Some(place) = place {
        allocation::forget_temporary(place);
    }
}

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(layout, module)?)?;
    module.add_function(wrap_pyfunction!(kmers, module)?)?;
    module.add_function(wrap_pyfunction!(backend, module)?)?;
    module.add_function(wrap_pyfunction!(available_threads, module)?)?;
    module.add_function(wrap_pyfunction!(count_kmers, module)?)?;
    module.add_function(wrap_pyfunction!(featurize_sequences, module)?)?;
    module.add_function(wrap_pyfunction!(unpack, module)?)?;
    module.add_function(wrap_pyfunction!(featurize, module)?)?;
    module.add_function(wrap_pyfunction!(sum_of_file, module)?)?;
    module.add_function(wrap_pyfunction!(choose_named, module)?)?;
    module.add_function(wrap_pyfunction!(find_bad, module)?)?;
    module.add_function(wrap_pyfunction!(shard_inputs, module)?)?;
    module.add_function(wrap_pyfunction!(next_record, module)?)?;
    module.add_function(wrap_pyfunction!(bytes_of_part, module)?)?;
    module.add_function(wrap_pyfunction!(merge, module)?)?;
    module.add_function(wrap_pyfunction!(remember_temporary, module)?)?;
    module.add_function(wrap_pyfunction!(forget_temporary, module)?)?;
    #[cfg(unix)]
    module.add_function(wrap_pyfunction!(interruption::watch_signals, module)?)?;
    module.add_function(wrap_pyfunction!(loss::errors_of, module)?)?;
    module.add_function(wrap_pyfunction!(loss::profiles_of, module)?)?;
    module.add_class::<row_file::PyRowFile>()
}
