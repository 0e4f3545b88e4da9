//! The tuner beside the whole grid and random search, on a grid of 27: three kinds, three settings of each, three windows.
//!
//! A loss is an error; quality is the share of errors on the last third of the stream, test then train. Equal quality is
//! within a standard error of the grid's winner; a method has it where nine in ten of its runs do. Random search takes the
//! grid's candidates in random order to the end of the stream, and is given the least number of candidates that has equal
//! quality: nobody knows it beforehand. Runs that are the same, as from all of the past and since a drift that never
//! was, are made and counted once, by everybody.
#![expect(clippy::unwrap_used, reason = "what can't be measured ends the bench")]

use std::path::Path;

use online::{
    Random,
    drift::{Adwin, Detector as _, State, adwin},
    registry::Spec,
    tune::{Candidate, Dial, Kind, Next, Settings, Space, Task, Tuner, Values, Window},
};
use serde_json::{Value, json};

use crate::{Report, table::Table, traces::Traces};

/// Rows of a stream, at least: a first rung of 1,000 is to be a small part of it.
pub(crate) const LEAST: usize = 10_000;
/// Orders in which random search is tried for each run of the others.
const ORDERS: usize = 100;
/// Searches on one run where settings are to be chosen.
const DRAWS: usize = 5;
/// Share of runs that must have equal quality.
const MOST: f64 = 0.9;

/// The grid: each kind with what changes, and what an example costs in microseconds, about; fixed, so that choices do not
/// depend on how busy the machine is.
fn space() -> Space<Spec> {
    let kind = |json: &str, setting: &str, values| {
        let dial = Dial { setting: setting.to_owned(), values };
        Kind { base: serde_json::from_str(json).unwrap(), dials: vec![dial] }
    };
    let kinds = vec![
        kind(r#"{ "learner": "logistic" }"#, "alpha", Values::Numbers(vec![0.03, 0.1, 0.3])),
        kind(r#"{ "learner": "hoeffding-tree" }"#, "grace", Values::Numbers(vec![50.0, 200.0, 800.0])),
        kind(r#"{ "learner": "adaptive-random-forest" }"#, "columns", Values::Numbers(vec![0.3, 0.6, 0.9])),
    ];
    Space { kinds, windows: Window::EVERY.to_vec() }
}

fn cost(spec: &Spec) -> f64 {
    match spec {
        Spec::Logistic(_) => 1.0,
        Spec::HoeffdingTree(_) => 2.0,
        _ => 40.0,
    }
}

/// What acts before the search: logistic regression as the registry has it.
fn champion() -> Candidate<Spec> {
    Candidate { spec: serde_json::from_str(r#"{ "learner": "logistic" }"#).unwrap(), window: Window::All }
}

/// A candidate of the grid, learnt to the end.
struct Whole {
    /// Where it begins; with its specification that says which run it is.
    spec: Spec,
    begin: usize,
    loss: f64,
    seconds: f64,
}

/// One run: a stream and a seed.
struct Run {
    grid: Vec<Whole>,
    /// The most that equal quality may lose.
    enough: f64,
    /// By settings.
    tuner: Vec<Found>,
}

impl Run {
    /// What the grid takes, in lengths of the stream.
    fn whole(&self, length: f64) -> f64 {
        self.grid.iter().map(|whole| length - whole.begin as f64).sum::<f64>() / length
    }

    /// What was found at the defaults.
    fn found(&self) -> &Found {
        &self.tuner[0]
    }
}

struct Found {
    loss: f64,
    examples: f64,
    seconds: f64,
}

pub(crate) fn measure(streams: &[Table], seeds: u64, kept: Option<&Path>, report: &mut Report) {
    let mut all: Vec<Vec<Run>> = Vec::new();
    for table in streams {
        let runs: Vec<Run> = (0..seeds).map(|seed| run(table, seed, kept, &[Settings::default()])).collect();
        told(report, table.name(), &[&runs], &[table.len()]);
        all.push(runs);
    }
    let runs: Vec<&Vec<Run>> = all.iter().collect();
    let lengths: Vec<usize> = streams.iter().map(Table::len).collect();
    told(report, "all streams", &runs, &lengths);
}

/// What the tuner finds with each of these settings, by stream and seed: for who chooses among them. It draws several times
/// on each run, for what it draws first matters more than what a forest draws.
pub(crate) fn choices(streams: &[Table], seeds: u64, kept: Option<&Path>, settings: &[Settings], report: &mut Report) {
    for (seed, table) in (0..seeds).flat_map(|seed| streams.iter().map(move |table| (seed, table))) {
        let each: Vec<Settings> = settings.iter().flat_map(|settings| vec![settings.clone(); DRAWS]).collect();
        let run = run(table, seed, kept, &each);
        let length = table.len() as f64;
        let mean_of = |part: &[Found]| {
            let equal: Vec<f64> = part.iter().map(|found| f64::from(u8::from(found.loss <= run.enough))).collect();
            let spent: Vec<f64> = part.iter().map(|found| found.examples / length).collect();
            json!([mean(&equal), mean(&spent)])
        };
        let tuner: Vec<Value> = run.tuner.chunks_exact(DRAWS).map(mean_of).collect();
        println!("{} {seed}", table.name());
        report
            .searches
            .push(json!({ "stream": table.name(), "seed": seed, "grid": run.whole(length), "tuner": tuner }));
    }
}

/// The grid, and the tuner with each of these settings.
fn run(table: &Table, seed: u64, kept: Option<&Path>, settings: &[Settings]) -> Run {
    let mut traces = Traces::new(table, seed, kept);
    let drifts = drifts(&mut traces, table.len());
    let end = table.len();
    let scored = end - end / 3;
    let mut grid: Vec<Whole> = Vec::new();
    let mut errors = Vec::new();
    for candidate in space().grid().unwrap().unwrap() {
        let begin = begin(candidate.window, end, &drifts);
        if grid.iter().any(|whole| whole.begin == begin && whole.spec == candidate.spec) {
            continue;
        }
        let lost = traces.errors(&candidate.spec, begin, (scored, end));
        let loss = mean(&lost);
        let seconds = traces.seconds(&candidate.spec, begin, end) * (end - begin) as f64;
        if grid.iter().all(|whole| whole.loss > loss) {
            errors = lost;
        }
        grid.push(Whole { spec: candidate.spec, begin, loss, seconds });
    }
    let enough = mean(&errors) + standard_error(&errors);
    let of = |(draw, settings): (usize, &Settings)| {
        tuned(&mut traces, settings, table.len(), &drifts, seed + 1_000 * (draw % DRAWS) as u64)
    };
    let tuner = settings.iter().enumerate().map(of).collect();
    traces.keep();
    Run { grid, enough, tuner }
}

/// Where the champion's errors rose.
fn drifts(traces: &mut Traces<'_>, end: usize) -> Vec<u64> {
    let mut adwin = Adwin::new(adwin::Settings::default()).unwrap();
    let errors = traces.errors(&champion().spec, 0, (0, end));
    let mut found = Vec::new();
    for (place, error) in errors.into_iter().enumerate() {
        if adwin.update(error).unwrap() == State::Drift {
            found.push(place as u64);
        }
    }
    found
}

/// Where a candidate of this window begins to learn a log of so many examples, as the tuner says it.
fn begin(window: Window, end: usize, drifts: &[u64]) -> usize {
    let scored = end - end / 3;
    match window {
        Window::All => 0,
        Window::SinceDrift => {
            drifts.iter().map(|drift| *drift as usize).filter(|drift| *drift <= scored).max().unwrap_or(0)
        }
        Window::Recent => scored - end / 10,
    }
}

fn tuned(traces: &mut Traces<'_>, settings: &Settings, end: usize, drifts: &[u64], seed: u64) -> Found {
    let drifts = drifts.to_vec();
    let task = Task {
        space: space(),
        examples: end as u64,
        drifts: drifts.clone(),
        champion: Some(champion()),
        hints: vec![],
    };
    let mut tuner = Tuner::new(settings.clone(), task, seed).unwrap();
    let mut seconds = 0.0;
    while let Next::Work(job) = tuner.next_job().unwrap() {
        let (from, to) = (job.from as usize, job.to as usize);
        let begin = begin(job.candidate.window, to, &drifts);
        let spec = &job.candidate.spec;
        let each = traces.seconds(spec, begin, to);
        // In parts, so that who is far behind is stopped.
        for place in (from..to).step_by(500) {
            let part = (place, (place + 500).min(to));
            let errors = traces.errors(spec, begin, part);
            seconds += each * errors.len() as f64;
            if tuner.report(job.id, &errors, cost(spec) * errors.len() as f64).unwrap()
                == online::tune::Verdict::Stopped
            {
                break;
            }
        }
    }
    let best = tuner.best().unwrap();
    assert_eq!(best.examples, end as u64);
    Found { loss: best.loss.0, examples: tuner.spent().examples as f64, seconds }
}

fn told(report: &mut Report, case: &str, streams: &[&Vec<Run>], lengths: &[usize]) {
    // By stream, then run: what was spent, in lengths of the stream.
    let each = |of: &dyn Fn(&Run, f64) -> f64| {
        let stream = |(runs, length): (&&Vec<Run>, &usize)| {
            mean(&runs.iter().map(|run| of(run, *length as f64)).collect::<Vec<_>>())
        };
        mean(&streams.iter().zip(lengths).map(stream).collect::<Vec<_>>())
    };
    let grid = each(&Run::whole);
    let tuner = each(&|run, length| run.found().examples / length);
    let equal = each(&|run, _| f64::from(u8::from(run.found().loss <= run.enough)));
    let apart =
        each(&|run, _| (run.found().loss - run.grid.iter().map(|whole| whole.loss).fold(1.0, f64::min)) * 100.0);
    let good = each(&|run, _| run.grid.iter().filter(|whole| whole.loss <= run.enough).count() as f64);
    let (random, lucky) = random(streams, lengths);
    let unit = "streams' lengths";
    report.figure([case, "grid", "examples_to_quality", unit], grid);
    report.figure([case, "random", "examples_to_quality", unit], random.0);
    report.figure([case, "random, told when", "examples_to_quality", unit], lucky);
    report.figure([case, "tuner", "examples_to_quality", unit], tuner);
    report.figure(
        [case, "grid", "seconds_to_quality", "s"],
        each(&|run, _| run.grid.iter().map(|whole| whole.seconds).sum()),
    );
    report.figure([case, "random", "seconds_to_quality", "s"], random.1);
    report.figure([case, "tuner", "seconds_to_quality", "s"], each(&|run, _| run.found().seconds));
    report.figure(
        [case, "grid", "accuracy", "share"],
        1.0 - each(&|run, _| run.grid.iter().map(|whole| whole.loss).fold(1.0, f64::min)),
    );
    report.figure([case, "tuner", "accuracy", "share"], 1.0 - each(&|run, _| run.found().loss));
    report.figure([case, "tuner", "errors above the grid's winner", "points"], apart);
    report.figure([case, "grid", "runs of equal quality", "runs"], good);
    report.figure([case, "grid", "runs that differ", "runs"], each(&|run, _| run.grid.len() as f64));
    if streams.len() > 1 {
        report.goal(case, "tuner: share of runs within 1 SE of the grid's winner", equal, (MOST, true));
        report.goal(case, "grid's examples / tuner's", grid / tuner, (4.0, true));
        report.goal(case, "random search's examples at equal quality / tuner's", random.0 / tuner, (1.5, true));
    } else {
        report.figure([case, "tuner", "runs within 1 SE", "share"], equal);
        report.figure([case, "tuner", "grid's examples / tuner's", ""], grid / tuner);
        report.figure([case, "tuner", "random search's / tuner's", ""], random.0 / tuner);
    }
}

/// What random search spends, in lengths and in seconds, with the least number of candidates that has equal quality in nine
/// of ten runs; and in lengths what it would if somebody told it when it has it.
fn random(streams: &[&Vec<Run>], lengths: &[usize]) -> ((f64, f64), f64) {
    let mut random = Random::new(1);
    let most = streams.iter().flat_map(|runs| runs.iter()).map(|run| run.grid.len()).max().unwrap_or(1);
    // By number of candidates: runs that had equal quality by then, lengths and seconds spent.
    let mut by: Vec<[f64; 3]> = vec![[0.0; 3]; most];
    let (mut lucky, mut count) = (0.0, 0.0);
    for (runs, length) in streams.iter().zip(lengths) {
        for run in runs.iter() {
            for _ in 0..ORDERS {
                let mut order: Vec<usize> = (0..run.grid.len()).collect();
                (1..order.len()).rev().for_each(|place| order.swap(place, random.below(place as u32 + 1) as usize));
                let (mut spent, mut seconds, mut found) = (0.0, 0.0, false);
                for (number, by) in by.iter_mut().enumerate() {
                    if let Some(whole) = order.get(number).map(|place| &run.grid[*place]) {
                        spent += 1.0 - whole.begin as f64 / *length as f64;
                        seconds += whole.seconds;
                        if !found && whole.loss <= run.enough {
                            (found, lucky) = (true, lucky + spent);
                        }
                    }
                    *by = [by[0] + f64::from(u8::from(found)), by[1] + spent, by[2] + seconds];
                }
                count += 1.0;
            }
        }
    }
    let enough = by.iter().find(|by| by[0] >= MOST * count).or(by.last()).unwrap();
    ((enough[1] / count, enough[2] / count), lucky / count)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The standard error of a mean whose values may depend on their neighbours: by twenty groups.
fn standard_error(values: &[f64]) -> f64 {
    let groups: Vec<f64> = values.chunks_exact((values.len() / 20).max(1)).map(mean).collect();
    let middle = mean(&groups);
    let squares: f64 = groups.iter().map(|group| (group - middle) * (group - middle)).sum();
    (squares / (groups.len() - 1) as f64 / groups.len() as f64).sqrt()
}
