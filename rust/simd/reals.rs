//! Exponentials and logarithms of float32, of which the compiler makes vectors: neither
//! branches nor tables.
//!
//! Of what they are given an infinite or very large number may become the largest that is
//! computed with; what is not a number stays none.

/// Adding it rounds to an integer, which then stands in the lowest bits.
const ROUNDING: f32 = 12_582_912.0;

/// ln 2 as two numbers, the first short enough that its products with exponents are exact.
const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);

/// Between them 2^x and its reciprocal are ordinary numbers.
const LEAST: f32 = -87.0;
const MOST: f32 = 88.0;

/// The greater of two numbers, the second where either is none: one instruction.
#[inline(always)]
pub(super) fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// 2^n and e^r - 1, where x = n ln 2 + r and r is small.
#[inline(always)]
fn split(x: f32) -> (f32, f32) {
    let x = if x < LEAST { LEAST } else { x };
    let x = if x > MOST { MOST } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUNDING;
    let n = shifted - ROUNDING;
    let r = x - n * LN_2.0 - n * LN_2.1;
    // The exponential series, good to 5e-9 for |r| <= ln(2) / 2.
    let mut p = 1.0 / 5_040.0;
    for factorial in [720.0, 120.0, 24.0, 6.0, 2.0] {
        p = p * r + 1.0 / factorial;
    }
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    (power, r + r * r * p)
}

/// e^x; for x below -87 that of -87.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let (power, p) = split(x);
    power * p + power
}

/// e^x - 1, exact relative to itself for small x.
#[inline(always)]
pub(super) fn exp_m1(x: f32) -> f32 {
    let (power, p) = split(x);
    power * p + (power - 1.0)
}

/// ln x of a positive number that is neither subnormal nor infinite.
#[inline(always)]
pub(super) fn ln(x: f32) -> f32 {
    // The mantissa is between the root of a half and that of two.
    const ROOT: u32 = std::f32::consts::FRAC_1_SQRT_2.to_bits();
    let above = x.to_bits().wrapping_sub(ROOT);
    let exponent = (above as i32 >> 23) as f32;
    let f = f32::from_bits((above & 0x7F_FFFF) + ROOT) - 1.0;
    // ln(1 + f) = 2 artanh(s), and 2 s = f - s f, which rounds less.
    let s = f / (2.0 + f);
    let z = s * s;
    let series = ((z * (1.0 / 9.0) + 1.0 / 7.0) * z + 1.0 / 5.0) * z + 1.0 / 3.0;
    let low = s * (f - 2.0 * (z * series)) - exponent * LN_2.1;
    let found = (f - low) + exponent * LN_2.0;
    if x.is_nan() { x } else { found }
}

/// ln(1 + x) for x between 0 and 1, exact relative to itself.
#[inline(always)]
pub(super) fn ln_1p(x: f32) -> f32 {
    let s = x / (2.0 + x);
    let z = s * s;
    let mut series = 1.0 / 13.0;
    for divisor in [11.0, 9.0, 7.0, 5.0, 3.0] {
        series = series * z + 1.0 / divisor;
    }
    2.0 * (s + s * z * series)
}

/// The logistic function of x, and ln(1 + e^-|x|).
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> (f32, f32) {
    let e = exp(-x.abs());
    let of_size = 1.0 / (1.0 + e);
    (if x < 0.0 { e * of_size } else { of_size }, ln_1p(e))
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn assert_near(found: f32, wanted: f64, what: f32) {
        let error = (f64::from(found) - wanted).abs();
        assert!(error <= 3e-7 * wanted.abs() + 1e-37, "{what}: {found} is not {wanted}");
    }

    proptest! {
        #[test]
        fn exponentials(x in -86.9f32..87.9) {
            assert_near(exp(x), f64::from(x).exp(), x);
            assert_near(exp_m1(x), f64::from(x).exp_m1(), x);
        }

        #[test]
        fn small_exponentials(x in -1.0f32..1.0, power in 0..30) {
            let x = x * 0.5f32.powi(power);
            assert_near(exp_m1(x), f64::from(x).exp_m1(), x);
        }

        #[test]
        fn logarithms(x in -80.0f32..80.0) {
            let x = x.exp();
            let error = (f64::from(ln(x)) - f64::from(x).ln()).abs();
            prop_assert!(error <= 2e-7 * f64::from(x).ln().abs().max(0.5), "{x}: {}", ln(x));
        }

        #[test]
        fn logarithms_of_little_more_than_one(x in 0.0f32..=1.0, power in 0..40) {
            let x = x * 0.5f32.powi(power);
            assert_near(ln_1p(x), f64::from(x).ln_1p(), x);
        }

        #[test]
        fn logistic(x in -100.0f32..100.0) {
            let (s, rest) = sigmoid(x);
            let wide = f64::from(x);
            if x.abs() < 86.0 {
                assert_near(s, 1.0 / (1.0 + (-wide).exp()), x);
                assert_near(rest, (-wide.abs()).exp().ln_1p(), x);
            } else {
                prop_assert!(rest < 1e-36 && (s < 1e-36 || s == 1.0));
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        let none = f32::NAN;
        assert!(exp(none).is_nan() && exp_m1(none).is_nan() && ln(none).is_nan());
        assert!(ln_1p(none).is_nan() && sigmoid(none).0.is_nan() && sigmoid(none).1.is_nan());
        assert!(greater(0.0, none).is_nan());
    }

    #[test]
    fn ends_of_the_range() {
        assert_eq!(sigmoid(f32::INFINITY).0, 1.0);
        assert!(sigmoid(f32::NEG_INFINITY).0 < 1e-37);
        assert!(exp(-1e30) < 2e-38 && exp(1e30) > 1e38);
        assert_eq!(ln(1.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
    }
}
