//! The nearest of the last rows, with their classes.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Kind, Result, Schema, Snapshot,
    error::within,
    learner::{Classifier, check_classes, check_example, check_question},
    moments::Moments,
};

/// The most neighbours that are asked.
const MOST: usize = 64;
/// Rows that are compared with one together.
const BLOCK: usize = 16;
/// Columns after which a block is left that is too far already.
const STEP: usize = 16;

/// How a [`Neighbours`] answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Neighbours asked. Default 10.
    pub neighbours: usize,
    /// Rows remembered. Default 1,000.
    pub window: usize,
    /// Bytes that they may take. Default 64 MiB.
    pub memory: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { neighbours: 10, window: 1_000, memory: 64 << 20 }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        within("neighbours", self.neighbours as f64, (1.0, MOST as f64), "from 1 to 64")?;
        within("window", self.window as f64, (1.0, 1e7), "from 1 to 10^7")?;
        Ok(())
    }
}

/// k nearest neighbours among the last rows (Cover and Hart 1967; over a window as in Losing, Hammer and Wersing 2016).
/// The distance is Euclidean over numbers in deviations of their column; two words are 0 or √2 apart, as two places of
/// which one is 1; a missing value is as far from others as a column's deviation. Each neighbour's vote is its weight,
/// and there is a tenth of a vote for every class.
///
/// Predict is O(window · columns), learn O(columns). 4 bytes for each remembered value. Rows are kept in blocks of
/// sixteen, so that as many distances are added up at once, each in the order of its columns.
///
/// ```
/// use online::{Classifier, Neighbours, Schema, neighbours::Settings};
///
/// let mut neighbours = Neighbours::new(Settings::default(), Schema::numeric(1)?, 2)?;
/// for n in 0..200 {
///     let x = f64::from(n % 10);
///     neighbours.learn(&[x], usize::from(x > 4.0), 1.0)?;
/// }
/// let mut probabilities = [0.0; 2];
/// neighbours.predict(&[9.0], &mut probabilities)?;
/// assert!(probabilities[1] > 0.9);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Neighbours {
    settings: Settings,
    schema: Schema,
    classes: usize,
    moments: Moments,
    /// Blocks of rows, each column by column, the place of the next row, and each one's class and weight.
    rows: Vec<f32>,
    next: usize,
    labels: Vec<(u32, f64)>,
}

/// The nearest so far, the furthest of them first.
struct Nearest {
    found: [(f32, usize); MOST],
    count: usize,
    wanted: usize,
}

impl Nearest {
    fn furthest(&self) -> f32 {
        if self.count < self.wanted { f32::INFINITY } else { self.found.first().map_or(0.0, |(distance, _)| *distance) }
    }

    /// Takes one in that is nearer than the furthest.
    fn add(&mut self, distance: f32, place: usize) {
        if self.count < self.wanted {
            self.found.copy_within(0..self.count, 1);
            self.count += 1;
        }
        // Its place is free at the front; those that are further come before it.
        let mut at = 0;
        while let Some(&behind) = self.found.get(at + 1)
            && at + 1 < self.count
            && behind.0 > distance
        {
            if let Some(here) = self.found.get_mut(at) {
                *here = behind;
            }
            at += 1;
        }
        if let Some(here) = self.found.get_mut(at) {
            *here = (distance, place);
        }
    }
}

impl Neighbours {
    /// One that remembers nothing.
    ///
    /// # Errors
    /// [`Error::Range`] names a setting, or the number of classes, that can't be; [`Error::Memory`].
    pub fn new(settings: Settings, schema: Schema, classes: usize) -> Result<Self> {
        settings.check()?;
        check_classes(classes)?;
        let rows = settings.window.next_multiple_of(BLOCK).saturating_mul(schema.width() * 4);
        let needed = settings.window.saturating_mul(size_of::<(u32, f64)>()).saturating_add(rows);
        if needed > settings.memory {
            return Err(Error::Memory { needed, allowed: settings.memory });
        }
        let moments = Moments::new(schema.width());
        Ok(Self { settings, schema, classes, moments, rows: Vec::new(), next: 0, labels: Vec::new() })
    }

    fn nearest(&self, row: &[f64]) -> Nearest {
        let mut nearest = Nearest { found: [(0.0, 0); MOST], count: 0, wanted: self.settings.neighbours };
        let block = self.schema.width() * BLOCK;
        for (number, block) in self.rows.chunks_exact(block).enumerate() {
            let furthest = nearest.furthest();
            let distances = self.distances(row, block.as_chunks().0, furthest);
            let places = (number * BLOCK..self.labels.len()).zip(distances);
            for (place, distance) in places {
                if distance < nearest.furthest() {
                    nearest.add(distance, place);
                }
            }
        }
        nearest
    }

    /// The squared distances of a block's rows, or something beyond `furthest` once all are beyond.
    fn distances(&self, row: &[f64], block: &[[f32; BLOCK]], furthest: f32) -> [f32; BLOCK] {
        let mut distances = [0.0; BLOCK];
        let parts = row.chunks(STEP).zip(block.chunks(STEP)).zip(self.schema.features().chunks(STEP));
        for (part, ((row, block), features)) in parts.enumerate() {
            for (column, ((value, known), feature)) in row.iter().zip(block).zip(features).enumerate() {
                let scale = self.moments.scale(part * STEP + column) as f32;
                match (single(*value), feature.kind) {
                    (value, _) if value.is_nan() => from_missing(&mut distances, known),
                    (value, Kind::Numeric) => from_number(&mut distances, known, value, scale),
                    (value, Kind::Word(_)) => from_word(&mut distances, known, value),
                }
            }
            if distances.iter().fold(true, |beyond, distance| beyond & (*distance > furthest)) {
                break;
            }
        }
        distances
    }
}

/// Adds how far a number is from those of a block's rows. Not inlined, as the two below it: else the compiler takes the
/// sums apart, and no longer adds four at once.
#[inline(never)]
fn from_number(distances: &mut [f32; BLOCK], known: &[f32; BLOCK], value: f32, scale: f32) {
    for (distance, known) in distances.iter_mut().zip(known) {
        let apart = if known.is_nan() { 1.0 } else { (value - known) * scale };
        *distance += apart * apart;
    }
}

/// Adds how far a word is from those of a block's rows.
#[inline(never)]
fn from_word(distances: &mut [f32; BLOCK], known: &[f32; BLOCK], value: f32) {
    for (distance, known) in distances.iter_mut().zip(known) {
        let other = if known.is_nan() { 1.0 } else { std::f32::consts::SQRT_2 };
        let apart = if value == *known { 0.0 } else { other };
        *distance += apart * apart;
    }
}

/// Adds how far a missing value is from those of a block's rows.
#[inline(never)]
fn from_missing(distances: &mut [f32; BLOCK], known: &[f32; BLOCK]) {
    for (distance, known) in distances.iter_mut().zip(known) {
        *distance += if known.is_nan() { 0.0 } else { 1.0 };
    }
}

/// A number in single precision, not beyond what that holds.
fn single(value: f64) -> f32 {
    value.clamp(-1e30, 1e30) as f32
}

/// What each class gets without a neighbour.
const PRIOR: f64 = 0.1;

impl Classifier for Neighbours {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn predict(&self, row: &[f64], probabilities: &mut [f64]) -> Result<()> {
        check_question(&self.schema, self.classes, row, probabilities.len())?;
        probabilities.fill(PRIOR);
        let nearest = self.nearest(row);
        for (_, place) in nearest.found.iter().take(nearest.count) {
            if let Some((class, weight)) = self.labels.get(*place)
                && let Some(votes) = probabilities.get_mut(*class as usize)
            {
                *votes += weight;
            }
        }
        crate::learner::normalise(probabilities);
        Ok(())
    }

    fn learn(&mut self, row: &[f64], class: usize, weight: f64) -> Result<()> {
        check_example(&self.schema, self.classes, row, class, weight)?;
        if weight == 0.0 {
            return Ok(());
        }
        self.moments.add(row, weight);
        let (label, block) = ((class as u32, weight), self.schema.width() * BLOCK);
        let mut place = self.labels.len();
        if place < self.settings.window {
            self.labels.push(label);
            self.rows.resize(place / BLOCK * block + block, 0.0);
        } else {
            place = self.next;
            self.next = (place + 1) % self.settings.window;
            if let Some(known) = self.labels.get_mut(place) {
                *known = label;
            }
        }
        let values = self.rows.iter_mut().skip(place / BLOCK * block + place % BLOCK).step_by(BLOCK);
        for (known, value) in values.zip(row) {
            *known = single(*value);
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        let labels = self.labels.len() * size_of::<(u32, f64)>();
        size_of::<Self>() + self.rows.len() * 4 + labels + self.moments.memory()
    }
}

impl Snapshot for Neighbours {
    const KIND: &'static str = "neighbours";
    const VERSION: u16 = 2;

    fn check(&self) -> Result<()> {
        self.schema.check_self()?;
        self.settings.check()?;
        check_classes(self.classes)?;
        let count = self.labels.len();
        let label =
            |(class, weight): &(u32, f64)| (*class as usize) < self.classes && weight.is_finite() && *weight > 0.0;
        let fits = count <= self.settings.window
            && self.rows.len() == count.next_multiple_of(BLOCK).saturating_mul(self.schema.width())
            && self.next < self.settings.window
            && (self.next == 0 || count == self.settings.window)
            && self.labels.iter().all(label)
            && self.moments.is_sound(self.schema.width())
            && self.rows.iter().all(|value| !value.is_infinite());
        if fits { Ok(()) } else { Err(Error::Snapshot("has rows that do not fit together")) }
    }
}
