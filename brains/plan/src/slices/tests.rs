//! Parts that differ are found and put into words, and where nothing differs nothing is found.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{part::ranges, *};

const COUNTRIES: [&str; 5] = ["DE", "FR", "NL", "PL", "SE"];

/// A row: an amount, an age in years, a country.
fn row(rng: &mut ChaCha8Rng) -> (f64, f64, usize) {
    let amount = (-(1.0 - rng.random::<f64>()).ln() * 100.0).round();
    (amount, f64::from(rng.random_range(18..80)), rng.random_range(0..5))
}

fn names() -> Vec<String> {
    ["amount", "age", "country"].map(str::to_owned).to_vec()
}

/// Rows whose answers differ with a probability that depends on them; what is found, and after how many.
fn run(seed: u64, rows: u32, rate: impl Fn((f64, f64, usize)) -> f64) -> (Option<Slice>, u32) {
    let (mut slices, mut rng) = (Slices::new(names(), None), ChaCha8Rng::seed_from_u64(seed));
    for n in 1..=rows {
        let of @ (amount, age, country) = row(&mut rng);
        let differs = rng.random::<f64>() < rate(of);
        slices.take(&[Value::Number(amount), Value::Number(age), Value::Word(COUNTRIES[country])], differs);
        if n % 20 == 0
            && let Some(slice) = slices.judge()
        {
            return (Some(slice.clone()), n);
        }
    }
    (None, rows)
}

fn found(runs: u64, rate: impl Fn((f64, f64, usize)) -> f64) -> f64 {
    (0..runs).filter(|seed| run(*seed, 1_000, &rate).0.is_some()).count() as f64 / runs as f64
}

#[test]
fn a_part_that_is_wrong_in_half_of_its_answers_is_found_and_named() {
    // A twentieth of exponential amounts lies above 300.
    let large = |(amount, ..): (f64, f64, usize)| if amount >= 300.0 { 0.5 } else { 0.02 };
    assert!(found(100, large) >= 0.95);
    let (slice, after) = run(7, 1_000, large);
    let words = slice.unwrap().to_string();
    assert!(words.starts_with("amount >= ") && words.contains(" answers differ, "), "{words} after {after}");
    let both = |(amount, _, country): (f64, f64, usize)| if amount >= 140.0 && country == 2 { 0.5 } else { 0.01 };
    assert!(found(100, both) >= 0.9);
    let words = run(7, 1_000, both).0.unwrap().to_string();
    assert!(words.contains("amount") && words.contains("country = NL"), "{words}");
}

#[test]
fn versions_that_differ_everywhere_or_mildly_unevenly_are_left_alone() {
    for share in [0.0, 0.03, 0.08, 0.5, 1.0] {
        let found = found(100, |_| share);
        assert!(found <= 0.05, "{found} at {share}");
    }
    let uneven = |(amount, age, country): (f64, f64, usize)| {
        0.02 + 0.01 * country as f64 + if amount > 100.0 { 0.02 } else { 0.0 } + if age < 40.0 { 0.02 } else { 0.0 }
    };
    assert!(found(100, uneven) <= 0.05);
}

#[test]
fn what_is_missing_or_new_has_a_cell_and_what_is_kept_is_what_was_known() {
    let mut slices = Slices::new(names(), Some(0.01));
    let mut kept: Option<Slices> = None;
    for n in 0..2_000_u32 {
        let amount = if n % 20 == 0 { f64::NAN } else { f64::from(n % 7) };
        let country = if n > 300 && n % 11 == 0 { "XX" } else { COUNTRIES[(n % 5) as usize] };
        let row = [Value::Number(amount), Value::Number(1.0), Value::Word(country)];
        slices.take(&row, n % 20 == 0);
        slices.take(&row[..1], true);
        if let Some(kept) = &mut kept {
            kept.take(&row, n % 20 == 0);
        }
        if n == 100 || n == 500 {
            kept = Some(serde_json::from_value(serde_json::to_value(&slices).unwrap()).unwrap());
        }
    }
    assert_eq!(slices.seen(), (2_000, 0.05), "rows that lack columns are passed over");
    assert_eq!(slices.judge().unwrap().what, "amount is missing");
    assert_eq!(kept.unwrap().judge(), slices.judge());
    assert!(Slices::new(Vec::new(), None).judge().is_none());
}

#[test]
fn cells_cover_everything_once_and_parts_are_none_of_them_all() {
    for cells in 1..40 {
        let parts = ranges(cells);
        assert!(parts.iter().all(|(from, to)| from < to && *to <= cells && to - from < cells), "{cells}: {parts:?}");
    }
    let numbers: Vec<Cell> = (0..100).map(|n| Cell::Number(f64::from(n / 3))).collect();
    let axis = Axis::of(numbers.iter());
    let places: Vec<usize> = numbers.iter().map(|cell| axis.place(cell).unwrap()).collect();
    assert!(places.is_sorted() && places[0] == 0 && places[99] + 1 == axis.cells(), "{places:?}");
    for coarse in 0..axis.coarse() {
        assert_eq!(axis.coarser(axis.finer(coarse)), coarse);
    }
    assert_eq!(axis.finer(axis.coarse()), axis.cells());
}
