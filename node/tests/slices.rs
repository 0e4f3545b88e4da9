//! A challenger that labels prove to be better, and that answers a small part of the inputs otherwise, is left to a person.
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
/// Numbers that are looked up, and so a twentieth of the inputs each.
const NUMBERS: usize = 20;

fn node(test: &str) -> Option<Node> {
    if setup::onnxruntime().is_none() {
        setup::skip(test, "ONNX Runtime's library is not set up: cargo xtask setup");
        return None;
    }
    Some(Node::new(BINARY))
}

/// Deploys a model that looks numbers up: ten times each, but for an error everywhere and another answer for the last.
async fn deploy(client: &Client, error: f32, last: f32, input: &str) {
    let mut table: Vec<f32> = (0..NUMBERS).map(|x| 10.0 * x as f32 + error).collect();
    table[NUMBERS - 1] += last;
    let manifest = json!({
        "apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": { "name": "table" },
        "spec": {
            "source": { "onnx": "model.onnx" },
            "task": { "kind": "regression" },
            "capture": { "input": input },
            "learning": { "promote": "automatic", "season": "0s" },
        },
    });
    let (code, answer) = client.deploy(&onnx::look_up_in(&table), &manifest).await.unwrap();
    assert_eq!(code, 200, "{answer}");
}

/// Asks about all numbers, and says what is right for all but the last; which version answers.
async fn ask(client: &Client, labels: bool) -> String {
    let numbers: Vec<usize> = (0..NUMBERS).collect();
    let body = json!({ "inputs": [{ "name": "x", "datatype": "INT64", "shape": [NUMBERS], "data": numbers }] });
    let (code, answer) = client.infer("table", &body).await;
    assert_eq!(code, 200, "{answer}");
    if labels {
        let label = |x: usize| json!({ "prediction": answer["id"], "row": x, "label": 10 * x });
        let labels: Vec<Value> = (0..NUMBERS - 1).map(label).collect();
        let (code, taken) = client.post("/v1/feedback", &json!(labels)).await;
        assert_eq!(code, 200, "{taken}");
    }
    answer["model_version"].as_str().unwrap().to_owned()
}

/// Asks until this holds of the challenger.
async fn until(client: &Client, labels: bool, holds: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        ask(client, labels).await;
        let (_, shown) = client.get("/v1/rollouts").await;
        if holds(&shown[0]) {
            return shown[0].clone();
        }
        assert!(Instant::now() < until, "{shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_differs_is_named_and_left_to_a_person_through_a_kill() {
    let Some(mut node) = node("slices::found") else { return };
    node.up().await;
    let client = node.client();
    deploy(&client, -1.0, 0.0, "features").await;
    let one = json!({ "inputs": [{ "name": "x", "datatype": "INT64", "shape": [1], "data": [1] }] });
    client.until_answers("table", &one).await;
    deploy(&client, 0.0, 1_000.0, "features").await;
    // Nothing of it is labelled, not even the rest.
    ask(&client, true).await;
    let found = until(&client, false, |shown| shown["slice"].is_string()).await;
    let words = found["slice"].as_str().unwrap();
    assert!(words.starts_with("x >= 19: ") && words.contains(" answers differ, 0.0% elsewhere"), "{words}");
    assert!(words.ends_with("a person has to approve it"), "{words}");

    // Labels, none of which is of that slice, prove that it is better.
    let proven = until(&client, true, |shown| shown["stand"] == "proposed").await;
    assert!(proven["slice"].is_string() && proven["evidence"]["labels"].as_u64() > Some(30), "{proven}");
    assert_eq!(ask(&client, false).await, "1");
    node.kill();
    node.up().await;
    let client = node.client();
    client.until_answers("table", &one).await;
    let proven = until(&client, false, |shown| shown["stand"] == "proposed").await;
    assert!(proven["slice"].as_str().unwrap().starts_with("x >= 19: "), "{proven}");
    let told = String::from_utf8(node.cli(&["rollouts", "explain", "table/2"]).stdout).unwrap();
    assert!(told.contains("x >= 19: ") && told.contains("a person has to approve it"), "{told}");

    node.json(&["approve", "table/2", "--reason", "that slice was wrong before"]);
    let until = Instant::now() + PATIENCE;
    while ask(&client, false).await != "2" {
        assert!(Instant::now() < until, "it answers since a person says so");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_inputs_are_not_kept_it_is_said_that_nothing_is_seen() {
    let Some(mut node) = node("slices::digest") else { return };
    node.up().await;
    let client = node.client();
    deploy(&client, -1.0, 0.0, "digest").await;
    let one = json!({ "inputs": [{ "name": "x", "datatype": "INT64", "shape": [1], "data": [1] }] });
    client.until_answers("table", &one).await;
    deploy(&client, 0.0, 1_000.0, "digest").await;
    let shown = until(&client, true, |shown| shown["slices"].is_string()).await;
    assert!(shown["slices"].as_str().unwrap().starts_with("slices are not seen: spec.capture.input"), "{shown}");
    let told = String::from_utf8(node.cli(&["rollouts"]).stdout).unwrap();
    assert!(told.contains("slices are not seen"), "{told}");
}
