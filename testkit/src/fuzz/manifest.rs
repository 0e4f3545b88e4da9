//! A manifest, as a user writes it.

use types::Manifest;

/// YAML: what is read is written as JSON and reads back the same, as JSON and as the YAML that JSON is.
pub fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(manifest) = Manifest::from_yaml(text) else { return };
    let json = serde_json::to_string_pretty(&manifest).expect("a manifest can be written");
    assert_eq!(Manifest::from_json(json.as_bytes()).as_ref(), Ok(&manifest), "{json}");
    // JSON takes all characters as they are, YAML only those that can be printed.
    if !json.chars().any(|c| c.is_control() && c != '\n') && !json.contains(['\u{fffe}', '\u{ffff}', '\u{feff}']) {
        assert_eq!(Manifest::from_yaml(&json).as_ref(), Ok(&manifest), "{json}");
    }
    let _ = manifest.refuse_unsupported();
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let least = Manifest::for_onnx("model".parse().expect("a name"), "model.onnx");
    let json = serde_json::to_vec_pretty(&least).expect("a manifest can be written");
    let head = "apiVersion: mantlet.dev/v1\nkind: Model\nmetadata: {name: m, namespace: bank, labels: {a: b}}\nspec:\n";
    let rests = [
        "  source: {onnx: model.onnx}\n  inputs:\n    - {name: x, type: FP32, shape: [-1, 4], range: [-1.5, 2e3], nan: refuse}\n    - {name: s, type: BYTES, categories: [a, \"b\"]}\n",
        "  source: {bundle: \"file:///x\"}\n  task: {kind: classification, output: y, classes: [no, yes], positive: yes}\n",
        "  source: {upstream: \"https://a.example\"}\n  slo: {p99: 50ms, availability: 99.9%}\n  scale: {min: 1, max: 4}\n  resources: {memory: 4GiB}\n  limits: {rate: 30/m, concurrency: 8, body: 512}\n",
        "  source: {online: {learner: tree, settings: {depth: 3, rate: 0.1, more: [1, null]}}}\n  capture: {input: features, redact: [x], bytes: 1kB, keep: 7d}\n",
        "  source: {onnx: m}\n  rollout: {canary: [1%, 10%, 50%], margin: {errors: 0.1%, p99: 5%}, timeout: 24h}\n  learning: {retrain: on-drift, promote: suggest}\n  protection: {autonomy: act}\n",
        "  source: {onnx: m}\n  inputs: [{name: x, type: FP64, range: [-.inf, .inf]}]\n",
        "  source: {onnx: m}\n  limits: {rate: 0.0000000001/s}\n  slo: {availability: 0.1234567890123456%}\n",
        "  source: &a {onnx: m}\n  # a comment\n  capture:\n    keep: !!str 1h\n    redact: [&b x, *b]\n",
        "  source: {bundle: \"\\x8a\"}\n",
    ];
    rests.map(|rest| format!("{head}{rest}").into_bytes()).into_iter().chain([json]).collect()
}
