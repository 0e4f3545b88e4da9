//! Where requests of a model go that name no version: a split over versions, and callers that are pinned to one.

use std::sync::Arc;

use access::Action;
use axum::{body::Body, extract::State, response::Response};
use rpc::{
    orchestrator::{Part, SendTo, SendWhat, Sent, Shadow},
    registry::Select,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use types::{
    CallerName, Code, ModelName, Namespace, Refusal, Version,
    quantity::{Share, Span},
};

use super::{bytes, on_model, permit, read, rollouts::said, settle};
use crate::{
    Ring,
    extract::{Path, Query, Sender},
    rest,
};

type Shared = State<Arc<Ring>>;

/// What `PUT /v1/models/{model}/split` takes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SplitBody {
    /// Versions with their shares of the requests that name none; the rest goes to the version that answers.
    parts: Vec<PartBody>,
    /// Whether a caller always gets the same version; each request is drawn where not.
    #[serde(default)]
    sticky: bool,
    /// How long it lasts, for example `7d`; until somebody ends it when left out.
    #[serde(default)]
    lasts: Option<Span>,
    /// Why; it goes into the ledger.
    reason: String,
    /// The generation that must stand, as `GET /v1/models/{model}` says it; whatever stands when left out.
    #[serde(default)]
    expect: Option<u64>,
}

/// A version with its share.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartBody {
    /// Which.
    version: Version,
    /// For example `10%`.
    share: Share,
}

/// What `PUT /v1/models/{model}/pins/{caller}` takes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PinBody {
    /// The version that the caller's requests go to.
    version: Version,
    /// Why; it goes into the ledger.
    reason: String,
}

/// Why something ends.
#[derive(Debug, Deserialize)]
pub(crate) struct Why {
    #[serde(default)]
    reason: String,
}

pub(crate) async fn split(State(ring): Shared, sender: Sender, Path(model): Path<String>, mut body: Body) -> Response {
    let outcome = async {
        let target = Target::of(&ring, &sender, &model)?;
        let SplitBody { parts, sticky, lasts, reason, expect } = read(&bytes(&ring, &mut body).await?)?;
        let parts = parts.into_iter().map(|PartBody { version, share }| Part { version, share }).collect();
        let expires = lasts.map(|span| ring.clock.now().plus(span.0));
        target.send(&ring, SendWhat::Split { parts, sticky, expires }, (reason, expect)).await
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}

pub(crate) async fn unsplit(
    State(ring): Shared,
    sender: Sender,
    Path(model): Path<String>,
    Query(Why { reason }): Query<Why>,
) -> Response {
    let outcome = async { Target::of(&ring, &sender, &model)?.send(&ring, SendWhat::Unsplit, (reason, None)).await };
    rest::respond(outcome.await)
}

pub(crate) async fn pin(
    State(ring): Shared,
    sender: Sender,
    Path((model, caller)): Path<(String, String)>,
    mut body: Body,
) -> Response {
    let outcome = async {
        let target = Target::of(&ring, &sender, &model)?;
        let PinBody { version, reason } = read(&bytes(&ring, &mut body).await?)?;
        let caller: CallerName = caller.parse()?;
        let callers = ring.registry.callers(Select { namespace: target.namespace.clone(), model: None }).await?;
        if !callers.iter().any(|known| known.caller == caller) {
            return Err(Refusal::new(Code::CallerNotFound, format!("there is no caller `{caller}` here"))
                .hint("see `mantlet callers list`"));
        }
        target.send(&ring, SendWhat::Pin(caller, version), (reason, None)).await
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}

pub(crate) async fn unpin(
    State(ring): Shared,
    sender: Sender,
    Path((model, caller)): Path<(String, String)>,
    Query(Why { reason }): Query<Why>,
) -> Response {
    let outcome = async {
        let target = Target::of(&ring, &sender, &model)?;
        target.send(&ring, SendWhat::Unpin(caller.parse()?), (reason, None)).await
    };
    rest::respond(outcome.await)
}

/// Whose requests are sent, and who says so.
struct Target {
    namespace: Namespace,
    model: ModelName,
    author: String,
}

impl Target {
    fn of(ring: &Ring, sender: &Sender, model: &str) -> Result<Self, Refusal> {
        let model: ModelName = model.parse()?;
        let permit = permit(ring, sender, Action::Deploy, on_model(&model))?;
        Ok(Self { namespace: permit.namespace().clone(), model, author: permit.principal().subject() })
    }

    async fn send(
        self,
        ring: &Ring,
        send: SendWhat,
        (reason, expect): (String, Option<u64>),
    ) -> Result<serde_json::Value, Refusal> {
        let reason = said(reason)?;
        let named: Vec<Version> = match &send {
            SendWhat::Split { parts, .. } => parts.iter().map(|part| part.version).collect(),
            SendWhat::Pin(_, version) => vec![*version],
            SendWhat::Unsplit | SendWhat::Unpin(_) => Vec::new(),
        };
        let versions = self.versions(ring, &named).await?;
        let Self { namespace, model, author } = self;
        let key = (namespace.clone(), model.clone());
        let request = SendTo { namespace, model: model.clone(), send, versions, author, reason, expect };
        let submitted = ring.orchestrator.send(request).await?;
        ring.registry.sealed(submitted.receipt).await?;
        let of = rpc::orchestrator::StatusOf { namespace: key.0.clone(), model: Some(model.clone()) };
        let status = ring.orchestrator.status(of).await?.into_iter().next();
        let (sent, generation) = status.map(|status| status.sent).unwrap_or_default();
        ring.until(|ring| ring.model(&key).is_ok_and(|model| model.route.sent == sent)).await;
        Ok(shown(&model, &sent, generation, &[]))
    }

    /// The versions that are named, with bundle and manifest; each must be there, and allowed to answer.
    async fn versions(&self, ring: &Ring, named: &[Version]) -> Result<Vec<Shadow>, Refusal> {
        if named.is_empty() {
            return Ok(Vec::new());
        }
        let select = Select { namespace: self.namespace.clone(), model: Some(self.model.clone()) };
        let known = ring.registry.versions(select).await?;
        let mut versions = Vec::new();
        for record in known.into_iter().filter(|record| named.contains(&record.version)) {
            ring.registry.may_answer(record.clone()).await?;
            let (version, digest) = (record.version, record.digest);
            versions.push(Shadow { version, digest, manifest: record.manifest, share: None });
        }
        Ok(versions)
    }
}

/// Where requests go, as people and programs see it; nothing where nobody says anything.
pub(super) fn shown(model: &ModelName, sent: &Sent, generation: u64, absent: &[Version]) -> serde_json::Value {
    json!({ "name": model, "split": sent.split, "pins": sent.pins, "generation": generation, "absent": absent })
}
