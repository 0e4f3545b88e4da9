//! How much of what one contributor says against who acts may count beside what the others say.

use serde::{Deserialize, Serialize};

use super::trial::BUCKETS;
use crate::{Error, Result};

/// What each label on which both sides differ leaves of what was before.
const KEPT: f32 = 0.99;
/// What a contributor may say although nobody else says so.
const ALONE: f32 = 2.0;
/// Labels of one contributor after one another from which on there is nobody else.
const NOBODY: u32 = 100;

/// What is said against who acts, by bucket of contributors: by those in it, and by all others. Harms are added up and
/// fade, and a sum never falls below 0, so that a good past does not weigh against a bad present.
///
/// O(buckets) for a label on which both sides differ, else O(1). 512 bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Crowd {
    own: Vec<f32>,
    others: Vec<f32>,
    /// Whose label was the last, and how many were so after one another.
    last: Option<u8>,
    run: u32,
}

impl Crowd {
    pub(super) fn new() -> Self {
        Self { own: vec![0.0; BUCKETS], others: vec![0.0; BUCKETS], last: None, run: 0 }
    }

    /// Begins anew.
    pub(super) fn reset(&mut self) {
        self.own.fill(0.0);
        self.others.fill(0.0);
        (self.last, self.run) = (None, 0);
    }

    /// Takes a harm in, −1 … 1, and says how much of it counts: what speaks for who acts, and what those without a number
    /// say, in full. Of the rest no more than `cap / (1 − cap)` times what all others say, as long as there are others.
    pub(super) fn count(&mut self, harm: f64, bucket: Option<u8>, cap: f64) -> f64 {
        self.run = if self.last == bucket { self.run.saturating_add(1) } else { 1 };
        self.last = bucket;
        if harm == 0.0 {
            return harm;
        }
        let place = bucket.map(usize::from);
        let room = place.filter(|_| cap < 1.0 && self.run < NOBODY).map_or(f64::INFINITY, |place| {
            let at = |sums: &[f32]| f64::from(sums.get(place).copied().unwrap_or(0.0));
            (f64::from(ALONE) + cap / (1.0 - cap) * at(&self.others) - at(&self.own)).max(0.0)
        });
        let counted = harm.min(room);
        for (at, (own, others)) in self.own.iter_mut().zip(&mut self.others).enumerate() {
            if place == Some(at) {
                *own = (*own + counted as f32).max(0.0);
            } else {
                *own *= KEPT;
                *others = (*others * KEPT + harm as f32).max(0.0);
            }
        }
        counted
    }

    pub(super) fn memory(&self) -> usize {
        (self.own.capacity() + self.others.capacity()) * size_of::<f32>()
    }

    pub(super) fn check(&self) -> Result<()> {
        let sums = |sums: &[f32]| sums.len() == BUCKETS && sums.iter().all(|sum| sum.is_finite() && *sum >= 0.0);
        let last = self.last.is_none_or(|last| usize::from(last) < BUCKETS);
        match sums(&self.own) && sums(&self.others) && last {
            true => Ok(()),
            false => Err(Error::Snapshot("has a crowd that no labels give")),
        }
    }
}
