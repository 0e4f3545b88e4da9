//! What can be wrong with what a learner is given; nothing here panics on input.

/// Why something was not accepted. Whoever returns one has not changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A row is not as wide as the schema.
    #[error("a row of {found} values where {wanted} are declared")]
    Width {
        /// Values that the schema declares.
        wanted: usize,
        /// Values of the row.
        found: usize,
    },
    /// A value of a row is infinite; a missing one is NaN.
    #[error("value {index} of the row is infinite")]
    Infinite {
        /// Its place in the row.
        index: usize,
    },
    /// A word's code is no whole number below the schema's count of words.
    #[error("value {index} of the row is {value}, which is the code of none of its {words} words")]
    Word {
        /// Its place in the row.
        index: usize,
        /// What stands there.
        value: f64,
        /// How many words the schema declares there.
        words: u32,
    },
    /// A value is not of the kind that its column is.
    #[error("value {index} of the row is {found} where {wanted} is declared")]
    Value {
        /// Its place in the row.
        index: usize,
        /// What is declared there.
        wanted: &'static str,
        /// What stands there.
        found: &'static str,
    },
    /// A number that must be finite is not.
    #[error("{what} is {value}, which is no finite number")]
    NotFinite {
        /// Which one.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// A class outside those declared.
    #[error("class {class} where {classes} are declared")]
    Class {
        /// The class, from 0.
        class: usize,
        /// How many there are.
        classes: usize,
    },
    /// A weight that is negative, beyond 10⁹ or no number.
    #[error("a weight of {0}, which is no number from 0 to 10^9")]
    Weight(f64),
    /// A number outside what it may be: a setting, a probability, a loss.
    #[error("{what} is {value}, which is not {range}")]
    Range {
        /// Which one.
        what: &'static str,
        /// Its value.
        value: f64,
        /// What it may be, in words.
        range: &'static str,
    },
    /// Time went back.
    #[error("time went back from {before} to {now}")]
    Time {
        /// The latest time seen.
        before: f64,
        /// The time given.
        now: f64,
    },
    /// A name that nothing here has.
    #[error("nothing is called `{0}`")]
    Unknown(String),
    /// A pipeline whose model is a pipeline.
    #[error("a pipeline inside a pipeline: their steps belong in one list")]
    Nested,
    /// A snapshot that can't be loaded.
    #[error("the snapshot {0}")]
    Snapshot(&'static str),
    /// A learner of these sizes would need too much memory.
    #[error("{needed} bytes of memory are needed where {allowed} are allowed")]
    Memory {
        /// What it would take.
        needed: usize,
        /// What it may take.
        allowed: usize,
    },
}

/// A number that must be finite.
///
/// # Errors
/// [`Error::NotFinite`].
pub(crate) fn finite(what: &'static str, value: f64) -> Result<f64, Error> {
    if value.is_finite() { Ok(value) } else { Err(Error::NotFinite { what, value }) }
}

/// A number that must lie in a range, both ends included.
///
/// # Errors
/// [`Error::Range`] with the range's words; NaN lies nowhere.
pub(crate) fn within(
    what: &'static str,
    value: f64,
    (low, high): (f64, f64),
    range: &'static str,
) -> Result<f64, Error> {
    if (low..=high).contains(&value) { Ok(value) } else { Err(Error::Range { what, value, range }) }
}

/// A weight.
///
/// # Errors
/// [`Error::Weight`] unless it is a number from 0 to 10⁹, so that sums of weights and of what they weigh stay numbers.
pub(crate) fn weight(value: f64) -> Result<f64, Error> {
    if (0.0..=1e9).contains(&value) { Ok(value) } else { Err(Error::Weight(value)) }
}
