//! Challengers and contributors: how they stand, and a person's word on them.

use std::sync::Arc;

use access::{Action, Permit};
use axum::{body::Body, extract::State, response::Response};
use rpc::{
    registry::RecordWord,
    trainer::{Explain, Look, Revert, Ruling, Word},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use types::{Code, ModelName, Refusal, Version};

use super::{bytes, on_model, on_namespace, permit, read, settle};
use crate::{
    Ring,
    extract::{Path, Sender},
    rest,
};

type Shared = State<Arc<Ring>>;

/// What a word on a challenger takes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WordBody {
    /// Why; it goes into the ledger.
    pub(super) reason: String,
}

/// Takes a person's word on a contributor: its labels may teach, or may not.
pub(crate) async fn look_at(
    State(ring): Shared,
    sender: Sender,
    Path((model, say)): Path<(String, String)>,
    mut body: Body,
) -> Response {
    let outcome = async {
        let model: ModelName = model.parse()?;
        let permit = permit(&ring, &sender, Action::Deploy, on_model(&model))?;
        let trust = match say.as_str() {
            "trust" => true,
            "distrust" => false,
            _ => return Err(Refusal::new(Code::PathNotFound, "a contributor can be trusted or distrusted")),
        };
        let LookBody { contributor, reason } = read(&bytes(&ring, &mut body).await?)?;
        let reason = said(reason)?;
        let (actor, namespace) = (permit.principal().subject(), permit.namespace().clone());
        let subject = format!("contributor:{namespace}/{model}/{contributor}");
        let look = Look {
            actor: actor.clone(),
            namespace: namespace.clone(),
            model,
            contributor,
            trust,
            reason: reason.clone(),
        };
        ring.trainer.look_at(look).await?;
        let action = if trust { "labels.trust" } else { "labels.distrust" };
        note(&ring, RecordWord { actor, namespace, action: action.into(), subject, reason }).await?;
        Ok(serde_json::json!({ "trusted": trust }))
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}

/// A person's word on a model, as the ledger has it.
pub(super) fn word(permit: &Permit, model: &ModelName, action: &str, reason: String) -> RecordWord {
    let namespace = permit.namespace().clone();
    RecordWord {
        actor: permit.principal().subject(),
        action: action.to_owned(),
        subject: format!("model:{namespace}/{model}"),
        namespace,
        reason,
    }
}

/// Returns once the ledger durably holds a person's word, and so whatever followed from it before.
pub(super) async fn note(ring: &Ring, word: RecordWord) -> Result<(), Refusal> {
    let receipt = ring.registry.record_word(word).await?;
    ring.registry.sealed(receipt).await
}

/// What a word on a contributor takes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LookBody {
    /// The contributor, as the evaluation shows it.
    contributor: String,
    /// Why; it goes into the ledger.
    reason: String,
}

/// Why somebody decides something.
pub(super) fn said(reason: String) -> Result<String, Refusal> {
    if reason.trim().is_empty() || reason.chars().count() > REASON {
        let what = format!("the reason is 1 to {REASON} characters");
        return Err(Refusal::new(Code::RequestMalformed, what).hint("say why: --reason"));
    }
    Ok(reason)
}

/// Characters of a reason, at most.
const REASON: usize = 1_000;

pub(crate) async fn list(State(ring): Shared, sender: Sender) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::Read, on_namespace)?;
        ring.trainer.rollouts(permit.namespace().clone()).await
    };
    rest::respond(outcome.await)
}

pub(crate) async fn explain(
    State(ring): Shared,
    sender: Sender,
    Path((model, challenger)): Path<(String, String)>,
) -> Response {
    let outcome = async {
        let model: ModelName = model.parse()?;
        let permit = permit(&ring, &sender, Action::Read, on_model(&model))?;
        let (namespace, challenger) = (permit.namespace().clone(), version(&challenger)?);
        ring.trainer.explain(Explain { namespace, model, challenger }).await
    };
    rest::respond(outcome.await)
}

fn version(text: &str) -> Result<Version, Refusal> {
    text.parse().map(Version).map_err(|_| {
        Refusal::new(Code::VersionNotFound, format!("`{text}` is no version")).hint("see `mantlet rollouts`")
    })
}

/// What going back to an earlier state takes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RevertBody {
    /// The state, as the evaluation names it; the one before the newest when left out.
    #[serde(default)]
    snapshot: Option<u64>,
    /// Why; it goes into the ledger.
    reason: String,
}

/// Lets a version that learns forget what it has learnt since an earlier state.
pub(crate) async fn revert(State(ring): Shared, sender: Sender, Path(model): Path<String>, mut body: Body) -> Response {
    let outcome = async {
        let model: ModelName = model.parse()?;
        let permit = permit(&ring, &sender, Action::Deploy, on_model(&model))?;
        let RevertBody { snapshot, reason } = read(&bytes(&ring, &mut body).await?)?;
        let reason = said(reason)?;
        let revert = Revert { namespace: permit.namespace().clone(), model: model.clone(), snapshot };
        let learning = ring.trainer.revert(revert).await?;
        let reason = format!("version {}: {reason}", learning.version);
        note(&ring, word(&permit, &model, "model.revert", reason)).await?;
        Ok(learning)
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}

pub(crate) async fn decide(
    State(ring): Shared,
    sender: Sender,
    Path((model, challenger, said_as)): Path<(String, String, String)>,
    mut body: Body,
) -> Response {
    let outcome = async {
        let model: ModelName = model.parse()?;
        let permit = permit(&ring, &sender, Action::Deploy, on_model(&model))?;
        let challenger = version(&challenger)?;
        let say = match said_as.as_str() {
            "approve" => Ruling::Approve,
            "reject" => Ruling::Reject,
            "undo" => Ruling::Undo,
            "pause" => Ruling::Pause,
            "resume" => Ruling::Resume,
            _ => {
                let what = "a challenger can be approved, rejected or undone; or it is to pause, or to resume";
                return Err(Refusal::new(Code::PathNotFound, what));
            }
        };
        let WordBody { reason } = read(&bytes(&ring, &mut body).await?)?;
        let reason = said(reason)?;
        let record = word(&permit, &model, &format!("rollout.{said_as}"), format!("version {challenger}: {reason}"));
        let (actor, namespace) = (record.actor.clone(), record.namespace.clone());
        let decided = ring.trainer.decide(Word { actor, namespace, model, challenger, say, reason }).await?;
        note(&ring, record).await?;
        Ok(decided)
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}
