//! One step made of many workers' steps, which a few liars among them can't bend far.
//!
//! Workers learn on shards of a stream, each from the same weights ([`crate::weights`]), and send by how much theirs
//! moved. [`Aggregator`] makes one update of these; forests have no weights, and are brought together tree by tree by
//! [`merge_forests`].
//!
//! | rule | holds against | costs |
//! |---|---|---|
//! | [`Rule::Mean`] | nobody: one worker sends what it likes | O(workers · weights) |
//! | [`Rule::Robust`] | as many liars as [`Settings::liars`], fewer than half | O(workers² · weights), 8 bytes a worker and weight |
//!
//! Krum (Blanchard, El Mhamdi, Guerraoui and Stainer, NeurIPS 2017) is left out on purpose: it needs `2 · liars + 3`
//! workers, so that with four and one liar it is not defined; and it takes one worker's update and throws the others'
//! away, for which one pays where nobody lies.
//!
//! Bucketing (Karimireddy, He and Jaggi, ICLR 2022), which mixes updates of unlike workers in groups of `s`, is left out as well:
//! it needs more than `2 · s · liars` workers, and with `s` of 2 neither four with one liar nor seven with two are that.
//! Nearest-neighbour mixing, which the rule has, came after it for the same end. What does most is that shards are alike to
//! begin with: [`worker_of`] deals examples so.
//!
//! Does not know about: where workers run, how updates travel, whether their sender is who it says; updates are signed by
//! who sends them and checked by who receives them.

mod deal;
mod rule;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub(crate) use rule::median;

pub use deal::worker_of;

pub use crate::ensemble::merge::{MergeReport, WorkerTrees, merge_forests};
use crate::{Error, Result, Snapshot, error::within};

/// The most workers: each is compared with each.
pub const WORKERS: usize = 256;
/// The most numbers that all workers' momenta may be.
const NUMBERS: usize = 1 << 28;
/// Numbers of an update that are greater are no update.
const GREATEST: f64 = 1e99;
/// What of a suspicion stays from one round to the next: some ten rounds are remembered.
const KEPT: f64 = 0.9;
/// The most that one round's distance counts.
const FURTHEST: f64 = 1e3;

/// How updates become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The mean of the updates: the plain twin.
    Mean,
    /// The trimmed mean of momenta that were clipped and mixed.
    #[default]
    Robust,
}

/// How an [`Aggregator`] works.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How updates become one. Default robust.
    pub rule: Rule,
    /// How many workers may lie; fewer than half. Default 1.
    pub liars: usize,
    /// What of a worker's momentum stays from round to round, 0 … 0.999. Default 0.9.
    pub momentum: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { rule: Rule::Robust, liars: 1, momentum: 0.9 }
    }
}

impl Settings {
    fn check(&self, workers: usize, width: usize) -> Result<()> {
        within("the momentum", self.momentum, (0.0, 0.999), "from 0 to 0.999")?;
        within("the number of workers", workers as f64, (1.0, WORKERS as f64), "from 1 to 256")?;
        within("the number of weights", width as f64, (1.0, NUMBERS as f64), "from 1 to 2^28")?;
        let needed = workers.saturating_mul(width);
        if needed > NUMBERS {
            return Err(Error::Memory { needed: needed.saturating_mul(8), allowed: NUMBERS * 8 });
        }
        self.enough(workers)
    }

    /// Whether so many workers can outvote the liars.
    fn enough(&self, workers: usize) -> Result<()> {
        let least = match self.rule {
            Rule::Mean => 1,
            Rule::Robust => self.liars.saturating_mul(2).saturating_add(1),
        };
        let range = "more than twice the number of liars";
        within("the number of workers", workers as f64, (least as f64, f64::INFINITY), range).map(|_| ())
    }
}

/// What became of a worker's update in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was taken in.
    Taken,
    /// None came.
    Absent,
    /// It has another width, or a number that none may be; the worker counts as absent, and is suspected.
    Refused,
}

/// How far a worker stands from the others, over some ten rounds. A worker whose shard is unlike the others', as
/// none is where [`worker_of`] deals, stands apart too: this is a reason to look, and no proof.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Suspicion {
    /// Its distance from the update that was made, in medians of all workers'; 1 is like the others.
    pub distance: f64,
    /// The cosine between what it sent and what was made: −1 pulls the other way.
    pub agreement: f64,
    /// Share of rounds in which what it sent was refused.
    pub refused: f64,
    /// Rounds in which it sent anything.
    pub rounds: u64,
}

/// A round as it was: in the order of the workers.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Round {
    /// What became of each update.
    pub outcomes: Vec<Outcome>,
    /// The length that updates were cut to; 0 under [`Rule::Mean`], which cuts none.
    pub radius: f64,
    /// How many were longer.
    pub cut: usize,
}

/// What is remembered of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Memory {
    /// Empty under [`Rule::Mean`].
    momentum: Vec<f64>,
    /// What of all weights of the momentum is there by now: `1 − β^rounds`.
    filled: f64,
    suspicion: Suspicion,
}

/// Makes one update of many workers'. By [`Rule::Robust`], in each round:
///
/// 1. each worker's momentum takes its update in, `m ← β · m + (1 − β) · update`, divided by `1 − βᵗ` (Karimireddy, He and
///    Jaggi, ICML 2021: what is small and steady enough to hide in one round does not hide in ten);
/// 2. momenta longer than their median length are cut to it;
/// 3. each is replaced by the mean of the `workers − liars` nearest to it, itself among them: nearest-neighbour mixing
///    (Allouah, Farhadkhani, Guerraoui, Gupta, Pinot and Stephan, AISTATS 2023), for shards that differ;
/// 4. of each coordinate the `liars` least and greatest are left out, and the rest is averaged (Yin, Chen, Ramchandran and
///    Bartlett, ICML 2018).
///
/// Differences: the radius is the median of this round instead of a constant, and cutting comes before mixing, so that a
/// long lie moves no mean that it is nearest to. A momentum delays: what changes at once is followed some `1 / (1 − β)`
/// rounds later.
///
/// ```
/// use online::robust::{Aggregator, Settings};
///
/// let mut aggregator = Aggregator::new(Settings::default(), 4, 2)?;
/// let (honest, liar): ([f64; 2], [f64; 2]) = ([1.0, -0.5], [-100.0, 50.0]);
/// let mut update = [0.0; 2];
/// let round = aggregator.aggregate(&[Some(&honest), Some(&honest), Some(&honest), Some(&liar)], &mut update)?;
/// assert_eq!(update, honest);
/// assert_eq!(round.cut, 1);
/// assert!(aggregator.suspicions().nth(3).is_some_and(|liar| liar.agreement < -0.9));
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Aggregator {
    settings: Settings,
    width: usize,
    workers: Vec<Memory>,
}

impl Aggregator {
    /// One for so many workers, and updates of so many numbers.
    ///
    /// # Errors
    /// [`Error::Range`] for settings that can't be, no or more than 256 workers, or not more than twice as many as may
    /// lie; [`Error::Memory`].
    pub fn new(settings: Settings, workers: usize, width: usize) -> Result<Self> {
        settings.check(workers, width)?;
        let momentum = if settings.rule == Rule::Robust { vec![0.0; width] } else { Vec::new() };
        let memory = Memory { momentum, filled: 0.0, suspicion: Suspicion::default() };
        Ok(Self { settings, width, workers: vec![memory; workers] })
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Makes one update of those that came, one place for each worker, and writes it into `out`.
    ///
    /// # Errors
    /// [`Error::Width`] when there are not as many places as workers, or `out` is not as wide as an update;
    /// [`Error::Range`] when too few came to outvote the liars. Nothing has changed then, and `out` is as it was.
    pub fn aggregate(&mut self, updates: &[Option<&[f64]>], out: &mut [f64]) -> Result<Round> {
        if updates.len() != self.workers.len() {
            return Err(Error::Width { wanted: self.workers.len(), found: updates.len() });
        }
        if out.len() != self.width {
            return Err(Error::Width { wanted: self.width, found: out.len() });
        }
        let outcomes: Vec<Outcome> = updates.iter().map(|update| self.outcome(*update)).collect();
        let taken = |(update, outcome): (&Option<_>, &Outcome)| update.filter(|_| *outcome == Outcome::Taken);
        let taken: Vec<Option<&[f64]>> = updates.iter().zip(&outcomes).map(taken).collect();
        self.settings.enough(taken.iter().flatten().count())?;
        let (radius, cut) = match self.settings.rule {
            Rule::Mean => {
                let rows: Vec<&[f64]> = taken.iter().copied().flatten().collect();
                rule::mean(&rows, out);
                self.judge(&outcomes, &rows, out);
                (0.0, 0)
            }
            Rule::Robust => self.robust(&outcomes, &taken, out),
        };
        Ok(Round { outcomes, radius, cut })
    }

    /// How far each worker stands from the others, in the order of the workers.
    pub fn suspicions(&self) -> impl Iterator<Item = Suspicion> {
        self.workers.iter().map(|worker| worker.suspicion)
    }

    fn outcome(&self, update: Option<&[f64]>) -> Outcome {
        match update {
            None => Outcome::Absent,
            Some(update) if update.len() == self.width && update.iter().all(|x| x.abs() <= GREATEST) => Outcome::Taken,
            Some(_) => Outcome::Refused,
        }
    }

    fn robust(&mut self, outcomes: &[Outcome], taken: &[Option<&[f64]>], out: &mut [f64]) -> (f64, usize) {
        let keep = self.settings.momentum;
        let mut momenta = Vec::new();
        for (worker, update) in self.workers.iter_mut().zip(taken) {
            let Some(update) = update else { continue };
            worker.filled = keep * worker.filled + (1.0 - keep);
            for (momentum, new) in worker.momentum.iter_mut().zip(*update) {
                *momentum = keep * *momentum + (1.0 - keep) * new;
            }
            momenta.push(worker.momentum.iter().map(|momentum| momentum / worker.filled).collect::<Vec<f64>>());
        }
        let (radius, cut) = rule::cut(&mut momenta);
        rule::trimmed_mean(&rule::mixed(&momenta, self.settings.liars), self.settings.liars, out);
        let rows: Vec<&[f64]> = momenta.iter().map(Vec::as_slice).collect();
        self.judge(outcomes, &rows, out);
        (radius, cut)
    }

    /// Compares what was taken with what was made of it.
    fn judge(&mut self, outcomes: &[Outcome], rows: &[&[f64]], made: &[f64]) {
        let distances: Vec<f64> = rows.iter().map(|row| rule::distance(row, made)).collect();
        let median = rule::median(&distances);
        let mut figures = rows.iter().zip(&distances);
        for (worker, outcome) in self.workers.iter_mut().zip(outcomes) {
            let told = match outcome {
                Outcome::Absent => continue,
                Outcome::Refused => None,
                Outcome::Taken => figures.next(),
            };
            worker.suspicion.take(told.map(|(row, distance)| {
                let distance = if median > 0.0 { (distance / median).min(FURTHEST) } else { 1.0 };
                (distance, rule::cosine(row, made))
            }));
        }
    }
}

impl Suspicion {
    /// Takes a round in: distance and agreement, or nothing where it was refused.
    fn take(&mut self, round: Option<(f64, f64)>) {
        // The first rounds count as much as they are.
        let fresh = (1.0 - KEPT).max(1.0 / (self.rounds as f64 + 1.0));
        self.rounds = self.rounds.saturating_add(1);
        let (distance, agreement) = round.unwrap_or((self.distance, self.agreement));
        self.distance += fresh * (distance - self.distance);
        self.agreement += fresh * (agreement - self.agreement);
        self.refused += fresh * (f64::from(u8::from(round.is_none())) - self.refused);
    }

    fn is_sound(&self) -> bool {
        (0.0..=FURTHEST * 1.01).contains(&self.distance)
            && (-1.01..=1.01).contains(&self.agreement)
            && (0.0..=1.01).contains(&self.refused)
    }
}

impl Snapshot for Aggregator {
    const KIND: &'static str = "robust aggregator";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.settings
            .check(self.workers.len(), self.width)
            .map_err(|_| Error::Snapshot("has settings out of range"))?;
        let width = if self.settings.rule == Rule::Robust { self.width } else { 0 };
        let sound = |worker: &Memory| {
            worker.momentum.len() == width
                && worker.momentum.iter().all(|number| number.abs() <= GREATEST * 1.01)
                && (0.0..=1.01).contains(&worker.filled)
                && worker.suspicion.is_sound()
        };
        if self.workers.iter().all(sound) { Ok(()) } else { Err(Error::Snapshot("has a worker that no rounds give")) }
    }
}
