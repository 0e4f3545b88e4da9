//! Page–Hinkley: values that stay on one side of their mean.

use serde::{Deserialize, Serialize};

use super::{Detector, Direction, State, number};
use crate::{Error, Result, Snapshot, error::within};

/// What a [`PageHinkley`] lets pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Values before anything is said. Default 30.
    pub warm_up: u64,
    /// How far from the mean a value may be, in the value's unit. Default 0.005.
    pub tolerance: f64,
    /// How far the sum may go, in the value's unit. Default 50.
    pub threshold: f64,
    /// What is left of the sum after each value. Default 0.9999.
    pub fading: f64,
    /// Which changes count. Default: both.
    pub direction: Direction,
}

impl Default for Settings {
    fn default() -> Self {
        Self { warm_up: 30, tolerance: 0.005, threshold: 50.0, fading: 0.9999, direction: Direction::Both }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        within("the tolerance", self.tolerance, (0.0, 1e100), "from 0 to 1e100")?;
        within("the threshold", self.threshold, (0.0, 1e100), "from 0 to 1e100")?;
        within("the fading", self.fading, (0.0, 1.0), "from 0 to 1").map(|_| ())
    }
}

/// The test of Page, "Continuous inspection schemes" (Biometrika 1954), in the form of Hinkley (Biometrika 1971) with
/// fading sums, over numbers of any range. It sums how far values are from their mean so far, less a tolerance, and
/// drifts when the sum is more than a threshold above the lowest that it was; for a mean that falls, the other way
/// round.
///
/// A baseline, not a recommendation: threshold and tolerance are in the unit of the values, and no rate of false alarms
/// follows from them. Says no [`State::Warning`]. O(1), 120 bytes.
///
/// ```
/// use online::drift::{Detector, PageHinkley, State, page_hinkley::Settings};
///
/// let mut test = PageHinkley::new(Settings::default())?;
/// let values = (0..2_000).map(|i| f64::from(i % 2) + if i < 1_000 { 0.0 } else { 5.0 });
/// let drifted = |(at, value)| (test.update(value) == Ok(State::Drift)).then_some(at);
/// let drifts: Vec<usize> = values.enumerate().filter_map(drifted).collect();
/// assert!(matches!(drifts[..], [1_000..1_020]), "{drifts:?}");
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PageHinkley {
    settings: Settings,
    seen: u64,
    mean: f64,
    rise: f64,
    lowest: f64,
    fall: f64,
    highest: f64,
    drifted: bool,
}

impl PageHinkley {
    /// One that has seen nothing.
    ///
    /// # Errors
    /// [`Error::Range`] for a tolerance or threshold that is negative or above 1e100, or a fading outside 0 to 1.
    pub fn new(settings: Settings) -> Result<Self> {
        settings.check()?;
        let nothing = 0.0;
        Ok(Self {
            settings,
            seen: 0,
            mean: nothing,
            rise: nothing,
            lowest: nothing,
            fall: nothing,
            highest: nothing,
            drifted: false,
        })
    }

    /// Mean since the last drift; 0 before any value.
    pub fn mean(&self) -> f64 {
        self.mean
    }
}

impl Detector for PageHinkley {
    fn update(&mut self, value: f64) -> Result<State> {
        let value = number(value)?;
        if self.drifted {
            self.reset();
        }
        self.seen = self.seen.saturating_add(1);
        self.mean += (value - self.mean) / self.seen as f64;
        let apart = value - self.mean;
        self.rise = self.settings.fading * self.rise + apart - self.settings.tolerance;
        self.fall = self.settings.fading * self.fall + apart + self.settings.tolerance;
        if self.seen == 1 {
            (self.lowest, self.highest) = (self.rise, self.fall);
        }
        self.lowest = self.lowest.min(self.rise);
        self.highest = self.highest.max(self.fall);
        let rose = self.settings.direction.up() && self.rise - self.lowest > self.settings.threshold;
        let fell = self.settings.direction.down() && self.highest - self.fall > self.settings.threshold;
        self.drifted = self.seen >= self.settings.warm_up && (rose || fell);
        Ok(if self.drifted { State::Drift } else { State::Stable })
    }

    fn reset(&mut self) {
        (self.seen, self.mean, self.drifted) = (0, 0.0, false);
        (self.rise, self.lowest, self.fall, self.highest) = (0.0, 0.0, 0.0, 0.0);
    }

    fn memory(&self) -> usize {
        size_of::<Self>()
    }
}

impl Snapshot for PageHinkley {
    const KIND: &'static str = "drift page-hinkley";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.settings.check()?;
        let sums = [self.mean, self.rise, self.lowest, self.fall, self.highest];
        match sums.iter().all(|sum| sum.abs() <= 1e200) {
            true => Ok(()),
            false => Err(Error::Snapshot("has sums that are no numbers")),
        }
    }
}
