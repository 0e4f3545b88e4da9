//! Regression by one tree, or by many of which each is replaced when its error rises.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Random, Result, Schema, Snapshot,
    error::within,
    learner::{Regressor, check_pair},
    poisson::Poisson,
    regression::{self, Member, Plan},
    spread::Spread,
};

/// How a [`RegressionForest`] is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Trees. Default 10.
    pub trees: usize,
    /// Mean of the Poisson distribution that says how often each tree learns a row. Default 6.
    pub lambda: f64,
    /// Share of the columns that a leaf looks at. Default 0.6.
    pub columns: f64,
    /// The probability δ at which a tree in the background begins to grow. Default 0.01.
    pub warning: f64,
    /// The probability δ at which it takes the tree's place. Default 0.001.
    pub drift: f64,
    /// How each tree grows. Default grace 50, δ 0.01, 64 MiB altogether.
    pub tree: regression::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self::of(10)
    }
}

impl Settings {
    /// So many trees.
    pub fn of(trees: usize) -> Self {
        let memory = (64 << 20) / trees.max(1);
        let tree = regression::Settings { grace: 50.0, delta: 0.01, memory, ..regression::Settings::default() };
        Self { trees, lambda: 6.0, columns: 0.6, warning: 0.01, drift: 0.001, tree }
    }

    fn check(&self) -> Result<()> {
        within("trees", self.trees as f64, (1.0, 1_000.0), "from 1 to 1,000")?;
        within("lambda", self.lambda, (0.1, 30.0), "from 0.1 to 30")?;
        within("columns", self.columns, (1e-6, 1.0), "above 0, and 1 at most")?;
        within("warning", self.warning, (1e-12, 0.5), "from 10^-12 to 0.5")?;
        within("drift", self.drift, (1e-12, 0.5), "from 10^-12 to 0.5")?;
        self.tree.check()
    }
}

/// An adaptive random forest for regression: Gomes and others, "Adaptive random forests for data stream regression" (ESANN
/// 2018). Trees are those of [`regression`], learn by online bagging, and answer by their mean; an
/// [`Adwin`](crate::drift::Adwin) over each tree's error, as a share of four deviations of the target, lets another grow and take its place.
///
/// Predict and learn are O(trees · (depth + columns)). Memory is bounded by trees times
/// [`regression::Settings::memory`], twice while all have one in the background.
///
/// ```
/// use online::{RegressionForest, Regressor, Schema, forest::Settings};
///
/// let mut forest = RegressionForest::new(Settings::of(5), Schema::numeric(1)?, 7)?;
/// for n in 0..4_000 {
///     let x = f64::from(n % 10);
///     forest.learn(&[x], if x > 4.0 { 100.0 } else { -100.0 }, 1.0)?;
/// }
/// assert!(forest.predict(&[9.0])? > 80.0 && forest.predict(&[1.0])? < -80.0);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegressionForest {
    settings: Settings,
    schema: Schema,
    plan: Plan,
    target: Spread,
    members: Vec<Member>,
    poisson: Poisson,
    random: Random,
    drifts: u64,
}

/// Deviations of the target beyond which an error counts no more.
const FURTHEST: f64 = 4.0;
/// Deviations of the target that none is beyond, neither what is learnt nor an answer.
const BEYOND: f64 = 1e6;

impl RegressionForest {
    /// Trees of one leaf each.
    ///
    /// # Errors
    /// [`Error::Range`] names a setting that can't be.
    pub fn new(settings: Settings, schema: Schema, seed: u64) -> Result<Self> {
        settings.check()?;
        let per_leaf = ((settings.columns * schema.width() as f64).round() as usize).clamp(1, schema.width());
        let plan = Plan::new(settings.tree.clone(), &schema, Some(per_leaf))?;
        let mut random = Random::new(seed);
        let all: Vec<u32> = (0..schema.width() as u32).collect();
        let deltas = (settings.warning, settings.drift);
        let members = (0..settings.trees).map(|_| Member::new(&plan, all.clone(), deltas, &mut random));
        let members = members.collect::<Result<_>>()?;
        let poisson = Poisson::new(settings.lambda);
        Ok(Self { settings, schema, plan, target: Spread::default(), members, poisson, random, drifts: 0 })
    }

    /// How many trees were replaced so far.
    pub fn drifts(&self) -> u64 {
        self.drifts
    }

    fn answer(&self, row: &[f64]) -> f64 {
        self.members.iter().map(|member| member.answer(row)).sum::<f64>() / self.members.len().max(1) as f64
    }
}

impl Regressor for RegressionForest {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn predict(&self, row: &[f64]) -> Result<f64> {
        self.schema.check(row)?;
        Ok(self.target.value(self.answer(row).clamp(-BEYOND, BEYOND)))
    }

    fn learn(&mut self, row: &[f64], target: f64, weight: f64) -> Result<()> {
        check_pair(&self.schema, row, target, weight)?;
        if weight == 0.0 {
            return Ok(());
        }
        // Trees see the target in deviations from its mean, so that no sum of squares cancels.
        self.target.add(target, weight);
        let scaled = self.target.scaled(target).clamp(-BEYOND, BEYOND);
        let Self { members, plan, poisson, random, drifts, .. } = self;
        for member in members {
            let times = poisson.draw(random);
            if times > 0 {
                let error = ((member.answer(row) - scaled).abs() / FURTHEST).min(1.0);
                let weights = [weight * f64::from(times), weight];
                *drifts += u64::from(member.learn(plan, (row, scaled), weights, error, random));
            }
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        size_of::<Self>() + self.members.iter().map(Member::memory).sum::<usize>()
    }
}

impl Snapshot for RegressionForest {
    const KIND: &'static str = "regression-forest";
    const VERSION: u16 = 2;

    fn check(&self) -> Result<()> {
        self.schema.check_self()?;
        self.settings.check()?;
        self.plan.check(&self.schema)?;
        let fits = self.members.len() == self.settings.trees && self.poisson == Poisson::new(self.settings.lambda);
        if !fits || !self.target.is_sound() {
            return Err(Error::Snapshot("has other trees than its settings say"));
        }
        self.members.iter().try_for_each(|member| member.check(&self.plan))
    }
}
