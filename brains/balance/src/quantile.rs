//! Quantiles of latencies in constant memory, of the last few thousand readings.

use std::time::Duration;

/// Buckets per doubling; a quantile is off by 9 % at the most.
const STEPS: f64 = 4.0;
/// From 1 µs to more than 4 hours.
const BUCKETS: usize = 136;
/// Readings after which every bucket is halved: older ones fade.
const FADE: u32 = 2_048;

/// Latencies in buckets that grow by the fourth root of two, as DDSketch does (Masson et al., VLDB 2019). Observing is
/// O(1), a quantile O(136).
#[derive(Debug, Clone)]
pub struct Quantiles {
    buckets: [u32; BUCKETS],
    count: u32,
}

impl Default for Quantiles {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], count: 0 }
    }
}

impl Quantiles {
    /// Takes a latency in.
    pub fn observe(&mut self, latency: Duration) {
        let micros = latency.as_secs_f64() * 1e6;
        let bucket = if micros <= 1.0 { 0 } else { ((micros.log2() * STEPS) as usize).min(BUCKETS - 1) };
        self.buckets[bucket] += 1;
        self.count += 1;
        if self.count >= FADE {
            self.buckets.iter_mut().for_each(|bucket| *bucket /= 2);
            self.count = self.buckets.iter().sum();
        }
    }

    /// How many readings it stands on.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The latency that this share of readings stays below, rounded up to its bucket's end; `None` without readings.
    pub fn at(&self, share: f64) -> Option<Duration> {
        let wanted = (f64::from(self.count) * share.clamp(0.0, 1.0)).ceil().max(1.0);
        let mut seen = 0.0;
        let bucket = self.buckets.iter().position(|bucket| {
            seen += f64::from(*bucket);
            seen >= wanted
        })?;
        Some(Duration::from_secs_f64(((bucket + 1) as f64 / STEPS).exp2() / 1e6))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_quantile_is_off_by_a_bucket_at_the_most(
            mut micros in prop::collection::vec(1..10_000_000_u64, 1..500),
            share in 0.01..1.0_f64,
        ) {
            let mut quantiles = Quantiles::default();
            micros.iter().for_each(|micros| quantiles.observe(Duration::from_micros(*micros)));
            micros.sort_unstable();
            let place = ((micros.len() as f64 * share).ceil() as usize).max(1) - 1;
            let (exact, told) = (micros[place] as f64, quantiles.at(share).unwrap().as_secs_f64() * 1e6);
            prop_assert!(told >= exact * 0.999 && told <= exact * 1.2 + 1.0, "{told} for {exact}");
        }
    }

    #[test]
    fn old_readings_fade() {
        let mut quantiles = Quantiles::default();
        assert_eq!(quantiles.at(0.5), None);
        (0..2_000).for_each(|_| quantiles.observe(Duration::from_secs(1)));
        (0..20_000).for_each(|_| quantiles.observe(Duration::from_millis(1)));
        assert!(quantiles.at(0.99).unwrap() < Duration::from_millis(2));
        assert!(quantiles.count() < FADE);
    }

    #[test]
    fn nothing_and_ages_have_buckets_too() {
        let mut quantiles = Quantiles::default();
        quantiles.observe(Duration::ZERO);
        quantiles.observe(Duration::from_secs(1 << 40));
        assert_eq!(quantiles.count(), 2);
        assert!(quantiles.at(1.0).unwrap() > Duration::from_secs(3_600));
    }
}
