//! forward: to the replica and back, before the deadline; a lost replica costs another attempt, not the answer, and a
//! silent one is not waited for while there is another.

use std::{sync::Arc, time::Duration};

use ::balance::{Outcome, Patience, gate::Served};
use futures::{StreamExt as _, stream::FuturesUnordered};
use rpc::ModelServer as _;
use tokio::time::{Instant, sleep_until};
use types::{Code, Refusal, Version, infer::InferResponse};

use super::{Lease, Route, balance};
use crate::{Ring, ring::Model};

/// How often one prediction is sent, at most. Models are pure functions here, so sending again is safe.
const ATTEMPTS: u32 = 3;

/// The answer, with what is recorded of it.
pub struct Reply {
    route: Route,
    response: InferResponse,
    replica: String,
    attempts: u32,
}

impl Reply {
    /// The answer.
    pub fn response(&self) -> &InferResponse {
        &self.response
    }

    /// The answer, for writing it out.
    pub fn into_response(self) -> (Version, InferResponse) {
        (self.route.version(), self.response)
    }

    /// The version that answered.
    pub fn version(&self) -> Version {
        self.route.version()
    }

    /// The client's own id.
    pub fn id(&self) -> Option<&str> {
        self.route.request().id.as_deref()
    }

    /// The replica that answered.
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// How often the request was sent.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn model(&self) -> &Arc<Model> {
        self.route.model()
    }
}

/// Sends the request to the claimed replica; to another one when that is lost.
///
/// With the proofs of the steps before it compiles, with less it does not:
///
/// ```
/// use gateway::{Ring, pipeline::{Lease, Route, forward::forward}};
/// async fn with_both(ring: &Ring, route: Route, lease: Lease) {
///     let _ = forward(ring, route, lease).await;
/// }
/// ```
///
/// ```compile_fail,E0308
/// use gateway::{Ring, pipeline::{Lease, Route, forward::forward}};
/// async fn without_a_lease(ring: &Ring, route: Route) {
///     let _ = forward(ring, route, ()).await;
/// }
/// ```
///
/// ```compile_fail,E0451
/// use gateway::pipeline::Lease;
/// fn forge(lease: Lease) -> Lease {
///     Lease { ..lease }
/// }
/// ```
///
/// ```compile_fail,E0308
/// use gateway::{Ring, pipeline::{Cleared, Lease, forward::forward}};
/// async fn without_a_route(ring: &Ring, cleared: Cleared, lease: Lease) {
///     let _ = forward(ring, cleared, lease).await;
/// }
/// ```
///
/// # Errors
/// `deadline_exceeded`, `replica_lost`, or the model's own refusal.
pub async fn forward(ring: &Ring, route: Route, mut lease: Lease) -> Result<Reply, Refusal> {
    let pass = lease.pass();
    let (Answer { response, replica, latency }, attempts) = race(ring, &route, lease).await?;
    if let Some(pass) = pass {
        let InferResponse { compute, queued, batch, .. } = response;
        pass.served(Served { latency, compute, queued, batch });
    }
    Ok(Reply { route, response, replica, attempts })
}

/// How long until it is looked again whether there is a second replica.
const LOOK: Duration = Duration::from_millis(250);

/// Asks one replica, another when it is lost or keeps us waiting; the first answer counts and the rest is cancelled.
async fn race(ring: &Ring, route: &Route, lease: Lease) -> Result<(Answer, u32), Refusal> {
    let mut tried = vec![lease.door().key];
    let mut running = FuturesUnordered::new();
    let mut attempts = 1;
    running.push(attempt(route, lease));
    let began = Instant::now();
    let mut next = began + wait(route, began);
    loop {
        let wake = next.min(route.deadline());
        tokio::select! {
            biased;
            Some(ended) = running.next() => match ended {
                Ended::Answered(answer) => return Ok((answer, attempts)),
                Ended::Refused(refusal) => return Err(refusal),
                Ended::Lost if !running.is_empty() => {}
                Ended::Lost if attempts == ATTEMPTS => {
                    let what = format!("{ATTEMPTS} replicas were lost while answering");
                    return Err(Refusal::new(Code::ReplicaLost, what));
                }
                Ended::Lost => {
                    balance::retry(route).await?;
                    let lease = balance::again(ring, route, &tried).await?;
                    ring.metrics.again("retry");
                    tried.push(lease.door().key);
                    attempts += 1;
                    running.push(attempt(route, lease));
                    let now = Instant::now();
                    next = now + wait(route, now);
                }
            },
            () = sleep_until(wake) => {
                let now = Instant::now();
                if now >= route.deadline() {
                    return Err(Refusal::new(Code::DeadlineExceeded, "the answer did not come before the deadline")
                        .hint("give more time, or send fewer rows at once"));
                }
                if attempts < ATTEMPTS
                    && let Some((lease, kind)) = second(ring, route, began, &tried)
                {
                    ring.metrics.again(kind);
                    tried.push(lease.door().key);
                    attempts += 1;
                    running.push(attempt(route, lease));
                }
                next = now + wait(route, now).max(LOOK);
            }
        }
    }
}

/// How long an attempt has from now on before a second replica is thought of.
fn wait(route: &Route, now: Instant) -> Duration {
    match patience(route, now) {
        Some(Patience::Hedge(after) | Patience::Rescue(after)) => after,
        None => LOOK,
    }
}

/// As the pool says, and half of the time that is left at the most: what comes after the deadline helps nobody.
fn patience(route: &Route, now: Instant) -> Option<Patience> {
    let half = route.deadline().saturating_duration_since(now) / 2;
    balance::patience(route).map(|patience| match patience {
        Patience::Hedge(after) => Patience::Hedge(after.min(half)),
        Patience::Rescue(after) => Patience::Rescue(after.min(half)),
    })
}

/// A second replica for a request that has waited since then, where that is long enough and can be paid.
fn second(ring: &Ring, route: &Route, began: Instant, tried: &[u64]) -> Option<(Lease, &'static str)> {
    let waited = began.elapsed();
    let kind = match patience(route, began)? {
        Patience::Hedge(after) if waited >= after && balance::hedge(route) => "hedge",
        Patience::Rescue(after) if waited >= after && balance::rescue(route) => "rescue",
        _ => return None,
    };
    Some((balance::other(ring, route, tried)?, kind))
}

/// An attempt's answer.
struct Answer {
    response: InferResponse,
    replica: String,
    latency: Duration,
}

/// How an attempt ended.
enum Ended {
    Answered(Answer),
    Refused(Refusal),
    Lost,
}

async fn attempt(route: &Route, lease: Lease) -> Ended {
    match lease.door().client.infer(route.request().clone()).await {
        Ok(response) => {
            let (replica, latency) = (lease.replica().to_owned(), lease.began().elapsed());
            lease.ended(Outcome::Answered);
            Ended::Answered(Answer { response, replica, latency })
        }
        Err(refusal) if refusal.code == Code::ReplicaLost => {
            tracing::debug!(replica = lease.replica(), %refusal, "a replica was lost while answering");
            lease.ended(Outcome::Failed);
            Ended::Lost
        }
        Err(refusal) => {
            lease.ended(Outcome::Answered);
            Ended::Refused(refusal)
        }
    }
}
