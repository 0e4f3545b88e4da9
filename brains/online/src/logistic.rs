//! Logistic regression by follow-the-regularised-leader, for two classes or many.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result, Schema, Snapshot,
    error::within,
    learner::{Classifier, check_classes, check_example, check_question, sets, softmax},
    places::Places,
    schema::GREATEST,
    scratch::{CLASSES_INLINE, with_places},
    weights::{Weighted, check_places, check_weights},
};

/// The steepest gradient: whatever the weight of a row, sums of squares stay numbers.
const STEEPEST: f64 = 1e6;

/// How a [`Logistic`] learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Size of the first steps. Default 0.1.
    pub alpha: f64,
    /// Softens the first steps. Default 1.
    pub beta: f64,
    /// Pull towards weights of exactly 0. Default 0.
    pub l1: f64,
    /// Pull towards small weights. Default 10⁻⁴.
    pub l2: f64,
    /// Places for words; where there are more, several share one. Default 2¹⁸.
    pub places: u32,
    /// Bytes that the weights may take. Default 64 MiB.
    pub memory: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { alpha: 0.1, beta: 1.0, l1: 0.0, l2: 1e-4, places: 1 << 18, memory: 64 << 20 }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        within("alpha", self.alpha, (1e-6, 100.0), "from 10^-6 to 100")?;
        within("beta", self.beta, (0.0, 1e6), "from 0 to 10^6")?;
        within("l1", self.l1, (0.0, 1e6), "from 0 to 10^6")?;
        within("l2", self.l2, (0.0, 1e6), "from 0 to 10^6")?;
        within("places", f64::from(self.places), (1.0, f64::from(1_u32 << 28)), "from 1 to 2^28")?;
        Ok(())
    }

    /// The weight that a state stands for.
    fn weight(&self, [z, n]: [f64; 2]) -> f64 {
        if z.abs() <= self.l1 {
            return 0.0;
        }
        // Without softening a gradient whose square is 0 would make it infinite.
        let weight = (z.signum() * self.l1 - z) / ((self.beta + n.sqrt()) / self.alpha + self.l2);
        weight.clamp(-GREATEST, GREATEST)
    }

    /// The state of the same steps whose weight is this: [`weight`](Self::weight) solved for `z`.
    fn state(&self, [_, n]: [f64; 2], weight: f64) -> [f64; 2] {
        let pull = if weight == 0.0 { 0.0 } else { weight.signum() * self.l1 };
        [-(weight * ((self.beta + n.sqrt()) / self.alpha + self.l2)) - pull, n]
    }

    /// The state after a gradient.
    fn step(&self, [z, n]: [f64; 2], gradient: f64) -> [f64; 2] {
        let squares = n + gradient * gradient;
        let sigma = (squares.sqrt() - n.sqrt()) / self.alpha;
        [z + gradient - sigma * self.weight([z, n]), squares]
    }
}

/// Softmax regression by FTRL-proximal: McMahan and others, "Ad click prediction: a view from the trenches" (KDD 2013),
/// algorithm 1, per class. Numbers are scaled by the mean and spread seen so far; a word is a place of its own, and where
/// words are more than places they are spread over them by a hash (Weinberger and others, ICML 2009). With two classes
/// one set of weights is kept.
///
/// Predict and learn are O(classes · columns); 16 bytes for each class and place.
///
/// ```
/// use online::{Classifier, Logistic, Schema, logistic::Settings};
///
/// let mut logistic = Logistic::new(Settings::default(), Schema::numeric(1)?, 2)?;
/// for n in 0..2_000 {
///     let x = f64::from(n % 10);
///     logistic.learn(&[x], usize::from(x > 4.0), 1.0)?;
/// }
/// let mut probabilities = [0.0; 2];
/// logistic.predict(&[9.0], &mut probabilities)?;
/// assert!(probabilities[1] > 0.9);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logistic {
    settings: Settings,
    classes: usize,
    places: Places,
    /// By place, then set of weights: the sum of gradients less what the steps made of it, and the sum of their squares.
    state: Vec<[f64; 2]>,
}

impl Logistic {
    /// One whose weights are all 0.
    ///
    /// # Errors
    /// [`Error::Range`] names a setting, or the number of classes, that can't be; [`Error::Memory`].
    pub fn new(settings: Settings, schema: Schema, classes: usize) -> Result<Self> {
        settings.check()?;
        check_classes(classes)?;
        let places = Places::new(schema, settings.places);
        let count = sets(classes).saturating_mul(places.count());
        let needed = count.saturating_mul(size_of::<[f64; 2]>());
        if needed > settings.memory {
            return Err(Error::Memory { needed, allowed: settings.memory });
        }
        Ok(Self { settings, classes, places, state: vec![[0.0; 2]; count] })
    }

    /// The probability of each class, for a row that was checked.
    fn answer(&self, row: &[f64], scores: &mut [f64]) {
        scores.fill(0.0);
        let sets = sets(self.classes);
        self.places.visit(row, |place, value| {
            let states = self.state.get(place * sets..).unwrap_or_default();
            for (state, score) in states.iter().zip(scores.iter_mut().take(sets)) {
                *score += value * self.settings.weight(*state);
            }
        });
        softmax(scores);
    }

    /// Learns as [`learn`](Classifier::learn) does, but for means and spreads of columns, which stay: the weights of
    /// several that scale alike can be brought together ([`Weighted`]).
    ///
    /// # Errors
    /// As [`learn`](Classifier::learn).
    pub fn learn_held(&mut self, row: &[f64], class: usize, weight: f64) -> Result<()> {
        check_example(self.schema(), self.classes, row, class, weight)?;
        if weight > 0.0 {
            self.step(row, class, weight);
        }
        Ok(())
    }

    /// Takes a step by an example that was checked.
    fn step(&mut self, row: &[f64], class: usize, weight: f64) {
        with_places::<CLASSES_INLINE, _>(self.classes, |errors| {
            self.answer(row, errors);
            if let Some(error) = errors.get_mut(class) {
                *error -= 1.0;
            }
            let (settings, state, sets) = (&self.settings, &mut self.state, sets(self.classes));
            self.places.visit(row, |place, value| {
                let states = state.get_mut(place * sets..).unwrap_or_default();
                for (state, error) in states.iter_mut().zip(errors.iter().take(sets)) {
                    *state = settings.step(*state, (error * value * weight).clamp(-STEEPEST, STEEPEST));
                }
            });
        });
    }
}

/// A place that nothing was learnt of keeps a weight of 0 where `beta` and `l2` are both 0: its next step would be endless.
impl Weighted for Logistic {
    fn weight_count(&self) -> usize {
        self.state.len()
    }

    fn read_weights(&self, weights: &mut [f64]) -> Result<()> {
        check_places(self.state.len(), weights.len())?;
        weights.iter_mut().zip(&self.state).for_each(|(weight, state)| *weight = self.settings.weight(*state));
        Ok(())
    }

    fn write_weights(&mut self, weights: &[f64]) -> Result<()> {
        check_weights(self.state.len(), weights)?;
        let settings = &self.settings;
        self.state.iter_mut().zip(weights).for_each(|(state, weight)| *state = settings.state(*state, *weight));
        Ok(())
    }
}

impl Classifier for Logistic {
    fn schema(&self) -> &Schema {
        self.places.schema()
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn predict(&self, row: &[f64], probabilities: &mut [f64]) -> Result<()> {
        check_question(self.schema(), self.classes, row, probabilities.len())?;
        self.answer(row, probabilities);
        Ok(())
    }

    fn learn(&mut self, row: &[f64], class: usize, weight: f64) -> Result<()> {
        check_example(self.schema(), self.classes, row, class, weight)?;
        if weight == 0.0 {
            return Ok(());
        }
        self.places.learn(row, weight);
        self.step(row, class, weight);
        Ok(())
    }

    fn memory(&self) -> usize {
        size_of::<Self>() + self.state.len() * size_of::<[f64; 2]>() + self.places.memory()
    }
}

impl Snapshot for Logistic {
    const KIND: &'static str = "logistic";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.settings.check()?;
        check_classes(self.classes)?;
        self.places.check(self.settings.places)?;
        let fits = self.state.len() == sets(self.classes).saturating_mul(self.places.count());
        let finite = self.state.iter().all(|[z, n]| z.is_finite() && n.is_finite() && *n >= 0.0);
        if fits && finite { Ok(()) } else { Err(Error::Snapshot("has weights that do not fit its rows")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gradient_whose_square_is_nothing_makes_no_weight_infinite() {
        let settings = Settings { beta: 0.0, l2: 0.0, ..Settings::default() };
        let mut logistic = Logistic::new(settings, Schema::numeric(1).unwrap(), 3).unwrap();
        let mut probabilities = [0.0; 3];
        for class in [0, 1, 2, 0] {
            logistic.learn(&[1.0], class, 1e-200).unwrap();
            logistic.predict(&[1.0], &mut probabilities).unwrap();
            assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{probabilities:?}");
        }
    }
}
