//! Sums of a target over ranges of a number; the ranges follow the numbers.

use serde::{Deserialize, Serialize};

/// Bins. Even, since two become one when the range doubles.
pub(super) const BINS: usize = 32;

/// Weight, sum and sum of squares of a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sums {
    pub(super) weight: f64,
    pub(super) total: f64,
    pub(super) squares: f64,
}

impl Sums {
    /// Of one target.
    pub(super) fn of(target: f64, weight: f64) -> Self {
        Self { weight, total: weight * target, squares: weight * target * target }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            weight: self.weight + other.weight,
            total: self.total + other.total,
            squares: self.squares + other.squares,
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            weight: (self.weight - other.weight).max(0.0),
            total: self.total - other.total,
            squares: (self.squares - other.squares).max(0.0),
        }
    }

    pub(super) fn mean(self) -> f64 {
        if self.weight > 0.0 { self.total / self.weight } else { 0.0 }
    }

    /// Sum of squared distances from the mean.
    pub(super) fn apart(self) -> f64 {
        if self.weight > 0.0 { (self.squares - self.total * self.total / self.weight).max(0.0) } else { 0.0 }
    }

    pub(super) fn is_sound(&self) -> bool {
        let finite = self.weight.is_finite() && self.total.is_finite() && self.squares.is_finite();
        finite && self.weight >= 0.0 && self.squares >= 0.0
    }
}

/// A histogram whose range doubles until it holds every number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Histogram {
    low: f64,
    /// Of a bin.
    width: f64,
    bins: Vec<Sums>,
}

impl Histogram {
    /// Over the range of these numbers, which are in order.
    pub(super) fn of(numbers: &[(f64, Sums)]) -> Self {
        let (low, high) = match numbers {
            [(low, _), .., (high, _)] => (*low, *high),
            [(only, _)] => (*only, *only),
            [] => (0.0, 0.0),
        };
        let width = ((high - low) / (BINS - 1) as f64).max(low.abs().max(1.0) * 1e-12);
        let mut histogram = Self { low, width, bins: vec![Sums::default(); BINS] };
        numbers.iter().for_each(|(value, sums)| histogram.add(*value, *sums));
        histogram
    }

    pub(super) fn add(&mut self, value: f64, sums: Sums) {
        while value < self.low && self.width < 1e300 {
            // The range grows downwards: the upper half of the bins holds all there is.
            self.low -= self.width * BINS as f64;
            self.halve(BINS / 2);
        }
        while value >= self.low + self.width * BINS as f64 && self.width < 1e300 {
            self.halve(0);
        }
        let place = ((value - self.low) / self.width).clamp(0.0, (BINS - 1) as f64) as usize;
        if let Some(bin) = self.bins.get_mut(place) {
            *bin = bin.plus(sums);
        }
    }

    /// Makes one bin of each two, from this place on; the other places are empty.
    fn halve(&mut self, from: usize) {
        let mut halved = [Sums::default(); BINS];
        for (place, pair) in self.bins.chunks_exact(2).enumerate() {
            if let ([a, b], Some(bin)) = (pair, halved.get_mut(from + place)) {
                *bin = a.plus(*b);
            }
        }
        self.bins.copy_from_slice(&halved);
        self.width *= 2.0;
    }

    /// Calls `visit` with each border between two bins, and the sums of what is at most as great.
    pub(super) fn borders(&self, mut visit: impl FnMut(f64, Sums)) {
        let mut below = Sums::default();
        for (place, bin) in self.bins.iter().enumerate().take(BINS - 1) {
            below = below.plus(*bin);
            if bin.weight > 0.0 {
                visit(self.low + self.width * (place + 1) as f64, below);
            }
        }
    }

    pub(super) fn total(&self) -> Sums {
        self.bins.iter().fold(Sums::default(), |sum, bin| sum.plus(*bin))
    }

    pub(super) fn is_sound(&self) -> bool {
        let sized = self.bins.len() == BINS && self.width > 0.0;
        sized && self.low.is_finite() && self.width.is_finite() && self.bins.iter().all(Sums::is_sound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_its_bin_whatever_came_first() {
        let values = [5.0, 5.0 + 1e-12, -3e6, 8e6, 0.0, 7.5e6, 5.0];
        let mut histogram = Histogram::of(&[]);
        for (n, value) in values.iter().enumerate() {
            histogram.add(*value, Sums::of(n as f64, 1.0));
            assert!(histogram.is_sound());
        }
        let total = histogram.total();
        assert_eq!((total.weight, total.total), (7.0, 21.0));
        histogram.borders(|border, below| {
            let counted = values.iter().filter(|value| **value < border).count();
            assert_eq!(below.weight, counted as f64, "below {border}");
        });
        assert_eq!(histogram.bins.len(), BINS);
    }

    #[test]
    fn sums_have_a_mean_and_a_spread() {
        assert_eq!((Sums::default().mean(), Sums::default().apart()), (0.0, 0.0));
        let sums = Sums::of(1.0, 1.0).plus(Sums::of(3.0, 2.0));
        assert!((sums.mean() - 7.0 / 3.0).abs() < 1e-12 && (sums.apart() - 8.0 / 3.0).abs() < 1e-9, "{sums:?}");
    }
}
