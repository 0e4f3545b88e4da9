//! What this gateway knows of a model's replicas, version by version.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ::balance::Pool;
use parking_lot::Mutex;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;
use types::Version;

use crate::ring::Door;

/// Pools by version; they outlive every route.
pub(crate) struct Pools {
    epoch: Instant,
    state: Mutex<(HashMap<Version, Pool<u64>>, ChaCha8Rng)>,
}

impl Pools {
    pub(crate) fn new() -> Self {
        let (seed, _) = uuid::Uuid::new_v4().as_u64_pair();
        Self { epoch: Instant::now(), state: Mutex::new((HashMap::new(), ChaCha8Rng::seed_from_u64(seed))) }
    }

    /// Takes in which replicas there are now.
    pub(crate) fn set(&self, doors: &[Arc<Door>]) {
        let now = self.since(Instant::now());
        let (pools, _) = &mut *self.state.lock();
        pools.retain(|version, _| doors.iter().any(|door| door.replica.version == *version));
        for version in doors.iter().map(|door| door.replica.version) {
            let of_version = doors.iter().filter(|door| door.replica.version == version);
            let keys: Vec<u64> = of_version.map(|door| door.key).collect();
            pools.entry(version).or_insert_with(|| Pool::new(now)).set(&keys, now);
        }
    }

    pub(super) fn since(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.epoch)
    }

    /// Works on a version's pool, unless it has gone.
    pub(super) fn with<T>(
        &self,
        version: Version,
        now: Instant,
        work: impl FnOnce(&mut Pool<u64>, &mut ChaCha8Rng, Duration) -> T,
    ) -> Option<T> {
        let (pools, rng) = &mut *self.state.lock();
        pools.get_mut(&version).map(|pool| work(pool, rng, self.since(now)))
    }
}
