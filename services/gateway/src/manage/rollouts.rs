//! Challengers: how they stand, and a person's word on them.

use std::sync::Arc;

use access::Action;
use axum::{body::Body, extract::State, response::Response};
use rpc::trainer::{Say, Word};
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
    reason: String,
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

pub(crate) async fn decide(
    State(ring): Shared,
    sender: Sender,
    Path((model, challenger, say)): Path<(String, String, String)>,
    mut body: Body,
) -> Response {
    let outcome = async {
        let model: ModelName = model.parse()?;
        let permit = permit(&ring, &sender, Action::Deploy, on_model(&model))?;
        let challenger = challenger.parse().map(Version).map_err(|_| {
            Refusal::new(Code::VersionNotFound, format!("`{challenger}` is no version")).hint("see `mantlet rollouts`")
        })?;
        let say = match say.as_str() {
            "approve" => Say::Approve,
            "reject" => Say::Reject,
            "undo" => Say::Undo,
            _ => return Err(Refusal::new(Code::PathNotFound, "a challenger can be approved, rejected or undone")),
        };
        let WordBody { reason } = read(&bytes(&ring, &mut body).await?)?;
        if reason.trim().is_empty() || reason.chars().count() > REASON {
            let what = format!("the reason is 1 to {REASON} characters");
            return Err(Refusal::new(Code::RequestMalformed, what).hint("say why: --reason"));
        }
        let word = Word {
            actor: permit.principal().subject(),
            namespace: permit.namespace().clone(),
            model,
            challenger,
            say,
            reason,
        };
        ring.trainer.decide(word).await
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}
