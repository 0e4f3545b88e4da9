//! The `/v1` API: models, callers, policies, what was recorded, the ledger; the same identify and authorize as a prediction.

mod audit;
mod callers;
mod clean;
mod evaluation;
mod examples;
mod feedback;
mod incidents;
mod jobs;
mod keys;
mod models;
mod namespaces;
mod openapi;
mod plan;
mod policy;
mod predictions;
mod publishers;
mod rollouts;
mod secrets;
mod sent;

use std::sync::Arc;

use access::{Action, Permit, Resource};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    response::Response,
    routing::{delete, get, post, put},
};
use serde::de::DeserializeOwned;
use types::{Code, ModelName, Namespace, Refusal};

use crate::{Ring, extract::Sender, metric::openmetrics, rest};

/// The largest JSON body of a management call.
const SMALL: u64 = 1 << 20;

/// Every management path.
pub(crate) fn routes() -> Router<Arc<Ring>> {
    Router::new()
        .route("/v1/models", get(models::list))
        .route("/v1/models/{model}", get(models::show).delete(models::remove))
        .route("/v1/models/{model}/rollback", post(models::rollback))
        .route("/v1/models/{model}/scale", post(plan::scale))
        .route("/v1/models/{model}/split", put(sent::split).delete(sent::unsplit))
        .route("/v1/models/{model}/pins/{caller}", put(sent::pin).delete(sent::unpin))
        .route("/v1/plan", get(plan::show).post(plan::what_if))
        .route("/v1/models/{model}/bundle", get(models::bundle))
        .route("/v1/models/{model}/bundle/{file}", get(models::bundle_file))
        .route("/v1/models/{model}/evaluation", get(evaluation::show))
        .route("/v1/models/{model}/examples", get(examples::list))
        .route("/v1/models/{model}/contributors/{say}", post(rollouts::look_at))
        .route("/v1/models/{model}/clean", get(clean::show).put(clean::put).delete(clean::remove))
        .route("/v1/models/{model}/retrain", post(jobs::retrain))
        .route("/v1/models/{model}/revert", post(rollouts::revert))
        .route("/v1/models/{model}/jobs", get(jobs::list))
        .route("/v1/rollouts", get(rollouts::list))
        .route("/v1/rollouts/{model}/{challenger}", get(rollouts::explain))
        .route("/v1/rollouts/{model}/{challenger}/{say}", post(rollouts::decide))
        .route("/v1/incidents", get(incidents::list))
        .route("/v1/incidents/{incident}", get(incidents::show))
        .route("/v1/incidents/{incident}/{say}", post(incidents::say))
        .route("/v1/restrictions", post(incidents::restrict))
        .route("/v1/agents", get(incidents::agents))
        .route("/v1/feedback", post(feedback::take))
        .route("/v1/deploys", post(models::deploy))
        .route("/v1/callers", get(callers::list).post(callers::add))
        .route("/v1/callers/{caller}", delete(callers::revoke))
        .route("/v1/callers/{caller}/certificate", post(callers::certificate))
        .route("/v1/callers/{caller}/rotate", post(callers::rotate))
        .route("/v1/keys", get(keys::list))
        .route("/v1/keys/{key}/rotate", post(keys::rotate))
        .route("/v1/keys/{key}/retire", post(keys::retire))
        .route("/v1/publishers", get(publishers::list).post(publishers::add))
        .route("/v1/publishers/{fingerprint}", delete(publishers::revoke))
        .route("/v1/secrets", get(secrets::list))
        .route("/v1/secrets/{secret}", put(secrets::set).delete(secrets::remove))
        .route("/v1/namespaces", get(namespaces::list))
        .route("/v1/namespaces/{namespace}", put(namespaces::set).delete(namespaces::reset))
        .route("/v1/policy", get(policy::show).put(policy::set).delete(policy::reset))
        .route("/v1/policy/check", get(policy::check))
        .route("/v1/predictions", delete(predictions::forget_caller))
        .route("/v1/predictions/{prediction}", delete(predictions::forget))
        .route("/v1/predictions/{prediction}/proof", get(predictions::proof))
        .route("/v1/replay", post(predictions::replay))
        .route("/v1/ledger", get(audit::ledger))
        .route("/v1/ledger/consistency", get(audit::consistency))
        .route("/v1/log/checkpoint", get(audit::checkpoint))
        .route("/v1/log/tile/{*path}", get(audit::tile))
        .route("/v1/uploads", put(models::upload))
        .route("/openapi.json", get(openapi::document))
        .route("/metrics", get(metrics))
}

/// Who sends these headers, when the policies let them do it.
fn permit(
    ring: &Ring,
    sender: &Sender,
    action: Action,
    resource: impl FnOnce(&Namespace) -> Resource,
) -> Result<Permit, Refusal> {
    let principal = rest::identify(ring, sender)?;
    let resource = resource(principal.namespace());
    ring.authorize(principal, action, resource)
}

fn on_model(name: &ModelName) -> impl FnOnce(&Namespace) -> Resource + use<> {
    let name = name.clone();
    |namespace| Resource::Model(namespace.clone(), name)
}

fn on_namespace(namespace: &Namespace) -> Resource {
    Resource::Namespace(namespace.clone())
}

/// A JSON body as a type.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        Refusal::new(Code::RequestMalformed, format!("the body can't be read: {error}"))
            .hint("GET /openapi.json says what it holds")
    })
}

/// A whole body, read once it is known that its sender may send one.
async fn bytes(ring: &Ring, body: &mut Body) -> Result<Bytes, Refusal> {
    let read = rest::body::read(body, SMALL, ring.limits.idle);
    tokio::time::timeout(ring.limits.deadline, read)
        .await
        .unwrap_or_else(|_| Err(rest::body::slow(ring.limits.deadline)))
}

/// Answers; what a refused client still sends is read, so that it gets the refusal.
async fn settle(outcome: Result<impl serde::Serialize, Refusal>, mut body: Body) -> Response {
    if outcome.is_err() {
        rest::body::drain(&mut body).await;
    }
    rest::respond(outcome)
}

async fn metrics(State(ring): State<Arc<Ring>>, sender: Sender) -> Response {
    match permit(&ring, &sender, Action::Metrics, |_| Resource::Node) {
        Ok(_) => {
            let text = (ring.render)();
            let (text, kind) = match openmetrics::wanted(&sender.headers) {
                true => (ring.metrics.open_metrics(&text), openmetrics::TYPE),
                false => (text, "text/plain; version=0.0.4"),
            };
            let mut response = Response::new(text.into());
            let kind = http::HeaderValue::from_static(kind);
            response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
            response
        }
        Err(refusal) => rest::refuse(&refusal),
    }
}
