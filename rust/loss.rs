//! Loss, gradients and metrics of a model's widest outputs: a batch of rows on several threads.
//!
//! What is computed is defined in `kvae.model.losses` and `kvae.model.one_pass`. A row's sums
//! do not depend on its thread, and are added in the order of the rows.

#![allow(clippy::many_single_char_names, reason = "they are those of the formulas")]

use std::num::NonZeroUsize;

use crate::memory::fill;
use crate::simd::{Backend, Criterion, ProfileRow, Row, Sums};

/// Rows, what is said of them, and where gradients go. All arrays are of one shape, one row
/// after the other.
#[derive(Debug)]
pub struct Outputs<'a> {
    /// Logarithms of frequencies, row by row.
    pub x: Vec<&'a [f32]>,
    /// Values.
    pub value: &'a [f32],
    /// Logits of presence.
    pub gate: Option<&'a [f32]>,
    /// Become the gradients of [`Row`].
    pub value_gradient: Option<&'a mut [f32]>,
    /// As above.
    pub gate_gradient: Option<&'a mut [f32]>,
}

/// The same of profiles.
#[derive(Debug)]
pub struct Profiles<'a> {
    /// Logarithms of frequencies, row by row.
    pub x: Vec<&'a [f32]>,
    /// Values.
    pub value: &'a [f32],
    /// Logits of presence.
    pub gate: &'a [f32],
    /// Become the profiles.
    pub profile: &'a mut [f32],
    /// Become the gradients of [`ProfileRow`].
    pub gradients: Option<(&'a mut [f32], &'a mut [f32])>,
    /// K-mers that each sequence has places for.
    pub windows: &'a [f32],
}

/// Squared errors and cross-entropy of all rows: see [`Backend::errors`].
///
/// # Panics
/// If arrays differ in their shape.
pub fn errors(
    outputs: Outputs<'_>,
    is_linear: bool,
    criterion: &Criterion,
    threads: NonZeroUsize,
    backend: Backend,
) -> Sums {
    let n_rows = outputs.x.len();
    let mut values = rows(Some(outputs.value), n_rows);
    let mut gates = rows(outputs.gate, n_rows);
    let mut value_gradients = rows_mut(outputs.value_gradient, n_rows);
    let mut gate_gradients = rows_mut(outputs.gate_gradient, n_rows);
    let rows = outputs.x.into_iter().map(|x| Row {
        x,
        value: values.next().flatten().expect("as many values as rows"),
        gate: gates.next().flatten(),
        value_gradient: value_gradients.next().flatten(),
        gate_gradient: gate_gradients.next().flatten(),
    });
    total(rows, threads, |row| backend.errors(row, is_linear, criterion))
}

/// Likelihood of all rows: see [`Backend::profile`].
///
/// # Panics
/// If arrays differ in their shape.
pub fn profile(
    outputs: Profiles<'_>,
    criterion: &Criterion,
    threads: NonZeroUsize,
    backend: Backend,
) -> Sums {
    let n_rows = outputs.x.len();
    let (by_value, by_gate) = outputs.gradients.unzip();
    let mut values = rows(Some(outputs.value), n_rows);
    let mut gates = rows(Some(outputs.gate), n_rows);
    let mut profiles = rows_mut(Some(outputs.profile), n_rows);
    let mut gradients = rows_mut(by_value, n_rows).zip(rows_mut(by_gate, n_rows));
    let rows = outputs.x.into_iter().zip(outputs.windows).map(|(x, &windows)| ProfileRow {
        x,
        value: values.next().flatten().expect("as many values as rows"),
        gate: gates.next().flatten().expect("as many logits as rows"),
        profile: profiles.next().flatten().expect("as many profiles as rows"),
        gradients: gradients.next().and_then(|(by_value, by_gate)| by_value.zip(by_gate)),
        windows,
    });
    total(rows, threads, |row| backend.profile(row, criterion))
}

/// Does something to all rows, and adds up what comes of it.
fn total<R: Send>(
    rows: impl Iterator<Item = R>,
    threads: NonZeroUsize,
    sums_of: impl Fn(&mut R) -> Sums + Sync,
) -> Sums {
    let mut rows: Vec<(R, Sums)> = rows.map(|row| (row, Sums::default())).collect();
    let items = vec![(); rows.len()];
    fill(&mut rows, &items, threads, || (), |(), (), row| row[0].1 = sums_of(&mut row[0].0));
    let mut all = Sums::default();
    for (_, sums) in &rows {
        all.add(sums);
    }
    all
}

/// The rows of an array, or none for each.
fn rows(array: Option<&[f32]>, n_rows: usize) -> impl Iterator<Item = Option<&[f32]>> {
    let width = array.map_or(0, |cells| width(cells.len(), n_rows));
    (0..n_rows).map(move |i| array.map(|cells| &cells[i * width..][..width]))
}

fn rows_mut(array: Option<&mut [f32]>, n_rows: usize) -> impl Iterator<Item = Option<&mut [f32]>> {
    let rows: Vec<Option<&mut [f32]>> = match array {
        Some(cells) if !cells.is_empty() => {
            let width = width(cells.len(), n_rows);
            cells.chunks_exact_mut(width).map(Some).collect()
        }
        _ => (0..n_rows).map(|_| None).collect(),
    };
    rows.into_iter()
}

fn width(n_cells: usize, n_rows: usize) -> usize {
    assert!(n_cells.is_multiple_of(n_rows.max(1)), "as many cells in each row");
    n_cells / n_rows.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::LEAST_FREQUENCY;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const PSEUDOCOUNT: f64 = 1e-6;

    /// Rows of any numbers that training may come across.
    #[derive(Clone, Debug)]
    struct Case {
        x: Vec<f32>,
        value: Vec<f32>,
        gate: Vec<f32>,
        n_rows: usize,
    }

    fn cases() -> impl Strategy<Value = Case> {
        let sizes = (1..4usize, prop_oneof![1..40usize, Just(512), 500..1_100usize]);
        sizes.prop_flat_map(|(n_rows, n_columns)| {
            let n = n_rows * n_columns;
            // Not a range of floats: proptest's sampler of those whose ends are far apart in
            // size fails an assertion of its own, once in a great many.
            let frequency = (1..2_000).prop_map(|n| n as f32 * 1e-6);
            let x = prop_oneof![Just(PSEUDOCOUNT as f32), frequency].prop_map(f32::ln);
            let said = || prop_oneof![-150.0f32..150.0, -8.0f32..8.0, -0.01f32..0.01];
            (vec(x, n), vec(said(), n), vec(said(), n)).prop_map(move |(x, value, gate)| Case {
                x,
                value,
                gate,
                n_rows,
            })
        })
    }

    impl Case {
        fn x(&self) -> Vec<&[f32]> {
            self.x.chunks_exact(self.x.len() / self.n_rows).collect()
        }
    }

    fn criterion(target_floor: f32) -> Criterion {
        Criterion {
            pseudocount: PSEUDOCOUNT as f32,
            threshold: 2e-4,
            threshold_cut: 2e-4,
            target_floor,
            floor: (PSEUDOCOUNT as f32).ln(),
            nonzero: 5e-5,
            cuts: vec![(1e-5, 1e-5), (5e-4, 5e-4)],
        }
    }

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    fn softplus(x: f64) -> f64 {
        x.max(0.0) + (-x.abs()).exp().ln_1p()
    }

    /// One cell by the definitions: its part of the sums, and its gradients.
    fn errors_of(
        [x, v, g]: [f64; 3],
        is_linear: bool,
        is_gated: bool,
        c: &Criterion,
    ) -> (Sums, [f64; 2]) {
        let wide = f64::from;
        let f = (x.exp() - wide(c.pseudocount)).max(0.0);
        let y = f64::from(u8::from(f > wide(c.threshold)));
        let x = x.max(wide(c.target_floor));
        let (value, slope) = if is_linear { (softplus(v), sigmoid(v)) } else { (v, 1.0) };
        let wanted = if is_linear { f } else { x };
        let floor = wide(c.floor);
        let out = match (is_gated, is_linear) {
            (true, true) => value * sigmoid(g),
            (true, false) => (value - floor) * sigmoid(g) + floor,
            (false, _) => value,
        };
        let log_out = if is_linear { (out + wide(c.pseudocount)).ln().max(floor) } else { out };
        let said = if is_gated { g > 0.0 } else { out > wide(c.threshold_cut) };
        let nonzero = f64::from(u8::from(f > wide(c.nonzero)));
        let mut sums = Sums {
            value_error: (value - wanted).powi(2),
            value_error_present: (value - wanted).powi(2) * y,
            present: y,
            gate_hits: f64::from(u8::from(said == (y > 0.0))),
            output_error: (out - wanted).powi(2),
            output_error_present: (out - wanted).powi(2) * y,
            log_error: (log_out - x).powi(2),
            log_error_nonzero: (log_out - x).powi(2) * nonzero,
            nonzero,
            ..Sums::default()
        };
        if is_gated {
            sums.bce = softplus(g) - g * y;
        }
        for (&(frequency, cut), hits) in c.cuts.iter().zip(&mut sums.cut_hits) {
            *hits = f64::from(u8::from((f > wide(frequency)) == (out > wide(cut))));
        }
        let weight = if is_gated { y } else { 1.0 };
        (sums, [(value - wanted) * slope * weight, sigmoid(g) - y])
    }

    /// What the probabilities of a row are in proportion to.
    fn weights(value: &[f32], gate: &[f32]) -> Vec<f64> {
        let cells = value.iter().zip(gate);
        cells.map(|(&v, &g)| softplus(f64::from(v)) * sigmoid(f64::from(g))).collect()
    }

    /// A row by the definitions: sums, gradients, how large what they are differences of is,
    /// and the profile.
    fn profile_of(
        x: &[f32],
        value: &[f32],
        gate: &[f32],
        windows: f64,
        c: &Criterion,
    ) -> (Sums, Vec<[f64; 2]>, [f64; 2], Vec<f64>) {
        let wide = |numbers: &[f32]| numbers.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let (x, v, g) = (wide(x), wide(value), wide(gate));
        let least = f64::from(LEAST_FREQUENCY);
        let u = weights(value, gate);
        let total: f64 = u.iter().sum();
        let q: Vec<f64> = u.iter().map(|u| u / total).collect();
        let f: Vec<f64> = x.iter().map(|x| (x.exp() - f64::from(c.pseudocount)).max(0.0)).collect();
        let gain: f64 = q.iter().zip(&f).map(|(q, f)| f / (q + least) * q).sum();
        let mut sums = Sums::default();
        let mut gradients = Vec::new();
        let mut sizes = [0.0, 0.0];
        for i in 0..x.len() {
            let y = f64::from(u8::from(f[i] > f64::from(c.threshold)));
            let m = (q[i] * windows).max(least);
            let log_out = (q[i] + f64::from(c.pseudocount)).ln().max(f64::from(c.floor));
            let nonzero = f64::from(u8::from(f[i] > f64::from(c.nonzero)));
            sums.add(&Sums {
                nats: -(q[i] + least).ln() * f[i],
                bce: if y > 0.0 { -(-(-m).exp_m1()).ln() } else { m },
                value_error_present: (q[i] - f[i]).powi(2) * y,
                present: y,
                output_error: (q[i] - f[i]).powi(2),
                output_error_present: (q[i] - f[i]).powi(2) * y,
                log_error: (log_out - x[i]).powi(2),
                log_error_nonzero: (log_out - x[i]).powi(2) * nonzero,
                nonzero,
                ..Sums::default()
            });
            let slope = (gain - f[i] / (q[i] + least)) / total;
            let size = (gain + f[i] / (q[i] + least)) / total;
            let s = sigmoid(g[i]);
            let by = [sigmoid(v[i]) * s, u[i] * (1.0 - s)];
            gradients.push(by.map(|by| slope * by));
            // 1 - s is a difference too.
            sizes = [f64::max(sizes[0], size * by[0]), f64::max(sizes[1], size * u[i])];
        }
        (sums, gradients, sizes, q)
    }

    /// Whether sums are the same but for rounding; hits may be of cells at a cut.
    fn assert_same(found: &Sums, wanted: &Sums, n: usize) {
        // A cell that is said right with certainty has the rounding of the 1 it is near.
        let rounding = 2e-5 * wanted.bce + 1e-7 * n as f64;
        let error = (found.bce - wanted.bce).abs();
        assert!(error <= rounding, "{:?} is not {:?}", found.bce, wanted.bce);
        let pairs = [
            (found.value_error, wanted.value_error),
            (found.value_error_present, wanted.value_error_present),
            (found.nats, wanted.nats),
            (found.output_error, wanted.output_error),
            (found.output_error_present, wanted.output_error_present),
            (found.log_error, wanted.log_error),
            (found.log_error_nonzero, wanted.log_error_nonzero),
        ];
        for (found, wanted) in pairs {
            let error = (found - wanted).abs();
            // A square of a small difference has the rounding of what it is a difference of.
            let rounding = 2e-5 * wanted.abs() + 4e-6 * wanted.abs().sqrt() + 1e-9;
            assert!(error <= rounding, "{found:?} is not {wanted:?}");
        }
        assert!((found.present - wanted.present).abs() <= 1.0);
        assert!((found.nonzero - wanted.nonzero).abs() <= 1.0);
    }

    fn assert_near(found: &[f32], wanted: impl Iterator<Item = f64>, scale: f64) {
        for (i, (&found, wanted)) in found.iter().zip(wanted).enumerate() {
            let error = (f64::from(found) - wanted).abs();
            assert!(error <= 2e-5 * wanted.abs() + scale, "{i}: {found} is not {wanted}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn errors_by_their_definition(
            case in cases(),
            is_linear: bool,
            is_gated: bool,
            with_gradients: bool,
            target_floor in prop_oneof![Just(f32::NEG_INFINITY), Just(-10.0f32)],
            threads in 1..4usize,
        ) {
            let criterion = criterion(target_floor);
            let mut wanted = Sums::default();
            let mut gradients = Vec::new();
            for i in 0..case.x.len() {
                let cell = [case.x[i], case.value[i], case.gate[i]].map(f64::from);
                let (sums, gradient) = errors_of(cell, is_linear, is_gated, &criterion);
                wanted.add(&sums);
                gradients.push(gradient);
            }
            for backend in Backend::available() {
                let mut by_value = vec![f32::NAN; case.x.len()];
                let mut by_gate = by_value.clone();
                let outputs = Outputs {
                    x: case.x(),
                    value: &case.value,
                    gate: is_gated.then_some(&case.gate),
                    value_gradient: with_gradients.then_some(&mut by_value),
                    gate_gradient: (with_gradients && is_gated).then_some(&mut by_gate),
                };
                let threads = NonZeroUsize::new(threads).unwrap();
                let found = errors(outputs, is_linear, &criterion, threads, backend);
                assert_same(&found, &wanted, case.x.len());
                prop_assert!((found.gate_hits - wanted.gate_hits).abs() <= 1.0);
                for (found, wanted) in found.cut_hits.iter().zip(wanted.cut_hits) {
                    prop_assert!((found - wanted).abs() <= 1.0);
                }
                if with_gradients {
                    assert_near(&by_value, gradients.iter().map(|x| x[0]), 1e-9);
                }
                if with_gradients && is_gated {
                    assert_near(&by_gate, gradients.iter().map(|x| x[1]), 1e-7);
                }
            }
        }

        #[test]
        fn profiles_by_their_definition(
            case in cases(),
            with_gradients: bool,
            windows in 1.0f32..20_000.0,
            threads in 1..4usize,
        ) {
            let criterion = criterion(f32::NEG_INFINITY);
            let n_columns = case.x.len() / case.n_rows;
            let windows = vec![windows; case.n_rows];
            let mut wanted = Sums::default();
            let (mut gradients, mut profiles) = (Vec::new(), Vec::new());
            let mut scales = [0.0, 0.0];
            for (row, &windows) in windows.iter().enumerate() {
                let cells = row * n_columns..(row + 1) * n_columns;
                let (x, value, gate) =
                    (&case.x[cells.clone()], &case.value[cells.clone()], &case.gate[cells]);
                // Where all weights of a row vanish in single precision, it has no profile;
                // near that, what is left of exponentials at their least is not negligible.
                prop_assume!(weights(value, gate).iter().sum::<f64>() > 1e-10);
                let (sums, gradient, sizes, profile) =
                    profile_of(x, value, gate, f64::from(windows), &criterion);
                wanted.add(&sums);
                gradients.extend(gradient);
                scales = [0, 1].map(|k| f64::max(scales[k], 4e-6 * sizes[k] + 1e-12));
                profiles.extend(profile);
            }
            for backend in Backend::available() {
                let mut by_value = vec![f32::NAN; case.x.len()];
                let mut by_gate = by_value.clone();
                let mut q = by_value.clone();
                let outputs = Profiles {
                    x: case.x(),
                    value: &case.value,
                    gate: &case.gate,
                    profile: &mut q,
                    gradients: with_gradients.then_some((&mut by_value, &mut by_gate)),
                    windows: &windows,
                };
                let threads = NonZeroUsize::new(threads).unwrap();
                let found = profile(outputs, &criterion, threads, backend);
                assert_same(&found, &wanted, case.x.len());
                assert_near(&q, profiles.iter().copied(), 1e-9);
                if with_gradients {
                    assert_near(&by_value, gradients.iter().map(|x| x[0]), scales[0]);
                    assert_near(&by_gate, gradients.iter().map(|x| x[1]), scales[1]);
                }
            }
        }
    }

    #[test]
    fn sums_do_not_depend_on_threads() {
        let said: Vec<f32> = (0..40 * 600).map(|i| ((i * 37 % 101) as f32 - 50.0) / 9.0).collect();
        let x: Vec<f32> = said.iter().map(|value| (1e-6 + value.abs() * 1e-5).ln()).collect();
        for backend in Backend::available() {
            let sums = [1, 2, 5].map(|threads| {
                let outputs = Outputs {
                    x: x.chunks_exact(600).collect(),
                    value: &said,
                    gate: Some(&said),
                    value_gradient: None,
                    gate_gradient: None,
                };
                let threads = NonZeroUsize::new(threads).unwrap();
                errors(outputs, true, &criterion(-10.0), threads, backend)
            });
            assert_eq!(sums[0], sums[1]);
            assert_eq!(sums[0], sums[2]);
        }
    }

    #[test]
    fn what_is_no_number_is_not_hidden() {
        let (x, said) = (vec![-9.0f32; 600], vec![f32::NAN; 600]);
        let sound = vec![0.5f32; 600];
        for backend in Backend::available() {
            for (value, gate) in [(&said, &sound), (&sound, &said)] {
                let outputs = Outputs {
                    x: vec![&x],
                    value,
                    gate: Some(gate),
                    value_gradient: None,
                    gate_gradient: None,
                };
                let sums = errors(outputs, true, &criterion(-10.0), NonZeroUsize::MIN, backend);
                assert!((sums.bce + sums.value_error).is_nan());
                let outputs = Profiles {
                    x: vec![&x],
                    value,
                    gate,
                    profile: &mut vec![0.0; 600],
                    gradients: None,
                    windows: &[100.0],
                };
                let sums = profile(outputs, &criterion(-10.0), NonZeroUsize::MIN, backend);
                assert!(sums.nats.is_nan());
            }
        }
    }

    #[test]
    fn no_rows() {
        let outputs = Outputs {
            x: Vec::new(),
            value: &[],
            gate: None,
            value_gradient: Some(&mut []),
            gate_gradient: None,
        };
        let sums = errors(outputs, true, &criterion(-10.0), NonZeroUsize::MIN, Backend::Scalar);
        assert_eq!(sums, Sums::default());
    }
}
