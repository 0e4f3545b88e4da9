//! The tuner with learners, and what hostile snapshots do to it and to the aggregator.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

#[path = "shared/forged.rs"]
mod forged;

use forged::forged;
use online::{
    Classifier as _, Random, Schema, Snapshot as _,
    learner::greatest,
    registry::{Model, Spec},
    robust::{Aggregator, Settings},
    tune::{self, Candidate, Evidence, Job, Next, Space, Task, Tuner, Window},
};

/// A log whose class is on which side of a parabola a point lies: no line tells it.
fn log(rows: usize) -> Vec<([f64; 2], usize)> {
    let mut random = Random::new(2);
    let row = |_| {
        let row = [random.uniform() * 2.0 - 1.0, random.uniform()];
        (row, usize::from(row[1] > row[0] * row[0]))
    };
    (0..rows).map(row).collect()
}

fn task(examples: usize) -> Task<Spec> {
    let champion =
        Candidate { spec: serde_json::from_str(r#"{ "learner": "logistic" }"#).unwrap(), window: Window::All };
    let mut space = Space::classifiers();
    // The quick ones: this is a test.
    space.kinds.truncate(4);
    Task { space, examples: examples as u64, drifts: vec![700], champion: Some(champion), hints: vec![] }
}

/// Runs a job as a worker would: models by the candidate's number.
fn run(job: &Job<Spec>, models: &mut [Option<Model>], log: &[([f64; 2], usize)]) -> Vec<f64> {
    let mut model = match job.warm {
        Some(warm) => models[warm].clone().unwrap(),
        None => job.candidate.spec.build(Schema::numeric(2).unwrap(), 2, 1).unwrap(),
    };
    let mut losses = Vec::new();
    for (row, class) in &log[job.from as usize..job.to as usize] {
        let mut probabilities = [0.0; 2];
        model.predict(row, &mut probabilities).unwrap();
        losses.push(f64::from(u8::from(greatest(&probabilities) != *class)));
        model.learn(row, *class, 1.0).unwrap();
    }
    models[job.number] = Some(model);
    losses
}

#[test]
fn a_tree_is_found_where_no_line_will_do() {
    let (log, mut models) = (log(5_400), vec![None; 16]);
    let settings = tune::Settings { candidates: 12, least: 200, ..tune::Settings::default() };
    let mut tuner = Tuner::new(settings, task(log.len()), 1).unwrap();
    while let Next::Work(job) = tuner.next_job().unwrap() {
        let losses = run(&job, &mut models, &log);
        tuner.report(job.id, &losses, losses.len() as f64).unwrap();
    }
    let best = tuner.best().unwrap();
    assert!(!matches!(best.candidate.spec, Spec::Logistic(_)), "{best:?}");
    assert!(matches!(best.evidence, Evidence::Gain { bounds: (low, _), .. } if low > 0.0), "{best:?}");
    assert!(tuner.needs_model(best.number) && models[best.number].is_some());
}

#[test]
fn a_forged_tuner_is_refused_or_harmless() {
    let settings = tune::Settings { candidates: 8, least: 100, ..tune::Settings::default() };
    let mut tuner = Tuner::new(settings, task(1_000), 1).unwrap();
    for _ in 0..5 {
        let Next::Work(job) = tuner.next_job().unwrap() else { break };
        let losses = vec![0.25; (job.to - job.from) as usize / 2];
        tuner.report(job.id, &losses, 1.0).unwrap();
    }
    for bytes in forged(&tuner.save(), 600) {
        let Ok(mut loaded) = Tuner::<Spec>::load(&bytes) else { continue };
        let _ = (loaded.best(), loaded.spent());
        let out: Vec<u64> = loaded.out().collect();
        for job in out {
            let _ = loaded.report(job, &[0.5; 10], 1.0);
            let _ = loaded.fail(job, tune::Failure::Lost);
        }
        for _ in 0..20 {
            let Ok(Next::Work(job)) = loaded.next_job() else { break };
            assert!(job.from <= job.to && job.scored < job.to);
            let _ = loaded.report(job.id, &vec![0.5; (job.to - job.from).min(10_000) as usize], 1.0);
        }
        let _ = loaded.best();
    }
}

#[test]
fn a_forged_aggregator_is_refused_or_harmless() {
    let mut aggregator = Aggregator::new(Settings::default(), 4, 3).unwrap();
    let (mut out, update): (_, &[f64]) = ([0.0; 3], &[1.0, 2.0, 3.0]);
    let _ = aggregator.aggregate(&[Some(update); 4], &mut out).unwrap();
    for bytes in forged(&aggregator.save(), 600) {
        let Ok(mut loaded) = Aggregator::load(&bytes) else { continue };
        if loaded.aggregate(&[Some(update); 4], &mut out).is_ok() {
            assert!(out.iter().all(|number| number.is_finite()), "{out:?}");
        }
    }
}
