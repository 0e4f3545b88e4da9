//! What choosing a replica costs with the plain pool and with the learnt rule, by the number of replicas: nanoseconds of a
//! claim, and of taking in how it ended, as JSON. Two requests are in flight at each replica.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "an example that measures time, and prints it")]

use std::{collections::VecDeque, hint::black_box, time::Duration};

use balance::{
    Guarded, Outcome, Pool,
    policy::{Ask, Claim, End, Policy},
    predict::Ridge,
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

const BATCHES: u64 = 4_000;
const ROUNDS: usize = 7;

fn main() {
    let sizes = [4, 16, 32, 64];
    let p2c = sizes.map(|replicas| row(replicas, || Some(Pool::new(Duration::ZERO))));
    let ours = sizes.map(|replicas| row(replicas, || Guarded::promoted(Box::<Ridge>::default(), Duration::ZERO).ok()));
    println!("{{\"p2c\": {{{}}}, \"ours\": {{{}}}}}", p2c.join(", "), ours.join(", "));
}

fn row<P: Policy>(replicas: u64, make: impl Fn() -> Option<P>) -> String {
    let mut rounds: Vec<_> = (0..ROUNDS).filter_map(|_| Some(once(replicas, make()?))).collect();
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (claim, end) = rounds.get(rounds.len() / 2).copied().unwrap_or_default();
    format!("\"{replicas}\": [{claim:.1}, {end:.1}]")
}

/// Nanoseconds of a claim and of an end.
fn once(replicas: u64, mut policy: impl Policy) -> (f64, f64) {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    policy.set(&(0..replicas).collect::<Vec<_>>(), Duration::ZERO);
    let mut now = Duration::from_secs(60);
    let mut open: VecDeque<(Claim, Ask, Duration)> = VecDeque::new();
    let (mut claiming, mut ending) = (Duration::ZERO, Duration::ZERO);
    for batch in 0..BATCHES {
        now += Duration::from_millis(2);
        let asks: Vec<Ask> =
            (0..replicas).map(|_| Ask { size: f64::from(rng.random_range(1..4_000_u32)), rows: 1 }).collect();
        let began = std::time::Instant::now();
        for ask in &asks {
            if let Some(claim) = black_box(policy.claim(ask, now, &mut rng)) {
                open.push_back((claim, *ask, now));
            }
        }
        claiming += began.elapsed();
        if batch == 0 {
            continue;
        }
        let began = std::time::Instant::now();
        for _ in 0..replicas {
            let Some((claim, ask, began)) = open.pop_front() else { break };
            let compute = Some(Duration::from_secs_f64(0.001 + ask.size * 1e-6));
            policy.ended(&End { claim, ask, began, outcome: Outcome::Answered, compute, report: None }, now);
        }
        ending += began.elapsed();
    }
    let count = (BATCHES * replicas) as f64;
    (claiming.as_secs_f64() * 1e9 / count, ending.as_secs_f64() * 1e9 / count)
}
