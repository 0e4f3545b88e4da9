//! Incidents: who attacked, what was done about it, and a person's word on that.

mod ocsf;

use std::sync::Arc;

use access::{Action, Permit};
use axum::{body::Body, extract::State, response::Response};
use rpc::sentinel::{IncidentsOf, Restrict, Said, Say, Settled};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use types::{
    Code, ModelName, Refusal,
    defence::{Rung, Subject},
    quantity::Span,
};

use super::{
    bytes, on_namespace, permit, read,
    rollouts::{WordBody, said},
    settle,
};
use crate::{
    Ring,
    extract::{Path, Query, Sender},
    rest,
};

type Shared = State<Arc<Ring>>;

/// Incidents that are told of at once, at most.
const MOST: u32 = 1_000;
const USUAL: u32 = 100;

/// Which incidents, and how they are told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    format: Option<String>,
}

fn of(permit: &Permit, id: Option<String>, limit: u32) -> IncidentsOf {
    IncidentsOf { namespace: permit.namespace().clone(), node: permit.principal().node_wide(), id, limit }
}

pub(crate) async fn list(State(ring): Shared, sender: Sender, Query(wanted): Query<Wanted>) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::Audit, on_namespace)?;
        let limit = wanted.limit.unwrap_or(USUAL).min(MOST);
        let incidents = ring.sentinel.incidents(of(&permit, None, limit)).await?;
        match wanted.format.as_deref() {
            None | Some("json") => Ok(serde_json::json!(incidents)),
            Some("ocsf") => Ok(incidents.iter().map(ocsf::finding).collect()),
            Some(other) => {
                Err(Refusal::new(Code::RequestMalformed, format!("`{other}` is no format")).hint("it is json or ocsf"))
            }
        }
    };
    rest::respond(outcome.await)
}

pub(crate) async fn show(State(ring): Shared, sender: Sender, Path(id): Path<String>) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::Audit, on_namespace)?;
        let found = ring.sentinel.incidents(of(&permit, Some(id.clone()), 1)).await?;
        found
            .into_iter()
            .next()
            .ok_or_else(|| Refusal::new(Code::IncidentNotFound, format!("there is no incident `{id}`")))
    };
    rest::respond(outcome.await)
}

pub(crate) async fn say(
    State(ring): Shared,
    sender: Sender,
    Path((id, word)): Path<(String, String)>,
    mut body: Body,
) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::ManageCallers, on_namespace)?;
        let say = match word.as_str() {
            "approve" => Say::Approve,
            "reject" => Say::Reject,
            "undo" => Say::Undo,
            _ => return Err(Refusal::new(Code::PathNotFound, "an action can be approved, rejected or undone")),
        };
        let WordBody { reason } = read(&bytes(&ring, &mut body).await?)?;
        let (actor, reason) = (permit.principal().subject(), said(reason)?);
        let (namespace, node) = (permit.namespace().clone(), permit.principal().node_wide());
        let Settled { incident, receipt } =
            ring.sentinel.say(Said { actor, namespace, node, id, say, reason: reason.clone() }).await?;
        if let (Say::Undo | Say::Reject, Subject::Contributor(namespace, model, contributor)) = (say, &incident.subject)
        {
            // Who holds its labels back is the trainer.
            let (namespace, model, contributor) = (namespace.clone(), model.clone(), contributor.clone());
            let actor = permit.principal().subject();
            ring.trainer
                .look_at(rpc::trainer::Look { actor, namespace, model, contributor, trust: true, reason })
                .await?;
        }
        ring.registry.sealed(receipt).await?;
        Ok(incident)
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}

/// What restricting somebody takes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RestrictBody {
    /// Whom: a caller by its name, or `source:ADDRESS` for requests without a credential.
    subject: String,
    /// How far: throttle, degrade, quarantine, block or revoke.
    rung: Rung,
    /// At this model alone.
    #[serde(default)]
    model: Option<ModelName>,
    /// For so long, like `1h`; until it is undone where it is left out.
    #[serde(default, rename = "for")]
    lasts: Option<Span>,
    /// Why; it goes into the ledger.
    reason: String,
}

pub(crate) async fn restrict(State(ring): Shared, sender: Sender, mut body: Body) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::ManageCallers, on_namespace)?;
        let RestrictBody { subject, rung, model, lasts, reason } = read(&bytes(&ring, &mut body).await?)?;
        let reason = said(reason)?;
        let wrong = |what: String| Refusal::new(Code::RequestMalformed, what);
        let subject = match subject.contains(':') {
            true => subject,
            false => format!("caller:{}/{subject}", permit.namespace()),
        };
        let subject: Subject =
            subject.parse().map_err(|error: types::defence::SubjectError| wrong(error.to_string()))?;
        match &subject {
            Subject::Caller(namespace, caller) => {
                if namespace != permit.namespace() {
                    return Err(Refusal::new(Code::CallerNotFound, format!("`{subject}` is not of this namespace")));
                }
                if namespace == permit.principal().home() && caller == permit.principal().caller() {
                    return Err(wrong("nobody restricts himself".into()));
                }
            }
            Subject::Source(_) if permit.principal().node_wide() => {
                if rung > Rung::Throttle {
                    return Err(wrong(
                        "an address can be throttled alone: it shows nothing of who is behind it".into(),
                    ));
                }
            }
            _ => return Err(wrong("callers can be restricted, and addresses by whoever runs the node".into())),
        }
        if rung == Rung::Observe {
            return Err(wrong("observe restricts nothing".into()).hint("`mantlet undo` takes a restriction back"));
        }
        let lasts_ms = lasts.map(|span| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX));
        let actor = permit.principal().subject();
        let Settled { incident, receipt } =
            ring.sentinel.restrict(Restrict { actor, subject, model, rung, lasts_ms, reason }).await?;
        ring.registry.sealed(receipt).await?;
        Ok(incident)
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}

pub(crate) async fn agents(State(ring): Shared, sender: Sender) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::Audit, on_namespace)?;
        ring.sentinel.agents(Some(permit.namespace().clone())).await
    };
    rest::respond(outcome.await)
}
