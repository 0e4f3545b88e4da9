//! Labels meet their predictions: each once, through a kill, with every reason told; and what is forgotten is gone.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, Row as _};
use testkit::{Node, node::Client, onnx, setup};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");

/// A row whose answer is itself: probabilities of four classes of which this one has the most.
fn request(class: usize) -> Value {
    let mut row = [0.125; 4];
    row[class] = 0.625;
    json!({ "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": row }] })
}

async fn deploy(client: &Client, name: &str, task: Value) {
    let manifest = json!({
        "apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": { "name": name },
        "spec": { "source": { "onnx": "m.onnx" }, "task": task },
    });
    let (status, answer) = client.deploy(&onnx::add(0.0), &manifest).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    client.until_answers(name, &request(0)).await;
}

async fn predict(client: &Client, model: &str, class: usize) -> String {
    let (status, answer) = client.infer(model, &request(class)).await;
    assert_eq!(status, 200, "{answer}");
    answer["id"].as_str().unwrap().to_owned()
}

fn caller(node: &Node, name: &str) -> Client {
    let added = node.json(&["callers", "add", name, "--role", "caller", "--role", "labeller"]);
    node.client().with_token(added["token"].as_str().unwrap())
}

async fn label(client: &Client, labels: &[Value]) {
    let lines: Vec<String> = labels.iter().map(Value::to_string).collect();
    let request = client.request(Method::POST, "/v1/feedback").body(lines.join("\n"));
    let (status, answer) = client.send(request).await;
    assert_eq!((status, &answer["accepted"]), (200, &json!(labels.len())), "{answer}");
}

/// The evaluation, once so many labels were counted.
async fn evaluation(client: &Client, model: &str, labels: u64) -> Value {
    let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
    loop {
        let (status, shown) = client.get(&format!("/v1/models/{model}/evaluation")).await;
        assert_eq!(status, 200, "{shown}");
        let counted: u64 = shown["labels"].as_object().unwrap().values().map(|n| n["count"].as_u64().unwrap()).sum();
        if counted == labels {
            return shown;
        }
        assert!(tokio::time::Instant::now() < until && counted < labels, "{labels} labels are counted: {shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn labels_are_joined_once_and_judged_through_a_kill() {
    if setup::onnxruntime().is_none() {
        return setup::skip("feedback::joined", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let mut node = Node::start(BINARY).await;
    let task = json!({ "kind": "classification", "output": "y", "classes": ["a", "b", "c", "d"], "positive": "b" });
    deploy(&node.client(), "letters", task).await;
    let (shop, other) = (caller(&node, "shop"), caller(&node, "other"));
    let mut ids = Vec::new();
    for n in 0..40 {
        ids.push(predict(&shop, "letters", n % 4).await);
    }

    // Every tenth is wrong; by name, number and place in a file alike.
    let truth = |n: usize| if n % 10 == 9 { (n + 1) % 4 } else { n % 4 };
    let classes = ["a", "b", "c", "d"];
    let named = |n: usize| json!({ "prediction": ids[n], "label": classes[truth(n)] });
    let numbered = |n: usize| json!({ "prediction": ids[n], "row": 0, "label": truth(n), "contributor": "desk" });
    label(&shop, &(0..10).map(named).collect::<Vec<_>>()).await;
    let (status, _) = shop.post("/v1/feedback", &json!((10..20).map(numbered).collect::<Vec<_>>())).await;
    assert_eq!(status, 200);
    let file = (20..30).map(|n| named(n).to_string()).collect::<Vec<_>>().join("\n");
    let path = node.file("labels.ndjson", file.as_bytes());
    assert_eq!(node.json(&["feedback", path.to_str().unwrap()])["accepted"], 10, "an admin may label anybody's");
    let shown = evaluation(&shop, "letters", 30).await;
    let version = &shown["versions"][0];
    assert_eq!((&version["labelled"], &shown["labels"]["joined"]["count"]), (&json!(30), &json!(30)), "{shown}");
    assert_eq!(version["figures"]["since_start"]["accuracy"], 0.9, "{version}");
    let log_loss = -(27.0 * 0.625_f64.ln() + 3.0 * 0.125_f64.ln()) / 30.0;
    assert!((version["figures"]["short"]["log_loss"].as_f64().unwrap() - log_loss).abs() < 1e-6, "{version}");

    // Of the rows that were asked, it is told how many have a label.
    let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
    let covered = loop {
        let (_, shown) = shop.get("/v1/models/letters/evaluation").await;
        let covered = shown["versions"][0]["coverage"][0].clone();
        // One more was asked to see whether it answers.
        if covered["rows"] == 41 {
            break covered;
        }
        assert!(tokio::time::Instant::now() < until, "{shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((&covered["labelled"], &covered["from_ms"]), (&json!(30), &json!(0)), "{covered}");

    // Whatever is wrong with a label is counted with its reason, and changes no figure.
    let wrong = |label: Value| json!({ "prediction": ids[0], "label": label });
    label(&shop, &[named(0), wrong(json!("d")), json!({ "prediction": ids[1], "row": 1, "label": "a" })]).await;
    label(&shop, &[wrong(json!("e")), json!({ "prediction": "01980000-0000-7000-8000-000000000000", "label": 1 })])
        .await;
    label(&other, &[named(35)]).await;
    let shown = evaluation(&shop, "letters", 36).await;
    for reason in ["duplicate", "contradicting", "no_row", "wrong_type", "unknown", "foreign"] {
        assert_eq!(shown["labels"][reason]["count"], 1, "{reason}: {shown}");
        assert!(shown["labels"][reason]["last"].is_string(), "{shown}");
    }
    assert_eq!(shown["versions"][0]["figures"], version["figures"]);

    // A kill loses nothing that was acknowledged, and teaches nothing twice.
    label(&shop, &(30..35).map(named).collect::<Vec<_>>()).await;
    node.kill();
    node.up().await;
    let shop = node.client();
    let shown = evaluation(&shop, "letters", 41).await;
    assert_eq!(shown["versions"][0]["labelled"], 35, "{shown}");
    label(&shop, &[named(31), named(36)]).await;
    let shown = evaluation(&shop, "letters", 43).await;
    assert_eq!((&shown["versions"][0]["labelled"], &shown["labels"]["duplicate"]["count"]), (&json!(36), &json!(2)));
    let text = String::from_utf8(node.cli(&["models", "evaluation", "letters"]).stdout).unwrap();
    assert!(text.contains("letters version 1: classification of 36 labelled rows"), "{text}");

    // What is forgotten is nowhere in the events any more.
    let told = async |id: &str| {
        let path = node.dir().join("events.db");
        let mut file = sqlx::SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
        let rows = sqlx::query("SELECT data FROM event").fetch_all(&mut file).await.unwrap();
        file.close().await.unwrap();
        let holds = |data: Vec<u8>| data.windows(id.len()).any(|window| window == id.as_bytes());
        rows.iter().filter(|row| holds(row.get(0))).count()
    };
    assert_eq!(told(&ids[3]).await, 3, "a prediction, a label, an example");
    node.json(&["forget", "--prediction", &ids[3]]);
    assert_eq!(told(&ids[3]).await, 0);
}

#[tokio::test]
async fn a_model_without_a_task_says_why_it_is_not_judged() {
    if setup::onnxruntime().is_none() {
        return setup::skip("feedback::task", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let node = Node::start(BINARY).await;
    let client = node.client();
    node.deploy("plain", &onnx::add(0.0));
    client.until_answers("plain", &request(0)).await;
    let id = predict(&client, "plain", 0).await;
    label(&client, &[json!({ "prediction": id, "label": 1 })]).await;
    let shown = evaluation(&client, "plain", 1).await;
    let why = shown["labels"]["no_task"]["last"].as_str().unwrap();
    assert!(why.contains("spec.task"), "{why}");
    assert_eq!(shown["versions"], json!([]));
    let (status, refusal) = client.post("/v1/feedback", &json!({ "prediction": "7", "label": 1 })).await;
    assert_eq!((status, &refusal["code"]), (400, &json!("request_malformed")), "{refusal}");
}

#[tokio::test]
async fn rows_that_lack_what_was_always_there_are_alarmed_about_and_teach_nobody() {
    let mut node = Node::new(BINARY);
    node.up().await;
    let client = node.client();
    for name in ["sensors", "marker"] {
        let manifest = json!({
            "apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": { "name": name },
            "spec": {
                "source": { "online": { "learner": "naive-bayes" } },
                "inputs": [{ "name": "x", "type": "FP32", "shape": [-1, 2] }],
                "task": { "kind": "classification", "classes": ["no", "yes"] },
                "capture": { "input": "features" },
            },
        });
        let (status, answer) = client.post("/v1/deploys", &json!({ "manifest": manifest })).await;
        assert_eq!(status, 200, "{answer}");
    }
    let rows = |second: Value| {
        let data: Vec<Value> = (0..20).flat_map(|n| [json!(n), second.clone()]).collect();
        json!({ "inputs": [{ "name": "x", "shape": [20, 2], "datatype": "FP32", "data": data }] })
    };
    let ask_of = async |model: &str, second: Value| {
        let (status, answer) = client.infer(model, &rows(second)).await;
        assert_eq!(status, 200, "{answer}");
        let id = answer["id"].as_str().unwrap().to_owned();
        label(&client, &[json!({ "prediction": id, "row": 3, "label": "no" })]).await;
    };
    let ask = async |second: Value| ask_of("sensors", second).await;
    // Predictions are looked at beside everything else, the newest hundred of each round.
    let looked_at = async |model: &str| {
        let (_, shown) = client.get(&format!("/v1/models/{model}/evaluation")).await;
        shown["versions"][0]["coverage"][0]["rows"].as_u64() > Some(0)
    };
    let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
    for model in ["sensors", "marker"] {
        client.until_answers(model, &rows(json!(1))).await;
    }
    while !looked_at("sensors").await {
        ask(json!(1)).await;
        assert!(tokio::time::Instant::now() < until, "nothing was looked at");
    }
    for _ in 0..40 {
        ask(json!(1)).await;
    }
    // What came before the marker has been looked at once the marker has.
    ask_of("marker", json!(1)).await;
    while !looked_at("marker").await {
        assert!(tokio::time::Instant::now() < until, "the marker was not looked at");
    }
    let alarm = loop {
        ask(json!("NaN")).await;
        let (_, shown) = client.get("/v1/models/sensors/evaluation").await;
        if shown["labels"]["unfit"]["count"].as_u64() > Some(0) {
            let last = shown["labels"]["unfit"]["last"].as_str().unwrap().to_owned();
            assert!(last.contains("`x[1]` is missing"), "{last}");
            let alarms = shown["alarms"].as_array().unwrap();
            break alarms.iter().find(|alarm| alarm["kind"] == "quality").cloned();
        }
        assert!(tokio::time::Instant::now() < until, "{shown}");
    };
    let what = alarm.as_ref().and_then(|alarm| alarm["what"].as_str()).unwrap_or_default();
    assert!(what.starts_with("rows with missing values: ") && what.contains("x[1] in "), "{alarm:?}");
}

#[tokio::test]
async fn a_clients_own_id_names_its_prediction_while_it_is_the_only_one_of_its_caller() {
    if setup::onnxruntime().is_none() {
        return setup::skip("feedback::ids", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let node = Node::start(BINARY).await;
    let task = json!({ "kind": "classification", "output": "y", "classes": ["a", "b", "c", "d"] });
    deploy(&node.client(), "letters", task).await;
    let (shop, other) = (caller(&node, "shop"), caller(&node, "other"));
    let ask = async |client: &Client, id: &str| {
        let mut body = request(2);
        body["id"] = json!(id);
        let (status, answer) = client.infer("letters", &body).await;
        assert_eq!((status, &answer["id"]), (200, &json!(id)), "{answer}");
    };
    ask(&shop, "order 7").await;
    ask(&other, "order 7").await;
    label(&shop, &[json!({ "id": "order 7", "label": "c" })]).await;
    let evaluated = evaluation(&shop, "letters", 1).await;
    assert_eq!(evaluated["versions"][0]["labelled"], 1, "{evaluated}");
    ask(&shop, "order 7").await;
    let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
    loop {
        let (status, refused) = shop.post("/v1/feedback", &json!({ "id": "order 7", "label": "c" })).await;
        if (status, &refused["code"]) == (409, &json!("conflict")) {
            break;
        }
        // The record of the second may be on its way: the label is of the first, and a duplicate, then.
        assert!(status == 200 && tokio::time::Instant::now() < until, "{refused}");
    }
    let (status, refused) = shop.post("/v1/feedback", &json!({ "id": "order 8", "label": "c" })).await;
    assert_eq!((status, &refused["code"]), (404, &json!("prediction_not_found")), "{refused}");
    let both = json!({ "id": "order 7", "prediction": "01980000-0000-7000-8000-000000000000", "label": "c" });
    assert_eq!(shop.post("/v1/feedback", &both).await.0, 400);
}
