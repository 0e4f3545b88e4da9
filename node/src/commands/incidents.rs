//! `mantlet incidents`, `agents`, `restrict`, and a person's word on what the sentinel does.

use std::fmt::Write as _;

use clap::ValueEnum as _;
use serde_json::{Value, json};
use types::Refusal;

use crate::{
    cli::{Challenge, Export, Format, IncidentsVerb, Restrict},
    client::Client,
    output::{self, table},
};

pub(crate) async fn run(client: &Client, verb: Option<&IncidentsVerb>, format: Format) -> Result<(), Refusal> {
    match verb {
        None => {
            let shown: Value = client.get("/v1/incidents").await?;
            output::show(&shown, format, listed);
        }
        Some(IncidentsVerb::Show { id }) => {
            let shown: Value = client.get(&format!("/v1/incidents/{id}")).await?;
            output::show(&shown, format, |shown| described(shown, now()));
        }
        Some(IncidentsVerb::Export { format: form, limit }) => {
            let form = match form {
                Export::Ocsf => "ocsf",
                Export::Json => "json",
            };
            let shown: Value = client.get(&format!("/v1/incidents?format={form}&limit={limit}")).await?;
            // A value a line in either form: that is what collectors read.
            let lines = shown.as_array().into_iter().flatten().map(|one| format!("{one}\n")).collect::<String>();
            output::raw(&lines);
        }
    }
    Ok(())
}

pub(crate) async fn agents(client: &Client, format: Format) -> Result<(), Refusal> {
    let shown: Value = client.get("/v1/agents").await?;
    output::show(&shown, format, |shown| {
        let row = |agent: &Value| {
            let state = match (agent["alive"].as_bool(), agent["failures"].as_u64()) {
                (Some(true), Some(0)) => "works".into(),
                (Some(true), failures) => format!("works, failed {} times", failures.unwrap_or_default()),
                _ => "has failed".to_owned(),
            };
            let threshold = agent["threshold"].as_f64();
            vec![
                text(&agent["agent"]),
                text(&agent["mode"]),
                state,
                agent["windows"].to_string(),
                agent["alarms"].to_string(),
                threshold
                    .map_or_else(|| "too little to compare with: its rule acts".into(), |from| format!("{from:.2}")),
            ]
        };
        let rows: Vec<Vec<String>> = shown.as_array().into_iter().flatten().map(row).collect();
        table(&["AGENT", "MODE", "STATE", "WINDOWS", "ALARMS", "ALARM FROM"], &rows)
    });
    Ok(())
}

pub(crate) async fn restrict(client: &Client, arguments: &Restrict, format: Format) -> Result<(), Refusal> {
    let Restrict { subject, rung, model, lasts, reason } = arguments;
    let rung = rung.to_possible_value().map(|value| value.get_name().to_owned());
    let body = json!({
        "subject": subject, "rung": rung, "model": model, "for": lasts.map(|span| span.to_string()), "reason": reason,
    });
    let shown: Value = client.json(client.request(reqwest::Method::POST, "/v1/restrictions").json(&body)).await?;
    output::show(&shown, format, |shown| described(shown, now()));
    Ok(())
}

pub(crate) async fn say(client: &Client, say: &str, arguments: &Challenge, format: Format) -> Result<(), Refusal> {
    let body = json!({ "reason": arguments.reason });
    let path = format!("/v1/incidents/{}/{say}", arguments.id);
    let shown: Value = client.json(client.request(reqwest::Method::POST, &path).json(&body)).await?;
    output::show(&shown, format, |shown| described(shown, now()));
    Ok(())
}

fn now() -> u64 {
    rpc::Clock::System.now().0
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What is in force of an incident, or proposed.
fn standing(incident: &Value) -> String {
    let actions = || incident["actions"].as_array().into_iter().flatten();
    let of = |state: &'static str| move |taken: &&Value| taken["state"] == state;
    let rung = |taken: &Value| text(&taken["restriction"]["rung"]);
    if let Some(acting) = actions().rfind(of("acting")) {
        return format!("{} ({})", rung(acting), text(&acting["restriction"]["id"]));
    }
    match actions().rfind(of("proposed")) {
        Some(proposed) => format!("{}? ({})", rung(proposed), text(&proposed["restriction"]["id"])),
        None => "-".into(),
    }
}

fn listed(shown: &Value) -> String {
    let row = |incident: &Value| {
        vec![
            text(&incident["id"]),
            text(&incident["state"]),
            text(&incident["subject"]),
            format!("{:.0}%", 100.0 * incident["probability"].as_f64().unwrap_or_default()),
            standing(incident),
            ago(incident["updated"].as_u64(), now()),
            clip(&text(&incident["summary"]), 70),
        ]
    };
    let rows: Vec<Vec<String>> = shown.as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        return "nobody has attacked, as far as anybody saw\n".into();
    }
    table(&["ID", "STATE", "SUBJECT", "HOSTILE", "ACTION", "LAST", "WHAT"], &rows)
}

fn described(incident: &Value, now: u64) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{} ({}): {}", text(&incident["id"]), text(&incident["state"]), text(&incident["summary"]));
    let _ = writeln!(out, "  subject      {}", text(&incident["subject"]));
    let _ = writeln!(out, "  hostile      {:.0}%", 100.0 * incident["probability"].as_f64().unwrap_or_default());
    let list = |value: &Value, of: fn(&Value) -> String| {
        value.as_array().into_iter().flatten().map(of).collect::<Vec<_>>().join(", ")
    };
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(out, "  {name:<12} {value}");
        }
    };
    line("agents", list(&incident["agents"], text));
    line("models", list(&incident["models"], text));
    line("known as", list(&incident["techniques"], |one| format!("{} {}", text(&one["id"]), text(&one["name"]))));
    for taken in incident["actions"].as_array().into_iter().flatten() {
        let restriction = &taken["restriction"];
        let until = match (taken["state"].as_str(), restriction["until"].as_u64()) {
            (Some("acting"), Some(until)) => format!(", {} s more", until.saturating_sub(now) / 1_000),
            (Some("acting"), None) => ", until it is undone".into(),
            _ => String::new(),
        };
        let model = restriction["model"].as_str().map(|model| format!(" at {model}")).unwrap_or_default();
        let word = taken["word"].as_str().map(|word| format!("; {word}")).unwrap_or_default();
        let (id, rung, state) = (text(&restriction["id"]), text(&restriction["rung"]), text(&taken["state"]));
        line("action", format!("{id}  {rung}{model}: {state}{until}{word}"));
    }
    out.push('\n');
    for moment in incident["timeline"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "  {:>10}  {}", ago(moment["at"].as_u64(), now), text(&moment["what"]));
    }
    let id = |state: &str| {
        let actions = incident["actions"].as_array().into_iter().flatten();
        actions.rev().find(|taken| taken["state"] == state).map(|taken| text(&taken["restriction"]["id"]))
    };
    if let Some(id) = id("acting") {
        let _ = writeln!(out, "\ntake it back: mantlet undo {id} --reason WHY");
    }
    if let Some(id) = id("proposed") {
        let _ =
            writeln!(out, "\ndo it: mantlet approve {id} --reason WHY   leave it: mantlet reject {id} --reason WHY");
    }
    out
}

fn ago(at: Option<u64>, now: u64) -> String {
    let seconds = now.saturating_sub(at.unwrap_or(now)) / 1_000;
    match seconds {
        0..=119 => format!("{seconds}s ago"),
        120..=7_199 => format!("{}m ago", seconds / 60),
        7_200..=172_799 => format!("{}h ago", seconds / 3_600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

fn clip(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incident() -> Value {
        json!({
            "id": "inc-1", "state": "contained", "subject": "caller:bank/eve", "probability": 0.731,
            "summary": "caller:bank/eve looks hostile: extraction at fraud: too many new rows",
            "agents": ["extraction"], "models": ["fraud"], "opened": 1_000, "updated": 61_000,
            "techniques": [{ "id": "AML.T0024", "name": "Exfiltration via ML Inference API" }],
            "timeline": [{ "at": 1_000, "what": "quarantine as act-2 for 60 s" }],
            "actions": [
                { "restriction": { "id": "act-1", "rung": "throttle" }, "state": "ended" },
                { "restriction": { "id": "act-2", "rung": "quarantine", "model": "fraud", "until": 91_000 }, "state": "acting" },
            ],
        })
    }

    #[test]
    fn an_incident_is_told_with_the_way_back() {
        let told = described(&incident(), 61_000);
        for part in [
            "inc-1 (contained)",
            "hostile      73%",
            "AML.T0024 Exfiltration",
            "act-2  quarantine at fraud: acting, 30 s more",
            "60s ago  quarantine as act-2",
            "mantlet undo act-2 --reason WHY",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let listed = listed(&json!([incident()]));
        assert!(listed.contains("quarantine (act-2)"), "{listed}");
        assert!(super::listed(&json!([])).contains("nobody has attacked"));
    }

    #[test]
    fn a_proposal_is_told_as_one() {
        let mut incident = incident();
        incident["actions"] = json!([{ "restriction": { "id": "act-9", "rung": "degrade" }, "state": "proposed" }]);
        assert_eq!(standing(&incident), "degrade? (act-9)");
        assert!(described(&incident, 61_000).contains("mantlet approve act-9"));
    }
}
