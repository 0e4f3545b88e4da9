//! Learners by name, with settings that are checked: what manifests ask for.

use serde::{Deserialize, Serialize};

use crate::{
    AdaptiveTree, Auto, Basic, Boosted, Classifier, Ensemble, HoeffdingTree, Logistic, Neighbours, Result, Schema,
    Snapshot, adaptive, auto, boosted,
    ensemble::{self, Subspace},
    logistic, neighbours, tree,
};

/// A learner and its settings, as a manifest writes them: `learner: adaptive-random-forest, trees: 30`. What is left out
/// has its default; a name or a setting that nobody knows is an error.
///
/// ```
/// use online::{Classifier, Schema, registry::Spec};
///
/// let spec: Spec = serde_json::from_str(r#"{ "learner": "adaptive-random-forest", "trees": 3 }"#)?;
/// let learner = spec.build(Schema::numeric(4)?, 2, 7)?;
/// assert_eq!(learner.classes(), 2);
/// assert!(serde_json::from_str::<Spec>(r#"{ "learner": "adaptive-random-forest", "threes": 3 }"#).is_err());
/// assert!(serde_json::from_str::<Spec>(r#"{ "learner": "oracle" }"#).is_err());
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

/// A learner of any name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Model {
    /// Several kinds, mixed.
    Auto(Auto),
    /// One kind.
    Basic(Basic),
}

impl Spec {
    /// A learner that has learnt nothing yet.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) names a setting, or the number of classes, that can't be;
    /// [`Error::Memory`](crate::Error::Memory).
    pub fn build(&self, schema: Schema, classes: usize, seed: u64) -> Result<Model> {
        let forest =
            |settings, schema| Ok(Model::Basic(Basic::Ensemble(Ensemble::new(settings, schema, classes, seed)?)));
        Ok(match self {
            Self::Auto(settings) => Model::Auto(Auto::new(settings.clone(), schema, classes, seed)?),
            Self::AdaptiveRandomForest(said) => {
                return forest(said.over(ensemble::Settings::adaptive_random_forest), schema);
            }
            Self::StreamingRandomPatches(said) => {
                return forest(said.over(ensemble::Settings::streaming_random_patches), schema);
            }
            Self::LeveragingBagging(said) => return forest(said.over(ensemble::Settings::leveraging_bagging), schema),
            Self::GradientBoostedTrees(settings) => {
                Model::Basic(Basic::Boosted(Boosted::new(settings.clone(), schema, classes, seed)?))
            }
            Self::HoeffdingTree(settings) => {
                Model::Basic(Basic::Tree(HoeffdingTree::new(settings.clone(), schema, classes, seed)?))
            }
            Self::HoeffdingAdaptiveTree(settings) => {
                Model::Basic(Basic::Adaptive(Box::new(AdaptiveTree::new(settings.clone(), schema, classes, seed)?)))
            }
            Self::NaiveBayes(Nothing {}) => Model::Basic(Basic::Tree(HoeffdingTree::naive_bayes(schema, classes)?)),
            Self::Logistic(settings) => {
                Model::Basic(Basic::Logistic(Logistic::new(settings.clone(), schema, classes)?))
            }
            Self::Neighbours(settings) => {
                Model::Basic(Basic::Neighbours(Neighbours::new(settings.clone(), schema, classes)?))
            }
        })
    }
}

impl Model {
    fn learner(&self) -> &dyn Classifier {
        match self {
            Self::Auto(auto) => auto,
            Self::Basic(basic) => basic,
        }
    }
}

impl Classifier for Model {
    fn schema(&self) -> &Schema {
        self.learner().schema()
    }

    fn classes(&self) -> usize {
        self.learner().classes()
    }

    fn predict(&self, row: &[f64], probabilities: &mut [f64]) -> Result<()> {
        self.learner().predict(row, probabilities)
    }

    fn learn(&mut self, row: &[f64], class: usize, weight: f64) -> Result<()> {
        match self {
            Self::Auto(auto) => auto.learn(row, class, weight),
            Self::Basic(basic) => basic.learn(row, class, weight),
        }
    }

    fn memory(&self) -> usize {
        self.learner().memory()
    }
}

impl Snapshot for Model {
    const KIND: &'static str = "classifier";
    const VERSION: u16 = 2;

    fn check(&self) -> Result<()> {
        match self {
            Self::Auto(auto) => auto.check(),
            Self::Basic(basic) => basic.check(),
        }
    }
}
