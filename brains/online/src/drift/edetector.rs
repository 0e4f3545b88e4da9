//! An e-detector: evidence that losses have risen, with a certified time between false alarms.

use serde::{Deserialize, Serialize};

use super::{Detector, State, unit};
use crate::{Error, Result, Snapshot, error::within};

/// How far above the baseline a loss may be bet on, as a share of the way from there to 1. Small changes need small
/// bets, large ones are found fast with large bets; powers of about 2, to lose at most a little between two of them.
const BETS: [f64; 8] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.6, 0.9];
/// The least baseline: below, a single loss would be an alarm.
const LEAST: f64 = 1e-4;
/// The greatest run length.
const LONGEST: f64 = 1e12;
/// The part of the run length that a warning is certified for.
const WARNING: f64 = 0.1;

/// What an [`EDetector`] certifies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The mean loss that is no change, from 0.0001 to below 1: at any time, whatever came before, the expected loss is
    /// this at most.
    pub baseline: f64,
    /// Losses until the first false alarm, on average, at least. Default 100,000.
    pub run_length: f64,
    /// Losses that are averaged before they count as one. Default 1. Above that, the baseline need only hold for the
    /// expected mean of a block: take a season, or some ten times as long as losses depend on each other.
    pub block: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { baseline: 0.5, run_length: 1e5, block: 1 }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        within("the baseline", self.baseline, (LEAST, 1.0 - LEAST), "from 0.0001 to 0.9999")?;
        within("the run length", self.run_length, (1.0, LONGEST), "from 1 to 10^12")?;
        within("the block", f64::from(self.block), (1.0, self.run_length), "from 1 to the run length").map(|_| ())
    }

    /// What evidence is a drift.
    fn threshold(&self) -> f64 {
        self.run_length / f64::from(self.block)
    }
}

/// A Shiryaev–Roberts e-detector of Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential
/// change detection" (NEJSDS 2023), over losses x from 0 to 1. While E\[x | the past\] ≤ m, the baseline, each factor
/// below has an expectation of 1 at most, whatever the losses' distribution and dependence:
///
/// ```text
/// Mₖ ← (Mₖ + 1) · (1 + κₖ (x / m − 1)),   κₖ from 0.01 to 0.9;   drift when mean over k of Mₖ ≥ run length
/// ```
///
/// So E\[M at time t\] ≤ t, and by optional stopping the expected time to a false alarm is the run length at least. The
/// mixture over bets κ stands for the unknown size of the change; κ is the bet that is best for 0/1 losses whose mean
/// becomes m + κ (1 − m).
///
/// Where losses have seasons, or errors come in runs, their expectation given the past is above the mean at times.
/// Then either the baseline has to be that high, or a [`block`](Settings::block) has to average it out. A change back
/// is found by a detector over 1 − x with baseline 1 − m; whether a challenger stopped being better, by one over (1 +
/// d) / 2 with d from −1 to 1 the challenger's loss less the champion's, and baseline ½.
///
/// O(1), about 10 ns, 104 bytes. Says [`State::Warning`] at a tenth of the evidence, certified for a tenth of the run
/// length.
///
/// ```
/// use online::drift::{Detector, EDetector, State, edetector::Settings};
///
/// let mut detector = EDetector::new(Settings { baseline: 0.12, ..Settings::default() })?;
/// for i in 0..10_000 {
///     assert_eq!(detector.update(f64::from(u8::from(i % 10 == 0)))?, State::Stable, "one loss in ten is fine");
/// }
/// let drift = (0..1_000).position(|i| detector.update(f64::from(u8::from(i % 10 < 4))) == Ok(State::Drift));
/// assert!(matches!(drift, Some(20..60)), "four in ten are not: {drift:?}");
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EDetector {
    settings: Settings,
    evidence: [f64; BETS.len()],
    /// Sum and number of the losses of the block that is not full.
    open: (f64, u32),
}

impl EDetector {
    /// One without evidence.
    ///
    /// # Errors
    /// [`Error::Range`] for a setting outside its range.
    pub fn new(settings: Settings) -> Result<Self> {
        settings.check()?;
        Ok(Self { settings, evidence: [0.0; BETS.len()], open: (0.0, 0) })
    }

    /// One whose baseline is learnt from losses that are no change: an upper bound of their mean that errs in 1 of
    /// 100 cases (the empirical Bernstein bound of Maurer and Pontil, COLT 2009, theorem 4), plus the `margin` that
    /// may be lost without an alarm. The losses have to be independent for that; when they come in blocks, so are
    /// their blocks. O(n).
    ///
    /// # Errors
    /// [`Error::Range`] for fewer than two full blocks, or a baseline that would be above 0.9999; as
    /// [`update`](Detector::update) for the losses.
    pub fn from_reference(losses: &[f64], margin: f64, settings: Settings) -> Result<Self> {
        within("the margin", margin, (0.0, 1.0), "from 0 to 1")?;
        for &loss in losses {
            unit(loss)?;
        }
        let block = settings.block.max(1) as usize;
        let blocks = || losses.chunks_exact(block).map(|block| block.iter().sum::<f64>() / block.len() as f64);
        let n = blocks().count() as f64;
        within("the number of blocks to learn from", n, (2.0, f64::INFINITY), "at least 2")?;
        let mean = blocks().sum::<f64>() / n;
        let variance = blocks().map(|value| (value - mean) * (value - mean)).sum::<f64>() / (n - 1.0);
        let log = (2.0_f64 / 0.01).ln();
        let bound = mean + (2.0 * variance * log / n).sqrt() + 7.0 * log / (3.0 * (n - 1.0));
        Self::new(Settings { baseline: (bound + margin).max(LEAST), ..settings })
    }

    /// The evidence for a change: it alarms at the run length in blocks.
    pub fn evidence(&self) -> f64 {
        self.evidence.iter().sum::<f64>() / BETS.len() as f64
    }

    /// What it certifies.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Detector for EDetector {
    fn update(&mut self, value: f64) -> Result<State> {
        let (sum, count) = (self.open.0 + unit(value)?, self.open.1 + 1);
        if count < self.settings.block {
            self.open = (sum, count);
            return Ok(State::Stable);
        }
        self.open = (0.0, 0);
        let excess = sum / f64::from(count) / self.settings.baseline - 1.0;
        for (evidence, bet) in self.evidence.iter_mut().zip(BETS) {
            *evidence = (*evidence + 1.0) * (1.0 + bet * excess).max(0.0);
        }
        let (evidence, threshold) = (self.evidence(), self.settings.threshold());
        if evidence >= threshold {
            self.reset();
            return Ok(State::Drift);
        }
        Ok(if evidence >= threshold * WARNING { State::Warning } else { State::Stable })
    }

    fn reset(&mut self) {
        self.evidence = [0.0; BETS.len()];
        self.open = (0.0, 0);
    }

    fn memory(&self) -> usize {
        size_of::<Self>()
    }
}

impl Snapshot for EDetector {
    const KIND: &'static str = "drift e-detector";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.settings.check()?;
        // What is below the threshold on average is below eight times that each.
        let most = self.settings.threshold() * BETS.len() as f64;
        if !self.evidence.iter().all(|evidence| (0.0..=most).contains(evidence)) {
            return Err(Error::Snapshot("has evidence that would have been a drift"));
        }
        let (sum, count) = self.open;
        if count >= self.settings.block.max(1) || !(0.0..=f64::from(count)).contains(&sum) {
            return Err(Error::Snapshot("has an open block that is full"));
        }
        Ok(())
    }
}
