//! A version that is proven answers a share of the requests first: it takes over when a person says so, and is taken back when it fails.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{
    Node,
    node::{Client, PATIENCE},
    onnx, setup,
};
use tokio::time::Instant;

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");
/// Rows of a request.
const ROWS: usize = 20;

fn node(test: &str) -> Option<Node> {
    if setup::onnxruntime().is_none() {
        setup::skip(test, "ONNX Runtime's library is not set up: cargo xtask setup");
        return None;
    }
    Some(Node::new(BINARY))
}

/// Deploys a model that looks numbers up in a table.
async fn deploy(client: &Client, table: &[f32]) -> Value {
    let manifest = json!({
        "apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": { "name": "table" },
        "spec": {
            "source": { "onnx": "model.onnx" },
            "task": { "kind": "regression" },
            "capture": { "input": "features" },
            "learning": { "promote": "automatic", "season": "0s" },
            "rollout": { "canary": ["40%"] },
        },
    });
    let (code, answer) = client.deploy(&onnx::look_up_in(table), &manifest).await.unwrap();
    assert_eq!(code, 200, "{answer}");
    answer
}

/// What 1 is answered, and which version answers; nothing where it is refused.
async fn ask(client: &Client, numbers: [usize; ROWS], labels: bool) -> Option<(u64, f64)> {
    let body = json!({ "inputs": [{ "name": "x", "datatype": "INT64", "shape": [ROWS], "data": numbers }] });
    let (code, answer) = client.infer("table", &body).await;
    if code != 200 {
        assert_eq!((code, &answer["code"]), (422, &json!("inference_failed")), "{answer}");
        return None;
    }
    if labels {
        let label = |(row, x): (usize, &usize)| json!({ "prediction": answer["id"], "row": row, "label": 10 * x });
        let labels: Vec<Value> = numbers.iter().enumerate().map(label).collect();
        let (code, taken) = client.post("/v1/feedback", &json!(labels)).await;
        assert_eq!((code, &taken["accepted"]), (200, &json!(ROWS)), "{taken}");
    }
    let version = answer["model_version"].as_str().unwrap().parse().unwrap();
    Some((version, answer["outputs"][0]["data"][0].as_f64().unwrap()))
}

/// Asks about what both versions know, with labels, until this holds of the challenger.
async fn until(client: &Client, holds: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        ask(client, std::array::from_fn(|n| 1 + n % 2), true).await.unwrap();
        let (_, shown) = client.get("/v1/rollouts").await;
        if holds(&shown[0]) {
            return shown[0].clone();
        }
        assert!(Instant::now() < until, "{shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Deploys a table that is wrong, and then this one, which is not where it answers; how it stands once it answers a share.
async fn canary(client: &Client, table: &[f32]) -> Value {
    deploy(client, &[0.0, 9.0, 19.0, 29.0]).await;
    let one = json!({ "inputs": [{ "name": "x", "datatype": "INT64", "shape": [1], "data": [1] }] });
    client.until_answers("table", &one).await;
    deploy(client, table).await;
    until(client, |shown| shown["canary"].is_string()).await
}

/// Asks without labels until so many answers in a row came from these versions alone, and from each of them.
async fn until_answered_by(client: &Client, versions: &[u64]) {
    let (mut seen, until) = (Vec::new(), Instant::now() + PATIENCE);
    while seen.len() < 40 || versions.iter().any(|version| !seen.contains(version)) {
        match ask(client, [1; ROWS], false).await {
            Some((version, value)) if versions.contains(&version) => {
                assert_eq!(value, if version == 2 { 10.0 } else { 9.0 });
                seen.push(version);
            }
            _ => seen.clear(),
        }
        assert!(Instant::now() < until, "versions {versions:?} answer, not {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_proven_answers_a_share_first_through_a_kill_and_all_when_a_person_says_so() {
    let Some(mut node) = node("canary::share") else { return };
    node.up().await;
    let client = node.client();
    let canary = canary(&client, &[0.0, 10.0, 20.0, 30.0]).await;
    let words = canary["canary"].as_str().unwrap();
    assert!(words.contains("it answers 40% of the requests") && words.contains("all next"), "{words}");
    until_answered_by(&client, &[1, 2]).await;
    client.until_in_ledger("model.canary").await;
    let told = String::from_utf8(node.cli(&["rollouts"]).stdout).unwrap();
    assert!(told.contains("it answers 40% of the requests"), "{told}");

    node.kill();
    node.up().await;
    let client = node.client();
    until(&client, |shown| shown["canary"].is_string()).await;
    until_answered_by(&client, &[1, 2]).await;
    node.json(&["approve", "table/2", "--reason", "seen enough"]);
    until_answered_by(&client, &[2]).await;
    let (_, shown) = client.get("/v1/rollouts").await;
    assert_eq!((&shown[0]["stand"], &shown[0]["canary"]), (&json!("promoted"), &Value::Null), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_is_taken_back() {
    let Some(mut node) = node("canary::back") else { return };
    node.up().await;
    let client = node.client();
    // It is right where it answers, and knows nothing of 3.
    canary(&client, &[0.0, 10.0, 20.0]).await;
    let (mut failed, until) = (0, Instant::now() + PATIENCE);
    let rollout = loop {
        failed += u64::from(ask(&client, [3; ROWS], false).await.is_none());
        let (_, shown) = client.get("/v1/rollouts").await;
        if shown[0]["stand"] == "rejected" {
            break shown[0].clone();
        }
        assert!(Instant::now() < until, "{failed} requests failed: {shown}");
    };
    assert!(rollout["word"].as_str().unwrap().starts_with("it fails "), "{rollout}");
    assert!(failed > 0);
    until_answered_by(&client, &[1]).await;
    client.until_in_ledger("model.canary_back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_a_person_has_wait_keeps_its_share_through_a_kill_and_goes_on_when_it_may() {
    let Some(mut node) = node("canary::paused") else { return };
    node.up().await;
    let client = node.client();
    canary(&client, &[0.0, 10.0, 20.0]).await;
    node.json(&["rollouts", "pause", "table/2", "--reason", "a look first"]);
    client.until_in_ledger("rollout.pause").await;
    node.kill();
    node.up().await;
    let client = node.client();
    let told = until(&client, |shown| shown["canary"].is_string()).await;
    assert_eq!(told["paused"]["reason"], "a look first", "{told}");
    until_answered_by(&client, &[1, 2]).await;
    let listed = String::from_utf8(node.cli(&["rollouts"]).stdout).unwrap();
    assert!(listed.contains("paused") && listed.contains("has it wait: a look first"), "{listed}");
    let refused = node.cli(&["undo", "table/2", "--reason", "it does not answer all yet"]);
    assert!(!refused.status.success());

    let told = node.json(&["rollouts", "resume", "table/2", "--reason", "seen enough"]);
    assert_eq!((&told["paused"], told["canary"].is_string()), (&Value::Null, true), "{told}");
    assert!(!node.cli(&["rollouts", "resume", "table/2", "--reason", "once more"]).status.success());
    client.until_in_ledger("rollout.resume").await;
    node.json(&["rollouts", "pause", "table/2", "--reason", "once more"]);
    let (mut failed, until) = (0, Instant::now() + PATIENCE);
    loop {
        failed += u64::from(ask(&client, [3; ROWS], false).await.is_none());
        let (_, shown) = client.get("/v1/rollouts").await;
        if shown[0]["stand"] == "rejected" {
            assert_eq!(shown[0]["paused"], Value::Null, "{shown}");
            break;
        }
        assert!(Instant::now() < until, "{failed} requests failed, and it is not taken back while it waits: {shown}");
    }
    until_answered_by(&client, &[1]).await;
}
