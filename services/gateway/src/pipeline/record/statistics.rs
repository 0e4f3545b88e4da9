//! Counts of a model, as the protocol's statistics want them.

use std::{
    sync::atomic::{AtomicU64, Ordering},
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

impl Statistics {
    pub(super) fn answered(&self, took: Duration, compute: Duration, rows: u64, at: Timestamp) {
        self.last.store(at.0, Ordering::Relaxed);
        self.success.add(took);
        self.compute.add(compute);
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, took: Duration) {
        self.fail.add(took);
    }
}
