//! Carries out plans: starts, probes, restarts and drains model servers.
//!
//! Wishes come in by [`rpc::Orchestrator::submit`] and are kept in the catalog. One loop ([`Executor`]) plans
//! from what is wanted and what is there, journals each step, and carries it out; a task per model server
//! ([`server`]) owns its process and reports what happens to it. [`backend::Backend`] starts processes; the
//! embedded form is [`local`]. Where a manifest leaves the number of replicas to the load, [`scaling`] asks a [`scaler`] each second, by
//! what gateways say ([`loads`]); where [`memory`] is short, models that may sleep do so sooner.
//!
//! Does not know about: callers, payloads, how a bundle is made.

pub mod backend;
mod executor;
mod heads;
mod journal;
mod loads;
pub mod local;
pub mod memory;
mod outlook;
mod scaler;
mod scaling;
mod send;
mod server;
mod turns;
mod world;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use ledger::Record;
use parking_lot::Mutex;
use rpc::{
    Clock, Feed, Since,
    orchestrator::{
        Desired, Loads, ModelKey, ModelRoute, Outlook, PlanOf, Routes, Scale, SendTo, Status, StatusOf, Submit,
        Submitted,
    },
    registry::Receipt,
};
use store::{Catalog, Collection, Expect, Write, read_all};
use tokio::sync::Notify;
use types::{
    Code, ModelName, Namespace, Refusal,
    manifest::{ScaleMode, Source, Upstream},
};

pub use executor::Executor;
pub use heads::AskHeads;
pub use plan::{Room, Spread};
use world::{Current, Scaled, Sending, World};

/// What a node bounds its orchestrator by.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    /// How replicas are spread over model servers.
    pub spread: Spread,
    /// Origins (`https://host:port`) that models of other servers may be asked at.
    pub upstreams: Vec<String>,
    /// Requests that a replica answers at a time, as far as autoscaling is concerned; 1 where it is less.
    pub lanes: u32,
    /// How much memory of the machine stays free, and where that is read; nothing is unloaded for lack of it where nothing is said.
    pub memory: Option<memory::Reserve>,
}

/// The orchestrator's door: wishes in, routes and status out.
pub struct Orchestrator {
    shared: Arc<Shared>,
}

/// What the door and the loop share.
struct Shared {
    catalog: Arc<dyn Catalog>,
    clock: Clock,
    world: Mutex<World>,
    routes: Feed<ModelKey, ModelRoute>,
    changed: Notify,
    /// Origins that models of other servers may be asked at.
    upstreams: Vec<String>,
    /// What gateways say of the load.
    heard: Mutex<loads::Heard>,
    /// Somebody waits for a model that sleeps.
    asked: Notify,
    /// Requests that a replica answers at a time.
    lanes: u32,
}

/// Keys of wishes, of numbers of replicas that people and loads say, of where people send requests, and of what answers, in the catalog.
const WISH: &str = "wish/";
const SCALED: &str = "scaled/";
const SENT: &str = "sent/";
const SCALING: &str = "scaling/";
const CURRENT: &str = "current/";
/// Steps taken that are told.
const RECENT: usize = 20;

fn key(prefix: &str, (namespace, model): (&Namespace, &ModelName)) -> String {
    format!("{prefix}{namespace}/{model}")
}

impl Orchestrator {
    /// Opens the orchestrator and its loop: wishes and what answered last come from the catalog; steps that an
    /// earlier process left open are closed, since its model servers went with it.
    ///
    /// # Errors
    /// When the catalog can't be read.
    pub async fn open(
        catalog: Arc<dyn Catalog>,
        clock: Clock,
        backend: Arc<dyn backend::Backend>,
        heads: AskHeads,
        bounds: Bounds,
    ) -> Result<(Self, Executor), Refusal> {
        let Bounds { spread, upstreams, lanes, memory } = bounds;
        let mut world = World::spread(spread);
        for document in read_all(&*catalog, Collection::Desired, WISH).await? {
            world.wish(document.read::<Desired>()?, document.generation);
        }
        for document in read_all(&*catalog, Collection::Desired, CURRENT).await? {
            world.resume(document.read::<Current>()?);
        }
        for document in read_all(&*catalog, Collection::Desired, SCALED).await? {
            let scaled: Scaled = document.read()?;
            world.scaled.insert(scaled.model.clone(), scaled);
        }
        for document in read_all(&*catalog, Collection::Desired, SENT).await? {
            let sending: Sending = document.read()?;
            world.sendings.insert(sending.model.clone(), (sending, document.generation));
        }
        let kept = scaling::kept(&*catalog, &mut world).await?;
        let journal = journal::Journal::open(catalog.clone()).await?;
        let shared = Arc::new(Shared {
            catalog,
            clock,
            world: Mutex::new(world),
            routes: Feed::new(),
            changed: Notify::new(),
            upstreams,
            heard: Mutex::default(),
            asked: Notify::new(),
            lanes: lanes.max(1),
        });
        shared.publish();
        let scalers = scaling::Scalers::new(shared.clone(), kept, memory);
        let executor = Executor::new(shared.clone(), journal, backend, (heads, scalers));
        Ok((Self { shared }, executor))
    }
}

impl Shared {
    /// Whether models may be asked at this address.
    ///
    /// # Errors
    /// `upstream_not_allowed` when not.
    fn allows(&self, upstream: &Upstream) -> Result<(), Refusal> {
        let origin = upstream.origin().map_err(|why| Refusal::new(Code::ManifestInvalid, why))?;
        if self.upstreams.contains(&origin) {
            return Ok(());
        }
        Err(Refusal::new(Code::UpstreamNotAllowed, format!("models at {origin} are not asked here"))
            .hint("who runs the node allows it by the setting orchestrator.upstreams"))
    }

    /// What the ledger is told of a change of a model.
    fn record(
        &self,
        action: &str,
        (namespace, model): (&Namespace, &ModelName),
        actor: String,
        detail: serde_json::Value,
    ) -> Record {
        Record {
            v: 1,
            at: self.clock.now().0,
            action: action.to_owned(),
            namespace: Some(namespace.to_string()),
            actor,
            subject: format!("model:{namespace}/{model}"),
            detail,
        }
    }

    /// Publishes the routes as the world is now.
    fn publish(&self) {
        let world = self.world.lock();
        for (key, route) in world.routes() {
            self.routes.set(key, route);
        }
    }
}

#[async_trait]
impl rpc::Orchestrator for Orchestrator {
    async fn submit(&self, request: Submit) -> Result<Submitted, Refusal> {
        let Submit { desired, namespace, model, actor, expect, action } = request;
        if let Some(Source::Upstream(upstream)) = desired.as_ref().map(|desired| &desired.manifest.spec.source) {
            self.shared.allows(upstream)?;
        }
        let key = key(WISH, (&namespace, &model));
        let expect = expect.map_or(Expect::Any, Expect::Generation);
        let mut writes = vec![match &desired {
            Some(desired) => Write::put(Collection::Desired, &key, expect, desired)?,
            None => Write::remove(Collection::Desired, &key, expect),
        }];
        if desired.is_none() {
            writes.push(Write::remove(Collection::Desired, self::key(SCALED, (&namespace, &model)), Expect::Any));
            writes.push(Write::remove(Collection::Desired, self::key(SCALING, (&namespace, &model)), Expect::Any));
            writes.push(Write::remove(Collection::Desired, self::key(SENT, (&namespace, &model)), Expect::Any));
        }
        let detail = desired.as_ref().map_or(serde_json::Value::Null, |desired| {
            serde_json::json!({ "version": desired.version, "digest": desired.digest, "reason": desired.reason })
        });
        let record = self.shared.record(&action, (&namespace, &model), actor, detail);
        let committed = self.shared.catalog.commit(writes, vec![record.to_line()]).await;
        let committed = committed.map_err(|error| match error {
            store::Error::Conflict { .. } => {
                Refusal::new(Code::Conflict, format!("somebody else changed what is wanted of `{model}` first"))
                    .hint("look at `mantlet models`, then decide again")
            }
            error => error.into(),
        })?;
        let generation = committed.generations.first().copied().unwrap_or(0);
        {
            let mut world = self.shared.world.lock();
            match desired {
                Some(desired) => world.wish(desired, generation),
                None => world.unwish(&namespace, &model),
            }
        }
        self.shared.publish();
        self.shared.changed.notify_one();
        Ok(Submitted { generation, receipt: Receipt(committed.outbox.unwrap_or(0)) })
    }

    async fn scale(&self, request: Scale) -> Result<Submitted, Refusal> {
        let Scale { namespace, model, replicas, author, reason } = request;
        let about = plan::ModelId { namespace: namespace.clone(), name: model.clone() };
        let manifest = self.shared.world.lock().wishes.get(&about).map(|(desired, _)| desired.manifest.clone());
        let manifest = manifest.ok_or_else(|| Refusal::unknown_model(&namespace, &model))?;
        if let Some(replicas) = replicas.filter(|replicas| manifest.bounded(*replicas) != *replicas) {
            let (least, most) = (manifest.bounded(0), manifest.bounded(u32::MAX));
            return Err(Refusal::new(
                Code::RequestMalformed,
                format!("the manifest of `{model}` allows {least} to {most} replicas, not {replicas}"),
            )
            .hint("deploy it with another spec.scale"));
        }
        let key = key(SCALED, (&namespace, &model));
        let scaled = replicas.map(|replicas| Scaled { model: about.clone(), replicas, author: author.clone(), reason });
        let write = match &scaled {
            Some(scaled) => Write::put(Collection::Desired, &key, Expect::Any, scaled)?,
            None => Write::remove(Collection::Desired, &key, Expect::Any),
        };
        let detail = serde_json::json!({ "replicas": replicas });
        let record = self.shared.record("model.scale", (&namespace, &model), author, detail);
        let committed = self.shared.catalog.commit(vec![write], vec![record.to_line()]).await?;
        {
            let mut world = self.shared.world.lock();
            match scaled {
                Some(scaled) => world.scaled.insert(about, scaled),
                None => world.scaled.remove(&about),
            };
        }
        self.shared.publish();
        self.shared.changed.notify_one();
        let generation = committed.generations.first().copied().unwrap_or(0);
        Ok(Submitted { generation, receipt: Receipt(committed.outbox.unwrap_or(0)) })
    }

    async fn send(&self, request: SendTo) -> Result<Submitted, Refusal> {
        self.shared.send(request).await
    }

    async fn plan(&self, request: PlanOf) -> Result<Outlook, Refusal> {
        let PlanOf { namespace, deploy } = request;
        let (inputs, waiting, scaling, sent) = {
            let world = self.shared.world.lock();
            let waiting = world.waiting.iter().filter(|(model, _)| model.namespace == namespace);
            let waiting = waiting.map(|(model, waiting)| (model.name.clone(), world::said(waiting))).collect();
            let inputs = match &deploy {
                Some(manifest) => world.inputs_with(&namespace, manifest),
                None => world.inputs(),
            };
            (inputs, waiting, world.scalings(&namespace), world.sent(&namespace))
        };
        let mut named = 0;
        let mut name = || {
            named += 1;
            plan::ServerId(format!("new-{named}"))
        };
        let rounds = plan::foresee(&inputs, self.shared.clock.steady(), &mut name);
        let mut homes: BTreeMap<plan::ServerId, Namespace> =
            inputs.servers.into_iter().map(|(id, server)| (id, server.namespace)).collect();
        let entries = journal::Journal::recent(&*self.shared.catalog).await?;
        let steps = rounds.iter().flatten().chain(entries.iter().map(|entry| &entry.planned));
        homes.extend(steps.filter_map(|planned| outlook::home(&planned.step)));
        let of_round = |round: Vec<plan::Planned>| {
            let shown = round.into_iter().filter_map(|planned| outlook::action(planned, &namespace, &homes));
            shown.collect::<Vec<_>>()
        };
        let rounds = rounds.into_iter().map(of_round).filter(|round| !round.is_empty()).collect();
        let recent = entries.into_iter().filter_map(|entry| outlook::taken(entry, &namespace, &homes));
        Ok(Outlook { rounds, waiting, recent: recent.take(RECENT).collect(), scaling, sent })
    }

    async fn status(&self, request: StatusOf) -> Result<Vec<Status>, Refusal> {
        let statuses = self.shared.world.lock().statuses();
        let wanted = |status: &Status| {
            status.namespace == request.namespace && request.model.as_ref().is_none_or(|model| *model == status.model)
        };
        Ok(statuses.into_iter().filter(wanted).collect())
    }

    async fn load(&self, loads: Loads) -> Result<(), Refusal> {
        let now = self.shared.clock.steady();
        let is_asleep = {
            let world = self.shared.world.lock();
            let is_scaled = |model: &plan::ModelId| {
                world.wishes.get(model).is_some_and(|(desired, _)| desired.manifest.scale_mode() != ScaleMode::Off)
            };
            let mut asked = loads.models.iter().filter(|load| load.open > 0);
            let is_asleep = asked.any(|load| world.is_asleep(&load.namespace, &load.model));
            self.shared.heard.lock().note(loads, now, is_scaled);
            is_asleep
        };
        if is_asleep {
            self.shared.asked.notify_one();
        }
        Ok(())
    }

    async fn routes(&self, since: Since) -> Result<Routes, Refusal> {
        Ok(self.shared.routes.wait(since).await)
    }
}
