//! What is wanted and what is there, in one place; plans are made from it and routes are read off it.

use std::collections::BTreeMap;

use plan::{Inputs, ModelId, Needs, Replica, Server, ServerId, Spread, State, Trouble, WaitingOn, Wish};
use rpc::orchestrator::{
    Desired, ModelKey, ModelRoute, Replica as RouteReplica, Scaling, Sent, Shadow, Status, Waiting,
};
use serde::{Deserialize, Serialize};
use types::{
    Code, Digest, Manifest, ModelName, Namespace, Refusal, Timestamp, Version,
    infer::ModelMetadata,
    manifest::{ScaleMode, Source},
};

use crate::backend::Endpoint;

/// Which version answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Current {
    pub(crate) model: ModelId,
    pub(crate) version: Version,
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
    /// What it takes and gives; nothing before it was loaded once.
    #[serde(default)]
    pub(crate) metadata: Option<ModelMetadata>,
}

/// How many replicas somebody wants of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scaled {
    pub(crate) model: ModelId,
    pub(crate) replicas: u32,
    pub(crate) author: String,
    pub(crate) reason: String,
}

/// Where a person sends requests, with the versions that are named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sending {
    pub(crate) model: ModelId,
    pub(crate) sent: Sent,
    pub(crate) versions: Vec<Shadow>,
}

/// A model server that is there.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) server: Server,
    pub(crate) endpoint: Option<Endpoint>,
    /// The bundles that its replicas came from.
    pub(crate) digests: BTreeMap<Replica, Digest>,
    /// Which of its replicas can't be asked right now, and why.
    pub(crate) away: BTreeMap<Replica, String>,
    /// When those were begun that start.
    pub(crate) began: BTreeMap<Replica, Timestamp>,
    /// Private memory of it that is in use; 0 where that is not known.
    pub(crate) bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) wishes: BTreeMap<ModelId, (Desired, u64)>,
    /// How many replicas people want of models, whatever the manifests say.
    pub(crate) scaled: BTreeMap<ModelId, Scaled>,
    /// Where people send requests that name no version.
    pub(crate) sendings: BTreeMap<ModelId, (Sending, u64)>,
    /// How many the loads of models ask for.
    pub(crate) scaling: BTreeMap<ModelId, Scaling>,
    /// Seconds that replicas took to start, of each model a mean.
    pub(crate) cold: BTreeMap<ModelId, f64>,
    /// Bytes that a replica took which had a model server of its own, of each model the last.
    pub(crate) weights: BTreeMap<ModelId, u64>,
    pub(crate) current: BTreeMap<ModelId, Current>,
    pub(crate) servers: BTreeMap<ServerId, Held>,
    pub(crate) trouble: BTreeMap<Replica, Trouble>,
    /// What versions take and give, of which a replica was ready.
    pub(crate) known: BTreeMap<Replica, ModelMetadata>,
    /// Answering versions of which that was not known before, and is to be kept.
    pub(crate) learned: Vec<Current>,
    /// The bundles of the newest states of streaming versions.
    pub(crate) heads: BTreeMap<Replica, Digest>,
    pub(crate) spread: Spread,
    /// Shared model servers that are to give up so many bytes; with 0, to take as many again as at their start.
    pub(crate) relieve: BTreeMap<ServerId, u64>,
    pub(crate) waiting: BTreeMap<ModelId, (WaitingOn, Timestamp)>,
    restarts: BTreeMap<ModelId, u32>,
    /// Routes that went away and must be taken back from followers.
    gone: Vec<ModelId>,
}

impl Sending {
    /// The versions that it names, each with its share.
    fn of_shares(&self) -> Vec<Shadow> {
        let shares = self.sent.versions();
        let of = |version: &Shadow| {
            let share = types::quantity::Share::new(*shares.get(&version.version)?);
            Some(Shadow { share, ..version.clone() })
        };
        self.versions.iter().filter_map(of).collect()
    }
}

/// Weight of a new start in how long starts take.
const FRESH: f64 = 0.3;

fn id(namespace: &Namespace, model: &ModelName) -> ModelId {
    ModelId { namespace: namespace.clone(), name: model.clone() }
}

impl World {
    /// An empty one, whose replicas are spread like this.
    pub(crate) fn spread(spread: Spread) -> Self {
        Self { spread, ..Self::default() }
    }

    /// Takes a wish; what went wrong before is forgotten, since somebody has just decided anew.
    pub(crate) fn wish(&mut self, desired: Desired, generation: u64) {
        let model = id(&desired.namespace, &desired.model);
        self.forget(&model);
        self.waiting.remove(&model);
        self.gone.retain(|gone| *gone != model);
        self.wishes.insert(model, (desired, generation));
    }

    pub(crate) fn unwish(&mut self, namespace: &Namespace, model: &ModelName) {
        let model = id(namespace, model);
        self.wishes.remove(&model);
        self.scaled.remove(&model);
        self.sendings.remove(&model);
        self.scaling.remove(&model);
        self.cold.remove(&model);
        self.weights.remove(&model);
        self.forget(&model);
        self.waiting.remove(&model);
        self.restarts.remove(&model);
        self.gone.push(model);
    }

    /// Forgets what went wrong with a model, and what its versions take and give but for the one that answers.
    fn forget(&mut self, model: &ModelId) {
        self.trouble.retain(|replica, _| replica.model != *model);
        let current = self.current.get(model).map(|current| current.version);
        self.known.retain(|replica, _| replica.model != *model || Some(replica.version) == current);
    }

    /// Takes in what answers since an earlier life of the node.
    pub(crate) fn resume(&mut self, current: Current) {
        if let Some(metadata) = &current.metadata {
            let replica = Replica { model: current.model.clone(), version: current.version };
            self.known.insert(replica, metadata.clone());
        }
        self.current.insert(current.model.clone(), current);
    }

    /// Notes what a version takes and gives.
    pub(crate) fn learn(&mut self, replica: Replica, metadata: ModelMetadata) {
        let current = self.current.get(&replica.model).filter(|current| current.version == replica.version);
        if let Some(current) = current.filter(|current| current.metadata.as_ref() != Some(&metadata)) {
            self.learned.push(Current { metadata: Some(metadata.clone()), ..current.clone() });
        }
        self.known.insert(replica, metadata);
    }

    /// A model server is gone; returns what it held.
    pub(crate) fn lose(&mut self, server: &ServerId) -> BTreeMap<Replica, State> {
        self.servers.remove(server).map(|held| held.server.replicas).unwrap_or_default()
    }

    /// What a plan is made from.
    pub(crate) fn inputs(&self) -> Inputs {
        let wish = |(model, (desired, _)): (&ModelId, &(Desired, u64))| {
            let replicas = self.replicas(model, &desired.manifest);
            let Desired { version, digest, manifest, shadow, .. } = desired;
            let beside = |Shadow { version, digest, manifest, share }: &Shadow| {
                let of = plan::Current { version: *version, digest: *digest, needs: needs(manifest) };
                let share = share.map_or(0.0, |share| share.get());
                plan::Beside { of, replicas: ((f64::from(replicas) * share).ceil() as u32).max(1) }
            };
            let shadow = shadow.as_ref().map(beside);
            let split = self.sendings.get(model).map(|(sending, _)| sending.of_shares());
            let split = split.unwrap_or_default().iter().map(beside).collect();
            (
                model.clone(),
                Wish { version: *version, digest: *digest, replicas, needs: needs(manifest), shadow, split },
            )
        };
        let current = |Current { version, digest, manifest, .. }: &Current| plan::Current {
            version: *version,
            digest: *digest,
            needs: needs(manifest),
        };
        Inputs {
            wishes: self.wishes.iter().map(wish).collect(),
            servers: self.servers.iter().map(|(id, held)| (id.clone(), held.server.clone())).collect(),
            current: self.current.iter().map(|(model, of)| (model.clone(), current(of))).collect(),
            trouble: self.trouble.clone(),
            spread: self.spread,
        }
    }

    /// What a plan would be made from if this were deployed.
    pub(crate) fn inputs_with(&self, namespace: &Namespace, manifest: &Manifest) -> Inputs {
        let model = id(namespace, &manifest.metadata.name);
        let version = self.wishes.get(&model).map_or(Version(1), |(desired, _)| Version(desired.version.0 + 1));
        let replicas = self.replicas(&model, manifest);
        let mut inputs = self.inputs();
        let wish = Wish {
            version,
            digest: Digest([0; 32]),
            replicas,
            needs: needs(manifest),
            shadow: None,
            split: Vec::new(),
        };
        inputs.wishes.insert(model, wish);
        inputs
    }

    /// How many replicas are wanted: as somebody said, else as the load asks for where the manifest leaves it to that, both within
    /// what the manifest allows; else as the manifest says.
    pub(crate) fn replicas(&self, model: &ModelId, manifest: &Manifest) -> u32 {
        let said = self.scaled.get(model).map(|scaled| scaled.replicas);
        let asked = self.scaling.get(model).filter(|_| manifest.scale_mode() != ScaleMode::Off);
        let said = said.or(asked.map(|scaling| scaling.wanted));
        said.map_or(manifest.replicas(), |replicas| manifest.bounded(replicas))
    }

    /// Whether a model has no replica because nobody asks, and gets one for the next request.
    pub(crate) fn is_asleep(&self, namespace: &Namespace, model: &ModelName) -> bool {
        self.scaling_of(&id(namespace, model)).is_some_and(|scaling| scaling.wanted == 0 && !scaling.overruled)
    }

    /// Who wants a model to have no replica, where somebody does: then no request starts one.
    fn stopped(&self, model: &ModelId, manifest: &Manifest) -> Option<String> {
        let scaled = self.scaled.get(model).filter(|scaled| manifest.bounded(scaled.replicas) == 0)?;
        Some(scaled.author.clone())
    }

    /// What the loads of a namespace's models ask for.
    pub(crate) fn scalings(&self, namespace: &Namespace) -> Vec<(ModelName, Scaling)> {
        let of = self.scaling.iter().filter(|(model, _)| model.namespace == *namespace);
        of.filter_map(|(model, _)| Some((model.name.clone(), self.scaling_of(model)?))).collect()
    }

    fn scaling_of(&self, model: &ModelId) -> Option<Scaling> {
        let (desired, _) = self.wishes.get(model)?;
        let scaling = self.scaling.get(model).filter(|_| desired.manifest.scale_mode() != ScaleMode::Off)?.clone();
        Some(Scaling { overruled: self.scaled.contains_key(model), ..scaling })
    }

    /// Notes how long a replica took to start.
    pub(crate) fn started(&mut self, model: &ModelId, took: std::time::Duration) {
        let took = took.as_secs_f64();
        let mean = self.cold.entry(model.clone()).or_insert(took);
        *mean += FRESH * (took - *mean);
    }

    /// Notes what the replica takes that has this model server alone, once it answers.
    pub(crate) fn weigh(&mut self, server: &ServerId) {
        let Some(held) = self.servers.get(server).filter(|held| held.server.room == plan::Room::One) else { return };
        let ready = held.server.replicas.iter().find(|(_, state)| **state == State::Ready);
        if let Some((replica, _)) = ready {
            self.weights.insert(replica.model.clone(), held.bytes);
        }
    }

    /// Bytes that a model takes now, as far as its replicas have model servers of their own; and whether it might be unloaded:
    /// it answers, and no person has said that it stays.
    pub(crate) fn taken(&self, model: &ModelId) -> Option<u64> {
        let (desired, _) = self.wishes.get(model)?;
        let said = self.scaled.contains_key(model) || self.sendings.contains_key(model);
        let answers = self.current.get(model).is_some_and(|current| current.version == desired.version);
        if said || !answers || desired.manifest.spec.resources.pinned {
            return None;
        }
        let alone = self.servers.values().filter(|held| held.server.room == plan::Room::One && !held.server.draining);
        let of = alone.filter(|held| held.server.replicas.keys().any(|replica| replica.model == *model));
        Some(of.map(|held| held.bytes).sum())
    }

    /// Where people send requests of a namespace's models.
    pub(crate) fn sent(&self, namespace: &Namespace) -> Vec<(ModelName, Sent)> {
        let of = self.sendings.iter().filter(|(model, _)| model.namespace == *namespace);
        of.map(|(model, (sending, _))| (model.name.clone(), sending.sent.clone())).collect()
    }

    /// The splits that are over, and when the next one is.
    pub(crate) fn expired(&self, now: Timestamp) -> (Vec<ModelId>, Option<Timestamp>) {
        let expires = |(sending, _): &(Sending, u64)| sending.sent.split.as_ref()?.expires;
        let all = || self.sendings.iter().filter_map(|(model, sending)| Some((model, expires(sending)?)));
        let over = all().filter(|(_, at)| *at <= now).map(|(model, _)| model.clone()).collect();
        (over, all().map(|(_, at)| at).filter(|at| *at > now).min())
    }

    /// The manifest of a version that is wanted, answers, shadows who does, or is sent requests.
    pub(crate) fn manifest(&self, Replica { model, version }: &Replica) -> Option<Manifest> {
        let wished = self.wishes.get(model).filter(|(desired, _)| desired.version == *version);
        let current = self.current.get(model).filter(|current| current.version == *version);
        let shadow = self.wishes.get(model).and_then(|(desired, _)| desired.shadow.as_ref());
        let shadow = shadow.filter(|shadow| shadow.version == *version).map(|shadow| shadow.manifest.clone());
        let wished = wished.map(|(desired, _)| desired.manifest.clone());
        let sent = self.sendings.get(model).into_iter().flat_map(|(sending, _)| &sending.versions);
        let sent = sent.filter(|sent| sent.version == *version).map(|sent| sent.manifest.clone()).next();
        wished.or_else(|| current.map(|current| current.manifest.clone())).or(shadow).or(sent)
    }

    /// The bundle that a replica is to be loaded from: of a streaming version, its newest state.
    pub(crate) fn bundle(&self, replica: &Replica, deployed: Digest) -> Digest {
        self.heads.get(replica).copied().unwrap_or(deployed)
    }

    /// Ready replicas that hold an older state than the newest, with both.
    pub(crate) fn outdated(&self) -> Vec<(ServerId, Replica, [Digest; 2])> {
        let of = |(id, held): (&ServerId, &Held)| {
            let ready = held.server.replicas.iter().filter(|(_, state)| **state == State::Ready);
            let outdated = ready.filter_map(|(replica, _)| {
                let (held, head) = (*held.digests.get(replica)?, *self.heads.get(replica)?);
                (held != head).then(|| (id.clone(), replica.clone(), [held, head]))
            });
            outdated.collect::<Vec<_>>()
        };
        self.servers.iter().flat_map(of).collect()
    }

    /// Notes why models wait, keeping since when they do.
    pub(crate) fn note_waiting(&mut self, report: &plan::Report, now: Timestamp) {
        let old = std::mem::take(&mut self.waiting);
        for (model, waiting) in &report.waiting {
            let same = old.get(model).filter(|(was, _)| std::mem::discriminant(was) == std::mem::discriminant(waiting));
            self.waiting.insert(model.clone(), (waiting.clone(), same.map_or(now, |(_, since)| *since)));
        }
    }

    pub(crate) fn note_restart(&mut self, model: &ModelId) {
        *self.restarts.entry(model.clone()).or_default() += 1;
    }

    /// Every route as it is now; `None` for those that went away.
    pub(crate) fn routes(&self) -> Vec<(ModelKey, Option<ModelRoute>)> {
        let key = |model: &ModelId| (model.namespace.clone(), model.name.clone());
        let gone = self.gone.iter().map(|model| (key(model), None));
        let mut replicas = self.ready();
        let route = |(model, (desired, _)): (&ModelId, &(Desired, u64))| {
            (key(model), Some(self.route(model, desired, replicas.remove(model).unwrap_or_default())))
        };
        gone.chain(self.wishes.iter().map(route).collect::<Vec<_>>()).collect()
    }

    /// Ready replicas by model.
    fn ready(&self) -> BTreeMap<&ModelId, Vec<RouteReplica>> {
        let mut ready: BTreeMap<&ModelId, Vec<RouteReplica>> = BTreeMap::new();
        for (id, held) in self.servers.iter().filter(|(_, held)| !held.server.draining) {
            let Some(Endpoint { socket, peer }) = &held.endpoint else { continue };
            let there = held.server.replicas.iter().filter(|(_, state)| **state == State::Ready);
            for (replica, _) in there.filter(|(replica, _)| !held.away.contains_key(*replica)) {
                ready.entry(&replica.model).or_default().push(RouteReplica {
                    id: id.0.clone(),
                    version: replica.version,
                    socket: socket.clone(),
                    peer: peer.clone(),
                });
            }
        }
        ready
    }

    /// Why a model of another server can't be asked, where that is so.
    fn away(&self, model: &ModelId) -> Option<&String> {
        let away = self.servers.values().flat_map(|held| &held.away);
        away.filter(|(replica, _)| replica.model == *model).map(|(_, why)| why).next()
    }

    /// Why a model that sleeps can't be woken right now.
    fn short(&self, model: &ModelId) -> Option<&String> {
        self.scaling.get(model)?.short.as_ref()
    }

    fn route(&self, model: &ModelId, desired: &Desired, replicas: Vec<RouteReplica>) -> ModelRoute {
        let (current, manifest) = match self.current.get(model) {
            Some(current) => (current.version, &current.manifest),
            None => (desired.version, &desired.manifest),
        };
        let shadow = desired.shadow.as_ref();
        let asleep = self.is_asleep(&model.namespace, &model.name) && replicas.is_empty();
        let stopped = self.stopped(model, &desired.manifest).filter(|_| replicas.is_empty());
        let sent = self.sendings.get(model).map(|(sending, _)| sending.sent.clone()).unwrap_or_default();
        ModelRoute {
            current,
            asleep,
            manifest: manifest.clone(),
            metadata: self.known.get(&Replica { model: model.clone(), version: current }).cloned(),
            replicas,
            // What learns is compared by the trainer itself.
            shadow: shadow.filter(|shadow| !shadow.manifest.is_streaming()).map(|shadow| shadow.version),
            // What a person says comes first: a canary waits.
            canary: shadow.filter(|_| sent.split.is_none()).and_then(|shadow| Some((shadow.version, shadow.share?))),
            sent,
            waiting: self
                .away(model)
                .cloned()
                .or_else(|| self.short(model).cloned().filter(|_| asleep))
                .or_else(|| self.waiting.get(model).map(|(waiting, _)| explain(waiting).0.message.into_owned()))
                .or_else(|| stopped.as_ref().map(|by| format!("{by} set the number of its replicas to 0"))),
            refused: self.waiting.get(model).and_then(|(waiting, _)| match waiting {
                WaitingOn::Refused(refusal) => Some(refusal.clone()),
                _ => None,
            }),
            stopped,
        }
    }

    pub(crate) fn statuses(&self) -> Vec<Status> {
        let ready = self.ready();
        let of = |model: &ModelId| ready.get(model).map(Vec::as_slice).unwrap_or_default();
        let wishes = self.wishes.iter();
        wishes.map(|(model, (desired, generation))| self.status(model, desired, *generation, of(model))).collect()
    }

    fn status(&self, model: &ModelId, desired: &Desired, generation: u64, replicas: &[RouteReplica]) -> Status {
        let ready = |version: Version| {
            u32::try_from(replicas.iter().filter(|replica| replica.version == version).count()).unwrap_or(u32::MAX)
        };
        let answering = self.current.get(model).map(|current| current.version).filter(|version| ready(*version) > 0);
        // What was true at the last plan may be over by now.
        let wanted = self.replicas(model, &desired.manifest);
        let short = ready(desired.version) < wanted;
        let away = self.away(model).map(|why| Waiting {
            reason: Refusal::new(Code::ModelNotReady, why.clone())
                .hint("it answers again once the server that holds it does"),
            stuck: false,
            since: Timestamp(0),
        });
        let asleep = self.is_asleep(&model.namespace, &model.name);
        let kept = self.scaling.get(model).filter(|_| asleep).and_then(|scaling| {
            let reason = Refusal::new(Code::ModelNotReady, scaling.short.clone()?)
                .hint("stop what takes memory, or a model that is not needed: `mantlet top`, `mantlet delete NAME`");
            Some(Waiting { reason, stuck: false, since: scaling.since })
        });
        let waiting = self.waiting.get(model).filter(|_| short).map(said).or(away).or(kept);
        let sent = self.sendings.get(model).map(|(sending, generation)| (sending.sent.clone(), *generation));
        let sent = sent.unwrap_or_default();
        let absent = sent.0.versions().into_keys().filter(|version| ready(*version) == 0).collect();
        Status {
            namespace: model.namespace.clone(),
            model: model.name.clone(),
            desired: Some(desired.version),
            shadow: desired.shadow.as_ref().map(|shadow| shadow.version),
            share: desired.shadow.as_ref().and_then(|shadow| shadow.share),
            ready: answering,
            replicas: ready(desired.version),
            wanted,
            waiting,
            generation,
            asleep: asleep && self.current.get(model).is_some_and(|current| current.version == desired.version),
            stopped: self.stopped(model, &desired.manifest),
            scaling: self.scaling_of(model),
            sent,
            absent,
            restarts: self.restarts.get(model).copied().unwrap_or(0),
        }
    }
}

/// Why a model waits, and since when, as it is told.
pub(crate) fn said((waiting, since): &(WaitingOn, Timestamp)) -> Waiting {
    let (reason, stuck) = explain(waiting);
    Waiting { reason, stuck, since: *since }
}

fn needs(manifest: &Manifest) -> Needs {
    let resources = &manifest.spec.resources;
    let outward = matches!(manifest.spec.source, Source::Upstream(_));
    Needs { memory: resources.memory.0, pinned: resources.pinned, outward }
}

/// Why a model waits, for people, and whether somebody has to act.
fn explain(waiting: &WaitingOn) -> (Refusal, bool) {
    let not_ready = |what: String| Refusal::new(Code::ModelNotReady, what);
    match waiting {
        WaitingOn::Starting(replicas) => (not_ready(format!("{replicas} replica(s) start")), false),
        WaitingOn::Backoff(_) => (not_ready("a replica crashed and is started again soon".into()), false),
        WaitingOn::CrashLoop(times) => (
            Refusal::new(Code::LoadFailed, format!("its model server crashed {times} times within five minutes before it was ready"))
                .hint("look at the node's log; more memory (spec.resources.memory) or another file may help; deploy again to retry"),
            true,
        ),
        WaitingOn::Refused(refusal) => (refusal.clone(), true),
    }
}
