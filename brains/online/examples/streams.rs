//! Runs learners over labelled streams, test then train, and says how right and how fast they were, as JSON lines.
//!
//! `cargo run --release -p mantlet-online --example streams -- --file S.csv[.gz] --learner arf-10 [--seed 1] [--delay 0]`
//!
//! `--answers FOLDER` keeps what was answered, in FOLDER/STREAM-LEARNER-SEED-DELAY.f32: for each row its class, and the
//! probabilities of all classes, as little-endian floats.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "an example that measures time, and prints it"
)]

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    time::Instant,
};

use online::{
    AdaptiveTree, Auto, Boosted, Classifier, Ensemble, HoeffdingTree, Logistic, Neighbours, adaptive, auto, boosted,
    ensemble, logistic, neighbours, tree,
};

#[path = "shared/table.rs"]
mod table;

use table::Table;

/// Rows that are not timed.
const WARM: usize = 5_000;
/// Rows that one point of the curve over time tells of.
const WINDOW: usize = 500;

fn learner(name: &str, table: &Table, seed: u64) -> Box<dyn Classifier> {
    let (schema, classes) = (table.schema(), table.classes());
    let forest = |settings| Box::new(Ensemble::new(settings, schema.clone(), classes, seed).unwrap());
    match name.rsplit_once('-').map_or((name, 0), |(kind, n)| (kind, n.parse().unwrap_or(0))) {
        ("arf", trees) => forest(ensemble::Settings::adaptive_random_forest(trees)),
        ("srp", trees) => forest(ensemble::Settings::streaming_random_patches(trees)),
        ("lb", trees) => forest(ensemble::Settings::leveraging_bagging(trees)),
        ("auto", _) => Box::new(Auto::new(auto::Settings::default(), schema, classes, seed).unwrap()),
        ("sgbt", steps) => Box::new(Boosted::new(boosted::Settings::of(steps), schema, classes, seed).unwrap()),
        ("logistic", _) => Box::new(Logistic::new(logistic::Settings::default(), schema, classes).unwrap()),
        ("neighbours", _) => Box::new(Neighbours::new(neighbours::Settings::default(), schema, classes).unwrap()),
        ("bayes", _) => Box::new(HoeffdingTree::naive_bayes(schema, classes).unwrap()),
        ("hat", _) => Box::new(AdaptiveTree::new(adaptive::Settings::default(), schema, classes, seed).unwrap()),
        ("ht", _) => Box::new(HoeffdingTree::new(tree::Settings::default(), schema, classes, seed).unwrap()),
        _ => panic!("no learner is called `{name}`"),
    }
}

/// What a run adds up.
struct Tally {
    /// By true class, then by answer.
    confusion: Vec<Vec<f64>>,
    log_loss: f64,
    curve: Vec<f64>,
    window: usize,
    right: usize,
}

impl Tally {
    fn new(classes: usize) -> Self {
        Self { confusion: vec![vec![0.0; classes]; classes], log_loss: 0.0, curve: Vec::new(), window: 0, right: 0 }
    }

    fn add(&mut self, probabilities: &[f64], class: usize) {
        let said = online::learner::greatest(probabilities);
        self.confusion[class][said] += 1.0;
        self.log_loss -= probabilities[class].clamp(1e-15, 1.0).ln();
        self.right += usize::from(said == class);
        self.window += 1;
        if self.window == WINDOW {
            self.curve.push(self.right as f64 / WINDOW as f64);
            (self.window, self.right) = (0, 0);
        }
    }

    fn total(&self) -> f64 {
        self.confusion.iter().flatten().sum()
    }

    fn accuracy(&self) -> f64 {
        (0..self.confusion.len()).map(|class| self.confusion[class][class]).sum::<f64>() / self.total()
    }

    fn balanced(&self) -> f64 {
        let seen: Vec<f64> = self
            .confusion
            .iter()
            .enumerate()
            .filter_map(|(class, row)| {
                let all: f64 = row.iter().sum();
                (all > 0.0).then(|| row[class] / all)
            })
            .collect();
        seen.iter().sum::<f64>() / seen.len() as f64
    }

    fn kappa(&self) -> f64 {
        let total = self.total();
        let by_chance: f64 = (0..self.confusion.len())
            .map(|class| {
                let (row, column): (f64, f64) =
                    (self.confusion[class].iter().sum(), self.confusion.iter().map(|row| row[class]).sum());
                row * column / total / total
            })
            .sum();
        (self.accuracy() - by_chance) / (1.0 - by_chance)
    }
}

/// What was answered, row by row, where somebody wants to keep it.
#[derive(Default)]
struct Answers(Vec<u8>);

impl Answers {
    fn add(&mut self, class: usize, probabilities: &[f64]) {
        let numbers = std::iter::once(class as f32).chain(probabilities.iter().map(|p| *p as f32));
        self.0.extend(numbers.flat_map(f32::to_le_bytes));
    }
}

fn run(table: &Table, name: &str, (seed, delay): (u64, usize), folder: Option<&Path>) {
    let mut learner = learner(name, table, seed);
    let mut tally = Tally::new(table.classes());
    let mut probabilities = vec![0.0; table.classes()];
    let (mut late, mut answers) = (VecDeque::new(), Answers::default());
    let (mut began, mut timed) = (Instant::now(), 0_usize);
    for (place, row) in table.rows().enumerate() {
        // A short stream is timed whole.
        if place == WARM && table.len() > 2 * WARM {
            (began, timed) = (Instant::now(), 0);
        }
        learner.predict(row, &mut probabilities).unwrap();
        tally.add(&probabilities, table.class(place));
        if folder.is_some() {
            answers.add(table.class(place), &probabilities);
        }
        late.push_back(place);
        if late.len() > delay {
            let known = late.pop_front().unwrap();
            learner.learn(table.row(known), table.class(known), 1.0).unwrap();
        }
        timed += 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    if let Some(folder) = folder {
        let file = format!("{}-{name}-{seed}-{delay}.f32", table.name());
        std::fs::write(folder.join(file), answers.0).unwrap();
    }
    println!(
        "{}",
        serde_json::json!({
            "case": table.name(), "subject": name, "seed": seed, "delay": delay, "rows": table.len(),
            "accuracy": tally.accuracy(), "balanced_accuracy": tally.balanced(), "kappa": tally.kappa(),
            "log_loss": tally.log_loss / tally.total(), "rows_per_s": timed as f64 / seconds,
            "peak_mb": learner.memory() as f64 / 1e6, "curve": tally.curve,
        })
    );
}

fn main() {
    let (mut files, mut learners, mut seeds, mut delays) = (Vec::new(), Vec::new(), vec![1_u64], vec![0_usize]);
    let mut folder: Option<PathBuf> = None;
    let words: Vec<String> = std::env::args().skip(1).collect();
    for pair in words.chunks(2) {
        let [option, value] = pair else { panic!("an option without a value: {pair:?}") };
        let numbers = || value.split(',').map(|word| word.parse().unwrap());
        match option.as_str() {
            "--file" => files.push(value.clone()),
            "--learner" => learners.extend(value.split(',').map(str::to_owned)),
            "--seed" => seeds = numbers().collect(),
            "--answers" => folder = Some(value.into()),
            "--delay" => delays = numbers().map(|n| n as usize).collect(),
            other => panic!("no option is called {other}"),
        }
    }
    for file in &files {
        let table = Table::read(file.as_ref());
        for name in &learners {
            for &seed in &seeds {
                for &delay in &delays {
                    run(&table, name, (seed, delay), folder.as_deref());
                }
            }
        }
    }
}
