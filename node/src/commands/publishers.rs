//! `mantlet publishers`: whose signature lets a model into the namespace.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};
use types::{Refusal, Timestamp};

use crate::{
    cli::{Format, Publishers},
    client::Client,
    output::{self, table},
};

pub(crate) async fn run(client: &Client, verb: Publishers, format: Format) -> Result<(), Refusal> {
    match verb {
        Publishers::List => {
            let publishers: Vec<Value> = client.get("/v1/publishers").await?;
            output::show(&publishers, format, |publishers| list(publishers));
        }
        Publishers::Add { file } => {
            let key = fs::read_to_string(&file).map_err(output::file(&file))?;
            let added: Value =
                client.json(client.request(Method::POST, "/v1/publishers").json(&json!({ "key": key }))).await?;
            output::show(&added, format, |added| {
                format!("{} is trusted: models must be signed from now on\n", text(&added["fingerprint"]))
            });
        }
        Publishers::Revoke { fingerprint } => {
            let path = format!("/v1/publishers/{fingerprint}");
            let revoked: Value = client.json(client.request(Method::DELETE, &path)).await?;
            output::show(&revoked, format, |revoked| {
                let signed = revoked["signed"].as_array().into_iter().flatten();
                let signed = signed.map(|one| format!("  {} version {}\n", text(&one["model"]), one["version"]));
                let signed: String = signed.collect();
                let left = if signed.is_empty() {
                    String::new()
                } else {
                    format!("it signed these, which go on where they answer now:\n{signed}")
                };
                format!("{} is revoked\n{left}", text(&revoked["fingerprint"]))
            });
        }
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(publishers: &[Value]) -> String {
    let row = |publisher: &Value| {
        let time = |value: &Value| value.as_u64().map(|at| output::date(Timestamp(at))).unwrap_or_default();
        vec![text(&publisher["fingerprint"]), time(&publisher["added"]), time(&publisher["revoked"])]
    };
    table(&["FINGERPRINT", "ADDED", "REVOKED"], &publishers.iter().map(row).collect::<Vec<_>>())
}
