//! Measures the tuner beside a grid and random search, two workers beside one, and robust aggregation beside the mean.
//!
//! ```sh
//! cargo run --release -p mantlet-online --example training_bench -- --data DIR --out training.json \
//!     [--part search|attack|workers] [--runs DIR] [--seeds 10] [--settings FILE] [--quick]
//! ```
//!
//! All but seconds is the same each time: every run has a seed. What each part does is told in its module.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a program for a person, not product code"
)]

use std::path::PathBuf;

use online::tune::Settings;
use serde_json::{Value, json};

#[path = "training/attack.rs"]
mod attack;
#[path = "training/search.rs"]
mod search;
#[path = "shared/table.rs"]
mod table;
#[path = "training/traces.rs"]
mod traces;
#[path = "training/workers.rs"]
mod workers;

use table::Table;

/// What was measured.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<Value>,
    ratios: Vec<Value>,
    /// By stream, seed and settings, where settings are to be chosen.
    pub(crate) searches: Vec<Value>,
}

impl Report {
    pub(crate) fn figure(&mut self, [case, subject, metric, unit]: [&str; 4], value: f64) {
        println!("{case:<36} {subject:<24} {metric:<28} {value:>12.4} {unit}");
        self.figures.push(json!({ "case": case, "subject": subject, "metric": metric, "value": value, "unit": unit }));
    }

    /// A goal: the value is to be at least, or at most, so much.
    pub(crate) fn goal(&mut self, case: &str, name: &str, value: f64, (goal, least): (f64, bool)) {
        let met = if least { value >= goal } else { value <= goal };
        let sign = if least { ">=" } else { "<=" };
        println!("{case:<36} {name:<60} {value:>10.4} {sign} {goal} {}", if met { "met" } else { "MISSED" });
        let goal = format!("{sign} {goal}");
        self.ratios.push(json!({ "case": case, "name": name, "value": value, "goal": goal, "met": met }));
    }
}

struct Arguments {
    data: PathBuf,
    out: Option<PathBuf>,
    parts: Vec<String>,
    /// Where runs of the search are kept.
    runs: Option<PathBuf>,
    seeds: u64,
    /// A file of the tuner's settings to choose among: a list of them in JSON.
    settings: Option<PathBuf>,
    quick: bool,
}

fn arguments() -> Arguments {
    let data = std::env::var_os("MANTLET_DATA").map_or_else(|| "../shared/data".into(), PathBuf::from);
    let mut arguments =
        Arguments { data, out: None, parts: Vec::new(), runs: None, seeds: 10, settings: None, quick: false };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        match name.as_str() {
            "--data" => arguments.data = given.next().unwrap().into(),
            "--out" => arguments.out = given.next().map(PathBuf::from),
            "--part" => arguments.parts.extend(given.next()),
            "--runs" => arguments.runs = given.next().map(PathBuf::from),
            "--seeds" => arguments.seeds = given.next().unwrap().parse().unwrap(),
            "--settings" => arguments.settings = given.next().map(PathBuf::from),
            "--quick" => arguments.quick = true,
            other => panic!(
                "no argument is called {other}; there are --data, --out, --part, --runs, --seeds, --settings, --quick"
            ),
        }
    }
    arguments
}

/// Every labelled stream of the folder with so many rows, by name.
fn streams(arguments: &Arguments, least: usize) -> Vec<Table> {
    let folder = arguments.data.join("streams");
    let targets = std::fs::read_to_string(folder.join("targets.json")).unwrap_or_default();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let labelled = paths.into_iter().filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.contains(".csv") && !targets.contains(&format!("\"{name}\""))
    });
    let tables = labelled.map(|path| Table::read(&path)).filter(|table| table.len() >= least);
    tables.take(if arguments.quick { 1 } else { usize::MAX }).collect()
}

fn main() {
    let arguments = arguments();
    let seeds = if arguments.quick { 1 } else { arguments.seeds };
    let all = arguments.parts.is_empty() && arguments.settings.is_none();
    let wants = |part: &str| all || arguments.parts.iter().any(|other| other == part);
    let mut report = Report::default();
    if wants("search") {
        search::measure(&streams(&arguments, search::LEAST), seeds, arguments.runs.as_deref(), &mut report);
    }
    if let Some(settings) = &arguments.settings {
        let settings: Vec<Settings> = serde_json::from_str(&std::fs::read_to_string(settings).unwrap()).unwrap();
        let tables = streams(&arguments, search::LEAST);
        search::choices(&tables, seeds, arguments.runs.as_deref(), &settings, &mut report);
    }
    if wants("attack") {
        attack::measure(&streams(&arguments, attack::LEAST), seeds, &mut report);
    }
    if wants("workers") {
        workers::measure(&streams(&arguments, attack::LEAST), if arguments.quick { 1 } else { 9 }, &mut report);
    }
    if let Some(out) = arguments.out {
        std::fs::write(
            out,
            json!({ "figures": report.figures, "ratios": report.ratios, "searches": report.searches }).to_string(),
        )
        .unwrap();
    }
}
