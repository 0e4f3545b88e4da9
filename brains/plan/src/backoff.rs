//! When a crashed model server is started again.

use std::time::Duration;

use rand::{Rng, RngExt as _};
use types::Timestamp;

/// Crashes before ready, within [`LOOP_WINDOW`], that make a crash loop.
pub const LOOP: usize = 5;
/// The window over which crashes count.
pub const LOOP_WINDOW: Duration = Duration::from_secs(300);
/// The first bound on the wait; doubles with each crash.
const FIRST: Duration = Duration::from_millis(500);

/// One crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Crash {
    at: Timestamp,
    was_ready: bool,
}

/// The recent crashes of one version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Crashes {
    recent: Vec<Crash>,
    retry_at: Option<Timestamp>,
}

impl Crashes {
    /// Notes a crash. The next start comes after a wait drawn evenly below a bound that doubles with each crash
    /// (full jitter), so that replicas which died together don't come back together. A server that was ready shows
    /// that its version can serve: its crash makes the next start wait, 8 s at most, and never ends them.
    pub fn note(&mut self, now: Timestamp, was_ready: bool, rng: &mut impl Rng) {
        self.recent.retain(|crash| now.since(crash.at) < LOOP_WINDOW);
        let doublings = u32::try_from(self.recent.len()).unwrap_or(u32::MAX).min(LOOP as u32 - 1);
        let bound = FIRST * (1 << doublings);
        let wait = bound.mul_f64(rng.random_range(0.0..1.0));
        if self.recent.len() >= LOOP {
            self.recent.remove(0);
        }
        self.recent.push(Crash { at: now, was_ready });
        self.retry_at = Some(now.plus(wait));
    }

    /// How many happened lately before the server was ready.
    pub fn lately(&self, now: Timestamp) -> usize {
        self.recent.iter().filter(|crash| !crash.was_ready && now.since(crash.at) < LOOP_WINDOW).count()
    }

    /// Whether any happened before the server was ready: then this version is the suspect.
    pub fn any_before_ready(&self) -> bool {
        self.recent.iter().any(|crash| !crash.was_ready)
    }

    /// Whether they are too many to go on.
    pub fn is_loop(&self, now: Timestamp) -> bool {
        self.lately(now) >= LOOP
    }

    /// When the next start may come.
    pub fn retry_at(&self) -> Option<Timestamp> {
        self.retry_at
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn waits_grow_stay_bounded_and_differ() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut bounds = Vec::new();
        for crash in 0..LOOP {
            let wait = |rng: &mut ChaCha8Rng| {
                let mut crashes = Crashes::default();
                for n in 0..=crash {
                    crashes.note(Timestamp(n as u64), true, rng);
                }
                crashes.retry_at().unwrap().since(Timestamp(crash as u64))
            };
            let waits: Vec<_> = (0..200).map(|_| wait(&mut rng)).collect();
            bounds.push(waits.iter().max().copied().unwrap());
            assert!(waits.iter().any(|w| *w < bounds[crash] / 2));
        }
        assert!(bounds.windows(2).all(|pair| pair[1] > pair[0]));
        assert!(bounds[LOOP - 1] <= Duration::from_secs(8));
    }

    #[test]
    fn five_crashes_in_five_minutes_are_a_loop_and_time_heals() {
        let (mut crashes, mut rng) = (Crashes::default(), ChaCha8Rng::seed_from_u64(3));
        for n in 0..LOOP as u64 {
            assert!(!crashes.is_loop(Timestamp(n)));
            crashes.note(Timestamp(n), false, &mut rng);
        }
        assert!(crashes.is_loop(Timestamp(10)));
        assert!(!crashes.is_loop(Timestamp(400_000)));
    }

    #[test]
    fn a_version_that_serves_is_started_again_however_often_it_is_killed() {
        let (mut crashes, mut rng) = (Crashes::default(), ChaCha8Rng::seed_from_u64(3));
        for n in 0..100 {
            crashes.note(Timestamp(n), true, &mut rng);
            assert!(!crashes.is_loop(Timestamp(n)));
            assert!(crashes.retry_at().unwrap().since(Timestamp(n)) <= Duration::from_secs(8));
        }
    }
}
