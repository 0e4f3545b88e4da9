//! `mantlet callers`: add, list, revoke, rotate.

use reqwest::Method;
use serde_json::{Value, json};
use types::{Refusal, Timestamp};

use crate::{
    cli::{Callers, Format},
    client::Client,
    output::{self, table},
};

pub(crate) async fn run(client: &Client, verb: Callers, format: Format) -> Result<(), Refusal> {
    match verb {
        Callers::Add { name, roles, expires_in, node_wide } => {
            let body = json!({ "name": name, "roles": roles, "node_wide": node_wide, "expires_in": expires_in });
            let made: Value = client.json(client.request(Method::POST, "/v1/callers").json(&body)).await?;
            output::show(&made, format, token);
        }
        Callers::Rotate { name } => {
            let made: Value = client.json(client.request(Method::POST, &format!("/v1/callers/{name}/rotate"))).await?;
            output::show(&made, format, token);
        }
        Callers::Revoke { name } => {
            let done: Value = client.json(client.request(Method::DELETE, &format!("/v1/callers/{name}"))).await?;
            output::show(&done, format, |_| format!("{name} is revoked\n"));
        }
        Callers::List => {
            let callers: Vec<Value> = client.get("/v1/callers").await?;
            output::show(&callers, format, |callers| list(callers));
        }
    }
    Ok(())
}

fn token(made: &Value) -> String {
    let text = |field: &str| made[field].as_str().unwrap_or_default().to_owned();
    format!(
        "{}\nthe token of {}/{} is shown this once; keep it where only its holder can read it\n",
        text("token"),
        text("namespace"),
        text("name")
    )
}

fn list(callers: &[Value]) -> String {
    let row = |caller: &Value| {
        let roles: Vec<&str> = caller["roles"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let at = |field: &str| caller[field].as_u64().map_or_else(|| "never".into(), |at| output::date(Timestamp(at)));
        let scope = if caller["node_wide"] == true { "node" } else { "namespace" };
        vec![
            caller["caller"].as_str().unwrap_or_default().to_owned(),
            roles.join(","),
            scope.to_owned(),
            caller["token"].as_str().unwrap_or_default().to_owned(),
            at("created"),
            at("expires"),
        ]
    };
    let rows: Vec<Vec<String>> = callers.iter().map(row).collect();
    table(&["NAME", "ROLES", "SCOPE", "TOKEN", "CREATED", "EXPIRES"], &rows)
}
