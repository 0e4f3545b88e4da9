//! What holds for every classifier: bad input is an error that changes nothing, snapshots give the same answers, memory is
//! bounded, and what can be learnt is.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

#[path = "shared/forged.rs"]
mod forged;
mod shared;

use forged::forged;
use online::{
    AdaptiveTree, Auto, Boosted, Classifier, Ensemble, Error, HoeffdingTree, Logistic, Neighbours, Random, Result,
    Schema, adaptive, auto, boosted, ensemble, logistic, neighbours, registry::Spec, tree,
};
use proptest::prelude::*;
use shared::{mixed, row, weight};

shared::learner!(Classifier);

/// Makes a learner for rows of a schema and so many classes.
type Make = fn(Schema, usize) -> Result<Box<dyn Learner>>;

const ALL: [(&str, Make); 12] = [
    ("tree", |schema, classes| {
        let settings = tree::Settings { grace: 30.0, ..tree::Settings::default() };
        boxed(HoeffdingTree::new(settings, schema, classes, 1))
    }),
    ("adaptive", |schema, classes| {
        let tree = tree::Settings { grace: 30.0, ..tree::Settings::default() };
        boxed(AdaptiveTree::new(adaptive::Settings { tree, ..adaptive::Settings::default() }, schema, classes, 1))
    }),
    ("bayes", |schema, classes| boxed(HoeffdingTree::naive_bayes(schema, classes))),
    ("arf", |schema, classes| boxed(Ensemble::new(ensemble::Settings::adaptive_random_forest(4), schema, classes, 1))),
    ("srp", |schema, classes| {
        boxed(Ensemble::new(ensemble::Settings::streaming_random_patches(4), schema, classes, 1))
    }),
    ("lb", |schema, classes| boxed(Ensemble::new(ensemble::Settings::leveraging_bagging(4), schema, classes, 1))),
    ("boosted", |schema, classes| boxed(Boosted::new(boosted::Settings::of(10), schema, classes, 1))),
    ("logistic", |schema, classes| boxed(Logistic::new(logistic::Settings::default(), schema, classes))),
    ("neighbours", |schema, classes| {
        let settings = neighbours::Settings { window: 100, ..neighbours::Settings::default() };
        boxed(Neighbours::new(settings, schema, classes))
    }),
    ("auto", |schema, classes| {
        boxed(Auto::new(
            auto::Settings { trees: Some(3), steps: Some(10), ..auto::Settings::default() },
            schema,
            classes,
            1,
        ))
    }),
    ("pipeline", |schema, classes| {
        let steps = r#"[{ "step": "scaler" }, { "step": "one-hot" }]"#;
        boxed(behind(steps, r#"{ "learner": "logistic" }"#).build(schema, classes, 1))
    }),
    ("hashed pipeline", |schema, classes| {
        let steps = r#"[{ "step": "scaler", "by": "quantiles" }, { "step": "hashing", "bits": 5 }]"#;
        boxed(behind(steps, r#"{ "learner": "adaptive-random-forest", "trees": 3 }"#).build(schema, classes, 1))
    }),
];

/// A learner behind steps.
fn behind(steps: &str, model: &str) -> Spec {
    serde_json::from_str(&format!(r#"{{ "learner": "pipeline", "steps": {steps}, "model": {model} }}"#)).unwrap()
}

fn answer(learner: &dyn Learner, row: &[f64]) -> Vec<f64> {
    let mut probabilities = vec![0.0; learner.classes()];
    learner.predict(row, &mut probabilities).unwrap();
    probabilities
}

/// A row whose class all its columns tell of, with one in twenty missing.
fn example(random: &mut Random) -> ([f64; 3], usize) {
    let class = random.below(3) as usize;
    let mut row =
        [class as f64 + 0.4 * random.normal(), 100.0 - 30.0 * class as f64 + 10.0 * random.normal(), class as f64];
    if random.uniform() < 0.1 {
        row[2] = f64::from(random.below(3));
    }
    for value in &mut row {
        if random.uniform() < 0.05 {
            *value = f64::NAN;
        }
    }
    (row, class)
}

fn taught(make: Make, rows: usize) -> Box<dyn Learner> {
    let mut learner = make(mixed(), 3).unwrap();
    let mut random = Random::new(3);
    for _ in 0..rows {
        let (row, class) = example(&mut random);
        learner.learn(&row, class, 1.0).unwrap();
    }
    learner
}

#[test]
fn what_can_be_learnt_is() {
    for (name, make) in ALL {
        let learner = taught(make, 3_000);
        let mut random = Random::new(4);
        let right = (0..1_000).filter(|_| {
            let (row, class) = example(&mut random);
            online::learner::greatest(&answer(&*learner, &row)) == class
        });
        let share = right.count() as f64 / 1_000.0;
        assert!(share > 0.9, "{name}: {share}");
        assert!(learner.memory() > 0 && learner.memory() < 80 << 20, "{name}: {}", learner.memory());
    }
}

#[test]
fn a_class_that_changes_its_look_is_learnt_anew() {
    for (name, make) in ALL
        .into_iter()
        .filter(|(name, _)| matches!(*name, "adaptive" | "arf" | "srp" | "lb" | "boosted" | "neighbours" | "auto"))
    {
        let mut learner = make(Schema::numeric(2).unwrap(), 2).unwrap();
        let mut random = Random::new(5);
        let mut right = 0;
        for n in 0..8_000 {
            let row = [random.uniform(), random.uniform()];
            let class = usize::from((row[0] > 0.5) != (n >= 4_000));
            if n >= 6_000 {
                right += usize::from(online::learner::greatest(&answer(&*learner, &row)) == class);
            }
            learner.learn(&row, class, 1.0).unwrap();
        }
        assert!(right > 1_840, "{name}: {right} of 2,000");
    }
}

#[test]
fn who_has_learnt_nothing_says_that_all_are_alike() {
    for (name, make) in ALL {
        let learner = make(mixed(), 4).unwrap();
        let said = answer(&*learner, &[1.0, f64::NAN, 2.0]);
        assert!(said.iter().all(|probability| (probability - 0.25).abs() < 1e-9), "{name}: {said:?}");
    }
}

#[test]
fn what_is_wrong_is_an_error_and_changes_nothing() {
    for (name, make) in ALL {
        let mut learner = taught(make, 200);
        let before = learner.saved();
        let row = [1.0, 50.0, 1.0];
        let mut places = [0.0; 3];
        for (bad, error) in [
            (vec![], Error::Width { wanted: 3, found: 0 }),
            (vec![1.0; 4], Error::Width { wanted: 3, found: 4 }),
            (vec![f64::INFINITY, 0.0, 0.0], Error::Infinite { index: 0 }),
            (vec![0.0, f64::NEG_INFINITY, 0.0], Error::Infinite { index: 1 }),
            (vec![0.0, 0.0, 3.0], Error::Word { index: 2, value: 3.0, words: 3 }),
            (vec![0.0, 0.0, -1.0], Error::Word { index: 2, value: -1.0, words: 3 }),
            (vec![0.0, 0.0, 0.5], Error::Word { index: 2, value: 0.5, words: 3 }),
        ] {
            assert_eq!(learner.predict(&bad, &mut places), Err(error.clone()), "{name}");
            assert_eq!(learner.learn(&bad, 0, 1.0), Err(error), "{name}");
        }
        assert_eq!(learner.predict(&row, &mut places[..2]), Err(Error::Width { wanted: 3, found: 2 }), "{name}");
        assert_eq!(learner.learn(&row, 3, 1.0), Err(Error::Class { class: 3, classes: 3 }), "{name}");
        for weight in [-1.0, f64::INFINITY] {
            assert_eq!(learner.learn(&row, 0, weight), Err(Error::Weight(weight)), "{name}");
        }
        assert!(matches!(learner.learn(&row, 0, f64::NAN), Err(Error::Weight(_))), "{name}");
        learner.learn(&row, 0, 0.0).unwrap();
        assert_eq!(learner.saved(), before, "{name}");
        for classes in [0, 1, 1_000_000] {
            assert!(make(mixed(), classes).is_err(), "{name}: {classes} classes");
        }
    }
}

#[test]
fn many_classes_and_columns_that_say_nothing_are_learnt_from() {
    for (name, make) in ALL {
        let mut learner = make(Schema::numeric(3).unwrap(), 300).unwrap();
        for n in 0..600 {
            learner.learn(&[1.0, f64::NAN, 1e300], n % 300, 1.0).unwrap();
        }
        let said = answer(&*learner, &[1.0, f64::NAN, 1e300]);
        let sum: f64 = said.iter().sum();
        assert!((sum - 1.0).abs() < 1e-9 && said.iter().all(|p| *p >= 0.0), "{name}: {sum}");
    }
}

#[test]
fn a_snapshot_answers_and_learns_as_the_one_it_was_taken_of() {
    for (name, make) in ALL {
        let mut learner = taught(make, 700);
        let mut copy = learner.loaded(&learner.saved()).unwrap();
        let mut random = Random::new(9);
        for _ in 0..300 {
            let (row, class) = example(&mut random);
            let bits = |learner: &dyn Learner| answer(learner, &row).into_iter().map(f64::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(&*learner), bits(&*copy), "{name}");
            learner.learn(&row, class, 1.0).unwrap();
            copy.learn(&row, class, 1.0).unwrap();
        }
        assert_eq!(learner.saved(), copy.saved(), "{name}");
    }
}

#[test]
fn a_forged_snapshot_is_refused_or_harmless() {
    for (name, make) in ALL {
        let learner = taught(make, 150);
        let mut random = Random::new(12);
        for bytes in forged(&learner.saved(), 400) {
            let Ok(mut loaded) = learner.loaded(&bytes) else { continue };
            // What loads works: answers are probabilities, and it can learn.
            if loaded.schema() != learner.schema() || loaded.classes() != learner.classes() {
                continue;
            }
            for n in 0..20 {
                let (row, class) = example(&mut random);
                let said = answer(&*loaded, &row);
                let sum: f64 = said.iter().sum();
                assert!(said.iter().all(|p| *p >= 0.0) && (sum - 1.0).abs() < 1e-6, "{name}, {n}: {said:?}");
                loaded.learn(&row, class, 1.0).unwrap();
            }
        }
    }
}

fn rows() -> impl Strategy<Value = Vec<([f64; 3], usize, f64)>> {
    prop::collection::vec((row(), 0..3_usize, weight()), 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn whatever_comes_answers_are_probabilities(rows in rows()) {
        for (name, make) in ALL {
            let mut learner = make(mixed(), 3).unwrap();
            for (row, class, weight) in &rows {
                let said = answer(&*learner, row);
                let sum: f64 = said.iter().sum();
                prop_assert!(said.iter().all(|p| *p >= 0.0) && (sum - 1.0).abs() < 1e-6, "{name}: {said:?}");
                learner.learn(row, *class, *weight).unwrap();
            }
            let loaded = learner.loaded(&learner.saved());
            prop_assert!(loaded.is_ok(), "{name}: {:?}", loaded.err());
        }
    }
}
