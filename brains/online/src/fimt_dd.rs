//! One regression tree that watches its branches, and replaces those whose error rises.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Random, Result, Schema, Snapshot,
    arena::{ALTERNATES, Kept, halves},
    drift::{Detector as _, Direction, PageHinkley, State, page_hinkley},
    error::within,
    learner::{Regressor, check_pair},
    regression::{self, Plan, Tree},
    spread::Spread,
};

/// How a [`RegressionTree`] grows and forgets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How far from its mean an error may be, in deviations of the target. Default 0.005.
    pub tolerance: f64,
    /// How far errors may go beyond that altogether, in deviations of the target, before another branch begins to grow.
    /// Default 50.
    pub threshold: f64,
    /// What is left of the losses that branches are compared by after each row. Default 0.995.
    pub fading: f64,
    /// Rows between two comparisons; after ten of them the one beside it goes. Default 150.
    pub interval: u32,
    /// How each grows. Default as [`regression::Settings`] has it: half of the memory is the tree's, half what grows beside
    /// it.
    pub tree: regression::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        let tree = regression::Settings::default();
        Self { tolerance: 0.005, threshold: 50.0, fading: 0.995, interval: 150, tree }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        within("tolerance", self.tolerance, (0.0, 1e6), "from 0 to 10^6")?;
        within("threshold", self.threshold, (0.0, 1e9), "from 0 to 10^9")?;
        within("fading", self.fading, (0.0, 1.0), "from 0 to 1")?;
        within("interval", f64::from(self.interval), (1.0, 1e6), "from 1 to 10^6")?;
        within("memory", self.tree.memory as f64, (65_536.0, 1e15), "from 64 KiB to 10^15 bytes")?;
        self.tree.check()
    }

    fn test(&self) -> Result<PageHinkley> {
        let (tolerance, threshold) = (self.tolerance, self.threshold);
        let (fading, direction) = (1.0, Direction::Up);
        PageHinkley::new(page_hinkley::Settings { tolerance, threshold, fading, direction, ..Default::default() })
    }
}

/// FIMT-DD: Ikonomovska, Gama and Džeroski, "Learning model trees from evolving data streams" (Data Mining and Knowledge
/// Discovery 23, 2011), with means in its leaves. At each split a [`PageHinkley`] test watches how wrong the tree is about
/// rows that pass by; once that rises another tree begins to grow beside the branch. It takes the branch's place when its
/// squared errors, older ones fading, are less at a comparison, and goes when they are not at ten of them.
///
/// Differences from the paper: no linear models in the leaves, no alternates of alternates, and at most eight of them grow
/// at a time.
///
/// Predict is O(depth), learn O(depth + columns) for the tree and for what grows beside a branch on the row's way. Memory is
/// bounded by the [`memory`](regression::Settings::memory) of its settings.
///
/// ```
/// use online::{RegressionTree, Regressor, Schema, fimt_dd::Settings};
///
/// let mut tree = RegressionTree::new(Settings::default(), Schema::numeric(1)?, 7)?;
/// for n in 0..8_000 {
///     let x = f64::from(n * 7 % 10);
///     tree.learn(&[x], if (x > 4.0) != (n > 4_000) { 100.0 } else { -100.0 }, 1.0)?;
/// }
/// assert!(tree.predict(&[9.0])? < -80.0 && tree.drifts() > 0);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegressionTree {
    schema: Schema,
    settings: Settings,
    plan: Plan,
    /// How alternates grow: in less memory.
    aside: Plan,
    target: Spread,
    tree: Tree<Watch>,
    /// What each watch begins as.
    fresh: PageHinkley,
    alternates: usize,
    drifts: u64,
    random: Random,
}

/// Comparisons after which an alternate goes.
const COMPARISONS: u32 = 10;
/// Deviations of the target beyond which an error counts no more.
const FURTHEST: f64 = 1e6;

/// What watches a branch, and what may take its place.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Watch {
    /// None before the first row.
    errors: Option<PageHinkley>,
    alternate: Option<Box<Alternate>>,
}

impl Kept for Watch {
    const ELSEWHERE: usize = 0;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Alternate {
    tree: Tree,
    seen: u32,
    /// Squared errors of the tree, and of this one, older ones fading.
    losses: [f64; 2],
}

impl Alternate {
    /// Takes in what the tree, and this one, were off by; says whether it takes the branch's place.
    fn compare(&mut self, settings: &Settings, errors: [f64; 2]) -> bool {
        for (loss, error) in self.losses.iter_mut().zip(errors) {
            *loss = settings.fading * *loss + error * error;
        }
        self.seen = self.seen.saturating_add(1);
        let [branch, own] = self.losses;
        self.seen.is_multiple_of(settings.interval) && own < branch
    }

    fn is_late(&self, settings: &Settings) -> bool {
        self.seen >= settings.interval.saturating_mul(COMPARISONS)
    }
}

impl RegressionTree {
    /// A tree of one leaf.
    ///
    /// # Errors
    /// [`Error::Range`] names a setting that can't be.
    pub fn new(settings: Settings, schema: Schema, seed: u64) -> Result<Self> {
        settings.check()?;
        let [own, each] = halves(settings.tree.memory);
        let plan = |memory| Plan::new(regression::Settings { memory, ..settings.tree.clone() }, &schema, None);
        let (plan, aside, mut random) = (plan(own)?, plan(each)?, Random::new(seed));
        let tree = Tree::new(&plan, (0..schema.width() as u32).collect(), 0, &mut random);
        let (target, fresh) = (Spread::default(), settings.test()?);
        Ok(Self { schema, settings, plan, aside, target, tree, fresh, alternates: 0, drifts: 0, random })
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

    /// Tells the splits that a row passes by how wrong the tree was about it, down to the first that has an alternate; gives
    /// the split whose alternate takes its place.
    fn watch(&mut self, row: &[f64], target: f64, weight: f64, error: f64) -> Option<(usize, Tree)> {
        let Self { settings, aside, tree, fresh, alternates, random, .. } = self;
        let (columns, mut depth, mut covered) = (tree.columns().to_vec(), 0, false);
        tree.walk(row, |split, watch| {
            depth += 1;
            if watch.alternate.is_none() && !covered {
                let errors = watch.errors.get_or_insert_with(|| fresh.clone());
                if errors.update(error) == Ok(State::Drift) && *alternates < ALTERNATES {
                    let tree = Tree::new(aside, columns.clone(), depth - 1, random);
                    watch.alternate = Some(Box::new(Alternate { tree, seen: 0, losses: [0.0; 2] }));
                    *alternates += 1;
                }
            }
            let alternate = watch.alternate.as_deref_mut()?;
            covered = true;
            let own = (alternate.tree.answer(row) - target).abs().min(FURTHEST);
            alternate.tree.learn(aside, row, target, weight, random);
            if alternate.compare(settings, [error, own]) {
                return watch.alternate.take().map(|alternate| (split, alternate.tree));
            }
            if alternate.is_late(settings) {
                watch.alternate = None;
                *alternates -= 1;
            }
            None
        })
    }
}

impl Regressor for RegressionTree {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn predict(&self, row: &[f64]) -> Result<f64> {
        self.schema.check(row)?;
        Ok(self.target.value(self.tree.answer(row)))
    }

    fn learn(&mut self, row: &[f64], target: f64, weight: f64) -> Result<()> {
        check_pair(&self.schema, row, target, weight)?;
        if weight == 0.0 {
            return Ok(());
        }
        // The tree sees the target in deviations from its mean, so that no sum of squares cancels.
        self.target.add(target, weight);
        let scaled = self.target.scaled(target).clamp(-FURTHEST, FURTHEST);
        let error = (self.tree.answer(row) - scaled).abs().min(FURTHEST);
        self.tree.learn(&self.plan, row, scaled, weight, &mut self.random);
        if let Some((split, other)) = self.watch(row, scaled, weight, error) {
            self.tree.graft(&self.plan, split, other);
            self.drifts += 1;
            self.alternates = self.alternates().count();
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        let alternates: usize = self.alternates().map(|alternate| alternate.tree.memory()).sum();
        size_of::<Self>() + self.tree.memory() + alternates
    }
}

impl Snapshot for RegressionTree {
    const KIND: &'static str = "regression-tree";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.schema.check_self()?;
        let Self { plan, aside, fresh, .. } = Self::new(self.settings.clone(), self.schema.clone(), 0)?;
        if (&plan, &aside, &fresh) != (&self.plan, &self.aside, &self.fresh) || !self.target.is_sound() {
            return Err(Error::Snapshot("has plans that its settings do not make"));
        }
        self.tree.check(&plan)?;
        if self.alternates != self.alternates().count() || self.alternates > ALTERNATES {
            return Err(Error::Snapshot("has other alternates than it counts"));
        }
        self.tree.splits().filter_map(|watch| watch.errors.as_ref()).try_for_each(PageHinkley::check)?;
        self.alternates().try_for_each(|alternate| {
            if !alternate.losses.iter().all(|loss| loss.is_finite() && *loss >= 0.0) {
                return Err(Error::Snapshot("has losses that are no numbers"));
            }
            alternate.tree.check(&aside)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean error over the 3,000 rows after what they mean flips.
    fn error_after_flip(threshold: f64) -> (f64, u64) {
        let settings = Settings { threshold, ..Settings::default() };
        let mut tree = RegressionTree::new(settings, Schema::numeric(2).unwrap(), 1).unwrap();
        let (mut random, mut error) = (Random::new(3), 0.0);
        for n in 0..9_000 {
            let row = [random.uniform(), random.uniform()];
            let target = if (row[0] > 0.5) == (n < 6_000) { 10.0 } else { -10.0 };
            if n >= 6_000 {
                error += (tree.predict(&row).unwrap() - target).abs() / 3_000.0;
            }
            tree.learn(&row, target, 1.0).unwrap();
        }
        (error, tree.drifts())
    }

    #[test]
    fn a_branch_whose_error_rises_is_replaced() {
        let ((adapted, drifts), (stayed, none)) = (error_after_flip(50.0), error_after_flip(1e9));
        assert!(adapted < 5.0 && adapted < stayed / 2.0, "{adapted} against {stayed}");
        assert!(drifts > 0 && none == 0);
    }

    #[test]
    fn alternates_keep_within_the_memory() {
        let memory = 65_536;
        let tree = regression::Settings { grace: 20.0, delta: 0.3, memory, ..regression::Settings::default() };
        let settings = Settings { threshold: 5.0, tree, ..Settings::default() };
        let mut tree = RegressionTree::new(settings, Schema::numeric(4).unwrap(), 1).unwrap();
        let (mut random, mut most) = (Random::new(4), 0);
        for n in 0..20_000 {
            let row = [random.uniform(), random.uniform(), random.uniform(), random.uniform()];
            tree.learn(&row, row[n / 2_000 % 4] + 0.1 * random.normal(), 1.0).unwrap();
            most = most.max(tree.memory());
        }
        assert!(most <= memory + memory / 4 && tree.drifts() > 0, "{most} bytes, {} drifts", tree.drifts());
        assert_eq!(RegressionTree::load(&tree.save()).unwrap(), tree);
    }
}
