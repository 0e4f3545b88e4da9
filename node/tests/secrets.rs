//! No secret in anything a node writes, shows or passes on: files, logs, errors, metrics, arguments, environments.

use std::fs;

use serde_json::json;
use testkit::{Node, issuer::Issuer, onnx, setup};

const BINARY: &str = env!("CARGO_BIN_EXE_mantlet");

/// Files that hold a secret because that is what they are for; only their owner may read them.
const KEEPERS: [&str; 7] =
    ["client.json", "admin.token", "admin.header", "ca.key", "bundle.key", "log.secret", "mantlet.toml"];

#[tokio::test]
async fn no_secret_is_written_where_it_does_not_belong() {
    if setup::onnxruntime().is_none() {
        return setup::skip("secrets", "ONNX Runtime's library is not set up: cargo xtask setup");
    }
    let issuer = Issuer::new("k1");
    let mut node = Node::new(BINARY);
    let keys = node.file("jwks.json", json!({ "keys": [issuer.jwk()] }).to_string().as_bytes());
    fs::create_dir(node.dir()).unwrap();
    let settings = format!(
        "[node]\nlog = \"trace\"\n[access]\njwt-issuer = \"https://issuer.example\"\njwt-keys = \"{}\"\n",
        keys.display()
    );
    fs::write(node.dir().join("mantlet.toml"), settings).unwrap();
    node.up().await;

    // A scenario that uses every kind of credential, well and badly.
    let admin = node.client();
    node.deploy("add", &onnx::add(10.0));
    let body = json!({ "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] }] });
    let (status, made) = admin.post("/v1/callers", &json!({ "name": "teller", "roles": ["caller"] })).await;
    assert_eq!(status, 200);
    let first = made["token"].as_str().unwrap().to_owned();
    let (_, made) = admin.post("/v1/callers/teller/rotate", &json!({})).await;
    let second = made["token"].as_str().unwrap().to_owned();
    let teller = admin.with_token(&second);
    assert_eq!(teller.infer("add", &body).await.0, 200);
    assert_eq!(admin.with_token(&first).infer("add", &body).await.0, 401);
    let mut answers = vec![teller.get("/v1/callers").await.1, teller.infer("nothing", &body).await.1];
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let claims = json!({
        "iss": "https://issuer.example", "aud": "mantlet", "sub": "alice", "namespace": "default", "roles": "caller",
        "exp": now + 300,
    });
    let jwt = issuer.token(&claims);
    assert_eq!(admin.with_token(&jwt).infer("add", &body).await.0, 200);
    let broken = format!("{}x", &jwt[..jwt.len() - 2]);
    answers.push(admin.with_token(&broken).get("/v2/models").await.1);
    answers.push(admin.get("/v1/callers").await.1);
    answers.push(admin.get("/v1/ledger").await.1);
    let metrics = admin.request(reqwest::Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();

    // What must not be found anywhere: the secret half of each token, the signature of a JWT, each private key's text.
    let secret = |token: &str| token.rsplit('_').next().unwrap().to_owned();
    let owner = fs::read_to_string(node.dir().join("admin.token")).unwrap();
    let mut secrets = vec![secret(owner.trim()), secret(&first), secret(&second)];
    secrets.push(jwt.rsplit('.').next().unwrap().to_owned());
    for file in ["ca.key", "bundle.key"] {
        let text = fs::read_to_string(node.dir().join(file)).unwrap();
        secrets.push(text.lines().nth(1).unwrap().to_owned());
    }
    let log_secret = fs::read_to_string(node.dir().join("log.secret")).unwrap();
    secrets.push(log_secret.lines().next().unwrap().splitn(5, '+').nth(4).unwrap().to_owned());

    let mut places: Vec<(String, Vec<u8>)> = vec![
        ("the log".into(), node.log().into_bytes()),
        ("the metrics".into(), metrics.into_bytes()),
        ("answers".into(), json!(answers).to_string().into_bytes()),
    ];
    let mut processes = node.model_servers();
    processes.push(node.pid());
    for process in processes {
        for file in ["cmdline", "environ"] {
            let path = format!("/proc/{process}/{file}");
            places.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    let node = tokio::task::spawn_blocking(move || {
        assert!(node.stop(), "{}", node.log());
        node
    });
    let node = node.await.unwrap();
    for path in files(&node.dir()) {
        let name = path.strip_prefix(node.dir()).unwrap().to_string_lossy().into_owned();
        if !KEEPERS.contains(&name.as_str()) {
            places.push((name, fs::read(&path).unwrap()));
        }
    }
    assert!(places.len() > 12, "{}", places.len());
    for (place, bytes) in &places {
        let text = String::from_utf8_lossy(bytes);
        for secret in &secrets {
            assert!(secret.len() >= 40, "{secret}");
            assert!(!text.contains(secret.as_str()), "{place} holds a secret");
        }
    }
    for name in KEEPERS {
        use std::os::unix::fs::PermissionsExt as _;
        let Ok(metadata) = fs::metadata(node.dir().join(name)) else { continue };
        let open = metadata.permissions().mode() & 0o077;
        assert!(open == 0 || name == "mantlet.toml", "{name} can be read by others");
    }
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.flat_map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { vec![entry.path()] }).collect()
}
