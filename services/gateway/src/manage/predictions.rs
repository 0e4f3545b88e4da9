//! What was recorded: proofs, erasure, replays.

use std::sync::Arc;

use access::Action;
use axum::{body::Body, extract::State, response::Response};
use rpc::registry::RecordErasure;
use serde::Deserialize;
use serde_json::{Value, json};
use types::{CallerName, Code, Namespace, PredictionId, Refusal};

use super::{bytes, on_namespace, permit, read, settle};
use crate::{
    Ring,
    extract::{Path, Query, Sender},
    history,
    replay::{self, ReplayBody},
    rest,
};

type Shared = State<Arc<Ring>>;

fn id(text: &str) -> Result<PredictionId, Refusal> {
    text.parse().map(PredictionId).map_err(|_| {
        Refusal::new(Code::RequestMalformed, "a prediction's id is a UUID")
            .hint("take it from the answer: its `id`, or the header mantlet-prediction-id")
    })
}

pub(crate) async fn proof(State(ring): Shared, sender: Sender, Path(prediction): Path<String>) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::Audit, on_namespace)?;
        history::prove(&ring, permit.namespace(), id(&prediction)?).await
    };
    rest::respond(outcome.await)
}

async fn erased(
    ring: &Ring,
    actor: String,
    namespace: &Namespace,
    subject: String,
    count: u64,
) -> Result<Value, Refusal> {
    let record = RecordErasure { actor, namespace: namespace.clone(), subject, erased: count };
    let receipt = ring.registry.record_erasure(record).await?;
    ring.registry.sealed(receipt).await?;
    Ok(json!({ "erased": count }))
}

pub(crate) async fn forget(State(ring): Shared, sender: Sender, Path(prediction): Path<String>) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::Forget, on_namespace)?;
        let prediction = id(&prediction)?;
        let count = history::forget(&ring, permit.namespace(), prediction).await?;
        erased(&ring, permit.principal().subject(), permit.namespace(), format!("prediction:{prediction}"), count).await
    };
    rest::respond(outcome.await)
}

/// Whose predictions.
#[derive(Debug, Deserialize)]
pub(crate) struct Whose {
    caller: CallerName,
}

pub(crate) async fn forget_caller(
    State(ring): Shared,
    sender: Sender,
    Query(Whose { caller }): Query<Whose>,
) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::Forget, on_namespace)?;
        let namespace = permit.namespace();
        let count = history::forget_caller(&ring, namespace, &caller).await?;
        erased(&ring, permit.principal().subject(), namespace, format!("caller:{namespace}/{caller}"), count).await
    };
    rest::respond(outcome.await)
}

pub(crate) async fn replay(State(ring): Shared, sender: Sender, mut body: Body) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::Audit, on_namespace)?;
        let body: ReplayBody = read(&bytes(&ring, &mut body).await?)?;
        replay::replay(&ring, permit.namespace(), &body).await
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}
