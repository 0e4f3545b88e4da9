//! kill -9 at any moment: what was acknowledged is there and has its leaf.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Node, node::Client, onnx, setup};
use tokio::{sync::Mutex, task::JoinSet};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");
/// Times the node is killed.
const KILLS: usize = 50;
/// Deploys and token adds that are under way at any moment.
const WORKERS: usize = 200;
/// Names that deploys share; each has many versions.
const MODELS: u64 = 4;

/// What was acknowledged with a 2xx.
#[derive(Default)]
struct Acknowledged {
    /// Model, version and digest.
    deploys: Vec<(String, u64, String)>,
    /// Caller and token.
    callers: Vec<(String, String)>,
}

/// One deploy or token add; notes it when it was acknowledged.
async fn act(client: Client, number: u64, acknowledged: Arc<Mutex<Acknowledged>>) {
    if number.is_multiple_of(2) {
        let name = format!("model{}", number / 2 % MODELS);
        let manifest = json!({
            "apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": { "name": name },
            "spec": { "source": { "onnx": "m.onnx" } },
        });
        // An exact small integer as a float: each number is another file.
        let offset = f32::from(u16::try_from(number % 60_000).unwrap());
        if let Ok((200, answer)) = client.deploy(&onnx::add(offset), &manifest).await {
            let version = answer["version"].as_u64().unwrap();
            let digest = answer["digest"].as_str().unwrap().to_owned();
            acknowledged.lock().await.deploys.push((name, version, digest));
        }
    } else {
        let name = format!("caller{number}");
        let request = client.request(Method::POST, "/v1/callers").json(&json!({ "name": name, "roles": ["caller"] }));
        if let Ok((200, answer)) = client.try_send(request).await {
            acknowledged.lock().await.callers.push((name, answer["token"].as_str().unwrap().to_owned()));
        }
    }
}

/// Keeps [`WORKERS`] acts under way until the node is gone.
async fn storm(client: Client, numbers: Arc<AtomicU64>, acknowledged: Arc<Mutex<Acknowledged>>) {
    let mut workers = JoinSet::new();
    loop {
        while workers.len() < WORKERS {
            let number = numbers.fetch_add(1, Ordering::Relaxed);
            workers.spawn(act(client.clone(), number, acknowledged.clone()));
        }
        workers.join_next().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_node_is_killed() {
    if setup::onnxruntime().is_none() {
        return setup::skip(
            "kill::nothing_acknowledged_is_lost",
            "ONNX Runtime's library is not set up: cargo xtask setup",
        );
    }
    let seed = 20_261_124;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut node = Node::new(BINARY);
    let (numbers, acknowledged) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Acknowledged::default())));
    for _ in 0..KILLS {
        node.up().await;
        let work = tokio::spawn(storm(node.client_h2(), numbers.clone(), acknowledged.clone()));
        // The moment is drawn; whatever the storm is doing then is what gets cut.
        tokio::time::sleep(std::time::Duration::from_millis(rng.random_range(20..1_000))).await;
        node.kill();
        work.abort();
        // A storm that was aborted says so; nothing else is expected of it.
        let _ = work.await;
    }
    node.up().await;
    let acknowledged = acknowledged.lock().await;
    println!(
        "seed {seed}: {} deploys and {} tokens were acknowledged over {KILLS} kills",
        acknowledged.deploys.len(),
        acknowledged.callers.len()
    );
    assert!(acknowledged.deploys.len() + acknowledged.callers.len() >= KILLS, "the storm got nothing done");

    let client = node.client();
    let leaves = leaves(&node);
    for (name, version, digest) in &acknowledged.deploys {
        let (status, shown) = client.get(&format!("/v1/models/{name}/bundle?version={version}")).await;
        assert_eq!((status, shown["digest"].as_str()), (200, Some(digest.as_str())), "{name} {version}");
        let key = format!("model.deploy model:default/{name} {version}");
        assert_eq!(leaves.get(&key).map(|detail| detail["digest"].as_str()), Some(Some(digest.as_str())), "{key}");
    }
    for (name, token) in &acknowledged.callers {
        let (status, _) = client.with_token(token).get("/v2/models").await;
        assert_eq!(status, 200, "the token of {name} works");
        assert!(leaves.contains_key(&format!("caller.add caller:default/{name} -")), "{name} has a leaf");
    }
    for model in 0..MODELS {
        let name = format!("model{model}");
        if acknowledged.deploys.iter().any(|(of, _, _)| *of == name) {
            client.until_answers(&name, &onnx::add_request()).await;
        }
    }
}

/// The leaves of a verified export: details by action, subject and version.
fn leaves(node: &Node) -> BTreeMap<String, Value> {
    let dir = node.scratch().join("export");
    node.json(&["audit", "export", dir.to_str().unwrap()]);
    node.json(&["audit", "verify", dir.to_str().unwrap(), "--key", node.dir().join("log.key").to_str().unwrap()]);
    let text = fs::read_to_string(dir.join("records.ndjson")).unwrap();
    let leaf = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        let part = |name: &str| record[name].as_str().unwrap_or("-").to_owned();
        let version = record["detail"]["version"].as_u64().map_or_else(|| "-".into(), |v| v.to_string());
        (format!("{} {} {version}", part("action"), part("subject")), record["detail"].clone())
    };
    text.lines().map(leaf).collect()
}

#[tokio::test]
async fn a_killed_model_server_comes_back_and_no_prediction_fails() {
    if setup::onnxruntime().is_none() {
        return setup::skip("kill::a_killed_model_server", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let node = Node::start(BINARY).await;
    node.deploy("add", &onnx::add(10.0));
    let client = node.client();
    for kill in 0..6_u64 {
        let victims = node.model_servers();
        assert_eq!(victims.len(), 1);
        let mut asked = JoinSet::new();
        for _ in 0..32 {
            let client = client.clone();
            asked.spawn(async move { client.infer("add", &onnx::add_request()).await });
        }
        let pid = rustix_pid(victims[0]);
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        while let Some(answer) = asked.join_next().await {
            let (status, answer) = answer.unwrap();
            assert_eq!((status, &answer["outputs"][0]["data"][0]), (200, &json!(11.0)), "kill {kill}: {answer}");
        }
        client.until_answers("add", &onnx::add_request()).await;
        assert_ne!(node.model_servers(), victims);
    }
}

fn rustix_pid(pid: u32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

#[tokio::test]
async fn model_servers_do_not_outlive_a_killed_node() {
    if setup::onnxruntime().is_none() {
        return setup::skip(
            "kill::model_servers_do_not_outlive",
            "ONNX Runtime's library is not set up: cargo xtask setup",
        );
    }
    let mut node = Node::start(BINARY).await;
    node.deploy("add", &onnx::add(10.0));
    let servers = node.model_servers();
    node.kill();
    let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
    while servers
        .iter()
        .any(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.contains("model-server")))
    {
        assert!(tokio::time::Instant::now() < until, "a model server lives on without its node");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
