//! Linear regression of a mean or of a quantile, by gradient steps that adapt to each place.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result, Schema, Snapshot,
    error::within,
    learner::{Regressor, check_pair},
    places::Places,
    spread::Spread,
    weights::{Weighted, check_places, check_weights},
};

/// What is estimated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Estimate {
    /// The mean: squared loss.
    #[default]
    Mean,
    /// The quantile at this level, above 0 and below 1: pinball loss.
    Quantile(f64),
}

/// How a [`Linear`] learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What is estimated. Default the mean.
    pub estimate: Estimate,
    /// Size of the steps, in deviations of the target. Default 0.1.
    pub rate: f64,
    /// Places for words; where there are more, several share one. Default 2¹⁸.
    pub places: u32,
    /// Bytes that the weights may take. Default 64 MiB.
    pub memory: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { estimate: Estimate::Mean, rate: 0.1, places: 1 << 18, memory: 64 << 20 }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        within("rate", self.rate, (1e-6, 10.0), "from 10^-6 to 10")?;
        within("places", f64::from(self.places), (1.0, f64::from(1_u32 << 28)), "from 1 to 2^28")?;
        if let Estimate::Quantile(level) = self.estimate {
            within("the quantile", level, (1e-6, 1.0 - 1e-6), "above 0 and below 1")?;
        }
        Ok(())
    }
}

/// Linear regression by AdaGrad (Duchi, Hazan and Singer, JMLR 2011), of the mean or of a quantile (Koenker and Bassett
/// 1978). Numbers are scaled by the mean and spread seen so far, and so is the target; a word is a place of its own.
///
/// Predict and learn are O(columns); 16 bytes for each place.
///
/// ```
/// use online::{Linear, Regressor, Schema, linear::Settings};
///
/// let mut linear = Linear::new(Settings::default(), Schema::numeric(1)?)?;
/// for n in 0..4_000 {
///     let x = f64::from(n % 10);
///     linear.learn(&[x], 3.0 * x + 1.0, 1.0)?;
/// }
/// assert!((linear.predict(&[5.0])? - 16.0).abs() < 1.0);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    settings: Settings,
    places: Places,
    target: Spread,
    /// By place: its weight, and the sum of its squared gradients.
    state: Vec<[f64; 2]>,
}

/// The steepest gradient, in deviations: one wild target must not throw it off.
const STEEPEST: f64 = 10.0;

impl Linear {
    /// One whose weights are all 0.
    ///
    /// # Errors
    /// [`Error::Range`] names a setting that can't be; [`Error::Memory`].
    pub fn new(settings: Settings, schema: Schema) -> Result<Self> {
        settings.check()?;
        let places = Places::new(schema, settings.places);
        let needed = places.count().saturating_mul(size_of::<[f64; 2]>());
        if needed > settings.memory {
            return Err(Error::Memory { needed, allowed: settings.memory });
        }
        let state = vec![[0.0; 2]; places.count()];
        Ok(Self { settings, places, target: Spread::default(), state })
    }

    /// What it says, in deviations of the target.
    fn scaled(&self, row: &[f64]) -> f64 {
        let mut sum = 0.0;
        self.places.visit(row, |place, value| {
            sum += value * self.state.get(place).map_or(0.0, |[weight, _]| *weight);
        });
        sum
    }

    /// Learns as [`learn`](Regressor::learn) does, but for means and spreads of columns and target, which stay: the
    /// weights of several that scale alike can be brought together ([`Weighted`]).
    ///
    /// # Errors
    /// As [`learn`](Regressor::learn).
    pub fn learn_held(&mut self, row: &[f64], target: f64, weight: f64) -> Result<()> {
        check_pair(self.schema(), row, target, weight)?;
        if weight > 0.0 {
            self.step(row, target, weight);
        }
        Ok(())
    }

    /// Takes a step by an example that was checked.
    fn step(&mut self, row: &[f64], target: f64, weight: f64) {
        let apart = self.scaled(row) - self.target.scaled(target);
        let slope = match self.settings.estimate {
            Estimate::Mean => apart.clamp(-STEEPEST, STEEPEST),
            Estimate::Quantile(level) if apart < 0.0 => -level,
            Estimate::Quantile(level) => 1.0 - level,
        };
        let (state, rate) = (&mut self.state, self.settings.rate);
        self.places.visit(row, |place, value| {
            if let Some([known, squares]) = state.get_mut(place) {
                let gradient = (slope * value * weight).clamp(-1e6, 1e6);
                *squares += gradient * gradient;
                if *squares > 0.0 {
                    *known -= rate * gradient / squares.sqrt();
                }
            }
        });
    }
}

impl Weighted for Linear {
    fn weight_count(&self) -> usize {
        self.state.len()
    }

    fn read_weights(&self, weights: &mut [f64]) -> Result<()> {
        check_places(self.state.len(), weights.len())?;
        weights.iter_mut().zip(&self.state).for_each(|(weight, [known, _])| *weight = *known);
        Ok(())
    }

    fn write_weights(&mut self, weights: &[f64]) -> Result<()> {
        check_weights(self.state.len(), weights)?;
        self.state.iter_mut().zip(weights).for_each(|([known, _], weight)| *known = *weight);
        Ok(())
    }
}

impl Regressor for Linear {
    fn schema(&self) -> &Schema {
        self.places.schema()
    }

    fn predict(&self, row: &[f64]) -> Result<f64> {
        self.schema().check(row)?;
        Ok(self.target.value(self.scaled(row)))
    }

    fn learn(&mut self, row: &[f64], target: f64, weight: f64) -> Result<()> {
        check_pair(self.schema(), row, target, weight)?;
        if weight == 0.0 {
            return Ok(());
        }
        self.places.learn(row, weight);
        self.target.add(target, weight);
        self.step(row, target, weight);
        Ok(())
    }

    fn memory(&self) -> usize {
        size_of::<Self>() + self.state.len() * size_of::<[f64; 2]>() + self.places.memory()
    }
}

impl Snapshot for Linear {
    const KIND: &'static str = "linear";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.settings.check()?;
        self.places.check(self.settings.places)?;
        let fits = self.state.len() == self.places.count() && self.target.is_sound();
        let finite = self.state.iter().all(|[weight, n]| weight.abs() < 1e100 && n.is_finite() && *n >= 0.0);
        if fits && finite { Ok(()) } else { Err(Error::Snapshot("has weights that do not fit its rows")) }
    }
}
