//! [`RowFile`] for Python: where rows are comes as arrays, rows go into one.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use numpy::{PyArray2, PyReadonlyArray1, PyUntypedArrayMethods};
use pyo3::prelude::*;

use super::{KvaeError, Whole, fill_out, gaps, naturals, threads_or_all};
use crate::layout::Layout;
use crate::row_file::{CountBlock, Counted, RowFile, Stretch};
use crate::simd::Backend;

/// Rows of feature files.
#[pyclass(name = "RowFile", frozen, module = "kvae._core")]
pub(super) struct PyRowFile {
    file: RowFile,
    threads: NonZeroUsize,
}

fn layout_of(ks: &[Whole]) -> PyResult<Layout> {
    Ok(Layout::new(&naturals("k", ks)?)?)
}

#[pymethods]
impl PyRowFile {
    #[new]
    #[pyo3(signature = (paths, threads=None, verify=true))]
    fn new(
        py: Python<'_>,
        paths: Vec<PathBuf>,
        threads: Option<Whole>,
        verify: bool,
    ) -> PyResult<Self> {
        let file = py.detach(|| RowFile::open(&paths, verify))?;
        Ok(Self { file, threads: threads_or_all(threads)? })
    }

    /// The number of each file's first byte, as all methods count them.
    #[getter]
    fn bases(&self) -> Vec<u64> {
        self.file.bases()
    }

    /// A sum of each whole file, where it has one and is verified.
    #[getter]
    fn digests(&self) -> Vec<Option<String>> {
        let digests = self.file.digests().into_iter();
        digests.map(|digest| digest.map(|digest| format!("{digest:016x}"))).collect()
    }

    /// Makes sure that some bytes are those that were written.
    fn verify(&self, py: Python<'_>, offset: u64, length: u64) -> PyResult<()> {
        Ok(py.detach(|| self.file.verify(offset, length))?)
    }

    /// The same for what describes a record batch of one of the files.
    fn verify_message(&self, file: usize, batch: usize) -> PyResult<()> {
        Ok(self.file.verify_message(file, batch)?)
    }

    /// Rows of floats that begin at these bytes of the file.
    fn log_rows(
        &self,
        py: Python<'_>,
        offsets: PyReadonlyArray1<'_, u64>,
        out: &Bound<'_, PyArray2<f32>>,
    ) -> PyResult<()> {
        let offsets = offsets.as_slice()?;
        let shape = [offsets.len(), out.shape()[1]];
        fill_out(out, shape, |rows| {
            py.detach(|| self.file.log_rows(offsets, self.threads, rows))
        })??;
        Ok(())
    }

    /// Rows from counts; a block is a k, the bytes of a count, where each row's
    /// counts begin in the file, and their sum.
    #[allow(clippy::type_complexity)]
    fn counted_rows(
        &self,
        py: Python<'_>,
        ks: Vec<Whole>,
        lengths: PyReadonlyArray1<'_, u64>,
        gc: PyReadonlyArray1<'_, f32>,
        blocks: Vec<(usize, usize, PyReadonlyArray1<'_, u64>, PyReadonlyArray1<'_, u64>)>,
        out: &Bound<'_, PyArray2<f32>>,
    ) -> PyResult<()> {
        let backend = Backend::active()?;
        let layout = layout_of(&ks)?;
        let rows = lengths.len();
        let blocks = blocks.into_iter().map(|(k, size, offsets, totals)| {
            let block = CountBlock {
                k,
                size,
                offsets: offsets.as_slice()?.to_vec(),
                totals: totals.as_slice()?.to_vec(),
            };
            let fits = block.offsets.len() == rows && block.totals.len() == rows;
            if fits { Ok(block) } else { Err(KvaeError::new_err("a block of other rows")) }
        });
        let counted = Counted {
            lengths: lengths.as_slice()?.to_vec(),
            gc: gc.as_slice()?.to_vec(),
            blocks: blocks.collect::<PyResult<_>>()?,
        };
        let has_all = layout.ks().all(|k| counted.blocks.iter().any(|block| block.k == k));
        if counted.gc.len() != rows || !has_all {
            return Err(KvaeError::new_err("counts of other rows, or of other k"));
        }
        fill_out(out, [rows, layout.n_fields()], |rows| {
            py.detach(|| self.file.counted_rows(&layout, &counted, self.threads, backend, rows))
        })??;
        Ok(())
    }

    /// Rows from packed sequences: where each begins in the file, the letters
    /// of it that are wanted, and where its gaps begin and end among all.
    #[allow(clippy::too_many_arguments)]
    fn packed_rows(
        &self,
        py: Python<'_>,
        ks: Vec<Whole>,
        offsets: PyReadonlyArray1<'_, u64>,
        starts: PyReadonlyArray1<'_, u64>,
        ends: PyReadonlyArray1<'_, u64>,
        gap_bounds: PyReadonlyArray1<'_, i64>,
        gap_starts: PyReadonlyArray1<'_, u32>,
        gap_lengths: PyReadonlyArray1<'_, u32>,
        out: &Bound<'_, PyArray2<f32>>,
    ) -> PyResult<()> {
        let backend = Backend::active()?;
        let layout = layout_of(&ks)?;
        let (starts, ends) = (starts.as_slice()?, ends.as_slice()?);
        let bounds = gap_bounds.as_slice()?;
        let rows = offsets.len();
        let is_empty = starts.iter().zip(ends).any(|(start, end)| start >= end);
        if starts.len() != rows || ends.len() != rows || bounds.len() != rows + 1 || is_empty {
            return Err(KvaeError::new_err("every row needs a stretch with letters"));
        }
        let letters = starts.iter().zip(ends).map(|(&start, &end)| start..end);
        let stretches: Vec<Stretch> = offsets
            .as_slice()?
            .iter()
            .zip(letters)
            .zip(bounds.windows(2))
            .map(|((&offset, letters), gaps)| {
                let gaps = gaps[0] as usize..gaps[1] as usize;
                Stretch { offset, letters, gaps }
            })
            .collect();
        let gaps = gaps(&gap_starts, &gap_lengths)?;
        fill_out(out, [rows, layout.n_fields()], |rows| {
            py.detach(|| {
                let (file, threads) = (&self.file, self.threads);
                file.packed_rows(&layout, &stretches, &gaps, threads, backend, rows)
            })
        })??;
        Ok(())
    }
}
