//! Several workers learn one state: who learns which examples, what each is sent, and how what comes back becomes one.
//!
//! ```text
//! Fit ──order──► Worker     weights: Steps ──common──► Worker ──update──► Steps, round by round ──► Fit::stepped
//!                           trees:                     Worker ──state───────────────────────────► Fit::merged
//! ```
//!
//! Examples are dealt by a hash of prediction and row ([`online::robust::worker_of`]). The newest are held out: no worker
//! learns them, trees are judged by them, and what came out learns them last, so each is learnt. Of linear learners the
//! oldest come first: they set the scale by which all workers learn. The same examples and number of workers give the same
//! state, bit for bit, whoever is done first; a worker's draws are its own.
//!
//! What a worker sends is looked at as if a stranger had sent it: whoever sends no numbers, other trees or no state is left
//! out, and counted. Where too few are left, or a learner can't be brought together at all, one learns alone ([`Alone`]).
//!
//! Does not know about: processes, pipes, deadlines, clocks.

mod bytes;
#[cfg(test)]
mod tests;

use online::{
    Classifier as _, Ensemble, Error, Snapshot as _,
    learner::greatest,
    robust::{self, Aggregator, Outcome, Rule, merge_forests, worker_of},
    weights::Weighted,
};
use serde::Serialize;
use types::{Manifest, PredictionId};

use super::{Learner, Model, SEED, State, Truth};
use crate::row::Row;
use bytes::{Order, Rows};
pub use bytes::{numbers, written};

/// The most workers of a fit.
const MOST: usize = types::manifest::Train::MOST_WORKERS;
/// Bytes of a state that a worker may send.
pub const LARGEST: u64 = 256 << 20;
/// Examples that set the scale of a linear learner.
const WARM: usize = 500;
/// Examples held out, at most; a tenth where there are few.
const HELD: usize = 1_000;
/// The fewest that are worth a worker.
const LEAST: usize = 250;
/// Examples that a worker with weights learns between two common steps, and how often it learns its share: a step of the mean
/// is one step, so once would be little.
const ROUND: usize = 128;
const PASSES: usize = 3;
/// How examples are dealt.
const SALT: u64 = 9;

/// How several workers' states become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Linear learners: by how much weights moved, round by round. From three workers on the trimmed mean over momentum
    /// after nearest-neighbour mixing, that a liar can't bend far (of seven or more, two); two can't outvote each other, and
    /// are averaged.
    Weights,
    /// Forests of classifiers: each worker's most accurate trees.
    Trees,
}

/// Why one worker learns alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alone {
    /// There is one worker.
    One,
    /// Nobody knows how to bring several such learners together.
    Learner(String),
    /// There are too few examples.
    Few {
        /// What is there.
        examples: usize,
        /// What is needed.
        least: usize,
    },
    /// Too many workers were left out.
    Left {
        /// Those that are left.
        left: usize,
        /// Those that began.
        workers: usize,
    },
    /// It went wrong.
    Failed(String),
}

impl std::fmt::Display for Alone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One => f.write_str("there is one worker"),
            Self::Learner(learner) => write!(f, "what several of `{learner}` learnt can't be brought together"),
            Self::Few { examples, least } => {
                write!(f, "there are {examples} examples, and several workers need {least}")
            }
            Self::Left { left, workers } => write!(f, "of {workers} workers {left} are left"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl From<Error> for Alone {
    fn from(error: Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// An example, and whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Lesson<'a> {
    /// The prediction, and which of its rows.
    pub key: (PredictionId, u64),
    /// What was asked.
    pub asked: &'a Row,
    /// What was right.
    pub truth: Truth,
}

/// What is told of a worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Told {
    /// Examples of its share.
    pub examples: usize,
    /// How far it stands from what came out: of weights in medians of all workers' distances, of trees the share of the
    /// examples held out that its forest answers otherwise. A reason to look, and no proof.
    pub distance: f64,
    /// Share of what it sent that was refused: updates, or trees that are wrong too often.
    pub refused: f64,
    /// Why it was left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
}

/// What came of it.
#[derive(Debug)]
pub struct Fitted {
    /// What was learnt.
    pub model: Model,
    /// Of each worker.
    pub told: Vec<Told>,
}

/// A fit that several workers share.
#[derive(Debug)]
pub struct Fit {
    manifest: Manifest,
    /// Knows all words; of weights, has the scale.
    model: Model,
    way: Way,
    shares: Vec<Rows>,
    held: Rows,
    offset: u64,
}

impl Fit {
    /// Deals examples, oldest first, to so many workers; `offset` is the next entry of the stream after them. Rows that can't
    /// be learnt teach nobody. O(examples) memory: rows as the learner takes them.
    ///
    /// # Errors
    /// Why one worker is to learn alone.
    pub fn new<'a>(
        manifest: &Manifest,
        lessons: impl ExactSizeIterator<Item = Lesson<'a>>,
        workers: usize,
        offset: u64,
    ) -> Result<Self, Alone> {
        if workers < 2 {
            return Err(Alone::One);
        }
        let workers = workers.min(MOST);
        let mut model = Model::new(manifest).map_err(|refusal| Alone::Failed(refusal.message.into_owned()))?;
        let way = model.way(manifest)?;
        let (count, width) = (lessons.len(), model.state.encoder.schema().width());
        let warm = if way == Way::Weights { WARM } else { 0 };
        let held = HELD.min(count / 10);
        let least = (workers * LEAST + warm) * 10 / 9;
        if count < least {
            return Err(Alone::Few { examples: count, least });
        }
        let mut fit = Self {
            manifest: manifest.clone(),
            shares: vec![Rows::new(width); workers],
            held: Rows::new(width),
            way,
            offset,
            model: model.clone(),
        };
        for (place, lesson) in lessons.enumerate() {
            let Ok(row) = model.read(lesson.asked, lesson.truth) else { continue };
            if place < warm {
                model.state.learner.learn(&row, lesson.truth, 1.0)?;
                model.state.learnt += 1;
            } else if place >= count - held {
                fit.held.push(&row, lesson.truth);
            } else if let Some(share) = fit.shares.get_mut(worker_of(&key(lesson.key), workers, SALT)) {
                share.push(&row, lesson.truth);
            }
        }
        if fit.held.is_empty() || fit.shares.iter().any(Rows::is_empty) {
            return Err(Alone::Few { examples: count, least });
        }
        fit.model = model;
        Ok(fit)
    }

    /// How states become one.
    pub fn way(&self) -> Way {
        self.way
    }

    /// Examples that no worker learns but what comes out does, last.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.shares.len()
    }

    /// What a worker is sent first.
    ///
    /// # Errors
    /// Where there is no such worker.
    pub fn order(&self, worker: usize) -> Result<Vec<u8>, Alone> {
        let missing = || Alone::Failed(format!("there is no worker {worker}"));
        let share = self.shares.get(worker).ok_or_else(missing)?;
        let begin = match self.way {
            Way::Weights => self.model.state.save(),
            Way::Trees => {
                // Forests whose draws are the same would be of like trees.
                let seed = SEED + 1 + worker as u64;
                let own = Model::seeded(&self.manifest, seed)
                    .map_err(|refusal| Alone::Failed(refusal.message.into_owned()))?;
                State { encoder: self.model.state.encoder.clone(), ..own.state }.save()
            }
        };
        Ok(Order::write(self.rounds(), &begin, share))
    }

    /// Rounds of common steps; none of trees.
    fn rounds(&self) -> usize {
        let longest = self.shares.iter().map(Rows::len).max().unwrap_or(0);
        match self.way {
            Way::Weights => longest.div_ceil(ROUND) * PASSES,
            Way::Trees => 0,
        }
    }

    fn told(&self) -> Vec<Told> {
        self.shares.iter().map(|share| Told { examples: share.len(), ..Told::default() }).collect()
    }

    /// The common steps of workers with weights.
    ///
    /// # Errors
    /// Where the learner has none, or more than so many workers can bring together.
    pub fn steps(&self) -> Result<Steps, Alone> {
        let weights = self.model.weighted().ok_or(Error::Snapshot("has no weights"))?.weights();
        let workers = self.workers();
        let liars = match workers {
            ..=2 => 0,
            3..=6 => 1,
            _ => 2,
        };
        let rule = if liars == 0 { Rule::Mean } else { Rule::Robust };
        let settings = robust::Settings { rule, liars, ..robust::Settings::default() };
        let aggregator = Aggregator::new(settings, workers, weights.len())?;
        Ok(Steps {
            aggregator,
            step: vec![0.0; weights.len()],
            common: weights,
            left: self.rounds(),
            told: self.told(),
        })
    }

    /// What common steps have come to.
    ///
    /// # Errors
    /// Where the weights are none.
    pub fn stepped(self, steps: Steps) -> Result<Fitted, Alone> {
        let Steps { aggregator, common, mut told, .. } = steps;
        for (told, suspicion) in told.iter_mut().zip(aggregator.suspicions()) {
            (told.distance, told.refused) = (suspicion.distance, suspicion.refused);
        }
        let mut fit = self;
        fit.model.weighted_mut().ok_or(Error::Snapshot("has no weights"))?.write_weights(&common)?;
        fit.finish(told)
    }

    /// One forest of what workers sent: a state of each, or why there is none.
    ///
    /// # Errors
    /// Where too few sent one that can be used.
    pub fn merged(self, sent: Vec<Result<Vec<u8>, String>>) -> Result<Fitted, (Alone, Vec<Told>)> {
        let (mut told, mut fit) = (self.told(), self);
        let mut forests = Vec::new();
        for (worker, sent) in sent.into_iter().enumerate() {
            let Some(told) = told.get_mut(worker) else { continue };
            match sent.and_then(|bytes| fit.forest(&bytes).map_err(|error| format!("its state {error}"))) {
                Ok(forest) => forests.push((worker, forest)),
                Err(why) => told.left_out = Some(why),
            }
        }
        match fit.merge(&forests, &mut told) {
            Ok(()) => fit.finish(told).map_err(|alone| (alone, Vec::new())),
            Err(alone) => Err((alone, told)),
        }
    }

    /// The forest of a state, where it is one that this fit's workers grow.
    fn forest(&self, bytes: &[u8]) -> Result<Ensemble, String> {
        let state = State::load(bytes).map_err(|error| match error {
            Error::Snapshot(why) => why.to_owned(),
            error => error.to_string(),
        })?;
        let other = || "is none of such a forest".to_owned();
        let Learner::Classifier(model) = state.learner else { return Err(other()) };
        let Learner::Classifier(own) = &self.model.state.learner else { return Err(other()) };
        let own = own.trees().ok_or_else(other)?;
        let fits = |forest: &&Ensemble| own.is_like(forest) && own.trees() == forest.trees();
        model.trees().filter(fits).cloned().ok_or_else(other)
    }

    fn merge(&mut self, forests: &[(usize, Ensemble)], told: &mut [Told]) -> Result<(), Alone> {
        enough(forests.len(), self.workers())?;
        let trees: Vec<&Ensemble> = forests.iter().map(|(_, forest)| forest).collect();
        let clean: Vec<(&[f64], usize)> = self.held.classes().collect();
        let (merged, report) = merge_forests(&trees, &clean, SEED)?;
        let answers = |forest: &Ensemble| {
            let mut probabilities = vec![0.0; forest.classes()];
            let answer =
                |(row, _): &(&[f64], usize)| forest.predict(row, &mut probabilities).map(|()| greatest(&probabilities));
            clean.iter().map(answer).collect::<Result<Vec<usize>, Error>>()
        };
        let common = answers(&merged)?;
        for ((worker, forest), trees) in forests.iter().zip(&report.workers) {
            let Some(told) = told.get_mut(*worker) else { continue };
            let apart = answers(forest)?.iter().zip(&common).filter(|(own, common)| own != common).count();
            told.distance = apart as f64 / clean.len() as f64;
            told.refused = trees.refused as f64 / trees.sent.max(1) as f64;
        }
        match &mut self.model.state.learner {
            Learner::Classifier(model) => Ok(model.put_trees(merged)?),
            Learner::Regressor(_) => Err(Error::Snapshot("has no trees").into()),
        }
    }

    /// What was held out is learnt, and the state says what it knows.
    fn finish(mut self, told: Vec<Told>) -> Result<Fitted, Alone> {
        let classifies = matches!(self.model.state.learner, Learner::Classifier(_));
        for (row, truth) in self.held.iter() {
            self.model.state.learner.learn(row, said(truth, classifies), 1.0)?;
        }
        let taken: usize = told.iter().filter(|told| told.left_out.is_none()).map(|told| told.examples).sum();
        self.model.state.learnt += (taken + self.held.len()) as u64;
        self.model.state.offset = self.offset;
        // Nobody is handed what can't be loaded.
        self.model.state.check()?;
        Ok(Fitted { model: self.model, told })
    }

    /// The same without processes: what workers give who all are honest.
    ///
    /// # Errors
    /// As [`Fit::merged`] and [`Steps::take`].
    pub fn here(self) -> Result<Fitted, Alone> {
        let orders = (0..self.workers()).map(|worker| self.order(worker));
        let mut workers = Vec::new();
        for order in orders {
            workers.push(Worker::open(&order?)?);
        }
        match self.way {
            Way::Trees => {
                let grown = |mut worker: Worker| worker.grow(&mut || {}).map_err(|error| error.to_string());
                self.merged(workers.into_iter().map(grown).collect()).map_err(|(alone, _)| alone)
            }
            Way::Weights => {
                let mut steps = self.steps()?;
                while !steps.is_done() {
                    let common = steps.common().to_vec();
                    let step =
                        |worker: &mut Worker| worker.step(&common, &mut || {}).map_err(|error| error.to_string());
                    steps.take(workers.iter_mut().map(step).collect())?;
                }
                self.stepped(steps)
            }
        }
    }
}

/// What a prediction's row is dealt by.
fn key((prediction, row): (PredictionId, u64)) -> Vec<u8> {
    [&prediction.0.as_bytes()[..], &row.to_le_bytes()].concat()
}

/// Two, and more than half.
fn enough(left: usize, workers: usize) -> Result<(), Alone> {
    if left >= 2 && left * 2 > workers { Ok(()) } else { Err(Alone::Left { left, workers }) }
}

/// What was right, as it is written: a class by its number.
fn said(number: f64, classifies: bool) -> Truth {
    if classifies { Truth::Class(number as usize) } else { Truth::Number(number) }
}

impl Model {
    /// How several of this learner become one.
    fn way(&self, manifest: &Manifest) -> Result<Way, Alone> {
        let forest = matches!(&self.state.learner, Learner::Classifier(model) if model.trees().is_some());
        match (self.weighted(), forest) {
            (Some(_), _) => Ok(Way::Weights),
            (None, true) => Ok(Way::Trees),
            (None, false) => {
                let learner = match &manifest.spec.source {
                    types::manifest::Source::Online(online) => online.learner.clone(),
                    _ => String::new(),
                };
                Err(Alone::Learner(learner))
            }
        }
    }

    fn weighted(&self) -> Option<&dyn Weighted> {
        self.state.learner.weighted()
    }

    fn weighted_mut(&mut self) -> Option<&mut dyn Weighted> {
        self.state.learner.weighted_mut()
    }
}

impl Learner {
    fn weighted(&self) -> Option<&dyn Weighted> {
        match self {
            Self::Classifier(model) => model.weighted(),
            Self::Regressor(model) => model.weighted(),
        }
    }

    fn weighted_mut(&mut self) -> Option<&mut dyn Weighted> {
        match self {
            Self::Classifier(model) => model.weighted_mut(),
            Self::Regressor(model) => model.weighted_mut(),
        }
    }
}

/// Steps that workers take together, round by round.
#[derive(Debug)]
pub struct Steps {
    aggregator: Aggregator,
    common: Vec<f64>,
    step: Vec<f64>,
    left: usize,
    told: Vec<Told>,
}

impl Steps {
    /// Whether all are taken.
    pub fn is_done(&self) -> bool {
        self.left == 0
    }

    /// The weights that the next round begins with.
    pub fn common(&self) -> &[f64] {
        &self.common
    }

    /// Whether a worker is asked still.
    pub fn asks(&self, worker: usize) -> bool {
        self.told.get(worker).is_some_and(|told| told.left_out.is_none())
    }

    /// What is told of each worker so far.
    pub fn told(&self) -> &[Told] {
        &self.told
    }

    /// Makes one step of a round's updates: of each worker by how much its weights moved, or why it is left out, from now on.
    ///
    /// # Errors
    /// Where too few are left.
    pub fn take(&mut self, updates: Vec<Result<Vec<f64>, String>>) -> Result<(), Alone> {
        for (told, update) in self.told.iter_mut().zip(&updates) {
            if let (None, Err(why)) = (&told.left_out, update) {
                told.left_out = Some(why.clone());
            }
        }
        let asked = |(told, update): (&Told, Result<Vec<f64>, String>)| update.ok().filter(|_| told.left_out.is_none());
        let updates: Vec<Option<Vec<f64>>> = self.told.iter().zip(updates).map(asked).collect();
        let there: Vec<Option<&[f64]>> = updates.iter().map(Option::as_deref).collect();
        let (left, workers) = (there.iter().flatten().count(), self.told.len());
        enough(left, workers)?;
        let round = self.aggregator.aggregate(&there, &mut self.step).map_err(|_| Alone::Left { left, workers })?;
        for (told, outcome) in self.told.iter_mut().zip(&round.outcomes) {
            if *outcome == Outcome::Refused {
                told.left_out = Some("its update is of another width, or has what is no number".into());
            }
        }
        enough(self.told.iter().filter(|told| told.left_out.is_none()).count(), workers)?;
        self.common.iter_mut().zip(&self.step).for_each(|(weight, by)| *weight += by);
        self.left = self.left.saturating_sub(1);
        Ok(())
    }
}

/// A worker: it knows its share, and nothing else.
#[derive(Debug)]
pub struct Worker {
    state: State,
    rows: Rows,
    rounds: usize,
    round: usize,
}

/// Rows between two looks whether anybody still waits.
const LOOK: usize = 64;

impl Worker {
    /// The worker that an order is for.
    ///
    /// # Errors
    /// [`Error::Snapshot`] for what is no order.
    pub fn open(order: &[u8]) -> Result<Self, Error> {
        let Order { rounds, state, rows } = Order::read(order)?;
        Ok(Self { state: State::load(state)?, rows, rounds, round: 0 })
    }

    /// Numbers of an update; nothing where it has trees.
    pub fn width(&self) -> Option<usize> {
        if self.rounds == 0 { None } else { self.state.learner.weighted().map(Weighted::weight_count) }
    }

    /// Rounds that it takes part in.
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// Learns the next part of its share from the common weights on; says by how much its own moved.
    ///
    /// # Errors
    /// For what are no weights of its learner.
    pub fn step(&mut self, common: &[f64], look: &mut dyn FnMut()) -> Result<Vec<f64>, Error> {
        let none = Error::Snapshot("has no weights");
        self.state.learner.weighted_mut().ok_or(none)?.write_weights(common)?;
        let (parts, round) = ((self.rounds / PASSES).max(1), self.round % (self.rounds / PASSES).max(1));
        let (from, to) = (self.rows.len() * round / parts, self.rows.len() * (round + 1) / parts);
        for (place, (row, truth)) in self.rows.iter().enumerate().skip(from).take(to - from) {
            if place % LOOK == 0 {
                look();
            }
            match &mut self.state.learner {
                Learner::Classifier(model) => model.learn_held(row, truth as usize, 1.0)?,
                Learner::Regressor(model) => model.learn_held(row, truth, 1.0)?,
            }
        }
        self.round += 1;
        let mut moved = self.state.learner.weighted().map(Weighted::weights).unwrap_or_default();
        moved.iter_mut().zip(common).for_each(|(after, before)| *after -= before);
        Ok(moved)
    }

    /// Learns its share, and gives its state.
    ///
    /// # Errors
    /// For rows that are none of its learner.
    pub fn grow(&mut self, look: &mut dyn FnMut()) -> Result<Vec<u8>, Error> {
        let classifies = matches!(self.state.learner, Learner::Classifier(_));
        for (place, (row, truth)) in self.rows.iter().enumerate() {
            if place % LOOK == 0 {
                look();
            }
            self.state.learner.learn(row, said(truth, classifies), 1.0)?;
        }
        Ok(self.state.save())
    }
}
