//! How quick a replica is beside the others: seconds that work took there, over seconds that were predicted.

use std::time::Duration;

/// What a new reading counts for at the least: so many readings are remembered.
const READINGS: f64 = 24.0;
/// Time after which a reading counts for 1/e, at the least.
const TAU: f64 = 10.0;
/// Mean time that work takes, times this, is remembered where that is longer.
const SERVICES: f64 = 16.0;
/// The most that one reading says, as a logarithm: who fails fast or stalls once is not gone for ever.
const MOST: f64 = 3.0;

/// A mean of logarithms of seconds over predicted seconds, and how many readings it stands on. O(1).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pace {
    /// Mean logarithm.
    pub log: f64,
    /// Readings that it stands on, older ones counting less.
    pub weight: f64,
    /// Mean seconds of work.
    pub seconds: f64,
    /// When it was last told something.
    pub at: Duration,
}

impl Pace {
    /// Work that was predicted to take so long took so long. Nothing is learnt from work without a prediction.
    pub fn observe(&mut self, seconds: f64, predicted: f64, now: Duration) {
        if !(predicted > 0.0 && seconds.is_finite() && seconds >= 0.0) {
            return;
        }
        let log = (seconds.max(1e-9) / predicted).ln().clamp(-MOST, MOST);
        let kept = self.weight(now).min(READINGS - 1.0);
        self.weight = kept + 1.0;
        self.log += (log - self.log) / self.weight;
        self.seconds += (seconds - self.seconds) / self.weight;
        self.at = self.at.max(now);
    }

    /// Readings that it stands on now.
    pub fn weight(&self, now: Duration) -> f64 {
        let tau = TAU.max(SERVICES * self.seconds);
        self.weight * (-now.saturating_sub(self.at).as_secs_f64() / tau).exp()
    }
}
