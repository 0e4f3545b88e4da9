//! `mantlet plan` and `scale`.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use types::{ModelName, Refusal, Timestamp};

use super::{deploy, scaling, sent};
use crate::{
    cli::{Format, Replicas},
    client::Client,
    output::{self, table},
};

pub(crate) async fn run(
    client: &Client,
    file: Option<&Path>,
    name: Option<ModelName>,
    format: Format,
) -> Result<(), Refusal> {
    let plan: Value = match file {
        None => client.get("/v1/plan").await?,
        Some(file) => {
            let (manifest, _) = deploy::manifest(file, name.as_ref())?;
            client.json(client.request(Method::POST, "/v1/plan").json(&json!({ "manifest": manifest }))).await?
        }
    };
    output::show(&plan, format, describe);
    Ok(())
}

pub(crate) async fn scale(
    client: &Client,
    name: &ModelName,
    Replicas(replicas): Replicas,
    format: Format,
) -> Result<(), Refusal> {
    let request = client.request(Method::POST, &format!("/v1/models/{name}/scale"));
    let scaled: Value = client.json(request.json(&json!({ "replicas": replicas }))).await?;
    output::show(&scaled, format, |_| match replicas {
        Some(replicas) => format!("{replicas} replicas of `{name}` are wanted; `mantlet plan` says what happens\n"),
        None => format!("as many replicas of `{name}` as its manifest says, or leaves to the load, are wanted\n"),
    });
    Ok(())
}

fn cells(action: &Value) -> [String; 4] {
    let text = |field: &str| match &action[field] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let model = match (text("model"), text("version")) {
        (model, version) if version.is_empty() => model,
        (model, version) => format!("{model} version {version}"),
    };
    [text("step"), model, text("server"), text("why")]
}

fn describe(plan: &Value) -> String {
    let list = |field: &str| plan[field].as_array().cloned().unwrap_or_default();
    let (rounds, waiting, recent) = (list("rounds"), list("waiting"), list("recent"));
    let mut out = String::new();
    if rounds.is_empty() {
        out.push_str("nothing to do: everything is as wanted, or waits\n");
    } else {
        let rows = rounds.iter().enumerate().flat_map(|(round, actions)| {
            let actions = actions.as_array().into_iter().flatten();
            actions.map(move |action| std::iter::once((round + 1).to_string()).chain(cells(action)).collect())
        });
        let rows: Vec<Vec<String>> = rows.collect();
        out.push_str(&table(&["ROUND", "STEP", "MODEL", "MODEL SERVER", "WHY"], &rows));
    }
    for row in &waiting {
        let (model, reason) = (row[0].as_str().unwrap_or_default(), &row[1]["reason"]);
        let hint = reason["hint"].as_str().map(|hint| format!(" ({hint})")).unwrap_or_default();
        out.push_str(&format!("waiting: {model}: {}{hint}\n", reason["message"].as_str().unwrap_or_default()));
    }
    for row in list("scaling") {
        if let Some(said) = scaling::long(&row[1]) {
            out.push_str(&format!("scaling: {}: {said}\n", row[0].as_str().unwrap_or_default()));
        }
    }
    for row in list("sent") {
        for line in sent::lines(&row[1]) {
            out.push_str(&format!("requests: {}: {line}\n", row[0].as_str().unwrap_or_default()));
        }
    }
    if !recent.is_empty() {
        let rows = recent.iter().map(|taken| {
            let at = output::date(Timestamp(taken["begun"].as_u64().unwrap_or(0)));
            let outcome = taken["outcome"].as_str().unwrap_or("under way").to_owned();
            std::iter::once(at).chain(cells(&taken["action"])).chain([outcome]).collect()
        });
        let rows: Vec<Vec<String>> = rows.collect();
        out.push('\n');
        out.push_str(&table(&["TAKEN", "STEP", "MODEL", "MODEL SERVER", "WHY", "OUTCOME"], &rows));
    }
    out
}
