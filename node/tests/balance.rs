//! The learnt rule beside the pool in a running node: nothing fails that did not fail before, and everybody can see who chooses.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use testkit::{Node, load::Load, node::PATIENCE, onnx, setup};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");
const REPLICAS: usize = 4;
/// What a client waits at the most.
const CLIENT: Duration = Duration::from_secs(20);

/// Waits until all replicas are ready, none of them with this process.
async fn whole(node: &Node, gone: u32) {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let model = node.json(&["models", "show", "add"]);
        let ready = model["model"]["replicas"] == format!("{REPLICAS}/{REPLICAS}");
        if ready && !node.model_servers().contains(&gone) {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "{model}\n{}", node.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A node that serves `add` with several replicas, and lets the learnt rule do so much.
async fn serving(mode: &str, arguments: &[&str]) -> Node {
    let node = Node::new(BINARY);
    let settings = node.file("mantlet.toml", format!("[gateway]\nbalancer = \"{mode}\"\n").as_bytes());
    let mut node = node.with(&["--config", settings.to_str().unwrap()]).with(arguments);
    node.up().await;
    let manifest = json!({
        "apiVersion": "mantlet.dev/v1",
        "kind": "Model",
        "metadata": { "name": "add" },
        "spec": { "source": { "onnx": "model.onnx" }, "scale": { "min": REPLICAS } },
    });
    assert_eq!(node.client().deploy(&onnx::add(10.0), &manifest).await.unwrap().0, 200);
    whole(&node, 0).await;
    node
}

/// Who chooses, as `mantlet top` shows it.
fn choice(node: &Node) -> Value {
    node.json(&["top", "--once", "--interval", "100ms"])["models"][0]["balancer"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_prediction_fails_with_the_learnt_rule_on_when_a_replica_is_killed() {
    if setup::onnxruntime().is_none() {
        return setup::skip("balance", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let node = serving("on", &[]).await;
    let load = Load::start(&node.client(), "add", |_| 10.0, 32, CLIENT);
    load.more(400).await;
    let victim = node.model_servers()[0];
    kill_process(Pid::from_raw(victim.cast_signed()).unwrap(), Signal::KILL).unwrap();
    whole(&node, victim).await;
    load.more(400).await;
    let (answered, failed) = load.end().await;
    assert!(failed.is_empty(), "{} of {answered}: {:?}\n{}", failed.len(), failed.first(), node.log());
    // Whether it was promoted on the way depends on the machine.
    assert_eq!(choice(&node)["mode"], "on");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_prediction_fails_when_gateways_share_replicas() {
    if setup::onnxruntime().is_none() {
        return setup::skip("balance", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let node = serving("on", &["--split", "--listen", "127.0.0.1:0"]).await;
    let clients = node.clients();
    assert_eq!(clients.len(), 2);
    let loads = [0, 1].map(|gateway| Load::start(&clients[gateway], "add", |_| 10.0, 8, CLIENT));
    for load in &loads {
        load.more(300).await;
    }
    for load in loads {
        let (answered, failed) = load.end().await;
        assert!(failed.is_empty(), "{} of {answered}: {:?}\n{}", failed.len(), failed.first(), node.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn off_and_in_shadow_the_pool_chooses() {
    if setup::onnxruntime().is_none() {
        return setup::skip("balance", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    for mode in ["off", "shadow"] {
        let node = serving(mode, &[]).await;
        let load = Load::start(&node.client(), "add", |_| 10.0, 8, CLIENT);
        load.more(200).await;
        let (answered, failed) = load.end().await;
        assert!(failed.is_empty(), "{} of {answered}: {:?}\n{}", failed.len(), failed.first(), node.log());
        assert_eq!(choice(&node), json!({ "mode": mode, "rule": "pool", "saved": null }));
    }
}
