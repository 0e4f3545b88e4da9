//! Measures the guard: false promotions where nothing is better, labels until something better acts, or hands back.
//!
//! ```sh
//! cargo run --release -p mantlet-online --example guard_bench -- --runs 10000 --out guard.json
//! ```
//!
//! Every run has a seed of its own, so the figures are the same each time; only the speeds are not.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a program for a person, not product code"
)]

use std::{collections::BinaryHeap, hint::black_box};

use online::{
    Random,
    evidence::{EDetector, EProcess},
    guard::{Act, Alarm, Guard, Label, Mode, Settings, Why},
};
use serde_json::{Value, json};

const ALPHA: f64 = 0.05;
/// Labels of a run in which nothing is better.
const LABELS: u32 = 10_000;
/// Labels of a season.
const SEASON: f64 = 1_000.0;

/// What was measured.
#[derive(Default)]
struct Report {
    figures: Vec<Value>,
    ratios: Vec<Value>,
}

impl Report {
    fn figure(&mut self, case: &str, subject: &str, metric: &str, value: f64, unit: &str) {
        println!("{case:<34} {subject:<16} {metric:<28} {value:>14.5} {unit}");
        self.figures.push(json!({ "case": case, "subject": subject, "metric": metric, "value": value, "unit": unit }));
    }

    fn goal(&mut self, case: &str, name: &str, value: f64, goal: f64, met: bool) {
        println!("{case:<34} {name:<45} {value:>14.5} goal {goal} {}", if met { "met" } else { "MISSED" });
        self.ratios.push(json!({ "case": case, "name": name, "value": value, "goal": goal, "met": met }));
    }
}

/// Losses of the champion and of each challenger, label by label.
type Draw<'a> = dyn FnMut(&mut Random, u32, &mut [f64]) -> f64 + 'a;

/// Two that disagree on a share of labels.
fn disagree(random: &mut Random, disagreement: f64, advantage: f64) -> (f64, f64) {
    let draw = random.uniform();
    match draw {
        _ if draw < (disagreement + advantage) / 2.0 => (1.0, 0.0),
        _ if draw < disagreement => (0.0, 1.0),
        _ => (0.0, 0.0),
    }
}

fn settings() -> Settings {
    Settings { mode: Mode::On, season: None, alpha: ALPHA, ..Settings::default() }
}

/// Labels until the guard says so; nothing when it does not within `most`.
fn until(guard: &mut Guard, random: &mut Random, begin: u32, most: u32, said: Why, draw: &mut Draw<'_>) -> Option<u32> {
    let mut losses = vec![0.0; usize::from(guard.settings().challengers)];
    for count in 1..=most {
        let now = f64::from(begin + count);
        let champion = draw(random, begin + count, &mut losses);
        let label = Label { requested: now, champion, challengers: &losses, slice: None, contributor: None };
        if guard.paired(&label, now).expect("losses are losses").why == said {
            return Some(count);
        }
    }
    None
}

/// One null: how many of so many runs promote.
fn null(
    report: &mut Report,
    case: &str,
    runs: u64,
    goal: bool,
    settings: &Settings,
    mut draw: impl FnMut(u64) -> Box<Draw<'static>>,
) {
    let promoted = (0..runs).filter(|seed| {
        let (mut guard, mut random) = (Guard::new(settings.clone()).unwrap(), Random::new(*seed));
        until(&mut guard, &mut random, 0, LABELS, Why::Promoted, &mut *draw(*seed)).is_some()
    });
    told(report, case, runs, promoted.count() as u64, goal);
}

fn told(report: &mut Report, case: &str, runs: u64, promoted: u64, goal: bool) {
    report.figure(case, "ours", "false promotions", promoted as f64 / runs as f64, "share");
    let lower = lower_bound(promoted, runs, 0.01);
    if goal {
        report.goal(case, "lower 99 % bound of false promotions", lower, ALPHA, lower <= ALPHA);
    } else {
        report.figure(case, "ours", "lower 99 % bound", lower, "share");
    }
}

/// The lower Clopper–Pearson bound: the rate at which so many or more have this probability.
fn lower_bound(count: u64, runs: u64, alpha: f64) -> f64 {
    if count == 0 {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let rate: f64 = 0.5 * (low + high);
        if at_least(count, runs, rate) > alpha { high = rate } else { low = rate }
    }
    low
}

/// The probability of `count` or more of `runs` at this rate.
fn at_least(count: u64, runs: u64, rate: f64) -> f64 {
    let mut log = runs as f64 * (1.0 - rate).ln();
    let mut below = 0.0;
    for k in 0..count {
        below += log.exp();
        log += ((runs - k) as f64 / (k + 1) as f64).ln() + (rate / (1.0 - rate)).ln();
    }
    1.0 - below
}

/// A difference of −1, 0 or 1 from a state that remembers: mean 0, on a fifth of labels not 0.
fn remembering(memory: f64) -> Box<Draw<'static>> {
    let mut state = 0.0;
    Box::new(move |random, _, losses| {
        state = memory * state + (1.0 - memory * memory).sqrt() * random.normal();
        // 1.2816 is the normal 0.9 quantile.
        losses[0] = f64::from(u8::from(state < -1.2816));
        f64::from(u8::from(state > 1.2816))
    })
}

fn nulls(report: &mut Report, runs: u64) {
    let iid = |_| -> Box<Draw<'static>> {
        Box::new(|random, _, losses| {
            let (champion, challenger) = disagree(random, 0.1, 0.0);
            losses[0] = challenger;
            champion
        })
    };
    null(report, "null iid", runs, true, &settings(), iid);
    let smooth = |_| -> Box<Draw<'static>> {
        Box::new(|random, _, losses| {
            losses[0] = random.uniform();
            random.uniform()
        })
    };
    null(report, "null iid, losses 0 to 1", runs, true, &settings(), smooth);
    null(report, "null AR(1) 0.5", runs, true, &settings(), |_| remembering(0.5));
    null(report, "null AR(1) 0.9", runs, true, &settings(), |_| remembering(0.9));
    let seasonal = |_| -> Box<Draw<'static>> {
        Box::new(|random, count, losses| {
            let advantage = 0.08 * (f64::from(count) * std::f64::consts::TAU / SEASON).sin();
            let (champion, challenger) = disagree(random, 0.1, advantage);
            losses[0] = challenger;
            champion
        })
    };
    null(report, "null seasonal, mean 0", runs, true, &Settings { season: Some(SEASON), ..settings() }, seasonal);
    null(report, "null seasonal, season not told", runs, false, &settings(), seasonal);
    let five = |_| -> Box<Draw<'static>> {
        Box::new(|random, _, losses| {
            losses.iter_mut().for_each(|loss| *loss = f64::from(u8::from(random.uniform() < 0.1)));
            f64::from(u8::from(random.uniform() < 0.1))
        })
    };
    null(report, "null 5 challengers", runs, true, &Settings { challengers: 5, ..settings() }, five);
    delayed(report, runs);
    retried(report, runs);
    poisoned(report, runs);
    peeking(report, runs);
}

/// Labels that come up to 2,000 labels late, in the order of their arrival.
fn delayed(report: &mut Report, runs: u64) {
    for (case, season) in [("null delayed", None), ("null delayed and seasonal", Some(SEASON))] {
        let promoted = (0..runs).filter(|seed| {
            let mut random = Random::new(*seed);
            let mut guard = Guard::new(Settings { season, ..settings() }).unwrap();
            let mut waiting = BinaryHeap::new();
            (0..LABELS).any(|now| {
                let swing = if season.is_some() { 0.08 } else { 0.0 };
                let advantage = swing * (f64::from(now) * std::f64::consts::TAU / SEASON).sin();
                let (champion, challenger) = disagree(&mut random, 0.1, advantage);
                waiting.push((std::cmp::Reverse(now + random.below(2_000)), now, champion > 0.0, challenger > 0.0));
                let mut said = false;
                while waiting.peek().is_some_and(|(due, ..)| due.0 <= now) {
                    let (_, requested, champion, challenger) = waiting.pop().unwrap();
                    let (champion, challengers) = (f64::from(u8::from(champion)), [f64::from(u8::from(challenger))]);
                    let requested = f64::from(requested);
                    let label =
                        Label { requested, champion, challengers: &challengers, slice: None, contributor: None };
                    said |= guard.paired(&label, f64::from(now)).unwrap().why == Why::Promoted;
                }
                said
            })
        });
        told(report, case, runs, promoted.count() as u64, true);
    }
}

/// A drift alarm every 1,000 labels: ten attempts, one promise.
fn retried(report: &mut Report, runs: u64) {
    let promoted = (0..runs).filter(|seed| {
        let (mut guard, mut random) = (Guard::new(settings()).unwrap(), Random::new(*seed));
        (0..10).any(|attempt| {
            guard.drift(Alarm::Raised);
            let mut draw = |random: &mut Random, _: u32, losses: &mut [f64]| {
                let (champion, challenger) = disagree(random, 0.1, 0.0);
                losses[0] = challenger;
                champion
            };
            until(&mut guard, &mut random, attempt * 1_000, 1_000, Why::Promoted, &mut draw).is_some()
        })
    });
    told(report, "null, ten drift alarms", runs, promoted.count() as u64, true);
}

/// One contributor in twenty lies: each of its labels, a twentieth of all, says that the challenger is better.
fn poisoned(report: &mut Report, runs: u64) {
    for (case, cap) in [("null, one of 20 lies", 0.25), ("null, one of 20 lies, no cap", 1.0)] {
        let promoted = (0..runs.div_ceil(10)).filter(|seed| {
            let mut guard = Guard::new(Settings { cap, ..settings() }).unwrap();
            let mut random = Random::new(*seed);
            (0..LABELS).any(|count| {
                let (now, who) = (f64::from(count), u64::from(random.below(20)));
                let (champion, challenger) = if who == 0 { (1.0, 0.0) } else { disagree(&mut random, 0.1, 0.0) };
                let challengers = [challenger];
                let label =
                    Label { requested: now, champion, challengers: &challengers, slice: None, contributor: Some(who) };
                guard.paired(&label, now).unwrap().why == Why::Promoted
            })
        });
        let promoted = promoted.count() as f64 / runs.div_ceil(10) as f64;
        report.figure(case, "ours", "false promotions", promoted, "share");
    }
}

/// Twenty contributors label, of whom `lies` say of each of theirs that who acts is wrong, after it was promoted. Labels
/// until it is handed back, within [`LABELS`]; nothing where it was not promoted in as many, or stays.
fn handed_back(seed: u64, cap: f64, lies: u64, advantage: f64) -> Option<u32> {
    let mut guard = Guard::new(Settings { cap, ..settings() }).unwrap();
    let mut random = Random::new(seed);
    let mut step = |count: u32, lies: u64, advantage: f64| {
        let (now, who) = (f64::from(count), u64::from(random.below(20)));
        let drawn = disagree(&mut random, 0.15, advantage);
        let (champion, challenger) = if who < lies { (0.0, 1.0) } else { drawn };
        let challengers = [challenger];
        let label = Label { requested: now, champion, challengers: &challengers, slice: None, contributor: Some(who) };
        guard.paired(&label, now).unwrap().why
    };
    let begin = (1..=LABELS).find(|count| step(*count, 0, 0.05) == Why::Promoted)?;
    (1..=LABELS).find(|count| step(begin + count, lies, advantage) == Why::HandedBack)
}

/// A contributor in twenty who lies about who acts, and a fall that all of them see.
fn crowd(report: &mut Report, runs: u64) {
    for (case, cap, lies, advantage) in [
        ("acting, one of 20 lies", 0.25, 1, 0.05),
        ("acting, one of 20 lies, no cap", 1.0, 1, 0.05),
        ("acting, as good, one of 20 lies", 0.25, 1, 0.0),
        ("acting, as good, nobody lies", 0.25, 0, 0.0),
        ("acting, falls to -10, nobody lies", 0.25, 0, -0.10),
    ] {
        let times: Vec<u32> = (0..runs).filter_map(|seed| handed_back(seed, cap, lies, advantage)).collect();
        report.figure(case, "ours", "handed back", times.len() as f64 / runs as f64, "share");
        if advantage < 0.0 {
            let mean = times.iter().map(|time| f64::from(*time)).sum::<f64>() / times.len() as f64;
            report.goal(case, "labels until it hands back, mean", mean, 500.0, mean <= 500.0);
        }
    }
}

/// The plain twin: a z-test at 5 %, looked at every 100 labels.
fn peeking(report: &mut Report, runs: u64) {
    let promoted = (0..runs).filter(|seed| {
        let mut random = Random::new(*seed);
        let (mut sum, mut squares) = (0.0_f64, 0.0_f64);
        (1..=LABELS).any(|count| {
            let (champion, challenger) = disagree(&mut random, 0.1, 0.0);
            let difference: f64 = champion - challenger;
            (sum, squares) = (sum + difference, squares + difference * difference);
            count % 100 == 0 && sum > 1.645 * squares.sqrt()
        })
    });
    let promoted = promoted.count() as f64 / runs as f64;
    report.figure("null iid", "z-test, peeking", "false promotions", promoted, "share");
}

fn quantile(sorted: &[u32], share: f64) -> f64 {
    f64::from(sorted[((sorted.len() - 1) as f64 * share) as usize])
}

/// Labels until a better one acts.
fn power(report: &mut Report, runs: u64) {
    let cases = [
        ("better by 2 points of 10 %", 0.10, 0.02, 7_500, None),
        ("better by 5 points of 15 %", 0.15, 0.05, 1_875, None),
        ("better by 30 points of 50 %", 0.50, 0.30, 141, None),
        // A proof waits for the end of its season: that is half of one on average, and one at the most.
        ("2 points of 10 %, season 500", 0.10, 0.02, 8_000, Some(500.0)),
    ];
    for (case, disagreement, advantage, most, season) in cases {
        let mut times: Vec<u32> = (0..runs)
            .map(|seed| {
                let mut guard = Guard::new(Settings { season, ..settings() }).unwrap();
                let mut draw = |random: &mut Random, _: u32, losses: &mut [f64]| {
                    let (champion, challenger) = disagree(random, disagreement, advantage);
                    losses[0] = challenger;
                    champion
                };
                let time = until(&mut guard, &mut Random::new(seed), 0, 40_000, Why::Promoted, &mut draw);
                time.unwrap_or(u32::MAX)
            })
            .collect();
        times.sort_unstable();
        report.figure(case, "ours", "labels, median", quantile(&times, 0.5), "labels");
        report.figure(case, "ours", "labels, 95 %", quantile(&times, 0.95), "labels");
        let within = times.iter().filter(|time| **time <= most).count() as f64 / runs as f64;
        report.goal(case, &format!("promoted within {most} labels"), within, 0.95, within >= 0.95);
    }
}

/// Labels until a challenger that acts and has fallen hands back.
fn hand_back(report: &mut Report, runs: u64) {
    // Disagreement and advantage before and after.
    let cases = [
        ("fall to -10 points of 10 %", (0.10, 0.02), (0.10, -0.10)),
        ("fall to -10 points of 20 %", (0.10, 0.02), (0.20, -0.10)),
        ("fall by 10 to -8 points of 20 %", (0.10, 0.02), (0.20, -0.08)),
    ];
    for (case, before, after) in cases {
        let gap = after.1;
        let mut times = Vec::new();
        let mut regrets = Vec::new();
        for seed in 0..runs {
            let (mut guard, mut random) = (Guard::new(settings()).unwrap(), Random::new(seed));
            let draw = |(disagreement, advantage): (f64, f64)| {
                move |random: &mut Random, _: u32, losses: &mut [f64]| {
                    let (champion, challenger) = disagree(random, disagreement, advantage);
                    losses[0] = challenger;
                    champion
                }
            };
            let promoted =
                until(&mut guard, &mut random, 0, 40_000, Why::Promoted, &mut draw(before)).expect("it is better");
            // It does well for a while.
            until(&mut guard, &mut random, promoted, 1_000, Why::HandedBack, &mut draw(before));
            if guard.acting() == Act::Champion {
                continue;
            }
            let mut regret = 0.0;
            let after = draw(after);
            let mut watched = |random: &mut Random, count: u32, losses: &mut [f64]| {
                let champion = after(random, count, losses);
                regret += losses[0] - champion;
                champion
            };
            let begin = promoted + 1_000;
            let time = until(&mut guard, &mut random, begin, 40_000, Why::HandedBack, &mut watched).unwrap_or(u32::MAX);
            times.push(time);
            regrets.push(regret / (f64::from(time) * -gap));
        }
        times.sort_unstable();
        report.figure(case, "ours", "labels, median", quantile(&times, 0.5), "labels");
        report.figure(case, "ours", "labels, 95 %", quantile(&times, 0.95), "labels");
        let mean = times.iter().map(|time| f64::from(*time)).sum::<f64>() / times.len() as f64;
        report.goal(case, "labels until it hands back, mean", mean, 500.0, mean <= 500.0);
        let regret = regrets.iter().sum::<f64>() / regrets.len() as f64;
        report.figure(case, "ours", "regret of labels times gap", regret, "share");
    }
    let runs = runs.div_ceil(50).max(20);
    let most = 2_000_000;
    let lengths = (0..runs).map(|seed| {
        let (mut detector, mut random) = (EDetector::new(1e5).unwrap(), Random::new(seed));
        let alarm = (1..=most).find(|_| {
            let (champion, challenger) = disagree(&mut random, 0.1, 0.0);
            detector.observe(challenger - champion).unwrap()
        });
        f64::from(alarm.unwrap_or(most))
    });
    let mean = lengths.sum::<f64>() / runs as f64;
    report.goal("equals, 10 % disagreement", "labels to a false hand-back, mean", mean, 1e5, mean >= 1e5);
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch around code that has no clock")]
fn speed(report: &mut Report) {
    let mut random = Random::new(1);
    let gains: Vec<f64> = (0..4_096).map(|_| f64::from(random.below(3)) * 0.3 - 0.31).collect();
    let n = 4_000_000_u32;
    let mut process = EProcess::default();
    let begin = std::time::Instant::now();
    for count in 0..n {
        process.observe(black_box(gains[count as usize % gains.len()])).unwrap();
        black_box(process.may_reach(20.0));
    }
    let nanoseconds = begin.elapsed().as_nanos() as f64 / f64::from(n);
    report.goal("speed", "ns a label, e-process", nanoseconds, 50.0, nanoseconds <= 50.0);
    let mut guard = Guard::new(settings()).unwrap();
    let begin = std::time::Instant::now();
    for count in 0..n {
        let now = f64::from(count);
        let challengers = [black_box(f64::from(count % 7 == 0))];
        let label = Label {
            requested: now,
            champion: f64::from(count % 5 == 0) * 0.5,
            challengers: &challengers,
            slice: None,
            contributor: None,
        };
        black_box(guard.paired(&label, now).unwrap());
    }
    let nanoseconds = begin.elapsed().as_nanos() as f64 / f64::from(n);
    report.figure("speed", "ours", "ns a label, guard", nanoseconds, "ns");
    report.goal("size", "bytes of an e-process", size_of::<EProcess>() as f64, 200.0, size_of::<EProcess>() <= 200);
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value =
        |name: &str| arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1));
    let runs: u64 = value("--runs").map_or(10_000, |runs| runs.parse().expect("--runs is a number"));
    let mut report = Report::default();
    speed(&mut report);
    power(&mut report, runs.div_ceil(5));
    hand_back(&mut report, runs.div_ceil(5));
    nulls(&mut report, runs);
    crowd(&mut report, runs.div_ceil(10));
    if let Some(path) = value("--out") {
        let text = json!({ "figures": report.figures, "ratios": report.ratios }).to_string();
        std::fs::write(path, text).expect("--out can be written");
    }
}
