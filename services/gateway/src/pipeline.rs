//! What happens to a prediction, step by step. Start here.
//!
//! ```text
//! listen → identify → authorize → assess → route → balance → forward → record
//!          Principal   Permit      Cleared   Route   Lease     Reply
//! ```
//!
//! Each step is a file below `pipeline/` and takes the proof of the step before; a proof can be made only where
//! it is earned. `record` runs on every exit, refusals too. What is held against whoever asks is seen in
//! `assess`; where it lets answers tell less, `degrade` does that after the answer was recorded.

pub mod assess;
pub mod authorize;
pub mod balance;
mod degrade;
pub mod forward;
pub mod identify;
pub mod record;
pub mod route;

use std::sync::Arc;

use access::tls::Peer;
use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};
use types::{ModelName, PredictionId, Refusal, Version, infer::InferRequest};

use crate::{Ring, rest::body::slow, trace::Trace};
pub use assess::Cleared;
pub use balance::Lease;
pub use forward::Reply;
pub use route::Route;

/// One call of a prediction, as a door hands it in: what its head says, and a body still unread.
pub struct Call<'a> {
    /// The head.
    pub head: Head,
    /// The body.
    pub body: &'a mut dyn Body,
}

/// What is known before the body is read.
#[derive(Debug, Clone)]
pub struct Head {
    /// The prediction's id, minted when the call came in.
    pub prediction: PredictionId,
    /// The `authorization` header.
    pub authorization: Option<Vec<u8>>,
    /// Who showed a certificate on the connection.
    pub peer: Option<Arc<Peer>>,
    /// The `mantlet-namespace` header.
    pub namespace: Option<String>,
    /// The `mantlet-priority` header.
    pub priority: Option<String>,
    /// When the call came in.
    pub received: Instant,
    /// When the answer is due.
    pub deadline: Instant,
    /// What is traced of it, where it is.
    pub trace: Option<Box<Trace>>,
}

/// A body that is read no sooner and no further than a step needs.
#[async_trait]
pub trait Body: Send {
    /// The model and version asked for, from the path or from as little of the message as holds them.
    async fn model(&mut self) -> Result<(ModelName, Option<Version>), Refusal>;

    /// The whole request, at most `limit` bytes.
    async fn request(&mut self, limit: u64) -> Result<InferRequest, Refusal>;
}

/// Answers a prediction or refuses it, and records either.
///
/// # Errors
/// The refusal, as recorded.
pub async fn predict(ring: &Ring, mut call: Call<'_>) -> Result<Reply, Refusal> {
    let mut record = record::Record::open(ring, &mut call.head);
    let call_deadline = call.head.deadline;
    let mut watch = record::Watch::over(ring, &mut record);
    let outcome = steps(ring, call, watch.record()).await;
    watch.ended();
    let reply = record.close(ring, call_deadline, outcome).await?;
    degrade::degrade(ring, reply).await
}

async fn steps(ring: &Ring, call: Call<'_>, record: &mut record::Record) -> Result<Reply, Refusal> {
    record.enter(ring, "identify");
    let principal = identify::identify(ring, &call.head)?;
    record.identified(&principal);

    record.enter(ring, "authorize");
    let read = timeout_at(call.head.deadline, call.body.model()).await;
    let (model, version) = read.unwrap_or_else(|_| Err(slow(call.head.deadline - call.head.received)))?;
    let permit = authorize::authorize(ring, principal, model)?;
    record.authorized(&permit);

    record.enter(ring, "assess");
    let mut found = None;
    let cleared = assess::assess(ring, permit, &call.head, call.body, &mut found).await;
    record.found(found);
    let cleared = cleared?;
    record.cleared(&cleared);

    record.enter(ring, "route");
    let route = route::route(ring, cleared, version)?;
    record.routed(&route);

    record.enter(ring, "balance");
    let lease = balance::balance(ring, &route).await?;

    record.enter(ring, "forward");
    forward::forward(ring, route, lease, record.attempts()).await
}
