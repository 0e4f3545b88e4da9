//! `/openapi.json`: what the port answers, for programs.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    callers::{AddBody, CertificateBody},
    clean::CleanBody,
    feedback::FeedbackBody,
    incidents::RestrictBody,
    models::DeployBody,
    models::RollbackBody,
    plan::{PlanBody, ScaleBody},
    publishers::PublisherBody,
    rollouts::{LookBody, RevertBody, WordBody},
    secrets::SecretBody,
    sent::{PinBody, SplitBody},
};
use crate::{Ring, extract::Sender, replay::ReplayBody, rest};

/// A path: method, path, summary, whether it needs a credential, and its body's schema.
type Entry = (&'static str, &'static str, &'static str, bool, Option<&'static str>);

const PATHS: &[Entry] = &[
    ("get", "/v2", "name, version and extensions of the server", true, None),
    ("get", "/v2/health/live", "whether the server lives", false, None),
    ("get", "/v2/health/ready", "whether the server takes requests", false, None),
    ("get", "/v2/models", "models of the namespace, as a repository index", true, None),
    ("post", "/v2/repository/index", "models of the namespace, as a repository index", true, None),
    ("get", "/v2/models/stats", "statistics of every model", true, None),
    ("get", "/v2/models/{model}", "what a model takes and gives", true, None),
    ("get", "/v2/models/{model}/ready", "whether a model is ready", true, None),
    ("get", "/v2/models/{model}/stats", "statistics of a model", true, None),
    ("get", "/v2/models/{model}/config", "the model as Triton's clients describe it", true, None),
    ("post", "/v2/models/{model}/infer", "a prediction", true, Some("InferenceRequest")),
    ("get", "/v2/models/{model}/versions/{version}", "what a version takes and gives", true, None),
    ("get", "/v2/models/{model}/versions/{version}/ready", "whether a version is ready", true, None),
    ("get", "/v2/models/{model}/versions/{version}/stats", "statistics of a version's model", true, None),
    ("get", "/v2/models/{model}/versions/{version}/config", "the version as Triton's clients describe it", true, None),
    (
        "post",
        "/v2/models/{model}/versions/{version}/infer",
        "a prediction by this version",
        true,
        Some("InferenceRequest"),
    ),
    ("get", "/v1/models", "models with their state", true, None),
    ("get", "/v1/models/{model}", "a model with manifest and metadata", true, None),
    ("delete", "/v1/models/{model}", "deletes a model with all its versions", true, None),
    ("post", "/v1/models/{model}/rollback", "goes back to an earlier version", true, Some("RollbackBody")),
    ("post", "/v1/models/{model}/scale", "wants another number of replicas", true, Some("ScaleBody")),
    ("put", "/v1/models/{model}/split", "splits requests over versions by shares", true, Some("SplitBody")),
    ("delete", "/v1/models/{model}/split", "ends a split; why, by `reason`", true, None),
    ("put", "/v1/models/{model}/pins/{caller}", "sends a caller's requests to one version", true, Some("PinBody")),
    ("delete", "/v1/models/{model}/pins/{caller}", "sends them where all others go; why, by `reason`", true, None),
    ("get", "/v1/plan", "what happens next in the namespace, why, and what happened lately", true, None),
    ("post", "/v1/plan", "what would happen if this were deployed", true, Some("PlanBody")),
    ("get", "/v1/models/{model}/bundle", "files and key of the signed bundle", true, None),
    ("get", "/v1/models/{model}/bundle/{file}", "one file of the signed bundle", true, None),
    ("get", "/v1/models/{model}/evaluation", "how right each version was, by the labels that came", true, None),
    ("get", "/v1/models/{model}/examples", "predictions with their labels, page by page", true, None),
    (
        "post",
        "/v1/models/{model}/contributors/{say}",
        "lets a contributor's labels teach, or holds them back: say is trust or distrust",
        true,
        Some("LookBody"),
    ),
    ("get", "/v1/models/{model}/clean", "the clean set of a model that learns", true, None),
    ("put", "/v1/models/{model}/clean", "gives a model rows that no feedback can touch", true, Some("CleanBody")),
    ("delete", "/v1/models/{model}/clean", "takes a model's clean set away", true, None),
    (
        "post",
        "/v1/models/{model}/retrain",
        "asks for a new version, trained by the model's job",
        true,
        Some("WordBody"),
    ),
    (
        "post",
        "/v1/models/{model}/revert",
        "lets a model forget what it learnt since an earlier state",
        true,
        Some("RevertBody"),
    ),
    ("get", "/v1/models/{model}/jobs", "jobs that train new versions of a model, the newest first", true, None),
    ("get", "/v1/rollouts", "challengers of the namespace, and how they stand", true, None),
    ("get", "/v1/rollouts/{model}/{challenger}", "comes to a decision on a challenger again, from the log", true, None),
    (
        "post",
        "/v1/rollouts/{model}/{challenger}/{say}",
        "approves, rejects or undoes a challenger, or has it wait or go on: say is approve, reject, undo, pause or resume",
        true,
        Some("WordBody"),
    ),
    ("get", "/v1/incidents", "who attacked, and what was done; as OCSF with `format=ocsf`", true, None),
    ("get", "/v1/incidents/{incident}", "an incident, by its id or an action's", true, None),
    (
        "post",
        "/v1/incidents/{incident}/{say}",
        "approves, rejects or undoes what an incident proposes or does: say is approve, reject or undo",
        true,
        Some("WordBody"),
    ),
    ("post", "/v1/restrictions", "restricts a caller or an address", true, Some("RestrictBody")),
    ("get", "/v1/agents", "how the agents are that look for attackers", true, None),
    ("post", "/v1/feedback", "takes labels of earlier predictions in", true, Some("FeedbackBody")),
    ("put", "/v1/uploads", "takes a model file in", true, None),
    ("post", "/v1/deploys", "deploys an uploaded model", true, Some("DeployBody")),
    ("get", "/v1/callers", "callers of the namespace", true, None),
    ("post", "/v1/callers", "adds a caller; its token is shown once", true, Some("AddBody")),
    ("delete", "/v1/callers/{caller}", "revokes a caller", true, None),
    ("post", "/v1/callers/{caller}/rotate", "replaces a caller's token; it is shown once", true, None),
    ("get", "/v1/keys", "the node's own keys, public", true, None),
    (
        "post",
        "/v1/keys/{key}/rotate",
        "replaces a key of the node; the one before holds until it is retired",
        true,
        None,
    ),
    ("post", "/v1/keys/{key}/retire", "ends the key before the newest", true, None),
    ("get", "/v1/publishers", "keys whose signature lets a model into the namespace", true, None),
    ("post", "/v1/publishers", "trusts a publisher", true, Some("PublisherBody")),
    ("delete", "/v1/publishers/{fingerprint}", "revokes a publisher, for good", true, None),
    ("get", "/v1/secrets", "secrets of the namespace, by name", true, None),
    ("put", "/v1/secrets/{secret}", "sets what models of other servers are asked with", true, Some("SecretBody")),
    ("delete", "/v1/secrets/{secret}", "takes a secret away", true, None),
    ("get", "/v1/namespaces", "namespaces with a quota", true, None),
    ("put", "/v1/namespaces/{namespace}", "sets what a namespace may use", true, Some("Quota")),
    ("delete", "/v1/namespaces/{namespace}", "takes a namespace's bounds away", true, None),
    ("get", "/v1/policy", "policies of the namespace, the default ones, and their schema", true, None),
    ("put", "/v1/policy", "sets the namespace's own policies, in Cedar", true, None),
    ("delete", "/v1/policy", "takes the namespace's own policies back", true, None),
    ("get", "/v1/policy/check", "who may do what, and which policy says so", true, None),
    ("delete", "/v1/predictions", "erases every prediction of a caller", true, None),
    ("delete", "/v1/predictions/{prediction}", "erases a prediction", true, None),
    ("get", "/v1/predictions/{prediction}/proof", "proves that a prediction was recorded, and as what", true, None),
    ("post", "/v1/replay", "runs captured predictions again and compares", true, Some("ReplayBody")),
    ("get", "/v1/ledger/consistency", "proves that an earlier ledger is the start of this one", true, None),
    ("get", "/v1/log/checkpoint", "the newest checkpoint, as C2SP tlog-tiles serves it", true, None),
    ("get", "/v1/log/tile/{path}", "a tile, as C2SP tlog-tiles serves it", true, None),
    (
        "post",
        "/v1/callers/{caller}/certificate",
        "makes a caller's certificate over its own request",
        true,
        Some("CertificateBody"),
    ),
    ("get", "/v1/ledger", "records of the ledger with its checkpoint", true, None),
    ("get", "/openapi.json", "this document", true, None),
    ("get", "/metrics", "metrics in Prometheus' text form, or as OpenMetrics where that is accepted", true, None),
];

pub(super) async fn document(State(ring): State<Arc<Ring>>, sender: Sender) -> Response {
    rest::respond(rest::identify(&ring, &sender).map(|_| describe()))
}

/// The document.
pub(crate) fn describe() -> Value {
    let mut paths = Map::new();
    for (method, path, summary, credential, body) in PATHS {
        let entry = paths.entry((*path).to_owned()).or_insert_with(|| json!({}));
        entry[method] = operation(path, summary, *credential, *body);
    }
    let mut generator = SchemaSettings::openapi3().into_generator();
    generator.subschema_for::<DeployBody>();
    generator.subschema_for::<RollbackBody>();
    generator.subschema_for::<ScaleBody>();
    generator.subschema_for::<SplitBody>();
    generator.subschema_for::<PinBody>();
    generator.subschema_for::<WordBody>();
    generator.subschema_for::<CleanBody>();
    generator.subschema_for::<RestrictBody>();
    generator.subschema_for::<LookBody>();
    generator.subschema_for::<RevertBody>();
    generator.subschema_for::<PlanBody>();
    generator.subschema_for::<AddBody>();
    generator.subschema_for::<CertificateBody>();
    generator.subschema_for::<FeedbackBody>();
    generator.subschema_for::<PublisherBody>();
    generator.subschema_for::<SecretBody>();
    generator.subschema_for::<ReplayBody>();
    generator.subschema_for::<types::quota::Quota>();
    let mut schemas = generator.take_definitions(true);
    schemas.insert("InferenceRequest".into(), inference_request());
    schemas.insert("Problem".into(), problem());
    json!({
        "openapi": "3.0.3",
        "info": { "title": "Mantlet", "version": env!("CARGO_PKG_VERSION"),
                  "description": "Open Inference Protocol v2 and management. gRPC speaks inference.GRPCInferenceService on the same port." },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(path: &str, summary: &str, credential: bool, body: Option<&str>) -> Value {
    let parameters: Vec<Value> = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    let mut operation = json!({
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": { "description": "done" },
            "default": {
                "description": "refused",
                "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
            },
        },
        "security": if credential { json!([{ "token": [] }]) } else { json!([]) },
    });
    if let Some(body) = body {
        let schema = json!({ "$ref": format!("#/components/schemas/{body}") });
        operation["requestBody"] = json!({ "content": { "application/json": { "schema": schema } } });
    }
    operation
}

fn inference_request() -> Value {
    let datatypes: Vec<&str> = types::DataType::ALL.iter().map(|datatype| datatype.as_str()).collect();
    json!({
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": { "type": "string" },
            "parameters": { "type": "object" },
            "inputs": { "type": "array", "items": {
                "type": "object",
                "required": ["name", "datatype", "shape"],
                "properties": {
                    "name": { "type": "string" },
                    "datatype": { "type": "string", "enum": datatypes },
                    "shape": { "type": "array", "items": { "type": "integer" } },
                    "parameters": { "type": "object" },
                    "data": { "type": "array", "items": {} },
                },
            } },
            "outputs": { "type": "array", "items": {
                "type": "object",
                "required": ["name"],
                "properties": { "name": { "type": "string" }, "parameters": { "type": "object" } },
            } },
        },
    })
}

fn problem() -> Value {
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "it describes what refusals write")]
    struct Problem {
        r#type: String,
        title: String,
        status: u16,
        detail: String,
        code: types::Code,
        error: String,
        hint: Option<String>,
    }
    SchemaSettings::openapi3()
        .with(|s| s.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<Problem>()
        .to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_page_is_the_document() {
        testkit::reference::check("openapi.json", &serde_json::to_string_pretty(&describe()).unwrap());
    }

    #[test]
    fn every_reference_resolves() {
        let document = describe();
        let text = document.to_string();
        for part in text.split("\"$ref\":\"#").skip(1) {
            let pointer = part.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
        assert!(document.pointer("/paths/~1v2~1models~1{model}~1infer/post/requestBody").is_some());
    }
}
