//! What is typical of late.

use serde::{Deserialize, Serialize};

/// Scores that say what is typical. More follow the day too late: where 6,000 come a day and the day moves them by 30 %,
/// an average of 1,000 is two hours old, which costs 6 points of recall at α = 0.01, and one of 250 none; the chance in
/// an average of 250, 4 %, costs none either.
const RECENT: usize = 250;
/// How many of them a caller may have, where its share is less. With one each, who comes seldom would count for more
/// than it says, and many who do are what an attacker can be.
const FEW: usize = 5;
/// Scores between two looks at them.
const STEP: u32 = 16;
/// The part of them, from the least up, that counts. Of the greater ones an attacker can make more, and a few more of
/// them move a mean that ends at 0.9 twice as far as one that ends at 0.6.
const COUNTED: (f64, f64) = (0.1, 0.6);
/// Seconds after which one of a caller that comes no more does not count, if enough others do.
const OLD: f64 = 86_400.0;
/// How many are enough.
const ENOUGH: usize = 50;

/// The last scores, of each caller no more than its share of them, and the mean of the middle of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Recent {
    entries: Vec<Entry>,
    /// Entries that a caller may have.
    most: usize,
    typical: f64,
    waiting: u32,
    #[serde(skip)]
    sorted: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Entry {
    caller: u64,
    score: f64,
    at: f64,
}

fn most(share: f64) -> usize {
    ((RECENT as f64 * share) as usize).clamp(FEW, RECENT)
}

impl Recent {
    pub(super) fn new(share: f64) -> Self {
        Self { entries: Vec::new(), most: most(share), typical: 1.0, waiting: 0, sorted: Vec::new() }
    }

    /// What is typical; positive.
    pub(super) fn typical(&self) -> f64 {
        self.typical
    }

    /// O(250), some 80 ns.
    pub(super) fn add(&mut self, caller: u64, score: f64, at: f64) {
        let entry = Entry { caller, score, at };
        let (mut own, mut oldest) = (Oldest::default(), Oldest::default());
        for (place, other) in self.entries.iter().enumerate() {
            oldest.look(place, other.at);
            if other.caller == caller {
                own.look(place, other.at);
            }
        }
        let gone = if own.seen >= self.most { own.place } else { oldest.place };
        let free = self.entries.len() < RECENT && own.seen < self.most;
        match self.entries.get_mut(gone).filter(|_| !free) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
        self.waiting += 1;
        if self.waiting >= STEP || self.entries.len() < 4 * STEP as usize {
            self.waiting = 0;
            self.look(at);
        }
    }

    fn look(&mut self, now: f64) {
        self.sorted.clear();
        self.sorted.extend(self.entries.iter().filter(|entry| now - entry.at <= OLD).map(|entry| entry.score));
        if self.sorted.len() < ENOUGH {
            self.sorted.clear();
            self.sorted.extend(self.entries.iter().map(|entry| entry.score));
        }
        self.sorted.sort_unstable_by(f64::total_cmp);
        let place = |share: f64| (self.sorted.len() as f64 * share) as usize;
        // The upper end is rounded up, so that a single score counts.
        let middle = self.sorted.get(place(COUNTED.0)..=place(COUNTED.1)).unwrap_or_default();
        let mean = middle.iter().sum::<f64>() / middle.len().max(1) as f64;
        // Where most scores are 0 there is no unit but the score's own.
        self.typical = if mean > 1e-100 { mean } else { 1.0 };
    }

    pub(super) fn remove(&mut self, caller: u64) {
        self.entries.retain(|entry| entry.caller != caller);
    }

    pub(super) fn memory(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.sorted.capacity() * size_of::<f64>()
    }

    pub(super) fn sound(&self, share: f64) -> bool {
        let entry = |entry: &Entry| (0.0..=super::GREATEST).contains(&entry.score) && entry.at.is_finite();
        let typical = self.typical > 1e-100 && self.typical <= super::GREATEST;
        self.entries.len() <= RECENT && self.most == most(share) && typical && self.entries.iter().all(entry)
    }
}

/// The oldest of some entries, and how many there are.
#[derive(Default)]
struct Oldest {
    place: usize,
    at: Option<f64>,
    seen: usize,
}

impl Oldest {
    fn look(&mut self, place: usize, at: f64) {
        self.seen += 1;
        if self.at.is_none_or(|oldest| at < oldest) {
            (self.place, self.at) = (place, Some(at));
        }
    }
}
