//! A latency that remembers peaks: rises at once, falls slowly.

use std::time::Duration;

/// Time after which a reading counts for 1/e.
const TAU: f64 = 10.0;

/// A peak-sensitive, time-weighted mean of latencies, as Finagle's «peak EWMA» balancer keeps: a reading above it is taken
/// at once, one below it bends it by the time that has passed. Each operation is O(1).
#[derive(Debug, Clone, Copy, Default)]
pub struct PeakEwma {
    seconds: f64,
    at: Duration,
    known: bool,
}

impl PeakEwma {
    /// Takes a latency in; `now` is a monotonic time since any fixed moment.
    pub fn observe(&mut self, latency: Duration, now: Duration) {
        let seconds = latency.as_secs_f64();
        self.seconds = if !self.known || seconds >= self.seconds {
            seconds
        } else {
            let old = (-now.saturating_sub(self.at).as_secs_f64() / TAU).exp();
            self.seconds * old + seconds * (1.0 - old)
        };
        self.at = self.at.max(now);
        self.known = true;
    }

    /// The latency in seconds, as far as it is remembered: without readings it fades, so that whoever was slow once is
    /// looked at again. `None` before the first.
    pub fn seconds(&self, now: Duration) -> Option<f64> {
        let faded = (-now.saturating_sub(self.at).as_secs_f64() / TAU).exp();
        self.known.then_some(self.seconds * faded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn peaks_are_taken_at_once_and_left_slowly() {
        let mut ewma = PeakEwma::default();
        assert_eq!(ewma.seconds(s(1)), None);
        ewma.observe(Duration::from_millis(10), s(0));
        ewma.observe(s(2), s(1));
        assert_eq!(ewma.seconds(s(1)), Some(2.0));
        ewma.observe(Duration::from_millis(10), s(2));
        assert!(ewma.seconds(s(2)).unwrap() > 1.7);
        assert!(ewma.seconds(s(62)).unwrap() < 0.01);
    }

    #[test]
    fn a_clock_that_stands_or_goes_back_changes_nothing_of_a_peak() {
        let mut ewma = PeakEwma::default();
        ewma.observe(s(1), s(10));
        ewma.observe(Duration::from_millis(1), s(10));
        ewma.observe(Duration::from_millis(1), s(5));
        assert_eq!(ewma.seconds(s(5)), Some(1.0));
    }
}
