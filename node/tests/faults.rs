//! Model servers are killed, frozen and cut off under load: no prediction fails, or next to none, and few are repeated.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests: failing loudly is their job")]

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use testkit::{
    Node,
    load::Load,
    node::PATIENCE,
    onnx,
    proxy::{Fault, Proxy},
    setup,
};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");
/// Requests in flight in each cell of the matrix.
const CLIENTS: u64 = 16;
/// What a client waits at the most.
const CLIENT: Duration = Duration::from_secs(20);

/// How often each fault happens: `MANTLET_ROUNDS`, or once.
fn rounds() -> usize {
    std::env::var("MANTLET_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Waits until all replicas of the model are ready, none of them with this process.
async fn whole(node: &Node, replicas: usize, gone: u32) {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let model = node.json(&["models", "show", "add"]);
        if model["model"]["replicas"] == format!("{replicas}/{replicas}") && !node.model_servers().contains(&gone) {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "{model}\n{}", node.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A node that serves `add` with so many replicas.
async fn serving(replicas: usize) -> Node {
    let node = Node::start(BINARY).await;
    let manifest = json!({
        "apiVersion": "mantlet.dev/v1",
        "kind": "Model",
        "metadata": { "name": "add" },
        "spec": { "source": { "onnx": "model.onnx" }, "scale": { "min": replicas } },
    });
    assert_eq!(node.client().deploy(&onnx::add(10.0), &manifest).await.unwrap().0, 200);
    whole(&node, replicas, 0).await;
    node
}

/// Sends this signal to a model server in the middle of the load, again and again.
async fn strike(replicas: usize, signal: Signal) {
    let node = serving(replicas).await;
    let client = node.client();
    let load = Load::start(&client, "add", |_| 10.0, 64, CLIENT);
    load.more(200).await;
    for round in 0..rounds() {
        let servers = node.model_servers();
        assert_eq!(servers.len(), replicas, "{servers:?}");
        let victim = servers[round % replicas];
        kill_process(Pid::from_raw(victim.cast_signed()).unwrap(), signal).unwrap();
        whole(&node, replicas, victim).await;
        load.more(200).await;
    }
    let (answered, failed) = load.end().await;
    assert!(failed.is_empty(), "{} of {answered}: {:?}\n{}", failed.len(), failed.first(), node.log());
    assert!(answered > 200 * rounds() as u64, "{answered}");
}

/// Predictions in each cell of the matrix: `MANTLET_REQUESTS`, or some hundreds.
fn requests() -> u64 {
    std::env::var("MANTLET_REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

/// Sockets of model servers.
fn sockets(node: &Node) -> BTreeSet<PathBuf> {
    let found = fs::read_dir(node.dir().join("run")).unwrap().map(|entry| entry.unwrap().path());
    found.filter(|path| path.extension().is_some_and(|end| end == "sock")).collect()
}

/// Predictions answered, and attempts beside the first ones, as the node counts them.
async fn counted(node: &Node) -> (f64, f64) {
    let client = node.client();
    let text = client.request(reqwest::Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let sum = |name: &str| {
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    (sum("mantlet_gateway_answers_total"), sum("mantlet_gateway_attempts_total"))
}

/// One cell: so many of three replicas have this fault, while requests come with a deadline of 2 s.
async fn cell(fault: Fault, ill: usize) {
    // Nobody has asked yet, so the gateway has no connections; the orchestrator has its own.
    let node = serving(3).await;
    let proxies: Vec<Proxy> = sockets(&node).iter().take(ill).map(|socket| Proxy::before(socket).unwrap()).collect();
    assert_eq!(proxies.len(), ill);
    let load = Load::start(&node.client(), "add", |_| 10.0, CLIENTS, Duration::from_secs(2));
    for proxy in &proxies {
        proxy.connected(1).await;
    }
    load.more(200).await;
    let before = counted(&node).await;
    proxies.iter().for_each(|proxy| proxy.set(fault));
    load.more(requests()).await;
    let after = counted(&node).await;
    let (_, failed) = load.end().await;
    let (answered, repeated) = (after.0 - before.0, after.1 - before.1);
    let told = format!("{fault:?} at {ill} of 3: {answered} answered, {} failed, {repeated} repeated", failed.len());
    let wrong = format!("{told}: {:?}\n{}", failed.first(), node.log());
    // Those in flight when it begins are few among many, and many among few.
    assert!(failed.len() as f64 <= (answered * 0.001).max(CLIENTS as f64), "{wrong}");
    // What the budget has saved up beside a tenth of the requests.
    assert!(repeated <= answered * 0.1 + 128.0 + 60.0, "{wrong}");
    if requests() >= 10_000 {
        assert!(repeated <= answered * 0.2, "{wrong}");
        eprintln!("{told}");
    }
}

macro_rules! faults {
    ($($name:ident: $strikes:expr;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                if setup::onnxruntime().is_none() {
                    return setup::skip("faults", "ONNX Runtime's library is not set up: cargo xtask setup");
                }
                $strikes.await;
            }
        )*
    };
}

faults! {
    no_prediction_fails_when_one_of_three_model_servers_is_killed: strike(3, Signal::KILL);
    no_prediction_fails_when_the_only_model_server_is_killed: strike(1, Signal::KILL);
    no_prediction_fails_when_one_of_three_model_servers_freezes: strike(3, Signal::STOP);
    no_prediction_fails_when_the_only_model_server_freezes: strike(1, Signal::STOP);
    latency_is_worked_around: matrix(Fault::Latency(Duration::from_millis(100), Duration::ZERO));
    jitter_is_worked_around: matrix(Fault::Latency(Duration::ZERO, Duration::from_millis(200)));
    resets_are_worked_around: matrix(Fault::Reset);
    a_partition_is_worked_around: matrix(Fault::Partition);
    half_open_connections_are_worked_around: matrix(Fault::HalfOpen);
    slow_readers_are_worked_around: matrix(Fault::Bandwidth(2_000));
}

/// This fault at one and at two of three replicas.
async fn matrix(fault: Fault) {
    for ill in [1, 2] {
        cell(fault, ill).await;
    }
}
