//! What a model's load says about the number of its replicas, as people read it.

use serde_json::Value;

/// In a word or three: whose word it is and what the forecast may do, the number of the other, where it is another, and by how much the
/// forecast is cheaper, where both were tried; a dash where the load has no say.
pub(crate) fn short(scaling: &Value) -> String {
    let Some(mode) = scaling["mode"].as_str() else { return "-".to_owned() };
    let (wanted, twin) = (&scaling["wanted"], &scaling["twin"]);
    let who = match (scaling["by"].as_str(), mode) {
        (_, "rule") | (None, _) => mode.to_owned(),
        (Some(by), mode) => format!("{by}/{mode}"),
    };
    let twin = match twin[0].as_str() {
        Some(name) if twin[1] != *wanted => format!(" ({name} {})", twin[1]),
        _ => String::new(),
    };
    let saved =
        scaling["comparison"]["saved"].as_f64().map_or_else(String::new, |saved| format!(" {:+.1}%", -saved * 100.0));
    let overruled = if scaling["overruled"] == true { ", overruled" } else { "" };
    format!("{who} {wanted}{twin}{saved}{overruled}")
}

/// In a sentence, with the reason; nothing where the load has no say.
pub(crate) fn long(scaling: &Value) -> Option<String> {
    let mode = scaling["mode"].as_str()?;
    let (wanted, why, twin) = (&scaling["wanted"], scaling["why"].as_str().unwrap_or_default(), &scaling["twin"]);
    let twin = twin[0].as_str().map(|name| format!("; the {name} would want {}", twin[1])).unwrap_or_default();
    let overruled = if scaling["overruled"] == true { "; somebody has set another number, which counts" } else { "" };
    let cold = scaling["cold_seconds"].as_f64().unwrap_or_default();
    let stands = stands(&scaling["comparison"]).map(|stands| format!("; {stands}")).unwrap_or_default();
    Some(format!("{mode}: {wanted} wanted: {why}{twin}{overruled}{stands}; a start takes {cold:.1} s"))
}

/// How the forecast stands beside the rule; nothing where it may not act.
fn stands(comparison: &Value) -> Option<String> {
    let acts = comparison["acts"].as_bool()?;
    let (rule, forecast) = (&comparison["blocks"][0], &comparison["blocks"][1]);
    let costs = match (comparison["costs"][0].as_f64(), comparison["costs"][1].as_f64()) {
        (Some(rule), Some(forecast)) => {
            format!(", at {forecast:.0} late seconds an hour to the rule's {rule:.0}, replicas at their price")
        }
        _ => String::new(),
    };
    let shown = if acts { "is shown to cost less" } else { "is not shown to cost less" };
    Some(format!("the forecast {shown} in {forecast} blocks of time beside {rule} of the rule's{costs}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_names_who_acts_and_who_does_not() {
        let scaling = json!({
            "mode": "on", "wanted": 3, "why": "12.0 requests/s", "by": "forecast", "twin": ["rule", 2], "overruled": false,
            "comparison": { "acts": true, "blocks": [30, 31], "costs": [400.0, 352.0], "saved": 0.12 }, "since": 0, "cold_seconds": 0.5,
        });
        assert_eq!(short(&scaling), "forecast/on 3 (rule 2) -12.0%");
        assert_eq!(
            long(&scaling).unwrap(),
            "on: 3 wanted: 12.0 requests/s; the rule would want 2; the forecast is shown to cost less in 31 blocks of time beside 30 of the \
             rule's, at 352 late seconds an hour to the rule's 400, replicas at their price; a start takes 0.5 s"
        );
        let begun = json!({ "mode": "on", "wanted": 1, "why": "", "by": "rule", "twin": ["forecast", 1],
            "comparison": { "acts": false, "blocks": [0, 1], "costs": null, "saved": null } });
        assert_eq!(short(&begun), "rule/on 1");
        assert!(
            long(&begun)
                .unwrap()
                .contains("; the forecast is not shown to cost less in 1 blocks of time beside 0 of the rule's;")
        );
        let alone = json!({ "mode": "rule", "wanted": 0, "why": "", "by": "rule", "twin": null, "overruled": true });
        assert_eq!(short(&alone), "rule 0, overruled");
        assert!(long(&alone).unwrap().contains("which counts"));
        assert_eq!((short(&json!(null)), long(&json!(null))), ("-".into(), None));
    }
}
