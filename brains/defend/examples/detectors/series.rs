//! Series of measurements with strange stretches in them.

use std::collections::BTreeMap;

use defend::watch::Watch;

use super::{
    Figures, Result,
    csv::{Kind, Table},
    rows::area,
    teach::ALARMS,
};

/// Rows of a series that are only learnt: a quarter, or its part for training.
const LEARNT: f64 = 0.25;
/// Columns that are no measurements.
const NO_VALUES: [&str; 8] = ["series", "part", "t", "timestamp", "point", "changepoint", "label", "t_ms"];

/// Every series of the folder that is asked: each learns from its own beginning, which is taken for ordinary.
pub(crate) fn measure(files: &BTreeMap<Kind, Vec<Table>>, quick: bool, figures: &mut Figures) -> Result<()> {
    for table in files.get(&Kind::Series).into_iter().flatten() {
        let mut sums: [Sums; 2] = Default::default();
        let pieces: Vec<&[Vec<String>]> =
            table.rows.chunk_by(|a, b| table.cell(a, "series") == table.cell(b, "series")).collect();
        for piece in pieces.into_iter().take(if quick { 3 } else { usize::MAX }) {
            one(table, piece, &mut sums)?;
        }
        for (subject, sums) in ["ours", "rules"].into_iter().zip(&sums) {
            sums.report(&table.name, subject, figures)?;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Sums {
    fine: usize,
    false_alarms: usize,
    events: usize,
    found: usize,
    bad: usize,
    bad_found: usize,
    areas: Vec<f64>,
}

impl Sums {
    fn report(&self, case: &str, subject: &str, figures: &mut Figures) -> Result<()> {
        let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
        figures.add([case, subject, "realised_fa", ""], share(self.false_alarms, self.fine))?;
        figures.add([case, subject, "recall", "events"], share(self.found, self.events))?;
        figures.add([case, subject, "macro_recall", "events"], share(self.found, self.events))?;
        figures.add([case, subject, "point_recall", ""], share(self.bad_found, self.bad))?;
        if !self.areas.is_empty() {
            figures.add([case, subject, "roc_auc", ""], self.areas.iter().sum::<f64>() / self.areas.len() as f64)?;
        }
        Ok(())
    }

    fn add(&mut self, said: &[(f64, bool)], labels: &[bool]) {
        for event in said.iter().zip(labels).collect::<Vec<_>>().chunk_by(|a, b| a.1 == b.1) {
            let alarms = event.iter().filter(|((_, alarm), _)| *alarm).count();
            if *event[0].1 {
                self.events += 1;
                self.found += usize::from(alarms > 0);
                self.bad += event.len();
                self.bad_found += alarms;
            } else {
                self.fine += event.len();
                self.false_alarms += alarms;
            }
        }
        self.areas.extend(area(said.iter().zip(labels).map(|((score, _), bad)| (*score, *bad)).collect()));
    }
}

fn one(table: &Table, piece: &[Vec<String>], sums: &mut [Sums; 2]) -> Result<()> {
    let used: Vec<usize> =
        (0..table.header.len()).filter(|place| !NO_VALUES.contains(&table.header[*place].as_str())).collect();
    let number = |cell: &String| cell.trim().parse::<f64>().ok().filter(|value| value.is_finite()).unwrap_or(f64::NAN);
    let values: Vec<Vec<f64>> =
        piece.iter().map(|row| used.iter().map(|place| number(&row[*place])).collect()).collect();
    let labels: Vec<bool> = piece.iter().map(|row| table.is_bad(row)).collect();
    let training = piece.iter().take_while(|row| table.cell(row, "part") == "train").count();
    let learnt = if training > 0 { training } else { (values.len() as f64 * LEARNT) as usize };
    let mut watch = Watch::new(used.len(), ALARMS)?;
    let mut rule = Rule::default();
    let (mut ours, mut rules) = (Vec::new(), Vec::new());
    for (place, row) in values.iter().enumerate() {
        let seen = watch.see(row)?;
        let plain = rule.score(row);
        if place < learnt {
            rule.learn(row);
        } else {
            if place == learnt {
                rule.settle(&values[..learnt]);
            }
            ours.push((seen.score, seen.alarm));
            let plain = if place == learnt { rule.score(row) } else { plain };
            rules.push((plain, plain >= rule.threshold));
        }
    }
    sums[0].add(&ours, &labels[learnt..]);
    sums[1].add(&rules, &labels[learnt..]);
    Ok(())
}

/// The twin: how far a value is from the middle of the first part, in quarters' distances.
#[derive(Default)]
struct Rule {
    columns: Vec<Vec<f64>>,
    middle: Vec<(f64, f64)>,
    threshold: f64,
}

impl Rule {
    fn learn(&mut self, row: &[f64]) {
        self.columns.resize(row.len(), Vec::new());
        self.columns
            .iter_mut()
            .zip(row)
            .filter(|(_, value)| !value.is_nan())
            .for_each(|(column, value)| column.push(*value));
    }

    fn settle(&mut self, rows: &[Vec<f64>]) {
        for column in &mut self.columns {
            column.sort_unstable_by(f64::total_cmp);
            let at = |share: f64| column.get((column.len() as f64 * share) as usize).copied().unwrap_or(0.0);
            self.middle.push((at(0.5), (at(0.75) - at(0.25)).max(1e-9)));
        }
        let mut scores: Vec<f64> = rows.iter().map(|row| self.score(row)).collect();
        self.threshold = super::teach::highest(&mut scores, ALARMS);
    }

    fn score(&self, row: &[f64]) -> f64 {
        let far = |((middle, spread), value): (&(f64, f64), &f64)| {
            if value.is_nan() { 0.0 } else { (value - middle).abs() / spread }
        };
        self.middle.iter().zip(row).map(far).fold(0.0, f64::max)
    }
}
