//! What versions did that answer a share of the requests: how long they took, and whether they failed by their own fault.
//!
//! The events of predictions are looked at as they come ([`watch`](crate::watch)); whoever promotes a version
//! ([`learn`](crate::learn)) takes what was seen and judges ([`plan::canary`]).

use std::collections::BTreeMap;

use parking_lot::Mutex;
use plan::canary::{Canary, Side};
use rpc::orchestrator::ModelKey;
use types::{
    Version,
    event::{Outcome, Prediction},
    refusal::{Code, Fault},
};

/// What is seen and not taken yet, of a model at most; beyond, the rest is passed over.
const SEEN: usize = 4_096;

/// Models with a canary, and what was seen of both its versions.
#[derive(Debug, Default)]
pub(crate) struct Canaries(Mutex<BTreeMap<ModelKey, Seen>>);

#[derive(Debug)]
struct Seen {
    /// The version before, and the canary.
    versions: [Version; 2],
    requests: Vec<(Side, Option<u64>)>,
}

impl Canaries {
    /// Has these versions of a model looked at from now on.
    pub(crate) fn follow(&self, model: &ModelKey, versions: [Version; 2]) {
        let mut all = self.0.lock();
        if all.get(model).is_none_or(|seen| seen.versions != versions) {
            all.insert(model.clone(), Seen { versions, requests: Vec::new() });
        }
    }

    /// No longer.
    pub(crate) fn leave(&self, model: &ModelKey) {
        self.0.lock().remove(model);
    }

    /// Whether anybody is looked at.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Takes a prediction in, where it is of such a version.
    pub(crate) fn see(&self, prediction: &Prediction) {
        let (Some(namespace), Some(model)) = (&prediction.namespace, &prediction.model) else { return };
        let mut all = self.0.lock();
        let Some(seen) = all.get_mut(&(namespace.clone(), model.clone())) else { return };
        let side = match seen.versions.iter().position(|version| Some(*version) == prediction.version) {
            Some(0) => Side::Before,
            Some(_) => Side::Canary,
            None => return,
        };
        if prediction.shadow_of.is_some() || seen.requests.len() >= SEEN {
            return;
        }
        match prediction.outcome {
            Outcome::Answered => {
                let forward = prediction.steps.iter().filter(|(step, _)| step == "forward");
                seen.requests.push((side, Some(forward.map(|(_, micros)| u64::from(*micros)).sum())));
            }
            Outcome::Refused(code) if code.fault() == Fault::Model || code == Code::DeadlineExceeded => {
                seen.requests.push((side, None));
            }
            Outcome::Refused(_) => {}
        }
    }

    /// Hands what was seen to who judges.
    pub(crate) fn hand_over(&self, model: &ModelKey, canary: &mut Canary) {
        let requests = self.0.lock().get_mut(model).map(|seen| std::mem::take(&mut seen.requests));
        for (side, took) in requests.into_iter().flatten() {
            canary.take(side, took);
        }
    }
}
