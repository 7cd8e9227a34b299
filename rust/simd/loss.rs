//! Loss, gradient and metrics of one row of the widest outputs, a few cells at a time: so many
//! that each line is a loop that the compiler makes one vector of, or two.

#![allow(clippy::many_single_char_names, reason = "they are those of the formulas")]

use super::reals::{exp, exp_m1, greater, ln, sigmoid};

/// Cells that are taken through all steps together, and the parts of a sum.
const LANES: usize = 16;

/// Frequencies at which output and row are held against each other, at most so many.
pub const CUTS: usize = 4;

/// What is added to a frequency of a profile before its logarithm is taken, and the least
/// number of k-mers to be expected.
pub const LEAST_FREQUENCY: f32 = 1e-9;

/// Constants of a loss and its metrics.
#[derive(Clone, Debug)]
pub struct Criterion {
    /// What was added to frequencies before their logarithms were taken.
    pub pseudocount: f32,
    /// Frequency above which a k-mer is present.
    pub threshold: f32,
    /// The same, of an output.
    pub threshold_cut: f32,
    /// No lower logarithm of a row is wanted.
    pub target_floor: f32,
    /// Least logarithm of a frequency that is said.
    pub floor: f32,
    /// Frequency above which a k-mer counts as non-zero.
    pub nonzero: f32,
    /// Frequencies, at most [`CUTS`], each with what an output exceeds where its frequency does.
    pub cuts: Vec<(f32, f32)>,
}

/// A row whose values are frequencies or their logarithms, and where its gradients go. All
/// slices have one length.
#[derive(Debug)]
pub struct Row<'a> {
    /// Logarithms of frequencies.
    pub x: &'a [f32],
    /// What is said of them: values.
    pub value: &'a [f32],
    /// What is said of them: logits of presence.
    pub gate: Option<&'a [f32]>,
    /// Becomes the gradient of half the squared errors with respect to the values.
    pub value_gradient: Option<&'a mut [f32]>,
    /// Becomes the gradient of the cross-entropy with respect to the logits.
    pub gate_gradient: Option<&'a mut [f32]>,
}

/// A row whose values are softplus, and with presence, normalised, a profile. All slices have
/// one length.
#[derive(Debug)]
pub struct ProfileRow<'a> {
    /// Logarithms of frequencies.
    pub x: &'a [f32],
    /// What is said of them: values.
    pub value: &'a [f32],
    /// What is said of them: logits of presence.
    pub gate: &'a [f32],
    /// Becomes the profile.
    pub profile: &'a mut [f32],
    /// Become the gradients of the likelihood with respect to values and logits.
    pub gradients: Option<(&'a mut [f32], &'a mut [f32])>,
    /// K-mers that the sequence has places for.
    pub windows: f32,
}

/// Sums over the cells of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Binary cross-entropy of presence.
    pub bce: f64,
    /// Squared errors of the values.
    pub value_error: f64,
    /// Squared errors of the values of what is present; of a profile, of its frequencies.
    pub value_error_present: f64,
    /// Negative logarithm of the likelihood of profiles, per k-mer of the sequence.
    pub nats: f64,
    /// Cells that are present.
    pub present: f64,
    /// Cells whose presence is said rightly.
    pub gate_hits: f64,
    /// Squared errors of outputs, which are value and gate together.
    pub output_error: f64,
    /// The same of what is present.
    pub output_error_present: f64,
    /// Squared errors of the logarithms of outputs.
    pub log_error: f64,
    /// The same of what is not zero.
    pub log_error_nonzero: f64,
    /// Cells that are not zero.
    pub nonzero: f64,
    /// Cells whose output is on the same side of each cut as the row.
    pub cut_hits: [f64; CUTS],
}

impl Sums {
    /// Adds those of other rows.
    pub fn add(&mut self, other: &Self) {
        self.bce += other.bce;
        self.value_error += other.value_error;
        self.value_error_present += other.value_error_present;
        self.nats += other.nats;
        self.present += other.present;
        self.gate_hits += other.gate_hits;
        self.output_error += other.output_error;
        self.output_error_present += other.output_error_present;
        self.log_error += other.log_error;
        self.log_error_nonzero += other.log_error_nonzero;
        self.nonzero += other.nonzero;
        for (sum, more) in self.cut_hits.iter_mut().zip(other.cut_hits) {
            *sum += more;
        }
    }
}

/// Squared errors of the values, the cross-entropy of the gate, and their gradients. Where the
/// space is linear, a value's softplus is a frequency, else the value is a logarithm.
#[inline(always)]
pub(super) fn errors(row: &mut Row<'_>, is_linear: bool, criterion: &Criterion) -> Sums {
    let n = row.x.len();
    match (is_linear, row.gate) {
        (true, gate) => over_blocks(n, Errors::<true> { row, gate, criterion }),
        (false, gate) => over_blocks(n, Errors::<false> { row, gate, criterion }),
    }
}

/// Likelihood of the profile, its gradients, and the profile.
#[inline(always)]
pub(super) fn profile(row: &mut ProfileRow<'_>, criterion: &Criterion) -> Sums {
    let n = row.x.len();
    let total = over_blocks(n, Weights { row }).value_error as f32;
    let mut sums = over_blocks(n, Profile { row, criterion, total });
    // Summed over k-mers as shares they gain from: see below.
    let gain = std::mem::take(&mut sums.value_error) as f32;
    if row.gradients.is_some() {
        over_blocks(n, Slopes { row, criterion, gain, total });
    }
    sums
}

/// Something that is done to all cells of a row.
trait Step {
    /// Takes so many cells through it, from one on.
    fn take<const N: usize>(&mut self, start: usize, parts: &mut Parts);
}

/// Several cells at a time, and what is left one by one.
#[inline(always)]
fn over_blocks(n: usize, mut step: impl Step) -> Sums {
    let mut parts = Parts::default();
    let mut start = 0;
    while start + LANES <= n {
        step.take::<LANES>(start, &mut parts);
        start += LANES;
    }
    while start < n {
        step.take::<1>(start, &mut parts);
        start += 1;
    }
    parts.total()
}

/// A sum in several parts. Whole numbers are exact up to 2^24 in each.
type Part = [f32; LANES];

/// [`Sums`] while a row is read.
#[derive(Default)]
struct Parts {
    bce: Part,
    value_error: Part,
    value_error_present: Part,
    nats: Part,
    present: Part,
    gate_hits: Part,
    output_error: Part,
    output_error_present: Part,
    log_error: Part,
    log_error_nonzero: Part,
    nonzero: Part,
    cut_hits: [Part; CUTS],
}

impl Parts {
    #[inline(always)]
    fn total(&self) -> Sums {
        let total = |part: &Part| part.iter().map(|&sum| f64::from(sum)).sum::<f64>();
        Sums {
            bce: total(&self.bce),
            value_error: total(&self.value_error),
            value_error_present: total(&self.value_error_present),
            nats: total(&self.nats),
            present: total(&self.present),
            gate_hits: total(&self.gate_hits),
            output_error: total(&self.output_error),
            output_error_present: total(&self.output_error_present),
            log_error: total(&self.log_error),
            log_error_nonzero: total(&self.log_error_nonzero),
            nonzero: total(&self.nonzero),
            cut_hits: self.cut_hits.each_ref().map(total),
        }
    }

    /// Compares an output with the row at the cuts, and their logarithms.
    #[inline(always)]
    fn look<const N: usize>(
        &mut self,
        criterion: &Criterion,
        f: &[f32; N],
        x: &[f32; N],
        out: &[f32; N],
        log_out: &[f32; N],
    ) {
        for (&(frequency, cut), hits) in criterion.cuts.iter().zip(&mut self.cut_hits) {
            add(hits, &map::<N>(|i| one_if((f[i] > frequency) == (out[i] > cut))));
        }
        let nonzero: [f32; N] = map(|i| one_if(f[i] > criterion.nonzero));
        let squared: [f32; N] = map(|i| (log_out[i] - x[i]) * (log_out[i] - x[i]));
        add(&mut self.nonzero, &nonzero);
        add(&mut self.log_error, &squared);
        add(&mut self.log_error_nonzero, &map::<N>(|i| squared[i] * nonzero[i]));
    }
}

struct Errors<'a, 'row, const IS_LINEAR: bool> {
    row: &'a mut Row<'row>,
    gate: Option<&'row [f32]>,
    criterion: &'a Criterion,
}

impl<const IS_LINEAR: bool> Step for Errors<'_, '_, IS_LINEAR> {
    #[inline(always)]
    fn take<const N: usize>(&mut self, start: usize, parts: &mut Parts) {
        let criterion = self.criterion;
        let (stored, value) = (block::<N>(self.row.x, start), block::<N>(self.row.value, start));
        let f = frequencies(stored, criterion);
        let y: [f32; N] = map(|i| one_if(f[i] > criterion.threshold));
        let x: [f32; N] = map(|i| greater(criterion.target_floor, stored[i]));
        add(&mut parts.present, &y);

        let wanted = if IS_LINEAR { &f } else { &x };
        let (mut out, mut slope) = (*value, [1.0; N]);
        if IS_LINEAR {
            (out, slope) = softplus(value);
        }
        let error: [f32; N] = map(|i| out[i] - wanted[i]);
        add(&mut parts.value_error, &map::<N>(|i| error[i] * error[i]));
        add(&mut parts.value_error_present, &map::<N>(|i| error[i] * error[i] * y[i]));
        if let Some(gradient) = self.row.value_gradient.as_deref_mut() {
            let gradient = block_mut::<N>(gradient, start);
            if self.gate.is_some() {
                *gradient = map(|i| error[i] * y[i] * slope[i]);
            } else {
                *gradient = map(|i| error[i] * slope[i]);
            }
        }
        if let Some(gate) = self.gate {
            let logit = block::<N>(gate, start);
            // And -ln of the chance of what is true.
            let (chance, bce) = map_pairs::<N>(|i| {
                let (chance, rest) = sigmoid(logit[i]);
                (chance, greater(0.0, logit[i]) - logit[i] * y[i] + rest)
            });
            add(&mut parts.bce, &bce);
            add(&mut parts.gate_hits, &map::<N>(|i| one_if((logit[i] > 0.0) == (y[i] > 0.0))));
            if let Some(gradient) = self.row.gate_gradient.as_deref_mut() {
                *block_mut::<N>(gradient, start) = map(|i| chance[i] - y[i]);
            }
            out = if IS_LINEAR {
                map(|i| out[i] * chance[i])
            } else {
                map(|i| (out[i] - criterion.floor) * chance[i] + criterion.floor)
            };
        } else {
            let cut = criterion.threshold_cut;
            add(&mut parts.gate_hits, &map::<N>(|i| one_if((out[i] > cut) == (y[i] > 0.0))));
        }
        let error: [f32; N] = map(|i| out[i] - wanted[i]);
        add(&mut parts.output_error, &map::<N>(|i| error[i] * error[i]));
        add(&mut parts.output_error_present, &map::<N>(|i| error[i] * error[i] * y[i]));
        let log_out = if IS_LINEAR { logarithms(&out, criterion) } else { out };
        parts.look(criterion, &f, &x, &out, &log_out);
    }
}

/// Fills in softplus times presence where the profile goes, and with gradients, what they are
/// multiplied with. The total stands in `value_error`.
struct Weights<'a, 'row> {
    row: &'a mut ProfileRow<'row>,
}

impl Step for Weights<'_, '_> {
    #[inline(always)]
    fn take<const N: usize>(&mut self, start: usize, parts: &mut Parts) {
        let (value, slope) = softplus(block::<N>(self.row.value, start));
        let logit = block::<N>(self.row.gate, start);
        let chance: [f32; N] = map(|i| sigmoid(logit[i]).0);
        let weight: [f32; N] = map(|i| value[i] * chance[i]);
        add(&mut parts.value_error, &weight);
        *block_mut::<N>(self.row.profile, start) = weight;
        if let Some((by_value, by_gate)) = &mut self.row.gradients {
            *block_mut::<N>(by_value, start) = map(|i| slope[i] * chance[i]);
            *block_mut::<N>(by_gate, start) = map(|i| weight[i] * (1.0 - chance[i]));
        }
    }
}

/// Fills in the profile, and compares it with the row. What the likelihood gains by an equal
/// change of all shares stands in `value_error`.
struct Profile<'a, 'row> {
    row: &'a mut ProfileRow<'row>,
    criterion: &'a Criterion,
    total: f32,
}

impl Step for Profile<'_, '_> {
    #[inline(always)]
    fn take<const N: usize>(&mut self, start: usize, parts: &mut Parts) {
        let criterion = self.criterion;
        let x = block::<N>(self.row.x, start);
        let f = frequencies(x, criterion);
        let y: [f32; N] = map(|i| one_if(f[i] > criterion.threshold));
        let profile = block_mut::<N>(self.row.profile, start);
        *profile = map(|i| profile[i] / self.total);
        let q = &*profile;
        add(&mut parts.present, &y);
        add(&mut parts.nats, &map::<N>(|i| -ln(q[i] + LEAST_FREQUENCY) * f[i]));
        add(&mut parts.value_error, &map::<N>(|i| f[i] / (q[i] + LEAST_FREQUENCY) * q[i]));

        // Found at least once among so many k-mers: 1 - e^-m, where m are to be expected.
        let windows = self.row.windows;
        let m: [f32; N] = map(|i| greater(LEAST_FREQUENCY, q[i] * windows));
        let half = std::f32::consts::LN_2;
        add(&mut parts.gate_hits, &map::<N>(|i| one_if((m[i] > half) == (y[i] > 0.0))));
        let found: [f32; N] = map(|i| -ln(-exp_m1(-m[i])));
        add(&mut parts.bce, &map::<N>(|i| if y[i] > 0.0 { found[i] } else { m[i] }));

        let error: [f32; N] = map(|i| q[i] - f[i]);
        add(&mut parts.output_error, &map::<N>(|i| error[i] * error[i]));
        add(&mut parts.output_error_present, &map::<N>(|i| error[i] * error[i] * y[i]));
        parts.value_error_present = parts.output_error_present;
        let log_out = logarithms(q, criterion);
        parts.look(criterion, &f, x, q, &log_out);
    }
}

/// Multiplies the gradients with what is common to value and gate.
struct Slopes<'a, 'row> {
    row: &'a mut ProfileRow<'row>,
    criterion: &'a Criterion,
    gain: f32,
    total: f32,
}

impl Step for Slopes<'_, '_> {
    #[inline(always)]
    fn take<const N: usize>(&mut self, start: usize, _: &mut Parts) {
        let f = frequencies(block::<N>(self.row.x, start), self.criterion);
        let q = block::<N>(self.row.profile, start);
        // A share gains by its own growth, and loses what all lose by that of the total.
        let slope: [f32; N] = map(|i| (self.gain - f[i] / (q[i] + LEAST_FREQUENCY)) / self.total);
        if let Some((by_value, by_gate)) = &mut self.row.gradients {
            for gradient in [by_value, by_gate] {
                let gradient = block_mut::<N>(gradient, start);
                *gradient = map(|i| gradient[i] * slope[i]);
            }
        }
    }
}

/// Frequencies that logarithms are of.
#[inline(always)]
fn frequencies<const N: usize>(x: &[f32; N], criterion: &Criterion) -> [f32; N] {
    map(|i| greater(0.0, exp(x[i]) - criterion.pseudocount))
}

/// Logarithms of frequencies, as those of rows are taken.
#[inline(always)]
fn logarithms<const N: usize>(f: &[f32; N], criterion: &Criterion) -> [f32; N] {
    map(|i| greater(criterion.floor, ln(f[i] + criterion.pseudocount)))
}

/// ln(1 + e^v), and its slope.
#[inline(always)]
fn softplus<const N: usize>(v: &[f32; N]) -> ([f32; N], [f32; N]) {
    map_pairs(|i| {
        let (slope, rest) = sigmoid(v[i]);
        (greater(0.0, v[i]) + rest, slope)
    })
}

#[inline(always)]
fn one_if(condition: bool) -> f32 {
    if condition { 1.0 } else { 0.0 }
}

#[inline(always)]
fn map<const N: usize>(cell: impl Fn(usize) -> f32) -> [f32; N] {
    let mut found = [0.0; N];
    for (i, value) in found.iter_mut().enumerate() {
        *value = cell(i);
    }
    found
}

/// Two numbers of each cell.
#[inline(always)]
fn map_pairs<const N: usize>(cell: impl Fn(usize) -> (f32, f32)) -> ([f32; N], [f32; N]) {
    let mut found = ([0.0; N], [0.0; N]);
    for (i, (a, b)) in found.0.iter_mut().zip(&mut found.1).enumerate() {
        (*a, *b) = cell(i);
    }
    found
}

/// Adds cells up, which are computed before: then the loop is simple enough for the compiler.
#[inline(always)]
fn add<const N: usize>(part: &mut Part, cells: &[f32; N]) {
    for (sum, cell) in part.iter_mut().zip(cells) {
        *sum += cell;
    }
}

#[inline(always)]
fn block<const N: usize>(cells: &[f32], start: usize) -> &[f32; N] {
    cells[start..].first_chunk().expect("as many cells")
}

#[inline(always)]
fn block_mut<const N: usize>(cells: &mut [f32], start: usize) -> &mut [f32; N] {
    cells[start..].first_chunk_mut().expect("as many cells")
}
