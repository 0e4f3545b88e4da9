//! Streaming gradient boosting: trees that each learn what those before them still get wrong.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Random, Result, Schema, Snapshot,
    error::within,
    learner::{Classifier, check_classes, check_example, check_question, sets, softmax},
    regression::{self, Plan, Tree},
    scratch::{CLASSES_INLINE, with_places},
    tree::draw,
};

/// How boosting goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Trees for each class, one after the other. Default 100.
    pub steps: usize,
    /// What of a tree's answer counts. Default 0.0125.
    pub rate: f64,
    /// Share of the columns that a step looks at. Default 0.75.
    pub columns: f64,
    /// How each tree grows. Default grace 25, δ 0.05, 64 MiB altogether.
    pub tree: regression::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self::of(100)
    }
}

impl Settings {
    /// So many steps, which go as far together as 100 of the default.
    pub fn of(steps: usize) -> Self {
        let memory = (64 << 20) / steps.max(1);
        let tree = regression::Settings { grace: 25.0, delta: 0.05, memory, ..regression::Settings::default() };
        Self { steps, rate: 1.25 / steps.max(1) as f64, columns: 0.75, tree }
    }

    fn check(&self) -> Result<()> {
        within("steps", self.steps as f64, (1.0, 10_000.0), "from 1 to 10,000")?;
        within("rate", self.rate, (1e-6, 2.0), "from 10^-6 to 2")?;
        within("columns", self.columns, (1e-6, 1.0), "above 0, and 1 at most")?;
        self.tree.check()
    }
}

/// Streaming gradient boosted trees: Gunasekara, Pfahringer, Gomes and Bifet, "Gradient boosted trees for evolving data
/// streams" (Machine Learning 113, 2024). Each step has a regression tree per class (one for two classes) that learns
/// Newton's step −g/h with weight h, where g and h are the loss's gradient and curvature at what the steps before it say.
///
/// Predict and learn are O(steps · classes · (depth + columns)). Memory is bounded by steps times
/// [`regression::Settings::memory`].
///
/// ```
/// use online::{Boosted, Classifier, Schema, boosted::Settings};
///
/// let mut boosted = Boosted::new(Settings::of(20), Schema::numeric(1)?, 2, 7)?;
/// for n in 0..3_000 {
///     let x = f64::from(n % 10);
///     boosted.learn(&[x], usize::from(x > 4.0), 1.0)?;
/// }
/// let mut probabilities = [0.0; 2];
/// boosted.predict(&[9.0], &mut probabilities)?;
/// assert!(probabilities[1] > 0.7);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Boosted {
    settings: Settings,
    schema: Schema,
    classes: usize,
    plan: Plan,
    /// By step, then set of scores.
    trees: Vec<Tree>,
    random: Random,
}

/// No curvature counts as less: a step is at most so far.
const FLATTEST: f64 = 1e-3;
/// The furthest that a tree is asked to go.
const FURTHEST: f64 = 8.0;

impl Boosted {
    /// Trees that say nothing yet.
    ///
    /// # Errors
    /// [`Error::Range`] names a setting, or the number of classes, that can't be; [`Error::Memory`] when even empty trees
    /// take more than they may.
    pub fn new(settings: Settings, schema: Schema, classes: usize, seed: u64) -> Result<Self> {
        settings.check()?;
        let sets = sets(check_classes(classes)?);
        // One tree holds a histogram of 32 bins for each column.
        let needed = settings.steps.saturating_mul(sets).saturating_mul(schema.width()).saturating_mul(1_024);
        let allowed = settings.steps.saturating_mul(settings.tree.memory);
        if needed > allowed {
            return Err(Error::Memory { needed, allowed });
        }
        let mut tree = settings.tree.clone();
        tree.memory /= sets;
        let plan = Plan::new(regression::Settings { memory: tree.memory.max(4_096), ..tree }, &schema, None)?;
        let mut random = Random::new(seed);
        let all: Vec<u32> = (0..schema.width() as u32).collect();
        let count = ((settings.columns * all.len() as f64).round() as usize).clamp(1, all.len());
        let mut trees = Vec::new();
        for _ in 0..settings.steps {
            let own = draw(&all, count, &mut random);
            trees.extend((0..sets).map(|_| Tree::new(&plan, own.clone(), &mut random)));
        }
        Ok(Self { settings, schema, classes, plan, trees, random })
    }

    /// Leaves of all trees.
    pub fn leaves(&self) -> usize {
        self.trees.iter().map(Tree::leaves).sum()
    }

    fn answer(&self, row: &[f64], probabilities: &mut [f64]) {
        probabilities.fill(0.0);
        for step in self.trees.chunks_exact(sets(self.classes)) {
            for (tree, score) in step.iter().zip(probabilities.iter_mut()) {
                *score += self.settings.rate * tree.answer(row);
            }
        }
        softmax(probabilities);
    }
}

impl Classifier for Boosted {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn predict(&self, row: &[f64], probabilities: &mut [f64]) -> Result<()> {
        check_question(&self.schema, self.classes, row, probabilities.len())?;
        self.answer(row, probabilities);
        Ok(())
    }

    fn learn(&mut self, row: &[f64], class: usize, weight: f64) -> Result<()> {
        check_example(&self.schema, self.classes, row, class, weight)?;
        if weight == 0.0 {
            return Ok(());
        }
        let (classes, rate, plan, random) = (self.classes, self.settings.rate, &self.plan, &mut self.random);
        let trees = &mut self.trees;
        with_places::<{ 2 * CLASSES_INLINE }, _>(2 * classes, |places| {
            let (scores, probabilities) = places.split_at_mut(classes);
            for step in trees.chunks_exact_mut(sets(classes)) {
                probabilities.copy_from_slice(scores);
                softmax(probabilities);
                for (set, ((tree, score), said)) in
                    step.iter_mut().zip(scores.iter_mut()).zip(&*probabilities).enumerate()
                {
                    let wanted = f64::from(u8::from(set == class));
                    let curvature = (said * (1.0 - said)).max(FLATTEST);
                    let target = ((wanted - said) / curvature).clamp(-FURTHEST, FURTHEST);
                    tree.learn(plan, row, target, curvature * weight, random);
                    *score += rate * tree.answer(row);
                }
            }
        });
        Ok(())
    }

    fn memory(&self) -> usize {
        size_of::<Self>() + self.trees.iter().map(Tree::memory).sum::<usize>()
    }
}

impl Snapshot for Boosted {
    const KIND: &'static str = "boosted";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.schema.check_self()?;
        self.settings.check()?;
        self.plan.check(&self.schema)?;
        let sets = sets(check_classes(self.classes)?);
        if self.trees.len() != self.settings.steps.saturating_mul(sets) {
            return Err(Error::Snapshot("has other trees than its settings say"));
        }
        self.trees.iter().try_for_each(|tree| tree.check(&self.plan))
    }
}
