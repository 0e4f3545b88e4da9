//! Rows of numbers and words: connections, labelled tables, table anomalies.

use std::collections::{BTreeMap, BTreeSet};

use defend::tables::{Settings, Tables};
use online::{Feature, Kind as Column, Random, Schema};

use super::{
    Figures, Result,
    csv::{FAMILY_COLUMNS, Kind, Table},
    teach::highest,
};

/// False alarms that are aimed at: fewer than the hundredth that is allowed, since ordinary rows of another day are not quite alike.
const ALARMS: f64 = 0.009;
/// Families with fewer rows are not told apart.
const FEW: usize = 40;
/// Words of a column; others are one more.
const WORDS: usize = 64;
/// Folds in which kinds of attacks are left out.
const FOLDS: usize = 4;
/// Columns that say when or which row it is, and are no features.
const NO_FEATURES: [&str; 9] = ["label", "difficulty", "timestamp", "date", "date_time", "ts", "batch", "id", "uid"];

/// Reads cells as numbers: learnt on one table, used for others of the same columns.
struct Encoder {
    columns: Vec<(String, Reading)>,
}

enum Reading {
    Number,
    /// `120/80`.
    Pair,
    Words(BTreeMap<String, usize>),
}

fn number(cell: &str) -> f64 {
    cell.trim().parse::<f64>().ok().filter(|value| value.is_finite()).unwrap_or(f64::NAN)
}

impl Encoder {
    fn of(table: &Table) -> Self {
        let mut columns = Vec::new();
        for (place, name) in table.header.iter().enumerate() {
            let dropped = NO_FEATURES.iter().chain(&FAMILY_COLUMNS).any(|other| other.eq_ignore_ascii_case(name));
            let cells: Vec<&str> =
                table.rows.iter().map(|row| row[place].trim()).filter(|cell| !cell.is_empty()).collect();
            if dropped || cells.is_empty() {
                continue;
            }
            let share =
                |is: &dyn Fn(&str) -> bool| cells.iter().filter(|cell| is(cell)).count() * 20 >= cells.len() * 19;
            let pair =
                |cell: &str| cell.split_once('/').is_some_and(|(a, b)| !number(a).is_nan() && !number(b).is_nan());
            let reading = if share(&|cell| !number(cell).is_nan()) {
                Reading::Number
            } else if share(&pair) {
                Reading::Pair
            } else {
                let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
                cells.iter().for_each(|cell| *counts.entry(cell).or_default() += 1);
                let mut order: Vec<(&str, usize)> = counts.into_iter().collect();
                order.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
                Reading::Words(
                    order
                        .into_iter()
                        .take(WORDS)
                        .enumerate()
                        .map(|(code, (word, _))| (word.to_owned(), code))
                        .collect(),
                )
            };
            columns.push((name.clone(), reading));
        }
        Self { columns }
    }

    fn schema(&self) -> Result<Schema> {
        let mut features = Vec::new();
        for (name, reading) in &self.columns {
            match reading {
                Reading::Number => features.push(Feature::number(name.clone())),
                Reading::Pair => {
                    features.extend([Feature::number(format!("{name} 1")), Feature::number(format!("{name} 2"))])
                }
                Reading::Words(words) => {
                    features.push(Feature { name: name.clone(), kind: Column::Word(words.len() as u32 + 1) })
                }
            }
        }
        Ok(Schema::new(features)?)
    }

    fn row(&self, table: &Table, row: &[String]) -> Vec<f64> {
        let mut out = Vec::new();
        for (name, reading) in &self.columns {
            let cell = table.cell(row, name).trim();
            match reading {
                Reading::Number => out.push(number(cell)),
                Reading::Pair => {
                    let (a, b) = cell.split_once('/').unwrap_or((cell, ""));
                    out.extend([number(a), number(b)]);
                }
                Reading::Words(_) if cell.is_empty() => out.push(f64::NAN),
                Reading::Words(words) => out.push(words.get(cell).copied().unwrap_or(words.len()) as f64),
            }
        }
        out
    }
}

/// A row, and what it is.
#[derive(Clone)]
struct Row {
    cells: Vec<f64>,
    bad: bool,
    family: String,
}

fn rows(encoder: &Encoder, table: &Table) -> Vec<Row> {
    let row =
        |row: &Vec<String>| Row { cells: encoder.row(table, row), bad: table.is_bad(row), family: table.family(row) };
    table.rows.iter().map(row).collect()
}

/// Both folders, or one alone.
pub(crate) fn measure(
    train: &BTreeMap<Kind, Vec<Table>>,
    test: Option<&BTreeMap<Kind, Vec<Table>>>,
    share: f64,
    figures: &mut Figures,
) -> Result<()> {
    let asked = test.unwrap_or(train);
    for kind in [Kind::Connections, Kind::Labelled, Kind::Anomalies] {
        for table in asked.get(&kind).into_iter().flatten() {
            let same = |other: &&Table| other.header == table.header && kind != Kind::Anomalies;
            let taught = test.and_then(|_| train.get(&kind)?.iter().find(same));
            match taught {
                Some(known) => {
                    let encoder = Encoder::of(known);
                    let (known, asked) = (thinned(rows(&encoder, known), share), thinned(rows(&encoder, table), share));
                    one(&table.name, &encoder, &known, &asked, figures)?;
                }
                None if kind == Kind::Connections => left_out(table, share, figures)?,
                None => own_first_half(table, kind, share, figures)?,
            }
        }
    }
    Ok(())
}

fn thinned(rows: Vec<Row>, share: f64) -> Vec<Row> {
    let each = (1.0 / share).round().max(1.0) as usize;
    rows.into_iter().step_by(each).collect()
}

/// Kinds of attacks left out in turn; half of the rest is taught, and the other half asked.
fn left_out(table: &Table, share: f64, figures: &mut Figures) -> Result<()> {
    let encoder = Encoder::of(table);
    let all = thinned(rows(&encoder, table), share);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    all.iter().filter(|row| row.bad).for_each(|row| *counts.entry(&row.family).or_default() += 1);
    let families: Vec<&str> = counts.keys().copied().collect();
    let mut known = Judged::default();
    let mut new = Judged::default();
    for fold in 0..FOLDS {
        let out: BTreeSet<&str> = families.iter().skip(fold).step_by(FOLDS).copied().collect();
        let is_out = |row: &Row| row.bad && out.contains(row.family.as_str());
        let taught: Vec<Row> = all.iter().step_by(2).filter(|row| !is_out(row)).cloned().collect();
        let asked: Vec<&Row> = all.iter().skip(1).step_by(2).filter(|row| !is_out(row)).collect();
        let judges = Judges::taught(&encoder, &taught)?;
        judges.judge(asked.iter().copied(), &mut known)?;
        judges.judge(all.iter().filter(|row| is_out(row)).chain(asked.into_iter().filter(|row| !row.bad)), &mut new)?;
    }
    known.report(&format!("{}, kinds known", table.name), figures)?;
    new.report(&format!("{}, kinds left out", table.name), figures)
}

/// Taught by one table, asked about another.
fn one(name: &str, encoder: &Encoder, known: &[Row], asked: &[Row], figures: &mut Figures) -> Result<()> {
    let judges = Judges::taught(encoder, known)?;
    let mut found = Judged::default();
    judges.judge(asked.iter(), &mut found)?;
    found.report(name, figures)?;
    let seen: BTreeSet<&str> = known.iter().filter(|row| row.bad).map(|row| row.family.as_str()).collect();
    if seen.len() > 1 {
        for (case, wanted) in [("kinds known", true), ("kinds left out", false)] {
            let mut found = Judged::default();
            judges.judge(
                asked.iter().filter(|row| !row.bad || seen.contains(row.family.as_str()) == wanted),
                &mut found,
            )?;
            found.report(&format!("{name}, {case}"), figures)?;
        }
    }
    Ok(())
}

/// The first half is taught: with its labels, or of anomalies only what is ordinary. The other half is asked.
fn own_first_half(table: &Table, kind: Kind, share: f64, figures: &mut Figures) -> Result<()> {
    let encoder = Encoder::of(table);
    let mut all = thinned(rows(&encoder, table), share);
    // Files without times are in no order that means anything, but often sorted by what they are.
    if !table.has(&["timestamp"]) {
        let mut random = Random::new(11);
        for place in (1..all.len()).rev() {
            all.swap(place, random.below(place as u32 + 1) as usize);
        }
    }
    let (first, second) = all.split_at(all.len() / 2);
    let known: Vec<Row> = first.iter().filter(|row| kind == Kind::Labelled || !row.bad).cloned().collect();
    one(&table.name, &encoder, &known, second, figures)
}

/// Ours, and the rule.
struct Judges {
    tables: Tables,
    rule: Rule,
}

impl Judges {
    /// Two in five ordinary rows say how high scores are; the rest is learnt.
    fn taught(encoder: &Encoder, known: &[Row]) -> Result<Self> {
        let mut tables = Tables::new(encoder.schema()?, Settings::default())?;
        let mut order: Vec<usize> = (0..known.len()).collect();
        let mut random = Random::new(5);
        for place in (1..order.len()).rev() {
            order.swap(place, random.below(place as u32 + 1) as usize);
        }
        let is_kept = |place: usize| !known[place].bad && place % 5 < 2;
        for place in order.iter().filter(|place| !is_kept(**place)) {
            tables.learn(&known[*place].cells, known[*place].bad)?;
        }
        let kept: Vec<&Row> = order.iter().filter(|place| is_kept(**place)).map(|place| &known[*place]).collect();
        for row in &kept {
            tables.calibrate(&row.cells)?;
        }
        tables.calibrated();
        let learnt: Vec<&Row> =
            known.iter().enumerate().filter(|(place, row)| !row.bad && !is_kept(*place)).map(|(_, row)| row).collect();
        Ok(Self { tables, rule: Rule::of(&learnt, &kept) })
    }

    fn judge<'a>(&self, rows: impl Iterator<Item = &'a Row>, found: &mut Judged) -> Result<()> {
        for row in rows {
            let ours = (self.tables.suspicion(&row.cells)?, self.tables.p_value(&row.cells)? <= ALARMS);
            let score = self.rule.score(&row.cells);
            found.0.push((row.bad, row.family.clone(), [ours, (score, score >= self.rule.threshold)]));
        }
        Ok(())
    }
}

/// The twin: how far a cell is from its column's middle, in quarters' distances; the furthest of a row.
struct Rule {
    columns: Vec<(f64, f64)>,
    threshold: f64,
}

impl Rule {
    fn of(learnt: &[&Row], kept: &[&Row]) -> Self {
        let width = learnt.first().map_or(0, |row| row.cells.len());
        let column = |place: usize| {
            let mut values: Vec<f64> =
                learnt.iter().map(|row| row.cells[place]).filter(|value| !value.is_nan()).collect();
            values.sort_unstable_by(f64::total_cmp);
            let at = |share: f64| values.get((values.len() as f64 * share) as usize).copied().unwrap_or(0.0);
            let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
            let spread =
                (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len().max(1) as f64).sqrt();
            let quarters = at(0.75) - at(0.25);
            (at(0.5), if quarters > 0.0 { quarters } else { spread.max(1e-9) })
        };
        let mut rule = Self { columns: (0..width).map(column).collect(), threshold: 0.0 };
        let mut scores: Vec<f64> = kept.iter().map(|row| rule.score(&row.cells)).collect();
        rule.threshold = highest(&mut scores, super::teach::ALARMS);
        rule
    }

    fn score(&self, cells: &[f64]) -> f64 {
        let far = |((middle, spread), value): (&(f64, f64), &f64)| {
            if value.is_nan() { 0.0 } else { (value - middle).abs() / spread }
        };
        self.columns.iter().zip(cells).map(far).fold(0.0, f64::max)
    }
}

/// What was said of rows: whether bad, of which kind, and what each subject said.
#[derive(Default)]
struct Judged(Vec<(bool, String, Said)>);

/// A score and an alarm, by subject.
type Said = [(f64, bool); 2];

impl Judged {
    fn report(&self, case: &str, figures: &mut Figures) -> Result<()> {
        for (place, subject) in ["ours", "rules"].into_iter().enumerate() {
            let share = |wanted: &dyn Fn(bool, &str) -> bool| {
                let of: Vec<bool> = self
                    .0
                    .iter()
                    .filter(|(bad, family, _)| wanted(*bad, family))
                    .map(|(.., said)| said[place].1)
                    .collect();
                (!of.is_empty()).then(|| (of.iter().filter(|alarm| **alarm).count() as f64 / of.len() as f64, of.len()))
            };
            if let Some((value, _)) = share(&|bad, _| !bad) {
                figures.add([case, subject, "realised_fa", "rows"], value)?;
            }
            let Some((value, _)) = share(&|bad, _| bad) else { continue };
            figures.add([case, subject, "recall", "rows"], value)?;
            let families: BTreeSet<&str> =
                self.0.iter().filter(|(bad, ..)| *bad).map(|(_, family, _)| family.as_str()).collect();
            let mut recalls = Vec::new();
            for family in families {
                if let Some((value, count)) = share(&|bad, other| bad && other == family)
                    && count >= FEW
                {
                    figures.add([case, subject, &format!("recall:{family}"), "rows"], value)?;
                    recalls.push(value);
                }
            }
            if !recalls.is_empty() {
                figures
                    .add([case, subject, "macro_recall", "rows"], recalls.iter().sum::<f64>() / recalls.len() as f64)?;
            }
            let scores: Vec<(f64, bool)> = self.0.iter().map(|(bad, _, said)| (said[place].0, *bad)).collect();
            if let Some(area) = area(scores) {
                figures.add([case, subject, "roc_auc", "rows"], area)?;
            }
        }
        Ok(())
    }
}

/// The area under the receiver's curve: how often a bad one scores higher than another, equal ones counted half.
pub(crate) fn area(mut scores: Vec<(f64, bool)>) -> Option<f64> {
    scores.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut sum, mut below, mut bad) = (0.0, 0.0, 0.0);
    for equal in scores.chunk_by(|a, b| a.0 == b.0) {
        let worse = equal.iter().filter(|(_, bad)| *bad).count() as f64;
        let fine = equal.len() as f64 - worse;
        sum += worse * (below + fine / 2.0);
        below += fine;
        bad += worse;
    }
    (below > 0.0 && bad > 0.0).then(|| sum / (below * bad))
}
