//! The load says how many replicas a model has: it brings them, takes them away, and lets the model sleep; no prediction fails.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use online::{Snapshot as _, guard::Mode};
use plan::scale::{Guarded, PRICE, Seen, Terms};
use serde_json::{Value, json};
use store::{Catalog as _, Collection, Expect, Write, sqlite::SqliteCatalog};
use testkit::{Node, load::Load, node::PATIENCE, onnx, setup};
use tokio::time::Instant;

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");
/// What a client waits at the most.
const CLIENT: Duration = Duration::from_secs(30);
/// The rule looks back for a minute, and for another one where it was in a hurry.
const WHILE: Duration = Duration::from_secs(180);

/// A node whose replicas answer one request at a time.
async fn node(arguments: &[&str]) -> Node {
    let node = Node::new(BINARY);
    let file = node.file("mantlet.toml", b"[model-server]\nsessions = 1\n");
    let mut node = node.with(&["--config", file.to_str().unwrap()]).with(arguments);
    node.up().await;
    node
}

async fn deploy(node: &Node, scale: Value) {
    let manifest = json!({
        "apiVersion": "mantlet.dev/v1",
        "kind": "Model",
        "metadata": { "name": "add" },
        "spec": { "source": { "onnx": "model.onnx" }, "scale": scale },
    });
    let (code, answer) = node.client().deploy(&onnx::add(10.0), &manifest).await.unwrap();
    assert_eq!(code, 200, "{answer}");
}

/// Waits until the model is as wanted.
async fn until(node: &Node, patience: Duration, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + patience;
    loop {
        let shown = node.client().get("/v1/models/add").await.1;
        let model = &shown["model"];
        if wanted(model) {
            return model.clone();
        }
        assert!(Instant::now() < end, "{what}: {shown}\n{}", node.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What was wanted each time that the model was woken.
fn woken(node: &Node) -> Vec<String> {
    let log = node.log();
    let lines = log.lines().filter(|line| line.contains("autoscaled"));
    lines.filter_map(|line| Some(line.split_once("from=0 to=")?.1.chars().take(1).collect())).collect()
}

/// Asks so many at once; all are answered.
async fn ask(node: &Node, clients: usize) {
    let asked = (0..clients).map(|_| async { node.client().infer("add", &onnx::add_request()).await });
    for (code, answer) in futures::future::join_all(asked).await {
        assert_eq!((code, &answer["outputs"][0]["data"]), (200, &json!([11.0, 12.0, 13.0, 14.0])), "{answer}");
    }
}

async fn to_and_fro(arguments: &[&str]) {
    let node = node(arguments).await;
    deploy(&node, json!({ "min": 0, "max": 4, "mode": "rule", "idle": "3s" })).await;
    until(&node, PATIENCE, "the first", |model| model["replicas"] == "1/1").await;
    // Many at once bring replicas.
    let load = Load::start(&node.client(), "add", |_| 10.0, 64, CLIENT);
    let model = until(&node, PATIENCE, "more", |model| model["replicas"] == "4/4").await;
    let why = model["scaling"]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("in flight") && why.contains("at most 4"), "{why}");
    load.more(200).await;
    let (answered, failed) = load.end().await;
    assert!(failed.is_empty(), "{} of {answered}: {:?}\n{}", failed.len(), failed.first(), node.log());
    // One after the other needs no more than one.
    let load = Load::start(&node.client(), "add", |_| 10.0, 1, CLIENT);
    until(&node, WHILE, "fewer", |model| model["replicas"] == "1/1").await;
    let (answered, failed) = load.end().await;
    assert!(failed.is_empty(), "{} of {answered}: {:?}\n{}", failed.len(), failed.first(), node.log());
    sleep_and_wake(&node).await;
}

/// Nobody asks: it sleeps, and says so; then many ask at once, and one replica is started for them.
async fn sleep_and_wake(node: &Node) {
    let model = until(node, PATIENCE, "none", |model| model["state"] == "asleep" && model["replicas"] == "0/0").await;
    assert_eq!((&model["scaling"]["wanted"], &model["waiting"]), (&json!(0), &Value::Null), "{model}");
    assert!(model["scaling"]["why"].as_str().unwrap().contains("nobody has asked"), "{model}");
    let (code, _) = node.client().get("/v2/models/add/ready").await;
    assert_eq!(code, 200, "who looks before it asks must not wait for ever");
    assert_eq!(node.json(&["plan"])["rounds"], json!([]), "there is nothing to do");
    let before = woken(node).len();
    ask(node, 20).await;
    until(node, PATIENCE, "awake", |model| model["state"] == "ready").await;
    assert_eq!(woken(node)[before..], ["1"], "one replica, once, however many wait:\n{}", node.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_brings_replicas_and_takes_them_away_to_none_and_back() {
    if setup::onnxruntime().is_none() {
        return setup::skip("autoscale", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    to_and_fro(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_sleeps_and_wakes_behind_a_gateway_of_its_own_and_sleeps_on_through_a_restart() {
    if setup::onnxruntime().is_none() {
        return setup::skip("autoscale", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let mut node = node(&["--split"]).await;
    deploy(&node, json!({ "min": 0, "max": 2, "idle": "2s" })).await;
    until(&node, PATIENCE, "the first", |model| model["replicas"] == "1/1").await;
    sleep_and_wake(&node).await;
    until(&node, PATIENCE, "none again", |model| model["state"] == "asleep").await;
    assert!(node.stop());
    node.up().await;
    until(&node, PATIENCE, "none still", |model| model["state"] == "asleep" && model["replicas"] == "0/0").await;
    ask(&node, 5).await;
}

/// What a scaler has learnt to which the forecast was shown to cost less: the rule wants more for the same load, and nobody waits.
fn promoted(terms: Terms, block: u64) -> Guarded {
    let mut guarded = Guarded::new(Mode::On, terms, Some(block), 1).unwrap();
    let (mut ready, mut at) = (1, 0);
    while !guarded.standing().acts {
        at += 1;
        assert!(at < 2_000 * block, "it is never promoted: {:?}", guarded.standing());
        // Requests that are on their way for most of their time keep no lane busy.
        let seen = Seen { requests: 10.0, in_flight: 1.3, service: 0.01, ready, starting: 0 };
        ready = guarded.second(at, &seen).wanted;
    }
    guarded
}

/// Puts into the catalog of a node that is down what a scaler has learnt.
async fn keep(node: &Node, guarded: &Guarded) {
    let catalog = SqliteCatalog::open(&node.dir().join("catalog.db")).await.unwrap();
    let document = json!({
        "model": { "namespace": "default", "name": "add" },
        "at": 1, "asked": 1, "service": 0.01, "cold": 0.5,
        "said": { "wanted": 1, "why": "", "twin": 2, "by": "Forecast", "since": 0 },
        "guarded": BASE64_STANDARD.encode(guarded.save()),
    });
    let write = Write::put(Collection::Desired, "scaling/default/add", Expect::Any, &document).unwrap();
    catalog.commit(vec![write], Vec::new()).await.unwrap();
    catalog.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_how_many_outlives_a_restart_and_a_hand_back_is_told() {
    if setup::onnxruntime().is_none() {
        return setup::skip("autoscale", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let mut node = node(&[]).await;
    let scale = |price: u32| json!({ "min": 1, "max": 4, "mode": "on", "block": "2s", "price": price });
    deploy(&node, scale(180)).await;
    until(&node, PATIENCE, "the first", |model| model["replicas"] == "1/1").await;
    until(&node, PATIENCE, "nothing is shown yet", |model| model["scaling"]["comparison"]["acts"] == false).await;
    assert!(node.stop());
    let terms = Terms { lanes: 1, slo: 1.0, cold: 0.5, bounds: (1, 4), price: PRICE };
    keep(&node, &promoted(terms, 2)).await;

    node.up().await;
    let acts = |model: &Value| model["scaling"]["comparison"]["acts"] == true;
    let model = until(&node, PATIENCE, "it acts still", acts).await;
    assert!(model["scaling"]["comparison"]["saved"].as_f64().is_some_and(|saved| saved > 0.0), "{model}");
    let shown = String::from_utf8(node.cli(&["models", "show", "add"]).stdout).unwrap();
    assert!(shown.contains("the forecast is shown to cost less"), "{shown}");
    let listed = String::from_utf8(node.cli(&["models"]).stdout).unwrap();
    assert!(listed.contains("/on "), "{listed}");
    let metrics = node.client().request(reqwest::Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let gauge = "mantlet_orchestrator_autoscaler_acts{namespace=\"default\",model=\"add\"} 1";
    assert!(metrics.contains(gauge), "{metrics}");

    // What was shown at one price is not shown at another.
    deploy(&node, scale(3_600)).await;
    node.client().until_in_ledger("autoscaler.hand_back").await;
    let model = until(&node, PATIENCE, "the rule acts", |model| !acts(model)).await;
    assert_eq!(model["scaling"]["mode"], "on", "{model}");
    ask(&node, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_somebody_set_to_none_is_not_woken_and_says_who_did_it() {
    if setup::onnxruntime().is_none() {
        return setup::skip("autoscale", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let node = node(&[]).await;
    deploy(&node, json!({ "min": 0, "max": 2, "idle": "60s" })).await;
    until(&node, PATIENCE, "the first", |model| model["replicas"] == "1/1").await;
    assert!(node.cli(&["scale", "add", "0"]).status.success());
    let model = until(&node, PATIENCE, "none", |model| model["state"] == "stopped").await;
    assert_eq!(model["replicas"], "0/0", "{model}");
    // At once, though the request could wait for half a minute.
    let (code, answer) = node.client().infer("add", &onnx::add_request()).await;
    assert_eq!((code, &answer["code"]), (503, &json!("model_stopped")), "{answer}");
    let said = answer.to_string();
    assert!(said.contains("admin set their number to 0") && said.contains("mantlet scale add manifest"), "{said}");
    let (code, answer) = node.client().get("/v2/models/add/ready").await;
    assert_eq!((code, &answer["code"]), (503, &json!("model_stopped")), "{answer}");
    let shown = String::from_utf8(node.cli(&["models", "show", "add"]).stdout).unwrap();
    assert!(shown.contains("admin set the number of its replicas to 0"), "{shown}");
    assert_eq!(until(&node, PATIENCE, "none still", |_| true).await["replicas"], "0/0", "nobody woke it");
    // The way back that the message names.
    assert!(node.cli(&["scale", "add", "manifest"]).status.success());
    ask(&node, 5).await;
}
