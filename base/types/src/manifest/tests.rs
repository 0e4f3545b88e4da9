//! The blueprint's example as a fixture, defaults, and refusals.

use super::*;

const FRAUD: &str = include_str!("fraud.yaml");

fn smallest(spec: &str) -> Result<Manifest, Refusal> {
    Manifest::from_yaml(&format!(
        "{{apiVersion: mantlet.dev/v1, kind: Model, metadata: {{name: m}}, spec: {{source: {{onnx: m.onnx}}{spec}}}}}"
    ))
}

#[test]
fn the_full_example_parses() {
    let manifest = Manifest::from_yaml(FRAUD).unwrap();
    assert_eq!(manifest.metadata.namespace.as_ref().map(Namespace::as_str), Some("bank"));
    assert_eq!(manifest.spec.source, Source::Onnx("./fraud.onnx".into()));
    assert_eq!(manifest.spec.inputs[0].range, Some([0.0, 1e6]));
    assert_eq!(manifest.spec.limits.rate.map(Rate::per_second), Some(200.0));
    assert_eq!(manifest.spec.rollout.canary.len(), 3);
    let json = serde_json::to_vec(&manifest).unwrap();
    assert_eq!(Manifest::from_json(&json).unwrap(), manifest);
}

#[test]
fn the_smallest_manifest_has_the_documented_defaults() {
    let manifest = smallest("").unwrap();
    assert_eq!(manifest, Manifest::for_onnx("m".parse().unwrap(), "m.onnx"));
    assert!(manifest.refuse_unsupported().is_ok());
    assert_eq!(manifest.spec.limits.body.to_string(), "16MiB");
}

#[test]
fn a_default_that_is_written_out_is_accepted() {
    let written = ", slo: {}, scale: {min: 2, max: 2}, capture: {input: digest, keep: 7d}, rollout: {timeout: 24h}, \
                   learning: {retrain: never, promote: off}, protection: {autonomy: observe}";
    let manifest = smallest(written);
    assert!(manifest.unwrap().refuse_unsupported().is_ok());
}

#[test]
fn a_field_that_does_not_act_yet_is_named() {
    for (field, value) in [
        ("spec.slo.availability", ", slo: {p99: 50ms, availability: 99.9%}"),
        ("spec.rollout", ", rollout: {canary: [1%]}"),
        ("spec.learning", ", learning: {retrain: on-drift}"),
    ] {
        let refusal = smallest(value).unwrap().refuse_unsupported().unwrap_err();
        assert_eq!(refusal.code, Code::NotSupportedYet);
        assert!(refusal.message.contains(field), "{field}: {}", refusal.message);
    }
}

#[test]
fn nonsense_is_refused_with_its_place() {
    for (value, part) in [
        (", colour: red", "colour"),
        (", inputs: [{name: a, type: FP32}, {name: a, type: FP32}]", "twice"),
        (", inputs: [{name: a, type: FP31}]", "FP31"),
        (", inputs: [{name: a, type: FP32, range: [2, 1]}]", "no range"),
        (", inputs: [{name: a, type: FP32, categories: [x]}]", "categories"),
        (", scale: {min: 3, max: 2}", "scale"),
        (", scale: {min: 0, mode: off}", "nothing would ever start"),
        (", scale: {max: 4, mode: auto}", "auto"),
        (", scale: {min: 0, idle: 10ms}", "at least 1s"),
        (", limits: {concurrency: 0}", "concurrency"),
        (", limits: {body: 4mb}", "4mb"),
        (", task: {kind: classification, classes: [a], positive: b}", "positive"),
        (", learning: {drift: {retrain: [inputs]}}", "on-drift alone"),
        (", learning: {retrain: on-drift, drift: {retrain: []}}", "names no kind"),
        (", learning: {drift: {retrain: [weather]}}", "weather"),
        (", learning: {drift: {webhook: {url: https://a, secret: s, of: [mood]}}}", "mood"),
        (", learning: {drift: {webhook: {url: https://a}}}", "secret"),
        (", learning: {drift: {webhook: {url: 'ftp://a', secret: s}}}", "no scheme"),
        (", learning: {drift: {webhook: {url: 'https://u:p@a', secret: s}}}", "a password"),
    ] {
        let refusal = smallest(value).unwrap_err();
        assert_eq!(refusal.code, Code::ManifestInvalid);
        assert!(refusal.message.contains(part), "{value}: {}", refusal.message);
    }
}

#[test]
fn hostile_yaml_is_refused_not_expanded() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let previous = level - 1;
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{previous}"); 10].join(",")));
    }
    assert!(Manifest::from_yaml(&bomb).is_err());
    assert!(Manifest::from_yaml(&"[".repeat(100_000)).is_err());
}

#[test]
fn the_schema_knows_every_field_of_the_example() {
    let schema = Manifest::schema().to_string();
    let example: serde_json::Value = serde_json::to_value(Manifest::from_yaml(FRAUD).unwrap()).unwrap();
    for field in example["spec"].as_object().unwrap().keys() {
        assert!(schema.contains(&format!("\"{field}\"")), "{field}");
    }
}

/// Found by fuzzing: YAML has infinities, and JSON, in which a bundle carries its manifest, has none.
#[test]
fn a_range_has_two_numbers() {
    let with = |range: &str| {
        Manifest::from_yaml(&format!(
            "apiVersion: mantlet.dev/v1\nkind: Model\nmetadata: {{name: m}}\nspec:\n  source: {{onnx: m.onnx}}\n  \
             inputs: [{{name: x, type: FP64, range: {range}}}]\n"
        ))
    };
    with("[-1.5, 1e300]").unwrap();
    for bad in ["[-.inf, 1]", "[0, .inf]", "[.nan, 1]", "[2, 1]"] {
        assert_eq!(with(bad).unwrap_err().code, Code::ManifestInvalid, "{bad}");
    }
}

#[test]
fn drift_of_errors_begins_a_job_and_of_all_is_told_unless_a_manifest_says_otherwise() {
    let plain = smallest("").unwrap().spec.learning.drift;
    assert_eq!((plain.retrain.as_slice(), &plain.webhook), ([AlarmKind::Errors].as_slice(), &None));
    let with = |of: &str| {
        let text = format!(", learning: {{drift: {{webhook: {{url: 'https://a/b', secret: s{of}}}}}}}");
        smallest(&text).unwrap().spec.learning.drift.webhook.unwrap()
    };
    let tells = |webhook: &Webhook| [AlarmKind::Inputs, AlarmKind::Errors].map(|kind| webhook.tells(kind));
    assert_eq!(tells(&with("")), [true, true]);
    assert_eq!(tells(&with(", of: [errors]")), [false, true]);
    assert_eq!(with("").origin().unwrap(), "https://a");
    // What says nothing new is written as it was: a bundle's digest is over it.
    assert!(!serde_json::to_string(&smallest("").unwrap()).unwrap().contains("drift"));
}

#[test]
fn a_model_that_learns_names_workers_and_nothing_else_of_training() {
    let with = |train: &str, more: &str| {
        Manifest::from_yaml(&format!(
            "apiVersion: mantlet.dev/v1\nkind: Model\nmetadata: {{name: m}}\nspec:\n  source: {{online: {{learner: auto}}}}\n  \
             learning: {{{more}train: {{{train}}}}}\n"
        ))
    };
    let proves = "promote: suggest, ";
    let manifest = with("workers: 2", proves).unwrap();
    let train = manifest.spec.learning.train.clone().unwrap();
    assert_eq!(train, Train::of_workers(2));
    let text = serde_json::to_value(&manifest).unwrap()["spec"]["learning"]["train"].clone();
    assert_eq!((&text["workers"], text.get("job")), (&serde_json::json!(2), None));
    for (bad, more) in [
        ("workers: 0", proves),
        ("workers: 9", proves),
        ("workers: 2, job: j", proves),
        ("workers: 2, least: 7", proves),
        ("workers: 2, window: 7d", proves),
        ("workers: 2", ""),
    ] {
        assert_eq!(with(bad, more).unwrap_err().code, Code::ManifestInvalid, "{bad}");
    }
}

#[test]
fn the_load_says_how_many_replicas_only_where_more_than_one_number_is_allowed() {
    let of = |scale: &str| smallest(&format!(", scale: {{{scale}}}")).unwrap();
    let told = |scale: &str| (of(scale).scale_mode(), of(scale).scale_bounds(), of(scale).replicas());
    assert_eq!(told(""), (ScaleMode::Off, (1, 1), 1));
    assert_eq!(told("min: 3"), (ScaleMode::Off, (3, 3), 3));
    assert_eq!(told("max: 4"), (ScaleMode::Shadow, (1, 4), 1));
    assert_eq!(told("max: 4, mode: on"), (ScaleMode::On, (1, 4), 1));
    assert_eq!(told("max: 4, mode: off"), (ScaleMode::Off, (1, 4), 1));
    assert_eq!(told("min: 0"), (ScaleMode::Shadow, (0, 1), 1), "it starts with one, and sleeps when nobody asks");
    assert_eq!(told("min: 0, max: 4, mode: rule"), (ScaleMode::Rule, (0, 4), 1));
    let priced = of("max: 4, mode: on, price: 900, block: 30s").spec.scale;
    assert_eq!((priced.price, priced.block.map(|block| block.0.as_secs())), (900, Some(30)));
    assert_eq!((of("max: 4").spec.scale.price, of("max: 4").spec.scale.block), (180, None));
    for bad in ["max: 4, price: 0", "max: 4, price: 36001", "max: 4, block: 1s", "max: 4, block: 8d"] {
        assert_eq!(smallest(&format!(", scale: {{{bad}}}")).unwrap_err().code, Code::ManifestInvalid, "{bad}");
    }
    let upstream = "{apiVersion: mantlet.dev/v1, kind: Model, metadata: {name: m}, spec: {source: {upstream: 'https://a'}, scale: {max: 4}}}";
    assert_eq!(Manifest::from_yaml(upstream).unwrap().scale_mode(), ScaleMode::Off);
}
