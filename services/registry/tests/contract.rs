//! The registry's contract, in both forms: a call, and mTLS gRPC.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use registry::{Parts, Registry};
use rpc::{
    Clock, Since,
    registry::{AddCaller, Deploy, NameCaller, ReadLedger, RegistryClient, Remove, Select, registry_router},
};
use store::{
    Artefacts,
    directory::Directory,
    sqlite::{SqliteCatalog, SqliteLog},
};
use testkit::onnx;
use types::{Code, Manifest, Role};

struct Made {
    registry: Arc<Registry>,
    artefacts: Arc<dyn Artefacts>,
    _dir: tempfile::TempDir,
}

async fn made() -> Made {
    let dir = tempfile::tempdir().unwrap();
    let artefacts: Arc<dyn Artefacts> = Arc::new(Directory::open(dir.path().join("artefacts")).await.unwrap());
    let parts = Parts {
        catalog: Arc::new(SqliteCatalog::open(&dir.path().join("catalog.db")).await.unwrap()),
        artefacts: artefacts.clone(),
        log: Arc::new(SqliteLog::open(&dir.path().join("ledger.db")).await.unwrap()),
        supervisor: Arc::new(testkit::keys::Keys::default()),
        clock: Clock::System,
    };
    Made { registry: Arc::new(Registry::open(parts).await.unwrap()), artefacts, _dir: dir }
}

async fn deploy(
    made: &Made,
    registry: &dyn rpc::Registry,
    name: &str,
    offset: f32,
) -> Result<rpc::registry::Deployed, types::Refusal> {
    let body = futures::stream::iter([Ok(Bytes::from(onnx::add(offset)))]).boxed();
    let staged = made.artefacts.stage(body, 1 << 20).await.unwrap();
    let request = Deploy {
        actor: "caller:default/admin".into(),
        namespace: "bank".parse().unwrap(),
        manifest: Manifest::for_onnx(name.parse().unwrap(), "m.onnx"),
        staged: Some(staged.id.clone()),
        signature: None,
    };
    let outcome = registry.deploy(request).await;
    assert!(made.artefacts.read_staged(&staged.id).await.is_err(), "nothing stays in staging");
    outcome
}

async fn suite(made: &Made, registry: &dyn rpc::Registry) {
    let bank = || "bank".parse().unwrap();
    let first = deploy(made, registry, "fraud", 1.0).await.unwrap();
    registry.sealed(first.receipt).await.unwrap();
    assert!(first.created);
    assert_eq!((first.version.version.0, first.version.manifest.spec.inputs[0].name.as_str()), (1, "x"));
    let again = deploy(made, registry, "fraud", 1.0).await.unwrap();
    assert_eq!((again.created, again.version.digest), (false, first.version.digest));
    assert_eq!(deploy(made, registry, "fraud", 2.0).await.unwrap().version.version.0, 2);
    let all = registry.versions(Select { namespace: bank(), model: None }).await.unwrap();
    assert_eq!(all.iter().map(|record| record.version.0).collect::<Vec<_>>(), [1, 2]);

    // What was never uploaded is the caller's mistake.
    for staged in ["00000000000000000000000000000000", "../../ca.key", ""] {
        let request = Deploy {
            actor: "caller:default/admin".into(),
            namespace: bank(),
            manifest: Manifest::for_onnx("ghost".parse().unwrap(), "m.onnx"),
            staged: Some(staged.into()),
            signature: None,
        };
        assert_eq!(registry.deploy(request).await.unwrap_err().code, Code::RequestMalformed, "{staged}");
    }

    // Refusals come over whole.
    let missing =
        registry.versions(Select { namespace: bank(), model: Some("nothing".parse().unwrap()) }).await.unwrap_err();
    assert_eq!((missing.code, missing.hint.is_some()), (Code::ModelNotFound, true));

    let add = || AddCaller {
        actor: "node".into(),
        namespace: "bank".parse().unwrap(),
        caller: "teller".parse().unwrap(),
        roles: vec![Role::Caller],
        node_wide: false,
        expires: None,
    };
    let name =
        || NameCaller { actor: "node".into(), namespace: "bank".parse().unwrap(), caller: "teller".parse().unwrap() };
    let token: access::Token = registry.add_caller(add()).await.unwrap().token.parse().unwrap();
    assert_eq!(registry.add_caller(add()).await.err().unwrap().code, Code::AlreadyExists);
    let followed = registry.credentials(Since::default()).await.unwrap();
    assert!(followed.restart);
    assert!(followed.changes[0].value.as_ref().unwrap().fits(&token));
    let rotated: access::Token = registry.rotate_caller(name()).await.unwrap().token.parse().unwrap();
    let changes = registry.credentials(followed.since).await.unwrap();
    assert!(!changes.restart);
    let gone = changes.changes.iter().any(|c| c.key == token.id().as_str() && c.value.is_none());
    let came = changes.changes.iter().any(|c| c.key == rotated.id().as_str() && c.value.is_some());
    assert!(gone && came, "{changes:?}");
    assert_eq!(registry.callers(Select { namespace: bank(), model: None }).await.unwrap().len(), 1);
    registry.revoke_caller(name()).await.unwrap();
    assert_eq!(registry.revoke_caller(name()).await.err().unwrap().code, Code::CallerNotFound);

    let remove =
        || Remove { actor: "node".into(), namespace: "bank".parse().unwrap(), model: "fraud".parse().unwrap() };
    let receipt = registry.remove(remove()).await.unwrap();
    registry.sealed(receipt).await.unwrap();
    assert_eq!(registry.remove(remove()).await.unwrap_err().code, Code::ModelNotFound);
    assert_eq!(
        deploy(made, registry, "fraud", 1.0).await.unwrap().version.version.0,
        3,
        "numbers are never used twice"
    );

    let page = registry.ledger(ReadLedger { from: 0, limit: 100, namespace: None }).await.unwrap();
    assert_eq!(page.records.len() as u64, page.size);
    let actions: Vec<String> =
        page.records.iter().map(|line| serde_json::from_str::<ledger::Record>(line).unwrap().action).collect();
    assert_eq!(
        actions,
        [
            "key.change",
            "key.change",
            "key.change",
            "model.deploy",
            "model.deploy",
            "caller.add",
            "caller.rotate",
            "caller.revoke",
            "model.delete"
        ]
    );
    let records: Vec<Vec<u8>> = page.records.into_iter().map(String::into_bytes).collect();
    let files = ledger::export::files(&records, page.checkpoint.into_bytes(), &page.key).unwrap();
    let trusted = ledger::TrustedKey::parse(&page.key).unwrap();
    ledger::verify::files_verify(&files, &trusted, None).unwrap();
    assert!(registry.bundle_key(()).await.unwrap().starts_with("-----BEGIN PUBLIC KEY-----"));
}

#[tokio::test]
async fn in_process() {
    let made = made().await;
    suite(&made, &*made.registry.clone()).await;
}

#[tokio::test]
async fn remote() {
    let made = made().await;
    let remote = testkit::remote::open(registry_router(made.registry.clone()));
    suite(&made, &RegistryClient(remote.channel.clone())).await;
}

#[tokio::test]
async fn a_peer_that_is_not_named_is_turned_away() {
    let made = made().await;
    let dir = tempfile::tempdir().unwrap();
    access::tls::install_provider();
    let now = Clock::System.now();
    let authority = access::Authority::generate(now).unwrap();
    let identity = |path: &str| authority.service(path, now, std::time::Duration::from_secs(60)).unwrap();
    let socket = dir.path().join("door.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let badge = |me: &access::Identity, ca: &str| rpc::door::Badge::new(access::tls::ServiceTls::new(me, ca).unwrap());
    let server = badge(&identity("registry"), &authority.certificate());
    let router = registry_router(made.registry.clone());
    tokio::spawn(async move {
        let forever = std::future::pending();
        let times = (std::time::Duration::from_secs(60), std::time::Duration::ZERO);
        rpc::door::serve(listener, server, rpc::door::for_services(&["gateway"], router), forever, times).await;
    });
    let ask = async |peer: &str, me: &access::Identity, ca: &str| {
        let channel = rpc::door::connect(socket.clone(), peer, badge(me, ca)).unwrap();
        rpc::Registry::bundle_key(&RegistryClient(channel), ()).await
    };
    assert!(ask("registry", &identity("gateway"), &authority.certificate()).await.is_ok());
    assert!(
        ask("registry", &identity("default/model-server/m1"), &authority.certificate()).await.is_err(),
        "another service"
    );
    assert!(
        ask("orchestrator", &identity("gateway"), &authority.certificate()).await.is_err(),
        "another server's name"
    );
    let other = access::Authority::generate(now).unwrap();
    let stranger = other.service("gateway", now, std::time::Duration::from_secs(60)).unwrap();
    assert!(ask("registry", &stranger, &authority.certificate()).await.is_err(), "another CA");
}

#[tokio::test]
async fn where_the_disk_is_short_uploads_are_refused_and_what_nobody_names_goes() {
    let dir = tempfile::tempdir().unwrap();
    let free = Directory::open(dir.path().join("artefacts")).await.unwrap();
    // All of it is to stay free, so there is never enough.
    let short = free.clone().keeping(1.0);
    let parts = Parts {
        catalog: Arc::new(SqliteCatalog::open(&dir.path().join("catalog.db")).await.unwrap()),
        artefacts: Arc::new(short.clone()),
        log: Arc::new(SqliteLog::open(&dir.path().join("ledger.db")).await.unwrap()),
        supervisor: Arc::new(testkit::keys::Keys::default()),
        clock: Clock::System,
    };
    let registry = Arc::new(Registry::open(parts).await.unwrap());
    let made = Made { registry: registry.clone(), artefacts: Arc::new(free.clone()), _dir: dir };
    let deployed = deploy(&made, &*registry, "fraud", 1.0).await.unwrap();
    let body = || futures::stream::iter([Ok(Bytes::from_static(b"model"))]).boxed();
    let refusal = types::Refusal::from(short.stage(body(), 1 << 20).await.unwrap_err());
    assert_eq!(refusal.code, Code::StorageUnavailable);
    assert!(refusal.message.contains("are to stay free") && refusal.hint.unwrap().contains("make room"));

    // A crash between publishing and registering leaves a bundle; an upload may yet be deployed.
    let orphan = types::Digest::of(b"orphan");
    let files = vec![("model.onnx".to_owned(), store::Content::Bytes(b"model".to_vec()))];
    free.publish(orphan, files).await.unwrap();
    let staged = free.stage(body(), 1 << 20).await.unwrap();
    assert_eq!(free.bundles().await.unwrap().len(), 2);
    assert_eq!(registry.sweep().await.unwrap(), 1);
    assert_eq!(free.bundles().await.unwrap(), [deployed.version.digest], "what was acknowledged stays");
    assert_eq!(free.read_staged(&staged.id).await.unwrap(), b"model");
    assert_eq!(registry.sweep().await.unwrap(), 0);
    // Who waits too long goes, too; and where there is room nobody looks.
    assert_eq!(free.forget_staged(std::time::Duration::ZERO).await.unwrap(), 1);
    assert!(!free.is_short().await && short.is_short().await);
}
