//! What the columns of a row are.
//!
//! A row is a slice of numbers. A number stands for itself (beyond ±10¹⁰⁰ it counts as that), a word for its code from 0, NaN
//! for a missing value; words get their codes from whoever reads them. What a schema did not declare is an error, not a guess.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The most features of a row.
pub const FEATURES: usize = 65_536;
/// Numbers further from 0 count as this far, so that their squares, and sums of them, are still numbers.
pub(crate) const GREATEST: f64 = 1e100;
/// The most words of one feature.
pub const WORDS: u32 = 1 << 20;

/// What a feature's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A number; greater means more.
    Numeric,
    /// One of so many words, by its code from 0; greater means nothing.
    Word(u32),
}

/// One column of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    /// Its name, for people.
    pub name: String,
    /// What its values are.
    pub kind: Kind,
}

impl Feature {
    /// A column of numbers.
    pub fn number(name: impl Into<String>) -> Self {
        Self { name: name.into(), kind: Kind::Numeric }
    }

    /// A column of so many words.
    pub fn words(name: impl Into<String>, count: u32) -> Self {
        Self { name: name.into(), kind: Kind::Word(count) }
    }
}

/// The columns of a row, in their order.
///
/// ```
/// use online::{Feature, Schema};
///
/// let schema = Schema::new(vec![Feature::number("amount"), Feature::words("country", 3)])?;
/// assert!(schema.check(&[12.5, 2.0]).is_ok());
/// assert!(schema.check(&[f64::NAN, 0.0]).is_ok(), "a missing amount");
/// assert!(schema.check(&[12.5, 3.0]).is_err(), "no fourth country is declared");
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    features: Vec<Feature>,
}

impl Schema {
    /// One of these columns.
    ///
    /// # Errors
    /// [`Error::Range`] for no columns, more than [`FEATURES`], or a word feature without words or with more than [`WORDS`].
    pub fn new(features: Vec<Feature>) -> Result<Self> {
        let schema = Self { features };
        schema.check_self()?;
        Ok(schema)
    }

    /// Whether its columns can be: what [`new`](Self::new) refuses, a snapshot may still hold.
    pub(crate) fn check_self(&self) -> Result<()> {
        let count = self.features.len();
        if !(1..=FEATURES).contains(&count) {
            return Err(Error::Range {
                what: "the number of features",
                value: count as f64,
                range: "from 1 to 65,536",
            });
        }
        for feature in &self.features {
            if let Kind::Word(words) = feature.kind
                && !(1..=WORDS).contains(&words)
            {
                return Err(Error::Range {
                    what: "the number of words",
                    value: f64::from(words),
                    range: "from 1 to 2^20",
                });
            }
        }
        Ok(())
    }

    /// So many numbers, called `x0`, `x1`, …
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn numeric(count: usize) -> Result<Self> {
        Self::new((0..count.min(FEATURES + 1)).map(|n| Feature::number(format!("x{n}"))).collect())
    }

    /// The columns.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// How many there are.
    pub fn width(&self) -> usize {
        self.features.len()
    }

    /// Bytes that its columns and their names take.
    pub(crate) fn memory(&self) -> usize {
        self.features.iter().map(|feature| size_of::<Feature>() + feature.name.len()).sum()
    }

    /// Whether a row is as declared. O(width).
    ///
    /// # Errors
    /// [`Error::Width`], [`Error::Infinite`], [`Error::Word`].
    pub fn check(&self, row: &[f64]) -> Result<()> {
        if row.len() != self.width() {
            return Err(Error::Width { wanted: self.width(), found: row.len() });
        }
        for (index, (&value, feature)) in row.iter().zip(&self.features).enumerate() {
            if value.is_infinite() {
                return Err(Error::Infinite { index });
            }
            if let Kind::Word(words) = feature.kind
                && !value.is_nan()
                && !(value >= 0.0 && value < f64::from(words) && value.fract() == 0.0)
            {
                return Err(Error::Word { index, value, words });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_as_declared_or_an_error() {
        let word = Feature { name: "w".into(), kind: Kind::Word(2) };
        let schema = Schema::new(vec![Feature { name: "n".into(), kind: Kind::Numeric }, word]).unwrap();
        assert_eq!(schema.check(&[1e300, 1.0]), Ok(()));
        assert_eq!(schema.check(&[f64::NAN, f64::NAN]), Ok(()));
        assert_eq!(schema.check(&[]), Err(Error::Width { wanted: 2, found: 0 }));
        assert_eq!(schema.check(&[f64::NEG_INFINITY, 0.0]), Err(Error::Infinite { index: 0 }));
        for value in [-1.0, 0.5, 2.0] {
            assert_eq!(schema.check(&[0.0, value]), Err(Error::Word { index: 1, value, words: 2 }));
        }
    }

    #[test]
    fn no_schema_is_empty_or_endless() {
        assert!(Schema::numeric(0).is_err());
        assert!(Schema::numeric(FEATURES).is_ok());
        assert!(Schema::numeric(usize::MAX).is_err());
        for words in [0, WORDS + 1] {
            assert!(Schema::new(vec![Feature { name: "w".into(), kind: Kind::Word(words) }]).is_err());
        }
    }
}
