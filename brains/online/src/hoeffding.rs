//! One Hoeffding tree as a classifier.

use serde::{Deserialize, Serialize};

use crate::{
    Random, Result, Schema, Snapshot,
    learner::{Classifier, check_example, check_question, normalise},
    tree::{Answer, Plan, Settings, Tree},
};

/// More weight than ever comes.
const NEVER: f64 = 1e9;

/// One Hoeffding tree: Domingos and Hulten, "Mining high-speed data streams" (KDD 2000), with the observers and leaves that
/// [`tree`](crate::tree) tells of. It remembers all it has seen: where the world changes, an
/// [`Ensemble`](crate::Ensemble) is better.
///
/// Predict and learn are O(depth + classes · columns), a look for a cut O(10 · classes · columns). Memory is bounded by
/// [`Settings::memory`]. Missing values are left out of counts, and go down the heavier side of a cut.
///
/// ```
/// use online::{Classifier, HoeffdingTree, Schema, tree::Settings};
///
/// let mut tree = HoeffdingTree::new(Settings::default(), Schema::numeric(1)?, 2, 7)?;
/// for n in 0..1_000 {
///     let x = f64::from(n % 10);
///     tree.learn(&[x], usize::from(x > 4.0), 1.0)?;
/// }
/// let mut probabilities = [0.0; 2];
/// tree.predict(&[9.0], &mut probabilities)?;
/// assert!(probabilities[1] > 0.9);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HoeffdingTree {
    schema: Schema,
    plan: Plan,
    tree: Tree,
    random: Random,
}

impl HoeffdingTree {
    /// A tree of one leaf.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) names a setting, or the number of classes, that can't be.
    pub fn new(settings: Settings, schema: Schema, classes: usize, seed: u64) -> Result<Self> {
        let plan = Plan::new(settings, &schema, classes, None)?;
        let mut random = Random::new(seed);
        let tree = Tree::new(&plan, (0..schema.width() as u32).collect(), 0, &mut random);
        Ok(Self { schema, plan, tree, random })
    }

    /// Naive Bayes: a tree that never splits. Gaussian for numbers, by Laplace's rule for words.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn naive_bayes(schema: Schema, classes: usize) -> Result<Self> {
        let settings = Settings { grace: NEVER, answer: Answer::Bayes, ..Settings::default() };
        Self::new(settings, schema, classes, 0)
    }

    /// Leaves it has.
    pub fn leaves(&self) -> usize {
        self.tree.leaves()
    }
}

impl Classifier for HoeffdingTree {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn classes(&self) -> usize {
        self.plan.classes
    }

    fn predict(&self, row: &[f64], probabilities: &mut [f64]) -> Result<()> {
        check_question(&self.schema, self.plan.classes, row, probabilities.len())?;
        probabilities.fill(0.0);
        self.tree.vote(&self.plan, row, 1.0, probabilities);
        normalise(probabilities);
        Ok(())
    }

    fn learn(&mut self, row: &[f64], class: usize, weight: f64) -> Result<()> {
        check_example(&self.schema, self.plan.classes, row, class, weight)?;
        if weight > 0.0 {
            self.tree.learn(&self.plan, row, class, weight, &mut self.random);
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        size_of::<Self>() + self.tree.memory()
    }
}

impl Snapshot for HoeffdingTree {
    const KIND: &'static str = "hoeffding-tree";
    const VERSION: u16 = 2;

    fn check(&self) -> Result<()> {
        self.schema.check_self()?;
        self.plan.check(&self.schema, self.plan.classes)?;
        self.tree.check(&self.plan)
    }
}
