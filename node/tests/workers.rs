//! Workers: processes that share the learning of what the tuner found, and what is left when one of them is gone.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests: failing loudly is their job")]

use std::{fs, time::Duration};

use serde_json::{Value, json};
use streaming::{
    Row, Truth,
    workers::{Fit, Lesson},
};
use testkit::{
    Node,
    node::{Client, PATIENCE},
};
use tokio::time::Instant;
use types::{Manifest, PredictionId};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");
/// Rows of a request, each of which gets a label.
const ROWS: usize = 100;
/// Enough for a search.
const EXAMPLES: usize = 2_500;
/// So many numbers, of which one at a time is not 0, that the newest examples alone do not tell what each counts.
const COLUMNS: usize = 60;

/// A node that may have four workers, however many cores there are, with a model that learns by a tree what a line tells.
async fn node(workers: usize, more: &[&str]) -> Node {
    let node = Node::new(BINARY);
    let config = node.file("node.toml", b"[trainer]\nworkers = 4\n").to_str().unwrap().to_owned();
    let arguments: Vec<&str> = ["--config", &config].into_iter().chain(more.iter().copied()).collect();
    let mut node = node.with(&arguments);
    node.up().await;
    let client = node.client();
    let manifest = json!({
        "apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": { "name": "level" },
        "spec": {
            "source": { "online": { "learner": "fimt-dd" } },
            "inputs": [{ "name": "x", "type": "FP64", "shape": [-1, COLUMNS] }],
            "task": { "kind": "regression" },
            "capture": { "input": "features" },
            "learning": { "promote": "automatic", "season": "0s", "train": { "workers": workers } },
        },
    });
    let (code, deployed) = client.post("/v1/deploys", &json!({ "manifest": manifest })).await;
    assert_eq!(code, 200, "{deployed}");
    let first =
        json!({ "inputs": [{ "name": "x", "datatype": "FP64", "shape": [1, COLUMNS], "data": vec![0.5; COLUMNS] }] });
    client.until_answers("level", &first).await;
    for round in 0..EXAMPLES / ROWS {
        teach(&client, round).await;
    }
    let until = Instant::now() + PATIENCE;
    while client.get("/v1/models/level/evaluation").await.1["labels"]["joined"]["count"] != json!(EXAMPLES) {
        assert!(Instant::now() < until, "every label is joined");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    node
}

/// Asks about some rows, and says what is right: what the one number counts that is not 0.
async fn teach(client: &Client, round: usize) {
    let at = |n: usize| (n + 1) * 2_654_435_761 % 1_000_003 % COLUMNS;
    let rows: Vec<usize> = (round * ROWS..(round + 1) * ROWS).map(at).collect();
    let row = |at: &usize| (0..COLUMNS).map(|column| f64::from(u8::from(column == *at))).collect::<Vec<f64>>();
    let data: Vec<f64> = rows.iter().flat_map(row).collect();
    let shape = [ROWS, COLUMNS];
    let body = json!({ "inputs": [{ "name": "x", "datatype": "FP64", "shape": shape, "data": data }] });
    let (code, answer) = client.infer("level", &body).await;
    assert_eq!(code, 200, "{answer}");
    let label =
        |(row, at): (usize, &usize)| json!({ "prediction": answer["id"], "row": row, "label": at * 37 % COLUMNS });
    let labels: Vec<Value> = rows.iter().enumerate().map(label).collect();
    let (code, taken) = client.post("/v1/feedback", &json!(labels)).await;
    assert_eq!((code, &taken["accepted"]), (200, &json!(ROWS)), "{taken}");
}

/// Waits until the newest job has ended.
async fn ended(node: &Node) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let jobs = node.json(&["jobs", "level"]);
        if jobs[0]["state"] == "done" || jobs[0]["state"] == "failed" {
            return jobs[0].clone();
        }
        assert!(Instant::now() < until, "{jobs}\n{}", node.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The state that the second version began with, and its manifest.
async fn began_with(node: &Node) -> (Manifest, Vec<u8>) {
    let (code, bundle) = node.client().get("/v1/models/level/bundle?version=2").await;
    assert_eq!((code, &bundle["version"]), (200, &json!(2)), "{bundle}");
    let folder = node.dir().join("artefacts/bundles").join(bundle["digest"].as_str().unwrap());
    let manifest = fs::read(folder.join("manifest.json")).unwrap();
    (Manifest::from_json(&manifest).unwrap(), fs::read(folder.join("model.state")).unwrap())
}

/// What workers here make of the examples that the manifest tells of, as anybody can export them.
fn again(node: &Node, manifest: &Manifest) -> Vec<u8> {
    let out = node.cli(&["models", "examples", "level"]);
    let types::manifest::Source::Online(online) = &manifest.spec.source else { panic!("it learns") };
    let start = online.start.clone().unwrap();
    let examples = String::from_utf8(out.stdout).unwrap();
    let examples: Vec<(PredictionId, u64, Row, f64)> = examples
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|example| (start.entries[0]..start.entries[1]).contains(&example["offset"].as_u64().unwrap()))
        .map(|example| {
            let id = serde_json::from_value(example["prediction"].clone()).unwrap();
            let row = serde_json::from_value(example["features"].clone()).unwrap();
            (id, example["row"].as_u64().unwrap(), row, example["truth"]["number"].as_f64().unwrap())
        })
        .collect();
    let lessons =
        examples.iter().map(|(id, row, asked, truth)| Lesson { key: (*id, *row), asked, truth: Truth::Number(*truth) });
    let fit = Fit::new(manifest, lessons, start.workers, start.entries[1]).unwrap();
    fit.here().unwrap().model.save()
}

async fn shares_what_it_found(more: &[&str]) {
    let mut node = node(3, more).await;
    let client = node.client();
    node.json(&["retrain", "level", "--reason", "a test"]);
    let job = ended(&node).await;
    assert_eq!((&job["state"], &job["version"]), (&json!("done"), &json!(2)), "{job}\n{}", node.log());
    let told = &job["metrics"]["workers"];
    assert_eq!((&told["way"], &told["each"].as_array().map(Vec::len)), (&json!("weights"), &Some(3)), "{job}");
    for worker in told["each"].as_array().unwrap() {
        assert!(worker["distance"].is_number() && worker.get("left_out").is_none(), "{job}");
    }
    let log = job["log"].as_array().unwrap();
    assert!(log[0].as_str().unwrap().contains("3 workers learnt"), "{job}");
    let (manifest, state) = began_with(&node).await;
    assert_eq!(again(&node, &manifest), state, "bit for bit");
    // Nobody else says what a version began with.
    let shown = json!({ "manifest": serde_json::to_value(&manifest).unwrap() });
    let (code, refused) = client.post("/v1/deploys", &shown).await;
    assert!(code == 400 && refused.to_string().contains("by the trainer alone"), "{code} {refused}");
    // It proves itself as any other, from that state on, through a kill.
    let client = if more.is_empty() {
        node.kill();
        node.up().await;
        node.client()
    } else {
        client
    };
    let (mut stand, mut round, until) = (Value::Null, EXAMPLES / ROWS, Instant::now() + PATIENCE);
    while stand != "promoted" {
        teach(&client, round).await;
        round += 1;
        stand = client.get("/v1/rollouts").await.1[0]["stand"].clone();
        assert!(Instant::now() < until, "{stand}\n{}", node.log());
    }
    let explained = node.json(&["rollouts", "explain", "level/2"]);
    assert_eq!(explained["agrees"], true, "{explained}");
    assert!(node.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn three_workers_learn_what_the_tuner_found_and_it_proves_itself() {
    shares_what_it_found(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_a_split_node_do_so_too() {
    shares_what_it_found(&["--split"]).await;
}

/// The workers of a node, as its log tells of them.
fn pids(log: &str) -> Vec<u32> {
    let of_worker = |line: &str| {
        let rest = line.split_once("a worker learns")?.1;
        rest.split_once("pid=")?.1.split_whitespace().next()?.parse().ok()
    };
    log.lines().filter_map(of_worker).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_worker_is_killed_ends_with_a_version_and_says_so() {
    let node = node(2, &[]).await;
    let until = Instant::now() + PATIENCE;
    // A worker may be done before the signal comes: then it is tried again.
    loop {
        let before = pids(&node.log()).len();
        node.json(&["retrain", "level", "--reason", "a test"]);
        for turn in 1.. {
            if pids(&node.log()).len() > before {
                break;
            }
            if turn % 200 == 0 {
                let job = node.json(&["jobs", "level"])[0].clone();
                assert!(job["state"] != "done" && job["state"] != "failed", "none was begun: {job}");
            }
            assert!(Instant::now() < until, "{}", node.log());
        }
        let worker = i32::try_from(pids(&node.log())[before]).unwrap();
        // One that is gone needs no signal.
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_raw(worker).unwrap(),
            rustix::process::Signal::KILL,
        );
        let job = ended(&node).await;
        assert_eq!(job["state"], "done", "{job}");
        let told = &job["metrics"]["workers"];
        if let Some(why) = told["each"][0]["left_out"].as_str() {
            assert_eq!(why, "signal 9 ended it", "{job}");
            assert_eq!(told["alone"], "of 2 workers 1 are left");
            let log = job["log"].to_string();
            assert!(log.contains("worker 1 of 2 is left out: signal 9 ended it"), "{job}");
            assert!(log.contains("one learns alone"), "{job}");
            assert!(job["version"].is_number(), "{job}");
            return;
        }
    }
}

/// A worker as the trainer starts it, of this parent.
fn worker(node: &Node, parent: u32) -> std::process::Child {
    let order = json!({ "confine": "Auto", "memory": 1_u64 << 30, "seconds": 60 });
    let order = node.file("worker.json", order.to_string().as_bytes());
    let mut command = std::process::Command::new(BINARY);
    command.arg("worker").arg(order).arg(parent.to_string()).env_clear();
    let piped = std::process::Stdio::piped;
    command.stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap()
}

/// What a forest's first worker is sent.
fn order() -> Vec<u8> {
    let manifest = Manifest::from_json(
        json!({
            "apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": { "name": "m" },
            "spec": {
                "source": { "online": { "learner": "adaptive-random-forest", "settings": { "trees": 2 } } },
                "inputs": [{ "name": "x", "type": "FP64" }],
                "task": { "kind": "classification", "classes": ["a", "b"] },
                "capture": { "input": "features" },
            },
        })
        .to_string()
        .as_bytes(),
    );
    let rows: Vec<Row> = (0..1_000).map(|n| vec![streaming::Cell::Number(f64::from(n % 9))]).collect();
    let id: PredictionId = serde_json::from_value(json!("01a22bd6-53d1-72cc-9551-0125b507ef52")).unwrap();
    let lessons = rows.iter().zip(0_u64..).map(|(asked, n)| Lesson {
        key: (id, n),
        asked,
        truth: Truth::Class(usize::from(n % 9 > 4)),
    });
    let lessons: Vec<Lesson<'_>> = lessons.collect();
    let order = Fit::new(&manifest.unwrap(), lessons.into_iter(), 2, 1).unwrap().order(0).unwrap();
    [&(order.len() as u64).to_le_bytes()[..], &order].concat()
}

#[test]
fn a_worker_confines_itself_and_ends_with_whoever_started_it() {
    let node = Node::new(BINARY);
    let sent = |child: &mut std::process::Child, bytes: &[u8]| {
        let mut to = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut to, bytes).unwrap();
        to
    };
    // It waits for its order: by then it is confined as far as this kernel can.
    let mut child = worker(&node, std::process::id());
    let status = format!("/proc/{}/status", child.id());
    let until = Instant::now() + PATIENCE;
    while sandbox::probe().is_empty() && !fs::read_to_string(&status).unwrap().contains("Seccomp:\t2") {
        assert!(Instant::now() < until, "{}", fs::read_to_string(&status).unwrap());
        std::thread::yield_now();
    }
    let held = sent(&mut child, &order());
    let output = child.wait_with_output().unwrap();
    let (length, state) = output.stdout.split_first_chunk::<8>().unwrap();
    assert_eq!((output.status.code(), u64::from_le_bytes(*length)), (Some(0), state.len() as u64));
    drop(held);
    // Somebody else's, and one that nobody sends anything.
    let mut child = worker(&node, 1);
    let _held = sent(&mut child, &order());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let mut child = worker(&node, std::process::id());
    drop(child.stdin.take());
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(1));
    // What is no order.
    let mut child = worker(&node, std::process::id());
    let _held = sent(&mut child, &[3, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("ends too soon"), "{output:?}");
}
