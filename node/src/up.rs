//! `mantlet up`: wires a node and runs it until it is told to stop.

mod certificates;
mod data;
pub(crate) mod log;

use std::{path::PathBuf, sync::Arc, time::Duration};

use access::{Authorizer, POLICIES};
use gateway::{Ring, Security, listen::Listener, pipeline::assess::quota};
use model_server::{process, runtime};
use orchestrator::{Orchestrator, local::Local};
use registry::{Parts, Registry};
use rpc::{Clock, door::Badge};
use serde_json::json;
use store::{
    Artefacts, Catalog,
    directory::Directory,
    sqlite::{SqliteCatalog, SqliteLog, SqliteStreams},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
};
use types::{Code, Refusal};

use crate::{
    cli::{self, Format, Node},
    client, commands, output,
};
use certificates::{Certificates, Issuing};
use data::DataDir;

/// How long requests in flight may take when the node stops.
const GRACE: Duration = Duration::from_secs(10);
/// How long a model server's requests may take when it is drained.
const DRAIN: Duration = Duration::from_secs(30);
/// The name of the one gateway.
const GATEWAY: &str = "g0";
/// How often the ledger takes in what a call that was cut short left behind.
const DRAIN_LEDGER: Duration = Duration::from_secs(1);

pub(crate) async fn run(node: &Node, arguments: &cli::Up, format: Format) -> Result<(), Refusal> {
    // Whatever a node writes is its owner's alone, also where a library makes the file.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // Keys and tokens must not end in a core dump.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none).map_err(|error| output::internal(&error))?;
    let dir = client::data_dir(node)?;
    let flags: Vec<_> =
        arguments.listen.iter().map(|listen| ("gateway", "listen", "--listen", listen.to_string())).collect();
    let settings = commands::config_of(&dir, arguments.config.as_deref(), &flags)?;
    log::start(&settings.log, settings.log_json)?;
    let security = match arguments.security {
        cli::Security::On => Security::On,
        cli::Security::Off => Security::Off,
    };
    let clock = Clock::System;
    let data = DataDir::open(dir, clock.now())?;
    let certificates = Certificates::new(&data, settings.names.clone(), settings.life, clock.clone())?;
    let tls = (security == Security::On).then(|| certificates.public.clone());
    let listener = Listener::bind(settings.listen, tls).await?;

    let catalog = Arc::new(SqliteCatalog::open(&data.path("catalog.db")).await?);
    let streams = Arc::new(SqliteStreams::open(&data.path("events.db")).await?);
    let ledger = Arc::new(SqliteLog::open(&data.path("ledger.db")).await?);
    let artefacts: Arc<dyn Artefacts> = Arc::new(Directory::open(data.path("artefacts")).await?);
    let registry = Registry::open(Parts {
        catalog: catalog.clone(),
        artefacts: artefacts.clone(),
        log: ledger.clone(),
        signing: data.signing_key()?,
        ledger: data.ledger_key()?,
        clock: clock.clone(),
    });
    let registry = Arc::new(registry.await?);
    registry.note_policies(POLICIES).await?;
    let token = data.admin(&registry).await?;

    let backend =
        Arc::new(local(&data, &settings, artefacts.clone(), clock.clone(), certificates.orchestrator.clone())?);
    let (orchestrator, executor) =
        Orchestrator::open(catalog.clone() as Arc<dyn Catalog>, clock.clone(), backend).await?;
    let orchestrator = Arc::new(orchestrator);

    let authorizer = match security {
        Security::On => Authorizer::new(POLICIES).map_err(|error| output::internal(&error))?,
        Security::Off => Authorizer::open(),
    };
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new()
        .set_buckets(&[
            1e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
        ])
        .and_then(metrics_exporter_prometheus::PrometheusBuilder::install_recorder)
        .map_err(|error| output::internal(&error))?;
    let renderer = recorder.clone();
    let ring = Ring::new(gateway::Parts {
        registry: registry.clone(),
        orchestrator: orchestrator.clone(),
        supervisor: Arc::new(Issuing { authority: data.authority.clone(), clock: clock.clone() }),
        artefacts,
        streams: streams.clone(),
        name: GATEWAY.to_owned(),
        authorizer,
        security,
        issuer: settings.issuer,
        badge: certificates.gateway.clone(),
        limits: settings.limits,
        clock,
        metrics: Arc::new(move || renderer.render()),
    });

    let (stop, stopping) = watch::channel(false);
    let stopped = || {
        let mut stopping = stopping.clone();
        async move {
            // An error means that whoever says stop is gone, which is a stop too.
            let _ = stopping.wait_for(|stop| *stop).await;
        }
    };
    let (ready, followed) = oneshot::channel();
    gateway::keys::read(&ring).await;
    let keys = tokio::spawn(gateway::keys::run(ring.clone(), stopped()));
    let follower = tokio::spawn(gateway::follow::run(ring.clone(), ready, stopped()));
    let executor = tokio::spawn(executor.run(stopped()));
    // The follower answers or ends; either way the port opens now.
    let _ = followed.await;
    quota::resume(&ring).await;
    let usage = tokio::spawn(quota::run(ring.clone(), stopped()));
    let address = listener.address();
    let server = tokio::spawn(listener.serve(ring.clone(), stopped(), GRACE));
    let certificates = tokio::spawn(certificates.run(stopped()));
    let keeper = tokio::spawn(keep(registry.clone(), recorder, stopped()));

    let url = match security {
        Security::On => format!("https://{address}"),
        Security::Off => format!("http://{address}"),
    };
    data.announce(&url, &token, security == Security::On)?;
    greet(&data, &url, format);
    signalled().await?;

    output::note("stopping: requests in flight may end");
    data.withdraw();
    stop.send_replace(true);
    for (task, what) in [
        (server, "gateway"),
        (executor, "orchestrator"),
        (follower, "follower"),
        (keys, "keys"),
        (certificates, "certificates"),
        (usage, "usage"),
        (keeper, "keeper"),
    ] {
        if let Err(error) = task.await {
            tracing::error!(%error, what, "a service did not end well");
        }
    }
    ring.close().await;
    catalog.close().await;
    streams.close().await;
    ledger.close().await;
    Ok(())
}

/// Now and then: the ledger takes in what waits, and the metrics are kept small.
async fn keep(
    registry: Arc<Registry>,
    recorder: metrics_exporter_prometheus::PrometheusHandle,
    stopped: impl Future<Output = ()>,
) {
    let work = async {
        loop {
            tokio::time::sleep(DRAIN_LEDGER).await;
            recorder.run_upkeep();
            if let Err(refusal) = registry.drain().await {
                tracing::error!(%refusal, "the ledger can't take in what waits");
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = stopped => {}
    }
}

fn local(
    data: &DataDir,
    settings: &crate::settings::Settings,
    artefacts: Arc<dyn Artefacts>,
    clock: Clock,
    badge: Badge,
) -> Result<Local, Refusal> {
    let library = runtime::find(settings.onnxruntime.as_deref());
    if let Err(refusal) = &library {
        tracing::warn!(%refusal, "models can't be loaded until ONNX Runtime is there");
    }
    let binary = std::env::current_exe().map_err(|error| output::internal(&error))?;
    let lacking = if settings.sandbox == process::Sandbox::Off { Vec::new() } else { sandbox::probe() };
    if !lacking.is_empty() {
        let lacking = lacking.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        if settings.sandbox == process::Sandbox::Required {
            return Err(Refusal::new(Code::SandboxIncomplete, lacking)
                .hint("run it on a kernel with Landlock and seccomp, or set model-server.sandbox to auto"));
        }
        tracing::warn!(lacking, "model servers are confined in part: this kernel can't do all");
    }
    let (ca, sessions, sandbox) = (data.authority.certificate().to_owned(), settings.sessions, settings.sandbox);
    // Whatever a model server must never see: it tries to, and says so.
    let forbidden = vec![data.path("catalog.db"), data.path("ca.key"), data.path("artefacts/bundles")];
    let (bundles, life) = (artefacts.clone(), settings.life);
    let make = move |identity: &access::Identity, spec: &orchestrator::backend::Spec| {
        let settings = process::Settings {
            chain: identity.chain.clone(),
            key: identity.key.clone(),
            ca: ca.clone(),
            library: library.as_ref().map_err(Clone::clone)?.path.clone(),
            sessions,
            memory: spec.memory.0,
            sandbox,
            bundle: bundles.path(spec.digest),
            forbidden: forbidden.clone(),
            age_ms: u64::try_from((life * 2 / 3).as_millis()).unwrap_or(u64::MAX),
            grace_ms: u64::try_from(DRAIN.as_millis()).unwrap_or(u64::MAX),
        };
        serde_json::to_vec(&settings).map_err(|error| output::internal(&error))
    };
    Ok(Local {
        command: (binary, vec!["model-server".into()]),
        environment: vec![(runtime::QUIET.into(), "1".into())],
        run: data.run_dir(),
        authority: data.authority.clone(),
        badge,
        life,
        artefacts,
        keys: vec![data.bundle_key()?],
        settings: Box::new(make),
        clock,
    })
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

fn greet(data: &DataDir, url: &str, format: Format) {
    let dir = data.path("");
    let dir: PathBuf = dir.components().collect();
    let shown = json!({ "url": url, "ca": data.path("ca.pem"), "client": data.path(client::CLIENT_FILE) });
    output::show(&shown, format, |_| {
        let calls = client::examples(&dir, url, "/v2/models", None);
        format!(
            "Mantlet listens at {url}\n\ndeploy a model:\n  mantlet --data-dir {} deploy MODEL.onnx --name NAME --wait\n\n{calls}",
            dir.display()
        )
    });
}

/// A data directory that can't be used.
fn unusable(path: &std::path::Path, error: &std::io::Error) -> Refusal {
    Refusal::new(Code::DataDirUnusable, format!("{}: {error}", path.display()))
        .hint("give the directory to this user, or name another: --data-dir DIR")
}
