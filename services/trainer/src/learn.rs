//! Streaming versions learn: each goes through the joined log, entry by entry, and its state is signed now and then.
//!
//! What a version knows is what the log says up to its offset, whoever was killed when: the offset is part of the state
//! that is signed, and whatever was learnt beyond it is learnt again from there. A version that was just deployed begins
//! at the log's first entry, so it knows what its predecessors were taught. Of a model learn its newest version, the one
//! that answers, and those that did lately ([`group`]). Where the newest is to prove itself first, [`contest`] compares both.

pub(crate) mod explain;
mod group;
mod learner;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use metrics::gauge;
use rpc::{
    Clock, Orchestrator, Registry,
    orchestrator::{ModelKey, Status, StatusOf},
    registry::{Select, VersionKey, VersionRecord},
    trainer::{Learning, Revert, Rollout, Word},
};
use store::{Artefacts, Catalog, Streams};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};
use types::{Code, Refusal, Version};

use crate::Known;
use group::Group;
pub(crate) use group::lesson;

/// How often it is looked which versions there are, and which of them answer.
const LOOK: Duration = Duration::from_secs(1);
/// The wait after a store could not be used.
const AGAIN: Duration = Duration::from_secs(2);
/// How often it is looked whether versions are to be compared that do not learn.
const RARELY: Duration = Duration::from_secs(3);
/// Models that learn at a time: each holds its learners in memory.
const MODELS: usize = 64;

/// Where learners read, leave what they know, and say who is to answer.
pub(crate) struct Stores {
    pub(crate) streams: Arc<dyn Streams>,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) artefacts: Arc<dyn Artefacts>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) orchestrator: Arc<dyn Orchestrator>,
    pub(crate) known: Arc<Known>,
    pub(crate) clock: Clock,
}

impl Stores {
    /// The versions of a model, the oldest first; none of one that is no more.
    pub(crate) async fn versions(&self, (namespace, model): &ModelKey) -> Result<Vec<VersionRecord>, Refusal> {
        let select = Select { namespace: namespace.clone(), model: Some(model.clone()) };
        match self.registry.versions(select).await {
            Err(refusal) if refusal.code == Code::ModelNotFound => Ok(Vec::new()),
            versions => versions,
        }
    }

    /// What is wanted of a model; nothing where nobody wants it.
    pub(crate) async fn status(&self, (namespace, model): &ModelKey) -> Result<Option<Status>, Refusal> {
        let of = StatusOf { namespace: namespace.clone(), model: Some(model.clone()) };
        Ok(self.orchestrator.status(of).await?.into_iter().next())
    }
}

/// Models with labels, as those find them who join labels.
#[derive(Debug, Default)]
pub(crate) struct Streaming {
    /// Versions that learn and answered something with a label, and when that was seen last.
    models: parking_lot::Mutex<BTreeMap<ModelKey, BTreeMap<Version, Instant>>>,
    /// There is more in the log.
    more: Notify,
}

impl Streaming {
    /// Notes that a version has a labelled answer, and whether it learns from that.
    pub(crate) fn answered(&self, model: ModelKey, version: Version, learns: bool) {
        let mut models = self.models.lock();
        let versions = models.entry(model).or_default();
        if learns {
            versions.insert(version, Instant::now());
        }
    }

    /// All of them.
    pub(crate) fn models(&self) -> Vec<ModelKey> {
        self.models.lock().keys().cloned().collect()
    }

    /// Says that there is more in the log.
    pub(crate) fn wake(&self) {
        self.more.notify_one();
    }
}

/// What a person says, and where the answer goes.
pub(crate) enum Said {
    /// Of a challenger.
    Word(Word, oneshot::Sender<Result<Rollout, Refusal>>),
    /// Of a state.
    Revert(Revert, oneshot::Sender<Result<Learning, Refusal>>),
}

/// The learners' loop.
pub(crate) struct Learn {
    stores: Arc<Stores>,
    known: Arc<Known>,
    /// The least time between two signed states of a version.
    every: Duration,
    groups: BTreeMap<ModelKey, Group>,
    said: mpsc::Receiver<Said>,
    /// When all models with labels were looked at.
    looked: Option<Instant>,
}

impl Learn {
    pub(crate) fn new(stores: Arc<Stores>, known: Arc<Known>, every: Duration, said: mpsc::Receiver<Said>) -> Self {
        Self { stores, known, every, groups: BTreeMap::new(), said, looked: None }
    }

    /// Runs until `stop` resolves; what was learnt by then is signed.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut looked: Option<Instant> = None;
        loop {
            let turn = async {
                if looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
                    self.look().await?;
                    looked = Some(Instant::now());
                }
                self.round().await
            };
            let rest = match turn.await {
                Ok(rest) => rest,
                Err(refusal) => {
                    tracing::warn!(%refusal, "streaming models can't learn right now; it is tried again");
                    AGAIN
                }
            };
            tokio::select! {
                () = &mut stop => break,
                Some(said) = self.said.recv() => match said {
                    // Whoever asked may have gone.
                    Said::Word(word, answer) => drop(answer.send(self.decide(word).await)),
                    Said::Revert(revert, answer) => drop(answer.send(self.revert(revert).await)),
                },
                () = tokio::time::sleep(rest.min(LOOK)) => {}
                () = self.known.streaming.more.notified(), if rest > Duration::ZERO => {}
            }
        }
        for group in self.groups.values_mut() {
            if let Err(refusal) = group.sign_all(&self.stores).await {
                tracing::warn!(%refusal, "what was learnt last is not signed; it is learnt again");
            }
        }
    }

    /// Finds out which versions are to learn, and which of them answer.
    async fn look(&mut self) -> Result<(), Refusal> {
        let models = self.known.streaming.models.lock().clone();
        let all = self.looked.is_none_or(|looked| looked.elapsed() >= RARELY);
        if all {
            self.looked = Some(Instant::now());
        }
        for (key, answered) in models {
            if !all && answered.is_empty() && !self.groups.contains_key(&key) {
                continue;
            }
            let versions = self.stores.versions(&key).await?;
            if versions.is_empty() {
                self.known.streaming.models.lock().remove(&key);
                self.groups.remove(&key);
                self.forget(&key).await?;
                continue;
            }
            if !versions.iter().any(|version| group::concerns(&version.manifest)) {
                continue;
            }
            if !self.groups.contains_key(&key) {
                if self.groups.len() >= MODELS {
                    continue;
                }
                self.groups.insert(key.clone(), Group::open(&self.stores, key.clone()).await?);
            }
            let status = self.stores.status(&key).await?;
            let Some(group) = self.groups.get_mut(&key) else { continue };
            let end = self.known.end.load(Ordering::Relaxed);
            match group.look(&self.stores, versions, (&answered, end), status.as_ref()).await {
                Ok(()) => {}
                Err(refusal) if matches!(refusal.code, Code::StorageUnavailable | Code::ReplicaLost) => {
                    return Err(refusal);
                }
                // The others learn on.
                Err(refusal) => tracing::warn!(namespace = %key.0, model = %key.1, %refusal, "a model can't learn"),
            }
            self.show(&key);
        }
        Ok(())
    }

    /// What is no more is told no more.
    async fn forget(&self, key: &ModelKey) -> Result<(), Refusal> {
        self.known.learning.lock().retain(|(namespace, model, _), _| (namespace, model) != (&key.0, &key.1));
        self.known.rollouts.lock().remove(key);
        self.known.copied.lock().remove(key);
        self.known.canaries.leave(key);
        self.known.pairs.leave(key);
        self.known.cleans.remove(&*self.stores.catalog, key).await?;
        group::forget(&self.stores, key).await
    }

    /// Has every model's versions take the next entries in, and those signed whose time has come; returns how long there
    /// is nothing to do.
    async fn round(&mut self) -> Result<Duration, Refusal> {
        let mut rest = LOOK;
        for key in self.groups.keys().cloned().collect::<Vec<_>>() {
            // Where it is lost on the way, it begins again from what is signed and kept, at the next look.
            let Some(group) = self.groups.remove(&key) else { continue };
            let (group, outcome) = group.round(&self.stores, self.every).await?;
            self.groups.insert(key.clone(), group);
            self.show(&key);
            match outcome {
                Ok(quiet) => rest = rest.min(quiet),
                // It was deleted; the next look says so.
                Err(refusal) if refusal.code == Code::ModelNotFound => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(rest)
    }

    async fn decide(&mut self, word: Word) -> Result<Rollout, Refusal> {
        let key = (word.namespace.clone(), word.model.clone());
        let group = self.groups.get_mut(&key).ok_or_else(|| group::no_challenger(&word))?;
        let rollout = group.decide(&self.stores, word).await?;
        self.show(&key);
        Ok(rollout)
    }

    async fn revert(&mut self, Revert { namespace, model, snapshot }: Revert) -> Result<Learning, Refusal> {
        let key = (namespace, model);
        let current = self.stores.status(&key).await?.and_then(|status| status.desired);
        let group = self.groups.get_mut(&key).ok_or_else(|| group::no_learner(&key))?;
        let learning = group.revert(&self.stores, current, snapshot).await?;
        self.show(&key);
        Ok(learning)
    }

    /// Tells how a model's versions stand.
    fn show(&self, key: &ModelKey) {
        let Some(group) = self.groups.get(key) else { return };
        let mut learning = self.known.learning.lock();
        learning.retain(|(namespace, model, _), _| (namespace, model) != (&key.0, &key.1));
        for report in group.reports(self.known.end.load(Ordering::Relaxed)) {
            let version = (key.0.clone(), key.1.clone(), report.version);
            measure(&version, &report);
            learning.insert(version, report);
        }
        if group.is_copied() {
            self.known.copied.lock().insert(key.clone());
        } else {
            self.known.copied.lock().remove(key);
        }
        let mut rollouts = self.known.rollouts.lock();
        match group.rollout(self.stores.clock.now()) {
            Some(rollout) => rollouts.insert(key.clone(), rollout),
            None => rollouts.remove(key),
        };
    }
}

/// What is told of versions that learn, and of challengers.
pub(crate) type Reports = BTreeMap<VersionKey, Learning>;
pub(crate) type Rollouts = BTreeMap<ModelKey, Rollout>;

fn measure((namespace, model, version): &VersionKey, report: &Learning) {
    let labels = [("namespace", namespace.to_string()), ("model", model.to_string()), ("version", version.to_string())];
    gauge!("mantlet_trainer_staleness_seconds", &labels).set(report.staleness_ms as f64 / 1e3);
    gauge!("mantlet_trainer_behind_entries", &labels).set(report.behind as f64);
    gauge!("mantlet_trainer_learnt_examples", &labels).set(report.learnt as f64);
}
