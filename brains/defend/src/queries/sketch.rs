//! A row as 64 numbers, in which distances and lines are what they were.
//!
//! Columns are in units of their own spread ([`Scale`]). Up to 64 columns are taken as they are. Of more, the first half are sums
//! of columns with chance signs, each column in one of them (the count sketch of Charikar, Chen and Farach-Colton, ICALP 2002): it is
//! linear, so a line stays a line, and distances hold within some 12 %. The other half are single columns. Of more than 1,024
//! columns, 64 windows of 16 neighbours are looked at; what changes elsewhere alone is not seen.

use online::Random;

use super::scale::{Column, Scale};

/// Numbers of a sketch.
pub(super) const SIZE: usize = 64;
/// Where the single columns of a wide row begin.
pub(super) const SINGLE: usize = SIZE / 2;
/// Columns that are looked at, at most.
const LOOKED_AT: usize = 1_024;
/// Neighbours of a window of a wide row.
const WINDOW: usize = 16;
/// How far from the middle a column may seem, in spreads: what is further would drown the other columns.
const FURTHEST: f32 = 50.0;
/// What stands for a missing value, in spreads.
const MISSING: f32 = -4.0;

pub(super) type Sketch = [f32; SIZE];

/// Which columns are looked at, and where each goes.
#[derive(Debug, Clone)]
pub(super) struct Sketcher {
    width: usize,
    columns: Vec<u32>,
    /// The sum and the sign of each column that is looked at, when there are more than 64.
    sums: Vec<(u8, f32)>,
    singles: Vec<u32>,
}

impl Sketcher {
    pub(super) fn new(width: usize, random: &mut Random) -> Self {
        let columns: Vec<u32> = if width <= LOOKED_AT {
            (0..width as u32).collect()
        } else {
            let last = (width - WINDOW) as u32;
            let windows = LOOKED_AT / WINDOW;
            let mut starts: Vec<u32> = (0..windows).map(|_| random.below(last + 1)).collect();
            starts.sort_unstable();
            starts.iter().flat_map(|start| *start..*start + WINDOW as u32).collect()
        };
        let wide = columns.len() > SIZE;
        let sums = columns.iter().filter(|_| wide).map(|_| {
            let bits = random.bits();
            ((bits >> 8) as u8 % SINGLE as u8, if bits & 1 == 0 { 1.0 } else { -1.0 })
        });
        let sums: Vec<_> = sums.collect();
        let singles = (0..SINGLE).filter(|_| wide).map(|_| random.below(columns.len() as u32)).collect();
        Self { width, columns, sums, singles }
    }

    /// How many numbers a row must have.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// How many columns are looked at.
    pub(super) fn looked_at(&self) -> usize {
        self.columns.len()
    }

    /// The columns that are looked at, of a row with this number in each; infinities are missing.
    pub(super) fn pick(&self, row: impl Fn(usize) -> f64, picked: &mut Vec<f32>) {
        picked.clear();
        let number = |value: f64| if value.is_finite() { value as f32 } else { f32::NAN };
        picked.extend(self.columns.iter().map(|at| number(row(*at as usize))));
    }

    /// The sketch of what was [`pick`](Self::pick)ed.
    pub(super) fn sketch(&self, picked: &[f32], scale: &Scale) -> Sketch {
        let mut sketch = [0.0; SIZE];
        let unit = |value: f32, column: &Column| {
            if value.is_nan() { MISSING } else { column.unit(value).clamp(-FURTHEST, FURTHEST) }
        };
        if self.sums.is_empty() {
            for ((into, value), column) in sketch.iter_mut().zip(picked).zip(scale.columns()) {
                *into = unit(*value, column);
            }
            return sketch;
        }
        for (((sum, sign), value), column) in self.sums.iter().zip(picked).zip(scale.columns()) {
            if let Some(into) = sketch.get_mut(usize::from(*sum)) {
                *into += sign * unit(*value, column);
            }
        }
        for (into, at) in sketch.iter_mut().skip(SINGLE).zip(&self.singles) {
            if let (Some(value), Some(column)) = (picked.get(*at as usize), scale.columns().get(*at as usize)) {
                *into = unit(*value, column);
            }
        }
        sketch
    }

    /// Which numbers of a sketch are single columns of ordinary steps, not whole numbers: there, equal steps mean something.
    pub(super) fn smooth(&self, scale: &Scale) -> [bool; SIZE] {
        let mut smooth = [false; SIZE];
        if self.sums.is_empty() {
            for (into, column) in smooth.iter_mut().zip(scale.columns()) {
                *into = !column.grid;
            }
        } else {
            for (into, at) in smooth.iter_mut().skip(SINGLE).zip(&self.singles) {
                *into = scale.columns().get(*at as usize).is_some_and(|column| !column.grid);
            }
        }
        smooth
    }

    /// Which numbers of a sketch are single columns.
    pub(super) fn single(&self) -> [bool; SIZE] {
        let from = if self.sums.is_empty() { 0 } else { SINGLE };
        std::array::from_fn(|at| {
            at >= from && at - from < if from == 0 { self.columns.len() } else { self.singles.len() }
        })
    }

    /// Which numbers of a sketch may take any value: [`smooth`](Self::smooth) ones, and sums, unless most columns are whole.
    pub(super) fn free(&self, scale: &Scale) -> [bool; SIZE] {
        let mut free = self.smooth(scale);
        let whole = scale.columns().iter().filter(|column| column.grid).count();
        if !self.sums.is_empty() && 2 * whole < scale.columns().len() {
            free.iter_mut().take(SINGLE).for_each(|into| *into = true);
        }
        free
    }

    /// The mean distance by column of two sketches.
    pub(super) fn distance(&self, one: &Sketch, other: &Sketch) -> f32 {
        let of = if self.sums.is_empty() { SIZE } else { SINGLE };
        let sum: f32 = lanes(&one[..of], &other[..of]);
        (sum / self.columns.len().max(1) as f32).sqrt()
    }
}

/// The squared distance, in eight sums at a time, which a compiler makes one step of.
fn lanes(one: &[f32], other: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    for (one, other) in one.chunks_exact(8).zip(other.chunks_exact(8)) {
        for ((sum, one), other) in sums.iter_mut().zip(one).zip(other) {
            *sum += (one - other) * (one - other);
        }
    }
    sums.iter().sum()
}
