//! Runs the crate irithyll over a labelled stream, test then train, as our own example does; prints a JSON line.
//!
//! `irithyll-peer --file S.csv[.gz] --subject "irithyll sgbt-100" [--seed 1] [--delay 0]`
#![allow(clippy::unwrap_used, clippy::panic, reason = "what can't be measured ends the run")]

use irithyll::{MulticlassSGBT, SGBT, SGBTConfig, SampleRef, loss::logistic::LogisticLoss};

#[path = "../../../../brains/online/examples/shared/prequential.rs"]
mod prequential;
#[path = "../../../../brains/online/examples/shared/table.rs"]
mod table;

use table::Table;

/// Boosted trees, for two classes or more.
enum Boosted {
    Two(SGBT<LogisticLoss>),
    More(MulticlassSGBT),
}

impl Boosted {
    /// With the settings that its own benchmarks name as best.
    fn new(steps: usize, classes: usize, seed: u64) -> Self {
        let settings = SGBTConfig::builder()
            .n_steps(steps)
            .learning_rate(0.1)
            .grace_period(50)
            .max_depth(6)
            .n_bins(32)
            .initial_target_count(50)
            .seed(seed)
            .build()
            .unwrap();
        if classes == 2 {
            Self::Two(SGBT::with_loss(settings, LogisticLoss))
        } else {
            Self::More(MulticlassSGBT::new(settings, classes).unwrap())
        }
    }
}

impl prequential::Learner for Boosted {
    fn predict(&mut self, row: &[f64], probabilities: &mut [f64]) {
        match self {
            Self::Two(boosted) => {
                let second = boosted.predict_proba(row);
                probabilities.copy_from_slice(&[1.0 - second, second]);
            }
            Self::More(boosted) => probabilities.copy_from_slice(&boosted.predict_proba(row)),
        }
    }

    fn learn(&mut self, row: &[f64], class: usize) {
        let example = SampleRef::new(row, class as f64);
        match self {
            Self::Two(boosted) => boosted.train_one(&example),
            Self::More(boosted) => boosted.train_one(&example),
        }
    }

    fn memory(&self) -> Option<usize> {
        None
    }
}

fn main() {
    let (mut file, mut subject, mut seed, mut delay) = (None, String::new(), 1_u64, 0_usize);
    let words: Vec<String> = std::env::args().skip(1).collect();
    for pair in words.chunks(2) {
        let [option, value] = pair else { panic!("an option without a value: {pair:?}") };
        match option.as_str() {
            "--file" => file = Some(value.clone()),
            "--subject" => subject.clone_from(value),
            "--seed" => seed = value.parse().unwrap(),
            "--delay" => delay = value.parse().unwrap(),
            other => panic!("no option is called {other}"),
        }
    }
    let steps = subject.strip_prefix("irithyll sgbt-").expect("subjects are called `irithyll sgbt-STEPS`").parse().unwrap();
    let table = Table::read(file.expect("--file names a stream").as_ref());
    let mut boosted = Boosted::new(steps, table.classes(), seed);
    prequential::run(&table, &subject, (seed, delay), &mut boosted, |_, _| {});
}
