//! `mantlet replay` and `mantlet forget`: what was recorded, run again, or erased.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use types::{Code, Refusal};

use crate::{
    cli::{Forget, Format, Replay},
    client::Client,
    output,
};

/// How long a replay, or a walk through all that is kept, may take.
const PATIENCE: Duration = Duration::from_secs(3_600);

pub(crate) async fn replay(client: &Client, arguments: &Replay, format: Format) -> Result<(), Refusal> {
    let body = json!({ "last": arguments.last, "model": arguments.model });
    let request = client.request(Method::POST, "/v1/replay").timeout(PATIENCE).json(&body);
    let found: Value = client.json(request).await?;
    output::show(&found, format, report);
    if found["mismatches"].as_u64().unwrap_or(0) > 0 {
        return Err(Refusal::new(Code::LedgerInvalid, "some predictions do not come out as they were recorded")
            .hint("`--output json` names them; look each up: `mantlet audit prove ID`"));
    }
    Ok(())
}

fn report(found: &Value) -> String {
    let mut text =
        format!("{} replayed, {} skipped, {} mismatches\n", found["replayed"], found["skipped"], found["mismatches"]);
    for (why, count) in found["reasons"].as_object().into_iter().flatten() {
        text.push_str(&format!("  {count} skipped: {why}\n"));
    }
    for (prediction, how) in found["differing"].as_object().into_iter().flatten() {
        text.push_str(&format!("  {prediction}: {}\n", how.as_str().unwrap_or_default()));
    }
    text
}

pub(crate) async fn forget(client: &Client, arguments: Forget, format: Format) -> Result<(), Refusal> {
    let path = match (arguments.prediction, arguments.caller) {
        (Some(prediction), _) => format!("/v1/predictions/{prediction}"),
        (None, Some(caller)) => format!("/v1/predictions?caller={caller}"),
        (None, None) => return Err(Refusal::new(Code::RequestMalformed, "what shall be forgotten?")),
    };
    let done: Value = client.json(client.request(Method::DELETE, &path).timeout(PATIENCE)).await?;
    output::show(&done, format, |done| {
        format!("{} predictions are erased; the ledger says that they were\n", done["erased"])
    });
    Ok(())
}
