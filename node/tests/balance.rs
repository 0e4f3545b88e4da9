//! The learnt rule beside the pool in a running node: nothing fails that did not fail before, and everybody can see who chooses.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use testkit::{
    Node,
    load::Load,
    node::{Client, PATIENCE},
    onnx, setup,
};

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

/// How many replicas a gateway has asked between requests, by what came of it.
async fn probes(client: &Client, outcome: &str) -> f64 {
    let name = format!("mantlet_gateway_probes_total{{outcome=\"{outcome}\"}} ");
    let answer = client.request(reqwest::Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    answer.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or(0.0)
}

/// Whether a gateway knows that others send to the same replicas.
async fn is_shared(client: &Client) -> bool {
    let (status, answer) = client.get("/v2/models/add/stats").await;
    assert_eq!(status, 200, "{answer}");
    answer["model_stats"][0]["mantlet"]["balancer"]["shared"] == true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_sees_the_load_of_another_at_replicas_that_it_has_not_asked_itself() {
    if setup::onnxruntime().is_none() {
        return setup::skip("balance", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let node = serving("shadow", &["--split", "--listen", "127.0.0.1:0"]).await;
    let clients = node.clients();
    let load = Load::start(&clients[0], "add", |_| 10.0, 16, CLIENT);
    load.more(400).await;
    assert_eq!(probes(&clients[1], "told").await, 0.0, "nobody asks here, and so nobody is asked");
    // One request is answered by one replica: what is known of all of them comes by questions.
    let (mut asked, until) = (0, tokio::time::Instant::now() + PATIENCE);
    loop {
        assert_eq!(clients[1].infer("add", &onnx::add_request()).await.0, 200);
        asked += 1;
        let (told, lively) = (probes(&clients[1], "told").await, tokio::time::Instant::now() + Duration::from_secs(4));
        while probes(&clients[1], "told").await < told + 3.0 && tokio::time::Instant::now() < lively {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if probes(&clients[1], "told").await >= REPLICAS as f64 - 1.0 && is_shared(&clients[1]).await {
            break;
        }
        assert!(tokio::time::Instant::now() < until, "{asked} requests\n{}", node.log());
    }
    // Where answers come all the time nobody needs to be asked often.
    let (answered, failed) = load.end().await;
    assert!(failed.is_empty(), "{} of {answered}: {:?}\n{}", failed.len(), failed.first(), node.log());
    assert!(probes(&clients[0], "missed").await + probes(&clients[0], "told").await < answered as f64 / 4.0);
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
