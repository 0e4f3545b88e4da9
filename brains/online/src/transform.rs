//! Makes other rows of rows, before a learner sees them: like units, a column for each word, fewer columns.
//!
//! | transformer | makes of numbers | makes of words | learns |
//! |---|---|---|---|
//! | [`Scaler`] | like units | leaves them | mean and deviation, or quantiles |
//! | [`OneHot`] | leaves them | a column of 0 and 1 for each word | which words there are |
//! | [`Hashing`] | a share of 2ᵏ columns | a share of the same | nothing |
//!
//! What a transformer learns is a part of the model: it is fitted on the stream that the model learns from, and never on
//! rows that are still to come. A [`Pipeline`](crate::Pipeline) puts some of them before a learner.

use serde::{Deserialize, Serialize};

use crate::{Error, Result, Schema};

pub mod hashing;
pub mod one_hot;
pub mod scaler;

pub use hashing::Hashing;
pub use one_hot::OneHot;
pub use scaler::Scaler;

/// Makes one row of another.
pub trait Transformer: std::fmt::Debug + Send + Sync {
    /// The columns of a row that comes in.
    fn schema(&self) -> &Schema;

    /// The columns of a row that goes out, whatever was learnt.
    fn output(&self) -> &Schema;

    /// Writes what becomes of a row, as far as was learnt: `out` has one place for each column of
    /// [`output`](Self::output), and is a row of that schema afterwards. Allocates nothing.
    ///
    /// # Errors
    /// What is wrong with the row ([`Schema::check`]); [`Error::Width`] when there are not as many places as columns.
    fn transform(&self, row: &[f64], out: &mut [f64]) -> Result<()>;

    /// Takes a row in, as if it had come `weight` times; 0 times changes nothing.
    ///
    /// # Errors
    /// What is wrong with the row; [`Error::Weight`]. It has not changed then.
    fn learn(&mut self, row: &[f64], weight: f64) -> Result<()>;

    /// Bytes that it takes, estimated from what it holds.
    fn memory(&self) -> usize;
}

/// A transformer and its settings, as a manifest writes them: `step: one-hot, words: 32`. What is left out has its
/// default; a name or a setting that nobody knows is an error.
///
/// ```
/// use online::{Feature, Schema, transform::{Spec, Transformer}};
///
/// let spec: Spec = serde_json::from_str(r#"{ "step": "one-hot", "words": 2 }"#)?;
/// let schema = Schema::new(vec![Feature::number("amount"), Feature::words("country", 200)])?;
/// let step = spec.build(schema, 7)?;
/// assert_eq!(step.output().width(), 3, "the amount, and the first two countries");
/// assert!(serde_json::from_str::<Spec>(r#"{ "step": "one-hot", "word": 2 }"#).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Spec {
    /// Like units for all numbers.
    Scaler(scaler::Settings),
    /// A column for each word.
    OneHot(one_hot::Settings),
    /// All columns spread over fewer.
    Hashing(hashing::Settings),
}

impl Spec {
    /// One that has learnt nothing yet.
    ///
    /// # Errors
    /// [`Error::Range`] names a setting, or the number of columns that go out, that can't be; [`Error::Memory`].
    pub fn build(&self, schema: Schema, seed: u64) -> Result<Step> {
        Ok(match self {
            Self::Scaler(settings) => Step::Scaler(Scaler::new(settings.clone(), schema, seed)?),
            Self::OneHot(settings) => Step::OneHot(OneHot::new(settings.clone(), schema)?),
            Self::Hashing(settings) => Step::Hashing(Hashing::new(settings.clone(), schema)?),
        })
    }
}

/// A transformer of any name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Like units for all numbers.
    Scaler(Scaler),
    /// A column for each word.
    OneHot(OneHot),
    /// All columns spread over fewer.
    Hashing(Hashing),
}

/// Does the same with whichever it is.
macro_rules! each {
    ($step:expr, $transformer:ident => $do:expr) => {
        match $step {
            Step::Scaler($transformer) => $do,
            Step::OneHot($transformer) => $do,
            Step::Hashing($transformer) => $do,
        }
    };
}

impl Transformer for Step {
    fn schema(&self) -> &Schema {
        each!(self, transformer => transformer.schema())
    }

    fn output(&self) -> &Schema {
        each!(self, transformer => transformer.output())
    }

    fn transform(&self, row: &[f64], out: &mut [f64]) -> Result<()> {
        each!(self, transformer => transformer.transform(row, out))
    }

    fn learn(&mut self, row: &[f64], weight: f64) -> Result<()> {
        each!(self, transformer => transformer.learn(row, weight))
    }

    fn memory(&self) -> usize {
        each!(self, transformer => transformer.memory())
    }
}

impl Step {
    /// Whether a state that was just read can be.
    pub(crate) fn check(&self) -> Result<()> {
        each!(self, transformer => crate::Snapshot::check(transformer))
    }
}

/// Whether a row can be transformed, and there is room for what becomes of it.
fn check_row(schema: &Schema, row: &[f64], (wanted, found): (usize, usize)) -> Result<()> {
    if wanted != found {
        return Err(Error::Width { wanted, found });
    }
    schema.check(row)
}
