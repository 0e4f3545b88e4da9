//! What two versions answered the same requests: predictions of the one that answers, each with what its challenger said to a copy.
//!
//! No label is needed, so slices that differ are seen from every pair ([`plan::slices`]). The events of predictions are looked at as they
//! come ([`watch`](crate::watch)), of many a part; whoever compares the versions ([`learn`](crate::learn)) takes the pairs.

use std::collections::{BTreeMap, HashMap, VecDeque};

use parking_lot::Mutex;
use rpc::orchestrator::ModelKey;
use types::{
    PredictionId, Version,
    event::{Outcome, Prediction},
};

/// Predictions of a model whose other half is still to come, at most, and pairs that nobody has taken; beyond, the oldest of those and the
/// newest of these are left out.
const WAITING: usize = 512;
const READY: usize = 512;

/// A prediction, and what the challenger said to a copy of it.
pub(crate) type Pair = [Prediction; 2];

/// Models whose versions are compared by pairs.
#[derive(Debug, Default)]
pub(crate) struct Pairs(Mutex<BTreeMap<ModelKey, Open>>);

#[derive(Debug)]
struct Open {
    /// The version that answers, and its challenger.
    versions: [Version; 2],
    halves: HashMap<PredictionId, (usize, Prediction)>,
    order: VecDeque<PredictionId>,
    ready: Vec<Pair>,
}

impl Pairs {
    /// Has these versions of a model looked at from now on.
    pub(crate) fn follow(&self, model: &ModelKey, versions: [Version; 2]) {
        let mut all = self.0.lock();
        if all.get(model).is_none_or(|open| open.versions != versions) {
            let (halves, order, ready) = (HashMap::new(), VecDeque::new(), Vec::new());
            all.insert(model.clone(), Open { versions, halves, order, ready });
        }
    }

    /// No longer.
    pub(crate) fn leave(&self, model: &ModelKey) {
        self.0.lock().remove(model);
    }

    /// Takes a prediction in, where it is half of a pair.
    pub(crate) fn see(&self, prediction: &Prediction) {
        let (Some(namespace), Some(model)) = (&prediction.namespace, &prediction.model) else { return };
        let mut all = self.0.lock();
        let Some(open) = all.get_mut(&(namespace.clone(), model.clone())) else { return };
        let side = usize::from(prediction.shadow_of.is_some());
        if prediction.outcome != Outcome::Answered || prediction.version != open.versions.get(side).copied() {
            return;
        }
        open.take(prediction.shadow_of.unwrap_or(prediction.prediction), side, prediction);
    }

    /// The pairs that are there; whoever takes them has them alone.
    pub(crate) fn hand_over(&self, model: &ModelKey) -> Vec<Pair> {
        self.0.lock().get_mut(model).map(|open| std::mem::take(&mut open.ready)).unwrap_or_default()
    }
}

impl Open {
    fn take(&mut self, id: PredictionId, side: usize, half: &Prediction) {
        match self.halves.remove(&id) {
            Some((other, first)) if other != side => {
                if self.ready.len() < READY {
                    let half = half.clone();
                    self.ready.push(if side == 1 { [first, half] } else { [half, first] });
                }
                return;
            }
            Some(_) => {}
            None => self.order.push_back(id),
        }
        self.halves.insert(id, (side, half.clone()));
        while self.order.len() > WAITING {
            if let Some(oldest) = self.order.pop_front() {
                self.halves.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction(id: u64, version: u64, of: Option<u64>) -> Prediction {
        let text = |id: u64| format!("01980000-0000-7000-8000-{id:012}");
        serde_json::from_value(serde_json::json!({
            "prediction": text(id), "namespace": "n", "model": "m", "version": version, "snapshot": null, "caller": "c",
            "at": 5, "steps": [], "replica": null, "rows": 1, "batch": 1, "attempts": 1, "assessment": null,
            "outcome": "answered", "shadow_of": of.map(text), "input": "none", "output": "none",
        }))
        .unwrap()
    }

    #[test]
    fn halves_meet_in_either_order_and_no_more_wait_than_there_is_room_for() {
        let (pairs, key) = (Pairs::default(), ("n".parse().unwrap(), "m".parse().unwrap()));
        pairs.see(&prediction(1, 1, None));
        pairs.follow(&key, [Version(1), Version(2)]);
        pairs.see(&prediction(2, 1, None));
        pairs.see(&prediction(102, 2, Some(2)));
        pairs.see(&prediction(103, 2, Some(3)));
        pairs.see(&prediction(3, 1, None));
        pairs.see(&prediction(4, 2, None));
        pairs.see(&prediction(104, 3, Some(4)));
        let found = pairs.hand_over(&key);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|[asked, copy]| copy.shadow_of == Some(asked.prediction)));
        assert!(pairs.hand_over(&key).is_empty());
        (10..2_000).for_each(|n| pairs.see(&prediction(n, 1, None)));
        let open = pairs.0.lock();
        assert!(open[&key].halves.len() <= WAITING && open[&key].order.len() <= WAITING);
        drop(open);
        pairs.see(&prediction(9_000, 2, Some(1_999)));
        pairs.see(&prediction(9_001, 2, Some(10)));
        assert_eq!(pairs.hand_over(&key).len(), 1, "the oldest is left out");
        pairs.leave(&key);
        assert!(pairs.0.lock().is_empty());
    }
}
