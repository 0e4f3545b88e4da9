//! Notices that something has become worse, and says how seldom it is wrong.

use serde::{Deserialize, Serialize};

use super::process::BETS;
use crate::{Error, Result, Snapshot, error::within};

/// How much of what enters is bet how: most where a fall of some points lies, a little on slow decline.
const WEIGHTS: [f64; 8] = [0.02, 0.04, 0.10, 0.18, 0.24, 0.20, 0.12, 0.10];
/// What a harm may be: a difference of losses, a margin taken off or put on.
const HARMS: (f64, f64) = (-1.1, 1.1);
/// What a run length may be.
const LENGTHS: (f64, f64) = (1.0, 1e12);

/// A Shiryaev–Roberts e-detector (Shin, Ramdas and Rinaldo 2023, "E-detectors: a nonparametric framework for
/// sequential change detection"): at each label a new bettor enters with one coin, and all bet that the mean harm is
/// above 0. The sum of their coins grows by at most one a label while it is not, so that it takes at least
/// `run_length` labels on average until it reaches `run_length`: the time to a false alarm, whatever the
/// distribution.
///
/// A coin is spread over the bets of [`BETS`], mostly on the middle ones. O(8) a label, no exponentials; 80 bytes.
///
/// ```
/// use online::evidence::EDetector;
///
/// let mut detector = EDetector::new(100_000.0)?;
/// let alarm = (0..500).any(|label| detector.observe(if label % 4 == 0 { 1.0 } else { 0.0 }) == Ok(true));
/// assert!(alarm);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EDetector {
    coins: [f64; 8],
    run_length: f64,
    count: u64,
}

impl EDetector {
    /// One that is wrong at most once in `run_length` labels on average; from 1 to 10¹².
    ///
    /// # Errors
    /// [`Error::Range`] for another run length.
    pub fn new(run_length: f64) -> Result<Self> {
        within("the run length", run_length, LENGTHS, "from 1 to 10¹² labels")?;
        Ok(Self { coins: [0.0; 8], run_length, count: 0 })
    }

    /// Takes a harm in, −1.1 … 1.1, positive where it was worse than it should be. Says whether that is an alarm, after
    /// which it starts anew.
    ///
    /// # Errors
    /// [`Error::Range`] for another harm; then nothing has changed.
    pub fn observe(&mut self, harm: f64) -> Result<bool> {
        within("the harm", harm, HARMS, "from -1.1 to 1.1")?;
        self.count = self.count.saturating_add(1);
        for ((coins, bet), weight) in self.coins.iter_mut().zip(BETS).zip(WEIGHTS) {
            *coins = (*coins + weight) * (1.0 + bet * harm);
        }
        let alarm = self.level() >= self.run_length;
        if alarm {
            self.reset();
        }
        Ok(alarm)
    }

    /// The coins of all bettors; an alarm is raised when they reach the run length.
    pub fn level(&self) -> f64 {
        self.coins.iter().sum()
    }

    /// What it was made with.
    pub fn run_length(&self) -> f64 {
        self.run_length
    }

    /// Labels since it started.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Starts anew.
    pub fn reset(&mut self) {
        (self.coins, self.count) = ([0.0; 8], 0);
    }
}

impl Snapshot for EDetector {
    const KIND: &'static str = "e-detector";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        Self::new(self.run_length).map_err(|_| Error::Snapshot("has a run length out of range"))?;
        let coins = self.coins.iter().all(|coins| (0.0..=self.run_length).contains(coins));
        if coins { Ok(()) } else { Err(Error::Snapshot("has coins that no labels give")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Random;

    #[test]
    fn weights_are_one_coin() {
        assert!((WEIGHTS.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    /// Labels until the alarm, when one is worse on `worse` of them and better on `better`.
    fn labels(detector: &mut EDetector, seed: u64, worse: f64, better: f64, most: u32) -> Option<u32> {
        let mut random = Random::new(seed);
        (0..most).find(|_| {
            let draw = random.uniform();
            let harm = if draw < worse {
                1.0
            } else if draw < worse + better {
                -1.0
            } else {
                0.0
            };
            detector.observe(harm).unwrap()
        })
    }

    #[test]
    fn the_run_length_is_kept() {
        // The mean time to a false alarm, cut off at 10,000; less three standard errors of a time that is about
        // exponential.
        let runs = 400;
        let times = (0..runs).map(|seed| {
            let time = labels(&mut EDetector::new(300.0).unwrap(), seed, 0.1, 0.1, 10_000);
            f64::from(time.unwrap_or(10_000))
        });
        let mean = times.sum::<f64>() / f64::from(runs as u32);
        assert!(mean >= 300.0 * (1.0 - 3.0 / 20.0), "{mean}");
    }

    #[test]
    fn a_fall_is_noticed() {
        let mut times: Vec<u32> = (0..100)
            .map(|seed| labels(&mut EDetector::new(1e5).unwrap(), seed, 0.15, 0.05, 5_000).unwrap_or(5_000))
            .collect();
        times.sort_unstable();
        assert!(times[50] <= 500, "{times:?}");
    }

    proptest! {
        #[test]
        fn it_stays_in_its_range(harms in prop::collection::vec(-1.1..=1.1_f64, 0..400)) {
            let mut detector = EDetector::new(1e3).unwrap();
            for harm in harms {
                detector.observe(harm).unwrap();
                prop_assert!(detector.check().is_ok(), "{detector:?}");
            }
            prop_assert_eq!(EDetector::load(&detector.save()).unwrap(), detector);
        }
    }

    #[test]
    fn bad_input_changes_nothing() {
        let mut detector = EDetector::new(10.0).unwrap();
        for harm in [f64::NAN, 2.0, f64::NEG_INFINITY] {
            assert!(detector.observe(harm).is_err());
        }
        assert_eq!(detector, EDetector::new(10.0).unwrap());
        assert!(EDetector::new(0.0).is_err() && EDetector::new(f64::NAN).is_err());
    }
}
