//! Cells of a column: bins of numbers, or words; which of them make parts, and what a part is called.

use std::collections::{BTreeMap, BTreeSet};

use online::Value;
use serde::{Deserialize, Serialize};

/// Bins of numbers, of equal weight; words that are told apart, the most frequent. What is more is one cell, the last.
const BINS: usize = 64;
const WORDS: usize = 32;
/// Cells of a column where two are looked at together.
const COARSE: usize = 8;
/// Characters of a word that are kept.
const LETTERS: usize = 64;

/// A value, as it is kept until there are bins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Cell {
    Number(f64),
    Word(String),
    Missing,
}

impl Cell {
    pub(super) fn of(value: &Value<'_>) -> Self {
        match value {
            Value::Number(number) if number.is_finite() => Self::Number(*number),
            Value::Word(word) => Self::Word(word.chars().take(LETTERS).collect()),
            _ => Self::Missing,
        }
    }
}

/// What the cells of a column are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Axis {
    /// Where each bin but the first begins, ascending.
    Numbers(Vec<f64>),
    /// The most frequent first; all others are the last cell.
    Words(Vec<String>),
}

impl Axis {
    /// Bins of these values: by rank where most are numbers, else the words themselves.
    pub(super) fn of<'a>(values: impl Iterator<Item = &'a Cell>) -> Self {
        let (mut numbers, mut words) = (Vec::new(), BTreeMap::<&str, u32>::new());
        for value in values {
            match value {
                Cell::Number(number) => numbers.push(*number),
                Cell::Word(word) => *words.entry(word).or_default() += 1,
                Cell::Missing => {}
            }
        }
        if !words.is_empty() {
            let mut words: Vec<(&str, u32)> = words.into_iter().collect();
            words.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            return Self::Words(words.into_iter().take(WORDS).map(|(word, _)| word.to_owned()).collect());
        }
        numbers.sort_by(f64::total_cmp);
        let least = numbers.first().copied();
        let mut edges: Vec<f64> =
            (1..BINS).filter_map(|bin| numbers.get(bin * numbers.len() / BINS).copied()).collect();
        edges.retain(|edge| Some(*edge) != least);
        edges.dedup();
        Self::Numbers(edges)
    }

    /// How many cells there are.
    pub(super) fn cells(&self) -> usize {
        1 + match self {
            Self::Numbers(edges) => edges.len(),
            Self::Words(words) => words.len(),
        }
    }

    /// The cell of a value; none where it is missing, or of another kind.
    pub(super) fn place(&self, cell: &Cell) -> Option<usize> {
        match (self, cell) {
            (Self::Numbers(edges), Cell::Number(number)) => Some(edges.partition_point(|edge| edge <= number)),
            (Self::Words(words), Cell::Word(word)) => {
                Some(words.iter().position(|known| known == word).unwrap_or(words.len()))
            }
            _ => None,
        }
    }

    /// Which cells make a part: from, and to before.
    pub(super) fn parts(&self) -> Vec<(usize, usize)> {
        match self {
            Self::Numbers(_) => ranges(self.cells()),
            Self::Words(_) => (0..self.cells()).map(|cell| (cell, cell + 1)).collect(),
        }
    }

    /// How many cells there are where two columns are looked at together.
    pub(super) fn coarse(&self) -> usize {
        self.cells().min(COARSE)
    }

    /// A cell where two columns are looked at together.
    pub(super) fn coarser(&self, place: usize) -> usize {
        match self {
            Self::Numbers(_) => place * self.coarse() / self.cells(),
            Self::Words(_) => place.min(self.coarse() - 1),
        }
    }

    /// The first cell of one where two columns are looked at together.
    pub(super) fn finer(&self, coarse: usize) -> usize {
        match self {
            Self::Numbers(_) => (coarse * self.cells()).div_ceil(self.coarse()),
            Self::Words(_) if coarse == self.coarse() => self.cells(),
            Self::Words(_) => coarse,
        }
    }

    pub(super) fn coarse_parts(&self) -> Vec<(usize, usize)> {
        match self {
            Self::Numbers(_) => ranges(self.coarse()),
            Self::Words(_) => (0..self.coarse()).map(|cell| (cell, cell + 1)).collect(),
        }
    }

    /// What a part is called.
    pub(super) fn words(&self, name: &str, (from, to): (usize, usize)) -> String {
        if from >= self.cells() {
            return format!("{name} is missing");
        }
        match self {
            Self::Numbers(edges) => {
                let edge = |place: usize| place.checked_sub(1).and_then(|place| edges.get(place)).copied().map(short);
                match (edge(from), edge(to)) {
                    (Some(from), Some(to)) => format!("{from} <= {name} < {to}"),
                    (Some(from), None) => format!("{name} >= {from}"),
                    (None, Some(to)) => format!("{name} < {to}"),
                    (None, None) => format!("any {name}"),
                }
            }
            Self::Words(words) => match words.get(from).filter(|_| to == from + 1) {
                Some(word) => format!("{name} = {word}"),
                None => format!("{name} is a rare word"),
            },
        }
    }
}

/// Widths of runs of cells that make a part, wherever they lie (by a third of the wider ones); and how many from either end do.
const WIDTHS: [usize; 8] = [1, 2, 3, 4, 6, 8, 12, 16];
const ENDS: [usize; 13] = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32];

/// Runs of cells that make a part: from, and to before. Not all of them.
pub(super) fn ranges(cells: usize) -> Vec<(usize, usize)> {
    let ends = ENDS.into_iter().filter(|end| *end < cells);
    let mut ranges: BTreeSet<(usize, usize)> = ends.flat_map(|end| [(0, end), (cells - end, cells)]).collect();
    for width in WIDTHS.into_iter().filter(|width| *width < cells) {
        ranges.extend((0..=cells - width).step_by((width / 3).max(1)).map(|from| (from, from + width)));
    }
    ranges.into_iter().collect()
}

/// A number in six digits at most.
fn short(number: f64) -> String {
    let digits = 6 - number.abs().max(1e-300).log10().floor() as i32 - 1;
    let scale = 10_f64.powi(digits.clamp(-300, 300));
    let rounded = (number * scale).round() / scale;
    if rounded.is_finite() { rounded.to_string() } else { number.to_string() }
}
