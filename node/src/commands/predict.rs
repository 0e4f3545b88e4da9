//! `mantlet predict`: one inference request from a file.

use std::{fs, io::Read as _, path::Path};

use reqwest::Method;
use serde_json::Value;
use types::Refusal;

use crate::{
    cli::{Format, Predict},
    client::Client,
    output,
};

pub(crate) async fn run(client: &Client, arguments: &Predict, format: Format) -> Result<(), Refusal> {
    let Predict { name, input, version } = arguments;
    let mut body = Vec::new();
    if input == Path::new("-") {
        std::io::stdin().read_to_end(&mut body).map_err(output::file(input))?;
    } else {
        body = fs::read(input).map_err(output::file(input))?;
    }
    let version = version.map(|version| format!("/versions/{version}")).unwrap_or_default();
    let request = client
        .request(Method::POST, &format!("/v2/models/{name}{version}/infer"))
        .header("content-type", "application/json")
        .body(body);
    let answer: Value = client.json(request).await?;
    output::show(&answer, format, |answer| format!("{}\n", pretty(answer)));
    Ok(())
}

/// One line per output; rows of numbers stay on their line.
fn pretty(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut lines = vec![format!(
        "{} version {}, prediction {}",
        text(&answer["model_name"]),
        text(&answer["model_version"]),
        text(&answer["id"])
    )];
    for output in answer["outputs"].as_array().into_iter().flatten() {
        lines.push(format!(
            "{} {} {}: {}",
            text(&output["name"]),
            text(&output["datatype"]),
            output["shape"],
            output["data"]
        ));
    }
    lines.join("\n")
}
