//! What would happen to the models of a namespace, and how many replicas they have.

use std::sync::Arc;

use access::Action;
use axum::{body::Body, extract::State, response::Response};
use rpc::orchestrator::{PlanOf, Scale};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use types::{Manifest, ModelName};

use super::{bytes, on_model, on_namespace, permit, read, settle};
use crate::{
    Ring,
    extract::{Path, Sender},
    rest,
};

/// What `POST /v1/plan` takes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanBody {
    /// What if this were deployed.
    manifest: Manifest,
}

/// What `POST /v1/models/{model}/scale` takes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScaleBody {
    /// How many replicas; as the manifest says when left out.
    #[serde(default)]
    replicas: Option<u32>,
}

pub(crate) async fn show(State(ring): State<Arc<Ring>>, sender: Sender) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::Read, on_namespace)?;
        ring.orchestrator.plan(PlanOf { namespace: permit.namespace().clone(), deploy: None }).await
    };
    rest::respond(outcome.await)
}

pub(crate) async fn what_if(State(ring): State<Arc<Ring>>, sender: Sender, mut body: Body) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::Read, on_namespace)?;
        let PlanBody { manifest } = read(&bytes(&ring, &mut body).await?)?;
        manifest.check()?;
        ring.orchestrator.plan(PlanOf { namespace: permit.namespace().clone(), deploy: Some(manifest) }).await
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}

pub(crate) async fn scale(
    State(ring): State<Arc<Ring>>,
    sender: Sender,
    Path(model): Path<String>,
    mut body: Body,
) -> Response {
    let outcome = async {
        let name: ModelName = model.parse()?;
        let permit = permit(&ring, &sender, Action::Deploy, on_model(&name))?;
        let ScaleBody { replicas } = read(&bytes(&ring, &mut body).await?)?;
        let scale = Scale {
            namespace: permit.namespace().clone(),
            model: name.clone(),
            replicas,
            author: permit.principal().subject(),
            reason: "scaled".into(),
        };
        let submitted = ring.orchestrator.scale(scale).await?;
        ring.registry.sealed(submitted.receipt).await?;
        Ok(json!({ "name": name, "replicas": replicas }))
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}
