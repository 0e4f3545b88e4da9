//! Models that another server holds: asked through the same ring, with a secret of their namespace.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::{fs, io::Write as _, process::Stdio, time::Duration};

use serde_json::{Value, json};
use testkit::{Node, node::PATIENCE, onnx};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");

/// The server that holds the model, and a node that may ask it.
struct Pair {
    holder: Node,
    asker: Node,
    origin: String,
}

async fn pair() -> Pair {
    let holder = Node::start(BINARY).await;
    holder.deploy("add", &onnx::add(10.0));
    let origin = holder.client().url().to_owned();
    let asker = Node::new(BINARY);
    let file = asker.file("mantlet.toml", format!("[orchestrator]\nupstreams = \"{origin}\"\n").as_bytes());
    let mut asker = asker.with(&["--config", file.to_str().unwrap()]);
    asker.up().await;
    Pair { holder, asker, origin }
}

impl Pair {
    fn manifest(&self, name: &str) -> Value {
        let ca = fs::read_to_string(self.holder.dir().join("ca.pem")).unwrap();
        let upstream = json!({ "url": self.origin, "model": "add", "credential": "holder", "ca": ca });
        json!({
            "apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": { "name": name },
            "spec": { "source": { "upstream": upstream } },
        })
    }

    fn token(&self, caller: &str) -> String {
        let added = self.holder.json(&["callers", "add", caller, "--role", "caller"]);
        added["token"].as_str().unwrap().to_owned()
    }

    fn deploy(&self, manifest: &Value) -> std::process::Output {
        let file = self.asker.file("upstream.json", manifest.to_string().as_bytes());
        self.asker.cli(&["deploy", file.to_str().unwrap(), "--wait", "--output", "json"])
    }
}

/// Sets the secret as people do: from standard input.
fn set_secret(node: &Node, name: &str, value: &str) {
    let mut command = node.command();
    let mut child = command.args(["secrets", "set", name]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{value}").unwrap();
    assert!(child.wait().unwrap().success());
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn until(what: &str, node: &Node, mut there: impl AsyncFnMut() -> bool) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while !there().await {
        assert!(tokio::time::Instant::now() < until, "{what}\n{}", node.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_of_another_server_is_asked_with_a_secret_that_nobody_sees() {
    let pair = pair().await;
    let manifest = pair.manifest("far");
    assert!(said(&pair.deploy(&manifest)).contains("secret_not_found"));
    let token = pair.token("asker");
    set_secret(&pair.asker, "holder", &token);
    let deployed = pair.deploy(&manifest);
    assert!(deployed.status.success(), "{}\n{}", said(&deployed), pair.asker.log());

    let client = pair.asker.client();
    let (code, answer) = client.infer("far", &onnx::add_request()).await;
    assert_eq!((code, &answer["outputs"][0]["data"]), (200, &json!([11.0, 12.0, 13.0, 14.0])), "{answer}");
    let shown = pair.asker.json(&["models", "show", "far"]);
    assert_eq!(shown["metadata"]["inputs"][0]["name"], "x", "{shown}");
    // Wrong inputs are refused here, by what the other server says of its model.
    let wrong = json!({ "inputs": [{ "name": "z", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4] }] });
    assert_eq!(client.infer("far", &wrong).await.0, 400);

    // The secret is nowhere but in the catalog, and stands under a leaf.
    let secrets = pair.asker.json(&["secrets", "list"]);
    assert_eq!(secrets[0]["name"], "holder");
    assert!(!secrets.to_string().contains(&token) && !shown.to_string().contains(&token));
    assert!(!pair.asker.log().contains(&token), "the log tells it");
    for server in pair.asker.model_servers() {
        for file in ["environ", "cmdline"] {
            let text = fs::read(format!("/proc/{server}/{file}")).unwrap();
            assert!(!String::from_utf8_lossy(&text).contains(&token), "{file} tells it");
        }
    }
    let records = client.get("/v1/ledger").await.1.to_string();
    assert!(records.contains("secret.set") && !records.contains(&token), "{records}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_told_and_a_new_one_is_taken_in_use() {
    let pair = pair().await;
    set_secret(&pair.asker, "holder", &pair.token("first"));
    assert!(pair.deploy(&pair.manifest("far")).status.success(), "{}", pair.asker.log());
    pair.holder.json(&["callers", "revoke", "first"]);
    until("nobody says that the token is revoked", &pair.asker, async || {
        pair.asker.json(&["models", "show", "far"]).to_string().contains("401")
    })
    .await;
    set_secret(&pair.asker, "holder", &pair.token("second"));
    until("the new token is not taken", &pair.asker, async || {
        pair.asker.client().infer("far", &onnx::add_request()).await.0 == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_held_while_the_other_server_is_away() {
    let mut pair = pair().await;
    set_secret(&pair.asker, "holder", &pair.token("asker"));
    assert!(pair.deploy(&pair.manifest("far")).status.success(), "{}", pair.asker.log());
    pair.holder.stay();
    assert!(pair.holder.stop());
    until("nobody says that it is away", &pair.asker, async || {
        pair.asker.json(&["models", "show", "far"]).to_string().contains("does not answer")
    })
    .await;
    let client = pair.asker.client();
    let held = tokio::spawn(async move { client.infer("far", &onnx::add_request()).await });
    pair.holder.up().await;
    let (code, answer) = held.await.unwrap();
    assert_eq!((code, &answer["outputs"][0]["data"]), (200, &json!([11.0, 12.0, 13.0, 14.0])), "{answer}");
    // A restarted node knows the model before it has asked.
    pair.asker.kill();
    assert!(pair.holder.stop());
    pair.asker.up().await;
    pair.holder.up().await;
    let (code, answer) = pair.asker.client().infer("far", &onnx::add_request()).await;
    assert_eq!(code, 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_calls_nobody_it_was_not_told_to_call() {
    let pair = pair().await;
    let mut manifest = pair.manifest("far");
    manifest["spec"]["source"]["upstream"]["url"] = json!("http://127.0.0.1:9");
    assert!(said(&pair.deploy(&manifest)).contains("upstream_not_allowed"));
    for (url, why) in [
        ("ftp://127.0.0.1", "no scheme for it"),
        ("https://user:secret@127.0.0.1", "a password has no place"),
        ("https://127.0.0.1/?a=b", "a query or a fragment"),
        ("nowhere", "relative URL"),
    ] {
        manifest["spec"]["source"]["upstream"]["url"] = json!(url);
        let said = said(&pair.deploy(&manifest));
        assert!(said.contains("manifest_invalid") && said.contains(why), "{url}: {said}");
    }
    // Another server's certificate is not believed without its CA.
    manifest = pair.manifest("far");
    set_secret(&pair.asker, "holder", &pair.token("asker"));
    manifest["spec"]["source"]["upstream"].as_object_mut().unwrap().remove("ca");
    let said = said(&pair.deploy(&manifest));
    assert!(said.contains("load_failed") && said.contains("ertificate"), "{said}");
}
