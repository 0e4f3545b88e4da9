//! Finds which learner, with which settings, learnt from how much of the past, loses least on a log of examples.
//!
//! [`Tuner`] only decides: the caller asks it for a job, runs that wherever it likes, and reports what was lost; several
//! jobs may be out at once. What it promises is where to look, and evidence of what was found ([`Tuner::best`]); whether the
//! winner may act is for [`crate::guard`] to say.
//!
//! - [`Space`]: what may be tried, any learner of the [registry](crate::registry) by any of its settings.
//! - [`Settings`]: how many, how long, how sure.
//! - [`Job`], [`Verdict`], [`Failure`]: what goes to and fro.
//!
//! Does not know about: where a log is, what an example is, threads, clocks. A loss is a number from 0 to 1 that the
//! caller makes of an answer: an error, half a Brier score, a share of an absolute error.

mod entry;
mod plan;
mod rungs;
mod score;
mod space;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use rungs::Window;
pub use space::{Candidate, Dial, Kind, Space, Tunable, Values};

use crate::{
    Error, Random, Result, Snapshot,
    bandit::{Reward, Thompson},
    error::{finite, within},
};
use entry::{Entry, State};
use rungs::Rungs;

/// The most candidates.
const CANDIDATES: usize = 4_096;
/// The most places of drifts.
const DRIFTS: usize = 4_096;

/// How a [`Tuner`] searches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A rung has so many times the examples of the one below. Default 3.
    pub eta: u32,
    /// Share of the first rung's candidates that go on to the next; of every later rung's one in η does, as in the paper. The
    /// first rung's scored examples, some 300, tell good ones apart little better than by lot, and what learns fast seems best.
    /// Default 0.6, chosen by leave-one-stream-out (`evaluation/training/choose.txt`).
    pub keep: f64,
    /// Rungs, where the log is long enough. Default 4: 1/27, 1/9, 1/3 and all of it.
    pub rungs: u32,
    /// Examples of the first rung at least. Default 1,000: fewer reward what learns fast and soon knows all it can.
    pub least: u64,
    /// Candidates that are tried, the champion and hints among them. Default 27.
    pub candidates: usize,
    /// Candidates, the champion not counted, that get to see the whole log unless they were stopped. Default 2.
    pub finalists: usize,
    /// Examples after which no new job is given; none where left out.
    pub budget: Option<u64>,
    /// The probability of stopping one that is not worse than the leader, for all candidates together, at a rung. Default
    /// 0.05.
    pub alpha: f64,
    /// Losses that differ by no more are as good as each other, and the cheaper candidate is better. Default 0.002.
    pub margin: f64,
    /// How much costs weigh in which kind is tried next: 0 not at all, 1 as much as ranks do. Default 0.1.
    pub thrift: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            eta: 3,
            keep: 0.6,
            rungs: 4,
            least: 1_000,
            candidates: 27,
            finalists: 2,
            budget: None,
            alpha: 0.05,
            margin: 0.002,
            thrift: 0.1,
        }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        within("eta", f64::from(self.eta), (2.0, 10.0), "from 2 to 10")?;
        within("the share that goes on", self.keep, (0.01, 0.9), "from 0.01 to 0.9")?;
        within("the number of rungs", f64::from(self.rungs), (2.0, 8.0), "from 2 to 8")?;
        within("the first rung", self.least as f64, (10.0, 1e12), "from 10 to 10^12 examples")?;
        within("the number of candidates", self.candidates as f64, (1.0, CANDIDATES as f64), "from 1 to 4,096")?;
        within("the number of finalists", self.finalists as f64, (1.0, CANDIDATES as f64), "from 1 to 4,096")?;
        within("alpha", self.alpha, (1e-6, 0.5), "from 10^-6 to 0.5")?;
        within("the margin", self.margin, (0.0, 1.0), "from 0 to 1")?;
        within("thrift", self.thrift, (0.0, 1.0), "from 0 to 1").map(|_| ())
    }
}

/// What is searched for: the log, and what is known before.
#[derive(Debug, Clone, PartialEq)]
pub struct Task<S> {
    /// What may be tried.
    pub space: Space<S>,
    /// Examples of the log; at least twice [`Settings::least`].
    pub examples: u64,
    /// Places in the log, from 0, at which something drifted, up to 4,096.
    pub drifts: Vec<u64>,
    /// What acts now: it is scored on the same rungs as all others.
    pub champion: Option<Candidate<S>>,
    /// What was good before, the best first: tried before anything is drawn.
    pub hints: Vec<Candidate<S>>,
}

/// A piece of work.
#[derive(Debug, Clone, PartialEq)]
pub struct Job<S> {
    /// By what name it is reported.
    pub id: u64,
    /// The candidate's number; the caller keeps the model that its last job left by it.
    pub number: usize,
    /// What learns.
    pub candidate: Candidate<S>,
    /// The candidate whose model, as its last job left it, goes on, mostly `number` itself; where it is another, a copy of
    /// its model does. A new model where there is none.
    pub warm: Option<usize>,
    /// The first example that is predicted, then learnt.
    pub from: u64,
    /// The first that is not any more.
    pub to: u64,
    /// From this example on losses count.
    pub scored: u64,
}

/// What there is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Next<S> {
    /// This.
    Work(Job<S>),
    /// Nothing until a job that is out is reported.
    Wait,
    /// Nothing any more: the search is over.
    Finished,
}

/// What becomes of a job whose losses were reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There are examples left.
    GoOn,
    /// All were reported: the job is over, and its model waits.
    Done,
    /// The candidate is worse than the leader: the job is over, and its model is not needed any more.
    Stopped,
}

/// Why a job won't be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Its worker or its model is lost: it is given out again, from the candidate's first example.
    Lost,
    /// The candidate can't be built, or can't learn these examples: it is out.
    Broken,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Best<'a, S> {
    /// The candidate's number, and what it is.
    pub number: usize,
    /// The winner.
    pub candidate: &'a Candidate<S>,
    /// Mean loss on the last third of the examples that it saw, and its standard error.
    pub loss: (f64, f64),
    /// Those examples: the whole log once the search is over.
    pub examples: u64,
    /// Microseconds an example, or whatever the caller's unit of cost is.
    pub cost: f64,
    /// Whether it is the champion, or by how much it loses less.
    pub evidence: Evidence,
}

/// How the winner stands beside the champion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Evidence {
    /// There is no champion, or it was not scored yet.
    Alone,
    /// It is the champion.
    Champion,
    /// The champion's loss less the winner's on the same examples.
    Gain {
        /// The mean difference.
        mean: f64,
        /// Bounds that hold at all times at `1 − α` ([`crate::evidence::Interval`]); not corrected for having chosen the
        /// best of many on these examples, which is why the guard asks again.
        bounds: (f64, f64),
        /// How many scored examples.
        examples: u64,
    },
}

/// A search by asynchronous successive halving (Li, Jamieson, Rostamizadeh and others, "A system for massively parallel
/// hyperparameter tuning", MLSys 2020), for logs that are learnt in order.
///
/// Candidates see the first rung of the log and are scored by prequential loss on its last third; the best of a rung go on to
/// the next, three times as long, from the model they left. A candidate is stopped as soon as the confidence sequence of
/// "its loss less the leader's", block by block on the same examples, lies above 0. Candidates that differ in their window
/// alone, and learn from the same example on, are one job and count as one. The champion goes along wherever anybody
/// goes, unless it was stopped. Kinds are drawn by Thompson sampling on how a kind's candidates rank at the first rung,
/// and on what they cost; ChaCha (Wu and others, ICML 2021) searches beside a champion likewise.
///
/// Differences: what can be done at a lower rung is done first. Who has one worker pays for few wrong promotions then, as in
/// successive halving; with many none of them waits for the slowest. From the first rung more go on than one in η, and fewer
/// where the floor has made the next rung longer than η times this one. Among those that may go on, first goes who gains more per cost.
///
/// Choosing is O(candidates²) a job, a report O(losses). At most 8 KiB for each candidate and rung.
///
/// ```
/// use online::tune::{Next, Settings, Space, Task, Tuner, Values, Verdict};
///
/// let mut space = Space::classifiers();
/// space.kinds.truncate(3);
/// let task = Task { space, examples: 9_000, drifts: vec![], champion: None, hints: vec![] };
/// let mut tuner = Tuner::new(Settings { candidates: 9, ..Settings::default() }, task, 7)?;
/// loop {
///     let job = match tuner.next_job()? {
///         Next::Work(job) => job,
///         Next::Wait | Next::Finished => break,
///     };
///     // A worker would build or go on with the model, and predict and learn the examples from..to.
///     let losses = (job.from..job.to).map(|example| f64::from(u8::from(example % 10 < job.number as u64)));
///     let losses: Vec<f64> = losses.collect();
///     assert_ne!(tuner.report(job.id, &losses, 1.5 * losses.len() as f64)?, Verdict::GoOn);
/// }
/// let best = tuner.best().expect("something was scored");
/// assert_eq!((best.number, best.examples), (0, 9_000));
/// assert!(tuner.spent().examples < 9 * 9_000 / 2);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "S: Tunable")]
pub struct Tuner<S> {
    settings: Settings,
    space: Space<S>,
    rungs: Rungs,
    /// The champion first, if there is one; then hints; then what was drawn.
    entries: Vec<Entry<S>>,
    has_champion: bool,
    kinds: Thompson,
    /// Numbers of a kind's candidates that were not drawn yet, where they are counted.
    pools: Vec<Option<Vec<u32>>>,
    random: Random,
    jobs: u64,
    spent: Spent,
}

/// What a search took so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Examples that were reported.
    pub examples: u64,
    /// Costs that were reported, in the caller's unit.
    pub cost: f64,
    /// Jobs that were given out.
    pub jobs: u64,
    /// Candidates that were tried.
    pub candidates: usize,
    /// Of these, those that were stopped.
    pub stopped: usize,
}

impl<S: Tunable> Tuner<S> {
    /// A search that has not begun.
    ///
    /// # Errors
    /// [`Error::Range`] for settings that can't be, a log shorter than twice the first rung, or too much of anything; what
    /// is wrong with the space ([`Space::check`]).
    pub fn new(settings: Settings, task: Task<S>, seed: u64) -> Result<Self> {
        settings.check()?;
        task.space.check()?;
        let hints = task.hints.len() as f64;
        within("the number of hints", hints, (0.0, CANDIDATES as f64), "from 0 to 4,096")?;
        within("the number of drifts", task.drifts.len() as f64, (0.0, DRIFTS as f64), "from 0 to 4,096")?;
        let rungs = Rungs::new(&settings, task.examples, &task.drifts)?;
        let mut random = Random::new(seed);
        let kinds = Thompson::new(task.space.kinds.len(), Reward::Bernoulli, 1.0, random.bits())?;
        let pool = |kind| Some((0..task.space.count(kind)? as u32).collect());
        let pools = (0..task.space.kinds.len()).map(pool).collect();
        let mut entries: Vec<Entry<S>> = Vec::new();
        let has_champion = task.champion.is_some();
        let known = task.champion.into_iter().chain(task.hints);
        for candidate in known {
            if entries.len() < settings.candidates && entries.iter().all(|entry| entry.candidate != candidate) {
                entries.push(Entry::new(candidate, None));
            }
        }
        let spent = Spent::default();
        Ok(Self { settings, space: task.space, rungs, entries, has_champion, kinds, pools, random, jobs: 0, spent })
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The next piece of work. Jobs are given out until somebody must wait; ask again after each report.
    ///
    /// # Errors
    /// [`Error::Unknown`] when the space gives a specification that can't be; a space that was checked gives none.
    pub fn next_job(&mut self) -> Result<Next<S>> {
        self.plan()
    }

    /// Takes in what a job's next examples lost, in order from [`Job::from`] on, those before [`Job::scored`] too, and what
    /// they cost. A job may be reported in parts: then it can be stopped early.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a job that is not out, [`Error::Width`] for more losses than it has examples left,
    /// [`Error::Range`] for a loss outside 0 … 1 or a cost that is negative or beyond 10¹⁵. Nothing has changed then.
    pub fn report(&mut self, job: u64, losses: &[f64], cost: f64) -> Result<Verdict> {
        let number = self.number(job)?;
        finite("the cost", cost)?;
        within("the cost", cost, (0.0, 1e15), "from 0 to 10^15")?;
        losses.iter().try_for_each(|loss| within("a loss", *loss, (0.0, 1.0), "from 0 to 1").map(|_| ()))?;
        self.take(number, losses, cost)
    }

    /// Takes in that a job won't be reported any more.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a job that is not out.
    pub fn fail(&mut self, job: u64, failure: Failure) -> Result<()> {
        let number = self.number(job)?;
        self.lose(number, failure);
        Ok(())
    }

    /// Jobs that are out: after a snapshot was loaded, those of workers that are gone are to be failed as lost.
    pub fn out(&self) -> impl Iterator<Item = u64> {
        self.entries.iter().filter_map(|entry| entry.job())
    }

    /// Whether a candidate's model may still be asked for.
    pub fn needs_model(&self, number: usize) -> bool {
        self.entries.get(number).is_some_and(|entry| !matches!(entry.state, State::Stopped | State::Broken))
    }

    /// What the search took so far.
    pub fn spent(&self) -> Spent {
        let tried = self.entries.iter().filter(|entry| entry.examples > 0 || !entry.scores.is_empty());
        let stopped = self.entries.iter().filter(|entry| entry.state == State::Stopped);
        Spent { jobs: self.jobs, candidates: tried.count(), stopped: stopped.count(), ..self.spent }
    }

    /// The best so far: of those that saw most, who loses least; of those that lose nearly as little, the cheapest. Nothing
    /// before the first rung was scored.
    pub fn best(&self) -> Option<Best<'_, S>> {
        let rung = (0..self.rungs.count()).rev().find(|rung| self.scored(*rung).next().is_some())?;
        let least = self.scored(rung).map(|(_, entry)| entry.loss(rung)).fold(f64::INFINITY, f64::min);
        let close = self.scored(rung).filter(|(_, entry)| entry.loss(rung) <= least + self.settings.margin);
        let (number, entry) = close.min_by(|(_, a), (_, b)| a.dear().total_cmp(&b.dear()))?;
        Some(Best {
            number,
            candidate: &entry.candidate,
            loss: (entry.loss(rung), entry.scores.get(rung)?.error()),
            examples: self.rungs.end(rung),
            cost: entry.dear(),
            evidence: self.evidence(number, entry),
        })
    }

    /// Those scored at a rung.
    fn scored(&self, rung: usize) -> impl Iterator<Item = (usize, &Entry<S>)> {
        let whole = move |entry: &Entry<S>| entry.is_scored(rung) && entry.state != State::Broken;
        self.entries.iter().enumerate().filter(move |(_, entry)| whole(entry))
    }

    fn evidence(&self, number: usize, winner: &Entry<S>) -> Evidence {
        let Some(champion) = self.entries.first().filter(|_| self.has_champion) else { return Evidence::Alone };
        if number == 0 {
            return Evidence::Champion;
        }
        let both =
            |rung: &usize| champion.scores.get(*rung).is_some_and(|score| score.seen() > 0) && winner.is_scored(*rung);
        let last = (0..self.rungs.count()).rev().find(both);
        let pair = last.and_then(|rung| Some((champion.scores.get(rung)?, winner.scores.get(rung)?)));
        let Some((score, winner)) = pair else { return Evidence::Alone };
        match score.against(winner, self.settings.alpha) {
            Ok(interval) => Evidence::Gain { mean: interval.mean(), bounds: interval.bounds(), examples: score.seen() },
            Err(_) => Evidence::Alone,
        }
    }

    fn number(&self, job: u64) -> Result<usize> {
        let found = self.entries.iter().position(|entry| entry.job() == Some(job));
        found.ok_or_else(|| Error::Unknown(format!("job {job}")))
    }
}

impl<S: Tunable> Snapshot for Tuner<S> {
    const KIND: &'static str = S::KIND;
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.settings.check().map_err(|_| Error::Snapshot("has settings out of range"))?;
        self.space.check().map_err(|_| Error::Snapshot("has a space that can't be searched"))?;
        self.kinds.check()?;
        let kinds = self.space.kinds.len();
        if self.kinds.means().count() != kinds || self.pools.len() != kinds || !self.rungs.is_of(&self.settings) {
            return Err(Error::Snapshot("has another space or log than its settings say"));
        }
        let pool = |(kind, pool): (usize, &Option<Vec<u32>>)| match (self.space.count(kind), pool) {
            (Some(count), Some(pool)) => pool.len() <= count && pool.iter().all(|number| (*number as usize) < count),
            (count, pool) => count.is_none() && pool.is_none(),
        };
        let entries = self.entries.len() <= self.settings.candidates
            && (!self.has_champion || !self.entries.is_empty())
            && self.entries.iter().all(|entry| entry.is_sound(&self.rungs, kinds, self.jobs));
        let spent = (0.0..=1e300).contains(&self.spent.cost);
        if self.pools.iter().enumerate().all(pool) && entries && spent {
            Ok(())
        } else {
            Err(Error::Snapshot("has a candidate that no search gives"))
        }
    }
}
