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
    orchestrator::{
        Desired, Load, Loads, ModelRoute, OrchestratorClient, Part, PlanOf, Scale, Scaling, SendTo, SendWhat, Shadow,
        StatusOf, Submit, orchestrator_router,
    },
};
use store::{Catalog as _, sqlite::SqliteCatalog};
use tokio::sync::oneshot;
use types::{Code, Digest, Manifest, Refusal, Version, manifest::ScaleMode};

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

fn split(parts: &[(u64, f64)], expect: Option<u64>) -> SendTo {
    let Submit { namespace, model, desired, .. } = submit(1, None);
    let Desired { digest, manifest, .. } = desired.unwrap();
    let part = |(version, share): &(u64, f64)| Part {
        version: Version(*version),
        share: types::quantity::Share::new(*share).unwrap(),
    };
    let parts = parts.iter().map(part).collect();
    SendTo {
        namespace,
        model,
        send: SendWhat::Split { parts, sticky: true, expires: None },
        versions: vec![Shadow { version: Version(1), digest, manifest, share: None }],
        author: "caller:bank/admin".into(),
        reason: "test".into(),
        expect,
    }
}

/// Follows until the route is so.
async fn routed(
    orchestrator: &dyn rpc::Orchestrator,
    since: &mut Since,
    holds: impl Fn(&ModelRoute) -> bool,
) -> ModelRoute {
    loop {
        let changes = orchestrator.routes(*since).await.unwrap();
        *since = changes.since;
        let route = changes.changes.last().and_then(|change| change.value.clone());
        if let Some(route) = route.filter(&holds) {
            return route;
        }
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

    // Where a person sends requests stands beside the wish, by compare-and-swap, and goes with the route.
    let first = orchestrator.send(split(&[(1, 0.25)], None)).await.unwrap().generation;
    assert_eq!(orchestrator.send(split(&[(1, 0.5)], Some(first + 7))).await.unwrap_err().code, Code::Conflict);
    let second = orchestrator.send(split(&[(1, 0.5)], Some(first))).await.unwrap().generation;
    let status = orchestrator.status(of()).await.unwrap().remove(0);
    let sent = status.sent.0.split.unwrap();
    assert_eq!((status.sent.1, status.absent, sent.parts[0].share.get()), (second, vec![Version(1)], 0.5));
    let route = routed(orchestrator, &mut since, |route| route.sent.split.as_ref() == Some(&sent)).await;
    assert!(route.canary.is_none());
    let pin = SendWhat::Pin("teller".parse().unwrap(), Version(1));
    orchestrator.send(SendTo { send: pin, ..split(&[], None) }).await.unwrap();
    orchestrator.send(SendTo { send: SendWhat::Unsplit, ..split(&[], None) }).await.unwrap();
    let again = orchestrator.send(SendTo { send: SendWhat::Unsplit, ..split(&[], None) }).await;
    assert_eq!(again.unwrap_err().code, Code::RequestMalformed, "it is not split any more");
    let over = routed(orchestrator, &mut since, |route| route.sent.split.is_none()).await;
    assert_eq!(over.sent.pins.into_values().map(|pin| pin.version).collect::<Vec<_>>(), [Version(1)]);
    // What has an end is taken back.
    let SendTo { mut send, .. } = split(&[(1, 0.5)], None);
    if let SendWhat::Split { expires, .. } = &mut send {
        *expires = Some(types::Timestamp(1));
    }
    orchestrator.send(SendTo { send, ..split(&[(1, 0.5)], None) }).await.unwrap();
    routed(orchestrator, &mut since, |route| route.sent.split.is_none()).await;

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

/// Says again and again that so many requests are in flight, until what the load asks for is as wanted.
async fn heard(orchestrator: &dyn rpc::Orchestrator, in_flight: f64, wanted: impl Fn(&Scaling) -> bool) -> Scaling {
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut every = tokio::time::interval(std::time::Duration::from_millis(100));
    loop {
        every.tick().await;
        let (namespace, model) = ("bank".parse().unwrap(), "fraud".parse().unwrap());
        let load = Load { namespace, model, seconds: 0.1, requests: 5, in_flight, open: 5, served: (5, 0.5) };
        let models = if in_flight > 0.0 { vec![load] } else { Vec::new() };
        orchestrator.load(Loads { gateway: "g0".into(), models }).await.unwrap();
        let of = StatusOf { namespace: "bank".parse().unwrap(), model: None };
        let status = orchestrator.status(of).await.unwrap().remove(0);
        if let Some(scaling) = status.scaling.clone().filter(|scaling| wanted(scaling)) {
            assert_eq!(status.wanted, if scaling.overruled { 2 } else { scaling.wanted });
            return scaling;
        }
        assert!(tokio::time::Instant::now() < until, "{status:?}");
    }
}

#[tokio::test]
async fn with_mode_off_the_load_has_no_say() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Arc::new(SqliteCatalog::open(&dir.path().join("catalog.db")).await.unwrap());
    let (orchestrator, _stop) = over(catalog.clone()).await;
    let orchestrator: &dyn rpc::Orchestrator = &*orchestrator;
    let on = |mode| {
        let mut wish = submit(1, None);
        let scale = &mut wish.desired.as_mut().unwrap().manifest.spec.scale;
        (scale.max, scale.mode) = (Some(4), mode);
        wish
    };
    orchestrator.submit(on(ScaleMode::On)).await.unwrap();
    heard(orchestrator, 9.0, |scaling| scaling.wanted == 4).await;
    orchestrator.submit(on(ScaleMode::Off)).await.unwrap();
    let of = StatusOf { namespace: "bank".parse().unwrap(), model: None };
    let status = orchestrator.status(of).await.unwrap().remove(0);
    assert_eq!((status.wanted, status.asleep), (1, false), "at once");
    let plan = orchestrator.plan(PlanOf { namespace: "bank".parse().unwrap(), deploy: None }).await.unwrap();
    assert_eq!(plan.scaling, Vec::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_is_heard_recorded_explained_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Arc::new(SqliteCatalog::open(&dir.path().join("catalog.db")).await.unwrap());
    let (orchestrator, stop) = over(catalog.clone()).await;
    let remote = testkit::remote::open(orchestrator_router(orchestrator.clone()));
    let client = OrchestratorClient(remote.channel.clone());
    let mut wish = submit(1, None);
    let scale = &mut wish.desired.as_mut().unwrap().manifest.spec.scale;
    (scale.max, scale.mode) = (Some(4), ScaleMode::Shadow);
    let client: &dyn rpc::Orchestrator = &client;
    client.submit(wish).await.unwrap();
    let scaling = heard(client, 9.0, |scaling| scaling.wanted == 4).await;
    assert!(scaling.why.contains("in flight") && scaling.why.contains("at most 4"), "{scaling:?}");
    assert_eq!((scaling.mode, scaling.twin.map(|(name, _)| name)), (ScaleMode::Shadow, Some("forecast".into())));
    let plan = client.plan(PlanOf { namespace: "bank".parse().unwrap(), deploy: None }).await.unwrap();
    assert_eq!(plan.scaling[0].1.wanted, 4);

    // Each change stands in the ledger, with its reason and what the other would have wanted.
    let records = catalog.outbox(0, 1_000).await.unwrap();
    let records = records.iter().map(|(_, line)| serde_json::from_slice::<serde_json::Value>(line).unwrap());
    let changes: Vec<_> = records.filter(|record| record["action"] == "model.autoscale").collect();
    let last = changes.last().unwrap();
    assert_eq!((&last["actor"], &last["subject"]), (&"orchestrator".into(), &"model:bank/fraud".into()));
    let detail = &last["detail"];
    assert_eq!((&detail["to"], &detail["mode"]), (&4.into(), &"shadow".into()), "{detail}");
    assert!(detail["twin"]["wanted"].is_u64() && detail["why"].is_string(), "{detail}");
    let linked = changes.windows(2).all(|pair| pair[0]["detail"]["to"] == pair[1]["detail"]["from"]);
    assert!(linked && changes[0]["detail"]["from"] == 1, "{changes:?}");

    // Whoever starts again wants as many; whoever sets a number is asked before the load.
    drop(remote);
    drop((orchestrator, stop));
    catalog.close().await;
    let (orchestrator, _stop) = made(&dir).await;
    let of = StatusOf { namespace: "bank".parse().unwrap(), model: None };
    assert_eq!(rpc::Orchestrator::status(&*orchestrator, of).await.unwrap()[0].wanted, 4);
    let scale = Scale {
        namespace: "bank".parse().unwrap(),
        model: "fraud".parse().unwrap(),
        replicas: Some(2),
        author: "caller:bank/admin".into(),
        reason: "test".into(),
    };
    rpc::Orchestrator::scale(&*orchestrator, scale).await.unwrap();
    heard(&*orchestrator, 9.0, |scaling| scaling.overruled && scaling.wanted == 4).await;
}
