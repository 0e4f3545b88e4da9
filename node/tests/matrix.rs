//! Every path and method, by every role, in its own namespace, in another's, and without a credential, against a table
//! written by hand; and every denial is under a record of the ledger.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::collections::BTreeSet;

use ledger::batch;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, Row as _};
use testkit::{Node, node::Client, setup};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");
const TABLE: &str = include_str!("data/matrix.txt");
const COLUMNS: [(&str, bool); 7] = [
    ("admin", false),
    ("deployer", false),
    ("caller", false),
    ("labeller", false),
    ("auditor", false),
    ("admin", true),
    ("auditor", true),
];

struct Line {
    method: String,
    path: String,
    cells: Vec<char>,
}

fn table() -> Vec<Line> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let read = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words.len(), 2 + COLUMNS.len(), "{line}");
        let cells = words[2..].iter().map(|word| word.chars().next().unwrap()).collect();
        Line { method: words[0].to_owned(), path: words[1].to_owned(), cells }
    };
    lines.map(read).collect()
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Verdict {
    Allowed,
    NotAllowed,
    NotThere,
    Unknown,
}

/// What a path answers, reduced to whether the caller was let in.
async fn ask(client: &Client, line: &Line, namespace: Option<&str>) -> (Verdict, String) {
    let place = |text: &str| {
        text.replace("{model}", "nothing")
            .replace("{version}", "1")
            .replace("{file}", "model.onnx")
            .replace("{caller}", "nobody")
            .replace("{key}", "none")
            .replace("{fingerprint}", "00000000")
            .replace("{namespace}", "unheard-of")
            .replace("{prediction}", "01980000-0000-7000-8000-000000000000")
            .replace("{path}", "0/000.p/1")
            .replace("{challenger}", "2")
            .replace("contributors/{say}", "contributors/trust")
            .replace("{say}", "approve")
    };
    let mut request = if line.method == "grpc" {
        // One message whose first field is the model's name, as every method that has one has it.
        let message = [&[0, 0, 0, 0, 9, 0x0a, 7][..], b"nothing"].concat();
        let path = format!("/inference.GRPCInferenceService/{}", line.path);
        client.request(Method::POST, &path).header("content-type", "application/grpc").body(message)
    } else {
        let method: Method = line.method.to_uppercase().parse().unwrap();
        let path = match line.path.as_str() {
            "/v1/predictions" => "/v1/predictions?caller=nobody".to_owned(),
            path => place(path),
        };
        let request = client.request(method.clone(), &path);
        match line.path.as_str() {
            "/v1/deploys" => request.json(&json!({
                "upload": "none",
                "manifest": {
                    "apiVersion": "mantlet.dev/v1", "kind": "Model", "metadata": { "name": "nothing" },
                    "spec": { "source": { "onnx": "m.onnx" } },
                },
            })),
            "/v1/replay" => request.json(&json!({ "last": 1 })),
            "/v1/policy" if method == Method::PUT => request.body("not a policy"),
            "/v1/namespaces/{namespace}" if method == Method::PUT => request.json(&json!({})),
            _ if method == Method::POST => request.json(&json!({})),
            _ => request,
        }
    };
    if let Some(namespace) = namespace {
        request = request.header("mantlet-namespace", namespace);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let grpc = response.headers().get("grpc-status").map(|value| value.to_str().unwrap().to_owned());
    let body = response.bytes().await.unwrap();
    let text = String::from_utf8_lossy(&body).into_owned();
    let code = serde_json::from_slice::<Value>(&body).ok().and_then(|body| Some(body["code"].as_str()?.to_owned()));
    let shown = format!("{status} {grpc:?} {code:?} {}", text.chars().take(200).collect::<String>());
    let verdict = match (status, grpc.as_deref(), code.as_deref()) {
        (401, ..) | (_, Some("16"), _) => Verdict::Unknown,
        (403, ..) | (_, Some("7"), _) => Verdict::NotAllowed,
        (404, _, Some("path_not_found")) | (_, Some("12"), _) => Verdict::NotThere,
        _ if text.contains("[not_allowed]") => Verdict::NotAllowed,
        _ => Verdict::Allowed,
    };
    (verdict, shown)
}

#[tokio::test]
async fn who_may_do_what_is_what_the_table_says() {
    let mut node = Node::start(BINARY).await;
    let table = table();
    complete(&node, &table).await;
    let admin = node.client_h2();
    let mut callers = Vec::new();
    for (role, node_wide) in COLUMNS {
        let name = format!("{role}{}", if node_wide { "-wide" } else { "" });
        let (status, made) = admin
            .send(
                admin
                    .request(Method::POST, "/v1/callers")
                    .header("mantlet-namespace", "bank")
                    .json(&json!({ "name": name, "roles": [role], "node_wide": node_wide })),
            )
            .await;
        assert_eq!(status, 200, "{made}");
        callers.push((name, node_wide, admin.with_token(made["token"].as_str().unwrap())));
    }
    let nobody = admin.with_token("");
    let (mut asked, mut denied, mut wrong) = (0, 0, Vec::new());
    let mut expect = |line: &Line, who: &str, expected: Verdict, (found, shown): (Verdict, String)| {
        asked += 1;
        if found != Verdict::Allowed {
            denied += 1;
        }
        if found != expected {
            wrong
                .push(format!("{} {} by {who}: expected {expected:?}, got {found:?}: {shown}", line.method, line.path));
        }
    };
    for line in &table {
        let open = line.cells.iter().all(|cell| *cell == 'o');
        for (cell, (name, node_wide, client)) in line.cells.iter().zip(&callers) {
            let expected = if *cell == '-' { Verdict::NotAllowed } else { Verdict::Allowed };
            expect(line, name, expected, ask(client, line, None).await);
            if !node_wide {
                let expected = if open { Verdict::Allowed } else { Verdict::NotThere };
                let answer = ask(client, line, Some("clinic")).await;
                expect(line, &format!("{name} in another namespace"), expected, answer);
            }
        }
        let expected = if open { Verdict::Allowed } else { Verdict::Unknown };
        expect(line, "nobody", expected, ask(&nobody, line, None).await);
    }
    assert!(wrong.is_empty(), "{} of {asked} cells are wrong:\n{}", wrong.len(), wrong.join("\n"));
    println!("{asked} cells asked, {denied} of them denied");
    // On another thread: the clients' connections end on this one.
    let node = tokio::task::spawn_blocking(move || {
        assert!(node.stop(), "{}", node.log());
        node
    });
    let recorded = denials(&node.await.unwrap()).await;
    assert_eq!(recorded, denied, "each denial is recorded, under a record of the ledger");
}

/// A path or method without a row fails, and a row without a path too.
async fn complete(node: &Node, table: &[Line]) {
    let (status, document) = node.client().get("/openapi.json").await;
    assert_eq!(status, 200);
    let mut known = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        known.extend(methods.as_object().unwrap().keys().map(|method| format!("{method} {path}")));
    }
    let proto = std::fs::read_to_string(setup::root().join("base/rpc/proto/inference.proto")).unwrap();
    let methods = proto.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
    known.extend(methods.map(|method| format!("grpc {method}")));
    let rows: BTreeSet<String> = table.iter().map(|line| format!("{} {}", line.method, line.path)).collect();
    assert_eq!(rows, known, "the table has a row for every path, and no other");
}

/// Denials that are stored, each under a batch that has its record.
async fn denials(node: &Node) -> usize {
    let path = node.dir().join("events.db");
    let mut file = sqlx::SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    let rows =
        sqlx::query("SELECT stream, sequence, data FROM event ORDER BY sequence").fetch_all(&mut file).await.unwrap();
    file.close().await.unwrap();
    let (mut found, mut sealed, mut last) = (0, 0, 0);
    for row in rows {
        let (stream, sequence, data): (String, i64, Vec<u8>) = (row.get(0), row.get(1), row.get(2));
        if stream.starts_with("batches.") {
            let mark: Value = serde_json::from_slice(&data).unwrap();
            sealed = sealed.max(mark["next"].as_i64().unwrap());
            continue;
        }
        last = last.max(sequence);
        let event: Value = serde_json::from_slice(batch::event(&data).unwrap()).unwrap();
        let refused = event["outcome"]["refused"].as_str().unwrap_or_default();
        let codes = ["credential_missing", "not_allowed", "path_not_found"];
        found += match event["times"].as_u64() {
            Some(times) => usize::try_from(times).unwrap(),
            None => usize::from(codes.contains(&refused)),
        };
    }
    assert_eq!(sealed, last + 1, "every event is under a record");
    found
}
