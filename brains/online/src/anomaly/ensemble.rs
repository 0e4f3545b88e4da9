//! Three scorers as one: each score becomes a rank, and ranks are averaged.

use serde::{Deserialize, Serialize};

use super::{HalfSpace, Isolation, Loda, Room, Scaler, Scorer, check, half_space, isolation, loda};
use crate::{Error, Random, Result, Snapshot};

/// Scores that ranks are among.
const SCORES: usize = 512;
/// Scores between two sortings.
const STEP: u32 = 64;
/// Rows that scores stand for: older ones are replaced by chance.
const HORIZON: u64 = 4_096;
/// Rows that are learnt whatever they are, before there is much to compare them with.
const FIRST: u64 = 256;
/// A row is learnt when it is below this share of scores.
const LEARNT: f64 = 0.9;

/// Scores of late, sorted, to tell how high another one is among them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Ranks {
    sorted: Vec<f64>,
    /// The same, and those that came since they were sorted.
    scores: Vec<f64>,
    seen: u64,
    random: Random,
}

impl Ranks {
    pub(super) fn new(seed: u64) -> Self {
        let empty = || Vec::with_capacity(SCORES);
        Self { sorted: empty(), scores: empty(), seen: 0, random: Random::new(seed) }
    }

    pub(super) fn add(&mut self, score: f64) {
        self.seen = self.seen.saturating_add(1);
        if self.scores.len() < SCORES {
            self.scores.push(score);
        } else if self.random.uniform() < SCORES as f64 / self.seen.min(HORIZON) as f64 {
            let place = self.random.below(SCORES as u32) as usize;
            if let Some(old) = self.scores.get_mut(place) {
                *old = score;
            }
        }
        let early = self.seen >= 16 && self.seen.is_power_of_two();
        if early || self.seen.is_multiple_of(u64::from(STEP)) {
            self.sorted.clear();
            self.sorted.extend_from_slice(&self.scores);
            self.sorted.sort_unstable_by(f64::total_cmp);
        }
    }

    /// The share of scores that this one is above, equal ones counted half. Above them all it goes on to 1 by how far
    /// it is beyond, so that the strangest are still told apart. 0 when there are none.
    pub(super) fn rank(&self, score: f64) -> f64 {
        let n = self.sorted.len();
        let (Some(highest), Some(middle)) = (self.sorted.last(), self.sorted.get(n / 2)) else { return 0.0 };
        let below = self.sorted.partition_point(|other| *other < score);
        if below == n {
            let beyond = (score - highest) / (highest - middle).max(1e-12);
            return (n as f64 + beyond / (1.0 + beyond)) / (n as f64 + 1.0);
        }
        let equal = self.sorted.partition_point(|other| *other <= score) - below;
        (below as f64 + equal as f64 / 2.0) / (n as f64 + 1.0)
    }

    /// The score that this share of scores is below; 1 when there are none.
    fn quantile(&self, share: f64) -> f64 {
        let place = (self.sorted.len() as f64 * share) as usize;
        self.sorted.get(place).copied().unwrap_or(1.0)
    }

    pub(super) fn memory(&self) -> usize {
        (self.sorted.capacity() + self.scores.capacity()) * size_of::<f64>()
    }

    pub(super) fn sound(&self) -> bool {
        let n = self.scores.len();
        let scores = self.scores.iter().chain(&self.sorted).all(|score| (0.0..=1.0).contains(score));
        n <= SCORES && self.sorted.len() <= n && n as u64 <= self.seen && scores && self.sorted.is_sorted()
    }
}

/// The size of an [`Ensemble`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Of its half-space trees.
    pub half_space: half_space::Settings,
    /// Of its isolation forest.
    pub isolation: isolation::Settings,
    /// Of its projections.
    pub loda: loda::Settings,
}

/// [`HalfSpace`], [`Isolation`] and [`Loda`] behind one [`Scaler`]. Each score becomes its rank among that scorer's
/// scores of late, and the ensemble's score is the ranks' mean (Aggarwal and Sathe, "Theoretical foundations and
/// algorithms for outlier ensembles", SIGKDD Explorations 2015): no single method is best on all data, and of these
/// three at least two are good on most.
///
/// [`learn`](Scorer::learn) scores a row first, and lets scorers learn it only if its score is below nine in ten of
/// late, so what is strange does not become ordinary by being repeated, while what most rows have become is learnt at
/// once: as soon as more than a tenth are strange they are no longer the tenth. Scaler and ranks learn from all rows.
///
/// A score takes some 4 µs at 10 columns, learning some 8. About 170 KB and 15 KB a column.
///
/// ```
/// use online::{Random, anomaly::{Ensemble, Scorer, ensemble::Settings}};
///
/// let mut ensemble = Ensemble::new(2, Settings::default())?;
/// let mut random = Random::new(1);
/// for _ in 0..3_000 {
///     let x = random.normal();
///     ensemble.learn(&[x, 100.0 * x + random.normal()])?;
/// }
/// assert!(ensemble.score(&[9.0, -900.0])? > 0.99);
/// assert!(ensemble.score(&[0.1, 10.0])? < 0.9);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ensemble {
    scaler: Scaler,
    half_space: HalfSpace,
    isolation: Isolation,
    loda: Loda,
    ranks: [Ranks; 3],
    own: Ranks,
    learnt: u64,
    #[serde(skip)]
    row: Vec<f64>,
}

impl Ensemble {
    /// One that has learnt nothing, for rows of this width.
    ///
    /// # Errors
    /// [`Error::Range`] for a width or setting outside its range, [`Error::Memory`] for more than can be allowed.
    pub fn new(width: usize, settings: Settings) -> Result<Self> {
        let mut random = Random::new(settings.isolation.seed);
        Ok(Self {
            scaler: Scaler::new(width, random.bits())?,
            half_space: HalfSpace::new(width, settings.half_space)?,
            isolation: Isolation::new(width, settings.isolation)?,
            loda: Loda::new(width, settings.loda)?,
            ranks: [0; 3].map(|_| Ranks::new(random.bits())),
            own: Ranks::new(random.bits()),
            learnt: 0,
            row: Vec::new(),
        })
    }

    /// What the three say of a scaled row.
    fn scores(&self, row: &[f64]) -> Result<[f64; 3]> {
        Ok([self.half_space.score(row)?, self.isolation.score(row)?, self.loda.score(row)?])
    }

    fn combined(&self, scores: [f64; 3]) -> f64 {
        scores.iter().zip(&self.ranks).map(|(score, ranks)| ranks.rank(*score)).sum::<f64>() / 3.0
    }

    /// Scores a row and then learns it, for the price of learning.
    ///
    /// # Errors
    /// As [`learn`](Scorer::learn).
    pub fn score_and_learn(&mut self, row: &[f64]) -> Result<f64> {
        check(row, self.width())?;
        self.scaler.learn(row)?;
        let mut scaled = std::mem::take(&mut self.row);
        scaled.resize(row.len(), 0.0);
        let score = self.scaler.scale(row, &mut scaled).and_then(|()| self.take(&scaled));
        self.row = scaled;
        score
    }

    /// Scores and learns a scaled row.
    fn take(&mut self, row: &[f64]) -> Result<f64> {
        let scores = self.scores(row)?;
        let score = self.combined(scores);
        for (ranks, score) in self.ranks.iter_mut().zip(scores) {
            ranks.add(score);
        }
        self.own.add(score);
        if self.learnt < FIRST || score < self.own.quantile(LEARNT) {
            self.half_space.learn(row)?;
            self.isolation.learn(row)?;
            self.loda.learn(row)?;
            self.learnt = self.learnt.saturating_add(1);
        }
        Ok(score)
    }
}

impl Scorer for Ensemble {
    fn score(&self, row: &[f64]) -> Result<f64> {
        let width = self.width();
        check(row, width)?;
        let mut room = Room::new(width);
        let scaled = room.row(width);
        self.scaler.scale(row, scaled)?;
        Ok(self.combined(self.scores(scaled)?))
    }

    fn learn(&mut self, row: &[f64]) -> Result<()> {
        self.score_and_learn(row).map(|_| ())
    }

    fn width(&self) -> usize {
        self.scaler.width()
    }

    fn memory(&self) -> usize {
        let scorers = self.half_space.memory() + self.isolation.memory() + self.loda.memory();
        let ranks = self.ranks.iter().chain([&self.own]).map(Ranks::memory).sum::<usize>();
        size_of::<Self>() + self.scaler.memory() + scorers + ranks + self.row.capacity() * size_of::<f64>()
    }
}

impl Snapshot for Ensemble {
    const KIND: &'static str = "anomaly ensemble";
    const VERSION: u16 = 2;

    fn check(&self) -> Result<()> {
        self.scaler.check()?;
        self.half_space.check()?;
        self.isolation.check()?;
        self.loda.check()?;
        let widths = [self.half_space.width(), self.isolation.width(), self.loda.width()];
        if widths != [self.width(); 3] || !self.ranks.iter().chain([&self.own]).all(Ranks::sound) {
            return Err(Error::Snapshot("has parts that do not fit together"));
        }
        Ok(())
    }
}
