//! Somebody sets the system's clock by hours: what crashed is started again, and nobody falls asleep who is not idle.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

mod stage;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use orchestrator::{Bounds, Orchestrator};
use rpc::{
    Clock, Orchestrator as _,
    orchestrator::{Desired, Load, Loads, Scaling, Status, StatusOf, Submit},
};
use stage::{Stage, no_heads};
use store::sqlite::SqliteCatalog;
use types::{Digest, Manifest, Version, quantity::Span};

/// Some moment, in milliseconds since 1970.
const NOW: u64 = 1_800_000_000_000;
const HOURS: u64 = 5 * 3_600 * 1_000;

/// An orchestrator whose two times the test sets apart.
struct Running {
    orchestrator: Orchestrator,
    stage: Arc<Stage>,
    now: Arc<AtomicU64>,
    steady: Arc<AtomicU64>,
    executor: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.executor.abort();
    }
}

/// One that runs a model which may sleep after an hour.
async fn running(min: u32) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Arc::new(SqliteCatalog::open(&dir.path().join("catalog.db")).await.unwrap());
    let (stage, [now, steady]) = (Arc::new(Stage::new()), [0; 2].map(|_| Arc::new(AtomicU64::new(NOW))));
    let clock = Clock::Hands(now.clone(), steady.clone());
    let (orchestrator, executor) =
        Orchestrator::open(catalog, clock, stage.clone(), no_heads(), Bounds::default()).await.unwrap();
    let executor = tokio::spawn(executor.run(std::future::pending()));
    let mut manifest = Manifest::for_onnx("fraud".parse().unwrap(), "model.onnx");
    let scale = &mut manifest.spec.scale;
    (scale.min, scale.max, scale.idle) = (min, Some(1), Span(Duration::from_secs(3_600)));
    let (namespace, model, actor) = ("bank".parse().unwrap(), "fraud".parse().unwrap(), "caller:bank/admin".to_owned());
    let desired = Desired {
        namespace: "bank".parse().unwrap(),
        model: "fraud".parse().unwrap(),
        version: Version(1),
        digest: Digest([7; 32]),
        manifest,
        author: actor.clone(),
        reason: "test".into(),
        shadow: None,
    };
    let action = "model.activate".into();
    let submit = Submit { desired: Some(desired), namespace, model, actor, expect: None, action };
    orchestrator.submit(submit).await.unwrap();
    let running = Running { orchestrator, stage, now, steady, executor, _dir: dir };
    running.until(|status| status.replicas == 1).await;
    running
}

impl Running {
    async fn until(&self, holds: impl Fn(&Status) -> bool) -> Status {
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let of = StatusOf { namespace: "bank".parse().unwrap(), model: None };
            let status = self.orchestrator.status(of).await.unwrap().remove(0);
            if holds(&status) {
                return status;
            }
            assert!(tokio::time::Instant::now() < until, "{status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Says that so many requests a second come, until the scaler has heard it, or lets the model sleep.
    async fn hears(&self, requests: u64) -> Status {
        let why = format!("{requests}.0 requests/s");
        self.says(requests, |scaling| scaling.wanted == 0 || scaling.why.starts_with(&why)).await
    }

    /// Says that so many requests a second come, until what the scaler says is so.
    async fn says(&self, requests: u64, holds: impl Fn(&Scaling) -> bool) -> Status {
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        let mut every = tokio::time::interval(Duration::from_millis(50));
        loop {
            every.tick().await;
            let (namespace, model) = ("bank".parse().unwrap(), "fraud".parse().unwrap());
            let load = Load { namespace, model, seconds: 1.0, requests, in_flight: 0.0, open: 0, served: (0, 0.0) };
            self.orchestrator.load(Loads { gateway: "g0".into(), models: vec![load] }).await.unwrap();
            let status = self.until(|_| true).await;
            if status.scaling.as_ref().is_some_and(&holds) {
                return status;
            }
            assert!(tokio::time::Instant::now() < until, "{status:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_crashed_is_started_again_though_the_clock_was_set_back_or_forward() {
    for forward in [false, true] {
        let running = running(1).await;
        // Crash upon crash, with the clock set by hours in between: none of them waits for longer than it would have.
        for crash in 1..=3_u64 {
            let before = running.stage.ends.lock().len();
            running.stage.ends.lock().iter().for_each(|end| end.notify_one());
            running.until(|status| u64::from(status.restarts) == crash).await;
            let now = if forward { NOW + crash * HOURS } else { NOW - crash * HOURS };
            running.now.store(now, Ordering::Relaxed);
            running.steady.fetch_add(10_000, Ordering::Relaxed);
            running.until(|status| status.replicas == 1).await;
            assert_eq!(running.stage.ends.lock().len(), before + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_idle_for_hours_because_the_clock_was_set() {
    let running = running(0).await;
    running.hears(7).await;
    for now in [NOW + HOURS, NOW - HOURS, NOW + 3 * HOURS] {
        running.now.store(now, Ordering::Relaxed);
        for requests in [0, 7] {
            let status = running.hears(requests).await;
            assert_eq!((status.wanted, status.asleep), (1, false), "{status:?}");
        }
    }
    // An hour that has passed is one.
    running.hears(0).await;
    running.steady.fetch_add(3_700 * 1_000, Ordering::Relaxed);
    let status = running.says(0, |scaling| scaling.wanted == 0).await;
    assert!(status.asleep, "{status:?}");
}
