//! The last values of something.

use serde::{Deserialize, Serialize};

/// Values that are remembered: as many as the spectrum is of, and no fewer than the longest window.
pub(super) const PAST: usize = 64;

/// The last values, twice in a row, so that they are always in one piece.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Past {
    values: Vec<f64>,
    next: usize,
}

impl Past {
    pub(super) fn new() -> Self {
        Self { values: vec![0.0; 2 * PAST], next: 0 }
    }

    pub(super) fn push(&mut self, value: f64) {
        for place in [self.next, self.next + PAST] {
            if let Some(old) = self.values.get_mut(place) {
                *old = value;
            }
        }
        self.next = (self.next + 1) % PAST;
    }

    /// The last values, the newest at the end.
    pub(super) fn last(&self, number: usize) -> &[f64] {
        let end = self.next + PAST;
        self.values.get(end.saturating_sub(number)..end).unwrap_or_default()
    }

    pub(super) fn newest(&self) -> f64 {
        self.last(1).first().copied().unwrap_or(0.0)
    }

    pub(super) fn memory(&self) -> usize {
        self.values.capacity() * size_of::<f64>()
    }

    pub(super) fn sound(&self) -> bool {
        self.values.len() == 2 * PAST && self.next < PAST && self.values.iter().all(|value| value.abs() <= 1e3)
    }
}
