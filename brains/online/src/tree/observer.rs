//! What a leaf knows of one column in rows of one class.

use serde::{Deserialize, Serialize};

use crate::schema::GREATEST;

/// What a class that never varied says to a value other than its only one, and one that had none to any: as good as
/// impossible.
const NEVER: f64 = -36.0;
/// Different words of a column that a leaf counts for a class; what comes after them is counted together.
const WORDS: usize = 64;
const HALF_LOG_TAU: f64 = 0.918_938_533_204_672_7;

/// A normal distribution fitted to weighted numbers (Welford 1962, West 1979).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Numbers {
    pub(super) weight: f64,
    pub(super) mean: f64,
    /// Sum of weighted squared distances from the mean.
    squares: f64,
    pub(super) least: f64,
    pub(super) greatest: f64,
    /// −1/(2σ²) and −ln(σ√(2π)), kept so that a density costs no division and no logarithm; 0 without a spread.
    curve: [f64; 2],
}

impl Default for Numbers {
    fn default() -> Self {
        let (least, greatest) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { weight: 0.0, mean: 0.0, squares: 0.0, least, greatest, curve: [0.0; 2] }
    }
}

impl Numbers {
    pub(super) fn add(&mut self, value: f64, weight: f64) {
        let value = value.clamp(-GREATEST, GREATEST);
        self.least = self.least.min(value);
        self.greatest = self.greatest.max(value);
        self.weight += weight;
        let apart = value - self.mean;
        self.mean += weight * apart / self.weight;
        self.squares += weight * apart * (value - self.mean);
        let variance = self.variance();
        if variance > 1e-200 {
            self.curve = [-0.5 / variance, -0.5 * variance.ln() - HALF_LOG_TAU];
        }
    }

    /// Of the weighted numbers as a sample; 0 up to a weight of 1.
    fn variance(&self) -> f64 {
        if self.weight > 1.0 { (self.squares / (self.weight - 1.0)).max(0.0) } else { 0.0 }
    }

    /// Standard deviation.
    pub(super) fn deviation(&self) -> f64 {
        self.variance().sqrt()
    }

    /// The logarithm of the density at a value.
    pub(super) fn log_density(&self, value: f64) -> f64 {
        let [sharpness, height] = self.curve;
        let apart = value - self.mean;
        if sharpness < 0.0 {
            (height + sharpness * apart * apart).max(20.0 * NEVER)
        } else if apart == 0.0 && self.weight > 0.0 {
            0.0
        } else {
            NEVER
        }
    }

    pub(super) fn is_sound(&self) -> bool {
        let seen = self.weight > 0.0 && self.least <= self.greatest && self.mean.is_finite();
        let none = self.weight == 0.0 && self.least > self.greatest;
        (seen || none) && self.squares.is_finite() && self.curve.iter().all(|number| number.is_finite())
    }
}

/// How often each word came.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Words {
    pub(super) weight: f64,
    /// By word.
    pub(super) counts: Vec<(u32, f64)>,
}

impl Words {
    /// Counts a word; says how many bytes that takes.
    pub(super) fn add(&mut self, word: u32, weight: f64) -> usize {
        self.weight += weight;
        let before = self.held();
        match self.counts.binary_search_by_key(&word, |(known, _)| *known) {
            Ok(place) => {
                if let Some((_, count)) = self.counts.get_mut(place) {
                    *count += weight;
                }
            }
            Err(place) if self.counts.len() < WORDS => self.counts.insert(place, (word, weight)),
            Err(_) => {}
        }
        self.held() - before
    }

    /// Bytes that it holds beside itself.
    pub(super) fn held(&self) -> usize {
        self.counts.len() * size_of::<(u32, f64)>()
    }

    /// How much of the weight was of this word.
    pub(super) fn count(&self, word: u32) -> f64 {
        let place = self.counts.binary_search_by_key(&word, |(known, _)| *known);
        place.ok().and_then(|place| self.counts.get(place)).map_or(0.0, |(_, count)| *count)
    }

    /// The logarithm of a word's probability, by Laplace's rule: each of the declared words came once before.
    pub(super) fn log_probability(&self, word: u32, words: u32) -> f64 {
        ((self.count(word) + 1.0) / (self.weight + f64::from(words))).ln()
    }

    pub(super) fn is_sound(&self) -> bool {
        let sorted = self.counts.iter().zip(self.counts.iter().skip(1)).all(|((a, _), (b, _))| a < b);
        let finite = self.weight.is_finite() && self.counts.iter().all(|(_, count)| count.is_finite() && *count >= 0.0);
        sorted && finite && self.weight >= 0.0 && self.counts.len() <= WORDS
    }
}
