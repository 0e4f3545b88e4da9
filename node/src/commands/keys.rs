//! `mantlet keys`: the node's own keys.

use reqwest::Method;
use serde_json::Value;
use types::{Refusal, Timestamp};

use crate::{
    cli::{Format, Keys},
    client::Client,
    output::{self, table},
};

pub(crate) async fn run(client: &Client, verb: Keys, format: Format) -> Result<(), Refusal> {
    let change =
        async |key, what| client.json::<Value>(client.request(Method::POST, &format!("/v1/keys/{key}/{what}"))).await;
    match verb {
        Keys::List => {
            let keys: Vec<Value> = client.get("/v1/keys").await?;
            output::show(&keys, format, |keys| list(keys));
        }
        Keys::Rotate { key } => {
            let changed = change(key, "rotate").await?;
            output::show(&changed, format, |_| {
                format!("the {key} key is new; the one before holds until `mantlet keys retire {key}`\n")
            });
        }
        Keys::Retire { key } => {
            let changed = change(key, "retire").await?;
            output::show(&changed, format, |_| format!("there is one {key} key alone\n"));
        }
    }
    Ok(())
}

fn list(keys: &[Value]) -> String {
    let rows = keys.iter().flat_map(|key| {
        let public = key["public"].as_array().into_iter().flatten();
        public.enumerate().map(move |(place, public)| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let state = if place == 0 { "in force" } else { "until retired" };
            let since = key["since"].as_u64().filter(|_| place == 0).map(|at| output::date(Timestamp(at)));
            vec![text(&key["key"]), state.to_owned(), since.unwrap_or_default(), text(public)]
        })
    });
    table(&["KEY", "STATE", "SINCE", "PUBLIC"], &rows.collect::<Vec<_>>())
}
