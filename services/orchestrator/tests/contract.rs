//! The orchestrator's contract, in both forms: a call, and mTLS gRPC.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use orchestrator::{
    Orchestrator,
    backend::{Backend, Endpoint, Process, Spec},
};
use rpc::{
    Clock, Since,
    orchestrator::{Desired, OrchestratorClient, StatusOf, Submit, orchestrator_router},
};
use store::sqlite::SqliteCatalog;
use tokio::sync::oneshot;
use types::{Code, Digest, Manifest, Refusal, Version};

/// A machine on which no model server can start.
struct Barren;

#[async_trait]
impl Backend for Barren {
    async fn start(&self, _: Spec) -> Result<Box<dyn Process>, Refusal> {
        Err(Refusal::new(Code::RuntimeMissing, "no library here").hint("get one"))
    }

    fn door(&self, _: &Endpoint) -> Result<rpc::model_server::ModelServerClient, Refusal> {
        Err(Refusal::new(Code::Internal, "there are no doors"))
    }

    async fn lend(&self, _: &Endpoint, _: Digest) -> Result<PathBuf, Refusal> {
        Err(Refusal::new(Code::Internal, "there is nobody to lend to"))
    }

    async fn take_back(&self, _: &Endpoint, _: Digest) {}

    async fn keys(&self) -> Result<Vec<String>, Refusal> {
        Ok(Vec::new())
    }

    async fn renewal(&self, _: &Endpoint) -> Result<rpc::model_server::Renewal, Refusal> {
        Err(Refusal::new(Code::Internal, "there is nobody to renew"))
    }

    fn renew_every(&self) -> std::time::Duration {
        std::time::Duration::from_secs(3_600)
    }
}

fn submit(version: u64, expect: Option<u64>) -> Submit {
    let manifest = Manifest::for_onnx("fraud".parse().unwrap(), "model.onnx");
    Submit {
        desired: Some(Desired {
            namespace: "bank".parse().unwrap(),
            model: "fraud".parse().unwrap(),
            version: Version(version),
            digest: Digest([7; 32]),
            manifest,
            author: "caller:bank/admin".into(),
            reason: "test".into(),
            shadow: None,
        }),
        namespace: "bank".parse().unwrap(),
        model: "fraud".parse().unwrap(),
        actor: "caller:bank/admin".into(),
        expect,
        action: "model.activate".into(),
    }
}

async fn suite(orchestrator: &dyn rpc::Orchestrator) {
    let of = || StatusOf { namespace: "bank".parse().unwrap(), model: None };
    assert!(orchestrator.status(of()).await.unwrap().is_empty());
    let first = orchestrator.submit(submit(1, None)).await.unwrap();
    assert_eq!(first.generation, 1);
    assert_eq!(orchestrator.submit(submit(2, Some(9))).await.unwrap_err().code, Code::Conflict);
    assert_eq!(orchestrator.submit(submit(2, Some(1))).await.unwrap().generation, 2);

    // Followers see the newest wish, and why it waits, with its cure.
    let mut since = Since::default();
    let waiting = loop {
        let changes = orchestrator.routes(since).await.unwrap();
        since = changes.since;
        let route = changes.changes.last().and_then(|change| change.value.clone());
        if let Some(route) = route.filter(|route| route.waiting.as_deref() == Some("no library here")) {
            assert!(route.replicas.is_empty());
            break route.waiting.unwrap();
        }
    };
    assert_eq!(waiting, "no library here");
    let status = orchestrator.status(of()).await.unwrap().remove(0);
    let reason = status.waiting.unwrap();
    assert!(reason.stuck, "nothing will change by itself");
    assert_eq!((reason.reason.code, reason.reason.hint.as_deref()), (Code::RuntimeMissing, Some("get one")));
    assert_eq!((status.desired, status.ready, status.replicas, status.wanted), (Some(Version(2)), None, 0, 1));

    let gone = Submit { desired: None, ..submit(2, None) };
    orchestrator.submit(gone).await.unwrap();
    let changes = orchestrator.routes(since).await.unwrap();
    assert!(changes.changes.iter().any(|change| change.value.is_none()), "{changes:?}");
    assert!(orchestrator.status(of()).await.unwrap().is_empty());
}

fn no_heads() -> orchestrator::AskHeads {
    Box::new(|_| Box::pin(std::future::pending()))
}

async fn made(dir: &tempfile::TempDir) -> (Arc<Orchestrator>, oneshot::Sender<()>) {
    over(Arc::new(SqliteCatalog::open(&dir.path().join("catalog.db")).await.unwrap())).await
}

async fn over(catalog: Arc<SqliteCatalog>) -> (Arc<Orchestrator>, oneshot::Sender<()>) {
    let (orchestrator, executor) =
        Orchestrator::open(catalog, Clock::System, Arc::new(Barren), no_heads(), orchestrator::Bounds::default())
            .await
            .unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(executor.run(async {
        let _ = stopped.await;
    }));
    (Arc::new(orchestrator), stop)
}

#[tokio::test]
async fn in_process() {
    let dir = tempfile::tempdir().unwrap();
    let (orchestrator, _stop) = made(&dir).await;
    suite(&*orchestrator).await;
}

#[tokio::test]
async fn remote() {
    let dir = tempfile::tempdir().unwrap();
    let (orchestrator, _stop) = made(&dir).await;
    let remote = testkit::remote::open(orchestrator_router(orchestrator));
    suite(&OrchestratorClient(remote.channel.clone())).await;
}

#[tokio::test]
async fn wishes_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Arc::new(SqliteCatalog::open(&dir.path().join("catalog.db")).await.unwrap());
    let (orchestrator, stop) = over(catalog.clone()).await;
    rpc::Orchestrator::submit(&*orchestrator, submit(3, None)).await.unwrap();
    drop((orchestrator, stop));
    catalog.close().await;
    let (orchestrator, _stop) = made(&dir).await;
    let of = StatusOf { namespace: "bank".parse().unwrap(), model: Some("fraud".parse().unwrap()) };
    let status = rpc::Orchestrator::status(&*orchestrator, of).await.unwrap();
    assert_eq!(status[0].desired, Some(Version(3)));
}
