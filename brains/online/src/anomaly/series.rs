//! Strange moments of a series: beside its last values, its season, its rhythm and its shape.

use serde::{Deserialize, Serialize};

use super::{Ensemble, Room, Scaler, Scorer, check, check_count, check_memory, ensemble, ensemble::Ranks};
use crate::{Error, Result, Snapshot, error::within};

mod lags;
mod spectral;

use lags::Lags;

/// Values that are remembered of each channel: as many as the spectrum is of, and no fewer than the longest window.
const PAST: usize = 64;
/// Channels whose shape is looked at; that of the others would cost more than it says.
const SHAPED: usize = 8;
/// The most channels.
const CHANNELS: usize = 1_024;
/// The longest season: a week of minutes.
const SEASON: u32 = 10_080;
/// The weight of a new value in a level or in its place of the season.
const FRESH: f64 = 0.1;
/// The weight of the shape in the score. Of 0.5, 0.75 and 1, the middle one ranked best over series of four kinds.
const SHAPE: f64 = 0.75;
/// How far a value can move a level at once, in units of the scaler.
const CLIP: f64 = 1.0;

/// What a [`Series`] looks at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Values of a season, up to 10,080; 0 where there is none. Default 0.
    pub season: u32,
    /// Values whose shape is looked at, from 4 to 50. Default 32.
    pub window: u32,
    /// Of the ensemble over what is seen.
    pub ensemble: ensemble::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self { season: 0, window: 32, ensemble: ensemble::Settings::default() }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        check_count("the season", self.season, (0, SEASON), "from 0 to 10,080")?;
        check_count("the window", self.window, (4, 50), "from 4 to 50")
    }
}

/// Scores the values of a series, of one channel or several, as they come. Two scores are averaged,
/// the second with three times the weight of the first.
///
/// One is that of an [`Ensemble`] over numbers that describe the moment: of each channel the value, its difference
/// from the last, and how far it is from where it should be (its place in the season, or its level, both moved by no
/// more than a spread at a time); and once for all channels the spectral residual (Ren et al., "Time-series anomaly
/// detection service at Microsoft", KDD 2019) of their mean over 64 values.
///
/// The other is how far the last values are from the shapes there have been: the squared distance from their mean
/// along all principal components, each divided by its variance, of a sliding window of each of the first 8 channels.
/// That is what sliding PCA measures when all components are kept.
///
/// A missing value stands for the last one. A row is of the next moment each time: [`learn`](Scorer::learn) moves on,
/// [`score`](Scorer::score) asks about the moment that would be next. Some 12 µs for one channel, both together;
/// 350 KB and 60 KB a channel, and 8 bytes for each value of the season.
///
/// ```
/// use online::anomaly::{Scorer, Series, series::Settings};
///
/// let mut series = Series::new(1, Settings { season: 24, ..Settings::default() })?;
/// let value = |hour: u32| (f64::from(hour) * std::f64::consts::TAU / 24.0).sin() + f64::from(hour * 7919 % 100) / 1e3;
/// for hour in 0..2_000 {
///     series.learn(&[value(hour)])?;
/// }
/// let [usual, strange] = [value(2_000), value(2_012)].map(|value| series.score(&[value]));
/// assert!(strange? > usual? + 0.1, "night's value by day");
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Series {
    settings: Settings,
    scaler: Scaler,
    channels: Vec<Channel>,
    /// The mean over channels.
    mean: Past,
    shapes: Vec<Lags>,
    ensemble: Ensemble,
    ranks: Ranks,
    seen: u64,
}

/// The last values, twice in a row, so that they are always in one piece.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Past {
    values: Vec<f64>,
    next: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Channel {
    past: Past,
    level: f64,
    /// One value for each place of the season.
    profile: Vec<f64>,
}

impl Past {
    fn new() -> Self {
        Self { values: vec![0.0; 2 * PAST], next: 0 }
    }

    fn push(&mut self, value: f64) {
        for place in [self.next, self.next + PAST] {
            if let Some(old) = self.values.get_mut(place) {
                *old = value;
            }
        }
        self.next = (self.next + 1) % PAST;
    }

    /// The last values, the newest at the end.
    fn last(&self, number: usize) -> &[f64] {
        let end = self.next + PAST;
        self.values.get(end.saturating_sub(number)..end).unwrap_or_default()
    }

    fn newest(&self) -> f64 {
        self.last(1).first().copied().unwrap_or(0.0)
    }

    fn sound(&self) -> bool {
        self.values.len() == 2 * PAST && self.next < PAST && self.values.iter().all(|value| value.abs() <= 1e3)
    }
}

impl Channel {
    /// Where its next value should be.
    fn expected(&self, place: usize) -> f64 {
        self.profile.get(place).copied().unwrap_or(self.level)
    }

    fn learn(&mut self, value: f64, place: usize) {
        let move_by = |from: f64| FRESH * (value - from).clamp(-CLIP, CLIP);
        self.level += move_by(self.level);
        if let Some(expected) = self.profile.get_mut(place) {
            *expected += move_by(*expected);
        }
        self.past.push(value);
    }

    fn sound(&self, season: u32) -> bool {
        let levels = self.profile.iter().chain([&self.level]).all(|level| level.abs() <= 1e3);
        self.past.sound() && levels && self.profile.len() == season as usize
    }
}

/// Numbers that describe a moment of so many channels.
fn described(channels: usize) -> usize {
    3 * channels + 1
}

impl Series {
    /// One that has seen nothing, of so many channels.
    ///
    /// # Errors
    /// [`Error::Range`] for channels outside 1 to 1,024 or a setting outside its range, [`Error::Memory`] for more
    /// than can be allowed.
    pub fn new(channels: usize, settings: Settings) -> Result<Self> {
        within("the number of channels", channels as f64, (1.0, CHANNELS as f64), "from 1 to 1,024")?;
        settings.check()?;
        check_memory(channels * (settings.season as usize + 2 * PAST) * size_of::<f64>())?;
        let channel = Channel { past: Past::new(), level: 0.0, profile: vec![0.0; settings.season as usize] };
        Ok(Self {
            scaler: Scaler::new(channels, settings.ensemble.loda.seed)?,
            channels: vec![channel; channels],
            mean: Past::new(),
            shapes: vec![Lags::new(settings.window as usize); channels.min(SHAPED)],
            ensemble: Ensemble::new(described(channels), settings.ensemble.clone())?,
            ranks: Ranks::new(settings.ensemble.loda.seed),
            seen: 0,
            settings,
        })
    }

    /// The place in the season of the next moment.
    fn place(&self) -> usize {
        (self.seen % u64::from(self.settings.season.max(1))) as usize
    }

    /// Scales a row; a missing value becomes the last one.
    fn scaled(&self, row: &[f64], scaled: &mut [f64]) -> Result<()> {
        self.scaler.scale(row, scaled)?;
        for ((scaled, value), channel) in scaled.iter_mut().zip(row).zip(&self.channels) {
            if value.is_nan() {
                *scaled = channel.past.newest();
            }
        }
        Ok(())
    }

    /// Describes the next moment, if this were its scaled row.
    fn describe(&self, row: &[f64], described: &mut [f64]) {
        let place = self.place();
        for ((three, value), channel) in described.chunks_exact_mut(3).zip(row).zip(&self.channels) {
            let numbers = [*value, value - channel.past.newest(), value - channel.expected(place)];
            three.copy_from_slice(&numbers);
        }
        if let Some(last) = described.last_mut() {
            *last = spectral::residual(self.mean.last(PAST - 1), mean(row));
        }
    }

    /// How far the shapes would be from those there have been, from 0 to 1.
    fn shape(&self, row: &[f64]) -> f64 {
        let distance = |((shape, channel), value): ((&Lags, &Channel), &f64)| {
            shape.distance(channel.past.last(self.settings.window as usize - 1), *value)
        };
        let farthest = self.shapes.iter().zip(&self.channels).zip(row).map(distance).fold(0.0, f64::max);
        farthest / (1.0 + farthest)
    }

    fn combined(&self, moment: f64, shape: f64) -> f64 {
        SHAPE * self.ranks.rank(shape) + (1.0 - SHAPE) * moment
    }

    /// Scores a row and then learns it, for the price of learning.
    ///
    /// # Errors
    /// As [`learn`](Scorer::learn).
    pub fn score_and_learn(&mut self, row: &[f64]) -> Result<f64> {
        check(row, self.width())?;
        self.scaler.learn(row)?;
        let mut room = (Room::new(row.len()), Room::new(described(row.len())));
        let scaled = room.0.row(row.len());
        self.scaled(row, scaled)?;
        let numbers = room.1.row(described(scaled.len()));
        self.describe(scaled, numbers);
        let shape = self.shape(scaled);
        let moment = self.ensemble.score_and_learn(numbers)?;
        let score = self.combined(moment, shape);
        self.ranks.add(shape);
        self.move_on(scaled);
        Ok(score)
    }

    fn move_on(&mut self, row: &[f64]) {
        let (place, before) = (self.place(), self.settings.window as usize - 1);
        for ((shape, channel), value) in self.shapes.iter_mut().zip(&self.channels).zip(row) {
            // Before there are so many values, the window would be of zeros that never were.
            if self.seen >= before as u64 {
                shape.learn(channel.past.last(before), *value);
            }
        }
        for (channel, value) in self.channels.iter_mut().zip(row) {
            channel.learn(*value, place);
        }
        self.mean.push(mean(row));
        self.seen = self.seen.saturating_add(1);
    }
}

fn mean(row: &[f64]) -> f64 {
    row.iter().sum::<f64>() / row.len().max(1) as f64
}

impl Scorer for Series {
    fn score(&self, row: &[f64]) -> Result<f64> {
        check(row, self.width())?;
        let mut room = (Room::new(row.len()), Room::new(described(row.len())));
        let scaled = room.0.row(row.len());
        self.scaled(row, scaled)?;
        let numbers = room.1.row(described(scaled.len()));
        self.describe(scaled, numbers);
        Ok(self.combined(self.ensemble.score(numbers)?, self.shape(scaled)))
    }

    fn learn(&mut self, row: &[f64]) -> Result<()> {
        self.score_and_learn(row).map(|_| ())
    }

    fn width(&self) -> usize {
        self.channels.len()
    }

    fn memory(&self) -> usize {
        let channel = size_of::<Channel>() + (2 * PAST + self.settings.season as usize) * size_of::<f64>();
        let shapes = self.shapes.iter().map(Lags::memory).sum::<usize>();
        let parts = self.scaler.memory() + self.ensemble.memory() + self.ranks.memory() + shapes;
        size_of::<Self>() + parts + self.channels.len() * channel + 2 * PAST * size_of::<f64>()
    }
}

impl Snapshot for Series {
    const KIND: &'static str = "anomaly series";
    const VERSION: u16 = 2;

    fn check(&self) -> Result<()> {
        self.settings.check()?;
        self.scaler.check()?;
        self.ensemble.check()?;
        let channels = self.channels.len();
        if self.scaler.width() != channels || channels > CHANNELS || self.ensemble.width() != described(channels) {
            return Err(Error::Snapshot("has parts that do not fit together"));
        }
        let sound = self.channels.iter().all(|channel| channel.sound(self.settings.season)) && self.mean.sound();
        let shapes = self.shapes.iter().all(|shape| shape.sound(self.settings.window as usize));
        match sound && shapes && self.shapes.len() == channels.min(SHAPED) && self.ranks.sound() {
            true => Ok(()),
            false => Err(Error::Snapshot("has channels that are not of its settings")),
        }
    }
}
