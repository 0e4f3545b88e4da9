//! Measures forecasts on load traces: pinball loss and coverage at each horizon, against the last value and
//! yesterday's.
//!
//! ```sh
//! cargo run --release -p mantlet-online --example forecast_bench -- --data DIR --out forecast.json
//! cargo run --release -p mantlet-online --example forecast_bench -- --choose   # defaults by leave-one-trace-out
//! ```
//!
//! A plain twin forecasts its point (the last value, or that of the same time yesterday) plus the empirical quantile
//! of its last 2,016 errors at that horizon: the best use of a plain point. Its bare point is reported too. All are
//! scored on the same intervals, after a warm-up of two days, or of a quarter of the trace when that is shorter. A
//! zero where the hour before had a median of at least 20 is a missing interval, for all alike.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a program for a person, not product code"
)]

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
};

use online::forecast::{Forecast, LEVELS, Settings};
use serde_json::{Value, json};

/// Errors that a twin's quantile is taken from.
const ERRORS: usize = 2_016;
/// Seconds until a new replica helps: cold start and decision.
const ACTING: f64 = 300.0;

#[path = "measure/traces.rs"]
mod traces;

use traces::{DAY, Trace, traces};

/// Sums of pinball losses and of values at or below, by level.
#[derive(Debug, Clone, Default)]
struct Score {
    loss: [f64; 3],
    below: [f64; 3],
    count: f64,
}

impl Score {
    fn add(&mut self, quantiles: [f64; 3], value: f64) {
        for (place, level) in LEVELS.iter().enumerate() {
            let left = value - quantiles[place];
            self.loss[place] += if left >= 0.0 { level * left } else { (level - 1.0) * left };
            self.below[place] += f64::from(u8::from(left <= 0.0));
        }
        self.count += 1.0;
    }

    fn loss(&self, place: usize) -> f64 {
        self.loss[place] / self.count.max(1.0)
    }

    /// The losses that an autoscaler feels: of both upper quantiles.
    fn upper(&self) -> f64 {
        self.loss(1) + self.loss(2)
    }

    fn below(&self, place: usize) -> f64 {
        self.below[place] / self.count.max(1.0)
    }
}

/// A point and the empirical quantiles of its latest errors.
struct Twin {
    order: VecDeque<f64>,
    sorted: Vec<f64>,
}

impl Twin {
    fn new() -> Self {
        Self { order: VecDeque::new(), sorted: Vec::new() }
    }

    fn learn(&mut self, error: f64) {
        if error.is_nan() {
            return;
        }
        self.order.push_back(error);
        self.sorted.insert(self.sorted.partition_point(|other| *other < error), error);
        if self.order.len() > ERRORS {
            let oldest = self.order.pop_front().unwrap();
            self.sorted.remove(self.sorted.partition_point(|other| *other < oldest));
        }
    }

    fn quantiles(&self, point: f64) -> [f64; 3] {
        LEVELS.map(|level| {
            let place = (level * self.sorted.len() as f64).ceil() as usize;
            let error = self.sorted.get(place.clamp(1, self.sorted.len().max(1)) - 1);
            (point + error.copied().unwrap_or(0.0)).max(0.0)
        })
    }
}

/// Ours, the twins and their bare points at one horizon.
#[derive(Default)]
struct Scores {
    ours: Score,
    last: Score,
    day: Score,
    bare_last: Score,
    bare_day: Score,
}

/// Nanoseconds that a step takes: the best of three passes, each with nothing but the forecast.
#[expect(clippy::disallowed_methods, reason = "a stopwatch around code that has no clock")]
fn speed(trace: &Trace, settings: &Settings) -> f64 {
    let pass = |_| {
        let mut forecast = Forecast::new(settings.clone()).unwrap();
        let begin = std::time::Instant::now();
        for (step, value) in trace.values.iter().enumerate() {
            forecast.observe(step as f64 * trace.interval, *value).unwrap();
        }
        begin.elapsed().as_nanos() as f64 / trace.values.len() as f64
    };
    (0..3).map(pass).fold(f64::INFINITY, f64::min)
}

/// All horizons of one trace at once.
fn run(trace: &Trace, settings: &Settings) -> Vec<Scores> {
    let values = &trace.values;
    let day = (DAY / trace.interval).round() as usize;
    let warm = (2 * day).min(values.len() / 4);
    let mut forecast = Forecast::new(settings.clone()).unwrap();
    let horizons = settings.horizons.len();
    let mut said: Vec<VecDeque<[f64; 3]>> = vec![VecDeque::new(); horizons];
    let mut twins: Vec<[Twin; 2]> = (0..horizons).map(|_| [Twin::new(), Twin::new()]).collect();
    let mut scores: Vec<Scores> = (0..horizons).map(|_| Scores::default()).collect();
    let (mut lasts, mut known): (Vec<f64>, f64) = (Vec::with_capacity(values.len()), f64::NAN);
    // What a plain rule knows of an interval that is missing is what it said last.
    let mut filled: Vec<f64> = Vec::with_capacity(values.len());
    for (step, value) in values.iter().enumerate() {
        for horizon in 0..horizons {
            let ahead = settings.horizons[horizon] as usize;
            let Some(due) = step.checked_sub(ahead) else { continue };
            let quantiles = said[horizon].pop_front().unwrap();
            let back = ahead.div_ceil(day.max(1)) * day;
            let points = [lasts[due], step.checked_sub(back).map_or(lasts[due], |place| filled[place])];
            if value.is_nan() || points[0].is_nan() {
                continue;
            }
            if due >= warm && !quantiles[0].is_nan() {
                let score = &mut scores[horizon];
                score.ours.add(quantiles, *value);
                score.last.add(twins[horizon][0].quantiles(points[0]), *value);
                score.day.add(twins[horizon][1].quantiles(points[1]), *value);
                score.bare_last.add([points[0]; 3], *value);
                score.bare_day.add([points[1]; 3], *value);
            }
            twins[horizon].iter_mut().zip(points).for_each(|(twin, point)| twin.learn(*value - point));
        }
        forecast.observe(step as f64 * trace.interval, *value).unwrap();
        for (horizon, said) in said.iter_mut().enumerate() {
            let quantiles = forecast.ahead(horizon).unwrap();
            said.push_back([quantiles.median, quantiles.high, quantiles.highest]);
        }
        known = if value.is_nan() { known } else { *value };
        lasts.push(known);
        filled.push(known);
    }
    scores
}

/// The horizon at which a scaler acts.
fn acting(settings: &Settings) -> usize {
    let ahead = settings.horizons.iter().position(|ahead| f64::from(*ahead) * settings.interval >= ACTING);
    ahead.unwrap_or(settings.horizons.len() - 1)
}

fn report(traces: &[Trace]) -> Value {
    let (mut figures, mut ratios) = (Vec::new(), Vec::new());
    println!(
        "{:<44} {:>6} {:>8} {:>8} {:>8} {:>7} {:>7} {:>7}  {:>7} {:>7}",
        "trace", "ahead", "ours", "last", "day", "ratio", "r .9", "r .99", "cov .9", "cov .99"
    );
    for trace in traces {
        let settings = Settings::every(trace.interval);
        let (scores, nanoseconds) = (run(trace, &settings), speed(trace, &settings));
        let bytes = online::Snapshot::save(&Forecast::new(settings.clone()).unwrap()).len();
        let mut figure = |subject: &str, metric: &str, value: f64, unit: &str| {
            figures.push(
                json!({ "case": trace.name, "subject": subject, "metric": metric, "value": value, "unit": unit }),
            );
        };
        figure("ours", "step", nanoseconds / 1_000.0, "µs");
        for (horizon, scores) in scores.iter().enumerate() {
            let ahead = f64::from(settings.horizons[horizon]) * trace.interval / 60.0;
            let subjects = [
                ("ours", &scores.ours),
                ("last", &scores.last),
                ("day", &scores.day),
                ("last, bare", &scores.bare_last),
                ("day, bare", &scores.bare_day),
            ];
            for (subject, score) in subjects {
                for (place, level) in LEVELS.iter().enumerate() {
                    figure(subject, &format!("pinball {level} at {ahead:.0} min"), score.loss(place), "requests");
                    figure(subject, &format!("coverage {level} at {ahead:.0} min"), score.below(place), "share");
                }
            }
            let better = scores.last.upper().min(scores.day.upper());
            let of = |place: usize| scores.ours.loss(place) / scores.last.loss(place).min(scores.day.loss(place));
            let (ratio, highest) = (scores.ours.upper() / better, scores.ours.below(2));
            let marked = if horizon == acting(&settings) { "*" } else { " " };
            println!(
                "{:<44} {ahead:>5.1}{marked} {:>8.3} {:>8.3} {:>8.3} {ratio:>7.3} {:>7.3} {:>7.3} {:>8.4} {highest:>7.4}",
                trace.name,
                scores.ours.upper(),
                scores.last.upper(),
                scores.day.upper(),
                of(1),
                of(2),
                scores.ours.below(1),
            );
            let mut goal = |name: &str, value: f64, goal: &str, met: bool| {
                let name = format!("{name} at {ahead:.0} min");
                ratios.push(json!({ "case": trace.name, "name": name, "value": value, "goal": goal, "met": met }));
            };
            goal("pinball .9 and .99 to the better plain twin, never above", ratio, "1.05", ratio <= 1.05);
            if horizon == acting(&settings) {
                goal("pinball .9 and .99 to the better plain twin", ratio, "0.95", ratio <= 0.95);
                goal("coverage of .99", highest, "0.985 to 0.995", (0.985..=0.995).contains(&highest));
            }
        }
        println!("{:<44} {:.2} µs a step, {bytes} bytes", "", nanoseconds / 1_000.0);
    }
    json!({ "figures": figures, "ratios": ratios })
}

/// Tries a grid of settings; for each file, says how the best of all others does on it.
fn choose(traces: &[Trace]) {
    let mut grid = Vec::new();
    for rate in [0.05, 0.1, 0.2] {
        for share in [0.001, 0.002, 0.005] {
            for step in [0.01, 0.02, 0.05] {
                for widen in [1.0, 1.2] {
                    grid.push((rate, share, step, widen));
                }
            }
        }
    }
    let mut files: Vec<&str> = traces.iter().map(|trace| trace.file.as_str()).collect();
    files.dedup();
    // By settings and file: the mean logarithm of the ratio to the better twin, and the mean miss of the .99 coverage.
    let tried: Vec<BTreeMap<&str, f64>> = grid
        .iter()
        .map(|(rate, share, step, widen)| {
            let mut by_file: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
            for trace in traces {
                let every = Settings::every(trace.interval);
                let horizons = vec![every.horizons[acting(&every)]];
                let settings = Settings { rate: *rate, share: *share, step: *step, widen: *widen, horizons, ..every };
                let scores = run(trace, &settings);
                let ratio = scores[0].ours.upper() / scores[0].last.upper().min(scores[0].day.upper());
                let missed = ((scores[0].ours.below(2) - 0.99).abs() - 0.005).max(0.0);
                by_file.entry(&trace.file).or_default().push(ratio.ln() + 10.0 * missed);
            }
            let means =
                by_file.into_iter().map(|(file, all)| (file, all.iter().sum::<f64>() / all.len() as f64)).collect();
            println!("{rate} {share} {step} {widen} {means:?}");
            means
        })
        .collect();
    let best = |left_out: Option<&str>| {
        let mean = |place: &usize| {
            tried[*place].iter().filter(|(file, _)| Some(**file) != left_out).map(|(_, value)| value).sum::<f64>()
        };
        (0..grid.len()).min_by(|a, b| mean(a).total_cmp(&mean(b))).unwrap()
    };
    for file in files {
        let place = best(Some(file));
        println!("without {file}: {:?}, which gives it {:.4}", grid[place], tried[place][file].exp());
    }
    println!("with all: {:?}", grid[best(None)]);
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1)).cloned()
    };
    let data =
        value("--data").or_else(|| std::env::var("MANTLET_DATA").ok()).unwrap_or_else(|| "../shared/data".to_owned());
    let traces = traces(Path::new(&data)).unwrap();
    if arguments.iter().any(|argument| argument == "--choose") {
        return choose(&traces);
    }
    let report = report(&traces);
    if let Some(path) = value("--out") {
        std::fs::write(path, report.to_string()).expect("--out can be written");
    }
}
