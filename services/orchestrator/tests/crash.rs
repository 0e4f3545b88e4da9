//! The orchestrator is killed before and after each thing it writes down, and goes on where it was.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

mod stage;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use orchestrator::{Bounds, Orchestrator, Spread};
use parking_lot::Mutex;
use rpc::{
    Clock, Orchestrator as _,
    orchestrator::{Desired, PlanOf, Scale, Status, StatusOf, Submit},
};
use stage::{Stage, no_heads};
use store::{Catalog, Collection, Committed, Document, Error, Write, read_all, sqlite::SqliteCatalog};
use tokio::sync::Notify;
use types::{Digest, Manifest, Version};

/// A catalog that dies at one of its writes: before it is written, or after that and before anybody hears of it.
struct Mortal {
    inner: Arc<SqliteCatalog>,
    left: AtomicU64,
    written: bool,
    dead: Notify,
}

impl Mortal {
    fn new(inner: Arc<SqliteCatalog>, writes: u64, written: bool) -> Arc<Self> {
        Arc::new(Self { inner, left: AtomicU64::new(writes), written, dead: Notify::new() })
    }
}

#[async_trait]
impl Catalog for Mortal {
    async fn get(&self, collection: Collection, key: &str) -> Result<Option<Document>, Error> {
        self.inner.get(collection, key).await
    }

    async fn list(&self, of: Collection, prefix: &str, after: Option<&str>, most: u32) -> Result<Vec<Document>, Error> {
        self.inner.list(of, prefix, after, most).await
    }

    async fn outbox(&self, after: u64, limit: u32) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        self.inner.outbox(after, limit).await
    }

    async fn given(&self) -> Result<u64, Error> {
        self.inner.given().await
    }

    async fn forget_outbox(&self, upto: u64) -> Result<(), Error> {
        self.inner.forget_outbox(upto).await
    }

    async fn commit(&self, writes: Vec<Write>, records: Vec<Vec<u8>>) -> Result<Committed, Error> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() {
            return self.inner.commit(writes, records).await;
        }
        if self.written {
            self.inner.commit(writes, records).await?;
        }
        self.dead.notify_one();
        // Nobody hears what became of it.
        std::future::pending().await
    }
}

/// What somebody asked for and was told is so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    version: Option<u64>,
    replicas: Option<u32>,
}

fn submit(version: Option<u64>) -> Submit {
    let mut manifest = Manifest::for_onnx("fraud".parse().unwrap(), "model.onnx");
    manifest.spec.scale.min = 2;
    let (namespace, model, actor) = ("bank".parse().unwrap(), "fraud".parse().unwrap(), "caller:bank/admin".to_owned());
    Submit {
        desired: version.map(|version| Desired {
            namespace: "bank".parse().unwrap(),
            model: "fraud".parse().unwrap(),
            version: Version(version),
            digest: Digest::of(&version.to_le_bytes()),
            manifest,
            author: actor.clone(),
            reason: "test".into(),
            shadow: None,
        }),
        namespace,
        model,
        actor,
        expect: None,
        action: "model.activate".into(),
    }
}

async fn status(orchestrator: &Orchestrator) -> Option<Status> {
    let of = StatusOf { namespace: "bank".parse().unwrap(), model: None };
    orchestrator.status(of).await.unwrap().pop()
}

/// Waits until the model is as wanted, and no step is open or to come.
async fn settled(orchestrator: &Orchestrator, version: Option<u64>, replicas: u32) {
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let is = status(orchestrator).await;
        let there = is.as_ref().map(|is| (is.ready.map(|version| version.0), is.replicas, is.wanted));
        let plan = orchestrator.plan(PlanOf { namespace: "bank".parse().unwrap(), deploy: None }).await.unwrap();
        let quiet = plan.rounds.is_empty() && plan.recent.iter().all(|taken| taken.outcome.is_some());
        if quiet && there == version.map(|version| (Some(version), replicas, replicas)) {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "{is:?}, {plan:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What happens in a life: two versions, more replicas, fewer, the first version again, the end.
async fn live(orchestrator: &Orchestrator, told: &Mutex<Told>) {
    for version in [1, 2] {
        orchestrator.submit(submit(Some(version))).await.unwrap();
        told.lock().version = Some(version);
        settled(orchestrator, Some(version), 2).await;
    }
    for replicas in [3, 2] {
        let scale = Scale {
            namespace: "bank".parse().unwrap(),
            model: "fraud".parse().unwrap(),
            replicas: Some(replicas),
            author: "caller:bank/admin".into(),
            reason: "test".into(),
        };
        orchestrator.scale(scale).await.unwrap();
        told.lock().replicas = Some(replicas);
        settled(orchestrator, Some(2), replicas).await;
    }
    orchestrator.submit(submit(Some(1))).await.unwrap();
    told.lock().version = Some(1);
    settled(orchestrator, Some(1), 2).await;
    orchestrator.submit(submit(None)).await.unwrap();
    *told.lock() = Told::default();
    settled(orchestrator, None, 0).await;
}

async fn open(catalog: Arc<dyn Catalog>, alone: u32) -> (Orchestrator, tokio::task::JoinHandle<()>) {
    let stage = Arc::new(Stage::new());
    let bounds = Bounds { spread: Spread { alone, ..Spread::default() }, ..Bounds::default() };
    let (orchestrator, executor) = Orchestrator::open(catalog, Clock::System, stage, no_heads(), bounds).await.unwrap();
    (orchestrator, tokio::spawn(executor.run(std::future::pending())))
}

/// Kills the orchestrator at this write; whether it came so far.
async fn killed_at(writes: u64, written: bool, alone: u32) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.db");
    let catalog = Arc::new(SqliteCatalog::open(&path).await.unwrap());
    let mortal = Mortal::new(catalog.clone(), writes, written);
    let told = Mutex::new(Told::default());
    let (orchestrator, executor) = open(mortal.clone(), alone).await;
    let lived = tokio::select! {
        () = live(&orchestrator, &told) => true,
        () = mortal.dead.notified() => false,
    };
    executor.abort();
    let _ = executor.await;
    drop(orchestrator);
    // The next life: what was told is so, or what was asked last and never answered.
    let (orchestrator, executor) = open(catalog.clone(), alone).await;
    let is = status(&orchestrator).await;
    let (told, wanted) = (told.into_inner(), is.as_ref().map(|is| (is.desired.unwrap().0, is.wanted)));
    let next = |version: Option<u64>| match version {
        None => Some(1),
        Some(1) if told.replicas.is_none() => Some(2),
        Some(1) => None,
        Some(_) => Some(1),
    };
    let versions = [told.version, next(told.version)];
    assert!(versions.contains(&wanted.map(|(version, _)| version)), "{told:?} at write {writes}, then {is:?}");
    if let (Some(replicas), Some((_, wanted))) = (told.replicas, wanted) {
        assert!(wanted == replicas || (replicas == 3 && wanted == 2), "{told:?} at write {writes}, then {is:?}");
    }
    let (version, replicas) = wanted.map_or((None, 0), |(version, wanted)| (Some(version), wanted));
    settled(&orchestrator, version, replicas).await;
    // And from here on everything goes its way again.
    orchestrator.submit(submit(Some(7))).await.unwrap();
    let replicas = status(&orchestrator).await.unwrap().wanted;
    settled(&orchestrator, Some(7), replicas).await;
    executor.abort();
    let _ = executor.await;
    assert!(!read_all(&*catalog, Collection::Step, "").await.unwrap().is_empty());
    catalog.close().await;
    lived
}

async fn killed_everywhere(alone: u32) {
    for written in [false, true] {
        let mut writes = 0;
        while !killed_at(writes, written, alone).await {
            writes += 1;
        }
        assert!(writes > 20, "a life of {writes} writes is none");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_it_goes_on_with_a_server_for_each_replica() {
    killed_everywhere(8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_it_goes_on_with_shared_servers() {
    killed_everywhere(0).await;
}
