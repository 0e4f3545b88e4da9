//! A streaming model: what it takes and gives, how it answers, how it learns, how it is handed on.

use bytes::Bytes;
use online::{
    Classifier as _, Encoder, Feature, Regressor as _, Snapshot, Value,
    registry::{RegressorModel, RegressorSpec, Spec},
};
use serde::{Deserialize, Serialize};
use types::{
    Code, DataType, Manifest, Refusal, Tensor,
    infer::{ModelMetadata, TensorSpec},
    manifest::{CaptureInput, Input, Online, Source, Task, TaskKind},
};

use crate::row::{self, Cell, Row};

/// Words of an input that declares none, that are told apart.
const WORDS: u32 = 1_024;
/// Columns that an input may have.
const COLUMNS: i64 = 65_536;
/// Where the draws of a learner begin.
const SEED: u64 = 1;
/// What it answers with.
const PROBABILITIES: &str = "probabilities";
const LABEL: &str = "label";
const VALUE: &str = "value";

/// What a row was answered with.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The probability of each class.
    Probabilities(Vec<f64>),
    /// A number.
    Value(f64),
}

/// What was right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Truth {
    /// A class, from 0.
    Class(usize),
    /// A number.
    Number(f64),
}

/// A streaming model with all that it has learnt.
#[derive(Debug, Clone)]
pub struct Model {
    inputs: Vec<Input>,
    classes: Vec<String>,
    state: State,
}

/// What is handed on.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    encoder: Encoder,
    learner: Learner,
    /// Examples learnt.
    learnt: u64,
    /// The next entry of the stream that it learns from.
    offset: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Learner {
    Classifier(Box<online::registry::Model>),
    Regressor(Box<RegressorModel>),
}

impl Learner {
    /// Learns a row, as if it had come `weight` times; what is right is of its kind.
    fn learn(&mut self, row: &[f64], truth: Truth, weight: f64) -> online::Result<()> {
        match (self, truth) {
            (Self::Classifier(model), Truth::Class(class)) => model.learn(row, class, weight),
            (Self::Regressor(model), Truth::Number(number)) => model.learn(row, number, weight),
            _ => Ok(()),
        }
    }
}

impl Snapshot for State {
    const KIND: &'static str = "streaming model";
    const VERSION: u16 = 1;

    fn check(&self) -> online::Result<()> {
        self.encoder.check()?;
        let schema = match &self.learner {
            Learner::Classifier(model) => {
                model.check()?;
                model.schema()
            }
            Learner::Regressor(model) => {
                model.check()?;
                model.schema()
            }
        };
        if schema == self.encoder.schema() {
            Ok(())
        } else {
            Err(online::Error::Snapshot("learns other columns than it reads"))
        }
    }
}

impl Model {
    /// The model that a manifest declares, which has learnt nothing: of classes it says that all are alike, and 0 of a
    /// number. [`Model::complete`] has looked at the manifest.
    ///
    /// # Errors
    /// `manifest_invalid` with the field.
    pub fn new(manifest: &Manifest) -> Result<Self, Refusal> {
        Self::seeded(manifest, SEED)
    }

    /// As [`new`](Self::new), with other draws.
    fn seeded(manifest: &Manifest, seed: u64) -> Result<Self, Refusal> {
        let (online, task) = declared(manifest)?;
        let inputs = manifest.spec.inputs.clone();
        let encoder = encoder(&inputs)?;
        let schema = encoder.schema().clone();
        let learner = match task.kind {
            TaskKind::Classification => {
                let spec: Spec = spec(online)?;
                let model = spec.build(schema, task.classes.len(), seed).map_err(setting)?;
                Learner::Classifier(Box::new(model))
            }
            _ => {
                let spec: RegressorSpec = match online.learner.as_str() {
                    "auto" => {
                        RegressorSpec::RegressionForest(serde_json::from_value(settings(online)).map_err(setting)?)
                    }
                    _ => spec(online)?,
                };
                Learner::Regressor(Box::new(spec.build(schema, seed).map_err(setting)?))
            }
        };
        let state = State { encoder, learner, learnt: 0, offset: online.from.unwrap_or(0) };
        Ok(Self { inputs, classes: task.classes.clone(), state })
    }

    /// The model that a manifest declares, once what it leaves out is said there: an input without a shape is a column.
    ///
    /// # Errors
    /// `manifest_invalid` with the field.
    pub fn complete(manifest: &mut Manifest) -> Result<Self, Refusal> {
        for input in &mut manifest.spec.inputs {
            input.shape.get_or_insert_with(|| vec![-1, 1]);
        }
        Self::new(manifest)
    }

    /// A model of this manifest in the state that was saved.
    ///
    /// # Errors
    /// `load_failed` when the bytes are no such state.
    pub fn load(manifest: &Manifest, bytes: &[u8]) -> Result<Self, Refusal> {
        let wrong = |why: String| Refusal::new(Code::LoadFailed, format!("the snapshot can't be loaded: {why}"));
        let state = State::load(bytes).map_err(|error| wrong(error.to_string()))?;
        let (_, task) = declared(manifest)?;
        let inputs = manifest.spec.inputs.clone();
        let classes = match &state.learner {
            Learner::Classifier(model) => model.classes(),
            Learner::Regressor(_) => 0,
        };
        if state.encoder.schema() != encoder(&inputs)?.schema() || classes != task.classes.len() {
            return Err(wrong("its columns or classes are not those of the manifest".into()));
        }
        Ok(Self { inputs, classes: task.classes.clone(), state })
    }

    /// Its state as bytes.
    pub fn save(&self) -> Vec<u8> {
        self.state.save()
    }

    /// Examples that it has learnt.
    pub fn learnt(&self) -> u64 {
        self.state.learnt
    }

    /// The next entry of the stream that it learns from.
    pub fn offset(&self) -> u64 {
        self.state.offset
    }

    /// What was before this entry is done with, learnt or not.
    pub fn advance(&mut self, offset: u64) {
        self.state.offset = self.state.offset.max(offset);
    }

    /// What it takes and gives.
    pub fn metadata(&self) -> ModelMetadata {
        let spec = |name: &str, datatype, shape: &[i64]| TensorSpec {
            name: name.to_owned(),
            datatype,
            shape: shape.to_vec(),
            classes: Vec::new(),
        };
        let input = |input: &Input| spec(&input.name, input.datatype, input.shape.as_deref().unwrap_or(&[-1, 1]));
        let classes = i64::try_from(self.classes.len()).unwrap_or(i64::MAX);
        let outputs = match &self.state.learner {
            Learner::Classifier(_) => {
                let probabilities = spec(PROBABILITIES, DataType::Fp64, &[-1, classes]);
                let probabilities = TensorSpec { classes: self.classes.clone(), ..probabilities };
                vec![spec(LABEL, DataType::Bytes, &[-1]), probabilities]
            }
            Learner::Regressor(_) => vec![spec(VALUE, DataType::Fp64, &[-1])],
        };
        ModelMetadata { inputs: self.inputs.iter().map(input).collect(), outputs }
    }

    /// The rows of a request.
    ///
    /// # Errors
    /// `input_mismatch` when a tensor is lacking, or is not as declared.
    pub fn rows(&self, inputs: &[Tensor]) -> Result<Vec<Row>, Refusal> {
        row::rows(&self.inputs, inputs)
    }

    /// The answer for one row.
    ///
    /// # Errors
    /// `input_mismatch` for a value that is not as declared, or infinite.
    pub fn predict(&self, row: &[Cell]) -> Result<Answer, Refusal> {
        let row = self.encode(&values(row))?;
        match &self.state.learner {
            Learner::Classifier(model) => {
                let mut probabilities = vec![0.0; self.classes.len()];
                model.predict(&row, &mut probabilities).map_err(input)?;
                Ok(Answer::Probabilities(probabilities))
            }
            Learner::Regressor(model) => Ok(Answer::Value(model.predict(&row).map_err(input)?)),
        }
    }

    /// The answer to a request: of a classification `label`, the name of the most probable class, and `probabilities`,
    /// `[rows, classes]`; of a regression `value`, `[rows]`. `wanted` names outputs; none means all.
    ///
    /// # Errors
    /// As [`rows`](Self::rows) and [`predict`](Self::predict).
    pub fn answer(&self, inputs: &[Tensor], wanted: &[String]) -> Result<Vec<Tensor>, Refusal> {
        let rows = self.rows(inputs)?;
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let (mut numbers, mut labels) = (Vec::new(), Vec::new());
        for row in &rows {
            match self.predict(row)? {
                Answer::Probabilities(probabilities) => {
                    labels.push(self.classes.get(online::learner::greatest(&probabilities)));
                    numbers.extend(probabilities);
                }
                Answer::Value(value) => numbers.push(value),
            }
        }
        let numbers: Bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>().into();
        let outputs = match &self.state.learner {
            Learner::Classifier(_) => {
                let labels = labels.iter().map(|label| label.map_or(&[][..], |label| label.as_bytes()));
                let classes = i64::try_from(self.classes.len()).unwrap_or(i64::MAX);
                vec![
                    Tensor::from_elements(LABEL, vec![count], labels),
                    Tensor::new(PROBABILITIES, DataType::Fp64, vec![count, classes], numbers),
                ]
            }
            Learner::Regressor(_) => vec![Tensor::new(VALUE, DataType::Fp64, vec![count], numbers)],
        };
        let outputs: Vec<Tensor> = outputs
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|error| Refusal::new(Code::InferenceFailed, error.to_string()))?;
        let asked = |tensor: &Tensor| wanted.is_empty() || wanted.iter().any(|name| name == tensor.name());
        Ok(outputs.into_iter().filter(asked).collect())
    }

    /// Learns that this was right for that row, as if it had come `weight` times. What causes an error has not changed it.
    ///
    /// # Errors
    /// `input_mismatch` for a row or a truth that is not as declared.
    pub fn learn(&mut self, row: &[Cell], truth: Truth, weight: f64) -> Result<(), Refusal> {
        let row = self.read(row, truth)?;
        self.state.learner.learn(&row, truth, weight).map_err(input)?;
        self.state.learnt += 1;
        Ok(())
    }

    /// A row as the learner takes it, once what was right can be. Words get their codes before the row that brings them is
    /// learnt; they change no answer to others.
    fn read(&mut self, row: &[Cell], truth: Truth) -> Result<Vec<f64>, Refusal> {
        match (&self.state.learner, truth) {
            (Learner::Classifier(_), Truth::Class(class)) if class < self.classes.len() => {}
            (Learner::Regressor(_), Truth::Number(number)) if number.is_finite() => {}
            _ => return Err(Refusal::new(Code::InputMismatch, format!("the model can't answer with {truth:?}"))),
        }
        let values = values(row);
        self.state.encoder.learn(&values).map_err(input)?;
        self.encode(&values)
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        let learner = match &self.state.learner {
            Learner::Classifier(model) => model.memory(),
            Learner::Regressor(model) => model.memory(),
        };
        self.state.encoder.memory() + learner
    }

    fn encode(&self, values: &[Value<'_>]) -> Result<Vec<f64>, Refusal> {
        let mut encoded = vec![0.0; values.len()];
        self.state.encoder.encode(values, &mut encoded).map_err(input)?;
        Ok(encoded)
    }
}

fn values(row: &[Cell]) -> Vec<Value<'_>> {
    row.iter().map(Cell::value).collect()
}

fn input(error: online::Error) -> Refusal {
    Refusal::new(Code::InputMismatch, error.to_string())
}

fn invalid(what: impl Into<String>) -> Refusal {
    Refusal::new(Code::ManifestInvalid, what.into())
}

fn setting(error: impl std::fmt::Display) -> Refusal {
    invalid(format!("spec.source.online: {error}")).hint("docs/streaming-models.md lists learners and their settings")
}

/// What a manifest says of its learner and its task, once it says enough.
fn declared(manifest: &Manifest) -> Result<(&Online, &Task), Refusal> {
    let spec = &manifest.spec;
    let Source::Online(online) = &spec.source else { return Err(invalid("spec.source names no streaming learner")) };
    if spec.inputs.is_empty() {
        return Err(invalid("spec.inputs: a model that learns has no graph to read its inputs from: name them"));
    }
    for input in &spec.inputs {
        let fits = match input.shape.as_deref() {
            None | Some([-1]) => true,
            Some([-1, columns]) => (1..=COLUMNS).contains(columns),
            Some(_) => false,
        };
        if !fits {
            return Err(invalid(format!(
                "spec.inputs `{}`: a streaming model takes rows: [-1] or [-1, columns]",
                input.name
            )));
        }
    }
    let Some(task) = &spec.task else {
        return Err(invalid("spec.task: a model that learns needs to know what it predicts"));
    };
    match task.kind {
        TaskKind::Classification if task.classes.len() < 2 => {
            return Err(invalid("spec.task.classes: a classification needs the names of two classes at least"));
        }
        TaskKind::Classification => {}
        TaskKind::Regression if task.classes.is_empty() => {}
        TaskKind::Regression => return Err(invalid("spec.task.classes: a regression has none")),
        TaskKind::Anomaly | TaskKind::Other => {
            return Err(invalid("spec.task.kind: streaming models learn classification and regression"));
        }
    }
    if let Some(output) = &task.output {
        let wanted = if task.kind == TaskKind::Classification { PROBABILITIES } else { VALUE };
        if output != wanted {
            return Err(invalid(format!("spec.task.output: a streaming model answers with `{wanted}`")));
        }
    }
    if spec.capture.input != CaptureInput::Features {
        return Err(invalid("spec.capture.input: a model learns from what it was asked: set it to `features`"));
    }
    let redacted = |input: &&Input| spec.capture.redact.contains(&input.name);
    if let Some(redacted) = spec.inputs.iter().find(redacted) {
        return Err(invalid(format!("spec.capture.redact: the model can't learn from `{}` then", redacted.name)));
    }
    Ok((online, task))
}

fn settings(online: &Online) -> serde_json::Value {
    online.settings.iter().map(|(name, value)| (name.clone(), value.clone())).collect::<serde_json::Map<_, _>>().into()
}

/// The learner by its name, with its settings.
fn spec<T: for<'a> Deserialize<'a>>(online: &Online) -> Result<T, Refusal> {
    let mut settings = settings(online);
    settings["learner"] = online.learner.clone().into();
    serde_json::from_value(settings).map_err(setting)
}

fn encoder(inputs: &[Input]) -> Result<Encoder, Refusal> {
    let mut features = Vec::new();
    for input in inputs {
        let columns = row::columns(input);
        for column in 0..columns {
            let name = if columns == 1 { input.name.clone() } else { format!("{}[{column}]", input.name) };
            features.push(match (input.datatype, u32::try_from(input.categories.len())) {
                (DataType::Bytes, Ok(0)) => Feature::words(name, WORDS),
                (DataType::Bytes, Ok(categories)) => Feature::words(name, categories.saturating_add(1)),
                (DataType::Bytes, Err(_)) => return Err(invalid(format!("spec.inputs `{name}`: too many categories"))),
                _ => Feature::number(name),
            });
        }
    }
    let mut encoder = Encoder::new(features).map_err(|error| invalid(format!("spec.inputs: {error}")))?;
    let mut place = 0;
    for input in inputs {
        for _ in 0..row::columns(input) {
            if !input.categories.is_empty() {
                encoder.declare(place, input.categories.iter().map(String::as_str)).map_err(setting)?;
            }
            place += 1;
        }
    }
    Ok(encoder)
}

#[cfg(test)]
mod tests;
pub mod workers;
