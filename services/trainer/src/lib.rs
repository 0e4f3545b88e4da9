//! Labels meet their predictions: how right each version of a model was.
//!
//! Gateways append labels to streams of their own. [`Work`] reads them in order, [`find`] looks up their predictions,
//! [`join`] decides what becomes of each, and the outcome is appended to the joined log ([`joined`]) together with how far
//! the labels were read. [`judge`] adds up what the joined log says; what it knows is kept in the catalog with its place
//! in that log. Streaming versions [`learn`] from that log, and their states are signed by the registry.
//!
//! What drifts is noted, and told by webhooks ([`alarms`]); whose labels are held back, to the sentinel ([`suspects`]).
//!
//! Does not know about: HTTP but for webhooks, model servers, which version answers.

mod alarms;
mod answer;
mod canary;
mod clean;
mod contributors;
mod errors;
mod find;
pub mod jobs;
mod join;
mod joined;
mod judge;
mod learn;
mod pairs;
mod suspects;
#[cfg(test)]
mod tests;
mod watch;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicU64},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use rpc::{
    Clock, Registry,
    orchestrator::ModelKey,
    registry::VersionKey,
    trainer::{
        Alarm, CheckWebhook, CleanOf, CleanSet, Covered, Evaluation, EvaluationOf, Examples, ExamplesOf, Explain,
        Explanation, Job, LabelCount, Learning, Look, PutClean, Retrain, Revert, Rollout, Told, Word,
    },
};
use store::{Artefacts, Catalog, Streams};
use tokio::sync::{Notify, mpsc, oneshot};
use types::{Code, Namespace, Refusal, Timestamp, event::JOINED};

use joined::{Entry, Refused};
use judge::Judged;
pub use work::Work;

/// What a trainer is made of.
pub struct Parts {
    /// Where labels and predictions are read, and the joined log is written.
    pub streams: Arc<dyn Streams>,
    /// Where evaluations are kept.
    pub catalog: Arc<dyn Catalog>,
    /// Where states wait to be signed, and signed ones are.
    pub artefacts: Arc<dyn Artefacts>,
    /// Who knows the versions' manifests, and signs states.
    pub registry: Arc<dyn Registry>,
    /// Who is told whose labels are held back.
    pub sentinel: Arc<dyn rpc::Sentinel>,
    /// Who is told which version is to answer.
    pub orchestrator: Arc<dyn rpc::Orchestrator>,
    /// The clock.
    pub clock: Clock,
    /// How long events are kept, at most.
    pub keep: std::time::Duration,
    /// Bytes of the joined log that are kept, at most.
    pub keep_bytes: u64,
    /// The least time between two signed states of a streaming version.
    pub snapshot_every: std::time::Duration,
    /// How jobs are run.
    pub jobs: jobs::Settings,
    /// Origins that webhooks may go to.
    pub webhooks: Vec<String>,
}

/// The trainer's door.
pub struct Trainer {
    known: Arc<Known>,
    streams: Arc<dyn Streams>,
    clock: Clock,
    said: mpsc::Sender<learn::Said>,
    looks: mpsc::Sender<work::Looked>,
    asks: mpsc::Sender<jobs::Asked>,
    stores: Arc<learn::Stores>,
    teller: Arc<alarms::Teller>,
    /// One decision is come to again at a time: that may take long.
    explaining: tokio::sync::Semaphore,
    /// Names of the jobs that there are.
    kinds: Vec<String>,
}

/// Labels whose prediction nobody knows, by namespace.
type Strays = BTreeMap<Namespace, BTreeMap<String, LabelCount>>;

/// What the door and the work share.
#[derive(Default)]
struct Known {
    models: Mutex<BTreeMap<ModelKey, Judged>>,
    strays: Mutex<Strays>,
    watermark: Mutex<Option<Timestamp>>,
    /// The next entry of the joined log.
    end: AtomicU64,
    streaming: learn::Streaming,
    learning: Mutex<learn::Reports>,
    rollouts: Mutex<learn::Rollouts>,
    /// Models whose versions are compared by copies of predictions.
    copied: Mutex<BTreeSet<ModelKey>>,
    jobs: Mutex<jobs::Table>,
    /// What drifted without labels, by version.
    alarms: Mutex<BTreeMap<VersionKey, Vec<Alarm>>>,
    /// The rows that have a label.
    labelled: Mutex<join::Labelled>,
    /// Versions that answer a share of the requests.
    canaries: canary::Canaries,
    /// What challengers said to copies, beside what was answered.
    pairs: pairs::Pairs,
    /// Rows that owners of models give, which nothing that is learnt may fall far behind on.
    cleans: clean::Cleans,
    /// Columns whose rows teach nobody where they are missing, by version.
    unfit: Mutex<BTreeMap<VersionKey, Vec<watch::Held>>>,
    /// Rows that are followed, labelled or not, by version.
    coverage: Mutex<BTreeMap<VersionKey, watch::Coverage>>,
    /// There is a new alarm.
    alarmed: Notify,
    /// How far the news of alarms has got, by their ids.
    told: Mutex<BTreeMap<String, Told>>,
}

impl Known {
    /// Whether versions of such a model are compared by copies of predictions.
    fn is_contested(&self, which: impl Fn(&ModelKey) -> bool) -> bool {
        self.copied.lock().iter().any(which)
    }

    /// Which share of a version's rows has a label, by how long ago they were asked.
    fn covered(&self, version: &VersionKey, now: Timestamp) -> Vec<Covered> {
        let mut coverage = self.coverage.lock();
        let Some(coverage) = coverage.get_mut(version) else { return Vec::new() };
        let labelled = self.labelled.lock();
        coverage.settle(now, |row| labelled.has(row));
        coverage.report()
    }

    /// The column that a row lacks while such rows are held back.
    fn lacking(&self, example: &joined::Example) -> Option<String> {
        let row = example.features.as_ref()?;
        let unfit = self.unfit.lock();
        let columns = unfit.get(&(example.namespace.clone(), example.model.clone(), example.version))?;
        let lacks = |held: &&watch::Held| matches!(row.get(held.place), Some(streaming::Cell::Missing(())));
        columns.iter().find(lacks).map(|held| held.name.clone())
    }

    /// Counts a label that is about no model.
    fn stray(&self, refused: &Refused) {
        let mut strays = self.strays.lock();
        judge::refuse(strays.entry(refused.namespace.clone()).or_default(), refused);
    }
}

impl Trainer {
    /// Opens the trainer and its work: evaluations come from the catalog, and go on where they were in the joined log.
    ///
    /// # Errors
    /// When what is kept can't be read.
    pub async fn open(parts: Parts) -> Result<(Self, Work), Refusal> {
        let (known, streams, clock) = (Arc::new(Known::default()), parts.streams.clone(), parts.clock.clone());
        let stores = Arc::new(learn::Stores {
            streams: parts.streams.clone(),
            catalog: parts.catalog.clone(),
            artefacts: parts.artefacts.clone(),
            registry: parts.registry.clone(),
            orchestrator: parts.orchestrator.clone(),
            known: known.clone(),
            clock: parts.clock.clone(),
        });
        known.cleans.load(&*parts.catalog).await?;
        let ((said, words), (looks, looked)) = (mpsc::channel(WORDS), mpsc::channel(WORDS));
        let (asks, asked) = mpsc::channel(WORDS);
        let kinds = parts.jobs.kinds.keys().cloned().collect();
        let teller = Arc::new(alarms::Teller::new(stores.clone(), parts.webhooks.clone()));
        let shared = (stores.clone(), teller.clone(), known.clone());
        let work = Work::open(parts, shared, (words, looked, asked)).await?;
        let explaining = tokio::sync::Semaphore::new(1);
        Ok((Self { known, streams, clock, said, looks, asks, stores, teller, explaining, kinds }, work))
    }
}

fn no_model((_, model): &ModelKey) -> Refusal {
    Refusal::new(Code::ModelNotFound, format!("there is no model `{model}`")).hint("see `mantlet models`")
}

fn busy() -> Refusal {
    Refusal::new(Code::Overloaded, "the trainer is busy or ends; say it again")
}

/// Words of people that wait to be heard, at most.
const WORDS: usize = 16;
/// Entries of the joined log looked at for one page of examples.
const LOOKED_AT: u64 = 20_000;
const PAGE: u32 = 1_000;

#[async_trait]
impl rpc::Trainer for Trainer {
    async fn evaluation(&self, request: EvaluationOf) -> Result<Evaluation, Refusal> {
        let EvaluationOf { namespace, model } = request;
        let strays = self.known.strays.lock().get(&namespace).cloned().unwrap_or_default();
        let learning = self.known.learning.lock();
        let of_model = learning.iter().rev().filter(|(key, _)| (&key.0, &key.1) == (&namespace, &model));
        let learning = of_model.map(|(_, learning)| learning.clone()).collect();
        let key = (namespace, model);
        let alarms = self.known.alarms_of(&key);
        let models = self.known.models.lock();
        let judged = models.get(&key);
        let mut labels = judged.map(|judged| judged.labels().clone()).unwrap_or_default();
        labels.extend(strays);
        let mut versions = judged.map(Judged::report).unwrap_or_default();
        let contributors = judged.map(Judged::standings).unwrap_or_default();
        drop(models);
        for version in &mut versions {
            let version_key = (key.0.clone(), key.1.clone(), version.version);
            version.coverage = self.known.covered(&version_key, self.clock.now());
        }
        Ok(Evaluation { versions, labels, watermark: *self.known.watermark.lock(), learning, alarms, contributors })
    }

    async fn rollouts(&self, namespace: Namespace) -> Result<Vec<Rollout>, Refusal> {
        let rollouts = self.known.rollouts.lock();
        Ok(rollouts.iter().filter(|(key, _)| key.0 == namespace).map(|(_, rollout)| rollout.clone()).collect())
    }

    async fn look_at(&self, look: Look) -> Result<(), Refusal> {
        let (answer, answered) = oneshot::channel();
        self.looks.try_send((look, answer)).map_err(|_| busy())?;
        answered.await.map_err(|_| busy())?
    }

    async fn decide(&self, word: Word) -> Result<Rollout, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.said.try_send(learn::Said::Word(word, answer)).map_err(|_| busy())?;
        answered.await.map_err(|_| busy())?
    }

    async fn revert(&self, revert: Revert) -> Result<Learning, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.said.try_send(learn::Said::Revert(revert, answer)).map_err(|_| busy())?;
        answered.await.map_err(|_| busy())?
    }

    async fn explain(&self, request: Explain) -> Result<Explanation, Refusal> {
        let _one = self.explaining.try_acquire().map_err(|_| busy())?;
        let key = (request.namespace, request.model);
        let mut explanation = learn::explain::explain(&self.stores, &key, request.challenger).await?;
        // What is known beside the log: what people said, and what was seen without labels.
        let known = self.known.rollouts.lock().get(&key).cloned();
        if let Some(known) = known.filter(|known| known.challenger == request.challenger) {
            let Rollout { stand, canary, paused, slice, slices, .. } = known;
            explanation.rollout = Rollout { stand, canary, paused, slice, slices, ..explanation.rollout };
        }
        Ok(explanation)
    }

    async fn retrain(&self, ask: Retrain) -> Result<Job, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.asks.try_send((ask, answer)).map_err(|_| busy())?;
        answered.await.map_err(|_| busy())?
    }

    async fn jobs(&self, namespace: Namespace) -> Result<Vec<Job>, Refusal> {
        let jobs = self.known.jobs.lock();
        Ok(jobs.values().rev().filter(|job| job.namespace == namespace).cloned().collect())
    }

    async fn put_clean(&self, put: PutClean) -> Result<CleanSet, Refusal> {
        let key = (put.namespace.clone(), put.model.clone());
        let record = self.stores.versions(&key).await?.pop().ok_or_else(|| no_model(&key))?;
        if !record.manifest.is_streaming() {
            let what =
                format!("`{}` does not learn by itself: a clean set bounds what models learn from labels", key.1);
            return Err(Refusal::new(Code::RequestMalformed, what)
                .hint("a version from a file has to prove itself on live traffic: docs/retraining.md"));
        }
        let clean = clean::Clean::read(put, &record.manifest, self.clock.now())?;
        self.known.cleans.put(&*self.stores.catalog, key, clean).await
    }

    async fn clean(&self, CleanOf { namespace, model }: CleanOf) -> Result<Option<CleanSet>, Refusal> {
        Ok(self.known.cleans.of(&(namespace, model)).map(|clean| clean.set.clone()))
    }

    async fn remove_clean(&self, CleanOf { namespace, model }: CleanOf) -> Result<(), Refusal> {
        self.known.cleans.remove(&*self.stores.catalog, &(namespace, model)).await
    }

    async fn job_names(&self, (): ()) -> Result<Vec<String>, Refusal> {
        Ok(self.kinds.clone())
    }

    async fn check_webhook(&self, request: CheckWebhook) -> Result<(), Refusal> {
        self.teller.check(request).await
    }

    async fn examples(&self, request: ExamplesOf) -> Result<Examples, Refusal> {
        let ExamplesOf { namespace, model, from, limit } = request;
        let (mut examples, mut next) = (Vec::new(), from);
        while next < from.saturating_add(LOOKED_AT) {
            let entries = self.streams.read(JOINED, next, PAGE).await?;
            let Some(last) = entries.last() else { return Ok(Examples { examples, next: None }) };
            let end = last.sequence + 1;
            for entry in entries {
                let Ok(Entry::Example(example)) = serde_json::from_slice(&entry.data) else { continue };
                if (&example.namespace, &example.model) != (&namespace, &model) {
                    continue;
                }
                let mut shown = serde_json::json!(example);
                shown["offset"] = entry.sequence.into();
                examples.push(shown);
                if examples.len() >= limit as usize {
                    return Ok(Examples { examples, next: Some(entry.sequence + 1) });
                }
            }
            next = end;
        }
        Ok(Examples { examples, next: Some(next) })
    }
}
