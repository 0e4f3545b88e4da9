//! Whether a row's columns hang together as ordinary ones do: a tree of columns (Chow and Liu, IEEE Transactions on Information
//! Theory 1968), against the same columns shuffled apart.
//!
//! Rows of another domain, or put together of natural values, have ordinary columns and are near ordinary rows, but not their pairs.
//! Columns are cut at quartiles of the sample; each but the first of the tree has the column before it that tells most about it. A
//! row's score is how much likelier its pairs are than by chance, in nats: its mean over ordinary rows is what the columns tell of each
//! other, over shuffled ones it is negative.

use super::sketch::{SIZE, Sketch};

/// Parts that a column is cut into.
const PARTS: usize = 4;
/// What each pair of parts is taken to have been seen before any was.
const PRIOR: f32 = 0.5;

/// A pair of columns, and what each pair of their parts says, in nats.
#[derive(Debug, Clone)]
struct Pair {
    columns: (usize, usize),
    says: [[f32; PARTS]; PARTS],
}

/// Memory: 72 bytes a column, and at most 64 of those.
#[derive(Debug, Clone, Default)]
pub(super) struct Joint {
    cuts: Vec<[f32; PARTS - 1]>,
    pairs: Vec<Pair>,
    /// Scores of ordinary rows that it was not learnt from, rising.
    scores: Vec<f32>,
}

impl Joint {
    /// Learns from one half of the sample and scores the other. `single` are the numbers that are columns. O(columns² × rows).
    pub(super) fn learn(sample: &[Sketch], single: &[bool; SIZE]) -> Self {
        let columns: Vec<usize> = (0..SIZE).filter(|at| single.get(*at).copied().unwrap_or(false)).collect();
        let cuts = (0..SIZE).map(|at| cut(sample, at)).collect();
        let mut joint = Self { cuts, ..Self::default() };
        let parts: Vec<[u8; SIZE]> = sample.iter().map(|row| joint.parts(row)).collect();
        // Neighbours in time are alike: every second one is left out.
        let learnt: Vec<[u8; SIZE]> = parts.iter().step_by(2).copied().collect();
        joint.pairs = tree(&learnt, &columns);
        joint.scores = parts.iter().skip(1).step_by(2).map(|row| joint.score(row)).collect();
        joint.scores.sort_unstable_by(f32::total_cmp);
        joint
    }

    /// The share of ordinary rows that hang together as little, an upper bound.
    pub(super) fn torn(&self, row: &Sketch) -> f32 {
        let score = self.score(&self.parts(row));
        let as_little = self.scores.partition_point(|other| *other <= score);
        (as_little + 1) as f32 / (self.scores.len() + 1) as f32
    }

    fn parts(&self, row: &Sketch) -> [u8; SIZE] {
        let mut parts = [0; SIZE];
        for ((into, value), cuts) in parts.iter_mut().zip(row).zip(&self.cuts) {
            *into = cuts.iter().filter(|cut| value > *cut).count() as u8;
        }
        parts
    }

    fn score(&self, parts: &[u8; SIZE]) -> f32 {
        let part = |column: usize| usize::from(parts.get(column).copied().unwrap_or(0)) % PARTS;
        self.pairs.iter().map(|pair| pair.says[part(pair.columns.0)][part(pair.columns.1)]).sum()
    }
}

/// The quartiles of a column.
fn cut(sample: &[Sketch], column: usize) -> [f32; PARTS - 1] {
    let mut values: Vec<f32> = sample.iter().filter_map(|row| row.get(column)).copied().collect();
    values.sort_unstable_by(f32::total_cmp);
    let at = |part: usize| values.get(values.len() * part / PARTS).copied().unwrap_or(0.0);
    std::array::from_fn(|cut| at(cut + 1))
}

/// The tree of columns whose pairs tell most about each other, from the first column on (Prim 1957).
fn tree(rows: &[[u8; SIZE]], columns: &[usize]) -> Vec<Pair> {
    let mut left: Vec<(usize, Option<(f32, Pair)>)> = columns.iter().skip(1).map(|column| (*column, None)).collect();
    let (mut newest, mut pairs) = (columns.first().copied(), Vec::new());
    while let Some(column) = newest {
        for (other, best) in &mut left {
            let (tells, pair) = pair(rows, column, *other);
            if best.as_ref().is_none_or(|(most, _)| tells > *most) {
                *best = Some((tells, pair));
            }
        }
        let tells = |at: &usize| left.get(*at).and_then(|(_, best)| best.as_ref()).map_or(0.0, |(tells, _)| *tells);
        let next = (0..left.len()).max_by(|one, other| tells(one).total_cmp(&tells(other)));
        let taken = next.map(|next| left.swap_remove(next));
        newest = taken.as_ref().map(|(column, _)| *column);
        pairs.extend(taken.and_then(|(_, best)| best).map(|(_, pair)| pair));
    }
    pairs
}

/// What two columns tell of each other, in nats, and what each pair of their parts says.
fn pair(rows: &[[u8; SIZE]], one: usize, other: usize) -> (f32, Pair) {
    let mut seen = [[PRIOR; PARTS]; PARTS];
    for row in rows {
        let part = |column: usize| usize::from(row.get(column).copied().unwrap_or(0)) % PARTS;
        seen[part(one)][part(other)] += 1.0;
    }
    let all: f32 = seen.iter().flatten().sum();
    let of_one = seen.map(|row| row.iter().sum::<f32>());
    let of_other: [f32; PARTS] = std::array::from_fn(|at| seen.iter().map(|row| row[at]).sum());
    let (mut says, mut tells) = ([[0.0; PARTS]; PARTS], 0.0);
    for (at, row) in seen.iter().enumerate() {
        for (with, count) in row.iter().enumerate() {
            says[at][with] = (count * all / (of_one[at] * of_other[with])).ln();
            tells += count / all * says[at][with];
        }
    }
    (tells, Pair { columns: (one, other), says })
}

#[cfg(test)]
mod tests {
    use online::Random;

    use super::*;

    #[test]
    fn shuffled_columns_are_torn_and_ordinary_rows_are_not() {
        let mut random = Random::new(3);
        let mut rows = || -> Vec<Sketch> {
            let row = |random: &mut Random| {
                let (one, other) = (random.normal() as f32, random.normal() as f32);
                std::array::from_fn(|at| match at {
                    0..12 => [one, other][at % 2] + 0.3 * random.normal() as f32,
                    _ => 0.0,
                })
            };
            (0..500).map(|_| row(&mut random)).collect()
        };
        let (sample, others) = (rows(), rows());
        let single = std::array::from_fn(|at| at < 12);
        let joint = Joint::learn(&sample, &single);
        let torn = |rows: &[Sketch]| rows.iter().filter(|row| joint.torn(row) <= 0.05).count();
        let shuffled: Vec<Sketch> =
            (0..500).map(|n| std::array::from_fn(|at| others[(n + 37 * at) % 500][at])).collect();
        assert!((5..60).contains(&torn(&others)), "{}", torn(&others));
        assert!(torn(&shuffled) > 400, "{}", torn(&shuffled));
    }

    #[test]
    fn nothing_is_torn_where_nothing_was_learnt_or_columns_tell_nothing() {
        assert_eq!(Joint::default().torn(&[0.0; SIZE]), 1.0);
        let joint = Joint::learn(&[[1.0; SIZE]; 9], &[true; SIZE]);
        assert_eq!(joint.torn(&[1.0; SIZE]), 1.0);
        assert_eq!(Joint::learn(&[], &[true; SIZE]).torn(&[f32::NAN; SIZE]), 1.0);
    }
}
