//! Loads by the second, from traces that say less.

use rand::{Rng, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{simulator::SERVICE, traces::Trace};

/// Replicas that a trace keeps busy on average.
const BUSY: f64 = 6.0;
/// How much the rate of single seconds varies around its minute: the squared coefficient of variation.
const OVER: f64 = 0.05;
/// From one burst to the next, and when the first begins.
const BURSTS: (usize, usize) = (21_600, 5_400);
/// How long one lasts, and by how much it is more.
const BURST: (usize, f64) = (300, 10.0);

/// Requests of each second, NaN where nothing was counted: between two counts the rate goes in a line, around which seconds are drawn from a gamma
/// and a Poisson distribution; counts of single seconds are only scaled. `longest` is in seconds.
pub(crate) fn drawn(trace: &Trace, longest: usize, seed: u64) -> Vec<f64> {
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    let steps = trace.interval.round().max(1.0) as usize;
    let values: Vec<f64> = trace.values.iter().copied().take(longest / steps + 1).collect();
    let counted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let mean = counted.iter().sum::<f64>() / counted.len().max(1) as f64;
    let scale = BUSY / SERVICE / mean.max(1e-9);
    let mut requests = Vec::with_capacity(values.len() * steps);
    for pair in values.windows(2) {
        let &[first, second] = pair else { continue };
        for step in 0..steps {
            let part = step as f64 / steps as f64;
            let rate = scale * (first * (1.0 - part) + second * part);
            requests.push(match steps {
                _ if !rate.is_finite() => f64::NAN,
                1 => poisson(scale * first, random),
                _ => poisson(rate * gamma(random), random),
            });
        }
    }
    requests
}

/// The same with bursts.
pub(crate) fn with_bursts(requests: &[f64]) -> Vec<f64> {
    let mut burst = requests.to_vec();
    for begin in (BURSTS.1..requests.len().saturating_sub(2 * BURST.0)).step_by(BURSTS.0) {
        burst.iter_mut().skip(begin).take(BURST.0).for_each(|count| *count *= BURST.1);
    }
    burst
}

fn normal(random: &mut impl Rng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - random.random::<f64>(), random.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// A gamma deviate of mean 1 and variance [`OVER`] (the cube of a normal one, Wilson and Hilferty 1931).
fn gamma(random: &mut impl Rng) -> f64 {
    let ninth = OVER / 9.0;
    (1.0 - ninth + normal(random) * ninth.sqrt()).max(0.0).powi(3)
}

/// A Poisson deviate; of large means a rounded normal one.
fn poisson(mean: f64, random: &mut impl Rng) -> f64 {
    if mean > 50.0 {
        return (mean + mean.sqrt() * normal(random)).round().max(0.0);
    }
    let (limit, mut product, mut count) = ((-mean).exp(), random.random::<f64>(), 0.0);
    while product > limit {
        product *= random.random::<f64>();
        count += 1.0;
    }
    count
}
