//! Versions and numbers of replicas change under load, and model servers are shared: no prediction fails.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use testkit::{Node, load::Load, node::PATIENCE, onnx};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");
/// What a client waits at the most.
const CLIENT: Duration = Duration::from_secs(20);

/// How often it goes to and fro: `MANTLET_ROUNDS`, or once.
fn rounds() -> usize {
    std::env::var("MANTLET_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// A node on which so many replicas have a model server of their own.
async fn node(alone: u32) -> Node {
    let node = Node::new(BINARY);
    let file = node.file("mantlet.toml", format!("[orchestrator]\nalone = {alone}\n").as_bytes());
    let mut node = node.with(&["--config", file.to_str().unwrap()]);
    node.up().await;
    node
}

/// Deploys version after version: version n adds 10 n.
async fn deploy(node: &Node, name: &str, version: u64, replicas: usize) {
    let manifest = json!({
        "apiVersion": "mantlet.dev/v1",
        "kind": "Model",
        "metadata": { "name": name },
        "spec": { "source": { "onnx": "model.onnx" }, "scale": { "min": replicas } },
    });
    let model = onnx::add(10.0 * version as f32);
    let (code, answer) = node.client().deploy(&model, &manifest).await.unwrap();
    assert_eq!((code, answer["version"].as_u64()), (200, Some(version)), "{answer}");
}

/// Waits until this version answers with so many replicas, and no other has any.
async fn settled(node: &Node, name: &str, version: u64, replicas: usize) {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let shown = node.json(&["models", "show", name]);
        let model = &shown["model"];
        let there = (model["ready"].as_u64(), model["replicas"].as_str().unwrap_or_default().to_owned());
        let plan = node.json(&["plan"]);
        let open = |taken: &serde_json::Value| taken["outcome"].is_null();
        let quiet = plan["rounds"] == json!([]) && !plan["recent"].as_array().unwrap().iter().any(open);
        if quiet && there == (Some(version), format!("{replicas}/{replicas}")) {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "{shown}\n{plan}\n{}", node.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Version 2, back to 1, and again, in the middle of the load; then one replica more, and one less.
async fn to_and_fro(alone: u32, replicas: usize) {
    let node = node(alone).await;
    deploy(&node, "add", 1, replicas).await;
    settled(&node, "add", 1, replicas).await;
    let load = Load::start(&node.client(), "add", |version| 10.0 * version as f64, 64, CLIENT);
    load.more(200).await;
    for _ in 0..rounds() {
        deploy(&node, "add", 2, replicas).await;
        settled(&node, "add", 2, replicas).await;
        load.more(200).await;
        node.json(&["rollback", "add"]);
        settled(&node, "add", 1, replicas).await;
        load.more(200).await;
        for wanted in [replicas + 1, replicas] {
            node.json(&["scale", "add", &wanted.to_string()]);
            settled(&node, "add", 1, wanted).await;
            load.more(200).await;
        }
    }
    let (answered, failed) = load.end().await;
    assert!(failed.is_empty(), "{} of {answered}: {:?}\n{}", failed.len(), failed.first(), node.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_replicas_change_under_load() {
    to_and_fro(8, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_replicas_change_under_load_with_three_replicas() {
    to_and_fro(16, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_replicas_change_under_load_in_shared_servers() {
    to_and_fro(0, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_of_a_namespace_share_a_server_that_is_killed_under_load() {
    let node = node(1).await;
    for name in ["own", "a", "b", "c"] {
        deploy(&node, name, 1, 1).await;
        settled(&node, name, 1, 1).await;
    }
    assert_eq!(node.model_servers().len(), 2, "one for `own`, one for the others");
    let servers = node.model_servers();
    let ten = |_| 10.0;
    let loads = ["own", "a", "b"].map(|name| Load::start(&node.client(), name, ten, 16, CLIENT));
    for load in &loads {
        load.more(50).await;
    }
    for server in servers {
        kill_process(Pid::from_raw(server.cast_signed()).unwrap(), Signal::KILL).unwrap();
        for load in &loads {
            load.more(200).await;
        }
    }
    for load in loads {
        let (answered, failed) = load.end().await;
        assert!(failed.is_empty(), "{} of {answered}: {:?}\n{}", failed.len(), failed.first(), node.log());
    }
    // One that nobody asked since is there all the same; a deleted one is gone, and the last one takes the server along.
    let (code, answer) = node.client().infer("c", &onnx::add_request()).await;
    assert_eq!((code, &answer["outputs"][0]["data"]), (200, &json!([11.0, 12.0, 13.0, 14.0])), "{answer}");
    for name in ["a", "b", "c"] {
        node.json(&["delete", name]);
    }
    let until = tokio::time::Instant::now() + PATIENCE;
    while node.model_servers().len() > 1 {
        assert!(tokio::time::Instant::now() < until, "{}", node.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_with_shared_servers_answers_for_every_model() {
    let mut node = node(0).await;
    for name in ["a", "b", "c"] {
        deploy(&node, name, 1, 1).await;
        settled(&node, name, 1, 1).await;
    }
    node.kill();
    node.up().await;
    for name in ["a", "b", "c"] {
        let (code, answer) = node.client().infer(name, &onnx::add_request()).await;
        assert_eq!((code, &answer["outputs"][0]["data"]), (200, &json!([11.0, 12.0, 13.0, 14.0])), "{answer}");
    }
    assert_eq!(node.model_servers().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_a_deploy_would_do_and_what_was_done() {
    let node = node(8).await;
    deploy(&node, "add", 1, 1).await;
    settled(&node, "add", 1, 1).await;
    let file = node.file("model.onnx", &onnx::add(20.0));
    let plan = node.json(&["plan", file.to_str().unwrap(), "--name", "add"]);
    let step = |round: usize, at: usize| plan["rounds"][round][at]["step"].as_str().unwrap_or_default().to_owned();
    assert_eq!([step(0, 0), step(0, 1), step(1, 0), step(1, 1)], ["start", "load", "route", "drain"], "{plan}");
    assert_eq!(plan["rounds"][0][1]["why"], "0 of 1 replicas are there");
    assert_eq!(plan["rounds"][1][1]["why"], "2 answers instead");
    let taken: Vec<_> = plan["recent"].as_array().unwrap().iter().map(|taken| &taken["action"]["step"]).collect();
    assert_eq!(taken, ["route", "load", "start"], "{plan}");
    // Nothing of it was done.
    assert_eq!(node.json(&["models", "show", "add"])["model"]["versions"], json!([1]));
    assert_eq!(node.refused(&["scale", "add", "65"]), "request_malformed");
    assert_eq!(node.refused(&["scale", "nothing", "1"]), "model_not_found");
}
