//! Properties of the choice and of what is learned, and a simulated queue against every fixed batch size.

use std::{cell::RefCell, collections::VecDeque};

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::*;

/// The queue with nothing else going on.
fn crowd(queue: &[Waiting], free: u64) -> Crowd {
    Crowd { rows: queue.iter().map(|request| request.rows).sum(), free, sessions: free.max(2) }
}

const LIMITS: Limits = Limits { rows: 64, budget: Duration::from_millis(25) };

fn micros(micros: f64) -> Duration {
    Duration::from_secs_f64(micros * 1e-6)
}

/// A batcher that has seen these sizes over and over, of a model that costs exactly so many microseconds.
fn taught(fixed: f64, per_row: f64, sizes: &[u64]) -> Batcher {
    let mut batcher = Batcher::new(LIMITS);
    for _ in 0..200 {
        for rows in sizes {
            batcher.observe(*rows, micros(fixed + per_row * *rows as f64));
        }
    }
    batcher
}

fn queue() -> impl Strategy<Value = Vec<Waiting>> {
    let request = (1..100_u64, 0..100_000_u64);
    let request = request.prop_map(|(rows, waited)| Waiting { rows, waited: Duration::from_micros(waited) });
    prop::collection::vec(request, 0..200)
}

fn observations() -> impl Strategy<Value = Vec<(u64, Duration)>> {
    let rows = prop_oneof![0..200_u64, any::<u64>()];
    let took = prop_oneof![
        (0..1_000_000_u64).prop_map(Duration::from_nanos),
        any::<u64>().prop_map(Duration::from_nanos),
        Just(Duration::ZERO),
        Just(Duration::MAX),
    ];
    prop::collection::vec((rows, took), 0..200)
}

proptest! {
    #[test]
    fn whatever_was_seen_no_batch_is_too_large_and_no_queue_is_left_waiting(
        seen in observations(), queue in queue(), free in 0..9_u64, limit in 0..300_u64,
    ) {
        let mut batcher = Batcher::new(Limits { rows: limit, ..LIMITS });
        for (rows, took) in seen {
            batcher.observe(rows, took);
            if let Some(cost) = batcher.cost() {
                prop_assert!(cost.fixed >= 0.0 && cost.per_row >= 0.0 && cost.of(1) > 0.0 && cost.of(1).is_finite());
            }
        }
        let taken = batcher.choose(queue.iter().copied(), crowd(&queue, free));
        prop_assert_eq!(taken == 0, queue.is_empty());
        // A count from the front: first come, first served.
        prop_assert!(taken <= queue.len());
        let rows: u64 = queue[..taken].iter().map(|request| request.rows).sum();
        prop_assert!(taken <= 1 || rows <= limit, "{rows} rows");
    }

    #[test]
    fn the_same_past_makes_the_same_choice(seen in observations(), queue in queue(), free in 1..5_u64) {
        let run = || {
            let mut batcher = Batcher::new(LIMITS);
            seen.iter().for_each(|(rows, took)| batcher.observe(*rows, *took));
            let taken = batcher.choose(queue.iter().copied(), crowd(&queue, free));
            (batcher, taken)
        };
        prop_assert_eq!(run(), run());
    }

    #[test]
    fn one_row_at_most_means_one_request_at_a_time(seen in observations(), queue in queue(), limit in 0..2_u64) {
        let mut batcher = Batcher::new(Limits { rows: limit, ..LIMITS });
        seen.into_iter().for_each(|(rows, took)| batcher.observe(rows, took));
        prop_assert!(!batcher.pays());
        prop_assert_eq!(batcher.choose(queue.iter().copied(), crowd(&queue, 1)), queue.len().min(1));
    }

    #[test]
    fn exactly_affine_costs_are_found(fixed in 1.0..1e6_f64, per_row in 0.1..1e5_f64, large in 2..64_u64) {
        let cost = taught(fixed, per_row, &[1, large]).cost().unwrap();
        let level = fixed + per_row;
        prop_assert!((cost.fixed * 1e6 - fixed).abs() <= 0.01 * level, "{cost:?}");
        prop_assert!((cost.per_row * 1e6 - per_row).abs() <= 0.01 * level, "{cost:?}");
    }

    #[test]
    fn a_head_in_time_stays_in_time(fixed in 10.0..5e3_f64, per_row in 0.1..1e3_f64, queue in queue()) {
        let mut batcher = taught(fixed, per_row, &[1, 32]);
        let cost = batcher.cost().unwrap();
        let Some(head) = queue.first().copied() else { return Ok(()) };
        let rows = |taken: usize| queue[..taken].iter().map(|request| request.rows).sum::<u64>();
        let ends = |rows: u64| head.waited.as_secs_f64() + cost.of(rows);
        let taken = batcher.choose(queue.iter().copied(), crowd(&queue, 1));
        let budget = LIMITS.budget.as_secs_f64();
        prop_assert!(taken == 1 || ends(head.rows) > budget || ends(rows(taken)) <= budget * 1.000_001);
    }
}

#[test]
fn a_batch_is_as_large_as_pays_and_shared_among_the_free() {
    let take = |batcher: &mut Batcher, waiting: usize, free: u64| {
        let queue = vec![Waiting { rows: 1, waited: Duration::ZERO }; waiting];
        batcher.choose(queue.iter().copied(), crowd(&queue, free))
    };
    // Nearly all of it is fixed cost: as many as may be.
    let mut flat = taught(100.0, 0.1, &[1, 64]);
    assert_eq!((take(&mut flat, 5, 1), take(&mut flat, 500, 1), take(&mut flat, 5, 2)), (5, 64, 3));
    // A third of it: 1.6 · √(q/2 · 5/10).
    let mut third = taught(5.0, 10.0, &[1, 64]);
    assert_eq!([2, 8, 32, 512].map(|waiting| take(&mut third, waiting, 1)), [1, 2, 4, 18]);
    // Hardly any.
    let mut steep = taught(1.0, 10.0, &[1, 64]);
    assert!(!steep.pays());
    assert_eq!(take(&mut steep, 500, 1), 1);
    // Twice the largest that was seen.
    let mut young = taught(100.0, 0.1, &[1, 4]);
    assert_eq!(take(&mut young, 500, 1), 8);
    // A failed batch of 8.
    young.too_large(8);
    assert_eq!(take(&mut young, 500, 1), 4);
}

#[test]
fn outliers_hardly_move_it_and_a_lasting_change_does() {
    let mut batcher = taught(100.0, 10.0, &[1, 8]);
    let before = batcher.cost().unwrap();
    batcher.observe(8, Duration::from_secs(5));
    let after = batcher.cost().unwrap();
    assert!((0.8..1.25).contains(&(after.of(8) / before.of(8))), "{after:?}");
    for _ in 0..400 {
        batcher.observe(1, micros(1_100.0));
        batcher.observe(8, micros(1_800.0));
    }
    let after = batcher.cost().unwrap();
    assert!((after.fixed * 1e6 - 1_000.0).abs() < 20.0 && (after.per_row * 1e6 - 100.0).abs() < 20.0, "{after:?}");
}

#[test]
fn a_machine_twice_as_slow_is_slower_in_both_parts() {
    // Only single rows are seen, which can't tell the parts; their proportion stays.
    let mut batcher = taught(20.0, 80.0, &[1, 8]);
    let share = batcher.cost().unwrap().share();
    for _ in 0..2_000 {
        batcher.observe(1, micros(200.0));
    }
    let cost = batcher.cost().unwrap();
    assert!((cost.of(1) * 1e6 - 200.0).abs() < 1.0 && (cost.share() - share).abs() < 0.15, "{cost:?}");
}

#[test]
fn a_model_that_learned_to_gain_is_found_out_by_trials() {
    let queue = vec![Waiting { rows: 1, waited: Duration::ZERO }; 64];
    let mut batcher = taught(1.0, 100.0, &[1]);
    let truth = |rows: u64| micros(200.0 + rows as f64);
    let mut together = 0;
    for _ in 0..20_000 {
        let taken = batcher.choose(queue.iter().copied(), crowd(&queue, 1)) as u64;
        together += u64::from(taken > 1 && !batcher.pays());
        batcher.observe(taken, truth(taken));
    }
    assert!(batcher.pays() && together <= 20, "{together} trials");
}

/// Sessions with a queue in front of them, in microseconds; every request has one row.
struct Simulation {
    workers: u64,
    cost: Cost,
}

/// How requests come.
#[derive(Debug, Clone, Copy)]
enum Load {
    /// So many per microsecond, at random.
    Open(f64),
    /// From so many clients, each sending the next when it has the answer.
    Closed(usize),
}

/// What a run shows.
#[derive(Debug)]
struct Outcome {
    /// Requests per microsecond.
    throughput: f64,
    /// Microseconds from arrival to answer, of 99 in 100.
    p99: f64,
}

const REQUESTS: usize = 4_000;

impl Simulation {
    fn run(
        &self,
        load: Load,
        mut choose: impl FnMut(&VecDeque<f64>, f64, u64) -> usize,
        mut observe: impl FnMut(u64, f64),
    ) -> Outcome {
        // Apart, so that arrivals are the same whatever is chosen.
        let [mut arriving, mut rng] = [5, 6].map(ChaCha8Rng::seed_from_u64);
        let (mut arrivals, rate): (Vec<f64>, f64) = match load {
            Load::Closed(clients) => (vec![0.0; clients], 0.0),
            Load::Open(rate) => (vec![0.0], rate),
        };
        let (mut queue, mut free) = (VecDeque::new(), self.workers);
        let mut busy = Vec::<(f64, f64, Vec<f64>)>::new();
        let (mut now, mut latencies) = (0.0, Vec::new());
        let first = |times: &mut dyn Iterator<Item = f64>| times.fold(f64::INFINITY, f64::min);
        while latencies.len() < REQUESTS {
            while free > 0 && !queue.is_empty() {
                let taken = choose(&queue, now, free);
                let took = self.cost.of(taken as u64) * (1.0 + 0.2 * rng.random::<f64>());
                busy.push((now + took, took, queue.drain(..taken).collect()));
                free -= 1;
            }
            let arrival = first(&mut arrivals.iter().copied());
            now = arrival.min(first(&mut busy.iter().map(|batch| batch.0)));
            if arrival <= now {
                arrivals.retain(|at| *at > now);
                // Clients that start together come together.
                let together = if let (Load::Closed(clients), 0.0) = (load, now) { clients } else { 1 };
                queue.extend(std::iter::repeat_n(now, together));
                if rate > 0.0 {
                    arrivals.push(now - (1.0 - arriving.random::<f64>()).ln() / rate);
                }
                continue;
            }
            let done = busy.iter().position(|batch| batch.0 <= now).unwrap();
            let (_, took, batch) = busy.swap_remove(done);
            observe(batch.len() as u64, took);
            free += 1;
            for came in batch {
                latencies.push(now - came);
                if rate <= 0.0 {
                    arrivals.push(now + 20.0 * rng.random::<f64>());
                }
            }
        }
        let throughput = latencies.len() as f64 / now;
        latencies.sort_by(f64::total_cmp);
        Outcome { throughput, p99: latencies[latencies.len() * 99 / 100] }
    }

    fn fixed(&self, load: Load, size: usize) -> Outcome {
        self.run(load, |queue, _, _| queue.len().min(size), |_, _| {})
    }

    fn learned(&self, load: Load) -> Outcome {
        let batcher = RefCell::new(Batcher::new(LIMITS));
        for rows in [1, 8, 1, 8] {
            batcher.borrow_mut().observe(rows, micros(self.cost.of(rows)));
        }
        let choose = |queue: &VecDeque<f64>, now: f64, free| {
            let waiting = queue.iter().map(|came| Waiting { rows: 1, waited: micros(now - came) });
            let crowd = Crowd { rows: queue.len() as u64, free, sessions: self.workers };
            batcher.borrow_mut().choose(waiting, crowd)
        };
        self.run(load, choose, |rows, took| batcher.borrow_mut().observe(rows, micros(took)))
    }
}

/// Costs of models as they are, in microseconds: nearly all fixed, two thirds, half, a third, a quarter, a tenth.
const MODELS: [(f64, f64); 6] =
    [(10.0, 0.05), (10.0, 5.0), (500.0, 500.0), (50.0, 100.0), (300.0, 900.0), (10.0, 90.0)];

#[test]
fn a_simulated_queue_never_loses_by_batching_and_comes_near_the_best_fixed_size() {
    let mut worse = Vec::new();
    for (fixed, per_row) in MODELS {
        let simulation = Simulation { workers: 2, cost: Cost { fixed, per_row } };
        let (alone, full) = (2.0 / (fixed + per_row), 2.0 / (fixed / 64.0 + per_row));
        let closed = [1, 2, 3, 4, 8, 16, 64, 256].map(Load::Closed);
        let open = [0.5 * alone, 0.9 * alone, 0.7 * full].map(Load::Open);
        for load in closed.into_iter().chain(open) {
            let (learned, alone) = (simulation.learned(load), simulation.fixed(load, 1));
            let best = [2, 4, 8, 16, 32, 64].map(|size| simulation.fixed(load, size).throughput);
            let best = best.into_iter().fold(alone.throughput, f64::max);
            let kept = [
                learned.p99 / alone.p99 <= 1.1,
                learned.throughput / alone.throughput >= 0.99,
                learned.throughput / best >= 0.8,
            ];
            if kept != [true; 3] {
                worse.push(format!("{fixed} + {per_row} b, {load:?}: {learned:?}, alone {alone:?}, best fixed {best}"));
            }
        }
    }
    assert!(worse.is_empty(), "{worse:#?}");
}
