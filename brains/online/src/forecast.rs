//! What load comes next, and how much at most: quantiles of a series some intervals ahead.
//!
//! One minute ahead nothing beats the last value; a day ahead, little beats yesterday. A scaler needs what is
//! between, and mostly the upper quantile: what rarely more than comes until new replicas are there. [`Forecast`]
//! mixes simple experts by how they did on just that.

mod experts;
mod horizon;
mod linear;
mod pid;
mod profile;

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result, Snapshot,
    error::{finite, within},
};
use experts::{EXPERTS, Experts};
use horizon::Horizon;

/// The quantiles that are forecast.
pub const LEVELS: [f64; 3] = [0.5, 0.9, 0.99];
/// The most horizons, and the longest of them in intervals.
const HORIZONS: (usize, u32) = (8, 10_080);
/// The largest value.
const BOUND: f64 = 1e15;
/// A burst is above this quantile of what comes one interval ahead, and lasts so many seconds.
const BURST: (f64, f64) = (0.999, 600.0);
/// Share of a new deviation in the mean one that bursts are measured by, and what an exception moves their quantile by.
const FRESH: (f64, f64) = (0.01, 0.5);

/// What a forecast is made with. [`Settings::every`] has the defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Seconds of an interval, 0.001 … 604,800.
    pub interval: f64,
    /// How many intervals ahead, 1 … 10,080 each, up to eight of them, each longer than the one before. Default: 1, 5,
    /// 15 and 60 minutes.
    pub horizons: Vec<u32>,
    /// Slots in which a week is remembered, 7 … 10,080. Default 1,008, of ten minutes each; 4 bytes each.
    pub slots: u16,
    /// How fast weights follow losses, in mean losses.
    pub rate: f64,
    /// What part of the weights is handed out evenly at each interval.
    pub share: f64,
    /// What an exception moves a voice's quantile by, in mean deviations.
    pub step: f64,
    /// How many times wider the upper quantiles are in a burst, 1 … 10. Default 1: deviations of late widen them
    /// already, and leave-one-trace-out found no use in more; whoever fears bursts more than idle replicas takes 1.2.
    pub widen: f64,
    /// No forecast is below this. Default 0: loads are counts.
    pub floor: f64,
}

impl Settings {
    /// The defaults for intervals of so many seconds. They were chosen by leave-one-trace-out:
    /// `examples/forecast_choice.txt` is the log, `examples/forecast_bench.rs --choose` makes it.
    pub fn every(interval: f64) -> Self {
        let ahead = |minutes: f64| (minutes * 60.0 / interval).ceil().clamp(1.0, f64::from(HORIZONS.1)) as u32;
        let mut horizons: Vec<u32> = [1.0, 5.0, 15.0, 60.0].map(ahead).to_vec();
        horizons.dedup();
        Self { interval, horizons, slots: 1_008, rate: 0.05, share: 0.002, step: 0.01, widen: 1.0, floor: 0.0 }
    }

    fn check(&self) -> Result<()> {
        within("the interval", self.interval, (1e-3, experts::WEEK), "from 0.001 to 604,800 seconds")?;
        let count = self.horizons.len() as f64;
        within("the number of horizons", count, (1.0, HORIZONS.0 as f64), "from 1 to 8")?;
        for ahead in &self.horizons {
            within("a horizon", f64::from(*ahead), (1.0, f64::from(HORIZONS.1)), "from 1 to 10,080 intervals")?;
        }
        for pair in self.horizons.windows(2) {
            let longer = f64::from(u8::from(matches!(pair, [a, b] if a < b)));
            within("whether horizons grow", longer, (1.0, 1.0), "each longer than the one before")?;
        }
        within("the number of slots", f64::from(self.slots), (7.0, 10_080.0), "from 7 to 10,080")?;
        within("the rate", self.rate, (1e-6, 100.0), "from 0.000001 to 100")?;
        within("the share", self.share, (0.0, 0.5), "from 0 to 0.5")?;
        within("the step", self.step, (1e-6, 1.0), "from 0.000001 to 1")?;
        within("the widening", self.widen, (1.0, 10.0), "from 1 to 10")?;
        within("the floor", self.floor, (-BOUND, BOUND), "from -10¹⁵ to 10¹⁵")?;
        Ok(())
    }
}

/// What will rarely be exceeded, some intervals ahead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantiles {
    /// As often above as below.
    pub median: f64,
    /// What nine of ten values stay below.
    pub high: f64,
    /// What 99 of 100 values stay below.
    pub highest: f64,
}

/// Forecasts one series.
///
/// Ten experts each say a point: the last value, means over 1, 5 and 15 minutes, Holt–Winters with a daily season, the
/// same time yesterday and a week ago, the last value times yesterday's growth, the 15-minute mean times last week's
/// growth, and a line through them that is fitted for each horizon by recursive least squares. What an expert leaves is
/// measured in two ways, as a share of the level and in deviations of late, and its 0.5, 0.9 and 0.99 quantiles are
/// tracked by steps of the pinball loss's gradient. These 20 voices are mixed by
/// [`FixedShare`](crate::share::FixedShare) on pinball loss (Herbster and Warmuth 1998), for each horizon and level
/// apart; conformal PID control (Angelopoulos, Candès and Tibshirani, NeurIPS 2023) keeps the mixture's promise. An
/// expert without enough history is silent, and so is one whose weight is below a twentieth of the largest.
///
/// A horizon of more than ten intervals keeps and learns from every second, third … forecast only, so that no more than
/// ten are under way: long horizons learn more slowly, and their 0.99 quantile needs some thousand intervals to settle.
///
/// A missing interval is given as NaN, or not at all: nothing is learnt from it. Whoever counts requests must not
/// give 0 where he could not count. After a value above the 0.999 quantile a burst is on for ten minutes; the
/// setting `widen` says what that does.
///
/// A step costs O(horizons · 60) exponentials, some 4 µs with four horizons; a forecast a tenth of that. After `new`
/// nothing is allocated. Memory: 4 bytes a slot of the week and of the day, some 1,800 a horizon, and 72 for each
/// forecast under way: below 16 KB with the defaults. The week bounds it: in slots of one minute it would be 36 KB
/// more.
///
/// ```
/// use online::forecast::{Forecast, Settings};
///
/// let mut forecast = Forecast::new(Settings::every(60.0))?;
/// for minute in 0..3_000 {
///     forecast.observe(f64::from(minute) * 60.0, 100.0 + f64::from(minute % 10))?;
/// }
/// let five_minutes = forecast.ahead(1)?;
/// assert!(five_minutes.median > 100.0 && five_minutes.highest < 120.0);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    settings: Settings,
    experts: Experts,
    horizons: Vec<Horizon>,
    /// The time of the first interval.
    first: Option<f64>,
    /// The latest interval, counted from the first.
    interval: u64,
    burst: Burst,
}

/// Notices that far more came than one interval before anybody thought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Burst {
    /// The mean deviation from the mean of late, and the quantile of deviations in multiples of it.
    deviation: f64,
    quantile: f64,
    /// The first interval that is no longer in the burst.
    until: u64,
}

impl Forecast {
    /// One that has seen nothing.
    ///
    /// # Errors
    /// [`Error::Range`] for settings out of their ranges.
    pub fn new(settings: Settings) -> Result<Self> {
        settings.check()?;
        let horizons = settings.horizons.iter().map(|ahead| Horizon::new(*ahead, &settings)).collect::<Result<_>>()?;
        let experts = Experts::new(settings.interval, settings.slots);
        let burst = Burst { deviation: 0.0, quantile: 5.0, until: 0 };
        Ok(Self { settings, experts, horizons, first: None, interval: 0, burst })
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether a burst is on.
    pub fn is_bursting(&self) -> bool {
        self.interval < self.burst.until
    }

    /// Takes in the value of an interval that is over, NaN for a missing one. `now` names the interval, say by its
    /// beginning; it is rounded to whole intervals since the first, and those left out are missing.
    ///
    /// # Errors
    /// [`Error::Range`] for a value that is infinite or beyond ±10¹⁵, [`Error::NotFinite`] for such a time,
    /// [`Error::Time`] for an interval that is not after the one before, [`Error::Range`] for one more than 10¹⁵
    /// intervals after the first. Then nothing has changed.
    pub fn observe(&mut self, now: f64, value: f64) -> Result<()> {
        finite("the time", now)?;
        if !value.is_nan() {
            within("the value", value, (-BOUND, BOUND), "from -10¹⁵ to 10¹⁵")?;
        }
        let interval = self.place(now)?;
        self.first.get_or_insert(now);
        self.interval = interval;
        if value.is_nan() {
            self.experts.observe(interval, value);
        } else {
            self.learn(value)?;
        }
        self.speak();
        Ok(())
    }

    /// The quantiles at the horizon with this number in the settings, from 0. All NaN before the first value.
    ///
    /// # Errors
    /// [`Error::Range`] for another number.
    pub fn ahead(&self, horizon: usize) -> Result<Quantiles> {
        let none = Error::Range { what: "the horizon", value: horizon as f64, range: "the number of a horizon" };
        let horizon = self.horizons.get(horizon).ok_or(none)?;
        let points = self.experts.points(self.interval, horizon.ahead());
        let [median, high, highest] = horizon.say(&points, self.experts.level(), self.widening(), self.settings.floor);
        Ok(Quantiles { median, high, highest })
    }

    fn place(&self, now: f64) -> Result<u64> {
        let Some(first) = self.first else { return Ok(0) };
        let place = ((now - first) / self.settings.interval).round();
        within("the number of intervals since the first", place, (-f64::MAX, 1e15), "at most 10¹⁵")?;
        let interval = place.max(0.0) as u64;
        if place < 0.0 || interval <= self.interval {
            let before = first + self.interval as f64 * self.settings.interval;
            return Err(Error::Time { before, now });
        }
        Ok(interval)
    }

    fn widening(&self) -> f64 {
        if self.is_bursting() { self.settings.widen } else { 1.0 }
    }

    fn learn(&mut self, value: f64) -> Result<()> {
        for horizon in &mut self.horizons {
            horizon.learn(self.interval, value, &self.settings)?;
        }
        self.burst.observe(value - self.experts.level(), self.interval, self.settings.interval);
        self.experts.observe(self.interval, value);
        Ok(())
    }

    fn speak(&mut self) {
        let (widening, mean, floor) = (self.widening(), self.experts.level(), self.settings.floor);
        for horizon in self.horizons.iter_mut().filter(|horizon| horizon.keeps(self.interval)) {
            let points: [f64; EXPERTS] = self.experts.points(self.interval, horizon.ahead());
            let said = horizon.say(&points, mean, widening, floor);
            horizon.keep(self.interval, &points, mean, said);
        }
    }
}

impl Burst {
    /// Takes in by how much a value was above the mean of late; NaN for the first.
    fn observe(&mut self, above: f64, interval: u64, seconds: f64) {
        if above.is_nan() {
            return;
        }
        if above > self.quantile * self.deviation && self.deviation > 0.0 {
            self.until = interval + (BURST.1 / seconds).ceil().clamp(1.0, 1e9) as u64;
        }
        let error = BURST.0 - f64::from(u8::from(above <= self.quantile * self.deviation));
        self.quantile = (self.quantile + FRESH.1 * error).clamp(0.0, 1e6);
        self.deviation += FRESH.0 * (above.abs() - self.deviation);
    }
}

impl Snapshot for Forecast {
    const KIND: &'static str = "forecast";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.settings.check().map_err(|_| Error::Snapshot("has settings out of range"))?;
        self.experts.check(&Experts::new(self.settings.interval, self.settings.slots), BOUND)?;
        if self.horizons.len() != self.settings.horizons.len() {
            return Err(Error::Snapshot("has other horizons than it says"));
        }
        for (horizon, ahead) in self.horizons.iter().zip(&self.settings.horizons) {
            horizon.check(&self.settings, *ahead, BOUND)?;
        }
        let burst = (0.0..=1e6).contains(&self.burst.quantile) && (0.0..=4.0 * BOUND).contains(&self.burst.deviation);
        let time = self.first.is_none_or(f64::is_finite) && self.interval <= 1_000_000_000_000_000;
        if burst && time { Ok(()) } else { Err(Error::Snapshot("has a time or a burst that is none")) }
    }
}

#[cfg(test)]
mod tests;
