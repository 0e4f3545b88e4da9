//! What each service is made of: the same whether it shares a process or has one of its own.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use access::{Authorizer, POLICIES};
use gateway::{Ring, Security, listen::Listener, pipeline::assess::quota};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use model_server::{process, runtime};
use orchestrator::{Executor, Orchestrator, local::Local};
use registry::{Parts, Registry};
use rpc::{Clock, Supervisor, door::Badge, model_server::Renewal};
use sentinel::Sentinel;
use settings::Settings;
use store::{Artefacts, Catalog, Log, Streams};
use tokio::sync::oneshot;
use trainer::{Trainer, Work, jobs::Confine};
use types::Refusal;

use super::stop::{Stop, ended};
use crate::output;

/// The folder of jobs in the data directory.
pub(super) const JOBS: &str = "jobs";
/// How long requests in flight may take when the node stops.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// How long a model server's requests may take when it is drained.
const DRAIN: Duration = Duration::from_secs(30);
/// Inferences at a time of a replica to which that is left, at most.
const LANES: usize = 8;
/// How often the ledger takes in what a call that was cut short left behind.
const DRAIN_LEDGER: Duration = Duration::from_secs(1);
/// After how many of those it is looked whether the disk is short.
const SWEEP: u64 = 30;
/// How often the metrics are kept small.
const UPKEEP: Duration = Duration::from_secs(5);

/// What every service of a node works with.
#[derive(Clone)]
pub(super) struct Shared {
    /// The data directory.
    pub(super) root: PathBuf,
    /// Where sockets lie.
    pub(super) run: PathBuf,
    pub(super) supervisor: Arc<dyn Supervisor>,
    pub(super) artefacts: Arc<dyn Artefacts>,
    pub(super) clock: Clock,
}

/// Opens the registry.
pub(super) async fn registry(
    shared: &Shared,
    catalog: Arc<dyn Catalog>,
    log: Arc<dyn Log>,
) -> Result<Arc<Registry>, Refusal> {
    let registry = Registry::open(Parts {
        catalog,
        artefacts: shared.artefacts.clone(),
        log,
        supervisor: shared.supervisor.clone(),
        clock: shared.clock.clone(),
    });
    let registry = Arc::new(registry.await?);
    registry.note_policies(POLICIES).await?;
    Ok(registry)
}

/// What the registry does beside answering, until `stop` resolves.
pub(super) async fn run_registry(registry: Arc<Registry>, stop: impl Future<Output = ()>) {
    let work = async {
        for round in 0_u64.. {
            tokio::time::sleep(DRAIN_LEDGER).await;
            if let Err(refusal) = registry.drain().await {
                tracing::error!(%refusal, "the ledger can't take in what waits");
            }
            if round.is_multiple_of(SWEEP)
                && let Err(refusal) = registry.sweep().await
            {
                tracing::warn!(%refusal, "the disk is short, and what nobody needs can't be let go of");
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = stop => {}
    }
}

/// Opens the orchestrator, with the loop to run.
pub(super) async fn orchestrator(
    shared: &Shared,
    settings: &Settings,
    catalog: Arc<dyn Catalog>,
    registry: Arc<dyn rpc::Registry>,
    badge: Badge,
) -> Result<(Arc<Orchestrator>, Executor), Refusal> {
    let backend = Arc::new(local(shared, settings, badge)?);
    let spread = orchestrator::Spread { alone: settings.alone, shared: settings.shared_memory };
    // As many inferences at a time as a model server makes of what was left to it.
    let lanes = if settings.sessions == 0 { settings.cores.clamp(1, LANES) } else { settings.sessions };
    let lanes = u32::try_from(lanes).unwrap_or(u32::MAX);
    let (share, sources) = (settings.memory_reserve, settings.memory_sources.clone());
    let memory = Some(orchestrator::memory::Reserve { share, sources });
    let bounds = orchestrator::Bounds { spread, upstreams: settings.upstreams.clone(), lanes, memory };
    let heads: orchestrator::AskHeads = Box::new(move |since| {
        let registry = registry.clone();
        Box::pin(async move { registry.heads(since).await })
    });
    let (orchestrator, executor) = Orchestrator::open(catalog, shared.clock.clone(), backend, heads, bounds).await?;
    Ok((Arc::new(orchestrator), executor))
}

/// Opens the sentinel, with the loop to run.
pub(super) async fn sentinel(
    shared: &Shared,
    settings: &Settings,
    catalog: Arc<dyn Catalog>,
) -> Result<(Arc<Sentinel>, sentinel::Work), Refusal> {
    let parts = sentinel::Parts {
        catalog,
        clock: shared.clock.clone(),
        arbiter: settings.arbiter.clone(),
        budget: settings.budget,
        window: settings.sensing.window,
        webhook: settings.told.clone(),
        agents: defend::agents(),
    };
    let (sentinel, work) = Sentinel::open(parts).await?;
    Ok((Arc::new(sentinel), work))
}

/// Opens the trainer, with the loop to run.
pub(super) async fn trainer(
    shared: &Shared,
    settings: &Settings,
    (catalog, streams): (Arc<dyn Catalog>, Arc<dyn Streams>),
    (registry, orchestrator): (Arc<dyn rpc::Registry>, Arc<dyn rpc::Orchestrator>),
    sentinel: Arc<dyn rpc::Sentinel>,
) -> Result<(Arc<Trainer>, Work), Refusal> {
    let (keep, keep_bytes) = (settings.limits.keep, settings.limits.keep_bytes);
    let parts = trainer::Parts {
        streams,
        catalog,
        artefacts: shared.artefacts.clone(),
        registry,
        orchestrator,
        sentinel,
        clock: shared.clock.clone(),
        keep,
        keep_bytes,
        snapshot_every: settings.snapshot_every,
        webhooks: settings.webhooks.clone(),
        jobs: trainer::jobs::Settings {
            kinds: settings.jobs.clone(),
            binary: std::env::current_exe().map_err(|error| output::internal(&error))?,
            folder: shared.root.join(JOBS),
            workers: settings.workers,
            confine: match settings.sandbox {
                process::Sandbox::Auto => Confine::Auto,
                process::Sandbox::Required => Confine::Required,
                process::Sandbox::Off => Confine::Off,
            },
        },
    };
    let (trainer, work) = Trainer::open(parts).await?;
    Ok((Arc::new(trainer), work))
}

fn local(shared: &Shared, settings: &Settings, badge: Badge) -> Result<Local, Refusal> {
    let library = runtime::find(settings.onnxruntime.as_deref());
    if let Err(refusal) = &library {
        tracing::warn!(%refusal, "models can't be loaded until ONNX Runtime is there");
    }
    let binary = std::env::current_exe().map_err(|error| output::internal(&error))?;
    let lacking = if settings.sandbox == process::Sandbox::Off { Vec::new() } else { sandbox::probe() };
    if let Some(lacking) = settings.sandbox.accept(&lacking)? {
        tracing::warn!(lacking, "model servers are confined in part: this kernel can't do all");
    }
    let (sessions, cores) = (settings.sessions, settings.cores);
    let (sandbox, life) = (settings.sandbox, settings.life);
    // Whatever a model server must never see: it tries to, and says so.
    let forbidden = ["catalog.db", "ca.key", "artefacts/bundles"].map(|name| shared.root.join(name)).to_vec();
    let run = shared.run.clone();
    let make = move |shown: Renewal, spec: &orchestrator::backend::Spec| {
        let settings = process::Settings {
            chain: shown.chain,
            key: shown.key,
            ca: shown.ca,
            library: library.as_ref().map_err(Clone::clone)?.path.clone(),
            sessions,
            cores,
            memory: spec.memory.0,
            sandbox,
            shared: spec.room == orchestrator::Room::Many,
            outward: spec.outward,
            bundles: orchestrator::local::bundles(&run.join(format!("{}.sock", spec.server.0))),
            forbidden: forbidden.clone(),
            age_ms: u64::try_from(age(life).as_millis()).unwrap_or(u64::MAX),
            grace_ms: u64::try_from(DRAIN.as_millis()).unwrap_or(u64::MAX),
        };
        let settings = serde_json::to_vec(&settings).map_err(|error| output::internal(&error))?;
        Ok(zeroize::Zeroizing::new(settings))
    };
    Ok(Local {
        command: (binary, vec!["model-server".into()]),
        // The allocator takes memory as it is used: the limit on the process counts what is only reserved, too.
        environment: [(runtime::QUIET, "1"), ("MIMALLOC_ARENA_EAGER_COMMIT", "0")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        run: shared.run.clone(),
        supervisor: shared.supervisor.clone(),
        badge,
        life,
        artefacts: shared.artefacts.clone(),
        settings: Box::new(make),
    })
}

/// How long a connection between services lasts at most, where their certificates last `life`.
pub(super) fn age(life: Duration) -> Duration {
    life * 2 / 3
}

/// Whom a gateway works with, and what it shows.
pub(super) struct Gateway {
    pub(super) name: String,
    pub(super) registry: Arc<dyn rpc::Registry>,
    pub(super) orchestrator: Arc<dyn rpc::Orchestrator>,
    pub(super) trainer: Arc<dyn rpc::Trainer>,
    pub(super) sentinel: Arc<dyn rpc::Sentinel>,
    pub(super) streams: Arc<dyn Streams>,
    pub(super) badge: Badge,
    pub(super) security: Security,
    pub(super) metrics: PrometheusHandle,
}

/// Where a process collects its metrics.
pub(super) fn metrics() -> Result<PrometheusHandle, Refusal> {
    PrometheusBuilder::new()
        .set_buckets(&gateway::BUCKETS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| output::internal(&error))
}

impl Gateway {
    /// Makes the ring.
    pub(super) fn ring(self, shared: &Shared, settings: &Settings) -> Result<Arc<Ring>, Refusal> {
        let authorizer = match self.security {
            Security::On => Authorizer::new(POLICIES).map_err(|error| output::internal(&error))?,
            Security::Off => Authorizer::open(),
        };
        let metrics = self.metrics.clone();
        // It ends with the process.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                self.metrics.run_upkeep();
            }
        });
        Ok(Ring::new(gateway::Parts {
            registry: self.registry,
            orchestrator: self.orchestrator,
            trainer: self.trainer,
            sentinel: self.sentinel,
            sensing: settings.sensing.clone(),
            supervisor: shared.supervisor.clone(),
            artefacts: shared.artefacts.clone(),
            streams: self.streams,
            name: self.name,
            authorizer,
            security: self.security,
            issuer: settings.issuer.clone(),
            badge: self.badge,
            traces: settings.traces.clone(),
            balancer: settings.balancer,
            limits: settings.limits,
            clock: shared.clock.clone(),
            metrics: Arc::new(move || metrics.render() + &crate::allocator::counted()),
        }))
    }
}

/// Answers at the port until told to stop, and until everything is recorded; `open` is told when it begins.
pub(super) async fn run_gateway(ring: Arc<Ring>, listener: Listener, open: oneshot::Sender<()>, stop: &Stop) {
    let (ready, followed) = oneshot::channel();
    gateway::keys::read(&ring).await;
    let keys = tokio::spawn(gateway::keys::run(ring.clone(), stop.told()));
    let follower = tokio::spawn(gateway::follow::run(ring.clone(), ready, stop.told()));
    // The follower answers or ends; either way the port opens now.
    let _ = followed.await;
    quota::resume(&ring).await;
    let usage = tokio::spawn(quota::run(ring.clone(), stop.told()));
    let load = tokio::spawn(gateway::load::run(ring.clone(), stop.told()));
    let server = tokio::spawn(listener.serve(ring.clone(), stop.told(), GRACE));
    // Whoever waited may be gone: then nobody needs to know.
    let _ = open.send(());
    let parts = [(server, "port"), (follower, "follower"), (keys, "keys"), (usage, "usage"), (load, "load")];
    ended(parts).await;
    ring.close().await;
}

/// Where the door of a service lies in the folder of sockets.
pub(super) fn socket(run: &Path, service: &str) -> PathBuf {
    run.join(format!("{service}.sock"))
}
