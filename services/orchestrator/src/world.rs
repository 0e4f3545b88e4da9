//! What is wanted and what is there, in one place; plans are made from it and routes are read off it.

use std::collections::BTreeMap;

use plan::{Inputs, ModelId, Server, ServerId, State, Trouble, WaitingOn, Wish};
use rpc::orchestrator::{Desired, ModelKey, ModelRoute, Replica, Status, Waiting};
use serde::{Deserialize, Serialize};
use types::{Code, Digest, Manifest, ModelName, Namespace, Refusal, Timestamp, Version, infer::ModelMetadata};

use crate::backend::Endpoint;

/// Which version answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Current {
    pub(crate) model: ModelId,
    pub(crate) version: Version,
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
}

/// A model server that is there.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) server: Server,
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) metadata: Option<ModelMetadata>,
}

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) wishes: BTreeMap<ModelId, (Desired, u64)>,
    pub(crate) current: BTreeMap<ModelId, Current>,
    pub(crate) servers: BTreeMap<ServerId, Held>,
    pub(crate) trouble: BTreeMap<(ModelId, Version), Trouble>,
    pub(crate) waiting: BTreeMap<ModelId, (WaitingOn, Timestamp)>,
    restarts: BTreeMap<ModelId, u32>,
    /// Routes that went away and must be taken back from followers.
    gone: Vec<ModelId>,
}

fn id(namespace: &Namespace, model: &ModelName) -> ModelId {
    ModelId { namespace: namespace.clone(), name: model.clone() }
}

impl World {
    /// Takes a wish; what went wrong before is forgotten, since somebody has just decided anew.
    pub(crate) fn wish(&mut self, desired: Desired, generation: u64) {
        let model = id(&desired.namespace, &desired.model);
        self.trouble.retain(|(of, _), _| *of != model);
        self.waiting.remove(&model);
        self.gone.retain(|gone| *gone != model);
        self.wishes.insert(model, (desired, generation));
    }

    pub(crate) fn unwish(&mut self, namespace: &Namespace, model: &ModelName) {
        let model = id(namespace, model);
        self.wishes.remove(&model);
        self.trouble.retain(|(of, _), _| *of != model);
        self.waiting.remove(&model);
        self.restarts.remove(&model);
        self.gone.push(model);
    }

    /// What a plan is made from.
    pub(crate) fn inputs(&self) -> Inputs {
        let wish = |(desired, _): &(Desired, u64)| Wish {
            version: desired.version,
            digest: desired.digest,
            replicas: desired.manifest.replicas(),
        };
        Inputs {
            wishes: self.wishes.iter().map(|(model, wished)| (model.clone(), wish(wished))).collect(),
            servers: self.servers.iter().map(|(id, held)| (id.clone(), held.server.clone())).collect(),
            current: self.current.iter().map(|(model, c)| (model.clone(), (c.version, c.digest))).collect(),
            trouble: self.trouble.clone(),
        }
    }

    /// The manifest of a version that is wanted or answers.
    pub(crate) fn manifest(&self, model: &ModelId, version: Version) -> Option<Manifest> {
        let wished = self.wishes.get(model).filter(|(desired, _)| desired.version == version);
        let current = self.current.get(model).filter(|current| current.version == version);
        wished.map(|(desired, _)| desired.manifest.clone()).or_else(|| current.map(|c| c.manifest.clone()))
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
        gone.chain(self.wishes.keys().map(|model| (key(model), self.route(model)))).collect()
    }

    fn route(&self, model: &ModelId) -> Option<ModelRoute> {
        let (desired, _) = self.wishes.get(model)?;
        let (current, manifest) = match self.current.get(model) {
            Some(current) => (current.version, &current.manifest),
            None => (desired.version, &desired.manifest),
        };
        let ready =
            || self.servers.iter().filter(|(_, held)| held.server.model == *model && held.server.state == State::Ready);
        let replica = |(id, held): (&ServerId, &Held)| {
            let Endpoint { socket, peer } = held.endpoint.clone()?;
            Some(Replica { id: id.0.clone(), version: held.server.version, socket, peer })
        };
        let metadata =
            ready().find(|(_, held)| held.server.version == current).and_then(|(_, held)| held.metadata.clone());
        Some(ModelRoute {
            current,
            manifest: manifest.clone(),
            metadata,
            replicas: ready().filter_map(replica).collect(),
            waiting: self.waiting.get(model).map(|(waiting, _)| explain(waiting).0.message.into_owned()),
        })
    }

    pub(crate) fn statuses(&self) -> Vec<Status> {
        self.wishes.iter().map(|(model, (desired, generation))| self.status(model, desired, *generation)).collect()
    }

    fn status(&self, model: &ModelId, desired: &Desired, generation: u64) -> Status {
        let ready = |version: Version| {
            let fits = |held: &&Held| {
                held.server.model == *model && held.server.version == version && held.server.state == State::Ready
            };
            u32::try_from(self.servers.values().filter(fits).count()).unwrap_or(u32::MAX)
        };
        let answering = self.current.get(model).map(|current| current.version).filter(|version| ready(*version) > 0);
        // What was true at the last plan may be over by now.
        let short = ready(desired.version) < desired.manifest.replicas();
        let waiting = self.waiting.get(model).filter(|_| short).map(|(waiting, since)| {
            let (reason, stuck) = explain(waiting);
            Waiting { reason, stuck, since: *since }
        });
        Status {
            namespace: model.namespace.clone(),
            model: model.name.clone(),
            desired: Some(desired.version),
            ready: answering,
            replicas: ready(desired.version),
            wanted: desired.manifest.replicas(),
            waiting,
            generation,
            restarts: self.restarts.get(model).copied().unwrap_or(0),
        }
    }
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
