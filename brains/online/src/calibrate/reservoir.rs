//! Scores of many callers, some of each, and what their quantiles are.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Settings;
use crate::Random;

/// Shares that the tail is told at: 2^(−j/2).
pub(super) const LEVELS: usize = 34;
/// A caller of whose weight this is left is forgotten: a single score after four half-lives.
const FORGOTTEN: f64 = 0.05;
/// No caller weighs more than this many equal shares, where the share of the settings can't be held to.
const EQUAL: f64 = 2.0;
/// No caller is more than this share of the α that may be above the threshold, or [`EQUAL`] equal shares of it. A bound
/// on its weight alone is none here: half a per cent of all scores, all of them high, is half of an α of 1 %. A caller's
/// highest score always counts: of few that are held it may be more than this share.
const TAIL: f64 = 0.02;
/// Times that the greatest weight is computed from the sum of weights that it bounds.
const ROUNDS: usize = 20;

/// A sample of scores, stratified by caller. A caller's own sample is one by weighted chance, with weights that halve
/// with each half-life: the greatest of ln w − ln(−ln u) stay (Efraimidis and Spirakis, Information Processing
/// Letters 2006), which order does not change with time, since all weights fall alike (forward decay; Cormode et al.,
/// ICDE 2009).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Reservoir {
    callers: BTreeMap<u64, Caller>,
    /// How many scores of whom are held, the most at the end.
    sizes: BTreeSet<(usize, u64)>,
    held: usize,
    capacity: usize,
    /// Scores held of one caller at the most.
    most: usize,
    half_life: f64,
    share: f64,
    random: Random,
    #[serde(skip)]
    weighted: Vec<Weighted>,
}

#[derive(Debug, Clone, Copy)]
struct Weighted {
    score: f64,
    weight: f64,
    /// What of its weight counts towards the threshold.
    counted: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Caller {
    /// Its scores' number by age, at a time.
    mass: f64,
    at: f64,
    /// Whether some of its scores are held for others, too.
    sampled: bool,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Entry {
    score: f64,
    at: f64,
    /// The least goes first.
    key: f64,
}

/// What the scores say.
pub(super) struct Found {
    pub(super) threshold: f64,
    pub(super) number: f64,
    pub(super) tail: Vec<(f64, f64)>,
}

fn most(settings: &Settings) -> usize {
    ((f64::from(settings.capacity) * settings.share.max(settings.held)) as usize).max(1)
}

impl Reservoir {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            callers: BTreeMap::new(),
            sizes: BTreeSet::new(),
            held: 0,
            capacity: settings.capacity as usize,
            most: most(settings),
            half_life: settings.half_life,
            share: settings.share,
            random: Random::new(settings.seed),
            weighted: Vec::new(),
        }
    }

    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// What is left of a weight of 1 after so many seconds.
    fn left(&self, seconds: f64) -> f64 {
        (-seconds.max(0.0) / self.half_life).exp2()
    }

    /// O(log callers + scores of the caller).
    pub(super) fn add(&mut self, caller: u64, score: f64, at: f64) {
        let log_weight = at / self.half_life * std::f64::consts::LN_2;
        let key = log_weight - self.random.exponential().max(f64::MIN_POSITIVE).ln();
        let half_life = self.half_life;
        let own =
            self.callers.entry(caller).or_insert_with(|| Caller { mass: 0.0, at, sampled: false, entries: Vec::new() });
        own.mass = own.mass * (-(at - own.at).max(0.0) / half_life).exp2() + 1.0;
        own.at = at;
        let before = own.entries.len();
        let entry = Entry { score, at, key };
        if before < self.most {
            own.entries.push(entry);
            self.sizes.remove(&(before, caller));
            self.sizes.insert((before + 1, caller));
            self.held += 1;
        } else {
            own.sampled = true;
            if let Some(least) = own.least().filter(|least| least.key < key) {
                *least = entry;
            }
        }
        while self.held > self.capacity {
            self.drop_one();
        }
    }

    /// Drops the least score of who has most of them.
    fn drop_one(&mut self) {
        let Some((size, name)) = self.sizes.pop_last() else { return };
        self.held = self.held.saturating_sub(1);
        let Some(caller) = self.callers.get_mut(&name) else { return };
        caller.sampled = true;
        if let Some(place) = caller.least_place() {
            caller.entries.swap_remove(place);
        }
        if size > 1 {
            self.sizes.insert((size - 1, name));
        } else {
            self.callers.remove(&name);
        }
    }

    /// Forgets a caller; says how many of its scores were held.
    pub(super) fn remove(&mut self, caller: u64) -> usize {
        let held = self.callers.remove(&caller).map_or(0, |caller| caller.entries.len());
        self.sizes.remove(&(held, caller));
        self.held = self.held.saturating_sub(held);
        held
    }

    /// Looks at all scores; nothing when there are none. O(n log n).
    pub(super) fn look(&mut self, alpha: f64, now: f64) -> Option<Found> {
        self.forget(now);
        let most = self.greatest_weight(now);
        self.weigh(alpha, most, now);
        let total: f64 = self.weighted.iter().map(|entry| entry.weight).sum();
        let squares: f64 = self.weighted.iter().map(|entry| entry.weight * entry.weight).sum();
        if self.weighted.is_empty() || squares <= 0.0 {
            return None;
        }
        let number = total * total / squares;
        self.weighted.sort_unstable_by(Weighted::falling);
        let share = |above: f64| ((number * above / total + 1.0) / (number + 1.0)).min(1.0);
        let (mut above, mut counted, mut threshold) = (0.0, 0.0, None);
        let mut tail = Vec::with_capacity(LEVELS);
        let mut wanted = 1.0 / f64::from(1_u32 << (LEVELS / 2 - 1));
        for entry in &self.weighted {
            above += entry.weight;
            counted += entry.counted;
            if share(counted) > alpha && threshold.is_none() {
                threshold = Some(entry.score);
            }
            let p = share(above);
            if p >= wanted && tail.len() < LEVELS {
                tail.push((entry.score, p));
                while wanted <= p {
                    wanted *= std::f64::consts::SQRT_2;
                }
            }
        }
        tail.reverse();
        let lowest = self.weighted.last()?.score;
        Some(Found { threshold: threshold.unwrap_or(lowest), number, tail })
    }

    /// Forgets callers of whom next to nothing is left.
    fn forget(&mut self, now: f64) {
        let Self { callers, sizes, held, half_life, .. } = self;
        callers.retain(|name, caller| {
            let left = caller.mass * (-(now - caller.at).max(0.0) / *half_life).exp2();
            let stays = left >= FORGOTTEN;
            if !stays {
                sizes.remove(&(caller.entries.len(), *name));
                *held = held.saturating_sub(caller.entries.len());
            }
            stays
        });
    }

    /// The most that a caller may weigh: its share of all weights, which are then lower themselves.
    fn greatest_weight(&self, now: f64) -> f64 {
        let share = self.share.max(EQUAL / self.callers.len().max(1) as f64);
        let mass = |caller: &Caller| caller.mass * self.left(now - caller.at);
        let mut most = f64::INFINITY;
        for _ in 0..ROUNDS {
            let total: f64 = self.callers.values().map(|caller| mass(caller).min(most)).sum();
            let lower = share * total;
            if lower >= most * 0.999 {
                break;
            }
            most = lower;
        }
        most
    }

    /// Each score with its weight: a caller's weight is shared among its scores, by age where all of them are held; and
    /// from its highest score down, what of it counts.
    fn weigh(&mut self, alpha: f64, most: f64, now: f64) {
        let mut weighted = std::mem::take(&mut self.weighted);
        weighted.clear();
        let mass = |caller: &Caller| (caller.mass * self.left(now - caller.at)).min(most);
        let all: f64 = self.callers.values().map(mass).sum();
        let room = TAIL.max(EQUAL / self.callers.len().max(1) as f64) * alpha * all;
        for caller in self.callers.values() {
            let own = |entry: &Entry| if caller.sampled { 1.0 } else { self.left(now - entry.at) };
            let total: f64 = caller.entries.iter().map(own).sum();
            if total <= 0.0 {
                continue;
            }
            let begin = weighted.len();
            weighted.extend(caller.entries.iter().map(|entry| {
                let weight = mass(caller) * own(entry) / total;
                Weighted { score: entry.score, weight, counted: weight }
            }));
            let own = weighted.get_mut(begin..).unwrap_or_default();
            own.sort_unstable_by(Weighted::falling);
            let mut above = own.first().map_or(0.0, |highest| highest.counted);
            for entry in own.iter_mut().skip(1) {
                entry.counted = entry.weight.min((room - above).max(0.0));
                above += entry.counted;
            }
        }
        self.weighted = weighted;
    }

    pub(super) fn memory(&self) -> usize {
        // A B-tree's nodes are about three quarters full.
        let caller = (size_of::<Caller>() + size_of::<u64>() + size_of::<(usize, u64)>()) * 4 / 3;
        let entries: usize = self.callers.values().map(|caller| caller.entries.capacity()).sum();
        self.callers.len() * caller + entries * size_of::<Entry>() + self.weighted.capacity() * size_of::<Weighted>()
    }

    pub(super) fn sound(&self, settings: &Settings) -> bool {
        let settled = self.capacity == settings.capacity as usize
            && self.most == most(settings)
            && self.half_life == settings.half_life
            && self.share == settings.share;
        let sizes = self.callers.iter().all(|(name, caller)| self.sizes.contains(&(caller.entries.len(), *name)));
        let held = self.callers.values().map(|caller| caller.entries.len()).sum::<usize>();
        let fits = sizes && self.sizes.len() == self.callers.len() && held == self.held && held <= self.capacity;
        settled && fits && self.callers.values().all(|caller| caller.sound(self.most))
    }
}

impl Weighted {
    /// The greatest score first.
    fn falling(&self, other: &Self) -> std::cmp::Ordering {
        other.score.total_cmp(&self.score)
    }
}

impl Caller {
    fn least_place(&self) -> Option<usize> {
        let places = self.entries.iter().enumerate();
        places.min_by(|(_, a), (_, b)| a.key.total_cmp(&b.key)).map(|(place, _)| place)
    }

    fn least(&mut self) -> Option<&mut Entry> {
        self.least_place().and_then(|place| self.entries.get_mut(place))
    }

    fn sound(&self, most: usize) -> bool {
        let entry =
            |entry: &Entry| (0.0..=1e300).contains(&entry.score) && entry.at.is_finite() && entry.key.is_finite();
        let mass = (0.0..=1e18).contains(&self.mass) && self.at.is_finite();
        mass && (1..=most).contains(&self.entries.len()) && self.entries.iter().all(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_callers_are_a_small_part_of_what_is_above_the_threshold() {
        let thresholds = [0, 8].map(|loud| {
            let (mut reservoir, mut random) = (Reservoir::new(&Settings::default()), Random::new(1));
            for caller in 0..400 + loud {
                for _ in 0..24 {
                    let score = if caller < 400 { random.exponential() } else { 50.0 };
                    reservoir.add(caller, score, 0.0);
                }
            }
            reservoir.look(0.01, 0.0).map(|found| found.threshold).unwrap()
        });
        // Eight in 408 are twice α. What counts of them is 0.16 α, which leaves 0.84: ln (1 / 0.84) further out.
        let wanted = thresholds[0] + (1.0_f64 / 0.84).ln();
        assert!((thresholds[1] - wanted).abs() < 0.4, "{thresholds:?}");
    }
}
