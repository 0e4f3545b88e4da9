//! Bounds on an average difference that hold at all times at once.

use serde::{Deserialize, Serialize};

use super::{
    process::BETS,
    split::{self, Side},
};
use crate::{Error, Result, Snapshot, error::within};

/// Halvings until a bound is found: 2⁻⁴⁰ of the range.
const HALVINGS: u32 = 40;
/// What the error probability may be.
const ALPHAS: (f64, f64) = (1e-12, 0.5);
/// Share of a new loss in the baseline of a split.
const FRESH: f64 = 0.01;

/// A confidence sequence for the running average of conditional means of differences in −1 … 1, which may change all
/// the time: with probability `1 − α` it holds the truth at every label. It is the empirical-Bernstein sequence of
/// Howard, Ramdas, McAuliffe and Sekhon (Annals of Statistics 2021) in the form of Choe and Ramdas (Operations
/// Research 2024), with the mixture over the eight bets of [`BETS`] instead of a gamma density: no special functions,
/// some 5 % wider.
///
/// A label costs O(1), bounds O(8 · 80) exponentials. 40 bytes.
///
/// ```
/// use online::evidence::Interval;
///
/// let mut interval = Interval::new(0.05)?;
/// for label in 0..4_000 {
///     interval.observe(if label % 10 == 0 { 1.0 } else { 0.0 })?;
/// }
/// let (low, high) = interval.bounds();
/// assert!(0.05 < low && low < 0.1 && 0.1 < high && high < 0.15);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    alpha: f64,
    count: u64,
    sum: f64,
    /// Squares about the mean of all before, of half the difference.
    variation: f64,
}

impl Interval {
    /// One that is wrong at some time with a probability of at most `alpha`, up to 0.5.
    ///
    /// # Errors
    /// [`Error::Range`] for another `alpha`.
    pub fn new(alpha: f64) -> Result<Self> {
        within("alpha", alpha, ALPHAS, "from 10⁻¹² to 0.5")?;
        Ok(Self { alpha, count: 0, sum: 0.0, variation: 0.0 })
    }

    /// Takes a difference in.
    ///
    /// # Errors
    /// [`Error::Range`] outside −1 … 1; then nothing has changed.
    pub fn observe(&mut self, difference: f64) -> Result<()> {
        within("the difference", difference, (-1.0, 1.0), "from -1 to 1")?;
        let centred = (difference - self.mean()) / 2.0;
        self.variation += centred * centred;
        self.sum += difference;
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// The mean difference; 0 before the first.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }

    /// The lower and the upper bound, inside −1 … 1.
    pub fn bounds(&self) -> (f64, f64) {
        (self.lower(self.mean()), -self.lower(-self.mean()))
    }

    /// The lower bound where the mean is so: the least average that the bettors against "no higher" have not ruined.
    fn lower(&self, mean: f64) -> f64 {
        let (mut low, mut high) = (-1.0, mean);
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            if self.wealth((mean - middle) / 2.0) >= 2.0 / self.alpha { low = middle } else { high = middle }
        }
        low
    }

    /// The wealth against an average that is `distance` below the mean of halved differences:
    /// `exp(λ · n · distance − ψ(λ) · variation)` with `ψ(λ) = −ln(1 − λ) − λ`.
    fn wealth(&self, distance: f64) -> f64 {
        let count = self.count as f64;
        let one = |bet: f64| (bet * count * distance + ((-bet).ln_1p() + bet) * self.variation).exp();
        BETS.map(one).iter().sum::<f64>() / BETS.len() as f64
    }
}

impl Snapshot for Interval {
    const KIND: &'static str = "confidence-sequence";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        Self::new(self.alpha).map_err(|_| Error::Snapshot("has an alpha out of range"))?;
        let count = self.count as f64 + 1e-9;
        let sums = self.sum.abs() <= count && (0.0..=count).contains(&self.variation);
        if sums { Ok(()) } else { Err(Error::Snapshot("has sums that no labels give")) }
    }
}

/// A confidence sequence for "first's mean loss less second's" where each request went to one of both, by lot with
/// constant probabilities: [`split::weigh`] with a running mean as its baseline, then [`Interval`]. 64 bytes.
///
/// ```
/// use online::evidence::{SplitInterval, split::Side};
///
/// let mut interval = SplitInterval::new(0.05, (0.95, 0.05))?;
/// for request in 0..2_000 {
///     interval.observe(if request % 20 == 0 { Side::Second } else { Side::First }, 0.3)?;
/// }
/// let (low, high) = interval.bounds();
/// assert!(low < 0.0 && 0.0 < high);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitInterval {
    interval: Interval,
    probabilities: (f64, f64),
    baseline: f64,
}

impl SplitInterval {
    /// One for these probabilities of the first and the second, each from 0.0001 to 1.
    ///
    /// # Errors
    /// [`Error::Range`] for another `alpha` than [`Interval`] takes, or other probabilities.
    pub fn new(alpha: f64, probabilities: (f64, f64)) -> Result<Self> {
        split::weigh(0.0, 0.0, Side::First, probabilities)?;
        Ok(Self { interval: Interval::new(alpha)?, probabilities, baseline: 0.5 })
    }

    /// Takes in the loss, 0 … 1, of a request that went to this side.
    ///
    /// # Errors
    /// [`Error::Range`] for another loss; then nothing has changed.
    pub fn observe(&mut self, side: Side, loss: f64) -> Result<()> {
        let weighted = split::weigh(loss, self.baseline, side, self.probabilities)?;
        self.interval.observe(weighted.difference)?;
        self.baseline = (self.baseline + FRESH * (loss - self.baseline)).clamp(0.0, 1.0);
        Ok(())
    }

    /// The lower and the upper bound, inside −1 … 1.
    pub fn bounds(&self) -> (f64, f64) {
        let scale = self.probabilities.0.min(self.probabilities.1);
        let (low, high) = self.interval.bounds();
        ((low / scale).max(-1.0), (high / scale).min(1.0))
    }
}

impl Snapshot for SplitInterval {
    const KIND: &'static str = "split-confidence-sequence";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.interval.check()?;
        let parts = split::weigh(0.0, self.baseline, Side::First, self.probabilities);
        parts.map(|_| ()).map_err(|_| Error::Snapshot("has probabilities out of range"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Random;

    #[test]
    fn the_truth_is_inside_at_all_times() {
        let runs = 200;
        let missed = (0..runs).filter(|seed| {
            let (mut random, mut interval) = (Random::new(*seed), Interval::new(0.1).unwrap());
            let mut truth = 0.0;
            (1..=2_000).any(|label| {
                // The mean moves; it is the running average of means that is bounded.
                let mean = 0.2 * (f64::from(label) / 300.0).sin();
                truth += mean;
                let difference = if random.uniform() < 0.5 + mean / 2.0 { 1.0 } else { -1.0 };
                interval.observe(difference).unwrap();
                let (low, high) = if label % 50 == 0 { interval.bounds() } else { (-1.0, 1.0) };
                !(low..=high).contains(&(truth / f64::from(label)))
            })
        });
        let missed = missed.count();
        assert!(missed <= 20, "{missed} of {runs}");
    }

    #[test]
    fn a_split_finds_the_difference() {
        let (mut random, mut interval) = (Random::new(3), SplitInterval::new(0.05, (0.95, 0.05)).unwrap());
        for _ in 0..60_000 {
            let side = if random.uniform() < 0.05 { Side::Second } else { Side::First };
            let rate = if side == Side::First { 0.3 } else { 0.15 };
            interval.observe(side, f64::from(u8::from(random.uniform() < rate))).unwrap();
        }
        let (low, high) = interval.bounds();
        assert!(low > 0.1 && low < 0.15 && high > 0.15 && high < 0.2, "{low} to {high}");
    }

    proptest! {
        #[test]
        fn bounds_are_around_the_mean(
            differences in prop::collection::vec(-1.0..=1.0_f64, 0..100), alpha in 0.001..0.5_f64,
        ) {
            let mut interval = Interval::new(alpha).unwrap();
            differences.iter().for_each(|difference| interval.observe(*difference).unwrap());
            let (low, high) = interval.bounds();
            prop_assert!(-1.0 <= low && low <= interval.mean() && interval.mean() <= high && high <= 1.0);
            prop_assert_eq!(Interval::load(&interval.save()).unwrap(), interval);
        }
    }

    #[test]
    fn bad_input_changes_nothing() {
        let mut interval = SplitInterval::new(0.05, (0.5, 0.5)).unwrap();
        assert!(interval.observe(Side::First, f64::NAN).is_err() && interval.observe(Side::First, 1.5).is_err());
        assert_eq!(interval, SplitInterval::new(0.05, (0.5, 0.5)).unwrap());
        assert_eq!(SplitInterval::load(&interval.save()).unwrap(), interval);
        assert!(Interval::new(0.0).is_err() && SplitInterval::new(0.05, (1.0, 0.0)).is_err());
    }
}
