//! Namespaces and what they may use.

use std::sync::Arc;

use access::{Action, Resource};
use axum::{body::Body, extract::State, response::Response};
use rpc::registry::SetQuota;
use serde_json::{Value, json};
use types::{Namespace, Refusal, quota::Quota};

use super::{bytes, permit, read, settle};
use crate::{
    Ring,
    extract::{Path, Sender},
    rest,
};

type Shared = State<Arc<Ring>>;

pub(crate) async fn list(State(ring): Shared, sender: Sender) -> Response {
    let listed = permit(&ring, &sender, Action::ManageNamespaces, |_| Resource::Node).map(|_| {
        let row = |(namespace, quota)| json!({ "namespace": namespace, "quota": quota });
        ring.quotas.list().into_iter().map(row).collect::<Vec<_>>()
    });
    rest::respond(listed)
}

pub(crate) async fn set(
    State(ring): Shared,
    sender: Sender,
    Path(namespace): Path<String>,
    mut body: Body,
) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::ManageNamespaces, |_| Resource::Node)?;
        let quota: Quota = read(&bytes(&ring, &mut body).await?)?;
        change(&ring, &permit, &namespace, Some(quota)).await
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}

pub(crate) async fn reset(State(ring): Shared, sender: Sender, Path(namespace): Path<String>) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::ManageNamespaces, |_| Resource::Node)?;
        change(&ring, &permit, &namespace, None).await
    };
    rest::respond(outcome.await)
}

async fn change(ring: &Ring, permit: &access::Permit, namespace: &str, quota: Option<Quota>) -> Result<Value, Refusal> {
    let namespace: Namespace = namespace.parse()?;
    let request = SetQuota { actor: permit.principal().subject(), namespace: namespace.clone(), quota };
    let receipt = ring.registry.set_quota(request).await?;
    ring.registry.sealed(receipt).await?;
    ring.until(|ring| ring.quotas.get(&namespace) == quota).await;
    Ok(json!({ "namespace": namespace, "quota": quota }))
}
