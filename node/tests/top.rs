//! `mantlet top`, on one gateway and on several.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use testkit::{Node, node::Client, onnx, setup};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");

fn body() -> Value {
    json!({ "inputs": [{ "name": "x", "shape": [2, 4], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6, 7, 8] }] })
}

/// Reads refreshes until one is as wanted, while predictions are asked for.
async fn watch(node: &Node, clients: &[Client], wanted: impl Fn(&Value) -> bool) -> Value {
    let mut command = node.command();
    command.args(["top", "--interval", "200ms", "--output", "json"]).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut top = command.spawn().unwrap();
    let lines = BufReader::new(top.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line));
    let load = async {
        loop {
            for client in clients {
                client.infer("add", &body()).await;
            }
        }
    };
    let looks = async {
        let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
        loop {
            let (line, rest) = tokio::task::spawn_blocking(move || (lines.next(), lines)).await.unwrap();
            lines = rest;
            let view = line.unwrap().unwrap();
            if wanted(&view) {
                return view;
            }
            assert!(tokio::time::Instant::now() < until, "{view}");
        }
    };
    let view = tokio::select! {
        view = looks => view,
        () = load => panic!("it goes on for ever"),
    };
    let pid = rustix::process::Pid::from_raw(i32::try_from(top.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(top.wait().unwrap().success(), "an interrupt is a way to end");
    view
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_shows_what_models_do() {
    if setup::onnxruntime().is_none() {
        return setup::skip("top::it_shows_what_models_do", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let node = Node::start(BINARY).await;
    node.deploy("idle", &onnx::add(1.0));
    node.deploy("add", &onnx::add(10.0));
    let clients = [node.client()];
    let busy = |figure: &Value| figure.as_f64() > Some(0.0);
    let wanted =
        |view: &Value| busy(&view["models"][0]["requests_per_second"]) && busy(&view["node"]["answers_per_second"]);
    let view = watch(&node, &clients, wanted).await;
    let (add, idle) = (&view["models"][0], &view["models"][1]);
    assert_eq!((&add["name"], &idle["name"]), (&json!("add"), &json!("idle")), "the busiest first: {view}");
    assert!(add["p50_ms"].as_f64() > Some(0.0) && add["p99_ms"].as_f64() >= add["p50_ms"].as_f64(), "{view}");
    assert_eq!((&add["replicas_ready"], &add["replicas_wanted"], &add["batch"]), (&json!(1), &json!(1), &json!(2.0)));
    assert_eq!((&idle["requests_per_second"], &idle["p50_ms"]), (&json!(0.0), &Value::Null));
    assert_eq!((&view["total"]["replicas_ready"], &view["total"]["errors_per_second"]), (&json!(2), &json!(0.0)));

    // One look, also where nobody watches; no escape sequences then.
    for arguments in [&["top", "--once", "--interval", "100ms"][..], &["top", "--interval", "100ms"]] {
        let output = node.cli(arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && !text.contains('\x1b'), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("MODEL ") && lines[0].contains("P99 MS"), "{text}");
        assert!(lines.iter().any(|line| line.starts_with("add ")) && lines[3].starts_with("all "), "{text}");
        assert!(lines.last().unwrap().starts_with("node: "), "{text}");
    }
    let once = node.cli(&["top", "--once", "--interval", "100ms", "--output", "json"]);
    assert_eq!(serde_json::from_slice::<Value>(&once.stdout).unwrap()["models"].as_array().unwrap().len(), 2);

    // Whoever may not read metrics sees the models, and asks for no more.
    let token = node.json(&["callers", "add", "eve", "--role", "caller"])["token"].as_str().unwrap().to_owned();
    let output = node.cli(&["top", "--once", "--interval", "100ms", "--output", "json", "--token", &token]);
    let view: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!((&view["node"], view["models"].as_array().map(Vec::len)), (&Value::Null, Some(2)), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_sums_over_the_gateways_of_a_node() {
    if setup::onnxruntime().is_none() {
        return setup::skip(
            "top::it_sums_over_the_gateways",
            "ONNX Runtime's library is not set up: cargo xtask setup",
        );
    }
    let mut node = Node::new(BINARY).with(&["--split", "--listen", "127.0.0.1:0"]);
    node.up().await;
    node.deploy("add", &onnx::add(10.0));
    let clients = node.clients();
    for client in &clients {
        client.until_answers("add", &body()).await;
    }
    // The second gateway alone is asked; the command line talks to the first.
    let view = watch(&node, &clients[1..], |view| view["models"][0]["requests_per_second"].as_f64() > Some(0.0)).await;
    assert!(view["node"].is_object(), "{view}");
}

#[tokio::test]
async fn a_terminal_is_drawn_on_and_given_back() {
    if setup::onnxruntime().is_none() {
        return setup::skip("top::a_terminal", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    if !Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return setup::skip("top::a_terminal", "there is no `script` to make a terminal with");
    }
    let node = Node::start(BINARY).await;
    let top = format!("{BINARY} --data-dir {} top --interval 100ms", node.dir().display());
    let mut command = Command::new("script");
    command.args(["--quiet", "--flush", "--command", &top, "/dev/null"]);
    let mut terminal = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut out, mut text, mut chunk) = (terminal.stdout.take().unwrap(), Vec::new(), [0; 4096]);
    let mut typed = terminal.stdin.take();
    while let Ok(length @ 1..) = out.read(&mut chunk) {
        text.extend_from_slice(&chunk[..length]);
        if String::from_utf8_lossy(&text).matches("\x1b[H").count() > 2
            && let Some(mut keys) = typed.take()
        {
            keys.write_all(b"\x03").unwrap();
        }
    }
    terminal.wait().unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.starts_with("\x1b[?1049h\x1b[?25l"), "{text:?}");
    assert!(text.ends_with("\x1b[?25h\x1b[?1049l"), "{text:?}");
    assert!(text.contains("REQ/S") && text.contains("P99 MS"), "{text:?}");
}
