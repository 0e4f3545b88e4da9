//! `mantlet retrain`, `jobs`: new versions that jobs train.

use std::fmt::Write as _;

use serde_json::{Value, json};
use types::{ModelName, Refusal, Timestamp};

use crate::{
    cli::Format,
    client::Client,
    output::{self, table},
};

pub(crate) async fn retrain(client: &Client, name: &ModelName, reason: &str, format: Format) -> Result<(), Refusal> {
    let body = json!({ "reason": reason });
    let request = client.request(reqwest::Method::POST, &format!("/v1/models/{name}/retrain")).json(&body);
    let shown: Value = client.json(request).await?;
    output::show(&shown, format, |job| {
        let job = job["job"].as_str().unwrap_or_default();
        format!("job `{job}` trains `{name}`: `mantlet jobs {name}` shows how it goes\n")
    });
    Ok(())
}

pub(crate) async fn list(client: &Client, name: Option<&ModelName>, format: Format) -> Result<(), Refusal> {
    let models: Vec<Value> = match name {
        Some(name) => vec![json!({ "name": name })],
        None => client.get("/v1/models").await?,
    };
    let mut jobs: Vec<Value> = Vec::new();
    for model in models.iter().filter_map(|model| model["name"].as_str()) {
        jobs.extend(client.get::<Vec<Value>>(&format!("/v1/models/{model}/jobs")).await?);
    }
    // Ids of later ones are greater.
    jobs.sort_by(|a, b| b["id"].as_str().cmp(&a["id"].as_str()));
    output::show(&jobs, format, |jobs| describe(jobs, name.is_some()));
    Ok(())
}

fn describe(jobs: &[Value], whole: bool) -> String {
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let row = |job: &Value| {
        let asked = output::date(Timestamp(job["asked"].as_u64().unwrap_or(0)));
        let took = job["ended"].as_u64().zip(job["began"].as_u64()).map(|(ended, began)| ended.saturating_sub(began));
        let took = took.map_or_else(|| "-".to_owned(), |took| format!("{:.1} s", took as f64 / 1e3));
        let what = job["failure"].as_str().unwrap_or_else(|| job["why"].as_str().unwrap_or_default());
        let [model, state, examples, version] =
            ["model", "state", "examples", "version"].map(|field| text(&job[field]));
        vec![model, text(&job["job"]), state, asked, took, examples, version, what.to_owned()]
    };
    if jobs.is_empty() {
        return "no job has run; `spec.learning.train` of a model names one: docs/retraining.md\n".into();
    }
    let rows: Vec<Vec<String>> = jobs.iter().map(row).collect();
    let mut shown = table(&["MODEL", "JOB", "STATE", "ASKED", "TOOK", "EXAMPLES", "VERSION", ""], &rows);
    if let (true, Some(newest)) = (whole, jobs.first()) {
        if let Some(metrics) = newest.get("metrics").filter(|metrics| !metrics.is_null()) {
            let _ = writeln!(shown, "\nThe newest says of its model: {metrics}");
        }
        let lines: Vec<&str> = newest["log"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !lines.is_empty() {
            let _ = writeln!(shown, "\nThe last lines that the newest printed:\n  {}", lines.join("\n  "));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_job_says_why_and_shows_its_last_lines() {
        let job = json!({
            "model": "fraud", "job": "sklearn", "state": "failed", "asked": 0, "began": 1_000, "ended": 3_500, "examples": 812,
            "why": "trainer: every 1d", "failure": "it ended with 1", "log": ["Traceback", "ValueError: no rows"],
        });
        let text = describe(&[job], true);
        for part in ["fraud", "sklearn", "failed", "2.5 s", "812", "it ended with 1", "ValueError: no rows"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(describe(&[], false).contains("spec.learning.train"));
    }
}
