//! The main path through the public door, and every way to knock wrongly.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Node, node::Client, onnx, setup};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["code"].as_str().unwrap_or("-"))
}

/// A node with the model `add` (y = x + 10), or nothing where ONNX Runtime is missing.
async fn serving(test: &str) -> Option<(Node, Client)> {
    if setup::onnxruntime().is_none() {
        setup::skip(test, "ONNX Runtime's library is not set up: cargo xtask setup");
        return None;
    }
    let node = Node::start(BINARY).await;
    node.deploy("add", &onnx::add(10.0));
    let client = node.client();
    Some((node, client))
}

#[tokio::test]
async fn a_deployed_model_answers_by_version_and_after_a_restart() {
    let Some((mut node, client)) = serving("serve::a_deployed_model_answers").await else { return };
    let (status, answer) = client.infer("add", &onnx::add_request()).await;
    assert_eq!((status, &answer["outputs"][0]["data"]), (200, &json!([11.0, 12.0, 13.0, 14.0])), "{answer}");
    assert_eq!((&answer["model_name"], &answer["model_version"]), (&json!("add"), &json!("1")));

    let again = node.deploy("add", &onnx::add(10.0));
    assert_eq!(again["version"], 1, "the same bundle is the same version");
    assert_eq!(node.deploy("add", &onnx::add(20.0))["version"], 2);
    let data =
        async |client: &Client| client.infer("add", &onnx::add_request()).await.1["outputs"][0]["data"][0].clone();
    assert_eq!(data(&client).await, 21.0);
    node.json(&["rollback", "add"]);
    let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
    while data(&client).await != 11.0 {
        assert!(tokio::time::Instant::now() < until, "the rollback never answers");
    }

    assert!(node.stop(), "a node that is asked to stop says that all went well:\n{}", node.log());
    assert!(!node.dir().join("client.json").exists());
    node.up().await;
    let client = node.client();
    assert_eq!(client.until_answers("add", &onnx::add_request()).await["outputs"][0]["data"][0], 11.0);

    node.json(&["delete", "add"]);
    let gone = client.infer("add", &onnx::add_request()).await;
    assert!(matches!(code(&gone), (404, "model_not_found") | (503, "model_not_ready")), "{gone:?}");
    assert_eq!(node.json(&["models"]), json!([]));
    assert_eq!(node.deploy("add", &onnx::add(10.0))["version"], 3, "numbers are never used twice");
}

#[tokio::test]
async fn wrong_requests_are_refused_and_the_node_lives_on() {
    let Some((mut node, client)) = serving("serve::wrong_requests").await else { return };
    // What it takes and gives is known to the gateway.
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while client.get("/v2/models/add").await.1["outputs"][0]["name"] == Value::Null {
        assert!(tokio::time::Instant::now() < until, "the model is never known");
    }
    let with = |input: Value| json!({ "inputs": [input] });
    let x = |datatype: &str, shape: Value, data: Value| json!({ "name": "x", "datatype": datatype, "shape": shape, "data": data });
    for (body, expected) in [
        (with(x("FP64", json!([1, 4]), json!([1, 2, 3, 4]))), (400, "input_mismatch")),
        (with(x("FP31", json!([1, 4]), json!([1, 2, 3, 4]))), (400, "input_mismatch")),
        (with(x("FP32", json!([1, 5]), json!([1, 2, 3, 4, 5]))), (400, "input_mismatch")),
        (with(x("FP32", json!([1, 4]), json!([1, 2, 3]))), (400, "input_mismatch")),
        (with(x("FP32", json!([1, 4]), json!([1, 2, 3, "a"]))), (400, "input_mismatch")),
        (with(x("FP32", json!([-1, 4]), json!([1, 2, 3, 4]))), (400, "input_mismatch")),
        (with(x("FP32", json!([9_223_372_036_854_775_807_i64, 4]), json!([1]))), (400, "input_mismatch")),
        (with(json!({ "name": "z", "datatype": "FP32", "shape": [1], "data": [1] })), (400, "input_mismatch")),
        (json!({ "inputs": [] }), (400, "input_mismatch")),
        (json!({ "inputs": "x" }), (400, "request_malformed")),
        (json!([]), (400, "request_malformed")),
        (
            json!({ "inputs": [x("FP32", json!([1, 4]), json!([1, 2, 3, 4]))], "outputs": [{ "name": "w" }] }),
            (400, "output_unknown"),
        ),
    ] {
        assert_eq!(code(&client.infer("add", &body).await), expected, "{body}");
    }
    let raw = async |body: Vec<u8>, headers: &[(&str, &str)]| {
        let mut request = client.request(Method::POST, "/v2/models/add/infer").body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        client.send(request).await
    };
    let deep = ["[".repeat(100_000), "]".repeat(100_000)].concat();
    let length = "inference-header-content-length";
    for (body, headers, expected) in [
        (b"{".to_vec(), vec![], (400, "request_malformed")),
        (deep.clone().into_bytes(), vec![], (400, "request_malformed")),
        (
            format!(r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1,4],"data":{deep}}}]}}"#).into_bytes(),
            vec![],
            (400, "input_mismatch"),
        ),
        (b"{}".to_vec(), vec![(length, "99")], (400, "request_malformed")),
        (b"{}".to_vec(), vec![(length, "-1")], (400, "request_malformed")),
        (
            br#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"parameters":{"binary_data_size":16}}]}abc"#
                .to_vec(),
            vec![(length, "92")],
            (400, "request_malformed"),
        ),
        (
            onnx::add_request().to_string().into_bytes(),
            vec![("mantlet-priority", "urgent")],
            (400, "request_malformed"),
        ),
        (b"{}".to_vec(), vec![("content-encoding", "br")], (415, "encoding_unsupported")),
        (b"{}".to_vec(), vec![("content-encoding", "gzip")], (400, "request_malformed")),
        (vec![b' '; (16 << 20) + 1], vec![], (413, "body_too_large")),
    ] {
        let answer = raw(body, &headers).await;
        assert_eq!(code(&answer), expected, "{headers:?}: {answer:?}");
    }
    for priority in ["high", "normal", "low"] {
        let answer = raw(onnx::add_request().to_string().into_bytes(), &[("mantlet-priority", priority)]).await;
        assert_eq!(answer.0, 200, "{priority}: {answer:?}");
    }
    // A header that is no text is not passed over.
    for (header, refused) in [("mantlet-priority", "request_malformed"), ("mantlet-namespace", "name_invalid")] {
        let request = client.request(Method::POST, "/v2/models/add/infer").header(header, &b"\xff"[..]);
        let answer = client.send(request.json(&onnx::add_request())).await;
        assert_eq!(code(&answer), (400, refused), "{header}: {answer:?}");
    }
    let unknown = client.infer("nothing", &onnx::add_request()).await;
    assert_eq!(code(&unknown), (404, "model_not_found"));
    assert!(unknown.1["error"].as_str().unwrap().starts_with("Request for unknown model"));
    assert_eq!(code(&client.get("/v3").await), (404, "path_not_found"));
    assert_eq!(code(&client.get("/v2/models/add/infer").await), (405, "method_not_allowed"));
    assert_eq!(code(&client.get("/v2/models/..%2f..").await), (400, "name_invalid"));
    assert_eq!(
        code(&client.post("/v2/models/add/versions/9/infer", &onnx::add_request()).await),
        (404, "version_not_found")
    );
    assert_eq!(
        code(&client.post("/v2/models/add/versions/x/infer", &onnx::add_request()).await),
        (400, "request_malformed")
    );

    assert!(node.runs());
    assert_eq!(client.infer("add", &onnx::add_request()).await.0, 200);
}

#[tokio::test]
async fn limits_of_the_manifest_hold() {
    let Some((node, client)) = serving("serve::limits_of_the_manifest").await else { return };
    let manifest = json!({
        "apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": { "name": "strict" },
        "spec": { "source": { "onnx": "m.onnx" }, "limits": { "body": "1KiB", "rate": "2/h" },
                  "inputs": [{ "name": "x", "type": "FP32", "range": [0, 10], "nan": "refuse" }] },
    });
    let (status, answer) = client.deploy(&onnx::add(1.0), &manifest).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let request =
        |data: Value| json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 4], "data": data }] });
    // Refused values don't wait for a replica.
    assert_eq!(code(&client.infer("strict", &request(json!([null, 1, 2, 3]))).await), (400, "input_value_refused"));
    let second = client.infer("strict", &request(json!([0, 1, 2, 3]))).await;
    let limited = client.infer("strict", &onnx::add_request()).await;
    assert_eq!(code(&limited), (429, "rate_limited"), "one an hour beyond the burst; the call before: {second:?}");

    let manifest = json!({
        "apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": { "name": "small" },
        "spec": { "source": { "onnx": "m.onnx" }, "limits": { "body": "100B" } },
    });
    assert_eq!(client.deploy(&onnx::add(2.0), &manifest).await.unwrap().0, 200);
    let padded = json!({ "inputs": onnx::add_request()["inputs"], "id": "x".repeat(100) });
    assert_eq!(code(&client.infer("small", &padded).await), (413, "body_too_large"));
    let mut unsupported = manifest.clone();
    unsupported["spec"]["slo"] = json!({ "availability": "99.9%" });
    let refused = client.deploy(&onnx::add(2.0), &unsupported).await.unwrap();
    assert_eq!(code(&refused), (422, "not_supported_yet"));
    assert!(refused.1["detail"].as_str().unwrap().contains("spec.slo.availability"));
    drop(node);
}

#[tokio::test]
async fn credentials_are_needed_and_bound_to_their_namespace() {
    let Some((node, client)) = serving("serve::credentials").await else { return };
    let anonymous = client.with_token("");
    assert_eq!(code(&anonymous.infer("add", &onnx::add_request()).await), (401, "credential_missing"));
    assert_eq!(anonymous.get("/v2/health/ready").await.0, 200);
    assert_eq!(code(&anonymous.get("/v1/models").await), (401, "credential_missing"));
    assert_eq!(code(&anonymous.get("/metrics").await), (401, "credential_missing"));
    for forged in ["mnt_0011223344556677_".to_owned() + &"0".repeat(64), "x".into(), "mnt_".repeat(5_000)] {
        let answer = client.with_token(&forged).infer("add", &onnx::add_request()).await;
        assert!(matches!(code(&answer), (401, "credential_invalid") | (431, _)), "{answer:?}");
    }
    let add = |arguments: &[&str]| {
        node.json(&[&["callers", "add"], arguments].concat())["token"].as_str().unwrap().to_owned()
    };
    let caller = client.with_token(&add(&["app", "--role", "caller"]));
    let answers = async |client: &Client| client.infer("add", &onnx::add_request()).await;
    assert_eq!(answers(&caller).await.0, 200, "a new token works at once");
    assert_eq!(code(&caller.post("/v2/models/add/versions/1/infer", &onnx::add_request()).await), (403, "not_allowed"));
    assert_eq!(code(&caller.get("/v1/callers").await), (403, "not_allowed"));
    assert_eq!(code(&caller.get("/v1/ledger").await), (403, "not_allowed"));
    assert_eq!(code(&caller.get("/metrics").await), (403, "not_allowed"));
    let foreign = caller.request(Method::GET, "/v2/models/add").header("mantlet-namespace", "bank");
    assert_eq!(code(&caller.send(foreign).await), (404, "path_not_found"));

    let other = client.with_token(&add(&["app", "--role", "caller", "--namespace", "bank"]));
    assert_eq!(code(&answers(&other).await), (404, "model_not_found"), "another namespace has no such model");
    let expired = client.with_token(&add(&["brief", "--role", "caller", "--expires-in", "1ms"]));
    let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
    while code(&answers(&expired).await) != (401, "credential_expired") {
        assert!(tokio::time::Instant::now() < until);
    }
    let rotated = node.json(&["callers", "rotate", "app"])["token"].as_str().unwrap().to_owned();
    let until_refused = async |client: &Client| {
        let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
        while code(&answers(client).await) != (401, "credential_invalid") {
            assert!(tokio::time::Instant::now() < until);
        }
    };
    until_refused(&caller).await;
    let caller = client.with_token(&rotated);
    assert_eq!(answers(&caller).await.0, 200);
    node.json(&["callers", "revoke", "app"]);
    until_refused(&caller).await;
    assert_eq!(node.refused(&["callers", "revoke", "app"]), "caller_not_found");
    assert_eq!(node.refused(&["callers", "revoke", "admin"]), "last_admin");
    assert_eq!(node.refused(&["callers", "add", "brief", "--role", "caller"]), "already_exists");
}

#[tokio::test]
async fn files_that_are_no_model_are_refused_with_the_cure() {
    let Some((node, _)) = serving("serve::files_that_are_no_model").await else { return };
    let refused = |name: &str, data: &[u8]| {
        let path = node.file(name, data);
        node.refused(&["deploy", path.to_str().unwrap(), "--name", "bad", "--wait"])
    };
    let good = onnx::add(1.0);
    assert_eq!(refused("empty.onnx", b""), "model_invalid");
    assert_eq!(refused("cut.onnx", &good[..good.len() / 2]), "model_invalid");
    assert_eq!(refused("model.pkl", b"\x80\x04\x95abc"), "model_invalid");
    assert_eq!(refused("model.json", b"{\"learner\": {}}"), "model_invalid");
    let mut corrupt = good.clone();
    let at = corrupt.windows(3).position(|w| w == b"Add").unwrap();
    corrupt[at..at + 3].copy_from_slice(b"Bad");
    assert_eq!(refused("corrupt.onnx", &corrupt), "load_failed");
    assert_eq!(node.refused(&["deploy", "/nowhere/m.onnx", "--name", "m"]), "file_unreadable");
    let shown = node.json(&["models", "show", "bad"]);
    assert_eq!(
        (&shown["model"]["state"], &shown["model"]["waiting"]["code"]),
        (&json!("failed"), &json!("load_failed"))
    );
    assert_eq!(node.deploy("bad", &good)["version"], 2, "a good file mends it");
}

#[tokio::test]
async fn a_new_version_that_can_not_be_loaded_leaves_the_old_one_answering() {
    let Some((node, client)) = serving("serve::a_new_version_that_can_not_be_loaded").await else { return };
    let mut corrupt = onnx::add(5.0);
    let at = corrupt.windows(3).position(|w| w == b"Add").unwrap();
    corrupt[at..at + 3].copy_from_slice(b"Bad");
    let path = node.file("corrupt.onnx", &corrupt);
    assert_eq!(node.refused(&["deploy", path.to_str().unwrap(), "--name", "add", "--wait"]), "load_failed");
    let (status, answer) = client.infer("add", &onnx::add_request()).await;
    assert_eq!((status, &answer["outputs"][0]["data"][0], &answer["model_version"]), (200, &json!(11.0), &json!("1")));
}

#[tokio::test]
async fn security_off_answers_anybody_on_loopback_only() {
    if setup::onnxruntime().is_none() {
        return setup::skip("serve::security_off", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let mut node = Node::new(BINARY).with(&["--security", "off"]);
    node.up().await;
    node.deploy("add", &onnx::add(10.0));
    let client = node.client();
    assert!(client.url().starts_with("http://127.0.0.1:"));
    assert_eq!(client.infer("add", &onnx::add_request()).await.0, 200);
    let output = node.cli(&[
        "up",
        "--security",
        "off",
        "--listen",
        "0.0.0.0:0",
        "--data-dir",
        node.scratch().join("b").to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("loopback only"));
}

#[tokio::test]
async fn what_deploy_prints_works_as_printed() {
    let Some((node, _)) = serving("serve::what_deploy_prints").await else { return };
    let path = node.file("again.onnx", &onnx::add(10.0));
    let output = node.cli(&["deploy", path.to_str().unwrap(), "--name", "add", "--wait"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    let sample = node.cli(&["models", "sample", "add"]).stdout;
    node.file("request.json", &sample);
    let script = &printed[printed.find("python3 - <<'EOF'").unwrap()..];
    let ran = std::process::Command::new("sh").arg("-c").arg(script).current_dir(node.scratch()).output().unwrap();
    let answer = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(answer.contains("[10.0, 10.0, 10.0, 10.0]"), "{answer}{}", String::from_utf8_lossy(&ran.stderr));
}

#[tokio::test]
async fn quotas_of_a_namespace_bound_deploys_and_predictions() {
    if setup::onnxruntime().is_none() {
        return setup::skip("serve::quotas", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let mut node = Node::start(BINARY).await;
    node.json(&["namespaces", "set", "default", "--models", "1", "--rows-per-day", "3", "--storage", "1KiB"]);
    node.deploy("add", &onnx::add(1.0));
    let file = node.file("other.onnx", &onnx::add(2.0));
    let deploy = ["deploy", file.to_str().unwrap(), "--name", "other", "--wait"];
    assert_eq!(node.refused(&deploy), "quota_exceeded", "one model");
    node.json(&["namespaces", "set", "default", "--rows-per-day", "3", "--storage", "120B"]);
    assert_eq!(node.refused(&deploy), "quota_exceeded", "one file's bytes");
    node.json(&["namespaces", "set", "default", "--rows-per-day", "3"]);
    node.json(&deploy);
    let body = json!({ "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] }] });
    let client = node.client();
    for _ in 0..3 {
        assert_eq!(client.infer("add", &body).await.0, 200);
    }
    let (status, refusal) = client.infer("other", &body).await;
    assert_eq!((status, refusal["code"].as_str()), (429, Some("quota_exceeded")), "{refusal}");
    // A restart does not begin the day anew.
    assert!(node.stop());
    node.up().await;
    let client = node.client();
    let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
    while client.get("/v2/models/add/ready").await.0 != 200 {
        assert!(tokio::time::Instant::now() < until, "{}", node.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(client.infer("add", &body).await.0, 429);
    node.json(&["namespaces", "reset", "default"]);
    assert_eq!(client.infer("add", &body).await.0, 200);
}
