//! Rows that moved and rows that did not.

use super::*;
use crate::{Feature, drift::tests::mutations};

fn schema(numbers: usize, words: u32) -> Schema {
    let mut features = Schema::numeric(numbers).unwrap().features().to_vec();
    features.push(Feature { name: "word".into(), kind: Kind::Word(words) });
    Schema::new(features).unwrap()
}

fn row(random: &mut Random, numbers: usize, shift: f64) -> Vec<f64> {
    let mut row: Vec<f64> = (0..numbers).map(|_| random.normal()).collect();
    row[0] += shift;
    row.push(f64::from(random.below(5)));
    row
}

/// Tests that alarmed, and all of them.
fn alarms(inputs: &mut Inputs, rows: usize, mut next: impl FnMut() -> Vec<f64>) -> (u32, u64) {
    let before = inputs.report().tests;
    let alarms = (0..rows).map(|_| u32::from(inputs.update(&next()) == Ok(State::Drift))).sum();
    (alarms, inputs.report().tests - before)
}

#[test]
fn a_shift_is_found_and_named() {
    let mut random = Random::new(1);
    let mut inputs = Inputs::new(schema(5, 5), Settings::default()).unwrap();
    assert_eq!(alarms(&mut inputs, 52_000, || row(&mut random, 5, 0.0)), (0, 100));
    assert_eq!(alarms(&mut inputs, 1_000, || row(&mut random, 5, 0.5)), (2, 2));
    assert_eq!(inputs.report().moved[0].map(|moved| moved.feature), Some(0));
    assert_eq!(inputs.report().moved[1], None, "only one moved");
    inputs.reset();
    assert_eq!(alarms(&mut inputs, 12_000, || row(&mut random, 5, 0.5)).0, 0, "it is the new reference");
}

#[test]
fn what_is_seen_but_does_not_matter_is_no_alarm() {
    let mut random = Random::new(2);
    let settings = Settings { reference: 60_000, window: 20_000, ..Settings::default() };
    let mut inputs = Inputs::new(schema(2, 5), settings).unwrap();
    alarms(&mut inputs, 60_000, || row(&mut random, 2, 0.0));
    assert_eq!(alarms(&mut inputs, 20_000, || row(&mut random, 2, 0.1)), (0, 1));
    let mut strict = Inputs::new(schema(2, 5), Settings { effect: 0.0, ..inputs.settings.clone() }).unwrap();
    alarms(&mut strict, 60_000, || row(&mut random, 2, 0.0));
    assert_eq!(alarms(&mut strict, 20_000, || row(&mut random, 2, 0.1)), (1, 1));
}

#[test]
fn words_and_missing_values_move_too() {
    let mut random = Random::new(3);
    for words in [5, 1 << 20] {
        let mut inputs = Inputs::new(schema(1, words), Settings::default()).unwrap();
        let code = |random: &mut Random, below: u32| f64::from(random.below(below) * (words / 5));
        alarms(&mut inputs, 2_000, || vec![0.0, code(&mut random, 5)]);
        assert_eq!(alarms(&mut inputs, 1_000, || vec![0.0, code(&mut random, 5)]).0, 0);
        assert_eq!(alarms(&mut inputs, 500, || vec![0.0, code(&mut random, 3)]).0, 1);
        assert_eq!(inputs.report().moved[0].map(|moved| moved.feature), Some(1));
    }
    let mut inputs = Inputs::new(schema(1, 5), Settings::default()).unwrap();
    let sometimes = |random: &mut Random, share: f64| if random.uniform() < share { f64::NAN } else { random.normal() };
    alarms(&mut inputs, 3_000, || vec![sometimes(&mut random, 0.05), 0.0]);
    assert_eq!(alarms(&mut inputs, 500, || vec![sometimes(&mut random, 0.4), 0.0]).0, 1);
}

#[test]
fn a_reservoir_of_rows_can_be_the_reference() {
    let mut random = Random::new(4);
    let mut inputs = Inputs::new(schema(1, 5), Settings::default()).unwrap();
    for at in 0..20_000 {
        inputs.refer(&row(&mut random, 1, f64::from(at) / 20_000.0)).unwrap();
    }
    inputs.settle();
    assert!(inputs.memory() < 8_192);
    let mixed = alarms(&mut inputs, 500, || {
        let shift = random.uniform();
        row(&mut random, 1, shift)
    });
    assert_eq!(mixed, (0, 1));
    assert_eq!(alarms(&mut inputs, 500, || row(&mut random, 1, 0.0)), (1, 1), "the first rows alone");
}

#[test]
fn rows_that_are_not_of_the_schema_change_nothing() {
    let mut inputs = Inputs::new(schema(1, 5), Settings::default()).unwrap();
    let before = inputs.save();
    for row in [vec![], vec![0.0], vec![f64::INFINITY, 0.0], vec![0.0, 5.0]] {
        assert!(inputs.update(&row).is_err() && inputs.refer(&row).is_err());
    }
    assert_eq!(inputs.save(), before);
    for settings in [
        Settings { reference: 10, ..Settings::default() },
        Settings { window: 0, ..Settings::default() },
        Settings { stride: 0, ..Settings::default() },
        Settings { alpha: 0.0, ..Settings::default() },
        Settings { effect: f64::NAN, ..Settings::default() },
    ] {
        assert!(Inputs::new(schema(1, 5), settings).is_err());
    }
}

#[test]
fn snapshots_go_on_and_hostile_ones_are_safe() {
    for rows in [150, 900] {
        let mut random = Random::new(5);
        let settings = Settings { reference: 200, window: 100, ..Settings::default() };
        let mut inputs = Inputs::new(schema(2, 5), settings).unwrap();
        alarms(&mut inputs, rows, || row(&mut random, 2, 0.0));
        let mut loaded = Inputs::load(&inputs.save()).unwrap();
        for _ in 0..500 {
            let row = row(&mut random, 2, 0.3);
            assert_eq!(inputs.update(&row), loaded.update(&row));
        }
        assert!(inputs.save() == loaded.save());
        for bytes in mutations(&inputs.save(), 500) {
            let Ok(mut loaded) = Inputs::load(&bytes) else { continue };
            for _ in 0..150 {
                let _ = loaded.update(&row(&mut random, 2, 0.0));
            }
            loaded.settle();
        }
    }
}
