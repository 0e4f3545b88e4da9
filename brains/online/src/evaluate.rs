//! How right predictions were, as their labels come in: since the start, over the last rows, and faded.
//!
//! Each prediction was made before its label was known, so this is test-then-train ("prequential") evaluation: Gama,
//! Sebastião and Rodrigues, "On evaluating stream learning algorithms" (Machine Learning 90, 2013). [`Classes`] judges
//! classifiers, [`Numbers`] regressors. What can't be said of so few rows is `None`, never a guess.

mod classes;
mod numbers;
mod recent;
#[cfg(test)]
mod tests;

pub use classes::{Answer, ClassFigures, ClassReport, Classes};
pub use numbers::{NumberFigures, NumberReport, Numbers};

use serde::{Deserialize, Serialize};

use crate::{Result, error::within};

/// Rows of each class that an area under a curve needs to be more than noise.
pub const LEAST: u64 = 20;

/// Over which rows figures are taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Rows of the short window. Default 1,000.
    pub short: usize,
    /// Rows of the long window. Default 10,000.
    pub long: usize,
    /// Rows after which a row counts half in faded figures. Default 1,000.
    pub half_life: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { short: 1_000, long: 10_000, half_life: 1_000.0 }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        within("short", self.short as f64, (1.0, 1e6), "from 1 to 10^6")?;
        within("long", self.long as f64, (self.short as f64, 1e6), "from `short` to 10^6")?;
        within("half_life", self.half_life, (1.0, 1e9), "from 1 to 10^9")?;
        Ok(())
    }

    /// What of the figures before stays when a row comes.
    fn stays(&self) -> f64 {
        0.5_f64.powf(1.0 / self.half_life)
    }
}

/// A mean in which older values count less and less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Faded {
    weight: f64,
    sum: f64,
}

impl Faded {
    fn add(&mut self, value: f64, stays: f64) {
        self.weight = self.weight * stays + 1.0;
        self.sum = self.sum * stays + value;
    }

    fn mean(self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }

    fn is_sound(self) -> bool {
        self.weight.is_finite() && self.weight >= 0.0 && self.sum.is_finite()
    }
}
