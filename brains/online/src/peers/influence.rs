//! How much a contributor's labels may weigh while it is not known whether it tells the truth.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Labels by which a count is forgotten to a half.
const HALF: f64 = 512.0;
/// The share of all labels' weight that a contributor has at most, and how many times an even share it may have.
const SHARE: f64 = 0.1;
const EVEN: f64 = 1.5;
/// The least that a label weighs.
const LEAST: f64 = 0.1;
/// A contributor's labels that are held to the bound.
const KNOWN: f64 = 1_000.0;
/// Contributors that are counted; beyond, who labelled least of late is forgotten.
const COUNTED: usize = 4_096;

/// Bounds the influence of contributors that nobody knows yet.
///
/// Who brings 40 % of a model's labels could bend it before the others' labels tell that it lies, and what it has bent can't tell any more. So
/// the first thousand labels of a contributor weigh so much less that it has no more than a tenth of the weight of all that came
/// lately, or one and a half even shares where few contribute, but never less than a tenth each. Who is suspected is held to it
/// for longer: that is the caller's to say. Where one contributes alone there is nothing to bound.
///
/// O(log contributors) a label; 40 bytes a contributor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Influence {
    counts: BTreeMap<u64, Count>,
    labels: u64,
}

/// Labels of a contributor: of late, when that was reckoned, and ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Count {
    recent: f64,
    at: u64,
    ever: f64,
}

impl Count {
    fn recent(&self, now: u64) -> f64 {
        self.recent * (-((now - self.at.min(now)) as f64) / HALF).exp2()
    }
}

impl Influence {
    /// Takes in that a contributor labelled.
    pub fn observe(&mut self, contributor: u64) {
        self.labels = self.labels.saturating_add(1);
        let now = self.labels;
        if self.counts.len() >= COUNTED && !self.counts.contains_key(&contributor) {
            let recent = |count: &Count| count.recent(now);
            let least = self.counts.iter().min_by(|(_, a), (_, b)| recent(a).total_cmp(&recent(b)));
            if let Some(least) = least.map(|(contributor, _)| *contributor) {
                self.counts.remove(&least);
            }
        }
        let count = self.counts.entry(contributor).or_default();
        *count = Count { recent: count.recent(now) + 1.0, at: now, ever: count.ever + 1.0 };
    }

    /// What a label of a contributor weighs now, from 0.1 to 1; `suspected` says that others' labels begin to speak against it.
    pub fn weight(&self, contributor: u64, suspected: bool) -> f64 {
        let Some(own) = self.counts.get(&contributor).filter(|count| suspected || count.ever < KNOWN) else {
            // Whose first label this is has no share.
            return 1.0;
        };
        let own = own.recent(self.labels);
        let recent = self.counts.values().map(|count| count.recent(self.labels)).filter(|recent| *recent >= 0.5);
        let (all, many) = recent.fold((0.0, 0.0), |(all, many), recent| (all + recent, many + 1.0));
        let share = f64::max(SHARE, EVEN / many);
        if share >= 1.0 || own <= share * all {
            return 1.0;
        }
        // w·own / (w·own + others) = share.
        (share * (all - own) / (own * (1.0 - share))).clamp(LEAST, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    /// The share of the weight that the first of so many has, who brings a share of the labels, over labels in a range.
    fn share(brings: f64, others: u32, labels: std::ops::Range<usize>, suspected: bool) -> f64 {
        let (mut influence, mut random) = (Influence::default(), Random::new(3));
        let (mut own, mut all) = (0.0, 0.0);
        for n in 0..labels.end {
            let who = if random.uniform() < brings { 0 } else { 1 + u64::from(random.below(others)) };
            let weight = influence.weight(who, suspected && who == 0);
            assert!((LEAST..=1.0).contains(&weight));
            influence.observe(who);
            if labels.contains(&n) {
                all += weight;
                own += if who == 0 { weight } else { 0.0 };
            }
        }
        own / all
    }

    #[test]
    fn who_is_new_and_loud_has_no_more_than_its_share() {
        assert!(share(0.4, 7, 100..2_000, false) < 0.22, "an even share of eight, and half as much");
        assert!(share(0.4, 40, 100..2_000, false) < 0.13);
        assert!((share(0.4, 7, 4_000..9_000, false) - 0.4).abs() < 0.02, "it is known by then");
        assert!(share(0.4, 7, 4_000..9_000, true) < 0.22, "and suspected");
    }

    #[test]
    fn who_is_alone_or_one_of_many_alike_is_not_bound() {
        let mut influence = Influence::default();
        (0..500).for_each(|_| influence.observe(7));
        assert_eq!(
            (influence.weight(7, false), influence.weight(7, true), influence.weight(8, false)),
            (1.0, 1.0, 1.0)
        );
        assert!((share(0.125, 7, 0..2_000, false) - 0.125).abs() < 0.02);
    }

    #[test]
    fn it_is_bounded() {
        let mut influence = Influence::default();
        (0..10_000).for_each(|contributor| influence.observe(contributor));
        assert_eq!(influence.counts.len(), COUNTED);
        assert!(influence.counts.contains_key(&9_999));
    }
}
