//! Clean sets: rows with labels that the owner of a model gives, and no feedback can touch.
//!
//! They decide on no promotion; they bound collapse. A state of a model that learns, or a challenger, that is right about far fewer of
//! them than what was there before is not let through. A frozen set would veto a real change of the world, too: so it is not asked
//! while a drift alarm stands, unless its owner says that it holds whatever happens.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rpc::{
    orchestrator::ModelKey,
    trainer::{AlarmKind, CleanSet, PutClean},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Catalog, Collection, Expect, Write, read_all};
use streaming::{Answer, Cell, Model, Row, Truth, columns};
use types::{Code, DataType, Manifest, Refusal, Timestamp, clean::CleanRow};

use crate::{
    Known,
    answer::{Answer as Said, Truth as Right, truth},
};

/// Rows of a clean set: of fewer nothing can be said, and more cost time at each state.
const LEAST: usize = 50;
const MOST: usize = 2_000;
/// So much less of it right is a collapse: 20 points.
const FALL: f64 = 0.2;
/// So many times the mean error is one, where numbers are predicted.
const TIMES: f64 = 3.0;
/// How long a drift alarm stands.
const STANDS: Duration = Duration::from_secs(86_400);
/// Where in the catalog they are kept.
const CLEAN: &str = "clean/";

/// A clean set, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Clean {
    pub(crate) set: CleanSet,
    rows: Vec<(Row, Kept)>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kept {
    Class(usize),
    Number(f64),
}

impl Kept {
    fn truth(self) -> Truth {
        match self {
            Self::Class(class) => Truth::Class(class),
            Self::Number(number) => Truth::Number(number),
        }
    }
}

/// All of them, by model.
#[derive(Debug, Default)]
pub(crate) struct Cleans(Mutex<BTreeMap<ModelKey, Arc<Clean>>>);

impl Cleans {
    /// # Errors
    /// When the catalog can't be read.
    pub(crate) async fn load(&self, catalog: &dyn Catalog) -> Result<(), Refusal> {
        for document in read_all(catalog, Collection::Evaluation, CLEAN).await? {
            let Some((namespace, model)) = document.key.trim_start_matches(CLEAN).split_once('/') else { continue };
            let key = (namespace.parse()?, model.parse()?);
            self.0.lock().insert(key, Arc::new(document.read()?));
        }
        Ok(())
    }

    pub(crate) fn of(&self, model: &ModelKey) -> Option<Arc<Clean>> {
        self.0.lock().get(model).cloned()
    }

    /// Keeps a model's set, in place of the one before.
    ///
    /// # Errors
    /// When it can't be kept.
    pub(crate) async fn put(&self, catalog: &dyn Catalog, model: ModelKey, clean: Clean) -> Result<CleanSet, Refusal> {
        let write = Write::put(Collection::Evaluation, place(&model), Expect::Any, &clean)?;
        catalog.commit(vec![write], Vec::new()).await?;
        let set = clean.set.clone();
        self.0.lock().insert(model, Arc::new(clean));
        Ok(set)
    }

    /// Forgets a model's set.
    ///
    /// # Errors
    /// When the catalog can't be used.
    pub(crate) async fn remove(&self, catalog: &dyn Catalog, model: &ModelKey) -> Result<(), Refusal> {
        if self.of(model).is_some() {
            let write = Write::remove(Collection::Evaluation, place(model), Expect::Any);
            catalog.commit(vec![write], Vec::new()).await?;
            self.0.lock().remove(model);
        }
        Ok(())
    }
}

fn place((namespace, model): &ModelKey) -> String {
    format!("{CLEAN}{namespace}/{model}")
}

impl Known {
    /// Whether an alarm stands that says that the world has changed for a model.
    pub(crate) fn drifts(&self, model: &ModelKey, now: Timestamp) -> bool {
        let stands = |kind: AlarmKind, at: Timestamp| {
            matches!(kind, AlarmKind::Inputs | AlarmKind::Errors) && now.since(at) < STANDS
        };
        self.alarms_of(model).iter().any(|alarm| stands(alarm.alarm.kind, alarm.alarm.at))
    }
}

impl Known {
    /// Why a challenger that learns may not answer for all that it has proven: it is far behind the champion on what the owner says
    /// is right.
    ///
    /// # Errors
    /// When it can't be found out.
    pub(crate) async fn behind_on_clean(
        &self,
        model: &ModelKey,
        sides: [Option<Model>; 2],
        now: Timestamp,
    ) -> Result<Option<String>, Refusal> {
        let (Some(clean), [Some(champion), Some(challenger)]) = (self.cleans.of(model), sides) else { return Ok(None) };
        if !clean.set.strict && self.drifts(model, now) {
            return Ok(None);
        }
        let work = move || clean.fall(clean.worth(&challenger), clean.worth(&champion));
        tokio::task::spawn_blocking(work).await.map_err(|error| Refusal::new(Code::Internal, error.to_string()))
    }
}

impl Clean {
    /// Reads a set, as a version's manifest declares its inputs and its task.
    ///
    /// # Errors
    /// `request_malformed` for a row that is not so, with its place; too few or too many rows.
    pub(crate) fn read(put: PutClean, manifest: &Manifest, now: Timestamp) -> Result<Self, Refusal> {
        let wrong = |what: String| {
            Refusal::new(Code::RequestMalformed, what).hint(
                r#"write one row a line: {"inputs": {"amount": [1.5, 2], "country": "DE"}, "label": "ok"}; docs/feedback.md"#,
            )
        };
        if !(LEAST..=MOST).contains(&put.rows.len()) {
            let what = format!("a clean set has from {LEAST} to {MOST} rows, this one {}", put.rows.len());
            return Err(wrong(what));
        }
        let mut rows = Vec::with_capacity(put.rows.len());
        for (place, row) in put.rows.iter().enumerate() {
            rows.push(read_row(row, manifest).map_err(|what| wrong(format!("row {place}: {what}")))?);
        }
        let set = CleanSet { rows: rows.len() as u64, strict: put.strict, by: put.actor, given: now };
        Ok(Self { set, rows })
    }

    /// What a model is worth on it: the share that it is right about, or its mean absolute error. What it can't answer is wrong.
    pub(crate) fn worth(&self, model: &Model) -> f64 {
        let one = |(row, kept): &(Row, Kept)| match (model.predict(row), kept.truth()) {
            (Ok(Answer::Probabilities(said)), Truth::Class(class)) => {
                f64::from(u8::from(online::learner::greatest(&said) == class))
            }
            (Ok(Answer::Value(value)), Truth::Number(number)) => (value - number).abs(),
            (_, Truth::Class(_)) => 0.0,
            (_, Truth::Number(_)) => f64::INFINITY,
        };
        self.rows.iter().map(one).sum::<f64>() / self.rows.len().max(1) as f64
    }

    fn classifies(&self) -> bool {
        self.rows.iter().any(|(_, kept)| matches!(kept, Kept::Class(_)))
    }

    /// The better of two worths.
    pub(crate) fn better(&self, one: f64, other: f64) -> f64 {
        if self.classifies() { one.max(other) } else { one.min(other) }
    }

    /// Why what is worth this is a collapse beside what was worth that.
    pub(crate) fn fall(&self, now: f64, before: f64) -> Option<String> {
        let rows = self.rows.len();
        if self.classifies() {
            (now < before - FALL).then(|| {
                let (now, before) = (100.0 * now, 100.0 * before);
                format!("it is right about {now:.1}% of the clean set ({rows} rows), where {before:.1}% were")
            })
        } else {
            (now > before * TIMES)
                .then(|| format!("its error on the clean set ({rows} rows) is {now:.3}, where it was {before:.3}"))
        }
    }
}

/// A row as people write it, inputs by name.
fn read_row(row: &CleanRow, manifest: &Manifest) -> Result<(Row, Kept), String> {
    let mut cells = Row::new();
    for input in &manifest.spec.inputs {
        let given = row.inputs.get(&input.name).ok_or_else(|| format!("input `{}` is lacking", input.name))?;
        let given = given.as_array().map_or_else(|| std::slice::from_ref(given), Vec::as_slice);
        if given.len() != columns(input) {
            return Err(format!("input `{}` has {} values, not {}", input.name, given.len(), columns(input)));
        }
        for value in given {
            cells.push(match (value, input.datatype) {
                (Value::Null, _) => Cell::Missing(()),
                (Value::String(word), DataType::Bytes) => Cell::Word(word.clone()),
                (Value::Bool(flag), DataType::Bool) => Cell::Number(f64::from(u8::from(*flag))),
                (Value::Number(number), DataType::Bytes) => {
                    return Err(format!("input `{}` holds words, and {number} is none", input.name));
                }
                (Value::Number(number), _) => {
                    Cell::Number(number.as_f64().filter(|n| n.is_finite()).ok_or("no number")?)
                }
                (other, _) => return Err(format!("input `{}`: {other} is no value of it", input.name)),
            });
        }
    }
    if let Some(unknown) = row.inputs.keys().find(|name| manifest.spec.inputs.iter().all(|input| input.name != **name))
    {
        return Err(format!("there is no input `{unknown}`"));
    }
    let task = manifest.spec.task.as_ref().ok_or("the model's manifest has no spec.task")?;
    let said = match task.kind {
        types::manifest::TaskKind::Classification => Said::Probabilities(vec![0.0; task.classes.len()]),
        _ => Said::Number(0.0),
    };
    Ok(match truth(task, &said, &row.label)? {
        Right::Class(class) => (cells, Kept::Class(class)),
        Right::Number(number) => (cells, Kept::Number(number)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let text = "apiVersion: mantlet.dev/v1\nkind: Model\nmetadata: { name: m }\nspec: { source: { online: { learner: hoeffding-tree } }, \
            inputs: [{ name: x, type: FP64, shape: [-1, 2] }, { name: w, type: BYTES, categories: [a, b] }], \
            task: { kind: classification, classes: [no, yes] }, capture: { input: features } }\n";
        Manifest::from_yaml(text).unwrap()
    }

    fn row(text: &str) -> CleanRow {
        serde_json::from_str(text).unwrap()
    }

    fn put(rows: Vec<CleanRow>) -> PutClean {
        PutClean {
            actor: "a".into(),
            namespace: "default".parse().unwrap(),
            model: "m".parse().unwrap(),
            rows,
            strict: false,
        }
    }

    #[test]
    fn a_row_is_read_as_the_manifest_declares_it() {
        let good = row(r#"{"inputs": {"x": [1, null], "w": "b"}, "label": "yes"}"#);
        let (cells, kept) = read_row(&good, &manifest()).unwrap();
        assert_eq!(cells, [Cell::Number(1.0), Cell::Missing(()), Cell::Word("b".into())]);
        assert!(matches!(kept, Kept::Class(1)));
        for (wrong, says) in [
            (r#"{"inputs": {"x": [1, 2]}, "label": "yes"}"#, "`w` is lacking"),
            (r#"{"inputs": {"x": [1], "w": "a"}, "label": "yes"}"#, "has 1 values, not 2"),
            (r#"{"inputs": {"x": [1, "b"], "w": "a"}, "label": "yes"}"#, "no value of it"),
            (r#"{"inputs": {"x": [1, 2], "w": 3}, "label": "yes"}"#, "holds words"),
            (r#"{"inputs": {"x": [1, 2], "w": "a", "y": 1}, "label": "yes"}"#, "no input `y`"),
            (r#"{"inputs": {"x": [1, 2], "w": "a"}, "label": "maybe"}"#, "maybe"),
        ] {
            let why = read_row(&row(wrong), &manifest()).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }

    #[test]
    fn a_set_bounds_collapse_and_nothing_less() {
        let label = |n: usize| ["no", "yes"][n % 2];
        let one =
            |n: usize| row(&format!(r#"{{"inputs": {{"x": [{}, 0], "w": "a"}}, "label": "{}"}}"#, n % 2, label(n)));
        assert!(Clean::read(put((0..LEAST - 1).map(one).collect()), &manifest(), Timestamp(0)).is_err());
        let clean = Clean::read(put((0..100).map(one).collect()), &manifest(), Timestamp(0)).unwrap();
        let taught = |turned: bool| {
            let mut model = Model::new(&manifest()).unwrap();
            for turn in 0..2_000_usize {
                let cells = [Cell::Number((turn % 2) as f64), Cell::Number(0.0), Cell::Word("a".into())];
                model.learn(&cells, Truth::Class(if turned { 1 - turn % 2 } else { turn % 2 }), 1.0).unwrap();
            }
            model
        };
        let (well, turned) = (clean.worth(&taught(false)), clean.worth(&taught(true)));
        assert_eq!((well, turned), (1.0, 0.0));
        assert!(clean.fall(turned, well).unwrap().contains("0.0% of the clean set (100 rows), where 100.0%"));
        assert_eq!(clean.fall(0.81, well), None, "a little worse is the guard's to say");
        assert_eq!(clean.better(0.1, 0.4), 0.4);
        let kept: Clean = serde_json::from_value(serde_json::to_value(&clean).unwrap()).unwrap();
        assert_eq!(kept.worth(&taught(false)), 1.0);
    }
}
