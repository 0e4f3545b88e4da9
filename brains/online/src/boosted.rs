//! Streaming gradient boosting: trees that each learn what those before them still get wrong.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Random, Result, Schema, Snapshot,
    error::within,
    learner::{Classifier, check_classes, check_example, check_question, sets, softmax},
    regression::{self, Member, Plan},
    scratch::{CLASSES_INLINE, with_places},
    tree::draw,
};

/// How boosting goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Trees for each class, one after the other. Default 100.
    pub steps: usize,
    /// What of a tree's answer counts. Default 0.1.
    pub rate: f64,
    /// Share of the columns that a step looks at. Default 0.75.
    pub columns: f64,
    /// The probability δ at which a tree in the background begins to grow. Default 0.01.
    pub warning: f64,
    /// The probability δ at which it takes the tree's place. Default 0.001.
    pub drift: f64,
    /// How each tree grows. Default grace 25, δ 0.05, 64 MiB altogether, those in the background among them.
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
        let memory = (32 << 20) / steps.max(1);
        let tree = regression::Settings { grace: 25.0, delta: 0.05, memory, ..regression::Settings::default() };
        Self { steps, rate: 10.0 / steps.max(5) as f64, columns: 0.75, warning: 0.01, drift: 0.001, tree }
    }

    fn check(&self) -> Result<()> {
        within("steps", self.steps as f64, (1.0, 10_000.0), "from 1 to 10,000")?;
        within("rate", self.rate, (1e-6, 2.0), "from 10^-6 to 2")?;
        within("columns", self.columns, (1e-6, 1.0), "above 0, and 1 at most")?;
        within("warning", self.warning, (1e-12, 0.5), "from 10^-12 to 0.5")?;
        within("drift", self.drift, (1e-12, 0.5), "from 10^-12 to 0.5")?;
        self.tree.check()
    }
}

/// Streaming gradient boosted trees: Gunasekara, Pfahringer, Gomes and Bifet, "Gradient boosted trees for evolving data
/// streams" (Machine Learning 113, 2024). Each step has a regression tree per class (one for two classes) that learns
/// Newton's step −g/h with weight 4h, where g and h are the loss's gradient and curvature at what the steps before it say.
///
/// It forgets tree by tree: an [`Adwin`](crate::drift::Adwin) over what a tree's step leaves of the error lets another one
/// grow in the background, and take its place. The authors' program leaves forgetting to alternate branches of its trees,
/// weighs all rows alike, takes a smaller rate, and adds up whole steps for an answer, so that its probabilities are
/// close to 0 or 1.
///
/// Predict and learn are O(steps · classes · (depth + columns)). Memory is bounded by twice the steps times
/// [`regression::Settings::memory`], and some 3 KB for each tree's watch.
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
    members: Vec<Member>,
    random: Random,
    drifts: u64,
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
        // A tree of one leaf that observes each column, and its watch.
        let each = schema.width().saturating_mul(64).saturating_add(1_024);
        let needed = settings.steps.saturating_mul(sets).saturating_mul(each);
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
        let (deltas, mut members) = ((settings.warning, settings.drift), Vec::new());
        for _ in 0..settings.steps {
            let own = draw(&all, count, &mut random);
            for _ in 0..sets {
                members.push(Member::new(&plan, own.clone(), deltas, &mut random)?);
            }
        }
        Ok(Self { settings, schema, classes, plan, members, random, drifts: 0 })
    }

    /// How many trees were replaced so far.
    pub fn drifts(&self) -> u64 {
        self.drifts
    }

    /// Leaves of all trees.
    pub fn leaves(&self) -> usize {
        self.members.iter().map(Member::leaves).sum()
    }

    fn answer(&self, row: &[f64], probabilities: &mut [f64]) {
        probabilities.fill(0.0);
        for step in self.members.chunks_exact(sets(self.classes)) {
            for (member, score) in step.iter().zip(probabilities.iter_mut()) {
                *score += self.settings.rate * member.answer(row);
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
        let Self { classes, settings, plan, members, random, drifts, .. } = self;
        with_places::<{ 2 * CLASSES_INLINE }, _>(2 * *classes, |places| {
            let (scores, probabilities) = places.split_at_mut(*classes);
            for step in members.chunks_exact_mut(sets(*classes)) {
                probabilities.copy_from_slice(scores);
                softmax(probabilities);
                let sets = step.iter_mut().zip(scores.iter_mut()).zip(&*probabilities);
                for (set, ((member, score), said)) in sets.enumerate() {
                    let residual = f64::from(u8::from(set == class)) - said;
                    let curvature = (said * (1.0 - said)).max(FLATTEST);
                    let target = (residual / curvature).clamp(-FURTHEST, FURTHEST);
                    // What would be left to foretell, were its whole step taken.
                    let error = (residual - curvature * member.answer(row)).abs().min(1.0);
                    // A curvature is 1/4 at most: a row that nothing is known of counts as one.
                    let weight = 4.0 * curvature * weight;
                    *drifts += u64::from(member.learn(plan, (row, target), [weight; 2], error, random));
                    *score += settings.rate * member.answer(row);
                }
            }
        });
        Ok(())
    }

    fn memory(&self) -> usize {
        size_of::<Self>() + self.members.iter().map(Member::memory).sum::<usize>()
    }
}

impl Snapshot for Boosted {
    const KIND: &'static str = "boosted";
    const VERSION: u16 = 2;

    fn check(&self) -> Result<()> {
        self.schema.check_self()?;
        self.settings.check()?;
        self.plan.check(&self.schema)?;
        let sets = sets(check_classes(self.classes)?);
        if self.members.len() != self.settings.steps.saturating_mul(sets) {
            return Err(Error::Snapshot("has other trees than its settings say"));
        }
        self.members.iter().try_for_each(|member| member.check(&self.plan))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learner::greatest;

    /// How many of the 3,000 rows after what rows mean flips are answered rightly, and how many trees went.
    fn right_after_flip(settings: Settings) -> (usize, u64) {
        let mut boosted = Boosted::new(settings, Schema::numeric(2).unwrap(), 2, 1).unwrap();
        let (mut random, mut right) = (Random::new(3), 0);
        for n in 0..9_000 {
            let row = [random.uniform(), random.uniform()];
            let class = usize::from((row[0] > 0.5) != (n >= 6_000));
            let mut said = [0.0; 2];
            boosted.predict(&row, &mut said).unwrap();
            right += usize::from(n >= 6_000 && greatest(&said) == class);
            boosted.learn(&row, class, 1.0).unwrap();
        }
        (right, boosted.drifts())
    }

    #[test]
    fn steps_that_stop_being_right_are_replaced() {
        let (forgets, trees) = right_after_flip(Settings::of(10));
        let never = Settings { warning: 1e-12, drift: 1e-12, ..Settings::of(10) };
        let (remembers, _) = right_after_flip(never);
        assert!(forgets > 2_600 && forgets > remembers, "{forgets} against {remembers} of 3,000");
        assert!(trees >= 5, "{trees}");
    }
}
