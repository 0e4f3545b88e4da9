//! HDDM: means of errors that differ by more than Hoeffding's and McDiarmid's inequalities allow.

use serde::{Deserialize, Serialize};

use super::{Detector, Direction, State, probability, unit};
use crate::{Error, Result, Snapshot, error::within};

/// When an HDDM speaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The probability that a comparison of unchanged means is a drift. Default 0.001.
    pub drift: f64,
    /// The same for a warning. Default 0.005.
    pub warning: f64,
    /// Which changes count. Default: a mean that rises.
    pub direction: Direction,
}

impl Default for Settings {
    fn default() -> Self {
        Self { drift: 0.001, warning: 0.005, direction: Direction::Up }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        probability("the probability of a drift", self.drift)?;
        let warning = probability("the probability of a warning", self.warning)?;
        within("the probability of a warning", warning, (self.drift, 1.0), "at least that of a drift").map(|_| ())
    }

    /// The state, where `differs` says whether means differ at a probability.
    fn state(&self, differs: impl Fn(f64) -> bool) -> State {
        if differs(self.drift) {
            State::Drift
        } else if differs(self.warning) {
            State::Warning
        } else {
            State::Stable
        }
    }
}

/// A mean and of how many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Mean {
    count: u64,
    mean: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.count = self.count.saturating_add(1);
        self.mean = (self.mean + (value - self.mean) / self.count as f64).clamp(0.0, 1.0);
    }

    /// How far from its expectation it may be, by Hoeffding's inequality.
    fn bound(self, delta: f64) -> f64 {
        (delta.recip().ln() / (2.0 * self.count as f64)).sqrt()
    }

    fn sound(self) -> bool {
        (0.0..=1.0).contains(&self.mean)
    }
}

/// HDDM with the A-test of Frías-Blanco et al., "Online and non-parametric drift detection methods based on
/// Hoeffding's bounds" (IEEE TKDE 2015), over errors from 0 to 1: compares the mean since the last drift with that up
/// to the point where its upper bound was lowest (or its lower bound highest). Good at sudden changes of any size.
///
/// The bound holds for independent values and for one comparison; there is one after every value, so the rate of false
/// alarms per value is not that of the settings. O(1), 120 bytes.
///
/// ```
/// use online::drift::{Detector, HddmAverage, State, hddm::Settings};
///
/// let mut hddm = HddmAverage::new(Settings::default())?;
/// let errors = (0..2_000).map(|i| f64::from(u8::from(i % 10 < if i < 1_000 { 2 } else { 5 })));
/// let drifted = |(at, error)| (hddm.update(error) == Ok(State::Drift)).then_some(at);
/// let drifts: Vec<usize> = errors.enumerate().filter_map(drifted).collect();
/// assert!(matches!(drifts[..], [1_000..1_100]), "{drifts:?}");
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HddmAverage {
    settings: Settings,
    all: Mean,
    lowest: Mean,
    highest: Mean,
    drifted: bool,
}

impl HddmAverage {
    /// One that has seen nothing.
    ///
    /// # Errors
    /// [`Error::Range`] for probabilities that are not between 0 and 1, or greater for a drift than for a warning.
    pub fn new(settings: Settings) -> Result<Self> {
        settings.check()?;
        let [all, lowest, highest] = [Mean::default(); 3];
        Ok(Self { settings, all, lowest, highest, drifted: false })
    }

    /// Whether the mean of all is `rise` above that of a part of them, by more than chance does.
    fn differs(&self, part: Mean, rise: f64, delta: f64) -> bool {
        if part.count == self.all.count || part.count == 0 {
            return false;
        }
        let (all, part) = (self.all.count as f64, part.count as f64);
        let m = (all - part) / (all * part);
        rise >= (m / 2.0 * (2.0 / delta).ln()).sqrt()
    }
}

impl Detector for HddmAverage {
    fn update(&mut self, value: f64) -> Result<State> {
        let value = unit(value)?;
        if self.drifted {
            self.reset();
        }
        self.all.add(value);
        let (all, delta) = (self.all, self.settings.drift);
        if self.lowest.count == 0 || all.mean + all.bound(delta) <= self.lowest.mean + self.lowest.bound(delta) {
            self.lowest = all;
        }
        if self.highest.count == 0 || all.mean - all.bound(delta) >= self.highest.mean - self.highest.bound(delta) {
            self.highest = all;
        }
        let state = self.settings.state(|delta| {
            let direction = self.settings.direction;
            direction.up() && self.differs(self.lowest, all.mean - self.lowest.mean, delta)
                || direction.down() && self.differs(self.highest, self.highest.mean - all.mean, delta)
        });
        self.drifted = state == State::Drift;
        Ok(state)
    }

    fn reset(&mut self) {
        [self.all, self.lowest, self.highest] = [Mean::default(); 3];
        self.drifted = false;
    }

    fn memory(&self) -> usize {
        size_of::<Self>()
    }
}

impl Snapshot for HddmAverage {
    const KIND: &'static str = "drift hddm-average";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.settings.check()?;
        let parts = [self.lowest, self.highest];
        if !self.all.sound() || parts.iter().any(|part| !part.sound() || part.count > self.all.count) {
            return Err(Error::Snapshot("has means that are not of errors from 0 to 1"));
        }
        Ok(())
    }
}

/// An exponentially weighted mean and the sum of its squared weights; nothing before the first value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Weighted(Option<(f64, f64)>);

impl Weighted {
    fn add(&mut self, value: f64, share: f64) {
        let (mean, weights) = self.0.unwrap_or((value, 1.0));
        let left = 1.0 - share;
        let fresh = ((share * value + left * mean).clamp(0.0, 1.0), share * share + left * left * weights);
        self.0 = Some(if self.0.is_none() { (value, 1.0) } else { fresh });
    }

    fn sound(self) -> bool {
        self.0.is_none_or(|(mean, weights)| (0.0..=1.0).contains(&mean) && (0.0..=1.0).contains(&weights))
    }
}

/// How far a weighted mean may be from its expectation, by McDiarmid's inequality.
fn bound(weights: f64, delta: f64) -> f64 {
    (weights * delta.recip().ln() / 2.0).sqrt()
}

/// One side of the W-test: the mean where its bound was lowest, that bound, and the mean of what came since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Side {
    before: Weighted,
    cut: Option<f64>,
    since: Weighted,
}

impl Side {
    /// Takes a value in; `all` is the mean of all with it.
    fn add(&mut self, value: f64, share: f64, all: (f64, f64), delta: f64) {
        let upper = all.0 + bound(all.1, delta);
        if self.cut.is_none_or(|cut| upper < cut) {
            *self = Self { before: Weighted(Some(all)), cut: Some(upper), since: Weighted(None) };
        } else {
            self.since.add(value, share);
        }
    }

    /// Whether what came since is above what was before, by more than chance does.
    fn rose(&self, delta: f64) -> bool {
        let (Some(before), Some(since)) = (self.before.0, self.since.0) else { return false };
        since.0 - before.0 > bound(before.1 + since.1, delta)
    }

    fn sound(&self) -> bool {
        self.before.sound() && self.since.sound() && self.cut.is_none_or(|cut| cut.is_finite())
    }
}

/// HDDM with the W-test of the same paper, over errors from 0 to 1: compares exponentially weighted means before and
/// after the point where the upper bound was lowest. Good at slow changes; what is said of [`HddmAverage`]'s rate of
/// false alarms holds here too. Falling means are watched as rising means of 1 − error. O(1), 250 bytes.
///
/// ```
/// use online::drift::{Detector, HddmWeighted, State, hddm::Settings};
///
/// let mut hddm = HddmWeighted::new(Settings::default(), 0.05)?;
/// let errors = (0..2_000).map(|i| f64::from(u8::from(i % 10 < if i < 1_000 { 1 } else { 8 })));
/// let first = errors.enumerate().find(|(_, error)| hddm.update(*error) == Ok(State::Drift));
/// assert!(matches!(first, Some((1_000..1_050, _))), "{first:?}");
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HddmWeighted {
    settings: Settings,
    share: f64,
    all: Weighted,
    up: Side,
    down: Side,
    drifted: bool,
}

impl HddmWeighted {
    /// One that has seen nothing; `share` is the weight λ of a new value in a mean, 0.05 in the paper.
    ///
    /// # Errors
    /// As [`HddmAverage::new`], and for a share that is not between 0 and 1.
    pub fn new(settings: Settings, share: f64) -> Result<Self> {
        settings.check()?;
        let share = probability("the share of a new value", share)?;
        let (all, [up, down]) = (Weighted(None), [Side::default(); 2]);
        Ok(Self { settings, share, all, up, down, drifted: false })
    }
}

impl Detector for HddmWeighted {
    fn update(&mut self, value: f64) -> Result<State> {
        let value = unit(value)?;
        if self.drifted {
            self.reset();
        }
        self.all.add(value, self.share);
        let all = self.all.0.unwrap_or((value, 1.0));
        let delta = self.settings.drift;
        self.up.add(value, self.share, all, delta);
        self.down.add(1.0 - value, self.share, (1.0 - all.0, all.1), delta);
        let state = self.settings.state(|delta| {
            let direction = self.settings.direction;
            direction.up() && self.up.rose(delta) || direction.down() && self.down.rose(delta)
        });
        self.drifted = state == State::Drift;
        Ok(state)
    }

    fn reset(&mut self) {
        (self.all, self.drifted) = (Weighted(None), false);
        [self.up, self.down] = [Side::default(); 2];
    }

    fn memory(&self) -> usize {
        size_of::<Self>()
    }
}

impl Snapshot for HddmWeighted {
    const KIND: &'static str = "drift hddm-weighted";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.settings.check()?;
        probability("the share of a new value", self.share)?;
        match self.all.sound() && self.up.sound() && self.down.sound() {
            true => Ok(()),
            false => Err(Error::Snapshot("has means that are not of errors from 0 to 1")),
        }
    }
}
