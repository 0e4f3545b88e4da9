//! `up --split`: a process for each service, several gateways, and every process may be killed.

use std::fs;

use serde_json::json;
use testkit::{Node, node::Client, onnx, setup};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");

/// A split node with two gateways, and a client of each.
async fn split() -> (Node, Vec<Client>) {
    let mut node = Node::new(BINARY).with(&["--split", "--listen", "127.0.0.1:0"]);
    node.up().await;
    let clients = node.clients();
    assert_eq!(clients.len(), 2);
    (node, clients)
}

fn body() -> serde_json::Value {
    json!({ "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] }] })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_at_one_gateway_holds_at_the_other() {
    let (node, gateways) = split().await;
    let token = node.json(&["callers", "add", "bob", "--role", "caller"])["token"].as_str().unwrap().to_owned();
    let bobs: Vec<Client> = gateways.iter().map(|gateway| gateway.with_token(&token)).collect();
    for bob in &bobs {
        until(bob, 200).await;
    }
    node.json(&["callers", "revoke", "bob"]);
    for bob in &bobs {
        until(bob, 401).await;
    }
}

/// Waits until a caller's token is known, or is not.
async fn until(caller: &Client, status: u16) {
    let patience = tokio::time::Instant::now() + testkit::node::PATIENCE;
    while caller.get("/v2/models").await.0 != status {
        assert!(tokio::time::Instant::now() < patience, "{status} does not come");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_service_may_be_killed_and_nothing_acknowledged_is_lost() {
    if setup::onnxruntime().is_none() {
        return setup::skip("split", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let (mut node, _) = split().await;
    node.deploy("add", &onnx::add(10.0));
    let mut predictions = Vec::new();
    for (number, service) in ["gateway/g0", "registry", "orchestrator", "trainer", "gateway/g1"].into_iter().enumerate()
    {
        let before = node.service(service);
        testkit::node::kill(before);
        // New connections wait at a port, calls at a door, predictions for a replica; a connection to a killed gateway is
        // broken.
        for gateway in node.clients() {
            predictions.push(gateway.until_answers("add", &body()).await["id"].as_str().unwrap().to_owned());
        }
        node.json(&["callers", "add", &format!("caller-{number}"), "--role", "caller"]);
        // Nobody above needs the orchestrator while a replica still answers.
        let patience = tokio::time::Instant::now() + testkit::node::PATIENCE;
        while node.service(service) == before {
            assert!(tokio::time::Instant::now() < patience, "{service} does not come back:\n{}", node.log());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    assert_eq!(node.json(&["callers", "list"]).as_array().unwrap().len(), 6);
    let secrets = ["fenced in: no secret", "NOT DENIED", "mnt_"].map(|text| node.log().matches(text).count());
    assert!(secrets[0] >= 10 && secrets[1] == 0 && secrets[2] == 0, "{secrets:?}\n{}", node.log());
    // What either gateway recorded is proved by any, once it is stored; a killed one lost what waited.
    let mut proved = 0;
    for id in predictions.iter().rev().take(2) {
        let patience = tokio::time::Instant::now() + testkit::node::PATIENCE;
        while !node.cli(&["audit", "prove", id]).status.success() {
            assert!(tokio::time::Instant::now() < patience, "{id}\n{}", node.log());
        }
        proved += 1;
    }
    assert_eq!(proved, 2);
    // A label that comes in at one gateway finds the prediction that another recorded.
    let last = predictions.last().unwrap();
    for gateway in node.clients() {
        let (status, answer) = gateway.post("/v1/feedback", &json!({ "prediction": last, "label": 1 })).await;
        assert_eq!(status, 200, "{answer}");
    }
    let patience = tokio::time::Instant::now() + testkit::node::PATIENCE;
    loop {
        let (_, shown) = node.client().get("/v1/models/add/evaluation").await;
        if shown["labels"]["no_task"]["count"] == 2 {
            break;
        }
        assert!(tokio::time::Instant::now() < patience, "both labels are joined: {shown}\n{}", node.log());
    }
    assert!(node.stop(), "{}", node.log());
    node.up().await;
    assert_eq!(node.json(&["callers", "list"]).as_array().unwrap().len(), 6);
    node.client().until_answers("add", &body()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_sees_nothing_but_what_it_is_given() {
    let (node, _) = split().await;
    for service in ["gateway/g0", "registry", "orchestrator", "trainer", "gateway/g1"] {
        let pid = node.service(service);
        let read = |name: &str| String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{name}")).unwrap()).into_owned();
        let environment = read("environ");
        let names: Vec<&str> = environment.split('\0').filter_map(|entry| Some(entry.split_once('=')?.0)).collect();
        let outward = ["SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"];
        let allowed = |name: &&str| service.starts_with("gateway") && outward.contains(name);
        assert!(names.iter().all(allowed), "{service}: {names:?}");
        assert!(!read("cmdline").contains("mnt_") && !read("cmdline").contains("PRIVATE"), "{service}");
    }
    let left = fs::read_dir(node.dir().join("run")).unwrap().flatten();
    let settings: Vec<_> = left.filter(|file| file.path().extension().is_some_and(|e| e == "json")).collect();
    assert!(settings.is_empty(), "settings are read once and removed: {settings:?}");
    let signed = fs::read_to_string(node.dir().join("client.json")).unwrap();
    assert!(signed.contains("urls"));
}

#[test]
fn several_addresses_want_a_process_for_each_gateway() {
    let mut node = Node::new(BINARY);
    node.launch_with(&["--listen", "127.0.0.1:0"]);
    assert!(!node.ended().success());
    assert!(node.log().contains("--split"), "{}", node.log());
}
