//! From an upload to a version: read, compare, pack, sign, register.

use std::collections::BTreeMap;

use access::signing::{self, MANIFEST_FILE, MODEL_FILE, SIGNATURE_FILE, STATE_FILE};
use rpc::registry::{Deploy, Deployed, Receipt, Remove, VersionRecord};
use serde::{Deserialize, Serialize};
use store::{Collection, Content, Document, Expect, Write, read_all};
use types::{Code, Digest, Manifest, Refusal, Version, manifest::Input, manifest::Source};

use crate::{Registry, model_key, onnx, version_key};

const UPLOAD: &str = "upload the model first: PUT /v1/uploads answers with the id to name";

/// What is kept of a model beside its versions.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct ModelRecord {
    /// The number of the next version; never goes back, not even when the model is removed.
    next: u64,
    /// Versions by the digest of their bundle.
    bundles: BTreeMap<String, Version>,
}

impl Registry {
    pub(crate) async fn deploy_model(&self, request: Deploy) -> Result<Deployed, Refusal> {
        let staged = request.staged.clone();
        let outcome = self.register(request).await;
        // Published files have left staging; of everything else nothing may stay.
        let discarded = match &staged {
            Some(staged) => self.artefacts.discard(staged).await,
            None => Ok(()),
        };
        // What was wrong first is said first.
        let deployed = outcome?;
        discarded?;
        Ok(deployed)
    }

    async fn register(&self, request: Deploy) -> Result<Deployed, Refusal> {
        let Deploy { actor, namespace, mut manifest, staged, signature: shown } = request;
        manifest.refuse_unsupported()?;
        manifest.metadata.namespace = Some(namespace.clone());
        let (mut files, mut contents, mut size) = (BTreeMap::new(), Vec::new(), 0);
        // Who signs a model of another server, or one that learns, signs what its manifest says of it.
        let mut signed = Digest::of(&serde_json::to_vec(&manifest.spec.source).map_err(internal)?);
        match (&manifest.spec.source, staged) {
            (Source::Upstream(_), None) => {}
            (Source::Online(online), None) if online.start.is_none() => {
                let state = streaming::Model::complete(&mut manifest)?.save();
                size = state.len() as u64;
                files.insert(STATE_FILE.to_owned(), Digest::of(&state));
                contents.push((STATE_FILE.to_owned(), Content::Bytes(state)));
            }
            (Source::Online(online), Some(staged)) if online.start.is_some() => {
                let from = online.from;
                let bytes = self.artefacts.read_staged(&staged).await?;
                streaming::Model::complete(&mut manifest)?;
                let state = streaming::Model::load(&manifest, &bytes)?;
                if Some(state.offset()) != from {
                    let what = format!("spec.source.online.from: the state learns from entry {} on", state.offset());
                    return Err(Refusal::new(Code::ManifestInvalid, what));
                }
                size = bytes.len() as u64;
                files.insert(STATE_FILE.to_owned(), Digest::of(&bytes));
                contents.push((STATE_FILE.to_owned(), Content::Staged(staged)));
            }
            (Source::Online(_), None) => {
                let what = "spec.source.online.start: the state that workers have learnt is not there";
                return Err(Refusal::new(Code::ManifestInvalid, what).hint("leave it out: the trainer says it"));
            }
            (Source::Upstream(_) | Source::Online(_), Some(_)) => {
                let what = "a model of another server, or one that learns, has no file to upload";
                return Err(Refusal::new(Code::RequestMalformed, what));
            }
            (_, None) => return Err(Refusal::new(Code::RequestMalformed, "the request names no upload").hint(UPLOAD)),
            (_, Some(staged)) => {
                let model = self.artefacts.read_staged(&staged).await.map_err(|error| match error {
                    store::Error::Missing(_) => {
                        Refusal::new(Code::RequestMalformed, "there is no such upload").hint(UPLOAD)
                    }
                    error => error.into(),
                })?;
                (size, signed) = (model.len() as u64, Digest::of(&model));
                let graph = onnx::read(&model)?;
                manifest.spec.inputs = merge_inputs(&manifest, &graph)?;
                check_task(&manifest, &graph)?;
                manifest.spec.source = Source::Onnx(MODEL_FILE.into());
                files.insert(MODEL_FILE.to_owned(), signed);
                contents.push((MODEL_FILE.to_owned(), Content::Staged(staged)));
            }
        }
        let publisher = self.publisher(&namespace, shown.as_deref(), signed).await?;
        let name = manifest.metadata.name.clone();
        let packed = serde_json::to_vec_pretty(&manifest).map_err(internal)?;
        files.insert(MANIFEST_FILE.to_owned(), Digest::of(&packed));
        let digest = signing::root(&files);

        let _writing = self.writing.lock().await;
        let key = model_key(&namespace, &name);
        let document = self.catalog.get(Collection::Model, &key).await?;
        let (expect, mut record) = match &document {
            Some(found) => (Expect::Generation(found.generation), found.read::<ModelRecord>()?),
            None => (Expect::Absent, ModelRecord { next: 1, ..ModelRecord::default() }),
        };
        let signature = self.signing.current().key().sign(name.as_str(), &files).map_err(internal)?;
        contents.extend([
            (MANIFEST_FILE.to_owned(), Content::Bytes(packed)),
            (SIGNATURE_FILE.to_owned(), Content::Bytes(signature)),
        ]);
        let known = record.bundles.get(&digest.to_string()).copied();
        if known.is_none() {
            self.fits(&namespace, &name, size, &manifest).await?;
        }
        self.publish(digest, contents, &files).await?;
        if let Some(version) = known {
            let known = self.catalog.get(Collection::Version, &version_key(&namespace, &name, version)).await?;
            let version = known.ok_or_else(|| internal(format!("version {version} is registered and missing")))?;
            return Ok(Deployed { version: version.read()?, created: false, receipt: self.sequencer.newest() });
        }
        let version = Version(record.next);
        record.next += 1;
        record.bundles.insert(digest.to_string(), version);
        let created = VersionRecord {
            namespace: namespace.clone(),
            model: name.clone(),
            version,
            digest,
            size,
            manifest,
            author: actor.clone(),
            publisher,
            created: self.clock.now(),
        };
        let writes = vec![
            Write::put(Collection::Model, key.clone(), expect, &record)?,
            Write::put(Collection::Version, version_key(&namespace, &name, version), Expect::Absent, &created)?,
        ];
        let mut detail = serde_json::json!({ "version": version, "digest": digest, "bytes": size });
        if let (Some(publisher), Some(signature)) = (&created.publisher, &shown) {
            detail["publisher"] = serde_json::json!(publisher);
            detail["signature"] = serde_json::json!(Digest::of(signature.as_bytes()));
        }
        let subject = format!("model:{key}");
        let receipt = self.commit(writes, "model.deploy", Some(&namespace), &actor, &subject, detail).await?;
        Ok(Deployed { version: created, created: true, receipt })
    }

    /// Publishes a bundle; one that lies there already is replaced when anybody has changed it since.
    pub(crate) async fn publish(
        &self,
        digest: Digest,
        contents: Vec<(String, Content)>,
        files: &BTreeMap<String, Digest>,
    ) -> Result<(), Refusal> {
        if let Ok(names) = self.artefacts.list(digest).await {
            if self.is_whole(digest, &names, files).await {
                return Ok(());
            }
            tracing::warn!(%digest, "a published bundle was changed; it is replaced by what was deployed now");
            self.artefacts.remove(digest).await?;
        }
        Ok(self.artefacts.publish(digest, contents).await?)
    }

    /// Whether a published bundle still holds what was signed under its digest.
    async fn is_whole(&self, digest: Digest, names: &[String], files: &BTreeMap<String, Digest>) -> bool {
        let mut found = BTreeMap::new();
        for name in names.iter().filter(|name| *name != SIGNATURE_FILE) {
            let Ok(data) = self.artefacts.read(digest, name).await else { return false };
            found.insert(name.clone(), Digest::of(&data));
        }
        let Ok(signature) = self.artefacts.read(digest, SIGNATURE_FILE).await else { return false };
        found == *files && signing::verify(&signature, self.signing.current().trusted(), &found) == Ok(digest)
    }

    pub(crate) async fn remove_model(&self, request: Remove) -> Result<Receipt, Refusal> {
        let Remove { actor, namespace, model } = request;
        let _writing = self.writing.lock().await;
        let key = model_key(&namespace, &model);
        let document = self.catalog.get(Collection::Model, &key).await?;
        let document = document.ok_or_else(|| Refusal::unknown_model(&namespace, &model))?;
        let record: ModelRecord = document.read()?;
        let versions: Vec<Document> = read_all(&*self.catalog, Collection::Version, &format!("{key}/")).await?;
        if versions.is_empty() {
            return Err(Refusal::unknown_model(&namespace, &model));
        }
        let mut writes: Vec<Write> = versions
            .iter()
            .map(|version| Write::remove(Collection::Version, &version.key, Expect::Generation(version.generation)))
            .collect();
        let emptied = ModelRecord { next: record.next, bundles: BTreeMap::new() };
        writes.push(Write::put(Collection::Model, key.clone(), Expect::Generation(document.generation), &emptied)?);
        let detail = serde_json::json!({ "versions": versions.len() });
        let subject = format!("model:{key}");
        let receipt = self.commit(writes, "model.delete", Some(&namespace), &actor, &subject, detail).await?;
        for version in versions {
            let record: VersionRecord = version.read()?;
            self.artefacts.remove(record.digest).await?;
            self.forget_snapshots(&(namespace.clone(), model.clone(), record.version)).await?;
        }
        Ok(receipt)
    }
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, error.to_string())
}

/// The graph's inputs, with what the manifest says of them.
fn merge_inputs(manifest: &Manifest, graph: &onnx::Graph) -> Result<Vec<Input>, Refusal> {
    let wrong = |what: String| {
        Refusal::new(Code::ManifestInvalid, what)
            .hint("name inputs as the graph does, or leave spec.inputs out to have them read from it")
    };
    let declared = &manifest.spec.inputs;
    let known = |name: &str| graph.inputs.iter().any(|input| input.name == name);
    if let Some(unknown) = declared.iter().find(|input| !known(&input.name)) {
        let names: Vec<&str> = graph.inputs.iter().map(|input| input.name.as_str()).collect();
        return Err(wrong(format!("the graph has no input `{}`; it has {}", unknown.name, names.join(", "))));
    }
    let merge = |spec: &types::infer::TensorSpec| {
        let Some(input) = declared.iter().find(|input| input.name == spec.name) else {
            return Ok(Input {
                name: spec.name.clone(),
                datatype: spec.datatype,
                shape: Some(spec.shape.clone()),
                range: None,
                categories: Vec::new(),
                nan: types::manifest::Nan::Allow,
            });
        };
        if input.datatype != spec.datatype {
            let Input { name, datatype, .. } = input;
            return Err(wrong(format!("input `{name}` is {} in the graph, {datatype} in the manifest", spec.datatype)));
        }
        let shape = input.shape.clone().unwrap_or_else(|| spec.shape.clone());
        let fits = |(own, graph): (&i64, &i64)| *graph == -1 || own == graph;
        if shape.len() != spec.shape.len() || !shape.iter().zip(&spec.shape).all(fits) {
            return Err(wrong(format!(
                "input `{}` has shape {:?} in the graph, {shape:?} in the manifest",
                input.name, spec.shape
            )));
        }
        Ok(Input { shape: Some(shape), ..input.clone() })
    };
    graph.inputs.iter().map(merge).collect()
}

fn check_task(manifest: &Manifest, graph: &onnx::Graph) -> Result<(), Refusal> {
    let Some(output) = manifest.spec.task.as_ref().and_then(|task| task.output.as_ref()) else { return Ok(()) };
    if graph.outputs.iter().any(|name| name == output) {
        return Ok(());
    }
    Err(Refusal::new(
        Code::ManifestInvalid,
        format!("spec.task.output: the graph has no output `{output}`; it has {}", graph.outputs.join(", ")),
    ))
}
