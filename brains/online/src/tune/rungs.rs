//! How much of a log each rung has, which of its examples are scored, and from where on a candidate learns.

use serde::{Deserialize, Serialize};

use super::Settings;
use crate::{Result, error::within};

/// Of a rung's examples the last third is scored.
const SCORED: u64 = 3;
/// Of a rung's examples a tenth is what [`Window::Recent`] learns from before it is scored.
const RECENT: u64 = 10;
/// Part of a ratio of two rungs that whole numbers may make of it.
const ROUNDED: f64 = 1.001;
/// The most examples of a log.
const EXAMPLES: u64 = 1 << 50;

/// What of the past a candidate learns from before its scored examples come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Window {
    /// Everything.
    #[default]
    All,
    /// What came after the last drift before the scored examples.
    SinceDrift,
    /// As much as a tenth of the rung, right before the scored examples.
    Recent,
}

impl Window {
    /// Each of them.
    pub const EVERY: [Self; 3] = [Self::All, Self::SinceDrift, Self::Recent];
}

/// The log as its rungs divide it. A rung is the log's first examples up to its end, so that who has learnt a rung can
/// learn on from there; all its candidates are scored on the same last third.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Rungs {
    ends: Vec<u64>,
    drifts: Vec<u64>,
}

impl Rungs {
    /// Of a log of so many examples, with these places of drifts.
    pub(super) fn new(settings: &Settings, examples: u64, drifts: &[u64]) -> Result<Self> {
        let least = settings.least.saturating_mul(2);
        let range = "at least twice those of the first rung, and less than 2^50";
        within("the number of examples", examples as f64, (least as f64, EXAMPLES as f64), range)?;
        let mut ends: Vec<u64> = Vec::new();
        for below in (1..settings.rungs).rev() {
            let end = (examples / u64::from(settings.eta).saturating_pow(below)).max(settings.least);
            // Where the floor pushes rungs together, one that has not twice the examples of the one before says little more.
            if ends.last().is_none_or(|last| end >= 2 * last) && 2 * end <= examples {
                ends.push(end);
            }
        }
        ends.push(examples);
        let mut drifts: Vec<u64> = drifts.iter().copied().filter(|drift| *drift < examples).collect();
        drifts.sort_unstable();
        drifts.dedup();
        Ok(Self { ends, drifts })
    }

    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn top(&self) -> usize {
        self.ends.len().saturating_sub(1)
    }

    /// Where a rung ends; the log's end for one that is not there.
    pub(super) fn end(&self, rung: usize) -> u64 {
        self.ends.get(rung).or(self.ends.last()).copied().unwrap_or(0)
    }

    /// From where on a rung's examples are scored.
    pub(super) fn scored(&self, rung: usize) -> u64 {
        self.end(rung) - self.end(rung) / SCORED
    }

    /// From where on a candidate learns.
    pub(super) fn begin(&self, rung: usize, window: Window) -> u64 {
        let scored = self.scored(rung);
        match window {
            Window::All => 0,
            Window::SinceDrift => self.drifts.iter().rev().find(|drift| **drift <= scored).copied().unwrap_or(0),
            Window::Recent => scored - self.end(rung) / RECENT,
        }
    }

    /// What share of those at a rung may go on to the next: at the first what the settings say, later one in η; less where the
    /// next rung is longer than η times this one.
    pub(super) fn share(&self, rung: usize, settings: &Settings) -> f64 {
        let eta = f64::from(settings.eta);
        let keep = if rung == 0 { settings.keep } else { 1.0 / eta };
        let times = self.end(rung + 1) as f64 / self.end(rung).max(1) as f64;
        // Ends are whole numbers: what is a hair longer than η times is η times.
        keep * (ROUNDED * eta / times).min(1.0)
    }

    /// Whether it is what these settings make of a log of its length.
    pub(super) fn is_of(&self, settings: &Settings) -> bool {
        Self::new(settings, self.end(self.top()), &self.drifts).is_ok_and(|made| made == *self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rungs(examples: u64, drifts: &[u64]) -> Rungs {
        Rungs::new(&Settings::default(), examples, drifts).unwrap()
    }

    #[test]
    fn rungs_are_thirds_above_a_floor() {
        for (examples, ends) in [
            (54_000, vec![2_000, 6_000, 18_000, 54_000]),
            (18_000, vec![1_000, 2_000, 6_000, 18_000]),
            (11_055, vec![1_000, 3_685, 11_055]),
            (2_000, vec![1_000, 2_000]),
        ] {
            assert_eq!(rungs(examples, &[]).ends, ends, "{examples}");
        }
        assert!(Rungs::new(&Settings::default(), 1_999, &[]).is_err());
    }

    #[test]
    fn the_first_rung_lets_more_go_on_and_a_longer_next_one_fewer() {
        let share = |examples, rung| rungs(examples, &[]).share(rung, &Settings { keep: 0.6, ..Settings::default() });
        assert_eq!([0, 1, 2].map(|rung| share(54_000, rung)), [0.6, 1.0 / 3.0, 1.0 / 3.0]);
        assert_eq!(share(45_312, 2), 1.0 / 3.0, "15,104 is a hair less than a third");
        assert!((share(18_000, 0) - 0.6).abs() < 1e-9 && (share(12_000, 0) - 0.45).abs() < 0.001);
    }

    #[test]
    fn windows_begin_before_what_is_scored() {
        let rungs = rungs(27_000, &[500, 900, 15_000, 20_000]);
        assert_eq!(rungs.scored(3), 18_000);
        let begins = |rung| Window::EVERY.map(|window| rungs.begin(rung, window));
        assert_eq!(begins(3), [0, 15_000, 15_300]);
        assert_eq!(begins(0), [0, 500, 567]);
    }

    proptest! {
        #[test]
        fn every_log_has_rungs_that_grow(
            examples in 2_000..1_u64 << 50, drifts in prop::collection::vec(any::<u64>(), 0..5),
        ) {
            let rungs = rungs(examples, &drifts);
            prop_assert!((2..=4).contains(&rungs.count()) && rungs.end(0) >= 1_000 && rungs.end(rungs.top()) == examples);
            prop_assert!(rungs.ends.windows(2).all(|pair| pair[1] >= 2 * pair[0]));
            for rung in 0..rungs.count() {
                for window in Window::EVERY {
                    prop_assert!(rungs.begin(rung, window) <= rungs.scored(rung) && rungs.scored(rung) < rungs.end(rung));
                }
            }
            prop_assert!(rungs.is_of(&Settings::default()));
        }
    }
}
