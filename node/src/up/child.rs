//! A service of `up --split` in its own process: its settings and a listening socket come in, the supervisor's door
//! gives it the rest.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use gateway::{Security, keys::KeySet, listen::Listener};
use model_server::process::Sandbox;
use rpc::{
    Clock,
    clock::Anchor,
    door::{self, Badge, Rooms},
    model_server::Renewal,
    orchestrator::{OrchestratorClient, orchestrator_router},
    registry::{RegistryClient, heads_router, registry_router, trainer_router as registry_for_trainer},
    sentinel::{SentinelClient, reports_router, sentinel_router},
    store::{CatalogClient, LogClient, StreamsClient},
    supervisor::SupervisorClient,
    trainer::{TrainerClient, trainer_router},
};
use serde::{Deserialize, Serialize};
use settings::{Resolved, Settings};
use store::directory::Directory;
use tokio::sync::oneshot;
use types::Refusal;

use super::{
    badges::Badges,
    harden, log,
    services::{self, GRACE, Gateway, Shared, age, socket},
    split::CERTIFICATES,
    stop::Stop,
};
use crate::output;

/// Which service a process is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Service {
    /// The registry.
    Registry,
    /// The orchestrator.
    Orchestrator,
    /// The trainer.
    Trainer,
    /// The sentinel.
    Sentinel,
    /// A gateway, by its name.
    Gateway(String),
}

impl Service {
    /// The path of its SPIFFE id.
    pub(super) fn path(&self) -> String {
        match self {
            Self::Registry => "registry".into(),
            Self::Orchestrator => "orchestrator".into(),
            Self::Trainer => "trainer".into(),
            Self::Sentinel => "sentinel".into(),
            Self::Gateway(name) => format!("gateway/{name}"),
        }
    }

    /// What its files are called by.
    pub(super) fn file(&self) -> String {
        self.path().replace('/', "-")
    }
}

/// What a service is started with.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(super) service: Service,
    /// What it shows at first.
    pub(super) shown: Renewal,
    /// The data directory.
    pub(super) root: PathBuf,
    /// Where the sockets are.
    pub(super) run: PathBuf,
    /// Whether callers are checked.
    pub(super) secure: bool,
    /// The settings of the node.
    pub(super) settings: Vec<(String, String, String)>,
    /// Since when steady time counts.
    pub(super) anchor: Anchor,
}

/// A process that knows what it is to be.
pub(crate) struct Prepared {
    order: Order,
    settings: Settings,
}

/// Reads what this process is to be, while it is one thread.
///
/// # Errors
/// When that can't be read, or not be prepared.
pub(crate) fn prepare(path: &Path) -> Result<Prepared, Refusal> {
    harden()?;
    let order: Order = rpc::child::settings(path)?;
    let settings = Resolved::given(order.settings.clone())?.settings()?;
    log::start(&settings.log, settings.log_json)?;
    order.fence(&settings)?;
    Ok(Prepared { order, settings })
}

/// Secrets and stores of the data directory; no service reads them as files, and each tries to.
const SECRETS: [&str; 6] = ["ca.key", "bundle.key", "log.secret", "admin.token", "catalog.db", "events.db"];

/// What who sends webhooks reads: how names are looked up, and the certificates that the supervisor passed on. Nothing for others.
fn outward(sends: bool) -> impl Iterator<Item = PathBuf> {
    let certificates = CERTIFICATES.iter().filter_map(std::env::var_os).map(PathBuf::from);
    sandbox::OUTWARD.iter().map(PathBuf::from).chain(certificates).filter(move |_| sends)
}

impl Order {
    /// Fences the process in to the files that its service needs. There must be no other threads yet.
    fn fence(&self, settings: &Settings) -> Result<(), Refusal> {
        if settings.sandbox == Sandbox::Off {
            return Ok(());
        }
        let binary = std::env::current_exe().map_err(|error| output::internal(&error))?;
        let (artefacts, run) = (self.root.join("artefacts"), self.run.clone());
        let (read, write, start) = match &self.service {
            Service::Registry => (vec![run], vec![artefacts], Vec::new()),
            // It hands states over in staging, reads those that are signed, and runs jobs and workers: they are confined once
            // more.
            Service::Trainer => {
                let of = |kind: &trainer::jobs::Kind| {
                    let program = kind.command.first().map(PathBuf::from);
                    kind.read.iter().cloned().chain(program).collect::<Vec<_>>()
                };
                let jobs: Vec<PathBuf> = settings.jobs.values().flat_map(of).collect();
                let tools = sandbox::tools().filter(|_| !jobs.is_empty()).collect::<Vec<_>>();
                let start = tools.into_iter().chain(jobs).chain([binary]).collect();
                let folder = self.root.join(services::JOBS);
                std::fs::create_dir_all(&folder).map_err(|error| output::internal(&error))?;
                let write = vec![artefacts.join("staging"), folder, "/dev/null".into()];
                (outward(!settings.webhooks.is_empty()).chain([run, artefacts]).collect(), write, start)
            }
            Service::Gateway(_) => {
                let mut read: Vec<PathBuf> = sandbox::OUTWARD.iter().map(PathBuf::from).chain([run]).collect();
                if let Some((_, KeySet::File(keys))) = &settings.issuer {
                    // A file that is replaced is another file: its folder is what is read.
                    read.extend(keys.parent().map(Path::to_owned));
                }
                (read, vec![artefacts], Vec::new())
            }
            Service::Sentinel => (outward(settings.told.is_some()).chain([run]).collect(), Vec::new(), Vec::new()),
            Service::Orchestrator => {
                let library = model_server::runtime::find(settings.onnxruntime.as_deref()).ok();
                let folder = library.and_then(|library| Some(library.path.canonicalize().ok()?.parent()?.to_owned()));
                let processes = ["/proc", "/bin", "/usr/bin"].map(PathBuf::from);
                let memory = settings.memory_sources.iter().filter(|source| source.exists()).cloned();
                let read = folder.into_iter().chain(processes).chain([artefacts]).chain(memory).collect();
                (read, vec![run, PathBuf::from("/dev/null")], vec![binary])
            }
        };
        let secrets: Vec<PathBuf> =
            SECRETS.iter().map(|name| self.root.join(name)).filter(|path| path.exists()).collect();
        let mut lacking: Vec<String> = sandbox::fence(&read, &write, &start).iter().map(ToString::to_string).collect();
        let attempts = sandbox::try_to_read(&secrets);
        lacking.extend(attempts.iter().filter(|attempt| !attempt.denied()).map(ToString::to_string));
        let service = self.service.path();
        match settings.sandbox.accept(&lacking)? {
            None => tracing::info!(service, "fenced in: no secret of the data directory can be read"),
            Some(lacking) => tracing::warn!(service, lacking, "fenced in in part"),
        }
        Ok(())
    }
}

/// Runs the service until its supervisor says stop or is gone.
///
/// # Errors
/// What keeps it from serving.
pub(crate) async fn run(Prepared { order, settings }: Prepared, parent: u32) -> Result<(), Refusal> {
    let (stop, told) = (Stop::new(), rpc::child::stopped(parent)?);
    let say = stop.clone();
    tokio::spawn(async move {
        told.await;
        say.say();
    });
    let badge = Badge::new(order.shown.tls()?);
    let connect = |peer: &str| {
        let channel = door::connect(socket(&order.run, peer), peer, badge.clone());
        channel.map_err(|error| output::internal(&error))
    };
    let supervisor = connect("supervisor")?;
    let shared = Shared {
        root: order.root.clone(),
        run: order.run.clone(),
        supervisor: Arc::new(SupervisorClient(supervisor.clone())),
        artefacts: Arc::new(Directory::opened(order.root.join("artefacts")).keeping(settings.disk_reserve)),
        clock: Clock::Node(order.anchor),
    };
    let mut badges = Badges::new(shared.supervisor.clone(), settings.life, shared.clock.clone());
    badges.add(&order.service.path(), badge.clone());
    match &order.service {
        Service::Registry => {
            let (catalog, log) = (CatalogClient(supervisor.clone()), LogClient(supervisor));
            let registry = services::registry(&shared, Arc::new(catalog), Arc::new(log)).await?;
            tokio::spawn(badges.run(stop.told()));
            tokio::spawn(services::run_registry(registry.clone(), stop.told()));
            let whole = door::for_services(&["gateway", "supervisor"], registry_router(registry.clone()));
            let trainer = door::for_services(&["trainer"], registry_for_trainer(registry.clone()));
            let heads = door::for_services(&["orchestrator"], heads_router(registry));
            let rooms: Rooms = Arc::new(move |peer| whole(peer).or_else(|| trainer(peer)).or_else(|| heads(peer)));
            serve(badge, rooms, &settings, &stop).await
        }
        Service::Orchestrator => {
            let catalog = Arc::new(CatalogClient(supervisor));
            let registry = Arc::new(RegistryClient(connect("registry")?));
            let (orchestrator, executor) =
                services::orchestrator(&shared, &settings, catalog, registry, badge.clone()).await?;
            tokio::spawn(badges.run(stop.told()));
            let executor = tokio::spawn(executor.run(stop.told()));
            let rooms = door::for_services(&["gateway", "trainer"], orchestrator_router(orchestrator));
            serve(badge, rooms, &settings, &stop).await?;
            executor.await.map_err(|error| output::internal(&error))
        }
        Service::Trainer => {
            let stores = (Arc::new(CatalogClient(supervisor.clone())) as _, Arc::new(StreamsClient(supervisor)) as _);
            let registry = Arc::new(RegistryClient(connect("registry")?));
            let orchestrator = Arc::new(OrchestratorClient(connect("orchestrator")?));
            let sentinel = Arc::new(SentinelClient(connect("sentinel")?));
            let others = (registry as _, orchestrator as _);
            let (trainer, work) = services::trainer(&shared, &settings, stores, others, sentinel).await?;
            tokio::spawn(badges.run(stop.told()));
            let work = tokio::spawn(work.run(stop.told()));
            let rooms = door::for_services(&["gateway"], trainer_router(trainer));
            serve(badge, rooms, &settings, &stop).await?;
            work.await.map_err(|error| output::internal(&error))
        }
        Service::Sentinel => {
            let (sentinel, work) = services::sentinel(&shared, &settings, Arc::new(CatalogClient(supervisor))).await?;
            tokio::spawn(badges.run(stop.told()));
            let work = tokio::spawn(work.run(stop.told()));
            let sentinel: Arc<dyn rpc::Sentinel> = sentinel;
            let whole = door::for_services(&["gateway"], sentinel_router(sentinel.clone()));
            let reports = door::for_services(&["trainer"], reports_router(sentinel));
            let rooms: Rooms = Arc::new(move |peer| whole(peer).or_else(|| reports(peer)));
            serve(badge, rooms, &settings, &stop).await?;
            work.await.map_err(|error| output::internal(&error))
        }
        Service::Gateway(name) => {
            let security = if order.secure { Security::On } else { Security::Off };
            let registry = Arc::new(RegistryClient(connect("registry")?));
            let orchestrator = Arc::new(OrchestratorClient(connect("orchestrator")?));
            let trainer = Arc::new(TrainerClient(connect("trainer")?));
            let sentinel = Arc::new(SentinelClient(connect("sentinel")?));
            let streams = Arc::new(StreamsClient(supervisor));
            let (name, metrics) = (name.clone(), services::metrics()?);
            let tls = if order.secure { Some(badges.port().await?) } else { None };
            let listener = Listener::new(rpc::child::socket()?.into(), tls)?;
            let parts = Gateway { name, registry, orchestrator, trainer, sentinel, streams, badge, security, metrics };
            let ring = parts.ring(&shared, &settings)?;
            let (open, _) = oneshot::channel();
            tokio::spawn(badges.run(stop.told()));
            services::run_gateway(ring, listener, open, &stop).await;
            Ok(())
        }
    }
}

/// Opens the service's door, each peer to its own room, until told to stop.
async fn serve(badge: Badge, rooms: Rooms, settings: &Settings, stop: &Stop) -> Result<(), Refusal> {
    let (listener, times) = (rpc::child::unix_listener()?, (age(settings.life), GRACE));
    door::serve(listener, badge, rooms, stop.told(), times).await;
    Ok(())
}
