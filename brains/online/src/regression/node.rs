//! The tree itself: walking it, learning a row, cutting a leaf.

use serde::{Deserialize, Serialize};

use super::{
    Settings,
    histogram::{Histogram, Sums},
};
use crate::{
    Error, Kind, Random, Result, Schema,
    arena::{Arena, Cut, End},
    tree::draw,
};

/// The share of the weight that the lesser side must have for a cut to count.
const LEAST_SIDE: f64 = 0.01;
/// Different words of a column that a leaf keeps sums for; what comes after them counts as other words.
const WORDS: usize = 64;

/// What all trees of a learner share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    kinds: Vec<Kind>,
    /// Columns that each leaf looks at, drawn when it is made; all of the tree's where there is no number.
    per_leaf: Option<usize>,
}

impl Plan {
    pub(crate) fn new(settings: Settings, schema: &Schema, per_leaf: Option<usize>) -> Result<Self> {
        settings.check()?;
        Ok(Self { settings, kinds: schema.features().iter().map(|feature| feature.kind).collect(), per_leaf })
    }

    pub(crate) fn check(&self, schema: &Schema) -> Result<()> {
        self.settings.check()?;
        let same = self.kinds.iter().eq(schema.features().iter().map(|feature| &feature.kind));
        if same { Ok(()) } else { Err(Error::Snapshot("has a plan for other rows")) }
    }
}

/// Sums of a column by number or by word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Observer {
    Numbers(Histogram),
    Words(Vec<(u32, Sums)>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Leaf {
    sums: Sums,
    /// Weight when it last looked for a cut.
    looked: f64,
    columns: Vec<u32>,
    observers: Vec<Observer>,
    /// What it answers before it has seen anything: its parent's mean.
    before: f64,
    depth: u16,
}

/// A tree of means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tree {
    arena: Arena<Leaf>,
    columns: Vec<u32>,
    /// Bytes that its leaves hold, as last counted.
    held: usize,
}

impl Leaf {
    fn new(plan: &Plan, columns: &[u32], before: f64, depth: u16, random: &mut Random) -> Self {
        let columns = match plan.per_leaf {
            Some(count) if count < columns.len() => draw(columns, count, random),
            _ => columns.to_vec(),
        };
        let observer = |column: &u32| match plan.kinds.get(*column as usize) {
            Some(Kind::Word(_)) => Observer::Words(Vec::new()),
            _ => Observer::Numbers(Histogram::default()),
        };
        let observers = columns.iter().map(observer).collect();
        Self { sums: Sums::default(), looked: 0.0, columns, observers, before, depth }
    }

    /// The mean of what came, pulled towards the parent's by one row's worth.
    fn answer(&self) -> f64 {
        (self.sums.total + self.before) / (self.sums.weight + 1.0)
    }

    fn learn(&mut self, row: &[f64], target: f64, weight: f64) {
        self.sums.add(target, weight);
        for (observer, column) in self.observers.iter_mut().zip(&self.columns) {
            let value = row.get(*column as usize).copied().unwrap_or(f64::NAN);
            match observer {
                _ if value.is_nan() => {}
                Observer::Numbers(histogram) => histogram.add(value, target, weight),
                Observer::Words(words) => {
                    let word = value as u32;
                    match words.binary_search_by_key(&word, |(known, _)| *known) {
                        Ok(place) => {
                            if let Some((_, sums)) = words.get_mut(place) {
                                sums.add(target, weight);
                            }
                        }
                        Err(place) if words.len() < WORDS => {
                            let mut sums = Sums::default();
                            sums.add(target, weight);
                            words.insert(place, (word, sums));
                        }
                        Err(_) => {}
                    }
                }
            }
        }
    }

    /// The cut that takes most of the spread away, once that is known; with the means on both sides.
    fn best_cut(&self, plan: &Plan) -> Option<(Cut, [Sums; 2])> {
        let before = self.sums.apart();
        if before <= 0.0 {
            return None;
        }
        let mut best: Option<(f64, Cut, [Sums; 2])> = None;
        let mut second = 0.0_f64;
        for (observer, column) in self.observers.iter().zip(&self.columns) {
            let Some(found) = self.best_of(observer, *column) else { continue };
            match &best {
                Some((most, ..)) if found.0 <= *most => second = second.max(found.0),
                _ => {
                    second = second.max(best.as_ref().map_or(0.0, |(most, ..)| *most));
                    best = Some(found);
                }
            }
        }
        let (most, cut, sides) = best?;
        let bound = ((1.0 / plan.settings.delta).ln() / (2.0 * self.sums.weight)).sqrt();
        let sure = second / most < 1.0 - bound || bound < plan.settings.tie;
        sure.then_some((cut, sides))
    }

    /// The best cut of one column: what it takes away of the standard deviation.
    fn best_of(&self, observer: &Observer, column: u32) -> Option<(f64, Cut, [Sums; 2])> {
        let mut best: Option<(f64, f64, [Sums; 2])> = None;
        let (all, word) = match observer {
            Observer::Numbers(histogram) => (histogram.total(), false),
            Observer::Words(words) => (words.iter().fold(Sums::default(), |sum, (_, sums)| sum.plus(*sums)), true),
        };
        let deviation = |sums: Sums| (sums.apart() * sums.weight).sqrt();
        let mut try_cut = |value: f64, passing: Sums| {
            let other = all.minus(passing);
            if passing.weight.min(other.weight) < LEAST_SIDE * all.weight {
                return;
            }
            let gain = (deviation(all) - deviation(passing) - deviation(other)) / all.weight;
            if gain > best.map_or(0.0, |(most, ..)| most) {
                best = Some((gain, value, [passing, other]));
            }
        };
        match observer {
            Observer::Numbers(histogram) => histogram.borders(&mut try_cut),
            Observer::Words(words) => words.iter().for_each(|(word, sums)| try_cut(f64::from(*word), *sums)),
        }
        let (gain, value, sides) = best?;
        let missing = 2.0 * sides[0].weight >= all.weight;
        Some((gain, Cut::new(column, value, word, missing), sides))
    }

    /// Bytes that it holds beside itself.
    fn held(&self) -> usize {
        let observer = |observer: &Observer| match observer {
            Observer::Numbers(histogram) => histogram.memory(),
            Observer::Words(words) => words.len() * size_of::<(u32, Sums)>(),
        };
        let held: usize = self.observers.iter().map(observer).sum();
        held + self.columns.len() * (4 + size_of::<Observer>())
    }

    fn is_sound(&self, plan: &Plan) -> bool {
        let observer = |(observer, column): (&Observer, &u32)| match (observer, plan.kinds.get(*column as usize)) {
            (Observer::Numbers(histogram), Some(Kind::Numeric)) => histogram.is_sound(),
            (Observer::Words(words), Some(Kind::Word(_))) => {
                let sorted = words.iter().zip(words.iter().skip(1)).all(|((a, _), (b, _))| a < b);
                sorted && words.len() <= WORDS && words.iter().all(|(_, sums)| sums.is_sound())
            }
            _ => false,
        };
        let numbers = self.looked.is_finite() && self.before.is_finite() && self.sums.is_sound();
        numbers && self.observers.len() == self.columns.len() && self.observers.iter().zip(&self.columns).all(observer)
    }
}

impl Tree {
    pub(crate) fn new(plan: &Plan, columns: Vec<u32>, random: &mut Random) -> Self {
        let leaf = Leaf::new(plan, &columns, 0.0, 0, random);
        Self { held: leaf.held(), arena: Arena::new(leaf), columns }
    }

    /// What is expected for a row. O(depth).
    pub(crate) fn answer(&self, row: &[f64]) -> f64 {
        self.arena.leaf(self.arena.find(row)).map_or(0.0, Leaf::answer)
    }

    /// Learns a row. O(depth + columns), and O(32 · columns) when it looks for a cut.
    pub(crate) fn learn(&mut self, plan: &Plan, row: &[f64], target: f64, weight: f64, random: &mut Random) {
        let end = self.arena.find(row);
        let may_grow = self.memory() < plan.settings.memory && self.arena.has_room();
        let Some(leaf) = self.arena.leaf_mut(end) else { return };
        leaf.learn(row, target, weight);
        if leaf.sums.weight - leaf.looked < plan.settings.grace {
            return;
        }
        leaf.looked = leaf.sums.weight;
        if may_grow
            && leaf.depth < plan.settings.depth
            && let Some((cut, sides)) = leaf.best_cut(plan)
        {
            self.split(plan, end, cut, sides, random);
        }
    }

    fn split(&mut self, plan: &Plan, end: End, cut: Cut, sides: [Sums; 2], random: &mut Random) {
        let Some(parent) = self.arena.leaf(end) else { return };
        let (depth, before) = (parent.depth + 1, parent.held());
        let leaves = sides.map(|side| Leaf::new(plan, &self.columns, side.mean(), depth, random));
        self.held = (self.held + leaves.iter().map(Leaf::held).sum::<usize>()).saturating_sub(before);
        self.arena.split(end, cut, leaves);
        if self.leaves().is_power_of_two() {
            self.held = self.arena.leaves().iter().map(Leaf::held).sum();
        }
    }

    pub(crate) fn leaves(&self) -> usize {
        self.arena.leaves().len()
    }

    /// Bytes that it takes; what leaves have grown by is counted whenever their number has doubled.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.arena.memory() + self.columns.len() * 4 + self.held
    }

    pub(crate) fn check(&self, plan: &Plan) -> Result<()> {
        let width = plan.kinds.len();
        self.arena.check(width)?;
        let sound = self.columns.iter().all(|column| (*column as usize) < width)
            && self.arena.leaves().iter().all(|leaf| leaf.is_sound(plan));
        if sound { Ok(()) } else { Err(Error::Snapshot("has a tree whose parts do not fit together")) }
    }
}
