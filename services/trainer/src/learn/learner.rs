//! One version that learns: what it knows, how far, how right it is before it learns, and its last signed state.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use access::signing::{self, MANIFEST_FILE, STATE_FILE};
use bytes::Bytes;
use futures::StreamExt as _;
use rpc::{
    orchestrator::ModelKey,
    registry::{Snapshot, TakeSnapshot, VersionKey, VersionRecord},
    trainer::Learning,
};
use serde::{Deserialize, Serialize};
use store::{Collection, Expect, Write};
use streaming::{Answer, Model, Row, Truth};
use tokio::time::Instant;
use types::{
    Code, Digest, Manifest, Refusal, Timestamp,
    manifest::{Metadata, Online, Source},
};

use super::Stores;
use crate::{
    Known,
    joined::{Example, Said},
    judge::{Judged, Kept},
};

/// Bytes of a state, at most.
const LARGEST: u64 = 1 << 30;
/// Signing a state may take this part of the time.
const SHARE: u32 = 20;
/// Examples that tell whether a state has collapsed.
const RECENT: usize = 256;
/// Of fewer, nothing is said: a handful of hard ones is no collapse.
const ENOUGH: usize = 200;
/// So much more loss than the last good state has is a collapse; loss is 0 … 1, half of the Brier score.
const WORSE: f64 = 0.3;
/// So many times its error.
const TIMES: f64 = 10.0;
/// Where in the catalog it is kept how right a learner was before it learnt.
const LEARNING: &str = "learning/";

pub(super) struct Learner {
    version: VersionKey,
    manifest: Manifest,
    model: Model,
    /// How right it was with each example before it learnt it, and up to which entry that is known.
    judged: Judged,
    judged_to: u64,
    /// The last signed state, and its place.
    good: Arc<Model>,
    snapshot: Option<Snapshot>,
    signed: Instant,
    /// Since when it has learnt what does not answer yet.
    unserved: Option<Instant>,
    /// What signing took the last time.
    took: Duration,
    /// The last examples.
    recent: VecDeque<(Row, Truth)>,
    /// How often a state was thrown away.
    collapses: u64,
    /// What the last good state is worth on the clean set, the most that one was worth since the set was given or the world
    /// changed, and when the set was given.
    clean: Option<Worth>,
}

/// What states are worth on the clean set that was given at a time.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Worth {
    given: Timestamp,
    pub(super) now: f64,
    best: f64,
}

/// How right a learner was, as it is kept.
#[derive(Serialize, Deserialize)]
struct Progress {
    offset: u64,
    collapses: u64,
    judged: Kept,
    #[serde(default)]
    clean: Option<Worth>,
}

impl Learner {
    /// One that goes on from its last signed state; where there is none, from what it began with.
    ///
    /// # Errors
    /// When a store can't be used.
    pub(super) async fn open(stores: &Stores, record: &VersionRecord) -> Result<Self, Refusal> {
        let version = (record.namespace.clone(), record.model.clone(), record.version);
        let manifest = Manifest {
            metadata: Metadata { namespace: Some(version.0.clone()), ..record.manifest.metadata.clone() },
            ..record.manifest.clone()
        };
        let (mut found, snapshots) = (None, stores.registry.snapshots(version.clone()).await?);
        for snapshot in snapshots {
            match state(stores, &manifest, snapshot.digest).await {
                Ok(model) => {
                    found = Some((model, snapshot));
                    break;
                }
                Err(refusal) if refusal.code == Code::StorageUnavailable => return Err(refusal),
                Err(refusal) => {
                    let (number, model) = (snapshot.number, &version.1);
                    tracing::warn!(%model, version = %version.2, number, %refusal, "a snapshot can't be used; the one before is");
                }
            }
        }
        let (model, snapshot) = match found {
            Some((model, snapshot)) => (model, Some(snapshot)),
            None => (beginning(stores, record).await?, None),
        };
        let kept = stores.catalog.get(Collection::Evaluation, &place(&version)).await?;
        let progress = kept.map(|kept| kept.read::<Progress>()).transpose()?;
        let (judged, judged_to, collapses, clean) = match progress {
            Some(progress) => (progress.judged.judged()?, progress.offset, progress.collapses, progress.clean),
            None => (Judged::default(), 0, 0, None),
        };
        Ok(Self {
            good: Arc::new(model.clone()),
            model,
            version,
            manifest,
            judged,
            judged_to,
            snapshot,
            signed: Instant::now(),
            unserved: None,
            took: Duration::ZERO,
            recent: VecDeque::with_capacity(RECENT),
            collapses,
            clean,
        })
    }

    /// The next entry to take in.
    pub(super) fn offset(&self) -> u64 {
        self.model.offset()
    }

    /// What lies before this entry is done with.
    pub(super) fn advance(&mut self, offset: u64) {
        self.model.advance(offset);
    }

    /// Answers an example, is judged by it, and learns it. Nothing where it can't be asked: a version with other inputs
    /// was asked something else.
    pub(super) fn learn(&mut self, sequence: u64, example: &Example, row: &Row, truth: Truth) -> Option<Answer> {
        let answer = self.model.predict(row).ok()?;
        if sequence >= self.judged_to {
            // Slices are found by what was asked.
            let features = (!self.manifest.slices().is_empty()).then(|| row.clone());
            let judged =
                Example { version: self.version.2, answer: answer.clone().into(), features, ..example.clone() };
            self.judged.take(&judged, Some(&self.manifest));
            self.judged_to = sequence + 1;
        }
        if self.model.learn(row, truth, example.weight).is_ok() {
            self.unserved.get_or_insert_with(Instant::now);
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back((row.clone(), truth));
        }
        Some(answer)
    }

    /// In how long its state is to be signed; nothing where it has not changed since.
    pub(super) fn due(&self, every: Duration) -> Option<Duration> {
        let changed = self.model.learnt() != self.good.learnt();
        changed.then(|| every.max(self.took * SHARE).saturating_sub(self.signed.elapsed()))
    }

    /// Has its state signed, so that it answers from now on; one that has collapsed is thrown away instead, for the last
    /// good one.
    ///
    /// # Errors
    /// When a store can't be used, or the version is no more.
    pub(super) async fn sign(&mut self, stores: &Stores) -> Result<(), Refusal> {
        if self.model.learnt() == self.good.learnt() {
            return Ok(());
        }
        let started = Instant::now();
        let (model, good, recent) = (self.model.clone(), self.good.clone(), self.recent.clone());
        let key = (self.version.0.clone(), self.version.1.clone());
        let (known, now, before) = (stores.known.clone(), stores.clock.now(), self.clean);
        let work = tokio::task::spawn_blocking(move || {
            let (clean, fallen) = on_clean(&known, &key, now, &model, before);
            (collapsed(&model, &good, &recent).or(fallen), clean, model.save(), model)
        });
        let (collapsed, clean, bytes, model) =
            work.await.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        if let Some(why) = collapsed {
            let (namespace, name, version) = &self.version;
            tracing::warn!(%namespace, model = %name, %version, why, "what was learnt last is thrown away");
            let mut good = Model::clone(&self.good);
            good.advance(self.model.offset());
            self.model = good;
            self.unserved = None;
            self.collapses += 1;
            self.recent.clear();
            return self.keep(stores).await;
        }
        self.clean = clean;
        self.put(stores, model, bytes).await?;
        self.took = started.elapsed();
        Ok(())
    }

    /// Goes back to the state of this number, or to the one before the newest; what it has learnt since is forgotten, and not
    /// learnt again.
    ///
    /// # Errors
    /// `version_not_found` when there is no such state; a store that can't be used.
    pub(super) async fn revert(&mut self, stores: &Stores, number: Option<u64>) -> Result<(), Refusal> {
        let snapshots = stores.registry.snapshots(self.version.clone()).await?;
        let wanted = match number {
            Some(number) => snapshots.iter().find(|snapshot| snapshot.number == number),
            None => snapshots.get(1),
        };
        let wanted = wanted.ok_or_else(|| {
            let kept: Vec<String> = snapshots.iter().map(|snapshot| snapshot.number.to_string()).collect();
            let what = number.map_or_else(|| "no earlier state".to_owned(), |number| format!("no state {number}"));
            Refusal::new(
                Code::VersionNotFound,
                format!("version {} has {what}; kept are: {}", self.version.2, kept.join(", ")),
            )
        })?;
        let mut model = state(stores, &self.manifest, wanted.digest).await?;
        model.advance(self.model.offset());
        let bytes = model.save();
        self.model = model.clone();
        self.recent.clear();
        self.put(stores, model, bytes).await
    }

    /// Has a state signed.
    async fn put(&mut self, stores: &Stores, model: Model, bytes: Vec<u8>) -> Result<(), Refusal> {
        // First how right it was: that may be ahead of the state, and never behind it.
        self.keep(stores).await?;
        let body = futures::stream::once(async move { Ok(Bytes::from(bytes)) }).boxed();
        let staged = stores.artefacts.stage(body, LARGEST).await?.id;
        let request = TakeSnapshot { actor: "trainer".into(), version: self.version.clone(), staged: staged.clone() };
        let snapshot = match stores.registry.take_snapshot(request).await {
            Ok(snapshot) => snapshot,
            Err(refusal) => {
                // The registry may not even have seen it.
                let _ = stores.artefacts.discard(&staged).await;
                return Err(refusal);
            }
        };
        self.snapshot = Some(snapshot);
        self.good = Arc::new(model);
        self.unserved = None;
        self.signed = Instant::now();
        Ok(())
    }

    async fn keep(&self, stores: &Stores) -> Result<(), Refusal> {
        let (judged, clean) = (Kept::of(&self.judged), self.clean);
        let progress = Progress { offset: self.judged_to, collapses: self.collapses, judged, clean };
        let write = Write::put(Collection::Evaluation, place(&self.version), Expect::Any, &progress)?;
        stores.catalog.commit(vec![write], Vec::new()).await?;
        Ok(())
    }

    /// What it knows.
    pub(super) fn model(&self) -> Model {
        self.model.clone()
    }

    /// What is told of it; `end` is the next entry of the joined log.
    pub(super) fn report(&self, end: u64) -> Learning {
        let staleness = self.unserved.map_or(Duration::ZERO, |since| since.elapsed());
        Learning {
            version: self.version.2,
            learnt: self.model.learnt(),
            offset: self.model.offset(),
            behind: end.saturating_sub(self.model.offset()),
            snapshot: self.snapshot.clone(),
            staleness_ms: u64::try_from(staleness.as_millis()).unwrap_or(u64::MAX),
            collapses: self.collapses,
            memory: self.model.memory() as u64,
            figures: self.judged.report().into_iter().next().map(|version| version.figures),
            clean: self.clean.map(|clean| clean.now),
        }
    }
}

/// What a state is worth on the clean set of its model, and why that is a collapse, if it is one.
fn on_clean(
    known: &Known,
    key: &ModelKey,
    now: Timestamp,
    model: &Model,
    before: Option<Worth>,
) -> (Option<Worth>, Option<String>) {
    let Some(clean) = known.cleans.of(key) else { return (None, None) };
    let (given, worth) = (clean.set.given, clean.worth(model));
    let before = before.filter(|before| before.given == given);
    let Some(Worth { best, .. }) = before else { return (Some(Worth { given, now: worth, best: worth }), None) };
    if !clean.set.strict && known.drifts(key, now) {
        // The world may have changed since the set was made.
        return (Some(Worth { given, now: worth, best: worth }), None);
    }
    (Some(Worth { given, now: worth, best: clean.better(worth, best) }), clean.fall(worth, best))
}

fn place((namespace, model, version): &VersionKey) -> String {
    format!("{LEARNING}{namespace}/{model}/{version}")
}

/// What a version began with: what workers had learnt, as it was signed with the version; nothing where its manifest tells
/// of none.
///
/// # Errors
/// When its bundle can't be read, or is not what was signed.
pub(super) async fn beginning(stores: &Stores, record: &VersionRecord) -> Result<Model, Refusal> {
    match &record.manifest.spec.source {
        Source::Online(Online { start: Some(_), .. }) => state(stores, &record.manifest, record.digest).await,
        _ => Model::new(&record.manifest),
    }
}

/// The state of a bundle or snapshot, when it is still what was signed.
async fn state(stores: &Stores, manifest: &Manifest, digest: Digest) -> Result<Model, Refusal> {
    let mut files = std::collections::BTreeMap::new();
    let mut bytes = Vec::new();
    for name in [MANIFEST_FILE, STATE_FILE] {
        bytes = stores.artefacts.read(digest, name).await.map_err(|error| match error {
            store::Error::Missing(what) => Refusal::new(Code::BundleUntrusted, format!("{what} is missing")),
            error => error.into(),
        })?;
        files.insert(name.to_owned(), Digest::of(&bytes));
    }
    if signing::root(&files) != digest {
        return Err(Refusal::new(Code::BundleUntrusted, "it is not what was signed"));
    }
    Model::load(manifest, &bytes)
}

/// What was right, as a model learns it.
pub(super) fn truth(said: &Said) -> Option<Truth> {
    match said {
        Said::Class(class) => Some(Truth::Class(*class)),
        Said::Number(number) => Some(Truth::Number(*number)),
        Said::Probabilities(_) => None,
    }
}

/// What a version that does not learn answered, as it is compared: a class alone is one that it is sure of.
pub(super) fn answer(said: &Said, truth: Truth) -> Option<Answer> {
    match (said, truth) {
        (Said::Probabilities(said), Truth::Class(_)) => Some(Answer::Probabilities(said.clone())),
        (Said::Number(said), Truth::Number(_)) => Some(Answer::Value(*said)),
        (Said::Class(said), Truth::Class(class)) => {
            let of = |place| f64::from(u8::from(place == *said));
            Some(Answer::Probabilities((0..=class.max(*said)).map(of).collect()))
        }
        _ => None,
    }
}

impl From<Answer> for Said {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Probabilities(said) => Self::Probabilities(said),
            Answer::Value(value) => Self::Number(value),
        }
    }
}

/// Whether a state is broken: it answers with what is no number, or far worse than the last good one on recent examples.
/// This bounds collapse alone; whether a state is better, the guard says.
fn collapsed(model: &Model, good: &Model, recent: &VecDeque<(Row, Truth)>) -> Option<String> {
    let (mut new, mut old) = (0.0, 0.0);
    for (row, truth) in recent {
        new += loss(model, row, *truth);
        old += loss(good, row, *truth);
    }
    if !new.is_finite() {
        return Some("it answers with what is no number".into());
    }
    let count = recent.len().max(1) as f64;
    let (new, old) = (new / count, old / count);
    let classifies = recent.iter().any(|(_, truth)| matches!(truth, Truth::Class(_)));
    let worse = if classifies { new > old + WORSE } else { new > old * TIMES && good.learnt() > RECENT as u64 };
    (worse && recent.len() >= ENOUGH)
        .then(|| format!("its loss on the last {count} examples is {new:.3}, where the state before had {old:.3}"))
}

fn loss(model: &Model, row: &[streaming::Cell], truth: Truth) -> f64 {
    match (model.predict(row), truth) {
        (Ok(Answer::Probabilities(said)), Truth::Class(class)) => {
            let of = |(place, said): (usize, &f64)| (said - f64::from(u8::from(place == class))).powi(2);
            said.iter().enumerate().map(of).sum::<f64>() / 2.0
        }
        (Ok(Answer::Value(value)), Truth::Number(number)) => (value - number).abs(),
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(learner: &str) -> Model {
        let text = format!(
            "apiVersion: mantlet.dev/v1\nkind: Model\nmetadata: {{ name: m }}\nspec: {{ source: {{ online: {{ learner: {learner} }} }}, \
             inputs: [{{ name: x, type: FP64 }}], task: {{ kind: classification, classes: [a, b] }}, capture: {{ input: features }} }}\n"
        );
        Model::new(&Manifest::from_yaml(&text).unwrap()).unwrap()
    }

    fn taught(turned: bool, rounds: usize) -> Model {
        let mut model = model("hoeffding-tree");
        for turn in 0..rounds {
            let class = turn % 2;
            let row = vec![streaming::Cell::Number(class as f64)];
            model.learn(&row, Truth::Class(if turned { 1 - class } else { class }), 1.0).unwrap();
        }
        model
    }

    #[test]
    fn a_state_that_turned_against_recent_examples_has_collapsed() {
        let recent: VecDeque<(Row, Truth)> = (0..200)
            .map(|turn| (vec![streaming::Cell::Number(f64::from(turn % 2))], Truth::Class(turn as usize % 2)))
            .collect();
        let (good, fresh, turned) = (taught(false, 2_000), taught(false, 4_000), taught(true, 2_000));
        assert_eq!(collapsed(&fresh, &good, &recent), None);
        assert!(collapsed(&turned, &good, &recent).unwrap().contains("loss"));
        assert_eq!(collapsed(&good, &turned, &recent), None, "to get well is no collapse");
        let few: VecDeque<(Row, Truth)> = recent.iter().take(100).cloned().collect();
        assert_eq!(collapsed(&turned, &good, &few), None, "too few to tell");
        assert_eq!(collapsed(&model("hoeffding-tree"), &good, &VecDeque::new()), None, "nothing is known yet");
    }
}
