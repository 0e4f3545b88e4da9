//! Where the machine is short of memory the model that is worth least goes, nobody fails for it, and it comes back when there is
//! room.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use testkit::{Node, load::Load, onnx, setup};
use tokio::time::Instant;

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");
/// What a client waits at the most.
const CLIENT: std::time::Duration = std::time::Duration::from_secs(30);
/// A model stays half a minute at least.
const WHILE: std::time::Duration = std::time::Duration::from_secs(120);

/// A node on a machine with so many MiB free, with these settings of its orchestrator too.
async fn node(free: u64, settings: &str) -> (Node, Machine) {
    let node = Node::new(BINARY);
    let machine = Machine(node.scratch().join("meminfo"));
    machine.free(free);
    let text =
        format!("[orchestrator]\nmemory-reserve = \"10%\"\nmemory-sources = \"{}\"\n{settings}\n", machine.0.display());
    let file = node.file("mantlet.toml", text.as_bytes());
    let mut node = node.with(&["--config", file.to_str().unwrap()]);
    node.up().await;
    (node, machine)
}

/// A machine of 1 GiB whose memory the test says.
struct Machine(PathBuf);

impl Machine {
    /// So much is free now.
    fn free(&self, mib: u64) {
        let text = format!("MemTotal: {} kB\nMemAvailable: {} kB\n", 1 << 20, mib << 10);
        // Whole or not at all, for who reads it in this moment.
        let new = self.0.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &self.0).unwrap();
    }
}

async fn deploy(node: &Node, name: &str, term: f32, scale: Value) {
    let manifest = json!({
        "apiVersion": "mantlet.dev/v1",
        "kind": "Model",
        "metadata": { "name": name },
        "spec": { "source": { "onnx": "model.onnx" }, "scale": scale },
    });
    let (code, answer) = node.client().deploy(&onnx::add(term), &manifest).await.unwrap();
    assert_eq!(code, 200, "{answer}");
}

async fn until(node: &Node, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + WHILE;
    loop {
        let shown = node.client().get(&format!("/v1/models/{name}")).await.1;
        let model = &shown["model"];
        if wanted(model) {
            return model.clone();
        }
        assert!(Instant::now() < end, "{what}: {shown}\n{}", node.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// What the ledger says of models that were unloaded for lack of memory, once it says something.
async fn unloaded(node: &Node) -> Vec<Value> {
    recorded(node, |record| {
        let why = record["detail"]["why"].as_str();
        record["action"] == "model.autoscale" && why.is_some_and(|why| why.contains("memory is short"))
    })
    .await
}

/// Records of the ledger of this kind, once there is one.
async fn recorded(node: &Node, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let end = Instant::now() + WHILE;
    loop {
        let (_, page) = node.client().get("/v1/ledger?limit=10000").await;
        let records = page["records"].as_array().unwrap().iter();
        let records = records.map(|line| serde_json::from_str::<Value>(line.as_str().unwrap()).unwrap());
        let found: Vec<Value> = records.filter(&wanted).collect();
        if !found.is_empty() {
            return found;
        }
        assert!(Instant::now() < end, "{page}\n{}", node.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_worth_least_goes_when_memory_is_short_and_comes_back_when_it_is_asked_and_there_is_room() {
    if setup::onnxruntime().is_none() {
        return setup::skip("memory", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let (node, machine) = node(900, "").await;
    for (name, term) in [("busy", 10.0), ("idle", 20.0)] {
        deploy(&node, name, term, json!({ "min": 0, "max": 1, "idle": "1h" })).await;
        until(&node, name, "ready", |model| model["state"] == "ready").await;
    }
    let load = Load::start(&node.client(), "busy", |_| 10.0, 2, CLIENT);
    load.more(50).await;

    // Short: the one that nobody asks goes, with its reason in the plan and the ledger; the other answers on.
    machine.free(50);
    let idle = until(&node, "idle", "unloaded", |model| model["state"] == "asleep").await;
    let why = idle["scaling"]["why"].as_str().unwrap();
    assert!(why.contains("memory is short: 50MiB of 1GiB are free") && why.contains("worth least"), "{why}");
    load.more(50).await;
    let records = unloaded(&node).await;
    assert_eq!((&records[0]["subject"], &records[0]["detail"]["to"]), (&json!("model:default/idle"), &json!(0)));
    assert_eq!(records.len(), 1, "who is asked stays: {records:?}");

    // Asked while there is no room it says why.
    let mut request = onnx::add_request();
    request["parameters"] = json!({ "timeout": 3_000_000 });
    let (code, refusal) = node.client().infer("idle", &request).await;
    assert_eq!((code, &refusal["code"]), (503, &json!("model_not_ready")), "{refusal}");
    let said = refusal["detail"].as_str().unwrap();
    assert!(said.contains("memory is short") && said.contains("are to stay free, and it takes"), "{refusal}");

    // Room again: it answers, at the price of a start.
    machine.free(900);
    let (code, answer) = node.client().infer("idle", &onnx::add_request()).await;
    assert_eq!((code, &answer["outputs"][0]["data"]), (200, &json!([21.0, 22.0, 23.0, 24.0])), "{answer}");
    until(&node, "idle", "back", |model| model["state"] == "ready" && model["waiting"].is_null()).await;
    let (answered, failed) = load.end().await;
    assert!(failed.is_empty(), "{} of {answered}: {:?}\n{}", failed.len(), failed.first(), node.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_model_servers_give_up_what_is_idle_and_get_it_back() {
    if setup::onnxruntime().is_none() {
        return setup::skip("memory", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let (node, machine) = node(900, "alone = 0").await;
    for (name, term) in [("one", 10.0), ("two", 20.0)] {
        deploy(&node, name, term, json!({ "min": 1 })).await;
        until(&node, name, "ready", |model| model["state"] == "ready").await;
    }
    let relieved = async |given_up: bool| {
        let wanted =
            |record: &Value| record["action"] == "model-server.relieve" && (record["detail"]["bytes"] != 0) == given_up;
        recorded(&node, wanted).await
    };
    machine.free(50);
    let records = relieved(true).await;
    assert!(records[0]["detail"]["why"].as_str().unwrap().contains("memory is short"), "{records:?}");
    assert!(records[0]["subject"].as_str().unwrap().starts_with("model-server:default/"), "{records:?}");
    // Nobody is told to wait: what went comes back with the request.
    for (name, term) in [("one", 10.0), ("two", 20.0), ("one", 10.0)] {
        let (code, answer) = node.client().infer(name, &onnx::add_request()).await;
        assert_eq!((code, &answer["outputs"][0]["data"][0]), (200, &json!(1.0 + term)), "{answer}");
    }
    machine.free(900);
    assert_eq!(relieved(false).await.len(), 1);
}
