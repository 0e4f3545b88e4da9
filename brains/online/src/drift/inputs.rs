//! Whether rows still come from where they came from: each column by itself, without labels.

use serde::{Deserialize, Serialize};

use super::{RowDetector, State, probability};
use crate::{Error, Kind, Random, Result, Schema, Snapshot, error::within};

mod column;
mod statistics;

use column::Column;

/// Columns that a report names.
const NAMED: usize = 3;

/// What [`Inputs`] compares, and when it speaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Rows of the reference, from 200 to 65,535. Default 2,000.
    pub reference: u32,
    /// Rows that are compared with it, from 100 to 65,535; as many go by between two tests. Default 500.
    pub window: u32,
    /// Rows of which one is taken, where rows near each other are alike. Default 1.
    pub stride: u32,
    /// The probability α that a test without a change alarms, at the most. Default 0.001.
    pub alpha: f64,
    /// The least population stability index of a column that counts. Default 0.1, "small" in credit scoring's rule of
    /// thumb.
    pub effect: f64,
    /// What chance draws from.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { reference: 2_000, window: 500, stride: 1, alpha: 0.001, effect: 0.1, seed: 0 }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        within("the reference", f64::from(self.reference), (200.0, 65_535.0), "from 200 to 65,535")?;
        within("the window", f64::from(self.window), (100.0, 65_535.0), "from 100 to 65,535")?;
        within("the stride", f64::from(self.stride), (1.0, 1e9), "from 1 to 10^9")?;
        within("the effect", self.effect, (0.0, 1e3), "from 0 to 1,000")?;
        probability("alpha", self.alpha).map(|_| ())
    }
}

/// A column that moved.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// Its place in the row.
    pub feature: usize,
    /// The evidence that it moved, an e-value: on average 1 at most without a change.
    pub evidence: f64,
    /// The population stability index: how far it moved.
    pub effect: f64,
}

/// What the last test found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Tests so far.
    pub tests: u64,
    /// The evidence of all columns whose effect is large enough, averaged over all columns; an alarm at 1/α.
    pub evidence: f64,
    /// The columns that moved most, most first; fewer than three where fewer moved.
    pub moved: [Option<Moved>; NAMED],
}

/// Compares the last rows with a reference, column by column, as often as the window is full of new ones: numbers by
/// the two-sample test of Kolmogorov and Smirnov, words by χ², and whether values are missing by χ² too. Each p-value
/// becomes an e-value by the calibrator (1 − p + p ln p) / (p ln² p) (Vovk and Wang, "E-values: calibration,
/// combination and applications", Annals of Statistics 2021, eq. 2), and e-values are averaged over columns: the mean
/// is an e-value however columns depend on each other, so no correction for many columns is needed.
///
/// With many rows a test sees shifts that do not matter. So a column counts only if its population stability index is
/// large enough, too; the others count as evidence 0, which keeps the mean an e-value.
///
/// The first rows are the reference, as 60 intervals with equally many of them for a number, a bin for each of
/// 64 words or hashes of words, and one for missing values. Of a larger stream, let a reservoir of rows go in by
/// [`refer`](Self::refer). p-values are asymptotic and, binned, too high rather than too low. They are of independent
/// rows: where rows come in runs, set a [`stride`](Settings::stride); a season is a change.
///
/// 50 ns for each value, and a few µs for each column and test; under 2 KB a column, and 8 KB until the reference is
/// full.
///
/// ```
/// use online::{Feature, Kind, Random, Schema, drift::{Inputs, RowDetector, State, inputs::Settings}};
///
/// let column = |name: &str, kind| Feature { name: name.into(), kind };
/// let schema = Schema::new(vec![column("amount", Kind::Numeric), column("country", Kind::Word(4))])?;
/// let mut inputs = Inputs::new(schema, Settings::default())?;
/// let mut random = Random::new(1);
/// for _ in 0..10_000 {
///     assert_eq!(inputs.update(&[random.normal(), f64::from(random.below(3))])?, State::Stable);
/// }
/// let mut row = || [random.normal(), f64::from(random.below(4))];
/// let drift = (0..1_000).find(|_| inputs.update(&row()) == Ok(State::Drift));
/// assert_eq!(drift, Some(499), "a fourth country, at the first test");
/// assert_eq!(inputs.report().moved[0].map(|moved| moved.feature), Some(1));
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Inputs {
    settings: Settings,
    schema: Schema,
    columns: Vec<Column>,
    /// Rows of the reference, as long as it fills; row by row.
    filling: Vec<f32>,
    referred: u32,
    offered: u64,
    /// The window's next place, and rows in it.
    next: u32,
    held: u32,
    /// Rows since the last test.
    fresh: u32,
    skipped: u32,
    report: Report,
    random: Random,
}

impl Inputs {
    /// One without a reference.
    ///
    /// # Errors
    /// [`Error::Range`] for a setting outside its range, [`Error::Memory`] for a reference of more than 2²⁶ values.
    pub fn new(schema: Schema, settings: Settings) -> Result<Self> {
        settings.check()?;
        let (width, cells) = (schema.width(), schema.width() * settings.reference.max(settings.window) as usize);
        if cells > 1 << 26 {
            return Err(Error::Memory { needed: cells * size_of::<f32>(), allowed: size_of::<f32>() << 26 });
        }
        let columns = schema.features().iter().map(|feature| Column::new(feature.kind, settings.window as usize));
        Ok(Self {
            columns: columns.collect(),
            filling: Vec::with_capacity(width * settings.reference as usize),
            referred: 0,
            offered: 0,
            next: 0,
            held: 0,
            fresh: 0,
            skipped: 0,
            report: Report::default(),
            random: Random::new(settings.seed),
            schema,
            settings,
        })
    }

    /// Offers a row to the reference alone, which is then a reservoir (Vitter, ACM TOMS 1985): each row offered has the
    /// same chance to be in it. [`settle`](Self::settle) ends that. Once the reference has ended it does nothing.
    ///
    /// # Errors
    /// As [`Schema::check`].
    pub fn refer(&mut self, row: &[f64]) -> Result<()> {
        self.schema.check(row)?;
        if self.is_settled() {
            return Ok(());
        }
        if self.filling.len() < self.filling_most() {
            self.filling.extend(row.iter().map(|value| stored(*value)));
            self.offered += 1;
            return Ok(());
        }
        self.offered = self.offered.saturating_add(1);
        let place = self.random.below(self.offered.min(u64::from(u32::MAX)) as u32) as usize;
        if let Some(old) = self.filling.chunks_exact_mut(row.len()).nth(place) {
            for (old, value) in old.iter_mut().zip(row) {
                *old = stored(*value);
            }
        }
        Ok(())
    }

    fn filling_most(&self) -> usize {
        self.schema.width() * self.settings.reference as usize
    }

    fn is_settled(&self) -> bool {
        self.referred == self.settings.reference
    }

    fn fill(&mut self, row: &[f64]) {
        if self.filling.len() < self.filling_most() {
            self.filling.extend(row.iter().map(|value| stored(*value)));
        }
        self.offered = self.offered.saturating_add(1);
        self.referred = (self.filling.len() / self.schema.width()) as u32;
    }

    /// Ends the reference with the rows that it has. Does nothing when it has none, or has ended.
    pub fn settle(&mut self) {
        let width = self.schema.width();
        if self.filling.is_empty() {
            return;
        }
        let mut values = Vec::with_capacity(self.filling.len() / width);
        for (place, column) in self.columns.iter_mut().enumerate() {
            values.clear();
            values.extend(self.filling.iter().skip(place).step_by(width));
            column.settle(&values);
        }
        self.filling = Vec::new();
        self.referred = self.settings.reference;
    }

    fn compare(&mut self, row: &[f64]) {
        let full = self.held == self.settings.window;
        for (column, value) in self.columns.iter_mut().zip(row) {
            column.compare(stored(*value), self.next as usize, full);
        }
        self.held = (self.held + 1).min(self.settings.window);
        self.next = (self.next + 1) % self.settings.window;
    }

    /// Compares the window with the reference now. Each test errs by itself: one more test is one more chance to err.
    fn test(&mut self) -> State {
        self.fresh = 0;
        let mut moved = [None; NAMED];
        let mut total = 0.0;
        for (feature, column) in self.columns.iter().enumerate() {
            let (evidence, effect) = column.test();
            if effect < self.settings.effect {
                continue;
            }
            total += evidence;
            name(&mut moved, Moved { feature, evidence, effect });
        }
        let evidence = (total / self.columns.len() as f64).min(f64::MAX);
        self.report = Report { tests: self.report.tests.saturating_add(1), evidence, moved };
        if evidence >= self.settings.alpha.recip() { State::Drift } else { State::Stable }
    }

    /// The columns.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// What the last test found.
    pub fn report(&self) -> &Report {
        &self.report
    }
}

/// A value as it is kept: near enough for a bin.
fn stored(value: f64) -> f32 {
    if value.is_nan() { f32::NAN } else { (value as f32).clamp(f32::MIN, f32::MAX) }
}

/// Puts a column among the named, most moved first.
fn name(named: &mut [Option<Moved>; NAMED], moved: Moved) {
    let less = |other: &Option<Moved>| other.is_none_or(|other| other.evidence < moved.evidence);
    if let Some(place) = named.iter().position(less) {
        named.get_mut(place..).into_iter().for_each(|rest| rest.rotate_right(1));
        if let Some(free) = named.get_mut(place) {
            *free = Some(moved);
        }
    }
}

impl RowDetector for Inputs {
    fn update(&mut self, row: &[f64]) -> Result<State> {
        self.schema.check(row)?;
        self.skipped += 1;
        if self.skipped < self.settings.stride {
            return Ok(State::Stable);
        }
        self.skipped = 0;
        if self.referred < self.settings.reference {
            self.fill(row);
            if self.referred == self.settings.reference {
                self.settle();
            }
            return Ok(State::Stable);
        }
        self.compare(row);
        self.fresh += 1;
        if self.fresh < self.settings.window {
            return Ok(State::Stable);
        }
        Ok(self.test())
    }

    fn reset(&mut self) {
        let columns = self.schema.features().iter();
        let window = self.settings.window as usize;
        self.columns = columns.map(|feature| Column::new(feature.kind, window)).collect();
        self.filling = Vec::with_capacity(self.filling_most());
        (self.referred, self.offered, self.next, self.held) = (0, 0, 0, 0);
        (self.fresh, self.skipped, self.report) = (0, 0, Report::default());
    }

    fn width(&self) -> usize {
        self.schema.width()
    }

    fn memory(&self) -> usize {
        let columns: usize = self.columns.iter().map(Column::memory).sum();
        size_of::<Self>() + columns + self.filling.capacity() * size_of::<f32>()
    }
}

impl Snapshot for Inputs {
    const KIND: &'static str = "drift inputs";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.settings.check()?;
        Schema::new(self.schema.features().to_vec())?;
        let width = self.schema.width();
        let filling = self.filling.len() <= self.filling_most() && self.filling.len().is_multiple_of(width);
        let counts = self.referred <= self.settings.reference
            && self.held <= self.settings.window
            && self.next < self.settings.window
            && self.fresh < self.settings.window
            && self.skipped < self.settings.stride;
        if self.columns.len() != width || !filling || !counts {
            return Err(Error::Snapshot("has rows that are not of its schema"));
        }
        let kinds = self.schema.features().iter().map(|feature| feature.kind);
        let window = (self.settings.window as usize, self.held as usize);
        match self.columns.iter().zip(kinds).all(|(column, kind)| column.sound(kind, window)) {
            true => Ok(()),
            false => Err(Error::Snapshot("has columns that are not of its schema")),
        }
    }
}

#[cfg(test)]
mod tests;
