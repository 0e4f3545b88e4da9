//! Figures against those worked out by hand, or by the definition.

use proptest::prelude::*;

use super::*;
use crate::{Error, Snapshot};

fn judged(rows: &[([f64; 3], usize)], settings: Settings) -> Classes {
    let mut judge = Classes::new(settings, 3, Some(2)).unwrap();
    for (probabilities, class) in rows {
        judge.observe(Answer::Probabilities(probabilities), *class).unwrap();
    }
    judge
}

#[test]
fn figures_are_those_of_the_definitions() {
    let rows = [([0.7, 0.2, 0.1], 0), ([0.1, 0.6, 0.3], 2), ([0.0, 0.1, 0.9], 2), ([0.5, 0.4, 0.1], 1)];
    let figures = judged(&rows, Settings::default()).report().since_start;
    assert_eq!((figures.rows, figures.accuracy), (4, Some(0.5)));
    // Recalls 1, 0 and 1/2; of four rows, answers are 0, 1, 2, 0.
    assert_eq!(figures.balanced_accuracy, Some(0.5));
    let chance = (1.0 * 2.0 + 1.0 * 1.0 + 2.0 * 1.0) / 16.0;
    assert!((figures.kappa.unwrap() - (0.5 - chance) / (1.0 - chance)).abs() < 1e-12);
    let log_loss = -(0.7_f64.ln() + 0.3_f64.ln() + 0.9_f64.ln() + 0.4_f64.ln()) / 4.0;
    assert!((figures.log_loss.unwrap() - log_loss).abs() < 1e-6);
    assert_eq!((figures.precision, figures.recall), (Some(1.0), Some(0.5)));
    let off = ((0.7_f64 - 1.0).abs() + 0.6 + (0.9_f64 - 1.0).abs() + 0.5) / 4.0;
    assert!((figures.calibration_error.unwrap() - off).abs() < 1e-6);
    assert_eq!(figures.auc, None, "two positive rows are too few");
}

#[test]
fn an_area_is_the_share_of_pairs_in_order() {
    let mut judge = Classes::new(Settings::default(), 2, Some(1)).unwrap();
    let mut scores = [Vec::new(), Vec::new()];
    for n in 0..200_u32 {
        let class = usize::from(n % 3 == 0);
        let score = f64::from((n * 37 + 11 * class as u32) % 101) / 101.0;
        scores[class].push(score);
        judge.observe(Answer::Probabilities(&[1.0 - score, score]), class).unwrap();
    }
    let pairs = scores[1].iter().flat_map(|yes| scores[0].iter().map(move |no| (yes, no)));
    let in_order: f64 = pairs.map(|(yes, no)| if yes > no { 1.0 } else { f64::from(u8::from(yes == no)) / 2.0 }).sum();
    let expected = in_order / (scores[0].len() * scores[1].len()) as f64;
    let auc = judge.report().since_start.auc.unwrap();
    assert!((auc - expected).abs() < 2.0 / 1_024.0, "{auc} where {expected} of pairs are in order");
}

#[test]
fn windows_forget_and_the_start_does_not() {
    let settings = Settings { short: 10, long: 20, half_life: 5.0 };
    let mut judge = Classes::new(settings, 2, None).unwrap();
    for n in 0..100 {
        judge.observe(Answer::Class(0), usize::from(n < 85)).unwrap();
    }
    let report = judge.report();
    assert_eq!((report.since_start.rows, report.since_start.accuracy), (100, Some(0.15)));
    assert_eq!((report.short.rows, report.short.accuracy), (10, Some(1.0)));
    assert_eq!((report.long.rows, report.long.accuracy), (20, Some(0.75)));
    assert!(report.faded_accuracy.unwrap() > 0.85, "{:?}", report.faded_accuracy);
    assert_eq!((report.long.log_loss, report.faded_log_loss), (None, None), "a class alone is no probability");
}

#[test]
fn numbers_are_off_by_so_much() {
    let mut judge = Numbers::new(Settings { short: 2, ..Settings::default() }, 0.9).unwrap();
    for (answer, label) in [(1.0, 3.0), (5.0, 4.0), (4.0, 4.0)] {
        judge.observe(answer, label).unwrap();
    }
    let report = judge.report();
    let all = report.since_start;
    assert_eq!((all.rows, all.mae, all.bias), (3, Some(1.0), Some(1.0 / 3.0)));
    assert!((all.rmse.unwrap() - (5.0_f64 / 3.0).sqrt()).abs() < 1e-12);
    assert!((all.pinball.unwrap() - (0.9 * 2.0 + 0.1) / 3.0).abs() < 1e-12);
    // Repeating the last label would have been off by 1, then by nothing.
    assert_eq!((all.of_last, report.short.of_last), (Some(2.0), Some(1.0)));
}

#[test]
fn nothing_is_said_of_nothing() {
    let classes = Classes::new(Settings::default(), 2, Some(0)).unwrap().report();
    assert_eq!((classes.since_start, classes.faded_accuracy), (ClassFigures::default(), None));
    let numbers = Numbers::new(Settings::default(), 0.5).unwrap().report();
    assert_eq!((numbers.since_start, numbers.faded_mae), (NumberFigures::default(), None));
}

#[test]
fn bad_input_changes_nothing() {
    let mut judge = judged(&[([0.2, 0.3, 0.5], 2)], Settings::default());
    let before = judge.clone();
    assert!(matches!(judge.observe(Answer::Class(0), 3), Err(Error::Class { class: 3, classes: 3 })));
    assert!(matches!(judge.observe(Answer::Class(3), 0), Err(Error::Class { .. })));
    assert!(matches!(judge.observe(Answer::Probabilities(&[]), 0), Err(Error::Width { wanted: 3, found: 0 })));
    for wrong in [f64::NAN, f64::INFINITY, -0.1, 1.1] {
        assert!(judge.observe(Answer::Probabilities(&[wrong, 0.5, 0.5]), 0).is_err(), "{wrong}");
    }
    assert_eq!(judge, before);
    let mut numbers = Numbers::new(Settings::default(), 0.5).unwrap();
    assert!(numbers.observe(f64::NAN, 0.0).is_err() && numbers.observe(0.0, f64::INFINITY).is_err());
    assert_eq!(numbers, Numbers::new(Settings::default(), 0.5).unwrap());
    for classes in [0, 1, usize::MAX] {
        assert!(Classes::new(Settings::default(), classes, None).is_err(), "{classes}");
    }
    assert!(Classes::new(Settings { long: 10, ..Settings::default() }, 2, None).is_err(), "shorter than the short one");
    assert!(Numbers::new(Settings::default(), 1.0).is_err());
}

proptest! {
    #[test]
    fn what_is_saved_goes_on_alike(
        rows in prop::collection::vec((prop::array::uniform3(0.0..=1.0_f64), 0..3_usize), 0..60),
        more in prop::collection::vec((prop::array::uniform3(0.0..=1.0_f64), 0..3_usize), 0..30),
    ) {
        let settings = Settings { short: 7, long: 20, half_life: 3.0 };
        let mut judge = judged(&rows, settings);
        let mut loaded = Classes::load(&judge.save()).unwrap();
        for (probabilities, class) in &more {
            judge.observe(Answer::Probabilities(probabilities), *class).unwrap();
            loaded.observe(Answer::Probabilities(probabilities), *class).unwrap();
        }
        // NaN is no part of a report, so equal means the same.
        prop_assert_eq!(loaded.report(), judge.report());
    }

    #[test]
    fn extreme_numbers_stay_numbers(pairs in prop::collection::vec((any::<f64>(), any::<f64>()), 0..50)) {
        let mut judge = Numbers::new(Settings { short: 3, long: 5, half_life: 2.0 }, 0.5).unwrap();
        for (answer, label) in pairs {
            let expected = answer.is_finite() && label.is_finite();
            prop_assert_eq!(judge.observe(answer, label).is_ok(), expected);
        }
        let loaded = Numbers::load(&judge.save()).unwrap();
        prop_assert_eq!(loaded.report(), judge.report());
    }

    #[test]
    fn hostile_bytes_are_an_error_or_a_judge_that_works(
        state in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = Classes::new(Settings::default(), 2, None).unwrap().save();
        let head = b"mantlet online\n".len() + 1 + Classes::KIND.len() + 2;
        bytes.truncate(head);
        bytes.extend(state);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        if let Ok(mut judge) = Classes::load(&bytes) {
            let _ = judge.observe(Answer::Class(0), 0);
            let _ = judge.report();
        }
    }
}
