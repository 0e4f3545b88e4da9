//! Drift without labels: whether what a version is asked, and what it answers, is still like its first rows.
//!
//! A part of the predictions is looked at, as many as there is time for: a detector needs thousands of rows, not every one.
//! Alarms say what moved most, how far, and since when; they are told with the model's evaluation, and noted
//! ([`alarms`](crate::alarms)).

mod coverage;
mod quality;
mod watched;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use ledger::batch;
use rpc::{
    Clock, Registry,
    registry::{Select, VersionKey},
};
use serde::{Deserialize, Serialize};
use store::{Catalog, Collection, Expect, Streams, Write, read_all};
use tokio::time::{Instant, sleep};
use types::{
    Code, Manifest, Refusal,
    event::{Event, Outcome, Prediction},
};

use crate::{Known, join};
pub(crate) use coverage::Coverage;
pub(crate) use watched::Held;
use watched::Watched;

/// Predictions of a gateway that are looked at in one round; what is more is passed over.
const PAGE: u32 = 100;
/// How long a round takes at least.
const REST: Duration = Duration::from_millis(250);
/// The wait after a store could not be used.
const AGAIN: Duration = Duration::from_secs(2);
/// How often what is known is kept.
const KEEP: Duration = Duration::from_secs(30);
/// Rows of one prediction that are followed, to see whether they get a label.
const FOLLOWED: u64 = 20;
/// Versions that are watched at a time; of more, the oldest are not.
const VERSIONS: usize = 256;
/// Where in the catalog it is kept what a version's rows were like.
const WATCH: &str = "watch/";

pub(crate) struct Watch {
    streams: Arc<dyn Streams>,
    catalog: Arc<dyn Catalog>,
    registry: Arc<dyn Registry>,
    clock: Clock,
    known: Arc<Known>,
    /// The next event of each gateway to look at.
    offsets: BTreeMap<String, u64>,
    /// Whether it was looked which streams there are.
    begun: bool,
    /// What is watched; nothing of versions of which there is nothing to watch.
    versions: HashMap<VersionKey, Option<Watched>>,
    changed: bool,
    /// Whether something drifted that is not kept.
    alarmed: bool,
}

/// Enough of an event to know whether the rest is worth reading.
#[derive(Deserialize)]
struct Glance {
    kind: String,
    #[serde(default)]
    outcome: Option<Outcome>,
}

impl Watch {
    /// Goes on with what is kept of each version; what happened meanwhile is passed over.
    ///
    /// # Errors
    /// When the catalog can't be read.
    pub(crate) async fn open(
        streams: Arc<dyn Streams>,
        catalog: Arc<dyn Catalog>,
        registry: Arc<dyn Registry>,
        clock: Clock,
        known: Arc<Known>,
    ) -> Result<Self, Refusal> {
        let mut versions = HashMap::new();
        for document in read_all(&*catalog, Collection::Evaluation, WATCH).await? {
            let kept: Kept = document.read()?;
            known.alarms.lock().insert(kept.version.clone(), kept.watched.alarms());
            known.coverage.lock().insert(kept.version.clone(), kept.coverage);
            known.hold_back(&kept.version, kept.watched.held());
            versions.insert(kept.version, Some(kept.watched));
        }
        Ok(Self {
            streams,
            catalog,
            registry,
            clock,
            known,
            offsets: BTreeMap::new(),
            begun: false,
            versions,
            changed: false,
            alarmed: false,
        })
    }

    /// Runs until `stop` resolves.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut kept = Instant::now();
        loop {
            let mut rest = REST;
            if let Err(refusal) = self.round().await {
                tracing::warn!(%refusal, "predictions can't be watched for drift right now");
                rest = AGAIN;
            }
            // What is new is what is compared with from then on.
            if std::mem::take(&mut self.alarmed) || kept.elapsed() >= KEEP {
                self.keep().await;
                kept = Instant::now();
            }
            tokio::select! {
                () = &mut stop => break,
                () = sleep(rest) => {}
            }
        }
        self.keep().await;
    }

    async fn round(&mut self) -> Result<(), Refusal> {
        let begun = std::mem::replace(&mut self.begun, true);
        let canaries = !self.known.canaries.is_empty();
        for stream in self.streams.names(types::event::PREDICTIONS).await? {
            let next = self.streams.next(&stream).await?;
            // A stream that was not there before is read from its first event.
            let from = *self.offsets.entry(stream.clone()).or_insert(if begun { 0 } else { next });
            // Of many, the newest.
            let from = from.max(next.saturating_sub(u64::from(PAGE)));
            let entries = self.streams.read(&stream, from, PAGE).await?;
            for entry in &entries {
                if let Some(prediction) = prediction(&entry.data, canaries) {
                    self.known.canaries.see(&prediction);
                    self.known.pairs.see(&prediction);
                    if answered_or_unfit(Some(prediction.outcome)) {
                        self.look(&prediction).await?;
                    }
                }
            }
            let end = entries.last().map_or(from, |entry| entry.sequence + 1);
            self.offsets.insert(stream, end);
        }
        Ok(())
    }

    async fn look(&mut self, prediction: &Prediction) -> Result<(), Refusal> {
        let (Some(namespace), Some(model)) = (&prediction.namespace, &prediction.model) else { return Ok(()) };
        // One that was refused is its newest version's.
        let newest = || {
            let of_model = |key: &&VersionKey| (&key.0, &key.1) == (namespace, model);
            self.versions.keys().filter(of_model).map(|key| key.2).max()
        };
        let Some(version) = prediction.version.or_else(newest) else { return Ok(()) };
        let key = (namespace.clone(), model.clone(), version);
        if !self.versions.contains_key(&key) {
            let manifest = self.manifest(&key).await?;
            self.make_room();
            let watched = manifest.and_then(|manifest| Watched::new(&manifest));
            self.versions.insert(key.clone(), watched);
        }
        let Some(Some(watched)) = self.versions.get_mut(&key) else { return Ok(()) };
        self.changed = true;
        if prediction.outcome == Outcome::Answered {
            self.known.follow(&key, prediction);
        }
        if !watched.take(prediction, self.clock.now()).is_empty() {
            self.known.alarms.lock().insert(key.clone(), watched.alarms());
            self.known.alarmed.notify_one();
            self.alarmed = true;
        }
        self.known.hold_back(&key, watched.held());
        Ok(())
    }

    fn make_room(&mut self) {
        while self.versions.len() >= VERSIONS {
            let Some(oldest) = self.versions.keys().min_by_key(|(_, _, version)| *version).cloned() else { return };
            self.versions.remove(&oldest);
            self.known.unwatch(&oldest);
        }
    }

    async fn manifest(&self, (namespace, model, version): &VersionKey) -> Result<Option<Manifest>, Refusal> {
        let select = Select { namespace: namespace.clone(), model: Some(model.clone()) };
        let versions = match self.registry.versions(select).await {
            Err(refusal) if refusal.code == Code::ModelNotFound => return Ok(None),
            versions => versions?,
        };
        Ok(versions.into_iter().find(|record| record.version == *version).map(|record| record.manifest))
    }

    async fn keep(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        if let Err(refusal) = self.try_keep().await {
            self.changed = true;
            tracing::warn!(%refusal, "what rows are like can't be kept; it is tried again");
        }
    }

    async fn try_keep(&mut self) -> Result<(), Refusal> {
        let mut gone = Vec::new();
        for (key, watched) in &self.versions {
            let Some(watched) = watched else { continue };
            let place = format!("{WATCH}{}/{}/{}", key.0, key.1, key.2);
            if self.manifest(key).await?.is_none() {
                self.catalog
                    .commit(vec![Write::remove(Collection::Evaluation, place, Expect::Any)], Vec::new())
                    .await?;
                gone.push(key.clone());
                continue;
            }
            self.known.covered(key, self.clock.now());
            let coverage = self.known.coverage.lock().get(key).cloned().unwrap_or_default();
            let kept = Kept { version: key.clone(), watched: watched.clone(), coverage };
            let write = Write::put(Collection::Evaluation, place, Expect::Any, &kept)?;
            self.catalog.commit(vec![write], Vec::new()).await?;
        }
        for key in gone {
            self.versions.remove(&key);
            self.known.alarms.lock().remove(&key);
            self.known.unwatch(&key);
        }
        Ok(())
    }
}

impl Known {
    /// Notes which columns' rows teach nobody where they are missing.
    fn hold_back(&self, version: &VersionKey, columns: Vec<Held>) {
        let mut unfit = self.unfit.lock();
        if columns.is_empty() {
            unfit.remove(version)
        } else {
            unfit.insert(version.clone(), columns)
        };
    }

    /// Forgets what is told of a version.
    fn unwatch(&self, version: &VersionKey) {
        self.coverage.lock().remove(version);
        self.unfit.lock().remove(version);
    }

    /// Follows rows of an answered prediction, to see whether they get a label.
    fn follow(&self, version: &VersionKey, prediction: &Prediction) {
        let mut known = self.coverage.lock();
        let coverage = known.entry(version.clone()).or_default();
        // A copy is judged by the label of what it is a copy of.
        let labelled = prediction.shadow_of.unwrap_or(prediction.prediction);
        for row in 0..prediction.rows.min(FOLLOWED) {
            coverage.asked(join::row_key(labelled, row), prediction.at);
        }
    }
}

/// What a version's rows were like, as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: VersionKey,
    watched: Watched,
    #[serde(default)]
    coverage: Coverage,
}

/// Whether a prediction tells what the model is asked.
fn answered_or_unfit(outcome: Option<Outcome>) -> bool {
    matches!(outcome, Some(Outcome::Answered | Outcome::Refused(Code::InputMismatch | Code::InputValueRefused)))
}

/// A prediction that was answered, or refused for its inputs; or any.
fn prediction(envelope: &[u8], all: bool) -> Option<Box<Prediction>> {
    let event = batch::event(envelope)?;
    let glance: Glance = serde_json::from_slice(event).ok()?;
    if glance.kind != "prediction" || !(all || answered_or_unfit(glance.outcome)) {
        return None;
    }
    match serde_json::from_slice(event) {
        Ok(Event::Prediction(prediction)) => Some(prediction),
        _ => None,
    }
}
