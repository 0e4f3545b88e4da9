//! Whether all agents together keep their budget of alarms through a simulated day, whom that costs, and what fusing their evidence
//! is worth. `cargo run --release -p mantlet-defend --example budget_bench -- [--out FILE] [--quick]`.
//!
//! Judges and arbiter are driven as the sentinel drives them, window by window ([`day`]); beliefs of many subjects are compared with
//! what single agents say, and with their plain sum ([`fusion`]).

#[path = "budget/day.rs"]
mod day;
#[path = "budget/fusion.rs"]
mod fusion;
#[path = "budget/habit.rs"]
mod habit;
#[expect(dead_code, reason = "other benches take the rest")]
#[path = "../../online/examples/measure/mod.rs"]
mod measure;

use day::{Day, Outcome};
use habit::AGENTS;
use measure::{Arguments, Figures, Result};
use online::Random;

/// Draws of a bootstrap.
const DRAWS: usize = 4_000;

fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let mut figures = Figures::default();
    let seeds = if arguments.quick { 3 } else { 20 };
    let base = Day { callers: 320, budget: 0.01, hostile: (0.0, 0.0) };
    let polluted = |times| Day { hostile: (0.01, times), ..base };
    for (case, day) in [
        ("nobody hostile", base),
        ("1 % hostile, faint", polluted(3.0)),
        ("1 % hostile, clear", polluted(6.0)),
        ("1 % hostile, loud", polluted(20.0)),
        ("20 callers, nobody hostile", Day { callers: 20, ..base }),
        ("budget 0.1 %, nobody hostile", Day { budget: 0.001, ..base }),
    ] {
        let outcomes: Vec<Outcome> = (0..seeds).map(|seed| day.run(seed)).collect();
        tell(case, &day, &outcomes, &mut figures)?;
    }
    fusion::run(seeds, &mut figures)?;
    figures.write(arguments.out.as_deref())
}

/// The upper 95 % bound of a rate: days are drawn anew, since windows of one day hang together (a bootstrap with a day as block).
fn upper(outcomes: &[Outcome]) -> f64 {
    let mut random = Random::new(7);
    let mut rates: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let drawn = (0..outcomes.len()).filter_map(|_| outcomes.get(random.below(outcomes.len() as u32) as usize));
            let (alarms, decisions) = drawn.fold((0, 0), |(a, d), one| (a + one.alarms, d + one.decisions));
            f64::from(alarms) / f64::from(decisions.max(1))
        })
        .collect();
    rates.sort_unstable_by(f64::total_cmp);
    rates.get(DRAWS * 95 / 100).copied().unwrap_or(f64::NAN)
}

fn tell(case: &str, day: &Day, outcomes: &[Outcome], figures: &mut Figures) -> Result<()> {
    let sum = |of: &dyn Fn(&Outcome) -> u32| outcomes.iter().map(|one| f64::from(of(one))).sum::<f64>();
    let (decisions, alarms) = (sum(&|one| one.decisions), sum(&|one| one.alarms));
    let subject = "all agents";
    figures.add([case, subject, "decisions", ""], decisions)?;
    figures.add(
        [case, subject, "decisions_of_least_seed", ""],
        f64::from(outcomes.iter().map(|o| o.decisions).min().unwrap_or(0)),
    )?;
    figures.add([case, subject, "false_alarms_of_budget", ""], alarms / decisions / day.budget)?;
    figures.add([case, subject, "false_alarms_upper_95", ""], upper(outcomes) / day.budget)?;
    for (place, agent) in AGENTS.iter().enumerate() {
        let of = sum(&|one| one.by_agent.get(place).copied().unwrap_or(0));
        figures.add([case, agent.as_str(), "false_alarms_of_its_part", ""], of / decisions / day.alpha())?;
    }
    let hours = (0..24).map(|hour| {
        let of = |which: fn(&(u32, u32)) -> u32| sum(&|one| one.by_hour.get(hour).map_or(0, which));
        of(|(_, alarms)| *alarms) / of(|(decisions, _)| *decisions).max(1.0)
    });
    figures.add([case, subject, "worst_hour_of_budget", ""], hours.fold(0.0, f64::max) / day.budget)?;
    let worst = outcomes.iter().map(|one| one.worst).sum::<f64>() / outcomes.len() as f64;
    figures.add([case, subject, "worst_caller_of_budget", ""], worst / day.budget)?;
    let callers = sum(&|one| one.callers);
    figures.add([case, subject, "ordinary_callers_restricted", ""], sum(&|one| one.restricted) / callers)?;
    figures.add([case, subject, "ordinary_callers_refused", ""], sum(&|one| one.refused) / callers)?;
    if day.hostile.0 > 0.0 {
        figures
            .add([case, subject, "hostile_windows_alarmed", ""], sum(&|one| one.caught) / sum(&|one| one.hostile))?;
        figures.add([case, subject, "hostile_callers_restricted", ""], sum(&|one| one.found) / sum(&|one| one.foes))?;
    }
    Ok(())
}
