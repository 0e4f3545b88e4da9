//! The trainer's loop: labels are read, joined, written down and judged, in this order, again and again.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rpc::{
    Clock, Registry,
    orchestrator::ModelKey,
    registry::{Select, VersionRecord},
    trainer::Look,
};
use serde::{Deserialize, Serialize};
use store::{Catalog, Collection, Expect, Retention, Streams, Write, read_all};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use types::{
    Code, Manifest, Refusal, Timestamp, Version,
    event::{Event, Feedback, JOINED, Outcome, Prediction, feedback},
};

use crate::{
    Known, Parts, Strays,
    alarms::{Alarms, Teller},
    find,
    jobs::{Asked, Jobs},
    join::{HORIZON, Labelled, join},
    joined::{Entry, Example, Reason, Refused},
    judge::Kept,
    learn::{Learn, Said, Stores},
    suspects::Suspects,
    watch::Watch,
};

/// Labels joined at a time.
const BATCH: u32 = 500;
/// How long the loop rests when there is nothing to do, and after a failure.
const REST: Duration = Duration::from_millis(250);
/// How long it rests while labels come, and for how long after the last one.
const SOON: Duration = Duration::from_millis(20);
const BUSY: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_secs(2);
/// How often what is known is kept, where it changed; and how often old entries of the joined log go.
const KEEP: Duration = Duration::from_secs(10);
const SWEEP: Duration = Duration::from_secs(60);
/// How long a label waits for a prediction that may still be on its way to the stream.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it waits for what another version answered to a copy of its prediction.
const COPIED: Duration = Duration::from_secs(2);
/// Manifests remembered.
const MANIFESTS: usize = 1_024;
/// Where in the catalog it is kept how far the joined log was judged.
const PROGRESS: &str = "progress";
const MODEL: &str = "model/";

/// A person's word on a contributor, and where the answer goes.
pub(crate) type Looked = (Look, oneshot::Sender<Result<(), Refusal>>);

/// The trainer's loop.
pub struct Work {
    streams: Arc<dyn Streams>,
    catalog: Arc<dyn Catalog>,
    registry: Arc<dyn Registry>,
    clock: Clock,
    keep: Retention,
    age: Duration,
    known: Arc<Known>,
    /// The next label of each gateway.
    offsets: BTreeMap<String, u64>,
    /// The next entry of the joined log to judge.
    judged: u64,
    manifests: HashMap<(ModelKey, Version), Arc<Manifest>>,
    /// Models that changed since they were kept.
    changed: HashSet<ModelKey>,
    /// Whether anything did.
    dirty: bool,
    /// Rounds that the first label of each gateway has waited for its prediction.
    waited: BTreeMap<String, u32>,
    looks: mpsc::Receiver<Looked>,
    /// Until they run.
    beside: Option<Beside>,
}

/// What goes on beside the joining of labels.
struct Beside {
    learn: Learn,
    watch: Watch,
    jobs: (Jobs, mpsc::Receiver<Asked>),
    alarms: Alarms,
    suspects: Suspects,
}

/// How far the joined log was judged, and the labels read, when evaluations were kept.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    judged: u64,
    offsets: BTreeMap<String, u64>,
    strays: Strays,
}

impl Work {
    pub(crate) async fn open(
        parts: Parts,
        (stores, teller, known): (Arc<Stores>, Arc<Teller>, Arc<Known>),
        (words, looks, asked): (mpsc::Receiver<Said>, mpsc::Receiver<Looked>, mpsc::Receiver<Asked>),
    ) -> Result<Self, Refusal> {
        let Parts { streams, catalog, registry, sentinel, clock, .. } = parts;
        let jobs = Jobs::open(parts.jobs, stores.clone(), clock.clone(), known.clone()).await?;
        let watch =
            Watch::open(streams.clone(), catalog.clone(), registry.clone(), clock.clone(), known.clone()).await?;
        let alarms = Alarms::open(teller, clock.clone(), known.clone()).await?;
        let suspects = Suspects::new(sentinel, clock.clone(), known.clone());
        let learn = Learn::new(stores, known.clone(), parts.snapshot_every, words);
        for document in read_all(&*catalog, Collection::Evaluation, MODEL).await? {
            let Some((namespace, model)) = document.key.trim_start_matches(MODEL).split_once('/') else { continue };
            let key = (namespace.parse()?, model.parse()?);
            known.models.lock().insert(key, document.read::<Kept>()?.judged()?);
        }
        let progress = catalog.get(Collection::Evaluation, PROGRESS).await?;
        let progress = progress.map(|document| document.read::<Progress>()).transpose()?.unwrap_or_default();
        known.strays.lock().clone_from(&progress.strays);
        let mut work = Self {
            streams,
            catalog,
            registry,
            clock,
            keep: Retention { not_before: Timestamp(0), bytes: parts.keep_bytes },
            age: parts.keep,
            known,
            offsets: progress.offsets,
            judged: progress.judged.max(1),
            manifests: HashMap::new(),
            changed: HashSet::new(),
            dirty: false,
            waited: BTreeMap::new(),
            looks,
            beside: Some(Beside { learn, watch, jobs: (jobs, asked), alarms, suspects }),
        };
        work.resume().await?;
        Ok(work)
    }

    /// Reads the joined log: all of it tells which rows have a label, its end what was not judged yet, and how far the
    /// labels were read.
    async fn resume(&mut self) -> Result<(), Refusal> {
        let mut next = 0;
        loop {
            let entries = self.streams.read(JOINED, next, BATCH).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            next = last.sequence + 1;
            for entry in &entries {
                // An erased one teaches nobody any more; what it taught stays.
                let Ok(read) = serde_json::from_slice::<Entry>(&entry.data) else { continue };
                if let Entry::Example(example) = &read {
                    self.known.labelled.lock().note(example);
                    self.note_answered(example);
                }
                if entry.sequence >= self.judged {
                    self.judge(&read).await?;
                }
            }
            self.judged = self.judged.max(next);
            self.known.end.store(next, Ordering::Relaxed);
        }
    }

    /// Notes a version whose answers have labels.
    fn note_answered(&self, example: &Example) {
        let model = (example.namespace.clone(), example.model.clone());
        self.known.streaming.answered(model, example.version, example.features.is_some());
    }

    /// Runs until `stop` resolves; what is known then is kept, and what was learnt is signed.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let (end, ended) = tokio::sync::watch::channel(());
        let told = || {
            let mut ended = ended.clone();
            // That it was dropped is what is waited for.
            async move { while ended.changed().await.is_ok() {} }
        };
        let beside = self.beside.take().map(|Beside { learn, watch, jobs: (jobs, asked), alarms, suspects }| {
            [
                tokio::spawn(learn.run(told())),
                tokio::spawn(watch.run(told())),
                tokio::spawn(jobs.run(asked, told())),
                tokio::spawn(alarms.run(told())),
                tokio::spawn(suspects.run(told())),
            ]
        });
        self.labels(stop).await;
        drop(end);
        for part in beside.into_iter().flatten() {
            if let Err(error) = part.await {
                tracing::error!(%error, "a part of the trainer ended before it was told to");
            }
        }
    }

    async fn labels(&mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let (mut kept, mut swept) = (Instant::now(), Instant::now());
        let (mut busy, mut judged) = (Instant::now(), self.judged);
        loop {
            let rest = match self.round().await {
                Ok(true) => Duration::ZERO,
                // Where labels come one after the other, the next is not far.
                Ok(false) if self.judged > judged || (busy.elapsed() < BUSY && self.waited.is_empty()) => SOON,
                Ok(false) => REST,
                Err(refusal) => {
                    tracing::warn!(%refusal, "labels can't be joined; it is tried again");
                    AGAIN
                }
            };
            if self.judged > judged {
                (busy, judged) = (Instant::now(), self.judged);
            }
            if kept.elapsed() >= KEEP {
                self.keep().await;
                kept = Instant::now();
            }
            if swept.elapsed() >= SWEEP {
                self.sweep().await;
                swept = Instant::now();
            }
            tokio::select! {
                () = &mut stop => break,
                Some((look, answer)) = self.looks.recv() => {
                    // Whoever asked may have gone.
                    let _ = answer.send(self.look_at(look).await);
                }
                () = sleep(rest) => {}
            }
        }
        self.keep().await;
    }

    /// Joins the next labels of every gateway; whether there may be more.
    ///
    /// # Errors
    /// When a store can't be used; then nothing has changed.
    pub(crate) async fn round(&mut self) -> Result<bool, Refusal> {
        let mut more = false;
        for stream in self.streams.names(&feedback("")).await? {
            let gateway = stream.trim_start_matches(&feedback("")).to_owned();
            let from = self.offsets.get(&gateway).copied().unwrap_or(0);
            let read = self.streams.read(&stream, from, BATCH).await?;
            if read.is_empty() {
                continue;
            }
            let labels = read.iter().map(|entry| (entry.sequence, label(&entry.data)));
            let (mut entries, next) = self.join(&gateway, labels.collect()).await?;
            if next > from {
                let mut offsets = self.offsets.clone();
                offsets.insert(gateway, next);
                entries.push(Entry::Progress { offsets });
                self.write(entries).await?;
                more |= read.len() == BATCH as usize;
            }
        }
        if !more {
            *self.known.watermark.lock() = Some(self.clock.now());
        }
        Ok(more)
    }

    /// What becomes of these labels, and which is the next to read: the first whose prediction may still come is left for
    /// another round, and so are those behind it.
    async fn join(
        &mut self,
        gateway: &str,
        labels: Vec<(u64, Option<Feedback>)>,
    ) -> Result<(Vec<Entry>, u64), Refusal> {
        let wanted: HashSet<_> = labels.iter().filter_map(|(_, label)| Some(label.as_ref()?.prediction)).collect();
        let copies = self.known.is_contested(|_| true);
        let found = find::predictions(&*self.streams, &wanted, copies).await?;
        // Those of this batch are known for good once they are written.
        let (mut entries, mut next, mut batch) = (Vec::new(), 0, Labelled::default());
        for (sequence, label) in labels {
            if let Some(label) = label {
                let found = found.get(&label.prediction);
                let patience = match found {
                    None => PATIENCE,
                    Some(found) if found.copies.is_empty() && self.is_copied(&found.prediction) => COPIED,
                    Some(_) => Duration::ZERO,
                };
                if self.may_come(gateway, &label, patience) {
                    *self.waited.entry(gateway.to_owned()).or_default() += 1;
                    return Ok((entries, next.max(sequence)));
                }
                let manifest = match found.and_then(|found| version(&found.prediction)) {
                    Some(version) => self.manifest(version).await?,
                    None => None,
                };
                let entry = join(&label, found, manifest.as_deref(), [&self.known.labelled.lock(), &batch]);
                let entry = self.held_back(entry);
                if let Entry::Example(example) = &entry {
                    batch.note(example);
                }
                entries.push(entry);
            }
            next = sequence + 1;
            self.waited.remove(gateway);
        }
        Ok((entries, next))
    }

    /// A label of a contributor whose labels are held back teaches nobody, nor does a row that lacks what rows always had; one of
    /// somebody who brings much and is not known yet teaches less.
    fn held_back(&self, entry: Entry) -> Entry {
        let Entry::Example(mut example) = entry else { return entry };
        let suspect = {
            let models = self.known.models.lock();
            let judged = models.get(&(example.namespace.clone(), example.model.clone()));
            example.weight = judged.map_or(1.0, |judged| judged.influence(&example.contributor));
            judged.is_some_and(|judged| judged.is_suspect(&example.contributor))
        };
        let (reason, why) = if suspect {
            let why = format!("`{}` disagrees with the model far more than others do", example.contributor);
            (Reason::HeldBack, why)
        } else if let Some(column) = self.known.lacking(&example) {
            (Reason::Unfit, format!("`{column}` is missing, which it never was before"))
        } else {
            return Entry::Example(example);
        };
        let Example { prediction, row, namespace, model, received, .. } = example;
        Entry::Refused(Refused { prediction, row, namespace, model: Some(model), reason, why, received })
    }

    /// Takes a person's word on a contributor in: it stands in the joined log, after the labels that came before it.
    async fn look_at(&mut self, look: Look) -> Result<(), Refusal> {
        let key = (look.namespace.clone(), look.model.clone());
        let known =
            self.known.models.lock().get_mut(&key).is_some_and(|judged| judged.contributors().knows(&look.contributor));
        if !known {
            let what = format!("`{}` has labelled nothing of `{}`", look.contributor, look.model);
            return Err(Refusal::new(Code::CallerNotFound, what).hint("see `mantlet models evaluation NAME`"));
        }
        self.write(vec![Entry::Looked(look), Entry::Progress { offsets: self.offsets.clone() }]).await
    }

    /// Whether other versions are asked what this prediction was asked.
    fn is_copied(&self, prediction: &Prediction) -> bool {
        let model = prediction.namespace.as_ref().zip(prediction.model.as_ref());
        prediction.outcome == Outcome::Answered
            && model.is_some_and(|model| self.known.is_contested(|(namespace, name)| (namespace, name) == model))
    }

    /// Whether what belongs to this label may be on its way. A clock that was set back must not stop everything, so that
    /// rounds are counted, too.
    fn may_come(&self, gateway: &str, label: &Feedback, patience: Duration) -> bool {
        let now = self.clock.now();
        let fresh = label.prediction.made().is_some_and(|made| now.since(made) < find::LATE);
        let rounds = u32::try_from(patience.as_millis() / REST.as_millis()).unwrap_or(u32::MAX);
        let waited = self.waited.get(gateway).copied().unwrap_or(0);
        fresh && now.since(label.received) < patience && waited < rounds
    }

    /// A version's manifest; nothing when it was deleted since.
    async fn manifest(&mut self, version: (ModelKey, Version)) -> Result<Option<Arc<Manifest>>, Refusal> {
        if let Some(known) = self.manifests.get(&version) {
            return Ok(Some(known.clone()));
        }
        let records = self.versions(&version.0).await?;
        let known: Vec<Version> = records.iter().map(|record| record.version).collect();
        if self.known.models.lock().get(&version.0).is_some_and(|judged| judged.is_of_another(&known)) {
            // It was deleted and deployed anew since: who labelled the one before is no judge of this one.
            self.known.models.lock().remove(&version.0);
        }
        if self.manifests.len() + records.len() > MANIFESTS {
            self.manifests.clear();
        }
        for record in records {
            self.manifests.insert((version.0.clone(), record.version), Arc::new(record.manifest));
        }
        Ok(self.manifests.get(&version).cloned())
    }

    /// The versions of a model; none of one that was deleted.
    async fn versions(&self, (namespace, model): &ModelKey) -> Result<Vec<VersionRecord>, Refusal> {
        let select = Select { namespace: namespace.clone(), model: Some(model.clone()) };
        match self.registry.versions(select).await {
            Err(refusal) if refusal.code == Code::ModelNotFound => Ok(Vec::new()),
            versions => versions,
        }
    }

    /// Writes entries into the joined log, in one write, and judges them.
    async fn write(&mut self, entries: Vec<Entry>) -> Result<(), Refusal> {
        let bytes = entries.iter().map(serde_json::to_vec).collect::<Result<Vec<_>, _>>();
        let bytes = bytes.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        let first = self.streams.append(JOINED, self.clock.now(), bytes).await?;
        for entry in &entries {
            if let Entry::Example(example) = entry {
                self.known.labelled.lock().note(example);
                self.note_answered(example);
            }
            // Its manifest is known: it was just joined.
            self.judge(entry).await?;
        }
        self.judged = first + entries.len() as u64;
        self.known.end.store(self.judged, Ordering::Relaxed);
        self.known.streaming.wake();
        Ok(())
    }

    /// Adds an entry of the joined log to what is known.
    async fn judge(&mut self, entry: &Entry) -> Result<(), Refusal> {
        self.dirty = true;
        match entry {
            Entry::Progress { offsets } => self.offsets.clone_from(offsets),
            Entry::Example(example) => {
                let key = (example.namespace.clone(), example.model.clone());
                let manifest = self.manifest((key.clone(), example.version)).await?;
                let (suspected, drifts) =
                    self.known.models.lock().entry(key.clone()).or_default().take(example, manifest.as_deref());
                if drifts {
                    self.known.alarmed.notify_one();
                }
                for contributor in suspected {
                    let Example { namespace, model, .. } = example;
                    tracing::warn!(%namespace, %model, contributor, "a contributor's labels are held back from now on");
                }
                self.changed.insert(key);
            }
            Entry::Looked(look) => {
                let key = (look.namespace.clone(), look.model.clone());
                let mut models = self.known.models.lock();
                models.entry(key.clone()).or_default().contributors().look(&look.contributor, look.trust);
                self.changed.insert(key);
            }
            Entry::Refused(refused) => match &refused.model {
                Some(model) => {
                    let key = (refused.namespace.clone(), model.clone());
                    self.known.models.lock().entry(key.clone()).or_default().refuse(refused);
                    self.changed.insert(key);
                }
                None => self.known.stray(refused),
            },
        }
        Ok(())
    }

    /// Keeps what changed, all in one transaction with its place in the joined log.
    pub(crate) async fn keep(&mut self) {
        if !self.dirty {
            return;
        }
        if let Err(refusal) = self.try_keep().await {
            tracing::warn!(%refusal, "evaluations can't be kept; it is tried again");
        }
    }

    async fn try_keep(&mut self) -> Result<(), Refusal> {
        let strays = self.known.strays.lock().clone();
        let progress = Progress { judged: self.judged, offsets: self.offsets.clone(), strays };
        let mut writes = vec![Write::put(Collection::Evaluation, PROGRESS, Expect::Any, &progress)?];
        {
            let models = self.known.models.lock();
            for key in &self.changed {
                let Some(judged) = models.get(key) else { continue };
                judged.measure(key);
                writes.push(Write::put(Collection::Evaluation, name(key), Expect::Any, &Kept::of(judged))?);
            }
        }
        self.catalog.commit(writes, Vec::new()).await?;
        self.changed.clear();
        self.dirty = false;
        Ok(())
    }

    /// Drops what is known of models that are no more.
    async fn forget_deleted(&mut self) -> Result<(), Refusal> {
        let models: Vec<ModelKey> = self.known.models.lock().keys().cloned().collect();
        for key in models {
            if self.versions(&key).await?.is_empty() {
                let remove = Write::remove(Collection::Evaluation, name(&key), Expect::Any);
                self.catalog.commit(vec![remove], Vec::new()).await?;
                self.known.models.lock().remove(&key);
                self.changed.remove(&key);
            }
        }
        Ok(())
    }

    /// Lets old entries of the joined log go; none that is not judged and kept.
    async fn sweep(&mut self) {
        self.keep().await;
        if let Err(refusal) = self.forget_deleted().await {
            tracing::warn!(%refusal, "evaluations of deleted models could not be dropped");
        }
        let age = self.age.max(HORIZON);
        self.keep.not_before = Timestamp(self.clock.steady().0.saturating_sub(millis(age)));
        if let Err(error) = self.streams.retain(JOINED, self.keep).await {
            tracing::warn!(%error, "old entries of the joined log could not be dropped");
        }
    }
}

/// Where a model's evaluation is kept.
fn name((namespace, model): &ModelKey) -> String {
    format!("{MODEL}{namespace}/{model}")
}

/// The version that a prediction was answered by.
fn version(prediction: &Prediction) -> Option<(ModelKey, Version)> {
    let model = (prediction.namespace.clone()?, prediction.model.clone()?);
    Some((model, prediction.version?))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The label in an entry; nothing in an erased one.
fn label(data: &[u8]) -> Option<Feedback> {
    match serde_json::from_slice(data) {
        Ok(Event::Feedback(feedback)) => Some(feedback),
        _ => None,
    }
}
