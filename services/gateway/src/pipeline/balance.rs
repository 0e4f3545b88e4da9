//! balance: from a version to one of its replicas, once the machine has room; held until one is ready or the deadline
//! is near.

mod admit;
mod chooser;
mod hall;
mod pools;
pub(crate) mod probe;
pub(crate) mod turns;

use std::{sync::Arc, time::Duration};

use ::balance::{
    Outcome, Patience, Pool,
    policy::{Ask, Claim},
};
use rpc::report::{Asked, Report};
use tokio::time::{Instant, timeout_at};
use types::{
    Code, ModelName, Refusal, Version,
    infer::{InferRequest, InferResponse},
};

use super::Route;
use crate::{
    Ring,
    load::Open,
    ring::{Door, Model},
};
pub(crate) use admit::{Admission, Pass, Place};
use chooser::Ended;
pub(crate) use hall::Hall;
pub(crate) use pools::Pools;

/// A claim on a replica, counted while it lasts; made only here.
pub struct Lease {
    door: Arc<Door>,
    pools: Arc<Pools>,
    version: Version,
    claim: Claim,
    ask: Ask,
    began: Instant,
    outcome: Outcome,
    /// How long the replica worked on it, and what it said of itself.
    told: (Option<Duration>, Option<Report>),
    /// The request's place in flight, with its first lease.
    pass: Option<Pass>,
    /// The request as its model's load, where that is counted; likewise.
    open: Option<Open>,
    /// A claim for a copy of it that finds out how quick another replica is.
    copy: Option<Box<Lease>>,
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

    /// A claim on another replica, for a copy of the request that finds out how quick that one is.
    pub(crate) fn copy(&mut self) -> Option<Lease> {
        self.copy.take().map(|copy| *copy)
    }

    /// The request as its model's load, where that is counted.
    pub(crate) fn open(&mut self) -> Option<Open> {
        self.open.take()
    }

    /// What the replica is told of the request, where its work is counted.
    pub(crate) fn asked(&self) -> Option<Asked> {
        // Plain pools number nothing.
        let predicted = Duration::try_from_secs_f64(self.claim.predicted).unwrap_or_default();
        (self.claim.id > 0).then(|| Asked { sender: self.pools.sender(), predicted })
    }

    /// Takes in what the answer tells of the replica.
    pub(crate) fn answered(mut self, response: &InferResponse, report: Option<Report>) {
        self.told = (work(response, u64::from(self.ask.rows), self.began.elapsed()), report);
        self.ended(Outcome::Answered);
    }

    /// Says how the attempt ended; who only drops the lease has cancelled it.
    pub(crate) fn ended(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (claim, ask, began, (work, report)) = (self.claim, self.ask, self.pools.since(self.began), self.told);
        let end = Ended { claim, ask, began, outcome: self.outcome, work, report };
        self.pools.with(self.version, Instant::now(), |chooser, _, now| chooser.ended(&end, now));
    }
}

/// How long the replica worked on a request of so many rows: its share of the batch that it was in, and whatever went by that was
/// neither waiting nor the batch. A process that is held up can't say so itself. Nothing where the replica does not say how
/// long it waited.
fn work(response: &InferResponse, rows: u64, latency: Duration) -> Option<Duration> {
    let beside = latency.saturating_sub(response.queued? + response.compute);
    let rows = rows.max(1);
    Some(beside + response.compute.mul_f64(rows as f64 / response.batch.max(rows) as f64))
}

/// What is known of a request before anybody works on it.
fn ask(request: &InferRequest) -> Ask {
    let bytes: usize = request.inputs.iter().map(|input| input.data().len()).sum();
    Ask { size: bytes as f64, rows: u32::try_from(request.rows()).unwrap_or(u32::MAX) }
}

/// Claims a replica of the routed version.
///
/// # Errors
/// `overloaded` when it can't be answered in time; `deadline_exceeded` or `model_not_ready` when no replica became ready, `model_stopped` where
/// none will.
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
    let claims =
        Claims { ask: ask(route.request()), attempt: if tried.is_empty() { Attempt::First } else { Attempt::Further } };
    let mut tried = tried;
    loop {
        let model = ring.model(&key)?;
        let [first, version] = route.versions_of(&model);
        if let Some(lease) = claims.first_of(&model, [first, version], tried) {
            return Ok(lease);
        }
        // Whatever changes from here on is seen; what changed before is looked at once more.
        let Some(changes) = &mut changes else {
            changes = Some(ring.changes());
            continue;
        };
        if let Some(by) = &model.route.stopped {
            return Err(stopped(&key.1, by));
        }
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

/// Somebody wants the model to have no replica: none will come, however long a request waits.
pub(crate) fn stopped(model: &ModelName, by: &str) -> Refusal {
    Refusal::new(Code::ModelStopped, format!("`{model}` has no replica since {by} set their number to 0")).hint(
        format!("`mantlet scale {model} manifest` leaves it to its load again; `mantlet scale {model} 1` starts one"),
    )
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
    let claims = Claims { ask: ask(route.request()), attempt: Attempt::Further };
    claims.first_of(&model, route.versions_of(&model), tried)
}

/// Which attempt at a request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// The learnt rule may choose.
    First,
    /// Who has tried one gets the best of the rest, by the pool.
    Further,
}

/// What is claimed for.
struct Claims {
    ask: Ask,
    attempt: Attempt,
}

impl Claims {
    /// A replica of the first of these versions that has one.
    fn first_of(&self, model: &Model, [first, second]: [Version; 2], tried: &[u64]) -> Option<Lease> {
        let other = || (first != second).then(|| self.of(model, second, tried)).flatten();
        self.of(model, first, tried).or_else(other)
    }

    fn of(&self, model: &Model, version: Version, tried: &[u64]) -> Option<Lease> {
        let (began, ask) = (Instant::now(), self.ask);
        let (claim, copy) = model.pools.with(version, began, |chooser, rng, now| match self.attempt {
            Attempt::First => Some((chooser.claim(&ask, now, rng)?, chooser.copy(&ask, now))),
            Attempt::Further => Some((chooser.again(&ask, tried, now, rng)?, None)),
        })??;
        let copy = copy.and_then(|copy| self.lease(model, version, copy, began)).map(Box::new);
        let mut lease = self.lease(model, version, claim, began)?;
        lease.copy = copy;
        Some(lease)
    }

    fn lease(&self, model: &Model, version: Version, claim: Claim, began: Instant) -> Option<Lease> {
        let ask = self.ask;
        let Some(door) = model.replicas.iter().find(|door| door.key == claim.key) else {
            // The pool is newer than these doors; whoever claims looks again.
            let (began, outcome) = (model.pools.since(began), Outcome::Cancelled);
            let end = Ended { claim, ask, began, outcome, work: None, report: None };
            model.pools.with(version, Instant::now(), |chooser, _, now| chooser.ended(&end, now));
            return None;
        };
        let (door, pools) = (door.clone(), model.pools.clone());
        let (outcome, told, pass) = (Outcome::Cancelled, (None, None), None);
        Some(Lease { door, pools, version, claim, ask, began, outcome, told, pass, open: None, copy: None })
    }
}

/// Works on a version's pool, unless it has gone.
fn pool<T>(route: &Route, version: Version, work: impl FnOnce(&mut Pool<u64>, Duration) -> T) -> Option<T> {
    route.model().pools.pool(version, Instant::now(), work)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_a_share_of_the_batch_and_what_nobody_accounts_for() {
        const MS: Duration = Duration::from_millis(1);
        let response =
            |queued, batch| InferResponse { outputs: Vec::new(), compute: 8 * MS, queued, batch, snapshot: None };
        assert_eq!(work(&response(None, 1), 1, 20 * MS), None, "one that does not say how long it waited");
        assert_eq!(work(&response(Some(10 * MS), 1), 1, 20 * MS), Some(10 * MS), "2 ms beside waiting and work");
        assert_eq!(work(&response(Some(10 * MS), 8), 2, 20 * MS), Some(4 * MS), "a quarter of the batch");
        // What makes no sense makes no more than the batch.
        assert_eq!(work(&response(Some(90 * MS), 0), 0, 20 * MS), Some(8 * MS));
    }
}
