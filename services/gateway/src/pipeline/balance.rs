//! balance: from a version to one of its replicas, once the machine has room; held until one is ready or the deadline
//! is near.

mod admit;
mod hall;
mod pools;

use std::{sync::Arc, time::Duration};

use ::balance::{Outcome, Patience, Pool};
use tokio::time::{Instant, timeout_at};
use types::{Code, ModelName, Refusal, Version};

use super::Route;
use crate::{Ring, load::Open, ring::Door};
pub(crate) use admit::{Admission, Pass, Place};
pub(crate) use hall::Hall;
pub(crate) use pools::Pools;

/// A claim on a replica, counted while it lasts; made only here.
pub struct Lease {
    door: Arc<Door>,
    pools: Arc<Pools>,
    version: Version,
    began: Instant,
    outcome: Outcome,
    /// The request's place in flight, with its first lease.
    pass: Option<Pass>,
    /// The request as its model's load, where that is counted; likewise.
    open: Option<Open>,
}

impl Lease {
    pub(crate) fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// The replica's id.
    pub fn replica(&self) -> &str {
        &self.door.replica.id
    }

    /// The version it is a copy of.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// The place in flight, which the whole request has and not the attempt.
    pub(crate) fn pass(&mut self) -> Option<Pass> {
        self.pass.take()
    }

    /// The request as its model's load, where that is counted.
    pub(crate) fn open(&mut self) -> Option<Open> {
        self.open.take()
    }

    /// Says how the attempt ended; who only drops the lease has cancelled it.
    pub(crate) fn ended(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (now, outcome) = (Instant::now(), self.outcome);
        let (began, key) = (self.pools.since(self.began), self.door.key);
        self.pools.with(self.version, now, |pool, _, now| pool.ended(&key, began, now, outcome));
    }
}

/// Claims a replica of the routed version.
///
/// # Errors
/// `overloaded` when it can't be answered in time; `deadline_exceeded` or `model_not_ready` when no replica became ready.
pub async fn balance(ring: &Ring, route: &Route) -> Result<Lease, Refusal> {
    let open = route.model().meter.as_ref().map(|meter| meter.open());
    // Who waits for a replica takes no room from those who could be answered.
    hall::wait(ring, route).await?;
    let pass =
        ring.admission.enter(route.model().place, route.request().rows(), route.priority(), route.deadline()).await?;
    pool(route, route.version(), |pool, now| pool.budget().request(now));
    let mut lease = again(ring, route, &[]).await?;
    (lease.pass, lease.open) = (Some(pass), open);
    Ok(lease)
}

/// How often a request that has tried every replica looks again.
const LOOK: Duration = Duration::from_millis(25);

/// Claims a replica that was not tried yet; waits for one when there is none, and after a moment tries any.
pub(crate) async fn again(ring: &Ring, route: &Route, tried: &[u64]) -> Result<Lease, Refusal> {
    let key = route.key();
    let mut changes = None;
    let mut tried = tried;
    loop {
        let model = ring.model(&key)?;
        let [first, version] = route.versions_of(&model);
        if let Some(lease) = claim_first(&model, [first, version], tried) {
            return Ok(lease);
        }
        // Whatever changes from here on is seen; what changed before is looked at once more.
        let Some(changes) = &mut changes else {
            changes = Some(ring.changes());
            continue;
        };
        let waiting = model.route.waiting.clone();
        let changed = async {
            if tried.is_empty() {
                // The sender lives in the ring, which outlives this call.
                let _ = changes.changed().await;
            } else {
                let _ = tokio::time::timeout(LOOK, changes.changed()).await;
            }
        };
        if timeout_at(route.deadline(), changed).await.is_err() {
            return Err(not_ready(&key.1, version, waiting));
        }
        if !tried.is_empty() && model.replicas.iter().all(|door| tried.contains(&door.key)) {
            tried = &[];
        }
    }
}

/// No replica of a version became ready in time.
fn not_ready(model: &ModelName, version: Version, waiting: Option<String>) -> Refusal {
    let why = waiting.unwrap_or_else(|| "no replica is ready".into());
    let what = format!("`{model}` version {version} was not ready before the deadline: {why}");
    Refusal::new(Code::ModelNotReady, what)
        .hint(format!("`mantlet models show {model}` says why"))
        .retry_after(Duration::from_secs(1))
}

/// Claims a replica that was not tried yet, if there is one right now.
pub(crate) fn other(ring: &Ring, route: &Route, tried: &[u64]) -> Option<Lease> {
    let model = ring.model(&route.key()).ok()?;
    claim_first(&model, route.versions_of(&model), tried)
}

/// A replica of the first of these versions that has one.
fn claim_first(model: &crate::ring::Model, [first, second]: [Version; 2], tried: &[u64]) -> Option<Lease> {
    claim(model, first, tried).or_else(|| (first != second).then(|| claim(model, second, tried)).flatten())
}

fn claim(model: &crate::ring::Model, version: Version, tried: &[u64]) -> Option<Lease> {
    let began = Instant::now();
    let key = model.pools.with(version, began, |pool, rng, now| pool.claim(tried, now, rng))??;
    let Some(door) = model.replicas.iter().find(|door| door.key == key) else {
        // The pool is newer than these doors; whoever claims looks again.
        let (since, now) = (model.pools.since(began), Instant::now());
        model.pools.with(version, now, |pool, _, now| pool.ended(&key, since, now, Outcome::Cancelled));
        return None;
    };
    Some(Lease {
        door: door.clone(),
        pools: model.pools.clone(),
        version,
        began,
        outcome: Outcome::Cancelled,
        pass: None,
        open: None,
    })
}

/// Works on a version's pool, unless it has gone.
fn pool<T>(route: &Route, version: Version, work: impl FnOnce(&mut Pool<u64>, Duration) -> T) -> Option<T> {
    route.model().pools.with(version, Instant::now(), |pool, _, now| work(pool, now))
}

/// How long to wait for the answer of a claimed replica of this version before another one is asked.
pub(crate) fn patience(route: &Route, version: Version) -> Option<Patience> {
    pool(route, version, |pool, _| pool.patience()).flatten()
}

/// Pays for a further attempt that may not be needed.
pub(crate) fn hedge(route: &Route, version: Version) -> bool {
    pool(route, version, |pool, now| pool.budget().hedge(now)) == Some(true)
}

/// Pays for a further attempt beside one that is as good as lost.
pub(crate) fn rescue(route: &Route, version: Version) -> bool {
    matches!(pool(route, version, |pool, now| pool.budget().retry(now)), Some(Ok(())))
}

/// Pays for an attempt in place of a lost one: at once, or as soon as there is something to pay with.
///
/// # Errors
/// `replica_lost` when that is after the deadline.
pub(crate) async fn retry(route: &Route, version: Version) -> Result<(), Refusal> {
    loop {
        let Some(Err(wait)) = pool(route, version, |pool, now| pool.budget().retry(now)) else { return Ok(()) };
        // Requests fill the budget too.
        let wait = Instant::now() + wait.min(LOOK);
        if wait >= route.deadline() {
            return Err(Refusal::new(Code::ReplicaLost, "the replica was lost, and too many attempts were repeated")
                .hint("the model server may be crashing: look at the node's log")
                .retry_after(Duration::from_secs(1)));
        }
        tokio::time::sleep_until(wait).await;
    }
}
