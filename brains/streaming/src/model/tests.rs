//! What a manifest declares is what is learnt and answered; what is handed on answers the same.

use proptest::prelude::*;

use super::*;

fn manifest(learner: &str, task: &str) -> Manifest {
    let text = format!(
        "apiVersion: mantlet.dev/v1\nkind: Model\nmetadata: {{ name: m }}\nspec:\n  source: {{ online: {learner} }}\n  \
         inputs:\n    - {{ name: amount, type: FP32 }}\n    - {{ name: country, type: BYTES, categories: [DE, FR] }}\n    \
         - {{ name: shape, type: FP64, shape: [-1, 2] }}\n  task: {task}\n  capture: {{ input: features }}\n"
    );
    let mut manifest = Manifest::from_yaml(&text).unwrap();
    Model::complete(&mut manifest).unwrap();
    manifest
}

fn classifier() -> Manifest {
    manifest("{ learner: hoeffding-tree }", "{ kind: classification, classes: [ok, fraud] }")
}

fn inputs(amounts: &[f32], countries: &[&str], shapes: &[[f64; 2]]) -> Vec<Tensor> {
    let rows = amounts.len() as i64;
    let amounts: Vec<u8> = amounts.iter().flat_map(|value| value.to_le_bytes()).collect();
    let shapes: Vec<u8> = shapes.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    vec![
        // In another order than declared: inputs go by their names.
        Tensor::new("shape", DataType::Fp64, vec![rows, 2], shapes.into()).unwrap(),
        Tensor::new("amount", DataType::Fp32, vec![rows, 1], amounts.into()).unwrap(),
        Tensor::from_elements("country", vec![rows, 1], countries.iter().map(|word| word.as_bytes())).unwrap(),
    ]
}

#[test]
fn a_row_is_what_was_sent_in_the_manifest_s_order() {
    let model = Model::new(&classifier()).unwrap();
    let rows = model.rows(&inputs(&[0.1, f32::NAN], &["FR", ""], &[[1.0, 2.0], [3.0, f64::NAN]])).unwrap();
    let missing = Cell::Missing(());
    let number = Cell::Number;
    assert_eq!(rows[0], [number(f64::from(0.1_f32)), Cell::Word("FR".into()), number(1.0), number(2.0)]);
    assert_eq!(rows[1], [missing.clone(), missing.clone(), number(3.0), missing]);
    let text = serde_json::to_string(&rows).unwrap();
    assert_eq!(text, r#"[[0.10000000149011612,"FR",1.0,2.0],[null,null,3.0,null]]"#);
    assert_eq!(serde_json::from_str::<Vec<Row>>(&text).unwrap(), rows, "written down, it is the same");
}

#[test]
fn it_begins_by_knowing_nothing_and_learns() {
    let mut model = Model::new(&classifier()).unwrap();
    let asked = |model: &Model, country: &str| {
        let outputs = model.answer(&inputs(&[1.0], &[country], &[[0.0, 0.0]]), &[]).unwrap();
        assert_eq!([outputs[0].name(), outputs[1].name()], ["label", "probabilities"]);
        assert_eq!(outputs[1].shape(), [1, 2]);
        let label = String::from_utf8(outputs[0].iter_bytes().next().unwrap().to_vec()).unwrap();
        (label, outputs[1].iter_floats().collect::<Vec<_>>())
    };
    assert_eq!(asked(&model, "DE"), ("ok".into(), vec![0.5, 0.5]));
    for turn in 0..2_000 {
        let (country, class) = if turn % 2 == 0 { ("DE", 0) } else { ("FR", 1) };
        let row = model.rows(&inputs(&[turn as f32], &[country], &[[0.0, 1.0]])).unwrap().remove(0);
        model.learn(&row, Truth::Class(class), 1.0).unwrap();
    }
    let (label, probabilities) = asked(&model, "FR");
    assert!(label == "fraud" && probabilities[1] > 0.9, "{label} {probabilities:?}");
    assert_eq!(asked(&model, "DE").0, "ok");
    assert_eq!(model.learnt(), 2_000);
    assert!(model.memory() > 1_000);
    let only = model.answer(&inputs(&[1.0], &["DE"], &[[0.0, 0.0]]), &["label".into()]).unwrap();
    assert_eq!(only.len(), 1, "outputs that nobody wants are left out");
}

#[test]
fn a_regression_answers_with_a_value() {
    let manifest = manifest("{ learner: auto, settings: { trees: 3 } }", "{ kind: regression }");
    let mut model = Model::new(&manifest).unwrap();
    let row = model.rows(&inputs(&[1.0], &["DE"], &[[0.0, 1.0]])).unwrap().remove(0);
    assert_eq!(model.predict(&row), Ok(Answer::Value(0.0)));
    (0..500).for_each(|_| model.learn(&row, Truth::Number(7.0), 1.0).unwrap());
    let outputs = model.answer(&inputs(&[1.0], &["DE"], &[[0.0, 1.0]]), &[]).unwrap();
    assert_eq!((outputs[0].name(), outputs[0].shape()), ("value", &[1_i64][..]));
    assert!((outputs[0].iter_floats().next().unwrap() - 7.0).abs() < 0.1);
    assert_eq!(model.metadata().outputs[0].name, "value");
}

#[test]
fn what_is_wrong_changes_nothing() {
    let mut model = Model::new(&classifier()).unwrap();
    let row = model.rows(&inputs(&[1.0], &["DE"], &[[0.0, 1.0]])).unwrap().remove(0);
    let before = model.save();
    let mut infinite = row.clone();
    infinite[0] = Cell::Number(f64::INFINITY);
    let mut word = row.clone();
    word[0] = Cell::Word("much".into());
    for (row, truth) in [
        (row.clone(), Truth::Number(1.0)),
        (row.clone(), Truth::Class(2)),
        (infinite, Truth::Class(0)),
        (word, Truth::Class(0)),
        (row[..2].to_vec(), Truth::Class(0)),
    ] {
        assert_eq!(model.learn(&row, truth, 1.0).unwrap_err().code, Code::InputMismatch);
    }
    assert_eq!(model.save(), before);
    let mut lacking = inputs(&[1.0], &["DE"], &[[0.0, 1.0]]);
    lacking.remove(0);
    assert!(model.rows(&lacking).unwrap_err().message.contains("`shape`"));
    let mut uneven = inputs(&[1.0, 2.0], &["DE", "DE"], &[[0.0; 2]; 2]);
    uneven[0] = inputs(&[1.0], &["DE"], &[[0.0; 2]]).remove(0);
    assert!(model.rows(&uneven).is_err());
}

#[test]
fn a_manifest_that_can_t_be_learnt_says_which_field() {
    let good = classifier();
    let with = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        Model::new(&manifest).unwrap_err().message.into_owned()
    };
    type Change<'a> = &'a dyn Fn(&mut Manifest);
    let wrong: [(&str, Change<'_>); 9] = [
        ("spec.inputs", &|manifest| manifest.spec.inputs.clear()),
        ("spec.task", &|manifest| manifest.spec.task = None),
        ("spec.task.classes", &|manifest| manifest.spec.task.as_mut().unwrap().classes.truncate(1)),
        ("spec.task.classes", &|manifest| manifest.spec.task.as_mut().unwrap().kind = TaskKind::Regression),
        ("spec.task.kind", &|manifest| manifest.spec.task.as_mut().unwrap().kind = TaskKind::Anomaly),
        ("spec.task.output", &|manifest| manifest.spec.task.as_mut().unwrap().output = Some("scores".into())),
        ("spec.capture.input", &|manifest| manifest.spec.capture.input = CaptureInput::Digest),
        ("spec.capture.redact", &|manifest| manifest.spec.capture.redact = vec!["amount".into()]),
        ("spec.inputs `amount`", &|manifest| manifest.spec.inputs[0].shape = Some(vec![3, 4, 5])),
    ];
    for (field, change) in wrong {
        let message = with(change);
        assert!(message.starts_with(field), "{message}");
    }
    for learner in ["oracle", "logistic, trees: 3"] {
        let mut manifest = good.clone();
        let (name, settings) = learner.split_once(", ").unwrap_or((learner, ""));
        let settings = settings.split_once(": ").map(|(name, value)| (name.to_owned(), value.into()));
        manifest.spec.source = Source::Online(Online {
            learner: name.into(),
            settings: settings.into_iter().collect(),
            from: None,
            start: None,
        });
        let message = Model::new(&manifest).unwrap_err().message;
        assert!(message.starts_with("spec.source.online"), "{message}");
    }
}

#[test]
fn a_snapshot_of_another_manifest_is_refused() {
    let mut other = classifier();
    other.spec.task.as_mut().unwrap().classes.push("unsure".into());
    let bytes = Model::new(&classifier()).unwrap().save();
    assert!(Model::load(&classifier(), &bytes).is_ok());
    assert_eq!(Model::load(&other, &bytes).unwrap_err().code, Code::LoadFailed);
    let mut narrow = classifier();
    narrow.spec.inputs.pop();
    assert_eq!(Model::load(&narrow, &bytes).unwrap_err().code, Code::LoadFailed);
    assert_eq!(Model::load(&classifier(), b"anything").unwrap_err().code, Code::LoadFailed);
}

proptest! {
    #[test]
    fn what_is_handed_on_answers_and_learns_the_same(
        rows in prop::collection::vec((any::<f32>(), "[A-C]{0,2}", any::<i16>(), any::<bool>()), 1..60),
        cut in any::<prop::sample::Index>(),
    ) {
        let manifest = manifest("{ learner: adaptive-random-forest, settings: { trees: 3 } }",
            "{ kind: classification, classes: [ok, fraud] }");
        let mut one = Model::new(&manifest).unwrap();
        let mut other: Option<Model> = None;
        let cut = cut.index(rows.len());
        for (place, (amount, country, number, class)) in rows.into_iter().enumerate() {
            if place == cut {
                one.advance(place as u64);
                let loaded = Model::load(&manifest, &one.save()).unwrap();
                prop_assert_eq!((loaded.learnt(), loaded.offset()), (one.learnt(), place as u64));
                other = Some(loaded);
            }
            let inputs = inputs(&[amount], &[&country], &[[f64::from(number), 0.5]]);
            if let Some(other) = &other {
                prop_assert_eq!(one.answer(&inputs, &[]), other.answer(&inputs, &[]));
            }
            let row = one.rows(&inputs).unwrap().remove(0);
            let written: Row = serde_json::from_str(&serde_json::to_string(&row).unwrap()).unwrap();
            let truth = Truth::Class(usize::from(class));
            let learnt = one.learn(&row, truth, 1.0);
            if let Some(other) = &mut other {
                prop_assert_eq!(learnt, other.learn(&written, truth, 1.0), "from the log as from the wire");
            }
        }
        prop_assert_eq!(one.save(), other.unwrap().save());
    }
}
