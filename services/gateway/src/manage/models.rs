//! Models: upload, deploy, list, show, roll back, delete, export.

use std::{collections::BTreeMap, sync::Arc};

use access::Action;
use axum::{body::Body, extract::State, response::Response};
use futures::StreamExt as _;
use http::{HeaderValue, header};
use rpc::{
    orchestrator::{Desired, Scaling, Status, StatusOf, Submit},
    registry::{Deploy, Receipt, Remove, Select, VersionRecord},
    trainer::CheckWebhook,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use types::{
    Code, Digest, Manifest, ModelName, Namespace, Refusal, Version,
    manifest::{Promote, Source},
};

use super::{bytes, on_model, on_namespace, permit, read, settle};
use crate::{
    Ring,
    extract::{Path, Query, Sender},
    rest,
    sense::Glimpse,
};

type Shared = State<Arc<Ring>>;

/// What `POST /v1/deploys` takes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeployBody {
    /// The id that `PUT /v1/uploads` gave; nothing for a model that another server holds.
    #[serde(default)]
    upload: Option<String>,
    /// The model's manifest.
    manifest: Manifest,
    /// A publisher's signature over the model, in the Model Signing format, where the namespace has publishers.
    #[serde(default)]
    signature: Option<String>,
}

/// What `POST /v1/models/{model}/rollback` takes.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollbackBody {
    /// The version to go back to; the one before the wanted one when left out.
    #[serde(default)]
    to: Option<Version>,
}

/// Which version of a bundle.
#[derive(Debug, Deserialize)]
pub(crate) struct Which {
    #[serde(default)]
    version: Option<Version>,
}

pub(crate) async fn upload(State(ring): Shared, sender: Sender, body: Body) -> Response {
    let outcome = async {
        permit(&ring, &sender, Action::Deploy, on_namespace)?;
        let idle = ring.limits.idle;
        let stream = futures::stream::try_unfold(body.into_data_stream(), move |mut body| async move {
            match tokio::time::timeout(idle, body.next()).await {
                Err(_) => Err(std::io::Error::other(format!("no byte of it came for {} s", idle.as_secs()))),
                Ok(Some(Err(error))) => Err(std::io::Error::other(error)),
                Ok(Some(Ok(chunk))) => Ok(Some((chunk, body))),
                Ok(None) => Ok(None),
            }
        });
        let stream = stream.boxed();
        let staged = ring.artefacts.stage(stream, ring.limits.upload).await?;
        Ok(staged)
    };
    rest::respond(outcome.await)
}

pub(crate) async fn deploy(State(ring): Shared, sender: Sender, mut body: Body) -> Response {
    let outcome = async {
        // Who may not deploy anything learns nothing about the body.
        let principal = rest::identify(&ring, &sender)?;
        let DeployBody { upload, mut manifest, signature } = read(&bytes(&ring, &mut body).await?)?;
        let namespace = manifest.metadata.namespace.take().unwrap_or_else(|| principal.namespace().clone());
        let name = manifest.metadata.name.clone();
        let resource = access::Resource::Model(namespace.clone(), name.clone());
        let permit = ring.authorize(principal, Action::Deploy, resource)?;
        let actor = permit.principal().subject();
        manifest.check()?;
        refuse_start(&manifest)?;
        if let Some(train) = &manifest.spec.learning.train
            && !manifest.is_streaming()
        {
            has_job(&ring, &train.job).await?;
        }
        if let Some(webhook) = manifest.spec.learning.drift.webhook.clone() {
            ring.trainer.check_webhook(CheckWebhook { namespace: namespace.clone(), webhook }).await?;
        }
        let key = (namespace.clone(), name.clone());
        let request = Deploy { actor: actor.clone(), namespace, manifest, staged: upload, signature };
        let deployed = ring.registry.deploy(request).await.inspect_err(|refusal| {
            ring.sense.take(Glimpse::Bundle { key, refusal: refusal.clone() });
        })?;
        let version = deployed.version;
        let champion = champion(&ring, &version).await?;
        let receipt = match champion {
            // It has to prove itself first.
            Some(_) => deployed.receipt,
            None => want(&ring, &version, &actor, "model.activate", "deployed").await?,
        };
        ring.registry.sealed(receipt.max(deployed.receipt)).await?;
        Ok(json!({
            "challenges": champion,
            "name": version.model,
            "namespace": version.namespace,
            "version": version.version,
            "digest": version.digest,
            "created": deployed.created,
        }))
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}

/// What a version has learnt before its first example, nobody says but the trainer.
fn refuse_start(manifest: &Manifest) -> Result<(), Refusal> {
    match &manifest.spec.source {
        Source::Online(online) if online.start.is_some() => {
            let what = "spec.source.online.start: what workers have learnt is deployed by the trainer alone";
            Err(Refusal::new(Code::ManifestInvalid, what).hint("leave it out: the new version learns from the log"))
        }
        _ => Ok(()),
    }
}

/// A model names a job that there is.
async fn has_job(ring: &Ring, job: &str) -> Result<(), Refusal> {
    let known = ring.trainer.job_names(()).await?;
    if known.iter().any(|name| name == job) {
        return Ok(());
    }
    let there = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
    Err(Refusal::new(Code::ManifestInvalid, format!("spec.learning.train: this node has no job `{job}`; {there}"))
        .hint("who runs the node names jobs in a file, and the file by the setting trainer.jobs"))
}

/// The version that goes on answering while this one proves itself against it, where the manifest asks for that: an earlier
/// one of the same model, and of the same kind: one learns where the other does.
async fn champion(ring: &Ring, version: &VersionRecord) -> Result<Option<Version>, Refusal> {
    let learns = |manifest: &Manifest| matches!(manifest.spec.source, Source::Online(_));
    if version.manifest.spec.learning.promote == Promote::Off {
        return Ok(None);
    }
    let of = StatusOf { namespace: version.namespace.clone(), model: Some(version.model.clone()) };
    let wanted = ring.orchestrator.status(of).await?.first().and_then(|status| status.desired);
    let select = Select { namespace: version.namespace.clone(), model: Some(version.model.clone()) };
    let versions = ring.registry.versions(select).await?;
    let earlier = |known: &VersionRecord| {
        Some(known.version) == wanted
            && known.version < version.version
            && learns(&known.manifest) == learns(&version.manifest)
    };
    Ok(versions.into_iter().find(earlier).map(|known| known.version))
}

/// Submits the wish that this version answers.
async fn want(
    ring: &Ring,
    version: &VersionRecord,
    actor: &str,
    action: &str,
    reason: &str,
) -> Result<Receipt, Refusal> {
    let desired = Desired {
        namespace: version.namespace.clone(),
        model: version.model.clone(),
        version: version.version,
        digest: version.digest,
        manifest: version.manifest.clone(),
        author: actor.to_owned(),
        reason: reason.to_owned(),
        shadow: None,
    };
    let submit = Submit {
        namespace: version.namespace.clone(),
        model: version.model.clone(),
        desired: Some(desired),
        actor: actor.to_owned(),
        expect: None,
        action: action.to_owned(),
    };
    Ok(ring.orchestrator.submit(submit).await?.receipt)
}

/// A model as people and programs see it.
#[derive(Debug, Serialize)]
struct Summary {
    name: ModelName,
    namespace: Namespace,
    /// The version wanted.
    version: Version,
    /// The version that answers.
    ready: Option<Version>,
    replicas: String,
    digest: Digest,
    bytes: u64,
    versions: Vec<Version>,
    state: &'static str,
    waiting: Option<Value>,
    /// Who wants it to have no replica, where somebody does.
    stopped: Option<String>,
    /// What its load says about the number of replicas, where that has a say.
    scaling: Option<Scaling>,
    /// Where a person sends requests that name no version, where somebody does.
    sent: Option<Value>,
    restarts: u32,
    deployed: types::Timestamp,
    author: String,
}

fn summary(versions: &[VersionRecord], status: Option<&Status>) -> Option<Summary> {
    let newest = versions.last()?;
    let wanted = status.and_then(|status| status.desired).unwrap_or(newest.version);
    let record = versions.iter().find(|record| record.version == wanted).unwrap_or(newest);
    let ready = status.and_then(|status| status.ready);
    let waiting = status.and_then(|status| status.waiting.as_ref());
    let asleep = status.is_some_and(|status| status.asleep && status.replicas == 0);
    let stopped = status.is_some_and(|status| status.stopped.is_some() && status.replicas == 0);
    let state = match (ready, waiting) {
        (Some(version), _) if version == wanted => "ready",
        (None, _) if asleep => "asleep",
        (None, None) if stopped => "stopped",
        (_, Some(waiting)) if waiting.stuck => "failed",
        _ => "starting",
    };
    Some(Summary {
        name: record.model.clone(),
        namespace: record.namespace.clone(),
        version: wanted,
        ready,
        replicas: status.map_or_else(|| "0/0".into(), |status| format!("{}/{}", status.replicas, status.wanted)),
        digest: record.digest,
        bytes: record.size,
        versions: versions.iter().map(|record| record.version).collect(),
        state,
        waiting: waiting.map(|waiting| waiting.reason.problem()),
        stopped: status.and_then(|status| status.stopped.clone()),
        scaling: status.and_then(|status| status.scaling.clone()),
        sent: status
            .filter(|status| !status.sent.0.is_empty())
            .map(|status| super::sent::shown(&record.model, &status.sent.0, status.sent.1, &status.absent)),
        restarts: status.map_or(0, |status| status.restarts),
        deployed: record.created,
        author: record.author.clone(),
    })
}

pub(crate) async fn list(State(ring): Shared, sender: Sender) -> Response {
    let outcome = async {
        let permit = permit(&ring, &sender, Action::Read, on_namespace)?;
        let namespace = permit.namespace().clone();
        let select = Select { namespace: namespace.clone(), model: None };
        let mut models: BTreeMap<ModelName, Vec<VersionRecord>> = BTreeMap::new();
        for record in ring.registry.versions(select).await? {
            models.entry(record.model.clone()).or_default().push(record);
        }
        let statuses = ring.orchestrator.status(StatusOf { namespace, model: None }).await?;
        let of = |name: &ModelName| statuses.iter().find(|status| status.model == *name);
        Ok(models.iter().filter_map(|(name, versions)| summary(versions, of(name))).collect::<Vec<_>>())
    };
    rest::respond(outcome.await)
}

pub(crate) async fn show(State(ring): Shared, sender: Sender, Path(model): Path<String>) -> Response {
    let outcome = async {
        let name: ModelName = model.parse()?;
        let permit = permit(&ring, &sender, Action::Read, on_model(&name))?;
        let namespace = permit.namespace().clone();
        let select = Select { namespace: namespace.clone(), model: Some(name.clone()) };
        let versions = ring.registry.versions(select).await?;
        let of = StatusOf { namespace: namespace.clone(), model: Some(name.clone()) };
        let statuses = ring.orchestrator.status(of).await?;
        let summary = summary(&versions, statuses.first());
        let manifest = summary.as_ref().and_then(|summary| {
            versions.iter().find(|record| record.version == summary.version).map(|record| record.manifest.clone())
        });
        let metadata = ring.model(&(namespace, name)).ok().map(|model| {
            let (inputs, outputs) = rest::specs(&model);
            json!({ "inputs": inputs, "outputs": outputs })
        });
        Ok(json!({ "model": summary, "manifest": manifest, "metadata": metadata }))
    };
    rest::respond(outcome.await)
}

pub(crate) async fn rollback(
    State(ring): Shared,
    sender: Sender,
    Path(model): Path<String>,
    mut body: Body,
) -> Response {
    let outcome = async {
        let name: ModelName = model.parse()?;
        let permit = permit(&ring, &sender, Action::Deploy, on_model(&name))?;
        let body = bytes(&ring, &mut body).await?;
        let RollbackBody { to } = if body.is_empty() { RollbackBody::default() } else { read(&body)? };
        let namespace = permit.namespace().clone();
        let select = Select { namespace: namespace.clone(), model: Some(name.clone()) };
        let versions = ring.registry.versions(select).await?;
        let statuses = ring.orchestrator.status(StatusOf { namespace, model: Some(name.clone()) }).await?;
        let wanted = statuses.first().and_then(|status| status.desired);
        let target = match to {
            Some(version) => versions.iter().find(|record| record.version == version),
            None => versions.iter().rev().find(|record| wanted.is_none_or(|wanted| record.version < wanted)),
        };
        let target = target.ok_or_else(|| {
            let what = to.map_or_else(|| "earlier version".to_owned(), |version| format!("version {version}"));
            Refusal::new(Code::VersionNotFound, format!("`{name}` has no {what}"))
                .hint(format!("`mantlet models show {name}` lists its versions"))
        })?;
        ring.registry.may_answer(target.clone()).await?;
        let actor = permit.principal().subject();
        let receipt = want(&ring, target, &actor, "model.rollback", "rolled back").await?;
        ring.registry.sealed(receipt).await?;
        Ok(json!({ "name": name, "version": target.version, "digest": target.digest, "from": wanted }))
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}

pub(crate) async fn remove(State(ring): Shared, sender: Sender, Path(model): Path<String>) -> Response {
    let outcome = async {
        let name: ModelName = model.parse()?;
        let permit = permit(&ring, &sender, Action::Delete, on_model(&name))?;
        let (namespace, actor) = (permit.namespace().clone(), permit.principal().subject());
        let submit = Submit {
            desired: None,
            namespace: namespace.clone(),
            model: name.clone(),
            actor: actor.clone(),
            expect: None,
            action: "model.deactivate".into(),
        };
        // Known first: a model that does not exist leaves no trace.
        ring.registry.versions(Select { namespace: namespace.clone(), model: Some(name.clone()) }).await?;
        let submitted = ring.orchestrator.submit(submit).await?;
        let removed = ring.registry.remove(Remove { actor, namespace, model: name.clone() }).await?;
        ring.registry.sealed(removed.max(submitted.receipt)).await?;
        Ok(json!({ "name": name, "deleted": true }))
    };
    rest::respond(outcome.await)
}

async fn find(ring: &Ring, sender: &Sender, model: &str, which: &Which) -> Result<VersionRecord, Refusal> {
    let name: ModelName = model.parse()?;
    let permit = permit(ring, sender, Action::Export, on_model(&name))?;
    let namespace = permit.namespace().clone();
    let versions = ring.registry.versions(Select { namespace: namespace.clone(), model: Some(name.clone()) }).await?;
    let statuses = ring.orchestrator.status(StatusOf { namespace, model: Some(name.clone()) }).await?;
    let wanted = which.version.or_else(|| statuses.first().and_then(|status| status.desired));
    let found = versions.into_iter().rev().find(|record| wanted.is_none_or(|wanted| record.version == wanted));
    found.ok_or_else(|| {
        Refusal::new(Code::VersionNotFound, format!("`{name}` has no such version"))
            .hint(format!("`mantlet models show {name}` lists its versions"))
    })
}

pub(crate) async fn bundle(
    State(ring): Shared,
    sender: Sender,
    Path(model): Path<String>,
    Query(which): Query<Which>,
) -> Response {
    let outcome = async {
        let record = find(&ring, &sender, &model, &which).await?;
        let files = ring.artefacts.list(record.digest).await?;
        let key = ring.registry.bundle_key(()).await?;
        Ok(json!({ "version": record.version, "digest": record.digest, "files": files, "key": key }))
    };
    rest::respond(outcome.await)
}

pub(crate) async fn bundle_file(
    State(ring): Shared,
    sender: Sender,
    Path((model, file)): Path<(String, String)>,
    Query(which): Query<Which>,
) -> Response {
    let outcome = async {
        let record = find(&ring, &sender, &model, &which).await?;
        if !ring.artefacts.list(record.digest).await?.contains(&file) {
            return Err(Refusal::new(Code::PathNotFound, "the bundle has no such file"));
        }
        Ok(ring.artefacts.read(record.digest, &file).await?)
    };
    match outcome.await {
        Ok(data) => {
            let mut response = Response::new(data.into());
            let kind = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(refusal) => rest::refuse(&refusal),
    }
}
