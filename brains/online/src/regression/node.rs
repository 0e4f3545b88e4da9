//! The tree itself: walking it, learning a row, cutting a leaf.

use serde::{Deserialize, Serialize};

use super::{Settings, histogram::Sums, observer::Observer};
use crate::{
    Error, Kind, Random, Result, Schema,
    arena::{Arena, Cut, End, Kept, Leafage},
    tree::draw,
};

/// The share of the weight that the lesser side must have for a cut to count.
const LEAST_SIDE: f64 = 0.01;

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

    fn kind(&self, column: u32) -> Kind {
        self.kinds.get(column as usize).copied().unwrap_or(Kind::Numeric)
    }

    pub(crate) fn check(&self, schema: &Schema) -> Result<()> {
        self.settings.check()?;
        let same = self.kinds.iter().eq(schema.features().iter().map(|feature| &feature.kind));
        if same { Ok(()) } else { Err(Error::Snapshot("has a plan for other rows")) }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Leaf {
    sums: Sums,
    /// Weight when it last looked for a cut.
    looked: f64,
    /// Columns that are observed; none where it looks for no cuts.
    columns: Vec<u32>,
    observers: Vec<Observer>,
    /// What it answers before it has seen anything: its parent's mean.
    before: f64,
    depth: u16,
}

/// A tree of means, and what is kept at each of its splits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tree<S = ()> {
    arena: Arena<Leaf, S>,
    columns: Vec<u32>,
}

/// A cut of a leaf: what it takes away of the spread, and the sums on both sides.
struct Best {
    gain: f64,
    cut: Cut,
    sides: [Sums; 2],
}

impl Leaf {
    fn new(plan: &Plan, columns: &[u32], before: f64, depth: u16, random: &mut Random) -> Self {
        let columns = match plan.per_leaf {
            Some(count) if count < columns.len() => draw(columns, count, random),
            _ => columns.to_vec(),
        };
        let observers = vec![Observer::default(); columns.len()];
        Self { sums: Sums::default(), looked: 0.0, columns, observers, before, depth }
    }

    /// The mean of what came, pulled towards the parent's by one row's worth.
    fn answer(&self) -> f64 {
        (self.sums.total + self.before) / (self.sums.weight + 1.0)
    }

    /// Learns a row; says how many bytes it holds more than before.
    fn learn(&mut self, plan: &Plan, row: &[f64], target: f64, weight: f64) -> usize {
        self.sums = self.sums.plus(Sums::of(target, weight));
        let mut grown = 0;
        for (observer, column) in self.observers.iter_mut().zip(&self.columns) {
            let value = row.get(*column as usize).copied().unwrap_or(f64::NAN);
            if !value.is_nan() {
                grown += observer.add(plan.kind(*column), value, target, weight);
            }
        }
        grown
    }

    /// Whether it has taken enough in to look for a cut again.
    fn is_due(&self, plan: &Plan) -> bool {
        let due = self.sums.weight - self.looked >= plan.settings.grace;
        due && self.depth < plan.settings.depth && !self.columns.is_empty()
    }

    /// The cut that takes most of the spread away, once that is known.
    fn best_cut(&self, plan: &Plan) -> Option<Best> {
        if self.sums.apart() <= 0.0 {
            return None;
        }
        let mut best: Option<Best> = None;
        let mut second = 0.0_f64;
        for (observer, column) in self.observers.iter().zip(&self.columns) {
            let Some(found) = best_of(observer, plan.kind(*column), *column) else { continue };
            let most = best.as_ref().map_or(0.0, |best| best.gain);
            second = second.max(most.min(found.gain));
            if found.gain > most {
                best = Some(found);
            }
        }
        let bound = ((1.0 / plan.settings.delta).ln() / (2.0 * self.sums.weight)).sqrt();
        best.filter(|best| second / best.gain < 1.0 - bound || bound < plan.settings.tie)
    }

    fn is_sound(&self, plan: &Plan) -> bool {
        let observer = |(observer, column): (&Observer, &u32)| {
            (*column as usize) < plan.kinds.len() && observer.is_sound(plan.kind(*column))
        };
        let numbers = self.looked.is_finite() && self.before.is_finite() && self.sums.is_sound();
        numbers && self.observers.len() == self.columns.len() && self.observers.iter().zip(&self.columns).all(observer)
    }
}

impl Leafage for Leaf {
    fn held(&self) -> usize {
        let held: usize = self.observers.iter().map(Observer::held).sum();
        held + self.columns.len() * (4 + size_of::<Observer>())
    }

    /// What a cut could take away at most.
    fn promise(&self) -> f64 {
        self.sums.apart()
    }

    fn rest(&mut self) {
        (self.columns, self.observers) = (Vec::new(), Vec::new());
    }
}

/// The best cut of one column, by what it takes away of the variance. The paper takes the standard deviation, the authors'
/// program the variance; so do we, since boosting is right more often with it.
fn best_of(observer: &Observer, kind: Kind, column: u32) -> Option<Best> {
    let all = observer.total();
    let mut best: Option<(f64, f64, Sums)> = None;
    observer.cuts(kind, |value, passing| {
        let other = all.minus(passing);
        if passing.weight.min(other.weight) < LEAST_SIDE * all.weight {
            return;
        }
        let gain = (all.apart() - passing.apart() - other.apart()) / all.weight;
        if gain > best.map_or(0.0, |(most, ..)| most) {
            best = Some((gain, value, passing));
        }
    });
    let (gain, value, passing) = best?;
    let missing = 2.0 * passing.weight >= all.weight;
    let cut = Cut::new(column, value, kind != Kind::Numeric, missing);
    Some(Best { gain, cut, sides: [passing, all.minus(passing)] })
}

impl<S: Kept> Tree<S> {
    /// A tree of one leaf that has so many splits above it.
    pub(crate) fn new(plan: &Plan, columns: Vec<u32>, depth: u16, random: &mut Random) -> Self {
        Self { arena: Arena::new(Leaf::new(plan, &columns, 0.0, depth, random)), columns }
    }

    /// The columns that it may look at.
    pub(crate) fn columns(&self) -> &[u32] {
        &self.columns
    }

    /// What is expected for a row. O(depth).
    pub(crate) fn answer(&self, row: &[f64]) -> f64 {
        self.arena.leaf(self.arena.find(row)).map_or(0.0, Leaf::answer)
    }

    /// Learns a row. O(depth + columns), and O(32 · columns) when it looks for a cut.
    pub(crate) fn learn(&mut self, plan: &Plan, row: &[f64], target: f64, weight: f64, random: &mut Random) {
        let (end, before) = (self.arena.find(row), self.memory());
        self.arena.change(end, |leaf| ((), leaf.learn(plan, row, target, weight)));
        if self.arena.leaf(end).is_some_and(|leaf| leaf.is_due(plan)) {
            self.look(plan, end, random);
        }
        if self.memory() > before {
            self.bound(plan);
        }
    }

    /// Looks whether a leaf should be cut.
    fn look(&mut self, plan: &Plan, end: End, random: &mut Random) {
        let best = self.arena.change(end, |leaf| {
            leaf.looked = leaf.sums.weight;
            (leaf.best_cut(plan).map(|best| (best, leaf.depth + 1)), 0)
        });
        if let Some(Some((best, depth))) = best
            && self.arena.has_room()
        {
            let leaves = best.sides.map(|side| Leaf::new(plan, &self.columns, side.mean(), depth, random));
            self.arena.split(end, best.cut, leaves, S::default());
        }
    }

    /// Lets the leaves that promise least stop looking for cuts, where the tree takes more than it may.
    fn bound(&mut self, plan: &Plan) {
        if self.memory() > plan.settings.memory {
            self.arena.bound(plan.settings.memory);
        }
    }

    pub(crate) fn leaves(&self) -> usize {
        self.arena.leaves().len()
    }

    /// Calls `visit` as [`Arena::walk`] does.
    pub(crate) fn walk<T>(&mut self, row: &[f64], visit: impl FnMut(usize, &mut S) -> Option<T>) -> Option<T> {
        self.arena.walk(row, visit)
    }

    /// What is kept at each split.
    pub(crate) fn splits(&self) -> impl Iterator<Item = &S> {
        self.arena.splits()
    }

    /// Puts another tree in the place of a split and all below it.
    pub(crate) fn graft(&mut self, plan: &Plan, split: usize, other: Tree) {
        self.arena.graft(split, other.arena);
        self.bound(plan);
    }

    /// Bytes that it takes, without alternates. O(1).
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.arena.memory() + self.columns.len() * 4
    }

    pub(crate) fn check(&self, plan: &Plan) -> Result<()> {
        let width = plan.kinds.len();
        self.arena.check(width)?;
        let sound = self.columns.iter().all(|column| (*column as usize) < width)
            && self.arena.leaves().iter().all(|leaf| leaf.is_sound(plan));
        if sound { Ok(()) } else { Err(Error::Snapshot("has a tree whose parts do not fit together")) }
    }
}
