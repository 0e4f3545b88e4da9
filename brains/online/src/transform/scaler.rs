//! Like units for all numbers of a row.

use serde::{Deserialize, Serialize};

use super::{Transformer, check_row};
use crate::{Error, Kind, Result, Schema, Snapshot, anomaly, moments::Moments};

/// What numbers are measured by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// In deviations from the mean of all rows so far.
    #[default]
    Deviation,
    /// In distances between the 5 % and 95 % quantiles from the median of the last rows.
    Quantiles,
}

/// How a [`Scaler`] scales.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What numbers are measured by. Default [`By::Deviation`].
    pub by: By,
}

/// Scales numbers by what the stream has been so far, and leaves words and missing values as they are.
///
/// By deviation, a number becomes its distance from the mean in deviations (Welford 1962), and what is more than 8 of
/// them away counts as 8; a column without a spread becomes 0. By quantiles it is as
/// [`anomaly::Scaler`] says: a row counts once whatever its weight, and an outlier comes nearer by a logarithm.
/// The first forgets nothing and is exact; the second follows the stream and is not moved by a few wild rows.
///
/// Transform and learn are O(width); by quantiles learn is O(width · log) amortised. 32 bytes a column, or about 2 KB.
///
/// ```
/// use online::{Scaler, Schema, transform::{Transformer, scaler::Settings}};
///
/// let mut scaler = Scaler::new(Settings::default(), Schema::numeric(1)?, 7)?;
/// for n in 0..100 {
///     scaler.learn(&[f64::from(n % 2) * 1e6], 1.0)?;
/// }
/// let mut out = [0.0];
/// scaler.transform(&[1e6], &mut out)?;
/// assert_eq!(out, [1.0]);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaler {
    schema: Schema,
    scale: Scale,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Scale {
    Deviation(Moments),
    Quantiles(anomaly::Scaler),
}

impl Scaler {
    /// One that has learnt nothing: by deviation all numbers become 0 then, by quantiles they stay. The seed draws
    /// which rows quantiles are of.
    ///
    /// # Errors
    /// [`Error::Memory`] for quantiles of too many columns.
    pub fn new(settings: Settings, schema: Schema, seed: u64) -> Result<Self> {
        let scale = match settings.by {
            By::Deviation => Scale::Deviation(Moments::new(schema.width())),
            By::Quantiles => Scale::Quantiles(anomaly::Scaler::new(schema.width(), seed)?),
        };
        Ok(Self { schema, scale })
    }
}

impl Transformer for Scaler {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn output(&self) -> &Schema {
        &self.schema
    }

    fn transform(&self, row: &[f64], out: &mut [f64]) -> Result<()> {
        check_row(&self.schema, row, (self.schema.width(), out.len()))?;
        match &self.scale {
            Scale::Deviation(moments) => {
                for (column, (value, out)) in row.iter().zip(out.iter_mut()).enumerate() {
                    *out = moments.scaled(column, *value);
                }
            }
            Scale::Quantiles(scaler) => scaler.scale(row, out)?,
        }
        for ((value, feature), out) in row.iter().zip(self.schema.features()).zip(out) {
            if value.is_nan() || matches!(feature.kind, Kind::Word(_)) {
                *out = *value;
            }
        }
        Ok(())
    }

    fn learn(&mut self, row: &[f64], weight: f64) -> Result<()> {
        crate::error::weight(weight)?;
        self.schema.check(row)?;
        if weight == 0.0 {
            return Ok(());
        }
        match &mut self.scale {
            Scale::Deviation(moments) => moments.add(row, weight),
            Scale::Quantiles(scaler) => scaler.learn(row)?,
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        let scale = match &self.scale {
            Scale::Deviation(moments) => moments.memory(),
            Scale::Quantiles(scaler) => scaler.memory(),
        };
        size_of::<Self>() + self.schema.memory() + scale
    }
}

impl Snapshot for Scaler {
    const KIND: &'static str = "scaler";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.schema.check_self()?;
        let width = self.schema.width();
        let fits = match &self.scale {
            Scale::Deviation(moments) => moments.is_sound(width),
            Scale::Quantiles(scaler) => {
                scaler.check()?;
                scaler.width() == width
            }
        };
        if fits { Ok(()) } else { Err(Error::Snapshot("scales rows that are not of its schema")) }
    }
}
