//! `mantlet clean`: rows that the owner of a model says are right, whatever labels come.

use std::{fs, path::Path};

use serde_json::{Value, json};
use types::{Code, Refusal, Timestamp};

use crate::{
    cli::{Clean, Format},
    client::Client,
    output,
};

pub(crate) async fn run(client: &Client, verb: &Clean, format: Format) -> Result<(), Refusal> {
    let path = |name: &types::ModelName| format!("/v1/models/{name}/clean");
    let shown: Value = match verb {
        Clean::Set { name, file, strict, reason } => {
            let body = json!({ "rows": read(file)?, "strict": strict, "reason": reason });
            client.json(client.request(reqwest::Method::PUT, &path(name)).json(&body)).await?
        }
        Clean::Show { name } => client.get(&path(name)).await?,
        Clean::Remove { name } => client.json(client.request(reqwest::Method::DELETE, &path(name))).await?,
    };
    let gone = if matches!(verb, Clean::Remove { .. }) { "removed: " } else { "" };
    output::show(&shown, format, |shown| {
        let given = shown["given"].as_u64().map_or_else(String::new, |at| output::date(Timestamp(at)));
        let strict = if shown["strict"] == true { "; it holds while a drift alarm stands, too" } else { "" };
        format!("{gone}{} rows, given by {} at {given}{strict}\n", shown["rows"], shown["by"].as_str().unwrap_or("-"))
    });
    Ok(())
}

/// The rows of a file, one a line.
fn read(file: &Path) -> Result<Vec<Value>, Refusal> {
    let text = fs::read_to_string(file).map_err(output::file(file))?;
    let rows: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(&text).into_iter().collect();
    rows.map_err(|error| {
        Refusal::new(Code::FileUnreadable, format!("{}: {error}", file.display()))
            .hint(r#"write one row a line: {"inputs": {"amount": 1.5, "country": "DE"}, "label": "ok"}"#)
    })
}
