//! Promotes thousands of times over what the trainer decides by, without a trainer: [`streaming::Contest`], fed with what two
//! versions answered.
//!
//! `cargo run --release -p mantlet-streaming --example promotion_bench -- --out FILE [--runs 10000]`
//!
//! Each null is a pair of versions of which the second is never better on average; how often it is promoted all the same must stay
//! below alpha. What is better by so much must be promoted within so many labels, and what becomes worse hand back.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "an example that prints what it measured")]

use std::time::Duration;

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use streaming::{Answer, Contest, Seen, Truth, Verdict};
use types::{
    Timestamp, Version,
    manifest::{Learning, Promote},
    quantity::Span,
};

/// Labels of a run under a null, and challengers that come one after the other in one of them.
const LABELS: u64 = 4_000;
const CHALLENGERS: u32 = 5;
/// Milliseconds between two predictions, and a season of 500 of them.
const STEP: u64 = 10;
const SEASON: u64 = 500;
/// The probability that is promised.
const ALPHA: f64 = 0.05;

/// How wrong each side is at a step: the probability of a wrong answer, the same draw for both up to what they disagree on.
struct Case {
    name: &'static str,
    /// Whether better now is enough.
    season: bool,
    /// How late labels come, in predictions.
    late: u64,
    /// Of the champion and the challenger, at a step; with the state of the run.
    wrong: fn(u64, &mut State) -> [f64; 2],
    /// How often both are asked independently: the rest they are wrong together.
    apart: f64,
    /// How sure both are at least, of the class that they say.
    sure: f64,
    /// Who label; of eight and more, none may have more than a quarter of the gain.
    contributors: u64,
}

/// What a run remembers.
#[derive(Default)]
struct State {
    /// A wandering advantage.
    level: f64,
    draw: f64,
}

const fn case(name: &'static str, wrong: fn(u64, &mut State) -> [f64; 2]) -> Case {
    Case { name, season: false, late: 0, wrong, apart: 0.5, sure: 0.7, contributors: 20 }
}

/// An advantage that is now with one side, now with the other, and with neither on average.
fn wander(state: &mut State, memory: f64) -> [f64; 2] {
    state.level = memory * state.level + (1.0 - memory * memory).sqrt() * state.draw;
    let advantage = 0.1 * state.level.clamp(-2.0, 2.0);
    [0.3 + advantage / 2.0, 0.3 - advantage / 2.0]
}

const NULLS: [Case; 6] = [
    case("null iid", |_, _| [0.2, 0.2]),
    Case { apart: 1.0, ..case("null iid, independent", |_, _| [0.3, 0.3]) },
    Case { season: true, ..case("null AR(1) 0.9", |_, state| wander(state, 0.9)) },
    Case {
        season: true,
        ..case("null seasonal, mean 0", |n, _| if n % SEASON < SEASON / 2 { [0.15, 0.35] } else { [0.35, 0.15] })
    },
    Case { late: 200, ..case("null delayed", |_, _| [0.2, 0.2]) },
    case("null slightly worse", |_, _| [0.2, 0.21]),
];

struct Run<'a> {
    case: &'a Case,
    rng: ChaCha8Rng,
    state: State,
}

/// A standard normal number.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random_range(f64::EPSILON..1.0), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

fn says(right: bool, sure: f64) -> Answer {
    Answer::Probabilities(if right { vec![1.0 - sure, sure] } else { vec![sure, 1.0 - sure] })
}

impl Run<'_> {
    fn contest(&self, attempt: u32, from: u64) -> Contest {
        let season = if self.case.season { SEASON * STEP } else { 0 };
        let season = Some(Span(Duration::from_millis(season)));
        let learning = Learning { promote: Promote::Automatic, season, ..Learning::default() };
        Contest::new([Version(1), Version(2)], attempt, from, (&learning, 0)).unwrap()
    }

    /// One label; what follows.
    fn step(&mut self, contest: &mut Contest, n: u64) -> Option<Verdict> {
        self.state.draw = normal(&mut self.rng);
        let wrong = (self.case.wrong)(n, &mut self.state);
        let draw: f64 = self.rng.random();
        let second = if self.rng.random::<f64>() < self.case.apart { self.rng.random() } else { draw };
        let sure = self.rng.random_range(self.case.sure..1.0);
        let said = [says(draw >= wrong[0], sure), says(second >= wrong[1], sure)];
        let seen = Seen {
            sequence: n,
            at: Timestamp(n * STEP),
            received: Timestamp((n + self.case.late) * STEP),
            contributor: self.rng.next_u64() % self.case.contributors,
            slice: None,
            truth: Truth::Class(1),
        };
        contest.take(&seen, [&said[0], &said[1]])
    }
}

/// Whether one is promoted that is not better: of one challenger, or of several that come one after the other.
fn falsely(case: &Case, seed: u64, challengers: u32) -> bool {
    let mut run = Run { case, rng: ChaCha8Rng::seed_from_u64(seed), state: State::default() };
    (1..=challengers).any(|attempt| {
        let from = u64::from(attempt - 1) * LABELS;
        let mut contest = run.contest(attempt, from);
        (from..from + LABELS).any(|n| run.step(&mut contest, n) == Some(Verdict::Promote))
    })
}

/// After how many labels one is promoted that is better; none where it is not.
fn promoted(case: &Case, seed: u64, within: u64) -> Option<u64> {
    let mut run = Run { case, rng: ChaCha8Rng::seed_from_u64(seed), state: State::default() };
    let mut contest = run.contest(1, 0);
    (0..within).find(|n| run.step(&mut contest, *n) == Some(Verdict::Promote)).map(|n| n + 1)
}

/// Labels from a silent fall to the hand-back.
fn handed_back(seed: u64) -> Option<u64> {
    let better = case("better", |_, _| [0.35, 0.1]);
    let worse = case("worse", |_, _| [0.1, 0.2]);
    let mut run = Run { case: &better, rng: ChaCha8Rng::seed_from_u64(seed), state: State::default() };
    let mut contest = run.contest(1, 0);
    let when = (0..20_000).find(|n| run.step(&mut contest, *n) == Some(Verdict::Promote))?;
    run.case = &worse;
    (when + 1..when + 20_000).find(|n| run.step(&mut contest, *n) == Some(Verdict::HandBack)).map(|n| n - when)
}

/// The lower bound of a share, with 99 % confidence (Clopper and Pearson 1934), by bisection on the binomial tail.
fn lower_bound(hits: u64, runs: u64) -> f64 {
    if hits == 0 {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, hits as f64 / runs as f64);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at_least(hits, runs, middle) > 0.01 { high = middle } else { low = middle }
    }
    low
}

/// The probability of so many hits and more.
fn at_least(hits: u64, runs: u64, share: f64) -> f64 {
    let (mut below, mut log) = (0.0, runs as f64 * (1.0 - share).ln());
    for k in 0..hits {
        below += log.exp();
        log += ((runs - k) as f64 / (k + 1) as f64).ln() + share.ln() - (1.0 - share).ln();
    }
    1.0 - below
}

fn figure(case: &str, metric: &str, value: f64, unit: &str) -> Value {
    println!("{case:<36} {metric:<34} {value:>12.5} {unit}");
    json!({ "case": case, "subject": "ours", "metric": metric, "value": value, "unit": unit })
}

fn ratio(case: &str, name: &str, value: f64, goal: f64, least: bool) -> Value {
    let met = if least { value >= goal } else { value <= goal };
    println!("{case:<36} {name:<34} {value:>12.5} goal {goal} {}", if met { "met" } else { "MISSED" });
    json!({ "case": case, "name": name, "value": value, "goal": goal, "least": least, "met": met })
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| words.iter().position(|word| word == name).and_then(|place| words.get(place + 1));
    let runs: u64 = after("--runs").map_or(10_000, |text| text.parse().unwrap());
    let (mut figures, mut ratios) = (Vec::new(), Vec::new());
    let several = case("null 5 challengers", |_, _| [0.2, 0.2]);
    for (case, challengers) in NULLS.iter().map(|case| (case, 1)).chain([(&several, CHALLENGERS)]) {
        let hits = (0..runs).filter(|seed| falsely(case, *seed, challengers)).count() as u64;
        figures.push(figure(case.name, "false promotions", hits as f64 / runs as f64, "share"));
        let bound = lower_bound(hits, runs);
        ratios.push(ratio(case.name, "lower 99 % bound of false promotions", bound, ALPHA, false));
    }
    // The figures that are promised are for right and wrong: so both are sure.
    let sure = |wrong, apart| Case { apart, sure: 0.99, contributors: 1, ..case("", wrong) };
    let power: [(&str, Case, u64); 4] = [
        ("better by 2 points of 10 %", sure(|_, _| [0.26, 0.24], 0.2), 7_500),
        ("better by 5 points of 15 %", sure(|_, _| [0.275, 0.225], 0.3), 1_875),
        ("better by 30 points of 50 %", sure(|_, _| [0.65, 0.35], 1.0), 141),
        ("the same, 20 contributors", Case { contributors: 20, ..sure(|_, _| [0.65, 0.35], 1.0) }, 141),
    ];
    let tries = (runs / 5).max(100);
    for (name, case, within) in &power {
        let mut found: Vec<u64> = (0..tries).filter_map(|seed| promoted(case, seed, 4 * within)).collect();
        found.sort_unstable();
        let in_time = found.iter().filter(|labels| *labels <= within).count() as f64 / tries as f64;
        figures.push(figure(
            name,
            "labels, median",
            found.get(found.len() / 2).map_or(f64::NAN, |n| *n as f64),
            "labels",
        ));
        ratios.push(ratio(name, &format!("promoted within {within} labels"), in_time, 0.95, true));
    }
    let falls: Vec<f64> = (0..tries).filter_map(handed_back).map(|labels| labels as f64).collect();
    let mean = falls.iter().sum::<f64>() / falls.len() as f64;
    figures.push(figure("fall to -10 points", "handed back", falls.len() as f64 / tries as f64, "share"));
    ratios.push(ratio("fall to -10 points", "labels until it hands back, mean", mean, 500.0, false));
    if let Some(out) = after("--out") {
        let said = json!({ "figures": figures, "ratios": ratios });
        std::fs::write(out, serde_json::to_string_pretty(&said).unwrap()).unwrap();
    }
}
