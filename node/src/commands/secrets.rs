//! `mantlet secrets`: what models of other servers are asked with.

use std::io::Read as _;

use reqwest::Method;
use serde_json::{Value, json};
use types::{Code, Refusal, Timestamp};
use zeroize::Zeroizing;

use crate::{
    cli::{Format, Secrets},
    client::Client,
    output::{self, table},
};

/// Bytes that are read for one, at most; the node takes less.
const LONGEST: u64 = 64 << 10;

pub(crate) async fn run(client: &Client, verb: Secrets, format: Format) -> Result<(), Refusal> {
    match verb {
        Secrets::List => {
            let secrets: Vec<Value> = client.get("/v1/secrets").await?;
            output::show(&secrets, format, |secrets| list(secrets));
        }
        Secrets::Set { name } => {
            let mut value = Zeroizing::new(String::new());
            std::io::stdin()
                .lock()
                .take(LONGEST)
                .read_to_string(&mut value)
                .map_err(|error| Refusal::new(Code::FileUnreadable, format!("standard input: {error}")))?;
            let body = json!({ "value": value.trim_end_matches(['\r', '\n']) });
            let request = client.request(Method::PUT, &format!("/v1/secrets/{name}")).json(&body);
            let set: Value = client.json(request).await?;
            output::show(&set, format, |_| {
                format!("`{name}` is set; models that use it take it when they are loaded\n")
            });
        }
        Secrets::Remove { name } => {
            let removed: Value = client.json(client.request(Method::DELETE, &format!("/v1/secrets/{name}"))).await?;
            output::show(&removed, format, |_| format!("`{name}` is gone\n"));
        }
    }
    Ok(())
}

fn list(secrets: &[Value]) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |secret: &Value| {
        let set = output::date(Timestamp(secret["set"].as_u64().unwrap_or(0)));
        vec![text(&secret["name"]), text(&secret["author"]), set]
    };
    table(&["NAME", "SET BY", "SET"], &secrets.iter().map(row).collect::<Vec<_>>())
}
