//! How right a model's versions were, by the labels that came; and what each was asked.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use access::Action;
use axum::{extract::State, response::Response};
use rpc::trainer::{Evaluation, EvaluationOf};
use serde::Serialize;
use types::{ModelName, Version};

use super::{on_model, permit};
use crate::{
    Ring,
    extract::{Path, Sender},
    rest,
    ring::Model,
};

/// How right, and how busy.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    evaluation: Evaluation,
    traffic: Vec<Traffic>,
}

/// What a version was asked by way of this gateway since it started; copies are not counted.
#[derive(Serialize)]
struct Traffic {
    version: Version,
    requests: u64,
    rows: u64,
    /// Those that failed by the version's own fault, or took too long.
    errors: u64,
    /// Percentiles of how long requests took, in milliseconds, an eighth too much at most.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

fn traffic(model: &Model) -> Vec<Traffic> {
    let of = |(version, statistics): (Version, Arc<crate::pipeline::record::Statistics>)| {
        let (answered, errors) = (statistics.success.get().0, statistics.fail.get().0);
        let millis = |share| statistics.latency.percentile(share).map(|micros| micros / 1e3);
        let (p50_ms, p99_ms) = (millis(0.5), millis(0.99));
        Traffic { version, requests: answered + errors, rows: statistics.rows.load(Relaxed), errors, p50_ms, p99_ms }
    };
    model.versions().into_iter().map(of).collect()
}

pub(crate) async fn show(State(ring): State<Arc<Ring>>, sender: Sender, Path(model): Path<String>) -> Response {
    let outcome = async {
        let model: ModelName = model.parse()?;
        let permit = permit(&ring, &sender, Action::Read, on_model(&model))?;
        let namespace = permit.namespace().clone();
        let routed = ring.model(&(namespace.clone(), model.clone()))?;
        let evaluation = ring.trainer.evaluation(EvaluationOf { namespace, model }).await?;
        Ok(Told { evaluation, traffic: traffic(&routed) })
    };
    rest::respond(outcome.await)
}
