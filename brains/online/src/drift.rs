//! Says when a stream has changed: what a model is told, what it says, and how often it errs.
//!
//! | detector | watches | promises |
//! |---|---|---|
//! | [`Adwin`] | numbers of any range | quick; rigorous bounds on rates of false alarms per check, none per month |
//! | [`EDetector`] | losses from 0 to 1 | a run length without change that holds for dependent data too |
//! | [`Ddm`], [`HddmAverage`], [`HddmWeighted`] | errors from 0 to 1 | the customary baselines |
//! | [`PageHinkley`] | numbers of any range | the customary baseline for one mean |
//! | [`Inputs`] | rows, without labels | a rate of false alarms per test, and that small shifts stay unreported |
//! | [`Mmd`] | rows, without labels | the same, for shifts that show in several columns together only |
//!
//! A change of the inputs need not harm a model: let [`Adwin`] or [`EDetector`] on its losses decide what is done.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    error::{finite, within},
};

pub mod adwin;
pub mod ddm;
pub mod edetector;
pub mod hddm;
pub mod inputs;
pub mod mmd;
pub mod page_hinkley;

pub use adwin::Adwin;
pub use ddm::Ddm;
pub use edetector::EDetector;
pub use hddm::{HddmAverage, HddmWeighted};
pub use inputs::Inputs;
pub use mmd::Mmd;
pub use page_hinkley::PageHinkley;

/// What a detector makes of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    /// Nothing says that it has changed.
    #[default]
    Stable,
    /// It may have changed; get ready.
    Warning,
    /// It has changed. The detector begins anew with the next value.
    Drift,
}

/// Which changes count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// A mean that rises.
    #[default]
    Up,
    /// A mean that falls.
    Down,
    /// Both.
    Both,
}

impl Direction {
    fn up(self) -> bool {
        self != Self::Down
    }

    fn down(self) -> bool {
        self != Self::Up
    }
}

/// Watches a stream of numbers for a change.
pub trait Detector {
    /// Takes the next value in and says how things are.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for NaN and infinities, [`Error::Range`] for a value outside what the detector watches.
    /// It has not changed then.
    fn update(&mut self, value: f64) -> Result<State>;

    /// Forgets all values; the settings stay.
    fn reset(&mut self);

    /// Bytes that it takes.
    fn memory(&self) -> usize;
}

/// Watches a stream of rows for a change, without labels.
pub trait RowDetector {
    /// Takes the next row in; while there is no reference it goes there, later on it is compared.
    /// [`State::Drift`] holds for the update that found it.
    ///
    /// # Errors
    /// [`Error::Width`], [`Error::Infinite`], and [`Error::Word`] where words are declared. It has not changed then.
    fn update(&mut self, row: &[f64]) -> Result<State>;

    /// Forgets the reference: the next rows are the new one.
    fn reset(&mut self);

    /// Values of a row.
    fn width(&self) -> usize;

    /// Bytes that it takes, names of columns apart.
    fn memory(&self) -> usize;
}

/// The greatest magnitude of a value: squares of it, summed over any stream, are still numbers.
const GREATEST: f64 = 1e100;

/// A value of a detector without a range of its own.
fn number(value: f64) -> Result<f64> {
    within("the value", finite("the value", value)?, (-GREATEST, GREATEST), "of magnitude 1e100 at most")
}

/// A value of a detector of errors.
fn unit(value: f64) -> Result<f64> {
    within("the value", finite("the value", value)?, (0.0, 1.0), "from 0 to 1")
}

/// A probability that is neither 0 nor 1.
fn probability(what: &'static str, value: f64) -> Result<f64> {
    if value > 0.0 && value < 1.0 { Ok(value) } else { Err(Error::Range { what, value, range: "between 0 and 1" }) }
}

#[cfg(test)]
pub(crate) mod tests;
