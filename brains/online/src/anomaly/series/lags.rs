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
    /// The lower triangle, column by column, so that what is done to a column is done to values side by side.
    covariance: Vec<f64>,
    /// Its factor; empty before the first factorisation.
    factor: Vec<f64>,
}

/// Cells of a lower triangle.
fn cells(window: usize) -> usize {
    window * (window + 1) / 2
}

/// The columns of a lower triangle, each from its diagonal down.
fn columns(mut triangle: &[f64], window: usize) -> impl Iterator<Item = &[f64]> {
    (1..=window).rev().map_while(move |height| {
        let (column, rest) = triangle.split_at_checked(height)?;
        triangle = rest;
        Some(column)
    })
}

impl Lags {
    pub(super) fn new(window: usize) -> Self {
        let window = window.clamp(1, LONGEST);
        Self {
            window,
            seen: 0,
            mean: vec![0.0; window],
            covariance: vec![0.0; cells(window)],
            factor: Vec::with_capacity(cells(window)),
        }
    }

    /// Values of a window.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// Whether any distance is known yet.
    pub(super) fn knows(&self) -> bool {
        !self.factor.is_empty()
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
        // Solves L z = x from the top; z has the distances, all in units of their deviation.
        let mut apart = self.apart(before, value);
        let mut rest = apart.as_mut_slice();
        let mut total = 0.0;
        for column in columns(&self.factor, self.window) {
            let (Some((diagonal, below)), Some((own, after))) = (column.split_first(), rest.split_first_mut()) else {
                break;
            };
            let z = *own / diagonal;
            total += z * z;
            for (after, factor) in after.iter_mut().zip(below) {
                *after -= factor * z;
            }
            rest = after;
        }
        // The lesser of something that is no number and a number is the number.
        (total / self.window as f64).min(FARTHEST)
    }

    /// Learns the window that ends with `value`, whose distance is known.
    pub(super) fn learn(&mut self, before: &[f64], value: f64, distance: f64) {
        let weight = (FAR / distance.max(FAR)).max(0.01);
        self.seen = self.seen.saturating_add(1);
        let fresh = weight / (self.seen as f64).min(HORIZON);
        let apart = self.apart(before, value);
        for (mean, apart) in self.mean.iter_mut().zip(&apart) {
            *mean += fresh * apart;
        }
        let mut rest = self.covariance.as_mut_slice();
        for column in 0..self.window {
            let Some((own, after)) = rest.split_at_mut_checked(self.window - column) else { break };
            let by = apart.get(column..).unwrap_or_default();
            let scale = fresh * by.first().copied().unwrap_or(0.0);
            for (cell, other) in own.iter_mut().zip(by) {
                *cell = (1.0 - fresh) * (*cell + scale * other);
            }
            rest = after;
        }
        if self.seen.is_multiple_of(STEP) && self.seen >= 2 * self.window as u64 {
            self.factorise();
        }
    }

    /// Cholesky's factorisation of the covariance with its ridge, which makes it positive definite.
    fn factorise(&mut self) {
        let diagonal = columns(&self.covariance, self.window).filter_map(<[f64]>::first).sum::<f64>();
        let ridge = (diagonal / self.window as f64 * RIDGE).max(1e-9);
        self.factor.clear();
        self.factor.extend_from_slice(&self.covariance);
        let mut rest = self.factor.as_mut_slice();
        for height in (1..=self.window).rev() {
            let Some((column, after)) = rest.split_at_mut_checked(height) else { return };
            let Some((own, below)) = column.split_first_mut() else { return };
            *own = (*own + ridge).max(ridge * 1e-3).sqrt();
            below.iter_mut().for_each(|cell| *cell /= *own);
            // What this column explains is taken off all after it.
            let mut later = &mut *after;
            let mut below = &*below;
            while let Some((first, _)) = below.split_first() {
                let Some((next, others)) = later.split_at_mut_checked(below.len()) else { return };
                for (cell, factor) in next.iter_mut().zip(below) {
                    *cell -= first * factor;
                }
                (later, below) = (others, below.get(1..).unwrap_or_default());
            }
            rest = after;
        }
    }

    pub(super) fn memory(&self) -> usize {
        size_of::<Self>()
            + (self.mean.capacity() + self.covariance.capacity() + self.factor.capacity()) * size_of::<f64>()
    }

    pub(super) fn sound(&self, window: usize) -> bool {
        let cells = cells(window);
        let sizes =
            self.window == window && window <= LONGEST && self.mean.len() == window && self.covariance.len() == cells;
        let factor = self.factor.is_empty() || self.factor.len() == cells;
        let numbers = self.mean.iter().chain(&self.covariance).chain(&self.factor).all(|value| value.abs() <= 1e9);
        let mut diagonal = columns(&self.factor, window).filter_map(<[f64]>::first);
        sizes && factor && numbers && diagonal.all(|own| *own >= 1e-7)
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
            lags.learn(&[last], value, lags.distance(&[last], value));
            last = value;
        }
        let along = lags.distance(&[1.0], 1.0);
        let across = lags.distance(&[1.0], -1.0);
        // x' C⁻¹ x / 2 = 1 / (1 + 0.8) and 1 / (1 − 0.8).
        assert!((along - 1.0 / 1.8).abs() < 0.1 && (across - 1.0 / 0.2).abs() < 0.8, "{along} {across}");
    }

    #[test]
    fn a_factor_times_itself_is_the_covariance() {
        let (mut lags, mut random) = (Lags::new(5), Random::new(2));
        for _ in 0..640 {
            let window: [f64; 5] = std::array::from_fn(|at| random.normal() * (at + 1) as f64);
            lags.learn(&window[..4], window[4], 0.0);
        }
        let square = |triangle: &[f64]| {
            let mut full = [[0.0; 5]; 5];
            for (at, column) in columns(triangle, 5).enumerate() {
                column.iter().enumerate().for_each(|(down, value)| full[at + down][at] = *value);
            }
            full
        };
        let (factor, covariance) = (square(&lags.factor), square(&lags.covariance));
        let ridge = (0..5).map(|at| covariance[at][at]).sum::<f64>() / 5.0 * RIDGE;
        for row in 0..5 {
            for column in 0..=row {
                let product: f64 = (0..5).map(|at| factor[row][at] * factor[column][at]).sum();
                let wanted = covariance[row][column] + if row == column { ridge } else { 0.0 };
                assert!((product - wanted).abs() < 1e-9, "{row} {column}: {product} {wanted}");
            }
        }
    }

    #[test]
    fn a_constant_series_has_no_direction() {
        let mut lags = Lags::new(4);
        for _ in 0..100 {
            lags.learn(&[3.0; 3], 3.0, lags.distance(&[3.0; 3], 3.0));
        }
        assert!(lags.distance(&[3.0; 3], 3.0) < 1e-6);
        assert!(lags.distance(&[3.0; 3], 4.0).is_finite());
        assert!(lags.sound(4));
    }
}
