//! Mean and spread of one number so far.

use serde::{Deserialize, Serialize};

use crate::schema::GREATEST;

/// The mean and variance of a target (Welford 1962), and the way there and back in deviations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    weight: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    pub(crate) fn add(&mut self, value: f64, weight: f64) {
        let value = value.clamp(-GREATEST, GREATEST);
        self.weight += weight;
        let apart = value - self.mean;
        self.mean += weight * apart / self.weight;
        self.squares += weight * apart * (value - self.mean);
    }

    pub(crate) fn deviation(&self) -> f64 {
        if self.weight > 0.0 { (self.squares / self.weight).max(0.0).sqrt() } else { 0.0 }
    }

    /// A value in deviations from the mean; 0 without a spread.
    pub(crate) fn scaled(&self, value: f64) -> f64 {
        let deviation = self.deviation();
        if deviation > 0.0 { (value.clamp(-GREATEST, GREATEST) - self.mean) / deviation } else { 0.0 }
    }

    /// The value that is so many deviations from the mean.
    pub(crate) fn value(&self, scaled: f64) -> f64 {
        self.mean + scaled * self.deviation()
    }

    pub(crate) fn is_sound(&self) -> bool {
        let finite = [self.weight, self.mean, self.squares].iter().all(|number| number.is_finite());
        finite && self.weight >= 0.0 && self.squares >= 0.0
    }
}
