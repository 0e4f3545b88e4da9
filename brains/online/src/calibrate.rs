//! When a score is an alarm: so seldom in ordinary times, whatever the scores are, and whoever would like it otherwise.
//!
//! A scorer says how strange something is; a threshold that was right last month is wrong today. [`Calibrator`] moves
//! it with what is ordinary. Two things that seem right are not done, since each has a known end. Alarmed scores are
//! not left out: each threshold would then be lower than the one before, without end. And the rate of alarms is not
//! steered to its goal: under attack that lifts the threshold until the attack passes. What bounds an attacker
//! instead is how little one caller counts, and how little the threshold can move.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result, Snapshot,
    error::{finite, within},
};

mod recent;
mod reservoir;

use recent::Recent;
use reservoir::Reservoir;

/// Seconds of a day.
const DAY: f64 = 86_400.0;
/// Scores from one look at the reservoir to the next.
const STEP: u32 = 256;
/// How many times 1/α scores must be there before the threshold is their own and not the prior.
const OWN: f64 = 5.0;
/// How many times 1/α scores must be there before the threshold moves slowly: up to then it is mostly noise.
const MATURE: f64 = 20.0;
/// The most callers that were confirmed at a time; the first goes.
const CONFIRMED: usize = 1_024;
/// The greatest score.
const GREATEST: f64 = 1e100;

/// What a [`Calibrator`] aims at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The share α of ordinary scores that are alarms, from 0.00001 to 0.5. Default 0.01.
    pub alpha: f64,
    /// Scores that are kept, from 100 to 100,000. Default 10,000.
    pub capacity: u32,
    /// Seconds after which a score counts half. Default 7 days.
    pub half_life: f64,
    /// The greatest share of the weight that one caller has, where there are enough callers. Default 0.005.
    pub share: f64,
    /// The greatest share of the scores kept that are one caller's, where that is more than its share of the weight. Default
    /// 0.005; where there may be few callers more, since twenty of that share never have enough for a threshold between them.
    pub held: f64,
    /// By how much of itself the threshold moves in a day at the most, beside what is typical. Default 0.03, at most
    /// 0.2.
    pub movement: f64,
    /// What chance draws from.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { alpha: 0.01, capacity: 10_000, half_life: 7.0 * DAY, share: 0.005, held: 0.005, movement: 0.03, seed: 0 }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        within("alpha", self.alpha, (1e-5, 0.5), "from 0.00001 to 0.5")?;
        within("the capacity", f64::from(self.capacity), (100.0, 1e5), "from 100 to 100,000")?;
        within("the half-life", self.half_life, (1.0, 1e10), "from 1 second to 10^10")?;
        within("a caller's share", self.share, (1e-6, 1.0), "from 0.000001 to 1")?;
        within("the share of scores held", self.held, (1e-6, 1.0), "from 0.000001 to 1")?;
        within("the movement", self.movement, (0.0, 0.2), "from 0 to 0.2").map(|_| ())
    }
}

/// What to make of a score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// There is too little to compare it with: fewer than 1/α scores. Nothing may be done because of it.
    Observe,
    /// It is ordinary.
    Ordinary {
        /// The share of scores that are as great, an upper bound in steps of √2. All of what each caller said counts here,
        /// also what does not count towards the threshold.
        p: f64,
    },
    /// It is above the threshold.
    Alarm {
        /// As above.
        p: f64,
    },
}

/// A conformal threshold for the scores of callers (Laxhammar and Falkman, Annals of Mathematics and Artificial
/// Intelligence 2014; Bates et al., Annals of Statistics 2023), under drift (weights by age: Barber et al., Annals of
/// Statistics 2023).
///
/// Give it one score for each caller and span of time, say the greatest of a caller's minute, not one for each
/// request: the promise counts what is given. Scores are at least 0, and ratios of them mean something: of a score s
/// from 0 to 1, give −ln(1 − s).
///
/// - A score counts in units of what is **typical**, the mean of the middle (from 10 % to 60 %) of the last 250, so
///   that the threshold follows the day and slow drift at once. One caller has at most five of these, or its share.
/// - Units are kept in a **reservoir**, stratified by caller: each caller's scores by weighted chance, older ones
///   with less weight. When it is full, whoever has most of it loses one.
/// - A caller's **weight** is its scores' number, by age, but no more than the share; where there are fewer callers
///   than that needs, no more than twice an equal share.
/// - The **threshold** is the least value at which (n · weight above + 1) / (n + 1) ≤ α, with n the effective number of
///   scores, and moves slowly once n is 20/α (or half of the capacity). Of one caller's weight above no more counts than
///   α/50, or its highest score: nobody confirmed that the eight callers are hostile who alone are above a threshold, but
///   if all of what they say counted, nothing they say would be an alarm. So α is the share of alarms where ordinary
///   callers have some each; where a few ordinary ones have them all, those have more than α.
/// - Below n = 1/α every verdict is [`Verdict::Observe`]; below 5/α the prior decides, if there is one.
/// - Alarmed scores stay. When a person or an independent witness [`confirm`](Self::confirm)s a caller, all of its
///   scores go.
///
/// A verdict is O(log) without learning; with it, 3 to 6 µs amortised, since 10,000 values are sorted every 256
/// scores. At most 1.5 MB.
///
/// ```
/// use online::{Random, calibrate::{Calibrator, Settings, Verdict}};
///
/// let mut calibrator = Calibrator::new(Settings::default(), None)?;
/// let (mut random, mut alarms) = (Random::new(1), 0);
/// for minute in 0..20_000 {
///     let (caller, score) = (u64::from(random.below(500)), random.exponential());
///     let verdict = calibrator.observe(caller, score, 60.0 * f64::from(minute))?;
///     alarms += u32::from(matches!(verdict, Verdict::Alarm { .. }));
/// }
/// assert!((100..300).contains(&alarms), "200 would be one in a hundred: {alarms}");
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Calibrator {
    settings: Settings,
    prior: Option<f64>,
    reservoir: Reservoir,
    recent: Recent,
    confirmed: Vec<u64>,
    level: Option<Level>,
    now: Option<f64>,
    waiting: u32,
}

/// What the reservoir said last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Level {
    /// The threshold, in units of what is typical.
    threshold: f64,
    at: f64,
    /// The effective number of scores.
    number: f64,
    mature: bool,
    /// Values in units of what is typical, rising, and the share of ordinary scores that are as great.
    tail: Vec<(f64, f64)>,
}

impl Calibrator {
    /// One that has seen nothing. `prior` is a threshold in units of what is typical that holds elsewhere, for the time
    /// until there is an own one: [`relative`](Self::relative) of another calibrator, or a mean of several.
    ///
    /// # Errors
    /// [`Error::Range`] for a setting outside its range or a prior that is not positive.
    pub fn new(settings: Settings, prior: Option<f64>) -> Result<Self> {
        settings.check()?;
        if let Some(prior) = prior {
            within("the prior", prior, (f64::MIN_POSITIVE, GREATEST), "positive, and 1e100 at most")?;
        }
        Ok(Self {
            reservoir: Reservoir::new(&settings),
            recent: Recent::new(settings.share),
            confirmed: Vec::new(),
            level: None,
            now: None,
            waiting: 0,
            prior,
            settings,
        })
    }

    /// What to make of a score now, without learning it.
    ///
    /// # Errors
    /// [`Error::NotFinite`] and [`Error::Range`] for a score that is not from 0 to 1e100.
    pub fn judge(&self, score: f64) -> Result<Verdict> {
        let score = within("the score", finite("the score", score)?, (0.0, GREATEST), "from 0 to 1e100")?;
        let (Some(level), Some(threshold)) = (&self.level, self.relative()) else { return Ok(Verdict::Observe) };
        let units = score / self.recent.typical();
        let passed = level.tail.partition_point(|(value, _)| *value < units);
        let p = passed.checked_sub(1).and_then(|last| level.tail.get(last)).map_or(1.0, |(_, p)| *p);
        Ok(if units > threshold { Verdict::Alarm { p } } else { Verdict::Ordinary { p } })
    }

    /// Judges a score and then learns it. `now` is in seconds, from whenever.
    ///
    /// # Errors
    /// As [`judge`](Self::judge), and [`Error::NotFinite`] or [`Error::Time`] for a time that is no number or before
    /// an earlier one. It has not changed then.
    pub fn observe(&mut self, caller: u64, score: f64, now: f64) -> Result<Verdict> {
        let now = finite("the time", now)?;
        within("the time", now, (-1e15, 1e15), "of magnitude 10^15 at most")?;
        if let Some(before) = self.now.filter(|before| *before > now) {
            return Err(Error::Time { before, now });
        }
        let verdict = self.judge(score)?;
        self.now = Some(now);
        if self.confirmed.contains(&caller) {
            return Ok(verdict);
        }
        self.recent.add(caller, score, now);
        self.reservoir.add(caller, score / self.recent.typical(), now);
        self.waiting += 1;
        // While there are few, each eighth more is worth a look.
        if self.waiting >= STEP.min(self.reservoir.held() as u32 / 8 + 1) {
            self.waiting = 0;
            self.look(now);
        }
        Ok(verdict)
    }

    /// Looks at the reservoir, and moves the threshold towards what it says.
    fn look(&mut self, now: f64) {
        let Some(found) = self.reservoir.look(self.settings.alpha, now) else { return };
        let mut level =
            Level { threshold: found.threshold, at: now, number: found.number, mature: false, tail: found.tail };
        let enough = (MATURE / self.settings.alpha).min(f64::from(self.settings.capacity) / 2.0);
        level.mature = level.number >= enough;
        if let Some(before) = self.level.as_ref().filter(|before| before.mature) {
            let days = ((now - before.at) / DAY).clamp(0.0, 1.0);
            let factor = (1.0 + self.settings.movement).powf(days);
            level.threshold = level.threshold.clamp(before.threshold / factor, before.threshold * factor);
            level.mature = true;
        }
        self.level = Some(level);
    }

    /// The threshold now, as a score; `None` while there is too little to say.
    pub fn threshold(&self) -> Option<f64> {
        Some(self.relative()? * self.recent.typical())
    }

    /// The threshold in units of what is typical; `None` while there is too little to say.
    pub fn relative(&self) -> Option<f64> {
        let level = self.level.as_ref()?;
        let enough = level.number * self.settings.alpha;
        let prior = self.prior.filter(|_| enough < OWN);
        (enough >= 1.0).then(|| prior.unwrap_or(level.threshold))
    }

    /// What is typical now, as a score: the mean of the middle of the last 250; 1 before there is any.
    pub fn typical(&self) -> f64 {
        self.recent.typical()
    }

    /// The effective number of scores that the threshold stands on.
    pub fn number(&self) -> f64 {
        self.level.as_ref().map_or(0.0, |level| level.number)
    }

    /// Takes all scores of a caller out, and those to come: whoever says so must know better than the score does.
    /// Says how many went. At most 1,024 callers are confirmed at a time.
    pub fn confirm(&mut self, caller: u64) -> usize {
        self.release(caller);
        if self.confirmed.len() >= CONFIRMED {
            self.confirmed.remove(0);
        }
        self.confirmed.push(caller);
        self.recent.remove(caller);
        self.reservoir.remove(caller)
    }

    /// Counts a confirmed caller's scores again, from now on.
    pub fn release(&mut self, caller: u64) {
        self.confirmed.retain(|other| *other != caller);
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        let tail = self.level.as_ref().map_or(0, |level| level.tail.capacity() * size_of::<(f64, f64)>());
        let confirmed = self.confirmed.capacity() * size_of::<u64>();
        size_of::<Self>() + self.reservoir.memory() + self.recent.memory() + tail + confirmed
    }
}

impl Snapshot for Calibrator {
    const KIND: &'static str = "calibrator";
    const VERSION: u16 = 3;

    fn check(&self) -> Result<()> {
        self.settings.check()?;
        if !self.reservoir.sound(&self.settings) || !self.recent.sound(self.settings.share) {
            return Err(Error::Snapshot("has scores that do not fit its settings"));
        }
        let positive = |value: f64| value > 0.0 && value <= GREATEST;
        if !self.prior.is_none_or(positive)
            || self.confirmed.len() > CONFIRMED
            || self.now.is_some_and(|now| now.is_nan())
        {
            return Err(Error::Snapshot("has a prior that is not positive, or too many confirmed callers"));
        }
        match self.level.as_ref().is_none_or(Level::sound) {
            true => Ok(()),
            false => Err(Error::Snapshot("has a threshold that is no number")),
        }
    }
}

impl Level {
    fn sound(&self) -> bool {
        let tail = self.tail.iter().all(|(value, p)| *value >= 0.0 && (0.0..=1.0).contains(p));
        let numbers = [self.threshold, self.number].iter().all(|value| (0.0..f64::INFINITY).contains(value));
        tail && numbers
            && self.at.is_finite()
            && self.tail.len() <= reservoir::LEVELS
            && self.tail.is_sorted_by_key(|(value, _)| *value)
    }
}

#[cfg(test)]
mod tests;
