//! Secrets of a namespace: set and taken away, never shown.

use std::sync::Arc;

use access::{Action, Permit};
use axum::{body::Body, extract::State, response::Response};
use rpc::registry::SetSecret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use types::{Refusal, SecretName};
use zeroize::Zeroizing;

use super::{bytes, on_namespace, permit, read, settle};
use crate::{
    Ring,
    extract::{Path, Sender},
    rest,
};

type Shared = State<Arc<Ring>>;

/// What `PUT /v1/secrets/{secret}` takes.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretBody {
    /// The secret itself.
    value: String,
}

pub(crate) async fn list(State(ring): Shared, sender: Sender) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::Read, on_namespace)?;
        ring.registry.secrets(permit.namespace().clone()).await
    };
    rest::respond(outcome.await)
}

pub(crate) async fn set(State(ring): Shared, sender: Sender, Path(name): Path<String>, mut body: Body) -> Response {
    let outcome = async {
        // Who may not set any learns nothing about the body.
        let permit = permit(&ring, &sender, Action::ManageSecrets, on_namespace)?;
        let SecretBody { value } = read(&bytes(&ring, &mut body).await?)?;
        change(&ring, &permit, &name, Some(Zeroizing::new(value))).await
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}

pub(crate) async fn remove(State(ring): Shared, sender: Sender, Path(name): Path<String>) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::ManageSecrets, on_namespace)?;
        change(&ring, &permit, &name, None).await
    };
    rest::respond(outcome.await)
}

async fn change(
    ring: &Ring,
    permit: &Permit,
    name: &str,
    value: Option<Zeroizing<String>>,
) -> Result<serde_json::Value, Refusal> {
    let name: SecretName = name.parse()?;
    let (actor, namespace, set) = (permit.principal().subject(), permit.namespace().clone(), value.is_some());
    let receipt = ring.registry.set_secret(SetSecret { actor, namespace, name: name.clone(), value }).await?;
    ring.registry.sealed(receipt).await?;
    Ok(json!({ "name": name, "set": set }))
}
