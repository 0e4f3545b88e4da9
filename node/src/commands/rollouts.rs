//! `mantlet rollouts`, `approve`, `reject`, `undo`: how challengers stand, and a person's word on them.

use std::fmt::Write as _;

use serde_json::{Value, json};
use types::{Code, ModelName, Refusal, Version};

use crate::{
    cli::{Challenge, Contributors, Format, Trust},
    client::Client,
    output::{self, table},
};

pub(crate) async fn list(client: &Client, format: Format) -> Result<(), Refusal> {
    let shown: Value = client.get("/v1/rollouts").await?;
    output::show(&shown, format, describe);
    Ok(())
}

/// Which challenger an id names: `MODEL/VERSION`.
fn named(id: &str) -> Result<(ModelName, Version), Refusal> {
    let wrong = || {
        Refusal::new(Code::NameInvalid, format!("`{id}` names no challenger"))
            .hint("it is MODEL/VERSION, as `mantlet rollouts` shows it")
    };
    let (model, version) = id.rsplit_once('/').ok_or_else(wrong)?;
    Ok((model.parse()?, Version(version.parse().map_err(|_| wrong())?)))
}

pub(crate) async fn decide(client: &Client, say: &str, arguments: &Challenge, format: Format) -> Result<(), Refusal> {
    let (model, version) = named(&arguments.id)?;
    let body = json!({ "reason": arguments.reason });
    let request = client.request(reqwest::Method::POST, &format!("/v1/rollouts/{model}/{version}/{say}")).json(&body);
    let shown: Value = client.json(request).await?;
    output::show(&shown, format, |shown| describe(&json!([shown])));
    Ok(())
}

pub(crate) async fn explain(client: &Client, id: &str, format: Format) -> Result<(), Refusal> {
    let (model, version) = named(id)?;
    let shown: Value = client.get(&format!("/v1/rollouts/{model}/{version}")).await?;
    output::show(&shown, format, explained);
    Ok(())
}

fn explained(shown: &Value) -> String {
    let evidence = &shown["evidence"];
    let mut text = describe(&json!([shown["rollout"]]));
    let _ = writeln!(
        text,
        "\nThe joined log says, entries {} to {}: {} labels, {} lost {:.6} a label and {} {:.6}.",
        evidence["from"],
        evidence["offset"],
        evidence["labels"],
        format_args!("version {}", shown["rollout"]["champion"]),
        evidence["champion_loss"].as_f64().unwrap_or(f64::NAN),
        format_args!("version {}", shown["rollout"]["challenger"]),
        evidence["challenger_loss"].as_f64().unwrap_or(f64::NAN),
    );
    for verdict in shown["verdicts"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "After entry {}: {}.", verdict[0], verdict[1].as_str().unwrap_or_default());
    }
    text.push_str(match shown["agrees"].as_bool() {
        Some(true) => "That is what was decided on, to the last digit.\n",
        _ => "That is NOT what was decided on.\n",
    });
    text
}

pub(crate) async fn revert(
    client: &Client,
    name: &ModelName,
    snapshot: Option<u64>,
    reason: &str,
    format: Format,
) -> Result<(), Refusal> {
    let body = json!({ "snapshot": snapshot, "reason": reason });
    let request = client.request(reqwest::Method::POST, &format!("/v1/models/{name}/revert")).json(&body);
    let shown: Value = client.json(request).await?;
    output::show(&shown, format, |shown| {
        format!(
            "`{name}` knows what it had learnt from {} examples; that is its state {}\n",
            shown["learnt"], shown["snapshot"]["number"]
        )
    });
    Ok(())
}

pub(crate) async fn look_at(client: &Client, arguments: &Contributors, format: Format) -> Result<(), Refusal> {
    let Contributors { say, name, contributor, reason } = arguments;
    let say = match say {
        Trust::Trust => "trust",
        Trust::Distrust => "distrust",
    };
    let body = json!({ "contributor": contributor, "reason": reason });
    let path = format!("/v1/models/{name}/contributors/{say}");
    let request = client.request(reqwest::Method::POST, &path).json(&body);
    let shown: Value = client.json(request).await?;
    output::show(&shown, format, |_| match arguments.say {
        Trust::Trust => format!("labels of `{contributor}` teach `{name}` from now on\n"),
        Trust::Distrust => format!("labels of `{contributor}` are held back from now on\n"),
    });
    Ok(())
}

fn describe(shown: &Value) -> String {
    let rows: Vec<Vec<String>> = shown
        .as_array()
        .into_iter()
        .flatten()
        .map(|rollout| {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let evidence = &rollout["evidence"];
            let any = evidence["labels"].as_u64() > Some(0);
            let loss = |side: &str| {
                let loss = evidence[side].as_f64().filter(|_| any);
                loss.map_or_else(|| "-".into(), |loss| format!("{loss:.4}"))
            };
            let said = [&rollout["canary"], &rollout["word"], &rollout["why"]].into_iter().find_map(Value::as_str);
            let paused = rollout["paused"]["by"].as_str().map(|by| {
                let reason = rollout["paused"]["reason"].as_str().unwrap_or_default();
                format!("{by} has it wait: {reason}")
            });
            let slices = ["slice", "slices"].into_iter().find_map(|field| rollout[field].as_str());
            let said: Vec<&str> = paused.as_deref().into_iter().chain(said).chain(slices).collect();
            let stands = match (&paused, rollout["canary"].is_string()) {
                (Some(_), _) => "paused".into(),
                (None, true) => "canary".into(),
                (None, false) => text(&rollout["stand"]).replace('_', " "),
            };
            vec![
                format!("{}/{}", text(&rollout["model"]), rollout["challenger"]),
                rollout["champion"].to_string(),
                stands,
                evidence["labels"].to_string(),
                loss("champion_loss"),
                loss("challenger_loss"),
                said.join("; "),
            ]
        })
        .collect();
    if rows.is_empty() {
        return "no version challenges another; `spec.learning.promote` lets one: docs/streaming-models.md\n".into();
    }
    table(&["CHALLENGER", "OF VERSION", "STANDS", "LABELS", "ITS LOSS", "THE CHALLENGER'S", ""], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenger_is_named_by_model_and_version() {
        assert_eq!(named("fraud/2").unwrap(), ("fraud".parse().unwrap(), Version(2)));
        for wrong in ["fraud", "fraud/x", "/2", "fraud/"] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rollout_is_a_line() {
        let shown = json!([{
            "model": "fraud", "champion": 1, "challenger": 2, "stand": "handed_back", "why": "it answers",
            "evidence": { "labels": 812, "champion_loss": 0.25, "challenger_loss": 0.125 },
        }]);
        let text = describe(&shown);
        for word in ["fraud/2", "handed back", "812", "0.2500", "0.1250", "it answers"] {
            assert!(text.contains(word), "{text}");
        }
        let mut paused = shown.clone();
        paused[0]["canary"] = json!("it answers 10%");
        paused[0]["paused"] = json!({ "by": "ops", "reason": "a look first", "since": 5 });
        let text = describe(&paused);
        for word in ["paused", "ops has it wait: a look first; it answers 10%"] {
            assert!(text.contains(word), "{text}");
        }
        assert!(describe(&json!([])).contains("promote"));
    }
}
