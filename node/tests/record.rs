//! What was recorded can be proved, replayed and erased; what is captured follows the manifest.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::time::Duration;

use ledger::batch;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, Row as _};
use testkit::{Node, node::Client, onnx, setup};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");

fn request(value: f32) -> Value {
    json!({ "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": [value, 0, 0, 0] }] })
}

fn manifest(name: &str, capture: &Value) -> Value {
    json!({
        "apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": { "name": name },
        "spec": { "source": { "onnx": "m.onnx" }, "capture": capture },
    })
}

async fn deploy(client: &Client, name: &str, capture: Value) {
    let (status, answer) = client.deploy(&onnx::add(10.0), &manifest(name, &capture)).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    client.until_answers(name, &request(0.0)).await;
}

async fn predict(client: &Client, model: &str, value: f32) -> String {
    let (status, answer) = client.infer(model, &request(value)).await;
    assert_eq!(status, 200, "{answer}");
    answer["id"].as_str().unwrap().to_owned()
}

fn verify(node: &Node, proof: &Value) -> Result<Value, String> {
    let path = node.file("proof.json", proof.to_string().as_bytes());
    let key = node.dir().join("log.key");
    let arguments = ["audit", "verify", path.to_str().unwrap(), "--key", key.to_str().unwrap(), "--output", "json"];
    let output = node.cli(&arguments);
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

/// Every event of the events file, oldest first, with its stream and place.
async fn events(node: &Node) -> Vec<(String, i64, Vec<u8>)> {
    let path = node.dir().join("events.db");
    let mut file = sqlx::SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    let rows = sqlx::query("SELECT stream, sequence, data FROM event ORDER BY stream, sequence")
        .fetch_all(&mut file)
        .await
        .unwrap();
    file.close().await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

#[tokio::test]
async fn a_prediction_is_proved_offline_and_forgotten_without_its_neighbours() {
    if setup::onnxruntime().is_none() {
        return setup::skip("record::proved", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let mut node = Node::start(BINARY).await;
    let client = node.client();
    deploy(&client, "add", json!({})).await;
    let mut ids = Vec::new();
    for n in 0..20_u8 {
        ids.push(predict(&client, "add", n.into()).await);
    }
    // Refusals are recorded like answers.
    let (status, _) = client.infer("add", &json!({ "inputs": [] })).await;
    assert_eq!(status, 400);

    // Just now, and after a kill: what has no record yet gets one at the next start.
    let proof = node.json(&["audit", "prove", &ids[3]]);
    let shown = verify(&node, &proof).unwrap();
    let event: Value = serde_json::from_str(shown["event"].as_str().unwrap()).unwrap();
    assert_eq!((&event["prediction"], &event["outcome"]), (&json!(ids[3]), &json!("answered")));
    node.kill();
    node.up().await;
    let client = node.client();
    for id in &ids {
        verify(&node, &node.json(&["audit", "prove", id])).unwrap();
    }
    let unclean = |record: &Value| record["action"] == "predictions.gap" && record["detail"]["lost"].is_null();
    let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
    loop {
        let records = ledger(&client).await;
        match records.iter().filter(|record| unclean(record)).count() {
            1 => break,
            0 => assert!(tokio::time::Instant::now() < until, "the kill is on the ledger: {records:?}"),
            _ => panic!("one kill, one gap: {records:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // Any change of a proof is caught.
    for field in ["event", "nonce", "record", "checkpoint"] {
        let mut changed = proof.clone();
        let text = changed[field].as_str().unwrap();
        let at = text.char_indices().map(|(at, _)| at).nth(text.chars().count() / 2).unwrap();
        let other = if text[at..].starts_with('7') { "8" } else { "7" };
        let next = at + text[at..].chars().next().unwrap().len_utf8();
        changed[field] = json!(format!("{}{other}{}", &text[..at], &text[next..]));
        assert!(verify(&node, &changed).unwrap_err().contains("ledger_invalid"), "{field}");
    }

    // Somebody else's prediction does not exist; neither does one that was forgotten.
    assert_eq!(node.refused(&["--namespace", "other", "audit", "prove", &ids[3]]), "prediction_not_found");
    assert_eq!(node.json(&["forget", "--prediction", &ids[3]])["erased"], 1);
    assert_eq!(node.refused(&["audit", "prove", &ids[3]]), "prediction_not_found");
    verify(&node, &node.json(&["audit", "prove", &ids[4]])).unwrap();
    verify(&node, &proof).expect("whoever kept the proof still has it");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for file in ["events.db", "events.db-wal"] {
        let bytes = std::fs::read(node.dir().join(file)).unwrap_or_default();
        assert!(!text(&bytes).contains(&ids[3]), "{file} still holds what was forgotten");
    }
    let caller = node.json(&["callers", "add", "teller", "--role", "caller"]);
    let theirs = client.with_token(caller["token"].as_str().unwrap());
    let id = predict(&theirs, "add", 1.0).await;
    node.json(&["audit", "prove", &id]);
    assert_eq!(node.json(&["forget", "--caller", "teller"])["erased"], 1);
    assert_eq!(node.refused(&["audit", "prove", &id]), "prediction_not_found");
    let last = ledger(&client).await.into_iter().rfind(|record| record["action"] == "predictions.forget").unwrap();
    assert_eq!((&last["subject"], &last["detail"]["erased"]), (&json!("caller:default/teller"), &json!(1)));
}

async fn ledger(client: &Client) -> Vec<Value> {
    let (status, page) = client.get("/v1/ledger?limit=10000").await;
    assert_eq!(status, 200, "{page}");
    page["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| serde_json::from_str(line.as_str().unwrap()).unwrap())
        .collect()
}

#[tokio::test]
async fn captured_predictions_are_replayed_and_a_changed_one_is_found() {
    if setup::onnxruntime().is_none() {
        return setup::skip("record::replayed", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let mut node = Node::start(BINARY).await;
    let client = node.client();
    deploy(&client, "add", json!({ "input": "features" })).await;
    deploy(&client, "secret", json!({ "input": "features", "redact": ["x"] })).await;
    deploy(&client, "plain", json!({})).await;
    for n in 0..30_u8 {
        for model in ["add", "secret", "plain"] {
            predict(&client, model, 500.25 + f32::from(n)).await;
        }
    }
    assert!(node.stop(), "{}", node.log());
    let stored = events(&node).await;
    let texts: Vec<(String, i64, Value)> = stored
        .iter()
        .filter(|(stream, ..)| stream.starts_with("predictions."))
        .map(|(stream, sequence, data)| {
            (stream.clone(), *sequence, serde_json::from_slice(batch::event(data).unwrap()).unwrap())
        })
        .collect();
    for (_, _, event) in texts.iter().filter(|(_, _, event)| event["model"] == "secret") {
        assert!(event["input"]["features"]["tensors"][0].get("data").is_none(), "redacted: {event}");
    }
    for (_, _, event) in texts.iter().filter(|(_, _, event)| event["model"] == "plain") {
        assert!(event["input"]["digest"].is_string(), "a digest alone: {event}");
    }

    node.up().await;
    let found = node.json(&["replay", "--last", "10", "--model", "add"]);
    assert_eq!((&found["replayed"], &found["skipped"], &found["mismatches"]), (&json!(10), &json!(0), &json!(0)));
    let found = node.json(&["replay", "--last", "20"]);
    assert_eq!((&found["replayed"], &found["skipped"]), (&json!(10), &json!(10)), "redacted ones can't be: {found}");

    // An answer is changed in the file.
    assert!(node.stop());
    let (stream, sequence, event) =
        texts.iter().rfind(|(_, _, event)| event["model"] == "add" && event["outcome"] == "answered").unwrap();
    plant(&node, stream, *sequence, event).await;
    node.up().await;
    let output = node.cli(&["replay", "--last", "5", "--model", "add", "--output", "json"]);
    assert_eq!(output.status.code(), Some(1), "a mismatch is a failure");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["replayed"], &found["mismatches"]), (&json!(5), &json!(1)), "{found}");
    assert!(found["differing"].get(event["prediction"].as_str().unwrap()).is_some(), "{found}");
}

/// Gives a stored prediction another output.
async fn plant(node: &Node, stream: &str, sequence: i64, event: &Value) {
    let mut changed = event.clone();
    changed["output"]["features"]["tensors"][0]["data"] = json!("AAAAAAAAAAAAAAAAAAAAAA==");
    let envelope = batch::envelope([0; batch::NONCE], changed.to_string().as_bytes());
    let path = node.dir().join("events.db");
    let mut file = sqlx::SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    sqlx::query("UPDATE event SET data = ? WHERE stream = ? AND sequence = ?")
        .bind(envelope)
        .bind(stream)
        .bind(sequence)
        .execute(&mut file)
        .await
        .unwrap();
    file.close().await.unwrap();
}

#[tokio::test]
async fn policies_of_a_namespace_hold_at_once_and_denials_are_recorded() {
    let node = Node::start(BINARY).await;
    let client = node.client();
    let token = |role: &str| {
        let made = node.json(&["--namespace", "bank", "callers", "add", role, "--role", role]);
        client.with_token(made["token"].as_str().unwrap())
    };
    let (auditor, admin) = (token("auditor"), token("admin"));
    let (status, _) = auditor.get("/v1/callers").await;
    assert_eq!(status, 403);
    let policy = node.file(
        "bank.cedar",
        b"@id(\"auditors-see-callers\") permit (principal in Mantlet::Role::\"auditor\", \
          action == Mantlet::Action::\"manageCallers\", resource is Mantlet::Namespace) \
          when { principal.namespace == resource.namespace };",
    );
    node.json(&["--namespace", "bank", "policy", "set", policy.to_str().unwrap()]);
    let (status, callers) = auditor.get("/v1/callers").await;
    assert_eq!((status, callers.as_array().map(Vec::len)), (200, Some(2)), "{callers}");
    let rows =
        node.json(&["--namespace", "bank", "policy", "check", "--caller", "auditor", "--action", "manageCallers"]);
    assert_eq!(rows[0]["policies"], json!(["bank/auditors-see-callers"]), "{rows}");

    let broken = node.file("broken.cedar", b"permit (principal, action == Mantlet::Action::\"fly\", resource);");
    assert_eq!(node.refused(&["--namespace", "bank", "policy", "set", broken.to_str().unwrap()]), "policy_invalid");
    assert_eq!(auditor.get("/v1/callers").await.0, 200, "the policies in force stay");
    node.json(&["--namespace", "bank", "policy", "reset"]);
    assert_eq!(auditor.get("/v1/callers").await.0, 403);
    // The admin of a namespace sees its own records and no others.
    let (status, page) = admin.get("/v1/ledger?own=true").await;
    assert_eq!(status, 200, "{page}");
    let lines = page["records"].as_array().unwrap();
    assert!(lines.len() >= 4 && lines.iter().all(|line| line.as_str().unwrap().contains("\"namespace\":\"bank\"")));
    assert_eq!(admin.get("/v1/ledger").await.0, 403, "all of it shows every namespace");

    let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
    loop {
        let denied = |data: &[u8]| {
            let event: Value = serde_json::from_slice(batch::event(data)?).ok()?;
            (event["kind"] == "denial" && event["action"] == "manageCallers").then_some(event)
        };
        let denials: Vec<Value> = events(&node).await.iter().filter_map(|(_, _, data)| denied(data)).collect();
        if denials.len() == 2 {
            assert_eq!(denials[0]["subject"], "caller:bank/auditor", "{denials:?}");
            break;
        }
        assert!(tokio::time::Instant::now() < until, "{denials:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn tiles_and_checkpoints_are_served_as_others_expect_them() {
    let node = Node::start(BINARY).await;
    let client = node.client();
    let fetch = async |path: &str| {
        let response = client.request(Method::GET, path).send().await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap())
    };
    let (status, early) = fetch("/v1/log/checkpoint").await;
    assert_eq!(status, 200);
    let size = |checkpoint: &[u8]| -> u64 {
        std::str::from_utf8(checkpoint).unwrap().lines().nth(1).unwrap().parse().unwrap()
    };
    let old = size(&early);
    for n in 0..5 {
        node.json(&["callers", "add", &format!("c{n}"), "--role", "caller"]);
    }
    let (_, checkpoint) = fetch("/v1/log/checkpoint").await;
    let new = size(&checkpoint);
    assert!(new >= old + 5);
    let (status, hashes) = fetch(&format!("/v1/log/tile/0/000.p/{new}")).await;
    assert_eq!((status, hashes.len() as u64), (200, new * 32));
    let (status, entries) = fetch(&format!("/v1/log/tile/entries/000.p/{new}")).await;
    assert_eq!(status, 200);
    let mut rest = &entries[..];
    for leaf in hashes.chunks(32) {
        let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        let tree = ledger::export::Tree::over([&rest[2..2 + length]]).unwrap();
        assert_eq!(tree.root_at(1).unwrap().0, leaf, "an entry is what its leaf hashes");
        rest = &rest[2 + length..];
    }
    assert!(rest.is_empty());
    for path in ["0/000", "0/000.p/256", "9/000.p/1", "0/001.p/1", "entries/xyz", ""] {
        assert_eq!(fetch(&format!("/v1/log/tile/{path}")).await.0, 404, "{path}");
    }
    let (status, proof) = client.get(&format!("/v1/ledger/consistency?old={old}")).await;
    assert_eq!(status, 200);
    assert!(proof["path"].as_array().is_some_and(|path| !path.is_empty()), "{proof}");
    assert_eq!(client.get("/v1/ledger/consistency?old=9999").await.0, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_predictions_of_three_models_under_load_replay_without_a_mismatch() {
    if setup::onnxruntime().is_none() {
        return setup::skip("record::thousand", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let node = Node::start(BINARY).await;
    let client = node.client();
    let models = ["one", "two", "three"];
    for (name, offset) in models.iter().zip([1.0, 2.5, 1e6]) {
        let manifest = manifest(name, &json!({ "input": "features" }));
        let (status, answer) = client.deploy(&onnx::add(offset), &manifest).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        client.until_answers(name, &request(0.0)).await;
    }
    let mut asking = tokio::task::JoinSet::new();
    for worker in 0..12_u16 {
        let client = client.clone();
        asking.spawn(async move {
            for n in 0..90_u16 {
                // Rows of one to three, values of every size.
                let rows = usize::from(n % 3) + 1;
                let data: Vec<f32> =
                    (0..rows * 4).map(|i| (f32::from(worker) - 6.0).powi(i32::from(n % 9)) + i as f32).collect();
                let body = json!({ "inputs": [{ "name": "x", "shape": [rows, 4], "datatype": "FP32", "data": data }] });
                let (status, answer) = client.infer(models[usize::from(worker) % 3], &body).await;
                assert_eq!(status, 200, "{answer}");
            }
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked.unwrap();
    }
    // The last of them are on their way to the file for a moment.
    let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
    loop {
        let found = node.json(&["replay", "--last", "1000"]);
        assert_eq!((&found["skipped"], &found["mismatches"]), (&json!(0), &json!(0)), "{found}");
        if found["replayed"] == 1_000 {
            break;
        }
        assert!(tokio::time::Instant::now() < until, "{found}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_a_record() {
    if setup::onnxruntime().is_none() {
        return setup::skip(
            "record::a_client_that_goes_away",
            "ONNX Runtime's library is not set up: cargo xtask setup",
        );
    }
    let node = Node::start(BINARY).await;
    let client = node.client();
    deploy(&client, "add", json!({})).await;
    // For some seconds nobody answers.
    let pid = rustix::process::Pid::from_raw(node.model_servers()[0].cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let gone = async || {
        let events = events(&node).await;
        events.iter().any(|(_, _, data)| String::from_utf8_lossy(data).contains("client_gone"))
    };
    let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
    while !gone().await {
        assert!(tokio::time::Instant::now() < until, "no record\n{}", node.log());
        let asked = client.request(Method::POST, "/v2/models/add/infer").json(&request(1.0));
        let impatient = asked.timeout(Duration::from_millis(200));
        // Once the model server is replaced it is answered, and says nothing.
        drop(impatient.send().await);
    }
}
