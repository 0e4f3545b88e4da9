//! Versions that do not learn: what is better takes over by what labels say of copies, and jobs make new ones of examples.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use serde_json::{Value, json};
use testkit::{
    Node,
    node::{Client, PATIENCE},
    onnx, setup,
};
use tokio::time::Instant;

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");
/// Rows of a request, each of which gets a label.
const ROWS: usize = 20;

fn manifest(learning: &Value) -> Value {
    json!({
        "apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": { "name": "double" },
        "spec": {
            "source": { "onnx": "model.onnx" },
            "task": { "kind": "regression" },
            "capture": { "input": "features" },
            "learning": learning,
        },
    })
}

async fn deploy(client: &Client, factor: f32, learning: &Value) -> Value {
    let (code, answer) = client.deploy(&onnx::scale(factor), &manifest(learning)).await.unwrap();
    assert_eq!(code, 200, "{answer}");
    answer
}

/// Asks about some rows and says that twice the number is right; returns what the first was answered, by which factor.
async fn ask(client: &Client, round: usize) -> f64 {
    let rows: Vec<f64> = (0..ROWS).map(|row| ((round * 31 + row * 7) % 97 + 1) as f64).collect();
    let body = json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [ROWS], "data": rows }] });
    let (code, answer) = client.infer("double", &body).await;
    assert_eq!(code, 200, "{answer}");
    let label = |(row, x): (usize, &f64)| json!({ "prediction": answer["id"], "row": row, "label": 2.0 * x });
    let labels: Vec<Value> = rows.iter().enumerate().map(label).collect();
    let (code, taken) = client.post("/v1/feedback", &json!(labels)).await;
    assert_eq!((code, &taken["accepted"]), (200, &json!(ROWS)), "{taken}");
    answer["outputs"][0]["data"][0].as_f64().unwrap() / rows[0]
}

/// Asks and labels until this holds of the only challenger.
async fn until_rollout(client: &Client, from: usize, holds: impl Fn(&Value) -> bool) -> (Value, usize) {
    let (mut round, until) = (from, Instant::now() + PATIENCE);
    loop {
        ask(client, round).await;
        round += 1;
        let (_, shown) = client.get("/v1/rollouts").await;
        if holds(&shown[0]) {
            return (shown[0].clone(), round);
        }
        assert!(Instant::now() < until, "{shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks until the model multiplies by this.
async fn until_answers(client: &Client, factor: f64, from: usize) -> usize {
    let (mut round, until) = (from, Instant::now() + PATIENCE);
    loop {
        let answered = ask(client, round).await;
        round += 1;
        if answered == factor {
            return round;
        }
        assert!(Instant::now() < until, "it answers by {answered}, not by {factor}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_better_version_takes_over_by_its_answers_to_copies_through_a_kill() {
    if setup::onnxruntime().is_none() {
        return setup::skip("a_better_version_takes_over_by_its_answers_to_copies_through_a_kill", "ONNX Runtime");
    }
    let mut node = Node::start(BINARY).await;
    let client = node.client();
    let learning = json!({ "promote": "automatic", "season": "0s" });
    deploy(&client, 1.0, &learning).await;
    until_answers(&client, 1.0, 0).await;
    let deployed = deploy(&client, 2.0, &learning).await;
    assert_eq!((&deployed["version"], &deployed["challenges"]), (&json!(2), &json!(1)), "{deployed}");
    let (judging, round) = until_rollout(&client, 1, |shown| shown["evidence"]["labels"].as_u64() > Some(0)).await;
    assert_eq!((&judging["champion"], &judging["challenger"]), (&json!(1), &json!(2)));
    node.kill();
    node.up().await;
    let client = node.client();
    let round = until_answers(&client, 2.0, round).await;
    let (promoted, round) = until_rollout(&client, round, |shown| shown["stand"] == "promoted").await;
    let decided = &promoted["decided"];
    assert!(decided["challenger_loss"].as_f64().unwrap() == 0.0, "{promoted}");
    assert!(decided["champion_loss"].as_f64().unwrap() > 0.3 && decided["labels"].as_u64() >= Some(100), "{promoted}");
    // Whoever has the log comes to the same.
    let explained = node.json(&["rollouts", "explain", "double/2"]);
    assert_eq!((&explained["agrees"], &explained["evidence"]), (&json!(true), decided), "{explained}");
    assert_eq!(explained["verdicts"].as_array().unwrap().len(), 1);
    let told = String::from_utf8(node.cli(&["rollouts", "explain", "double/2"]).stdout).unwrap();
    assert!(told.contains("the challenger is to answer") && told.contains("to the last digit"), "{told}");
    // The one before is asked copies from now on, so both are compared still; and a person's word holds.
    let more = decided["labels"].as_u64().unwrap() + 50;
    let (_, round) = until_rollout(&client, round, |shown| shown["evidence"]["labels"].as_u64() > Some(more)).await;
    node.json(&["undo", "double/2", "--reason", "not on a Friday"]);
    let round = until_answers(&client, 1.0, round).await;
    ask(&client, round).await;
    assert!(node.stop());
}

/// Names jobs: one that makes a better model after it has tried what it must not be able to do, one that fails, one that
/// does not end.
fn jobs(node: &Node) -> String {
    let script = |name: &str, text: &str| {
        let path = node.file(name, text.as_bytes());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let better = node.file("better.onnx", &onnx::scale(2.0));
    let good = script(
        "good.sh",
        "#!/bin/bash\n\
         [ \"$(head -c 4 \"$MANTLET_JOB_DATA\")\" = PAR1 ] || exit 3\n\
         grep -q '\"depth\":6' \"$MANTLET_JOB_PARAMETERS\" || exit 4\n\
         cat \"$1/admin.token\" 2> /dev/null && exit 5\n\
         cat \"$1/catalog.db\" > /dev/null 2>&1 && exit 6\n\
         (echo x > \"$1/planted\") 2> /dev/null && exit 7\n\
         port=$(cat \"$3/port\") && pid=$(cat \"$3/pid\") || exit 10\n\
         (exec 3<> /dev/tcp/127.0.0.1/$port) 2> /dev/null && exit 8\n\
         kill -0 $pid 2> /dev/null && exit 9\n\
         cp \"$2\" \"$MANTLET_JOB_MODEL\"\n\
         echo '{\"depth\": 6}' > \"$MANTLET_JOB_METRICS\"\n\
         echo trained\n",
    );
    let bad = script("bad.sh", "#!/bin/bash\necho first\necho this is why >&2\nexit 42\n");
    let (about, data) = (node.scratch().join("about"), node.dir());
    std::fs::create_dir(&about).unwrap();
    let [good, bad, better, about, data] =
        [&good, &bad, &better, &about, &data].map(|path| path.to_str().unwrap().to_owned());
    let read = json!([good, better, about]).to_string();
    let file = node.file(
        "jobs.toml",
        format!(
            "[good]\ncommand = [\"/bin/bash\", \"{good}\", \"{data}\", \"{better}\", \"{about}\"]\nread = {read}\n\
             [bad]\ncommand = [\"/bin/bash\", \"{bad}\"]\nread = [\"{bad}\"]\n\
             [endless]\ncommand = [\"/bin/sleep\", \"1000\"]\ntime = \"1s\"\n"
        )
        .as_bytes(),
    );
    let config = format!("[trainer]\njobs = \"{}\"\n", file.display());
    node.file("node.toml", config.as_bytes()).to_str().unwrap().to_owned()
}

fn training(job: &str) -> Value {
    json!({
        "promote": "automatic", "season": "0s",
        "train": { "job": job, "parameters": { "depth": 6 }, "least": 100 },
    })
}

/// Waits until the newest job has ended.
async fn ended(node: &Node) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let jobs = node.json(&["jobs", "double"]);
        if jobs[0]["state"] == "done" || jobs[0]["state"] == "failed" {
            return jobs[0].clone();
        }
        assert!(Instant::now() < until, "{jobs}\n{}", node.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A node with jobs, in one process or several, and one model with some labels.
async fn with_jobs(more: &[&str]) -> Node {
    let node = Node::new(BINARY);
    let config = jobs(&node);
    let arguments: Vec<&str> = ["--config", &config].into_iter().chain(more.iter().copied()).collect();
    let mut node = node.with(&arguments);
    node.up().await;
    let port = node.client().url().rsplit(':').next().unwrap().to_owned();
    node.file("about/port", port.as_bytes());
    node.file("about/pid", node.pid().to_string().as_bytes());
    node
}

async fn makes_a_version(more: &[&str]) {
    let mut node = with_jobs(more).await;
    let client = node.client();
    deploy(&client, 1.0, &training("good")).await;
    let mut round = until_answers(&client, 1.0, 0).await;
    for _ in 0..10 {
        ask(&client, round).await;
        round += 1;
    }
    until_joined(&client, round * ROWS).await;
    node.json(&["retrain", "double", "--reason", "a test"]);
    let job = ended(&node).await;
    assert_eq!((&job["state"], &job["version"]), (&json!("done"), &json!(2)), "{job}\n{}", node.log());
    assert_eq!((&job["metrics"], &job["log"]), (&json!({ "depth": 6 }), &json!(["trained"])), "{job}");
    assert_eq!(job["examples"].as_u64(), Some((round * ROWS) as u64), "{job}");
    let round = until_answers(&client, 2.0, round).await;
    let (_, _) = until_rollout(&client, round, |shown| shown["stand"] == "promoted").await;
    let told = String::from_utf8(node.cli(&["jobs", "double"]).stdout).unwrap();
    assert!(told.contains("good") && told.contains("trained"), "{told}");
    assert!(node.stop());
}

/// Waits until so many labels are joined.
async fn until_joined(client: &Client, labels: usize) {
    let until = Instant::now() + PATIENCE;
    loop {
        let (_, shown) = client.get("/v1/models/double/evaluation").await;
        if shown["labels"]["joined"]["count"].as_u64() >= Some(labels as u64) {
            return;
        }
        assert!(Instant::now() < until, "{shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_makes_a_version_and_reaches_nothing_else() {
    if setup::onnxruntime().is_none() {
        return setup::skip("a_job_makes_a_version_and_reaches_nothing_else", "ONNX Runtime");
    }
    makes_a_version(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_split_node_makes_a_version_too() {
    if setup::onnxruntime().is_none() {
        return setup::skip("a_job_of_a_split_node_makes_a_version_too", "ONNX Runtime");
    }
    makes_a_version(&["--split"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_says_why_and_changes_nothing() {
    if setup::onnxruntime().is_none() {
        return setup::skip("a_job_that_fails_says_why_and_changes_nothing", "ONNX Runtime");
    }
    let node = with_jobs(&[]).await;
    let client = node.client();
    let (code, refused) = client.deploy(&onnx::scale(1.0), &manifest(&training("nobody's"))).await.unwrap();
    let told = refused.to_string();
    assert!(code == 400 && told.contains("bad, endless, good") && told.contains("trainer.jobs"), "{code} {refused}");
    deploy(&client, 1.0, &training("bad")).await;
    until_answers(&client, 1.0, 0).await;
    node.json(&["retrain", "double", "--reason", "too early"]);
    let job = ended(&node).await;
    assert!(job["failure"].as_str().unwrap().contains("spec.learning.train.least is 100"), "{job}");
    let mut round = 1;
    for _ in 0..8 {
        ask(&client, round).await;
        round += 1;
    }
    until_joined(&client, round * ROWS).await;
    node.json(&["retrain", "double", "--reason", "a test"]);
    let job = ended(&node).await;
    assert!(job["failure"].as_str().unwrap().contains("it ended with 42"), "{job}");
    assert_eq!(job["log"], json!(["first", "this is why"]));
    // The newest version says which job it is.
    deploy(&client, 1.5, &training("endless")).await;
    node.json(&["retrain", "double", "--reason", "a test"]);
    let job = ended(&node).await;
    assert!(job["failure"].as_str().unwrap().contains("it was not done after 1s"), "{job}");
    let (_, shown) = client.get("/v1/models/double").await;
    assert_eq!(shown["model"]["versions"], json!([1, 2]), "{shown}");
}

/// Reads the examples as anybody's program would, and says what is in them.
const READS: &str = "
import json, os
import pyarrow.parquet as parquet
table = parquet.read_table(os.environ['MANTLET_JOB_DATA'])
rows = [[row['prediction'], row['row'], row['x'], row['label']] for row in table.to_pylist()]
open(os.environ['MANTLET_JOB_METRICS'], 'w').write(json.dumps({'columns': table.column_names, 'rows': rows}))
print('read', len(rows), 'rows')
raise SystemExit(1)
";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_reads_is_what_was_served() {
    let (Some(python), Some(_)) = (setup::python(), setup::onnxruntime()) else {
        return setup::skip("what_a_job_reads_is_what_was_served", "Python and ONNX Runtime");
    };
    let node = Node::new(BINARY);
    node.file("reads.py", READS.as_bytes());
    let read = json!([python.parent().unwrap().parent().unwrap(), prefix(&python)]);
    let text = format!("[reads]\ncommand = [{}, \"reads.py\"]\nread = {read}\n", json!(python));
    let file = node.file("jobs.toml", text.as_bytes());
    let config = node.file("node.toml", format!("[trainer]\njobs = \"{}\"\n", file.display()).as_bytes());
    let mut node = node.with(&["--config", config.to_str().unwrap()]);
    node.up().await;
    let client = node.client();
    deploy(&client, 1.0, &training("reads")).await;
    let mut round = until_answers(&client, 1.0, 0).await;
    for _ in 0..7 {
        ask(&client, round).await;
        round += 1;
    }
    until_joined(&client, round * ROWS).await;
    node.json(&["retrain", "double", "--reason", "a test"]);
    let job = ended(&node).await;
    assert_eq!(job["log"], json!([format!("read {} rows", round * ROWS)]), "{job}");
    let folder = node.dir().join("jobs").join(job["id"].as_str().unwrap());
    let read: Value = serde_json::from_slice(&std::fs::read(folder.join("metrics.json")).unwrap()).unwrap();
    assert_eq!(read["columns"], json!(["x", "label", "at", "prediction", "row"]));
    let exported = node.cli(&["models", "examples", "double"]).stdout;
    let lines = exported.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let exported: Vec<Value> = lines
        .map(|line| {
            let example: Value = serde_json::from_slice(line).unwrap();
            json!([example["prediction"], example["row"], example["features"][0], example["truth"]["number"]])
        })
        .collect();
    assert_eq!(read["rows"], json!(exported), "in the order in which labels came");
}

/// Where this Python's own files are.
fn prefix(python: &std::path::Path) -> String {
    let output =
        std::process::Command::new(python).args(["-c", "import sys; print(sys.base_prefix)"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Asks a streaming model about some rows, of which neither number alone tells the class, and says what they are.
async fn teach(client: &Client, round: usize) {
    let rows: Vec<[f64; 2]> = (round * ROWS..(round + 1) * ROWS)
        .map(|n| [(n * 37 % 101) as f64 / 101.0, (n * 61 % 89) as f64 / 89.0])
        .collect();
    let body =
        json!({ "inputs": [{ "name": "x", "datatype": "FP64", "shape": [ROWS, 2], "data": rows.as_flattened() }] });
    let (code, answer) = client.infer("corners", &body).await;
    assert_eq!(code, 200, "{answer}");
    let label = |(row, [x, y]): (usize, &[f64; 2])| {
        let class = if (*x > 0.5) ^ (*y > 0.5) { "odd" } else { "even" };
        json!({ "prediction": answer["id"], "row": row, "label": class })
    };
    let labels: Vec<Value> = rows.iter().enumerate().map(label).collect();
    let (code, taken) = client.post("/v1/feedback", &json!(labels)).await;
    assert_eq!((code, &taken["accepted"]), (200, &json!(ROWS)), "{taken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streaming_model_finds_a_better_learner_which_proves_itself() {
    let mut node = Node::start(BINARY).await;
    let client = node.client();
    let manifest = json!({
        "apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": { "name": "corners" },
        "spec": {
            "source": { "online": { "learner": "naive-bayes" } },
            "inputs": [{ "name": "x", "type": "FP64", "shape": [-1, 2] }],
            "task": { "kind": "classification", "classes": ["even", "odd"] },
            "capture": { "input": "features" },
            "learning": { "promote": "automatic", "season": "0s" },
        },
    });
    let (code, deployed) = client.post("/v1/deploys", &json!({ "manifest": manifest })).await;
    assert_eq!(code, 200, "{deployed}");
    let first = json!({ "inputs": [{ "name": "x", "datatype": "FP64", "shape": [1, 2], "data": [0.1, 0.9] }] });
    client.until_answers("corners", &first).await;
    let mut round = 0;
    while round < 2_100 / ROWS {
        teach(&client, round).await;
        round += 1;
    }
    let until = Instant::now() + PATIENCE;
    while client.get("/v1/models/corners/evaluation").await.1["labels"]["joined"]["count"] != json!(round * ROWS) {
        assert!(Instant::now() < until, "every label is joined");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    node.json(&["retrain", "corners", "--reason", "a test"]);
    let until = Instant::now() + PATIENCE;
    let job = loop {
        let jobs = node.json(&["jobs", "corners"]);
        if jobs[0]["state"] == "done" || jobs[0]["state"] == "failed" {
            break jobs[0].clone();
        }
        assert!(Instant::now() < until, "{jobs}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!((&job["job"], &job["state"], &job["version"]), (&json!("tuner"), &json!("done"), &json!(2)), "{job}");
    let (mut stand, until) = (Value::Null, Instant::now() + PATIENCE);
    while stand != "promoted" {
        teach(&client, round).await;
        round += 1;
        stand = client.get("/v1/rollouts").await.1[0]["stand"].clone();
        assert!(Instant::now() < until, "{stand}\n{}", node.log());
    }
    let explained = node.json(&["rollouts", "explain", "corners/2"]);
    assert_eq!(explained["agrees"], true, "{explained}");
    assert!(node.stop());
}
