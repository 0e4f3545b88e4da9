//! Streaming models: what is labelled is learnt, once and in order, and answers without a pause; whoever has the log finds
//! the same.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests: failing loudly is their job")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use streaming::{Answer, Model, Row, Truth};
use testkit::{Node, node::Client, setup};
use tokio::time::Instant;
use types::Manifest;

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");
const CLASSES: [&str; 2] = ["no", "yes"];

fn manifest(learner: &Value) -> Value {
    challenging(learner, "off")
}

/// One whose versions have to prove themselves, where `promote` says so; better now is enough.
fn challenging(learner: &Value, promote: &str) -> Value {
    json!({
        "apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": { "name": "stream" },
        "spec": {
            "source": { "online": learner },
            "inputs": [
                { "name": "amount", "type": "FP32", "shape": [-1, 2] },
                { "name": "country", "type": "BYTES", "categories": ["DE", "FR", "NL"] },
            ],
            "task": { "kind": "classification", "classes": CLASSES },
            "capture": { "input": "features" },
            "learning": { "promote": promote, "season": "0s" },
        },
    })
}

/// A row, and what is right for it: a rule that turns round half-way.
fn example(n: usize, turn: usize) -> (Value, usize) {
    let (x, y) = (((n * 37) % 101) as f32 / 10.0, ((n * 61) % 89) as f32 / 7.0);
    let country = ["DE", "FR", "NL"][(n * 13) % 3];
    let class = usize::from((x + y > 10.0) ^ (country == "FR") ^ (n >= turn));
    let inputs = json!({ "inputs": [
        { "name": "amount", "shape": [1, 2], "datatype": "FP32", "data": [x, y] },
        { "name": "country", "shape": [1, 1], "datatype": "BYTES", "data": [country] },
    ] });
    (inputs, class)
}

/// Asks; returns the prediction's id, how far the state that answered had learnt, and the probabilities.
async fn predict(client: &Client, body: &Value) -> (String, u64, Vec<f64>) {
    let request = client.request(Method::POST, "/v2/models/stream/infer").json(body);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let snapshot = response.headers()["mantlet-snapshot"].to_str().unwrap().parse().unwrap();
    let answer: Value = response.json().await.unwrap();
    let probabilities = &answer["outputs"][1];
    assert_eq!(probabilities["name"], "probabilities");
    let said = probabilities["data"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    (answer["id"].as_str().unwrap().to_owned(), snapshot, said)
}

async fn label(client: &Client, labels: &[(String, usize)]) {
    let labels: Vec<Value> =
        labels.iter().map(|(id, class)| json!({ "prediction": id, "label": CLASSES[*class] })).collect();
    let (status, answer) = client.post("/v1/feedback", &json!(labels)).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(labels.len())), "{answer}");
}

/// The evaluation, once the newest version has learnt so many examples and answers with all of them.
async fn learnt(client: &Client, examples: u64) -> Value {
    learnt_by(client, 1, examples).await
}

/// As [`learnt`], of this version, the newest.
async fn learnt_by(client: &Client, version: u64, examples: u64) -> Value {
    let until = Instant::now() + testkit::node::PATIENCE;
    loop {
        let (status, shown) = client.get("/v1/models/stream/evaluation").await;
        assert_eq!(status, 200, "{shown}");
        let learning = &shown["learning"][0];
        if learning["version"] == version
            && learning["learnt"] == examples
            && learning["snapshot"]["learnt"] == examples
        {
            return shown;
        }
        assert!(Instant::now() < until, "{examples} examples are learnt: {shown}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// How many examples there are once every label of so many was looked at, and all of them are learnt. A kill takes
/// predictions along that were not stored yet, and their labels are unknown then.
async fn all_learnt(client: &Client, labels: u64) -> (u64, Value) {
    let until = Instant::now() + testkit::node::PATIENCE;
    loop {
        let (status, shown) = client.get("/v1/models/stream/evaluation").await;
        assert_eq!(status, 200, "{shown}");
        let count = |what: &str| shown["labels"][what]["count"].as_u64().unwrap_or(0);
        if count("joined") + count("unknown") == labels {
            return (count("joined"), learnt(client, count("joined")).await);
        }
        assert!(Instant::now() < until, "{labels} labels are looked at: {shown}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until a state answers that has learnt up to this entry.
async fn answers_from(client: &Client, offset: u64) {
    let until = Instant::now() + testkit::node::PATIENCE;
    while predict(client, &example(0, 0).0).await.1 < offset {
        assert!(Instant::now() < until, "the state at {offset} answers");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The model's examples, as the command line exports them.
fn exported(node: &Node) -> Vec<Value> {
    let out = node.cli(&["models", "examples", "stream"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Asks for many rows at once and labels them.
async fn teach(client: &Client, from: usize, rows: usize) {
    teach_turned(client, from, rows, usize::MAX).await;
}

/// As [`teach`], by a rule that turns round at a row.
async fn teach_turned(client: &Client, from: usize, rows: usize, turn: usize) {
    let (mut amounts, mut countries, mut classes) = (Vec::new(), Vec::new(), Vec::new());
    for n in from..from + rows {
        let (body, class) = example(n, turn);
        amounts.extend(body["inputs"][0]["data"].as_array().unwrap().clone());
        countries.extend(body["inputs"][1]["data"].as_array().unwrap().clone());
        classes.push(CLASSES[class]);
    }
    let (status, answer) = client
        .infer(
            "stream",
            &json!({ "inputs": [
                { "name": "amount", "shape": [rows, 2], "datatype": "FP32", "data": amounts },
                { "name": "country", "shape": [rows, 1], "datatype": "BYTES", "data": countries },
            ] }),
        )
        .await;
    assert_eq!(status, 200, "{answer}");
    let label = |(row, class)| json!({ "prediction": answer["id"], "row": row, "label": class });
    let labels: Vec<Value> = classes.iter().enumerate().map(label).collect();
    let (status, answer) = client.post("/v1/feedback", &json!(labels)).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(rows)), "{answer}");
}

/// Goes through an export as anybody can, test then train; returns the share of right answers, and the model.
///
/// Every answer that was served is the one that the model gives in the state that the example names.
fn refit(manifest: &Value, examples: &[Value]) -> (f64, Model) {
    let mut manifest = Manifest::from_json(manifest.to_string().as_bytes()).unwrap();
    Model::complete(&mut manifest).unwrap();
    let mut model = Model::new(&manifest).unwrap();
    // Answers may be older than what was learnt when their labels came.
    let mut states: BTreeMap<u64, Model> = BTreeMap::from([(0, model.clone())]);
    let mut right = 0;
    for example in examples {
        let row: Row = serde_json::from_value(example["features"].clone()).unwrap();
        let class = usize::try_from(example["truth"]["class"].as_u64().unwrap()).unwrap();
        let snapshot = example["snapshot"].as_u64().unwrap();
        let (_, state) = states.range(..=snapshot).next_back().unwrap();
        let served: Vec<f64> = serde_json::from_value(example["answer"]["probabilities"].clone()).unwrap();
        assert_eq!(state.predict(&row), Ok(Answer::Probabilities(served)), "{example}");
        let Ok(Answer::Probabilities(said)) = model.predict(&row) else { panic!("a classification") };
        right += usize::from((said[1] > said[0]) == (class == 1));
        model.learn(&row, Truth::Class(class), 1.0).unwrap();
        states.insert(example["offset"].as_u64().unwrap() + 1, model.clone());
    }
    (right as f64 / examples.len() as f64, model)
}

async fn deploy(client: &Client, manifest: &Value) -> Value {
    let (status, answer) = client.post("/v1/deploys", &json!({ "manifest": manifest })).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

fn node() -> Option<Node> {
    if setup::onnxruntime().is_none() {
        setup::skip("streaming", "ONNX Runtime's library is not set up: cargo xtask setup");
        return None;
    }
    let node = Node::new(BINARY);
    let config = node.file("node.toml", b"[trainer]\nsnapshot-every = \"1ms\"\n");
    Some(node.with(&["--config", config.to_str().unwrap()]))
}

#[tokio::test]
async fn in_order_and_without_delay_what_is_served_is_the_learner_itself() {
    let Some(mut node) = node() else { return };
    node.up().await;
    let client = node.client();
    let manifest = manifest(&json!({ "learner": "adaptive-random-forest", "settings": { "trees": 3, "grace": 10 } }));
    deploy(&client, &manifest).await;
    client.until_answers("stream", &example(0, 0).0).await;
    const COUNT: usize = 80;
    let mut right = 0;
    for n in 0..COUNT {
        let (body, class) = example(n, COUNT);
        let (id, _, said) = predict(&client, &body).await;
        assert!(n > 0 || said == [0.5, 0.5], "it begins by knowing nothing: {said:?}");
        right += usize::from((said[1] > said[0]) == (class == 1));
        label(&client, &[(id, class)]).await;
        let shown = learnt(&client, n as u64 + 1).await;
        answers_from(&client, shown["learning"][0]["snapshot"]["offset"].as_u64().unwrap()).await;
    }
    let shown = learnt(&client, COUNT as u64).await;
    let (accuracy, _) = refit(&manifest, &exported(&node));
    assert_eq!(accuracy, right as f64 / COUNT as f64, "what clients saw, and another process on the export");
    assert_eq!(shown["versions"][0]["figures"]["since_start"]["accuracy"], json!(accuracy), "{shown}");
    assert_eq!(shown["learning"][0]["figures"]["since_start"]["accuracy"], json!(accuracy), "{shown}");
    assert!(accuracy > 0.6, "{accuracy}");
    let text = String::from_utf8(node.cli(&["models", "evaluation", "stream"]).stdout).unwrap();
    assert!(text.contains("stream version 1 has learnt 80 examples; snapshot"), "{text}");
}

#[tokio::test]
async fn through_kills_each_example_is_learnt_once_and_no_prediction_fails_while_states_change() {
    let Some(mut node) = node() else { return };
    node.up().await;
    node.stay();
    let learner = json!({ "learner": "hoeffding-tree", "settings": { "grace": 20 } });
    let manifest = manifest(&learner);
    deploy(&node.client(), &manifest).await;
    node.client().until_answers("stream", &example(0, 0).0).await;
    let mut known = 0;
    for round in 0..3 {
        let client = node.client();
        // Somebody asks all the time; none of it is labelled.
        let stop = Arc::new(AtomicBool::new(false));
        let asking = tokio::spawn({
            let (client, stop) = (node.client(), stop.clone());
            async move {
                let (mut answers, mut newest) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    let (_, snapshot, _) = predict(&client, &example(answers, 0).0).await;
                    assert!(snapshot >= newest, "no answer is from an older state than the one before");
                    (answers, newest) = (answers + 1, snapshot);
                }
                answers
            }
        });
        for batch in 0..4 {
            let mut labels = Vec::new();
            for n in 0..25 {
                let n = round * 100 + batch * 25 + n;
                let (body, class) = example(n, 150);
                labels.push((predict(&client, &body).await.0, class));
            }
            label(&client, &labels).await;
            known += labels.len() as u64;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(asking.await.unwrap() > 0, "no prediction failed while states were replaced");
        // Everything is acknowledged; how far it is learnt, nobody knows.
        node.kill();
        node.up().await;
        node.client().until_answers("stream", &example(0, 0).0).await;
    }
    let client = node.client();
    let (known, shown) = all_learnt(&client, known).await;
    assert!(known >= 100, "{shown}");
    assert_eq!(shown["learning"][0]["collapses"], 0, "{shown}");
    let examples = exported(&node);
    assert_eq!(examples.len() as u64, known, "each is in the log once");
    let (accuracy, model) = refit(&manifest, &examples);
    assert_eq!(shown["learning"][0]["figures"]["since_start"]["accuracy"], json!(accuracy), "{shown}");
    answers_from(&client, shown["learning"][0]["snapshot"]["offset"].as_u64().unwrap()).await;
    for n in 0..20 {
        let (body, _) = example(n, 0);
        let row: Row = serde_json::from_value(json!([
            f64::from(body["inputs"][0]["data"][0].as_f64().unwrap() as f32),
            f64::from(body["inputs"][0]["data"][1].as_f64().unwrap() as f32),
            body["inputs"][1]["data"][0],
        ]))
        .unwrap();
        assert_eq!(Ok(Answer::Probabilities(predict(&client, &body).await.2)), model.predict(&row));
    }

    // Another version begins with all that the log says, and what is signed is in the ledger.
    let other = self::manifest(&json!({ "learner": "logistic" }));
    let version = deploy(&client, &other).await["version"].clone();
    assert_eq!(version, 2);
    learnt_by(&client, 2, known).await;
    client.until_in_ledger("model.snapshot").await;
    let refused = self::manifest(&json!({ "learner": "oracle" }));
    let (status, answer) = client.post("/v1/deploys", &json!({ "manifest": refused })).await;
    assert_eq!((status, &answer["code"]), (400, &json!("manifest_invalid")), "{answer}");
}

#[tokio::test]
async fn every_service_of_a_split_node_may_be_killed_while_it_learns() {
    let Some(node) = node() else { return };
    let mut node = node.with(&["--split"]);
    node.up().await;
    let client = node.client();
    let manifest = manifest(&json!({ "learner": "hoeffding-tree", "settings": { "grace": 20 } }));
    deploy(&client, &manifest).await;
    client.until_answers("stream", &example(0, 0).0).await;
    let mut known = 0;
    for service in ["trainer", "registry", "orchestrator"] {
        let mut labels = Vec::new();
        for n in 0..30 {
            let (body, class) = example(known + n, 1_000);
            labels.push((predict(&client, &body).await.0, class));
        }
        label(&client, &labels[..15]).await;
        testkit::node::kill(node.service(service));
        label(&client, &labels[15..]).await;
        known += 30;
        learnt(&client, known as u64).await;
    }
    let examples = exported(&node);
    assert_eq!(examples.len(), known, "each is in the log once");
    let shown = learnt(&client, known as u64).await;
    let (accuracy, _) = refit(&manifest, &examples);
    assert_eq!(shown["learning"][0]["figures"]["since_start"]["accuracy"], json!(accuracy), "{shown}");
}

#[tokio::test]
async fn what_its_owner_says_is_right_no_label_makes_it_forget() {
    let Some(mut node) = node() else { return };
    node.up().await;
    let mut client = node.client();
    deploy(&client, &manifest(&json!({ "learner": "hoeffding-tree", "settings": { "grace": 20 } }))).await;
    client.until_answers("stream", &example(0, 0).0).await;
    for round in 0..10 {
        teach(&client, round * 100, 100).await;
    }
    learnt(&client, 1_000).await;
    let row = |n: usize| {
        let (body, class) = example(n, usize::MAX);
        let given = |place: usize| body["inputs"][place]["data"].clone();
        json!({ "inputs": { "amount": given(0), "country": given(1) }, "label": CLASSES[class] }).to_string()
    };
    let few = node.file("few.ndjson", (0..10).map(row).collect::<Vec<_>>().join("\n").as_bytes());
    let refused = node.refused(&["clean", "set", "stream", few.to_str().unwrap(), "--reason", "x"]);
    assert_eq!(refused, "request_malformed");
    let file = node.file("clean.ndjson", (5_000..5_200).map(row).collect::<Vec<_>>().join("\n").as_bytes());
    let set = node.json(&["clean", "set", "stream", file.to_str().unwrap(), "--strict", "--reason", "checked by hand"]);
    assert_eq!((&set["rows"], &set["strict"]), (&json!(200), &json!(true)), "{set}");
    client.until_in_ledger("model.clean").await;
    teach(&client, 1_000, 100).await;
    let worth = learnt(&client, 1_100).await["learning"][0]["clean"].as_f64().unwrap();
    assert!(worth > 0.7, "{worth}");

    // A kill takes predictions along that were not stored yet, and their labels are unknown then.
    let labels = |shown: &Value| {
        let count = |what: &str| shown["labels"][what]["count"].as_u64().unwrap_or(0);
        count("joined") + count("unknown")
    };
    // Whether all of them were looked at, and learnt or thrown away.
    let is_through = |shown: &Value| {
        let learning = &shown["learning"][0];
        learning["figures"]["since_start"]["rows"] == shown["labels"]["joined"]["count"]
            && learning["staleness_ms"] == 0
    };
    // Everybody is wrong from now on, through a kill too.
    for round in 11..31 {
        teach_turned(&client, round * 100, 100, 0).await;
        if round == 20 {
            node.kill();
            node.up().await;
            client = node.client();
            client.until_answers("stream", &example(0, 0).0).await;
        }
    }
    let until = Instant::now() + testkit::node::PATIENCE;
    let shown = loop {
        let (_, shown) = client.get("/v1/models/stream/evaluation").await;
        if labels(&shown) == 3_100 && is_through(&shown) {
            break shown;
        }
        assert!(Instant::now() < until, "{shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let learning = &shown["learning"][0];
    assert!(learning["collapses"].as_u64() > Some(0), "{learning}");
    assert!(learning["clean"].as_f64().unwrap() >= worth - 0.2, "{worth}: {learning}");

    // Once it is taken away, the labels say what is right.
    node.json(&["clean", "remove", "stream"]);
    for round in 31..51 {
        teach_turned(&client, round * 100, 100, 0).await;
    }
    let until = Instant::now() + testkit::node::PATIENCE;
    loop {
        let (_, shown) = client.get("/v1/models/stream/evaluation").await;
        let again = &shown["learning"][0];
        if labels(&shown) == 5_100 && is_through(&shown) {
            assert!(again["clean"].is_null(), "{shown}");
            assert_eq!(again["collapses"], learning["collapses"], "{shown}");
            break;
        }
        assert!(Instant::now() < until, "{shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(node.refused(&["clean", "show", "stream"]), "model_not_found");
}

#[tokio::test]
async fn whoever_turns_labels_round_teaches_nobody_until_a_person_says_so() {
    let Some(mut node) = node() else { return };
    node.up().await;
    let client = node.client();
    deploy(&client, &manifest(&json!({ "learner": "hoeffding-tree", "settings": { "grace": 20 } }))).await;
    client.until_answers("stream", &example(0, 0).0).await;
    teach(&client, 0, 400).await;
    learnt(&client, 400).await;
    // Five desks; the last turns every label round.
    let labelled = |n: usize, ids: &Value, class: usize| {
        let said = if n % 5 == 4 { 1 - class } else { class };
        json!({ "prediction": ids["id"], "label": CLASSES[said], "contributor": format!("desk {}", n % 5) })
    };
    let mut labels = Vec::new();
    for n in 400..1_400 {
        let (body, class) = example(n, usize::MAX);
        let (status, answer) = client.infer("stream", &body).await;
        assert_eq!(status, 200, "{answer}");
        labels.push(labelled(n, &answer, class));
        if labels.len() == 100 {
            let (status, answer) = client.post("/v1/feedback", &json!(std::mem::take(&mut labels))).await;
            assert_eq!(status, 200, "{answer}");
        }
    }
    let until = Instant::now() + testkit::node::PATIENCE;
    let shown = loop {
        let (_, shown) = client.get("/v1/models/stream/evaluation").await;
        let count = |what: &str| shown["labels"][what]["count"].as_u64().unwrap_or(0);
        if count("joined") + count("held_back") == 1_400 {
            break shown;
        }
        assert!(Instant::now() < until, "every label is looked at: {shown}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(shown["labels"]["held_back"]["count"].as_u64() > Some(50), "{shown}");
    let suspect = &shown["contributors"][0];
    assert_eq!((&suspect["name"], &suspect["held_back"]), (&json!("desk 4"), &json!(true)), "{shown}");
    assert!(shown["contributors"].as_array().unwrap().iter().skip(1).all(|c| c["held_back"] == false), "{shown}");
    let text = String::from_utf8(node.cli(&["models", "evaluation", "stream"]).stdout).unwrap();
    assert!(text.contains("desk 4") && text.contains("held back"), "{text}");

    let again = node.json(&["contributors", "trust", "stream", "desk 4", "--reason", "it was the test"]);
    assert_eq!(again["trusted"], true, "{again}");
    let (_, shown) = client.get("/v1/models/stream/evaluation").await;
    assert!(shown["contributors"].as_array().unwrap().iter().all(|c| c["held_back"] == false), "{shown}");
    client.until_in_ledger("labels.trust").await;
    assert_eq!(node.refused(&["contributors", "distrust", "stream", "nobody", "--reason", "x"]), "caller_not_found");
}

/// Teaches until the challenger stands like one of these; returns how it does, and how many rows were sent.
async fn until_it_stands(client: &Client, stands: &[&str], mut sent: usize) -> (Value, usize) {
    let until = Instant::now() + testkit::node::PATIENCE;
    loop {
        let (status, shown) = client.get("/v1/rollouts").await;
        assert_eq!(status, 200, "{shown}");
        if stands.iter().any(|stand| shown[0]["stand"] == *stand) {
            return (shown[0].clone(), sent);
        }
        assert!(Instant::now() < until, "it is one of {stands:?}: {shown}");
        teach(client, sent, 10).await;
        sent += 10;
    }
}

async fn until_version_answers(client: &Client, version: &str) {
    let until = Instant::now() + testkit::node::PATIENCE;
    while client.infer("stream", &example(0, 0).0).await.1["model_version"] != version {
        assert!(Instant::now() < until, "version {version} answers");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_better_challenger_takes_over_through_a_kill_and_a_person_takes_it_back() {
    let Some(mut node) = node() else { return };
    node.up().await;
    node.stay();
    let (plain, better) =
        (json!({ "learner": "naive-bayes" }), json!({ "learner": "hoeffding-tree", "settings": { "grace": 20 } }));
    let (first, second) = (challenging(&plain, "automatic"), challenging(&better, "automatic"));
    assert!(deploy(&node.client(), &first).await["challenges"].is_null(), "there is nobody to challenge");
    node.client().until_answers("stream", &example(0, 0).0).await;
    teach(&node.client(), 0, 100).await;
    learnt(&node.client(), 100).await;
    assert_eq!(deploy(&node.client(), &second).await["challenges"], 1);
    let (_, sent) = until_it_stands(&node.client(), &["judging", "promoted"], 100).await;
    teach(&node.client(), sent, 50).await;
    node.kill();
    node.up().await;
    let client = node.client();
    client.until_answers("stream", &example(0, 0).0).await;
    let (rollout, _) = until_it_stands(&client, &["promoted"], sent + 50).await;
    until_version_answers(&client, "2").await;

    // Whoever has the log comes to the same figures.
    let decided = &rollout["decided"];
    let (from, to) = (decided["from"].as_u64().unwrap(), decided["offset"].as_u64().unwrap());
    let mut models = [&first, &second].map(|manifest| {
        let mut manifest = Manifest::from_json(manifest.to_string().as_bytes()).unwrap();
        Model::complete(&mut manifest).unwrap();
        Model::new(&manifest).unwrap()
    });
    let (mut labels, mut losses) = (0, [0.0; 2]);
    for example in exported(&node) {
        let offset = example["offset"].as_u64().unwrap();
        let row: Row = serde_json::from_value(example["features"].clone()).unwrap();
        let class = usize::try_from(example["truth"]["class"].as_u64().unwrap()).unwrap();
        for (model, loss) in models.iter_mut().zip(&mut losses) {
            let Ok(Answer::Probabilities(said)) = model.predict(&row) else { panic!("a classification") };
            if (from..to).contains(&offset) {
                let of = |(place, said): (usize, &f64)| (said - f64::from(u8::from(place == class))).powi(2);
                *loss += said.iter().enumerate().map(of).sum::<f64>() / 2.0;
            }
            model.learn(&row, Truth::Class(class), 1.0).unwrap();
        }
        labels += u64::from((from..to).contains(&offset));
    }
    assert_eq!(decided["labels"], json!(labels), "{rollout}");
    assert_eq!(decided["champion_loss"], json!(losses[0] / labels as f64), "{rollout}");
    assert_eq!(decided["challenger_loss"], json!(losses[1] / labels as f64), "{rollout}");
    client.until_in_ledger("model.promote").await;

    let refused = node.refused(&["undo", "stream/7", "--reason", "no"]);
    assert_eq!(refused, "version_not_found");
    let undone = node.json(&["undo", "stream/2", "--reason", "we want the plain one"]);
    assert_eq!(undone["stand"], "rejected", "{undone}");
    until_version_answers(&client, "1").await;
    client.until_in_ledger("rollout.undo").await;
    let text = String::from_utf8(node.cli(&["rollouts"]).stdout).unwrap();
    assert!(text.contains("stream/2") && text.contains("we want the plain one"), "{text}");
}

#[tokio::test]
async fn where_people_want_to_be_asked_they_are() {
    let Some(mut node) = node() else { return };
    node.up().await;
    let client = node.client();
    let (plain, better) =
        (json!({ "learner": "naive-bayes" }), json!({ "learner": "hoeffding-tree", "settings": { "grace": 20 } }));
    deploy(&client, &challenging(&plain, "suggest")).await;
    client.until_answers("stream", &example(0, 0).0).await;
    teach(&client, 0, 50).await;
    learnt(&client, 50).await;
    deploy(&client, &challenging(&better, "suggest")).await;
    let (rollout, _) = until_it_stands(&client, &["proposed"], 50).await;
    assert_eq!(client.infer("stream", &example(0, 0).0).await.1["model_version"], "1", "{rollout}");
    node.json(&["approve", "stream/2", "--reason", "it is better"]);
    until_version_answers(&client, "2").await;
    let again = node.refused(&["approve", "stream/2", "--reason", "twice"]);
    assert_eq!(again, "conflict");
}
