//! `up --split`: each service in a process of its own, started again when it ends.
//!
//! The supervisor keeps every listening socket open, so that callers of a service that has just ended wait for the next
//! process instead of being refused.

use std::{os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use gateway::listen;
use rpc::{
    Clock, Supervisor as _,
    child::{self, Start},
    door,
    registry::RegistryClient,
};
use tokio::{
    process::Child,
    time::{Instant, timeout},
};
use types::Refusal;

use super::{
    Plan,
    badges::Badges,
    child::{Order, Service},
    services::{GRACE, age, socket},
    stop::{Part, Stop, ended},
    supervisor::{Keeper, Stores, rooms},
};
use crate::output;

/// The wait before a service that ended is started again: doubled each time up to the most, and the first again after
/// it has run for longer than that.
const FIRST: Duration = Duration::from_millis(50);
const MOST: Duration = Duration::from_secs(5);
/// What a service may take to end beyond what its requests may.
const SPARE: Duration = Duration::from_secs(5);
/// Variables that a gateway needs to fetch an issuer's keys: certificates of the system, proxies. Who sends webhooks needs the former.
pub(super) const CERTIFICATES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
const OUTWARD: [&str; 6] = ["SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"];

/// The services of a split node, running.
pub(super) struct Split {
    gateways: Vec<Part>,
    others: Vec<Part>,
    stop_gateways: Stop,
    stop_others: Stop,
}

/// Starts every service; returns also where the gateways listen, and a way to the registry.
///
/// # Errors
/// When a port or socket can't be opened, or a process can't be started.
pub(super) async fn start(
    plan: &Plan,
    keeper: Arc<Keeper>,
    stores: Arc<Stores>,
) -> Result<(Split, Vec<std::net::SocketAddr>, RegistryClient), Refusal> {
    let (stop_gateways, stop_others) = (Stop::new(), Stop::new());
    let mut badges = Badges::new(keeper.clone(), plan.settings.life, Clock::Node(plan.anchor));
    let badge = badges.service("supervisor").await?;
    let listener = child::accepting(child::bind(&socket(&plan.run, "supervisor"))?)?;
    let times = (age(plan.settings.life), Duration::ZERO);
    let door = door::serve(listener, badge.clone(), rooms(keeper.clone(), stores), stop_others.told(), times);
    let mut others = vec![(tokio::spawn(door), "door"), (tokio::spawn(badges.run(stop_others.told())), "certificates")];
    let inner = [
        (Service::Registry, "registry"),
        (Service::Orchestrator, "orchestrator"),
        (Service::Trainer, "trainer"),
        (Service::Sentinel, "sentinel"),
    ];
    for (service, what) in inner {
        let listener = child::bind(&socket(&plan.run, &service.path()))?;
        let kept = Kept::new(plan, service, listener.into(), keeper.clone())?;
        others.push((tokio::spawn(kept.run(stop_others.clone())), what));
    }
    let (mut gateways, mut addresses) = (Vec::new(), Vec::new());
    for (number, address) in plan.settings.listen.iter().enumerate() {
        let listener = listen::bind(*address, plan.secure)?;
        addresses.push(listener.local_addr().map_err(|error| output::internal(&error))?);
        let kept = Kept::new(plan, Service::Gateway(format!("g{number}")), listener.into(), keeper.clone())?;
        gateways.push((tokio::spawn(kept.run(stop_gateways.clone())), "gateway"));
    }
    let channel = door::connect(socket(&plan.run, "registry"), "registry", badge);
    let registry = RegistryClient(channel.map_err(|error| output::internal(&error))?);
    Ok((Split { gateways, others, stop_gateways, stop_others }, addresses, registry))
}

impl Split {
    /// Ends the services: gateways first, since what they record still needs the others.
    pub(super) async fn stop(self) {
        self.stop_gateways.say();
        ended(self.gateways).await;
        self.stop_others.say();
        ended(self.others).await;
    }
}

/// One service, kept running.
struct Kept {
    binary: PathBuf,
    environment: Vec<(String, String)>,
    listener: OwnedFd,
    order: Order,
    keeper: Arc<Keeper>,
    dir: PathBuf,
}

impl Kept {
    fn new(plan: &Plan, service: Service, listener: OwnedFd, keeper: Arc<Keeper>) -> Result<Self, Refusal> {
        let outward = OUTWARD.iter().filter(|name| match service {
            Service::Gateway(_) => true,
            Service::Trainer => CERTIFICATES.contains(name) && !plan.settings.webhooks.is_empty(),
            Service::Sentinel => CERTIFICATES.contains(name) && plan.settings.told.is_some(),
            _ => false,
        });
        let environment = outward.filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
        Ok(Self {
            binary: std::env::current_exe().map_err(|error| output::internal(&error))?,
            environment: environment.collect(),
            listener,
            dir: std::env::current_dir().map_err(|error| output::internal(&error))?,
            order: Order {
                service,
                shown: rpc::model_server::Renewal::default(),
                root: plan.root.clone(),
                run: plan.run.clone(),
                secure: plan.secure,
                settings: plan.values.clone(),
                anchor: plan.anchor,
            },
            keeper,
        })
    }

    async fn spawn(&mut self) -> Result<Child, Refusal> {
        self.order.shown = self.keeper.identity(self.order.service.path()).await?;
        let order = serde_json::to_vec(&self.order).map_err(|error| output::internal(&error))?;
        let start = Start {
            command: (&self.binary, &["service".to_owned()]),
            environment: &self.environment,
            run: &self.order.run,
            dir: &self.dir,
            name: &self.order.service.file(),
            socket: self.listener.try_clone().map_err(|error| output::internal(&error))?,
        };
        Ok(start.spawn(&zeroize::Zeroizing::new(order))?.0)
    }

    async fn run(mut self, stop: Stop) {
        let (service, mut wait) = (self.order.service.path(), FIRST);
        loop {
            let started = Instant::now();
            match self.spawn().await {
                Err(refusal) => tracing::error!(service, %refusal, "a service can't be started"),
                Ok(mut child) => {
                    tracing::info!(service, pid = child.id(), "a service is started");
                    let how = tokio::select! {
                        how = child.wait() => how,
                        () = stop.told() => return end(&service, child).await,
                    };
                    match how {
                        Ok(how) => tracing::error!(service, %how, "a service has ended; it is started again"),
                        Err(error) => tracing::error!(service, %error, "a service can't be waited for"),
                    }
                }
            }
            wait = if started.elapsed() > MOST { FIRST } else { MOST.min(wait * 2) };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.told() => return,
            }
        }
    }
}

/// Asks a service to end, waits, insists.
async fn end(service: &str, mut child: Child) {
    child::terminate(&child);
    if timeout(GRACE + SPARE, child.wait()).await.is_err() {
        tracing::warn!(service, "a service did not end in time");
        // It fails only for a process that is gone.
        let _ = child.kill().await;
    }
}
