//! Synthetic loads on which a network is taught: nothing of them is of a trace.

use std::{f64::consts::TAU, sync::Arc};

use online::Random;
use plan::scale::{PRICE, Terms, Tutor, network::Network};

use crate::{
    Result,
    simulator::{SERVICE, run},
};

/// Seconds of a load.
const LENGTH: usize = 14_400;

/// A load with a season, slow noise, noise of each second, and bursts now and then.
fn load(random: &mut Random) -> Vec<f64> {
    let busy = (1.0 + 3.0 * random.uniform()).exp() / SERVICE;
    let (swing, period, phase) =
        (0.6 * random.uniform(), 3_600.0 * (1.0 + 23.0 * random.uniform()), TAU * random.uniform());
    let (slow, over, bursts) =
        (0.002 * random.uniform(), 0.1 * random.uniform(), 1.0 / (1_800.0 + 14_400.0 * random.uniform()));
    let (mut mood, mut burst): (f64, (f64, u32)) = (0.0, (1.0, 0));
    (0..LENGTH)
        .map(|second| {
            mood = 0.9995 * mood + slow * 5.0 * random.normal();
            if burst.1 == 0 && random.uniform() < bursts {
                burst = (1.5 + 8.0 * random.uniform().powi(2), 30 + random.below(600));
            }
            let times = if burst.1 > 0 { burst.0 } else { 1.0 };
            burst.1 = burst.1.saturating_sub(1);
            let season = 1.0 + swing * (TAU * second as f64 / period + phase).sin();
            let rate = busy * season * mood.exp() * times;
            (rate + (rate + over * rate * rate).sqrt() * random.normal()).round().max(0.0)
        })
        .collect()
}

/// A network that has seen so many loads, ever less curious.
pub(crate) fn taught(loads: u32) -> Result<Arc<Network>> {
    let mut random = Random::new(99);
    let mut tutor = Tutor::new(5);
    for turn in 0..loads {
        let cold = [1.0, 5.0, 15.0, 30.0, 60.0].get(random.below(5) as usize).copied().unwrap_or(5.0);
        let terms = Terms { lanes: 1, slo: 1.0, cold, bounds: (1, 1_000), price: PRICE };
        let curious = (1.0 - f64::from(turn) / (0.7 * f64::from(loads))).max(0.05);
        let mut pupil = tutor.pupil(terms, curious)?;
        run(&load(&mut random), &terms, &mut pupil);
        tutor.learn(pupil);
    }
    Ok(tutor.network())
}
