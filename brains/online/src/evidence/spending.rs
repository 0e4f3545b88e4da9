//! What retries and many challengers cost: whoever tries often enough is lucky some time.
//!
//! [`crate::guard`] spends with these; they are here for whoever tests something else.

use std::f64::consts::PI;

/// What the `attempt`th try, counted from 1, may spend of `alpha`, so that all tries ever together spend no more:
/// `α · 6 / (π² k²)`. An attempt of 0 counts as the first.
///
/// ```
/// let all: f64 = (1..100_000).map(|attempt| online::evidence::spending::retry(0.05, attempt)).sum();
/// assert!((0.0499..0.05).contains(&all));
/// ```
pub fn retry(alpha: f64, attempt: u32) -> f64 {
    let attempt = f64::from(attempt.max(1));
    alpha * 6.0 / (PI * PI * attempt * attempt)
}

/// What each of so many challengers may spend of `alpha` when all are tested at once; none counts as one.
pub fn among(alpha: f64, challengers: usize) -> f64 {
    alpha / challengers.max(1) as f64
}

/// The logarithm of the mean wealth of several tests, from the logarithms of each: evidence that *some* challenger is
/// better, valid however they depend on one another (Vovk and Wang, Annals of Statistics 2021). Minus infinity when
/// there are none; NaN where one is NaN.
///
/// ```
/// let mean = online::evidence::spending::average(&[40_f64.ln(), 0.0]);
/// assert!((mean.exp() - 20.5).abs() < 1e-9);
/// ```
pub fn average(log_wealths: &[f64]) -> f64 {
    let highest = log_wealths.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !highest.is_finite() {
        return highest;
    }
    let sum: f64 = log_wealths.iter().map(|wealth| (wealth - highest).exp()).sum();
    highest + (sum / log_wealths.len() as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_tries_are_the_dearest() {
        assert!((retry(0.05, 1) - 0.030_396).abs() < 1e-6);
        assert_eq!(retry(0.05, 0), retry(0.05, 1));
        assert!(retry(0.05, u32::MAX) > 0.0);
        assert_eq!(among(0.05, 5), 0.01);
        assert_eq!(among(0.05, 0), 0.05);
    }

    #[test]
    fn averages_do_not_overflow() {
        assert_eq!(average(&[]), f64::NEG_INFINITY);
        assert!((average(&[5_000.0, -5_000.0]) - (5_000.0 - 2_f64.ln())).abs() < 1e-9);
        assert!(average(&[f64::NAN, 1.0]).is_nan());
    }
}
