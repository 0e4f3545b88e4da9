//! Callers: add, list, revoke, rotate.

use std::{sync::Arc, time::Duration};

use access::{Action, Permit, Resource, Token};
use axum::{body::Body, extract::State, response::Response};
use rpc::{
    registry::{AddCaller, NameCaller, NewToken, NoteCertificate, Select},
    supervisor::Certify,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use types::{CallerName, Code, Digest, Refusal, Role, quantity::Span};

use super::{bytes, on_namespace, permit, read, settle};
use crate::{
    Ring,
    extract::{Path, Sender},
    rest,
};

type Shared = State<Arc<Ring>>;

/// What `POST /v1/callers` takes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddBody {
    /// The caller's name.
    name: CallerName,
    /// What it may be.
    roles: Vec<Role>,
    /// Whether it may act in any namespace; only a caller that may can say so.
    #[serde(default)]
    node_wide: bool,
    /// How long its token works, for example `90d`; for ever when left out.
    #[serde(default)]
    expires_in: Option<Span>,
}

fn token(name: &CallerName, namespace: &types::Namespace, made: NewToken) -> serde_json::Value {
    json!({ "name": name, "namespace": namespace, "token": made.token })
}

pub(crate) async fn list(State(ring): Shared, sender: Sender) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::ManageCallers, on_namespace)?;
        ring.registry.callers(Select { namespace: permit.namespace().clone(), model: None }).await
    };
    rest::respond(outcome.await)
}

pub(crate) async fn add(State(ring): Shared, sender: Sender, mut body: Body) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::ManageCallers, on_namespace)?;
        let AddBody { name, roles, node_wide, expires_in } = read(&bytes(&ring, &mut body).await?)?;
        if node_wide {
            // Nobody hands out more than they have.
            ring.authorize(permit.principal().clone(), Action::ManageCallers, Resource::Node)?;
        }
        let namespace = permit.namespace().clone();
        let request = AddCaller {
            actor: permit.principal().subject(),
            namespace: namespace.clone(),
            caller: name.clone(),
            roles,
            node_wide,
            expires: expires_in.map(|span| ring.clock.now().plus(span.0)),
        };
        let made = ring.registry.add_caller(request).await?;
        ring.registry.sealed(made.receipt).await?;
        known(&ring, &made).await;
        Ok(token(&name, &namespace, made))
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}

/// A caller in the permitted namespace, with its token's id; one that is node-wide may be touched only by who is that too.
async fn target(ring: &Ring, permit: &Permit, caller: &str) -> Result<(NameCaller, Option<String>), Refusal> {
    let caller: CallerName = caller.parse()?;
    let namespace = permit.namespace().clone();
    let known = ring.registry.callers(Select { namespace: namespace.clone(), model: None }).await?;
    let found = known.into_iter().find(|known| known.caller == caller);
    if found.as_ref().is_some_and(|found| found.node_wide) {
        ring.authorize(permit.principal().clone(), Action::ManageCallers, Resource::Node).map_err(|_| {
            Refusal::new(Code::NotAllowed, format!("`{caller}` belongs to the node, not to the namespace"))
        })?;
    }
    let name = NameCaller { actor: permit.principal().subject(), namespace, caller };
    Ok((name, found.map(|found| found.token)))
}

/// Waits until this gateway knows a new token.
async fn known(ring: &Ring, made: &NewToken) {
    if let Ok(token) = made.token.parse::<Token>() {
        ring.until(|ring| ring.identifier.knows(token.id().as_str())).await;
    }
}

pub(crate) async fn revoke(State(ring): Shared, sender: Sender, Path(caller): Path<String>) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::ManageCallers, on_namespace)?;
        let (target, token) = target(&ring, &permit, &caller).await?;
        let receipt = ring.registry.revoke_caller(target).await?;
        ring.registry.sealed(receipt).await?;
        if let Some(token) = token {
            ring.until(|ring| !ring.identifier.knows(&token)).await;
        }
        Ok(json!({ "name": caller, "revoked": true }))
    };
    rest::respond(outcome.await)
}

pub(crate) async fn rotate(State(ring): Shared, sender: Sender, Path(caller): Path<String>) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::ManageCallers, on_namespace)?;
        let (target, _) = target(&ring, &permit, &caller).await?;
        let (name, namespace) = (target.caller.clone(), target.namespace.clone());
        let made = ring.registry.rotate_caller(target).await?;
        ring.registry.sealed(made.receipt).await?;
        known(&ring, &made).await;
        Ok(token(&name, &namespace, made))
    };
    rest::respond(outcome.await)
}

/// What `POST /v1/callers/{caller}/certificate` takes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificateBody {
    /// The caller's own request, PKCS#10 in PEM; only the public key in it counts.
    request: String,
    /// How long the certificate holds, for example `30d`; 90d when left out, a year at most.
    #[serde(default)]
    expires_in: Option<Span>,
}

/// How long a caller's certificate holds when nobody says so, and at most.
const CERTIFICATE: (Duration, Duration) = (Duration::from_secs(90 * 86_400), Duration::from_secs(365 * 86_400));

pub(crate) async fn certificate(
    State(ring): Shared,
    sender: Sender,
    Path(caller): Path<String>,
    mut body: Body,
) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::ManageCallers, on_namespace)?;
        let (target, token) = target(&ring, &permit, &caller).await?;
        let CertificateBody { request, expires_in } = read(&bytes(&ring, &mut body).await?)?;
        let life = expires_in.map_or(CERTIFICATE.0, |span| span.0.min(CERTIFICATE.1));
        let until = ring.clock.now().plus(life);
        let NameCaller { actor, namespace, caller } = target;
        let token = token.unwrap_or_default();
        let certify = Certify { namespace: namespace.clone(), caller: caller.clone(), token, request, until };
        let certified = ring.supervisor.certify(certify).await?;
        let digest = Digest::of(certified.certificate.as_bytes());
        let note = NoteCertificate { actor, namespace: namespace.clone(), caller: caller.clone(), digest, until };
        let receipt = ring.registry.note_certificate(note).await?;
        ring.registry.sealed(receipt).await?;
        Ok(json!({ "name": caller, "namespace": namespace, "certificate": certified.certificate, "expires": until }))
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}
