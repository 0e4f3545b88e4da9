//! Mean and spread of one number so far.

use serde::{Deserialize, Serialize};

use crate::schema::GREATEST;

/// The mean and variance of a target or of a column (Welford 1962), and the way there and back in deviations.
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
        // Never negative but by rounding: a first value of weight 0.1 may miss its own mean by a bit.
        self.squares += (weight * apart * (value - self.mean)).max(0.0);
    }

    pub(crate) fn mean(&self) -> f64 {
        self.mean
    }

    pub(crate) fn variance(&self) -> f64 {
        if self.weight > 0.0 { self.squares / self.weight } else { 0.0 }
    }

    pub(crate) fn deviation(&self) -> f64 {
        self.variance().sqrt()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rounding_makes_a_sum_of_squares_negative() {
        let mut random = crate::Random::new(1);
        for _ in 0..10_000 {
            let mut spread = Spread::default();
            let (value, weight) = (1e3 * random.normal(), random.uniform());
            spread.add(value, weight);
            spread.add(value, 3.0 * weight);
            assert!(spread.is_sound(), "{value} of weight {weight}: {spread:?}");
        }
    }
}
