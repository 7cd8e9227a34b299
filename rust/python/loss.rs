//! The loss for Python: arrays in, sums out, gradients into arrays that are there.

use std::collections::HashMap;

use numpy::ndarray::{ArrayView2, Axis};
use numpy::{
    PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArray2,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;

use super::{KvaeError, Whole, threads_or_all};
use crate::loss::{self, Outputs, Profiles};
use crate::simd::{Backend, CUTS, Criterion, Sums};

/// [`Criterion`] as an object with these attributes.
#[derive(FromPyObject)]
pub(super) struct PyCriterion {
    pseudocount: f32,
    threshold: f32,
    threshold_cut: f32,
    target_floor: f32,
    floor: f32,
    nonzero: f32,
    cuts: Vec<(f32, f32)>,
}

impl TryFrom<PyCriterion> for Criterion {
    type Error = PyErr;

    fn try_from(given: PyCriterion) -> PyResult<Self> {
        if given.cuts.len() > CUTS {
            let n = given.cuts.len();
            return Err(KvaeError::new_err(format!("{n} cuts: give at most {CUTS}")));
        }
        Ok(Self {
            pseudocount: given.pseudocount,
            threshold: given.threshold,
            threshold_cut: given.threshold_cut,
            target_floor: given.target_floor,
            floor: given.floor,
            nonzero: given.nonzero,
            cuts: given.cuts,
        })
    }
}

type Given<'py> = Bound<'py, PyArray2<f32>>;

fn refused(name: &str) -> PyErr {
    KvaeError::new_err(format!("{name} is not a C-contiguous array of the shape of value"))
}

/// An array that is read, whose shape is that of the values.
fn read<'a>(
    name: &str,
    array: &'a PyReadonlyArray2<'_, f32>,
    shape: &[usize],
) -> PyResult<&'a [f32]> {
    let same = array.shape() == shape && array.is_c_contiguous();
    array.as_slice().ok().filter(|_| same).ok_or_else(|| refused(name))
}

/// The same of one that is written.
fn written<'a>(
    name: &str,
    array: &'a mut PyReadwriteArray2<'_, f32>,
    shape: &[usize],
) -> PyResult<&'a mut [f32]> {
    let same = array.shape() == shape && array.is_c_contiguous();
    array.as_slice_mut().ok().filter(|_| same).ok_or_else(|| refused(name))
}

fn borrowed<'py>(name: &str, array: &Given<'py>) -> PyResult<PyReadwriteArray2<'py, f32>> {
    array.try_readwrite().map_err(|_| KvaeError::new_err(format!("{name} cannot be written")))
}

/// Rows of a part of a matrix, each of which stands together.
fn rows<'a>(x: ArrayView2<'a, f32>, shape: &[usize]) -> PyResult<Vec<&'a [f32]>> {
    if x.shape() != shape {
        return Err(refused("x"));
    }
    let row = |i| {
        let row = x.index_axis_move(Axis(0), i);
        row.to_slice().ok_or_else(|| refused("a row of x"))
    };
    (0..shape[0]).map(row).collect()
}

fn named(sums: &Sums, n_cuts: usize) -> (HashMap<&'static str, f64>, Vec<f64>) {
    let found = HashMap::from([
        ("bce", sums.bce),
        ("value_error", sums.value_error),
        ("value_error_present", sums.value_error_present),
        ("nats", sums.nats),
        ("present", sums.present),
        ("gate_hits", sums.gate_hits),
        ("output_error", sums.output_error),
        ("output_error_present", sums.output_error_present),
        ("log_error", sums.log_error),
        ("log_error_nonzero", sums.log_error_nonzero),
        ("nonzero", sums.nonzero),
    ]);
    (found, sums.cut_hits[..n_cuts].to_vec())
}

/// Squared errors of values and cross-entropy of a gate; fills their gradients in.
#[pyfunction]
#[pyo3(signature = (x, value, gate, value_gradient, gate_gradient, is_linear, criterion, threads))]
#[allow(clippy::too_many_arguments)]
pub(super) fn errors_of(
    py: Python<'_>,
    x: PyReadonlyArray2<'_, f32>,
    value: PyReadonlyArray2<'_, f32>,
    gate: Option<PyReadonlyArray2<'_, f32>>,
    value_gradient: Option<Given<'_>>,
    gate_gradient: Option<Given<'_>>,
    is_linear: bool,
    criterion: PyCriterion,
    threads: Whole,
) -> PyResult<(HashMap<&'static str, f64>, Vec<f64>)> {
    let criterion = Criterion::try_from(criterion)?;
    let (threads, backend) = (threads_or_all(Some(threads))?, Backend::active()?);
    let shape = value.shape().to_vec();
    let mut by_value =
        value_gradient.map(|array| borrowed("value_gradient", &array)).transpose()?;
    let mut by_gate = gate_gradient.map(|array| borrowed("gate_gradient", &array)).transpose()?;
    let outputs = Outputs {
        x: rows(x.as_array(), &shape)?,
        value: read("value", &value, &shape)?,
        gate: gate.as_ref().map(|gate| read("gate", gate, &shape)).transpose()?,
        value_gradient: by_value
            .as_mut()
            .map(|array| written("value_gradient", array, &shape))
            .transpose()?,
        gate_gradient: by_gate
            .as_mut()
            .map(|array| written("gate_gradient", array, &shape))
            .transpose()?,
    };
    let sums = py.detach(|| loss::errors(outputs, is_linear, &criterion, threads, backend));
    Ok(named(&sums, criterion.cuts.len()))
}

/// Likelihood of rows under profiles; fills the profiles in, and the gradients.
#[pyfunction]
#[pyo3(signature = (x, value, gate, profile, windows, gradients, criterion, threads))]
#[allow(clippy::too_many_arguments)]
pub(super) fn profiles_of(
    py: Python<'_>,
    x: PyReadonlyArray2<'_, f32>,
    value: PyReadonlyArray2<'_, f32>,
    gate: PyReadonlyArray2<'_, f32>,
    profile: Given<'_>,
    windows: PyReadonlyArray1<'_, f32>,
    gradients: Option<(Given<'_>, Given<'_>)>,
    criterion: PyCriterion,
    threads: Whole,
) -> PyResult<(HashMap<&'static str, f64>, Vec<f64>)> {
    let criterion = Criterion::try_from(criterion)?;
    let (threads, backend) = (threads_or_all(Some(threads))?, Backend::active()?);
    let shape = value.shape().to_vec();
    let mut profile = borrowed("profile", &profile)?;
    let (by_value, by_gate) = gradients.unzip();
    let mut by_value = by_value.map(|array| borrowed("value_gradient", &array)).transpose()?;
    let mut by_gate = by_gate.map(|array| borrowed("gate_gradient", &array)).transpose()?;
    let gradients = match (&mut by_value, &mut by_gate) {
        (Some(by_value), Some(by_gate)) => Some((
            written("value_gradient", by_value, &shape)?,
            written("gate_gradient", by_gate, &shape)?,
        )),
        _ => None,
    };
    let windows = windows.as_slice().ok().filter(|windows| windows.len() == shape[0]);
    let outputs = Profiles {
        x: rows(x.as_array(), &shape)?,
        value: read("value", &value, &shape)?,
        gate: read("gate", &gate, &shape)?,
        profile: written("profile", &mut profile, &shape)?,
        gradients,
        windows: windows.ok_or_else(|| KvaeError::new_err("windows: give one number a row"))?,
    };
    let sums = py.detach(|| loss::profile(outputs, &criterion, threads, backend));
    Ok(named(&sums, criterion.cuts.len()))
}
