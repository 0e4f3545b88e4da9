//! Labels of one class that came at about the same time, and what one contributor's share of them says of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Labels: whose, and whether it disagreed. Of labels that one contributor gives one after the other, the first alone counts:
/// they share what the model is worth just then, and nobody else's tell how much that is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Block {
    labels: Vec<(u64, bool)>,
    /// Who gave the last one.
    last: Option<u64>,
}

/// Labels of one contributor in a block, and how many of them disagreed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Share {
    labels: usize,
    disagreed: usize,
}

impl Block {
    pub(super) fn add(&mut self, contributor: u64, disagrees: bool) {
        if self.last.replace(contributor) != Some(contributor) {
            self.labels.push((contributor, disagrees));
        }
    }

    /// Its labels, when they are so many; then it begins anew.
    pub(super) fn full(&mut self, labels: u32) -> Option<Self> {
        let full = self.labels.len() >= labels as usize;
        full.then(|| Self { labels: std::mem::take(&mut self.labels), last: None })
    }

    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    /// Keeps the labels of those who are meant.
    pub(super) fn retain(&mut self, meant: impl Fn(u64) -> bool) {
        self.labels.retain(|(contributor, _)| meant(*contributor));
    }

    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.labels.capacity() * size_of::<(u64, bool)>()
    }

    /// Everybody's share.
    pub(super) fn shares(&self) -> BTreeMap<u64, Share> {
        let mut shares: BTreeMap<u64, Share> = BTreeMap::new();
        for (contributor, disagrees) in &self.labels {
            let share = shares.entry(*contributor).or_default();
            share.labels += 1;
            share.disagreed += usize::from(*disagrees);
        }
        shares
    }

    /// What a bet is worth that whoever has this share disagrees with so many times the odds that are allowed: the likelihood
    /// of its disagreements under those odds over that under the odds allowed, given the block. Below odds that are allowed it is
    /// worth 1 at most on average. Nothing where the block can tell nothing.
    pub(super) fn worth<const N: usize>(&self, share: Share, odds: f64, times: &[f64; N]) -> Option<[f64; N]> {
        let (all, disagreed) = (self.len(), self.labels.iter().filter(|(_, disagrees)| *disagrees).count());
        let least = (share.labels + disagreed).saturating_sub(all);
        let most = share.labels.min(disagreed);
        if least == most {
            return None;
        }
        // Weights of Fisher's noncentral hypergeometric distribution, each from the one before, so that none is huge.
        let step = |k: usize| {
            let (up, left) = ((disagreed - k) * (share.labels - k), (k + 1) * (all + k + 1 - disagreed - share.labels));
            up as f64 / left as f64
        };
        let sum = |odds: f64| {
            let (mut weight, mut sum, mut said) = (1.0, 0.0, 0.0);
            for k in least..=most {
                sum += weight;
                if k == share.disagreed {
                    said = weight;
                }
                if k < most {
                    weight *= step(k) * odds;
                }
            }
            said / sum
        };
        let allowed = sum(odds);
        Some(times.map(|times| sum(odds * times) / allowed))
    }
}
