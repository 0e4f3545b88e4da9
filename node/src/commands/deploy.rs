//! `mantlet deploy`: upload, register, and wait until it answers.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use types::{Code, Manifest, ModelName, Refusal, manifest::Source};

use crate::{
    cli::{Deploy, Format},
    client::{Client, read_problem},
    output,
};

/// How often a waiting `deploy` looks.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, Serialize, Deserialize)]
struct Deployed {
    name: String,
    namespace: String,
    version: u64,
    digest: String,
    /// The version that goes on answering while this one proves itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    challenges: Option<u64>,
}

pub(crate) async fn run(client: &Client, arguments: &Deploy, format: Format) -> Result<(), Refusal> {
    let (manifest, model) = manifest(&arguments.file, arguments.name.as_ref())?;
    let upload = match &model {
        Some(model) => Some(upload(client, model).await?),
        None => None,
    };
    let signature = arguments.signature.as_ref();
    let signature = signature.map(|path| fs::read_to_string(path).map_err(output::file(path))).transpose()?;
    let body = json!({ "upload": upload, "manifest": manifest, "signature": signature });
    let request = client.request(Method::POST, "/v1/deploys").json(&body);
    let deployed: Deployed = client.json(request).await?;
    if arguments.wait && deployed.challenges.is_none() {
        wait(client, &deployed, arguments.timeout.0).await?;
    }
    output::show(&deployed, format, |deployed| {
        let Deployed { name, namespace, version, digest, challenges } = deployed;
        if let Some(champion) = challenges {
            let digest = &digest[..12];
            return format!(
                "{namespace}/{name} version {version} challenges version {champion}, which answers (bundle {digest})\nboth are compared \
                 as labels come; how it stands: mantlet rollouts\n"
            );
        }
        let state = if arguments.wait { "answers" } else { "is deployed" };
        let next = super::models::next_steps(client, name);
        format!("{namespace}/{name} version {version} {state} (bundle {})\n{next}", &digest[..12])
    });
    Ok(())
}

/// The manifest, and the model file it is about; none where another server holds the model.
pub(super) fn manifest(path: &Path, name: Option<&ModelName>) -> Result<(Manifest, Option<PathBuf>), Refusal> {
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let is_manifest = matches!(extension.as_str(), "yaml" | "yml")
        || extension == "json" && fs::read_to_string(path).is_ok_and(|text| text.contains("apiVersion"));
    if !is_manifest {
        let name = name.cloned().ok_or_else(|| {
            Refusal::new(Code::NameInvalid, "a model needs a name")
                .hint(format!("name it: `mantlet deploy {} --name NAME`", path.display()))
        })?;
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        return Ok((Manifest::for_onnx(name, &file), Some(path.to_owned())));
    }
    let mut manifest = Manifest::from_yaml(&fs::read_to_string(path).map_err(output::file(path))?)?;
    manifest.refuse_unsupported()?;
    if let Some(name) = name {
        manifest.metadata.name = name.clone();
    }
    let model = match &manifest.spec.source {
        Source::Onnx(source) => Some(path.parent().unwrap_or_else(|| Path::new(".")).join(source)),
        _ => None,
    };
    Ok((manifest, model))
}

async fn upload(client: &Client, path: &Path) -> Result<String, Refusal> {
    let file = tokio::fs::File::open(path).await.map_err(output::file(path))?;
    let metadata = file.metadata().await.map_err(output::file(path))?;
    if !metadata.is_file() {
        return Err(Refusal::new(Code::FileUnreadable, format!("{} is no file", path.display())));
    }
    let body = reqwest::Body::wrap_stream(tokio_util::io::ReaderStream::with_capacity(file, 256 << 10));
    let request = client
        .request(Method::PUT, "/v1/uploads")
        .timeout(Duration::from_secs(3_600))
        .header("content-type", "application/octet-stream")
        .body(body);
    let staged: Value = client.json(request).await?;
    Ok(staged["id"].as_str().unwrap_or_default().to_owned())
}

async fn wait(client: &Client, deployed: &Deployed, timeout: Duration) -> Result<(), Refusal> {
    let until = Instant::now() + timeout;
    let path = format!("/v1/models/{}", deployed.name);
    loop {
        let request = client.request(Method::GET, &path).header("mantlet-namespace", &deployed.namespace);
        let shown: Value = client.json(request).await?;
        let model = &shown["model"];
        if model["version"].as_u64() != Some(deployed.version) {
            return Err(Refusal::new(
                Code::Conflict,
                format!("version {} of `{}` is wanted now, not {}", model["version"], deployed.name, deployed.version),
            )
            .hint("somebody deployed or rolled back meanwhile: `mantlet models`"));
        }
        let problem = read_problem(model["waiting"].to_string().as_bytes());
        match model["state"].as_str() {
            Some("ready") => return Ok(()),
            Some("failed") => {
                return Err(problem.unwrap_or_else(|| Refusal::new(Code::LoadFailed, "the model can't be loaded")));
            }
            _ => {}
        }
        if Instant::now() >= until {
            let why = problem.map_or_else(|| "it still starts".to_owned(), |refusal| refusal.message.into_owned());
            return Err(Refusal::new(
                Code::DeadlineExceeded,
                format!("`{}` was not ready after {} s: {why}", deployed.name, timeout.as_secs()),
            )
            .hint(format!("it goes on: `mantlet models show {}`", deployed.name)));
        }
        tokio::time::sleep(LOOK).await;
    }
}
