//! Strange moments of a series: beside its last values, its season, its rhythm and its shape.

use serde::{Deserialize, Serialize};

use super::{Ensemble, Room, Scaler, Scorer, check, check_count, check_memory, ensemble};
use crate::{Error, Result, Snapshot, error::within};

mod lags;
mod past;
mod shapes;
mod spectral;

use past::{PAST, Past};
use shapes::{Content, Shapes};

/// The most channels.
const CHANNELS: usize = 1_024;
/// The longest season: a week of minutes.
const SEASON: u32 = 10_080;
/// The weight of a new value in a level or in its place of the season.
const FRESH: f64 = 0.1;
/// The most paces, and the slowest.
const PACES: (usize, u32) = (6, 64);
/// How far a value can move a level at once, in units of the scaler.
const CLIP: f64 = 1.0;

/// What a [`Series`] looks at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Values of a season, up to 10,080; 0 where there is none. Default 0.
    pub season: u32,
    /// Values, or means of values, whose shape is looked at, from 4 to 50. Default 24.
    pub window: u32,
    /// Paces at which shapes are looked at: of each value, or of means of so many each. Up to 6 of them, from 1 to 64.
    /// Default 1, 2, 4 and 8.
    pub paces: Vec<u32>,
    /// How much the moment weighs beside the shapes, from 0 to 1. Default 0.1.
    pub moment: f64,
    /// Of the ensemble over what is seen.
    pub ensemble: ensemble::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self { season: 0, window: 24, paces: vec![1, 2, 4, 8], moment: 0.1, ensemble: ensemble::Settings::default() }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        check_count("the season", self.season, (0, SEASON), "from 0 to 10,080")?;
        check_count("the window", self.window, (4, 50), "from 4 to 50")?;
        check_count("the number of paces", self.paces.len() as u32, (1, PACES.0 as u32), "from 1 to 6")?;
        for pace in &self.paces {
            check_count("a pace", *pace, (1, PACES.1), "from 1 to 64")?;
        }
        within("the weight of the moment", self.moment, (0.0, 1.0), "from 0 to 1").map(|_| ())
    }
}

/// Scores the values of a series, of one channel or several, as they come, by two things.
///
/// One is an [`Ensemble`] over numbers that describe the moment: of each channel the value, its difference from the
/// last, and how far it is from where it should be (its place in the season, or its level, both moved by no more than a
/// spread at a time); and once for all channels the spectral residual (Ren et al., "Time-series anomaly detection
/// service at Microsoft", KDD 2019) of their mean over 64 values.
///
/// The other is how far the last values are from the shapes there have been: the squared distance d from their mean
/// along all principal components, each divided by its variance, of a sliding window of a channel. That is what sliding
/// PCA measures when all components are kept. It is looked at for the values and, at slower paces, for means of 2, 4 and
/// 8 of them, each time such a mean is complete: a window that is long enough for a slow change would otherwise have
/// more directions than there are values to learn them from. The mean of ln (1 + d) over paces counts, of the strangest
/// of the first 8 channels that hold numbers; flags, which have had no more than two values, have a shape only where
/// there is nothing else.
///
/// With the moment's score m and its weight w the score is 1 − exp (−w m − (1 − w) ln (1 + d)): for w = 0 and one pace
/// d / (1 + d). Window and paces were chosen by leaving out one kind of series after another
/// (evaluation/brains/choose-series.py); a weight of 0.1 is worth as much there as none, and finds what comes at the wrong
/// place of a season.
///
/// A missing value stands for the last one. A row is of the next moment each time: [`learn`](Scorer::learn) moves on,
/// [`score`](Scorer::score) asks about the moment that would be next. Some 12 µs for one channel, both together, and
/// 20 for eight; 350 KB and 70 KB a channel, and 8 bytes for each value of the season.
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
    shapes: Shapes,
    ensemble: Ensemble,
    seen: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Channel {
    content: Content,
    past: Past,
    level: f64,
    /// One value for each place of the season.
    profile: Vec<f64>,
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
        let shapes = Shapes::needed(channels, settings.window as usize, settings.paces.len());
        check_memory(shapes + channels * (settings.season as usize + 2 * PAST) * size_of::<f64>())?;
        let channel = Channel {
            content: Content::NOTHING,
            past: Past::new(),
            level: 0.0,
            profile: vec![0.0; settings.season as usize],
        };
        Ok(Self {
            scaler: Scaler::new(channels, settings.ensemble.loda.seed)?,
            channels: vec![channel; channels],
            mean: Past::new(),
            shapes: Shapes::new(channels, settings.window as usize, &settings.paces),
            ensemble: Ensemble::new(described(channels), settings.ensemble.clone())?,
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

    /// One from the moment's score and the shapes' strangeness, which has no upper bound.
    fn combined(&self, moment: f64, shapes: f64) -> f64 {
        let weight = self.settings.moment;
        1.0 - (-(weight * moment + (1.0 - weight) * shapes)).exp()
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
        let moment = self.ensemble.score_and_learn(numbers)?;
        let shapes = self.shapes.take(scaled);
        self.move_on(row, scaled);
        Ok(self.combined(moment, shapes))
    }

    fn move_on(&mut self, row: &[f64], scaled: &[f64]) {
        let place = self.place();
        for (at, (channel, (value, scaled))) in self.channels.iter_mut().zip(row.iter().zip(scaled)).enumerate() {
            channel.learn(*scaled, place);
            if channel.content.learn(*value) {
                self.shapes.number(at, self.settings.window as usize, &self.settings.paces);
            }
        }
        self.mean.push(mean(scaled));
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
        Ok(self.combined(self.ensemble.score(numbers)?, self.shapes.strangest(scaled)))
    }

    fn learn(&mut self, row: &[f64]) -> Result<()> {
        self.score_and_learn(row).map(|_| ())
    }

    fn width(&self) -> usize {
        self.channels.len()
    }

    fn memory(&self) -> usize {
        let channel = size_of::<Channel>() + (2 * PAST + self.settings.season as usize) * size_of::<f64>();
        let parts = self.scaler.memory() + self.ensemble.memory() + self.shapes.memory();
        size_of::<Self>() + parts + self.channels.len() * channel + 2 * PAST * size_of::<f64>()
    }
}

impl Snapshot for Series {
    const KIND: &'static str = "anomaly series";
    const VERSION: u16 = 3;

    fn check(&self) -> Result<()> {
        self.settings.check()?;
        self.scaler.check()?;
        self.ensemble.check()?;
        let channels = self.channels.len();
        if self.scaler.width() != channels || channels > CHANNELS || self.ensemble.width() != described(channels) {
            return Err(Error::Snapshot("has parts that do not fit together"));
        }
        let sound = self.channels.iter().all(|channel| channel.sound(self.settings.season)) && self.mean.sound();
        let shapes = self.shapes.sound(channels, self.settings.window as usize, &self.settings.paces);
        match sound && shapes {
            true => Ok(()),
            false => Err(Error::Snapshot("has channels that are not of its settings")),
        }
    }
}
