//! What a namespace may insist on: signed models, and a record of every answer.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::{collections::BTreeMap, path::Path};

use access::signing::Key;
use serde_json::{Value, json};
use testkit::{Node, onnx, setup};
use types::Digest;

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");

fn body() -> Value {
    json!({ "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] }] })
}

/// A publisher's signature over a model, as `model_signing sign key` makes it.
fn sign(node: &Node, key: &Key, model: &[u8]) -> String {
    let files = BTreeMap::from([("model.onnx".to_owned(), Digest::of(model))]);
    let signature = key.sign("folder", &files).unwrap();
    node.file(&format!("{}.sig", Digest::of(&signature)), &signature).display().to_string()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_with_publishers_takes_what_they_signed_and_nothing_else() {
    let node = Node::start(BINARY).await;
    let [good, lost, other] = [(); 3].map(|()| Key::generate().unwrap());
    let (first, second) = (onnx::add(1.0), onnx::add(2.0));
    let (one, two) = (text(&node.file("one.onnx", &first)), text(&node.file("two.onnx", &second)));
    node.json(&["deploy", &one, "--name", "free"]);
    let add = |key: &Key| {
        let pem = text(&node.file("key.pub", key.public().unwrap().pem().as_bytes()));
        node.json(&["publishers", "add", &pem])["fingerprint"].as_str().unwrap().to_owned()
    };
    let fingerprint = add(&good);
    let lost_fingerprint = add(&lost);
    let refused = |signature: &str| node.refused(&["deploy", &two, "--name", "m", "--signature", signature]);
    assert_eq!(node.refused(&["deploy", &two, "--name", "m"]), "bundle_untrusted", "unsigned");
    assert_eq!(refused(&sign(&node, &other, &second)), "bundle_untrusted", "an unknown key");
    assert_eq!(refused(&sign(&node, &good, &first)), "bundle_untrusted", "another model");
    assert_eq!(refused(&text(&node.file("no.sig", b"{}"))), "bundle_untrusted", "no signature at all");

    let deploy = |model: &str, signature: &str| node.json(&["deploy", model, "--name", "m", "--signature", signature]);
    assert_eq!(deploy(&one, &sign(&node, &lost, &first))["version"], 1);
    assert_eq!(deploy(&two, &sign(&node, &good, &second))["version"], 2);
    let revoked = node.json(&["publishers", "revoke", &lost_fingerprint[..8]]);
    assert_eq!(revoked["signed"], json!([{ "model": "m", "version": 1 }]));
    assert_eq!(refused(&sign(&node, &lost, &second)), "bundle_untrusted", "a revoked key");
    assert_eq!(node.refused(&["rollback", "m"]), "bundle_untrusted", "what a revoked key signed does not come back");
    let pem = text(&node.file("key.pub", lost.public().unwrap().pem().as_bytes()));
    assert_eq!(node.refused(&["publishers", "add", &pem]), "already_exists", "revoked is for good");
    // The last one revoked does not open the door again.
    node.json(&["publishers", "revoke", &fingerprint]);
    assert_eq!(refused(&sign(&node, &good, &second)), "bundle_untrusted");
    assert_eq!(node.refused(&["publishers", "revoke", "00000000"]), "publisher_not_found");
    // Another namespace has no part in it.
    node.json(&["deploy", &two, "--name", "m", "--namespace", "elsewhere"]);
    let ledger = node.client().get("/v1/ledger?from=0&limit=1000").await.1.to_string();
    for action in ["publisher.add", "publisher.revoke"] {
        assert!(ledger.contains(action), "{action}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_audit_duty_no_answer_comes_before_its_record() {
    if setup::onnxruntime().is_none() {
        return setup::skip("duty", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let mut node = Node::start(BINARY).await;
    node.deploy("add", &onnx::add(10.0));
    node.json(&["namespaces", "set", "default", "--audit", "block"]);
    let mut answered = Vec::new();
    for _ in 0..20 {
        let (status, answer) = node.client().infer("add", &body()).await;
        assert_eq!(status, 200, "{answer}");
        answered.push(answer["id"].as_str().unwrap().to_owned());
    }
    // Ended without warning right after the last answer: each of them has its record all the same.
    node.kill();
    node.up().await;
    for id in &answered {
        let proof = node.json(&["audit", "prove", id]);
        assert!(proof.to_string().contains(id.as_str()), "{proof}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_shows_when_a_token_was_used_last() {
    let node = Node::start(BINARY).await;
    let token = node.json(&["callers", "add", "bob", "--role", "caller"])["token"].as_str().unwrap().to_owned();
    node.json(&["callers", "add", "idle", "--role", "caller"]);
    let used = |name: &str| {
        let callers = node.json(&["callers", "list"]);
        callers.as_array().unwrap().iter().find(|caller| caller["caller"] == name).unwrap()["used"].as_u64()
    };
    assert_eq!(used("bob"), None);
    let patience = tokio::time::Instant::now() + testkit::node::PATIENCE;
    while used("bob").is_none() {
        assert_eq!(node.client().with_token(&token).get("/v2/models").await.0, 200);
        assert!(tokio::time::Instant::now() < patience, "{}", node.log());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(used("idle"), None);
}
