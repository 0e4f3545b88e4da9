//! How soon a canary that is worse is taken back, and how often one that is not. `cargo run --release -p mantlet-plan --example judge_bench --
//! [--out FILE] [--quick]`.
//!
//! Two hundred requests a second, of which the canary answers what its steps say (1, 10, 50 %) and five a second at least; each request fails by chance, and
//! takes a log-normal or heavy-tailed time. Two thousand rollouts each.
//!
//! And how soon slices are found in shadow, without labels ([`slices`]).

#[expect(dead_code, reason = "other benches take the rest")]
#[path = "../../online/examples/measure/mod.rs"]
mod measure;
#[path = "judge/slices.rs"]
mod slices;

use measure::{Arguments, Figures, Result};
use plan::canary::{Canary, Move, Side};
use rand::{Rng, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use types::{Timestamp, manifest::Rollout, quantity::Share};

/// Requests a second, and between two looks.
const RATE: u64 = 200;
const LOOK: u64 = 20;
/// Steps of a canary.
const STEPS: [f64; 3] = [0.01, 0.1, 0.5];

/// How long answers take.
#[derive(Clone, Copy)]
enum Times {
    /// Log-normal, with this spread of the logarithm.
    Spread(f64),
    /// Of a Pareto distribution with this exponent.
    Heavy(f64),
}

/// A rollout.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// Shares of requests that fail, before and now.
    errors: [f64; 2],
    times: Times,
    /// How many times slower the new version is.
    slower: f64,
}

const CASES: [Case; 10] = [
    Case { name: "equal, 0.1 % errors", errors: [0.001; 2], times: Times::Spread(0.3), slower: 1.0 },
    Case { name: "equal, 1 % errors", errors: [0.01; 2], times: Times::Spread(0.5), slower: 1.0 },
    Case { name: "equal, heavy tail", errors: [0.001; 2], times: Times::Heavy(2.5), slower: 1.0 },
    Case { name: "5 points more errors, from 0.1 %", errors: [0.001, 0.051], times: Times::Spread(0.3), slower: 1.0 },
    Case { name: "5 points more errors, from 1 %", errors: [0.01, 0.06], times: Times::Spread(0.3), slower: 1.0 },
    Case { name: "2 times slower, spread 0.2", errors: [0.001; 2], times: Times::Spread(0.2), slower: 2.0 },
    Case { name: "2 times slower, spread 0.3", errors: [0.001; 2], times: Times::Spread(0.3), slower: 2.0 },
    Case { name: "2 times slower, spread 0.5", errors: [0.001; 2], times: Times::Spread(0.5), slower: 2.0 },
    Case { name: "2 times slower, heavy tail", errors: [0.001; 2], times: Times::Heavy(2.5), slower: 2.0 },
    Case { name: "a tenth slower", errors: [0.001; 2], times: Times::Spread(0.3), slower: 1.1 },
];

impl Times {
    /// Microseconds.
    fn draw(self, rng: &mut impl Rng) -> f64 {
        let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
        match self {
            Self::Spread(spread) => {
                5_000.0 * (spread * (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()).exp()
            }
            Self::Heavy(exponent) => 3_000.0 * u.powf(-1.0 / exponent),
        }
    }
}

/// Whether it was taken back, and after how many of the canary's requests.
fn run(case: &Case, seed: u64) -> (bool, u64) {
    let rollout =
        Rollout { canary: STEPS.iter().filter_map(|share| Share::new(*share)).collect(), ..Rollout::default() };
    let Some(mut canary) = Canary::new(&rollout, Timestamp(0)) else { return (false, 0) };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut asked = 0;
    for request in 1.. {
        let side = if rng.random::<f64>() < canary.share() { Side::Canary } else { Side::Before };
        let (worse, slower) = if side == Side::Canary { (1, case.slower) } else { (0, 1.0) };
        asked += u64::from(side == Side::Canary);
        let failed = rng.random::<f64>() < case.errors.get(worse).copied().unwrap_or(0.0);
        let took = case.times.draw(&mut rng) * slower;
        canary.take(side, (!failed).then_some(took as u64));
        if request % LOOK == 0 || side == Side::Canary {
            match canary.judge(Timestamp(request * 1_000 / RATE)) {
                Move::Stay | Move::Step(_) => {}
                Move::Full => return (false, asked),
                Move::Back(_) => return (true, asked),
            }
        }
    }
    (false, asked)
}

fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let runs: u64 = if arguments.quick { 200 } else { 2_000 };
    let mut figures = Figures::default();
    for case in &CASES {
        let mut all: Vec<(bool, u64)> = (0..runs).map(|seed| run(case, seed)).collect();
        all.sort_unstable_by_key(|(_, asked)| *asked);
        let back: Vec<u64> = all.iter().filter(|(back, _)| *back).map(|(_, asked)| *asked).collect();
        let of = |share: f64| all.get((runs as f64 * share) as usize).map_or(f64::NAN, |(_, asked)| *asked as f64);
        figures.add([case.name, "judge", "taken_back", ""], back.len() as f64 / runs as f64)?;
        figures.add([case.name, "judge", "requests_median", ""], of(0.5))?;
        figures.add([case.name, "judge", "requests_95", ""], of(0.95))?;
    }
    slices::measure(&mut figures)?;
    figures.write(arguments.out.as_deref())
}
