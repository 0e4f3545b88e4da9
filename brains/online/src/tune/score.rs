//! What a candidate lost on the scored examples of a rung, block by block, so that two can be compared on the same ones.

use serde::{Deserialize, Serialize};

use crate::{Result, evidence::Interval};

/// The most blocks: memory is bounded, and a bound's slack, some ten blocks' worth, stays small.
const BLOCKS: u64 = 1_024;
/// Groups of blocks for a standard error: long enough that losses of neighbours do not make it too small.
const GROUPS: usize = 20;

/// Mean losses of blocks of equal length. At most 8 KiB.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Score {
    /// Examples that will be scored, and those of a block; the last one may be shorter.
    wanted: u64,
    block: u64,
    means: Vec<f64>,
    /// Of all losses.
    total: f64,
    /// The block that is not full.
    sum: f64,
    count: u64,
}

impl Score {
    pub(super) fn new(wanted: u64) -> Self {
        Self { wanted, block: wanted.div_ceil(BLOCKS).max(1), means: Vec::new(), total: 0.0, sum: 0.0, count: 0 }
    }

    /// Takes a loss in.
    pub(super) fn add(&mut self, loss: f64) {
        if self.is_whole() {
            return;
        }
        self.total += loss;
        self.sum += loss;
        self.count += 1;
        if self.count == self.block || self.seen() == self.wanted {
            self.means.push((self.sum / self.count as f64).clamp(0.0, 1.0));
            (self.sum, self.count) = (0.0, 0);
        }
    }

    /// Examples scored by now.
    pub(super) fn seen(&self) -> u64 {
        (self.means.len() as u64 * self.block + self.count).min(self.wanted)
    }

    /// Whole blocks.
    pub(super) fn blocks(&self) -> u64 {
        self.means.len() as u64
    }

    /// Whether all are.
    pub(super) fn is_whole(&self) -> bool {
        self.count == 0 && self.seen() == self.wanted
    }

    /// The mean loss; 1, the worst, of none.
    pub(super) fn mean(&self) -> f64 {
        if self.seen() == 0 { 1.0 } else { self.total / self.seen() as f64 }
    }

    /// The standard error of the mean, by the spread of the means of at most 20 groups of blocks.
    pub(super) fn error(&self) -> f64 {
        let size = self.means.len().div_ceil(GROUPS).max(1);
        let groups: Vec<f64> =
            self.means.chunks_exact(size).map(|group| group.iter().sum::<f64>() / size as f64).collect();
        if groups.len() < 2 {
            return 0.5;
        }
        let count = groups.len() as f64;
        let mean = groups.iter().sum::<f64>() / count;
        let squares: f64 = groups.iter().map(|group| (group - mean) * (group - mean)).sum();
        (squares / (count - 1.0) / count).sqrt()
    }

    /// Between which bounds "this one's mean loss less the other's" lies, over the blocks that both have.
    pub(super) fn against(&self, other: &Self, alpha: f64) -> Result<Interval> {
        let mut interval = Interval::new(alpha)?;
        for (own, other) in self.means.iter().zip(&other.means) {
            interval.observe(own - other)?;
        }
        Ok(interval)
    }

    /// Whether it can be the score of so many examples.
    pub(super) fn is_sound(&self, wanted: u64) -> bool {
        let fresh = Self::new(wanted);
        let blocks = self.means.len() as u64;
        (self.wanted, self.block) == (fresh.wanted, fresh.block)
            && self.means.iter().all(|mean| (0.0..=1.0).contains(mean))
            && blocks <= wanted.div_ceil(self.block)
            && self.count < self.block
            && blocks * self.block.min(wanted) + self.count <= wanted + self.block
            && (0.0..=self.count as f64 + 1e-9).contains(&self.sum)
            && (0.0..=self.seen() as f64 * (1.0 + 1e-9)).contains(&self.total)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_are_bounded_and_their_mean_is_that_of_the_losses(wanted in 1..5_000_u64, seed in any::<u64>()) {
            let (mut random, mut score, mut sum) = (crate::Random::new(seed), Score::new(wanted), 0.0);
            for n in 0..wanted {
                prop_assert!(!score.is_whole() && score.seen() == n && score.is_sound(wanted));
                let loss = random.uniform();
                sum += loss;
                score.add(loss);
            }
            prop_assert!(score.is_whole() && score.means.len() <= 1_024 && score.is_sound(wanted));
            prop_assert!((score.mean() - sum / wanted as f64).abs() < 1e-9);
            score.add(1.0);
            prop_assert_eq!(score.seen(), wanted);
        }
    }

    #[test]
    fn neighbours_that_are_alike_widen_the_error() {
        let (mut alike, mut mixed) = (Score::new(4_000), Score::new(4_000));
        for n in 0..4_000 {
            alike.add(f64::from(u8::from(n % 2_000 >= 1_000)));
            mixed.add(f64::from(u8::from(n % 2 == 0)));
        }
        assert!(alike.error() > 0.1 && mixed.error() < 0.01, "{} {}", alike.error(), mixed.error());
    }

    #[test]
    fn the_same_blocks_are_compared() {
        let (mut worse, mut better) = (Score::new(3_000), Score::new(3_000));
        for n in 0..2_000_u32 {
            better.add(f64::from(u8::from(n % 10 == 0)));
            worse.add(f64::from(u8::from(n % 5 == 0)));
        }
        (0..1_000).for_each(|_| better.add(1.0));
        let (low, high) = worse.against(&better, 0.05).unwrap().bounds();
        assert!(0.03 < low && low < 0.1 && 0.1 < high, "{low} to {high}");
        assert_eq!(worse.against(&worse, 0.05).unwrap().mean(), 0.0);
    }
}
