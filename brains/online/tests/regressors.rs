//! What holds for every regressor: bad input is an error that changes nothing, snapshots give the same answers, and what can
//! be learnt is.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

mod shared;

use online::{
    Error, Linear, Random, RegressionForest, RegressionTree, Regressor, Schema, fimt_dd, forest, linear,
    linear::Estimate, registry::RegressorSpec,
};
use proptest::prelude::*;
use shared::{mixed, row, weight};

shared::learner!(Regressor);

type Make = fn() -> Box<dyn Learner>;

const ALL: [(&str, Make); 5] = [
    ("tree", || Box::new(RegressionTree::new(fimt_dd::Settings::default(), mixed(), 1).unwrap())),
    ("forest", || Box::new(RegressionForest::new(forest::Settings::of(5), mixed(), 1).unwrap())),
    ("linear", || Box::new(Linear::new(linear::Settings::default(), mixed()).unwrap())),
    ("median", || {
        let settings = linear::Settings { estimate: Estimate::Quantile(0.5), ..linear::Settings::default() };
        Box::new(Linear::new(settings, mixed()).unwrap())
    }),
    ("pipeline", || {
        let json = r#"{ "learner": "pipeline", "steps": [{ "step": "one-hot" }], "model": { "learner": "linear" } }"#;
        boxed(serde_json::from_str::<RegressorSpec>(json).unwrap().build(mixed(), 1)).unwrap()
    }),
];

/// A row and its number: linear in the first, another level for each word, and noise.
fn example(random: &mut Random) -> ([f64; 3], f64) {
    let word = random.below(3);
    let row = [random.normal(), 100.0 * random.normal(), f64::from(word)];
    (row, 1_000.0 + 10.0 * row[0] + 40.0 * f64::from(word) + random.normal())
}

fn taught(make: Make, rows: usize) -> Box<dyn Learner> {
    let (mut learner, mut random) = (make(), Random::new(3));
    for _ in 0..rows {
        let (row, target) = example(&mut random);
        learner.learn(&row, target, 1.0).unwrap();
    }
    learner
}

#[test]
fn what_can_be_learnt_is() {
    for (name, make) in ALL {
        let learner = taught(make, 6_000);
        let mut random = Random::new(4);
        let mut error = 0.0;
        for _ in 0..1_000 {
            let (row, target) = example(&mut random);
            error += (learner.predict(&row).unwrap() - target).abs() / 1_000.0;
        }
        // The mean alone is off by about 30, and noise by 0.8.
        assert!(error < 8.0, "{name}: {error}");
        assert!(learner.memory() > 0 && learner.memory() < 80 << 20, "{name}");
    }
}

#[test]
fn a_quantile_has_its_share_below_it() {
    for level in [0.1, 0.9] {
        let settings = linear::Settings { estimate: Estimate::Quantile(level), ..linear::Settings::default() };
        let mut linear = Linear::new(settings, Schema::numeric(1).unwrap()).unwrap();
        let (mut random, mut below) = (Random::new(5), 0);
        for n in 0..30_000 {
            let row = [random.normal()];
            let target = 5.0 * row[0] + 3.0 * random.normal();
            if n >= 10_000 {
                below += i32::from(target <= linear.predict(&row).unwrap());
            }
            linear.learn(&row, target, 1.0).unwrap();
        }
        let share = f64::from(below) / 20_000.0;
        assert!((share - level).abs() < 0.02, "{share} at {level}");
    }
}

#[test]
fn what_changes_is_learnt_anew() {
    let mut forest = RegressionForest::new(forest::Settings::of(5), Schema::numeric(2).unwrap(), 1).unwrap();
    let (mut random, mut error) = (Random::new(6), 0.0);
    for n in 0..12_000 {
        let row = [random.uniform(), random.uniform()];
        let target = if (row[0] > 0.5) == (n < 6_000) { 10.0 } else { -10.0 };
        if n >= 10_000 {
            error += (forest.predict(&row).unwrap() - target).abs() / 2_000.0;
        }
        forest.learn(&row, target, 1.0).unwrap();
    }
    assert!(error < 2.5 && forest.drifts() > 0, "{error} after {} trees", forest.drifts());
}

#[test]
fn what_is_wrong_is_an_error_and_changes_nothing() {
    for (name, make) in ALL {
        let mut learner = taught(make, 200);
        let before = learner.saved();
        let row = [1.0, 50.0, 1.0];
        for (bad, error) in [
            (vec![], Error::Width { wanted: 3, found: 0 }),
            (vec![f64::INFINITY, 0.0, 0.0], Error::Infinite { index: 0 }),
            (vec![0.0, 0.0, 3.0], Error::Word { index: 2, value: 3.0, words: 3 }),
        ] {
            assert_eq!(learner.predict(&bad), Err(error.clone()), "{name}");
            assert_eq!(learner.learn(&bad, 0.0, 1.0), Err(error), "{name}");
        }
        for target in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(matches!(learner.learn(&row, target, 1.0), Err(Error::NotFinite { .. })), "{name}");
        }
        for weight in [-1.0, f64::NAN, 1e300] {
            assert!(matches!(learner.learn(&row, 0.0, weight), Err(Error::Weight(_))), "{name}");
        }
        learner.learn(&row, 0.0, 0.0).unwrap();
        assert_eq!(learner.saved(), before, "{name}");
    }
}

#[test]
fn a_snapshot_answers_and_learns_as_the_one_it_was_taken_of() {
    for (name, make) in ALL {
        let mut learner = taught(make, 900);
        let mut copy = learner.loaded(&learner.saved()).unwrap();
        let mut random = Random::new(9);
        for _ in 0..300 {
            let (row, target) = example(&mut random);
            let bits = |learner: &dyn Learner| learner.predict(&row).unwrap().to_bits();
            assert_eq!(bits(&*learner), bits(&*copy), "{name}");
            learner.learn(&row, target, 1.0).unwrap();
            copy.learn(&row, target, 1.0).unwrap();
        }
        assert_eq!(learner.saved(), copy.saved(), "{name}");
    }
}

fn pairs() -> impl Strategy<Value = Vec<([f64; 3], f64, f64)>> {
    let finite = any::<f64>().prop_filter("finite", |x| x.is_finite());
    prop::collection::vec((row(), prop_oneof![-1e3..1e3_f64, finite], weight()), 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn whatever_comes_answers_are_numbers(pairs in pairs()) {
        for (name, make) in ALL {
            let mut learner = make();
            for (row, target, weight) in &pairs {
                prop_assert!(learner.predict(row).unwrap().is_finite(), "{name}");
                learner.learn(row, *target, *weight).unwrap();
            }
            let loaded = learner.loaded(&learner.saved());
            prop_assert!(loaded.is_ok(), "{name}: {:?}", loaded.err());
        }
    }
}
