//! A damaged data directory: a refusal that names the file and says what to do, or a recovery that is whole and said.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
    process::Stdio,
    time::Duration,
};

use futures::{StreamExt as _, channel::oneshot};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use testkit::{Node, node::Client, onnx, setup};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");

/// A file of a bundle, and what is done to it.
type Damage = (&'static str, fn(&Path));

/// What a node says that does not start: code, message and hint in one line, after whatever it logged.
fn start_refused(node: &Node) -> String {
    let mut command = node.command();
    command.args(["up", "--listen", "127.0.0.1:0", "--output", "json"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let since = tokio::time::Instant::now();
    while child.try_wait().unwrap().is_none() {
        if since.elapsed() > testkit::node::PATIENCE || node.dir().join("client.json").exists() {
            child.kill().unwrap();
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "it must not start: {said}");
    assert!(!said.contains("panicked"), "{said}");
    let error: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert!(error["error"]["hint"].is_string(), "no hint: {error}");
    error.to_string()
}

/// What `doctor` finds at this check.
fn doctor(node: &Node, check: &str) -> Value {
    let output = node.cli(&["doctor", "--output", "json"]);
    let checks: Value = serde_json::from_slice(&output.stdout).unwrap();
    checks.as_array().unwrap().iter().find(|found| found["check"] == check).unwrap().clone()
}

/// Puts a good database in the place of a damaged one, and of what a start made of that.
fn put_back(path: &Path, good: &[u8]) {
    for end in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", path.display()));
    }
    fs::write(path, good).unwrap();
}

async fn run(path: &Path, statement: &str) {
    let mut file = SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut file).await.unwrap();
    file.close().await.unwrap();
}

async fn number(path: &Path, query: &'static str) -> u64 {
    let mut file = SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    let number: i64 = sqlx::query_scalar(query).fetch_one(&mut file).await.unwrap();
    file.close().await.unwrap();
    u64::try_from(number).unwrap()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < until, "{what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn predict(client: &Client) -> String {
    let (status, answer) = client.infer("add", &onnx::add_request()).await;
    assert_eq!(status, 200, "{answer}");
    answer["id"].as_str().unwrap().to_owned()
}

async fn ledger(client: &Client) -> Vec<Value> {
    let (status, page) = client.get("/v1/ledger?limit=10000").await;
    assert_eq!(status, 200, "{page}");
    let records = page["records"].as_array().unwrap().iter();
    records.map(|line| serde_json::from_str(line.as_str().unwrap()).unwrap()).collect()
}

fn verify(node: &Node, export: &Path) -> Result<(), String> {
    let key = node.dir().join("log.key");
    let output = node.cli(&["audit", "verify", export.to_str().unwrap(), "--key", key.to_str().unwrap()]);
    if output.status.success() { Ok(()) } else { Err(String::from_utf8(output.stderr).unwrap()) }
}

#[tokio::test]
async fn a_damaged_page_of_the_catalog_is_found_before_anything_is_served_from_it() {
    let mut node = Node::start(BINARY).await;
    for n in 0..40 {
        let body = json!({ "name": format!("c{n}"), "roles": ["caller"] });
        assert_eq!(node.client().post("/v1/callers", &body).await.0, 200);
    }
    node.json(&["--namespace", "bank", "callers", "add", "teller", "--role", "caller"]);
    assert!(node.stop(), "{}", node.log());
    let path = node.dir().join("catalog.db");
    assert_eq!(doctor(&node, "catalog.db")["state"], "ok");
    let good = fs::read(&path).unwrap();
    let page = number(&path, "PRAGMA page_size").await;
    let root = number(&path, "SELECT rootpage FROM sqlite_schema WHERE name = 'document'").await;
    let leaf = (2..=good.len() as u64 / page)
        .find(|number| *number != root && good[usize::try_from((number - 1) * page).unwrap()] == 0x0a)
        .expect("the documents fill more than one page");
    for place in [0, (root - 1) * page, (leaf - 1) * page] {
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[0xee; 300], place).unwrap();
        let said = start_refused(&node);
        assert!(said.contains("storage_unavailable") && said.contains("catalog.db"), "{place}: {said}");
        assert!(said.contains("restore BACKUP"), "{place}: {said}");
        let found = doctor(&node, "catalog.db");
        assert_eq!(found["state"], "failed", "{place}: {found}");
        assert!(found["hint"].as_str().unwrap().contains("restore BACKUP"), "{found}");
        fs::write(&path, &good).unwrap();
    }
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert!(start_refused(&node).contains("catalog.db"), "cut in half");
    // An empty one would be filled anew; nobody would be known any more, and new changes would get no record.
    fs::write(&path, b"").unwrap();
    let said = start_refused(&node);
    assert!(said.contains("catalog.db is older than ledger.db, or was made anew"), "{said}");
    // A page that reads well and holds nonsense: whoever needs it is told, the others are answered.
    put_back(&path, &good);
    run(&path, "UPDATE document SET value = CAST('{' AS BLOB) WHERE collection = 'caller' AND key = 'bank/teller'")
        .await;
    node.up().await;
    assert_eq!(node.refused(&["--namespace", "bank", "callers", "list"]), "storage_unavailable");
    assert_eq!(node.json(&["callers", "list"]).as_array().unwrap().len(), 41);
}

#[tokio::test]
async fn a_torn_ledger_is_found_at_the_start() {
    let mut node = Node::start(BINARY).await;
    let path = node.dir().join("ledger.db");
    let early = node.client().request(Method::GET, "/v1/log/checkpoint").send().await.unwrap().text().await.unwrap();
    let size = early.lines().nth(1).unwrap().to_owned();
    assert!(node.stop(), "{}", node.log());
    let older = fs::read(&path).unwrap();
    node.up().await;
    for n in 0..30 {
        node.client().post("/v1/callers", &json!({ "name": format!("c{n}"), "roles": ["caller"] })).await;
    }
    assert!(node.stop(), "{}", node.log());
    let good = fs::read(&path).unwrap();

    let old_checkpoint = format!("UPDATE head SET checkpoint = CAST('{early}' AS BLOB)");
    let old_head = format!("{old_checkpoint}, size = {size}");
    for (statement, what) in [
        ("UPDATE hash SET hash = zeroblob(32) WHERE position = (SELECT max(position) FROM hash)", "does not fit"),
        ("DELETE FROM hash WHERE position = (SELECT max(position) FROM hash)", "hashes are missing"),
        ("DELETE FROM record WHERE position = (SELECT max(position) FROM record)", "is missing"),
        (
            "UPDATE record SET data = CAST('{}' AS BLOB) WHERE position = (SELECT max(position) FROM record)",
            "does not fit",
        ),
        (&old_checkpoint, "does not fit"),
        (&old_head, "behind the"),
    ] {
        run(&path, statement).await;
        let said = start_refused(&node);
        assert!(said.contains("storage_unavailable") && said.contains("ledger"), "{statement}: {said}");
        assert!(said.contains(what) && said.contains("restore BACKUP"), "{statement}: {said}");
        assert_eq!(doctor(&node, "ledger.db")["state"], "failed", "{statement}");
        fs::write(&path, &good).unwrap();
    }
    fs::write(&path, &good[..good.len() - 4096]).unwrap();
    assert!(start_refused(&node).contains("ledger.db"), "cut");
    // Whole in itself, and yet not the one that the catalog's records went to.
    fs::write(&path, &older).unwrap();
    let said = start_refused(&node);
    assert!(said.contains("ledger.db is older than catalog.db"), "{said}");
    fs::remove_file(&path).unwrap();
    assert!(start_refused(&node).contains("ledger.db is older than catalog.db, or was made anew"));

    // Deep inside, where no start looks: nothing is served from it as if it were whole, and doctor finds it.
    for statement in ["UPDATE hash SET hash = zeroblob(32) WHERE position = 0", "DELETE FROM record WHERE position = 1"]
    {
        put_back(&path, &good);
        run(&path, statement).await;
        let found = doctor(&node, "ledger.db");
        assert_eq!(found["state"], "failed", "{statement}: {found}");
    }
    node.up().await;
    let (status, refusal) = node.client().get("/v1/ledger?limit=100").await;
    assert_eq!((status, refusal["code"].as_str()), (503, Some("storage_unavailable")), "{refusal}");
    assert!(refusal["detail"].as_str().unwrap().contains("record 1 is missing"), "{refusal}");
    assert_eq!(node.client().get("/v2/models").await.0, 200, "the rest is answered");
    assert!(node.stop());
    fs::write(&path, &good).unwrap();
    node.up().await;
    let export = node.scratch().join("export");
    node.json(&["audit", "export", export.to_str().unwrap()]);
    verify(&node, &export).unwrap();
    assert_eq!(doctor(&node, "ledger.db")["state"], "ok");

    // A tile that is cut, or that calls itself wider or narrower than it is.
    let folder = export.join("tile/0/000.p");
    let tile = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let (whole, width) =
        (fs::read(&tile).unwrap(), tile.file_name().unwrap().to_str().unwrap().parse::<u64>().unwrap());
    for length in [0, 1, whole.len() - 32, whole.len() - 1] {
        fs::write(&tile, &whole[..length]).unwrap();
        assert!(verify(&node, &export).unwrap_err().contains("ledger_invalid"), "{length}");
    }
    fs::write(&tile, &whole).unwrap();
    for other in [width - 1, width + 1] {
        let named = folder.join(other.to_string());
        fs::rename(&tile, &named).unwrap();
        assert!(verify(&node, &export).unwrap_err().contains("ledger_invalid"), "{other}");
        fs::rename(&named, &tile).unwrap();
    }
    verify(&node, &export).unwrap();
}

#[tokio::test]
async fn what_an_upload_left_half_written_goes() {
    let mut node = Node::start(BINARY).await;
    let staging = node.dir().join("artefacts/staging");
    let staged = || fs::read_dir(&staging).unwrap().count();
    let client = node.client();
    let (cut, wait) = oneshot::channel::<()>();
    let first = futures::stream::iter([Ok(vec![1_u8; 100_000])]);
    let rest = futures::stream::once(async { wait.await.map_or_else(|_| Ok(Vec::new()), |()| Err("the line is cut")) });
    let upload = client.request(Method::PUT, "/v1/uploads").body(reqwest::Body::wrap_stream(first.chain(rest)));
    let upload = tokio::spawn(async move { client.try_send(upload).await });
    until("the upload has begun", async || staged() == 1).await;
    cut.send(()).unwrap();
    upload.await.unwrap().unwrap_err();
    until("nothing of it stays", async || staged() == 0).await;

    // What a kill leaves is cleared by the next start.
    node.kill();
    fs::write(staging.join("0123456789abcdef"), b"half of a mod").unwrap();
    fs::create_dir(staging.join("0123456789abcdef.bundle")).unwrap();
    fs::write(staging.join("0123456789abcdef.bundle/model.onnx"), b"half").unwrap();
    node.up().await;
    assert_eq!(staged(), 0);
}

#[tokio::test]
async fn a_bundle_that_is_not_whole_is_not_loaded_and_is_mended_by_a_deploy() {
    if setup::onnxruntime().is_none() {
        return setup::skip("damage::a_bundle", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let mut node = Node::start(BINARY).await;
    let digest = node.deploy("add", &onnx::add(10.0))["digest"].as_str().unwrap().to_owned();
    let bundle = node.dir().join("artefacts/bundles").join(digest);
    let damages: [Damage; 4] = [
        ("model.onnx", |path| fs::remove_file(path).unwrap()),
        ("model.onnx", |path| fs::write(path, &fs::read(path).unwrap()[..20]).unwrap()),
        ("model.sig", |path| fs::write(path, &fs::read(path).unwrap()[..20]).unwrap()),
        ("manifest.json", |path| fs::write(path, b"").unwrap()),
    ];
    for (number, (name, damage)) in damages.into_iter().enumerate() {
        node.kill();
        damage(&bundle.join(name));
        node.up().await;
        let client = node.client();
        until("the model is not loaded", async || {
            let (status, shown) = client.get("/v1/models/add").await;
            assert_eq!(status, 200, "{shown}");
            let state = shown["model"]["state"].as_str().unwrap().to_owned();
            assert_ne!(state, "ready", "{number}");
            state == "failed" && shown["model"]["waiting"]["code"] == "bundle_untrusted"
        })
        .await;
        node.deploy("add", &onnx::add(10.0));
        predict(&client).await;
    }
}

#[tokio::test]
async fn a_small_file_that_is_damaged_is_named() {
    let mut node = Node::start(BINARY).await;
    assert!(node.stop());
    let half = |name: &str| {
        let whole = fs::read(node.dir().join(name)).unwrap();
        whole[..whole.len() / 2].to_vec()
    };
    let damages = [
        ("ca.key", half("ca.key"), "data_dir_unusable"),
        ("ca.key", Vec::new(), "data_dir_unusable"),
        ("log.secret", b"\xff\xfe no secret".to_vec(), "data_dir_unusable"),
        ("log.secret", half("log.secret"), "data_dir_unusable"),
        ("bundle.key", Vec::new(), "data_dir_unusable"),
        ("mantlet.toml", b"\x00]] not = = toml".to_vec(), "settings_invalid"),
        ("mantlet.toml", b"\xff\xfe".to_vec(), "file_unreadable"),
        ("events.db", b"no database, and long enough to be looked at as one".repeat(100), "storage_unavailable"),
    ];
    for (name, damaged, code) in damages {
        let path = node.dir().join(name);
        let good = fs::read(&path).ok();
        fs::write(&path, &damaged).unwrap();
        let said = start_refused(&node);
        assert!(said.contains(code) && said.contains(name), "{name}: {said}");
        assert_eq!(fs::read(&path).unwrap(), damaged, "{name} is left as it was found");
        match good {
            Some(good) => fs::write(&path, good).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    }
    // A new key can't stand in for one that is gone.
    for name in ["ca.key", "bundle.key", "log.secret"] {
        let (path, aside) = (node.dir().join(name), node.dir().join("aside"));
        fs::rename(&path, &aside).unwrap();
        let said = start_refused(&node);
        assert!(said.contains(name) && said.contains("it is missing") && said.contains("backup"), "{name}: {said}");
        fs::rename(&aside, &path).unwrap();
    }
    // What the node makes anew by itself.
    for name in ["ca.pem", "admin.token", "admin.header", "client.json", "bundle.pub", "log.key"] {
        fs::write(node.dir().join(name), b"garbage\xff").unwrap();
    }
    node.up().await;
    assert_eq!(node.json(&["callers", "list"]).as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_node_without_its_events_goes_on_and_says_what_is_lost() {
    if setup::onnxruntime().is_none() {
        return setup::skip("damage::events", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let mut node = Node::start(BINARY).await;
    node.deploy("add", &onnx::add(10.0));
    let before = predict(&node.client()).await;
    node.json(&["audit", "prove", &before]);
    assert!(node.stop());
    let path = node.dir().join("events.db");
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    let said = start_refused(&node);
    assert!(said.contains("moved away, the node starts without it"), "{said}");
    fs::remove_file(&path).unwrap();
    assert_eq!(doctor(&node, "events.db")["state"], "failed");
    node.up().await;
    let client = node.client();
    client.until_answers("add", &onnx::add_request()).await;
    let after = predict(&client).await;
    node.json(&["audit", "prove", &after]);
    assert_eq!(node.refused(&["audit", "prove", &before]), "prediction_not_found");
    let gap = |record: &&Value| {
        record["action"] == "predictions.gap"
            && record["detail"]["reason"].as_str().unwrap().contains("with their file")
    };
    assert_eq!(ledger(&client).await.iter().filter(gap).count(), 1);
    assert!(node.log().contains("was events.db lost?"), "{}", node.log());
}

#[tokio::test]
async fn predictions_after_the_clock_was_set_back_are_found_and_proved() {
    if setup::onnxruntime().is_none() {
        return setup::skip("damage::clock", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let mut node = Node::start(BINARY).await;
    node.deploy("add", &onnx::add(10.0));
    let client = node.client();
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..1_200 {
        assert!(ids.insert(predict(&client).await));
    }
    node.json(&["audit", "prove", ids.last().unwrap()]);
    assert!(node.stop());
    // The node's clock was an hour ahead when it stored them.
    run(&node.dir().join("events.db"), "UPDATE event SET at = at + 3600000").await;
    node.up().await;
    let client = node.client();
    client.until_answers("add", &onnx::add_request()).await;
    for _ in 0..5 {
        let id = predict(&client).await;
        assert!(ids.insert(id.clone()), "an id is used once");
        node.json(&["audit", "prove", &id]);
    }
    for id in [ids.first().unwrap(), ids.iter().nth(1_199).unwrap()] {
        node.json(&["audit", "prove", id]);
    }
    let found = node.json(&["replay", "--last", "5"]);
    assert_eq!(found["mismatches"], 0, "{found}");
    let export = node.scratch().join("export");
    node.json(&["audit", "export", export.to_str().unwrap()]);
    verify(&node, &export).unwrap();
}
