//! Many trees that disagree, each replaced when it stops being right: adaptive random forest, random patches, leveraging
//! bagging.

mod member;
pub(crate) mod merge;

use serde::{Deserialize, Serialize};

use crate::{
    Error, Random, Result, Schema, Snapshot,
    error::within,
    learner::{Classifier, check_example, check_question, normalise},
    poisson::Poisson,
    tree::{self, Plan},
};
use member::Member;

/// Which columns a tree looks at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subspace {
    /// All of them.
    All,
    /// This share of them, drawn anew for each leaf.
    Leaf(f64),
    /// √columns + 1, drawn anew for each leaf.
    LeafRoot,
    /// This share of them, drawn for each tree.
    Tree(f64),
}

/// How an ensemble is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Trees. Default 10.
    pub trees: usize,
    /// Mean of the Poisson distribution that says how often each tree learns a row. Default 6.
    pub lambda: f64,
    /// Which columns a tree looks at. Default 60 % for each leaf.
    pub subspace: Subspace,
    /// The probability δ at which a tree in the background begins to grow. Default 0.01.
    pub warning: f64,
    /// The probability δ at which it takes the tree's place. Default 0.001.
    pub drift: f64,
    /// How each tree grows. Default grace 50, δ 0.01, tie 0.05, the other values as [`tree::Settings`] has them, 64 MiB
    /// altogether.
    pub tree: tree::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self::adaptive_random_forest(10)
    }
}

impl Settings {
    /// So many trees of an adaptive random forest: Gomes and others, "Adaptive random forests for evolving data stream
    /// classification" (Machine Learning 106, 2017).
    pub fn adaptive_random_forest(trees: usize) -> Self {
        let memory = (64 << 20) / trees.max(1);
        Self {
            trees,
            lambda: 6.0,
            subspace: Subspace::Leaf(0.6),
            warning: 0.01,
            drift: 0.001,
            tree: tree::Settings { grace: 50.0, delta: 0.01, tie: 0.05, memory, ..tree::Settings::default() },
        }
    }

    /// So many streaming random patches: Gomes, Read and Bifet, "Streaming random patches for evolving data stream
    /// classification" (ICDM 2019).
    pub fn streaming_random_patches(trees: usize) -> Self {
        let forest = Self::adaptive_random_forest(trees);
        Self { subspace: Subspace::Tree(0.6), warning: 1e-4, drift: 1e-5, ..forest }
    }

    /// So many trees of leveraging bagging: Bifet, Holmes and Pfahringer, "Leveraging bagging for evolving data streams"
    /// (ECML 2010). A tree whose error has risen is replaced, where the paper replaces the worst one.
    pub fn leveraging_bagging(trees: usize) -> Self {
        let forest = Self::adaptive_random_forest(trees);
        let tree = tree::Settings { grace: 200.0, delta: 1e-7, ..forest.tree };
        Self { subspace: Subspace::All, warning: 0.01, drift: 0.002, tree, ..forest }
    }

    fn check(&self) -> Result<()> {
        within("trees", self.trees as f64, (1.0, 1_000.0), "from 1 to 1,000")?;
        within("lambda", self.lambda, (0.1, 30.0), "from 0.1 to 30")?;
        if let Subspace::Leaf(share) | Subspace::Tree(share) = self.subspace {
            within("the subspace", share, (1e-6, 1.0), "above 0, and 1 at most")?;
        }
        within("warning", self.warning, (1e-12, 0.5), "from 10^-12 to 0.5")?;
        within("drift", self.drift, (1e-12, 0.5), "from 10^-12 to 0.5")?;
        self.tree.check()
    }

    /// Columns of each tree, and of each leaf.
    fn columns(&self, width: usize) -> (usize, Option<usize>) {
        let share = |share: f64| ((share * width as f64).round() as usize).clamp(1, width);
        match self.subspace {
            Subspace::All => (width, None),
            Subspace::Leaf(part) => (width, Some(share(part))),
            Subspace::LeafRoot => (width, Some(((width as f64).sqrt().floor() as usize + 1).min(width))),
            Subspace::Tree(part) => (share(part), None),
        }
    }
}

/// Trees by online bagging (Oza and Russell 2001), each learning a row as often as a Poisson distribution says. An
/// [`Adwin`](crate::drift::Adwin) over each tree's errors lets another one grow in the background when it warns, and take
/// its place when it is sure. A tree's vote counts as much as it has been right since it was made.
///
/// [`Settings::adaptive_random_forest`], [`Settings::streaming_random_patches`] and [`Settings::leveraging_bagging`] are
/// the three known forms. Where this differs from the authors' programs: a tree's error is that of the answer it gave
/// before it learnt the row, and a word is told from all others instead of splitting into a branch for each.
///
/// Predict is O(trees · (depth + classes · columns)), and so is learn but for looks for cuts. Memory is bounded by trees
/// times [`tree::Settings::memory`], twice while all have one in the background.
///
/// ```
/// use online::{Classifier, Ensemble, Schema, ensemble::Settings};
///
/// let mut forest = Ensemble::new(Settings::adaptive_random_forest(10), Schema::numeric(2)?, 2, 7)?;
/// for n in 0..2_000_u32 {
///     let row = [f64::from(n * 7_919 % 101), f64::from(n * 104_729 % 103)];
///     forest.learn(&row, usize::from(row[0] > 50.0), 1.0)?;
/// }
/// let mut probabilities = [0.0; 2];
/// forest.predict(&[90.0, 10.0], &mut probabilities)?;
/// assert!(probabilities[1] > 0.9);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ensemble {
    schema: Schema,
    settings: Settings,
    plan: Plan,
    members: Vec<Member>,
    poisson: Poisson,
    random: Random,
    drifts: u64,
}

impl Ensemble {
    /// Trees of one leaf each.
    ///
    /// # Errors
    /// [`Error::Range`] names a setting, or the number of classes, that can't be.
    pub fn new(settings: Settings, schema: Schema, classes: usize, seed: u64) -> Result<Self> {
        settings.check()?;
        let (per_tree, per_leaf) = settings.columns(schema.width());
        let plan = Plan::new(settings.tree.clone(), &schema, classes, per_leaf)?;
        let mut random = Random::new(seed);
        let members = (0..settings.trees).map(|_| Member::new(&settings, &plan, per_tree, &mut random));
        let members = members.collect::<Result<_>>()?;
        let poisson = Poisson::new(settings.lambda);
        Ok(Self { schema, settings, plan, members, poisson, random, drifts: 0 })
    }

    /// How many trees were replaced so far.
    pub fn drifts(&self) -> u64 {
        self.drifts
    }

    /// Leaves of all trees.
    pub fn leaves(&self) -> usize {
        self.members.iter().map(Member::leaves).sum()
    }
}

impl Classifier for Ensemble {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn classes(&self) -> usize {
        self.plan.classes
    }

    fn predict(&self, row: &[f64], probabilities: &mut [f64]) -> Result<()> {
        check_question(&self.schema, self.plan.classes, row, probabilities.len())?;
        probabilities.fill(0.0);
        for member in &self.members {
            member.vote(&self.plan, row, probabilities);
        }
        normalise(probabilities);
        Ok(())
    }

    fn learn(&mut self, row: &[f64], class: usize, weight: f64) -> Result<()> {
        check_example(&self.schema, self.plan.classes, row, class, weight)?;
        if weight > 0.0 {
            for member in &mut self.members {
                let times = self.poisson.draw(&mut self.random);
                let drift = member.learn(&self.plan, (row, class), (times, weight), &mut self.random);
                self.drifts += u64::from(drift);
            }
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        size_of::<Self>() + self.members.iter().map(Member::memory).sum::<usize>()
    }
}

impl Snapshot for Ensemble {
    const KIND: &'static str = "ensemble";
    const VERSION: u16 = 2;

    fn check(&self) -> Result<()> {
        self.schema.check_self()?;
        self.settings.check()?;
        self.plan.check(&self.schema, self.plan.classes)?;
        if self.members.len() != self.settings.trees || self.poisson != Poisson::new(self.settings.lambda) {
            return Err(Error::Snapshot("has other trees than its settings say"));
        }
        self.members.iter().try_for_each(|member| member.check(&self.plan))
    }
}
