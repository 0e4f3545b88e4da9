//! How right a model's versions were, by the labels that came.

use std::sync::Arc;

use access::Action;
use axum::{extract::State, response::Response};
use rpc::trainer::EvaluationOf;
use types::ModelName;

use super::{on_model, permit};
use crate::{
    Ring,
    extract::{Path, Sender},
    rest,
};

pub(crate) async fn show(State(ring): State<Arc<Ring>>, sender: Sender, Path(model): Path<String>) -> Response {
    let outcome = async {
        let model: ModelName = model.parse()?;
        let permit = permit(&ring, &sender, Action::Read, on_model(&model))?;
        let namespace = permit.namespace().clone();
        ring.model(&(namespace.clone(), model.clone()))?;
        ring.trainer.evaluation(EvaluationOf { namespace, model }).await
    };
    rest::respond(outcome.await)
}
