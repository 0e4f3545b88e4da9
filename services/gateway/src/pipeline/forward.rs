//! forward: to the replica and back, before the deadline; a lost replica costs another attempt, not the answer, and a
//! silent one is not waited for while there is another.

use std::{sync::Arc, time::Duration};

use ::balance::{Outcome, Patience, gate::Served};
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use rpc::ModelServer as _;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};
use types::{
    Code, Refusal, Version,
    infer::{InferRequest, InferResponse},
    manifest::Source,
};

use super::{Lease, Route, balance};
use crate::{Ring, ring::Model, trace::Attempts};

/// How often one prediction is sent, at most. Models are pure functions here, so sending again is safe.
const ATTEMPTS: u32 = 3;

/// The answer, with what is recorded of it.
pub struct Reply {
    route: Route,
    version: Version,
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
        (self.version, self.response)
    }

    /// The version that answered.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What was asked.
    pub(crate) fn request(&self) -> &InferRequest {
        self.route.request()
    }

    /// Whether the caller named the version.
    pub(crate) fn is_named(&self) -> bool {
        self.route.is_named()
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

    pub(crate) fn held(&self) -> Option<&crate::restrictions::Held> {
        self.route.held()
    }

    pub(crate) fn response_mut(&mut self) -> &mut InferResponse {
        &mut self.response
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.route.deadline()
    }

    pub(crate) fn model(&self) -> &Arc<Model> {
        self.route.model()
    }
}

/// Sends the request to the claimed replica; to another one when that is lost. Attempts are noted where there is room.
///
/// With the proofs of the steps before it compiles, with less it does not:
///
/// ```
/// use gateway::{Ring, pipeline::{Lease, Route, forward::forward}};
/// async fn with_both(ring: &Ring, route: Route, lease: Lease) {
///     let _ = forward(ring, route, lease, None).await;
/// }
/// ```
///
/// ```compile_fail,E0308
/// use gateway::{Ring, pipeline::{Lease, Route, forward::forward}};
/// async fn without_a_lease(ring: &Ring, route: Route) {
///     let _ = forward(ring, route, (), None).await;
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
///     let _ = forward(ring, cleared, lease, None).await;
/// }
/// ```
///
/// # Errors
/// `deadline_exceeded`, `replica_lost`, or the model's own refusal.
pub async fn forward(
    ring: &Ring,
    route: Route,
    mut lease: Lease,
    noted: Option<&mut Attempts>,
) -> Result<Reply, Refusal> {
    let (pass, open) = (lease.pass(), lease.open());
    let (Answer { version, response, replica, latency }, attempts) = race(ring, &route, lease, noted).await?;
    if let Some(open) = open {
        open.served(response.compute_of(route.request().rows()).as_secs_f64());
    }
    if let Some(pass) = pass {
        let InferResponse { compute, queued, batch, .. } = response;
        let outward = matches!(route.model().route.manifest.spec.source, Source::Upstream(_));
        let cost = if outward { Duration::ZERO } else { compute };
        pass.served(Served { latency, compute, queued, batch, cost });
    }
    Ok(Reply { route, version, response, replica, attempts })
}

/// How long a copy may take that finds out how quick a replica is.
const EXPLORING: Duration = Duration::from_secs(5);
/// Such copies on their way, at most.
pub(crate) const COPIES: usize = 8;

/// How long until it is looked again whether there is a second replica.
const LOOK: Duration = Duration::from_millis(250);

/// The attempts of one prediction.
struct Race<'a> {
    route: &'a Route,
    running: FuturesUnordered<BoxFuture<'a, (usize, Ended)>>,
    tried: Vec<u64>,
    /// Of the last attempt.
    version: Version,
    /// When a second replica is thought of.
    next: Instant,
    /// What is noted of them, where it is.
    noted: Option<&'a mut Attempts>,
}

impl<'a> Race<'a> {
    fn send(&mut self, lease: Lease, kind: &'static str) {
        let now = Instant::now();
        self.version = lease.version();
        let (number, request) = self.begin(&lease, kind);
        self.running.push(Box::pin(async move { (number, attempt(request, lease).await) }));
        self.next = now + wait(self.route, self.version, now);
    }

    /// Sends a copy that finds out how quick a replica is: its answer counts if it is the first, and it goes on if not.
    fn explore(&mut self, ring: &Ring, lease: Lease) {
        let Ok(permit) = ring.exploring.clone().try_acquire_owned() else { return };
        ring.metrics.again("explore");
        let (number, request) = self.begin(&lease, "explore");
        let (told, hears) = oneshot::channel();
        tokio::spawn(async move {
            let ended = timeout(EXPLORING, attempt(request, lease)).await;
            // Nobody may be waiting any more.
            let _ = told.send(ended);
            drop(permit);
        });
        self.running.push(Box::pin(async move {
            match hears.await {
                Ok(Ok(Ended::Answered(answer))) => (number, Ended::Answered(answer)),
                // What a slow replica refuses, a good one may answer.
                _ => (number, Ended::Lost),
            }
        }));
    }

    /// Notes an attempt; its number and what is sent.
    fn begin(&mut self, lease: &Lease, kind: &'static str) -> (usize, InferRequest) {
        self.tried.push(lease.door().key);
        if let Some(noted) = &mut self.noted {
            noted.began(lease.replica(), lease.version(), kind);
        }
        let request = InferRequest { version: Some(lease.version()), ..self.route.request().clone() };
        (self.tried.len() - 1, request)
    }

    /// The next attempt that ends, if any runs.
    async fn ended(&mut self) -> Option<Ended> {
        let (number, ended) = self.running.next().await?;
        self.note(number, &ended);
        Some(ended)
    }

    fn note(&mut self, number: usize, ended: &Ended) {
        let Some(noted) = &mut self.noted else { return };
        match ended {
            Ended::Answered(Answer { response, .. }) => {
                noted.ended(number, "answered");
                noted.served(number, response.queued, response.compute);
            }
            Ended::Refused(_) => noted.ended(number, "refused"),
            Ended::Lost => noted.ended(number, "lost"),
        }
    }

    fn attempts(&self) -> u32 {
        u32::try_from(self.tried.len()).unwrap_or(ATTEMPTS)
    }
}

/// Asks one replica, another when it is lost or keeps us waiting; the first answer counts and the rest is cancelled.
async fn race<'a>(
    ring: &Ring,
    route: &'a Route,
    mut lease: Lease,
    noted: Option<&'a mut Attempts>,
) -> Result<(Answer, u32), Refusal> {
    let began = Instant::now();
    let (running, version) = (FuturesUnordered::new(), route.version());
    let mut race = Race { route, running, tried: Vec::with_capacity(1), version, next: began, noted };
    let copy = lease.copy();
    race.send(lease, "first");
    if let Some(copy) = copy {
        race.explore(ring, copy);
    }
    loop {
        let wake = race.next.min(route.deadline());
        tokio::select! {
            biased;
            Some(ended) = race.ended() => match ended {
                Ended::Answered(answer) => return Ok((answer, race.attempts())),
                Ended::Refused(refusal) => return Err(refusal),
                Ended::Lost if !race.running.is_empty() => {}
                Ended::Lost if race.attempts() == ATTEMPTS => {
                    let what = format!("{ATTEMPTS} replicas were lost while answering");
                    return Err(Refusal::new(Code::ReplicaLost, what));
                }
                Ended::Lost => {
                    balance::retry(route, race.version).await?;
                    let lease = balance::again(ring, route, &race.tried).await?;
                    ring.metrics.again("retry");
                    race.send(lease, "retry");
                }
            },
            () = sleep_until(wake) => {
                let now = Instant::now();
                if now >= route.deadline() {
                    return Err(Refusal::new(Code::DeadlineExceeded, "the answer did not come before the deadline")
                        .hint("give more time, or send fewer rows at once"));
                }
                if let Some((lease, kind)) = second(ring, &race, began) {
                    ring.metrics.again(kind);
                    race.send(lease, kind);
                }
                race.next = now + wait(route, race.version, now).max(LOOK);
            }
        }
    }
}

/// How long an attempt has from now on before a second replica is thought of.
fn wait(route: &Route, version: Version, now: Instant) -> Duration {
    match patience(route, version, now) {
        Some(Patience::Hedge(after) | Patience::Rescue(after)) => after,
        None => LOOK,
    }
}

/// As the pool says, and half of the time that is left at the most: what comes after the deadline helps nobody.
fn patience(route: &Route, version: Version, now: Instant) -> Option<Patience> {
    let half = route.deadline().saturating_duration_since(now) / 2;
    balance::patience(route, version).map(|patience| match patience {
        Patience::Hedge(after) => Patience::Hedge(after.min(half)),
        Patience::Rescue(after) => Patience::Rescue(after.min(half)),
    })
}

/// A second replica for a request that has waited since then, where that is long enough and can be paid.
fn second(ring: &Ring, race: &Race<'_>, began: Instant) -> Option<(Lease, &'static str)> {
    let (route, version, waited) = (race.route, race.version, began.elapsed());
    if race.attempts() == ATTEMPTS {
        return None;
    }
    let kind = match patience(route, version, began)? {
        Patience::Hedge(after) if waited >= after && balance::hedge(route, version) => "hedge",
        Patience::Rescue(after) if waited >= after && balance::rescue(route, version) => "rescue",
        _ => return None,
    };
    Some((balance::other(ring, route, &race.tried)?, kind))
}

/// An attempt's answer.
struct Answer {
    version: Version,
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

async fn attempt(request: InferRequest, lease: Lease) -> Ended {
    let version = lease.version();
    let client = &lease.door().client;
    let outcome = match lease.asked() {
        Some(asked) => client.infer_counted(request, asked).await,
        None => client.infer(request).await.map(|response| (response, None)),
    };
    match outcome {
        Ok((response, report)) => {
            let (replica, latency) = (lease.replica().to_owned(), lease.began().elapsed());
            lease.answered(&response, report);
            Ended::Answered(Answer { version, response, replica, latency })
        }
        // A model server that has let go of the version is as good as gone.
        Err(refusal) if matches!(refusal.code, Code::ReplicaLost | Code::ModelNotReady) => {
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
