//! Two workers beside one: threads that learn halves of the rows, and make one step of theirs every 512 to 4,096 rows each, the
//! more the narrower they are: to meet costs the same however little was learnt.
//!
//! Both learn as many rows in all, five passes; what is compared is how long that takes, and how right they are afterwards.
//! Repeats of both take turns, so that what else the machine does meets both; the ratio is the median of pairs.
#![expect(clippy::unwrap_used, reason = "what can't be measured ends the bench")]

use std::{
    sync::{Barrier, Mutex},
    time::Instant,
};

use online::{
    Classifier as _, Random,
    robust::{Aggregator, Rule, Settings},
    weights::Weighted as _,
};

use crate::{
    Report,
    attack::{Deal, accuracy, deal, first},
    table::Table,
};

/// Values that a worker learns between two meetings, as long as the rows are from the least to the most.
const VALUES: usize = 32_768;
const ROUNDS: [usize; 2] = [512, 4_096];
const PASSES: usize = 5;

/// Seconds, and accuracy in the end.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn trained(table: &Table, deal: &Deal, workers: usize) -> (f64, f64) {
    let first = first(table, deal);
    let settings = Settings { rule: Rule::Mean, liars: 0, ..Settings::default() };
    let weights = first.weights();
    let shards: Vec<Vec<usize>> =
        (0..workers).map(|worker| deal.rest.iter().skip(worker).step_by(workers).copied().collect()).collect();
    let [least, most] = ROUNDS;
    let length = (VALUES / table.row(deal.rest[0]).len().max(1)).clamp(least, most);
    let rounds = deal.rest.len() * PASSES / workers / length;
    let aggregator = Mutex::new(Aggregator::new(settings, workers, weights.len()).unwrap());
    let updates: Vec<Mutex<Vec<f64>>> = (0..workers).map(|_| Mutex::new(Vec::new())).collect();
    let (common, barrier) = (Mutex::new(weights), Barrier::new(workers));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for (worker, shard) in shards.iter().enumerate() {
            let (first, aggregator, updates, common, barrier) = (&first, &aggregator, &updates, &common, &barrier);
            scope.spawn(move || {
                let mut replica = first.clone();
                for round in 0..rounds {
                    let before = common.lock().unwrap().clone();
                    replica.write_weights(&before).unwrap();
                    for n in 0..length {
                        let place = shard[(round * length + n) % shard.len()];
                        replica.learn_held(table.row(place), table.class(place), 1.0).unwrap();
                    }
                    let moved = replica.weights().iter().zip(&before).map(|(after, before)| after - before).collect();
                    *updates[worker].lock().unwrap() = moved;
                    if barrier.wait().is_leader() {
                        let all: Vec<Vec<f64>> = updates.iter().map(|update| update.lock().unwrap().clone()).collect();
                        let all: Vec<Option<&[f64]>> = all.iter().map(|update| Some(update.as_slice())).collect();
                        let mut step = vec![0.0; before.len()];
                        let _ = aggregator.lock().unwrap().aggregate(&all, &mut step).unwrap();
                        common.lock().unwrap().iter_mut().zip(&step).for_each(|(weight, by)| *weight += by);
                    }
                    barrier.wait();
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let mut model = first;
    model.write_weights(&common.into_inner().unwrap()).unwrap();
    (seconds, accuracy(|row, probabilities| model.predict(row, probabilities).unwrap(), table, deal))
}

pub(crate) fn measure(streams: &[Table], repeats: u64, report: &mut Report) {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        println!("two workers: not measured, for there is one core");
        return;
    }
    for table in streams {
        let (mut one, mut two, mut ratios, mut apart) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
        for seed in 0..repeats {
            let deal = deal(table, &mut Random::new(seed));
            let (alone, right_alone) = trained(table, &deal, 1);
            let (both, right_both) = trained(table, &deal, 2);
            ratios.push(alone / both);
            one.push(alone);
            two.push(both);
            apart += 100.0 * (right_alone - right_both) / repeats as f64;
        }
        let case = table.name();
        for (subject, seconds) in [("1 worker", &mut one), ("2 workers", &mut two)] {
            report.figure([case, subject, "seconds_to_quality", "s"], median(seconds));
        }
        report.figure([case, "2 workers", "accuracy lost", "points"], apart);
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        report.figure([case, "2 workers", "least speed / 1 worker's", ""], least);
        report.goal(case, "2 workers: speed / 1 worker's, median of pairs", median(&mut ratios), (1.7, true));
        report.goal(case, "2 workers: points of accuracy lost", apart, (0.5, false));
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
