//! `mantlet namespaces`: what a namespace may use.

use reqwest::Method;
use serde_json::Value;
use types::{Refusal, quota::Quota};

use crate::{
    cli::{Format, Namespaces},
    client::Client,
    output::{self, table},
};

pub(crate) async fn run(client: &Client, verb: Namespaces, format: Format) -> Result<(), Refusal> {
    match verb {
        Namespaces::List => {
            let rows: Vec<Value> = client.get("/v1/namespaces").await?;
            output::show(&rows, format, |rows| list(rows));
        }
        Namespaces::Set { name, rate, concurrency, rows_per_day, models, memory, storage, audit } => {
            let quota = Quota { rate, concurrency, rows_per_day, models, memory, storage, audit };
            let request = client.request(Method::PUT, &format!("/v1/namespaces/{name}")).json(&quota);
            let set: Value = client.json(request).await?;
            output::show(&set, format, |_| format!("the quota of `{name}` is in force\n"));
        }
        Namespaces::Reset { name } => {
            let reset: Value = client.json(client.request(Method::DELETE, &format!("/v1/namespaces/{name}"))).await?;
            output::show(&reset, format, |_| format!("`{name}` is not bounded any more\n"));
        }
    }
    Ok(())
}

fn list(rows: &[Value]) -> String {
    const FIELDS: [&str; 7] = ["rate", "concurrency", "rowsPerDay", "models", "memory", "storage", "audit"];
    let cell = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let row = |row: &Value| {
        std::iter::once(cell(&row["namespace"])).chain(FIELDS.iter().map(|field| cell(&row["quota"][field]))).collect()
    };
    let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
    table(&["NAMESPACE", "RATE", "IN FLIGHT", "ROWS/DAY", "MODELS", "MEMORY", "STORAGE", "AUDIT"], &rows)
}
