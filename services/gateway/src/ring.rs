//! What the ring works with: who is known, what is routed, what is being counted.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use access::{Action, Authorizer, Identifier, Permit, Principal, Resource, jwt::Issuer};
use parking_lot::{Mutex, RwLock};
use rpc::{
    Clock, Orchestrator, Registry, Sentinel, Supervisor, Trainer,
    door::Badge,
    model_server::ModelServerClient,
    orchestrator::{ModelKey, ModelRoute, Replica},
};
use store::{Artefacts, Streams};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::Instant,
};
use types::{
    CallerName, Refusal, Version,
    event::{Denial, Event},
    manifest::ScaleMode,
};

use crate::{
    keys::KeySet,
    load::Meter,
    metric::Metrics,
    pipeline::{
        assess::{Limiter, Quotas},
        balance::{Admission, Hall, Place, Pools},
        forward::COPIES,
        record::{Recorder, Shadows, Statistics, Stores, Strangers},
    },
    restrictions::Restrictions,
    sense::{self, Glimpse, Sense},
    sent,
    trace::{Tracer, Traces},
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
    /// How long events are kept, at most.
    pub keep: Duration,
    /// Bytes of events that are kept, at most.
    pub keep_bytes: u64,
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
            keep: Duration::from_secs(7 * 86_400),
            keep_bytes: 1 << 30,
        }
    }
}

/// What a gateway is made of.
pub struct Parts {
    /// The registry.
    pub registry: Arc<dyn Registry>,
    /// The orchestrator.
    pub orchestrator: Arc<dyn Orchestrator>,
    /// Who knows how right models were.
    pub trainer: Arc<dyn Trainer>,
    /// Who is told what attackers do, and says what is done about them.
    pub sentinel: Arc<dyn Sentinel>,
    /// How it is looked for attackers.
    pub sensing: sense::Settings,
    /// Who holds the CA's key.
    pub supervisor: Arc<dyn Supervisor>,
    /// Where uploads go, and exports come from.
    pub artefacts: Arc<dyn Artefacts>,
    /// Where events go.
    pub streams: Arc<dyn Streams>,
    /// The gateway's name among the node's gateways: what its streams and its ledger records are called by.
    pub name: String,
    /// The policies.
    pub authorizer: Authorizer,
    /// Whether callers are checked.
    pub security: Security,
    /// Whose JSON Web Tokens are believed, and where its keys are.
    pub issuer: Option<(Issuer, KeySet)>,
    /// What the gateway shows to model servers.
    pub badge: Badge,
    /// Where spans go; they are not made where it is nowhere.
    pub traces: Option<Traces>,
    /// What the learnt rule may do that chooses replicas.
    pub balancer: ::balance::Mode,
    /// Limits.
    pub limits: Limits,
    /// The clock.
    pub clock: Clock,
    /// Renders the process's metrics in Prometheus' text form.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// How long a change waits until this gateway follows it.
const FOLLOWED: Duration = Duration::from_secs(2);

/// Policies that allow nothing.
const NOTHING: &str = "@id(\"nothing\") forbid (principal, action, resource);";

/// The gateway's state, shared by every connection.
pub struct Ring {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) orchestrator: Arc<dyn Orchestrator>,
    pub(crate) trainer: Arc<dyn Trainer>,
    pub(crate) sentinel: Arc<dyn Sentinel>,
    pub(crate) sense: Sense,
    pub(crate) restrictions: Restrictions,
    pub(crate) supervisor: Arc<dyn Supervisor>,
    pub(crate) artefacts: Arc<dyn Artefacts>,
    pub(crate) streams: Arc<dyn Streams>,
    pub(crate) identifier: Identifier,
    pub(crate) keys: Option<KeySet>,
    pub(crate) authorizer: Authorizer,
    pub(crate) limits: Limits,
    balancer: ::balance::Mode,
    pub(crate) clock: Clock,
    pub(crate) limiter: Limiter,
    pub(crate) admission: Arc<Admission>,
    pub(crate) hall: Hall,
    /// Places for copies that find out how quick a replica is.
    pub(crate) exploring: Arc<Semaphore>,
    /// Somebody waits for a model that sleeps.
    pub(crate) sleeper: Notify,
    pub(crate) quotas: Quotas,
    pub(crate) name: String,
    pub(crate) recorder: Recorder,
    pub(crate) shadows: Shadows,
    pub(crate) strangers: Strangers,
    pub(crate) metrics: Metrics,
    pub(crate) tracer: Option<Tracer>,
    pub(crate) render: Arc<dyn Fn() -> String + Send + Sync>,
    models: RwLock<HashMap<ModelKey, Arc<Model>>>,
    policies: RwLock<HashMap<types::Namespace, String>>,
    changed: watch::Sender<u64>,
    numbers: AtomicU64,
    badge: Badge,
}

/// Versions of a model that are counted apart.
const VERSIONS: usize = 16;

type Versions = Arc<Mutex<BTreeMap<Version, Arc<Statistics>>>>;

/// A routed model.
pub(crate) struct Model {
    pub(crate) route: ModelRoute,
    /// What it takes, where that is known.
    pub(crate) inputs: Option<Vec<types::manifest::Input>>,
    pub(crate) replicas: Vec<Arc<Door>>,
    pub(crate) statistics: Arc<Statistics>,
    versions: Versions,
    pub(crate) pools: Arc<Pools>,
    /// Where it stands before the gate.
    pub(crate) place: Place,
    /// Counts what it is asked, where that has a say in how many replicas it has.
    pub(crate) meter: Option<Arc<Meter>>,
}

impl Model {
    /// Whether a replica of this version is ready.
    pub(crate) fn has_replica(&self, version: Version) -> bool {
        self.replicas.iter().any(|door| door.replica.version == version)
    }

    /// The version that a request of this caller goes to that names none, where it is not the one that answers: as a person says, else
    /// by a draw of the canary's share. One that has no replica gets nothing.
    pub(crate) fn draw(&self, caller: &CallerName) -> Option<Version> {
        let draw = rand::random::<f64>;
        let version = if sent::is_sent(&self.route.sent, caller) {
            sent::version(&self.route.sent, caller, draw)
        } else {
            self.route.canary.filter(|(_, share)| draw() < share.get()).map(|(version, _)| version)
        };
        version.filter(|version| *version != self.route.current && self.has_replica(*version))
    }

    /// Whether requests that name none may go to this version still, beside the one that answers.
    pub(crate) fn is_beside(&self, version: Version) -> bool {
        let canary = self.route.canary.is_some_and(|(canary, _)| canary == version);
        version != self.route.current
            && self.has_replica(version)
            && (canary || self.route.sent.versions().contains_key(&version))
    }

    /// Counts of what a version did; nothing beyond as many versions as are told apart.
    pub(crate) fn statistics_of(&self, version: Version) -> Option<Arc<Statistics>> {
        let mut versions = self.versions.lock();
        if versions.len() >= VERSIONS && !versions.contains_key(&version) {
            // The newest are those that somebody asks about.
            let oldest = *versions.keys().next()?;
            if oldest > version {
                return None;
            }
            versions.remove(&oldest);
        }
        Some(versions.entry(version).or_default().clone())
    }

    /// Counts by version, the newest first.
    pub(crate) fn versions(&self) -> Vec<(Version, Arc<Statistics>)> {
        self.versions.lock().iter().rev().map(|(version, statistics)| (*version, statistics.clone())).collect()
    }
}

/// A replica with its connection.
pub(crate) struct Door {
    /// This gateway's own number for it.
    pub(crate) key: u64,
    pub(crate) replica: Replica,
    pub(crate) client: ModelServerClient,
}

impl Ring {
    /// A ring that knows nobody and no model yet: [`crate::follow::run`] fills it.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            registry,
            orchestrator,
            trainer,
            sentinel,
            sensing,
            supervisor,
            artefacts,
            streams,
            name,
            authorizer,
            security,
            issuer,
            badge,
            traces,
            balancer,
            limits,
            clock,
            metrics,
        } = parts;
        let identifier = match security {
            Security::On => match &issuer {
                Some((issuer, _)) => Identifier::new().with_issuer(issuer.clone()),
                None => Identifier::new(),
            },
            Security::Off => Identifier::anonymous(),
        };
        let stores = Stores {
            gateway: name,
            streams: streams.clone(),
            registry: registry.clone(),
            clock: clock.clone(),
            keep: (limits.keep, limits.keep_bytes),
        };
        let (metrics, render) = (Metrics::new(), metrics);
        let tracer = traces.map(|traces| Tracer::start(traces, &stores.gateway, metrics.spans_lost()));
        // Nobody is anybody where callers are not checked.
        let sensing = sense::Settings { on: sensing.on && security == Security::On, ..sensing };
        Arc::new(Self {
            sense: Sense::start(sensing, &stores.gateway, sentinel.clone(), clock.clone()),
            restrictions: Restrictions::default(),
            sentinel,
            registry,
            orchestrator,
            trainer,
            supervisor,
            streams,
            artefacts,
            identifier,
            keys: issuer.map(|(_, keys)| keys),
            authorizer,
            limits,
            balancer,
            limiter: Limiter::default(),
            admission: Admission::new(),
            hall: Hall::new(),
            exploring: Arc::new(Semaphore::new(COPIES)),
            sleeper: Notify::new(),
            quotas: Quotas::default(),
            name: stores.gateway.clone(),
            recorder: Recorder::start(stores, limits.events),
            shadows: Shadows::new(),
            strangers: Strangers::new(),
            clock,
            tracer,
            metrics,
            render,
            models: RwLock::default(),
            policies: RwLock::default(),
            changed: watch::channel(0).0,
            numbers: AtomicU64::new(0),
            badge,
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

    /// Resolves at the next change of any policy, credential or route.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Takes a changed route in; replicas that stay keep their connections and counts.
    pub(crate) fn set_route(&self, key: ModelKey, route: Option<ModelRoute>) {
        {
            let mut models = self.models.write();
            match route {
                None => {
                    if let Some(gone) = models.remove(&key) {
                        self.admission.forget(gone.place);
                    }
                }
                Some(route) => {
                    let old = models.get(&key).cloned();
                    if let Some(refusal) = &route.refused
                        && old.as_ref().is_none_or(|old| old.route.refused.as_ref() != Some(refusal))
                    {
                        self.sense.take(Glimpse::Bundle { key: key.clone(), refusal: refusal.clone() });
                    }
                    let doors = route.replicas.iter().filter_map(|replica| self.door(replica, old.as_deref()));
                    let replicas: Vec<_> = doors.collect();
                    let meter = (route.manifest.scale_mode() != ScaleMode::Off).then(|| {
                        let kept = old.as_ref().and_then(|old| old.meter.clone());
                        kept.unwrap_or_else(Meter::new)
                    });
                    let versions = old.as_ref().map(|old| old.versions.clone()).unwrap_or_default();
                    let (statistics, pools, place) = match old {
                        Some(old) => (old.statistics.clone(), old.pools.clone(), old.place),
                        None => {
                            let neighbour = models.iter().find(|((namespace, _), _)| *namespace == key.0);
                            let namespace = neighbour.map_or_else(|| self.number(), |(_, model)| model.place.0);
                            (Arc::default(), Arc::new(Pools::new(self.balancer)), (namespace, self.number()))
                        }
                    };
                    pools.set(&replicas);
                    let inputs = crate::pipeline::assess::declared(&route);
                    let model = Model { route, inputs, replicas, statistics, versions, pools, place, meter };
                    models.insert(key, Arc::new(model));
                }
            }
        }
        self.note_change();
    }

    /// Every model whose load has a say in how many replicas it has.
    pub(crate) fn metered(&self) -> Vec<(ModelKey, Arc<Meter>)> {
        let models = self.models.read();
        models.iter().filter_map(|(key, model)| Some((key.clone(), model.meter.clone()?))).collect()
    }

    /// Every model that is routed.
    pub(crate) fn routed(&self) -> Vec<ModelKey> {
        self.models.read().keys().cloned().collect()
    }

    /// How the learnt rule stands that chooses replicas, wherever there is something to choose.
    pub(crate) fn standings(&self) -> HashMap<(ModelKey, Version), ::balance::Standing> {
        let models = self.models.read();
        let several = models.iter().filter(|(_, model)| model.replicas.len() > 1);
        let each = several.flat_map(|(key, model)| {
            let standings = model.pools.standings().into_iter();
            standings.map(move |(version, standing)| ((key.clone(), version), standing))
        });
        each.collect()
    }

    /// The replicas of every model that are to be asked how they stand.
    pub(crate) fn silent(&self) -> Vec<(ModelKey, Arc<Pools>, Arc<Door>)> {
        let (models, now) = (self.models.read(), Instant::now());
        let several = models.iter().filter(|(_, model)| model.replicas.len() > 1);
        let each = several.flat_map(|(key, model)| {
            let silent = model.pools.silent(&model.replicas, now).into_iter();
            silent.map(move |door| (key.clone(), model.pools.clone(), door))
        });
        each.collect()
    }

    /// A number that nothing else has here.
    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn door(&self, replica: &Replica, old: Option<&Model>) -> Option<Arc<Door>> {
        let kept = old.and_then(|old| old.replicas.iter().find(|door| door.replica == *replica));
        if let Some(kept) = kept {
            return Some(kept.clone());
        }
        match rpc::door::connect(replica.socket.clone(), &replica.peer, self.badge.clone()) {
            Ok(channel) => Some(Arc::new(Door {
                replica: replica.clone(),
                client: ModelServerClient::new(channel),
                key: self.number(),
            })),
            Err(error) => {
                tracing::error!(%error, replica = replica.id, "a replica can't be reached");
                None
            }
        }
    }

    /// Waits, a moment at most, until what was just changed has come back by the way every gateway learns it; so
    /// whoever got the answer finds it in force here.
    pub(crate) async fn until(&self, holds: impl Fn(&Self) -> bool + Send) {
        let mut changes = self.changes();
        let followed = async {
            loop {
                changes.mark_unchanged();
                if holds(self) {
                    return;
                }
                // The sender lives in the ring, which outlives this call.
                let _ = changes.changed().await;
            }
        };
        // Where the follower has lost its source it catches up later; the change itself stands.
        let _ = tokio::time::timeout(FOLLOWED, followed).await;
    }

    /// Notes that policies, credentials or routes are others than before.
    pub(crate) fn note_change(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// A namespace's own policies.
    pub(crate) fn policy(&self, namespace: &types::Namespace) -> Option<String> {
        self.policies.read().get(namespace).cloned()
    }

    /// Takes changed policies in; those that can't be used deny everything, since what they forbid is not known.
    pub(crate) fn set_policy(&self, namespace: types::Namespace, text: Option<String>) {
        if let Err(error) = self.authorizer.set(&namespace, text.as_deref()) {
            tracing::error!(%error, %namespace, "policies of a namespace can't be used: all is denied there");
            if let Err(error) = self.authorizer.set(&namespace, Some(NOTHING)) {
                tracing::error!(%error, "a policy of our own can't be used");
            }
        }
        match text {
            Some(text) => self.policies.write().insert(namespace, text),
            None => self.policies.write().remove(&namespace),
        };
    }

    /// Every namespace with policies of its own.
    pub(crate) fn policed(&self) -> Vec<types::Namespace> {
        self.policies.read().keys().cloned().collect()
    }

    /// Lets the principal do it outside the ring of a prediction; a no is recorded.
    pub(crate) fn authorize(
        &self,
        principal: Principal,
        action: Action,
        resource: Resource,
    ) -> Result<Permit, Refusal> {
        let (subject, namespace, asked) = (principal.subject(), principal.namespace().clone(), resource.to_string());
        self.authorizer.authorize(principal, action, resource).inspect_err(|refusal| {
            self.deny(Some((subject, namespace)), action.as_str(), asked, refusal);
        })
    }

    /// Records that somebody asked for what they may not have.
    pub(crate) fn deny(
        &self,
        who: Option<(String, types::Namespace)>,
        action: &str,
        resource: String,
        refusal: &Refusal,
    ) {
        let times = match &who {
            Some(_) => 1,
            None => match self.strangers.admit() {
                Some(times) => times,
                None => return,
            },
        };
        let (subject, namespace) = who.unzip();
        let denial = Denial {
            times,
            subject,
            namespace,
            action: action.to_owned(),
            resource,
            code: refusal.code,
            at: self.clock.now(),
        };
        if !self.recorder.take(Event::Denial(denial)) {
            self.metrics.lost();
        }
    }

    /// Stores every event accepted so far; none is taken from then on. Spans that wait are sent, if that is quick.
    pub async fn close(&self) {
        let times = self.strangers.rest();
        if times > 0 {
            let code = types::Code::CredentialInvalid;
            let (action, resource) = ("identify".to_owned(), "this node".to_owned());
            let at = self.clock.now();
            let denial = Denial { subject: None, namespace: None, action, resource, code, times, at };
            self.recorder.take(Event::Denial(denial));
        }
        self.recorder.close().await;
        if let Some(tracer) = &self.tracer {
            tracer.close().await;
        }
    }
}
