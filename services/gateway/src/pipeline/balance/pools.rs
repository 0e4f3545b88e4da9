//! What this gateway knows of a model's replicas, version by version.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ::balance::{Mode, Pool, Standing};
use parking_lot::Mutex;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rpc::report::Report;
use tokio::time::Instant;
use types::Version;

use super::chooser::Chooser;
use crate::ring::Door;

/// Choosers by version; they outlive every route.
pub(crate) struct Pools {
    epoch: Instant,
    /// What the learnt rule may do.
    mode: Mode,
    /// What replicas tell this gateway from others by.
    sender: u64,
    state: Mutex<(HashMap<Version, Chooser>, ChaCha8Rng)>,
}

impl Pools {
    pub(crate) fn new(mode: Mode) -> Self {
        let (seed, sender) = uuid::Uuid::new_v4().as_u64_pair();
        let state = Mutex::new((HashMap::new(), ChaCha8Rng::seed_from_u64(seed)));
        Self { epoch: Instant::now(), mode, sender, state }
    }

    /// Takes in which replicas there are now.
    pub(crate) fn set(&self, doors: &[Arc<Door>]) {
        let now = self.since(Instant::now());
        let (choosers, _) = &mut *self.state.lock();
        choosers.retain(|version, _| doors.iter().any(|door| door.replica.version == *version));
        for version in doors.iter().map(|door| door.replica.version) {
            let of_version = doors.iter().filter(|door| door.replica.version == version);
            let keys: Vec<u64> = of_version.map(|door| door.key).collect();
            choosers.entry(version).or_insert_with(|| Chooser::new(now)).set(&keys, self.mode, now);
        }
    }

    pub(super) fn since(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.epoch)
    }

    pub(super) fn sender(&self) -> u64 {
        self.sender
    }

    /// What the learnt rule may do.
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// How the learnt rule stands, of each version that has one; the oldest first.
    pub(crate) fn standings(&self) -> Vec<(Version, Standing)> {
        let (choosers, _) = &*self.state.lock();
        let standings = choosers.iter().filter_map(|(version, chooser)| Some((*version, chooser.standing()?)));
        let mut standings: Vec<_> = standings.collect();
        standings.sort_by_key(|(version, _)| *version);
        standings
    }

    /// The replicas that are to be asked how they stand, each at most once a second.
    pub(crate) fn silent(&self, doors: &[Arc<Door>], now: Instant) -> Vec<Arc<Door>> {
        let (choosers, _) = &mut *self.state.lock();
        let now = self.since(now);
        let keys: Vec<u64> = choosers.values_mut().flat_map(|chooser| chooser.silent(now)).collect();
        doors.iter().filter(|door| keys.contains(&door.key)).cloned().collect()
    }

    /// A replica that was asked has said how it stands.
    pub(super) fn told(&self, door: &Door, report: &Report) {
        self.with(door.replica.version, Instant::now(), |chooser, _, now| chooser.told(door.key, report, now));
    }

    /// Asks whoever chooses of a version, unless it has gone.
    pub(super) fn with<T>(
        &self,
        version: Version,
        now: Instant,
        work: impl FnOnce(&mut Chooser, &mut ChaCha8Rng, Duration) -> T,
    ) -> Option<T> {
        let (choosers, rng) = &mut *self.state.lock();
        choosers.get_mut(&version).map(|chooser| work(chooser, rng, self.since(now)))
    }

    /// Works on a version's pool, unless it has gone.
    pub(super) fn pool<T>(
        &self,
        version: Version,
        now: Instant,
        work: impl FnOnce(&mut Pool<u64>, Duration) -> T,
    ) -> Option<T> {
        self.with(version, now, |chooser, _, now| work(chooser.pool(), now))
    }
}
