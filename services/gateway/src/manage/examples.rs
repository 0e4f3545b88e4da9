//! Predictions of a model with their labels, for who trains elsewhere or wants to see what was learnt.

use std::sync::Arc;

use access::Action;
use axum::{extract::State, response::Response};
use rpc::trainer::ExamplesOf;
use serde::Deserialize;
use types::ModelName;

use super::{on_model, permit};
use crate::{
    Ring,
    extract::{Path, Query, Sender},
    rest,
};

/// Examples of a page, at most.
const PAGE: u32 = 1_000;

#[derive(Deserialize)]
pub(crate) struct Wanted {
    #[serde(default)]
    from: u64,
    #[serde(default)]
    limit: Option<u32>,
}

pub(crate) async fn list(
    State(ring): State<Arc<Ring>>,
    sender: Sender,
    Path(model): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let outcome = async {
        let model: ModelName = model.parse()?;
        let permit = permit(&ring, &sender, Action::Export, on_model(&model))?;
        let namespace = permit.namespace().clone();
        ring.model(&(namespace.clone(), model.clone()))?;
        let limit = wanted.limit.unwrap_or(PAGE).clamp(1, PAGE);
        ring.trainer.examples(ExamplesOf { namespace, model, from: wanted.from, limit }).await
    };
    rest::respond(outcome.await)
}
