//! `mantlet models`, `rollback` and `delete`.

use std::{fs, path::Path};

use reqwest::Method;
use serde_json::{Value, json};
use types::{Code, DataType, Manifest, ModelName, Refusal, Timestamp, Version, infer::ModelMetadata};

use super::{feedback, rollouts, scaling, sent};
use crate::{
    cli::{Format, ModelsVerb, Node, Rollback},
    client::Client,
    output::{self, table},
};

pub(crate) async fn run(node: &Node, verb: Option<ModelsVerb>, format: Format) -> Result<(), Refusal> {
    match verb.unwrap_or(ModelsVerb::List) {
        ModelsVerb::Schema => {
            output::raw(&serde_json::to_string_pretty(&Manifest::schema()).unwrap_or_default());
            Ok(())
        }
        ModelsVerb::List => list(&Client::find(node)?, format).await,
        ModelsVerb::Show { name } => show(&Client::find(node)?, &name, format).await,
        ModelsVerb::Export { name, dir, version } => export(&Client::find(node)?, &name, &dir, version, format).await,
        ModelsVerb::Examples { name, from } => feedback::examples(&Client::find(node)?, &name, from).await,
        ModelsVerb::Evaluation { name } => feedback::evaluation(&Client::find(node)?, &name, format).await,
        ModelsVerb::Revert { name, snapshot, reason } => {
            rollouts::revert(&Client::find(node)?, &name, snapshot, &reason, format).await
        }
        ModelsVerb::Sample { name } => sample(&Client::find(node)?, &name).await,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

async fn list(client: &Client, format: Format) -> Result<(), Refusal> {
    let models: Vec<Value> = client.get("/v1/models").await?;
    output::show(&models, format, |models| {
        if models.is_empty() {
            return "no models yet: `mantlet deploy MODEL.onnx --name NAME --wait`\n".to_owned();
        }
        let row = |model: &Value| {
            let at = output::date(Timestamp(model["deployed"].as_u64().unwrap_or(0)));
            let digest: String = text(&model["digest"]).chars().take(12).collect();
            let fields = ["name", "version", "state", "replicas"].map(|field| text(&model[field]));
            fields.into_iter().chain([scaling::short(&model["scaling"]), digest, at]).collect()
        };
        let rows: Vec<Vec<String>> = models.iter().map(row).collect();
        let mut out = table(&["NAME", "VERSION", "STATE", "REPLICAS", "SCALING", "BUNDLE", "DEPLOYED"], &rows);
        for model in models {
            let lines = sent::lines(&model["sent"]).into_iter();
            out.extend(lines.map(|line| format!("{}: {line}\n", text(&model["name"]))));
        }
        out
    });
    Ok(())
}

async fn show(client: &Client, name: &ModelName, format: Format) -> Result<(), Refusal> {
    let shown: Value = client.get(&format!("/v1/models/{name}")).await?;
    output::show(&shown, format, describe);
    Ok(())
}

fn describe(shown: &Value) -> String {
    let model = &shown["model"];
    let mut out = format!(
        "{}/{} version {}: {}, replicas {}, restarts {}\n",
        text(&model["namespace"]),
        text(&model["name"]),
        text(&model["version"]),
        text(&model["state"]),
        text(&model["replicas"]),
        text(&model["restarts"]),
    );
    if let Some(said) = scaling::long(&model["scaling"]) {
        out.push_str(&format!("scaling: {said}\n"));
    }
    for line in sent::lines(&model["sent"]) {
        out.push_str(&format!("requests: {line}\n"));
    }
    if let Some(by) = model["stopped"].as_str() {
        let name = text(&model["name"]);
        out.push_str(&format!("because: {by} set the number of its replicas to 0\nhint: `mantlet scale {name} manifest` leaves it to its load again\n"));
    }
    if let Some(problem) = model["waiting"].as_object() {
        let field = |name: &str| problem.get(name).map(text).unwrap_or_default();
        out.push_str(&format!("because: {} [{}]\n", field("detail"), field("code")));
        if problem.contains_key("hint") {
            out.push_str(&format!("hint: {}\n", field("hint")));
        }
    }
    out.push_str(&format!("versions: {}\nbundle: {}\n", text(&model["versions"]), text(&model["digest"])));
    for (what, field) in [("input", "inputs"), ("output", "outputs")] {
        for tensor in shown["metadata"][field].as_array().into_iter().flatten() {
            let classes = match &tensor["classes"] {
                Value::Null => String::new(),
                classes => format!(" classes {classes}"),
            };
            out.push_str(&format!(
                "{what}: {} {} {}{classes}\n",
                text(&tensor["name"]),
                text(&tensor["datatype"]),
                tensor["shape"]
            ));
        }
    }
    out
}

/// The metadata of a model, once it is known.
async fn metadata(client: &Client, name: &ModelName) -> Result<ModelMetadata, Refusal> {
    let mut shown: Value = client.get(&format!("/v1/models/{name}")).await?;
    serde_json::from_value(shown["metadata"].take()).map_err(|_| {
        Refusal::new(Code::ModelNotReady, format!("what `{name}` takes is not known yet"))
            .hint(format!("wait until it is ready: `mantlet models show {name}`"))
    })
}

async fn sample(client: &Client, name: &ModelName) -> Result<(), Refusal> {
    let metadata = metadata(client, name).await?;
    // A word that the manifest lists is one that is let in.
    let shown: Value = client.get(&format!("/v1/models/{name}")).await?;
    let listed = |input: &str| {
        let inputs = shown["manifest"]["spec"]["inputs"].as_array().into_iter().flatten();
        let mut words =
            inputs.filter(|declared| declared["name"] == input).filter_map(|declared| declared["categories"].get(0));
        words.next().cloned()
    };
    let inputs: Vec<Value> = metadata
        .inputs
        .iter()
        .map(|spec| {
            let shape: Vec<i64> = spec.shape.iter().map(|d| if *d < 0 { 1 } else { *d }).collect();
            let elements = shape.iter().fold(1_usize, |n, d| n.saturating_mul(usize::try_from(*d).unwrap_or(0)));
            let zero = match spec.datatype {
                DataType::Bool => json!(false),
                DataType::Bytes => listed(&spec.name).unwrap_or_else(|| json!("0")),
                datatype if datatype.is_float() => json!(0.0),
                _ => json!(0),
            };
            json!({ "name": spec.name, "datatype": spec.datatype, "shape": shape, "data": vec![zero; elements.min(1 << 24)] })
        })
        .collect();
    output::raw(&json!({ "inputs": inputs }).to_string());
    Ok(())
}

async fn export(
    client: &Client,
    name: &ModelName,
    dir: &Path,
    version: Option<Version>,
    format: Format,
) -> Result<(), Refusal> {
    empty_folder(dir)?;
    let query = version.map(|version| format!("?version={version}")).unwrap_or_default();
    let bundle: Value = client.get(&format!("/v1/models/{name}/bundle{query}")).await?;
    for file in bundle["files"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if file.contains(['/', '\\']) || file.starts_with('.') {
            return Err(Refusal::new(
                Code::FileUnreadable,
                format!("the node names a file `{file}`, which leaves the folder"),
            ));
        }
        let path = format!("/v1/models/{name}/bundle/{file}{query}");
        let response = client.send(client.request(Method::GET, &path)).await?;
        let data = response.bytes().await.map_err(|error| output::internal(&error))?;
        let target = dir.join(file);
        fs::write(&target, data).map_err(output::file(&target))?;
    }
    let key = match &client.dir {
        Some(dir) => dir.join("bundle.pub").display().to_string(),
        None => "KEY.pub".to_owned(),
    };
    let shown =
        json!({ "name": name, "version": bundle["version"], "digest": bundle["digest"], "dir": dir, "key": key });
    output::show(&shown, format, |_| {
        let dir = dir.display();
        format!(
            "{name} version {} is in {dir}\nanybody can verify it with the key {key}, handed over another way:\n  \
             pip install model-signing pyOpenSSL\n  \
             python -m model_signing verify key {dir} --signature {dir}/model.sig --public_key {key}\n",
            bundle["version"]
        )
    });
    Ok(())
}

/// Makes the folder, or takes one that is empty.
pub(crate) fn empty_folder(dir: &Path) -> Result<(), Refusal> {
    fs::create_dir_all(dir).map_err(output::file(dir))?;
    if fs::read_dir(dir).map_err(output::file(dir))?.next().is_some() {
        return Err(Refusal::new(Code::FileUnreadable, format!("{} is not empty", dir.display()))
            .hint("name a folder that does not exist yet"));
    }
    Ok(())
}

pub(crate) async fn rollback(client: &Client, arguments: &Rollback, format: Format) -> Result<(), Refusal> {
    let name = &arguments.name;
    let request =
        client.request(Method::POST, &format!("/v1/models/{name}/rollback")).json(&json!({ "to": arguments.to }));
    let done: Value = client.json(request).await?;
    output::show(&done, format, |done| {
        format!("version {} of {name} answers as soon as it is ready\n", done["version"])
    });
    Ok(())
}

pub(crate) async fn delete(client: &Client, name: &ModelName, format: Format) -> Result<(), Refusal> {
    let done: Value = client.json(client.request(Method::DELETE, &format!("/v1/models/{name}"))).await?;
    output::show(&done, format, |_| format!("{name} is deleted\n"));
    Ok(())
}

/// Commands that work as printed, for who has just deployed.
pub(crate) fn next_steps(client: &Client, name: &str) -> String {
    let Some(dir) = &client.dir else {
        return format!(
            "try it: mantlet models sample {name} > request.json && mantlet predict {name} --input request.json\n"
        );
    };
    let calls = crate::client::examples(dir, client.url(), &format!("/v2/models/{name}/infer"), Some("request.json"));
    let dir = dir.display();
    format!(
        "\ntry it:\n  mantlet --data-dir {dir} models sample {name} > request.json\n  \
         mantlet --data-dir {dir} predict {name} --input request.json\n\n{calls}"
    )
}
