//! LODA: how likely a row's projections are.

use serde::{Deserialize, Serialize};

use super::{Scorer, check, check_count, check_memory, check_width};
use crate::{Error, Random, Result, Snapshot};

/// Bins between the tails.
const BINS: usize = 24;
/// How far from the mean the tails begin, in standard deviations: a bin is a third of one wide.
const REACH: f64 = 4.0;
/// Rows that the first range is found from.
const FIRST: u32 = 64;
/// What a bin without rows counts as.
const EMPTY: f64 = 0.5;
/// The least standard deviation, in units of scaled columns: a flag that was never set must not outweigh all else.
const LEAST: f64 = 1e-3;
/// The most that one projection can say, in nats.
const MOST: f64 = 20.0;
/// Where a score is ½, in nats: three standard deviations out, for normally distributed columns.
const MIDDLE: f64 = 3.0;

/// The size of a [`Loda`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Projections, from 1 to 1,024. Default 100.
    pub projections: u32,
    /// Rows in a histogram, from 128 to 65,535. Default 512.
    pub window: u32,
    /// What projections are drawn from.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { projections: 100, window: 512, seed: 0 }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        check_count("the number of projections", self.projections, (1, 1_024), "from 1 to 1,024")?;
        check_count("the window", self.window, (2 * FIRST, 65_535), "from 128 to 65,535")
    }
}

/// LODA of Pevný, "Loda: lightweight on-line detector of anomalies" (Machine Learning 2016): √width columns at a time,
/// with normally distributed weights, are summed to one number, whose histogram says how likely it is. The score grows
/// with the mean of −ln density over projections.
///
/// As there, a histogram is of the last whole window, while the next one fills; unlike there its bins are of equal
/// width around the mean of the window before, and its tails fall off exponentially, so that what is far out is told
/// from what is farther out. Projections of a column whose value is missing are left out. Rows should be
/// [`Scaled`](super::Scaled).
///
/// Scoring and learning take O(projections · √width), 1 µs each at 10 columns. About 35 KB, and 8 bytes for each
/// projection and √width.
///
/// ```
/// use online::{Random, anomaly::{Loda, Scorer, loda::Settings}};
///
/// let mut loda = Loda::new(3, Settings::default())?;
/// let mut random = Random::new(1);
/// for _ in 0..1_100 {
///     loda.learn(&[random.normal(), random.normal(), random.normal()])?;
/// }
/// let [usual, strange] = [[0.0, 0.0, 0.0], [6.0, f64::NAN, -6.0]].map(|row| loda.score(&row));
/// assert!(strange? > usual? + 0.1);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Loda {
    settings: Settings,
    width: usize,
    /// √width of them for each projection.
    terms: Vec<Term>,
    histograms: Vec<Histogram>,
    /// Rows in the window that fills.
    filled: u32,
    ready: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Term {
    column: u32,
    weight: f32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Histogram {
    /// Where the bins are, and −ln density in them, of the last whole window.
    range: Range,
    surprise: [f32; BINS],
    tails: [f32; 2],
    /// The window that fills.
    filling: Range,
    counts: [u32; BINS],
    tail_counts: [u32; 2],
    count: u32,
    mean: f64,
    squares: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Range {
    mean: f64,
    deviation: f64,
}

/// Where in a histogram a value is.
enum Place {
    Bin(usize),
    /// Which tail, and how many deviations from where it begins.
    Tail(usize, f64),
}

impl Range {
    fn place(self, value: f64) -> Place {
        let z = (value - self.mean) / self.deviation;
        let bin = (z + REACH) * (BINS as f64 / (2.0 * REACH));
        if bin < 0.0 {
            Place::Tail(0, -REACH - z)
        } else if bin >= BINS as f64 {
            Place::Tail(1, z - REACH)
        } else {
            Place::Bin(bin as usize)
        }
    }

    fn sound(self) -> bool {
        self.mean.abs() <= 1e150 && (LEAST..=1e300).contains(&self.deviation)
    }
}

impl Histogram {
    fn new() -> Self {
        let range = Range { mean: 0.0, deviation: 1.0 };
        Self {
            range,
            surprise: [0.0; BINS],
            tails: [0.0; 2],
            filling: range,
            counts: [0; BINS],
            tail_counts: [0; 2],
            count: 0,
            mean: 0.0,
            squares: 0.0,
        }
    }

    fn surprise(&self, value: f64) -> f64 {
        match self.range.place(value) {
            Place::Bin(bin) => self.surprise.get(bin).map_or(0.0, |surprise| f64::from(*surprise)),
            Place::Tail(side, beyond) => {
                let surprise = self.tails.get(side).map_or(0.0, |surprise| f64::from(*surprise));
                (surprise + beyond).min(MOST)
            }
        }
    }

    fn add(&mut self, value: f64) {
        self.count += 1;
        let apart = value - self.mean;
        self.mean += apart / f64::from(self.count);
        self.squares += apart * (value - self.mean);
        let count = match self.filling.place(value) {
            Place::Bin(bin) => self.counts.get_mut(bin),
            Place::Tail(side, _) => self.tail_counts.get_mut(side),
        };
        if let Some(count) = count {
            *count += 1;
        }
    }

    /// Begins to fill, with the range of what was seen.
    fn begin(&mut self) {
        if self.count > 1 {
            let deviation = (self.squares / f64::from(self.count)).sqrt().max(LEAST);
            self.filling = Range { mean: self.mean, deviation };
        }
        (self.counts, self.tail_counts) = ([0; BINS], [0; 2]);
        (self.count, self.mean, self.squares) = (0, 0.0, 0.0);
    }

    /// Takes what was filled as the histogram that is asked.
    fn take(&mut self) {
        let counted = self.counts.iter().chain(&self.tail_counts).sum::<u32>();
        if counted == 0 {
            return;
        }
        let total = f64::from(counted) + EMPTY * (BINS + 2) as f64;
        let bin_width = 2.0 * REACH / BINS as f64;
        let surprise = |count: u32, width: f64| -((f64::from(count) + EMPTY) / (total * width)).ln() as f32;
        self.range = self.filling;
        self.surprise = self.counts.map(|count| surprise(count, bin_width));
        self.tails = self.tail_counts.map(|count| surprise(count, 1.0));
    }

    fn sound(&self) -> bool {
        let said = self.surprise.iter().chain(&self.tails).all(|surprise| surprise.abs() <= MOST as f32);
        let counts = self.counts.iter().chain(&self.tail_counts).all(|count| *count <= self.count);
        let moments = self.mean.abs() <= 1e150 && (0.0..=1e300).contains(&self.squares);
        said && counts && moments && self.range.sound() && self.filling.sound()
    }
}

impl Loda {
    /// One that has learnt nothing, for rows of this width.
    ///
    /// # Errors
    /// [`Error::Range`] for a width or setting outside its range.
    pub fn new(width: usize, settings: Settings) -> Result<Self> {
        check_width(width)?;
        settings.check()?;
        let projections = settings.projections as usize;
        check_memory(projections * (Self::terms(width) * size_of::<Term>() + size_of::<Histogram>()))?;
        let mut random = Random::new(settings.seed);
        let term = |_| Term { column: random.below(width as u32), weight: random.normal() as f32 };
        Ok(Self {
            width,
            terms: (0..projections * Self::terms(width)).map(term).collect(),
            histograms: vec![Histogram::new(); projections],
            filled: 0,
            ready: false,
            settings,
        })
    }

    /// Columns of a projection.
    fn terms(width: usize) -> usize {
        (width as f64).sqrt().ceil() as usize
    }
}

/// The sum of a projection; NaN when a value of it is missing.
fn project(terms: &[Term], row: &[f64]) -> f64 {
    let term = |term: &Term| row.get(term.column as usize).map_or(0.0, |value| f64::from(term.weight) * clamp(*value));
    terms.iter().map(term).sum()
}

/// Scaled values are far smaller; others must not make sums infinite.
fn clamp(value: f64) -> f64 {
    value.clamp(-1e100, 1e100)
}

impl Scorer for Loda {
    fn score(&self, row: &[f64]) -> Result<f64> {
        check(row, self.width)?;
        if !self.ready {
            return Ok(0.0);
        }
        let (mut total, mut count) = (0.0, 0.0);
        for (terms, histogram) in self.terms.chunks_exact(Self::terms(self.width)).zip(&self.histograms) {
            let value = project(terms, row);
            if !value.is_nan() {
                total += histogram.surprise(value);
                count += 1.0;
            }
        }
        // Of a row whose values are all missing nothing can be said, least of all that it is strange.
        Ok(if count > 0.0 { 1.0 / (1.0 + (MIDDLE - total / count).exp()) } else { 0.0 })
    }

    fn learn(&mut self, row: &[f64]) -> Result<()> {
        check(row, self.width)?;
        for (terms, histogram) in self.terms.chunks_exact(Self::terms(self.width)).zip(&mut self.histograms) {
            let value = project(terms, row);
            if !value.is_nan() {
                histogram.add(value);
            }
        }
        self.filled += 1;
        if !self.ready && self.filled == FIRST {
            self.histograms.iter_mut().for_each(Histogram::begin);
        }
        // The first window is short, so that there is something to ask early.
        if self.filled >= if self.ready { self.settings.window } else { 4 * FIRST.min(self.settings.window / 4) } {
            for histogram in &mut self.histograms {
                histogram.take();
                histogram.begin();
            }
            (self.filled, self.ready) = (0, true);
        }
        Ok(())
    }

    fn width(&self) -> usize {
        self.width
    }

    fn memory(&self) -> usize {
        let terms = self.terms.capacity() * size_of::<Term>();
        size_of::<Self>() + terms + self.histograms.capacity() * size_of::<Histogram>()
    }
}

impl Snapshot for Loda {
    const KIND: &'static str = "anomaly loda";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        check_width(self.width)?;
        self.settings.check()?;
        let projections = self.settings.projections as usize;
        if self.histograms.len() != projections || self.terms.len() != projections * Self::terms(self.width) {
            return Err(Error::Snapshot("has other projections than it says"));
        }
        let term = |term: &Term| (term.column as usize) < self.width && term.weight.abs() < 100.0;
        let histogram = |histogram: &Histogram| histogram.sound() && histogram.count <= self.settings.window;
        let sound = self.terms.iter().all(term) && self.histograms.iter().all(histogram);
        match sound && self.filled < self.settings.window {
            true => Ok(()),
            false => Err(Error::Snapshot("has histograms that are not of its projections")),
        }
    }
}
