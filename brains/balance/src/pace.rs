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
        // A mean is no further out than what it is of, but for rounding.
        self.log = (self.log + (log - self.log) / self.weight).clamp(-MOST, MOST);
        self.seconds += (seconds - self.seconds) / self.weight;
        self.at = self.at.max(now);
    }

    /// Readings that it stands on now.
    pub fn weight(&self, now: Duration) -> f64 {
        let tau = TAU.max(SERVICES * self.seconds);
        self.weight * (-now.saturating_sub(self.at).as_secs_f64() / tau).exp()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_follows_within_some_readings_and_fades_with_time() {
        let mut pace = Pace::default();
        (0..100).for_each(|n| pace.observe(1.0, 1.0, s(n)));
        assert!(pace.log.abs() < 1e-9);
        (100..140).for_each(|n| pace.observe(5.0, 1.0, s(n)));
        assert!((pace.log / 5_f64.ln() - 1.0).abs() < 0.25, "{}", pace.log);
        assert!(pace.weight(s(139)) > 20.0 && pace.weight(s(1_000)) < 0.1);
    }

    proptest! {
        #[test]
        fn any_input_leaves_numbers(readings in prop::collection::vec((any::<f64>(), any::<f64>(), 0..1_000_u64), 0..50)) {
            let mut pace = Pace::default();
            for (seconds, predicted, at) in readings {
                pace.observe(seconds, predicted, s(at));
                prop_assert!(pace.log.abs() <= MOST && (0.0..=READINGS).contains(&pace.weight));
            }
        }
    }
}
