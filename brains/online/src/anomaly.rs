//! Says how strange a row is, beside the rows before it.
//!
//! [`Ensemble`] is what to take: three scorers that fail on different data, [`HalfSpace`] by how crowded a region is,
//! [`Isolation`] by how soon a row is alone, [`Loda`] by how likely its projections are. Each of them wants rows in
//! like units: [`Scaled`] puts a [`Scaler`] before one. [`Series`] is for what is measured again and again: it looks
//! at what came just before, too.
//!
//! A score is a rank, not a probability. When to act on one is for [`calibrate`](crate::calibrate) to say.

use serde::{Deserialize, Serialize};

use crate::{Error, Result, Snapshot, schema::FEATURES};

pub mod ensemble;
pub mod half_space;
pub mod isolation;
pub mod loda;
pub mod scale;
pub mod series;

pub use ensemble::Ensemble;
pub use half_space::HalfSpace;
pub use isolation::Isolation;
pub use loda::Loda;
pub use scale::Scaler;
pub use series::Series;

/// Scores rows by how strange they are.
pub trait Scorer {
    /// How strange a row is, from 0 to 1. NaN stands for a missing value. 0 before enough was learnt to say.
    ///
    /// # Errors
    /// [`Error::Width`] and [`Error::Infinite`].
    fn score(&self, row: &[f64]) -> Result<f64>;

    /// Takes a row in as an ordinary one.
    ///
    /// # Errors
    /// As [`score`](Self::score). It has not changed then.
    fn learn(&mut self, row: &[f64]) -> Result<()>;

    /// Values of a row.
    fn width(&self) -> usize;

    /// Bytes that it takes.
    fn memory(&self) -> usize;
}

/// The most bytes that a scorer may take.
pub const MEMORY: usize = 256 << 20;

/// A row as it may come: of this width, and nothing infinite.
fn check(row: &[f64], width: usize) -> Result<()> {
    if row.len() != width {
        return Err(Error::Width { wanted: width, found: row.len() });
    }
    // All at once is faster than up to the first.
    if row.iter().fold(true, |finite, value| finite & !value.is_infinite()) {
        return Ok(());
    }
    Err(Error::Infinite { index: row.iter().position(|value| value.is_infinite()).unwrap_or(0) })
}

/// A width that there may be.
fn check_width(width: usize) -> Result<()> {
    match (1..=FEATURES).contains(&width) {
        true => Ok(()),
        false => Err(Error::Range { what: "the number of features", value: width as f64, range: "from 1 to 65,536" }),
    }
}

/// A setting that counts something.
fn check_count(what: &'static str, count: u32, (least, most): (u32, u32), range: &'static str) -> Result<()> {
    match (least..=most).contains(&count) {
        true => Ok(()),
        false => Err(Error::Range { what, value: f64::from(count), range }),
    }
}

/// Refuses a scorer that would grow to more than [`MEMORY`].
fn check_memory(needed: usize) -> Result<()> {
    if needed <= MEMORY { Ok(()) } else { Err(Error::Memory { needed, allowed: MEMORY }) }
}

/// Rows of up to this many values are scaled on the stack.
const SHORT: usize = 64;

/// Room for a scaled row: `score` takes `&self`, so it can't keep one, and must not allocate for rows of ordinary
/// width.
struct Room {
    short: [f64; SHORT],
    long: Vec<f64>,
}

impl Room {
    fn new(width: usize) -> Self {
        Self { short: [0.0; SHORT], long: if width > SHORT { vec![0.0; width] } else { Vec::new() } }
    }

    fn row(&mut self, width: usize) -> &mut [f64] {
        match self.short.get_mut(..width) {
            Some(short) => short,
            None => &mut self.long,
        }
    }
}

/// A scorer behind a [`Scaler`]: takes rows in any units.
///
/// Allocates only for rows of more than 64 values, one scaled row per call.
///
/// ```
/// use online::{Random, anomaly::{Isolation, Scaled, Scorer, isolation::Settings}};
///
/// let mut scorer = Scaled::new(Isolation::new(2, Settings::default())?)?;
/// let mut random = Random::new(1);
/// for _ in 0..2_000 {
///     scorer.learn(&[1e6 + random.normal(), 1e-6 * random.normal()])?;
/// }
/// assert!(scorer.score(&[1e6 + 6.0, 0.0])? > scorer.score(&[1e6, 0.0])?);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scaled<S> {
    scaler: Scaler,
    scorer: S,
    #[serde(skip)]
    row: Vec<f64>,
}

impl<S: Scorer> Scaled<S> {
    /// A scorer with a new scaler before it.
    ///
    /// # Errors
    /// As [`Scaler::new`].
    pub fn new(scorer: S) -> Result<Self> {
        Ok(Self { scaler: Scaler::new(scorer.width(), 0)?, scorer, row: Vec::new() })
    }
}

impl<S: Scorer> Scorer for Scaled<S> {
    fn score(&self, row: &[f64]) -> Result<f64> {
        let width = self.scaler.width();
        check(row, width)?;
        let mut room = Room::new(width);
        let scaled = room.row(width);
        self.scaler.scale(row, scaled)?;
        self.scorer.score(scaled)
    }

    fn learn(&mut self, row: &[f64]) -> Result<()> {
        self.scaler.learn(row)?;
        self.row.resize(self.scaler.width(), 0.0);
        self.scaler.scale(row, &mut self.row)?;
        self.scorer.learn(&self.row)
    }

    fn width(&self) -> usize {
        self.scaler.width()
    }

    fn memory(&self) -> usize {
        self.scaler.memory() + self.scorer.memory() + self.row.capacity() * size_of::<f64>()
    }
}

/// Snapshots of scaled scorers, each of a kind of its own.
macro_rules! scaled {
    ($($scorer:ty: $kind:literal, $version:literal);+) => {$(
        impl Snapshot for Scaled<$scorer> {
            const KIND: &'static str = $kind;
            const VERSION: u16 = $version;

            fn check(&self) -> Result<()> {
                self.scaler.check()?;
                self.scorer.check()?;
                match self.scaler.width() == self.scorer.width() {
                    true => Ok(()),
                    false => Err(Error::Snapshot("scales rows that are not as wide as its scorer's")),
                }
            }
        }
    )+};
}

scaled! {
    HalfSpace: "anomaly scaled half-space", 2;
    Isolation: "anomaly scaled isolation", 1;
    Loda: "anomaly scaled loda", 1
}

#[cfg(test)]
mod tests;
