//! The sentinel on a real node: who attacks is contained, who does not is not touched, everything is told and can be taken back.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::{io::Write as _, process::Stdio, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{
    node::{Client, Node, PATIENCE, kill},
    onnx,
    receiver::{Received, Receiver},
    setup,
};
use tokio::time::Instant;

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");
/// Agents act where no model says, and a window is short.
const ACT: &str = "[sentinel]\nautonomy = \"act\"\nwindow = \"10s\"\n";

fn caller(node: &Node, name: &str) -> Client {
    let added = node.json(&["callers", "add", name, "--role", "caller"]);
    node.client().with_token(added["token"].as_str().unwrap())
}

async fn node(settings: &str, arguments: &[&str]) -> Option<Node> {
    if setup::onnxruntime().is_none() {
        setup::skip("sentinel", "ONNX Runtime's library is not set up: cargo xtask setup");
        return None;
    }
    let mut node = Node::new(BINARY).with(arguments);
    std::fs::create_dir_all(node.dir()).unwrap();
    std::fs::write(node.dir().join("mantlet.toml"), settings).unwrap();
    node.up().await;
    Some(node)
}

fn request() -> Value {
    json!({ "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0] }] })
}

fn words(text: &str) -> Value {
    json!({ "inputs": [{ "name": "x", "shape": [1], "datatype": "BYTES", "data": [text] }] })
}

const HOSTILE: &str = "1' union select user,password from users--";
const ORDINARY: [&str; 5] = [
    "O'Brien & Sons said: select a table for two, and drop by later",
    "{\"name\": \"O'Neill\", \"tags\": [\"a\", \"b\"], \"n\": 3}",
    "the union's select committee won't update us -- or will it?",
    "see https://example.com/search?q=blue+shoes&page=2 (50% off!)",
    "1=1 is true; x < y and y > z; $5 or $6",
];

/// Asks until what is told of the namespace's incidents is so.
async fn until(client: &Client, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let (_, incidents) = client.get("/v1/incidents").await;
        if let Some(found) = incidents.as_array().unwrap().iter().find(|incident| holds(incident)) {
            return found.clone();
        }
        assert!(Instant::now() < until, "{what}: {incidents}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn of(subject: &'static str, state: &'static str) -> impl Fn(&Value) -> bool {
    move |incident| incident["subject"] == subject && incident["state"] == state
}

/// A scanner: it asks for models that are not there.
async fn scan(client: &Client) -> u16 {
    for n in 0..100 {
        let (status, _) = client.infer(&format!("guess-{n}"), &request()).await;
        if status == 403 {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    0
}

async fn a_scanner_is_contained(arguments: &[&str]) {
    let Some(mut node) = node(ACT, arguments).await else { return };
    let admin = node.client();
    node.deploy("plain", &onnx::add(0.0));
    admin.until_answers("plain", &request()).await;
    let (eve, app) = (caller(&node, "eve"), caller(&node, "app"));
    assert_eq!(app.infer("plain", &request()).await.0, 200);
    assert!(scan(&eve).await > 0, "{}", node.log());
    let incident = until(&admin, "contained", of("caller:default/eve", "contained")).await;
    assert_eq!(incident["agents"], json!(["caller"]), "{incident}");
    assert!(incident["techniques"].as_array().unwrap().iter().any(|one| one["id"] == "AML.T0006"), "{incident}");
    let acting = incident["actions"].as_array().unwrap().last().unwrap()["restriction"].clone();
    assert_eq!(acting["author"], "sentinel");
    assert_eq!(app.infer("plain", &request()).await.0, 200, "nobody else is touched");

    // A kill forgets nothing: it is in force before the port opens.
    if arguments.is_empty() {
        node.kill();
        node.up().await;
    } else {
        let killed = node.service("sentinel");
        kill(killed);
        assert_eq!(eve.infer("plain", &request()).await.0, 403, "gateways know it by themselves");
        kill(node.service("gateway/g0"));
        let until = Instant::now() + PATIENCE;
        while !matches!(admin.try_send(admin.request(Method::GET, "/v1/agents")).await, Ok((200, _))) {
            assert!(Instant::now() < until, "{}", node.log());
        }
        assert_ne!(node.service("sentinel"), killed);
    }
    let (status, refusal) = node.client().with_token(eve.token()).infer("plain", &request()).await;
    assert_eq!((status, &refusal["code"]), (403, &json!("caller_restricted")), "{refusal}");
    assert!(refusal["hint"].as_str().unwrap().contains("mantlet undo"), "{refusal}");

    // A person takes it back, and is believed.
    let id = incident["id"].as_str().unwrap();
    let undone = node.json(&["undo", id, "--reason", "it was a test of ours"]);
    assert_eq!(undone["state"], "closed", "{undone}");
    let eve = node.client().with_token(eve.token());
    let until = Instant::now() + PATIENCE;
    while eve.infer("plain", &request()).await.0 != 200 {
        assert!(Instant::now() < until, "{}", node.log());
    }
    node.refused(&["undo", id, "--reason", "again"]);
    let shown = String::from_utf8(node.cli(&["incidents", "show", id]).stdout).unwrap();
    assert!(shown.contains("undone by caller:default/admin: it was a test of ours"), "{shown}");
    let listed = String::from_utf8(node.cli(&["incidents"]).stdout).unwrap();
    assert!(listed.contains(id) && listed.contains("caller:default/eve"), "{listed}");
    let ocsf = String::from_utf8(node.cli(&["incidents", "export"]).stdout).unwrap();
    assert!(ocsf.lines().any(|line| line.contains("\"class_uid\":2004")), "{ocsf}");
    let agents = node.json(&["agents"]);
    assert!(agents.as_array().unwrap().iter().all(|agent| agent["alive"] == true), "{agents}");
    for action in ["restriction.set", "restriction.undone"] {
        node.client().until_in_ledger(action).await;
    }
}

#[tokio::test]
async fn a_scanner_is_contained_in_one_process() {
    a_scanner_is_contained(&[]).await;
}

#[tokio::test]
async fn a_scanner_is_contained_by_services_of_their_own() {
    a_scanner_is_contained(&["--split"]).await;
}

#[tokio::test]
async fn agents_only_recommend_where_nobody_says_that_they_may_act() {
    let Some(node) = node("", &[]).await else { return };
    let admin = node.client();
    let eve = caller(&node, "eve");
    assert_eq!(scan(&eve).await, 0, "nothing is done");
    let incident = until(&admin, "proposed", of("caller:default/eve", "open")).await;
    let action = incident["actions"].as_array().unwrap().last().unwrap();
    assert_eq!(action["state"], "proposed", "{incident}");
    let id = action["restriction"]["id"].as_str().unwrap();
    let approved = node.json(&["approve", id, "--reason", "it scans"]);
    assert_eq!(approved["state"], "contained", "{approved}");
    let until = Instant::now() + PATIENCE;
    while scan(&eve).await == 0 {
        assert!(Instant::now() < until, "{}", node.log());
    }
}

#[tokio::test]
async fn a_clear_attack_is_refused_at_once_where_agents_may_act() {
    let Some(node) = node(ACT, &[]).await else { return };
    let admin = node.client();
    node.deploy("echo", &onnx::echo());
    admin.until_answers("echo", &words("hello")).await;
    let (eve, app) = (caller(&node, "eve"), caller(&node, "app"));
    let (status, refusal) = eve.infer("echo", &words(HOSTILE)).await;
    assert_eq!((status, &refusal["code"]), (403, &json!("caller_restricted")), "{refusal}");
    assert!(refusal.to_string().contains("sqli in what is asked"), "{refusal}");
    assert!(refusal["hint"].as_str().unwrap().contains("autonomy"), "{refusal}");
    assert_eq!(eve.infer("echo", &words("hello")).await.0, 200, "the request was refused, not the caller");
    for text in ORDINARY {
        let (status, answer) = app.infer("echo", &words(text)).await;
        assert_eq!((status, &answer["outputs"][0]["data"][0]), (200, &json!(text)), "{answer}");
    }
    assert_eq!(admin.infer("echo", &words(HOSTILE)).await.0, 200, "an admin is told of");
    // It is evidence: who goes on is contained.
    for _ in 0..8 {
        // Refused for its words, or slowed down as soon as the sentinel has heard of it.
        let (status, answer) = eve.infer("echo", &words(HOSTILE)).await;
        assert!(matches!(status, 403 | 429), "{status}: {answer}");
    }
    let incident = until(&admin, "known", |incident| incident["subject"] == "caller:default/eve").await;
    assert_eq!(incident["agents"], json!(["intruder"]), "{incident}");
}

#[tokio::test]
async fn a_clear_attack_is_only_told_where_agents_recommend() {
    let Some(node) = node("", &[]).await else { return };
    let admin = node.client();
    node.deploy("echo", &onnx::echo());
    admin.until_answers("echo", &words("hello")).await;
    let eve = caller(&node, "eve");
    for _ in 0..10 {
        assert_eq!(eve.infer("echo", &words(HOSTILE)).await.0, 200);
    }
    let incident = until(&admin, "told", of("caller:default/eve", "open")).await;
    assert_eq!(incident["agents"], json!(["intruder"]), "{incident}");
}

#[tokio::test]
async fn where_the_intruder_is_off_nothing_is_refused_for_its_words() {
    let Some(node) = node(&format!("{ACT}agents = \"intruder=off\"\n"), &[]).await else { return };
    let admin = node.client();
    node.deploy("echo", &onnx::echo());
    admin.until_answers("echo", &words("hello")).await;
    let eve = caller(&node, "eve");
    for _ in 0..10 {
        assert_eq!(eve.infer("echo", &words(HOSTILE)).await.0, 200);
    }
}

#[tokio::test]
async fn a_person_restricts_and_answers_tell_less_and_nothing_false() {
    let Some(node) = node("", &[]).await else { return };
    let admin = node.client();
    node.deploy("plain", &onnx::add(0.0));
    admin.until_answers("plain", &request()).await;
    let app = caller(&node, "app");
    let golden = app.infer("plain", &request()).await.1["outputs"].clone();
    assert_eq!(golden[0]["data"], json!([1.0, 2.0, 3.0, 4.0]));
    let said = node.json(&["restrict", "app", "--rung", "degrade", "--for", "1h", "--reason", "we look into it"]);
    let id = said["actions"][0]["restriction"]["id"].as_str().unwrap();
    let until = Instant::now() + PATIENCE;
    let degraded = loop {
        let (status, answer) = app.infer("plain", &request()).await;
        if status == 200 && answer["outputs"] != golden {
            break answer["outputs"].clone();
        }
        assert!(Instant::now() < until, "{answer}");
    };
    assert_eq!(degraded[0]["data"], json!([0.0, 0.0, 0.0, 1.0]), "the greatest is the greatest still");
    assert_eq!(admin.infer("plain", &request()).await.1["outputs"], golden, "others get all of it");
    node.json(&["undo", id, "--reason", "it is fine"]);
    let until = Instant::now() + PATIENCE;
    while app.infer("plain", &request()).await.1["outputs"] != golden {
        assert!(Instant::now() < until, "{}", node.log());
    }
    node.refused(&["restrict", "admin", "--rung", "block", "--reason", "me"]);
    node.refused(&["restrict", "source:10.0.0.1", "--rung", "block", "--reason", "an address is nobody"]);
}

/// A key in base64, and what it is.
const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3";
const KEY: &[u8] = b"0123456789abcdef01234567";

fn set_secret(node: &Node, name: &str, value: &str) {
    let mut command = node.command();
    let mut child = command.args(["secrets", "set", name]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{value}").unwrap();
    assert!(child.wait().unwrap().success());
}

/// Waits for one that this holds of, beyond the first so many.
async fn until_received(receiver: &Receiver, mut after: usize, holds: impl Fn(&Received) -> bool) -> Received {
    loop {
        let all = receiver.received(after + 1).await;
        if let Some(found) = all.iter().skip(after).find(|one| holds(one)) {
            return found.clone();
        }
        after = all.len();
    }
}

async fn incidents_are_told(arguments: &[&str]) {
    let receiver = Receiver::start(500).await;
    let told = format!("webhook = \"{}/hooks/incidents\"\nwebhook-secret = \"hook-key\"\n", receiver.url());
    let Some(mut node) = node(&format!("{ACT}{told}"), arguments).await else { return };
    let eve = caller(&node, "eve");
    // What is told before there is a key waits for it.
    assert!(scan(&eve).await > 0, "{}", node.log());
    set_secret(&node, "hook-key", SECRET);
    let first = receiver.received(1).await.remove(0);
    assert!(first.is_signed_with(KEY) && !first.is_signed_with(&[0; 24]), "{first:?}");
    let sent = first.json();
    let data = &sent["data"];
    assert_eq!(
        (&sent["type"], &data["event"], &data["state"]),
        (&json!("incident"), &json!("contained"), &json!("contained"))
    );
    assert_eq!((&data["subject"], &data["agents"]), (&json!("caller:default/eve"), &json!(["caller"])), "{sent}");
    assert!(data["probability"].as_f64() > Some(0.01) && data["techniques"][0]["id"].is_string(), "{sent}");
    // What came before it, a milder one, may have ended.
    let undo = data["actions"].as_array().unwrap().iter().find_map(|action| action["undo"].as_str());
    assert!(undo.is_some_and(|undo| undo.starts_with("mantlet undo act-")), "{sent}");

    // A kill loses nothing that waits, and makes no other of it.
    if arguments.is_empty() {
        node.kill();
    } else {
        kill(node.service("sentinel"));
    }
    let before = receiver.received(1).await.len();
    receiver.say(204);
    if arguments.is_empty() {
        node.up().await;
    }
    let again = until_received(&receiver, before, |one| one.header("webhook-id") == first.header("webhook-id")).await;
    assert!(again.body == first.body && again.is_signed_with(KEY), "{again:?}");
    let id = data["id"].as_str().unwrap();
    let before = receiver.received(1).await.len();
    node.json(&["undo", id, "--reason", "it was a test of ours"]);
    let closed = until_received(&receiver, before, |one| one.json()["data"]["event"] == "closed").await.json();
    assert_eq!((&closed["data"]["id"], &closed["data"]["state"]), (&json!(id), &json!("closed")), "{closed}");
    assert!(!node.log().contains(SECRET));
    assert!(node.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn incidents_are_told_at_least_once_through_failures_and_a_kill() {
    incidents_are_told(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_node_tells_of_incidents_too() {
    incidents_are_told(&["--split"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_is_told_with_the_words_that_approve_it() {
    let receiver = Receiver::start(204).await;
    let told = format!("[sentinel]\nwebhook = \"{}\"\nwebhook-secret = \"hook-key\"\n", receiver.url());
    let Some(node) = node(&told, &[]).await else { return };
    set_secret(&node, "hook-key", SECRET);
    let eve = caller(&node, "eve");
    assert_eq!(scan(&eve).await, 0, "nothing is done");
    let sent = receiver.received(1).await.remove(0).json();
    let data = &sent["data"];
    assert_eq!((&data["event"], &data["state"]), (&json!("proposed"), &json!("open")), "{sent}");
    let action = &data["actions"][0];
    let words = format!("mantlet approve {} --reason WHY", action["id"].as_str().unwrap());
    assert_eq!((&action["state"], &action["approve"]), (&json!("proposed"), &json!(words)), "{sent}");
}
