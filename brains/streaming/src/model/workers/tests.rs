//! What several learnt is what one could have; what a worker sends is not believed.

use proptest::prelude::*;
use types::manifest::Source;

use super::*;
use crate::row::Cell;

fn manifest(learner: &str, task: &str) -> Manifest {
    let text = format!(
        "apiVersion: mantlet.dev/v1\nkind: Model\nmetadata: {{ name: m }}\nspec:\n  source: {{ online: {learner} }}\n  \
         inputs:\n    - {{ name: x, type: FP64, shape: [-1, 2] }}\n    - {{ name: word, type: BYTES }}\n  task: {task}\n  \
         capture: {{ input: features }}\n"
    );
    let mut manifest = Manifest::from_yaml(&text).unwrap();
    Model::complete(&mut manifest).unwrap();
    manifest
}

const CLASSES: &str = "{ kind: classification, classes: [no, yes] }";
const FOREST: &str = "{ learner: adaptive-random-forest, settings: { trees: 6 } }";
const LOGISTIC: &str = "{ learner: logistic }";

/// Rows of two numbers and a word, and whether the first is the greater; of a regression, by how much.
fn examples(count: usize, classifies: bool) -> Vec<(PredictionId, Row, Truth)> {
    let example = |n: usize| {
        let (x, y) = ((n * 37 % 101) as f64 / 101.0, (n * 61 % 89) as f64 / 89.0);
        let truth = if classifies { Truth::Class(usize::from(x > y)) } else { Truth::Number(3.0 * x - 2.0 * y) };
        let row = vec![Cell::Number(x), Cell::Number(y), Cell::Word(format!("w{}", n % 7))];
        (PredictionId(uuid(n)), row, truth)
    };
    (0..count).map(example).collect()
}

/// The only way to an id without the crate that makes them.
fn uuid<T: std::str::FromStr>(n: usize) -> T
where
    T::Err: std::fmt::Debug,
{
    format!("{n:032x}").parse().unwrap()
}

fn fit(learner: &str, workers: usize) -> Fit {
    fit_of(&manifest(learner, CLASSES), &examples(4_000, true), workers).unwrap()
}

fn fit_of(manifest: &Manifest, examples: &[(PredictionId, Row, Truth)], workers: usize) -> Result<Fit, Alone> {
    let lessons = examples.iter().map(|(id, asked, truth)| Lesson { key: (*id, 0), asked, truth: *truth });
    Fit::new(manifest, lessons, workers, 7_777)
}

/// Share of new rows that it is right about.
fn right(model: &Model) -> f64 {
    let rows = examples(9_000, true).split_off(8_000);
    let right = rows.iter().filter(|(_, row, truth)| match (model.predict(row).unwrap(), truth) {
        (crate::Answer::Probabilities(said), Truth::Class(class)) => greatest(&said) == *class,
        _ => false,
    });
    right.count() as f64 / rows.len() as f64
}

/// States of a forest's workers who are honest.
fn grown(fit: &Fit) -> Vec<Result<Vec<u8>, String>> {
    let grow = |worker| Worker::open(&fit.order(worker).unwrap()).unwrap().grow(&mut || {});
    (0..fit.workers()).map(|worker| Ok(grow(worker).unwrap())).collect()
}

#[test]
fn several_learn_what_one_would_and_the_same_each_time() {
    for (learner, way) in [(FOREST, Way::Trees), (LOGISTIC, Way::Weights)] {
        for workers in [2, 3, 4] {
            let fitted = fit(learner, workers).here().unwrap();
            let again = fit(learner, workers).here().unwrap();
            assert_eq!(fit(learner, workers).way(), way);
            assert_eq!(fitted.model.save(), again.model.save(), "{learner} by {workers}");
            assert!(right(&fitted.model) > 0.9, "{learner} by {workers}: {}", right(&fitted.model));
            assert_eq!((fitted.model.learnt(), fitted.model.offset()), (4_000, 7_777), "each example once");
            assert_eq!(fitted.told.len(), workers);
            assert!(fitted.told.iter().all(|told| told.left_out.is_none() && told.distance < 3.0), "{:?}", fitted.told);
            // It is a state like any other.
            Model::load(&manifest(learner, CLASSES), &fitted.model.save()).unwrap();
        }
        assert_ne!(fit(learner, 2).here().unwrap().model.save(), fit(learner, 3).here().unwrap().model.save());
    }
}

#[test]
fn a_linear_regression_is_shared_too() {
    let manifest = manifest("{ learner: linear }", "{ kind: regression }");
    let fitted = fit_of(&manifest, &examples(4_000, false), 2).unwrap().here().unwrap();
    let answer = fitted.model.predict(&[Cell::Number(0.9), Cell::Number(0.1), Cell::Word("w1".into())]).unwrap();
    let crate::Answer::Value(value) = answer else { panic!("{answer:?}") };
    assert!((value - 2.5).abs() < 0.2, "{value}");
}

#[test]
fn who_can_t_be_brought_together_learns_alone_and_it_is_said_why() {
    let few = examples(400, true);
    let why =
        |learner: &str, examples: &[_], workers| fit_of(&manifest(learner, CLASSES), examples, workers).unwrap_err();
    assert_eq!(why(FOREST, &few, 1), Alone::One);
    assert_eq!(why(FOREST, &few, 2), Alone::Few { examples: 400, least: 555 });
    for learner in ["naive-bayes", "neighbours", "hoeffding-tree", "gradient-boosted-trees", "auto"] {
        let told = why(&format!("{{ learner: {learner} }}"), &examples(4_000, true), 2);
        assert_eq!(told, Alone::Learner(learner.into()));
        assert!(told.to_string().contains(learner), "{told}");
    }
    let manifest = manifest("{ learner: regression-forest }", "{ kind: regression }");
    assert!(matches!(fit_of(&manifest, &examples(4_000, false), 2), Err(Alone::Learner(_))));
}

#[test]
fn a_forest_is_made_of_those_who_sent_one() {
    let sent = grown(&fit(FOREST, 3));
    let honest = fit(FOREST, 3).merged(sent.clone()).unwrap();
    assert!(honest.told.iter().all(|told| told.refused < 0.5), "{:?}", honest.told);
    let other = fit("{ learner: adaptive-random-forest, settings: { trees: 7 } }", 3);
    let (logistic, more) = (fit(LOGISTIC, 2).model.save(), grown(&other).remove(0));
    let mut damaged = sent[1].clone().unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let regression = Model::new(&manifest("{ learner: linear }", "{ kind: regression }")).unwrap().save();
    for bad in [Err("signal 9 ended it".into()), Ok(Vec::new()), Ok(damaged), Ok(logistic), more, Ok(regression)] {
        let mut with = sent.clone();
        with[1] = bad;
        let fitted = fit(FOREST, 3).merged(with).unwrap();
        let told = &fitted.told;
        assert!(told[1].left_out.is_some() && told[0].left_out.is_none() && told[2].left_out.is_none(), "{told:?}");
        assert!(right(&fitted.model) > 0.9);
        assert_eq!(fitted.model.learnt(), 4_000 - told[1].examples as u64, "what it was to learn is not known");
    }
    let gone = || Err("gone".to_owned());
    let (alone, told) = fit(FOREST, 3).merged(vec![sent[0].clone(), gone(), gone()]).unwrap_err();
    assert_eq!((alone, told.len()), (Alone::Left { left: 1, workers: 3 }, 3));
}

#[test]
fn trees_of_turned_classes_stay_out() {
    let flipped: Vec<_> = examples(4_000, true)
        .into_iter()
        .map(|(id, row, truth)| (id, row, if truth == Truth::Class(0) { Truth::Class(1) } else { Truth::Class(0) }))
        .collect();
    let mut sent = grown(&fit(FOREST, 3));
    sent[2] = grown(&fit_of(&manifest(FOREST, CLASSES), &flipped, 3).unwrap()).remove(2);
    let fitted = fit(FOREST, 3).merged(sent).unwrap();
    assert!(fitted.told[2].refused == 1.0 && fitted.told[2].distance > 0.8, "{:?}", fitted.told);
    assert!(right(&fitted.model) > 0.9);
}

#[test]
fn a_liar_among_four_bends_no_weights_and_who_sends_no_numbers_is_out() {
    let honest = right(&fit(LOGISTIC, 4).here().unwrap().model);
    let fit = fit(LOGISTIC, 4);
    let mut workers: Vec<Worker> = (0..4).map(|worker| Worker::open(&fit.order(worker).unwrap()).unwrap()).collect();
    let mut steps = fit.steps().unwrap();
    while !steps.is_done() {
        let common = steps.common().to_vec();
        let mut updates: Vec<Result<Vec<f64>, String>> =
            workers.iter_mut().map(|worker| Ok(worker.step(&common, &mut || {}).unwrap())).collect();
        if let Ok(update) = &mut updates[3] {
            update.iter_mut().for_each(|weight| *weight *= -4.0);
        }
        steps.take(updates).unwrap();
    }
    let fitted = fit.stepped(steps).unwrap();
    assert!(fitted.told[3].distance > 1.5, "{:?}", fitted.told);
    assert!(right(&fitted.model) > honest - 0.05, "{} {honest}", right(&fitted.model));
}

#[test]
fn who_sends_what_is_no_update_is_left_out_for_good() {
    let fit = fit(LOGISTIC, 4);
    let width = fit.steps().unwrap().common().len();
    for bad in [vec![f64::NAN; width], vec![f64::INFINITY; width], vec![1e300; width], vec![0.0; width + 1], Vec::new()]
    {
        let mut steps = fit.steps().unwrap();
        let good = || Ok(vec![0.01; width]);
        steps.take(vec![good(), Ok(bad), good(), good()]).unwrap();
        assert!(!steps.asks(1) && steps.asks(0), "{:?}", steps.told());
        // What it sends later counts no more; with another one less there are too few.
        let more = steps.take(vec![good(), good(), Err("signal 9 ended it".into()), good()]);
        assert_eq!(more, Err(Alone::Left { left: 2, workers: 4 }));
    }
    let two = self::fit(LOGISTIC, 2);
    let mut steps = two.steps().unwrap();
    let left = steps.take(vec![Ok(vec![0.0; width]), Ok(vec![f64::NAN; width])]);
    assert_eq!(left, Err(Alone::Left { left: 1, workers: 2 }), "two can't outvote each other");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_sent_is_an_error_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), place in any::<prop::sample::Index>()) {
        prop_assert!(Worker::open(&bytes).is_err());
        prop_assert!(State::load(&bytes).is_err());
        let mut order = Order::write(0, &Model::new(&manifest(LOGISTIC, CLASSES)).unwrap().save(), &Rows::new(3));
        let place = place.index(order.len());
        order[place] ^= bytes.first().copied().unwrap_or(1) | 1;
        // A length, the state, or the width: nothing that is too long is made room for.
        let _ = Worker::open(&order);
        order.truncate(place);
        prop_assert!(Worker::open(&order).is_err());
    }
}

#[test]
fn another_learner_in_the_manifest_is_another_way() {
    let manifest = manifest(LOGISTIC, CLASSES);
    assert!(matches!(&manifest.spec.source, Source::Online(online) if online.start.is_none()));
    assert_eq!(fit(LOGISTIC, 20).workers(), 8, "no more than eight");
}
