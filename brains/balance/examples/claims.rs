//! What a claim costs by the number of replicas: nanoseconds for claiming one and giving it back, as JSON.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "an example that measures time, and prints it")]

use std::{hint::black_box, time::Duration};

use balance::{Outcome, Pool};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

const CLAIMS: u32 = 200_000;
const ROUNDS: usize = 7;

fn main() {
    let rows: Vec<_> =
        [1, 2, 4, 8, 16, 32, 64].map(|replicas| format!("\"{replicas}\": {:.1}", nanos(replicas))).into();
    println!("{{{}}}", rows.join(", "));
}

/// The median of some rounds.
fn nanos(replicas: u64) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| once(replicas)).collect();
    rounds.sort_by(f64::total_cmp);
    rounds.get(ROUNDS / 2).copied().unwrap_or_default()
}

fn once(replicas: u64) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut pool = Pool::new(Duration::ZERO);
    pool.set(&(0..replicas).collect::<Vec<_>>(), Duration::ZERO);
    let mut now = Duration::from_secs(60);
    let began = std::time::Instant::now();
    for _ in 0..CLAIMS {
        let sent = now;
        now += Duration::from_micros(100);
        if let Some(claimed) = black_box(pool.claim(&[], sent, &mut rng)) {
            pool.ended(&claimed, sent, now, Outcome::Answered);
        }
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(CLAIMS)
}
