//! `mantlet feedback`, `models evaluation` and `models examples`: labels go in, how right each version was comes out, and
//! what it was asked.

use std::{fs, io::Read as _, path::Path, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use types::{Code, ModelName, Refusal, Timestamp, quantity::Span};

use crate::{
    cli::Format,
    client::Client,
    output::{self, table},
};

/// Labels sent at a time.
const CHUNK: usize = 5_000;

pub(crate) async fn run(client: &Client, path: &Path, format: Format) -> Result<(), Refusal> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map_err(output::file(path))?;
    } else {
        text = fs::read_to_string(path).map_err(output::file(path))?;
    }
    let labels = read(&text).map_err(|error| {
        Refusal::new(Code::FileUnreadable, format!("{}: {error}", path.display()))
            .hint(r#"write one label a line: {"prediction": "0198…", "row": 0, "label": "fraud"}"#)
    })?;
    let mut accepted = 0;
    for chunk in labels.chunks(CHUNK) {
        let request = client.request(Method::POST, "/v1/feedback").json(chunk);
        let answer: Value = client.json(request).await.map_err(|refusal| said_before(refusal, accepted))?;
        accepted += answer["accepted"].as_u64().unwrap_or(0);
    }
    output::show(&json!({ "accepted": accepted }), format, |_| {
        format!("{accepted} labels are stored; see what became of them: mantlet models evaluation NAME\n")
    });
    Ok(())
}

/// Labels of a file: an array, or one after the other.
fn read(text: &str) -> Result<Vec<Value>, serde_json::Error> {
    if text.trim_start().starts_with('[') {
        serde_json::from_str(text)
    } else {
        serde_json::Deserializer::from_str(text).into_iter().collect()
    }
}

/// A refusal in the middle of a file says how much of it is stored.
fn said_before(refusal: Refusal, accepted: u64) -> Refusal {
    if accepted == 0 {
        return refusal;
    }
    let message = format!("{}; the first {accepted} labels are stored", refusal.message);
    Refusal { message: message.into(), ..refusal }
}

pub(crate) async fn evaluation(client: &Client, name: &ModelName, format: Format) -> Result<(), Refusal> {
    let shown: Value = client.get(&format!("/v1/models/{name}/evaluation")).await?;
    output::show(&shown, format, |shown| describe(name, shown));
    Ok(())
}

pub(crate) async fn examples(client: &Client, name: &ModelName, from: u64) -> Result<(), Refusal> {
    let mut from = Some(from);
    while let Some(offset) = from {
        let page: Value = client.get(&format!("/v1/models/{name}/examples?from={offset}")).await?;
        let lines: Vec<String> = page["examples"].as_array().into_iter().flatten().map(Value::to_string).collect();
        if !lines.is_empty() {
            output::raw(&lines.join("\n"));
        }
        from = page["next"].as_u64();
    }
    Ok(())
}

const CLASSES: [(&str, &str); 6] = [
    ("accuracy", "ACCURACY"),
    ("balanced_accuracy", "BALANCED"),
    ("log_loss", "LOG LOSS"),
    ("auc", "AUC"),
    ("precision", "PRECISION"),
    ("calibration_error", "CALIBRATION"),
];
const NUMBERS: [(&str, &str); 5] =
    [("mae", "MAE"), ("rmse", "RMSE"), ("bias", "BIAS"), ("pinball", "PINBALL"), ("of_last", "OF LAST")];

/// Alarms that are told, the newest; programs get all.
const ALARMS: usize = 5;

/// Which share of the rows has a label, by how long ago they were asked.
fn covered(coverage: &Value) -> String {
    let share = |covered: &Value| {
        let (rows, labelled) = (covered["rows"].as_f64()?, covered["labelled"].as_f64()?);
        let to = Span(Duration::from_millis(covered["to_ms"].as_u64()?));
        Some(format!("{:.0}% of the rows asked up to {to} ago", 100.0 * labelled / rows))
    };
    let shares: Vec<String> = coverage.as_array().into_iter().flatten().filter_map(share).collect();
    if shares.is_empty() { String::new() } else { format!("labelled so far: {}\n", shares.join(", ")) }
}

/// How far the news of an alarm has got.
fn told(told: &Value) -> String {
    let why = told["why"].as_str().unwrap_or("it is to be sent");
    match told["state"].as_str() {
        Some("delivered") => {
            format!("; told {}", told["at"].as_u64().map_or_else(String::new, |at| output::date(Timestamp(at))))
        }
        Some("waiting") => format!("; not told yet, {} attempts: {why}", told["attempts"]),
        Some(_) => format!("; not told: {why}"),
        None => String::new(),
    }
}

/// What each version was asked, where there are several to compare.
fn traffic(traffic: &Value) -> String {
    let versions = traffic.as_array().map(Vec::as_slice).unwrap_or_default();
    if versions.len() < 2 {
        return String::new();
    }
    let row = |version: &Value| {
        let of = |field: &str| version[field].to_string();
        let share = version["errors"].as_f64().zip(version["requests"].as_f64()).map(|(errors, all)| errors / all);
        let share = share.filter(|share| share.is_finite()).unwrap_or(0.0);
        let millis = |field: &str| version[field].as_f64().map_or_else(|| "-".into(), |ms| format!("{ms:.1} ms"));
        let errors = format!("{} ({:.2}%)", of("errors"), 100.0 * share);
        vec![of("version"), of("requests"), of("rows"), errors, millis("p50_ms"), millis("p99_ms")]
    };
    let rows: Vec<Vec<String>> = versions.iter().map(row).collect();
    let table = table(&["VERSION", "REQUESTS", "ROWS", "ERRORS", "P50", "P99"], &rows);
    format!("asked by way of this gateway since it started:\n{table}\n")
}

fn describe(name: &ModelName, shown: &Value) -> String {
    let mut out = String::new();
    for learning in shown["learning"].as_array().into_iter().flatten() {
        let answers = match learning["snapshot"].as_object() {
            Some(snapshot) => format!("snapshot {} answers, with {} of them", snapshot["number"], snapshot["learnt"]),
            None => "it answers as it was deployed".to_owned(),
        };
        out.push_str(&format!(
            "{name} version {} has learnt {} examples; {answers}\n",
            learning["version"], learning["learnt"]
        ));
        let regression = learning["figures"]["long"].get("mae").is_some();
        if let Some(clean) = learning["clean"].as_f64() {
            let what = if regression { "an error of" } else { "a share right of" };
            out.push_str(&format!("on the clean set it has {what} {clean:.4}\n"));
        }
        out.push_str("each judged before it was learnt:\n");
        out.push_str(&figures(&learning["figures"], regression));
        out.push('\n');
    }
    for version in shown["versions"].as_array().into_iter().flatten() {
        let age =
            version["label_age_ms"].as_u64().map_or_else(|| "-".into(), |age| format!("{:.1} s", age as f64 / 1e3));
        out.push_str(&format!(
            "{name} version {}: {} of {} labelled rows, a label comes after {age}\n",
            version["version"],
            version["kind"].as_str().unwrap_or("-"),
            version["labelled"],
        ));
        out.push_str(&covered(&version["coverage"]));
        out.push_str(&figures(&version["figures"], version["kind"] == "regression"));
        out.push('\n');
    }
    out.push_str(&traffic(&shown["traffic"]));
    let alarms = shown["alarms"].as_array().map(Vec::as_slice).unwrap_or_default();
    for alarm in alarms.iter().take(ALARMS) {
        let at = alarm["at"].as_u64().map_or_else(String::new, |at| output::date(Timestamp(at)));
        let since =
            alarm["since"].as_u64().map_or_else(String::new, |at| format!(", since {}", output::date(Timestamp(at))));
        out.push_str(&format!(
            "drift of {} of version {}, found {at}{since}: {}{}\n",
            alarm["kind"].as_str().unwrap_or("-"),
            alarm["version"],
            alarm["what"].as_str().unwrap_or("-"),
            told(&alarm["told"]),
        ));
    }
    if alarms.len() > ALARMS {
        out.push_str(&format!("and {} earlier ones: --output json\n", alarms.len() - ALARMS));
    }
    if out.is_empty() {
        out.push_str("no label has met a prediction of this model yet: `mantlet feedback FILE`\n\n");
    }
    let labels: Vec<Vec<String>> = shown["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(what, count)| {
            let last = count["last"].as_str().unwrap_or("").to_owned();
            vec![what.replace('_', " "), count["count"].to_string(), last]
        })
        .collect();
    if !labels.is_empty() {
        out.push_str(&table(&["LABELS", "COUNT", "THE LAST ONE"], &labels));
    }
    let contributors: Vec<Vec<String>> = shown["contributors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|contributor| {
            let held_back = if contributor["held_back"] == true { "held back" } else { "" };
            let name = contributor["name"].as_str().unwrap_or("-").to_owned();
            vec![name, contributor["labels"].to_string(), contributor["disagreed"].to_string(), held_back.into()]
        })
        .collect();
    if contributors.len() > 1 {
        out.push_str(&table(&["CONTRIBUTOR", "LABELS", "DISAGREED", ""], &contributors));
    }
    if let Some(at) = shown["watermark"].as_u64() {
        out.push_str(&format!("labels are read until {}\n", output::date(Timestamp(at))));
    }
    out
}

/// Figures since the start and of both windows.
fn figures(figures: &Value, regression: bool) -> String {
    let columns = if regression { NUMBERS.as_slice() } else { CLASSES.as_slice() };
    let headings: Vec<&str> = ["ROWS", ""].into_iter().chain(columns.iter().map(|(_, heading)| *heading)).collect();
    let rows: Vec<Vec<String>> = [("since_start", "since start"), ("long", "long window"), ("short", "short window")]
        .iter()
        .map(|(part, words)| {
            let figures = &figures[part];
            let number =
                |(field, _): &(&str, &str)| figures[field].as_f64().map_or_else(|| "-".into(), |n| format!("{n:.4}"));
            let ends = [figures["rows"].to_string(), (*words).to_owned()];
            ends.into_iter().chain(columns.iter().map(number)).collect()
        })
        .collect();
    table(&headings, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_an_array_or_lines() {
        assert_eq!(read("[1, 2]").unwrap().len(), 2);
        assert_eq!(read("{\"a\":1}\n{\"a\":2}\n\n").unwrap().len(), 2);
        assert_eq!(read("").unwrap().len(), 0);
        assert!(read("{\"a\":1}\n{").is_err());
    }

    #[test]
    fn an_evaluation_is_a_table_for_each_version() {
        let shown = json!({
            "versions": [{
                "version": 2, "kind": "classification", "labelled": 3, "label_age_ms": 1500,
                "coverage": [{ "from_ms": 0, "to_ms": 60_000, "rows": 200, "labelled": 50 }],
                "figures": { "since_start": { "rows": 3, "accuracy": 0.6667, "auc": null }, "short": {}, "long": {} },
            }],
            "labels": { "no_row": { "count": 1, "last": "prediction p, row 9: it has 1 row" } },
            "watermark": 0,
        });
        let text = describe(&"fraud".parse().unwrap(), &shown);
        assert!(
            text.contains("fraud version 2: classification of 3 labelled rows, a label comes after 1.5 s"),
            "{text}"
        );
        assert!(text.contains("labelled so far: 25% of the rows asked up to 1m ago"), "{text}");
        assert!(text.contains("0.6667") && text.contains("no row") && text.contains("it has 1 row"), "{text}");
    }
}
