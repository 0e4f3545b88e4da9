//! The regression tree that regressors and boosting are made of.
//!
//! Ikonomovska, Gama and Džeroski, "Learning model trees from evolving data streams" (Data Mining and Knowledge Discovery
//! 23, 2011): a leaf is cut where that takes away most of the variance, once Hoeffding's bound says that the second best
//! cut takes away less. Numbers are observed in a histogram that scales itself instead of a search tree, so a leaf takes
//! the same memory however many values come. What the paper does about drift in
//! branches, [`RegressionTree`](crate::RegressionTree) does; forests and boosting replace whole trees.

mod histogram;
mod member;
mod node;
mod observer;

pub(crate) use member::Member;
pub(crate) use node::{Plan, Tree};
use serde::{Deserialize, Serialize};

use crate::{Result, arena::check_growth};

/// How a regression tree grows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Weight that a leaf takes in between two looks for a cut. Default 200.
    pub grace: f64,
    /// The probability δ that the better cut is not the better one. Default 10⁻⁷.
    pub delta: f64,
    /// Cuts that differ by less are as good as each other. Default 0.05.
    pub tie: f64,
    /// The most splits above a leaf. Default 32.
    pub depth: u16,
    /// Bytes that the tree may take; beyond them no leaf is cut. Default 8 MiB.
    pub memory: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { grace: 200.0, delta: 1e-7, tie: 0.05, depth: 32, memory: 8 << 20 }
    }
}

impl Settings {
    /// Whether a tree can grow so.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) names what can't be.
    pub(crate) fn check(&self) -> Result<()> {
        check_growth(self.grace, self.delta, self.tie, self.depth, self.memory)
    }
}
