//! Mean and spread of each column so far: what learners that compare columns scale by.

use serde::{Deserialize, Serialize};

use crate::{schema::GREATEST, spread::Spread};

/// The mean and variance of each column of a row, missing values left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moments(Vec<Column>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Column {
    spread: Spread,
    /// 1/σ, which is asked for more often than it changes; 0 without a spread.
    scale: f64,
}

/// Values further out count as this many deviations: one wild number must not throw a learner off.
const FURTHEST: f64 = 8.0;

impl Moments {
    pub(crate) fn new(width: usize) -> Self {
        Self(vec![Column::default(); width])
    }

    /// Takes a row in. O(width).
    pub(crate) fn add(&mut self, row: &[f64], weight: f64) {
        for (column, value) in self.0.iter_mut().zip(row) {
            if value.is_nan() {
                continue;
            }
            column.spread.add(*value, weight);
            let variance = column.spread.variance();
            column.scale = if variance > 1e-200 { 1.0 / variance.sqrt() } else { 0.0 };
        }
    }

    /// A value in deviations from the column's mean; 0 for a missing one, and where there is no spread.
    pub(crate) fn scaled(&self, column: usize, value: f64) -> f64 {
        let Some(Column { spread, scale }) = self.0.get(column) else { return 0.0 };
        let scaled = (value.clamp(-GREATEST, GREATEST) - spread.mean()) * scale;
        if scaled.is_nan() { 0.0 } else { scaled.clamp(-FURTHEST, FURTHEST) }
    }

    /// 1/σ of a column; 0 without a spread.
    pub(crate) fn scale(&self, column: usize) -> f64 {
        self.0.get(column).map_or(0.0, |column| column.scale)
    }

    pub(crate) fn memory(&self) -> usize {
        self.0.len() * size_of::<Column>()
    }

    pub(crate) fn is_sound(&self, width: usize) -> bool {
        let sound = |column: &Column| column.spread.is_sound() && column.scale.is_finite();
        self.0.len() == width && self.0.iter().all(sound)
    }
}
