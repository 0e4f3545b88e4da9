//! Alarms as seldom as they should be, and thresholds that an attacker does not move.

use proptest::prelude::*;

use super::*;
use crate::{Random, drift::tests::mutations};

/// Days of callers whose scores have a daily shape and drift, some of them hostile.
#[derive(Clone)]
struct Days {
    callers: u32,
    decisions: u32,
    days: f64,
    /// How much the median grows in a day.
    drift: f64,
    /// The share of decisions that are of hostile callers, how many of these there are, and how many times as high
    /// they score.
    hostile: (f64, u32, f64),
}

const DAYS: Days = Days { callers: 400, decisions: 12_000, days: 4.0, drift: 0.2, hostile: (0.01, 8, 6.0) };

/// What came of them, after the first day, which is for learning.
#[derive(Debug, Default)]
struct Outcome {
    alarms: u32,
    ordinary: u32,
    caught: u32,
    hostile: u32,
    threshold: f64,
}

impl Days {
    fn run(&self, settings: Settings) -> Outcome {
        let mut random = Random::new(settings.seed);
        let mut calibrator = Calibrator::new(settings, None).unwrap();
        let mut outcome = Outcome::default();
        for decision in 0..self.decisions {
            let day = f64::from(decision) / f64::from(self.decisions) * self.days;
            let hostile = day >= 1.0 && random.uniform() < self.hostile.0;
            // One caller in four is new in the course of the days.
            let known = 0.75 + 0.25 * day / self.days;
            let caller = random.below((f64::from(self.callers) * known) as u32);
            let own = 0.8 + 0.4 * f64::from(caller % 10) / 9.0;
            let shape = 1.0 + 0.3 * (day * std::f64::consts::TAU).sin();
            let level = shape * (1.0 + self.drift).powf(day);
            let (caller, score) = match hostile {
                true => (1_000_000 + random.below(self.hostile.1), level * self.hostile.2 * (1.0 + random.uniform())),
                false => (caller, level * own * (random.exponential() + random.exponential()) / 2.0),
            };
            let verdict = calibrator.observe(u64::from(caller), score, day * DAY).unwrap();
            if day < 1.0 {
                continue;
            }
            let alarm = u32::from(matches!(verdict, Verdict::Alarm { .. }));
            if hostile {
                (outcome.caught, outcome.hostile) = (outcome.caught + alarm, outcome.hostile + 1);
            } else {
                (outcome.alarms, outcome.ordinary) = (outcome.alarms + alarm, outcome.ordinary + 1);
            }
        }
        outcome.threshold = calibrator.relative().unwrap();
        outcome
    }
}

#[test]
fn ordinary_scores_alarm_as_seldom_as_they_should() {
    let (mut alarms, mut ordinary, mut caught, mut hostile) = (0, 0, 0, 0);
    for seed in 0..4 {
        let outcome = DAYS.run(Settings { seed, ..Settings::default() });
        alarms += outcome.alarms;
        ordinary += outcome.ordinary;
        (caught, hostile) = (caught + outcome.caught, hostile + outcome.hostile);
    }
    let rate = f64::from(alarms) / f64::from(ordinary);
    assert!((0.003..0.015).contains(&rate), "{rate} where 0.01 is wanted");
    assert!(f64::from(caught) > 0.9 * f64::from(hostile), "{caught} of {hostile} caught");
}

#[test]
fn a_loud_caller_hardly_moves_the_threshold() {
    let quiet = Days { drift: 0.0, hostile: (0.0, 1, 1.0), ..DAYS };
    // 5 % of all decisions are one caller's, who scores ten times as high, for three days.
    let loud = Days { hostile: (0.05, 1, 10.0), ..quiet.clone() };
    let [quiet, loud] = [quiet, loud].map(|days| days.run(Settings { seed: 9, ..Settings::default() }).threshold);
    assert!(loud / quiet < 1.15 && loud / quiet > 0.87, "from {quiet} to {loud}");
}

#[test]
fn with_too_little_to_compare_with_it_only_observes() {
    let mut calibrator = Calibrator::new(Settings::default(), None).unwrap();
    for at in 0..99 {
        assert_eq!(calibrator.observe(at, 1.0 + at as f64 / 100.0, 0.0), Ok(Verdict::Observe), "{at}");
        assert_eq!(calibrator.threshold(), None);
    }
    for at in 99..300 {
        calibrator.observe(at, 1.0 + at as f64 / 300.0, 0.0).unwrap();
    }
    assert!(matches!(calibrator.judge(9.0), Ok(Verdict::Alarm { p }) if p <= 0.01));
    assert!(matches!(calibrator.judge(1.5), Ok(Verdict::Ordinary { p }) if p > 0.1));
}

#[test]
fn a_prior_decides_while_there_are_few() {
    let mut calibrator = Calibrator::new(Settings::default(), Some(7.0)).unwrap();
    for at in 0..450 {
        calibrator.observe(at, 1.0, 0.0).unwrap();
    }
    assert_eq!(calibrator.relative(), Some(7.0));
    for at in 450..600 {
        calibrator.observe(at, 1.0, 0.0).unwrap();
    }
    assert!(calibrator.relative().is_some_and(|threshold| threshold < 2.0), "{:?}", calibrator.relative());
    for prior in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Calibrator::new(Settings::default(), Some(prior)).is_err());
    }
}

#[test]
fn a_confirmed_caller_goes_with_all_it_said() {
    let mut calibrator = Calibrator::new(Settings::default(), None).unwrap();
    let mut random = Random::new(4);
    for at in 0..3_000 {
        calibrator.observe(u64::from(random.below(300)), random.exponential(), f64::from(at)).unwrap();
        if at % 20 == 0 {
            calibrator.observe(7_777, 50.0, f64::from(at)).unwrap();
        }
    }
    let held = calibrator.reservoir.held();
    assert_eq!(calibrator.confirm(7_777), 50, "no more than its share was held");
    assert_eq!(calibrator.reservoir.held(), held - 50);
    assert!(matches!(calibrator.observe(7_777, 50.0, 3_001.0), Ok(Verdict::Alarm { .. })));
    assert_eq!(calibrator.reservoir.held(), held - 50, "what it says now is not taken either");
    calibrator.release(7_777);
    calibrator.observe(7_777, 1.0, 3_002.0).unwrap();
    assert_eq!(calibrator.reservoir.held(), held - 49);
}

#[test]
fn what_is_not_a_score_or_goes_back_in_time_changes_nothing() {
    let mut calibrator = Calibrator::new(Settings::default(), None).unwrap();
    calibrator.observe(1, 1.0, 100.0).unwrap();
    let before = calibrator.save();
    for score in [f64::NAN, f64::INFINITY, -0.1, 1e101] {
        assert!(calibrator.observe(1, score, 101.0).is_err() && calibrator.judge(score).is_err());
    }
    assert_eq!(calibrator.observe(1, 1.0, 99.0), Err(Error::Time { before: 100.0, now: 99.0 }));
    assert!(calibrator.observe(1, 1.0, f64::NAN).is_err() && calibrator.observe(1, 1.0, 1e16).is_err());
    assert_eq!(calibrator.save(), before);
    for settings in [
        Settings { alpha: 0.0, ..Settings::default() },
        Settings { capacity: 99, ..Settings::default() },
        Settings { half_life: f64::NAN, ..Settings::default() },
        Settings { share: 0.0, ..Settings::default() },
        Settings { movement: 0.21, ..Settings::default() },
    ] {
        assert!(Calibrator::new(settings, None).is_err());
    }
}

#[test]
fn it_stays_small_however_many_callers_there_are() {
    let mut calibrator = Calibrator::new(Settings { capacity: 500, ..Settings::default() }, None).unwrap();
    let mut random = Random::new(5);
    for at in 0..20_000_u32 {
        let caller = if at % 3 == 0 { u64::from(at) } else { u64::from(random.below(40)) };
        calibrator.observe(caller, random.exponential(), f64::from(at) * 60.0).unwrap();
        assert!(calibrator.reservoir.held() <= 500);
    }
    assert!(calibrator.memory() < 200_000, "{}", calibrator.memory());
    assert!(calibrator.number() > 150.0, "{}", calibrator.number());
}

#[test]
fn old_scores_fade() {
    let mut calibrator = Calibrator::new(Settings { half_life: DAY, ..Settings::default() }, None).unwrap();
    for at in 0..1_000 {
        calibrator.observe(at, 1.0, 0.0).unwrap();
    }
    let before = calibrator.number();
    for at in 0..300 {
        calibrator.observe(10_000 + at, 1.0, 20.0 * DAY).unwrap();
    }
    assert!(before > 900.0 && calibrator.number() < 310.0, "{before} {}", calibrator.number());
}

#[test]
fn snapshots_go_on_and_hostile_ones_are_safe() {
    let mut calibrator = Calibrator::new(Settings { capacity: 300, ..Settings::default() }, Some(3.0)).unwrap();
    let mut random = Random::new(6);
    for at in 0..2_000 {
        calibrator.observe(u64::from(random.below(200)), random.exponential(), f64::from(at)).unwrap();
    }
    calibrator.confirm(3);
    let mut loaded = Calibrator::load(&calibrator.save()).unwrap();
    for at in 2_000..3_000 {
        let (caller, score) = (u64::from(random.below(250)), random.exponential());
        assert_eq!(calibrator.observe(caller, score, f64::from(at)), loaded.observe(caller, score, f64::from(at)));
    }
    assert!(calibrator.save() == loaded.save());
    for bytes in mutations(&calibrator.save(), 400) {
        let Ok(mut loaded) = Calibrator::load(&bytes) else { continue };
        for at in 0..60 {
            let _ = loaded.observe(u64::from(random.below(250)), random.exponential(), 1e4 + f64::from(at));
        }
        loaded.confirm(5);
    }
}

proptest! {
    #[test]
    fn any_scores_are_taken(
        scores in prop::collection::vec(
            (0..20_u64, prop_oneof![0.0..1e100_f64, Just(0.0), 0.0..1.0_f64], 0.0..1e6_f64),
            0..400,
        ),
    ) {
        let settings = Settings { alpha: 0.1, capacity: 100, half_life: 3_600.0, ..Settings::default() };
        let (mut calibrator, mut now) = (Calibrator::new(settings, None).unwrap(), 0.0);
        for (caller, score, seconds) in scores {
            now += seconds;
            prop_assert!(calibrator.observe(caller, score, now).is_ok());
            prop_assert!(calibrator.threshold().is_none_or(|threshold| threshold >= 0.0));
            prop_assert!(calibrator.typical() > 0.0);
        }
        prop_assert!(Calibrator::load(&calibrator.save()).is_ok());
    }
}
