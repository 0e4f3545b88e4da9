//! The Hoeffding tree that the learners are made of: grown by the row, split once the better cut is known well enough.
//!
//! Domingos and Hulten, "Mining high-speed data streams" (KDD 2000), with Gaussian observers of numbers (Pfahringer,
//! Holmes and Kirkby 2008) and leaves that answer by naive Bayes where that has been right more often (Gama, Rocha and
//! Medas 2003). A number is cut at one of ten places between the least and the greatest seen; a word is told from all
//! others. [`HoeffdingTree`](crate::HoeffdingTree) is one tree; [`Ensemble`](crate::Ensemble) grows many.

mod leaf;
mod observer;
mod split;

use serde::{Deserialize, Serialize};

use crate::{
    Error, Kind, Random, Result, Schema,
    arena::{Arena, End},
    error::within,
};
use leaf::Leaf;
pub(crate) use leaf::draw;
use split::Best;

/// How a leaf answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// By the shares of the classes seen.
    Majority,
    /// By naive Bayes.
    Bayes,
    /// By whichever of both has been right more often at this leaf.
    #[default]
    Adaptive,
}

/// How a tree grows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Weight that a leaf takes in between two looks for a cut. Default 200.
    pub grace: f64,
    /// The probability δ that the better cut is not the better one. Default 10⁻⁷.
    pub delta: f64,
    /// Cuts that differ by less are as good as each other, and the first is taken. Default 0.05.
    pub tie: f64,
    /// How a leaf answers. Default [`Answer::Adaptive`].
    pub answer: Answer,
    /// The most splits above a leaf. Default 64.
    pub depth: u16,
    /// Bytes that the tree may take; leaves that would be worth least stop looking for cuts. Default 32 MiB.
    pub memory: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { grace: 200.0, delta: 1e-7, tie: 0.05, answer: Answer::Adaptive, depth: 64, memory: 32 << 20 }
    }
}

impl Settings {
    /// Whether a tree can grow so.
    ///
    /// # Errors
    /// [`Error::Range`] names what can't be.
    pub(crate) fn check(&self) -> Result<()> {
        within("grace", self.grace, (1.0, 1e9), "from 1 to 10^9")?;
        within("delta", self.delta, (1e-300, 0.5), "from 10^-300 to 0.5")?;
        within("tie", self.tie, (0.0, 1.0), "from 0 to 1")?;
        within("depth", f64::from(self.depth), (1.0, 1_000.0), "from 1 to 1,000")?;
        within("memory", self.memory as f64, (4_096.0, 1e15), "from 4 KiB to 10^15 bytes")?;
        Ok(())
    }
}

/// What all trees of a learner share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) classes: usize,
    /// Columns that each leaf looks at, drawn when it is made; all of the tree's where there is no number.
    pub(crate) per_leaf: Option<usize>,
}

impl Plan {
    pub(crate) fn new(settings: Settings, schema: &Schema, classes: usize, per_leaf: Option<usize>) -> Result<Self> {
        settings.check()?;
        let kinds = schema.features().iter().map(|feature| feature.kind).collect();
        Ok(Self { settings, kinds, classes: crate::learner::check_classes(classes)?, per_leaf })
    }

    fn kind(&self, column: u32) -> Kind {
        self.kinds.get(column as usize).copied().unwrap_or(Kind::Numeric)
    }

    /// Whether a loaded plan can be followed.
    pub(crate) fn check(&self, schema: &Schema, classes: usize) -> Result<()> {
        self.settings.check()?;
        let same = self.kinds.iter().eq(schema.features().iter().map(|feature| &feature.kind));
        if same && self.classes == classes { Ok(()) } else { Err(Error::Snapshot("has a plan for other rows")) }
    }
}

/// A tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tree {
    arena: Arena<Leaf>,
    /// Columns that it may look at, in order.
    columns: Vec<u32>,
    /// Bytes that its leaves hold, as last counted.
    held: usize,
}

impl Tree {
    /// A tree of one leaf, over these columns.
    pub(crate) fn new(plan: &Plan, columns: Vec<u32>, random: &mut Random) -> Self {
        let leaf = Leaf::new(plan, &columns, 0, random);
        Self { held: leaf.held(), arena: Arena::new(leaf), columns }
    }

    /// How many leaves it has.
    pub(crate) fn leaves(&self) -> usize {
        self.arena.leaves().len()
    }

    /// Adds what the leaf of this row says to `votes`, so that it adds up to `weight`. O(depth + classes · columns).
    pub(crate) fn vote(&self, plan: &Plan, row: &[f64], weight: f64, votes: &mut [f64]) {
        if let Some(leaf) = self.arena.leaf(self.arena.find(row)) {
            leaf.vote(plan, row, weight, votes);
        }
    }

    /// Learns a row; says whether it had been right about it before.
    pub(crate) fn learn(&mut self, plan: &Plan, row: &[f64], class: usize, weight: f64, random: &mut Random) -> bool {
        let end = self.arena.find(row);
        let Some(leaf) = self.arena.leaf_mut(end) else { return false };
        let right = leaf.learn(plan, row, class, weight);
        if leaf.is_due(plan) {
            leaf.looked();
            if let Some(best) = leaf.best_cut(plan)
                && self.arena.has_room()
            {
                self.split(plan, end, best, random);
            }
        }
        right
    }

    fn split(&mut self, plan: &Plan, end: End, best: Best, random: &mut Random) {
        let Some(parent) = self.arena.leaf(end) else { return };
        let (depth, before) = (parent.depth() + 1, parent.held());
        let leaves = best.sides.map(|side| Leaf::new(plan, &self.columns, depth, random).with(side));
        self.held = (self.held + leaves.iter().map(Leaf::held).sum::<usize>()).saturating_sub(before);
        self.arena.split(end, best.cut, leaves);
        if self.leaves().is_power_of_two() {
            self.held = self.arena.leaves().iter().map(Leaf::held).sum();
        }
        if self.memory() > plan.settings.memory {
            self.bound(plan);
        }
    }

    /// Lets the leaves that promise least stop looking for cuts, until the tree takes no more than it may, and a bit less,
    /// so that this is rare.
    fn bound(&mut self, plan: &Plan) {
        let own = self.memory() - self.held;
        let wanted = (plan.settings.memory / 10 * 9).saturating_sub(own);
        self.held = self.arena.leaves().iter().map(Leaf::held).sum();
        let leaves = self.arena.leaves_mut();
        let mut order: Vec<(f64, usize)> = leaves.iter().map(Leaf::promise).zip(0..).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (_, place) in order {
            if self.held <= wanted {
                break;
            }
            if let Some(leaf) = leaves.get_mut(place) {
                let before = leaf.held();
                leaf.rest();
                self.held = (self.held + leaf.held()).saturating_sub(before);
            }
        }
    }

    /// Bytes that it takes; what leaves have grown by is counted whenever their number has doubled.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.arena.memory() + self.columns.len() * 4 + self.held
    }

    /// Whether a loaded tree can be used.
    pub(crate) fn check(&self, plan: &Plan) -> Result<()> {
        let width = plan.kinds.len();
        if self.columns.iter().any(|column| *column as usize >= width) {
            return Err(Error::Snapshot("has a tree of columns that are not there"));
        }
        self.arena.check(width)?;
        self.arena.leaves().iter().try_for_each(|leaf| leaf.check(plan))
    }
}
