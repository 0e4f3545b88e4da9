//! Rows of five published generators, each in two concepts: before a change and after it.
//!
//! SEA: Street and Kim (KDD 2001). Agrawal: Agrawal, Imielinski and Swami (TKDE 1993), functions 1 and 3. LED: Breiman and
//! others (1984), its columns in another order. RBF: Bifet and others (KDD 2009), centres moved. Hyperplane: Hulten, Spencer
//! and Domingos (KDD 2001), a plane turned.
#![expect(clippy::indexing_slicing, reason = "rows of the generators' own widths")]

use online::Random;

/// A generator.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Concepts {
    /// Two of three numbers against a threshold; one label in ten is drawn anew.
    Sea,
    /// Who gets a loan.
    Agrawal,
    /// A digit by its segments, one of ten wrong.
    Led,
    /// Classes around centres.
    Rbf,
    /// The side of a plane.
    Hyperplane,
}

/// The seven segments of each digit, from the highest bit: top, upper left, upper right, middle, lower left, lower
/// right, bottom.
const SEGMENTS: [u8; 10] = [
    0b111_0111, 0b001_0010, 0b101_1101, 0b101_1011, 0b011_1010, 0b110_1011, 0b110_1111, 0b101_0010, 0b111_1111,
    0b111_1011,
];
const CENTRES: u64 = 50;

impl Concepts {
    pub(crate) const ALL: [Self; 5] = [Self::Sea, Self::Agrawal, Self::Led, Self::Rbf, Self::Hyperplane];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sea => "sea",
            Self::Agrawal => "agrawal",
            Self::Led => "led",
            Self::Rbf => "rbf",
            Self::Hyperplane => "hyperplane",
        }
    }

    pub(crate) fn width(self) -> usize {
        match self {
            Self::Sea => 3,
            Self::Agrawal => 9,
            Self::Led => 24,
            Self::Rbf | Self::Hyperplane => 10,
        }
    }

    pub(crate) fn classes(self) -> usize {
        match self {
            Self::Sea | Self::Agrawal | Self::Hyperplane => 2,
            Self::Led => 10,
            Self::Rbf => 5,
        }
    }

    /// Whether it moves from one concept to the other step by step; else it jumps.
    pub(crate) fn is_gradual(self) -> bool {
        matches!(self, Self::Rbf | Self::Hyperplane)
    }

    /// Draws a row, and its class; `moved` is 0 before the change and 1 after it, and only the gradual ones know between.
    pub(crate) fn draw(self, moved: f64, random: &mut Random, row: &mut [f64]) -> usize {
        match self {
            Self::Sea => sea(moved, random, row),
            Self::Agrawal => agrawal(moved, random, row),
            Self::Led => led(moved, random, row),
            Self::Rbf => rbf(moved, random, row),
            Self::Hyperplane => hyperplane(moved, random, row),
        }
    }
}

fn fill(random: &mut Random, row: &mut [f64], (low, high): (f64, f64)) {
    row.iter_mut().for_each(|value| *value = low + (high - low) * random.uniform());
}

/// A label, or another in so many of cases.
fn noisy(label: bool, share: f64, random: &mut Random) -> usize {
    usize::from(if random.uniform() < share { random.uniform() < 0.5 } else { label })
}

fn sea(moved: f64, random: &mut Random, row: &mut [f64]) -> usize {
    fill(random, row, (0.0, 10.0));
    let threshold = if moved < 0.5 { 8.0 } else { 9.5 };
    noisy(row[0] + row[1] <= threshold, 0.1, random)
}

fn agrawal(moved: f64, random: &mut Random, row: &mut [f64]) -> usize {
    let between = |random: &mut Random, low: f64, high: f64| low + (high - low) * random.uniform();
    let salary = between(random, 20_000.0, 150_000.0);
    let commission = if salary >= 75_000.0 { 0.0 } else { between(random, 10_000.0, 75_000.0) };
    let age = 20.0 + f64::from(random.below(61));
    let education = f64::from(random.below(5));
    let (car, zip) = (1.0 + f64::from(random.below(20)), f64::from(random.below(9)));
    let house = (9.0 - zip) * 100_000.0 * between(random, 0.5, 1.5);
    let (years, loan) = (1.0 + f64::from(random.below(30)), between(random, 0.0, 500_000.0));
    row.copy_from_slice(&[salary, commission, age, education, car, zip, house, years, loan]);
    let (young, old) = (age < 40.0, age >= 60.0);
    let granted = if moved < 0.5 {
        young || old
    } else if young {
        education <= 1.0
    } else if old {
        education >= 2.0
    } else {
        (1.0..=3.0).contains(&education)
    };
    noisy(granted, 0.1, random)
}

fn led(moved: f64, random: &mut Random, row: &mut [f64]) -> usize {
    let digit = random.below(10) as usize;
    for column in 0..row.len() {
        // After the change, columns are read from another place on: seven of 24 change their meaning.
        let place = if moved < 0.5 { column } else { (column + 5) % row.len() };
        let segment = if place < 7 {
            f64::from(u8::from((SEGMENTS[digit] >> (6 - place) & 1 == 1) != (random.uniform() < 0.1)))
        } else {
            f64::from(random.below(2))
        };
        row[column] = segment;
    }
    digit
}

fn rbf(moved: f64, random: &mut Random, row: &mut [f64]) -> usize {
    // A centre is what its number draws, so that it needs no memory.
    let number = random.below(CENTRES as u32);
    let mut centre = Random::new(u64::from(number));
    let (class, spread) = (centre.below(5) as usize, 0.1 + 0.2 * centre.uniform());
    for value in row.iter_mut() {
        let (from, to) = (centre.uniform(), centre.uniform());
        *value = from + moved * (to - from) + spread * random.normal() / 4.0;
    }
    class
}

fn hyperplane(moved: f64, random: &mut Random, row: &mut [f64]) -> usize {
    fill(random, row, (0.0, 1.0));
    let mut plane = Random::new(5);
    let (mut sum, mut whole) = (0.0, 0.0);
    for value in row.iter() {
        let (from, to) = (plane.uniform(), plane.uniform());
        let weight = from + moved * (to - from);
        sum += weight * value;
        whole += weight;
    }
    noisy(sum >= whole / 2.0, 0.05, random)
}
