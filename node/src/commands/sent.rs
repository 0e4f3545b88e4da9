//! `mantlet split`, `callers pin` and `unpin`: where requests go that name no version.

use reqwest::Method;
use serde_json::{Value, json};
use types::{CallerName, ModelName, Refusal, Timestamp, Version};

use crate::{
    cli::{Format, Split},
    client::Client,
    output,
};

pub(crate) async fn split(client: &Client, arguments: &Split, format: Format) -> Result<(), Refusal> {
    let Split { name, parts, sticky, lasts, off, reason } = arguments;
    let path = format!("/v1/models/{name}/split");
    let request = if *off {
        client.request(Method::DELETE, &path).query(&[("reason", reason)])
    } else {
        let part = |(version, share): &(Version, _)| json!({ "version": version, "share": share });
        let parts: Vec<Value> = parts.iter().map(part).collect();
        let body = json!({ "parts": parts, "sticky": sticky, "lasts": lasts, "reason": reason });
        client.request(Method::PUT, &path).json(&body)
    };
    let sent: Value = client.json(request).await?;
    output::show(&sent, format, |sent| said(name, sent));
    Ok(())
}

pub(crate) async fn pin(
    client: &Client,
    caller: &CallerName,
    (model, version): (&ModelName, Version),
    reason: &str,
    format: Format,
) -> Result<(), Refusal> {
    let body = json!({ "version": version, "reason": reason });
    let request = client.request(Method::PUT, &format!("/v1/models/{model}/pins/{caller}")).json(&body);
    let sent: Value = client.json(request).await?;
    output::show(&sent, format, |sent| said(model, sent));
    Ok(())
}

pub(crate) async fn unpin(
    client: &Client,
    caller: &CallerName,
    model: &ModelName,
    reason: &str,
    format: Format,
) -> Result<(), Refusal> {
    let path = format!("/v1/models/{model}/pins/{caller}");
    let request = client.request(Method::DELETE, &path).query(&[("reason", reason)]);
    let sent: Value = client.json(request).await?;
    output::show(&sent, format, |sent| said(model, sent));
    Ok(())
}

fn said(model: &ModelName, sent: &Value) -> String {
    let lines = lines(sent);
    if lines.is_empty() {
        return format!("all requests of `{model}` that name no version go to the version that answers\n");
    }
    lines.into_iter().map(|line| format!("{model}: {line}\n")).collect()
}

/// Where requests of a model go, a line for the split and one for each pinned caller; none where nobody says anything.
pub(crate) fn lines(sent: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let absent = sent["absent"].as_array().cloned().unwrap_or_default();
    let instead = |version: &Value| match absent.contains(version) {
        true => ", which can't answer now: the version that answers does",
        false => "",
    };
    let mut lines = Vec::new();
    if let Some(parts) = sent["split"]["parts"].as_array() {
        let split = &sent["split"];
        let part = |part: &Value| {
            format!("{} to version {}{}", text(&part["share"]), part["version"], instead(&part["version"]))
        };
        let parts: Vec<String> = parts.iter().map(part).collect();
        let unit = if split["sticky"] == true { "of the callers" } else { "of the requests" };
        let until = split["expires"].as_u64().map(|at| format!(" until {}", output::date(Timestamp(at))));
        let until = until.unwrap_or_default();
        let (by, why) = (text(&split["author"]), text(&split["reason"]));
        lines.push(format!("split {unit}{until}: {}; {by}: {why}", parts.join(", ")));
    }
    for (caller, pin) in sent["pins"].as_object().into_iter().flatten() {
        let (by, why) = (text(&pin["author"]), text(&pin["reason"]));
        let version = &pin["version"];
        lines.push(format!("{caller} is pinned to version {version}{}; {by}: {why}", instead(version)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_is_a_line_and_so_is_a_pin() {
        let sent = json!({
            "split": { "parts": [{ "version": 2, "share": "10%" }, { "version": 3, "share": "5%" }], "sticky": true,
                       "author": "caller:bank/ops", "reason": "which is better", "expires": null },
            "pins": { "teller": { "version": 3, "author": "caller:bank/ops", "reason": "their wish" } }, "absent": [3],
        });
        let [split, pin] = lines(&sent).try_into().unwrap();
        assert_eq!(
            split,
            "split of the callers: 10% to version 2, 5% to version 3, which can't answer now: the version that answers does; \
             caller:bank/ops: which is better"
        );
        assert!(pin.starts_with("teller is pinned to version 3, which can't answer now"), "{pin}");
        assert_eq!(lines(&json!(null)), Vec::<String>::new());
        assert!(said(&"fraud".parse().unwrap(), &json!({})).contains("go to the version that answers"));
    }
}
