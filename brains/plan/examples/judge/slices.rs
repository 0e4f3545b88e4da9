//! How soon a slice is found in which a version differs, and how often one where there is none.
//!
//! Rows have ten columns: log-normal amounts, whole numbers, even and normal ones, and two of words. A slice has a twentieth of the rows, its
//! place another one in each rollout; half of its answers differ, and of the rest so many as a retrained version differs in. Versions that
//! are equal differ where a linear score is close to its boundary, as retrained ones do, or more in some words than in others.

use plan::slices::Slices;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::measure::{Figures, Result};

/// Rollouts of each case, rows in which a slice is to be found, rows of one where there is none, and rows between two looks of either.
const RUNS: u64 = 500;
const WITHIN: u32 = 1_000;
const LONG: u32 = 5_000;
const LOOKS: [u32; 2] = [20, 100];
const NUMBERS: usize = 8;
const WORDS: [&[&str]; 2] = [
    &["DE", "FR", "NL", "PL"],
    &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"],
];

/// A row: its numbers, the same by rank (0..1), and its words.
struct Row {
    numbers: [f64; NUMBERS],
    ranks: [f64; NUMBERS],
    words: [usize; 2],
}

/// How probable it is that a row is answered otherwise.
#[derive(Clone, Copy)]
enum Case {
    /// Half of a twentieth of the rows, beside so many of the rest.
    Tail(f64),
    Middle(f64),
    Word(f64),
    /// The upper fifth of a column within one of four words.
    Two(f64),
    /// Two columns, a bit more than a fifth of each.
    Numbers(f64),
    /// None: evenly.
    Even(f64),
    /// Near the boundary of a score of eight columns, which weigh so much more one after the other.
    Close(f64, f64),
    /// Twice as often in some words as in others.
    Uneven(f64),
}

const CASES: [(&str, Case); 15] = [
    ("slice in the tail, 2 % elsewhere", Case::Tail(0.02)),
    ("slice in the tail, none elsewhere", Case::Tail(0.0)),
    ("slice in the tail, 5 % elsewhere", Case::Tail(0.05)),
    ("slice in the middle, 2 % elsewhere", Case::Middle(0.02)),
    ("slice of a word, 2 % elsewhere", Case::Word(0.02)),
    ("slice of a word and a column, 2 % elsewhere", Case::Two(0.02)),
    ("slice of two columns, 2 % elsewhere", Case::Numbers(0.02)),
    ("equal, 3 % differ", Case::Even(0.03)),
    ("equal, 8 % differ", Case::Even(0.08)),
    ("equal, 3 % differ near the boundary", Case::Close(0.03, 1.0)),
    ("equal, 8 % differ near the boundary", Case::Close(0.08, 1.0)),
    ("equal, 5 % differ near it, columns weigh unevenly", Case::Close(0.05, 0.7)),
    ("equal, 3 % differ, twice as often in some words", Case::Uneven(0.03)),
    ("equal, 8 % differ, twice as often in some words", Case::Uneven(0.08)),
    ("equal, 5 % differ near it, one column decides", Case::Close(0.05, 0.0)),
];

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// The normal distribution, by the logistic one with the same slope in the middle and a cubic term (Bowling et al. 2009): within 0.0002.
fn rank(z: f64) -> f64 {
    1.0 / (1.0 + (-(0.07056 * z.powi(3) + 1.5976 * z)).exp())
}

impl Row {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        let (mut numbers, mut ranks) = ([0.0; NUMBERS], [0.0; NUMBERS]);
        for (n, (number, place)) in numbers.iter_mut().zip(&mut ranks).enumerate() {
            let z = normal(rng);
            *place = rank(z);
            *number = match n % 4 {
                0 => (4.0 + z).exp(),
                1 => (*place * 100.0).floor(),
                2 => *place,
                _ => z,
            };
        }
        Self { numbers, ranks, words: WORDS.map(|words| rng.random_range(0..words.len())) }
    }
}

/// A rollout's own places and weights.
struct Draw {
    column: usize,
    other: usize,
    at: f64,
    word: usize,
}

impl Case {
    fn rate(self, row: &Row, draw: &Draw) -> f64 {
        let place = row.ranks[draw.column];
        let half = |is: bool, rest: f64| if is { 0.5 } else { rest };
        match self {
            Self::Tail(rest) => half(place >= 0.95, rest),
            Self::Middle(rest) => half((draw.at..draw.at + 0.05).contains(&place), rest),
            Self::Word(rest) => half(row.words[1] == draw.word, rest),
            Self::Two(rest) => half(row.words[0] == draw.word % 4 && place >= 0.8, rest),
            Self::Numbers(rest) => {
                half(place >= 1.0 - 0.05_f64.sqrt() && row.ranks[draw.other] >= 1.0 - 0.05_f64.sqrt(), rest)
            }
            Self::Even(share) => share,
            Self::Close(share, fades) => {
                let weight =
                    |n: usize| if n == draw.column { 1.0 } else { fades.powi(1 + ((n + 8 - draw.column) % 8) as i32) };
                let z = |n: usize| (row.ranks[n].clamp(1e-6, 1.0 - 1e-6) / (1.0 - row.ranks[n]).max(1e-6)).ln() / 1.702;
                let norm: f64 = (0..NUMBERS).map(|n| weight(n).powi(2)).sum::<f64>().sqrt();
                let score: f64 = (0..NUMBERS).map(|n| weight(n) * z(n)).sum::<f64>() / norm;
                // Half of what is this close, so many in all.
                if score.abs() < share * 2.507 { 0.5 } else { 0.0 }
            }
            Self::Uneven(share) => share * if row.words[0] < 2 { 2.0 } else { 1.0 } / 1.5,
        }
    }

    fn is_equal(self) -> bool {
        matches!(self, Self::Even(_) | Self::Close(..) | Self::Uneven(_))
    }
}

/// After how many rows a slice is found; nothing where none is.
fn run(case: Case, seed: u64) -> Option<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let column = rng.random_range(0..NUMBERS);
    let draw = Draw {
        column,
        other: (column + rng.random_range(1..NUMBERS)) % NUMBERS,
        at: rng.random_range(0.05..0.9),
        word: rng.random_range(0..WORDS[1].len()),
    };
    let names = (0..NUMBERS + WORDS.len()).map(|n| format!("column{n}")).collect();
    let mut slices = Slices::new(names, None);
    let rows = if case.is_equal() { LONG } else { WITHIN };
    for n in 1..=rows {
        let row = Row::draw(&mut rng);
        let differs = rng.random::<f64>() < case.rate(&row, &draw);
        let numbers = row.numbers.iter().map(|number| online::Value::Number(*number));
        let words = row.words.iter().zip(WORDS).map(|(word, words)| online::Value::Word(words[*word]));
        slices.take(&numbers.chain(words).collect::<Vec<_>>(), differs);
        if n % LOOKS[usize::from(case.is_equal())] == 0 && slices.judge().is_some() {
            return Some(n);
        }
    }
    None
}

/// Adds the figures: how often one is found, and after how many rows.
///
/// # Errors
/// As adding figures does.
pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    for (name, case) in CASES {
        let mut after: Vec<u32> = (0..RUNS).filter_map(|seed| run(case, seed)).collect();
        after.sort_unstable();
        figures.add([name, "slices", "found", ""], after.len() as f64 / RUNS as f64)?;
        if !case.is_equal() {
            let of = |share: f64| after.get((RUNS as f64 * share) as usize).map_or(f64::NAN, |rows| f64::from(*rows));
            figures.add([name, "slices", "rows_median", ""], of(0.5))?;
            figures.add([name, "slices", "rows_95", ""], of(0.95))?;
        }
    }
    Ok(())
}
