//! Labels meet their predictions: how right each version of a model was.
//!
//! Gateways append labels to streams of their own. [`Work`] reads them in order, [`find`] looks up their predictions,
//! [`join`] decides what becomes of each, and the outcome is appended to the joined log ([`joined`]) together with how far
//! the labels were read. [`judge`] adds up what the joined log says; what it knows is kept in the catalog with its place
//! in that log.
//!
//! Does not know about: HTTP, model servers, which version answers.

mod answer;
mod find;
mod join;
mod joined;
mod judge;
#[cfg(test)]
mod tests;
mod work;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use rpc::{
    Clock, Registry,
    orchestrator::ModelKey,
    trainer::{Evaluation, EvaluationOf, LabelCount},
};
use store::{Catalog, Streams};
use types::{Namespace, Refusal, Timestamp};

use joined::Refused;
use judge::Judged;
pub use work::Work;

/// What a trainer is made of.
pub struct Parts {
    /// Where labels and predictions are read, and the joined log is written.
    pub streams: Arc<dyn Streams>,
    /// Where evaluations are kept.
    pub catalog: Arc<dyn Catalog>,
    /// Who knows the versions' manifests.
    pub registry: Arc<dyn Registry>,
    /// The clock.
    pub clock: Clock,
    /// How long events are kept, at most.
    pub keep: std::time::Duration,
    /// Bytes of the joined log that are kept, at most.
    pub keep_bytes: u64,
}

/// The trainer's door.
pub struct Trainer {
    known: Arc<Known>,
}

/// Labels whose prediction nobody knows, by namespace.
type Strays = BTreeMap<Namespace, BTreeMap<String, LabelCount>>;

/// What the door and the work share.
#[derive(Default)]
struct Known {
    models: Mutex<BTreeMap<ModelKey, Judged>>,
    strays: Mutex<Strays>,
    watermark: Mutex<Option<Timestamp>>,
}

impl Known {
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
        let known = Arc::new(Known::default());
        let work = Work::open(parts, known.clone()).await?;
        Ok((Self { known }, work))
    }
}

#[async_trait]
impl rpc::Trainer for Trainer {
    async fn evaluation(&self, request: EvaluationOf) -> Result<Evaluation, Refusal> {
        let EvaluationOf { namespace, model } = request;
        let strays = self.known.strays.lock().get(&namespace).cloned().unwrap_or_default();
        let models = self.known.models.lock();
        let judged = models.get(&(namespace, model));
        let mut labels = judged.map(|judged| judged.labels().clone()).unwrap_or_default();
        labels.extend(strays);
        let versions = judged.map(Judged::report).unwrap_or_default();
        Ok(Evaluation { versions, labels, watermark: *self.known.watermark.lock() })
    }
}
