//! Any one of the learners that are not made of others.

use serde::{Deserialize, Serialize};

use crate::{
    AdaptiveTree, Boosted, Classifier, Ensemble, HoeffdingTree, Logistic, Neighbours, Result, Schema, Snapshot,
};

/// A learner of some kind, so that those who hold several need not know which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Basic {
    /// One tree, or naive Bayes.
    Tree(HoeffdingTree),
    /// One tree that replaces its branches.
    Adaptive(Box<AdaptiveTree>),
    /// Many trees.
    Ensemble(Ensemble),
    /// Trees one after the other.
    Boosted(Boosted),
    /// A linear one.
    Logistic(Logistic),
    /// One that remembers rows.
    Neighbours(Neighbours),
}

/// Does the same with whichever it is.
macro_rules! each {
    ($basic:expr, $learner:ident => $do:expr) => {
        match $basic {
            Basic::Tree($learner) => $do,
            Basic::Adaptive($learner) => $do,
            Basic::Ensemble($learner) => $do,
            Basic::Boosted($learner) => $do,
            Basic::Logistic($learner) => $do,
            Basic::Neighbours($learner) => $do,
        }
    };
}

impl Classifier for Basic {
    fn schema(&self) -> &Schema {
        each!(self, learner => learner.schema())
    }

    fn classes(&self) -> usize {
        each!(self, learner => learner.classes())
    }

    fn predict(&self, row: &[f64], probabilities: &mut [f64]) -> Result<()> {
        each!(self, learner => learner.predict(row, probabilities))
    }

    fn learn(&mut self, row: &[f64], class: usize, weight: f64) -> Result<()> {
        each!(self, learner => learner.learn(row, class, weight))
    }

    fn memory(&self) -> usize {
        each!(self, learner => learner.memory())
    }
}

impl Snapshot for Basic {
    const KIND: &'static str = "basic classifier";
    const VERSION: u16 = 3;

    fn check(&self) -> Result<()> {
        each!(self, learner => learner.check())
    }
}
