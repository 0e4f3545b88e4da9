//! Weights over experts that follow the best one, and change over quickly when another becomes the best.
//!
//! Forecasts mix simple rules with it, and a classifier may mix kinds of learners. Who speaks, and what a loss is, the
//! caller says; see [`FixedShare`].

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result, Snapshot,
    error::{finite, within},
};

/// The most experts that can be mixed.
const MOST: usize = 4_096;
/// No weight falls below this, so that with a share of 0 an expert can still come back, and no weight underflows.
const FLOOR: f64 = 1e-300;

/// Fixed share (Herbster and Warmuth, Machine Learning 1998): each weight is multiplied by `exp(-rate · loss)`, then
/// every expert gets an even part of `share` of the whole. Against the best sequence of experts with `k` changes in
/// `n` rounds it loses about `(k + 1) · ln(experts) / rate + k · ln(n / k) / rate` for losses that mix well at that
/// rate, such as log loss at rate 1.
///
/// Two differences. A loss of NaN is an expert that did not speak: it keeps its weight, and the others share out what
/// they had (the sleeping experts of Freund, Schapire, Singer and Warmuth, STOC 1997). And each expert also gets a
/// part of the share back from itself, which only rescales it. Losses may be of any sign: only their differences
/// count.
///
/// An update costs O(experts), one exponential each, and allocates nothing. Memory: 8 bytes an expert.
///
/// ```
/// use online::share::FixedShare;
///
/// let mut share = FixedShare::new(2, 1.0, 0.01)?;
/// for _ in 0..20 {
///     share.update(&[0.1, 0.9])?;
/// }
/// assert!(share.weights()[0] > 0.9);
/// assert_eq!(share.mix(&[1.0, f64::NAN]), Some(1.0));
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FixedShare {
    weights: Vec<f64>,
    rate: f64,
    share: f64,
}

impl FixedShare {
    /// Equal weights for so many experts. `rate` says how fast weights follow losses; `share`, from 0 to 1, is what is
    /// handed out evenly in each round: about how often the best expert changes.
    ///
    /// # Errors
    /// [`Error::Range`] for no expert, more than 4,096, a rate that is not above 0, or a share that is no share.
    pub fn new(experts: usize, rate: f64, share: f64) -> Result<Self> {
        within("the number of experts", experts as f64, (1.0, MOST as f64), "from 1 to 4,096")?;
        within("the learning rate", rate, (f64::MIN_POSITIVE, 1e6), "above 0 and at most 1,000,000")?;
        within("the share", share, (0.0, 1.0), "from 0 to 1")?;
        Ok(Self { weights: vec![1.0 / experts as f64; experts], rate, share })
    }

    /// The weights, which sum to 1 up to rounding, in the order of the experts.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Whether it was made with this rate and share.
    pub(crate) fn has(&self, rate: f64, share: f64) -> bool {
        self.rate == rate && self.share == share
    }

    /// The mean of the predictions by weight, over those that are not NaN; nothing when all are, or when there are
    /// not as many as experts.
    pub fn mix(&self, predictions: &[f64]) -> Option<f64> {
        if predictions.len() != self.weights.len() {
            return None;
        }
        let spoken = self.weights.iter().zip(predictions).filter(|(_, prediction)| !prediction.is_nan());
        let (sum, weight) =
            spoken.fold((0.0, 0.0), |(sum, all), (weight, prediction)| (sum + weight * prediction, all + weight));
        (weight > 0.0).then_some(sum / weight)
    }

    /// Takes in what each expert lost in this round; NaN for one that did not speak. When none spoke nothing changes.
    ///
    /// # Errors
    /// [`Error::Width`] when there are not as many losses as experts, [`Error::Infinite`] when one is infinite; then
    /// nothing has changed.
    pub fn update(&mut self, losses: &[f64]) -> Result<()> {
        let experts = self.weights.len();
        if losses.len() != experts {
            return Err(Error::Width { wanted: experts, found: losses.len() });
        }
        if let Some(index) = losses.iter().position(|loss| loss.is_infinite()) {
            return Err(Error::Infinite { index });
        }
        // The least loss is taken off all: the best expert's factor is 1, and nothing underflows together.
        let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
        if least.is_finite() {
            self.multiply(losses, least);
        }
        Ok(())
    }

    fn multiply(&mut self, losses: &[f64], least: f64) {
        let (mut before, mut after) = (0.0, 0.0);
        for (weight, loss) in self.weights.iter_mut().zip(losses).filter(|(_, loss)| !loss.is_nan()) {
            before += *weight;
            *weight = (*weight * (-self.rate * (loss - least)).exp()).max(FLOOR);
            after += *weight;
        }
        let (scale, even) = (before / after, self.share / self.weights.len() as f64);
        let mut sum = 0.0;
        for (weight, loss) in self.weights.iter_mut().zip(losses) {
            let kept = if loss.is_nan() { *weight } else { *weight * scale };
            *weight = (kept * (1.0 - self.share) + even).max(FLOOR);
            sum += *weight;
        }
        self.weights.iter_mut().for_each(|weight| *weight = (*weight / sum).max(FLOOR));
    }
}

impl Snapshot for FixedShare {
    const KIND: &'static str = "fixed-share";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        Self::new(self.weights.len(), self.rate, self.share)
            .map_err(|_| Error::Snapshot("has settings out of range"))?;
        let sum: f64 = self.weights.iter().sum();
        let each = self.weights.iter().all(|weight| (FLOOR..=1.0 + 1e-9).contains(weight));
        finite("the sum of weights", sum).map_err(|_| Error::Snapshot("has weights that are no numbers"))?;
        if each && (sum - 1.0).abs() < 1e-6 { Ok(()) } else { Err(Error::Snapshot("has weights that do not sum to 1")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_best_expert_wins_and_the_next_takes_over() {
        let mut share = FixedShare::new(3, 1.0, 0.001).unwrap();
        (0..1_000).for_each(|_| share.update(&[0.0, 0.5, 1.0]).unwrap());
        assert!(share.weights()[0] > 0.99, "{:?}", share.weights());
        // The floor of share / experts bounds how long the change takes: ln(3 / 0.001) / 0.5 rounds and a few.
        (0..30).for_each(|_| share.update(&[1.0, 0.5, 0.0]).unwrap());
        assert!(share.weights()[2] > 0.9, "{:?}", share.weights());
    }

    #[test]
    fn who_sleeps_keeps_its_weight() {
        let mut share = FixedShare::new(3, 1.0, 0.0).unwrap();
        share.update(&[0.0, 2.0, f64::NAN]).unwrap();
        assert!((share.weights()[2] - 1.0 / 3.0).abs() < 1e-12);
        let before = share.clone();
        share.update(&[f64::NAN; 3]).unwrap();
        assert_eq!(share, before);
        assert_eq!(share.mix(&[f64::NAN; 3]), None);
        assert_eq!(share.mix(&[1.0]), None);
    }

    #[test]
    fn what_is_wrong_changes_nothing() {
        let mut share = FixedShare::new(2, 1.0, 0.1).unwrap();
        let before = share.clone();
        assert_eq!(share.update(&[1.0]), Err(Error::Width { wanted: 2, found: 1 }));
        assert_eq!(share.update(&[1.0, f64::INFINITY]), Err(Error::Infinite { index: 1 }));
        assert_eq!(share, before);
        for (experts, rate, share) in
            [(0, 1.0, 0.1), (2, 0.0, 0.1), (2, f64::NAN, 0.1), (2, 1.0, 1.1), (9_999, 1.0, 0.0)]
        {
            assert!(FixedShare::new(experts, rate, share).is_err());
        }
    }

    fn loss() -> impl Strategy<Value = f64> {
        prop_oneof![Just(f64::NAN), -1e300..1e300_f64, -1.0..1.0_f64]
    }

    proptest! {
        #[test]
        fn weights_stay_weights(
            rounds in prop::collection::vec(prop::array::uniform4(loss()), 1..50),
            rate in 0.001..100.0_f64,
            part in 0.0..1.0_f64,
        ) {
            let mut share = FixedShare::new(4, rate, part).unwrap();
            for losses in rounds {
                share.update(&losses).unwrap();
                prop_assert!(share.check().is_ok(), "{share:?}");
                prop_assert!(share.weights().iter().all(|weight| *weight >= part / 4.0 * (1.0 - 1e-9)));
                let loaded = FixedShare::load(&share.save()).unwrap();
                prop_assert_eq!(&loaded, &share);
            }
        }
    }
}
