//! A person splits requests over versions, and pins callers: shares come to those versions alone, through a kill, until it ends.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use testkit::{
    Node,
    node::{Client, PATIENCE},
    onnx, setup,
};
use tokio::time::Instant;

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");

fn node(test: &str) -> Option<Node> {
    if setup::onnxruntime().is_none() {
        setup::skip(test, "ONNX Runtime's library is not set up: cargo xtask setup");
        return None;
    }
    Some(Node::new(BINARY))
}

/// Which version answers, by its number and by what it says: version n answers 10 n.
async fn ask(client: &Client) -> u64 {
    let body = json!({ "inputs": [{ "name": "x", "datatype": "INT64", "shape": [1], "data": [0] }] });
    let (code, answer) = client.infer("table", &body).await;
    assert_eq!(code, 200, "{answer}");
    let version: u64 = answer["model_version"].as_str().unwrap().parse().unwrap();
    assert_eq!(answer["outputs"][0]["data"][0], json!(10.0 * version as f64), "{answer}");
    version
}

/// Asks until forty answers in a row came from these versions alone, and from each of them.
async fn until_answered_by(client: &Client, versions: &[u64]) {
    let (mut seen, until) = (Vec::new(), Instant::now() + PATIENCE);
    while seen.len() < 40 || versions.iter().any(|version| !seen.contains(version)) {
        let version = ask(client).await;
        if versions.contains(&version) {
            seen.push(version)
        } else {
            seen.clear()
        }
        assert!(Instant::now() < until, "versions {versions:?} answer, not {version}: {seen:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A node with three versions, of which the third answers.
async fn three(node: &mut Node) -> Client {
    node.up().await;
    for version in 1..=3_u8 {
        node.deploy("table", &onnx::look_up_in(&[10.0 * f32::from(version)]));
    }
    let client = node.client();
    until_answered_by(&client, &[3]).await;
    client
}

fn caller(node: &Node, client: &Client, name: &str) -> Client {
    let made = node.json(&["callers", "add", name, "--role", "caller"]);
    client.with_token(made["token"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_split_by_shares_through_a_kill_until_a_person_ends_it() {
    let Some(mut node) = node("sent::split") else { return };
    let client = three(&mut node).await;
    let sent = node.json(&["split", "table", "1=30%", "2=30%", "--reason", "which is better"]);
    assert_eq!(sent["split"]["parts"], json!([{ "version": 1, "share": "30%" }, { "version": 2, "share": "30%" }]));
    until_answered_by(&client, &[1, 2, 3]).await;
    let traffic = client.get("/v1/models/table/evaluation").await.1["traffic"].clone();
    let of = |version: usize| &traffic[3 - version];
    assert!(
        (1..=3).all(|version| of(version)["requests"].as_u64() > Some(0) && of(version)["errors"] == 0),
        "{traffic}"
    );
    assert!(of(1)["p99_ms"].as_f64() >= of(1)["p50_ms"].as_f64() && of(1)["p50_ms"].is_f64(), "{traffic}");
    for arguments in [&["models"][..], &["models", "show", "table"], &["plan"]] {
        let told = String::from_utf8(node.cli(arguments).stdout).unwrap();
        let line = "split of the requests: 30% to version 1, 30% to version 2; ";
        assert!(told.contains(line) && told.contains(": which is better"), "{arguments:?}: {told}");
    }

    node.kill();
    node.up().await;
    let client = node.client();
    until_answered_by(&client, &[1, 2, 3]).await;
    // Who has not seen the newest decides nothing.
    let body = json!({ "parts": [{ "version": 1, "share": "100%" }], "reason": "mine", "expect": 1_000_000 });
    let stale = client.request(reqwest::Method::PUT, "/v1/models/table/split").json(&body);
    let (code, refused) = client.send(stale).await;
    assert_eq!((code, &refused["code"]), (409, &json!("conflict")), "{refused}");
    assert_eq!(node.refused(&["split", "table", "7=10%", "--reason", "no such version"]), "version_not_found");
    node.refused(&["split", "table", "1=60%", "2=60%", "--reason", "too much"]);
    node.json(&["split", "table", "--off", "--reason", "seen enough"]);
    until_answered_by(&client, &[3]).await;
    for action in ["model.split", "model.unsplit"] {
        client.until_in_ledger(action).await;
    }
    node.json(&["split", "table", "2=50%", "--for", "2s", "--reason", "a moment"]);
    client.until_in_ledger("model.split_expired").await;
    until_answered_by(&client, &[3]).await;
    assert_eq!(client.get("/v1/models/table").await.1["model"]["sent"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_keeps_its_version_in_a_sticky_split_and_goes_where_it_is_pinned() {
    let Some(mut node) = node("sent::sticky") else { return };
    let client = three(&mut node).await;
    let callers: Vec<Client> = (0..8).map(|n| caller(&node, &client, &format!("caller{n}"))).collect();
    node.json(&["split", "table", "1=40%", "2=60%", "--sticky", "--reason", "A/B"]);
    let until = Instant::now() + PATIENCE;
    // Both are there once a caller of each was answered by it.
    let mut versions = Vec::new();
    while versions.is_empty() || versions.contains(&3) {
        versions.clear();
        for caller in &callers {
            versions.push(ask(caller).await);
        }
        assert!(Instant::now() < until, "{versions:?}");
    }
    for _ in 0..10 {
        for (caller, version) in callers.iter().zip(&versions) {
            assert_eq!(ask(caller).await, *version, "{versions:?}");
        }
    }
    assert!(versions.iter().collect::<BTreeSet<_>>().len() <= 2);
    let pinned = &callers[0];
    let other = if versions[0] == 1 { "2" } else { "1" };
    let sent = node.json(&["callers", "pin", "caller0", "table", other, "--reason", "their wish"]);
    assert_eq!(sent["pins"]["caller0"]["version"].to_string(), other, "{sent}");
    until_answered_by(pinned, &[other.parse().unwrap()]).await;
    node.json(&["split", "table", "--off", "--reason", "seen enough"]);
    until_answered_by(pinned, &[other.parse().unwrap()]).await;
    until_answered_by(&callers[1], &[3]).await;

    node.kill();
    node.up().await;
    let client = node.client();
    until_answered_by(&client, &[3]).await;
    let told = String::from_utf8(node.cli(&["models", "show", "table"]).stdout).unwrap();
    assert!(told.contains(&format!("caller0 is pinned to version {other}")), "{told}");
    node.refused(&["callers", "pin", "nobody", "table", "1", "--reason", "there is no such caller"]);
    node.json(&["callers", "unpin", "caller0", "table", "--reason", "over"]);
    for action in ["caller.pin", "caller.unpin"] {
        client.until_in_ledger(action).await;
    }
    assert_eq!(client.get("/v1/models/table").await.1["model"]["sent"], Value::Null);
}
