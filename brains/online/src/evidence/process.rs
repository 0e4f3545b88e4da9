//! The wealth of eight bets on a difference: the e-process on which promotions stand.

use serde::{Deserialize, Serialize};

use crate::{Error, Result, Snapshot, error::within};

/// Shares of the wealth that are bet, from "hardly better, in many labels" to "much better, in few".
pub const BETS: [f64; 8] = [0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9];
/// A gain is a difference in −1 … 1 less a margin of at most 0.1: no bet can lose more than it has.
const GAINS: (f64, f64) = (-1.1, 1.0);
/// Wealth of one bet stays in here. The upper end only takes away. The lower one adds 10⁻³⁰⁰ at a label, which moves
/// the probability of a false alarm by as much.
const WEALTH: (f64, f64) = (1e-300, 1e300);
/// How fast a label is forgotten by the sum with which the next ones are compared, for serial dependence.
const KERNEL: f64 = 0.9;
/// The strongest dependence that is corrected for; more looks like a change of the mean.
const STRONGEST: f64 = 0.98;

/// A betting e-process for "the mean gain is never above 0" (Waudby-Smith and Ramdas, JRSS-B 2024): the mean over
/// eight constant bets `λ` of the product of `1 + λ · gain`. A gain is a difference of losses in −1 … 1 less a margin.
///
/// *Which null.* With `μ` the mean of a gain given all before it, wealth is a supermartingale while `μ ≤ 0` for each
/// label. Because bets are constant, `Π(1 + λμ) ≤ exp(λ Σμ)`: wealth that is only looked at when the *sum* of the `μ`
/// is at most 0, as it is after whole [`Season`](super::Season)s, obeys the same bound, and the challenger may be
/// better by day and worse by night. That is the weak null of Choe and Ramdas (Operations Research 2024), which they
/// test by an empirical-Bernstein process; constant bets lose nothing against the strict test.
///
/// *Dependence.* Gains that follow one another in sign make wealth wander further than independent ones. The long-run
/// variance is estimated with an exponential kernel (as Newey and West, Econometrica 1987), corrected as if the
/// dependence decayed geometrically (as the prewhitening of Andrews and Monahan, Econometrica 1992), and each bet is
/// charged `λ² / 2` times what it exceeds the variance by. The charge is never negative, so under the strict null the
/// bound stays exact; under dependence it holds approximately, and simulations check it.
///
/// A label costs O(8), some 20 ns; reading the wealth takes nine exponentials. 104 bytes.
///
/// ```
/// use online::evidence::EProcess;
///
/// let mut process = EProcess::default();
/// for label in 0..400 {
///     // Better on one label in five, worse on one in ten.
///     let difference = if label % 5 == 0 { 1.0 } else if label % 10 == 1 { -1.0 } else { 0.0 };
///     process.observe(difference - 0.002)?;
/// }
/// assert!(process.log_wealth() > 20_f64.ln());
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EProcess {
    wealth: [f64; 8],
    count: u64,
    sum: f64,
    squares: f64,
    /// Centred gains of late, older ones less.
    recent: f64,
    /// Products of a centred gain with `recent`.
    products: f64,
}

impl Default for EProcess {
    fn default() -> Self {
        Self { wealth: [1.0; 8], count: 0, sum: 0.0, squares: 0.0, recent: 0.0, products: 0.0 }
    }
}

impl EProcess {
    /// Takes a gain in. Bets are constant, hence set before the label is known.
    ///
    /// # Errors
    /// [`Error::Range`] unless it is in −1.1 … 1; then nothing has changed.
    pub fn observe(&mut self, gain: f64) -> Result<()> {
        within("the gain", gain, GAINS, "from -1.1 to 1")?;
        for (wealth, bet) in self.wealth.iter_mut().zip(BETS) {
            *wealth = (*wealth * (1.0 + bet * gain)).clamp(WEALTH.0, WEALTH.1);
        }
        let centred = gain - self.mean();
        self.recent *= KERNEL;
        self.products += centred * self.recent;
        self.recent += centred;
        self.count = self.count.saturating_add(1);
        self.sum += gain;
        self.squares += gain * gain;
        Ok(())
    }

    /// Labels taken in.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of all gains.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// The mean gain; 0 before the first.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }

    /// The natural logarithm of the wealth; 0 before the first label.
    pub fn log_wealth(&self) -> f64 {
        self.log_wealth_without(0.0)
    }

    /// The logarithm of the wealth when so much of the gains had not been won. A gain `g` is worth at most `exp(λg)`
    /// to a bet, so this takes away no less than those labels brought.
    pub fn log_wealth_without(&self, excess: f64) -> f64 {
        let dependence = self.dependence();
        let bets = self.wealth.iter().zip(BETS);
        let sum: f64 = bets.map(|(wealth, bet)| wealth * (-bet * (excess.max(0.0) + bet * dependence)).exp()).sum();
        // Charged wealth may underflow where nobody would promote anything.
        (sum / BETS.len() as f64).max(f64::MIN_POSITIVE).ln()
    }

    /// Whether wealth may be this much or more: no exact reading is worth its exponentials before.
    pub fn may_reach(&self, wealth: f64) -> bool {
        self.richest() >= wealth
    }

    /// The wealth of the bet that has most.
    pub fn richest(&self) -> f64 {
        self.wealth.iter().copied().fold(0.0, f64::max)
    }

    /// By how many times the variance of a long sum exceeds that of independent gains; at least 1.
    pub fn variance_ratio(&self) -> f64 {
        let variance = self.variance();
        let seen = if variance > 0.0 { self.products / variance } else { 0.0 };
        if seen <= 0.0 {
            return 1.0;
        }
        // For correlations φ, φ², … the kernel sees Σ(KERNEL · φ)^k: solved for φ, then summed without the kernel.
        let correlation = (seen / (KERNEL * (1.0 + seen))).min(STRONGEST);
        (1.0 + correlation) / (1.0 - correlation)
    }

    /// The sum of squares about the mean.
    fn variance(&self) -> f64 {
        (self.squares - self.sum * self.mean()).max(0.0)
    }

    /// What a bet is charged for, per its square.
    fn dependence(&self) -> f64 {
        0.5 * (self.variance_ratio() - 1.0) * self.variance()
    }
}

impl Snapshot for EProcess {
    const KIND: &'static str = "e-process";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        let count = self.count as f64 * 1.21 + 1e-9;
        let wealth = self.wealth.iter().all(|wealth| (WEALTH.0..=WEALTH.1).contains(wealth));
        let sums = self.sum.abs() <= count && (0.0..=count).contains(&self.squares);
        // A centred gain is at most 2.1, the kernel's sum at most ten times that.
        let products = self.recent.abs() <= 25.0 && self.products.abs() <= 60.0 * count;
        if wealth && sums && products { Ok(()) } else { Err(Error::Snapshot("has wealth that no labels give")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Random;

    /// A difference of two classifiers that disagree on this share of labels, one better by `advantage`.
    fn difference(random: &mut Random, disagreement: f64, advantage: f64) -> f64 {
        let draw = random.uniform();
        match draw {
            _ if draw < (disagreement + advantage) / 2.0 => 1.0,
            _ if draw < disagreement => -1.0,
            _ => 0.0,
        }
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<EProcess>() <= 200);
    }

    #[test]
    fn wealth_is_the_mean_over_bets() {
        let mut process = EProcess::default();
        process.observe(0.5).unwrap();
        let mean = BETS.iter().map(|bet| 1.0 + bet * 0.5).sum::<f64>() / 8.0;
        assert!((process.log_wealth() - mean.ln()).abs() < 1e-12);
        assert!(process.may_reach(1.4) && !process.may_reach(1.5));
    }

    #[test]
    fn a_null_is_rarely_rejected_however_often_one_looks() {
        let runs = 400;
        let rejected = (0..runs).filter(|seed| {
            let (mut random, mut process) = (Random::new(*seed), EProcess::default());
            (0..3_000).any(|_| {
                process.observe(difference(&mut random, 0.1, 0.0) - 0.002).unwrap();
                process.may_reach(20.0) && process.log_wealth() >= 20_f64.ln()
            })
        });
        // The bound is 20 of 400; three standard errors above would be 33.
        let rejected = rejected.count();
        assert!(rejected <= 20, "{rejected} of {runs}");
    }

    #[test]
    fn dependence_is_paid_for() {
        let (mut random, mut dependent, mut independent) = (Random::new(1), EProcess::default(), EProcess::default());
        let mut state = 0.0;
        for _ in 0..20_000 {
            state = 0.5 * state + random.normal();
            dependent.observe((0.2 * state).clamp(-1.0, 1.0)).unwrap();
            independent.observe((0.2 * random.normal()).clamp(-1.0, 1.0)).unwrap();
        }
        let ratios = (dependent.variance_ratio(), independent.variance_ratio());
        assert!((2.5..3.5).contains(&ratios.0) && ratios.1 < 1.15, "{ratios:?}");
    }

    proptest! {
        #[test]
        fn it_never_leaves_its_numbers(gains in prop::collection::vec(-1.1..=1.0_f64, 0..400), excess in 0.0..1e9_f64) {
            let mut process = EProcess::default();
            for gain in gains {
                process.observe(gain).unwrap();
            }
            prop_assert!(process.check().is_ok(), "{process:?}");
            let (all, less) = (process.log_wealth(), process.log_wealth_without(excess));
            prop_assert!(all.is_finite() && less <= all + 1e-12 && process.richest().ln() >= all - 1e-12);
            prop_assert!(process.variance_ratio() >= 1.0);
        }

        #[test]
        fn a_bad_gain_changes_nothing(
            gain in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), 1.01..9.0_f64],
        ) {
            let mut process = EProcess::default();
            prop_assert!(process.observe(gain).is_err());
            prop_assert_eq!(process, EProcess::default());
        }

        #[test]
        fn what_is_saved_goes_on_alike(gains in prop::collection::vec(-1.0..=1.0_f64, 0..60), more in -1.0..=1.0_f64) {
            let mut process = EProcess::default();
            gains.iter().for_each(|gain| process.observe(*gain).unwrap());
            let mut loaded = EProcess::load(&process.save()).unwrap();
            process.observe(more).unwrap();
            loaded.observe(more).unwrap();
            prop_assert_eq!(loaded.log_wealth().to_bits(), process.log_wealth().to_bits());
        }
    }

    #[test]
    fn endless_losses_and_wins_stay_finite() {
        let (mut poor, mut rich) = (EProcess::default(), EProcess::default());
        for _ in 0..5_000 {
            poor.observe(-1.1).unwrap();
            rich.observe(1.0).unwrap();
        }
        assert!(poor.log_wealth().is_finite() && poor.log_wealth() < -50.0);
        assert!(rich.log_wealth().is_finite() && rich.log_wealth() > 600.0);
    }
}
