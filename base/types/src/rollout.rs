//! How a version stands that would like to answer instead of another.

use serde::{Deserialize, Serialize};

/// How a challenger of a model stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stand {
    /// It is compared with the champion.
    Judging,
    /// It is proven to be better, and a person is asked.
    Proposed,
    /// It answers.
    Promoted,
    /// It answered, became worse, and the champion answers again.
    HandedBack,
    /// A person said no.
    Rejected,
}

/// What speaks for a challenger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The first entry of the joined log that counts, and the one after the last.
    pub from: u64,
    /// See `from`.
    pub offset: u64,
    /// Examples that both answered before they learnt them.
    pub labels: u64,
    /// What the champion lost a label, 0 … 1: half of the Brier score, or its error as e / (e + s).
    pub champion_loss: f64,
    /// What the challenger lost.
    pub challenger_loss: f64,
    /// The logarithm of its wealth, while it is not proven.
    pub log_wealth: Option<f64>,
    /// What that must reach.
    pub needed: Option<f64>,
    /// The probability with which one that is not better is promoted.
    pub alpha: f64,
}
