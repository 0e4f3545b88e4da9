//! The node's own keys.

use std::sync::Arc;

use access::{Action, Resource};
use axum::{extract::State, response::Response};
use rpc::registry::ChangeKey;
use serde_json::{Value, json};
use types::{KeyKind, Refusal};

use super::permit;
use crate::{
    Ring,
    extract::{Path, Sender},
    rest,
};

type Shared = State<Arc<Ring>>;

pub(crate) async fn list(State(ring): Shared, sender: Sender) -> Response {
    let outcome = async {
        permit(&ring, &sender, Action::Audit, |_| Resource::Node)?;
        ring.registry.keys(()).await
    };
    rest::respond(outcome.await)
}

pub(crate) async fn rotate(State(ring): Shared, sender: Sender, Path(key): Path<String>) -> Response {
    rest::respond(change(&ring, &sender, &key, false).await)
}

pub(crate) async fn retire(State(ring): Shared, sender: Sender, Path(key): Path<String>) -> Response {
    rest::respond(change(&ring, &sender, &key, true).await)
}

async fn change(ring: &Ring, sender: &Sender, key: &str, retire: bool) -> Result<Value, Refusal> {
    let permit = permit(ring, sender, Action::ManageKeys, |_| Resource::Node)?;
    let key: KeyKind = key.parse()?;
    let request = ChangeKey { actor: permit.principal().subject(), key, retire };
    let receipt = ring.registry.change_key(request).await?;
    ring.registry.sealed(receipt).await?;
    let keys = ring.registry.keys(()).await?;
    Ok(json!(keys.into_iter().find(|known| known.key == key)))
}
