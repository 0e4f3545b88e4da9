//! Drift is told by signed webhooks: to whom the node allows, at least once, and by the same id through failures and a kill.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::{io::Write as _, process::Stdio, time::Duration};

use serde_json::{Value, json};
use testkit::{
    Node,
    node::{Client, PATIENCE},
    onnx,
    receiver::Receiver,
    setup,
};
use tokio::time::Instant;

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");
/// Rows of a request, each of which gets a label.
const ROWS: usize = 40;
/// A key in base64, and what it is.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const KEY: [u8; 24] = [
    0x31, 0xf2, 0x90, 0xf6, 0xbf, 0x06, 0x29, 0x8a, 0xab, 0x4f, 0x08, 0xd4, 0x3c, 0x3f, 0x08, 0x2c, 0xf6, 0x48, 0xa3,
    0x62, 0xda, 0x2d, 0xa4, 0xb0,
];

/// A model that answers itself: of four classes the one that has the most.
fn manifest(url: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": { "name": "letters" },
        "spec": {
            "source": { "onnx": "m.onnx" },
            "task": { "kind": "classification", "output": "y", "classes": ["a", "b", "c", "d"] },
            "learning": { "drift": { "webhook": { "url": url, "secret": secret, "of": ["errors"] } } },
        },
    })
}

/// Sets the secret as people do: from standard input.
fn set_secret(node: &Node, name: &str, value: &str) {
    let mut command = node.command();
    let mut child = command.args(["secrets", "set", name]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{value}").unwrap();
    assert!(child.wait().unwrap().success());
}

/// Asks about some rows, and says that what was answered is right, or that it is not.
async fn ask(client: &Client, right: bool) {
    let rows: Vec<[f64; 4]> =
        (0..ROWS).map(|n| [0, 1, 2, 3].map(|class| if class == n % 4 { 0.7 } else { 0.1 })).collect();
    let body =
        json!({ "inputs": [{ "name": "x", "shape": [ROWS, 4], "datatype": "FP32", "data": rows.as_flattened() }] });
    let (code, answer) = client.infer("letters", &body).await;
    assert_eq!(code, 200, "{answer}");
    let truth = |row: usize| if right { row % 4 } else { (row + 1) % 4 };
    let labels: Vec<Value> =
        (0..ROWS).map(|row| json!({ "prediction": answer["id"], "row": row, "label": truth(row) })).collect();
    let (code, taken) = client.post("/v1/feedback", &json!(labels)).await;
    assert_eq!((code, &taken["accepted"]), (200, &json!(ROWS)), "{taken}");
}

/// The alarm that says this, once this holds of it.
async fn alarm(client: &Client, what: &Value, holds: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let (_, shown) = client.get("/v1/models/letters/evaluation").await;
        let found = shown["alarms"].as_array().into_iter().flatten().find(|alarm| alarm["what"] == *what);
        if let Some(alarm) = found.filter(|alarm| holds(alarm)) {
            return alarm.clone();
        }
        assert!(Instant::now() < until, "{shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn is_told(more: &[&str]) {
    let receiver = Receiver::start(500).await;
    let node = Node::new(BINARY);
    let config = node.file("mantlet.toml", format!("[trainer]\nwebhooks = \"{}\"\n", receiver.url()).as_bytes());
    let mut node = node.with(&[&["--config", config.to_str().unwrap()], more].concat());
    node.up().await;
    let (client, url) = (node.client(), format!("{}/hooks/drift", receiver.url()));
    set_secret(&node, "short", "too-short");
    for (url, secret, code, hint) in [
        ("http://127.0.0.1:9/hook", "hook-key", "webhook_not_allowed", "trainer.webhooks"),
        (url.as_str(), "hook-key", "secret_not_found", "mantlet secrets set hook-key"),
        (url.as_str(), "short", "manifest_invalid", "mantlet secrets set short"),
    ] {
        let (_, refused) = client.deploy(&onnx::add(0.0), &manifest(url, secret)).await.unwrap();
        assert!(refused["code"] == code && refused.to_string().contains(hint), "{code}: {refused}");
    }
    set_secret(&node, "hook-key", SECRET);
    let (code, answer) = client.deploy(&onnx::add(0.0), &manifest(&url, "hook-key")).await.unwrap();
    assert_eq!(code, 200, "{answer}");
    client.until_answers("letters", &onnx::add_request()).await;

    for right in [true; 10].into_iter().chain([false; 10]) {
        ask(&client, right).await;
    }
    let first = receiver.received(1).await.remove(0);
    assert!(first.is_signed_with(&KEY) && !first.is_signed_with(&[0; 24]), "{first:?}");
    let sent = first.json();
    assert_eq!((&sent["type"], &sent["data"]["kind"]), (&json!("drift"), &json!("errors")), "{sent}");
    assert_eq!((&sent["data"]["model"], &sent["data"]["version"]), (&json!("letters"), &json!(1)), "{sent}");
    assert!(sent["timestamp"].is_string() && sent["data"]["since"].is_string(), "{sent}");
    let what = &sent["data"]["what"];
    let waits = alarm(&client, what, |alarm| alarm["told"]["attempts"].as_u64() >= Some(1)).await;
    assert_eq!((&waits["kind"], &waits["told"]["state"]), (&json!("errors"), &json!("waiting")), "{waits}");
    assert!(waits["told"]["why"].as_str().unwrap().contains("500"), "{waits}");
    let told = String::from_utf8(node.cli(&["models", "evaluation", "letters"]).stdout).unwrap();
    assert!(told.contains("not told yet") && told.contains("500"), "{told}");

    // A kill loses nothing that waits, and makes no other of it.
    if more.is_empty() {
        node.kill();
    } else {
        testkit::node::kill(node.service("trainer"));
    }
    let before = receiver.received(1).await.len();
    if more.is_empty() {
        node.up().await;
    }
    receiver.received(before + 1).await;
    receiver.say(204);
    let client = node.client();
    let told = alarm(&client, what, |alarm| alarm["told"]["state"] == "delivered").await;
    assert_eq!(told["at"], waits["at"], "it is the same alarm");
    let all = receiver.received(before + 1).await;
    let same: Vec<_> = all.iter().filter(|one| one.header("webhook-id") == first.header("webhook-id")).collect();
    assert!(same.len() > 1 && same.iter().all(|one| one.body == first.body && one.is_signed_with(&KEY)), "{same:?}");
    let told = String::from_utf8(node.cli(&["models", "evaluation", "letters"]).stdout).unwrap();
    assert!(told.contains("; told "), "{told}");
    if more.is_empty() {
        let metrics = client.request(reqwest::Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
        assert!(metrics.contains("mantlet_trainer_webhooks_total{outcome=\"delivered\"}"), "{metrics}");
    }
    let records = client.get("/v1/ledger").await.1.to_string();
    assert!(records.contains("model.drift"), "{records}");
    assert!(!node.log().contains(SECRET) && !records.contains(SECRET));
    assert!(node.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_told_at_least_once_through_failures_and_a_kill() {
    if setup::onnxruntime().is_none() {
        return setup::skip("drift_is_told_at_least_once_through_failures_and_a_kill", "ONNX Runtime");
    }
    is_told(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_node_tells_of_drift_too() {
    if setup::onnxruntime().is_none() {
        return setup::skip("a_split_node_tells_of_drift_too", "ONNX Runtime");
    }
    is_told(&["--split"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_drifts_and_the_receiver_is_known_by_its_certificate() {
    if setup::onnxruntime().is_none() {
        return setup::skip("what_is_asked_drifts_and_the_receiver_is_known_by_its_certificate", "ONNX Runtime");
    }
    // Another node does for a receiver: it shows a certificate of its own CA, and takes no webhook.
    let receiver = Node::start(BINARY).await;
    let origin = receiver.client().url().to_owned();
    let node = Node::new(BINARY);
    let config = node.file("mantlet.toml", format!("[trainer]\nwebhooks = \"{origin}\"\n").as_bytes());
    let mut node = node.with(&["--config", config.to_str().unwrap()]);
    node.up().await;
    set_secret(&node, "hook-key", "a text of more than 24 bytes".replace(' ', "-").as_str());
    let client = node.client();
    let mut wanted = manifest(&format!("{origin}/hook"), "hook-key");
    wanted["spec"]["capture"] = json!({ "input": "features" });
    let webhook = &mut wanted["spec"]["learning"]["drift"]["webhook"];
    webhook["of"] = json!(["inputs"]);
    webhook["ca"] = json!("no certificate");
    let (_, refused) = client.deploy(&onnx::add(0.0), &wanted).await.unwrap();
    assert!(
        refused["code"] == "manifest_invalid" && refused.to_string().contains("ca holds no certificate"),
        "{refused}"
    );
    wanted["spec"]["learning"]["drift"]["webhook"]["ca"] =
        json!(std::fs::read_to_string(receiver.dir().join("ca.pem")).unwrap());
    let (code, answer) = client.deploy(&onnx::add(0.0), &wanted).await.unwrap();
    assert_eq!(code, 200, "{answer}");
    client.until_answers("letters", &onnx::add_request()).await;

    let (mut asked, until) = (0, Instant::now() + PATIENCE);
    let alarm = loop {
        // Of a request the first 20 rows are looked at, and the first 2,000 are what is compared with.
        let shift = if asked < 200 { 0.0 } else { 0.5 };
        let row = |n: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1 << 24) as f32;
        let rows: Vec<[f32; 4]> =
            (0..20).map(|n| [0, 1, 2, 3].map(|column| row(asked * 80 + n * 4 + column) + shift)).collect();
        let body =
            json!({ "inputs": [{ "name": "x", "shape": [20, 4], "datatype": "FP32", "data": rows.as_flattened() }] });
        assert_eq!(client.infer("letters", &body).await.0, 200);
        asked += 1;
        let (_, shown) = client.get("/v1/models/letters/evaluation").await;
        let alarms = shown["alarms"].as_array().cloned().unwrap_or_default();
        let tried = |alarm: &&Value| alarm["kind"] == "inputs" && alarm["told"]["attempts"].as_u64() >= Some(1);
        if let Some(alarm) = alarms.iter().find(tried) {
            assert!(alarms.iter().all(|alarm| alarm["kind"] == "inputs" || alarm["told"].is_null()), "{shown}");
            break alarm.clone();
        }
        assert!(Instant::now() < until, "{shown}\n{}", node.log());
    };
    let why = alarm["told"]["why"].as_str().unwrap();
    assert!(why.contains("the receiver said 4"), "TLS got that far: {alarm}");
    assert!(alarm["moved"][0]["column"].as_str().unwrap().starts_with("x["), "{alarm}");
    assert!(node.stop());
}
