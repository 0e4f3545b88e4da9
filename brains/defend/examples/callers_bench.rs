//! What a million callers cost: `cargo run --release -p mantlet-defend --example callers_bench`.
//!
//! Each asks once, of one model, and goes through what a gateway counts by caller: the crowd, and the detector of queries. One was
//! suspicious at the beginning, and waits. Printed are the process's resident memory, the time of a caller, and what is still known
//! of the one who waits.

use std::{error::Error, io::Write, time::Instant};

use defend::{
    crowd::{Asked, CAPACITY, Crowd, Who},
    queries::{Queries, Said, Settings},
};
use online::Random;
use types::{
    ModelName, Timestamp,
    defence::{AgentName, Reading, Subject},
};

/// Callers after which a line is printed.
const STEPS: [u64; 3] = [10_000, 100_000, 1_000_000];
/// Columns of the model's rows.
const WIDTH: usize = 8;
/// Callers in a millisecond of the clock: a million in a quarter of an hour.
const PACE: u64 = 1;

/// Resident memory in MiB, as Linux counts it; nothing elsewhere.
fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kilobytes| kilobytes / 1_024.0)
}

fn who<'a>(subject: &'a Subject, model: &'a ModelName) -> Who<'a> {
    Who { subject, model: Some(model), autonomy: None, admin: false }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn main() -> Result<(), Box<dyn Error>> {
    let model: ModelName = "fraud".parse()?;
    let (mut crowd, mut queries) = (Crowd::new(60_000), Queries::new(Settings::default(), WIDTH, 7));
    let mut random = Random::new(1);
    let before = resident();
    let eve: Subject = "caller:bank/eve".parse()?;
    let reading = Reading {
        agent: AgentName::Intruder,
        score: 20.0,
        rule: 9.0,
        twin: 0.0,
        certain: false,
        what: "seven in ten texts are attacks".into(),
    };
    crowd.read(who(&eve, &model), reading, Timestamp(0));
    let risk = crowd.risk(&eve, Some(&model));
    crowd.drain(Timestamp(1), true);
    let (mut begun, mut last) = (Instant::now(), 0);
    for n in 1..=STEPS[2] {
        let subject: Subject = format!("caller:bank/c{n}").parse()?;
        let now = Timestamp(n / PACE);
        crowd.ask(who(&subject, &model), Asked { rows: 1, bytes: 64, cost_us: 50, ..Asked::default() }, now);
        let row: [f64; WIDTH] = std::array::from_fn(|_| random.normal());
        queries.observe(subject.number(), &row, Said::Label(u32::from(row[0] > 0.0)), now.0 as f64 / 1e3);
        if n % 200 == 0 {
            // A gateway tells the sentinel five times a second.
            crowd.drain(now, true);
        }
        if STEPS.contains(&n) {
            let took = begun.elapsed().as_secs_f64() * 1e6 / (n - last) as f64;
            let memory = resident().zip(before).map_or(f64::NAN, |(now, before)| now - before);
            writeln!(
                std::io::stdout(),
                "{n:>9} callers  {memory:>7.1} MiB  {took:>6.2} µs each  {:>6} of {CAPACITY} in the crowd  {:>6} in the detector  \
                 risk of who waits {:.1} of {risk:.1}",
                crowd.len(),
                queries.callers(),
                crowd.risk(&eve, Some(&model)),
            )?;
            (begun, last) = (Instant::now(), n);
        }
    }
    Ok(())
}
