//! Certificates, keys and policies change while requests are on their way, and none of those fails.

use std::{fs, time::Duration};

use serde_json::json;
use testkit::{Node, load::Load, node::PATIENCE, onnx, setup};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");

/// Waits until something holds.
async fn until(what: &str, node: &Node, holds: impl Fn() -> bool) {
    let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < until, "{what}:\n{}", node.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_rotate_and_policies_change_under_load_without_a_failed_request() {
    if setup::onnxruntime().is_none() {
        return setup::skip("rotation", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let mut node = Node::new(BINARY);
    fs::create_dir(node.dir()).unwrap();
    // Certificates last 3 s, connections 2 s: what is not renewed can't be used for long.
    let settings = "[node]\ncertificates = \"3s\"\nlog = \"info,mantlet::up::badges=debug,orchestrator=debug\"\n";
    fs::write(node.dir().join("mantlet.toml"), settings).unwrap();
    node.up().await;
    node.deploy("add", &onnx::add(10.0));
    let load = Load::start(&node.client(), "add", |_| 10.0, 32, PATIENCE);
    let count = |what: &str| node.log().matches(what).count();
    let policy = node.file(
        "a.cedar",
        b"@id(\"pin\") permit (principal, action == Mantlet::Action::\"pin\", resource is Mantlet::Model);",
    );
    let mut policies = 0;
    until("services renew", &node, || count("certificates of services renewed") >= 2).await;
    while count("a model server's certificate is renewed") < 6 || policies < 6 {
        node.json(&["policy", "set", policy.to_str().unwrap()]);
        node.json(&["policy", "reset"]);
        policies += 2;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(policies < 2_000, "model servers are not renewed:\n{}", node.log());
    }
    // Keys: each is replaced while everything goes on; what the one before signed still holds.
    for key in ["ca", "bundle", "log"] {
        node.json(&["keys", "rotate", key]);
        node.json(&["callers", "add", &format!("after-{key}"), "--role", "caller"]);
        node.deploy(&format!("after-{key}"), &onnx::add(20.0));
    }
    // Two keys of the log sign by now, and the ledger is as whole as before.
    let checks = node.json(&["doctor"]);
    let ledger = checks.as_array().unwrap().iter().find(|check| check["check"] == "ledger.db").unwrap();
    assert_eq!(ledger["state"], "ok", "{ledger}");
    for key in ["bundle", "log"] {
        node.json(&["keys", "retire", key]);
    }
    node.deploy("after-all", &onnx::add(30.0));
    let (answered, failed) = load.end().await;
    assert!(failed.is_empty(), "{} of {answered} failed, first {:?}\n{}", failed.len(), failed.first(), node.log());
    assert!(answered > 100, "{answered}");
    assert_eq!(count("could not be renewed"), 0, "{}", node.log());
    assert_eq!(count("replica lost"), 0, "{}", node.log());
    // The old CA ends once nobody can show its certificates any more; then only the new one is trusted.
    let patience = tokio::time::Instant::now() + testkit::node::PATIENCE;
    while !node.cli(&["keys", "retire", "ca"]).status.success() {
        assert!(tokio::time::Instant::now() < patience, "{}", node.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let keys = node.json(&["keys", "list"]);
    let single = |key: &serde_json::Value| key["public"].as_array().unwrap().len() == 1;
    assert!(keys.as_array().unwrap().len() == 3 && keys.as_array().unwrap().iter().all(single), "{keys}");
    // What was signed by keys that are gone was signed again, and a start finds all of it whole.
    assert!(node.stop());
    node.up().await;
    let body = json!({ "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] }] });
    for model in ["add", "after-ca", "after-bundle", "after-log", "after-all"] {
        node.client().until_answers(model, &body).await;
    }
    let export = node.scratch().join("export");
    node.json(&["audit", "export", export.to_str().unwrap()]);
    let key = node.dir().join("log.key");
    node.json(&["audit", "verify", export.to_str().unwrap(), "--key", key.to_str().unwrap()]);
}
