//! What a request will cost, from what is known beforehand, and how far that can be trusted.

use crate::policy::Ask;

/// Readings that a mean remembers at the most.
const MEMORY: f64 = 1_000.0;
/// Readings that a bin remembers at the most, and with how many it is as sure as what stands above it.
const BIN: (f64, f64) = (200.0, 4.0);
/// Doublings of a size that are told apart, and the finest bins in one.
const OCTAVES: usize = 32;
const FINE: usize = 16;
/// Columns of the line: one, logarithms of size and rows, size and rows beside their means.
const COLUMNS: usize = 5;
/// Ridge of the line, and what an old reading keeps at each new one.
const RIDGE: f64 = 1.0;
const KEPT: f64 = 0.999;

/// Whoever predicts how long work takes on a usual replica, in seconds.
pub trait Predict: Send {
    /// The prediction; 0 or below, or no number, where there is none.
    fn predict(&self, ask: &Ask) -> f64;

    /// Learns how long it took.
    fn learn(&mut self, ask: &Ask, seconds: f64);
}

/// A mean that follows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mean {
    pub(crate) value: f64,
    pub(crate) count: f64,
}

impl Mean {
    pub(crate) fn observe(&mut self, value: f64, most: f64) {
        self.count = (self.count + 1.0).min(most);
        self.value += (value - self.value) / self.count;
    }

    /// Its value where much is known, and towards 0 where little is.
    fn shrunk(&self) -> f64 {
        self.value * self.count / (self.count + BIN.1)
    }
}

/// Online ridge regression on size and rows (recursive least squares), and what it errs by in bins of the size, each within
/// a coarser one: costs of language models are no line in the prompt's length. A bin of which little is known says little.
///
/// Predict is O(1), some 20 ns; learn O(25). 10 KB.
///
/// ```
/// use balance::{policy::Ask, predict::{Predict as _, Ridge}};
///
/// let mut ridge = Ridge::default();
/// for n in 0..2_000 {
///     let ask = Ask { size: f64::from(n % 100), rows: 1 };
///     ridge.learn(&ask, 0.01 + ask.size * 0.001);
/// }
/// assert!((ridge.predict(&Ask { size: 50.0, rows: 1 }) / 0.06 - 1.0).abs() < 0.1);
/// ```
#[derive(Debug, Clone)]
pub struct Ridge {
    mean: Mean,
    deviation: Mean,
    sizes: Mean,
    rows: Mean,
    weights: [f64; COLUMNS],
    /// The inverse of the columns' second moments.
    inverse: [[f64; COLUMNS]; COLUMNS],
    coarse: [Mean; OCTAVES],
    fine: Vec<Mean>,
}

impl Default for Ridge {
    fn default() -> Self {
        let mut inverse = [[0.0; COLUMNS]; COLUMNS];
        (0..COLUMNS).for_each(|place| inverse[place][place] = 1.0 / RIDGE);
        Self {
            mean: Mean::default(),
            deviation: Mean::default(),
            sizes: Mean::default(),
            rows: Mean::default(),
            weights: [0.0; COLUMNS],
            inverse,
            coarse: [Mean::default(); OCTAVES],
            fine: vec![Mean::default(); OCTAVES * FINE],
        }
    }
}

impl Ridge {
    fn columns(&self, ask: &Ask) -> [f64; COLUMNS] {
        let (size, rows) = (size(ask), f64::from(ask.rows));
        let beside = |value: f64, mean: &Mean| (value / mean.value.max(1e-9)).min(8.0);
        let log = |value: f64, mean: &Mean| ((1.0 + value) / (1.0 + mean.value)).ln();
        [1.0, log(size, &self.sizes), log(rows, &self.rows), beside(size, &self.sizes), beside(rows, &self.rows)]
    }

    /// The line's say, beside the mean.
    fn line(&self, columns: &[f64; COLUMNS]) -> f64 {
        self.weights.iter().zip(columns).map(|(weight, column)| weight * column).sum::<f64>().clamp(-8.0, 8.0)
    }

    fn step(&mut self, columns: &[f64; COLUMNS], error: f64) {
        let mut gain = [0.0; COLUMNS];
        for (gain, row) in gain.iter_mut().zip(&self.inverse) {
            *gain = row.iter().zip(columns).map(|(a, b)| a * b).sum();
        }
        let scale = KEPT + gain.iter().zip(columns).map(|(a, b)| a * b).sum::<f64>();
        for place in 0..COLUMNS {
            self.weights[place] += gain[place] / scale * error;
            for other in 0..COLUMNS {
                self.inverse[place][other] -= gain[place] * gain[other] / scale;
            }
        }
        // Forgetting lets what is not seen grow without end; it stops at the ridge.
        let largest = (0..COLUMNS).map(|place| self.inverse[place][place]).fold(0.0, f64::max);
        if largest / KEPT <= 1.0 / RIDGE {
            self.inverse.iter_mut().flatten().for_each(|value| *value /= KEPT);
        }
    }
}

fn size(ask: &Ask) -> f64 {
    if ask.size.is_finite() { ask.size.max(0.0) } else { 0.0 }
}

fn bins(ask: &Ask) -> (usize, usize) {
    let place = (1.0 + size(ask)).log2();
    ((place as usize).min(OCTAVES - 1), ((place * FINE as f64) as usize).min(OCTAVES * FINE - 1))
}

impl Predict for Ridge {
    fn predict(&self, ask: &Ask) -> f64 {
        let (coarse, fine) = bins(ask);
        let mean = self.mean.value;
        mean * self.line(&self.columns(ask)) + self.coarse[coarse].shrunk() + self.fine[fine].shrunk()
    }

    fn learn(&mut self, ask: &Ask, seconds: f64) {
        if !(seconds.is_finite() && seconds >= 0.0) {
            return;
        }
        self.mean.observe(seconds, MEMORY);
        self.deviation.observe((seconds - self.mean.value).abs(), MEMORY);
        self.sizes.observe(size(ask), MEMORY);
        self.rows.observe(f64::from(ask.rows), MEMORY);
        // What is wild counts as much as what the cap lets through.
        let mean = self.mean.value.max(1e-9);
        let seconds = seconds.min(mean + 8.0 * self.deviation.value);
        let columns = self.columns(ask);
        let error = seconds - mean * self.line(&columns);
        self.step(&columns, (error / mean).clamp(-8.0, 8.0));
        let (coarse, fine) = bins(ask);
        let left = seconds - mean * self.line(&columns);
        self.coarse[coarse].observe(left, BIN.0);
        let left = left - self.coarse[coarse].shrunk();
        self.fine[fine].observe(left, BIN.0);
    }
}

/// Bins of actual over predicted work: eight per doubling, from 1/32 to 32.
const RATIOS: usize = 80;
/// Readings after which what is left is reckoned anew; older ones are forgotten after some thousand.
const RECKON: u32 = 64;

/// How much of work is left once it has been worked on for some time: the mean of what the ratios of actual to predicted
/// work that were seen leave. O(1); O(80) every 64 readings.
#[derive(Debug, Clone)]
pub struct Left {
    ratios: [f64; RATIOS],
    /// By bin: mean of the ratios in it and above it.
    above: [f64; RATIOS],
    fresh: u32,
    /// Whether it was reckoned.
    known: bool,
}

impl Default for Left {
    fn default() -> Self {
        Self { ratios: [0.0; RATIOS], above: [0.0; RATIOS], fresh: 0, known: false }
    }
}

/// The bin of a ratio: its exponent and the first three bits behind the point, so that no logarithm is needed.
fn ratio_bin(ratio: f64) -> usize {
    let lowest = (1_023 - 5) << 3;
    let place = (ratio.clamp(1e-9, 1e9).to_bits() >> 49) as usize;
    place.saturating_sub(lowest).min(RATIOS - 1)
}

/// The middle of a bin.
fn ratio_of(bin: usize) -> f64 {
    let (octave, part) = ((bin / 8) as i32, (bin % 8) as f64);
    f64::from(octave - 5).exp2() * (1.0 + (part + 0.5) / 8.0)
}

impl Left {
    /// Work that was predicted to take so long took so long.
    pub fn observe(&mut self, seconds: f64, predicted: f64) {
        if !(predicted > 0.0 && seconds.is_finite() && seconds > 0.0) {
            return;
        }
        self.ratios[ratio_bin(seconds / predicted)] += 1.0;
        self.fresh += 1;
        if self.fresh >= RECKON {
            self.reckon();
        }
    }

    fn reckon(&mut self) {
        self.fresh = 0;
        self.known = true;
        let (mut sum, mut count) = (0.0, 0.0);
        for (bin, (ratios, above)) in self.ratios.iter_mut().zip(&mut self.above).enumerate().rev() {
            *ratios *= 0.98;
            sum += *ratios * ratio_of(bin);
            count += *ratios;
            *above = if count > 0.01 { sum / count } else { 0.0 };
        }
    }

    /// What is left of work of this prediction, after so many seconds on a usual replica.
    pub fn of(&self, predicted: f64, seconds: f64) -> f64 {
        if predicted.is_nan() || predicted <= 0.0 {
            return 0.0;
        }
        self.share(seconds / predicted) * predicted
    }

    /// The same, as shares of the prediction: what is left after so many of it.
    pub(crate) fn share(&self, ratio: f64) -> f64 {
        let mean = if self.known { self.above[ratio_bin(ratio)] } else { 1.0 };
        // Beyond all that was seen, it takes as long again as a quarter of what it took.
        (mean - ratio).max(0.25 * ratio.max(0.2))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn costs_that_are_no_line_are_learnt() {
        // As in a trace of chats: prompts of about 1,000 have long answers, shorter and longer ones short ones.
        let mut ridge = Ridge::default();
        let cost = |size: f64| if (900.0..1_100.0).contains(&size) { 8.0 } else { 2.0 };
        let ask = |n: u32| Ask { size: f64::from(n * 37 % 4_000), rows: 1 };
        (0..8_000).for_each(|n| ridge.learn(&ask(n), cost(ask(n).size)));
        for size in [100.0, 1_000.0, 3_000.0] {
            let said = ridge.predict(&Ask { size, rows: 1 });
            assert!((said / cost(size) - 1.0).abs() < 0.3, "{size}: {said}");
        }
    }

    #[test]
    fn what_is_left_of_equal_work_is_what_is_not_done() {
        let mut left = Left::default();
        (0..1_000).for_each(|_| left.observe(1.0, 1.0));
        assert!((left.of(1.0, 0.0) - 1.0).abs() < 0.1);
        assert!((left.of(1.0, 0.5) - 0.5).abs() < 0.1);
        // Beyond all that was seen it is not nothing.
        assert!(left.of(1.0, 3.0) > 0.5);
    }

    #[test]
    fn what_is_left_of_a_mixture_grows_once_the_short_ones_are_over() {
        let mut left = Left::default();
        (0..1_000).for_each(|n| left.observe(if n % 2 == 0 { 0.2 } else { 1.8 }, 1.0));
        assert!((left.of(1.0, 0.0) - 1.0).abs() < 0.1);
        assert!(left.of(1.0, 0.3) > 1.2);
    }

    proptest! {
        #[test]
        fn any_input_leaves_numbers(
            examples in prop::collection::vec((any::<f64>(), any::<u32>(), any::<f64>()), 0..200),
            asked in (any::<f64>(), any::<u32>()),
        ) {
            let (mut ridge, mut left) = (Ridge::default(), Left::default());
            for (size, rows, seconds) in examples {
                let ask = Ask { size, rows };
                // Seconds of a request: a day at the most.
                ridge.learn(&ask, seconds % 86_400.0);
                left.observe(seconds, 1.0);
            }
            let asked = Ask { size: asked.0, rows: asked.1 };
            prop_assert!(ridge.predict(&asked).is_finite());
            prop_assert!(left.of(1.0, 0.5) > 0.0);
        }
    }
}
