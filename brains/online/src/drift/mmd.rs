//! Whether rows, or a model's outputs, still come from where they came from: all columns together, without labels.

use serde::{Deserialize, Serialize};

use super::{RowDetector, State, probability};
use crate::{Error, Random, Result, Snapshot, error::within, schema::FEATURES};

/// Random features of the kernel.
const COSINES: usize = 128;
/// Rows that say how columns are scaled.
const SCALED: usize = 200;
/// The most values of those.
const GREATEST: usize = 1 << 22;
/// How far from the mean a scaled value counts as being, at the most.
const FAR: f64 = 1e3;
/// Blocks of the reference and of the window, at the least: with fewer there are too few ways to deal them out.
const BLOCKS: (f64, f64) = (8.0, 256.0);

/// What an [`Mmd`] compares, and when it speaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Rows of a block: some ten times as many as rows near each other are alike. From 1 to 65,535. Default 25.
    pub block: u32,
    /// Blocks of the reference, from 8 to 256. Default 40.
    pub reference: u32,
    /// Blocks that are compared with it, from 8 to 256; as many go by between two tests. Default 20.
    pub window: u32,
    /// Times that blocks are dealt out anew, from 19 to 10,000. Default 200.
    pub draws: u32,
    /// The probability that a test without a change alarms. With so many draws it is 1 / (draws + 1) at the least.
    /// Default 0.005.
    pub alpha: f64,
    /// What chance draws from.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { block: 25, reference: 40, window: 20, draws: 200, alpha: 0.005, seed: 0 }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        within("the block", f64::from(self.block), (1.0, 65_535.0), "from 1 to 65,535")?;
        within("the reference's blocks", f64::from(self.reference), BLOCKS, "from 8 to 256")?;
        within("the window's blocks", f64::from(self.window), BLOCKS, "from 8 to 256")?;
        within("the draws", f64::from(self.draws), (19.0, 10_000.0), "from 19 to 10,000")?;
        probability("alpha", self.alpha)?;
        let least = f64::from(self.draws + 1).recip();
        within("alpha", self.alpha, (least, 1.0), "at least 1 / (draws + 1)").map(|_| ())
    }

    fn blocks(&self) -> usize {
        (self.reference + self.window) as usize
    }
}

/// The maximum mean discrepancy of Gretton et al., "A kernel two-sample test" (JMLR 2012), between a reference and
/// the last rows, with a Gaussian kernel by 128 random Fourier features (Rahimi and Recht, NeurIPS 2007). How large
/// it is by chance is found by dealing rows out anew, in whole blocks, so that rows which depend on their neighbours
/// are no alarm; exact for blocks that are exchangeable.
///
/// Sees what [`Inputs`](super::Inputs) can't, a change in how columns go together, at the price of not saying where.
/// Scores of a model are good rows. The first 200 rows say how columns are scaled, mean to 0 and variance to 1, and
/// are the first of the reference; a missing value counts as the mean. The kernel is as wide as a typical row is far
/// from the mean.
///
/// A row takes O(128 · width), about 1 µs and 0.1 µs for each column; a test, each window, some 300 µs by default. 30
/// KB, 0.5 KB a column, and 30 KB while it tests.
///
/// ```
/// use online::{Random, drift::{Mmd, RowDetector, State, mmd::Settings}};
///
/// let mut mmd = Mmd::new(2, Settings::default())?;
/// let mut random = Random::new(3);
/// let mut row = |together: f64| {
///     let (x, y) = (random.normal(), random.normal());
///     [x, together * x + (1.0 - together * together).sqrt() * y]
/// };
/// for _ in 0..3_000 {
///     assert_eq!(mmd.update(&row(0.0))?, State::Stable);
/// }
/// let drift = (0..500).any(|_| mmd.update(&row(0.9)) == Ok(State::Drift));
/// assert!(drift, "each column is as it was, and both are not");
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mmd {
    settings: Settings,
    width: usize,
    /// Frequencies, [`COSINES`] / 2 rows of them: each has a cosine and a sine.
    frequencies: Vec<f32>,
    /// Mean and one over the deviation of each column; empty before they are known.
    scales: Vec<(f64, f64)>,
    /// The rows that say so.
    first: Vec<f32>,
    /// Mean features of whole blocks: those of the reference, then those of the window, in which the oldest is
    /// overwritten.
    blocks: Vec<f32>,
    filled: u32,
    next: u32,
    /// Sum of features over the block that fills, and its rows.
    open: Vec<f64>,
    rows: u32,
    /// Blocks since the last test.
    fresh: u32,
    p: f64,
    random: Random,
    #[serde(skip)]
    products: Vec<f64>,
    #[serde(skip)]
    dealt: Vec<u32>,
}

impl Mmd {
    /// One without a reference, for rows of this width.
    ///
    /// # Errors
    /// [`Error::Range`] for a width or setting outside its range.
    pub fn new(width: usize, settings: Settings) -> Result<Self> {
        settings.check()?;
        within(
            "the number of features",
            width as f64,
            (1.0, (GREATEST / SCALED).min(FEATURES) as f64),
            "from 1 to 20,971",
        )?;
        let mut random = Random::new(settings.seed);
        // The deviation of one over the kernel's width.
        let wide = (width as f64).sqrt().recip();
        Ok(Self {
            width,
            frequencies: (0..COSINES / 2 * width).map(|_| (random.normal() * wide) as f32).collect(),
            scales: Vec::new(),
            first: Vec::with_capacity(SCALED * width),
            blocks: Vec::with_capacity(settings.blocks() * COSINES),
            filled: 0,
            next: 0,
            open: vec![0.0; COSINES],
            rows: 0,
            fresh: 0,
            p: 1.0,
            random,
            products: Vec::new(),
            dealt: Vec::new(),
            settings,
        })
    }

    /// Scales columns by the first rows, and takes these.
    fn scale(&mut self) {
        let first = std::mem::take(&mut self.first);
        let column = |place: usize| {
            first.iter().skip(place).step_by(self.width).map(|value| f64::from(*value)).filter(|value| !value.is_nan())
        };
        let scale = |place: usize| {
            let n = column(place).count().max(1) as f64;
            let mean = column(place).sum::<f64>() / n;
            let variance = column(place).map(|value| (value - mean) * (value - mean)).sum::<f64>() / n;
            (mean, if variance > 1e-200 { variance.sqrt().recip() } else { 1.0 })
        };
        self.scales = (0..self.width).map(scale).collect();
        let mut row = Vec::with_capacity(self.width);
        for stored in first.chunks_exact(self.width) {
            row.clear();
            row.extend(stored.iter().map(|value| f64::from(*value)));
            self.take(&row);
        }
    }

    fn take(&mut self, row: &[f64]) -> State {
        self.embed(row);
        self.rows += 1;
        if self.rows < self.settings.block {
            return State::Stable;
        }
        self.close();
        if self.filled < self.settings.blocks() as u32 || self.fresh < self.settings.window {
            return State::Stable;
        }
        self.fresh = 0;
        self.p = self.test();
        if self.p <= self.settings.alpha { State::Drift } else { State::Stable }
    }

    /// Adds a row's features to the open block's.
    fn embed(&mut self, row: &[f64]) {
        let scaled = |(value, (mean, scale)): (&f64, &(f64, f64))| {
            if value.is_nan() { 0.0 } else { ((value - mean) * scale).clamp(-FAR, FAR) }
        };
        for (pair, frequency) in self.open.chunks_exact_mut(2).zip(self.frequencies.chunks_exact(self.width)) {
            let numbers = row.iter().zip(&self.scales).map(scaled);
            let angle: f64 = numbers.zip(frequency).map(|(value, frequency)| value * f64::from(*frequency)).sum();
            let (sin, cos) = angle.sin_cos();
            if let [first, second] = pair {
                (*first, *second) = (*first + cos, *second + sin);
            }
        }
    }

    /// Keeps the open block's mean features.
    fn close(&mut self) {
        let scale = f64::from(self.settings.block) * (COSINES as f64 / 2.0).sqrt();
        let means = self.open.iter().map(|sum| (sum / scale) as f32);
        if self.filled < self.settings.blocks() as u32 {
            self.blocks.extend(means);
            self.filled += 1;
        } else {
            let place = (self.settings.reference + self.next) as usize * COSINES;
            self.blocks.iter_mut().skip(place).zip(means).for_each(|(old, mean)| *old = mean);
            self.next = (self.next + 1) % self.settings.window;
        }
        if self.filled > self.settings.reference {
            self.fresh += 1;
        }
        self.open.fill(0.0);
        self.rows = 0;
    }

    /// The share of deals of blocks in which the discrepancy is as great as in the one there is.
    fn test(&mut self) -> f64 {
        self.multiply();
        let (blocks, window) = (self.settings.blocks(), self.settings.window as usize);
        self.dealt.clear();
        // The window first, since that is what `discrepancy` looks at.
        self.dealt.extend((0..blocks as u32).rev());
        let found = self.discrepancy(window);
        let mut as_great = 1;
        for _ in 0..self.settings.draws {
            for place in 0..window {
                let other = place + self.random.below((blocks - place) as u32) as usize;
                self.dealt.swap(place, other);
            }
            as_great += u32::from(self.discrepancy(window) >= found);
        }
        f64::from(as_great) / f64::from(self.settings.draws + 1)
    }

    /// Products of all pairs of blocks, and at the end each block's sum of products.
    fn multiply(&mut self) {
        let blocks = self.settings.blocks();
        self.products.clear();
        self.products.reserve(blocks * (blocks + 1));
        for one in self.blocks.chunks_exact(COSINES) {
            for other in self.blocks.chunks_exact(COSINES) {
                let product: f32 = one.iter().zip(other).map(|(a, b)| a * b).sum();
                self.products.push(f64::from(product));
            }
        }
        for block in 0..blocks {
            let sum = self.products.iter().skip(block * blocks).take(blocks).sum();
            self.products.push(sum);
        }
    }

    /// ‖mean of the window − mean of the others‖², with so many dealt to the window.
    fn discrepancy(&self, window: usize) -> f64 {
        let blocks = self.settings.blocks();
        let product = |a: usize, b: usize| self.products.get(a * blocks + b).copied().unwrap_or(0.0);
        let mine = self.dealt.iter().take(window).map(|block| *block as usize);
        let (mut inside, mut with_all) = (0.0, 0.0);
        for a in mine.clone() {
            inside += mine.clone().map(|b| product(a, b)).sum::<f64>();
            with_all += product(blocks, a);
        }
        let all: f64 = (0..blocks).map(|block| product(blocks, block)).sum();
        let across = with_all - inside;
        let outside = all - inside - 2.0 * across;
        let (n, m) = (window as f64, (blocks - window) as f64);
        inside / (n * n) + outside / (m * m) - 2.0 * across / (n * m)
    }

    /// The last test's p-value; 1 before any.
    pub fn p(&self) -> f64 {
        self.p
    }
}

impl RowDetector for Mmd {
    fn update(&mut self, row: &[f64]) -> Result<State> {
        if row.len() != self.width {
            return Err(Error::Width { wanted: self.width, found: row.len() });
        }
        if let Some(index) = row.iter().position(|value| value.is_infinite()) {
            return Err(Error::Infinite { index });
        }
        if !self.scales.is_empty() {
            return Ok(self.take(row));
        }
        self.first.extend(
            row.iter().map(|value| if value.is_nan() { f32::NAN } else { (*value as f32).clamp(f32::MIN, f32::MAX) }),
        );
        if self.first.len() >= SCALED * self.width {
            self.scale();
        }
        Ok(State::Stable)
    }

    fn reset(&mut self) {
        self.scales.clear();
        self.first.clear();
        self.blocks.clear();
        self.open.fill(0.0);
        (self.filled, self.next, self.rows, self.fresh, self.p) = (0, 0, 0, 0, 1.0);
    }

    fn width(&self) -> usize {
        self.width
    }

    fn memory(&self) -> usize {
        let single =
            self.frequencies.capacity() + self.first.capacity() + self.blocks.capacity() + self.dealt.capacity();
        let double = self.open.capacity() + self.products.capacity() + 2 * self.scales.capacity();
        size_of::<Self>() + single * size_of::<f32>() + double * size_of::<f64>()
    }
}

impl Snapshot for Mmd {
    const KIND: &'static str = "drift mmd";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.settings.check()?;
        within(
            "the number of features",
            self.width as f64,
            (1.0, (GREATEST / SCALED).min(FEATURES) as f64),
            "from 1 to 20,971",
        )?;
        let settled = self.scales.len() == self.width && self.first.is_empty();
        let first = self.scales.is_empty()
            && self.first.len() < SCALED * self.width
            && self.first.len().is_multiple_of(self.width);
        if !settled && !first || self.frequencies.len() != COSINES / 2 * self.width || self.open.len() != COSINES {
            return Err(Error::Snapshot("has rows that are not of its width"));
        }
        let blocks =
            self.filled as usize <= self.settings.blocks() && self.blocks.len() == self.filled as usize * COSINES;
        let counts =
            self.next < self.settings.window && self.rows < self.settings.block && self.fresh < self.settings.window;
        if !blocks || !counts || !(0.0..=1.0).contains(&self.p) {
            return Err(Error::Snapshot("has blocks that are not of its settings"));
        }
        let small = |value: &f32| value.abs() <= 100.0;
        let numbers =
            self.frequencies.iter().chain(&self.blocks).all(small) && self.open.iter().all(|sum| sum.abs() <= 1e6);
        let scales = self.scales.iter().all(|(mean, scale)| mean.is_finite() && scale.is_finite());
        match numbers && scales {
            true => Ok(()),
            false => Err(Error::Snapshot("has features that are no cosines")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::tests::mutations;

    fn tests(mmd: &mut Mmd, rows: usize, mut row: impl FnMut() -> [f64; 2]) -> u32 {
        (0..rows).map(|_| u32::from(mmd.update(&row()) == Ok(State::Drift))).sum()
    }

    #[test]
    fn a_change_is_found_and_rows_that_depend_on_each_other_are_none() {
        let mut random = Random::new(6);
        let mut mmd = Mmd::new(2, Settings { block: 50, ..Settings::default() }).unwrap();
        // Autoregressive with 0.8: 100 rows are as good as 11 independent ones.
        let mut last = [0.0; 2];
        let mut row = |random: &mut Random, shift: f64| {
            last = last.map(|value| 0.8 * value + 0.6 * random.normal());
            last.map(|value| value + shift)
        };
        let alarms = tests(&mut mmd, 32_000, || row(&mut random, 0.0));
        assert!(alarms <= 2, "{alarms} of 30");
        assert_eq!(tests(&mut mmd, 1_000, || row(&mut random, 1.0)), 1);
        assert!(mmd.p() < 0.006);
        assert!(mmd.memory() < 128 * 1_024, "{}", mmd.memory());
    }

    #[test]
    fn missing_constant_and_huge_values_are_taken() {
        let mut random = Random::new(7);
        let mut mmd = Mmd::new(2, Settings::default()).unwrap();
        let mut row = || [if random.uniform() < 0.3 { f64::NAN } else { 1e300 * random.normal() }, 7.0];
        assert!(tests(&mut mmd, 4_000, &mut row) <= 1);
        assert!(mmd.update(&[f64::INFINITY, 0.0]).is_err() && mmd.update(&[0.0]).is_err());
        assert!(Mmd::new(0, Settings::default()).is_err());
        assert!(Mmd::new(1, Settings { draws: 100, ..Settings::default() }).is_err(), "it could never alarm");
    }

    #[test]
    fn snapshots_go_on_and_hostile_ones_are_safe() {
        for rows in [90, 700] {
            let mut random = Random::new(8);
            let settings = Settings { block: 5, reference: 8, window: 8, draws: 200, ..Settings::default() };
            let mut mmd = Mmd::new(2, settings).unwrap();
            let mut row = || [random.normal(), random.uniform()];
            tests(&mut mmd, rows, &mut row);
            let mut loaded = Mmd::load(&mmd.save()).unwrap();
            for _ in 0..300 {
                let row = row();
                assert_eq!(mmd.update(&row), loaded.update(&row));
            }
            assert!(mmd.save() == loaded.save());
            for bytes in mutations(&mmd.save(), 300) {
                let Ok(mut loaded) = Mmd::load(&bytes) else { continue };
                tests(&mut loaded, 250, &mut row);
            }
        }
    }
}
