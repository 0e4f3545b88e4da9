//! Clean sets: rows that the owner of a model says are right, and that no feedback can touch.

use std::sync::Arc;

use access::Action;
use axum::{body::Body, extract::State, response::Response};
use rpc::trainer::{CleanOf, PutClean};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use types::{Code, ModelName, Refusal, clean::CleanRow};

use super::{
    bytes, on_model, permit, read,
    rollouts::{note, said, word},
    settle,
};
use crate::{
    Ring,
    extract::{Path, Sender},
    rest,
};

type Shared = State<Arc<Ring>>;

/// A clean set for a model that learns.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CleanBody {
    /// From 50 to 2,000 rows.
    rows: Vec<CleanRow>,
    /// Whether it holds while a drift alarm stands, too.
    #[serde(default)]
    strict: bool,
    /// Why; it goes into the ledger.
    reason: String,
}

pub(crate) async fn show(State(ring): Shared, sender: Sender, Path(model): Path<String>) -> Response {
    let outcome = async {
        let model: ModelName = model.parse()?;
        let permit = permit(&ring, &sender, Action::Read, on_model(&model))?;
        let of = CleanOf { namespace: permit.namespace().clone(), model: model.clone() };
        ring.trainer.clean(of).await?.ok_or_else(|| none(&model))
    };
    rest::respond(outcome.await)
}

pub(crate) async fn put(State(ring): Shared, sender: Sender, Path(model): Path<String>, mut body: Body) -> Response {
    let outcome = async {
        let model: ModelName = model.parse()?;
        let permit = permit(&ring, &sender, Action::Deploy, on_model(&model))?;
        let CleanBody { rows, strict, reason } = read(&bytes(&ring, &mut body).await?)?;
        let record = word(&permit, &model, "model.clean", format!("{} rows: {}", rows.len(), said(reason)?));
        let (actor, namespace) = (record.actor.clone(), record.namespace.clone());
        let set = ring.trainer.put_clean(PutClean { actor, namespace, model, rows, strict }).await?;
        note(&ring, record).await?;
        Ok(set)
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}

pub(crate) async fn remove(State(ring): Shared, sender: Sender, Path(model): Path<String>) -> Response {
    let outcome = async {
        let model: ModelName = model.parse()?;
        let permit = permit(&ring, &sender, Action::Deploy, on_model(&model))?;
        let of = CleanOf { namespace: permit.namespace().clone(), model: model.clone() };
        let set = ring.trainer.clean(of.clone()).await?.ok_or_else(|| none(&model))?;
        ring.trainer.remove_clean(of).await?;
        note(&ring, word(&permit, &model, "model.clean_removed", format!("{} rows", set.rows))).await?;
        Ok(set)
    };
    rest::respond(outcome.await)
}

fn none(model: &ModelName) -> Refusal {
    Refusal::new(Code::ModelNotFound, format!("`{model}` has no clean set"))
        .hint("`mantlet clean set NAME FILE` gives it one")
}
