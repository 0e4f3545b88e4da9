//! A tree of many, with what watches its error, and the tree that may take its place.

use serde::{Deserialize, Serialize};

use super::{Plan, Tree};
use crate::{
    Random, Result, Snapshot as _,
    drift::{Adwin, Detector as _, State, adwin},
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Member {
    front: Tree,
    background: Option<Tree>,
    warning: Adwin,
    drift: Adwin,
}

impl Member {
    /// A tree over these columns; another begins to grow at a probability of `warning`, and takes its place at one of
    /// `drift`.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) for what is no probability.
    pub(crate) fn new(
        plan: &Plan,
        columns: Vec<u32>,
        (warning, drift): (f64, f64),
        random: &mut Random,
    ) -> Result<Self> {
        let detector = |delta| Adwin::new(adwin::Settings { delta, ..adwin::Settings::default() });
        let front = Tree::new(plan, columns, 0, random);
        Ok(Self { front, background: None, warning: detector(warning)?, drift: detector(drift)? })
    }

    pub(crate) fn answer(&self, row: &[f64]) -> f64 {
        self.front.answer(row)
    }

    pub(crate) fn leaves(&self) -> usize {
        self.front.leaves()
    }

    /// Learns a row with such weights in front and in the background, after it was so wrong about it, from 0 to 1; says
    /// whether the tree was replaced.
    pub(crate) fn learn(
        &mut self,
        plan: &Plan,
        (row, target): (&[f64], f64),
        [front, background]: [f64; 2],
        error: f64,
        random: &mut Random,
    ) -> bool {
        self.front.learn(plan, row, target, front, random);
        if let Some(tree) = &mut self.background {
            tree.learn(plan, row, target, background, random);
        }
        if self.warning.update_rising(error) == Ok(State::Drift) {
            self.background = Some(self.fresh(plan, random));
            self.warning.reset();
        }
        if self.drift.update_rising(error) != Ok(State::Drift) {
            return false;
        }
        self.front = self.background.take().unwrap_or_else(|| self.fresh(plan, random));
        self.warning.reset();
        self.drift.reset();
        true
    }

    fn fresh(&self, plan: &Plan, random: &mut Random) -> Tree {
        Tree::new(plan, self.front.columns().to_vec(), 0, random)
    }

    pub(crate) fn memory(&self) -> usize {
        let background = self.background.as_ref().map_or(0, Tree::memory);
        size_of::<Self>() + self.front.memory() + background + self.warning.memory() + self.drift.memory()
    }

    pub(crate) fn check(&self, plan: &Plan) -> Result<()> {
        self.warning.check()?;
        self.drift.check()?;
        self.front.check(plan)?;
        self.background.iter().try_for_each(|tree| tree.check(plan))
    }
}
