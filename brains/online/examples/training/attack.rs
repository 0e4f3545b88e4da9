//! Workers of which some lie, and one step made of theirs: by the mean, and by the robust rule.
//!
//! A stream is shuffled, a fifth is kept to ask about afterwards; 500 rows that everybody trusts give the first model and
//! its scale, the rest is dealt to workers. In each round a worker learns 32 rows of its shard from the common weights, and
//! sends by how much they moved. Who learns which row is dealt by a hash of its number, or shards are kept as somebody
//! collected them: half of the rows are with a worker by their class. A liar turns
//! the classes of its rows round, sends the reverse of its update four times as long, or ("a little is enough": Baruch,
//! Baruch and Goldberg, NeurIPS 2019) the mean of the honest less 1.5 of their deviations. What is lost is lost
//! against the mean of workers who are all honest; the oracle knows who would lie, and has to do without their rows.
#![expect(clippy::unwrap_used, reason = "what can't be measured ends the bench")]

use online::{
    Classifier as _, Ensemble, Logistic, Random, ensemble,
    learner::greatest,
    logistic,
    robust::{Aggregator, Rule, Settings, merge_forests, worker_of},
    weights::Weighted as _,
};

use crate::{Report, table::Table};

/// Rows of a stream, at least: seven workers are to have some hundreds each.
pub(crate) const LEAST: usize = 5_000;
/// Rows that everybody trusts.
const CLEAN: usize = 500;
/// Rows that a worker learns in a round, and passes over all rows.
const BATCH: usize = 32;
const PASSES: usize = 3;

#[derive(Clone, Copy, PartialEq)]
enum Lie {
    /// Nobody lies.
    None,
    /// Who would lie sends nothing, as if somebody had known.
    Silence,
    Flip,
    SignFlip,
    Alie,
}

impl Lie {
    /// Each with its name, and the points it may cost.
    const EACH: [(Self, &'static str, f64); 3] =
        [(Self::Flip, "flip", 1.0), (Self::SignFlip, "sign-flip", 3.0), (Self::Alie, "alie", 3.0)];
}

#[derive(Clone, Copy, PartialEq)]
enum Shards {
    Dealt,
    Kept,
}

/// Rows in an order of their own, dealt.
pub(crate) struct Deal {
    pub(crate) clean: Vec<usize>,
    pub(crate) asked: Vec<usize>,
    pub(crate) rest: Vec<usize>,
}

pub(crate) fn deal(table: &Table, random: &mut Random) -> Deal {
    let mut order: Vec<usize> = (0..table.len()).collect();
    (1..order.len()).rev().for_each(|place| order.swap(place, random.below(place as u32 + 1) as usize));
    let asked = order.split_off(order.len() - order.len() / 5);
    let rest = order.split_off(CLEAN);
    Deal { clean: order, asked, rest }
}

/// The first model: it has learnt the trusted rows.
pub(crate) fn first(table: &Table, deal: &Deal) -> Logistic {
    let mut model = Logistic::new(logistic::Settings::default(), table.schema(), table.classes()).unwrap();
    for place in &deal.clean {
        model.learn(table.row(*place), table.class(*place), 1.0).unwrap();
    }
    model
}

pub(crate) fn accuracy(answer: impl Fn(&[f64], &mut [f64]), table: &Table, deal: &Deal) -> f64 {
    let mut probabilities = vec![0.0; table.classes()];
    let right = deal.asked.iter().filter(|place| {
        answer(table.row(**place), &mut probabilities);
        greatest(&probabilities) == table.class(**place)
    });
    right.count() as f64 / deal.asked.len() as f64
}

fn shards(table: &Table, deal: &Deal, workers: usize, how: Shards, seed: u64) -> Vec<Vec<usize>> {
    let mut shards = vec![Vec::new(); workers];
    for place in &deal.rest {
        let number = (*place as u64).to_le_bytes();
        // Half of the keys by another salt.
        let by_class = how == Shards::Kept && worker_of(&number, 2, !seed) == 0;
        let worker = if by_class { table.class(*place) % workers } else { worker_of(&number, workers, seed) };
        shards[worker].push(*place);
    }
    shards
}

/// The accuracy in the end of workers of whom `liars` lie so.
fn trained(table: &Table, seed: u64, (workers, liars): (usize, usize), (rule, lie): (Rule, Lie), how: Shards) -> f64 {
    let mut random = Random::new(seed);
    let deal = deal(table, &mut random);
    let shards = shards(table, &deal, workers, how, seed);
    let first = first(table, &deal);
    let mut common = first.weights();
    let mut replicas = vec![first; workers];
    let settings = Settings { rule, liars, ..Settings::default() };
    let mut aggregator = Aggregator::new(settings, workers, common.len()).unwrap();
    // Liars are where the seed says: where shards are kept that matters.
    let begin = random.below(workers as u32) as usize;
    let lying = |worker: usize| lie != Lie::None && (worker + begin) % workers < liars;
    let rounds = deal.rest.len() * PASSES / workers / BATCH;
    for round in 0..rounds {
        let mut updates: Vec<Vec<f64>> = Vec::new();
        for (worker, (replica, shard)) in replicas.iter_mut().zip(&shards).enumerate() {
            replica.write_weights(&common).unwrap();
            for n in 0..BATCH {
                let place = shard[(round * BATCH + n) % shard.len()];
                let class = table.class(place);
                let told = if lying(worker) && lie == Lie::Flip { table.classes() - 1 - class } else { class };
                replica.learn_held(table.row(place), told, 1.0).unwrap();
            }
            updates.push(replica.weights().iter().zip(&common).map(|(after, before)| after - before).collect());
        }
        tell_lies(&mut updates, lie, &lying);
        let silent = |worker: usize| lie == Lie::Silence && lying(worker);
        let updates: Vec<Option<&[f64]>> =
            updates.iter().enumerate().map(|(worker, update)| (!silent(worker)).then_some(update.as_slice())).collect();
        let mut step = vec![0.0; common.len()];
        let _ = aggregator.aggregate(&updates, &mut step).unwrap();
        common.iter_mut().zip(&step).for_each(|(weight, by)| *weight += by);
    }
    let mut model = replicas.swap_remove(0);
    model.write_weights(&common).unwrap();
    accuracy(|row, probabilities| model.predict(row, probabilities).unwrap(), table, &deal)
}

fn tell_lies(updates: &mut [Vec<f64>], lie: Lie, lying: &dyn Fn(usize) -> bool) {
    let told: Vec<f64> = match lie {
        Lie::None | Lie::Silence | Lie::Flip => return,
        Lie::SignFlip => Vec::new(),
        Lie::Alie => {
            let honest: Vec<&Vec<f64>> =
                updates.iter().enumerate().filter(|(n, _)| !lying(*n)).map(|(_, update)| update).collect();
            let count = honest.len() as f64;
            let of = |place: usize| {
                let mean = honest.iter().map(|update| update[place]).sum::<f64>() / count;
                let squares: f64 = honest.iter().map(|update| (update[place] - mean).powi(2)).sum();
                mean - 1.5 * (squares / count).sqrt()
            };
            (0..updates[0].len()).map(of).collect()
        }
    };
    for (_, update) in updates.iter_mut().enumerate().filter(|(n, _)| lying(*n)) {
        match lie {
            Lie::SignFlip => update.iter_mut().for_each(|by| *by *= -4.0),
            _ => update.clone_from(&told),
        }
    }
}

pub(crate) fn measure(streams: &[Table], seeds: u64, report: &mut Report) {
    for (workers, liars) in [(4, 1), (7, 2)] {
        for (how, word) in [(Shards::Dealt, "dealt"), (Shards::Kept, "kept")] {
            let case = format!("{liars} of {workers} workers, {word}");
            let run = |table: &Table, what: (Rule, Lie)| {
                let each = (0..seeds).map(|seed| trained(table, seed, (workers, liars), what, how));
                100.0 * each.sum::<f64>() / seeds as f64
            };
            // By stream: what the mean of honest workers reaches.
            let clean: Vec<f64> = streams.iter().map(|table| run(table, (Rule::Mean, Lie::None))).collect();
            let lost = |report: &mut Report, subject: &str, what: (Rule, Lie)| {
                let mut worst = (f64::NEG_INFINITY, "");
                for (table, clean) in streams.iter().zip(&clean) {
                    let accuracy = run(table, what);
                    report.figure([&format!("{}, {case}", table.name()), subject, "accuracy", "points"], accuracy);
                    if clean - accuracy > worst.0 {
                        worst = (clean - accuracy, table.name());
                    }
                }
                worst
            };
            for (table, clean) in streams.iter().zip(&clean) {
                report.figure([&format!("{}, {case}", table.name()), "plain clean", "accuracy", "points"], *clean);
            }
            let (known, stream) = lost(report, "oracle: liars are known", (Rule::Mean, Lie::Silence));
            report.figure([&case, "oracle: liars are known", "points lost, worst stream", stream], known);
            let (price, stream) = lost(report, "robust clean", (Rule::Robust, Lie::None));
            let name = format!("nobody lies: points below the mean, worst stream ({stream})");
            report.goal(&case, &name, price, (0.3, false));
            for (lie, word, most) in Lie::EACH {
                lost(report, &format!("plain {word}"), (Rule::Mean, lie));
                let (points, stream) = lost(report, &format!("robust {word}"), (Rule::Robust, lie));
                report.goal(
                    &case,
                    &format!("robust {word}: points lost, worst stream ({stream})"),
                    points,
                    (most, false),
                );
            }
        }
    }
    forests(streams, seeds, report);
}

/// Forests of four workers, one of which learns turned classes: merged, and all their answers together.
fn forests(streams: &[Table], seeds: u64, report: &mut Report) {
    let mut worst = (f64::NEG_INFINITY, "");
    for table in streams {
        let (mut clean, mut merged, mut plain) = (0.0, 0.0, 0.0);
        for seed in 0..seeds.min(3) {
            let mut random = Random::new(seed);
            let deal = deal(table, &mut random);
            let shards = shards(table, &deal, 4, Shards::Dealt, seed);
            let grown = |flip: bool| -> Vec<Ensemble> {
                let grow = |(worker, shard): (usize, &Vec<usize>)| {
                    let settings = ensemble::Settings::adaptive_random_forest(8);
                    let mut forest =
                        Ensemble::new(settings, table.schema(), table.classes(), seed * 8 + worker as u64).unwrap();
                    for place in shard {
                        let class = table.class(*place);
                        let told = if flip && worker == 0 { table.classes() - 1 - class } else { class };
                        forest.learn(table.row(*place), told, 1.0).unwrap();
                    }
                    forest
                };
                shards.iter().enumerate().map(grow).collect()
            };
            let trusted: Vec<(&[f64], usize)> =
                deal.clean.iter().map(|place| (table.row(*place), table.class(*place))).collect();
            let merge = |forests: &[Ensemble]| {
                let forests: Vec<&Ensemble> = forests.iter().collect();
                let (merged, _) = merge_forests(&forests, &trusted, seed).unwrap();
                accuracy(|row, probabilities| merged.predict(row, probabilities).unwrap(), table, &deal)
            };
            let flipped = grown(true);
            clean += merge(&grown(false));
            merged += merge(&flipped);
            let together = |row: &[f64], probabilities: &mut [f64]| {
                let mut each = vec![0.0; probabilities.len()];
                probabilities.fill(0.0);
                for forest in &flipped {
                    forest.predict(row, &mut each).unwrap();
                    probabilities.iter_mut().zip(&each).for_each(|(sum, part)| *sum += part);
                }
            };
            plain += accuracy(together, table, &deal);
        }
        let points = 100.0 / seeds.min(3) as f64;
        let case = format!("{}, forests of 1 of 4", table.name());
        for (subject, sum) in [("merged clean", clean), ("merged flip", merged), ("plain flip", plain)] {
            report.figure([&case, subject, "accuracy", "points"], sum * points);
        }
        if (clean - merged) * points > worst.0 {
            worst = ((clean - merged) * points, table.name());
        }
    }
    report.goal(
        "1 of 4 forests, dealt",
        &format!("merged flip: points lost, worst stream ({})", worst.1),
        worst.0,
        (1.0, false),
    );
}
