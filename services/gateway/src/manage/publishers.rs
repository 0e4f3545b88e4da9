//! Publishers: whose signature lets a model into the namespace.

use std::sync::Arc;

use access::Action;
use axum::{body::Body, extract::State, response::Response};
use rpc::registry::{AddPublisher, ChangedPublisher, RevokePublisher};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use types::Refusal;

use super::{bytes, on_namespace, permit, read, settle};
use crate::{
    Ring,
    extract::{Path, Sender},
    rest,
};

type Shared = State<Arc<Ring>>;

/// What `POST /v1/publishers` takes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublisherBody {
    /// The publisher's public key, P-256 in PEM.
    key: String,
}

pub(crate) async fn list(State(ring): Shared, sender: Sender) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::Read, on_namespace)?;
        ring.registry.publishers(permit.namespace().clone()).await
    };
    rest::respond(outcome.await)
}

pub(crate) async fn add(State(ring): Shared, sender: Sender, mut body: Body) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::ManagePublishers, on_namespace)?;
        let PublisherBody { key } = read(&bytes(&ring, &mut body).await?)?;
        let (actor, namespace) = (permit.principal().subject(), permit.namespace().clone());
        changed(&ring, ring.registry.add_publisher(AddPublisher { actor, namespace, key }).await?).await
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}

pub(crate) async fn revoke(State(ring): Shared, sender: Sender, Path(fingerprint): Path<String>) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::ManagePublishers, on_namespace)?;
        let (actor, namespace) = (permit.principal().subject(), permit.namespace().clone());
        changed(&ring, ring.registry.revoke_publisher(RevokePublisher { actor, namespace, fingerprint }).await?).await
    };
    rest::respond(outcome.await)
}

async fn changed(ring: &Ring, changed: ChangedPublisher) -> Result<Value, Refusal> {
    ring.registry.sealed(changed.receipt).await?;
    let version = |(model, version)| json!({ "model": model, "version": version });
    let signed: Vec<Value> = changed.versions.into_iter().map(version).collect();
    let mut shown = json!(changed.publisher);
    shown["signed"] = json!(signed);
    Ok(shown)
}
