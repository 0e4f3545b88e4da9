//! A data directory that is gone comes back from its backup.

use std::fs;

use serde_json::{Value, json};
use testkit::{Node, onnx, setup};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");

#[tokio::test]
async fn a_destroyed_data_directory_comes_back_from_a_backup_made_while_it_was_written() {
    if setup::onnxruntime().is_none() {
        return setup::skip("backup", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let node = Node::start(BINARY).await;
    let path = |name: &str| node.scratch().join(name).to_str().unwrap().to_owned();
    let (copy, again, export) = (path("copy"), path("again"), path("export"));
    node.deploy("add", &onnx::add(10.0));
    let body = json!({ "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] }] });
    let client = node.client();
    let (_, answer) = client.infer("add", &body).await;
    let prediction = answer["id"].as_str().unwrap().to_owned();
    node.json(&["audit", "prove", &prediction]);
    // Somebody goes on changing things meanwhile.
    let writer = {
        let client = client.clone();
        tokio::spawn(async move {
            for n in 0..200 {
                let body = json!({ "name": format!("c{n}"), "roles": ["caller"] });
                if client.post("/v1/callers", &body).await.0 != 200 {
                    return n;
                }
            }
            200
        })
    };
    let before: Vec<Value> = callers(&node);
    // The command on a thread of its own: the writer's requests run on this one.
    let node = tokio::task::spawn_blocking(move || {
        let made = node.json(&["backup", &copy]);
        assert!(made["files"].as_u64().unwrap() > 8, "{made}");
        node
    });
    let (mut node, written) = (node.await.unwrap(), writer.await.unwrap());
    assert_eq!(written, 200);
    let copy = node.scratch().join("copy");

    // A copy that was touched is refused.
    let key = copy.join("log.key");
    let good = fs::read(&key).unwrap();
    fs::write(&key, [&good[..], b" "].concat()).unwrap();
    node.kill();
    fs::remove_dir_all(node.dir()).unwrap();
    assert_eq!(node.refused(&["restore", copy.to_str().unwrap()]), "file_unreadable");
    assert!(!node.dir().join("catalog.db").exists(), "nothing is made of a copy that is not whole");
    fs::write(&key, &good).unwrap();

    node.json(&["restore", copy.to_str().unwrap()]);
    node.up().await;
    let client = node.client();
    let answer = client.until_answers("add", &body).await;
    assert_eq!(answer["outputs"][0]["data"], json!([11.0, 12.0, 13.0, 14.0]));
    node.json(&["audit", "prove", &prediction]);
    let after = callers(&node);
    assert!(after.len() >= before.len(), "whoever was there before the backup is there");
    // Every caller has its record, and changes go on being recorded.
    node.json(&["callers", "add", "later", "--role", "caller"]);
    node.json(&["audit", "export", &export]);
    let log = node.dir().join("log.key");
    assert!(node.cli(&["audit", "verify", &export, "--key", log.to_str().unwrap()]).status.success());
    let records = fs::read_to_string(node.scratch().join("export/records.ndjson")).unwrap();
    for caller in callers(&node) {
        let subject = format!("\"subject\":\"caller:default/{}\"", caller["caller"].as_str().unwrap());
        assert!(records.contains(&subject), "{subject} has no record");
    }
    assert!(records.contains("\"action\":\"node.restore\""));
    assert_eq!(node.refused(&["restore", copy.to_str().unwrap()]), "file_unreadable", "a directory in use is kept");
    assert_eq!(node.refused(&["backup", &again, "--data-dir", "/nowhere"]), "data_dir_unusable");
}

fn callers(node: &Node) -> Vec<Value> {
    node.json(&["callers", "list"]).as_array().cloned().unwrap_or_default()
}
