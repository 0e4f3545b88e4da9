//! DDM: an error that is above the lowest it has been.

use serde::{Deserialize, Serialize};

use super::{Detector, State, unit};
use crate::{Error, Result, Snapshot, error::within};

/// When a [`Ddm`] speaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Values before anything is said. Default 30.
    pub warm_up: u64,
    /// Standard deviations above the lowest error for a warning. Default 2.
    pub warning: f64,
    /// Standard deviations above the lowest error for a drift. Default 3.
    pub drift: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { warm_up: 30, warning: 2.0, drift: 3.0 }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        within("the warning's deviations", self.warning, (0.0, 1e6), "from 0 to 1,000,000")?;
        within("the drift's deviations", self.drift, (self.warning, 1e6), "from the warning's to 1,000,000").map(|_| ())
    }
}

/// The drift detection method of Gama, Medas, Castillo and Rodrigues, "Learning with drift detection" (SBIA 2004), over
/// errors from 0 to 1. With p the mean error since the last drift and s = √(p (1 − p) / n), it remembers the p and s at
/// which p + s was least, and drifts when p + s is above p + 3 s of then.
///
/// A baseline, not a recommendation. The longer a stream is stable the deafer it is, and it tests after every value
/// without paying for it. One thing is not as published: nothing is remembered while there was no error at all, since
/// the first one would then be a drift. O(1), under 100 bytes.
///
/// ```
/// use online::drift::{Ddm, Detector, State, ddm::Settings};
///
/// let mut ddm = Ddm::new(Settings::default())?;
/// let (mut errors, mut drifts) = ((0..2_000).map(|i| i % 10 < if i < 1_000 { 1 } else { 4 }), 0);
/// for error in errors {
///     drifts += u32::from(ddm.update(f64::from(u8::from(error)))? == State::Drift);
/// }
/// assert_eq!(drifts, 1);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ddm {
    settings: Settings,
    seen: u64,
    error: f64,
    /// Error and its standard deviation when their sum was least.
    least: Option<(f64, f64)>,
    drifted: bool,
}

impl Ddm {
    /// One that has seen nothing.
    ///
    /// # Errors
    /// [`Error::Range`] for deviations that are negative, above 1,000,000, or fewer for a drift than for a warning.
    pub fn new(settings: Settings) -> Result<Self> {
        settings.check()?;
        Ok(Self { settings, seen: 0, error: 0.0, least: None, drifted: false })
    }

    /// The mean error since the last drift; 0 before any.
    pub fn mean(&self) -> f64 {
        self.error
    }
}

impl Detector for Ddm {
    fn update(&mut self, value: f64) -> Result<State> {
        let value = unit(value)?;
        if self.drifted {
            self.reset();
        }
        self.seen = self.seen.saturating_add(1);
        let n = self.seen as f64;
        self.error = (self.error + (value - self.error) / n).clamp(0.0, 1.0);
        if self.seen <= self.settings.warm_up || self.error == 0.0 {
            return Ok(State::Stable);
        }
        let spread = (self.error * (1.0 - self.error) / n).sqrt();
        let now = self.error + spread;
        let (least, deviation) = match self.least {
            Some((least, deviation)) if now > least + deviation => (least, deviation),
            _ => *self.least.insert((self.error, spread)),
        };
        self.drifted = now > least + self.settings.drift * deviation;
        Ok(match self.drifted {
            true => State::Drift,
            false if now > least + self.settings.warning * deviation => State::Warning,
            false => State::Stable,
        })
    }

    fn reset(&mut self) {
        (self.seen, self.error, self.least, self.drifted) = (0, 0.0, None, false);
    }

    fn memory(&self) -> usize {
        size_of::<Self>()
    }
}

impl Snapshot for Ddm {
    const KIND: &'static str = "drift ddm";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.settings.check()?;
        let (least, deviation) = self.least.unwrap_or_default();
        match [self.error, least, deviation].iter().all(|value| (0.0..=1.0).contains(value)) {
            true => Ok(()),
            false => Err(Error::Snapshot("has errors that are not from 0 to 1")),
        }
    }
}
