//! What was signed is what is served, and what was logged is what is exported.

use std::fs;

use access::Identity;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sqlx::Connection as _;
use testkit::{Node, issuer::Issuer, node::Client, onnx, setup};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");

#[tokio::test]
async fn a_swapped_or_unsigned_model_is_refused_by_the_model_server_itself() {
    if setup::onnxruntime().is_none() {
        return setup::skip("trust::a_swapped_model", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let mut node = Node::start(BINARY).await;
    let digest = node.deploy("add", &onnx::add(10.0))["digest"].as_str().unwrap().to_owned();
    let other = node.deploy("other", &onnx::add(66.0))["digest"].as_str().unwrap().to_owned();
    let bundles = node.dir().join("artefacts/bundles");
    let model = bundles.join(&digest).join("model.onnx");
    let good = fs::read(&model).unwrap();
    let signature = bundles.join(&digest).join("model.sig");

    let state = async |node: &mut Node| {
        node.kill();
        node.up().await;
        let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
        loop {
            let shown = node.json(&["models", "show", "add"]);
            let model = &shown["model"];
            if model["state"] != "starting" {
                return format!(
                    "{} {}",
                    model["state"].as_str().unwrap(),
                    model["waiting"]["code"].as_str().unwrap_or("-")
                );
            }
            assert!(tokio::time::Instant::now() < until, "{shown}\n{}", node.log());
        }
    };
    let mut changed = good.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&model, &changed).unwrap();
    assert_eq!(state(&mut node).await, "failed bundle_untrusted", "a changed byte");
    node.deploy("add", &onnx::add(10.0));
    assert_eq!(fs::read(&model).unwrap(), good, "the hint of the refusal mends it");
    let signed = fs::read(&signature).unwrap();
    fs::write(&model, onnx::add(66.0)).unwrap();
    assert_eq!(state(&mut node).await, "failed bundle_untrusted", "another model");
    fs::write(&model, &good).unwrap();
    fs::remove_file(&signature).unwrap();
    assert_eq!(state(&mut node).await, "failed bundle_untrusted", "no signature");
    fs::write(&signature, &signed).unwrap();
    assert_eq!(state(&mut node).await, "ready -");

    // Straight into the catalog: the wish now names the bundle of another model, which is signed, but not as `add`.
    node.kill();
    let path = node.dir().join("catalog.db");
    let mut catalog = sqlx::SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    for key in ["wish/default/add", "current/default/add"] {
        let value: Vec<u8> = sqlx::query_scalar("SELECT value FROM document WHERE collection = 'desired' AND key = ?")
            .bind(key)
            .fetch_one(&mut catalog)
            .await
            .unwrap();
        let mut value: Value = serde_json::from_slice(&value).unwrap();
        value["digest"] = json!(other);
        sqlx::query("UPDATE document SET value = ? WHERE collection = 'desired' AND key = ?")
            .bind(serde_json::to_vec(&value).unwrap())
            .bind(key)
            .execute(&mut catalog)
            .await
            .unwrap();
    }
    catalog.close().await.unwrap();
    assert_eq!(state(&mut node).await, "failed bundle_untrusted", "a swapped catalog");
}

#[tokio::test]
async fn offline_verification_catches_every_edit_of_an_export() {
    let node = Node::start(BINARY).await;
    for number in 0..40 {
        node.client().post("/v1/callers", &json!({ "name": format!("caller{number}"), "roles": ["caller"] })).await;
    }
    let (dir, key) = (node.scratch().join("export"), node.dir().join("log.key"));
    let exported = node.json(&["audit", "export", dir.to_str().unwrap()]);
    assert!(exported["records"].as_u64().unwrap() >= 42, "{exported}");
    let verify =
        |dir: &std::path::Path| node.cli(&["audit", "verify", dir.to_str().unwrap(), "--key", key.to_str().unwrap()]);
    assert!(verify(&dir).status.success());

    let mut files: Vec<_> = vec![dir.join("checkpoint"), dir.join("records.ndjson")];
    let mut folders = vec![dir.join("tile")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    let total: u64 = files.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    let seed = 7;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for edit in 0..100 {
        let mut offset = rng.random_range(0..total);
        let path = files
            .iter()
            .find(|path| {
                let length = fs::metadata(path).unwrap().len();
                let here = offset < length;
                if !here {
                    offset -= length;
                }
                here
            })
            .unwrap();
        let good = fs::read(path).unwrap();
        let mut bad = good.clone();
        bad[usize::try_from(offset).unwrap()] ^= 1 << rng.random_range(0..8);
        fs::write(path, &bad).unwrap();
        let output = verify(&dir);
        assert_eq!(output.status.code(), Some(1), "edit {edit} (seed {seed}) of {} at {offset}", path.display());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let named = error.contains("record ") || path.ends_with("checkpoint");
        assert!(named, "the record is named: {error}");
        fs::write(path, good).unwrap();
    }
    assert!(verify(&dir).status.success());
    fs::write(dir.join("extra"), "").unwrap();
    assert!(!verify(&dir).status.success(), "an extra file");
    fs::remove_file(dir.join("extra")).unwrap();

    let checkpoint = node.scratch().join("earlier");
    fs::copy(dir.join("checkpoint"), &checkpoint).unwrap();
    node.json(&["callers", "revoke", "caller1"]);
    let later = node.scratch().join("later");
    node.json(&["audit", "export", later.to_str().unwrap()]);
    let since = |dir: &std::path::Path, earlier: &std::path::Path| {
        let arguments = [
            "audit",
            "verify",
            dir.to_str().unwrap(),
            "--key",
            key.to_str().unwrap(),
            "--since",
            earlier.to_str().unwrap(),
        ];
        node.cli(&arguments).status.success()
    };
    assert!(since(&later, &checkpoint));
    assert!(!since(&dir, &later.join("checkpoint")), "a log that was cut since");
}

#[tokio::test]
async fn a_verifier_that_is_not_ours_reads_the_ledger() {
    let node = Node::start(BINARY).await;
    let Some(verifier) = setup::go_verifier(node.scratch()) else {
        return setup::skip("trust::go", "Go and golang.org/x/mod are not set up: cargo xtask setup");
    };
    let client = node.client();
    let add = async |from: u32, to: u32| {
        for n in from..to {
            let body = json!({ "name": format!("c{n}"), "roles": ["caller"] });
            assert_eq!(client.post("/v1/callers", &body).await.0, 200);
        }
    };
    let export = |name: &str| {
        let dir = node.scratch().join(name);
        node.json(&["audit", "export", dir.to_str().unwrap()]);
        dir
    };
    let go = |dir: &std::path::Path, since: Option<&std::path::Path>| {
        let mut command = std::process::Command::new(&verifier);
        command.arg("-key").arg(node.dir().join("log.key"));
        if let Some(since) = since {
            command.arg("-since").arg(since.join("checkpoint"));
        }
        let output = command.arg(dir).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() { Ok(text) } else { Err(text) }
    };
    add(0, 20).await;
    let early = export("early");
    add(20, 300).await;
    let late = export("late");
    assert!(late.join("tile/0/000").is_file(), "more than one tile");
    go(&early, None).unwrap();
    let said = go(&late, Some(&early)).unwrap();
    assert!(said.starts_with("verified 30"), "{said}");
    go(&early, Some(&late)).unwrap_err();
    let records = late.join("records.ndjson");
    let text = fs::read_to_string(&records).unwrap();
    fs::write(&records, text.replace("/c25\"", "/c26\"")).unwrap();
    assert!(go(&late, None).unwrap_err().contains("record"), "the index is named");
}

#[tokio::test]
async fn tokens_of_the_configured_issuer_are_believed_and_its_keys_rotate() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let mut node = Node::new(BINARY);
    let keys = node.file("jwks.json", json!({ "keys": [old.jwk()] }).to_string().as_bytes());
    fs::create_dir(node.dir()).unwrap();
    let settings = format!(
        "[access]\njwt-issuer = \"https://issuer.example\"\njwt-keys = \"{}\"\njwt-grants = \"caller,auditor\"\n",
        keys.display()
    );
    fs::write(node.dir().join("mantlet.toml"), settings).unwrap();
    node.up().await;
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let claims = |roles: &str, exp: u64| {
        json!({
            "iss": "https://issuer.example", "aud": "mantlet", "sub": "alice", "namespace": "bank", "roles": roles,
            "exp": exp, "iat": now,
        })
    };
    let client = node.client();
    let get = async |token: &str, path: &str| {
        let (status, answer) = client.with_token(token).get(path).await;
        (status, answer["code"].as_str().unwrap_or_default().to_owned())
    };
    let caller = old.token(&claims("caller admin", now + 300));
    assert_eq!(get(&caller, "/v2/models").await.0, 200);
    let (status, code) = get(&caller, "/v1/callers").await;
    assert_eq!((status, code.as_str()), (403, "not_allowed"), "the issuer makes no admins");
    assert_eq!(get(&old.token(&claims("auditor", now + 300)), "/v1/ledger?own=true").await.0, 200);
    let (status, code) = get(&old.token(&claims("caller", now - 120)), "/v2/models").await;
    assert_eq!((status, code.as_str()), (401, "credential_expired"));
    let (status, code) = get(&new.token(&claims("caller", now + 300)), "/v2/models").await;
    assert_eq!((status, code.as_str()), (401, "credential_invalid"));
    let other = client.with_token(&caller);
    let (status, _) =
        other.send(other.request(reqwest::Method::GET, "/v2/models").header("mantlet-namespace", "clinic")).await;
    assert_eq!(status, 404, "another namespace does not exist");

    // The issuer changes its keys: the next token that names a new one makes the node look.
    fs::write(&keys, json!({ "keys": [new.jwk()] }).to_string()).unwrap();
    let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
    while get(&new.token(&claims("caller", now + 300)), "/v2/models").await.0 != 200 {
        assert!(tokio::time::Instant::now() < until, "{}", node.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(get(&caller, "/v2/models").await.0, 401, "a key that is gone takes its tokens with it");
}

#[tokio::test]
async fn a_witness_cosigns_what_continues_and_refuses_a_log_that_was_cut_or_rewritten() {
    let mut node = Node::start(BINARY).await;
    let path = |name: &str| node.scratch().join(name).to_str().unwrap().to_owned();
    let (key, state, log_key) = (path("w.key"), path("seen"), node.dir().join("log.key").to_str().unwrap().to_owned());
    let witness = ["audit", "witness", "--key", &key, "--state", &state, "--log-key", &log_key];
    let add = |node: &Node, from: u32, to: u32| {
        for n in from..to {
            node.json(&["callers", "add", &format!("c{n}"), "--role", "caller"]);
        }
    };
    let first = node.json(&witness);
    add(&node, 0, 3);
    let second = node.json(&witness);
    assert_eq!(second["continues"], first["records"]);
    let export = path("export");
    node.json(&["audit", "export", &export]);
    let (public, other) = (path("w.pub"), path("other.pub"));
    let verify = |witness: &str| {
        node.cli(&["audit", "verify", &export, "--key", &log_key, "--since", &state, "--witness", witness])
            .status
            .success()
    };
    assert!(verify(&public));
    fs::write(&other, format!("{}\n", ledger::witness::WitnessKey::generate("mantlet-witness").unwrap().public()))
        .unwrap();
    assert!(!verify(&other), "somebody else's word");

    // The owner, who has every key, begins the log anew.
    assert!(node.stop());
    for file in ["catalog.db", "ledger.db"] {
        fs::remove_file(node.dir().join(file)).unwrap();
    }
    node.up().await;
    let kept = fs::read(&state).unwrap();
    assert_eq!(node.refused(&witness), "request_malformed", "fewer records than were cosigned");
    add(&node, 10, 20);
    assert_eq!(node.refused(&witness), "ledger_invalid", "more records, of another log");
    assert_eq!(fs::read(&state).unwrap(), kept, "what was cosigned stays");
}

#[tokio::test]
async fn a_client_certificate_lets_its_caller_in_until_the_caller_is_rotated() {
    let node = Node::start(BINARY).await;
    let make = |name: &str| {
        let out = node.scratch().join("certificates");
        let made = node.json(&["callers", "certificate", name, "--out", out.to_str().unwrap(), "--expires-in", "1h"]);
        let read = |field: &str| fs::read_to_string(made[field].as_str().unwrap()).unwrap();
        Identity { chain: read("certificate"), key: read("key").into() }
    };
    let out = node.scratch().to_str().unwrap().to_owned();
    assert_eq!(node.refused(&["callers", "certificate", "teller", "--out", &out]), "caller_not_found");
    node.json(&["callers", "add", "teller", "--role", "caller"]);
    let identity = make("teller");
    let by = |identity: &Identity| Client::certified(&node, identity);
    assert_eq!(by(&identity).get("/v2/models").await.0, 200);
    let (status, refusal) = by(&identity).get("/v1/callers").await;
    assert_eq!((status, refusal["code"].as_str()), (403, Some("not_allowed")), "its roles hold: {refusal}");
    let broken = by(&identity).with_token("mnt_0_0");
    assert_eq!(broken.get("/v2/models").await.0, 401, "a token that is sent counts");
    // Whoever rotates a caller replaces all it had.
    node.json(&["callers", "rotate", "teller"]);
    assert_eq!(by(&identity).get("/v2/models").await.0, 401);
    let renewed = make("teller");
    assert_eq!(by(&renewed).get("/v2/models").await.0, 200);
    node.json(&["callers", "revoke", "teller"]);
    assert_eq!(by(&renewed).get("/v2/models").await.0, 401);

    // One of another CA ends in a TLS alert, and the log says what to do.
    let now = rpc::Clock::System.now();
    let stranger = access::Authority::generate(now).unwrap();
    let (key, request) = access::authority::request().unwrap();
    let chain =
        stranger.caller(&request, ("default/caller/admin", "id"), now, std::time::Duration::from_secs(60)).unwrap();
    let client = by(&Identity { chain, key });
    client.try_send(client.request(reqwest::Method::GET, "/v2/models")).await.unwrap_err();
    let until = tokio::time::Instant::now() + testkit::node::PATIENCE;
    while !node.log().contains("mantlet callers certificate NAME") {
        assert!(tokio::time::Instant::now() < until, "{}", node.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
