//! `mantlet policy`: show, set, take back, check.

use std::{fs, io::Read as _, path::Path};

use reqwest::Method;
use serde_json::Value;
use types::Refusal;

use crate::{
    cli::{Format, Policy},
    client::Client,
    output::{self, table},
};

pub(crate) async fn run(client: &Client, verb: Policy, format: Format) -> Result<(), Refusal> {
    match verb {
        Policy::Show => show(client, "own", "-- no policies of its own: the default ones hold --\n", format).await,
        Policy::Default => show(client, "default", "", format).await,
        Policy::Schema => show(client, "schema", "", format).await,
        Policy::Set { file } => {
            let text = read(&file)?;
            let set: Value = client.json(client.request(Method::PUT, "/v1/policy").body(text)).await?;
            output::show(&set, format, |set| format!("the policies of `{}` are in force\n", word(&set["namespace"])));
            Ok(())
        }
        Policy::Reset => {
            let reset: Value = client.json(client.request(Method::DELETE, "/v1/policy")).await?;
            output::show(&reset, format, |set| format!("in `{}` the default policies hold\n", word(&set["namespace"])));
            Ok(())
        }
        Policy::Check { caller, action, model, all } => {
            let mut request = client.request(Method::GET, "/v1/policy/check");
            request = request.query(&[("caller", caller.map(|name| name.to_string()))]);
            request = request.query(&[("action", action)]).query(&[("model", model.map(|name| name.to_string()))]);
            let mut rows: Vec<Value> = client.json(request).await?;
            rows.retain(|row| all || row["allowed"] == true);
            output::show(&rows, format, |rows| check(rows));
            Ok(())
        }
    }
}

async fn show(client: &Client, field: &str, none: &str, format: Format) -> Result<(), Refusal> {
    let policies: Value = client.get("/v1/policy").await?;
    output::show(&policies, format, |policies| match policies[field].as_str() {
        Some(text) => format!("{}\n", text.trim_end()),
        None => none.to_owned(),
    });
    Ok(())
}

fn read(file: &Path) -> Result<String, Refusal> {
    if file != Path::new("-") {
        return fs::read_to_string(file).map_err(output::file(file));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(output::file(file))?;
    Ok(text)
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn check(rows: &[Value]) -> String {
    let row = |row: &Value| {
        let policies: Vec<&str> = row["policies"].as_array().into_iter().flatten().map(word).collect();
        let because = if policies.is_empty() { "no policy permits it".into() } else { policies.join(", ") };
        vec![
            word(&row["caller"]).to_owned(),
            if row["allowed"] == true { "may" } else { "may not" }.to_owned(),
            word(&row["action"]).to_owned(),
            word(&row["resource"]).to_owned(),
            because,
        ]
    };
    let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
    table(&["CALLER", "", "ACTION", "RESOURCE", "BECAUSE OF"], &rows)
}
