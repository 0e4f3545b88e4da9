//! What holds for every round: few liars bend nothing far, nonsense is left out, too few change nothing.

use proptest::prelude::*;

use super::*;
use crate::Random;

/// Rounds in which honest workers send the truth with noise, and `lie` makes of their mean and spread what liars send.
fn error_after(
    settings: Settings,
    (workers, liars): (usize, usize),
    lie: impl Fn(f64, f64) -> f64,
) -> (f64, Aggregator) {
    let width = 20;
    let mut aggregator = Aggregator::new(settings, workers, width).unwrap();
    let mut random = Random::new(5);
    let truth: Vec<f64> = (0..width).map(|_| random.normal()).collect();
    let mut out = vec![0.0; width];
    for _ in 0..30 {
        let honest: Vec<Vec<f64>> =
            (liars..workers).map(|_| truth.iter().map(|x| x + random.normal()).collect()).collect();
        let of = |place: usize| {
            let values: Vec<f64> = honest.iter().map(|row| row[place]).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64;
            lie(mean, variance.sqrt())
        };
        let lies: Vec<f64> = (0..width).map(of).collect();
        let lies = std::iter::repeat_n(&lies, liars);
        let updates: Vec<Option<&[f64]>> = lies.chain(&honest).map(|row| Some(row.as_slice())).collect();
        let _ = aggregator.aggregate(&updates, &mut out).unwrap();
    }
    (rule::distance(&out, &truth), aggregator)
}

fn plain() -> Settings {
    Settings { rule: Rule::Mean, ..Settings::default() }
}

#[test]
fn liars_bend_the_mean_and_not_the_robust_rule() {
    for (workers, liars) in [(4, 1), (7, 2)] {
        let robust = || Settings { liars, ..Settings::default() };
        let (clean, _) = error_after(robust(), (workers, 0), |mean, _| mean);
        let lies: [fn(f64, f64) -> f64; 3] = [|mean, _| -4.0 * mean, |_, _| 1e6, |mean, spread| mean - 1.5 * spread];
        for (place, lie) in lies.into_iter().enumerate() {
            let (held, aggregator) = error_after(robust(), (workers, liars), lie);
            let (bent, _) = error_after(plain(), (workers, liars), lie);
            assert!(held < 2.0 + clean, "lie {place}, {workers} workers: {held}, {clean} clean");
            assert!(held < bent || place == 2, "lie {place}: {held}, plain {bent}");
            if place < 2 {
                let suspicions: Vec<_> = aggregator.suspicions().collect();
                let honest = suspicions[liars..].iter().map(|s| s.distance).fold(0.0, f64::max);
                assert!(suspicions[..liars].iter().all(|s| s.distance > honest), "lie {place}: {suspicions:?}");
            }
        }
    }
}

#[test]
fn without_liars_it_costs_little() {
    let (robust, _) = error_after(Settings::default(), (4, 0), |mean, _| mean);
    let (mean, _) = error_after(plain(), (4, 0), |mean, _| mean);
    // Momentum remembers ten rounds of noise, the mean one.
    assert!(robust < mean, "{robust}, {mean}");
}

#[test]
fn with_nobody_to_doubt_and_no_momentum_it_is_the_mean_of_what_was_cut() {
    let settings = Settings { liars: 0, momentum: 0.0, ..Settings::default() };
    let mut aggregator = Aggregator::new(settings, 2, 2).unwrap();
    let mut out = [0.0; 2];
    let round = aggregator.aggregate(&[Some(&[3.0, 0.0]), Some(&[0.0, 3.0])], &mut out).unwrap();
    assert_eq!((out, round.radius, round.cut), ([1.5, 1.5], 3.0, 0));
}

#[test]
fn who_sends_nonsense_is_left_out_and_suspected() {
    let mut aggregator = Aggregator::new(Settings::default(), 4, 2).unwrap();
    let mut out = [0.0; 2];
    let honest: &[f64] = &[1.0, 2.0];
    for nonsense in [&[f64::NAN, 0.0][..], &[1.0], &[f64::INFINITY, 0.0], &[1e300, 0.0]] {
        let updates = [Some(honest), Some(honest), Some(nonsense), Some(honest)];
        let round = aggregator.aggregate(&updates, &mut out).unwrap();
        assert_eq!(round.outcomes[2], Outcome::Refused);
        assert_eq!(out, [1.0, 2.0]);
    }
    let suspicions: Vec<_> = aggregator.suspicions().collect();
    assert!(suspicions[2].refused > 0.99 && suspicions[0].refused == 0.0, "{suspicions:?}");
}

#[test]
fn too_few_to_outvote_the_liars_change_nothing() {
    let mut aggregator = Aggregator::new(Settings::default(), 4, 1).unwrap();
    let mut out = [7.0];
    let before = aggregator.clone();
    assert!(matches!(
        aggregator.aggregate(&[Some(&[1.0]), None, None, Some(&[1.0])], &mut out),
        Err(Error::Range { .. })
    ));
    assert_eq!(aggregator.aggregate(&[None; 3], &mut out), Err(Error::Width { wanted: 4, found: 3 }));
    assert_eq!(aggregator.aggregate(&[None; 4], &mut []), Err(Error::Width { wanted: 1, found: 0 }));
    assert_eq!((out, &aggregator), ([7.0], &before));
    let _ = aggregator.aggregate(&[Some(&[1.0]), None, Some(&[1.0]), Some(&[1.0])], &mut out).unwrap();
    assert_eq!(aggregator.suspicions().nth(1).map(|s| s.rounds), Some(0));
    for (liars, workers) in [(2, 4), (1, 2), (0, 0), (usize::MAX, 7), (1, 1_000)] {
        assert!(
            Aggregator::new(Settings { liars, ..Settings::default() }, workers, 1).is_err(),
            "{liars} of {workers}"
        );
    }
    assert!(Aggregator::new(Settings { momentum: f64::NAN, ..Settings::default() }, 4, 1).is_err());
    assert!(Aggregator::new(Settings::default(), 4, usize::MAX).is_err());
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![4 => -10.0..10.0_f64, 1 => any::<f64>(), 1 => Just(0.0)]
}

/// What a worker sends: mostly of the right width.
fn sent() -> impl Strategy<Value = Option<Vec<f64>>> {
    let row = prop_oneof![9 => prop::collection::vec(number(), 3), 1 => prop::collection::vec(number(), 0..5)];
    prop::option::weighted(0.9, row)
}

proptest! {
    #[test]
    fn whatever_comes_numbers_come_out_and_the_state_stays_sound(
        rounds in prop::collection::vec(prop::collection::vec(sent(), 5), 1..8),
        liars in 0..3_usize,
        momentum in 0.0..0.999_f64,
        robust in any::<bool>(),
    ) {
        let rule = if robust { Rule::Robust } else { Rule::Mean };
        let mut aggregator = Aggregator::new(Settings { rule, liars, momentum }, 5, 3).unwrap();
        for round in &rounds {
            let updates: Vec<Option<&[f64]>> = round.iter().map(|row| row.as_deref()).collect();
            let (before, mut out) = (aggregator.clone(), [0.5; 3]);
            match aggregator.aggregate(&updates, &mut out) {
                Ok(_) => prop_assert!(out.iter().all(|x| x.is_finite()), "{out:?}"),
                Err(_) => prop_assert!(aggregator == before && out == [0.5; 3]),
            }
            prop_assert!(aggregator.check().is_ok(), "{aggregator:?}");
            prop_assert_eq!(&Aggregator::load(&aggregator.save()).unwrap(), &aggregator);
        }
    }

    #[test]
    fn the_order_of_workers_and_the_scale_do_not_matter(
        rows in prop::collection::vec(prop::collection::vec(-10.0..10.0_f64, 3), 5), scale in 1e-6..1e6_f64,
    ) {
        let settings = Settings { liars: 2, ..Settings::default() };
        let mut outs = Vec::new();
        for (reversed, scale) in [(false, 1.0), (true, scale)] {
            let mut rows: Vec<Vec<f64>> = rows.iter().map(|row| row.iter().map(|x| x * scale).collect()).collect();
            if reversed {
                rows.reverse();
            }
            let updates: Vec<Option<&[f64]>> = rows.iter().map(|row| Some(row.as_slice())).collect();
            let mut out = [0.0; 3];
            let _ = Aggregator::new(settings.clone(), 5, 3).unwrap().aggregate(&updates, &mut out).unwrap();
            outs.push(out.map(|x| x / scale));
        }
        prop_assert!(outs[0].iter().zip(&outs[1]).all(|(a, b)| (a - b).abs() < 1e-9), "{outs:?}");
    }

    #[test]
    fn no_coordinate_leaves_the_range_of_the_honest(
        honest in prop::collection::vec(prop::collection::vec(-1.0..1.0_f64, 3), 3), lie in prop::collection::vec(-1e6..1e6_f64, 3),
    ) {
        // No longer than the longest honest one, whatever is sent.
        let updates: Vec<Option<&[f64]>> = honest.iter().chain([&lie]).map(|row| Some(row.as_slice())).collect();
        let mut out = [0.0; 3];
        let _ = Aggregator::new(Settings::default(), 4, 3).unwrap().aggregate(&updates, &mut out).unwrap();
        let longest = honest.iter().map(|row| rule::distance(row, &[0.0; 3])).fold(0.0, f64::max);
        prop_assert!(out.iter().all(|x| x.abs() <= longest + 1e-9), "{out:?}, longest {longest}");
    }
}
