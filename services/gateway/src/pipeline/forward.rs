//! forward: to the replica and back, before the deadline; a lost replica costs another attempt, not the answer.

use std::sync::Arc;

use rpc::ModelServer as _;
use tokio::time::timeout_at;
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
pub async fn forward(ring: &Ring, route: Route, lease: Lease) -> Result<Reply, Refusal> {
    let (mut lease, mut tried) = (lease, Vec::new());
    for attempts in 1..=ATTEMPTS {
        let answer = timeout_at(route.deadline(), lease.door().client.infer(route.request().clone())).await;
        match answer {
            Ok(Ok(response)) => {
                let replica = lease.replica().to_owned();
                return Ok(Reply { route, response, replica, attempts });
            }
            Ok(Err(refusal)) if refusal.code == Code::ReplicaLost && attempts < ATTEMPTS => {
                tracing::debug!(replica = lease.replica(), attempts, %refusal, "a replica was lost while answering");
                tried.push(lease.replica().to_owned());
                drop(lease);
                lease = balance::again(ring, &route, &tried).await?;
            }
            Ok(Err(refusal)) => return Err(refusal),
            Err(_) => {
                return Err(Refusal::new(Code::DeadlineExceeded, "the answer did not come before the deadline")
                    .hint("give more time, or send fewer rows at once"));
            }
        }
    }
    Err(Refusal::new(Code::ReplicaLost, format!("{ATTEMPTS} replicas were lost while answering")))
}
