//! Whether a calibrated threshold holds its promise in simulated days, and how far an attacker can move it. `cargo run
//! --release --example calibrate_bench -- [--out FILE] [--quick]`.
//!
//! Days have a shape, the median drifts by a fifth a day, new callers come, and one decision in a hundred is hostile.
//! The oracle is the threshold that knows the level and lets exactly α of ordinary scores pass it.

use online::{
    Random,
    calibrate::{Calibrator, Settings, Verdict},
};

#[expect(dead_code, reason = "other benches take the rest")]
mod measure;
use measure::{Arguments, Figures, Result};

const DAY: f64 = 86_400.0;

#[derive(Clone, Copy)]
struct Days {
    callers: u32,
    decisions: u32,
    days: f64,
    drift: f64,
    /// The share of decisions that are hostile, of how many callers, and how many times as high they score.
    hostile: (f64, u32, f64),
    /// The day on which hostile callers begin.
    begin: f64,
    /// Alarms after which an independent witness confirms a hostile caller; 0 for never.
    witness: u32,
}

#[derive(Default)]
struct Outcome {
    alarms: u32,
    ordinary: u32,
    caught: u32,
    /// Hostile decisions above the oracle's threshold.
    possible: u32,
    hostile: u32,
    /// The threshold in units of what the level truly is, at the end.
    threshold: f64,
}

impl Days {
    fn run(&self, settings: Settings) -> Result<Outcome> {
        let (alpha, mut random) = (settings.alpha, Random::new(settings.seed));
        let oracle = quantile(alpha);
        let mut calibrator = Calibrator::new(settings, None)?;
        let mut outcome = Outcome::default();
        let mut alarms_of = vec![0; self.hostile.1 as usize];
        for decision in 0..self.decisions {
            let day = f64::from(decision) / f64::from(self.decisions) * self.days;
            let hostile = day >= self.begin && random.uniform() < self.hostile.0;
            let known = 0.75 + 0.25 * day / self.days;
            let caller = random.below((f64::from(self.callers) * known) as u32);
            let level = (1.0 + 0.3 * (day * std::f64::consts::TAU).sin()) * (1.0 + self.drift).powf(day);
            let (caller, units) = if hostile {
                (1_000_000 + random.below(self.hostile.1), self.hostile.2 * (0.5 + random.uniform()))
            } else {
                (caller, ordinary(&mut random, caller))
            };
            let verdict = calibrator.observe(u64::from(caller), units * level, day * DAY)?;
            outcome.threshold = calibrator.threshold().unwrap_or(f64::NAN) / level;
            let alarm = u32::from(matches!(verdict, Verdict::Alarm { .. }));
            if let Some(alarms) = alarms_of.get_mut((caller as usize).wrapping_sub(1_000_000)) {
                *alarms += alarm;
                if alarm == 1 && *alarms == self.witness {
                    calibrator.confirm(u64::from(caller));
                }
            }
            if day < 1.0 {
                continue;
            }
            if hostile {
                outcome.hostile += 1;
                outcome.caught += alarm;
                outcome.possible += u32::from(units > oracle);
            } else {
                outcome.alarms += alarm;
                outcome.ordinary += 1;
            }
        }
        Ok(outcome)
    }
}

/// An ordinary score in units of the level: callers differ by up to a half.
fn ordinary(random: &mut Random, caller: u32) -> f64 {
    (0.8 + 0.4 * f64::from(caller % 10) / 9.0) * (random.exponential() + random.exponential()) / 2.0
}

/// The quantile of ordinary scores, by a million of them.
fn quantile(alpha: f64) -> f64 {
    let mut random = Random::new(0);
    let mut scores: Vec<f64> = (0..1_000_000_u32).map(|at| ordinary(&mut random, at)).collect();
    scores.sort_unstable_by(f64::total_cmp);
    scores[(scores.len() as f64 * (1.0 - alpha)) as usize]
}

fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let mut figures = Figures::default();
    let seeds = if arguments.quick { 3 } else { 20 };
    let base = Days {
        callers: 400,
        decisions: 30_000,
        days: 5.0,
        drift: 0.2,
        hostile: (0.01, 8, 3.0),
        begin: 1.0,
        witness: 0,
    };
    for (alpha, decisions) in [(0.01, 30_000), (0.001, 100_000)] {
        let case = format!("alpha {alpha}");
        // Scores that are hardly beyond the ordinary, and clearly; nobody confirms, or somebody after ten alarms.
        for (subject, times, witness) in
            [("faint", 3.0, 0), ("faint, confirmed", 3.0, 10), ("clear", 6.0, 0), ("clear, confirmed", 6.0, 10)]
        {
            let days = Days { decisions, hostile: (0.01, 8, times), witness, ..base };
            promise([&case, subject], days, alpha, seeds, &mut figures)?;
        }
        for (subject, callers) in
            [("5 % of traffic, 1 caller", 1), ("5 % of traffic, 20 callers", 20), ("5 % of traffic, 400 callers", 400)]
        {
            let quiet = Days { decisions, hostile: (0.0, 1, 1.0), days: 4.0, begin: 3.0, drift: 0.0, ..base };
            let loud = Days { hostile: (0.05, callers, 10.0), ..quiet };
            moved(&case, subject, [quiet, loud], alpha, seeds, &mut figures)?;
        }
    }
    figures.write(arguments.out.as_deref())
}

/// The rate of false alarms over all seeds, and what is caught of what an oracle would catch.
fn promise([case, subject]: [&str; 2], days: Days, alpha: f64, seeds: u64, figures: &mut Figures) -> Result<()> {
    let (mut rates, mut all) = (Vec::new(), Outcome::default());
    for seed in 0..seeds {
        let outcome = days.run(Settings { alpha, seed, ..Settings::default() })?;
        rates.push(f64::from(outcome.alarms) / f64::from(outcome.ordinary));
        all.alarms += outcome.alarms;
        all.ordinary += outcome.ordinary;
        all.caught += outcome.caught;
        all.possible += outcome.possible;
        all.hostile += outcome.hostile;
    }
    let mean = f64::from(all.alarms) / f64::from(all.ordinary);
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / (rates.len() as f64 - 1.0);
    // Seeds are independent, decisions of one seed are not.
    let upper = mean + 1.96 * (variance / rates.len() as f64).sqrt();
    figures.add([case, subject, "decisions", ""], f64::from(all.ordinary))?;
    figures.add([case, subject, "false_alarms_of_alpha", "α"], mean / alpha)?;
    figures.add([case, subject, "false_alarms_upper_95", "α"], upper / alpha)?;
    let hostile = f64::from(all.hostile);
    figures.add([case, subject, "recall", ""], f64::from(all.caught) / hostile)?;
    figures.add([case, &format!("oracle, {subject}"), "recall", ""], f64::from(all.possible) / hostile)
}

/// How far the threshold is moved by a day of attack, beside the same day without.
fn moved(
    case: &str,
    subject: &str,
    [quiet, loud]: [Days; 2],
    alpha: f64,
    seeds: u64,
    figures: &mut Figures,
) -> Result<()> {
    let (mut total, mut most) = (0.0, 0.0_f64);
    for seed in 0..seeds {
        let settings = || Settings { alpha, seed, ..Settings::default() };
        let ratio = loud.run(settings())?.threshold / quiet.run(settings())?.threshold - 1.0;
        total += ratio;
        most = most.max(ratio.abs());
    }
    figures.add([case, subject, "moved_in_a_day", ""], total / seeds as f64)?;
    figures.add([case, subject, "moved_in_a_day_most", ""], most)
}
