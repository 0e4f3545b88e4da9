//! Simple rules that each say what comes: the experts that a forecast mixes.

use serde::{Deserialize, Serialize};

use super::profile::Profile;
use crate::{Error, Result};

/// How many there are: last, three means, Holt–Winters, the same time yesterday and a week ago, the last value times
/// yesterday's growth, the 15-minute mean times last week's growth.
pub(super) const EXPERTS: usize = 9;
/// Seconds over which the three means forget, and how many intervals at least.
const MEANS: [(f64, f64); 3] = [(60.0, 1.0), (300.0, 2.5), (900.0, 6.0)];
pub(super) const DAY: f64 = 86_400.0;
pub(super) const WEEK: f64 = 7.0 * DAY;
/// Seconds over which Holt–Winters' level forgets, and over which its trend is damped.
const LEVEL: (f64, f64) = (1_800.0, 3_600.0);
/// What part of a level's correction its trend takes.
const TREND: f64 = 0.1;
/// What part of an error a slot of the day takes, at least.
const SEASON: f64 = 0.1;
/// Growth beyond this many times is no growth.
const GROWTH: f64 = 10.0;

/// No point is farther from 0: a season that ran away must not end in infinity.
pub(super) const FARTHEST: f64 = 1e16;

/// The experts of one series. 4 bytes a slot of the week, 4 a slot of the day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Experts {
    last: f64,
    means: [f64; 3],
    alphas: [f64; 3],
    profile: Profile,
    /// Intervals of a day; 0 when it has fewer than two.
    day: f64,
    winters: Winters,
}

impl Experts {
    pub(super) fn new(interval: f64, slots: u16) -> Self {
        let alphas = MEANS.map(|(seconds, intervals)| 1.0 - (-interval / seconds.max(intervals * interval)).exp());
        let day = if interval * 2.0 <= DAY { DAY / interval } else { 0.0 };
        let profile = Profile::new((WEEK / interval).round() as u64, slots);
        let winters = Winters::new(interval, day / profile.per_slot() as f64, profile.per_slot() as f64);
        Self { last: f64::NAN, means: [f64::NAN; 3], alphas, profile, day, winters }
    }

    /// The mean of late; NaN before the first value.
    pub(super) fn level(&self) -> f64 {
        self.means[1]
    }

    /// The value of an interval, NaN for a missing one.
    pub(super) fn observe(&mut self, interval: u64, value: f64) {
        self.profile.observe(interval, value);
        if value.is_nan() {
            return;
        }
        self.last = value;
        for (mean, alpha) in self.means.iter_mut().zip(self.alphas) {
            *mean = if mean.is_nan() { value } else { *mean + alpha * (value - *mean) };
        }
        self.winters.observe(interval as f64 / self.profile.per_slot() as f64, value);
    }

    /// What each says about the interval that is so many after this one; NaN where it has nothing to say.
    pub(super) fn points(&self, interval: u64, ahead: u32) -> [f64; EXPERTS] {
        let (now, ahead) = (interval as f64, f64::from(ahead));
        let [short, middle, long] = self.means;
        let (mut day, mut week, mut daily, mut weekly) = (f64::NAN, f64::NAN, f64::NAN, f64::NAN);
        if self.day > 0.0 {
            let back = |period: f64| (ahead / period).ceil().max(1.0) * period;
            let (one, seven) = (back(self.day), back(self.day * 7.0));
            day = self.profile.at(now + ahead - one);
            week = self.profile.at(now + ahead - seven);
            daily = self.last * growth(self.profile.at(now - one), day);
            weekly = long * growth(self.profile.at(now - seven), week);
        }
        let winters = self.winters.point(
            now / self.profile.per_slot() as f64,
            (now + ahead) / self.profile.per_slot() as f64,
            ahead,
        );
        [self.last, short, middle, long, winters, day, week, daily, weekly]
            .map(|point| point.clamp(-FARTHEST, FARTHEST))
    }

    /// Whether it is what `new` makes, filled by values of at most `bound`.
    pub(super) fn check(&self, fresh: &Self, bound: f64) -> Result<()> {
        self.profile.check(&fresh.profile, bound)?;
        self.winters.check(&fresh.winters)?;
        let same = self.alphas == fresh.alphas && self.day == fresh.day;
        let values = self.means.iter().chain([&self.last]).all(|value| value.is_nan() || value.abs() <= bound);
        if same && values { Ok(()) } else { Err(Error::Snapshot("has experts that no values make")) }
    }
}

/// By how many times it grew; NaN where that says nothing.
fn growth(before: f64, after: f64) -> f64 {
    // Half of one is added to both: from 0 to 2 is no endless growth.
    let times = (after + 0.5) / (before + 0.5);
    if before >= 0.0 && after >= 0.0 { times.clamp(1.0 / GROWTH, GROWTH) } else { f64::NAN }
}

/// Additive Holt–Winters with a damped trend (Holt 1957, Winters 1960, Gardner and McKenzie 1985) on the inverse
/// hyperbolic sine of the value, so that season and trend multiply large values and add to small ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Winters {
    level: f64,
    trend: f64,
    season: Vec<f32>,
    /// What part of an error the level takes, what the trend keeps, and steps of a slot.
    alpha: f64,
    damping: f64,
    per_slot: f64,
}

impl Winters {
    fn new(interval: f64, slots: f64, per_slot: f64) -> Self {
        let season = if slots >= 2.0 { vec![0.0; slots.round() as usize] } else { Vec::new() };
        let alpha = 1.0 - (-interval / LEVEL.0.max(2.0 * interval)).exp();
        let damping = (-interval / LEVEL.1.max(interval)).exp();
        Self { level: f64::NAN, trend: 0.0, season, alpha, damping, per_slot }
    }

    /// The part of the day, in slots, that a place among all slots is in.
    fn place(&self, slot: f64) -> usize {
        (slot as u64 % self.season.len().max(1) as u64) as usize
    }

    fn season(&self, slot: f64) -> f64 {
        self.season.get(self.place(slot)).map_or(0.0, |season| f64::from(*season))
    }

    fn observe(&mut self, slot: f64, value: f64) {
        let value = value.asinh();
        if self.level.is_nan() {
            self.level = value;
        }
        let error = value - (self.level + self.damping * self.trend + self.season(slot));
        self.level += self.damping * self.trend + self.alpha * error;
        self.trend = self.damping * self.trend + TREND * self.alpha * error;
        let days = slot / self.season.len().max(1) as f64;
        let part = SEASON.max(1.0 / (days + 2.0)) / self.per_slot;
        let place = self.place(slot);
        if let Some(season) = self.season.get_mut(place) {
            *season = (f64::from(*season) + part * error).clamp(-50.0, 50.0) as f32;
        }
        (self.level, self.trend) = (self.level.clamp(-800.0, 800.0), self.trend.clamp(-10.0, 10.0));
    }

    fn point(&self, now: f64, then: f64, ahead: f64) -> f64 {
        if self.level.is_nan() {
            return f64::NAN;
        }
        // Σ φ^i for i = 1 … ahead.
        let grown = self.damping * (1.0 - self.damping.powf(ahead)) / (1.0 - self.damping).max(1e-9);
        let ahead = self.level + grown * self.trend + self.season(then);
        let bound = self.level.max(self.level + self.season(then) - self.season(now)).abs() + GROWTH.ln();
        ahead.clamp(-bound, bound).clamp(-700.0, 700.0).sinh()
    }

    fn check(&self, fresh: &Self) -> Result<()> {
        let same = self.season.len() == fresh.season.len()
            && (self.alpha, self.damping, self.per_slot) == (fresh.alpha, fresh.damping, fresh.per_slot);
        let level = self.level.is_nan() || self.level.abs() <= 800.0;
        let season = self.season.iter().all(|season| season.abs() <= 50.0);
        if same && level && season && self.trend.abs() <= 10.0 {
            Ok(())
        } else {
            Err(Error::Snapshot("has a season that no values give"))
        }
    }
}
