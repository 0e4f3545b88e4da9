//! Policies of the namespace: show, set, take back, and say who may do what, and why.

use std::sync::Arc;

use access::{Action, Asker, POLICIES, Resource, SCHEMA};
use axum::{body::Body, extract::State, response::Response};
use rpc::registry::{Select, SetPolicy};
use serde::Deserialize;
use serde_json::{Value, json};
use types::{CallerName, Code, ModelName, Refusal};

use super::{bytes, on_namespace, permit, settle};
use crate::{
    Ring,
    extract::{Query, Sender},
    rest,
};

type Shared = State<Arc<Ring>>;

pub(crate) async fn show(State(ring): Shared, sender: Sender) -> Response {
    let shown = permit(&ring, &sender, Action::ManagePolicies, on_namespace).map(|permit| {
        let namespace = permit.namespace();
        json!({ "namespace": namespace, "own": ring.policy(namespace), "default": POLICIES, "schema": SCHEMA })
    });
    rest::respond(shown)
}

pub(crate) async fn set(State(ring): Shared, sender: Sender, mut body: Body) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::ManagePolicies, on_namespace)?;
        let text = String::from_utf8(bytes(&ring, &mut body).await?.to_vec())
            .map_err(|_| Refusal::new(Code::PolicyInvalid, "the policies are no UTF-8 text"))?;
        change(&ring, &permit, Some(text)).await
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}

pub(crate) async fn reset(State(ring): Shared, sender: Sender) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::ManagePolicies, on_namespace)?;
        change(&ring, &permit, None).await
    };
    rest::respond(outcome.await)
}

async fn change(ring: &Ring, permit: &access::Permit, text: Option<String>) -> Result<Value, Refusal> {
    let namespace = permit.namespace().clone();
    let own = text.is_some();
    let request = SetPolicy { actor: permit.principal().subject(), namespace: namespace.clone(), text: text.clone() };
    let receipt = ring.registry.set_policy(request).await?;
    ring.registry.sealed(receipt).await?;
    ring.until(|ring| ring.policy(&namespace) == text).await;
    Ok(json!({ "namespace": namespace, "own": own }))
}

/// What is asked; whatever is left out stands for all.
#[derive(Debug, Deserialize)]
pub(crate) struct Question {
    #[serde(default)]
    caller: Option<CallerName>,
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    model: Option<ModelName>,
}

pub(crate) async fn check(State(ring): Shared, sender: Sender, Query(question): Query<Question>) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::ManagePolicies, on_namespace)?;
        let namespace = permit.namespace().clone();
        let callers = ring.registry.callers(Select { namespace: namespace.clone(), model: None }).await?;
        let callers: Vec<_> = callers
            .iter()
            .filter(|known| question.caller.as_ref().is_none_or(|wanted| *wanted == known.caller))
            .collect();
        if let (Some(wanted), true) = (&question.caller, callers.is_empty()) {
            return Err(Refusal::new(Code::CallerNotFound, format!("there is no caller `{wanted}` in `{namespace}`"))
                .hint("`mantlet callers list` shows the callers"));
        }
        let actions: Vec<Action> = Action::ALL
            .into_iter()
            .filter(|action| question.action.as_deref().is_none_or(|wanted| wanted == action.as_str()))
            .collect();
        if actions.is_empty() {
            let known: Vec<&str> = Action::ALL.iter().map(|action| action.as_str()).collect();
            return Err(Refusal::new(Code::RequestMalformed, "there is no such action")
                .hint(format!("actions are {}", known.join(", "))));
        }
        let mut models: Vec<ModelName> = match &question.model {
            Some(model) => vec![model.clone()],
            None => ring.models(&namespace).iter().map(|model| model.route.manifest.metadata.name.clone()).collect(),
        };
        models.sort();
        let mut resources: Vec<Resource> =
            models.into_iter().map(|model| Resource::Model(namespace.clone(), model)).collect();
        if question.model.is_none() {
            resources.extend([Resource::Namespace(namespace.clone()), Resource::Node]);
        }
        let mut rows = Vec::new();
        for known in callers {
            let asker = Asker {
                home: &known.namespace,
                caller: &known.caller,
                roles: &known.roles,
                node_wide: known.node_wide,
            };
            for (action, resource) in actions.iter().flat_map(|action| resources.iter().map(move |r| (action, r))) {
                if !action.applies_to(resource) {
                    continue;
                }
                let why = ring.authorizer.explain(asker, *action, resource);
                rows.push(json!({
                    "caller": known.caller, "action": action.as_str(), "resource": resource.to_string(),
                    "allowed": why.allowed, "policies": why.policies,
                }));
            }
        }
        Ok(rows)
    };
    rest::respond(outcome.await)
}
