//! The shapes of a series: mean and covariance of its last values, and how far others are from them.

use serde::{Deserialize, Serialize};

/// The longest window.
const LONGEST: usize = 50;
/// Values that mean and covariance stand for.
const HORIZON: f64 = 4_096.0;
/// Values between two factorisations.
const STEP: u64 = 16;
/// What is added to each variance, as a share of their mean: directions with less than this say nothing.
const RIDGE: f64 = 1e-2;
/// A shape this far out, in units of what is usual, counts less when it is learnt.
const FAR: f64 = 4.0;

/// No distance is told beyond this.
const FARTHEST: f64 = 1e12;

/// Exponentially weighted mean and covariance of windows, and the covariance's Cholesky factor of late. Distances take
/// O(window²), learning too; a factorisation, O(window³), comes every 16 values.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Lags {
    window: usize,
    seen: u64,
    mean: Vec<f64>,
    /// The lower triangle, row by row.
    covariance: Vec<f64>,
    /// Its factor; empty before the first factorisation.
    factor: Vec<f64>,
}

/// Where row `i` of a lower triangle begins.
fn begin(row: usize) -> usize {
    row * (row + 1) / 2
}

impl Lags {
    pub(super) fn new(window: usize) -> Self {
        let window = window.clamp(1, LONGEST);
        Self {
            window,
            seen: 0,
            mean: vec![0.0; window],
            covariance: vec![0.0; begin(window)],
            factor: Vec::with_capacity(begin(window)),
        }
    }

    /// The window that ends with `value`, less the mean.
    fn apart(&self, before: &[f64], value: f64) -> [f64; LONGEST] {
        let mut apart = [0.0; LONGEST];
        for ((apart, value), mean) in apart.iter_mut().zip(before.iter().chain([&value])).zip(&self.mean) {
            *apart = value - mean;
        }
        apart
    }

    /// The squared distance along all principal components, in units of what is usual; 0 before there are any.
    pub(super) fn distance(&self, before: &[f64], value: f64) -> f64 {
        if self.factor.is_empty() {
            return 0.0;
        }
        // Solves L z = x from the top; z has the distances, all in units of their deviation.
        let mut z = self.apart(before, value);
        let mut total = 0.0;
        for row in 0..self.window {
            let Some((diagonal, left)) = self.factor.get(begin(row)..begin(row + 1)).and_then(<[f64]>::split_last)
            else {
                break;
            };
            let known: f64 = left.iter().zip(&z).map(|(factor, z)| factor * z).sum();
            let Some(own) = z.get_mut(row) else { break };
            *own = (*own - known) / diagonal;
            total += *own * *own;
        }
        // The lesser of something that is no number and a number is the number.
        (total / self.window as f64).min(FARTHEST)
    }

    pub(super) fn learn(&mut self, before: &[f64], value: f64) {
        let weight = (FAR / self.distance(before, value).max(FAR)).max(0.01);
        self.seen = self.seen.saturating_add(1);
        let fresh = weight / (self.seen as f64).min(HORIZON);
        let apart = self.apart(before, value);
        for (mean, apart) in self.mean.iter_mut().zip(&apart) {
            *mean += fresh * apart;
        }
        let mut cells = self.covariance.iter_mut();
        for (row, own) in apart.iter().enumerate().take(self.window) {
            for (cell, other) in cells.by_ref().take(row + 1).zip(&apart) {
                *cell = (1.0 - fresh) * (*cell + fresh * own * other);
            }
        }
        if self.seen.is_multiple_of(STEP) && self.seen >= 2 * self.window as u64 {
            self.factorise();
        }
    }

    /// Cholesky's factorisation of the covariance with its ridge, which makes it positive definite.
    fn factorise(&mut self) {
        let diagonal = (0..self.window).filter_map(|row| self.covariance.get(begin(row) + row)).sum::<f64>();
        let ridge = (diagonal / self.window as f64 * RIDGE).max(1e-9);
        self.factor.clear();
        self.factor.extend_from_slice(&self.covariance);
        for row in 0..self.window {
            let (above, rest) = self.factor.split_at_mut(begin(row));
            for column in 0..=row {
                let Some((done, own)) = rest.split_at_mut_checked(column) else { return };
                let other = above.get(begin(column)..begin(column + 1)).unwrap_or_default();
                let Some(cell) = own.first_mut() else { return };
                if column == row {
                    let known: f64 = done.iter().map(|x| x * x).sum();
                    *cell = (*cell + ridge - known).max(ridge * 1e-3).sqrt();
                } else {
                    let known: f64 = done.iter().zip(other).map(|(x, y)| x * y).sum();
                    *cell = (*cell - known) / other.last().copied().unwrap_or(1.0);
                }
            }
        }
    }

    pub(super) fn memory(&self) -> usize {
        size_of::<Self>()
            + (self.mean.capacity() + self.covariance.capacity() + self.factor.capacity()) * size_of::<f64>()
    }

    pub(super) fn sound(&self, window: usize) -> bool {
        let cells = begin(window);
        let sizes =
            self.window == window && window <= LONGEST && self.mean.len() == window && self.covariance.len() == cells;
        let factor = self.factor.is_empty() || self.factor.len() == cells;
        let numbers = self.mean.iter().chain(&self.covariance).chain(&self.factor).all(|value| value.abs() <= 1e9);
        let diagonal = |row: usize| self.factor.get(begin(row) + row).is_none_or(|own| *own >= 1e-7);
        sizes && factor && numbers && (0..window).all(diagonal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn distances_are_those_of_the_inverse_covariance() {
        let mut lags = Lags::new(2);
        let mut random = Random::new(1);
        // An autoregressive series: variance 1, correlation 0.8.
        let mut last = random.normal();
        for _ in 0..20_000 {
            let value = 0.8 * last + 0.6 * random.normal();
            lags.learn(&[last], value);
            last = value;
        }
        let along = lags.distance(&[1.0], 1.0);
        let across = lags.distance(&[1.0], -1.0);
        // x' C⁻¹ x / 2 = 1 / (1 + 0.8) and 1 / (1 − 0.8).
        assert!((along - 1.0 / 1.8).abs() < 0.1 && (across - 1.0 / 0.2).abs() < 0.8, "{along} {across}");
    }

    #[test]
    fn a_constant_series_has_no_direction() {
        let mut lags = Lags::new(4);
        for _ in 0..100 {
            lags.learn(&[3.0; 3], 3.0);
        }
        assert!(lags.distance(&[3.0; 3], 3.0) < 1e-6);
        assert!(lags.distance(&[3.0; 3], 4.0).is_finite());
        assert!(lags.sound(4));
    }
}
