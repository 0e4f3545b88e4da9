//! Learners of different kinds, mixed by how well each has foretold the classes: what to take when nobody knows better.

use serde::{Deserialize, Serialize};

use crate::{
    Basic, Boosted, Ensemble, Logistic, Neighbours, Result, Schema, Snapshot, boosted, ensemble,
    error::within,
    learner::{Classifier, check_example, check_question, normalise, sets},
    logistic, neighbours,
    scratch::{CLASSES_INLINE, with_places},
    share::FixedShare,
};

/// How kinds of learners are mixed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How often another kind becomes the best one, per row. Default 0.01.
    pub share: f64,
    /// How fast weights follow losses. Default 0.25.
    pub rate: f64,
    /// The least probability that a kind's answer counts as: one bad surprise must not silence it. Default 0.01.
    pub least: f64,
    /// Trees of each ensemble. Left out, as many as an example has time for: 30 of few columns, 10 of many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trees: Option<usize>,
    /// Steps of boosting. Left out, as many as an example has time for: 100 of few columns and classes, none of very many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Bytes that all may take. Default 64 MiB.
    pub memory: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { share: 0.01, rate: 0.25, least: 0.01, trees: None, steps: None, memory: 64 << 20 }
    }
}

/// Fixed share (Herbster and Warmuth, Machine Learning 1998) over kinds of learners, on log loss: an adaptive random
/// forest, streaming random patches, boosted trees, logistic regression and nearest neighbours. All learn every row; an
/// answer is the mean of theirs by weight. On each stretch of a stream it loses about ln(kinds) / rate nats more than the
/// kind that is best there. A kind that would need more memory than its part, or more time than there is, is left out.
///
/// Kinds, share and rate are those that leave-one-stream-out chooses (`evaluation/streams/choose.txt`): of twelve streams,
/// for ten the others chose just these, for two a smaller one of the forests and a greater share.
///
/// ```
/// use online::{Auto, Classifier, Schema, auto::Settings};
///
/// let mut auto = Auto::new(Settings::default(), Schema::numeric(1)?, 2, 7)?;
/// for n in 0..500 {
///     let x = f64::from(n % 10);
///     auto.learn(&[x], usize::from(x > 4.0), 1.0)?;
/// }
/// let mut probabilities = [0.0; 2];
/// auto.predict(&[9.0], &mut probabilities)?;
/// assert!(probabilities[1] > 0.9);
/// assert_eq!(auto.weights().count(), 5);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Auto {
    schema: Schema,
    classes: usize,
    least: f64,
    experts: Vec<Basic>,
    share: FixedShare,
}

/// Microseconds of an example that boosting may take, and what a step takes for a class: measured, and as rough as that.
const BOOSTING: f64 = 300.0;
const STEP: f64 = 0.75;
/// What it takes more for each column.
const COLUMN: f64 = 0.0125;

impl Settings {
    /// Trees of each ensemble, over so many columns: a tree takes some microseconds for ten columns it looks at.
    fn trees(&self, width: usize) -> usize {
        self.trees.unwrap_or((300 / width.max(1)).clamp(10, 30))
    }

    /// Steps of boosting; none where ten would take too long.
    fn steps(&self, width: usize, classes: usize) -> Option<usize> {
        let each = sets(classes) as f64 * (STEP + COLUMN * width as f64);
        self.steps.or(Some((BOOSTING / each) as usize).filter(|steps| *steps >= 10)).map(|steps| steps.min(100))
    }

    /// So many sixteenths of the memory.
    fn part(&self, sixteenths: usize) -> usize {
        self.memory / 16 * sixteenths
    }

    /// An ensemble that keeps to its part, trees in the background included.
    fn forest(&self, mut kind: ensemble::Settings) -> ensemble::Settings {
        kind.tree.memory = (self.part(3) / 2 / kind.trees.max(1)).max(1 << 16);
        kind
    }

    fn boosting(&self, steps: usize) -> boosted::Settings {
        let mut settings = boosted::Settings::of(steps);
        settings.tree.memory = (self.part(6) / 2 / steps.max(1)).max(1 << 12);
        settings
    }
}

impl Auto {
    /// One of each kind that has room.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) names a setting, or the number of classes, that can't be.
    pub fn new(settings: Settings, schema: Schema, classes: usize, seed: u64) -> Result<Self> {
        within("least", settings.least, (1e-9, 0.5), "from 10^-9 to 0.5")?;
        let trees = settings.trees(schema.width());
        within("trees", trees as f64, (1.0, 1_000.0), "from 1 to 1,000")?;
        let forest = |kind, seed| Ensemble::new(settings.forest(kind), schema.clone(), classes, seed);
        let mut experts = vec![
            Basic::Ensemble(forest(ensemble::Settings::adaptive_random_forest(trees), seed)?),
            Basic::Ensemble(forest(ensemble::Settings::streaming_random_patches(trees), seed ^ 1)?),
        ];
        if let Some(steps) = settings.steps(schema.width(), classes) {
            let boosting = settings.boosting(steps);
            experts.extend(Boosted::new(boosting, schema.clone(), classes, seed ^ 2).ok().map(Basic::Boosted));
        }
        let linear = logistic::Settings { memory: settings.part(2), ..logistic::Settings::default() };
        experts.extend(Logistic::new(linear, schema.clone(), classes).ok().map(Basic::Logistic));
        let nearest = neighbours::Settings { memory: settings.part(2), ..neighbours::Settings::default() };
        experts.extend(Neighbours::new(nearest, schema.clone(), classes).ok().map(Basic::Neighbours));
        let share = FixedShare::new(experts.len(), settings.rate, settings.share)?;
        Ok(Self { schema, classes, least: settings.least, experts, share })
    }

    /// Each kind of learner, with its weight.
    pub fn weights(&self) -> impl Iterator<Item = (&Basic, f64)> {
        self.experts.iter().zip(self.share.weights().iter().copied())
    }
}

impl Classifier for Auto {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn predict(&self, row: &[f64], probabilities: &mut [f64]) -> Result<()> {
        check_question(&self.schema, self.classes, row, probabilities.len())?;
        probabilities.fill(0.0);
        with_places::<CLASSES_INLINE, _>(self.classes, |answer| {
            for (expert, weight) in self.experts.iter().zip(self.share.weights()) {
                expert.predict(row, answer)?;
                for (sum, probability) in probabilities.iter_mut().zip(answer.iter()) {
                    *sum += weight * probability;
                }
            }
            Ok(())
        })?;
        normalise(probabilities);
        Ok(())
    }

    fn learn(&mut self, row: &[f64], class: usize, weight: f64) -> Result<()> {
        check_example(&self.schema, self.classes, row, class, weight)?;
        if weight == 0.0 {
            return Ok(());
        }
        let mut losses = [f64::NAN; 8];
        with_places::<CLASSES_INLINE, _>(self.classes, |answer| {
            for (expert, loss) in self.experts.iter_mut().zip(&mut losses) {
                expert.predict(row, answer)?;
                let probability = answer.get(class).copied().unwrap_or(0.0);
                *loss = -probability.max(self.least).ln();
                expert.learn(row, class, weight)?;
            }
            Ok(())
        })?;
        self.share.update(losses.get(..self.experts.len()).unwrap_or_default())
    }

    fn memory(&self) -> usize {
        let experts: usize = self.experts.iter().map(|expert| expert.memory()).sum();
        size_of::<Self>() + experts
    }
}

impl Snapshot for Auto {
    const KIND: &'static str = "auto";
    const VERSION: u16 = 3;

    fn check(&self) -> Result<()> {
        self.schema.check_self()?;
        within("least", self.least, (1e-9, 0.5), "from 10^-9 to 0.5")?;
        self.share.check()?;
        let fits = |expert: &Basic| expert.schema() == &self.schema && expert.classes() == self.classes;
        if self.share.weights().len() != self.experts.len() || self.experts.len() > 8 || !self.experts.iter().all(fits)
        {
            return Err(crate::Error::Snapshot("has kinds of learners that do not fit together"));
        }
        self.experts.iter().try_for_each(Basic::check)
    }
}
