//! What a model's load says about the number of its replicas, as people read it.

use serde_json::Value;

/// In a word or three: who acts, and the number of the one that does not, where it is another; a dash where the load has no say.
pub(crate) fn short(scaling: &Value) -> String {
    let Some(mode) = scaling["mode"].as_str() else { return "-".to_owned() };
    let (wanted, twin) = (&scaling["wanted"], &scaling["twin"]);
    let overruled = if scaling["overruled"] == true { ", overruled" } else { "" };
    match twin[0].as_str() {
        Some(name) if twin[1] != *wanted => format!("{mode} {wanted} ({name} {}){overruled}", twin[1]),
        _ => format!("{mode} {wanted}{overruled}"),
    }
}

/// In a sentence, with the reason; nothing where the load has no say.
pub(crate) fn long(scaling: &Value) -> Option<String> {
    let mode = scaling["mode"].as_str()?;
    let (wanted, why, twin) = (&scaling["wanted"], scaling["why"].as_str().unwrap_or_default(), &scaling["twin"]);
    let twin = twin[0].as_str().map(|name| format!("; the {name} would want {}", twin[1])).unwrap_or_default();
    let overruled = if scaling["overruled"] == true { "; somebody has set another number, which counts" } else { "" };
    let cold = scaling["cold_seconds"].as_f64().unwrap_or_default();
    Some(format!("{mode}: {wanted} wanted: {why}{twin}{overruled}; a start takes {cold:.1} s"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_names_who_acts_and_who_does_not() {
        let scaling = json!({
            "mode": "on", "wanted": 3, "why": "12.0 requests/s", "twin": ["rule", 2], "overruled": false, "since": 0, "cold_seconds": 0.5,
        });
        assert_eq!(short(&scaling), "on 3 (rule 2)");
        assert_eq!(
            long(&scaling).unwrap(),
            "on: 3 wanted: 12.0 requests/s; the rule would want 2; a start takes 0.5 s"
        );
        let alone = json!({ "mode": "rule", "wanted": 0, "why": "", "twin": null, "overruled": true });
        assert_eq!(short(&alone), "rule 0, overruled");
        assert!(long(&alone).unwrap().contains("which counts"));
        assert_eq!((short(&json!(null)), long(&json!(null))), ("-".into(), None));
    }
}
