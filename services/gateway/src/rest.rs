//! The REST door of the Open Inference Protocol v2.

pub(crate) mod body;
mod codec;

use std::{collections::HashMap, sync::Arc, time::Duration};

use access::{Action, Credential, Principal, Resource};
use axum::{
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use types::{Code, ModelName, PredictionId, Refusal, Version, infer::TensorSpec};

use crate::{
    Ring,
    extract::{Asking, Path, Sender},
    pipeline::{Call, Head, balance::stopped, predict},
    ring::Model,
    sense::Asker,
    trace::Door,
};
pub(crate) use codec::RestBody;

/// The header that carries a prediction's id.
pub(crate) const PREDICTION: &str = "mantlet-prediction-id";
/// Where inferences are asked for, of the version that answers and of one that is named.
pub(crate) const INFER: &str = "/v2/models/{model}/infer";
pub(crate) const INFER_VERSION: &str = "/v2/models/{model}/versions/{version}/infer";
/// The header by which node-wide principals name their namespace.
pub(crate) const NAMESPACE: &str = "mantlet-namespace";
/// The header that says how a request matters inside its namespace; one in the body would come too late.
pub(crate) const PRIORITY: &str = "mantlet-priority";
/// What the server is called, as clients of the protocol read it.
pub(crate) const SERVER: &str = "mantlet";
/// What it can do beyond the protocol's core.
pub(crate) const EXTENSIONS: [&str; 3] = ["binary_tensor_data", "model_repository", "statistics"];

type Params = Path<HashMap<String, String>>;

/// A refusal as problem details (RFC 9457).
pub(crate) fn refuse(refusal: &Refusal) -> Response {
    let body = serde_json::to_vec(&refusal.problem()).unwrap_or_default();
    let mut response = Response::new(body.into());
    *response.status_mut() = refusal.code.http();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(millis) = refusal.retry_after_ms {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(millis.div_ceil(1000)));
    }
    if refusal.code.http() == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A value as JSON.
pub(crate) fn answer(value: &impl serde::Serialize) -> Response {
    let mut response = Response::new(serde_json::to_vec(value).unwrap_or_default().into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Answers with a value, or refuses.
pub(crate) fn respond(outcome: Result<impl serde::Serialize, Refusal>) -> Response {
    match outcome {
        Ok(value) => answer(&value),
        Err(refusal) => refuse(&refusal),
    }
}

/// A header's text. What is none is not passed over: it comes out as something that nobody accepts.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The head of a call, as its headers say; `timeout` is the client's own.
pub(crate) fn head<'a>(ring: &Ring, asking: impl Into<Asking<'a>>, door: Door, timeout: Option<Duration>) -> Head {
    let Asking { headers, peer } = asking.into();
    let received = tokio::time::Instant::now();
    let limit = timeout.unwrap_or(ring.limits.deadline).min(ring.limits.longest_deadline);
    Head {
        prediction: PredictionId(uuid::Uuid::now_v7()),
        authorization: headers.get(header::AUTHORIZATION).map(|value| value.as_bytes().to_vec()),
        peer: peer.cloned(),
        namespace: text(headers, NAMESPACE),
        priority: text(headers, PRIORITY),
        received,
        deadline: received + limit,
        trace: ring.tracer.as_ref().and_then(|tracer| tracer.begin(headers, door, &ring.clock)),
    }
}

/// Who sends these headers.
pub(crate) fn identify<'a>(ring: &Ring, asking: impl Into<Asking<'a>>) -> Result<Principal, Refusal> {
    let Asking { headers, peer } = asking.into();
    let authorization = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let credential = Credential { authorization, peer: peer.map(AsRef::as_ref) };
    let namespace = headers.get(NAMESPACE).map(|value| value.to_str());
    let namespace = namespace.transpose().map_err(|_| Refusal::new(Code::NameInvalid, "the namespace is no text"))?;
    let identified = ring.identifier.identify(credential, namespace, ring.clock.now());
    let principal = identified.inspect_err(|refusal| ring.deny(None, "identify", "this node".into(), refusal))?;
    // Who is not answered at all is not answered here either; what holds at a model alone is for its predictions.
    if !ring.restrictions.is_empty() {
        let asker = Asker::of(&principal);
        if !asker.admin {
            ring.restrictions.admit(&asker.subject, None, ring.clock.steady())?;
        }
    }
    Ok(principal)
}

fn model_name(params: &HashMap<String, String>) -> Result<(ModelName, Option<Version>), Refusal> {
    let name = params.get("model").map_or("", String::as_str).parse()?;
    let version = params.get("version").map_or("", String::as_str);
    Ok((name, rpc::oip::read_version(version)?))
}

/// A model that the sender of these headers may read.
fn readable(
    ring: &Ring,
    sender: &Sender,
    params: &HashMap<String, String>,
) -> Result<(ModelName, Option<Version>, Arc<Model>), Refusal> {
    let principal = identify(ring, sender)?;
    let (name, version) = model_name(params)?;
    let model = read(ring, principal, &name, version)?;
    Ok((name, version, model))
}

/// The model, for a principal that may read it.
pub(crate) fn read(
    ring: &Ring,
    principal: Principal,
    name: &ModelName,
    version: Option<Version>,
) -> Result<Arc<Model>, Refusal> {
    let namespace = principal.namespace().clone();
    let resource = Resource::Model(namespace.clone(), name.clone());
    ring.authorize(principal, Action::Read, resource)?;
    let model = ring.model(&(namespace, name.clone()))?;
    if let Some(version) = version
        && version != model.route.current
        && !model.has_replica(version)
    {
        return Err(Refusal::new(Code::VersionNotFound, format!("version {version} of `{name}` has no replica"))
            .hint(format!("version {} answers", model.route.current)));
    }
    Ok(model)
}

/// Whether a replica of the version that answers, or of the one named, is ready. One that sleeps is: the first request has its answer
/// after a start, and who looks first must not wait for who asks.
pub(crate) fn is_ready(model: &Model, version: Option<Version>) -> bool {
    let current = model.route.current;
    let version = version.unwrap_or(current);
    model.has_replica(version) || (version == current && model.route.asleep)
}

/// What a model takes and gives; what its replica said, or what its manifest declares until one was ready.
pub(crate) fn specs(model: &Model) -> (Vec<TensorSpec>, Vec<TensorSpec>) {
    if let Some(metadata) = &model.route.metadata {
        return (metadata.inputs.clone(), metadata.outputs.clone());
    }
    let declared = model.route.manifest.spec.inputs.iter().map(|input| TensorSpec {
        name: input.name.clone(),
        datatype: input.datatype,
        shape: input.shape.clone().unwrap_or_default(),
        classes: Vec::new(),
    });
    (declared.collect(), Vec::new())
}

pub(crate) async fn live() -> Response {
    answer(&json!({ "live": true }))
}

pub(crate) async fn ready() -> Response {
    answer(&json!({ "ready": true }))
}

pub(crate) async fn server_metadata(State(ring): State<Arc<Ring>>, sender: Sender) -> Response {
    let described = identify(&ring, &sender)
        .map(|_| json!({ "name": SERVER, "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS }));
    respond(described)
}

pub(crate) async fn metadata(State(ring): State<Arc<Ring>>, sender: Sender, Path(params): Params) -> Response {
    let described = readable(&ring, &sender, &params).map(|(name, version, model)| {
        let (inputs, outputs) = specs(&model);
        let tensor = |spec: &TensorSpec| {
            let mut value = json!({ "name": spec.name, "datatype": spec.datatype, "shape": spec.shape });
            if !spec.classes.is_empty() {
                value["parameters"] = json!({ "classes": spec.classes });
            }
            value
        };
        json!({
            "name": name,
            "versions": [version.unwrap_or(model.route.current).to_string()],
            "platform": "onnxruntime_onnx",
            "inputs": inputs.iter().map(tensor).collect::<Vec<_>>(),
            "outputs": outputs.iter().map(tensor).collect::<Vec<_>>(),
        })
    });
    respond(described)
}

pub(crate) async fn model_ready(State(ring): State<Arc<Ring>>, sender: Sender, Path(params): Params) -> Response {
    let ready = readable(&ring, &sender, &params).and_then(|(name, version, model)| {
        if is_ready(&model, version) {
            return Ok(json!({ "name": name, "ready": true }));
        }
        if let Some(by) = &model.route.stopped {
            return Err(stopped(&model.route.manifest.metadata.name, by));
        }
        let why = model.route.waiting.clone().unwrap_or_else(|| "no replica is ready".into());
        Err(Refusal::new(Code::ModelNotReady, format!("`{name}` is not ready: {why}")))
    });
    respond(ready)
}

pub(crate) async fn config(State(ring): State<Arc<Ring>>, sender: Sender, Path(params): Params) -> Response {
    let described = readable(&ring, &sender, &params).map(|(name, _, model)| {
        let (inputs, outputs) = specs(&model);
        let tensor = |spec: &TensorSpec| {
            json!({ "name": spec.name, "data_type": format!("TYPE_{}", triton_type(spec)), "dims": spec.shape })
        };
        json!({
            "name": name,
            "platform": "onnxruntime_onnx",
            "backend": "onnxruntime",
            "max_batch_size": 0,
            "input": inputs.iter().map(tensor).collect::<Vec<_>>(),
            "output": outputs.iter().map(tensor).collect::<Vec<_>>(),
        })
    });
    respond(described)
}

/// Triton's configuration calls `BYTES` a string.
fn triton_type(spec: &TensorSpec) -> &'static str {
    match spec.datatype {
        types::DataType::Bytes => "STRING",
        other => other.as_str(),
    }
}

/// One model's statistics, as the protocol's extension has them.
fn statistic(ring: &Ring, name: &ModelName, model: &Model) -> Value {
    use std::sync::atomic::Ordering::Relaxed;
    let statistics = &model.statistics;
    let duration = |(count, ns): (u64, u64)| json!({ "count": count, "ns": ns });
    let (success, compute) = (statistics.success.get(), statistics.compute.get());
    let (in_flight, waiting) = ring.admission.load(model.place);
    let queue = (success.0, success.1.saturating_sub(compute.1));
    json!({
        "name": name,
        "version": model.route.current.to_string(),
        "last_inference": statistics.last.load(Relaxed),
        "inference_count": statistics.rows.load(Relaxed),
        "execution_count": compute.0,
        "inference_stats": {
            "success": duration(success),
            "fail": duration(statistics.fail.get()),
            "queue": duration(queue),
            "compute_input": duration((compute.0, 0)),
            "compute_infer": duration(compute),
            "compute_output": duration((compute.0, 0)),
        },
        "batch_stats": [],
        // Beyond the extension: what `mantlet top` shows. Latency is buckets: a bound in microseconds, and a count.
        "mantlet": {
            "in_flight": in_flight,
            "waiting": u64::from(waiting) + statistics.held(),
            "batches": statistics.batches(),
            "latency": statistics.latency.get(),
            "balancer": balancer(model),
        },
    })
}

/// Which rule chooses the replicas of the version that answers, and what that is worth.
fn balancer(model: &Model) -> Value {
    let mode = match model.pools.mode() {
        crate::Balancer::Off => "off",
        crate::Balancer::Shadow => "shadow",
        crate::Balancer::On => "on",
    };
    let standings = model.pools.standings();
    let standing = standings.iter().find(|(version, _)| *version == model.route.current).map(|(_, standing)| standing);
    let rule = if standing.is_some_and(|standing| standing.acts) { "learnt" } else { "pool" };
    let shared = standing.is_some_and(|standing| standing.shared);
    json!({ "mode": mode, "rule": rule, "saved": standing.and_then(|standing| standing.better()), "shared": shared })
}

pub(crate) async fn statistics(State(ring): State<Arc<Ring>>, sender: Sender, Path(params): Params) -> Response {
    let counted = readable(&ring, &sender, &params)
        .map(|(name, _, model)| json!({ "model_stats": [statistic(&ring, &name, &model)] }));
    respond(counted)
}

/// Models of the caller's namespace, for a principal that may read it.
pub(crate) fn readable_models(ring: &Ring, principal: Principal) -> Result<Vec<Arc<Model>>, Refusal> {
    let namespace = principal.namespace().clone();
    ring.authorize(principal, Action::Read, Resource::Namespace(namespace.clone()))?;
    Ok(ring.models(&namespace))
}

pub(crate) async fn all_statistics(State(ring): State<Arc<Ring>>, sender: Sender) -> Response {
    let counted = identify(&ring, &sender).and_then(|principal| readable_models(&ring, principal)).map(|models| {
        let each = models.iter().map(|model| statistic(&ring, &model.route.manifest.metadata.name, model));
        json!({ "model_stats": each.collect::<Vec<_>>() })
    });
    respond(counted)
}

pub(crate) async fn index(State(ring): State<Arc<Ring>>, sender: Sender) -> Response {
    let listed = identify(&ring, &sender).and_then(|principal| readable_models(&ring, principal)).map(|models| {
        let entry = |model: &Arc<Model>| {
            let ready = is_ready(model, None);
            json!({
                "name": model.route.manifest.metadata.name,
                "version": model.route.current.to_string(),
                "state": if ready { "READY" } else { "UNAVAILABLE" },
                "reason": model.route.waiting.clone().unwrap_or_default(),
            })
        };
        models.iter().map(entry).collect::<Vec<_>>()
    });
    respond(listed)
}

pub(crate) async fn infer(State(ring): State<Arc<Ring>>, Path(params): Params, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let route = if params.contains_key("version") { INFER_VERSION } else { INFER };
    let head = head(&ring, &parts, Door::Rest(route), None);
    let (prediction, version) = (head.prediction, parts.version);
    let mut body = RestBody::new(&ring, model_name(&params), parts.headers, body);
    let outcome = predict(&ring, Call { head, body: &mut body }).await;
    let mut response = match outcome.and_then(|reply| codec::write(reply, &body, prediction)) {
        Ok(response) => response,
        Err(refusal) => {
            if version < http::Version::HTTP_2 {
                body.drain().await;
            }
            refuse(&refusal)
        }
    };
    if let Ok(value) = HeaderValue::from_str(&prediction.to_string()) {
        response.headers_mut().insert(PREDICTION, value);
    }
    response
}
