//! Which learner a streaming model should have: candidates go through the joined log by successive halving, and one that
//! loses less than the version that answers becomes the next version, which has to prove itself.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use online::{
    registry::{RegressorSpec, Spec},
    tune::{Candidate, Evidence, Failure, Next, Settings, Space, Task, Tunable, Tuner, Verdict, Window},
};
use rpc::orchestrator::ModelKey;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use store::Streams;
use streaming::{
    Model, Row, Truth,
    workers::{Alone, Fit, Lesson},
};
use tokio::{sync::oneshot, time::Instant};
use types::{
    Code, Manifest, PredictionId, Refusal, Timestamp,
    event::JOINED,
    manifest::{Online, Source, Start, TaskKind},
};

use crate::learn::lesson;

/// What the job is called.
pub(super) const NAME: &str = "tuner";
/// The newest examples that are gone through, at most, and cells of all of them together.
const EXAMPLES: usize = 50_000;
const CELLS: usize = 8_000_000;
/// Entries of the joined log that are read at a time, and examples whose losses are reported together.
const PAGE: u32 = 1_000;
const PART: u64 = 250;
/// What the search gives way to.
const NICE: i32 = 10;
/// Where its draws begin.
const SEED: u64 = 1;

/// An example, and its place in the joined log.
struct Example {
    sequence: u64,
    key: (PredictionId, u64),
    at: Timestamp,
    row: Row,
    truth: Truth,
    weight: f64,
}

impl Example {
    fn lesson(&self) -> Lesson<'_> {
        Lesson { key: self.key, asked: &self.row, truth: self.truth }
    }
}

/// What a search is made of.
pub(super) struct Search {
    /// The version that answers.
    pub(super) manifest: Manifest,
    /// What other versions were, the newest first.
    pub(super) others: Vec<Online>,
    /// When something drifted.
    pub(super) drifts: Vec<Timestamp>,
    examples: Vec<Example>,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    /// The learner, where one is better than the version that answers.
    pub(super) learner: Option<Online>,
    /// What is told of it.
    pub(super) metrics: Value,
    pub(super) examples: u64,
    pub(super) entries: [u64; 2],
}

/// Ends a search whose job is given up.
struct Leave(Arc<AtomicBool>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn broken(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, format!("the search failed: {error}"))
}

/// Does this on a thread of its own, which gives way to everything else and ends with it.
///
/// # Errors
/// Where no thread can be had, or it panics.
pub(super) async fn gently<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    let (done, outcome) = oneshot::channel();
    let work = move || {
        // Who may not give way does it none the less.
        let _ = rustix::process::nice(NICE);
        // Whoever asked may have gone.
        let _ = done.send(work());
    };
    std::thread::Builder::new().name("tuner".into()).spawn(work).map_err(broken)?;
    outcome.await.map_err(|_| broken("it panicked"))
}

impl Search {
    /// Reads the examples that this version would learn.
    ///
    /// # Errors
    /// When the log can't be read.
    pub(super) async fn open(
        streams: &dyn Streams,
        key: &ModelKey,
        (manifest, others): (Manifest, Vec<Online>),
        drifts: Vec<Timestamp>,
    ) -> Result<Self, Refusal> {
        let (mut examples, mut next, mut cells) = (VecDeque::new(), 0, 0);
        loop {
            let entries = streams.read(JOINED, next, PAGE).await?;
            let Some(last) = entries.last() else { break };
            next = last.sequence + 1;
            for entry in &entries {
                let Some((example, row, truth)) = lesson(entry, key) else { continue };
                cells += row.len();
                let key = (example.prediction, example.row);
                examples.push_back(Example {
                    sequence: entry.sequence,
                    key,
                    at: example.at,
                    row,
                    truth,
                    weight: example.weight,
                });
                while examples.len() > EXAMPLES || cells > CELLS {
                    let Some(oldest) = examples.pop_front() else { break };
                    cells -= oldest.row.len();
                }
            }
        }
        Ok(Self { manifest, others, drifts, examples: examples.into() })
    }

    /// Searches, on a thread of its own that gives way to everything else. It ends when what is returned is dropped.
    ///
    /// # Errors
    /// When there are too few examples, or the search fails.
    pub(super) async fn run(self: &Arc<Self>) -> Result<Found, Refusal> {
        let leave = Arc::new(AtomicBool::new(false));
        let _leave = Leave(leave.clone());
        let classifies = self.manifest.spec.task.as_ref().is_some_and(|task| task.kind == TaskKind::Classification);
        let search = self.clone();
        let work = move || {
            if classifies {
                search.search::<Spec>(Space::classifiers(), &leave)
            } else {
                search.search::<RegressorSpec>(Space::regressors(), &leave)
            }
        };
        gently(work).await?
    }

    /// The learner that was found, for several workers to learn what its window holds of the examples; and how a manifest tells
    /// of that.
    ///
    /// # Errors
    /// Why one is to learn alone.
    pub(super) fn fit(&self, manifest: &Manifest, learner: &Online, workers: usize) -> Result<(Fit, Online), Alone> {
        let from = learner.from.unwrap_or(0);
        let first = self.examples.partition_point(|example| example.sequence < from);
        let examples = self.examples.get(first..).unwrap_or_default();
        let (Some(first), Some(last)) = (examples.first(), examples.last()) else {
            return Err(Alone::Few { examples: 0, least: 1 });
        };
        let entries = [first.sequence, last.sequence + 1];
        let mut manifest = manifest.clone();
        manifest.spec.source = Source::Online(learner.clone());
        let fit = Fit::new(&manifest, examples.iter().map(Example::lesson), workers, entries[1])?;
        let start = Some(Start { entries, workers: fit.workers() });
        Ok((fit, Online { from: Some(entries[1]), start, ..learner.clone() }))
    }

    fn search<S>(&self, space: Space<S>, leave: &AtomicBool) -> Result<Found, Refusal>
    where
        S: Tunable + PartialEq + Clone + Serialize + DeserializeOwned,
    {
        let Source::Online(online) = &self.manifest.spec.source else { return Err(broken("it does not learn")) };
        let settings = Settings::default();
        let examples = self.examples.len() as u64;
        if examples < settings.least * 2 {
            let what = format!("there are {examples} examples, and a search needs {}", settings.least * 2);
            return Err(Refusal::new(Code::RequestMalformed, what));
        }
        let candidate = |online: &Online| Some(Candidate { spec: spec::<S>(online)?, window: Window::All });
        let champion = candidate(online).ok_or_else(|| broken("the version that answers can't be read"))?;
        let hints = self.others.iter().filter_map(candidate).filter(|hint| *hint != champion).collect();
        let place = |at: &Timestamp| self.examples.partition_point(|example| example.at < *at) as u64;
        let mut drifts: Vec<u64> =
            self.drifts.iter().map(place).filter(|place| (1..examples).contains(place)).collect();
        drifts.sort_unstable();
        drifts.dedup();
        let task = Task { space, examples, drifts, champion: Some(champion), hints };
        let mut tuner = Tuner::new(settings, task, SEED).map_err(broken)?;
        self.work(&mut tuner, leave)?;
        self.found(&tuner)
    }

    /// Does one job after the other.
    fn work<S: Tunable + Serialize>(&self, tuner: &mut Tuner<S>, leave: &AtomicBool) -> Result<(), Refusal> {
        let (mut models, scale): (HashMap<usize, Model>, f64) = (HashMap::new(), self.scale());
        while let Next::Work(job) = tuner.next_job().map_err(broken)? {
            let warm = job.warm.and_then(|number| models.get(&number).cloned());
            let made = match warm {
                Some(model) => Ok(model),
                None => Model::new(&self.of(&online(&job.candidate.spec)?)),
            };
            let Ok(mut model) = made else {
                tuner.fail(job.id, Failure::Broken).map_err(broken)?;
                continue;
            };
            let mut from = job.from;
            while from < job.to {
                if leave.load(Ordering::Relaxed) {
                    return Err(broken("the node stops"));
                }
                let (to, began) = (job.to.min(from + PART), Instant::now());
                let losses = self.losses(&mut model, from..to, scale);
                let cost = began.elapsed().as_secs_f64() * 1e6;
                match tuner.report(job.id, &losses, cost).map_err(broken)? {
                    Verdict::GoOn => from = to,
                    Verdict::Done | Verdict::Stopped => break,
                }
            }
            models.insert(job.number, model);
            models.retain(|number, _| tuner.needs_model(*number));
        }
        Ok(())
    }

    fn losses(&self, model: &mut Model, range: std::ops::Range<u64>, scale: f64) -> Vec<f64> {
        let place = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let examples = self.examples.get(place(range.start)..place(range.end)).unwrap_or_default();
        let lost = |example: &Example| {
            let answer = model.predict(&example.row).ok();
            // A row that can't be learnt teaches nobody.
            let _ = model.learn(&example.row, example.truth, example.weight);
            answer.and_then(|answer| streaming::loss(&answer, example.truth, scale)).unwrap_or(1.0)
        };
        examples.iter().map(lost).collect()
    }

    /// How far the numbers that are to be found lie from their mean, on average.
    fn scale(&self) -> f64 {
        let numbers = self.examples.iter().filter_map(|example| match example.truth {
            Truth::Number(number) => Some(number),
            Truth::Class(_) => None,
        });
        let numbers: Vec<f64> = numbers.collect();
        let count = numbers.len().max(1) as f64;
        let mean = numbers.iter().sum::<f64>() / count;
        numbers.iter().map(|number| (number - mean).abs()).sum::<f64>() / count
    }

    /// The manifest with another learner.
    fn of(&self, online: &Online) -> Manifest {
        let mut manifest = self.manifest.clone();
        manifest.spec.source = Source::Online(online.clone());
        manifest
    }

    fn found<S: Tunable + Serialize>(&self, tuner: &Tuner<S>) -> Result<Found, Refusal> {
        let (spent, examples) = (tuner.spent(), self.examples.len() as u64);
        let best = tuner.best().ok_or_else(|| broken("nothing was scored"))?;
        let mut learner = online(&best.candidate.spec)?;
        let from = match best.candidate.window {
            Window::All => None,
            Window::SinceDrift => self.drifts.iter().max().map(|at| self.first(|example| example.at >= *at)),
            Window::Recent => Some(self.first_of_last_tenth()),
        };
        learner.from = from.flatten();
        let gain = match best.evidence {
            Evidence::Gain { mean, bounds, .. } => Some((mean, bounds)),
            Evidence::Alone | Evidence::Champion => None,
        };
        let better = gain.is_some_and(|(mean, _)| mean > tuner.settings().margin);
        let metrics = json!({
            "best": learner,
            "window": best.candidate.window,
            "loss": best.loss.0,
            "gain": gain.map(|(mean, _)| mean),
            "gain_bounds": gain.map(|(_, bounds)| bounds),
            "candidates": spent.candidates,
            "stopped": spent.stopped,
            // Of every candidate going through all of them.
            "share_of_examples": spent.examples as f64 / (examples * spent.candidates.max(1) as u64) as f64,
        });
        let entries = [self.examples.first(), self.examples.last()].map(|example| example.map_or(0, |it| it.sequence));
        let entries = [entries[0], entries[1] + 1];
        Ok(Found { learner: better.then_some(learner), metrics, examples, entries })
    }

    fn first(&self, fits: impl Fn(&Example) -> bool) -> Option<u64> {
        self.examples.iter().find(|example| fits(example)).map(|example| example.sequence)
    }

    fn first_of_last_tenth(&self) -> Option<u64> {
        self.examples.get(self.examples.len() / 10 * 9).map(|example| example.sequence)
    }
}

/// A learner as the registry has it; nothing where it is none of this kind.
fn spec<S: DeserializeOwned>(online: &Online) -> Option<S> {
    let mut text: serde_json::Map<String, Value> = online.settings.clone().into_iter().collect();
    text.insert("learner".into(), online.learner.clone().into());
    serde_json::from_value(text.into()).ok()
}

/// A learner as a manifest has it.
fn online(spec: &impl Serialize) -> Result<Online, Refusal> {
    let Value::Object(text) = serde_json::to_value(spec).map_err(broken)? else { return Err(broken("no learner")) };
    let mut settings: BTreeMap<String, Value> = text.into_iter().collect();
    let learner = settings.remove("learner").and_then(|name| name.as_str().map(str::to_owned));
    Ok(Online {
        learner: learner.ok_or_else(|| broken("a learner without a name"))?,
        settings,
        from: None,
        start: None,
    })
}

#[cfg(test)]
mod tests {
    use streaming::Cell;

    use super::*;

    /// Two numbers of which neither alone tells the class.
    fn search(learner: &str, rows: u64) -> Search {
        let text = format!(
            "apiVersion: mantlet.dev/v1\nkind: Model\nmetadata: {{ name: m }}\nspec: {{ source: {{ online: {{ learner: {learner} }} }}, \
             inputs: [{{ name: x, type: FP64 }}, {{ name: y, type: FP64 }}], task: {{ kind: classification, classes: [a, b] }}, \
             capture: {{ input: features }} }}\n"
        );
        let example = |n: u64| {
            let (x, y) = ((n * 37 % 101) as f64 / 101.0, (n * 61 % 89) as f64 / 89.0);
            let truth = Truth::Class(usize::from((x > 0.5) ^ (y > 0.5)));
            Example {
                sequence: 3 * n,
                key: (PredictionId(uuid::Uuid::from_u128(n.into())), 0),
                at: Timestamp(n),
                row: vec![Cell::Number(x), Cell::Number(y)],
                truth,
                weight: 1.0,
            }
        };
        let examples = (0..rows).map(example).collect();
        Search { manifest: Manifest::from_yaml(&text).unwrap(), others: Vec::new(), drifts: Vec::new(), examples }
    }

    #[test]
    fn a_learner_that_can_t_tell_is_replaced_by_one_that_can() {
        let found = search("naive-bayes", 2_000).search::<Spec>(Space::classifiers(), &AtomicBool::new(false)).unwrap();
        let learner = found.learner.unwrap();
        assert!(!["naive-bayes", "logistic"].contains(&learner.learner.as_str()), "{learner:?}");
        assert!(found.metrics["gain"].as_f64() > Some(0.05), "{}", found.metrics);
        assert_eq!((found.examples, found.entries), (2_000, [0, 5_998]));
        // It is one that a manifest may name.
        let mut manifest = search("naive-bayes", 0).manifest;
        manifest.spec.source = Source::Online(learner);
        assert!(Model::new(&manifest).is_ok());
    }

    #[test]
    fn of_too_few_examples_nothing_is_said_and_who_leaves_ends_it() {
        let few = search("naive-bayes", 1_999).search::<Spec>(Space::classifiers(), &AtomicBool::new(false));
        assert!(few.unwrap_err().message.contains("a search needs 2000"));
        let left = search("naive-bayes", 2_000).search::<Spec>(Space::classifiers(), &AtomicBool::new(true));
        assert!(left.unwrap_err().message.contains("the node stops"));
    }
}
