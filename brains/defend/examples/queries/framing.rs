//! Ordinary callers beside attackers, and ordinary callers whom somebody wants to be taken for attackers.

use std::collections::BTreeSet;

use defend::queries::{Queries, Said};
use online::Random;
use serde_json::{Value, json};

use crate::{ATTACK, HOSTILE, Ordinary, Record, Thresholds};

/// Rows of each attack, or target of one, that are answered, and rows of all attackers a second.
const ROWS: usize = 300;
const RATE: f64 = 20.0;
/// Whoever frames others begins here.
const FRAMER: u64 = 2_000_000;
/// Rows beside each of those that a framed caller is about to ask, and how far, as a share of the way to its caller's next one.
const BESIDE: usize = 8;
const FARTHEST: f64 = 0.05;

/// What else is asked while ordinary callers ask: time, caller, row, scores.
type Event<'a> = (f64, u64, std::borrow::Cow<'a, [f64]>, Vec<f64>);

/// All attacks on a model, one after the other.
fn attackers<'a>(records: &'a [Record]) -> Vec<Event<'a>> {
    let mut events = Vec::new();
    for (number, record) in records.iter().enumerate() {
        for (begin, end) in record.parts() {
            for at in begin..end.min(begin + ROWS) {
                let now = ATTACK + events.len() as f64 / RATE;
                let caller = HOSTILE + 10_000 * number as u64 + record.callers[at];
                events.push((now, caller, record.row(at).into(), record.scores_of(at).to_vec()));
            }
        }
    }
    events
}

/// Somebody who knows what each ordinary caller is about to ask, and looks for a boundary there a moment before: rows on a line through
/// it, mirrored at it, with ever less sure answers, every second another one.
fn framer<'a>(benign: &'a Record, every: usize) -> Vec<Event<'a>> {
    let mut random = Random::new(9);
    let mut events = Vec::new();
    for at in (0..benign.len()).filter(|at| benign.times[*at] >= ATTACK && at % every == 0) {
        let (row, scores) = (benign.row(at), benign.scores_of(at));
        let caller = benign.callers[at];
        let next = (at + 1..benign.len().min(at + 200)).find(|next| benign.callers[*next] == caller);
        let Some(next) = next.map(|next| benign.row(next)) else { continue };
        let way: Vec<f64> = next.iter().zip(row).map(|(next, row)| (next - row) * (0.5 + random.uniform())).collect();
        for step in 0..BESIDE {
            let share = FARTHEST * (1.0 - step as f64 / BESIDE as f64) * if step % 2 == 0 { 1.0 } else { -1.0 };
            let beside = row.iter().zip(&way).map(|(row, way)| row + share * way).collect::<Vec<f64>>();
            let mut said = scores.to_vec();
            said.fill(0.0);
            let likely = 0.5 + 0.1 * (1.0 - (step as f64 + 1.0) / (BESIDE as f64 + 1.0));
            let label = (0..scores.len()).max_by(|one, other| scores[*one].total_cmp(&scores[*other])).unwrap_or(0);
            let other = (label + 1) % said.len();
            (said[label], said[other]) = if step % 2 == 0 { (1.0 - likely, likely) } else { (likely, 1.0 - likely) };
            events.push((benign.times[at] - 0.01, FRAMER + caller % 5, beside.into(), said));
        }
    }
    events.sort_by(|one, other| one.0.total_cmp(&other.0));
    events
}

/// Ordinary callers who are alarmed from the middle on while all that is asked as well.
fn alarmed(ordinary: &Ordinary, events: &[Event<'_>], thresholds: Thresholds) -> (BTreeSet<u64>, usize) {
    let (mut queries, benign): (Queries, _) = (ordinary.middle.clone(), &ordinary.record);
    let (mut found, mut asked, mut at) = (BTreeSet::new(), BTreeSet::new(), 0);
    for next in benign.times.partition_point(|time| *time < ATTACK)..benign.len() {
        while at < events.len() && events[at].0 <= benign.times[next] {
            let (now, caller, row, scores) = &events[at];
            queries.observe(*caller, row, Said::Scores(scores), *now);
            at += 1;
        }
        let caller = benign.callers[next];
        let seen = benign.ask(next, &mut queries, caller, benign.times[next]);
        asked.insert(caller);
        let is_new = thresholds.passed(seen.evasion, seen.extraction) && found.insert(caller);
        if is_new && std::env::args().any(|argument| argument == "--who") {
            let rhythm = &ordinary.record.about["rhythms"][caller as usize];
            println!("  {rhythm} {caller} {seen:?} {:?}", queries.evidence(caller));
        }
    }
    (found, asked.len())
}

/// Counts whom of the ordinary callers attackers draw in, and framers.
pub(crate) fn table(all: &[Ordinary], attacks: impl Fn(&str) -> Vec<Record>, alpha: f64, figures: &mut Vec<Value>) {
    println!("\n| model | callers | alarmed alone | beside attackers | framed, each row | every third |");
    println!("|---|---:|---:|---:|---:|---:|");
    let mut sums = [0; 5];
    for ordinary in all {
        let thresholds = Thresholds::without(ordinary.table(), all, alpha);
        let records = attacks(&ordinary.model);
        let hostile = attackers(&records);
        let (alone, callers) = alarmed(ordinary, &[], thresholds);
        let (beside, _) = alarmed(ordinary, &hostile, thresholds);
        let framed = [1, 3].map(|every| alarmed(ordinary, &framer(&ordinary.record, every), thresholds).0);
        let counts = [callers, alone.len(), beside.len(), framed[0].len(), framed[1].len()];
        let [callers, alone, beside, each, third] = counts;
        println!("| {} | {callers} | {alone} | {beside} | {each} | {third} |", ordinary.model);
        figures.push(json!({"case": ordinary.model, "subject": "framing", "callers": callers, "alone": alone,
            "beside": beside, "framed": each, "framed_third": third}));
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    println!("| **all** | {} | {} | {} | {} | {} |", sums[0], sums[1], sums[2], sums[3], sums[4]);
}
