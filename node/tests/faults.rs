//! Model servers are killed and frozen under load, and no prediction fails.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use testkit::{Node, load::Load, node::PATIENCE, onnx, setup};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");
/// What a client waits at the most.
const CLIENT: Duration = Duration::from_secs(20);

/// How often each fault happens: `MANTLET_ROUNDS`, or once.
fn rounds() -> usize {
    std::env::var("MANTLET_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Waits until all replicas of the model are ready, none of them with this process.
async fn whole(node: &Node, replicas: usize, gone: u32) {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let model = node.json(&["models", "show", "add"]);
        if model["model"]["replicas"] == format!("{replicas}/{replicas}") && !node.model_servers().contains(&gone) {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "{model}\n{}", node.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Sends this signal to a model server in the middle of the load, again and again.
async fn strike(replicas: usize, signal: Signal) {
    let mut node = Node::new(BINARY);
    node.up().await;
    let manifest = json!({
        "apiVersion": "mantlet.dev/v1",
        "kind": "Model",
        "metadata": { "name": "add" },
        "spec": { "source": { "onnx": "model.onnx" }, "scale": { "min": replicas } },
    });
    let client = node.client();
    assert_eq!(client.deploy(&onnx::add(10.0), &manifest).await.unwrap().0, 200);
    whole(&node, replicas, 0).await;
    let load = Load::start(&client, "add", 10.0, 64, CLIENT);
    load.more(200).await;
    for round in 0..rounds() {
        let servers = node.model_servers();
        assert_eq!(servers.len(), replicas, "{servers:?}");
        let victim = servers[round % replicas];
        kill_process(Pid::from_raw(victim.cast_signed()).unwrap(), signal).unwrap();
        whole(&node, replicas, victim).await;
        load.more(200).await;
    }
    let (answered, failed) = load.end().await;
    assert!(failed.is_empty(), "{} of {answered}: {:?}\n{}", failed.len(), failed.first(), node.log());
    assert!(answered > 200 * rounds() as u64, "{answered}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_prediction_fails_when_one_of_three_model_servers_is_killed() {
    if setup::onnxruntime().is_none() {
        return setup::skip("faults", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    strike(3, Signal::KILL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_prediction_fails_when_the_only_model_server_is_killed() {
    if setup::onnxruntime().is_none() {
        return setup::skip("faults", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    strike(1, Signal::KILL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_prediction_fails_when_one_of_three_model_servers_freezes() {
    if setup::onnxruntime().is_none() {
        return setup::skip("faults", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    strike(3, Signal::STOP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_prediction_fails_when_the_only_model_server_freezes() {
    if setup::onnxruntime().is_none() {
        return setup::skip("faults", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    strike(1, Signal::STOP).await;
}
