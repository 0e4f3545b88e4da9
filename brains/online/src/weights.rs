//! Weights of linear learners as one flat row of numbers, so that several can learn as one.
//!
//! Who learns on a shard of a stream sends by how much its weights moved; [`crate::robust`] makes one step of all those;
//! everybody takes it. Weights mean the same to two learners only if both scale numbers alike: they begin as copies of one
//! that has seen some rows, and go on with `learn_held`, which leaves means and spreads as they are.

use crate::{Error, Result, error::within};

/// The greatest magnitude of a weight that is written.
const GREATEST: f64 = 1e99;

/// What has weights that can be read and set: [`Logistic`](crate::Logistic) and [`Linear`](crate::Linear). How far each
/// weight has been learnt, which says how long its next steps are, stays with the learner.
///
/// ```
/// use online::{Classifier, Logistic, Schema, logistic::Settings, weights::Weighted};
///
/// let mut taught = Logistic::new(Settings::default(), Schema::numeric(2)?, 2)?;
/// for n in 0..200 {
///     let x = f64::from(n % 10);
///     taught.learn(&[x, 1.0], usize::from(x > 4.0), 1.0)?;
/// }
/// let mut twin = taught.clone();
/// taught.learn_held(&[9.0, 1.0], 1, 1.0)?;
/// let (before, mut update) = (twin.weights(), taught.weights());
/// update.iter_mut().zip(&before).for_each(|(after, before)| *after -= before);
/// twin.add_weights(&update)?;
/// assert!(twin.weights().iter().zip(taught.weights()).all(|(a, b)| (a - b).abs() < 1e-12));
/// # Ok::<(), online::Error>(())
/// ```
pub trait Weighted {
    /// How many weights there are.
    fn weight_count(&self) -> usize;

    /// Writes the weights into `weights`, in an order that depends on the schema, the classes and the settings alone.
    /// O(weights).
    ///
    /// # Errors
    /// [`Error::Width`] when there are not as many places.
    fn read_weights(&self, weights: &mut [f64]) -> Result<()>;

    /// Sets the weights. O(weights).
    ///
    /// # Errors
    /// [`Error::Width`]; [`Error::Range`] for a weight that is no number of magnitude up to 10⁹⁹. Nothing has changed
    /// then.
    fn write_weights(&mut self, weights: &[f64]) -> Result<()>;

    /// The weights.
    fn weights(&self) -> Vec<f64> {
        let mut weights = vec![0.0; self.weight_count()];
        // As many places as there are weights.
        let _ = self.read_weights(&mut weights);
        weights
    }

    /// Moves each weight by so much.
    ///
    /// # Errors
    /// As [`write_weights`](Self::write_weights), for what the weights would be.
    fn add_weights(&mut self, update: &[f64]) -> Result<()> {
        let mut weights = self.weights();
        check_places(weights.len(), update.len())?;
        weights.iter_mut().zip(update).for_each(|(weight, by)| *weight += by);
        self.write_weights(&weights)
    }
}

/// Whether there are as many places as weights.
pub(crate) fn check_places(wanted: usize, found: usize) -> Result<()> {
    if wanted == found { Ok(()) } else { Err(Error::Width { wanted, found }) }
}

/// Whether these can be the weights.
pub(crate) fn check_weights(wanted: usize, weights: &[f64]) -> Result<()> {
    check_places(wanted, weights.len())?;
    let check = |weight: &f64| within("a weight", *weight, (-GREATEST, GREATEST), "of magnitude 10^99 at most");
    weights.iter().try_for_each(|weight| check(weight).map(|_| ()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Classifier as _, Feature, Linear, Logistic, Regressor as _, Schema, Snapshot as _, linear, logistic,
        registry::Spec,
    };

    fn schema() -> Schema {
        Schema::new(vec![Feature::number("a"), Feature::words("w", 3)]).unwrap()
    }

    fn logistic(l1: f64, classes: usize) -> Logistic {
        let settings = logistic::Settings { l1, ..logistic::Settings::default() };
        let mut logistic = Logistic::new(settings, schema(), classes).unwrap();
        for n in 0..200_usize {
            logistic.learn(&[n as f64, (n % 3) as f64], n % classes, 1.0).unwrap();
        }
        logistic
    }

    fn linear() -> Linear {
        let mut linear = Linear::new(linear::Settings::default(), schema()).unwrap();
        for n in 0..200 {
            linear.learn(&[f64::from(n), f64::from(n % 3)], f64::from(n), 1.0).unwrap();
        }
        linear
    }

    #[test]
    fn what_is_written_is_read() {
        let mut all: [Box<dyn Weighted>; 3] =
            [Box::new(logistic(0.0, 2)), Box::new(logistic(0.5, 3)), Box::new(linear())];
        for learner in &mut all {
            let wanted: Vec<f64> = (0..learner.weight_count()).map(|n| n as f64 - 2.0).collect();
            learner.write_weights(&wanted).unwrap();
            let apart = learner.weights().iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(apart < 1e-12, "{apart}");
        }
    }

    #[test]
    fn who_learns_held_keeps_its_scale() {
        let (mut held, mut free) = (logistic(0.0, 2), logistic(0.0, 2));
        held.learn_held(&[1e6, 1.0], 1, 1.0).unwrap();
        free.learn(&[1e6, 1.0], 1, 1.0).unwrap();
        let weights = held.weights();
        assert_ne!(weights, logistic(0.0, 2).weights());
        free.write_weights(&weights).unwrap();
        let ask = |learner: &Logistic| {
            let mut probabilities = [0.0; 2];
            learner.predict(&[100.0, 0.0], &mut probabilities).unwrap();
            probabilities[1]
        };
        let mut same = logistic(0.0, 2);
        same.write_weights(&weights).unwrap();
        assert!((ask(&held) - ask(&same)).abs() < 1e-12);
        assert!((ask(&held) - ask(&free)).abs() > 1e-6, "another scale, another answer");
    }

    #[test]
    fn models_of_the_registry_have_weights_where_they_are_linear() {
        for (json, linear) in [
            (r#"{ "learner": "logistic" }"#, true),
            (r#"{ "learner": "pipeline", "steps": [{ "step": "scaler" }], "model": { "learner": "logistic" } }"#, true),
            (r#"{ "learner": "naive-bayes" }"#, false),
            (r#"{ "learner": "auto", "trees": 2, "steps": 10 }"#, false),
        ] {
            let mut model = serde_json::from_str::<Spec>(json).unwrap().build(schema(), 2, 1).unwrap();
            model.learn(&[1.0, 2.0], 1, 1.0).unwrap();
            model.learn_held(&[5.0, 0.0], 0, 1.0).unwrap();
            assert!(model.learn_held(&[5.0], 0, 1.0).is_err() && model.learn_held(&[5.0, 0.0], 2, 1.0).is_err());
            assert_eq!(model.weighted().is_some(), linear, "{json}");
            assert_eq!(model.weighted_mut().is_some(), linear, "{json}");
        }
    }

    proptest! {
        #[test]
        fn bad_weights_change_nothing(weights in prop::collection::vec(any::<f64>(), 0..9), classes in 2..4_usize) {
            let (mut logistic, mut linear) = (logistic(0.1, classes), linear());
            let before = (logistic.clone(), linear.clone());
            if logistic.write_weights(&weights).is_err() {
                prop_assert_eq!(&logistic, &before.0);
            }
            if linear.add_weights(&weights).is_err() {
                prop_assert_eq!(&linear, &before.1);
            }
            prop_assert!(logistic.check().is_ok() && linear.check().is_ok());
            let mut probabilities = vec![0.0; classes];
            logistic.predict(&[1.0, 0.0], &mut probabilities).unwrap();
            prop_assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-6);
            logistic.learn(&[2.0, 1.0], 0, 1.0).unwrap();
            prop_assert!(logistic.check().is_ok());
        }
    }
}
