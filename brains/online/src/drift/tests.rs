//! What detectors have in common, and what they promise.

use proptest::prelude::*;

use super::*;
use crate::{Random, Snapshot};

/// One of each detector of numbers, behind one name.
fn all() -> Vec<(&'static str, Box<dyn Detector>)> {
    vec![
        ("adwin", Box::new(Adwin::new(adwin::Settings::default()).unwrap())),
        ("ddm", Box::new(Ddm::new(ddm::Settings::default()).unwrap())),
        ("e-detector", Box::new(EDetector::new(edetector::Settings { baseline: 0.3, ..Default::default() }).unwrap())),
        ("hddm average", Box::new(HddmAverage::new(both()).unwrap())),
        ("hddm weighted", Box::new(HddmWeighted::new(both(), 0.05).unwrap())),
        (
            "page-hinkley",
            Box::new(PageHinkley::new(page_hinkley::Settings { threshold: 25.0, ..Default::default() }).unwrap()),
        ),
    ]
}

fn both() -> hddm::Settings {
    hddm::Settings { direction: Direction::Both, ..Default::default() }
}

/// Errors that happen with this probability.
fn errors(random: &mut Random, probability: f64) -> f64 {
    f64::from(u8::from(random.uniform() < probability))
}

#[test]
fn every_one_finds_a_large_change_and_only_that() {
    for (name, mut detector) in all() {
        let mut random = Random::new(11);
        for place in 0..1_000 {
            assert_ne!(detector.update(errors(&mut random, 0.2)), Ok(State::Drift), "{name} at {place}");
        }
        let delay = (0..1_000).position(|_| detector.update(errors(&mut random, 0.8)) == Ok(State::Drift));
        assert!(delay.is_some_and(|delay| delay < 150), "{name} took {delay:?}");
    }
}

#[test]
fn what_is_no_number_changes_nothing() {
    for (name, mut detector) in all() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e101, -1e101] {
            assert!(detector.update(value).is_err(), "{name} took {value}");
        }
        let (_, mut other) = all().into_iter().find(|(other, _)| *other == name).unwrap();
        let mut random = Random::new(3);
        for place in 0..3_000 {
            let value = errors(&mut random, if place < 1_500 { 0.1 } else { 0.6 });
            assert!(detector.update(f64::NAN).is_err());
            assert_eq!(detector.update(value), other.update(value), "{name} at {place}");
        }
        assert!(detector.memory() < 8_192, "{name} takes {}", detector.memory());
    }
}

#[test]
fn after_a_reset_it_is_as_new() {
    for ((name, mut used), (_, mut new)) in all().into_iter().zip(all()) {
        let mut random = Random::new(4);
        for _ in 0..777 {
            used.update(errors(&mut random, 0.4)).unwrap();
        }
        used.reset();
        for place in 0..2_000 {
            let value = errors(&mut random, if place < 1_000 { 0.1 } else { 0.7 });
            assert_eq!(used.update(value), new.update(value), "{name} at {place}");
        }
    }
}

/// Saves it half-way, and wants the loaded one to go on as the other does, to the same bytes.
fn goes_on<D: Detector + Snapshot>(mut detector: D) {
    let mut random = Random::new(9);
    for place in 0..1_500 {
        if place == 700 {
            detector = D::load(&detector.save()).unwrap();
        }
        detector.update(errors(&mut random, if place < 1_000 { 0.1 } else { 0.5 })).unwrap();
    }
    let mut loaded = D::load(&detector.save()).unwrap();
    for _ in 0..1_500 {
        let value = errors(&mut random, 0.3);
        assert_eq!(detector.update(value), loaded.update(value));
        assert!(detector.save() == loaded.save(), "{}", D::KIND);
    }
}

/// Snapshots in which a byte or two was changed, with a checksum that fits.
pub(crate) fn mutations(bytes: &[u8], number: u32) -> impl Iterator<Item = Vec<u8>> {
    let (body, _) = bytes.split_last_chunk::<4>().unwrap();
    let (body, mut random) = (body.to_vec(), Random::new(u64::from(number)));
    (0..number).map(move |turn| {
        let mut body = body.clone();
        for _ in 0..=turn % 2 {
            let place = random.below(body.len() as u32) as usize;
            body[place] =
                [0, 0xff, 0x7f, body[place] ^ (1 << random.below(8)), random.bits() as u8][random.below(5) as usize];
        }
        let checksum = crc32fast::hash(&body).to_le_bytes();
        body.extend_from_slice(&checksum);
        body
    })
}

/// Loads bytes in which one was changed, with a checksum that fits: an error, or a detector that still takes values.
fn is_safe<D: Detector + Snapshot>(mut detector: D) {
    let mut random = Random::new(10);
    for _ in 0..900 {
        detector.update(errors(&mut random, 0.3)).unwrap();
    }
    for bytes in mutations(&detector.save(), 400) {
        let Ok(mut loaded) = D::load(&bytes) else { continue };
        for _ in 0..200 {
            loaded.update(errors(&mut random, 0.5)).unwrap();
        }
        assert!(loaded.memory() < 65_536);
    }
}

#[test]
fn snapshots_go_on_and_hostile_ones_are_safe() {
    let adwin = || Adwin::new(adwin::Settings { clock: 8, ..Default::default() }).unwrap();
    goes_on(adwin());
    is_safe(adwin());
    let ddm = || Ddm::new(ddm::Settings::default()).unwrap();
    goes_on(ddm());
    is_safe(ddm());
    let edetector = || EDetector::new(edetector::Settings { block: 7, ..Default::default() }).unwrap();
    goes_on(edetector());
    is_safe(edetector());
    let average = || HddmAverage::new(both()).unwrap();
    goes_on(average());
    is_safe(average());
    let weighted = || HddmWeighted::new(both(), 0.05).unwrap();
    goes_on(weighted());
    is_safe(weighted());
    let page_hinkley = || PageHinkley::new(page_hinkley::Settings::default()).unwrap();
    goes_on(page_hinkley());
    is_safe(page_hinkley());
}

/// One of each detector of rows, of two numbers.
fn all_of_rows() -> [(&'static str, Box<dyn RowDetector>); 2] {
    let inputs = inputs::Settings { reference: 400, window: 200, ..Default::default() };
    let mmd = mmd::Settings { reference: 16, window: 8, ..Default::default() };
    [
        ("inputs", Box::new(Inputs::new(crate::Schema::numeric(2).unwrap(), inputs).unwrap())),
        ("mmd", Box::new(Mmd::new(2, mmd).unwrap())),
    ]
}

#[test]
fn those_of_rows_find_a_large_change_and_begin_anew_when_told() {
    for ((name, mut used), (_, mut new)) in all_of_rows().into_iter().zip(all_of_rows()) {
        let mut random = Random::new(5);
        let mut row = |shift: f64| [shift + random.normal(), 1e6 * random.normal()];
        for place in 0..2_000 {
            assert_eq!(used.update(&row(0.0)), Ok(State::Stable), "{name} at {place}");
        }
        assert!((0..1_000).any(|_| used.update(&row(2.0)) == Ok(State::Drift)), "{name}");
        used.reset();
        for place in 0..1_500 {
            let row = row(if place < 1_000 { 5.0 } else { 3.0 });
            let (used, new) = (used.update(&row), new.update(&row));
            // Chance goes on where it was, so only what is plain must be alike.
            assert!(name == "mmd" || used == new, "{name} at {place}");
            assert!(used.is_ok() && new.is_ok(), "{name} at {place}");
        }
        assert!(used.memory() < 100_000 && used.width() == 2, "{name} takes {}", used.memory());
    }
}

#[test]
fn rows_that_are_none_change_nothing() {
    for ((name, mut used), (_, mut other)) in all_of_rows().into_iter().zip(all_of_rows()) {
        let mut random = Random::new(6);
        for place in 0..1_500 {
            for wrong in [&[][..], &[0.0], &[0.0; 3], &[0.0, f64::INFINITY], &[f64::NEG_INFINITY; 2]] {
                assert!(used.update(wrong).is_err(), "{name} took {wrong:?}");
            }
            let row = [random.normal() + f64::from(place / 700), if place % 9 == 0 { f64::NAN } else { 1.0 }];
            assert_eq!(used.update(&row), other.update(&row), "{name} at {place}");
        }
    }
}

#[test]
fn settings_outside_their_range_are_refused() {
    for delta in [0.0, 1.0, f64::NAN, -1.0] {
        assert!(Adwin::new(adwin::Settings { delta, ..Default::default() }).is_err());
        assert!(HddmAverage::new(hddm::Settings { drift: delta, ..Default::default() }).is_err());
        assert!(HddmWeighted::new(hddm::Settings::default(), delta).is_err());
        assert!(EDetector::new(edetector::Settings { baseline: delta, ..Default::default() }).is_err());
        assert!(EDetector::new(edetector::Settings { run_length: delta.min(0.5), ..Default::default() }).is_err());
    }
    assert!(Adwin::new(adwin::Settings { clock: 0, ..Default::default() }).is_err());
    assert!(HddmAverage::new(hddm::Settings { drift: 0.1, warning: 0.01, ..Default::default() }).is_err());
    assert!(Ddm::new(ddm::Settings { warning: 3.0, drift: 2.0, ..Default::default() }).is_err());
    assert!(PageHinkley::new(page_hinkley::Settings { threshold: f64::NAN, ..Default::default() }).is_err());
    assert!(EDetector::new(edetector::Settings { block: 0, ..Default::default() }).is_err());
    assert!(EDetector::from_reference(&[0.0], 0.0, edetector::Settings::default()).is_err());
    assert!(EDetector::from_reference(&[1.0; 100], 0.1, edetector::Settings::default()).is_err());
}

#[test]
fn a_baseline_is_learnt_above_the_mean() {
    let mut random = Random::new(21);
    let losses: Vec<f64> = (0..5_000).map(|_| errors(&mut random, 0.1)).collect();
    let detector = EDetector::from_reference(&losses, 0.01, edetector::Settings::default()).unwrap();
    assert!((0.115..0.14).contains(&detector.settings().baseline), "{}", detector.settings().baseline);
}

#[test]
fn falling_means_are_found_by_whom_it_matters_to() {
    let mut random = Random::new(12);
    let stream: Vec<f64> = (0..4_000).map(|place| errors(&mut random, if place < 2_000 { 0.6 } else { 0.1 })).collect();
    let down = hddm::Settings { direction: Direction::Down, ..Default::default() };
    let up = hddm::Settings::default();
    let drifts = |detector: &mut dyn Detector| {
        stream.iter().filter(|value| detector.update(**value) == Ok(State::Drift)).count()
    };
    assert_eq!(drifts(&mut HddmAverage::new(down.clone()).unwrap()), 1);
    assert_eq!(drifts(&mut HddmAverage::new(up).unwrap()), 0);
    assert!(drifts(&mut HddmWeighted::new(down, 0.05).unwrap()) >= 1);
    let mut adwin = Adwin::new(adwin::Settings::default()).unwrap();
    assert!(stream.iter().all(|value| adwin.update_rising(*value) == Ok(State::Stable)));
    assert!(adwin.width() < 2_100 && adwin.mean() < 0.2, "it was cut all the same");
}

/// Numbers from 0 to 1 that other programs can draw, too: Knuth's MMIX generator, its upper 31 bits.
fn drawn(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1_u32 << 31)
    }
}

/// Where ADWIN cuts and how wide it is then, as River 0.26.1 has it, which cuts where MOA does: its first cuts in
/// streams of sudden and slow changes.
#[test]
fn adwin_cuts_where_the_reference_does() {
    type Cuts = &'static [(usize, u64)];
    let cuts = |delta: f64, stream: &mut dyn Iterator<Item = f64>| {
        let mut adwin = Adwin::new(adwin::Settings { delta, ..Default::default() }).unwrap();
        let cut = |(at, value)| (adwin.update(value) == Ok(State::Drift)).then(|| (at, adwin.width()));
        let found: Vec<_> = stream.enumerate().filter_map(cut).collect();
        (found, adwin.width())
    };
    let classic = || {
        let mut next = drawn(12_345);
        (0..2_000)
            .map(move |at| if at < 1_000 { f64::from(u8::from(next() >= 0.5)) } else { 4.0 + (next() * 4.0).floor() })
    };
    assert_eq!(cuts(0.002, &mut classic()), (vec![(1_023, 32)], 1_008));
    assert_eq!(cuts(0.05, &mut classic()), (vec![(1_023, 32), (1_055, 56)], 1_000));
    let mut next = drawn(1);
    let mut errors =
        [0.2, 0.6, 0.2, 0.25, 0.1].into_iter().flat_map(|p| [p; 2_000]).map(|p| f64::from(u8::from(next() < p)));
    let known: Cuts = &[
        (2_047, 96),
        (2_111, 128),
        (4_063, 128),
        (4_127, 160),
        (6_527, 1_280),
        (6_559, 928),
        (8_191, 1_024),
        (8_223, 672),
        (8_287, 608),
        (8_383, 512),
    ];
    assert_eq!(cuts(0.05, &mut errors), (known.to_vec(), 2_128));
    let mut next = drawn(2);
    let (found, width) =
        cuts(0.002, &mut (0..10_000).map(|at| f64::from(u8::from(next() < 0.1 + 0.6 * f64::from(at) / 1e4))));
    let known: Cuts = &[
        (1_503, 1_248),
        (1_919, 1_408),
        (2_559, 1_792),
        (3_295, 2_272),
        (3_711, 2_176),
        (4_031, 2_240),
        (4_223, 2_176),
        (4_319, 2_016),
        (4_415, 1_856),
        (5_311, 2_240),
        (6_111, 2_528),
        (6_431, 2_336),
    ];
    assert_eq!((&found[..12], found.len(), width), (known, 23, 1_680));
    let mut next = drawn(3);
    let mut values = (0..12_000).map(|at| next() + next() + next() + if at / 3_000 % 2 == 1 { 0.5 } else { 0.0 });
    let known: Cuts = &[
        (3_039, 224),
        (3_071, 192),
        (3_103, 192),
        (3_135, 192),
        (3_423, 416),
        (6_047, 416),
        (6_079, 192),
        (6_111, 160),
        (6_431, 416),
        (9_055, 128),
        (9_119, 160),
    ];
    assert_eq!(cuts(0.002, &mut values), (known.to_vec(), 3_040));
}

#[test]
fn the_window_has_the_moments_of_what_is_in_it() {
    let mut adwin = Adwin::new(adwin::Settings { delta: 1e-9, ..Default::default() }).unwrap();
    let mut random = Random::new(13);
    let values: Vec<f64> = (0..5_000).map(|_| random.normal() + 3.0).collect();
    for value in &values {
        adwin.update(*value).unwrap();
    }
    assert_eq!(adwin.width(), 5_000);
    let mean = values.iter().sum::<f64>() / 5_000.0;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 5_000.0;
    assert!((adwin.mean() - mean).abs() < 1e-9 && (adwin.variance() - variance).abs() < 1e-9);
    assert!(adwin.memory() < 2_048, "{}", adwin.memory());
}

/// The mean time to a false alarm, over so many runs that end with an alarm or at four times the run length. With an
/// exponential time the mean of what is cut there is 0.98 of the whole; any other shape is cut more, so the test is
/// strict.
fn run_length(settings: &edetector::Settings, runs: u64, mut stream: impl FnMut(u64, &mut Random) -> Vec<f64>) -> f64 {
    let total: usize = (0..runs)
        .map(|seed| {
            let losses = stream(seed, &mut Random::new(seed));
            let mut detector = EDetector::new(settings.clone()).unwrap();
            losses.iter().position(|loss| detector.update(*loss) == Ok(State::Drift)).unwrap_or(losses.len())
        })
        .sum();
    total as f64 / runs as f64
}

#[test]
fn without_a_change_the_e_detector_runs_as_long_as_it_says() {
    // Losses exactly at the baseline: the hardest stream without a change.
    let settings = edetector::Settings { baseline: 0.2, run_length: 1_000.0, block: 1 };
    let length = run_length(&settings, 100, |_, random| (0..4_000).map(|_| errors(random, 0.2)).collect());
    assert!(length >= 1_000.0, "independent: {length}");
    // A season of 24, averaged over by a block of one.
    let settings = edetector::Settings { baseline: 0.2, run_length: 2_400.0, block: 24 };
    let season = |place: u32| 0.2 + 0.15 * (f64::from(place) * std::f64::consts::TAU / 24.0).sin();
    let length = run_length(&settings, 60, |_, random| (0..9_600).map(|at| errors(random, season(at))).collect());
    assert!(length >= 2_400.0, "seasonal: {length}");
}

proptest! {
    #[test]
    fn windows_are_bounded_and_moments_are_numbers(
        values in prop::collection::vec(-1e100..1e100_f64, 0..600),
        clock in 1..40_u32,
    ) {
        let mut adwin = Adwin::new(adwin::Settings { clock, least_window: 0, least_side: 0, delta: 0.5 }).unwrap();
        for (place, value) in values.iter().enumerate() {
            adwin.update(*value).unwrap();
            prop_assert!(adwin.width() >= 1 && adwin.width() <= place as u64 + 1);
            prop_assert!(adwin.mean().is_finite() && adwin.variance() >= 0.0);
        }
        prop_assert!(Adwin::load(&adwin.save()).is_ok());
    }

    #[test]
    fn any_errors_are_taken_and_saved(values in prop::collection::vec(0.0..=1.0_f64, 0..300)) {
        for (_, mut detector) in all() {
            for value in &values {
                prop_assert!(detector.update(*value).is_ok());
            }
        }
        let mut weighted = HddmWeighted::new(both(), 0.3).unwrap();
        let mut average = HddmAverage::new(both()).unwrap();
        let mut ddm = Ddm::new(ddm::Settings::default()).unwrap();
        let settings = edetector::Settings { baseline: 1e-4, block: 3, ..Default::default() };
        let mut edetector = EDetector::new(settings).unwrap();
        for value in &values {
            weighted.update(*value).unwrap(); average.update(*value).unwrap();
            ddm.update(*value).unwrap(); edetector.update(*value).unwrap();
            prop_assert!(HddmWeighted::load(&weighted.save()).is_ok() && HddmAverage::load(&average.save()).is_ok());
            prop_assert!(Ddm::load(&ddm.save()).is_ok() && EDetector::load(&edetector.save()).is_ok());
        }
    }
}
