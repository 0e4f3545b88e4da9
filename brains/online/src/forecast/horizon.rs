//! One horizon: what was said about each interval ahead, how it came out, and what is said next.

use serde::{Deserialize, Serialize};

use super::{
    LEVELS, Settings,
    experts::{EXPERTS, FARTHEST},
    linear::Linear,
    pid::Pid,
};
use crate::{Error, Result, Snapshot, share::FixedShare};

/// Forecasts that wait for their value. With a longer horizon only every so many are looked at.
const WAITING: u32 = 10;
/// Each expert speaks twice: what it leaves is measured in levels, and in deviations of late. Both are needed: load is
/// noisier where it is high, and at some times noisier than at others.
const SCALES: usize = 2;
/// The experts and the line through them.
const POINTS: usize = EXPERTS + 1;
pub(super) const VOICES: usize = POINTS * SCALES;
/// Losses are counted in mean losses, up to so many.
const LARGEST: f64 = 30.0;
/// What part of the largest weight a voice must have to be heard.
const HEARD: f64 = 0.05;
/// Share of a new deviation in the mean one, and of a new loss in the mean one.
const FRESH: (f64, f64) = (0.01, 0.01);

/// Values until deviations are a measure.
const SETTLED: u64 = 30;

/// A forecast that waits for its value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Waiting {
    /// The interval it is about.
    interval: u64,
    points: [f32; POINTS],
    scales: [f32; SCALES],
    said: [f32; LEVELS.len()],
}

/// What one quantile knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Level {
    /// The quantile of what each voice leaves, in its scale.
    offsets: Vec<f64>,
    share: FixedShare,
    pid: Pid,
    /// The mean loss of the mixture.
    loss: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Horizon {
    ahead: u32,
    stride: u64,
    /// A ring: `interval / stride` modulo its length.
    waiting: Vec<Waiting>,
    levels: Vec<Level>,
    linear: Linear,
    /// The mean size of what each voice leaves, in its scale.
    spreads: Vec<f64>,
    /// The mean deviation of late from the shortest mean: from no forecast of its own, which it would feed on.
    deviation: f64,
    /// Values that it has learnt from.
    count: u64,
}

impl Horizon {
    pub(super) fn new(ahead: u32, settings: &Settings) -> Result<Self> {
        let level = || -> Result<Level> {
            let share = FixedShare::new(VOICES, settings.rate, settings.share)?;
            Ok(Level { offsets: vec![0.0; VOICES], share, pid: Pid::new(), loss: 0.0 })
        };
        let stride = u64::from(ahead.div_ceil(WAITING).max(1));
        let none = Waiting {
            interval: u64::MAX,
            points: [f32::NAN; POINTS],
            scales: [1.0; SCALES],
            said: [f32::NAN; LEVELS.len()],
        };
        // One more than are under way: the one that comes is put in before the one that is due is taken.
        let length = u64::from(ahead) / stride + 2;
        Ok(Self {
            ahead,
            stride,
            waiting: vec![none; length as usize],
            levels: LEVELS.iter().map(|_| level()).collect::<Result<_>>()?,
            linear: Linear::new(),
            spreads: vec![0.0; VOICES],
            deviation: 0.0,
            count: 0,
        })
    }

    pub(super) fn ahead(&self) -> u32 {
        self.ahead
    }

    /// Whether what is said at this interval is kept.
    pub(super) fn keeps(&self, interval: u64) -> bool {
        (interval + u64::from(self.ahead)).is_multiple_of(self.stride)
    }

    fn place(&self, interval: u64) -> usize {
        ((interval / self.stride) % self.waiting.len() as u64) as usize
    }

    /// The scales in which voices measure, for a mean of late.
    fn scales(&self, level: f64) -> [f64; SCALES] {
        let late = if self.count < SETTLED { f64::NAN } else { self.deviation };
        [level.abs() + 1.0, late + 0.05 * level.abs().sqrt() + 1e-3]
    }

    /// What the experts say, and the line through it.
    fn points(&self, points: &[f64; EXPERTS], mean: f64) -> [f64; POINTS] {
        let mut all = [f64::NAN; POINTS];
        all[..EXPERTS].copy_from_slice(points);
        all[EXPERTS] = self.linear.point(points, mean.abs() + 1.0);
        all
    }

    /// Each voice's quantile: its expert's point, and what it usually leaves.
    fn voices(offsets: &[f64], points: &[f64; POINTS], scales: &[f64; SCALES]) -> [f64; VOICES] {
        let mut voices = [f64::NAN; VOICES];
        for (place, (voice, offset)) in voices.iter_mut().zip(offsets).enumerate() {
            let (point, scale) = (points[place % POINTS], scales[place / POINTS]);
            *voice = point + offset * scale;
        }
        voices
    }

    /// What is said about the interval that is `ahead` of now, for each level; NaN while no expert speaks.
    pub(super) fn say(&self, points: &[f64; EXPERTS], mean: f64, widen: f64, floor: f64) -> [f64; LEVELS.len()] {
        let (scales, points) = (self.scales(mean), self.points(points, mean));
        let mut said = [f64::NAN; LEVELS.len()];
        for (said, level) in said.iter_mut().zip(&self.levels) {
            let mixed = level.mix(&Self::voices(&level.offsets, &points, &scales));
            *said = mixed + level.pid.correction() * self.deviation;
        }
        if said.iter().any(|said| said.is_nan()) {
            return [f64::NAN; LEVELS.len()];
        }
        let [median, high, highest] = said.map(|said| said.clamp(-FARTHEST, FARTHEST).max(floor));
        // In a burst what lies above the median is widened.
        let high = median + (high - median).max(0.0) * widen;
        [median, high, high.max(median + (highest - median) * widen)]
    }

    /// Keeps what is said at this interval until its value is known.
    pub(super) fn keep(&mut self, interval: u64, points: &[f64; EXPERTS], mean: f64, said: [f64; LEVELS.len()]) {
        let about = interval + u64::from(self.ahead);
        let scales = self.scales(mean).map(|scale| scale as f32);
        let points = self.points(points, mean);
        let kept = Waiting {
            interval: about,
            points: points.map(|point| point as f32),
            scales,
            said: said.map(|said| said as f32),
        };
        let place = self.place(about);
        if let Some(waiting) = self.waiting.get_mut(place) {
            *waiting = kept;
        }
    }

    /// Learns from the value of an interval, if something was said about it.
    pub(super) fn learn(&mut self, interval: u64, value: f64, settings: &Settings) -> Result<()> {
        let place = self.place(interval);
        let Some(waiting) = self.waiting.get(place).copied().filter(|waiting| waiting.interval == interval) else {
            return Ok(());
        };
        if waiting.said.iter().any(|said| said.is_nan()) {
            return Ok(());
        }
        let (points, scales) = (waiting.points.map(f64::from), waiting.scales.map(f64::from));
        self.count = self.count.saturating_add(1);
        self.spread(&points, &scales, value);
        // Fast at first, then at the pace that was set.
        let step = (settings.step * self.caution()).max(0.5 / (self.count as f64).sqrt());
        let (caution, spreads) = (self.caution(), &self.spreads);
        for ((level, said), share) in self.levels.iter_mut().zip(waiting.said).zip(LEVELS) {
            let voices = Self::voices(&level.offsets, &points, &scales);
            level.weigh(&voices, f64::from(said), value, share, self.count)?;
            for ((offset, voice), spread) in level.offsets.iter_mut().zip(voices).zip(spreads) {
                if !voice.is_nan() {
                    let error = share - f64::from(u8::from(value <= voice));
                    *offset = (*offset + step * spread * error).clamp(-1e6, 1e6);
                }
            }
            level.pid.observe(value > f64::from(said), share, caution, self.count);
        }
        let mut inputs = [f64::NAN; EXPERTS];
        inputs.copy_from_slice(&points[..EXPERTS]);
        self.linear.learn(&inputs, scales[0], value);
        let left = (value - points[1]).abs();
        self.deviation += FRESH.0.max(1.0 / self.count as f64) * (left - self.deviation);
        Ok(())
    }

    /// How far to go at a time: what is under way was said before this was known, and a controller that does not wait
    /// for what it did swings.
    fn caution(&self) -> f64 {
        1.0 / (1.0 + (u64::from(self.ahead) / self.stride).saturating_sub(1) as f64 / 3.0)
    }

    fn spread(&mut self, points: &[f64; POINTS], scales: &[f64; SCALES], value: f64) {
        let fresh = FRESH.1.max(1.0 / self.count as f64);
        for (place, spread) in self.spreads.iter_mut().enumerate() {
            let left = ((value - points[place % POINTS]) / scales[place / POINTS]).abs();
            if !left.is_nan() {
                // One that was silent so far begins with what it leaves first.
                let before = if *spread > 0.0 { *spread } else { left.min(1e6) };
                *spread = before + fresh * (left.min(1e6) - before);
            }
        }
    }

    pub(super) fn check(&self, settings: &Settings, ahead: u32, bound: f64) -> Result<()> {
        let fresh = Self::new(ahead, settings)?;
        let sizes = self.waiting.len() == fresh.waiting.len()
            && (self.ahead, self.stride) == (fresh.ahead, fresh.stride)
            && self.levels.len() == LEVELS.len()
            && self.spreads.len() == VOICES
            && self.levels.iter().all(|level| level.offsets.len() == VOICES && level.share.weights().len() == VOICES);
        if !sizes {
            return Err(Error::Snapshot("has a horizon of other sizes than it says"));
        }
        let small = |value: &f64| (-1e6..=1e6).contains(value);
        self.linear.check()?;
        for level in &self.levels {
            level.share.check()?;
            level.pid.check()?;
            if !level.share.has(settings.rate, settings.share) {
                return Err(Error::Snapshot("has weights of other settings"));
            }
            if !(level.offsets.iter().all(small) && level.loss.is_finite() && level.loss >= 0.0) {
                return Err(Error::Snapshot("has offsets that no values give"));
            }
        }
        let waiting = |waiting: &Waiting| {
            waiting.scales.iter().all(|scale| scale.is_nan() || (*scale > 0.0 && scale.is_finite()))
        };
        let spreads = self.spreads.iter().all(|spread| (0.0..=1e6).contains(spread));
        let deviation = (0.0..=bound * 1e3).contains(&self.deviation);
        let numbers = spreads && deviation && self.waiting.iter().all(waiting);
        if numbers { Ok(()) } else { Err(Error::Snapshot("has a horizon that no values give")) }
    }
}

impl Level {
    /// The mean of voices by weight, without those of little weight: what is handed out evenly lets nobody run away,
    /// but one that is far off would be heard. NaN while none speaks.
    fn mix(&self, voices: &[f64; VOICES]) -> f64 {
        let weights = self.share.weights();
        let spoken = || weights.iter().zip(voices).filter(|(_, voice)| !voice.is_nan());
        let most = spoken().map(|(weight, _)| *weight).fold(0.0, f64::max);
        let heard = spoken().filter(|(weight, _)| **weight >= most * HEARD);
        let (sum, all) = heard.fold((0.0, 0.0), |(sum, all), (weight, voice)| (sum + weight * voice, all + weight));
        sum / all
    }

    /// Moves weights towards the voices that lost least, in mean losses of what was said.
    fn weigh(&mut self, voices: &[f64; VOICES], said: f64, value: f64, share: f64, count: u64) -> Result<()> {
        self.loss += FRESH.1.max(1.0 / count as f64) * (pinball(said, value, share) - self.loss);
        let mean = self.loss.max(1e-9);
        let losses = voices
            .map(|voice| if voice.is_nan() { f64::NAN } else { (pinball(voice, value, share) / mean).min(LARGEST) });
        self.share.update(&losses)
    }
}

/// The pinball loss of a quantile (Koenker and Bassett, Econometrica 1978).
pub(super) fn pinball(quantile: f64, value: f64, share: f64) -> f64 {
    let left = value - quantile;
    if left >= 0.0 { share * left } else { (share - 1.0) * left }
}
