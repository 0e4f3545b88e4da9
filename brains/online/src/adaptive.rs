//! One Hoeffding tree that watches its branches, and replaces those that stop being right.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Random, Result, Schema, Snapshot,
    arena::{ALTERNATES, Kept, halves},
    drift::{Adwin, Detector as _, State, adwin},
    error::within,
    learner::{Classifier, check_example, check_question, normalise},
    tree::{self, Plan, Tree},
};

/// How an [`AdaptiveTree`] grows and forgets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The probability δ at which a branch's error has risen, and another begins to grow beside it. Default 0.002.
    pub drift: f64,
    /// The probability that the better one of both is so by chance. Default 0.05.
    pub chance: f64,
    /// Rows that both must have been asked about to be compared. Default 300.
    pub least: u32,
    /// How each grows. Default grace 50, δ 0.01, tie 0.05, the other values as [`tree::Settings`] has them: what can be
    /// replaced may grow fast. Half of the memory is the tree's, half what grows beside it.
    pub tree: tree::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        let tree = tree::Settings { grace: 50.0, delta: 0.01, tie: 0.05, ..tree::Settings::default() };
        Self { drift: 0.002, chance: 0.05, least: 300, tree }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        within("drift", self.drift, (1e-12, 0.5), "from 10^-12 to 0.5")?;
        within("chance", self.chance, (1e-12, 0.5), "from 10^-12 to 0.5")?;
        within("least", f64::from(self.least), (1.0, 1e6), "from 1 to 10^6")?;
        within("memory", self.tree.memory as f64, (65_536.0, 1e15), "from 64 KiB to 10^15 bytes")?;
        self.tree.check()
    }
}

/// A Hoeffding adaptive tree: Bifet and Gavaldà, "Adaptive learning from evolving data streams" (IDA 2009). At each split an
/// [`Adwin`] watches how often the tree is wrong about rows that pass by; once that rises another tree begins to grow
/// beside the branch. It takes the branch's place when ADWIN's windows say by Hoeffding's bound that it errs less, and goes
/// when they say that it errs more, or nothing for [`LONGEST`] rows.
///
/// Differences from the authors' program: what grows beside a branch has no alternates of its own, at most
/// [`ALTERNATES`](Self::ALTERNATES) grow at a time, and rows are not weighted at random.
///
/// Predict is O(depth + classes · columns), and learn as many times that as there are alternates on the row's way. Memory is
/// bounded by the [`memory`](tree::Settings::memory) of its settings.
///
/// ```
/// use online::{AdaptiveTree, Classifier, Schema, adaptive::Settings};
///
/// let mut tree = AdaptiveTree::new(Settings::default(), Schema::numeric(1)?, 2, 7)?;
/// for n in 0..8_000 {
///     let x = f64::from(n * 7 % 10);
///     tree.learn(&[x], usize::from((x > 4.0) != (n > 4_000)), 1.0)?;
/// }
/// let mut probabilities = [0.0; 2];
/// tree.predict(&[9.0], &mut probabilities)?;
/// assert!(probabilities[0] > 0.9 && tree.drifts() > 0);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveTree {
    schema: Schema,
    settings: Settings,
    plan: Plan,
    /// How alternates grow: in less memory.
    aside: Plan,
    tree: Tree<Watch>,
    /// What each watch begins as.
    fresh: Adwin,
    alternates: usize,
    drifts: u64,
    random: Random,
}

/// Rows after which an alternate that is neither better nor worse goes.
pub const LONGEST: u64 = 10_000;

/// What watches a branch, and what may take its place.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Watch {
    /// None before the first row.
    errors: Option<Adwin>,
    alternate: Option<Box<Alternate>>,
}

impl Kept for Watch {
    /// An [`Adwin`] over a window of some five million rows.
    const ELSEWHERE: usize = 2_200;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Alternate {
    tree: Tree,
    errors: Adwin,
}

/// What becomes of an alternate.
enum Verdict {
    Waits,
    Replaces,
    Goes,
}

impl Settings {
    /// By the windows of a branch and of its alternate.
    fn verdict(&self, branch: &Adwin, alternate: &Adwin) -> Verdict {
        let (n, m) = (branch.width(), alternate.width());
        if n.min(m) <= u64::from(self.least) {
            return Verdict::Waits;
        }
        let (error, other) = (branch.mean(), alternate.mean());
        let parts = 1.0 / n as f64 + 1.0 / m as f64;
        let bound = (2.0 * error * (1.0 - error) * (2.0 / self.chance).ln() * parts).max(0.0).sqrt();
        if error - other > bound {
            Verdict::Replaces
        } else if other - error > bound || m > LONGEST {
            Verdict::Goes
        } else {
            Verdict::Waits
        }
    }
}

impl AdaptiveTree {
    /// The most alternates at a time.
    pub const ALTERNATES: usize = ALTERNATES;

    /// A tree of one leaf.
    ///
    /// # Errors
    /// [`Error::Range`] names a setting, or the number of classes, that can't be.
    pub fn new(settings: Settings, schema: Schema, classes: usize, seed: u64) -> Result<Self> {
        settings.check()?;
        let [own, each] = halves(settings.tree.memory);
        let plan = |memory| Plan::new(tree::Settings { memory, ..settings.tree.clone() }, &schema, classes, None);
        let (plan, aside, mut random) = (plan(own)?, plan(each)?, Random::new(seed));
        let tree = Tree::new(&plan, (0..schema.width() as u32).collect(), 0, &mut random);
        let fresh = Adwin::new(adwin::Settings { delta: settings.drift, ..adwin::Settings::default() })?;
        Ok(Self { schema, settings, plan, aside, tree, fresh, alternates: 0, drifts: 0, random })
    }

    /// How many branches were replaced so far.
    pub fn drifts(&self) -> u64 {
        self.drifts
    }

    /// Leaves it has, without those of alternates.
    pub fn leaves(&self) -> usize {
        self.tree.leaves()
    }

    fn alternates(&self) -> impl Iterator<Item = &Alternate> {
        self.tree.splits().filter_map(|watch| watch.alternate.as_deref())
    }

    /// Tells the splits that a row passes by whether the tree was wrong about it; gives a split whose alternate takes its
    /// place.
    fn watch(&mut self, row: &[f64], class: usize, weight: f64, wrong: bool) -> Option<(usize, Tree)> {
        let Self { settings, aside, tree, fresh, alternates, random, .. } = self;
        let (columns, error, mut depth) = (tree.columns().to_vec(), f64::from(u8::from(wrong)), 0);
        tree.walk(row, |split, watch| {
            let errors = watch.errors.get_or_insert_with(|| fresh.clone());
            let alarm = errors.update_rising(error) == Ok(State::Drift);
            if alarm && watch.alternate.is_none() && *alternates < ALTERNATES {
                let tree = Tree::new(aside, columns.clone(), depth, random);
                watch.alternate = Some(Box::new(Alternate { tree, errors: fresh.clone() }));
                *alternates += 1;
            }
            depth += 1;
            let alternate = watch.alternate.as_deref_mut()?;
            let right = alternate.tree.learn(aside, row, class, weight, random);
            // An error of 0 or 1 is a number.
            alternate.errors.update_rising(f64::from(u8::from(!right))).ok();
            match settings.verdict(errors, &alternate.errors) {
                Verdict::Waits => None,
                Verdict::Replaces => watch.alternate.take().map(|alternate| (split, alternate.tree)),
                Verdict::Goes => {
                    watch.alternate = None;
                    *alternates -= 1;
                    None
                }
            }
        })
    }
}

impl Classifier for AdaptiveTree {
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
        if weight == 0.0 {
            return Ok(());
        }
        let right = self.tree.learn(&self.plan, row, class, weight, &mut self.random);
        if let Some((split, other)) = self.watch(row, class, weight, !right) {
            self.tree.graft(&self.plan, split, other);
            self.drifts += 1;
            self.alternates = self.alternates().count();
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        let alternate = |alternate: &Alternate| alternate.tree.memory() + alternate.errors.memory();
        size_of::<Self>() + self.tree.memory() + self.alternates().map(alternate).sum::<usize>()
    }
}

impl Snapshot for AdaptiveTree {
    const KIND: &'static str = "adaptive-tree";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.schema.check_self()?;
        self.settings.check()?;
        let Self { plan, aside, fresh, .. } =
            Self::new(self.settings.clone(), self.schema.clone(), self.plan.classes, 0)?;
        if (&plan, &aside, &fresh) != (&self.plan, &self.aside, &self.fresh) {
            return Err(Error::Snapshot("has plans that its settings do not make"));
        }
        self.tree.check(&plan)?;
        if self.alternates != self.alternates().count() || self.alternates > ALTERNATES {
            return Err(Error::Snapshot("has other alternates than it counts"));
        }
        self.tree.splits().filter_map(|watch| watch.errors.as_ref()).try_for_each(Adwin::check)?;
        self.alternates().try_for_each(|alternate| {
            alternate.errors.check()?;
            alternate.tree.check(&aside)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HoeffdingTree, learner::greatest};

    /// How many of the rows from 6,000 to 9,000 a learner is right about when what they mean flips at 6,000.
    fn right_after_flip(learner: &mut dyn Classifier) -> usize {
        let (mut random, mut right) = (Random::new(3), 0);
        for n in 0..9_000 {
            let row = [random.uniform(), random.uniform()];
            let class = usize::from((row[0] > 0.5) != (n >= 6_000));
            let mut said = [0.0; 2];
            learner.predict(&row, &mut said).unwrap();
            right += usize::from(n >= 6_000 && greatest(&said) == class);
            learner.learn(&row, class, 1.0).unwrap();
        }
        right
    }

    #[test]
    fn a_branch_that_stops_being_right_is_replaced() {
        let schema = Schema::numeric(2).unwrap();
        let mut adaptive = AdaptiveTree::new(Settings::default(), schema.clone(), 2, 1).unwrap();
        let mut plain = HoeffdingTree::new(tree::Settings::default(), schema, 2, 1).unwrap();
        let (adapted, stayed) = (right_after_flip(&mut adaptive), right_after_flip(&mut plain));
        assert!(adapted > 2_200 && adapted > stayed + 500, "{adapted} against {stayed} of 3,000");
        assert!(adaptive.drifts() > 0);
    }

    #[test]
    fn alternates_keep_within_the_memory() {
        let memory = 65_536;
        let settings = Settings {
            drift: 0.3,
            tree: tree::Settings { grace: 20.0, delta: 0.3, memory, ..tree::Settings::default() },
            ..Settings::default()
        };
        let mut tree = AdaptiveTree::new(settings, Schema::numeric(4).unwrap(), 3, 1).unwrap();
        let (mut random, mut most) = (Random::new(4), 0);
        for n in 0..20_000 {
            let row = [random.uniform(), random.uniform(), random.uniform(), random.uniform()];
            let class = ((row[n / 2_000 % 4] * 2.99) as usize + usize::from(random.uniform() < 0.2)) % 3;
            tree.learn(&row, class, 1.0).unwrap();
            most = most.max(tree.memory());
            assert_eq!(tree.alternates, tree.alternates().count());
        }
        assert!(most <= memory + memory / 4 && tree.drifts() > 0, "{most} bytes, {} drifts", tree.drifts());
        assert_eq!(AdaptiveTree::load(&tree.save()).unwrap(), tree);
    }
}
