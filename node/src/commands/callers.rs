//! `mantlet callers`: add, list, revoke, rotate, certificate, pin.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _};

use reqwest::Method;
use serde_json::{Value, json};
use types::{Refusal, Timestamp};

use super::sent;
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
        Callers::Certificate { name, out, expires_in } => {
            let (key, request) = access::authority::request().map_err(|error| output::internal(&error))?;
            let body = json!({ "request": request, "expires_in": expires_in });
            let path = format!("/v1/callers/{name}/certificate");
            let made: Value = client.json(client.request(Method::POST, &path).json(&body)).await?;
            fs::create_dir_all(&out).map_err(output::file(&out))?;
            let (certificate, secret) = (out.join(format!("{name}.pem")), out.join(format!("{name}.key")));
            fs::write(&certificate, made["certificate"].as_str().unwrap_or_default())
                .map_err(output::file(&certificate))?;
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&secret)
                .map_err(output::file(&secret))?;
            file.write_all(key.as_bytes()).map_err(output::file(&secret))?;
            let shown = json!({ "certificate": certificate, "key": secret, "expires": made["expires"] });
            output::show(&shown, format, |_| {
                format!(
                    "{} and {} let {name} in without a token:\n  curl --cacert ca.pem --cert {} --key {} {}/v2/models\n",
                    certificate.display(),
                    secret.display(),
                    certificate.display(),
                    secret.display(),
                    client.url()
                )
            });
        }
        Callers::Revoke { name } => {
            let done: Value = client.json(client.request(Method::DELETE, &format!("/v1/callers/{name}"))).await?;
            output::show(&done, format, |_| format!("{name} is revoked\n"));
        }
        Callers::Pin { name, model, version, reason } => {
            sent::pin(client, &name, (&model, version), &reason, format).await?;
        }
        Callers::Unpin { name, model, reason } => sent::unpin(client, &name, &model, &reason, format).await?,
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
            at("used"),
        ]
    };
    let rows: Vec<Vec<String>> = callers.iter().map(row).collect();
    table(&["NAME", "ROLES", "SCOPE", "TOKEN", "CREATED", "EXPIRES", "USED"], &rows)
}
