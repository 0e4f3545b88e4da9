//! `mantlet up`: wires a node and runs it until it is told to stop.
//!
//! `supervisor` keeps keys and stores, `services` says what each service is made of. Together they share this process;
//! with `--split`, `split` starts a process for each, and `child` is what runs there.

mod badges;
pub(crate) mod child;
mod data;
pub(crate) mod log;
mod services;
mod split;
mod stop;
mod supervisor;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use gateway::{Security, listen};
use rpc::{Clock, Registry, clock::Anchor};
use serde_json::json;
use settings::Settings;
use store::{Catalog, Streams, directory::Directory};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use types::{Code, Refusal};

use crate::{
    cli::{self, Format, Node},
    client, commands, output,
};
use badges::Badges;
use data::DataDir;
use services::{Gateway, Shared};
use split::Split;
use stop::{Part, Stop, ended};
use supervisor::{Keeper, Stores};

/// What a node is to be.
pub(crate) struct Plan {
    settings: Settings,
    /// The settings as written, for processes that are given them.
    values: Vec<(String, String, String)>,
    /// The data directory.
    root: PathBuf,
    /// Where sockets lie.
    run: PathBuf,
    /// Whether callers are checked.
    secure: bool,
    /// Since when steady time counts.
    anchor: Anchor,
}

/// The services of a node, running.
enum Running {
    Together(Together),
    Split(Split),
}

pub(crate) async fn run(node: &Node, arguments: &cli::Up, format: Format) -> Result<(), Refusal> {
    harden()?;
    let dir = client::data_dir(node)?;
    let listen = arguments.listen.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
    let flags = if listen.is_empty() { Vec::new() } else { vec![("gateway", "listen", "--listen", listen)] };
    let resolved = commands::config::resolve(&dir, arguments.config.as_deref(), &flags)?;
    let settings = resolved.settings()?;
    log::start(&settings.log, settings.log_json)?;
    let data = Arc::new(DataDir::open(dir)?);
    let plan = Plan {
        values: resolved.values(),
        root: data.path(""),
        run: data.run_dir(),
        secure: matches!(arguments.security, cli::Security::On),
        settings,
        anchor: Anchor::here(),
    };
    let clock = Clock::Node(plan.anchor);
    let keeper = Keeper::open(data.clone(), plan.settings.names.clone(), plan.settings.life, clock)?;
    let stores = Arc::new(Stores::open(&data).await?);
    let outcome = serve(&plan, arguments.split, &data, (Arc::new(keeper), stores.clone()), format).await;
    stores.close().await;
    outcome
}

/// Runs the services over these stores until the node is told to stop.
async fn serve(
    plan: &Plan,
    split: bool,
    data: &DataDir,
    (keeper, stores): (Arc<Keeper>, Arc<Stores>),
    format: Format,
) -> Result<(), Refusal> {
    // Folders are there before anybody looks for them.
    let artefacts = Arc::new(Directory::open(plan.root.join("artefacts")).await?.keeping(plan.settings.disk_reserve));
    let (running, addresses, token) = if split {
        let (split, addresses, registry) = split::start(plan, keeper, stores.clone()).await?;
        (Running::Split(split), addresses, data.admin(&registry).await?)
    } else {
        let (together, address, registry) =
            together(plan, keeper, &stores, artefacts, Clock::Node(plan.anchor)).await?;
        (Running::Together(together), vec![address], data.admin(&*registry).await?)
    };
    let scheme = if plan.secure { "https" } else { "http" };
    let urls: Vec<String> = addresses.iter().map(|address| format!("{scheme}://{address}")).collect();
    data.announce(&urls, &token, plan.secure)?;
    greet(data, &urls, format);
    signalled().await?;

    output::note("stopping: requests in flight may end");
    data.withdraw();
    match running {
        Running::Together(together) => together.stop().await,
        Running::Split(split) => split.stop().await,
    }
    Ok(())
}

/// What every process of a node does first: whatever it writes is its owner's alone, also where a library makes the
/// file, and keys and tokens don't end in a core dump.
fn harden() -> Result<(), Refusal> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none).map_err(|error| output::internal(&error))
}

/// The services in this one process.
struct Together {
    gateway: Part,
    others: Vec<Part>,
    stop_gateway: Stop,
    stop_others: Stop,
}

async fn together(
    plan: &Plan,
    keeper: Arc<Keeper>,
    stores: &Stores,
    artefacts: Arc<Directory>,
    clock: Clock,
) -> Result<(Together, SocketAddr, Arc<dyn Registry>), Refusal> {
    let [address] = plan.settings.listen.as_slice() else {
        return Err(Refusal::new(Code::SettingsInvalid, "there is more than one address to listen on")
            .hint("several gateways need a process each: `mantlet up --split`"));
    };
    let listener = listen::bind(*address, plan.secure)?;
    let shared =
        Shared { root: plan.root.clone(), run: plan.run.clone(), supervisor: keeper.clone(), artefacts, clock };
    let mut badges = Badges::new(keeper, plan.settings.life, Clock::Node(plan.anchor));
    let tls = if plan.secure { Some(badges.port().await?) } else { None };
    let listener = listen::Listener::new(listener, tls)?;
    let address = listener.address();
    let registry = services::registry(&shared, stores.catalog.clone(), stores.log.clone()).await?;
    let badge = badges.service("orchestrator").await?;
    let (orchestrator, executor) =
        services::orchestrator(&shared, &plan.settings, stores.catalog.clone(), registry.clone(), badge).await?;
    let kept = (stores.catalog.clone() as Arc<dyn Catalog>, stores.streams.clone() as Arc<dyn Streams>);
    let (sentinel, watch) = services::sentinel(&shared, &plan.settings, stores.catalog.clone()).await?;
    let others = (registry.clone() as _, orchestrator.clone() as _);
    let (trainer, work) = services::trainer(&shared, &plan.settings, kept, others, sentinel.clone()).await?;
    let gateway = Gateway {
        name: "g0".to_owned(),
        registry: registry.clone(),
        orchestrator,
        trainer,
        sentinel,
        streams: stores.streams.clone(),
        badge: badges.service("gateway/g0").await?,
        security: if plan.secure { Security::On } else { Security::Off },
        metrics: services::metrics()?,
    };
    let ring = gateway.ring(&shared, &plan.settings)?;
    let (stop_gateway, stop_others) = (Stop::new(), Stop::new());
    let (open, opened) = oneshot::channel();
    let others = vec![
        (tokio::spawn(executor.run(stop_others.told())), "orchestrator"),
        (tokio::spawn(services::run_registry(registry.clone(), stop_others.told())), "registry"),
        (tokio::spawn(work.run(stop_others.told())), "trainer"),
        (tokio::spawn(watch.run(stop_others.told())), "sentinel"),
        (tokio::spawn(badges.run(stop_others.told())), "certificates"),
    ];
    let stop = stop_gateway.clone();
    let gateway = tokio::spawn(async move { services::run_gateway(ring, listener, open, &stop).await });
    // It answers or has ended.
    let _ = opened.await;
    let gateway = (gateway, "gateway");
    Ok((Together { gateway, others, stop_gateway, stop_others }, address, registry))
}

impl Together {
    /// Ends the services: the gateway first, since what it records still needs the others.
    async fn stop(self) {
        self.stop_gateway.say();
        ended([self.gateway]).await;
        self.stop_others.say();
        ended(self.others).await;
    }
}

async fn signalled() -> Result<(), Refusal> {
    let listen = |kind| signal(kind).map_err(|error| output::internal(&error));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn greet(data: &DataDir, urls: &[String], format: Format) {
    let url = urls.first().map_or("", String::as_str);
    let dir = data.path("");
    let dir: PathBuf = dir.components().collect();
    let shown =
        json!({ "url": url, "urls": urls, "ca": data.path("ca.pem"), "client": data.path(client::CLIENT_FILE) });
    output::show(&shown, format, |_| {
        let calls = client::examples(&dir, url, "/v2/models", None);
        format!(
            "Mantlet listens at {}\n\ndeploy a model:\n  mantlet --data-dir {} deploy MODEL.onnx --name NAME --wait\n\n{calls}",
            urls.join(" and at "),
            dir.display()
        )
    });
}

/// A data directory that can't be used.
fn unusable(path: &std::path::Path, error: &std::io::Error) -> Refusal {
    Refusal::new(Code::DataDirUnusable, format!("{}: {error}", path.display()))
        .hint("give the directory to this user, or name another: --data-dir DIR")
}
