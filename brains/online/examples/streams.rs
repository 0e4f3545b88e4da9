//! Runs learners over labelled streams, test then train, and says how right and how fast they were, as JSON lines.
//!
//! `cargo run --release -p mantlet-online --example streams -- --file S.csv[.gz] --learner arf-10 [--seed 1] [--delay 0]`
//!
//! A learner is a name, as here, or a specification as the registry has it: `--learner '{"learner":"naive-bayes"}'`.
//!
//! `--answers FOLDER` keeps what was answered, in FOLDER/STREAM-LEARNER-SEED-DELAY.f32: for each row its class, and the
//! probabilities of all classes, as little-endian floats.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what can't be measured ends the example")]

use std::path::{Path, PathBuf};

use online::{
    AdaptiveTree, Auto, Boosted, Classifier, Ensemble, HoeffdingTree, Logistic, Neighbours, adaptive, auto, boosted,
    ensemble, logistic, neighbours, registry::Spec, tree,
};

#[path = "shared/prequential.rs"]
mod prequential;
#[path = "shared/table.rs"]
mod table;

use table::Table;

fn learner(name: &str, table: &Table, seed: u64) -> Box<dyn Classifier> {
    let (schema, classes) = (table.schema(), table.classes());
    if name.starts_with('{') {
        let spec: Spec = serde_json::from_str(name).unwrap();
        return Box::new(spec.build(schema, classes, seed).unwrap());
    }
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

impl prequential::Learner for Box<dyn Classifier> {
    fn predict(&mut self, row: &[f64], probabilities: &mut [f64]) {
        self.as_ref().predict(row, probabilities).unwrap();
    }

    fn learn(&mut self, row: &[f64], class: usize) {
        self.as_mut().learn(row, class, 1.0).unwrap();
    }

    fn memory(&self) -> Option<usize> {
        Some(self.as_ref().memory())
    }
}

fn run(table: &Table, name: &str, (seed, delay): (u64, usize), folder: Option<&Path>) {
    let mut answers = Vec::new();
    let keep = |class: usize, probabilities: &[f64]| {
        if folder.is_some() {
            let numbers = std::iter::once(class as f32).chain(probabilities.iter().map(|p| *p as f32));
            answers.extend(numbers.flat_map(f32::to_le_bytes));
        }
    };
    prequential::run(table, name, (seed, delay), &mut learner(name, table, seed), keep);
    if let Some(folder) = folder {
        let file = format!("{}-{name}-{seed}-{delay}.f32", table.name());
        std::fs::write(folder.join(file), answers).unwrap();
    }
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
            "--learner" if value.starts_with('{') => learners.push(value.clone()),
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
