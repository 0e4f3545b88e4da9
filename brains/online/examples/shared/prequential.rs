//! Test, then train: asks a learner about each row of a table in order, teaches it the label when that is known, and says how
//! right and how fast it was, as a JSON line.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "an example that prints what it measured")]

use std::collections::VecDeque;

use rustix::time::{ClockId, clock_gettime};

use crate::table::Table;

/// Rows that are not timed.
const WARM: usize = 5_000;
/// Rows that one point of the curve over time tells of.
const WINDOW: usize = 500;

/// What is measured.
pub(crate) trait Learner {
    /// Writes the probability of each class.
    fn predict(&mut self, row: &[f64], probabilities: &mut [f64]);

    /// Learns that a row was of a class.
    fn learn(&mut self, row: &[f64], class: usize);

    /// Bytes that it takes, where it says so.
    fn memory(&self) -> Option<usize>;
}

/// Runs a learner over a table; a row's label is known so many rows later. `answered` is told each row's class and what was
/// answered.
pub(crate) fn run(
    table: &Table,
    subject: &str,
    (seed, delay): (u64, usize),
    learner: &mut dyn Learner,
    mut answered: impl FnMut(usize, &[f64]),
) {
    let mut tally = Tally::new(table.classes());
    let mut probabilities = vec![0.0; table.classes()];
    let mut late = VecDeque::new();
    let (mut began, mut timed) = (busy(), 0_usize);
    for (place, row) in table.rows().enumerate() {
        // A short stream is timed whole.
        if place == WARM && table.len() > 2 * WARM {
            (began, timed) = (busy(), 0);
        }
        learner.predict(row, &mut probabilities);
        tally.add(&probabilities, table.class(place));
        answered(table.class(place), &probabilities);
        late.push_back(place);
        if late.len() > delay {
            let known = late.pop_front().unwrap();
            learner.learn(table.row(known), table.class(known));
        }
        timed += 1;
    }
    let seconds = busy() - began;
    println!(
        "{}",
        serde_json::json!({
            "case": table.name(), "subject": subject, "seed": seed, "delay": delay, "rows": table.len(),
            "accuracy": tally.accuracy(), "balanced_accuracy": tally.balanced(), "kappa": tally.kappa(),
            "log_loss": tally.log_loss / tally.total(), "rows_per_s": timed as f64 / seconds,
            "peak_mb": learner.memory().map(|bytes| bytes as f64 / 1e6), "curve": tally.curve,
        })
    );
}

/// Seconds that this thread has computed: what else the machine does is not the learner's time.
fn busy() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
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
        let said = greatest(probabilities);
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

/// The place of the greatest value, the first of equals.
fn greatest(values: &[f64]) -> usize {
    let better = |best: usize, place: usize| if values[place] > values[best] { place } else { best };
    (0..values.len()).fold(0, better)
}
