//! Learners by name, with settings that are checked: what manifests ask for.

use serde::{Deserialize, Serialize};

use crate::{
    AdaptiveTree, Auto, Basic, Boosted, Classifier, Ensemble, Error, HoeffdingTree, Linear, Logistic, Neighbours,
    Pipeline, RegressionForest, RegressionTree, Regressor, Result, Schema, Snapshot, adaptive, auto, boosted,
    ensemble::{self, Subspace},
    fimt_dd, forest,
    learner::{check_example, check_pair},
    linear, logistic, neighbours, pipeline, transform, tree,
    weights::Weighted,
};

/// A classifier and its settings, as a manifest writes them: `learner: adaptive-random-forest, trees: 30`. What is left
/// out has its default; a name or a setting that nobody knows is an error. The learner `pipeline` has others behind
/// [transformers](crate::transform).
///
/// ```
/// use online::{Classifier, Schema, registry::Spec};
///
/// let spec: Spec = serde_json::from_str(r#"{ "learner": "adaptive-random-forest", "trees": 3 }"#)?;
/// let learner = spec.build(Schema::numeric(4)?, 2, 7)?;
/// assert_eq!(learner.classes(), 2);
/// assert!(serde_json::from_str::<Spec>(r#"{ "learner": "adaptive-random-forest", "threes": 3 }"#).is_err());
/// assert!(serde_json::from_str::<Spec>(r#"{ "learner": "oracle" }"#).is_err());
///
/// let json = r#"{ "learner": "pipeline", "steps": [{ "step": "scaler" }], "model": { "learner": "neighbours" } }"#;
/// let learner = serde_json::from_str::<Spec>(json)?.build(Schema::numeric(4)?, 2, 7)?;
/// assert_eq!(learner.steps().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "learner", rename_all = "kebab-case")]
pub enum Spec {
    /// Several kinds, mixed: what to take when nobody knows better.
    Auto(auto::Settings),
    /// Many trees that look at other columns in each leaf.
    AdaptiveRandomForest(Forest),
    /// Many trees, each of other columns.
    StreamingRandomPatches(Forest),
    /// Many trees of all columns.
    LeveragingBagging(Forest),
    /// Trees one after the other.
    GradientBoostedTrees(boosted::Settings),
    /// One tree.
    HoeffdingTree(tree::Settings),
    /// One tree that replaces the branches that stop being right.
    HoeffdingAdaptiveTree(adaptive::Settings),
    /// Naive Bayes.
    NaiveBayes(Nothing),
    /// Logistic regression.
    Logistic(logistic::Settings),
    /// The nearest of the last rows.
    Neighbours(neighbours::Settings),
    /// Any of the above behind transformers.
    Pipeline(pipeline::Settings<Box<Spec>>),
}

/// A regressor and its settings, as [`Spec`] is for classifiers: `learner: linear, estimate: { quantile: 0.9 }`.
///
/// ```
/// use online::{Regressor, Schema, registry::RegressorSpec};
///
/// let json = r#"{ "learner": "pipeline", "steps": [{ "step": "hashing", "bits": 6 }], "model": { "learner": "linear" } }"#;
/// let spec: RegressorSpec = serde_json::from_str(json)?;
/// let learner = spec.build(Schema::numeric(4)?, 7)?;
/// assert_eq!(learner.predict(&[0.0; 4])?, 0.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "learner", rename_all = "kebab-case")]
pub enum RegressorSpec {
    /// Many trees.
    RegressionForest(forest::Settings),
    /// One tree that replaces its branches.
    FimtDd(fimt_dd::Settings),
    /// A linear one, of the mean or of a quantile.
    Linear(linear::Settings),
    /// Any of them behind transformers.
    Pipeline(pipeline::Settings<Box<RegressorSpec>>),
}

/// What may be said about a forest; what is not, its kind says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Forest {
    /// Trees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trees: Option<usize>,
    /// How often a tree learns a row, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lambda: Option<f64>,
    /// Share of the columns of a leaf, or of a tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<f64>,
    /// The probability at which a tree begins to grow in the background.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<f64>,
    /// The probability at which it takes the other's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<f64>,
    /// Weight between two looks for a cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<f64>,
    /// The probability that a cut is not the best.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<f64>,
    /// Bytes that all trees may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<usize>,
}

/// No settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl Forest {
    /// The settings of a kind with what is said here.
    fn over(&self, kind: fn(usize) -> ensemble::Settings) -> ensemble::Settings {
        let trees = self.trees.unwrap_or(10);
        let mut settings = kind(trees);
        let set = |place: &mut f64, value: Option<f64>| *place = value.unwrap_or(*place);
        set(&mut settings.lambda, self.lambda);
        set(&mut settings.warning, self.warning);
        set(&mut settings.drift, self.drift);
        set(&mut settings.tree.grace, self.grace);
        set(&mut settings.tree.delta, self.delta);
        if let Some(memory) = self.memory {
            settings.tree.memory = memory / trees.max(1);
        }
        if let (Some(columns), Subspace::Leaf(share) | Subspace::Tree(share)) = (self.columns, &mut settings.subspace) {
            *share = columns;
        }
        settings
    }
}

/// A classifier of any name, and the transformers before it, if any.
pub type Model = Pipeline<Learner>;

/// A regressor of any name, and the transformers before it, if any.
pub type RegressorModel = Pipeline<Estimator>;

/// A classifier of any name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Learner {
    /// Several kinds, mixed.
    Auto(Auto),
    /// One kind.
    Basic(Basic),
}

/// A regressor of any name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Estimator {
    /// Trees.
    Forest(RegressionForest),
    /// One tree.
    Tree(Box<RegressionTree>),
    /// A linear one.
    Linear(Linear),
}

impl Spec {
    /// A learner that has learnt nothing yet.
    ///
    /// # Errors
    /// [`Error::Range`] names a setting, or the number of classes, that can't be; [`Error::Memory`];
    /// [`Error::Nested`].
    pub fn build(&self, schema: Schema, classes: usize, seed: u64) -> Result<Model> {
        let (steps, last): (&[transform::Spec], _) = match self {
            Self::Pipeline(pipeline) => (&pipeline.steps, &*pipeline.model),
            other => (&[], other),
        };
        Pipeline::new(schema, steps, seed, |schema| last.learner(schema, classes, seed))
    }

    fn learner(&self, schema: Schema, classes: usize, seed: u64) -> Result<Learner> {
        let forest = |settings, schema| Ok(Basic::Ensemble(Ensemble::new(settings, schema, classes, seed)?));
        let basic = match self {
            Self::Auto(settings) => return Ok(Learner::Auto(Auto::new(settings.clone(), schema, classes, seed)?)),
            Self::AdaptiveRandomForest(said) => forest(said.over(ensemble::Settings::adaptive_random_forest), schema),
            Self::StreamingRandomPatches(said) => {
                forest(said.over(ensemble::Settings::streaming_random_patches), schema)
            }
            Self::LeveragingBagging(said) => forest(said.over(ensemble::Settings::leveraging_bagging), schema),
            Self::GradientBoostedTrees(settings) => {
                Boosted::new(settings.clone(), schema, classes, seed).map(Basic::Boosted)
            }
            Self::HoeffdingTree(settings) => {
                HoeffdingTree::new(settings.clone(), schema, classes, seed).map(Basic::Tree)
            }
            Self::HoeffdingAdaptiveTree(settings) => {
                AdaptiveTree::new(settings.clone(), schema, classes, seed).map(|tree| Basic::Adaptive(Box::new(tree)))
            }
            Self::NaiveBayes(Nothing {}) => HoeffdingTree::naive_bayes(schema, classes).map(Basic::Tree),
            Self::Logistic(settings) => Logistic::new(settings.clone(), schema, classes).map(Basic::Logistic),
            Self::Neighbours(settings) => Neighbours::new(settings.clone(), schema, classes).map(Basic::Neighbours),
            Self::Pipeline(_) => Err(Error::Nested),
        };
        basic.map(Learner::Basic)
    }
}

impl RegressorSpec {
    /// A learner that has learnt nothing yet.
    ///
    /// # Errors
    /// [`Error::Range`] names a setting that can't be; [`Error::Memory`]; [`Error::Nested`].
    pub fn build(&self, schema: Schema, seed: u64) -> Result<RegressorModel> {
        let (steps, last): (&[transform::Spec], _) = match self {
            Self::Pipeline(pipeline) => (&pipeline.steps, &*pipeline.model),
            other => (&[], other),
        };
        Pipeline::new(schema, steps, seed, |schema| last.learner(schema, seed))
    }

    fn learner(&self, schema: Schema, seed: u64) -> Result<Estimator> {
        match self {
            Self::RegressionForest(settings) => {
                RegressionForest::new(settings.clone(), schema, seed).map(Estimator::Forest)
            }
            Self::FimtDd(settings) => {
                RegressionTree::new(settings.clone(), schema, seed).map(|tree| Estimator::Tree(Box::new(tree)))
            }
            Self::Linear(settings) => Linear::new(settings.clone(), schema).map(Estimator::Linear),
            Self::Pipeline(_) => Err(Error::Nested),
        }
    }
}

/// Does the same with whichever it is.
macro_rules! each {
    ($any:expr, $kind:ident::{$($variant:ident)|+}, $learner:ident => $do:expr) => {
        match $any {
            $($kind::$variant($learner) => $do,)+
        }
    };
}

impl Model {
    /// Its weights, where the learner behind the steps is linear.
    pub fn weighted(&self) -> Option<&dyn Weighted> {
        match Pipeline::model(self) {
            Learner::Basic(Basic::Logistic(logistic)) => Some(logistic),
            _ => None,
        }
    }

    /// Its weights, to be set.
    pub fn weighted_mut(&mut self) -> Option<&mut dyn Weighted> {
        match self.model_mut() {
            Learner::Basic(Basic::Logistic(logistic)) => Some(logistic),
            _ => None,
        }
    }

    /// Its trees, where the learner is a forest and nothing is before it: steps of several that learnt apart would differ.
    pub fn trees(&self) -> Option<&Ensemble> {
        match Pipeline::model(self) {
            Learner::Basic(Basic::Ensemble(forest)) if self.steps().is_empty() => Some(forest),
            _ => None,
        }
    }

    /// Puts a forest in the place of its own.
    ///
    /// # Errors
    /// [`Error::Snapshot`] where it has none, or that is of other settings, columns or classes.
    pub fn put_trees(&mut self, forest: Ensemble) -> Result<()> {
        if !self.trees().is_some_and(|own| own.is_like(&forest)) {
            return Err(Error::Snapshot("is of a forest that was made otherwise"));
        }
        *self.model_mut() = Learner::Basic(Basic::Ensemble(forest));
        Ok(())
    }

    /// Learns as [`learn`](Classifier::learn) does, but for what the steps know, and the scale of a linear learner: see
    /// [`Logistic::learn_held`]. Other learners have no scale to hold.
    ///
    /// # Errors
    /// As [`learn`](Classifier::learn).
    pub fn learn_held(&mut self, row: &[f64], class: usize, weight: f64) -> Result<()> {
        check_example(Classifier::schema(self), Classifier::classes(self), row, class, weight)?;
        self.held(row, |model, row| match model {
            Learner::Basic(Basic::Logistic(logistic)) => logistic.learn_held(row, class, weight),
            other => other.learn(row, class, weight),
        })
    }
}

impl RegressorModel {
    /// Its weights, where the learner behind the steps is linear.
    pub fn weighted(&self) -> Option<&dyn Weighted> {
        match Pipeline::model(self) {
            Estimator::Linear(linear) => Some(linear),
            _ => None,
        }
    }

    /// Its weights, to be set.
    pub fn weighted_mut(&mut self) -> Option<&mut dyn Weighted> {
        match self.model_mut() {
            Estimator::Linear(linear) => Some(linear),
            _ => None,
        }
    }

    /// Learns as [`learn`](Regressor::learn) does, but for what the steps know, and the scale of a linear learner: see
    /// [`Linear::learn_held`]. Other learners have no scale to hold.
    ///
    /// # Errors
    /// As [`learn`](Regressor::learn).
    pub fn learn_held(&mut self, row: &[f64], target: f64, weight: f64) -> Result<()> {
        check_pair(Regressor::schema(self), row, target, weight)?;
        self.held(row, |model, row| match model {
            Estimator::Linear(linear) => linear.learn_held(row, target, weight),
            other => other.learn(row, target, weight),
        })
    }
}

impl Classifier for Learner {
    fn schema(&self) -> &Schema {
        each!(self, Self::{Auto | Basic}, learner => learner.schema())
    }

    fn classes(&self) -> usize {
        each!(self, Self::{Auto | Basic}, learner => learner.classes())
    }

    fn predict(&self, row: &[f64], probabilities: &mut [f64]) -> Result<()> {
        each!(self, Self::{Auto | Basic}, learner => learner.predict(row, probabilities))
    }

    fn learn(&mut self, row: &[f64], class: usize, weight: f64) -> Result<()> {
        each!(self, Self::{Auto | Basic}, learner => learner.learn(row, class, weight))
    }

    fn memory(&self) -> usize {
        each!(self, Self::{Auto | Basic}, learner => learner.memory())
    }
}

impl Learner {
    /// Whether a state that was just read can be.
    pub(crate) fn check(&self) -> Result<()> {
        each!(self, Self::{Auto | Basic}, learner => learner.check())
    }
}

impl Regressor for Estimator {
    fn schema(&self) -> &Schema {
        each!(self, Self::{Forest | Tree | Linear}, learner => learner.schema())
    }

    fn predict(&self, row: &[f64]) -> Result<f64> {
        each!(self, Self::{Forest | Tree | Linear}, learner => learner.predict(row))
    }

    fn learn(&mut self, row: &[f64], target: f64, weight: f64) -> Result<()> {
        each!(self, Self::{Forest | Tree | Linear}, learner => learner.learn(row, target, weight))
    }

    fn memory(&self) -> usize {
        each!(self, Self::{Forest | Tree | Linear}, learner => learner.memory())
    }
}

impl Estimator {
    /// Whether a state that was just read can be.
    pub(crate) fn check(&self) -> Result<()> {
        each!(self, Self::{Forest | Tree | Linear}, learner => learner.check())
    }
}
