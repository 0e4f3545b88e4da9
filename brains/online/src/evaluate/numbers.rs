//! Regressors: how far off they are, beside what repeating the last label would be.

use serde::{Deserialize, Serialize};

use super::{Faded, Settings, recent::Recent};
use crate::{
    Error, Result, Snapshot,
    error::{finite, within},
    schema::GREATEST,
};

/// A judged row: the label minus the answer, and minus the label before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Row {
    off: f64,
    /// NaN of the first one.
    naive: f64,
}

/// Sums over rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Tally {
    rows: u64,
    sum: f64,
    absolute: f64,
    squares: f64,
    pinball: f64,
    naive: u64,
    naive_absolute: f64,
}

impl Tally {
    fn add(&mut self, row: &Row, level: f64) {
        self.rows += 1;
        self.sum += row.off;
        self.absolute += row.off.abs();
        self.squares += row.off * row.off;
        self.pinball += if row.off >= 0.0 { level * row.off } else { (level - 1.0) * row.off };
        if !row.naive.is_nan() {
            self.naive += 1;
            self.naive_absolute += row.naive.abs();
        }
    }

    fn figures(self) -> NumberFigures {
        let mean = |sum: f64, rows: u64| (rows > 0).then(|| sum / rows as f64);
        let (mae, naive) = (mean(self.absolute, self.rows), mean(self.naive_absolute, self.naive));
        NumberFigures {
            rows: self.rows,
            mae,
            rmse: mean(self.squares, self.rows).map(f64::sqrt),
            bias: mean(self.sum, self.rows),
            pinball: mean(self.pinball, self.rows),
            of_last: mae.zip(naive).and_then(|(ours, naive)| (naive > 0.0).then(|| ours / naive)),
        }
    }

    fn is_sound(self) -> bool {
        let sums = [self.sum, self.absolute, self.squares, self.pinball, self.naive_absolute];
        sums.iter().all(|sum| sum.is_finite()) && self.rows < 1 << 53 && self.naive <= self.rows
    }
}

/// How far off a regressor was over some rows; `None` where these rows can't say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NumberFigures {
    /// Rows with a label.
    pub rows: u64,
    /// Mean absolute error, in the label's unit.
    pub mae: Option<f64>,
    /// Root of the mean squared error, in the label's unit.
    pub rmse: Option<f64>,
    /// The mean of label − answer: above 0, the answers are too low.
    pub bias: Option<f64>,
    /// Mean pinball loss at the judge's level.
    pub pinball: Option<f64>,
    /// Mean absolute error in that of repeating the last label that came: below 1 there is something learnt.
    pub of_last: Option<f64>,
}

/// The figures of a regressor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NumberReport {
    /// Of all rows.
    pub since_start: NumberFigures,
    /// Of the last [`Settings::short`].
    pub short: NumberFigures,
    /// Of the last [`Settings::long`].
    pub long: NumberFigures,
    /// Mean absolute error in which a row counts half after [`Settings::half_life`] more.
    pub faded_mae: Option<f64>,
}

/// Judges a regressor by its answers and the labels that came later. A label costs O(1), a report O(window). Memory: 16
/// bytes a row of the long window.
///
/// ```
/// use online::evaluate::{Numbers, Settings};
///
/// let mut judge = Numbers::new(Settings::default(), 0.5)?;
/// judge.observe(10.0, 12.0)?;
/// judge.observe(10.0, 8.0)?;
/// let report = judge.report();
/// assert_eq!((report.since_start.mae, report.since_start.bias), (Some(2.0), Some(0.0)));
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    settings: Settings,
    level: f64,
    last: Option<f64>,
    all: Tally,
    recent: Recent<Row>,
    absolute: Faded,
}

impl Numbers {
    /// A judge whose pinball loss is at `level`: the quantile that answers are meant to be, 0.5 for a mean.
    ///
    /// # Errors
    /// [`Error::Range`] for a setting or a level that can't be.
    pub fn new(settings: Settings, level: f64) -> Result<Self> {
        settings.check()?;
        check_level(level)?;
        let (all, recent, absolute) = (Tally::default(), Recent::default(), Faded::default());
        Ok(Self { settings, level, last: None, all, recent, absolute })
    }

    /// One of the same kind that has seen nothing.
    ///
    /// # Errors
    /// As [`Numbers::new`].
    pub fn fresh(&self) -> Result<Self> {
        Self::new(self.settings.clone(), self.level)
    }

    /// Takes in what was answered, and the number that it was. Numbers beyond ±10¹⁰⁰ count as that.
    ///
    /// # Errors
    /// [`Error::NotFinite`]; then nothing has changed.
    pub fn observe(&mut self, answer: f64, label: f64) -> Result<()> {
        let answer = finite("the answer", answer)?.clamp(-GREATEST, GREATEST);
        let label = finite("the label", label)?.clamp(-GREATEST, GREATEST);
        let row = Row { off: label - answer, naive: self.last.map_or(f64::NAN, |last| label - last) };
        self.all.add(&row, self.level);
        self.absolute.add(row.off.abs(), self.settings.stays());
        self.recent.push(row, self.settings.long);
        self.last = Some(label);
        Ok(())
    }

    /// How far off it was.
    pub fn report(&self) -> NumberReport {
        let window = |rows: usize| {
            let mut tally = Tally::default();
            self.recent.last(rows).for_each(|row| tally.add(row, self.level));
            tally.figures()
        };
        NumberReport {
            since_start: self.all.figures(),
            short: window(self.settings.short),
            long: window(self.settings.long),
            faded_mae: self.absolute.mean(),
        }
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.recent.memory()
    }
}

fn check_level(level: f64) -> Result<f64> {
    within("level", level, (0.001, 0.999), "from 0.001 to 0.999")
}

impl Snapshot for Numbers {
    const KIND: &'static str = "evaluate numbers";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.settings.check()?;
        check_level(self.level)?;
        let sound = |row: &Row| row.off.is_finite() && !row.naive.is_infinite();
        let whole = self.last.is_none_or(f64::is_finite)
            && self.all.is_sound()
            && self.recent.is_sound(self.settings.long, sound)
            && self.absolute.is_sound();
        if whole { Ok(()) } else { Err(Error::Snapshot("has sums that are no numbers")) }
    }
}
