//! What the ring works with: who is known, what is routed, what is being counted.

use std::{collections::HashMap, sync::Arc, time::Duration};

use access::{Authorizer, Identifier, Identity};
use parking_lot::{Mutex, RwLock};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rpc::{
    Clock, Orchestrator, Registry,
    model_server::ModelServerClient,
    orchestrator::{ModelKey, ModelRoute, Replica},
};
use store::{Artefacts, Streams};
use tokio::sync::watch;
use types::{Refusal, Version};

use crate::{
    metric::Metrics,
    pipeline::{
        assess::Limiter,
        record::{Recorder, Statistics},
    },
};

/// Whether callers are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// They are.
    On,
    /// Nobody is: plain HTTP on loopback, everybody is the anonymous caller of `default`.
    Off,
}

/// Limits of the gateway itself.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time to answer when a request names none.
    pub deadline: Duration,
    /// The most time a request may name.
    pub longest_deadline: Duration,
    /// Bytes of one message before its model, and so the model's own limit, is known.
    pub message: u64,
    /// Bytes of one uploaded model.
    pub upload: u64,
    /// Connections at a time.
    pub connections: usize,
    /// Silence after which a client that still owes bytes is cut.
    pub idle: Duration,
    /// Events waiting to be stored.
    pub events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            longest_deadline: Duration::from_secs(60),
            message: 64 << 20,
            upload: 2 << 30,
            connections: 4_096,
            idle: Duration::from_secs(10),
            events: 16_384,
        }
    }
}

/// What a gateway is made of.
pub struct Parts {
    /// The registry.
    pub registry: Arc<dyn Registry>,
    /// The orchestrator.
    pub orchestrator: Arc<dyn Orchestrator>,
    /// Where uploads go, and exports come from.
    pub artefacts: Arc<dyn Artefacts>,
    /// Where events go.
    pub streams: Arc<dyn Streams>,
    /// The policies.
    pub authorizer: Authorizer,
    /// Whether callers are checked.
    pub security: Security,
    /// The gateway's own identity towards model servers.
    pub identity: Identity,
    /// The CA of model servers, PEM.
    pub ca: String,
    /// Limits.
    pub limits: Limits,
    /// The clock.
    pub clock: Clock,
    /// Renders the process's metrics in Prometheus' text form.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// The gateway's state, shared by every connection.
pub struct Ring {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) orchestrator: Arc<dyn Orchestrator>,
    pub(crate) artefacts: Arc<dyn Artefacts>,
    pub(crate) identifier: Identifier,
    pub(crate) authorizer: Authorizer,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) limiter: Limiter,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
    pub(crate) render: Arc<dyn Fn() -> String + Send + Sync>,
    pub(crate) rng: Mutex<ChaCha8Rng>,
    models: RwLock<HashMap<ModelKey, Arc<Model>>>,
    changed: watch::Sender<u64>,
    doors: Doors,
}

struct Doors {
    identity: Identity,
    ca: String,
}

/// A routed model.
pub(crate) struct Model {
    pub(crate) route: ModelRoute,
    pub(crate) replicas: Vec<Arc<Door>>,
    pub(crate) statistics: Arc<Statistics>,
}

impl Model {
    /// Whether a replica of this version is ready.
    pub(crate) fn has_replica(&self, version: Version) -> bool {
        self.replicas.iter().any(|door| door.replica.version == version)
    }
}

/// A replica with its connection and what this gateway has in flight there.
pub(crate) struct Door {
    pub(crate) replica: Replica,
    pub(crate) client: ModelServerClient,
    pub(crate) in_flight: std::sync::atomic::AtomicU32,
}

impl Ring {
    /// A ring that knows nobody and no model yet: [`crate::follow::run`] fills it.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            registry,
            orchestrator,
            artefacts,
            streams,
            authorizer,
            security,
            identity,
            ca,
            limits,
            clock,
            metrics,
        } = parts;
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        let identifier = match security {
            Security::On => Identifier::new(),
            Security::Off => Identifier::anonymous(),
        };
        Arc::new(Self {
            registry,
            orchestrator,
            artefacts,
            identifier,
            authorizer,
            limits,
            limiter: Limiter::default(),
            recorder: Recorder::start(streams, clock.clone(), limits.events),
            clock,
            metrics: Metrics::new(),
            render: metrics,
            rng: Mutex::new(ChaCha8Rng::seed_from_u64(high ^ low)),
            models: RwLock::default(),
            changed: watch::channel(0).0,
            doors: Doors { identity, ca },
        })
    }

    /// The model under this key.
    pub(crate) fn model(&self, key: &ModelKey) -> Result<Arc<Model>, Refusal> {
        self.models.read().get(key).cloned().ok_or_else(|| Refusal::unknown_model(&key.0, &key.1))
    }

    /// Every model of a namespace, by name.
    pub(crate) fn models(&self, namespace: &types::Namespace) -> Vec<Arc<Model>> {
        let models = self.models.read();
        let mut found: Vec<_> = models.iter().filter(|((of, _), _)| of == namespace).collect();
        found.sort_by(|((_, a), _), ((_, b), _)| a.cmp(b));
        found.into_iter().map(|(_, model)| model.clone()).collect()
    }

    /// Resolves at the next change of any route.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Takes a changed route in; replicas that stay keep their connections and counts.
    pub(crate) fn set_route(&self, key: ModelKey, route: Option<ModelRoute>) {
        {
            let mut models = self.models.write();
            match route {
                None => {
                    models.remove(&key);
                }
                Some(route) => {
                    let old = models.get(&key).cloned();
                    let doors = route.replicas.iter().filter_map(|replica| self.door(replica, old.as_deref()));
                    let replicas = doors.collect();
                    let statistics = old.map_or_else(Arc::default, |old| old.statistics.clone());
                    models.insert(key, Arc::new(Model { route, replicas, statistics }));
                }
            }
        }
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// Forgets every route; used before they are all read anew.
    pub(crate) fn clear_routes(&self) {
        self.models.write().clear();
    }

    fn door(&self, replica: &Replica, old: Option<&Model>) -> Option<Arc<Door>> {
        let kept = old.and_then(|old| old.replicas.iter().find(|door| door.replica == *replica));
        if let Some(kept) = kept {
            return Some(kept.clone());
        }
        let Doors { identity, ca } = &self.doors;
        match rpc::door::connect(replica.socket.clone(), &replica.peer, identity, ca) {
            Ok(channel) => Some(Arc::new(Door {
                replica: replica.clone(),
                client: ModelServerClient::new(channel),
                in_flight: std::sync::atomic::AtomicU32::new(0),
            })),
            Err(error) => {
                tracing::error!(%error, replica = replica.id, "a replica can't be reached");
                None
            }
        }
    }

    /// Waits until every event accepted so far is stored.
    pub async fn flush(&self) {
        self.recorder.flush().await;
    }
}
