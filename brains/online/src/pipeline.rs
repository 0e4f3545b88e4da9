//! Transformers, and the learner behind them, as one learner.
//!
//! What transformers learn is part of what a model has learnt, so both see the same rows, in the same order, and are saved
//! together. A [`Pipeline`] of a [`Classifier`] is one, and so is one of a [`Regressor`].

use serde::{Deserialize, Serialize};

use crate::{
    Classifier, Error, Regressor, Result, Schema, Snapshot,
    learner::{check_example, check_pair},
    scratch::with_places,
    transform::{self, Step, Transformer as _},
};

/// The most transformers of a pipeline.
pub const STEPS: usize = 8;
/// Columns up to which a prediction allocates nothing, and the most for which less of the stack will do.
const WIDE: usize = 1_024;
const NARROW: usize = 64;

/// Transformers and a model, as a manifest writes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings<M> {
    /// What a row goes through, first to last; up to 8.
    #[serde(default)]
    pub steps: Vec<transform::Spec>,
    /// What learns from what comes out.
    pub model: M,
}

/// Lets each row through transformers, and a model have what comes out.
///
/// To predict is to transform by what was learnt so far; nothing changes. To learn, each transformer takes the row in,
/// then transforms it, and last the model learns what came out. So a prediction made before, as in a test, knows
/// nothing of its row, and the model never learns a first row by a scale of nothing, or a new word as none. That
/// is River's order of `learn_one` too (Montiel and others, JMLR 2021). Transformers see no labels, hence none leaks
/// through them into the model's row.
///
/// A row that causes an error is looked at before anything learns. Predict and learn add to the model's cost what each
/// transformer takes; up to 1,024 columns between transformers nothing is allocated.
///
/// ```
/// use online::{Classifier, Feature, Logistic, Pipeline, Schema, logistic, transform};
///
/// let schema = Schema::new(vec![Feature::number("amount"), Feature::words("country", 200)])?;
/// let steps: Vec<transform::Spec> = serde_json::from_str(r#"[{ "step": "scaler" }, { "step": "one-hot", "words": 8 }]"#)?;
/// let logistic = |schema| Logistic::new(logistic::Settings::default(), schema, 2);
/// let mut pipeline = Pipeline::new(schema, &steps, 7, logistic)?;
/// for n in 0..2_000 {
///     let country = f64::from(n % 5);
///     pipeline.learn(&[1e6, country], usize::from(country == 3.0), 1.0)?;
/// }
/// let mut probabilities = [0.0; 2];
/// pipeline.predict(&[1e6, 3.0], &mut probabilities)?;
/// assert!(probabilities[1] > 0.9);
/// assert_eq!(pipeline.model().schema().width(), 9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pipeline<M> {
    steps: Vec<Step>,
    schema: Schema,
    /// The most columns that any step takes or gives.
    widest: usize,
    model: M,
}

impl<M> Pipeline<M> {
    /// Transformers one behind the other, the first of which takes rows of this schema, and the model that `make` makes
    /// for rows as the last one gives them.
    ///
    /// # Errors
    /// As [`transform::Spec::build`] and as `make`; [`Error::Range`] for more than 8 steps.
    pub fn new(
        schema: Schema,
        specs: &[transform::Spec],
        seed: u64,
        make: impl FnOnce(Schema) -> Result<M>,
    ) -> Result<Self> {
        check_count(specs.len())?;
        let (mut steps, mut columns) = (Vec::<Step>::new(), schema.clone());
        // Other draws than the model's, and than those of its parts.
        for (spec, place) in specs.iter().zip(0x5eed..) {
            let step = spec.build(columns, seed.wrapping_add(place))?;
            columns = step.output().clone();
            steps.push(step);
        }
        Ok(Self { widest: widest(&schema, &steps), steps, schema, model: make(columns)? })
    }

    /// What a row goes through, first to last.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What learns from what comes out.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Has a row transformed by what was learnt so far.
    fn transformed<T>(&self, row: &[f64], last: impl FnOnce(&M, &[f64]) -> Result<T>) -> Result<T> {
        let step = |step: &Step, row: &[f64], out: &mut [f64]| step.transform(row, out);
        let width = |step: &&Step| step.output().width();
        through(self.steps.iter(), width, step, self.widest, row, |row| last(&self.model, row))
    }

    /// Has a row, which was checked, learnt and transformed by each step.
    fn learnt<T>(&mut self, row: &[f64], weight: f64, last: impl FnOnce(&mut M, &[f64]) -> Result<T>) -> Result<T> {
        let step = |step: &mut Step, row: &[f64], out: &mut [f64]| {
            step.learn(row, weight)?;
            step.transform(row, out)
        };
        let width = |step: &&mut Step| step.output().width();
        let Self { steps, widest, model, .. } = self;
        through(steps.iter_mut(), width, step, *widest, row, |row| last(model, row))
    }

    /// What learns from what comes out, to be changed.
    pub(crate) fn model_mut(&mut self) -> &mut M {
        &mut self.model
    }

    /// Has a row transformed by what was learnt so far, and the model learn what comes out.
    pub(crate) fn held<T>(&mut self, row: &[f64], last: impl FnOnce(&mut M, &[f64]) -> Result<T>) -> Result<T> {
        let step = |step: &Step, row: &[f64], out: &mut [f64]| step.transform(row, out);
        let width = |step: &&Step| step.output().width();
        let Self { steps, widest, model, .. } = self;
        through(steps.iter(), width, step, *widest, row, |row| last(model, row))
    }

    /// Bytes of what is before the model.
    fn memory_before(&self) -> usize {
        let steps: usize = self.steps.iter().map(|step| step.memory()).sum();
        size_of::<Self>() - size_of::<M>() + self.schema.memory() + steps
    }

    /// Whether a state that was just read can be, its model apart.
    fn check_steps(&self, model: &Schema) -> Result<()> {
        check_count(self.steps.len())?;
        self.schema.check_self()?;
        let mut columns = &self.schema;
        for step in &self.steps {
            if step.schema() != columns {
                return Err(Error::Snapshot("has a step that takes other rows than come"));
            }
            step.check()?;
            columns = step.output();
        }
        match model == columns && self.widest == widest(&self.schema, &self.steps) {
            true => Ok(()),
            false => Err(Error::Snapshot("has a model that takes other rows than come")),
        }
    }
}

/// As many steps as there may be.
fn check_count(steps: usize) -> Result<()> {
    match steps <= STEPS {
        true => Ok(()),
        false => Err(Error::Range { what: "the number of steps", value: steps as f64, range: "from 0 to 8" }),
    }
}

fn widest(schema: &Schema, steps: &[Step]) -> usize {
    steps.iter().map(|step| step.output().width()).fold(schema.width(), usize::max)
}

/// Lets a row through steps, from one of two places to the other and back, and `last` have what comes out.
fn through<S, T>(
    steps: impl ExactSizeIterator<Item = S>,
    width: impl Fn(&S) -> usize,
    mut step: impl FnMut(S, &[f64], &mut [f64]) -> Result<()>,
    widest: usize,
    row: &[f64],
    last: impl FnOnce(&[f64]) -> Result<T>,
) -> Result<T> {
    if steps.len() == 0 {
        return last(row);
    }
    with_two(widest, |[mut here, mut there]| {
        let mut wide = row.len();
        let known = here.get_mut(..wide).ok_or(Error::Width { wanted: widest, found: wide })?;
        known.copy_from_slice(row);
        for each in steps {
            let next = width(&each);
            step(each, here.get(..wide).unwrap_or_default(), there.get_mut(..next).unwrap_or_default())?;
            std::mem::swap(&mut here, &mut there);
            wide = next;
        }
        last(here.get(..wide).unwrap_or_default())
    })
}

/// Works on two places for rows of so many columns: on the stack up to [`WIDE`].
fn with_two<T>(widest: usize, work: impl FnOnce([&mut [f64]; 2]) -> T) -> T {
    let both = |places: &mut [f64]| {
        let (here, there) = places.split_at_mut(widest);
        work([here, there])
    };
    // Zeros of more of the stack than a row needs would cost more than what is done with it.
    match widest {
        ..=NARROW => with_places::<{ 2 * NARROW }, _>(2 * widest, both),
        _ => with_places::<{ 2 * WIDE }, _>(2 * widest, both),
    }
}

impl<M: Classifier> Classifier for Pipeline<M> {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn classes(&self) -> usize {
        self.model.classes()
    }

    fn predict(&self, row: &[f64], probabilities: &mut [f64]) -> Result<()> {
        self.schema.check(row)?;
        self.transformed(row, |model, row| model.predict(row, probabilities))
    }

    fn learn(&mut self, row: &[f64], class: usize, weight: f64) -> Result<()> {
        check_example(&self.schema, self.model.classes(), row, class, weight)?;
        if weight == 0.0 {
            return Ok(());
        }
        self.learnt(row, weight, |model, row| model.learn(row, class, weight))
    }

    fn memory(&self) -> usize {
        self.memory_before() + self.model.memory()
    }
}

impl<M: Regressor> Regressor for Pipeline<M> {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn predict(&self, row: &[f64]) -> Result<f64> {
        self.schema.check(row)?;
        self.transformed(row, |model, row| model.predict(row))
    }

    fn learn(&mut self, row: &[f64], target: f64, weight: f64) -> Result<()> {
        check_pair(&self.schema, row, target, weight)?;
        if weight == 0.0 {
            return Ok(());
        }
        self.learnt(row, weight, |model, row| model.learn(row, target, weight))
    }

    fn memory(&self) -> usize {
        self.memory_before() + self.model.memory()
    }
}

/// Snapshots of pipelines, each model's of a kind of its own.
macro_rules! pipelines {
    ($($trait:ident: $model:ty => $kind:literal, $version:literal;)+) => {$(
        impl Snapshot for Pipeline<$model> {
            const KIND: &'static str = $kind;
            const VERSION: u16 = $version;

            fn check(&self) -> Result<()> {
                self.check_steps($trait::schema(&self.model))?;
                self.model.check()
            }
        }
    )+};
}

pipelines! {
    Classifier: crate::registry::Learner => "classifier", 3;
    Regressor: crate::registry::Estimator => "regressor", 1;
}

#[cfg(test)]
mod tests;
