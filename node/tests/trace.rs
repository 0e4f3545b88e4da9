//! Traces as a collector gets them, and exemplars that lead from a metric to a trace.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::{fs, process::Stdio};

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{
    Node,
    collector::{Collector, Span},
    node::Client,
    onnx, setup,
};
use types::{DataType, Tensor};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: u64 = 0x00f0_67aa_0ba9_02b7;
const STEPS: [&str; 7] = ["identify", "authorize", "assess", "route", "balance", "forward", "record"];
/// A value and an id that must not be found in a span.
const SECRET: f32 = 48_611.375;
const OWN_ID: &str = "patient-4711";

/// A node that exports spans there; none by chance.
async fn exporting(url: &str, arguments: &[&str]) -> Node {
    let node = Node::new(BINARY);
    let settings = node.file("traces.toml", format!("[node]\notlp = \"{url}\"\notlp-share = \"0%\"").as_bytes());
    let mut node = node.with(&["--config", settings.to_str().unwrap()]).with(arguments);
    node.up().await;
    node
}

/// The same with the model `add`, and a collector; nothing where ONNX Runtime is missing.
async fn traced(test: &str) -> Option<(Node, Collector)> {
    if setup::onnxruntime().is_none() {
        setup::skip(test, "ONNX Runtime's library is not set up: cargo xtask setup");
        return None;
    }
    let collector = Collector::start().await;
    let node = exporting(&collector.url(), &[]).await;
    node.deploy("add", &onnx::add(10.0));
    Some((node, collector))
}

fn request() -> Value {
    json!({ "id": OWN_ID, "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": [SECRET, 0, 0, 0] }] })
}

fn sampled(trace: &str) -> String {
    format!("00-{trace}-{PARENT:016x}-01")
}

/// Asks for a prediction with this `traceparent`; its status.
async fn ask(client: &Client, model: &str, traceparent: &str, body: &Value) -> u16 {
    let request = client.request(Method::POST, &format!("/v2/models/{model}/infer")).json(body);
    client.send(request.header("traceparent", traceparent)).await.0
}

async fn by_trace(collector: &Collector, trace: &str) -> Vec<Span> {
    collector.trace(|root| root.trace() == trace).await
}

/// Names of the root's children in the order of their time; each is inside the root's, and none overlaps the next.
fn steps(spans: &[Span]) -> Vec<&str> {
    let root = &spans[0];
    let mut steps: Vec<&Span> =
        spans.iter().filter(|span| span.message.parent_span_id == root.message.span_id).collect();
    steps.sort_by_key(|span| span.time().0);
    let mut at = root.time().0;
    for step in &steps {
        let (began, ended) = step.time();
        assert!(at <= began && began <= ended && ended <= root.time().1, "{steps:#?}");
        at = ended;
    }
    steps.iter().map(|span| span.name()).collect()
}

#[tokio::test]
async fn a_sampled_prediction_is_one_trace_with_every_step_and_attempt() {
    let Some((node, collector)) = traced("trace::a_sampled_prediction").await else { return };
    assert_eq!(ask(&node.client(), "add", &sampled(TRACE), &request()).await, 200);
    let spans = by_trace(&collector, TRACE).await;
    let root = &spans[0];
    assert_eq!(root.message.parent_span_id, PARENT.to_be_bytes());
    assert_eq!((root.message.kind, root.message.flags), (2, 0x301), "a server's span below a remote one");
    assert_eq!(steps(&spans), STEPS);
    assert_eq!(spans.len(), 1 + STEPS.len() + 1, "{spans:#?}");
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/v2/models/{model}/infer"),
        ("http.response.status_code", "200"),
        ("mantlet.namespace", "default"),
        ("mantlet.model", "add"),
        ("mantlet.version", "1"),
        ("mantlet.caller", "admin"),
        ("mantlet.rows", "1"),
        ("mantlet.batch", "1"),
        ("mantlet.refusal", ""),
    ] {
        assert_eq!(root.get(name), value, "{name}: {root:#?}");
    }
    assert_eq!(root.get("mantlet.prediction").len(), 36);
    let resource = ["service.name", "service.instance.id", "service.version"].map(|name| root.resource[name].as_str());
    assert_eq!(resource, ["mantlet", "g0", env!("CARGO_PKG_VERSION")]);

    let forward = spans.iter().find(|span| span.name() == "forward").unwrap();
    let attempt = spans.iter().find(|span| span.name() == "attempt").unwrap();
    assert_eq!(attempt.message.parent_span_id, forward.message.span_id);
    assert!(forward.time().0 <= attempt.time().0 && attempt.time().1 <= forward.time().1);
    assert_eq!(
        ["mantlet.attempt", "mantlet.outcome", "mantlet.version"].map(|name| attempt.get(name)),
        ["first", "answered", "1"]
    );
    assert!(!attempt.get("mantlet.replica").is_empty());
    for timed in ["mantlet.queue_seconds", "mantlet.compute_seconds"] {
        assert!(attempt.get(timed).parse::<f64>().is_ok_and(|seconds| (0.0..60.0).contains(&seconds)), "{attempt:#?}");
    }

    let bytes = collector.bytes();
    let has = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    let client: Value = serde_json::from_slice(&fs::read(node.dir().join("client.json")).unwrap()).unwrap();
    let token = client["token"].as_str().unwrap();
    assert!(has(b"mantlet.caller") && token.len() > 20);
    assert!(!has(token.as_bytes()) && !has(b"Bearer") && !has(OWN_ID.as_bytes()));
    assert!(
        !has(SECRET.to_string().as_bytes()) && !has(&SECRET.to_le_bytes()) && !has(&f64::from(SECRET).to_le_bytes())
    );
    assert!(!has(&(SECRET + 10.0).to_le_bytes()) && !has((SECRET + 10.0).to_string().as_bytes()));
}

#[tokio::test]
async fn whoever_is_not_sampled_leaves_no_span() {
    let Some((node, collector)) = traced("trace::whoever_is_not_sampled").await else { return };
    let client = node.client();
    for traceparent in
        [format!("00-{TRACE}-{PARENT:016x}-00"), "00-nonsense".into(), format!("ff-{TRACE}-{PARENT:016x}-01")]
    {
        assert_eq!(ask(&client, "add", &traceparent, &request()).await, 200, "{traceparent}");
    }
    assert_eq!(client.infer("add", &request()).await.0, 200);
    // What came before would have been sent before.
    let last = "00000000000000000000000000000007";
    assert_eq!(ask(&client, "add", &sampled(last), &request()).await, 200);
    by_trace(&collector, last).await;
    assert!(node.log().contains("listens"), "{}", node.log());
    assert!(collector.spans().iter().all(|span| span.trace() == last));
}

#[tokio::test]
async fn refusals_are_traced_with_their_codes() {
    let Some((node, collector)) = traced("trace::refusals").await else { return };
    let client = node.client();
    let mut broken = onnx::add(5.0);
    let at = broken.windows(3).position(|w| w == b"Add").unwrap();
    broken[at..at + 3].copy_from_slice(b"Bad");
    let path = node.file("broken.onnx", &broken);
    node.refused(&["deploy", path.to_str().unwrap(), "--name", "broken", "--wait"]);
    let soon = json!({ "parameters": { "timeout": 50_000 }, "inputs": request()["inputs"] });
    for (number, client, model, body, (status, code, entered)) in [
        (1, client.with_token("mnt_none"), "add", &request(), (401, "credential_invalid", &["identify", "record"][..])),
        (
            2,
            client.clone(),
            "nothing",
            &request(),
            (404, "model_not_found", &["identify", "authorize", "assess", "record"]),
        ),
        (
            3,
            client.clone(),
            "broken",
            &soon,
            (503, "model_not_ready", &["identify", "authorize", "assess", "route", "balance", "record"]),
        ),
    ] {
        let trace = format!("{number:032x}");
        assert_eq!(ask(&client, model, &sampled(&trace), body).await, status);
        let spans = by_trace(&collector, &trace).await;
        let root = &spans[0];
        assert_eq!(steps(&spans), entered);
        let said = ["http.response.status_code", "mantlet.refusal", "error.type"].map(|name| root.get(name));
        assert_eq!(said, [&status.to_string(), code, code]);
        assert_eq!(root.message.status.is_some(), status == 503, "what a client did wrong is no error of ours");
        let refused = spans.iter().find(|span| span.name() == entered[entered.len() - 2]).unwrap();
        assert_eq!(refused.get("error.type"), code, "{spans:#?}");
    }
}

#[tokio::test]
async fn grpc_predictions_are_traced_too() {
    let Some((node, collector)) = traced("trace::grpc").await else { return };
    let input = || {
        let data: Vec<u8> = [SECRET, 0.0, 0.0, 0.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        vec![Tensor::new("x", DataType::Fp32, vec![1, 4], data.into()).unwrap()]
    };
    for (number, model, status, last) in [(1, "add", "0", "forward"), (2, "nothing", "5", "assess")] {
        let trace = format!("{number:032x}");
        let call = node.client_h2().grpc_infer(model, input()).header("traceparent", sampled(&trace));
        assert_eq!(call.send().await.unwrap().bytes().await.unwrap().is_empty(), model == "nothing");
        let spans = by_trace(&collector, &trace).await;
        let said = ["rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code"].map(|name| spans[0].get(name));
        assert_eq!(said, ["grpc", "inference.GRPCInferenceService", "ModelInfer", status]);
        assert_eq!(spans[0].message.parent_span_id, PARENT.to_be_bytes());
        let steps = steps(&spans);
        assert_eq!(steps[steps.len() - 2..], [last, "record"]);
    }
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_no_prediction() {
    if setup::onnxruntime().is_none() {
        return setup::skip(
            "trace::a_collector_that_is_away",
            "ONNX Runtime's library is not set up: cargo xtask setup",
        );
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let node = exporting(&format!("http://{closed}"), &[]).await;
    node.deploy("add", &onnx::add(10.0));
    let client = node.client();
    let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
    let mut lost = 0;
    while lost == 0 {
        assert!(tokio::time::Instant::now() < until, "no loss is counted:\n{}", node.log());
        assert_eq!(ask(&client, "add", &sampled(TRACE), &request()).await, 200);
        let text = client.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("mantlet_gateway_spans_lost_total "));
        lost = line.unwrap().parse().unwrap();
    }
    assert_eq!(node.log().matches("spans can't be exported").count(), 1, "{}", node.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_gateway_of_a_split_node_exports_its_own() {
    let collector = Collector::start().await;
    let node = exporting(&collector.url(), &["--split", "--listen", "127.0.0.1:0"]).await;
    for (number, client) in node.clients().into_iter().enumerate() {
        let trace = format!("{:032x}", number + 1);
        assert_eq!(ask(&client, "nothing", &sampled(&trace), &request()).await, 404);
        assert_eq!(by_trace(&collector, &trace).await[0].resource["service.instance.id"], format!("g{number}"));
    }
}

#[tokio::test]
async fn exemplars_lead_from_a_bucket_to_its_trace() {
    let Some((node, _collector)) = traced("trace::exemplars").await else { return };
    let client = node.client();
    assert_eq!(ask(&client, "add", &sampled(TRACE), &request()).await, 200);
    let get = async |accept: &str| {
        let response = client.request(Method::GET, "/metrics").header("accept", accept).send().await.unwrap();
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        (kind, response.text().await.unwrap())
    };
    let (kind, plain) = get("text/plain").await;
    assert!(kind.starts_with("text/plain") && !plain.contains(TRACE) && !plain.contains("# EOF"));
    let (kind, text) = get("application/openmetrics-text;version=1.0.0,text/plain;q=0.5").await;
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    assert!(text.ends_with("# EOF\n") && !text.contains("\n\n"), "{text}");
    let exemplar = format!(" # {{trace_id=\"{TRACE}\"}} ");
    for step in STEPS {
        let bucket = format!("mantlet_gateway_step_seconds_bucket{{step=\"{step}\",le=\"");
        let found = text.lines().filter(|line| line.starts_with(&bucket) && line.contains(&exemplar)).count();
        assert_eq!(found, 1, "{step}: {text}");
    }
    let whole = text.lines().filter(|line| line.starts_with("mantlet_gateway_request_seconds_bucket"));
    assert_eq!(whole.filter(|line| line.contains(&exemplar)).count(), 1);
    parsed(&text);
}

/// The text must please other people's parser of OpenMetrics, where Python is set up.
fn parsed(text: &str) {
    const CHECK: &str = "import sys\nfrom prometheus_client.openmetrics.parser import text_string_to_metric_families as read\n\
        for family in read(sys.stdin.read()):\n    for sample in family.samples:\n        exemplar = sample.exemplar\n\
        \x20       assert exemplar is None or exemplar.value <= float(sample.labels['le']), sample\n";
    let Some(python) = setup::python() else {
        return setup::skip("trace::exemplars", "the parser in Python is left out: cargo xtask setup");
    };
    let mut command = std::process::Command::new(python);
    command.args(["-c", CHECK]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
}
