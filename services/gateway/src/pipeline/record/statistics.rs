//! Counts of a model, as the protocol's statistics want them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use types::Timestamp;

/// Counts of one model since the gateway started, for the protocol's statistics.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    pub(crate) success: Total,
    pub(crate) fail: Total,
    pub(crate) compute: Total,
    pub(crate) rows: AtomicU64,
    pub(crate) last: AtomicU64,
    /// Requests that wait for a replica right now.
    held: AtomicU64,
    /// Batches computed, in millionths: of each, a prediction's own share.
    batches: AtomicU64,
    /// How long answers took, failures too.
    pub(crate) latency: Latency,
}

const MILLION: u64 = 1_000_000;
/// Buckets for each doubling, and doublings from a microsecond on: to 67 s, with an error of an eighth at most.
const PARTS: usize = 8;
const DOUBLINGS: usize = 26;

/// How often what latency was seen.
#[derive(Debug)]
pub(crate) struct Latency([AtomicU64; PARTS * DOUBLINGS]);

impl Default for Latency {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; PARTS * DOUBLINGS])
    }
}

impl Latency {
    fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let doubling = micros.ilog2() as usize;
        let part = ((u128::from(micros) * PARTS as u128) >> doubling) as usize - PARTS;
        let at = (doubling * PARTS + part).min(self.0.len() - 1);
        if let Some(count) = self.0.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The least latency, in microseconds, that so large a share is below; nothing where none was seen.
    pub(crate) fn percentile(&self, share: f64) -> Option<f64> {
        let buckets = self.get();
        let all: u64 = buckets.iter().map(|(_, count)| count).sum();
        let mut below = 0;
        let found = buckets.into_iter().find(|(_, count)| {
            below += count;
            below as f64 >= share * all as f64
        });
        found.map(|(bound, _)| bound)
    }

    /// The buckets that are not empty: the least latency above it, in microseconds, and how many were seen.
    pub(crate) fn get(&self) -> Vec<(f64, u64)> {
        let bound = |at: usize| (1_u64 << (at / PARTS)) as f64 * (1.0 + (at % PARTS + 1) as f64 / PARTS as f64);
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed)).enumerate();
        counts.filter(|(_, count)| *count > 0).map(|(at, count)| (bound(at), count)).collect()
    }
}

/// A count and a sum of times.
#[derive(Debug, Default)]
pub(crate) struct Total {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl Total {
    fn add(&self, took: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many, and how many nanoseconds in all.
    pub(crate) fn get(&self) -> (u64, u64) {
        (self.count.load(Ordering::Relaxed), self.nanos.load(Ordering::Relaxed))
    }
}

/// A request that waits for a replica; counted until it is dropped.
pub(crate) struct Held(Arc<Statistics>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Statistics {
    /// A request begins to wait for a replica.
    pub(crate) fn hold(self: &Arc<Self>) -> Held {
        self.held.fetch_add(1, Ordering::Relaxed);
        Held(self.clone())
    }

    /// Requests that wait for a replica.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn answered(&self, took: Duration, compute: Duration, (rows, batch): (u64, u64), at: Timestamp) {
        self.last.store(at.0, Ordering::Relaxed);
        self.success.add(took);
        self.compute.add(compute);
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.batches.fetch_add(rows.saturating_mul(MILLION) / batch.max(rows).max(1), Ordering::Relaxed);
        self.latency.add(took);
    }

    pub(super) fn failed(&self, took: Duration) {
        self.fail.add(took);
        self.latency.add(took);
    }

    /// Batches computed.
    pub(crate) fn batches(&self) -> f64 {
        self.batches.load(Ordering::Relaxed) as f64 / MILLION as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_below_its_bound_and_not_far() {
        for micros in [1, 2, 3, 7, 8, 9, 100, 999, 1_000, 65_535, 65_536, 1_000_000, 60_000_000] {
            let latency = Latency::default();
            latency.add(Duration::from_micros(micros));
            let [(bound, 1)] = latency.get()[..] else { panic!("{micros}") };
            let value = micros as f64;
            assert!(value < bound && bound <= value * 1.126 + 1.0, "{micros}: {bound}");
        }
        let latency = Latency::default();
        latency.add(Duration::ZERO);
        latency.add(Duration::from_secs(1_000_000));
        assert_eq!(latency.get().iter().map(|(_, count)| count).sum::<u64>(), 2);
        assert!(latency.percentile(0.5).unwrap() <= 2.0 && latency.percentile(0.99).unwrap() > 1e7);
        assert_eq!(Latency::default().percentile(0.5), None);
    }

    #[test]
    fn a_batch_is_counted_once_however_many_predictions_it_has() {
        let statistics = Statistics::default();
        for rows in [1, 3, 4] {
            statistics.answered(Duration::ZERO, Duration::ZERO, (rows, 8), Timestamp(0));
        }
        statistics.answered(Duration::ZERO, Duration::ZERO, (2, 0), Timestamp(0));
        assert!((statistics.batches() - 2.0).abs() < 1e-5);
    }
}
