//! How many more attempts than requests there may be.

use std::time::Duration;

/// Attempts that each request pays for.
const SHARE: f64 = 0.1;
/// Attempts that each second pays for, so that a quiet model may retry too.
const PER_SECOND: f64 = 1.0;
/// Attempts that can be saved up: what one replica may have in flight when it is lost.
const MOST: f64 = 128.0;
/// What hedges leave for retries.
const RESERVE: f64 = MOST / 2.0;

/// A token bucket that requests fill and further attempts empty: over any stretch of n requests and t seconds there are
/// at most 128 + n/10 + t of them (Finagle's retry budget). O(1).
#[derive(Debug, Clone)]
pub struct Budget {
    tokens: f64,
    at: Duration,
}

impl Budget {
    /// A full one.
    pub fn new(now: Duration) -> Self {
        Self { tokens: MOST, at: now }
    }

    /// A request came.
    pub fn request(&mut self, now: Duration) {
        self.pass(now);
        self.tokens = (self.tokens + SHARE).min(MOST);
    }

    /// Takes an attempt for a request whose own was lost; else when to ask again.
    ///
    /// # Errors
    /// How long it takes until there is one, if no request comes.
    pub fn retry(&mut self, now: Duration) -> Result<(), Duration> {
        self.take(now, 0.0)
    }

    /// Takes an attempt for a request that may yet be answered; leaves enough for those that will not.
    pub fn hedge(&mut self, now: Duration) -> bool {
        self.take(now, RESERVE).is_ok()
    }

    fn take(&mut self, now: Duration, reserve: f64) -> Result<(), Duration> {
        self.pass(now);
        if self.tokens >= 1.0 + reserve {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 + reserve - self.tokens) / PER_SECOND))
    }

    fn pass(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * PER_SECOND).min(MOST);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn attempts_stay_inside_the_budget(events in prop::collection::vec((0..3_u8, 0..200_u64), 1..2_000)) {
            let mut budget = Budget::new(Duration::ZERO);
            let (mut now, mut requests, mut attempts) = (Duration::ZERO, 0_u32, 0_u32);
            for (kind, millis) in events {
                now += Duration::from_millis(millis);
                match kind {
                    0 => {
                        budget.request(now);
                        requests += 1;
                    }
                    1 => attempts += u32::from(budget.retry(now).is_ok()),
                    _ => attempts += u32::from(budget.hedge(now)),
                }
                let most = MOST + f64::from(requests) * SHARE + now.as_secs_f64() * PER_SECOND;
                prop_assert!(f64::from(attempts) <= most + 1e-6, "{attempts} > {most}");
            }
        }

        #[test]
        fn whoever_waits_as_long_as_told_gets_one(taken in 0..400_u32) {
            let mut budget = Budget::new(Duration::ZERO);
            (0..taken).for_each(|_| { let _ = budget.retry(Duration::ZERO); });
            if let Err(wait) = budget.retry(Duration::ZERO) {
                prop_assert!(budget.retry(wait + Duration::from_micros(1)).is_ok());
            }
        }
    }

    #[test]
    fn hedges_leave_the_half_for_retries() {
        let mut budget = Budget::new(Duration::ZERO);
        let hedges = (0..1_000).filter(|_| budget.hedge(Duration::ZERO)).count();
        let retries = (0..1_000).filter(|_| budget.retry(Duration::ZERO).is_ok()).count();
        assert_eq!((hedges, retries), (64, 64));
    }
}
