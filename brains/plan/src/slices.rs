//! Where two versions disagree: a part of the inputs in which their answers differ far more often than elsewhere, seen without labels.
//!
//! A version that is as good on the whole may be wrong for a few: a country, large amounts. Both are asked the same, so each row says
//! whether they agree there. Rows are counted by column: numbers in bins of equal weight, which the first rows set, words each by
//! itself; and by two columns at a time, in coarser bins. Each part (a bin, some beside each other, all from one on, a word, two of
//! these at once) is tested by betting, as in [`canary`](crate::canary): that its answers differ no more often than the margin allows,
//! or than three times as often as outside of it. All parts share one α by weights, so that more columns find no more by chance
//! (Wang and Ramdas, JRSS-B 2022: weighted e-values under a union bound).
//!
//! Versions that are equally good differ where it is close. Where a single column says where that is, this is a part like any other, and
//! a person is asked: no count of answers without labels can tell them apart.

mod part;

use online::Value;
use serde::{Deserialize, Serialize};

use crate::canary::{bound, evidence};
use part::{Axis, Cell};

/// The probability that a part is found where there is none: over all parts, at any time; half of it for parts of two columns.
const ALPHA: f64 = 0.05;
/// Rows that say what the bins are; nothing is tested before.
const FIRST: usize = 256;
/// Columns that are looked at, at most: the first; and of these, those that are looked at two at a time.
const COLUMNS: usize = 64;
const PAIRED: usize = 12;
/// The share of answers that may differ in a part where the manifest says nothing, and how many times more than elsewhere.
const LEAST: f64 = 0.05;
const TIMES: f64 = 3.0;
/// Standard errors by which the share elsewhere is taken to be higher than it was seen: three times as much is a wide margin already.
const ERRORS: f64 = 1.0;
/// Answers of a part that differ, at least.
const FEWEST: u32 = 5;
/// Bets, as shares of the largest that can't lose all, with their weights: for parts that differ much more.
const BETS: [(f64, f64); 4] = [(0.1, 0.2), (0.2, 0.3), (0.4, 0.3), (0.7, 0.2)];

/// Rows, and those among them that are answered otherwise.
type Count = [u32; 2];

/// What two versions answered the same rows, and where they differ.
///
/// Taking a row in is O(columns + pairs of columns), a judgement O(parts), some 60,000 at most. Memory is bounded: 64 columns of 65
/// counts, 66 pairs of 64, and before the bins are set 256 rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Slices {
    names: Vec<String>,
    /// The share that may differ in any part.
    allowed: f64,
    all: Count,
    /// The first rows, until there are enough of them.
    first: Vec<(Vec<Cell>, bool)>,
    columns: Vec<Column>,
    /// Of each pair of the first columns, its cells, row by row.
    pairs: Vec<Vec<Count>>,
    found: Option<Slice>,
}

/// A column: what its cells are, and how many rows fell into each; the last holds the rows where it is missing.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Column {
    axis: Axis,
    counts: Vec<Count>,
}

/// A part of the inputs where the answers differ far more than elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Which, in words: `amount >= 310 and country = DE`.
    pub what: String,
    /// Rows in it.
    pub rows: u32,
    /// Those that are answered otherwise.
    pub differ: u32,
    /// The share outside of it.
    pub elsewhere: f64,
    /// The evidence, an e-value times its weight: 1 or more.
    pub evidence: f64,
}

impl std::fmt::Display for Slice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, rows, differ, elsewhere, .. } = self;
        write!(f, "{what}: {differ} of {rows} answers differ, {:.1}% elsewhere", 100.0 * elsewhere)
    }
}

/// Which rows a part has, before it is put into words: a range of cells of one column, or of two.
type Place = [Option<(usize, (usize, usize))>; 2];

impl Slices {
    /// Nothing seen yet, of rows with these columns; `allowed` is the share that may differ in any part, a twentieth where nothing is said.
    pub fn new(names: Vec<String>, allowed: Option<f64>) -> Self {
        let names = names.into_iter().take(COLUMNS).collect();
        let allowed = allowed.unwrap_or(LEAST);
        Self { names, allowed, all: [0; 2], first: Vec::new(), columns: Vec::new(), pairs: Vec::new(), found: None }
    }

    /// Takes a row in, whose first columns are those that this was made with, and whether it was answered otherwise.
    pub fn take(&mut self, row: &[Value<'_>], differs: bool) {
        let cells: Vec<Cell> = row.iter().take(self.names.len()).map(Cell::of).collect();
        if cells.len() < self.names.len() || self.all[0] == u32::MAX {
            return;
        }
        count(Some(&mut self.all), differs);
        if !self.columns.is_empty() || self.names.is_empty() {
            return self.add(&cells, differs);
        }
        self.first.push((cells, differs));
        if self.first.len() >= FIRST {
            self.set();
        }
    }

    /// The part where they differ most plainly, once there is one; it stays.
    pub fn judge(&mut self) -> Option<&Slice> {
        if let Some(slice) = self.test() {
            self.found = Some(slice);
        }
        self.found.as_ref()
    }

    /// How many rows were seen, and the share that is answered otherwise.
    pub fn seen(&self) -> (u32, f64) {
        (self.all[0], f64::from(self.all[1]) / f64::from(self.all[0].max(1)))
    }

    /// Whether there are rows enough for a test.
    pub fn is_set(&self) -> bool {
        !self.columns.is_empty()
    }

    /// Makes the bins of the first rows, and counts these.
    fn set(&mut self) {
        let first = std::mem::take(&mut self.first);
        let axis = |column: usize| Axis::of(first.iter().filter_map(|(cells, _)| cells.get(column)));
        let fresh = |axis: Axis| Column { counts: vec![[0; 2]; axis.cells() + 1], axis };
        self.columns = (0..self.names.len()).map(axis).map(fresh).collect();
        let sizes: Vec<usize> = self.columns.iter().take(PAIRED).map(|column| column.axis.coarse()).collect();
        self.pairs = pairs(sizes.len()).map(|(a, b)| vec![[0; 2]; sizes[a] * sizes[b]]).collect();
        first.iter().for_each(|(cells, differs)| self.add(cells, *differs));
    }

    fn add(&mut self, cells: &[Cell], differs: bool) {
        let mut coarse = [None; PAIRED];
        for (n, (column, cell)) in self.columns.iter_mut().zip(cells).enumerate() {
            let place = column.axis.place(cell);
            let missing = column.axis.cells();
            count(column.counts.get_mut(place.unwrap_or(missing)), differs);
            if let (Some(coarse), Some(place)) = (coarse.get_mut(n), place) {
                *coarse = Some(column.axis.coarser(place));
            }
        }
        for ((a, b), cells) in pairs(self.columns.len().min(PAIRED)).zip(&mut self.pairs) {
            if let (Some(at), Some(across), Some(column)) = (coarse[a], coarse[b], self.columns.get(b)) {
                count(cells.get_mut(at * column.axis.coarse() + across), differs);
            }
        }
    }

    /// The part with the most evidence, where that is enough.
    fn test(&self) -> Option<Slice> {
        let mut best: Option<(f64, Count, Place)> = None;
        let mut keep = |found: Option<f64>, of: Count, place: Place| {
            if let Some(evidence) = found.filter(|new| best.is_none_or(|(old, ..)| *new > old)) {
                best = Some((evidence, of, place));
            }
        };
        let share = ALPHA * if self.pairs.is_empty() { 1.0 } else { 0.5 };
        for (n, column) in self.columns.iter().enumerate() {
            let parts = column.axis.parts();
            let weight = share / (self.columns.len() * (parts.len() + 1)) as f64;
            let sums = sums(&column.counts);
            let missing = column.axis.cells();
            for (from, to) in parts.into_iter().chain([(missing, missing + 1)]) {
                let of = less(sums[to], sums[from]);
                keep(self.evidence(of, weight), of, [Some((n, (from, to))), None]);
            }
        }
        for ((a, b), cells) in pairs(self.columns.len().min(PAIRED)).zip(&self.pairs) {
            let (down, across) = (&self.columns[a].axis, &self.columns[b].axis);
            let (rows, columns) = (down.coarse_parts(), across.coarse_parts());
            let weight = share / (self.pairs.len() * rows.len() * columns.len()).max(1) as f64;
            let width = across.coarse();
            let lines: Vec<Vec<Count>> = cells.chunks(width.max(1)).map(sums).collect();
            for row in &rows {
                // What lies in these lines, cell by cell from the left.
                let mut of_rows = vec![[0; 2]; width + 1];
                for line in &lines[row.0..row.1] {
                    of_rows.iter_mut().zip(line).for_each(|(sum, more)| *sum = [sum[0] + more[0], sum[1] + more[1]]);
                }
                for column in &columns {
                    let of = less(of_rows[column.1], of_rows[column.0]);
                    let fine = |axis: &Axis, of: &(usize, usize)| (axis.finer(of.0), axis.finer(of.1));
                    let place = [Some((a, fine(down, row))), Some((b, fine(across, column)))];
                    keep(self.evidence(of, weight), of, place);
                }
            }
        }
        let (evidence, of, place) = best?;
        let outside = less(self.all, of);
        let words =
            |(column, range): (usize, (usize, usize))| self.columns[column].axis.words(&self.names[column], range);
        let words: Vec<String> = place.into_iter().flatten().map(words).collect();
        Some(Slice {
            what: words.join(" and "),
            rows: of[0],
            differ: of[1],
            elsewhere: f64::from(outside[1]) / f64::from(outside[0].max(1)),
            evidence,
        })
    }

    /// The evidence that so many of so many are more than is allowed, times its weight, where that is enough.
    fn evidence(&self, of @ [rows, differ]: Count, weight: f64) -> Option<f64> {
        let outside = less(self.all, of);
        // Half of all rows are no small part: the other half could be it as well.
        if differ < FEWEST || outside[0] < rows {
            return None;
        }
        let rate = f64::from(differ) / f64::from(rows);
        if rate <= self.allowed {
            return None;
        }
        let allowed = self.allowed.max(TIMES * bound(outside[1].into(), outside[0].into(), ERRORS));
        if rate <= allowed {
            return None;
        }
        let evidence = evidence(&BETS, differ.into(), rows.into(), allowed) * weight;
        (evidence >= 1.0).then_some(evidence)
    }
}

fn count(of: Option<&mut Count>, differs: bool) {
    if let Some(of) = of {
        of[0] = of[0].saturating_add(1);
        of[1] = of[1].saturating_add(u32::from(differs));
    }
}

fn less(all: Count, part: Count) -> Count {
    [all[0].saturating_sub(part[0]), all[1].saturating_sub(part[1])]
}

/// Sums of the first none, one, two and more.
fn sums(counts: &[Count]) -> Vec<Count> {
    let mut sum = [0; 2];
    let mut sums = vec![sum];
    for count in counts {
        sum = [sum[0] + count[0], sum[1] + count[1]];
        sums.push(sum);
    }
    sums
}

/// Each two of so many.
fn pairs(of: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..of).flat_map(move |a| (a + 1..of).map(move |b| (a, b)))
}

#[cfg(test)]
mod tests;
