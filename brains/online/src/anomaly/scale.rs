//! Like units for all columns, of numbers that may have wild outliers.

use serde::{Deserialize, Serialize};

use super::{check, check_memory, check_width};
use crate::{Error, Random, Result, Snapshot};

/// Rows of the sample that quantiles are of: a quantile near the middle is then off by 3 % of the rows.
const SAMPLE: usize = 256;
/// Rows that the sample stands for: older ones are replaced by chance.
const HORIZON: u64 = 4_096;
/// Rows from one look at the sample to the next.
const STEP: u64 = 256;
/// Which quantiles bound the spread.
const LOW_HIGH: (f64, f64) = (0.05, 0.95);
/// The greatest magnitude of a scaled value.
const GREATEST: f64 = 64.0;

/// Scales each column by its median and the distance between its 5 % and 95 % quantiles, over a sample of 256 rows
/// that stands for the last 4,096 or so (a reservoir with replacement by chance; Aggarwal, VLDB 2006). What is more
/// than one such distance from the median is brought nearer by a logarithm, ± (1 + ln |z|), so that an outlier stays
/// one and does not drown the rest. A missing value becomes 0, the median.
///
/// A column whose quantiles are one number, such as a flag that is almost never set, is scaled by its mean distance
/// from the median; one that is constant, by 1. Until 8 rows were learnt nothing is scaled; quantiles are looked at
/// anew at 8, 16, 32, … rows and then every 256.
///
/// Scaling takes O(width), learning O(width) amortised, about 2 KB a column. Columns of words should be flags,
/// one for each word.
///
/// ```
/// use online::anomaly::Scaler;
///
/// let mut scaler = Scaler::new(1, 0)?;
/// for i in 0..1_000 {
///     scaler.learn(&[f64::from(i % 101)])?;
/// }
/// let mut scaled = [0.0];
/// scaler.scale(&[50.0], &mut scaled)?;
/// assert!(scaled[0].abs() < 0.1, "the median is 0");
/// scaler.scale(&[1e9], &mut scaled)?;
/// assert!(scaled[0] > 10.0 && scaled[0] < 20.0, "an outlier is far, but not for ever");
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaler {
    columns: Vec<Column>,
    /// Column by column: [`SAMPLE`] places each, of which the first `filled` hold values.
    sample: Vec<f64>,
    filled: usize,
    seen: u64,
    random: Random,
    #[serde(skip)]
    values: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Column {
    median: f64,
    /// One over the spread.
    scale: f64,
}

impl Scaler {
    /// One that has learnt nothing, for rows of this width.
    ///
    /// # Errors
    /// [`Error::Range`] for a width outside 1 to 65,536.
    pub fn new(width: usize, seed: u64) -> Result<Self> {
        check_width(width)?;
        check_memory(Self::needed(width))?;
        Ok(Self {
            columns: vec![Column { median: 0.0, scale: 1.0 }; width],
            sample: vec![f64::NAN; width * SAMPLE],
            filled: 0,
            seen: 0,
            random: Random::new(seed),
            values: Vec::new(),
        })
    }

    /// Bytes for rows of a width.
    pub(super) fn needed(width: usize) -> usize {
        width * (SAMPLE * size_of::<f64>() + size_of::<Column>())
    }

    /// Values of a row.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// Takes a row in.
    ///
    /// # Errors
    /// [`Error::Width`] and [`Error::Infinite`].
    pub fn learn(&mut self, row: &[f64]) -> Result<()> {
        check(row, self.width())?;
        self.seen = self.seen.saturating_add(1);
        if let Some(place) = self.place() {
            for (column, value) in self.sample.chunks_exact_mut(SAMPLE).zip(row) {
                if let Some(old) = column.get_mut(place) {
                    *old = *value;
                }
            }
        }
        if self.seen.is_multiple_of(STEP) || self.seen >= 8 && self.seen < STEP && self.seen.is_power_of_two() {
            self.look();
        }
        Ok(())
    }

    /// Where the next row goes in the sample, if anywhere.
    fn place(&mut self) -> Option<usize> {
        if self.filled < SAMPLE {
            self.filled += 1;
            return Some(self.filled - 1);
        }
        let share = SAMPLE as f64 / self.seen.min(HORIZON) as f64;
        (self.random.uniform() < share).then(|| self.random.below(SAMPLE as u32) as usize)
    }

    /// Looks at the sample's quantiles.
    fn look(&mut self) {
        let filled = self.filled;
        for (column, sample) in self.columns.iter_mut().zip(self.sample.chunks_exact(SAMPLE)) {
            self.values.clear();
            self.values.extend(sample.iter().take(filled).filter(|value| !value.is_nan()));
            if let Some(found) = Column::of(&mut self.values) {
                *column = found;
            }
        }
        self.values.clear();
    }

    /// Writes the scaled row.
    ///
    /// # Errors
    /// [`Error::Width`] for a row or a place for it of another width, and [`Error::Infinite`].
    pub fn scale(&self, row: &[f64], scaled: &mut [f64]) -> Result<()> {
        check(row, self.width())?;
        if scaled.len() != row.len() {
            return Err(Error::Width { wanted: row.len(), found: scaled.len() });
        }
        for ((scaled, value), column) in scaled.iter_mut().zip(row).zip(&self.columns) {
            *scaled = column.scaled(*value);
        }
        Ok(())
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + Self::needed(self.width()) + self.values.capacity() * size_of::<f64>()
    }
}

impl Column {
    /// Median and spread of values; nothing when there are none. They are put in another order. O(n).
    fn of(values: &mut [f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let place = |share: f64| (share * (n as f64 - 1.0)).round() as usize;
        let [low, middle, high] = [LOW_HIGH.0, 0.5, LOW_HIGH.1].map(place);
        // The others are above and below the median.
        let (below, median, above) = values.select_nth_unstable_by(middle, f64::total_cmp);
        let median = *median;
        let of = |part: &mut [f64], place| *part.select_nth_unstable_by(place, f64::total_cmp).1;
        let low = if low < middle { of(below, low) } else { median };
        let high = if high > middle { of(above, high - middle - 1) } else { median };
        let spread = high - low;
        let least = (median.abs() * 1e-12).max(1e-150);
        let spread = if spread > least { spread } else { Self::distance(values, median) };
        let spread = if spread > least { spread } else { least.max(1.0) };
        Some(Self { median, scale: spread.min(f64::MAX).recip() })
    }

    /// The mean distance of values from their median.
    fn distance(values: &[f64], median: f64) -> f64 {
        let n = values.len() as f64;
        // Half of each before the sum, lest it be infinite.
        values.iter().map(|value| (value / 2.0 - median / 2.0).abs() / n).sum::<f64>() * 2.0
    }

    fn scaled(self, value: f64) -> f64 {
        if value.is_nan() {
            return 0.0;
        }
        let z = (value - self.median) * self.scale;
        let far = z.abs();
        if far <= 1.0 { z } else { (1.0 + far.min(f64::MAX).ln()).min(GREATEST).copysign(z) }
    }

    fn sound(&self) -> bool {
        self.median.is_finite() && self.scale.is_finite() && self.scale > 0.0
    }
}

impl Snapshot for Scaler {
    const KIND: &'static str = "anomaly scaler";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        check_width(self.width())?;
        if self.sample.len() != self.width() * SAMPLE || self.filled > SAMPLE || (self.filled as u64) > self.seen {
            return Err(Error::Snapshot("has a sample that is not of its columns"));
        }
        match self.columns.iter().all(Column::sound) && !self.sample.iter().any(|value| value.is_infinite()) {
            true => Ok(()),
            false => Err(Error::Snapshot("has columns whose scale is no number")),
        }
    }
}
