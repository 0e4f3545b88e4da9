//! A full disk costs records, never predictions; and what it costs is counted, said, and made good again. A disk that
//! stands still costs neither.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::{fs::File, io::Write as _, path::Path};

use serde_json::{Value, json};
use testkit::{Node, node::Client, onnx, setup};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");
/// The size of the disk: room for three databases with their logs, and little else.
const DISK: u64 = 24 << 20;

/// Fills the disk until not one byte more has room.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
}

async fn predict(client: &Client) -> String {
    let (status, answer) = client.infer("add", &onnx::add_request()).await;
    assert_eq!(status, 200, "{answer}");
    answer["id"].as_str().unwrap().to_owned()
}

/// The value of a metric.
async fn metric(client: &Client, name: &str) -> f64 {
    let answer = client.request(reqwest::Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    answer.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap()
}

async fn until(node: &Node, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < until, "{what}\n{}", node.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Events that the ledger says were lost, by number.
async fn gaps(client: &Client) -> Vec<u64> {
    let (status, page) = client.get("/v1/ledger?limit=10000").await;
    assert_eq!(status, 200, "{page}");
    let records = page["records"].as_array().unwrap().iter();
    let records = records.map(|line| serde_json::from_str::<Value>(line.as_str().unwrap()).unwrap());
    let gaps = records.filter(|record| record["action"] == "predictions.gap");
    gaps.filter_map(|record| record["detail"]["lost"].as_u64()).collect()
}

fn check<'a>(checks: &'a Value, name: &str) -> &'a Value {
    checks.as_array().unwrap().iter().find(|check| check["check"] == name).unwrap()
}

#[tokio::test]
async fn a_full_disk_costs_no_prediction_and_every_record_it_costs_is_counted() {
    const TEST: &str = "disk::a_full_disk";
    if setup::onnxruntime().is_none() {
        return setup::skip(TEST, "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let Some(mut node) = Node::on_small_disk(BINARY, DISK) else {
        return setup::skip(TEST, "no file system can be mounted here, not even in a namespace of our own");
    };
    node.up().await;
    node.deploy("add", &onnx::add(10.0));
    let client = node.client();
    let mut before = Vec::new();
    for _ in 0..20 {
        before.push(predict(&client).await);
    }
    for id in &before {
        node.json(&["audit", "prove", id]);
    }
    assert_eq!(metric(&client, "mantlet_gateway_recording").await, 1.0);

    let ballast = node.dir().join("ballast");
    fill(&ballast);
    let mut during = Vec::new();
    let lost = async || metric(&client, "mantlet_gateway_events_lost_total").await;
    // What the databases had allocated already takes some of them still.
    while during.len() < 300 || lost().await == 0.0 {
        during.push(predict(&client).await);
        assert!(during.len() < 20_000, "the disk is full, and nothing is lost");
    }
    assert_eq!(metric(&client, "mantlet_gateway_recording").await, 0.0);

    // Changes are refused, with what to do; the node lives, and says what is wrong.
    let path = node.file("other.onnx", &onnx::add(2.0));
    for arguments in
        [&["deploy", path.to_str().unwrap(), "--name", "other"][..], &["callers", "add", "teller", "--role", "caller"]]
    {
        let output = node.cli(&[arguments, &["--output", "json"]].concat());
        let error: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), &error["error"]["code"]),
            (Some(1), &json!("storage_unavailable")),
            "{error}"
        );
        assert!(error["error"]["hint"].as_str().unwrap().contains("disk"), "{error}");
    }
    assert_eq!(
        std::fs::read_dir(node.dir().join("artefacts/staging")).unwrap().count(),
        0,
        "nothing half-written stays"
    );
    let output = node.cli(&["doctor", "--output", "json"]);
    let checks: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{checks}");
    for name in ["data directory", "recording"] {
        assert_eq!(check(&checks, name)["state"], "failed", "{checks}");
    }
    for name in ["catalog.db", "events.db", "ledger.db", "node"] {
        assert_eq!(check(&checks, name)["state"], "ok", "{checks}");
    }
    assert!(node.runs());

    // Room again: predictions are recorded again, and the gap has the very number that can't be proved.
    std::fs::remove_file(&ballast).unwrap();
    until(&node, "events are recorded again", async || {
        during.push(predict(&client).await);
        metric(&client, "mantlet_gateway_recording").await == 1.0
    })
    .await;
    let after = predict(&client).await;
    node.json(&["audit", "prove", &after]);
    let mut missing = 0;
    for id in before.iter().chain(&during) {
        match client.get(&format!("/v1/predictions/{id}/proof")).await {
            (200, _) => {}
            (404, _) => missing += 1,
            (status, answer) => panic!("{status} {answer}"),
        }
    }
    assert!(missing > 0);
    assert_eq!(gaps(&client).await.iter().sum::<u64>(), missing, "{}", node.log());
    assert_eq!(lost().await, missing as f64);
    let log = node.log();
    assert_eq!(log.matches("events can't be recorded").count(), 1, "said once: {log}");
    assert_eq!(log.matches("events are recorded again").count(), 1, "said once: {log}");
    let checks = node.json(&["doctor"]);
    assert_eq!(check(&checks, "recording")["state"], "warning", "{checks}");

    // Changes work again, the log verifies, and a start finds everything.
    node.json(&["callers", "add", "teller", "--role", "caller"]);
    node.deploy("other", &onnx::add(2.0));
    let (export, key) = (node.scratch().join("export"), node.dir().join("log.key"));
    node.json(&["audit", "export", export.to_str().unwrap()]);
    let key = node.file("log.key", &std::fs::read(key).unwrap());
    node.json(&["audit", "verify", export.to_str().unwrap(), "--key", key.to_str().unwrap()]);
    assert!(node.stop(), "{}", node.log());
    node.up().await;
    let client = node.client();
    client.until_answers("add", &onnx::add_request()).await;
    for id in [&before[0], &after] {
        node.json(&["audit", "prove", id]);
    }
    assert_eq!(gaps(&client).await.iter().sum::<u64>(), missing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_stands_still_holds_up_changes_and_no_prediction() {
    const TEST: &str = "disk::a_disk_that_stands_still";
    if setup::onnxruntime().is_none() {
        return setup::skip(TEST, "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let Some((mut node, disk)) = Node::on_slow_disk(BINARY) else {
        return setup::skip(TEST, "there is no C compiler");
    };
    node.up().await;
    node.deploy("add", &onnx::add(10.0));
    let client = node.client();
    client.until_answers("add", &onnx::add_request()).await;

    disk.stands_still();
    let change = tokio::spawn({
        let client = client.clone();
        async move { client.post("/v1/callers", &json!({ "name": "teller", "roles": ["caller"] })).await }
    });
    let mut during = Vec::new();
    for _ in 0..200 {
        during.push(predict(&client).await);
    }
    assert!(!change.is_finished(), "a change is acknowledged before it is durable");
    disk.goes_on();
    let (status, answer) = change.await.unwrap();
    assert_eq!(status, 200, "{answer}");
    node.json(&["audit", "prove", &during[during.len() - 1]]);
    for id in &during {
        assert_eq!(client.get(&format!("/v1/predictions/{id}/proof")).await.0, 200, "{id}");
    }
    assert_eq!(metric(&client, "mantlet_gateway_events_lost_total").await, 0.0);
    node.kill();
    node.up().await;
    let callers = node.json(&["callers", "list"]);
    assert!(callers.as_array().unwrap().iter().any(|caller| caller["caller"] == "teller"), "{callers}");
}

#[tokio::test]
async fn where_the_disk_is_short_uploads_are_refused_and_changes_have_room() {
    const TEST: &str = "disk::where_the_disk_is_short";
    if setup::onnxruntime().is_none() {
        return setup::skip(TEST, "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let Some(node) = Node::on_small_disk(BINARY, 2 * DISK) else {
        return setup::skip(TEST, "no file system can be mounted here, not even in a namespace of our own");
    };
    let settings = node.scratch().join("mantlet.toml");
    std::fs::write(&settings, "[node]\ndisk-reserve = \"40%\"\n").unwrap();
    let mut node = node.with(&["--config", settings.to_str().unwrap()]);
    node.up().await;
    node.deploy("add", &onnx::add(10.0));
    let client = node.client();
    predict(&client).await;

    // A quarter of the disk is left: less than is to stay free, and enough for whatever else is asked for.
    let ballast = node.dir().join("ballast");
    let disk = rustix::fs::statvfs(node.dir()).unwrap();
    let left = (disk.f_bavail * disk.f_frsize).saturating_sub(2 * DISK / 4);
    std::fs::write(&ballast, vec![7; usize::try_from(left).unwrap()]).unwrap();
    let path = node.file("other.onnx", &onnx::add(2.0));
    let output = node.cli(&["deploy", path.to_str().unwrap(), "--name", "other", "--output", "json"]);
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((output.status.code(), &error["error"]["code"]), (Some(1), &json!("storage_unavailable")), "{error}");
    assert!(error["error"]["message"].as_str().unwrap().contains("are to stay free"), "{error}");
    assert!(error["error"]["hint"].as_str().unwrap().contains("disk"), "{error}");
    let id = predict(&client).await;
    node.json(&["audit", "prove", &id]);
    node.json(&["callers", "add", "teller", "--role", "caller"]);
    assert_eq!(metric(&client, "mantlet_gateway_events_lost_total").await, 0.0);

    std::fs::remove_file(&ballast).unwrap();
    node.deploy("other", &onnx::add(2.0));
}
