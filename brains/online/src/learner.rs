//! What can learn: classifiers and regressors, by the row.
//!
//! An answer never changes a learner, and only [`learn`](Classifier::learn) does; so a prediction made when a row came in
//! can wait for its label as long as it takes. Whatever returns an error has not changed.
//!
//! The other traits are where they are implemented: [`Transformer`](crate::Transformer) before a learner,
//! [`Scorer`](crate::Scorer) of strange rows, [`Detector`](crate::Detector) and [`RowDetector`](crate::RowDetector) of
//! change.

use crate::{Error, Result, Schema};

/// The most classes that a learner can be asked to tell apart.
pub const CLASSES: usize = 65_536;

/// Tells classes apart, numbered from 0.
pub trait Classifier: std::fmt::Debug + Send + Sync {
    /// The columns of a row.
    fn schema(&self) -> &Schema;

    /// How many classes there are.
    fn classes(&self) -> usize;

    /// Writes the probability of each class: `probabilities` has one place for each, and sums to 1 afterwards. Who has
    /// learnt nothing says that all are alike.
    ///
    /// # Errors
    /// What is wrong with the row ([`Schema::check`]); [`Error::Width`] when there are not as many places as classes.
    fn predict(&self, row: &[f64], probabilities: &mut [f64]) -> Result<()>;

    /// Learns that this row is of this class, as if it had come `weight` times; 0 times changes nothing.
    ///
    /// # Errors
    /// What is wrong with the row; [`Error::Class`], [`Error::Weight`].
    fn learn(&mut self, row: &[f64], class: usize, weight: f64) -> Result<()>;

    /// Bytes that it takes, estimated from what it holds.
    fn memory(&self) -> usize;
}

/// Estimates a number.
pub trait Regressor: std::fmt::Debug + Send + Sync {
    /// The columns of a row.
    fn schema(&self) -> &Schema;

    /// The number expected for this row; 0 of who has learnt nothing.
    ///
    /// # Errors
    /// What is wrong with the row ([`Schema::check`]).
    fn predict(&self, row: &[f64]) -> Result<f64>;

    /// Learns that this row has this number, as if it had come `weight` times; 0 times changes nothing.
    ///
    /// # Errors
    /// What is wrong with the row; [`Error::NotFinite`], [`Error::Weight`].
    fn learn(&mut self, row: &[f64], target: f64, weight: f64) -> Result<()>;

    /// Bytes that it takes, estimated from what it holds.
    fn memory(&self) -> usize;
}

/// How many classes a learner may be made for.
///
/// # Errors
/// [`Error::Range`] for fewer than two, or more than [`CLASSES`].
pub(crate) fn check_classes(classes: usize) -> Result<usize> {
    if (2..=CLASSES).contains(&classes) {
        Ok(classes)
    } else {
        Err(Error::Range { what: "the number of classes", value: classes as f64, range: "from 2 to 65,536" })
    }
}

/// Whether a row can be predicted, and there is room for the answer.
///
/// # Errors
/// As [`Classifier::predict`].
pub(crate) fn check_question(schema: &Schema, classes: usize, row: &[f64], places: usize) -> Result<()> {
    if places != classes {
        return Err(Error::Width { wanted: classes, found: places });
    }
    schema.check(row)
}

/// Whether an example can be learnt.
///
/// # Errors
/// As [`Classifier::learn`].
pub(crate) fn check_example(schema: &Schema, classes: usize, row: &[f64], class: usize, weight: f64) -> Result<()> {
    crate::error::weight(weight)?;
    if class >= classes {
        return Err(Error::Class { class, classes });
    }
    schema.check(row)
}

/// Whether a row with its number can be learnt.
///
/// # Errors
/// As [`Regressor::learn`].
pub(crate) fn check_pair(schema: &Schema, row: &[f64], target: f64, weight: f64) -> Result<()> {
    crate::error::weight(weight)?;
    crate::error::finite("the target", target)?;
    schema.check(row)
}

/// Makes the values sum to 1; all alike where they sum to nothing.
pub(crate) fn normalise(values: &mut [f64]) {
    let sum: f64 = values.iter().sum();
    if sum > 0.0 && sum.is_finite() {
        values.iter_mut().for_each(|value| *value /= sum);
    } else {
        let alike = 1.0 / values.len().max(1) as f64;
        values.fill(alike);
    }
}

/// Scores as probabilities.
pub(crate) fn softmax(scores: &mut [f64]) {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - most).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// Sets of scores that tell so many classes apart: of two classes, the second's are always 0.
pub(crate) fn sets(classes: usize) -> usize {
    if classes == 2 { 1 } else { classes }
}

/// The place of the greatest value, the first of equals; 0 of none.
pub fn greatest(values: &[f64]) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (place, &value) in values.iter().enumerate() {
        if value > best.1 {
            best = (place, value);
        }
    }
    best.0
}
