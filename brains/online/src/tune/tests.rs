//! What holds for every search: little is spent, the best is found, the champion goes along, bad reports change nothing.

use proptest::prelude::*;

use super::*;
use crate::{Random, registry::Spec};

fn settings() -> Settings {
    Settings { least: 100, ..Settings::default() }
}

fn dial(setting: &str, values: Values) -> Dial {
    Dial { setting: setting.into(), values }
}

fn logistic(alpha: f64) -> Candidate<Spec> {
    let json = format!(r#"{{ "learner": "logistic", "alpha": {alpha} }}"#);
    Candidate { spec: serde_json::from_str(&json).unwrap(), window: Window::All }
}

/// Nine rates of logistic regression, from all of the past.
fn space() -> Space<Spec> {
    let alphas = Values::Numbers((1..=9).map(|n| f64::from(n) / 10.0).collect());
    Space {
        kinds: vec![Kind { base: logistic(0.1).spec, dials: vec![dial("alpha", alphas)] }],
        windows: vec![Window::All],
    }
}

fn task(space: Space<Spec>) -> Task<Spec> {
    Task { space, examples: 8_100, drifts: vec![], champion: None, hints: vec![] }
}

fn alpha(candidate: &Candidate<Spec>) -> f64 {
    match &candidate.spec {
        Spec::Logistic(settings) => settings.alpha,
        other => panic!("{other:?}"),
    }
}

/// What a job loses: the further its rate is from 0.5, the more.
fn losses(job: &Job<Spec>, seed: u64) -> Vec<f64> {
    let rate = 0.1 + (alpha(&job.candidate) - 0.5).abs();
    // Each example has its own draw, the same for whoever learns it.
    let draw = |example: u64| Random::new(seed.wrapping_add(example)).uniform();
    (job.from..job.to).map(|example| f64::from(u8::from(draw(example) < rate))).collect()
}

/// Runs a search with so many workers who report in parts of this size, and gives its jobs.
fn run(tuner: &mut Tuner<Spec>, workers: usize, part: usize) -> Vec<Job<Spec>> {
    let (mut jobs, mut working) = (Vec::new(), Vec::new());
    for _ in 0..10_000 {
        while working.len() < workers
            && let Next::Work(job) = tuner.next_job().unwrap()
        {
            working.push((losses(&job, 3), 0, job.clone()));
            jobs.push(job);
        }
        if working.is_empty() {
            assert_eq!(tuner.next_job().unwrap(), Next::Finished);
            return jobs;
        }
        // The one that began last is through first.
        let last = working.len() - 1;
        let (losses, told, job) = &mut working[last];
        let end = (*told + part).min(losses.len());
        let verdict = tuner.report(job.id, &losses[*told..end], 2.0 * (end - *told) as f64).unwrap();
        *told = end;
        if verdict != Verdict::GoOn {
            assert_eq!(verdict == Verdict::Done, *told == losses.len() && tuner.needs_model(job.number));
            working.pop();
        }
    }
    panic!("the search does not end");
}

#[test]
fn the_best_is_found_with_a_part_of_the_examples() {
    for (workers, part) in [(1, usize::MAX), (1, 50), (4, 200), (9, usize::MAX)] {
        let mut tuner = Tuner::new(settings(), task(space()), 1).unwrap();
        run(&mut tuner, workers, part);
        let best = tuner.best().unwrap();
        assert_eq!((alpha(best.candidate), best.examples, best.cost), (0.5, 8_100, 2.0), "{workers} workers");
        assert!((best.loss.0 - 0.1).abs() < 0.03 && best.loss.1 < 0.02, "{:?}", best.loss);
        let spent = tuner.spent();
        assert_eq!((spent.candidates, spent.cost), (9, 2.0 * spent.examples as f64));
        assert!(spent.examples < 9 * 8_100 / 3, "{spent:?}, {workers} workers");
        assert!(spent.stopped >= 4, "{spent:?}");
    }
}

#[test]
fn who_goes_on_goes_on_from_where_it_was() {
    let mut tuner = Tuner::new(settings(), task(space()), 1).unwrap();
    let jobs = run(&mut tuner, 1, usize::MAX);
    for job in &jobs {
        let before = jobs.iter().rfind(|other| other.number == job.number && other.id < job.id);
        assert_eq!((job.warm, job.from), before.map_or((None, 0), |before| (Some(job.number), before.to)));
        assert_eq!(job.scored, job.to - job.to / 3);
    }
    assert_eq!(jobs.iter().map(|job| job.to - job.from).sum::<u64>(), tuner.spent().examples);
}

#[test]
fn the_champion_goes_along_and_hints_come_first() {
    let known = Task { champion: Some(logistic(0.49)), hints: vec![logistic(0.55), logistic(0.9)], ..task(space()) };
    let mut tuner = Tuner::new(settings(), known, 1).unwrap();
    let jobs = run(&mut tuner, 1, usize::MAX);
    assert_eq!(jobs.iter().take(3).map(|job| alpha(&job.candidate)).collect::<Vec<_>>(), [0.49, 0.55, 0.9]);
    assert!(jobs.iter().any(|job| job.number == 0 && job.to == 8_100), "the champion sees the whole log");
    let best = tuner.best().unwrap();
    assert_eq!(alpha(best.candidate), 0.5);
    let Evidence::Gain { mean, bounds, examples } = best.evidence else { panic!("{best:?}") };
    assert!(examples == 2_700 && bounds.0 < mean && mean < bounds.1 && (mean - 0.01).abs() < 0.01, "{best:?}");
}

#[test]
fn a_champion_that_is_far_worse_is_stopped_and_still_judged() {
    let known = Task { champion: Some(logistic(0.1)), ..task(space()) };
    let mut tuner = Tuner::new(settings(), known, 1).unwrap();
    let jobs = run(&mut tuner, 1, usize::MAX);
    assert!(jobs.iter().all(|job| job.number != 0 || job.to < 8_100));
    let best = tuner.best().unwrap();
    assert!(matches!(best.evidence, Evidence::Gain { bounds: (low, _), .. } if low > 0.0), "{best:?}");
}

#[test]
fn windows_that_are_alike_are_one_job() {
    let space = Space { windows: Window::EVERY.to_vec(), ..space() };
    let count = |drifts: Vec<u64>| {
        let mut tuner = Tuner::new(settings(), Task { drifts, ..task(space.clone()) }, 1).unwrap();
        let jobs = run(&mut tuner, 1, usize::MAX);
        let first = jobs.iter().filter(|job| job.to == 300).count();
        (first, tuner.spent().candidates)
    };
    assert_eq!(count(vec![]), (18, 27), "without a drift, since the last one is all");
    assert_eq!(count(vec![100]), (27, 27));
}

#[test]
fn what_a_twin_left_is_gone_on_from() {
    // The drift is before the second rung's scored examples, and after the first's: twins part there.
    let space = Space { windows: vec![Window::All, Window::SinceDrift], ..space() };
    let mut tuner = Tuner::new(settings(), Task { drifts: vec![400], ..task(space) }, 1).unwrap();
    let jobs = run(&mut tuner, 1, usize::MAX);
    let copied = jobs.iter().filter(|job| job.warm.is_some_and(|warm| warm != job.number)).count();
    let anew = jobs.iter().filter(|job| job.to == 900 && job.from == 400 && job.warm.is_none()).count();
    assert!(copied > 0 && anew > 0, "{jobs:?}");
}

#[test]
fn kinds_that_rank_low_are_drawn_less() {
    let alphas = |values| Kind { base: logistic(0.1).spec, dials: vec![dial("alpha", values)] };
    let kinds = vec![alphas(Values::Between(0.45, 0.55)), alphas(Values::Between(0.8, 1.0))];
    let mut tuner =
        Tuner::new(Settings { candidates: 40, ..settings() }, task(Space { kinds, windows: vec![Window::All] }), 1)
            .unwrap();
    let jobs = run(&mut tuner, 1, usize::MAX);
    let good = jobs.iter().filter(|job| job.to == 300 && alpha(&job.candidate) < 0.6).count();
    assert!(good > 25, "{good} of 40");
}

#[test]
fn the_cheaper_of_equals_is_best() {
    let mut tuner = Tuner::new(Settings { finalists: 9, margin: 1.0, ..settings() }, task(space()), 1).unwrap();
    while let Next::Work(job) = tuner.next_job().unwrap() {
        let losses = vec![0.5; (job.to - job.from) as usize];
        let cost = if job.number == 4 { 1.0 } else { 3.0 };
        tuner.report(job.id, &losses, cost * losses.len() as f64).unwrap();
    }
    assert_eq!(tuner.best().map(|best| (best.number, best.cost)), Some((4, 1.0)));
}

#[test]
fn lost_jobs_are_given_out_again_and_broken_candidates_are_not() {
    let mut tuner = Tuner::new(settings(), task(space()), 1).unwrap();
    let Next::Work(first) = tuner.next_job().unwrap() else { panic!() };
    tuner.report(first.id, &[0.0; 30], 1.0).unwrap();
    tuner.fail(first.id, Failure::Lost).unwrap();
    assert_eq!(tuner.fail(first.id, Failure::Lost), Err(Error::Unknown("job 0".into())));
    let Next::Work(again) = tuner.next_job().unwrap() else { panic!() };
    assert_eq!(again, Job { id: 1, ..first });
    tuner.fail(again.id, Failure::Broken).unwrap();
    assert!(!tuner.needs_model(again.number));
    let jobs = run(&mut tuner, 2, 100);
    assert!(jobs.iter().all(|job| job.number != again.number));
    assert!(tuner.best().is_some());
}

#[test]
fn a_budget_ends_the_search() {
    let mut tuner = Tuner::new(Settings { budget: Some(700), ..settings() }, task(space()), 1).unwrap();
    assert!(tuner.best().is_none());
    run(&mut tuner, 1, usize::MAX);
    assert_eq!(tuner.spent().examples, 900, "three first rungs of 300");
    assert_eq!(tuner.best().map(|best| best.examples), Some(300));
}

#[test]
fn a_search_that_was_saved_goes_on_alike() {
    let mut tuner =
        Tuner::new(settings(), Task { champion: Some(logistic(0.3)), ..task(Space::classifiers()) }, 5).unwrap();
    let answer = |tuner: &mut Tuner<Spec>| {
        let Next::Work(job) = tuner.next_job().unwrap() else { return None };
        let losses: Vec<f64> =
            (job.from..job.to).map(|n| ((n * 7 + job.number as u64 * 3) % 10) as f64 / 10.0).collect();
        tuner.report(job.id, &losses, 1.0).unwrap();
        Some(job)
    };
    for _ in 0..200 {
        let mut loaded = Tuner::<Spec>::load(&tuner.save()).unwrap();
        assert_eq!(loaded, tuner);
        let (one, other) = (answer(&mut tuner), answer(&mut loaded));
        assert_eq!(one, other);
        if one.is_none() {
            return;
        }
    }
    panic!("the search does not end");
}

#[test]
fn candidates_are_read_and_written_as_manifests_have_them() {
    let json = r#"{"spec":{"learner":"naive-bayes"},"window":"since-drift"}"#;
    let candidate: Candidate<Spec> = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&candidate).unwrap(), json);
}

#[test]
fn default_spaces_can_be_searched_and_built() {
    let (mut random, schema) = (Random::new(1), crate::Schema::numeric(3).unwrap());
    let (classifiers, regressors) = (Space::classifiers(), Space::regressors());
    assert_eq!((classifiers.check(), classifiers.kinds.len()), (Ok(()), 7));
    assert_eq!((regressors.check(), regressors.kinds.len()), (Ok(()), 3));
    for _ in 0..10 {
        for kind in 0..7 {
            classifiers.drawn(kind, &mut random).unwrap().spec.build(schema.clone(), 2, 1).unwrap();
        }
        for kind in 0..3 {
            regressors.drawn(kind, &mut random).unwrap().spec.build(schema.clone(), 1).unwrap();
        }
    }
}

#[test]
fn what_can_t_be_searched_is_an_error() {
    let new = |settings: Settings, task: Task<Spec>| Tuner::new(settings, task, 1).map(|_| ());
    let with = |setting: &str, values| Space {
        kinds: vec![Kind { base: logistic(0.1).spec, dials: vec![dial(setting, values)] }],
        ..space()
    };
    for bad in [
        Settings { eta: 1, ..settings() },
        Settings { rungs: 1, ..settings() },
        Settings { least: 5_000, ..settings() },
        Settings { candidates: 0, ..settings() },
        Settings { finalists: 0, ..settings() },
        Settings { alpha: f64::NAN, ..settings() },
        Settings { thrift: 2.0, ..settings() },
    ] {
        assert!(new(bad.clone(), task(space())).is_err(), "{bad:?}");
    }
    for bad in [
        Space { kinds: vec![], ..space() },
        Space { windows: vec![], ..space() },
        with("alfa", Values::Numbers(vec![0.1])),
        with("alpha", Values::Words(vec!["much".into()])),
        with("alpha", Values::Numbers(vec![])),
        with("alpha", Values::Numbers(vec![f64::INFINITY])),
        with("alpha", Values::Between(1.0, 0.5)),
        with("alpha", Values::Magnitudes(0.0, 0.5)),
        with("alpha.deep", Values::Numbers(vec![0.1])),
    ] {
        assert!(new(settings(), task(bad.clone())).is_err(), "{bad:?}");
    }
}

fn part() -> impl Strategy<Value = Vec<f64>> {
    let loss = prop_oneof![20 => 0.0..=1.0_f64, 1 => Just(f64::NAN), 1 => any::<f64>()];
    prop_oneof![
        5 => prop::collection::vec(0.0..=1.0_f64, 0..400),
        1 => prop::collection::vec(loss, 0..40),
        1 => Just(vec![0.5; 9_000]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_reported_the_state_stays_sound(
        steps in prop::collection::vec((0..12_u64, part(), any::<f64>(), 0..8_u8), 1..60), drift in 0..9_000_u64,
    ) {
        let space = Space { windows: Window::EVERY.to_vec(), ..space() };
        let known = Task { champion: Some(logistic(0.5)), drifts: vec![drift], ..task(space) };
        let mut tuner = Tuner::new(Settings { candidates: 12, ..settings() }, known, 1).unwrap();
        for (job, losses, cost, what) in steps {
            let before = tuner.clone();
            let done = match what {
                0 => tuner.fail(job, Failure::Lost),
                1 => tuner.fail(job, Failure::Broken),
                2..=4 => tuner.report(job, &losses, cost).map(|_| ()),
                _ => tuner.report(job, &losses, 1.0).map(|_| ()),
            };
            if done.is_err() {
                prop_assert_eq!(&tuner, &before);
            }
            let _ = tuner.next_job().unwrap();
            prop_assert!(tuner.check().is_ok(), "{tuner:?}");
            prop_assert!(tuner.best().is_none_or(|best| (0.0..=1.0).contains(&best.loss.0)));
            prop_assert_eq!(&Tuner::<Spec>::load(&tuner.save()).unwrap(), &tuner);
        }
    }
}
