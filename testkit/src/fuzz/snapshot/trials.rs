//! What anything that loads must do: be saved as it is, answer and learn, and be saved again.

use online::{
    Classifier, Encoder, Feature, Kind, Random, Regressor, Result, Schema, Snapshot, Transformer, Value,
    anomaly::{self, Scorer},
    bandit, calibrate,
    drift::{self, Detector, RowDetector},
    evaluate::{self, Answer},
    evidence, forecast, guard, peers, share,
};

/// Rows that what loads must take in.
const ROWS: u32 = 8;
/// What a row's width times its classes may be: beyond that it is only loaded.
const WIDE: usize = 4_096;

/// Loads it; what loads is saved and loaded again to the same bytes.
fn loaded<T: Snapshot>(bytes: &[u8]) -> Option<T> {
    let state = T::load(bytes).ok()?;
    again(&state);
    Some(state)
}

/// What is saved loads, and is saved as the same bytes.
fn again<T: Snapshot>(state: &T) {
    if let Err(error) = later(state) {
        panic!("a {} that was saved does not load: {error}", T::KIND);
    }
}

/// The same of one that has learnt: what was forged may hold numbers that no stream leads to, and may grow until they
/// are none. Then it is refused.
fn later<T: Snapshot>(state: &T) -> Result<()> {
    let saved = state.save();
    let copy = T::load(&saved)?;
    assert_eq!(copy.save(), saved, "a {} is not what was saved", T::KIND);
    Ok(())
}

/// Some row of a schema: numbers of any size, words, missing values.
fn row(schema: &Schema, random: &mut Random) -> Vec<f64> {
    let value = |feature: &Feature| match (random.below(8), feature.kind) {
        (0, _) => f64::NAN,
        (_, Kind::Word(words)) => f64::from(random.below(words)),
        (1, _) => 1e300 * random.normal().clamp(-1.0, 1.0),
        (2, _) => 1e-300,
        (3, _) => 1.0,
        _ => random.normal(),
    };
    schema.features().iter().map(value).collect()
}

fn numbers(width: usize, random: &mut Random) -> Vec<f64> {
    (0..width).map(|_| if random.below(8) == 0 { f64::NAN } else { 10.0 * random.normal() }).collect()
}

pub(super) fn classifier<T: Classifier + Snapshot>(bytes: &[u8]) {
    let Some(mut learner) = loaded::<T>(bytes) else { return };
    let (mut random, classes) = (Random::new(1), learner.classes());
    if learner.schema().width().saturating_mul(classes) > WIDE {
        return;
    }
    let mut probabilities = vec![0.0; classes];
    for turn in 0..ROWS {
        let row = row(learner.schema(), &mut random);
        learner.predict(&row, &mut probabilities).expect("a row of its schema is answered");
        let sum: f64 = probabilities.iter().sum();
        assert!(probabilities.iter().all(|p| *p >= 0.0) && (sum - 1.0).abs() < 1e-6, "{}: {probabilities:?}", T::KIND);
        learner.learn(&row, turn as usize % classes, 1.0).expect("a row of its schema is learnt");
    }
    let _ = later(&learner);
}

pub(super) fn regressor<T: Regressor + Snapshot>(bytes: &[u8]) {
    let Some(mut learner) = loaded::<T>(bytes) else { return };
    let mut random = Random::new(1);
    for _ in 0..ROWS {
        let row = row(learner.schema(), &mut random);
        let said = learner.predict(&row).expect("a row of its schema is answered");
        assert!(said.is_finite(), "{}: {said}", T::KIND);
        learner.learn(&row, 10.0 * random.normal(), 1.0).expect("a row of its schema is learnt");
    }
    let _ = later(&learner);
}

pub(super) fn transformer<T: Transformer + Snapshot>(bytes: &[u8]) {
    let Some(mut step) = loaded::<T>(bytes) else { return };
    let (mut random, mut out) = (Random::new(1), vec![0.0; step.output().width()]);
    for _ in 0..ROWS {
        let row = row(step.schema(), &mut random);
        step.learn(&row, 1.0).expect("a row of its schema is learnt");
        step.transform(&row, &mut out).expect("a row of its schema is transformed");
        assert_eq!(step.output().check(&out), Ok(()), "{}", T::KIND);
    }
    let _ = later(&step);
}

pub(super) fn encoder(bytes: &[u8]) {
    let Some(mut encoder) = loaded::<Encoder>(bytes) else { return };
    let value = |feature: &Feature| match feature.kind {
        Kind::Numeric => Value::Number(0.5),
        Kind::Word(_) => Value::Word("new"),
    };
    let columns = encoder.schema().features().to_vec();
    let (values, mut row) = (columns.iter().map(value).collect::<Vec<_>>(), vec![0.0; columns.len()]);
    encoder.learn(&values).expect("values of its columns are learnt");
    encoder.encode(&values, &mut row).expect("values of its columns are encoded");
    assert_eq!(encoder.schema().check(&row), Ok(()));
    let _ = later(&encoder);
}

pub(super) fn scorer<T: Scorer + Snapshot>(bytes: &[u8]) {
    let Some(mut scorer) = loaded::<T>(bytes) else { return };
    let mut random = Random::new(1);
    for _ in 0..ROWS {
        let row = numbers(scorer.width(), &mut random);
        let score = scorer.score(&row).expect("a row of its width is scored");
        assert!((0.0..=1.0).contains(&score), "{}: {score}", T::KIND);
        scorer.learn(&row).expect("a row of its width is learnt");
    }
    let _ = later(&scorer);
}

pub(super) fn detector<T: Detector + Snapshot>(bytes: &[u8]) {
    let Some(mut detector) = loaded::<T>(bytes) else { return };
    for turn in 0..ROWS {
        detector.update(f64::from(turn % 3) / 2.0).expect("a number is taken");
    }
    let _ = later(&detector);
    detector.reset();
    let _ = later(&detector);
}

pub(super) fn inputs(bytes: &[u8]) {
    let Some(mut inputs) = loaded::<drift::Inputs>(bytes) else { return };
    // Of any schema: rows of missing values are rows of all.
    for _ in 0..ROWS {
        inputs.update(&vec![f64::NAN; inputs.width()]).expect("a row of its width is taken");
    }
    let _ = later(&inputs);
}

pub(super) fn mmd(bytes: &[u8]) {
    let Some(mut mmd) = loaded::<drift::Mmd>(bytes) else { return };
    let mut random = Random::new(1);
    for _ in 0..ROWS {
        mmd.update(&numbers(mmd.width(), &mut random)).expect("a row of its width is taken");
    }
    let _ = later(&mmd);
}

pub(super) fn anomaly_scaler(bytes: &[u8]) {
    let Some(mut scaler) = loaded::<anomaly::Scaler>(bytes) else { return };
    let (mut random, mut out) = (Random::new(1), vec![0.0; scaler.width()]);
    for _ in 0..ROWS {
        let row = numbers(scaler.width(), &mut random);
        scaler.learn(&row).expect("a row of its width is learnt");
        scaler.scale(&row, &mut out).expect("a row of its width is scaled");
        assert!(out.iter().all(|value| value.is_finite()), "{out:?}");
    }
    let _ = later(&scaler);
}

pub(super) fn calibrator(bytes: &[u8]) {
    let Some(mut calibrator) = loaded::<calibrate::Calibrator>(bytes) else { return };
    let mut random = Random::new(1);
    for turn in 0..ROWS {
        // Its time may be later than this, which is an error that changes nothing.
        let _ = calibrator.observe(u64::from(turn), random.uniform(), 1e15);
    }
    let _ = later(&calibrator);
    calibrator.confirm(1);
    let _ = later(&calibrator);
}

pub(super) fn forecaster(bytes: &[u8]) {
    let Some(mut forecast) = loaded::<forecast::Forecast>(bytes) else { return };
    let horizons = forecast.settings().horizons.len();
    for turn in 0..ROWS {
        let _ = forecast.observe(1e9 + 1e6 * f64::from(turn), f64::from(turn));
        for horizon in 0..horizons {
            forecast.ahead(horizon).expect("a horizon of its own");
        }
    }
    let _ = later(&forecast);
}

pub(super) fn thompson(bytes: &[u8]) {
    let Some(mut bandit) = loaded::<bandit::Thompson>(bytes) else { return };
    for _ in 0..ROWS {
        let arm = bandit.choose();
        bandit.reward(arm, 0.5).expect("a reward of an arm that it chose");
    }
    let _ = later(&bandit);
}

pub(super) fn fixed_share(bytes: &[u8]) {
    let Some(mut share) = loaded::<share::FixedShare>(bytes) else { return };
    let losses = vec![0.5; share.weights().len()];
    share.update(&losses).expect("as many losses as experts");
    let _ = later(&share);
}

pub(super) fn guarded(bytes: &[u8]) {
    let Some(mut guard) = loaded::<guard::Guard>(bytes) else { return };
    let losses = vec![0.25; usize::from(guard.settings().challengers)];
    for _ in 0..ROWS {
        let label =
            guard::Label { requested: 1e12, champion: 0.5, challengers: &losses, slice: None, contributor: Some(1) };
        let _ = guard.paired(&label, 1e12);
        let lot = guard.lot(0.5, 0.1).expect("a share and a draw");
        let _ = guard.split(&guard::Outcome { lot, requested: 1e12, loss: 0.1, slice: None }, 1e12);
        let _ = guard.simulated(0, 0.5, 0.25, 1e12);
    }
    let _ = later(&guard);
    guard.drift(guard::Alarm::Raised);
    guard.permit(guard::Mode::Shadow);
    let _ = later(&guard);
}

pub(super) fn switchback(bytes: &[u8]) {
    let Some(mut blocks) = loaded::<guard::Switchback>(bytes) else { return };
    for turn in 0..ROWS {
        let now = 1e11 + 1e9 * f64::from(turn);
        let _ = blocks.observe(now, 0.5, now);
    }
    let _ = later(&blocks);
}

pub(super) fn e_process(bytes: &[u8]) {
    let Some(mut process) = loaded::<evidence::EProcess>(bytes) else { return };
    for turn in 0..ROWS {
        let _ = process.observe(f64::from(turn % 3) - 1.0);
    }
    let _ = later(&process);
}

pub(super) fn e_detector(bytes: &[u8]) {
    let Some(mut detector) = loaded::<evidence::EDetector>(bytes) else { return };
    for turn in 0..ROWS {
        let _ = detector.observe(f64::from(turn % 3) - 1.0);
    }
    let _ = later(&detector);
}

pub(super) fn season(bytes: &[u8]) {
    let Some(mut season) = loaded::<evidence::Season>(bytes) else { return };
    for turn in 0..ROWS {
        let _ = season.ended(1e9 * f64::from(turn));
    }
    let _ = later(&season);
}

pub(super) fn interval(bytes: &[u8]) {
    let Some(mut interval) = loaded::<evidence::Interval>(bytes) else { return };
    for turn in 0..ROWS {
        let _ = interval.observe(f64::from(turn % 3) - 1.0);
        interval.bounds();
    }
    let _ = later(&interval);
}

pub(super) fn split_interval(bytes: &[u8]) {
    let Some(mut interval) = loaded::<evidence::SplitInterval>(bytes) else { return };
    for turn in 0..ROWS {
        let side = if turn % 2 == 0 { evidence::split::Side::First } else { evidence::split::Side::Second };
        let _ = interval.observe(side, 0.5);
        interval.bounds();
    }
    let _ = later(&interval);
}

pub(super) fn judge_of_classes(bytes: &[u8]) {
    let Some(mut judge) = loaded::<evaluate::Classes>(bytes) else { return };
    let classes = judge.classes();
    if classes > WIDE {
        return;
    }
    let even = vec![1.0 / classes as f64; classes];
    for turn in 0..ROWS as usize {
        let answer = if turn % 2 == 0 { Answer::Probabilities(&even) } else { Answer::Class(0) };
        judge.observe(answer, turn % classes).expect("an answer among its classes");
    }
    judge.report();
    let _ = later(&judge);
}

pub(super) fn judge_of_numbers(bytes: &[u8]) {
    let Some(mut judge) = loaded::<evaluate::Numbers>(bytes) else { return };
    for turn in 0..ROWS {
        judge.observe(f64::from(turn), 1.0).expect("numbers");
    }
    judge.report();
    let _ = later(&judge);
}

pub(super) fn peers(bytes: &[u8]) {
    let Some(mut peers) = loaded::<peers::Peers>(bytes) else { return };
    for turn in 0..ROWS {
        peers.observe(u64::from(turn % 3), turn, turn % 2 == 0);
    }
    let _ = later(&peers);
    let known: Vec<u64> = peers.standings().map(|(who, _)| who).collect();
    for who in known {
        peers.trust(who);
        peers.observe(who, 0, true);
        peers.distrust(who);
    }
    let _ = later(&peers);
}
