//! A correction that keeps a quantile's promise: conformal PID control.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What one miss moves the correction by, in scales.
const PROPORTIONAL: f64 = 0.05;
/// What the sum of errors moves it by, and where that saturates.
const INTEGRAL: (f64, f64) = (0.2, 20.0);
/// What is left of the sum of errors after one more.
const FADING: f64 = 0.9995;
/// Corrections stay in here, in scales.
const RANGE: f64 = 100.0;

/// Conformal PID control (Angelopoulos, Candès and Tibshirani, NeurIPS 2023) of one quantile: it tracks the quantile
/// of what the forecast leaves (their P), and adds a saturating function of how many misses there were too many
/// (their I). The forecast itself is the scorecaster (their D). Errors of long ago fade, over some 2,000 intervals: a
/// year of silence does not excuse a month of misses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pid {
    tracked: f64,
    sum: f64,
}

impl Pid {
    pub(super) fn new() -> Self {
        Self { tracked: 0.0, sum: 0.0 }
    }

    /// What is added to the forecast, in scales.
    pub(super) fn correction(&self) -> f64 {
        let (gain, saturation) = INTEGRAL;
        // Below a quarter turn: tan stays finite.
        let angle = (self.sum / saturation).clamp(-1.4, 1.4);
        (self.tracked + gain * angle.tan()).clamp(-RANGE, RANGE)
    }

    /// Takes in whether the value was above what was promised to be above this share of values. `caution`, up to 1, is
    /// how far to go at a time; the `count`th value moves it farther while there were few.
    pub(super) fn observe(&mut self, above: bool, share: f64, caution: f64, count: u64) {
        let error = (f64::from(u8::from(above)) - (1.0 - share)) * caution;
        let step = PROPORTIONAL.max(1.0 / (count as f64 + 1.0).sqrt());
        self.tracked = (self.tracked + step * error).clamp(-RANGE, RANGE);
        self.sum = self.sum * FADING + error;
    }

    pub(super) fn check(&self) -> Result<()> {
        let sums = self.tracked.abs() <= RANGE && self.sum.abs() <= 1.0 / (1.0 - FADING) + 1.0;
        if sums { Ok(()) } else { Err(Error::Snapshot("has a correction that no misses give")) }
    }
}
