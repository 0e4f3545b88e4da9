//! A model server can do what it must and nothing else; it says so itself, by the real start path.

use std::fs;

use serde_json::json;
use testkit::{Node, onnx, setup};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");

#[tokio::test]
async fn a_model_server_is_denied_all_it_does_not_need_and_serves() {
    if setup::onnxruntime().is_none() {
        return setup::skip("sandbox", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let lacking = sandbox::probe();
    if !lacking.is_empty() {
        return setup::skip("sandbox", &format!("this kernel can't confine: {lacking:?}"));
    }
    let mut node = Node::new(BINARY);
    fs::create_dir(node.dir()).unwrap();
    fs::write(node.dir().join("mantlet.toml"), "[model-server]\nsandbox = \"required\"\n").unwrap();
    node.up().await;
    node.deploy("add", &onnx::add(10.0));
    let (status, answer) = node
        .client()
        .infer(
            "add",
            &json!({ "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] }] }),
        )
        .await;
    assert_eq!((status, &answer["outputs"][0]["data"]), (200, &json!([11.0, 12.0, 13.0, 14.0])), "it still serves");

    let log = node.log();
    let line = log.lines().find(|line| line.contains("confined attempts=")).expect(&log);
    let dir = node.dir();
    for (what, verdict) in [
        ("open a network socket".to_owned(), "EPERM by seccomp"),
        (format!("read {}", dir.join("catalog.db").display()), "EACCES by landlock"),
        (format!("read {}", dir.join("ca.key").display()), "EACCES by landlock"),
        (format!("read {}", dir.join("artefacts/bundles").display()), "EACCES by landlock"),
        ("write a file".to_owned(), "EACCES by landlock"),
        ("start a program".to_owned(), "EPERM by seccomp"),
        ("signal its parent".to_owned(), "EPERM by seccomp"),
    ] {
        assert!(line.contains(&format!("{what}: {verdict}")), "{what}: {line}");
    }
    let server = node.model_servers()[0];
    let status = fs::read_to_string(format!("/proc/{server}/status")).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!((field("Seccomp:"), field("NoNewPrivs:")), ("2".to_owned(), "1".to_owned()));
    let limits = fs::read_to_string(format!("/proc/{server}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let environment = fs::read(format!("/proc/{server}/environ")).unwrap();
    assert_eq!(String::from_utf8_lossy(&environment), "MIMALLOC_ARENA_EAGER_COMMIT=0\0ORT_DISABLE_TELEMETRY=1\0");
}
