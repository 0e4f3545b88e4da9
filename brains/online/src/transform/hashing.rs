//! All columns spread over fewer by a hash.

use serde::{Deserialize, Serialize};

use super::{Transformer, check_row};
use crate::{
    Error, Feature, Kind, Result, Schema, Snapshot,
    error::within,
    random::mixed,
    schema::{FEATURES, GREATEST},
};

/// How a [`Hashing`] spreads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// 2 to the power of this many columns go out, 1 to 16. Default 10: 1,024 columns.
    pub bits: u8,
    /// Says which columns meet. Default 0; where callers choose the words, one that they do not know.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { bits: 10, seed: 0 }
    }
}

/// Feature hashing: Weinberger and others, "Feature hashing for large scale multitask learning" (ICML 2009), eq. 3.
/// Each number's column, and each word of a column, is a place among 2ᵏ and a sign, both by a hash; a row is the sum
/// of its numbers and of 1 for each of its words there, times their signs. Signs make the product of two rows right
/// on average, however many meet in a place. A missing value adds nothing.
///
/// Numbers should be in like units first, as a [`Scaler`](super::Scaler) makes them. Nothing is learnt, so a word that
/// is new counts at once. Transform is O(width + 2ᵏ); only the names of columns take memory.
///
/// ```
/// use online::{Feature, Hashing, Schema, transform::{Transformer, hashing::Settings}};
///
/// let schema = Schema::new(vec![Feature::words("device", 1_000_000), Feature::number("amount")])?;
/// let hashing = Hashing::new(Settings { bits: 4, seed: 0 }, schema)?;
/// let mut out = [0.0; 16];
/// hashing.transform(&[123_456.0, 0.5], &mut out)?;
/// assert_eq!(out.iter().map(|value| value.abs()).sum::<f64>(), 1.5, "a word and half a unit");
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hashing {
    settings: Settings,
    schema: Schema,
    output: Schema,
}

impl Settings {
    fn output(&self) -> Result<Schema> {
        within("bits", f64::from(self.bits), (1.0, FEATURES.ilog2().into()), "from 1 to 16")?;
        Schema::new((0..1_usize << self.bits).map(|place| Feature::number(format!("hash {place}"))).collect())
    }
}

impl Hashing {
    /// One of these settings.
    ///
    /// # Errors
    /// [`Error::Range`] for bits that can't be.
    pub fn new(settings: Settings, schema: Schema) -> Result<Self> {
        let output = settings.output()?;
        Ok(Self { settings, schema, output })
    }

    /// Where a column's number, or one of its words, goes, and with which sign.
    fn place(&self, column: usize, word: Option<u32>) -> (usize, f64) {
        // Below 2¹⁶ columns and 2²⁰ words: no two keys are alike.
        let key = (column as u64) << 32 | word.map_or(0, |word| u64::from(word) + 1);
        let bits = mixed(mixed(self.settings.seed) ^ key);
        let sign = if bits >> 63 == 0 { 1.0 } else { -1.0 };
        ((bits & ((1 << self.settings.bits) - 1)) as usize, sign)
    }
}

impl Transformer for Hashing {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn output(&self) -> &Schema {
        &self.output
    }

    fn transform(&self, row: &[f64], out: &mut [f64]) -> Result<()> {
        check_row(&self.schema, row, (self.output.width(), out.len()))?;
        out.fill(0.0);
        for (column, (value, feature)) in row.iter().zip(self.schema.features()).enumerate() {
            let (word, added) = match feature.kind {
                _ if value.is_nan() => continue,
                Kind::Numeric => (None, value.clamp(-GREATEST, GREATEST)),
                Kind::Word(_) => (Some(*value as u32), 1.0),
            };
            let (place, sign) = self.place(column, word);
            if let Some(out) = out.get_mut(place) {
                *out += sign * added;
            }
        }
        Ok(())
    }

    fn learn(&mut self, row: &[f64], weight: f64) -> Result<()> {
        crate::error::weight(weight)?;
        self.schema.check(row)
    }

    fn memory(&self) -> usize {
        size_of::<Self>() + self.schema.memory() + self.output.memory()
    }
}

impl Snapshot for Hashing {
    const KIND: &'static str = "hashing";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.schema.check_self()?;
        // Names are only made where there are as many: bytes that say so must be there.
        let fits = 1_usize.checked_shl(self.settings.bits.into()) == Some(self.output.width());
        match fits && self.settings.output()? == self.output {
            true => Ok(()),
            false => Err(Error::Snapshot("has columns that do not fit its bits")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row and its places, both ways.
    fn hashed(hashing: &Hashing, row: &[f64]) -> Vec<f64> {
        let mut out = vec![f64::NAN; hashing.output().width()];
        hashing.transform(row, &mut out).unwrap();
        out
    }

    #[test]
    fn products_of_rows_are_kept_on_average() {
        let schema = Schema::new(vec![Feature::words("w", 1_000), Feature::number("n")]).unwrap();
        let (mut same, mut other) = (0.0, 0.0);
        for seed in 0..400 {
            let hashing = Hashing::new(Settings { bits: 3, seed }, schema.clone()).unwrap();
            let product = |a: [f64; 2], b: [f64; 2]| -> f64 {
                hashed(&hashing, &a).iter().zip(hashed(&hashing, &b)).map(|(a, b)| a * b).sum()
            };
            same += product([5.0, 2.0], [5.0, 3.0]) / 400.0;
            other += product([5.0, 2.0], [6.0, -3.0]) / 400.0;
        }
        // Four products meet with probability 1/8 each; their signs are even, so the error is about 2 · 3 / √(8 · 400).
        assert!((same - 7.0).abs() < 0.4 && (other + 6.0).abs() < 0.4, "{same} and {other}");
    }

    #[test]
    fn words_spread_evenly_and_signs_too() {
        let hashing = Hashing::new(Settings { bits: 6, seed: 3 }, Schema::numeric(1).unwrap()).unwrap();
        let (mut counts, mut signs) = ([0; 64], 0.0);
        for word in 0..64_000 {
            let (place, sign) = hashing.place(0, Some(word));
            counts[place] += 1;
            signs += sign;
        }
        // 1,000 each, with a deviation of 31; of signs, 253.
        assert!(
            counts.iter().all(|count| (860..1_140).contains(count)) && signs.abs() < 1_100.0,
            "{counts:?}, {signs}"
        );
    }

    #[test]
    fn bits_have_bounds() {
        for bits in [0, 17, 255] {
            let schema = Schema::numeric(1).unwrap();
            assert!(matches!(Hashing::new(Settings { bits, seed: 0 }, schema), Err(Error::Range { .. })));
        }
    }
}
