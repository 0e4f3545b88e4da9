//! One tree of an ensemble, with what watches it, and the tree that may take its place.

use serde::{Deserialize, Serialize};

use super::Settings;
use crate::{
    Error, Random, Result, Snapshot as _,
    drift::{Adwin, Detector as _, State, adwin},
    tree::{Plan, Tree, draw},
};

/// A tree that grows, and how it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Grown {
    tree: Tree,
    /// Rows it was right about, and rows it was asked about, since it was made.
    right: f64,
    asked: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Member {
    front: Grown,
    background: Option<Grown>,
    warning: Adwin,
    drift: Adwin,
    columns: usize,
}

impl Grown {
    fn new(plan: &Plan, columns: usize, random: &mut Random) -> Self {
        let all: Vec<u32> = (0..plan.kinds.len() as u32).collect();
        let own = if columns < all.len() { draw(&all, columns, random) } else { all };
        Self { tree: Tree::new(plan, own, 0, random), right: 0.0, asked: 0.0 }
    }

    /// Its share of right answers; 1 before it was asked.
    fn accuracy(&self) -> f64 {
        if self.asked > 0.0 { self.right / self.asked } else { 1.0 }
    }

    fn learn(&mut self, plan: &Plan, (row, class): (&[f64], usize), weight: f64, random: &mut Random) -> bool {
        let right = self.tree.learn(plan, row, class, weight, random);
        self.asked += 1.0;
        self.right += f64::from(u8::from(right));
        right
    }

    fn check(&self, plan: &Plan) -> Result<()> {
        let counts = self.right >= 0.0 && self.right <= self.asked && self.asked.is_finite();
        if !counts {
            return Err(Error::Snapshot("has a tree that was right more often than asked"));
        }
        self.tree.check(plan)
    }
}

fn detector(delta: f64) -> Result<Adwin> {
    Adwin::new(adwin::Settings { delta, ..adwin::Settings::default() })
}

impl Member {
    pub(super) fn new(settings: &Settings, plan: &Plan, columns: usize, random: &mut Random) -> Result<Self> {
        let front = Grown::new(plan, columns, random);
        let (warning, drift) = (detector(settings.warning)?, detector(settings.drift)?);
        Ok(Self { front, background: None, warning, drift, columns })
    }

    pub(super) fn leaves(&self) -> usize {
        self.front.tree.leaves()
    }

    pub(super) fn vote(&self, plan: &Plan, row: &[f64], votes: &mut [f64]) {
        let weight = self.front.accuracy();
        // Who was never right still says something where all others are silent.
        self.front.tree.vote(plan, row, weight.max(1e-9), votes);
    }

    /// The same tree, none in the background, that was right on this share of so many rows.
    pub(super) fn judged(&self, accuracy: f64, rows: usize) -> Self {
        let asked = rows as f64;
        let front = Grown { tree: self.front.tree.clone(), right: accuracy * asked, asked };
        let (warning, drift) = (self.warning.clone(), self.drift.clone());
        Self { front, background: None, warning, drift, columns: self.columns }
    }

    /// Learns a row so many times; says whether the tree was replaced.
    pub(super) fn learn(
        &mut self,
        plan: &Plan,
        example: (&[f64], usize),
        (times, weight): (u32, f64),
        random: &mut Random,
    ) -> bool {
        if times == 0 {
            return false;
        }
        let right = self.front.learn(plan, example, weight * f64::from(times), random);
        if let Some(background) = &mut self.background {
            background.learn(plan, example, weight, random);
        }
        let error = f64::from(u8::from(!right));
        if rises(&mut self.warning, error) {
            self.background = Some(Grown::new(plan, self.columns, random));
            self.warning.reset();
        }
        if !rises(&mut self.drift, error) {
            return false;
        }
        self.front = match self.background.take() {
            Some(background) => background,
            None => Grown::new(plan, self.columns, random),
        };
        self.warning.reset();
        self.drift.reset();
        true
    }

    pub(super) fn memory(&self) -> usize {
        let trees = [Some(&self.front), self.background.as_ref()].into_iter().flatten();
        size_of::<Self>()
            + self.warning.memory()
            + self.drift.memory()
            + trees.map(|grown| grown.tree.memory()).sum::<usize>()
    }

    pub(super) fn check(&self, plan: &Plan) -> Result<()> {
        self.warning.check()?;
        self.drift.check()?;
        if !(1..=plan.kinds.len()).contains(&self.columns) {
            return Err(Error::Snapshot("has trees of more columns than there are"));
        }
        self.front.check(plan)?;
        self.background.iter().try_for_each(|grown| grown.check(plan))
    }
}

/// Whether the mean of these errors has risen; one that falls is no reason for another tree.
fn rises(detector: &mut Adwin, error: f64) -> bool {
    detector.update_rising(error) == Ok(State::Drift)
}
