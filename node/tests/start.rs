//! What can keep a node from starting, each with its fix.

use std::fs;

use testkit::{Node, onnx, setup};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");

#[tokio::test]
async fn a_directory_takes_one_node_and_a_port_one_program() {
    let node = Node::start(BINARY).await;
    assert_eq!(node.refused(&["up", "--listen", "127.0.0.1:0"]), "data_dir_locked");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let other = Node::new(BINARY);
    assert_eq!(other.refused(&["up", "--listen", &address]), "address_in_use");
    assert!(!other.dir().join("client.json").exists());
}

#[tokio::test]
async fn a_directory_that_can_not_be_used_is_named() {
    let node = Node::new(BINARY);
    let file = node.file("plain", b"");
    let below = file.join("node");
    assert_eq!(node.refused(&["up", "--data-dir", below.to_str().unwrap()]), "data_dir_unusable");
}

#[tokio::test]
async fn a_key_that_others_can_read_or_that_is_broken_stops_the_node() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut node = Node::start(BINARY).await;
    node.kill();
    let key = node.dir().join("bundle.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(node.refused(&["up", "--listen", "127.0.0.1:0"]), "data_dir_unusable");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&key, "no key").unwrap();
    assert_eq!(node.refused(&["up", "--listen", "127.0.0.1:0"]), "data_dir_unusable");
}

#[tokio::test]
async fn settings_that_are_wrong_are_answered_before_a_port_opens() {
    let node = Node::new(BINARY);
    let file = node.file("m.toml", b"[gateway]\ndeadlin = \"5s\"\n");
    let output = node.cli(&["up", "--config", file.to_str().unwrap()]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("did you mean `gateway.deadline`?"), "{error}");
    assert!(!node.dir().exists(), "nothing was made");
}

#[tokio::test]
async fn a_missing_library_is_said_by_doctor_and_by_deploy() {
    let node = Node::new(BINARY);
    let run = |arguments: &[&str]| {
        let mut command = node.command();
        command.env("MANTLET_MODEL_SERVER__ONNXRUNTIME", "/nowhere/libonnxruntime.so").args(arguments).output().unwrap()
    };
    let output = run(&["doctor"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("FAIL  ONNX Runtime: /nowhere/libonnxruntime.so") && text.contains("pip download"), "{text}");

    let settings = node.file("m.toml", b"[model-server]\nonnxruntime = \"/nowhere/libonnxruntime.so\"\n");
    let mut node = node.with(&["--config", settings.to_str().unwrap()]);
    // The file names the library here; the variable would win over it.
    node.up_without_library().await;
    let path = node.file("m.onnx", &onnx::add(1.0));
    assert_eq!(node.refused(&["deploy", path.to_str().unwrap(), "--name", "m", "--wait"]), "runtime_missing");
    assert!(node.runs());
}

#[tokio::test]
async fn doctor_is_content_with_a_running_node() {
    if setup::onnxruntime().is_none() {
        return setup::skip("start::doctor_is_content", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let node = Node::start(BINARY).await;
    let checks = node.json(&["doctor"]);
    let states: Vec<&str> = checks.as_array().unwrap().iter().map(|c| c["state"].as_str().unwrap()).collect();
    assert!(states.iter().all(|state| *state != "failed"), "{checks}");
    let shown = node.json(&["config", "show"]);
    assert!(shown.as_array().unwrap().iter().any(|row| row["key"] == "gateway.listen"));
}

#[tokio::test]
async fn secrets_stand_in_no_output_log_or_process_list() {
    if setup::onnxruntime().is_none() {
        return setup::skip("start::secrets", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let node = Node::start(BINARY).await;
    node.deploy("m", &onnx::add(1.0));
    let token = fs::read_to_string(node.dir().join("admin.token")).unwrap();
    let secret = token.trim().rsplit('_').next().unwrap().to_owned();
    assert!(!node.log().contains(&secret));
    for pid in node.model_servers().into_iter().chain([node.pid()]) {
        for file in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&text).contains(&secret), "{file} of {pid}");
        }
    }
    use std::os::unix::fs::PermissionsExt as _;
    for name in ["admin.token", "client.json", "ca.key", "bundle.key", "log.secret", "catalog.db"] {
        let mode = fs::metadata(node.dir().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} is its owner's alone");
    }
    assert_eq!(
        fs::read_dir(node.dir().join("run"))
            .unwrap()
            .filter(|e| e.as_ref().unwrap().path().extension() == Some("json".as_ref()))
            .count(),
        0
    );
}
