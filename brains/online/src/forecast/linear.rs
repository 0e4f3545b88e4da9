//! One more expert: a line through what the others say, fitted as values come.

use serde::{Deserialize, Serialize};

use super::experts::EXPERTS;
use crate::{Error, Result};

/// What is weighed: last value, 5- and 15-minute means, yesterday, a week ago, and a constant.
const INPUTS: usize = 6;
/// Which experts those are; the constant is none.
const FROM: [usize; INPUTS - 1] = [0, 2, 3, 5, 6];
/// What is left of what a value taught after one more: it remembers some 2,000.
const FORGETTING: f64 = 0.9995;
/// How sure it is of what it begins with, and the most that it may be unsure.
const UNSURE: (f64, f64) = (0.1, 10.0);
/// No weight is larger.
const LARGEST: f64 = 1e3;

/// Recursive least squares with forgetting (Plackett 1950; Ljung and Söderström 1983) on values as shares of the
/// level. It begins as the 5-minute mean. 336 bytes; O(36) a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Linear {
    weights: [f64; INPUTS],
    /// The inverse of the inputs' faded second moments, row by row.
    inverse: [[f64; INPUTS]; INPUTS],
}

impl Linear {
    pub(super) fn new() -> Self {
        let mut linear = Self { weights: [0.0; INPUTS], inverse: [[0.0; INPUTS]; INPUTS] };
        linear.weights[1] = 1.0;
        linear.doubt();
        linear
    }

    fn doubt(&mut self) {
        self.inverse = [[0.0; INPUTS]; INPUTS];
        for (place, row) in self.inverse.iter_mut().enumerate() {
            row[place] = UNSURE.0;
        }
    }

    /// What it says where the others say this, in units of `scale`; NaN while they say nothing.
    pub(super) fn point(&self, points: &[f64; EXPERTS], scale: f64) -> f64 {
        let inputs = inputs(points, scale);
        scale * self.weights.iter().zip(inputs).map(|(weight, input)| weight * input).sum::<f64>()
    }

    /// Takes in what came.
    pub(super) fn learn(&mut self, points: &[f64; EXPERTS], scale: f64, value: f64) {
        let inputs = inputs(points, scale);
        // One burst of a hundred times the level must not turn the line.
        let error = ((value - self.point(points, scale)) / scale).clamp(-3.0, 3.0);
        let moved = self.inverse.map(|row| row.iter().zip(inputs).map(|(entry, input)| entry * input).sum::<f64>());
        let known = FORGETTING + moved.iter().zip(inputs).map(|(moved, input)| moved * input).sum::<f64>();
        if !(error.is_finite() && known.is_finite() && known > 1e-9) {
            return;
        }
        for (weight, moved) in self.weights.iter_mut().zip(moved) {
            *weight = (*weight + error * moved / known).clamp(-LARGEST, LARGEST);
        }
        let mut sound = true;
        for (row, place) in self.inverse.iter_mut().zip(0..) {
            for (entry, other) in row.iter_mut().zip(moved) {
                *entry = (*entry - moved[place] * other / known) / FORGETTING;
            }
            sound &= (0.0..=UNSURE.1).contains(&row[place]);
        }
        // What forgetting has blown up, or rounding has broken, is begun anew around the same weights.
        if !sound {
            self.doubt();
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let small = |value: &f64| value.abs() <= LARGEST;
        let sound = self.weights.iter().all(small) && self.inverse.iter().flatten().all(small);
        if sound { Ok(()) } else { Err(Error::Snapshot("has a line that no values give")) }
    }
}

/// The inputs as shares of the scale; the last value where an expert is silent.
fn inputs(points: &[f64; EXPERTS], scale: f64) -> [f64; INPUTS] {
    let mut inputs = [1.0; INPUTS];
    for (input, from) in inputs.iter_mut().zip(FROM) {
        let point = if points[from].is_nan() { points[0] } else { points[from] };
        *input = (point / scale).clamp(-10.0, 10.0);
    }
    inputs
}
