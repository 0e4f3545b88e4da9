use super::*;
use crate::{Error, Feature, Linear, Logistic, linear, logistic, registry::Spec};

fn specs(json: &str) -> Vec<transform::Spec> {
    serde_json::from_str(json).unwrap()
}

const BOTH: &str = r#"[{ "step": "scaler" }, { "step": "one-hot", "words": 4 }]"#;

fn schema() -> Schema {
    Schema::new(vec![Feature::number("n"), Feature::words("w", 9)]).unwrap()
}

fn pipeline() -> Pipeline<Logistic> {
    let logistic = |schema| Logistic::new(logistic::Settings::default(), schema, 2);
    Pipeline::new(schema(), &specs(BOTH), 1, logistic).unwrap()
}

/// Keeps the last row that it learnt.
#[derive(Debug)]
struct Last(Schema, Vec<f64>);

impl Regressor for Last {
    fn schema(&self) -> &Schema {
        &self.0
    }

    fn predict(&self, row: &[f64]) -> Result<f64> {
        self.0.check(row)?;
        Ok(row.iter().sum())
    }

    fn learn(&mut self, row: &[f64], _: f64, _: f64) -> Result<()> {
        self.1 = row.to_vec();
        Ok(())
    }

    fn memory(&self) -> usize {
        0
    }
}

#[test]
fn the_model_learns_a_row_as_it_is_once_the_steps_have_seen_it() {
    let mut pipeline = Pipeline::new(schema(), &specs(BOTH), 1, |schema| Ok(Last(schema, Vec::new()))).unwrap();
    pipeline.learn(&[0.0, 7.0], 1.0, 1.0).unwrap();
    assert_eq!(pipeline.model().1, [0.0, 1.0, 0.0, 0.0, 0.0], "a new word has its column at once");
    pipeline.learn(&[10.0, 3.0], 1.0, 1.0).unwrap();
    assert_eq!(pipeline.model().1, [1.0, 0.0, 1.0, 0.0, 0.0], "of 0 and 10 the mean is 5 and the deviation 5");
    assert_eq!(pipeline.predict(&[10.0, 8.0]), Ok(1.0), "to predict teaches nothing: 8 is no word yet");
    assert_eq!(pipeline.predict(&[10.0, 8.0]), Ok(1.0));
}

#[test]
fn without_steps_it_is_the_model() {
    let linear = |schema| Linear::new(linear::Settings::default(), schema);
    let mut pipeline = Pipeline::new(schema(), &[], 1, linear).unwrap();
    let mut model = linear(schema()).unwrap();
    for n in 0..200_u32 {
        let row = [f64::from(n % 10), f64::from(n % 9)];
        assert_eq!(pipeline.predict(&row), model.predict(&row));
        pipeline.learn(&row, f64::from(n), 1.0).unwrap();
        model.learn(&row, f64::from(n), 1.0).unwrap();
    }
}

#[test]
fn rows_may_be_wider_than_the_stack_has_room_for() {
    for bits in [5, 6, 7, 10, 11] {
        let json =
            format!(r#"[{{ "step": "scaler" }}, {{ "step": "hashing", "bits": {bits} }}, {{ "step": "scaler" }}]"#);
        let last = |schema| Ok(Last(schema, Vec::new()));
        let mut pipeline = Pipeline::new(Schema::numeric(3).unwrap(), &specs(&json), 1, last).unwrap();
        for n in 0..10 {
            pipeline.learn(&[f64::from(n), 1.0, f64::NAN], 0.0, 1.0).unwrap();
        }
        assert_eq!(pipeline.model().1.len(), 1 << bits);
        assert!(pipeline.predict(&[5.0; 3]).unwrap().is_finite());
    }
}

#[test]
fn steps_have_bounds() {
    let build = |json: &str| serde_json::from_str::<Spec>(json).unwrap().build(schema(), 2, 1).map(|_| ());
    let many = [r#"{ "step": "scaler" }"#; STEPS + 1].join(",");
    let spec = |steps: &str, model: &str| {
        format!(r#"{{ "learner": "pipeline", "steps": [{steps}], "model": {{ "learner": {model} }} }}"#)
    };
    assert_eq!(build(&spec("", r#""logistic""#)), Ok(()));
    assert!(matches!(build(&spec(&many, r#""logistic""#)), Err(Error::Range { .. })));
    assert!(matches!(build(&spec(r#"{ "step": "one-hot", "words": 0 }"#, r#""logistic""#)), Err(Error::Range { .. })));
    let nested = spec("", r#""pipeline", "model": { "learner": "logistic" }"#);
    assert_eq!(build(&nested), Err(Error::Nested));
    for wrong in [
        r#"{ "learner": "pipeline", "steps": [] }"#,
        r#"{ "learner": "pipeline", "steps": [{ "step": "scale" }], "model": { "learner": "logistic" } }"#,
        r#"{ "learner": "pipeline", "steps": [{ "step": "scaler", "bi": "quantiles" }], "model": { "learner": "logistic" } }"#,
        r#"{ "learner": "pipeline", "step": [], "model": { "learner": "logistic" } }"#,
        r#"{ "learner": "pipeline", "steps": [], "model": { "learner": "logistic", "alfa": 1 } }"#,
        r#"{ "learner": "logistic", "steps": [] }"#,
    ] {
        assert!(serde_json::from_str::<Spec>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_spec_is_written_as_it_is_read() {
    let json = r#"{"learner":"pipeline","steps":[{"step":"scaler","by":"quantiles"},{"step":"hashing","bits":4,"seed":9}],"model":{"learner":"naive-bayes"}}"#;
    let spec: Spec = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&spec).unwrap(), json);
}

#[test]
fn what_is_wrong_changes_nothing() {
    let mut pipeline = pipeline();
    pipeline.learn(&[1.0, 2.0], 1, 1.0).unwrap();
    let before = pipeline.clone();
    assert!(pipeline.learn(&[2.0, 9.0], 1, 1.0).is_err());
    assert!(pipeline.learn(&[f64::INFINITY, 3.0], 1, 1.0).is_err());
    assert!(pipeline.learn(&[2.0, 3.0], 2, 1.0).is_err());
    assert!(pipeline.learn(&[2.0, 3.0], 1, -1.0).is_err());
    pipeline.learn(&[2.0, 3.0], 1, 0.0).unwrap();
    assert_eq!(pipeline, before);
}
