//! How soon attacks on models are seen, and how many ordinary callers with them. `cargo run --release -p mantlet-defend
//! --example queries_bench -- --records DIR [--alpha 0.0001] [--out FILE] [--look NAME]
//! [--behind-nat] [--who]`.
//!
//! Records are those of evaluation/range/lab.py. Each attack is put into the ordinary traffic of its model, from the middle on.
//! Thresholds are those of ordinary callers' minutes of all models of *other* tables. `--look` prints who was alarmed, and why; with
//! `--behind-nat` attackers ask under the name of an ordinary caller who is many. Then all attacks are put beside ordinary callers, and some who want these to be
//! taken for attackers; `--who` prints who was.

#![expect(clippy::print_stdout, reason = "a bench prints its tables")]

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs,
    path::Path,
    time::Duration,
};

#[path = "queries/framing.rs"]
mod framing;

use defend::queries::{Queries, Rule, Said, Seen, Settings};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Seconds of ordinary traffic before anything counts, and before an attack begins.
const WARM: f64 = 1_800.0;
const ATTACK: f64 = 7_200.0;
/// Callers of attacks begin here.
const HOSTILE: u64 = 1_000_000;
/// Rows that are answered while an alarm becomes an act: a second of the attacker's.
const REACTION: usize = 10;

/// What lab.py recorded.
struct Record {
    about: Value,
    times: Vec<f64>,
    callers: Vec<u64>,
    rows: Vec<f64>,
    scores: Vec<f64>,
    width: usize,
    classes: usize,
}

impl Record {
    fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path)?;
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("no first line")?;
        let about: Value = serde_json::from_slice(&bytes[..end])?;
        let number = |name: &str| about[name].as_u64().unwrap_or(0) as usize;
        let (rows, width, classes) = (number("rows"), number("width"), number("classes"));
        let mut at = end + 1;
        let mut take = |length: usize| {
            at += length;
            bytes.get(at - length..at).ok_or("too short")
        };
        let floats = |bytes: &[u8]| -> Vec<f64> {
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]).into()).collect()
        };
        let times = take(rows * 8)?.chunks_exact(8);
        let times = times.map(|eight| f64::from_le_bytes(eight.try_into().unwrap_or_default())).collect();
        let callers = take(rows * 4)?.chunks_exact(4);
        let callers = callers.map(|four| u64::from(u32::from_le_bytes([four[0], four[1], four[2], four[3]]))).collect();
        let (values, scores) = (floats(take(rows * width * 4)?), floats(take(rows * classes * 4)?));
        Ok(Self { times, callers, rows: values, scores, width, classes, about })
    }

    fn len(&self) -> usize {
        self.times.len()
    }

    fn ask(&self, at: usize, queries: &mut Queries, caller: u64, now: f64) -> Seen {
        queries.observe(caller, self.row(at), Said::Scores(self.scores_of(at)), now)
    }

    fn row(&self, at: usize) -> &[f64] {
        &self.rows[at * self.width..(at + 1) * self.width]
    }

    fn scores_of(&self, at: usize) -> &[f64] {
        &self.scores[at * self.classes..(at + 1) * self.classes]
    }

    /// Where the attack on each target begins and ends.
    fn parts(&self) -> Vec<(usize, usize)> {
        let number = |value: &Value| value.as_u64().unwrap_or(0) as usize;
        let Some(targets) = self.about["targets"].as_array() else { return vec![(0, self.len())] };
        targets.iter().map(|part| (number(&part["begin"]), number(&part["end"]))).collect()
    }

    fn name(&self) -> &str {
        self.about["attack"].as_str().unwrap_or("benign")
    }
}

/// The greatest scores of a caller's minute.
#[derive(Clone, Default)]
struct Minute {
    caller: u64,
    evasion: f64,
    extraction: f64,
    rule: bool,
    /// A rule beside PRADA's.
    floor: bool,
    why: String,
}

/// A model's ordinary traffic, and the state in its middle.
struct Ordinary {
    model: String,
    record: Record,
    minutes: Vec<Minute>,
    middle: Queries,
    spent: Vec<f64>,
    micros: f64,
}

impl Ordinary {
    fn run(path: &Path) -> Result<Self> {
        let record = Record::read(path)?;
        let mut queries = Queries::new(Settings::default(), record.width, 11);
        let mut minutes: BTreeMap<(u64, u64), Minute> = BTreeMap::new();
        let (mut middle, mut spent) = (None, BTreeMap::new());
        let began = cpu();
        for at in 0..record.len() {
            let (now, caller) = (record.times[at], record.callers[at]);
            if now >= ATTACK && middle.is_none() {
                middle = Some(queries.clone());
            }
            let seen = record.ask(at, &mut queries, caller, now);
            spent.insert(caller, seen.spent);
            if now < WARM {
                continue;
            }
            let minute = minutes.entry((caller, (now / 60.0) as u64)).or_default();
            minute.caller = caller;
            if seen.evasion.max(seen.extraction) > minute.evasion.max(minute.extraction).max(10.0) {
                minute.why = queries.evidence(caller).map(|why| format!("{why:?}")).unwrap_or_default();
            }
            minute.evasion = minute.evasion.max(seen.evasion);
            minute.extraction = minute.extraction.max(seen.extraction);
            minute.rule |= seen.rule.is_some();
            minute.floor |= seen.rule.is_some_and(|rule| rule != Rule::Distances);
        }
        let micros = (cpu() - began).as_secs_f64() * 1e6 / record.len() as f64;
        let model = record.about["model"].as_str().unwrap_or_default().to_owned();
        let middle = middle.unwrap_or(queries);
        let spent = spent.into_values().collect();
        Ok(Self { model, record, minutes: minutes.into_values().collect(), middle, spent, micros })
    }

    fn table(&self) -> &str {
        self.model.split('-').next().unwrap_or_default()
    }
}

/// Scores above which a caller's minute is an alarm.
#[derive(Clone, Copy)]
struct Thresholds {
    evasion: f64,
    extraction: f64,
}

impl Thresholds {
    /// The conformal thresholds of the minutes of other tables.
    fn without(table: &str, all: &[Ordinary], alpha: f64) -> Self {
        let minutes = || all.iter().filter(|other| other.table() != table).flat_map(|other| &other.minutes);
        let quantile = |score: fn(&Minute) -> f64| {
            let mut scores: Vec<f64> = minutes().map(score).collect();
            scores.sort_by(f64::total_cmp);
            let above = ((scores.len() + 1) as f64 * alpha).floor() as usize;
            scores.len().checked_sub(above.max(1)).and_then(|at| scores.get(at).copied()).unwrap_or(f64::INFINITY)
        };
        Self { evasion: quantile(|minute| minute.evasion), extraction: quantile(|minute| minute.extraction) }
    }

    fn passed(self, evasion: f64, extraction: f64) -> bool {
        evasion > self.evasion || extraction > self.extraction
    }
}

/// When an attack was seen.
#[derive(Clone, Copy, Default)]
struct Outcome {
    rows: usize,
    /// Rows until the first alarm of any of its accounts, by ours and by the rules.
    ours: Option<usize>,
    rule: Option<usize>,
    /// Rows that were answered in all, when accounts are cut off a second after their alarm.
    answered: usize,
    /// The place of the first row that reaches the goal.
    done: Option<usize>,
    /// The place from which on no account is answered.
    closed: Option<usize>,
    /// Rows that make half of what the copy is in the end.
    half: usize,
}

/// Puts an attacker into ordinary traffic.
fn attack(
    ordinary: &Ordinary,
    record: &Record,
    part: (usize, usize),
    thresholds: Thresholds,
    look: bool,
    behind: Option<u64>,
) -> Outcome {
    let mut queries = ordinary.middle.clone();
    let benign = &ordinary.record;
    let mut next = benign.times.partition_point(|time| *time < ATTACK);
    let mut cut: BTreeMap<u64, usize> = BTreeMap::new();
    let accounts: BTreeSet<u64> = record.callers[part.0..part.1].iter().copied().collect();
    let mut outcome = Outcome { rows: part.1 - part.0, ..Outcome::default() };
    let start = record.times[part.0];
    for at in part.0..part.1 {
        let (place, now) = (at - part.0, ATTACK + record.times[at] - start);
        while next < benign.len() && benign.times[next] <= now {
            benign.ask(next, &mut queries, benign.callers[next], benign.times[next]);
            next += 1;
        }
        let caller = record.callers[at];
        if cut.get(&caller).is_none_or(|since| place < since + REACTION) {
            outcome.answered += 1;
        }
        let seen = record.ask(at, &mut queries, behind.unwrap_or(HOSTILE + caller), now);
        if thresholds.passed(seen.evasion, seen.extraction) {
            outcome.ours = outcome.ours.or(Some(place + 1));
            cut.entry(caller).or_insert(place + 1);
        }
        if seen.rule.is_some() {
            outcome.rule = outcome.rule.or(Some(place + 1));
        }
        if cut.len() == accounts.len() && outcome.closed.is_none() {
            outcome.closed = Some(place + 1 + REACTION);
        }
    }
    if look && outcome.closed.is_none() {
        for caller in accounts.iter().filter(|caller| !cut.contains_key(*caller)).take(2) {
            println!("  missed {} {:?} {:?}", record.name(), outcome.ours, queries.evidence(HOSTILE + caller));
        }
    }
    outcome
}

fn cpu() -> Duration {
    // A bench measures; the product is handed its time.
    let text = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

fn quantile(values: &[Option<usize>], share: f64) -> String {
    let mut sorted: Vec<usize> = values.iter().map(|value| value.unwrap_or(usize::MAX)).collect();
    sorted.sort_unstable();
    let at = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
    sorted.get(at).map_or("-".into(), |rows| if *rows == usize::MAX { "never".into() } else { rows.to_string() })
}

/// How many rows make half of a copy's fidelity.
fn half(curve: &Value, rows: usize) -> usize {
    let whole = fidelity(curve, rows);
    (1..=rows).find(|number| fidelity(curve, *number) >= whole / 2.0).unwrap_or(rows)
}

/// How faithful a copy is after so many rows, by its curve.
fn fidelity(curve: &Value, rows: usize) -> f64 {
    let points = curve.as_array().map(Vec::as_slice).unwrap_or_default();
    let at = |point: &Value| (point[0].as_f64().unwrap_or(0.0), point[1].as_f64().unwrap_or(0.0));
    let mut before: (f64, f64) = (0.0, 0.0);
    for point in points.iter().map(at) {
        if point.0 >= rows as f64 {
            let share = (rows as f64 - before.0) / (point.0 - before.0).max(1.0);
            return before.1 + share * (point.1 - before.1);
        }
        before = point;
    }
    before.1
}

/// Microseconds of a row of so many chance columns.
fn speed(width: usize) -> f64 {
    let (mut random, mut queries) = (online::Random::new(1), Queries::new(Settings::default(), width, 1));
    let (first, last) = (4_200_u32, 10_200_u32);
    // Each row is a piece of one long one, a step further on.
    let long: Vec<f64> = (0..width + last as usize).map(|_| random.normal()).collect();
    let mut ask = |from: u32, to: u32| {
        for n in from..to {
            let row = &long[n as usize..n as usize + width];
            queries.observe(u64::from(n % 40), row, Said::Scores(&[0.6, 0.4]), f64::from(n) / 10.0);
        }
    };
    // What is ordinary is learnt by then.
    ask(0, first);
    let began = cpu();
    ask(first, last);
    (cpu() - began).as_secs_f64() * 1e6 / f64::from(last - first)
}

fn option(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.next().and_then(|_| arguments.next())
}

fn main() -> Result<()> {
    let folder = option("--records").ok_or("--records DIR is missing")?;
    let alpha: f64 = option("--alpha").map_or(Ok(0.0001), |text| text.parse())?;
    let look = option("--look");
    let behind = std::env::args().any(|argument| argument == "--behind-nat");
    let mut paths: Vec<_> = fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let is_benign = |path: &&std::path::PathBuf| path.extension().is_some_and(|end| end == "benign");
    let all = paths.iter().filter(is_benign).map(|path| Ordinary::run(path)).collect::<Result<Vec<_>>>()?;
    let mut figures = vec![];
    for width in [16, 64, 1_000, 230_400] {
        println!("{width} columns: {:.1} µs a row", speed(width));
    }
    println!();
    ordinary_table(&all, alpha, look.as_deref(), &mut figures);
    let mut attacks: BTreeMap<String, Vec<(Outcome, f64, f64)>> = BTreeMap::new();
    println!(
        "\n| model | attack | rows to alarm p50 | p95 | rules p50 | answered p50 | success before | after | F | F when cut | half of F at |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for path in paths.iter().filter(|path| !is_benign(path) && path.extension().is_some_and(|end| end != "json")) {
        let record = Record::read(path)?;
        let model = record.about["model"].as_str().unwrap_or_default();
        let Some(ordinary) = all.iter().find(|ordinary| ordinary.model == model) else { continue };
        let thresholds = Thresholds::without(ordinary.table(), &all, alpha);
        let nat = ordinary.record.about["rhythms"].as_array();
        let nat = nat.and_then(|rhythms| rhythms.iter().position(|rhythm| rhythm == "nat"));
        let nat = nat.map(|nat| nat as u64).filter(|_| behind);
        let targets = record.about["targets"].as_array().cloned();
        let parts = targets.unwrap_or_else(|| vec![json!({"begin": 0, "end": record.len(), "done": null})]);
        let mut outcomes = vec![];
        for part in &parts {
            let (begin, end) =
                (part["begin"].as_u64().unwrap_or(0) as usize, part["end"].as_u64().unwrap_or(0) as usize);
            if begin == end {
                continue;
            }
            let mut outcome = attack(ordinary, &record, (begin, end), thresholds, look.as_deref() == Some(model), nat);
            if look.as_deref() == Some(model) {
                println!(
                    "  {} {} done {:?} of {} closed {:?} first {:?}",
                    model,
                    record.name(),
                    part["done"].as_u64().map(|done| done as usize - begin),
                    end - begin,
                    outcome.closed,
                    outcome.ours
                );
            }
            outcome.done = part["done"].as_u64().map(|done| done as usize - begin);
            let curve = &record.about["fidelity"];
            outcome.half = half(curve, outcome.rows);
            outcomes.push((outcome, fidelity(curve, outcome.rows), fidelity(curve, outcome.answered)));
        }
        row(model, record.name(), &outcomes, &mut figures);
        attacks.entry(record.name().to_owned()).or_default().extend(outcomes);
    }
    for (name, outcomes) in &attacks {
        row("**all**", name, outcomes, &mut figures);
    }
    let of_model = |model: &str| -> Vec<Record> {
        let is_its = |path: &&std::path::PathBuf| !is_benign(path) && path.extension().is_some_and(|end| end != "json");
        let records = paths.iter().filter(is_its).filter_map(|path| Record::read(path).ok());
        records.filter(|record| record.about["model"] == model).collect()
    };
    framing::table(&all, of_model, alpha, &mut figures);
    if let Some(path) = option("--out") {
        fs::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    Ok(())
}

/// What ordinary callers have of it.
fn ordinary_table(all: &[Ordinary], alpha: f64, look: Option<&str>, figures: &mut Vec<Value>) {
    println!(
        "| model | minutes | alarmed, of 1,000 | by rules | callers alarmed | by rules | of | thresholds | spent p50, p99 | µs a row |"
    );
    println!("|---|---:|---:|---:|---|---:|---:|---|---|---:|");
    let (mut total, mut alarmed, mut ruled, mut floor) = (0, 0, 0, 0);
    for ordinary in all {
        let thresholds = Thresholds::without(ordinary.table(), all, alpha);
        let rhythms = &ordinary.record.about["rhythms"];
        let passed = |minute: &&Minute| thresholds.passed(minute.evasion, minute.extraction);
        let hit: Vec<_> = ordinary.minutes.iter().filter(passed).collect();
        let by_rule: Vec<_> = ordinary.minutes.iter().filter(|minute| minute.rule).collect();
        let callers: BTreeSet<u64> = hit.iter().map(|minute| minute.caller).collect();
        let rule_callers: BTreeSet<u64> = by_rule.iter().map(|minute| minute.caller).collect();
        let everybody: BTreeSet<u64> = ordinary.minutes.iter().map(|minute| minute.caller).collect();
        let names: Vec<&str> = callers.iter().filter_map(|caller| rhythms[*caller as usize].as_str()).collect();
        let mut spent = ordinary.spent.clone();
        spent.sort_by(f64::total_cmp);
        let minutes = ordinary.minutes.len();
        let share = |number: usize| number as f64 * 1000.0 / minutes as f64;
        println!(
            "| {} | {minutes} | {:.2} | {:.1} | {} {} | {} | {} | {:.1}, {:.1} | {:.3}, {:.3} | {:.1} |",
            ordinary.model,
            share(hit.len()),
            share(by_rule.len()),
            callers.len(),
            names.join(" "),
            rule_callers.len(),
            everybody.len(),
            thresholds.evasion,
            thresholds.extraction,
            spent[spent.len() / 2],
            spent[spent.len() * 99 / 100],
            ordinary.micros,
        );
        if look == Some(ordinary.model.as_str()) || look == Some("all") {
            let mut worst = ordinary.minutes.clone();
            worst.sort_by(|one, other| other.evasion.max(other.extraction).total_cmp(&one.evasion.max(one.extraction)));
            for minute in worst.iter().take(5) {
                println!(
                    "  {}:{} evasion {:.1} extraction {:.1} {}",
                    rhythms[minute.caller as usize], minute.caller, minute.evasion, minute.extraction, minute.why
                );
            }
        }
        figures.push(json!({"case": ordinary.model, "subject": "ordinary", "alarmed": hit.len(), "by_rules": by_rule.len(), "minutes": minutes,
            "callers": callers.len(), "micros": ordinary.micros}));
        total += minutes;
        alarmed += hit.len();
        ruled += by_rule.len();
        floor += ordinary.minutes.iter().filter(|minute| minute.floor).count();
    }
    let share = |number: usize| number as f64 * 1000.0 / total.max(1) as f64;
    println!(
        "\nordinary minutes alarmed, of 1,000: {:.3}; by rules {:.1}, without PRADA's {:.1}; minutes {total}",
        share(alarmed),
        share(ruled),
        share(floor)
    );
}

fn row(model: &str, name: &str, outcomes: &[(Outcome, f64, f64)], figures: &mut Vec<Value>) {
    let of =
        |field: fn(&Outcome) -> Option<usize>| outcomes.iter().map(|(outcome, ..)| field(outcome)).collect::<Vec<_>>();
    let ours = of(|outcome| outcome.ours);
    let done = outcomes.iter().filter(|(outcome, ..)| outcome.done.is_some()).count();
    let still = |outcome: &Outcome| outcome.done.is_some_and(|done| outcome.closed.is_none_or(|closed| done < closed));
    let after = outcomes.iter().filter(|(outcome, ..)| still(outcome)).count();
    let mean =
        |field: fn(&(Outcome, f64, f64)) -> f64| outcomes.iter().map(field).sum::<f64>() / outcomes.len().max(1) as f64;
    let (whole, cut) = (mean(|outcome| outcome.1), mean(|outcome| outcome.2));
    println!(
        "| {model} | {name} | {} | {} | {} | {} | {done}/{} | {after} | {whole:.2} | {cut:.2} | {} |",
        quantile(&ours, 0.5),
        quantile(&ours, 0.95),
        quantile(&of(|outcome| outcome.rule), 0.5),
        quantile(&of(|outcome| Some(outcome.answered)), 0.5),
        outcomes.len(),
        quantile(&of(|outcome| Some(outcome.half)), 0.5),
    );
    figures.push(json!({"case": model, "subject": name, "rows_p50": quantile(&ours, 0.5), "rows_p95": quantile(&ours, 0.95),
        "rules_p50": quantile(&of(|outcome| outcome.rule), 0.5), "targets": outcomes.len(), "done": done, "done_when_cut": after,
        "fidelity": whole, "fidelity_when_cut": cut}));
}
