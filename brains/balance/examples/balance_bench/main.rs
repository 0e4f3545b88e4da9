//! Measures who chooses replicas best, in simulation: latencies under load on fleets of unlike replicas, of unlike
//! requests, with one gateway or several.
//!
//! ```sh
//! cargo run --release -p mantlet-balance --example balance_bench -- --data DIR --out balance.json
//! ```
//!
//! All subjects get the same requests, slow moments and lost messages for a seed; figures are medians over seeds. With `--rate` it
//! simulates one fleet alone, as it is measured live: four replicas, one of them slow, so many requests a second with measured times.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for a person, not product code")]

mod fleet;
mod load;
mod subjects;

use std::path::PathBuf;

use fleet::{Answer, Fault, Scene};
use load::Requests;
use serde_json::{Value, json};
use subjects::Watch;

/// Who is compared, plain ones first.
const SUBJECTS: [&str; 7] = ["round robin", "least request", "p2c", "prequal", "ours", "oracle", "garbage"];

/// Requests at the start that are not counted, for anybody: whoever learns has begun with nothing. What a garbage
/// predictor costs is counted from the first.
const WARM_UP: usize = 1_000;

/// A row of the bench.
struct Case<'a> {
    requests: &'a Requests,
    fault: Fault,
    replicas: usize,
    load: f64,
    gateways: usize,
}

impl Case<'_> {
    fn name(&self) -> String {
        let requests = if self.requests.name == "drawn" { "" } else { &self.requests.name };
        let fault = match self.fault {
            Fault::None => "",
            Fault::Slow => "one slow",
            Fault::Antagonist => "antagonist",
            Fault::Rolling => "rolling",
            Fault::Loss => "loss",
        };
        let gateways = if self.gateways > 1 { format!("{}g", self.gateways) } else { String::new() };
        let fleet = format!("{}r {:.0}%", self.replicas, self.load * 100.0);
        let plain = if requests.is_empty() && fault.is_empty() { "equal" } else { "" };
        [requests, fault, plain, &fleet, &gateways]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

struct Options {
    data: PathBuf,
    out: Option<PathBuf>,
    measured: PathBuf,
    quick: bool,
    only: Option<String>,
    seeds: u64,
    rate: Option<f64>,
}

fn options() -> Options {
    let mut options = Options {
        data: std::env::var_os("MANTLET_DATA").map(PathBuf::from).unwrap_or_default(),
        out: None,
        measured: PathBuf::from("evaluation/balance/measured.csv"),
        quick: false,
        only: None,
        seeds: 5,
        rate: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--data" => options.data = words.next().unwrap().into(),
            "--out" => options.out = words.next().map(PathBuf::from),
            "--measured" => options.measured = words.next().unwrap().into(),
            "--quick" => options.quick = true,
            "--only" => options.only = words.next(),
            "--rate" => options.rate = words.next().unwrap().parse().ok(),
            "--seeds" => options.seeds = words.next().unwrap().parse().unwrap(),
            other => println!("{other}: not known"),
        }
    }
    options
}

fn cases<'a>(drawn: &'a Requests, others: &'a [Requests]) -> Vec<Case<'a>> {
    let mut cases = Vec::new();
    for replicas in [4, 16, 64] {
        for load in [0.5, 0.8, 0.9] {
            for gateways in [1, 4] {
                let case = |requests, fault| Case { requests, fault, replicas, load, gateways };
                cases.extend([Fault::None, Fault::Slow, Fault::Antagonist].map(|fault| case(drawn, fault)));
                if load == 0.8 {
                    cases.extend([Fault::Rolling, Fault::Loss].map(|fault| case(drawn, fault)));
                }
                for requests in others {
                    cases.push(case(requests, Fault::None));
                    if load == 0.8 {
                        cases.push(case(requests, Fault::Slow));
                    }
                }
            }
        }
    }
    cases
}

/// The fleet that is measured live, at so many requests a second.
fn live(requests: &Requests, rate: f64) -> Case<'_> {
    let case = Case { requests, fault: Fault::Slow, replicas: 4, load: 0.0, gateways: 1 };
    let capacity = Scene { replicas: case.replicas, gateways: case.gateways, fault: case.fault, seed: 0 }.capacity();
    Case { load: rate * requests.mean_work() / capacity, ..case }
}

/// Figures of a subject in a case, for one seed.
#[derive(Debug, Clone, Copy)]
struct Figures {
    p50: f64,
    p99: f64,
    slowdown: f64,
    /// Mean slowdown of the first 10,000.
    mean_slowdown: f64,
    /// Requests until it handed back.
    handed_back: f64,
    /// The share of live requests that explored.
    explored: f64,
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let place = (values.len() as f64 * share).ceil() as usize;
    values.get(place.clamp(1, values.len().max(1)) - 1).copied().unwrap_or(0.0)
}

fn figures(answers: &[Answer], watch: &Watch) -> Figures {
    let counted = &answers[WARM_UP.min(answers.len() / 4)..];
    let mut latencies: Vec<f64> = counted.iter().map(|answer| answer.latency * 1e3).collect();
    let slowdown = |answer: &Answer| answer.latency / answer.work;
    let mut slowdowns: Vec<f64> = counted.iter().map(slowdown).collect();
    let first = &answers[..answers.len().min(10_000)];
    Figures {
        p50: quantile(&mut latencies, 0.5),
        p99: quantile(&mut latencies, 0.99),
        slowdown: quantile(&mut slowdowns, 0.99),
        mean_slowdown: first.iter().map(slowdown).sum::<f64>() / first.len().max(1) as f64,
        handed_back: watch.handed_back(),
        explored: watch.explored(),
    }
}

/// The median over seeds.
fn median(all: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    quantile(&mut all.iter().map(of).collect::<Vec<_>>(), 0.5)
}

fn measure(case: &Case<'_>, options: &Options) -> Vec<(&'static str, Vec<Figures>)> {
    let mut all: Vec<(&'static str, Vec<Figures>)> = SUBJECTS.iter().map(|subject| (*subject, Vec::new())).collect();
    for seed in 0..options.seeds {
        let scene = Scene { replicas: case.replicas, gateways: case.gateways, fault: case.fault, seed };
        let arrivals = case.requests.at(case.load * scene.capacity(), seed, options.quick);
        for (subject, figures_of) in &mut all {
            let (mut chooser, watch) = subjects::chooser(subject, &scene);
            let answers = fleet::run(&scene, &arrivals, &mut chooser);
            figures_of.push(figures(&answers, &watch));
        }
    }
    all
}

fn main() {
    let options = options();
    let traces = if options.rate.is_none() { load::traces(&options.data) } else { Vec::new() };
    let (drawn, measured) = (load::drawn(), load::measured(&options.measured));
    let others: Vec<Requests> = traces.into_iter().chain(measured).collect();
    let mut said = Vec::new();
    println!("p99, ms: median over seeds");
    println!("{:<40} {}", "case", SUBJECTS.map(|subject| format!("{subject:>13}")).concat());
    let cases = match options.rate {
        Some(rate) => others.iter().map(|requests| live(requests, rate)).collect(),
        None => cases(&drawn, &others),
    };
    for case in cases {
        let name = case.name();
        if options.only.as_ref().is_some_and(|only| !only.split_whitespace().all(|word| name.contains(word))) {
            continue;
        }
        let all = measure(&case, &options);
        let row: String = all.iter().map(|(_, all)| format!("{:>13.1}", median(all, |figures| figures.p99))).collect();
        println!("{name:<40} {row}");
        said.extend(all.iter().flat_map(|(subject, all)| rows(&name, subject, all)));
    }
    if let Some(out) = &options.out {
        std::fs::write(out, serde_json::to_string_pretty(&json!({ "figures": said })).unwrap()).unwrap();
    }
}

fn rows(case: &str, subject: &str, all: &[Figures]) -> Vec<Value> {
    type Of = fn(&Figures) -> f64;
    let metrics: [(&str, &str, Of); 6] = [
        ("p50_ms", "ms", |figures| figures.p50),
        ("p99_ms", "ms", |figures| figures.p99),
        ("slowdown_p99", "times", |figures| figures.slowdown),
        ("mean_slowdown_10k", "times", |figures| figures.mean_slowdown),
        ("handed_back_after", "requests", |figures| figures.handed_back),
        ("explored", "share", |figures| figures.explored),
    ];
    let row = |(metric, unit, of): (&str, &str, Of)| {
        let seeds: Vec<f64> = all.iter().map(of).collect();
        let value = median(all, of);
        value.is_finite().then(|| {
            json!({ "case": case, "subject": subject, "metric": metric, "value": value, "unit": unit, "seeds": seeds })
        })
    };
    metrics
        .into_iter()
        .filter(|(metric, ..)| match *metric {
            "handed_back_after" => subject == "garbage" || subject == "ours",
            "explored" => subject == "ours",
            _ => true,
        })
        .filter_map(row)
        .collect()
}
