//! Jobs that train new versions: how they stand, and asking for one.

use std::sync::Arc;

use access::Action;
use axum::{body::Body, extract::State, response::Response};
use rpc::trainer::Retrain;
use types::ModelName;

use super::{
    bytes, on_model, permit, read,
    rollouts::{WordBody, note, said, word},
    settle,
};
use crate::{
    Ring,
    extract::{Path, Sender},
    rest,
};

type Shared = State<Arc<Ring>>;

pub(crate) async fn list(State(ring): Shared, sender: Sender, Path(model): Path<String>) -> Response {
    let outcome = async {
        let model: ModelName = model.parse()?;
        // What a job prints may hold what it was given.
        let permit = permit(&ring, &sender, Action::Export, on_model(&model))?;
        let mut jobs = ring.trainer.jobs(permit.namespace().clone()).await?;
        jobs.retain(|job| job.model == model);
        Ok(jobs)
    };
    rest::respond(outcome.await)
}

pub(crate) async fn retrain(
    State(ring): Shared,
    sender: Sender,
    Path(model): Path<String>,
    mut body: Body,
) -> Response {
    let outcome = async {
        let model: ModelName = model.parse()?;
        let permit = permit(&ring, &sender, Action::Deploy, on_model(&model))?;
        let WordBody { reason } = read(&bytes(&ring, &mut body).await?)?;
        let reason = said(reason)?;
        let record = word(&permit, &model, "model.retrain", reason.clone());
        let (actor, namespace) = (record.actor.clone(), record.namespace.clone());
        let job = ring.trainer.retrain(Retrain { actor, namespace, model, reason }).await?;
        note(&ring, record).await?;
        Ok(job)
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}
