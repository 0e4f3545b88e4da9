//! What scorers have in common, and what they find.

use proptest::prelude::*;

use super::*;
use crate::{Random, drift::tests::mutations};

/// Four columns that go together, in units far apart.
fn row(random: &mut Random) -> [f64; 4] {
    let (x, y) = (random.normal(), random.normal());
    [1e6 + 1e3 * x, 1e-3 * (x + 0.3 * y), f64::from(random.below(3)), random.exponential()]
}

/// Where none of them is.
fn strange(random: &mut Random) -> [f64; 4] {
    let side = if random.uniform() < 0.5 { 1.0 } else { -1.0 };
    [1e6 + side * 5e3, -side * 5e-3, f64::from(random.below(3)), 8.0 + random.exponential()]
}

fn all() -> Vec<(&'static str, Box<dyn Scorer>)> {
    vec![
        ("half-space", Box::new(Scaled::new(HalfSpace::new(4, half_space::Settings::default()).unwrap()).unwrap())),
        ("isolation", Box::new(Scaled::new(Isolation::new(4, isolation::Settings::default()).unwrap()).unwrap())),
        ("loda", Box::new(Scaled::new(Loda::new(4, loda::Settings::default()).unwrap()).unwrap())),
        ("ensemble", Box::new(Ensemble::new(4, ensemble::Settings::default()).unwrap())),
        ("series", Box::new(Series::new(4, series::Settings::default()).unwrap())),
    ]
}

/// The share of pairs in which the second is above the first, equal ones counted half.
fn area(low: &[f64], high: &[f64]) -> f64 {
    let pair = |low: f64, high: f64| {
        if high > low {
            1.0
        } else if high == low {
            0.5
        } else {
            0.0
        }
    };
    let sum: f64 = low.iter().flat_map(|low| high.iter().map(move |high| pair(*low, *high))).sum();
    sum / (low.len() * high.len()) as f64
}

#[test]
fn every_one_tells_the_strange_from_the_usual() {
    for (name, mut scorer) in all() {
        let mut random = Random::new(1);
        for _ in 0..2_500 {
            scorer.learn(&row(&mut random)).unwrap();
        }
        let usual: Vec<f64> = (0..200).map(|_| scorer.score(&row(&mut random)).unwrap()).collect();
        let odd: Vec<f64> = (0..200).map(|_| scorer.score(&strange(&mut random)).unwrap()).collect();
        let area = area(&usual, &odd);
        // A series is as strange as its strangest channel's shape, which may be that of the rows before.
        let least = if name == "series" { 0.9 } else { 0.97 };
        assert!(area > least, "{name}: {area}");
        assert!(usual.iter().chain(&odd).all(|score| (0.0..=1.0).contains(score)), "{name}");
        assert!(scorer.memory() < 4 << 20, "{name} takes {}", scorer.memory());
    }
}

#[test]
fn what_most_rows_have_become_is_learnt() {
    for (name, mut scorer) in all() {
        let mut random = Random::new(2);
        for _ in 0..2_000 {
            scorer.learn(&row(&mut random)).unwrap();
        }
        for _ in 0..6_000 {
            scorer.learn(&strange(&mut random)).unwrap();
        }
        let now: Vec<f64> = (0..200).map(|_| scorer.score(&strange(&mut random)).unwrap()).collect();
        let middle = now.iter().filter(|score| **score < 0.9).count();
        assert!(middle > 150, "{name}: {middle} of 200");
    }
}

#[test]
fn a_few_strange_rows_are_not_learnt_by_the_ensemble() {
    let mut ensemble = Ensemble::new(4, ensemble::Settings::default()).unwrap();
    let mut random = Random::new(3);
    for place in 0..6_000 {
        let next = if place > 1_000 && place % 20 == 0 { strange(&mut random) } else { row(&mut random) };
        ensemble.learn(&next).unwrap();
    }
    let odd = (0..100).filter(|_| ensemble.score(&strange(&mut random)).unwrap() > 0.9).count();
    assert!(odd >= 95, "{odd} of 100 are still strange");
}

#[test]
fn rows_that_are_none_change_nothing() {
    for ((name, mut scorer), (_, mut other)) in all().into_iter().zip(all()) {
        let mut random = Random::new(4);
        for _ in 0..700 {
            let row = row(&mut random);
            scorer.learn(&row).unwrap();
            other.learn(&row).unwrap();
            for wrong in [&[][..], &[0.0; 3], &[0.0; 5], &[0.0, f64::INFINITY, 0.0, 0.0], &[f64::NEG_INFINITY; 4]] {
                assert!(scorer.score(wrong).is_err() && scorer.learn(wrong).is_err(), "{name}");
            }
        }
        let row = row(&mut random);
        assert_eq!(scorer.score(&row), other.score(&row), "{name}");
    }
}

#[test]
fn before_there_is_anything_nothing_is_strange() {
    for (name, mut scorer) in all() {
        assert_eq!(scorer.score(&[0.0; 4]), Ok(0.0), "{name}");
        scorer.learn(&[1.0; 4]).unwrap();
        assert!((0.0..=1.0).contains(&scorer.score(&[9e300; 4]).unwrap()), "{name}");
    }
}

/// Saves it half-way, and wants the loaded one to go on as the other does, to the same bytes.
fn goes_on<S: Scorer + Snapshot>(mut scorer: S) {
    let mut random = Random::new(5);
    for _ in 0..900 {
        scorer.learn(&row(&mut random)).unwrap();
    }
    let mut loaded = S::load(&scorer.save()).unwrap();
    for _ in 0..600 {
        let row = row(&mut random);
        assert_eq!(scorer.score(&row), loaded.score(&row));
        scorer.learn(&row).unwrap();
        loaded.learn(&row).unwrap();
    }
    assert!(scorer.save() == loaded.save(), "{}", S::KIND);
}

/// Loads bytes in which one was changed, with a checksum that fits: an error, or a scorer that still scores.
fn is_safe<S: Scorer + Snapshot>(mut scorer: S) {
    let mut random = Random::new(6);
    for _ in 0..300 {
        scorer.learn(&row(&mut random)).unwrap();
    }
    for bytes in mutations(&scorer.save(), 120) {
        let Ok(mut loaded) = S::load(&bytes) else { continue };
        let width = loaded.width();
        for _ in 0..80 {
            let row: Vec<f64> = (0..width).map(|_| random.normal() * 3.0).collect();
            let score = loaded.score(&row).unwrap();
            assert!((0.0..=1.0).contains(&score), "{} says {score}", S::KIND);
            loaded.learn(&row).unwrap();
        }
    }
}

#[test]
fn snapshots_go_on_and_hostile_ones_are_safe() {
    let trees = half_space::Settings { trees: 5, window: 64, ..Default::default() };
    let half_space = || Scaled::new(HalfSpace::new(4, trees.clone()).unwrap()).unwrap();
    goes_on(half_space());
    is_safe(half_space());
    let forest = isolation::Settings { trees: 4, window: 256, leaf: 8, seed: 1 };
    let isolation = || Scaled::new(Isolation::new(4, forest.clone()).unwrap()).unwrap();
    goes_on(isolation());
    is_safe(isolation());
    let projections = loda::Settings { projections: 10, window: 128, seed: 1 };
    let loda = || Scaled::new(Loda::new(4, projections.clone()).unwrap()).unwrap();
    goes_on(loda());
    is_safe(loda());
    let settings =
        ensemble::Settings { half_space: trees.clone(), isolation: forest.clone(), loda: projections.clone() };
    let ensemble = || Ensemble::new(4, settings.clone()).unwrap();
    goes_on(ensemble());
    is_safe(ensemble());
    let settings = series::Settings { season: 24, window: 8, ensemble: settings.clone(), ..Default::default() };
    let series = || Series::new(4, settings.clone()).unwrap();
    goes_on(series());
    is_safe(series());
}

/// The parts alone, whose bytes are not mostly those of a scaler.
#[test]
fn parts_alone_are_safe() {
    is_safe(HalfSpace::new(4, half_space::Settings { trees: 3, window: 32, ..Default::default() }).unwrap());
    is_safe(Isolation::new(4, isolation::Settings { trees: 3, window: 32, leaf: 1, seed: 2 }).unwrap());
    is_safe(Loda::new(4, loda::Settings { projections: 3, window: 128, seed: 2 }).unwrap());
}

#[test]
fn sizes_outside_their_range_are_refused() {
    assert!(HalfSpace::new(0, half_space::Settings::default()).is_err());
    assert!(HalfSpace::new(usize::MAX, half_space::Settings::default()).is_err());
    assert!(HalfSpace::new(1, half_space::Settings { depth: 16, ..Default::default() }).is_err());
    assert!(HalfSpace::new(65_536, half_space::Settings { window: 65_535, ..Default::default() }).is_err());
    assert!(Isolation::new(1, isolation::Settings { leaf: 0, ..Default::default() }).is_err());
    assert!(Isolation::new(65_536, isolation::Settings { window: 65_536, ..Default::default() }).is_err());
    assert!(Loda::new(1, loda::Settings { projections: 0, ..Default::default() }).is_err());
    assert!(Loda::new(1, loda::Settings { window: 127, ..Default::default() }).is_err());
    assert!(Series::new(0, series::Settings::default()).is_err());
    assert!(Series::new(1, series::Settings { window: 51, ..Default::default() }).is_err());
    for paces in [vec![], vec![0], vec![65], vec![1; 7]] {
        assert!(Series::new(1, series::Settings { paces, ..Default::default() }).is_err());
    }
    for moment in [-0.1, 1.1, f64::NAN] {
        assert!(Series::new(1, series::Settings { moment, ..Default::default() }).is_err());
    }
    assert!(Series::new(1, series::Settings { season: 10_081, ..Default::default() }).is_err());
    assert!(Scaler::new(0, 0).is_err());
}

#[test]
fn a_scaler_is_not_moved_by_outliers() {
    let mut scaler = Scaler::new(3, 0).unwrap();
    let mut random = Random::new(7);
    for place in 0..5_000 {
        let wild = if place % 50 == 0 { 1e12 } else { 10.0 + 2.0 * random.normal() };
        scaler.learn(&[wild, 5.0, f64::from(u8::from(place % 100 == 0))]).unwrap();
    }
    let mut scaled = [0.0; 3];
    scaler.scale(&[10.0, 5.0, 0.0], &mut scaled).unwrap();
    assert!(scaled.iter().all(|value| value.abs() < 0.1), "{scaled:?}");
    // A spread is the distance of the 5 % and 95 % quantiles: 3.29 deviations.
    scaler.scale(&[10.0 + 3.29, 6.0, 1.0], &mut scaled).unwrap();
    assert!((scaled[0] - 0.5).abs() < 0.1, "{scaled:?}");
    assert!(scaled[1] == 1.0 && scaled[2] > 3.0, "a rare flag is far: {scaled:?}");
    scaler.scale(&[f64::NAN, -1e308, 1e308], &mut scaled).unwrap();
    assert!(scaled[0] == 0.0 && scaled[1..].iter().all(|value| value.abs() <= 64.0), "{scaled:?}");
}

#[test]
fn rows_of_any_width_are_scored() {
    for width in [1, 2, 63, 64, 65, 200] {
        let mut ensemble = Ensemble::new(width, ensemble::Settings::default()).unwrap();
        let mut random = Random::new(8);
        for _ in 0..600 {
            let row: Vec<f64> = (0..width).map(|_| random.normal()).collect();
            ensemble.learn(&row).unwrap();
        }
        let [usual, odd] = [0.0, 9.0].map(|value| ensemble.score(&vec![value; width]).unwrap());
        assert!(odd > usual + 0.2, "{width}: {usual} {odd}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_numbers_are_scored_and_saved(
        rows in prop::collection::vec(
            prop::array::uniform3(prop_oneof![any::<f64>(), -1.0..1.0_f64, Just(0.0), Just(f64::NAN)]),
            0..200,
        ),
        season in 0..4_u32,
    ) {
        let forest = isolation::Settings { trees: 4, window: 32, leaf: 2, seed: 3 };
        let trees = half_space::Settings { trees: 4, window: 32, ..Default::default() };
        let loda = loda::Settings { window: 128, ..Default::default() };
        let settings = ensemble::Settings { half_space: trees, isolation: forest, loda };
        let mut ensemble = Ensemble::new(3, settings.clone()).unwrap();
        let mut series = Series::new(3, series::Settings { season, window: 4, ensemble: settings, ..Default::default() }).unwrap();
        for row in rows.iter().filter(|row| !row.iter().any(|value| value.is_infinite())) {
            let of_ensemble = [ensemble.score(row), ensemble.score_and_learn(row)];
            let of_series = [series.score(row), series.score_and_learn(row)];
            for score in of_ensemble.into_iter().chain(of_series) {
                prop_assert!(score.as_ref().is_ok_and(|score| (0.0..=1.0).contains(score)), "{score:?} for {row:?}");
            }
        }
        prop_assert!(Ensemble::load(&ensemble.save()).is_ok() && Series::load(&series.save()).is_ok());
    }
}
