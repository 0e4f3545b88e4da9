//! One version's rows: what they were like at first, and whether they still are.

use std::{collections::VecDeque, time::Duration};

use online::{
    Feature, Schema,
    drift::{Inputs, RowDetector as _, State, inputs::Settings},
};
use rpc::trainer::{Alarm, AlarmKind, Shift};
use serde::{Deserialize, Serialize};
use types::{
    DataType, Manifest, Tensor, Timestamp,
    event::{Outcome, Prediction},
    manifest::{CaptureInput, Input},
};

use super::quality::Quality;
use crate::answer::{Answer, answer};

/// Columns that are watched, at most: the first ones.
const COLUMNS: usize = 1_000;
/// Bins for words.
const WORDS: u32 = 64;
/// Alarms of a version that are remembered.
const ALARMS: usize = 20;
/// How soon something of a kind is told again.
const AGAIN: Duration = Duration::from_secs(60);
/// Rows of one prediction that are looked at.
const ROWS: usize = 20;

/// A version's rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Watched {
    manifest: Manifest,
    #[serde(with = "streaming::kept::maybe")]
    inputs: Option<Inputs>,
    #[serde(with = "streaming::kept::maybe")]
    answers: Option<Inputs>,
    /// How well kept what is asked is.
    #[serde(default)]
    quality: Quality,
    /// When the last test of each found nothing.
    well: [Option<Timestamp>; 2],
    alarms: VecDeque<Alarm>,
}

impl Watched {
    /// What there is to watch of a version: its inputs, where they are kept, and its answers, where their meaning is known.
    pub(super) fn new(manifest: &Manifest) -> Option<Self> {
        let names = columns(&manifest.spec.inputs);
        let kept = manifest.spec.capture.input == CaptureInput::Features && !names.is_empty();
        let inputs = kept.then(|| detector(names)).flatten();
        let (quality, well, alarms) = (Quality::default(), [None; 2], VecDeque::new());
        let watched = Self { manifest: manifest.clone(), inputs, answers: None, quality, well, alarms };
        (watched.inputs.is_some() || manifest.spec.task.is_some()).then_some(watched)
    }

    pub(super) fn alarms(&self) -> Vec<Alarm> {
        self.alarms.iter().rev().cloned().collect()
    }

    /// Takes a prediction in; what it alarms about.
    pub(super) fn take(&mut self, prediction: &Prediction, now: Timestamp) -> Vec<Alarm> {
        let mut found = Vec::new();
        found.extend(self.quality.request(prediction.outcome != Outcome::Answered, now));
        let rows = usize::try_from(prediction.rows).unwrap_or(usize::MAX).min(ROWS);
        let tensors = prediction.input.kept();
        let outputs = prediction.output.kept();
        for row in 0..rows {
            if let Some(inputs) = &mut self.inputs
                && let Some(values) = values(&self.manifest.spec.inputs, &tensors, row, inputs.width())
            {
                let name = |place: usize| named(inputs, place);
                found.extend(self.quality.row(&values, name, now));
                found.extend(observe(inputs, &values, now, AlarmKind::Inputs, &mut self.well[0]));
            }
            let said = self.manifest.spec.task.as_ref().and_then(|task| answer(task, &outputs, row).ok());
            if let Some(values) = said.map(|said| as_row(&said))
                && let Some(answers) =
                    self.answers.get_or_insert_with_some(|| detector(answer_names(&self.manifest, values.len())))
                && answers.width() == values.len()
                && let Some(alarm) = observe(answers, &values, now, AlarmKind::Answers, &mut self.well[1])
            {
                found.push(alarm);
            }
        }
        // Rows come in bunches: what is told of is not told again at once.
        let told = |alarm: &Alarm, of: &VecDeque<Alarm>| {
            of.iter().any(|told| told.kind == alarm.kind && alarm.at.since(told.at) < AGAIN)
        };
        found.retain(|alarm| {
            let new = alarm.kind != AlarmKind::Quality || !told(alarm, &self.alarms);
            if new {
                self.alarms.push_back(alarm.clone());
            }
            new
        });
        while self.alarms.len() > ALARMS {
            self.alarms.pop_front();
        }
        found
    }
}

impl Watched {
    /// Columns whose rows are held back from learning where they are missing.
    pub(super) fn held(&self) -> Vec<Held> {
        let name = |place| self.inputs.as_ref().map(|inputs| named(inputs, place)).unwrap_or_default();
        self.quality.held().map(|place| Held { place, name: name(place) }).collect()
    }
}

/// A column that lately goes missing, and never did before.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) place: usize,
    pub(crate) name: String,
}

fn named(inputs: &Inputs, place: usize) -> String {
    inputs.schema().features().get(place).map(|feature| feature.name.clone()).unwrap_or_default()
}

/// As [`Option::get_or_insert_with`], where there may be nothing to insert.
trait Fill<T> {
    fn get_or_insert_with_some(&mut self, make: impl FnOnce() -> Option<T>) -> Option<&mut T>;
}

impl<T> Fill<T> for Option<T> {
    fn get_or_insert_with_some(&mut self, make: impl FnOnce() -> Option<T>) -> Option<&mut T> {
        if self.is_none() {
            *self = make();
        }
        self.as_mut()
    }
}

/// The names of the columns, each with whether it holds words.
fn columns(inputs: &[Input]) -> Vec<(String, bool)> {
    let of = |input: &Input| {
        let width = match input.shape.as_deref() {
            None | Some([] | [_]) => 1,
            Some([_, rest @ ..]) => rest.iter().map(|d| usize::try_from(*d).unwrap_or(0)).product(),
        };
        let (name, words) = (input.name.clone(), input.datatype == DataType::Bytes);
        (0..width).map(move |place| (if width == 1 { name.clone() } else { format!("{name}[{place}]") }, words))
    };
    inputs.iter().flat_map(of).take(COLUMNS).collect()
}

fn detector(names: Vec<(String, bool)>) -> Option<Inputs> {
    let feature = |(name, words)| if words { Feature::words(name, WORDS) } else { Feature::number(name) };
    let schema = Schema::new(names.into_iter().map(feature).collect()).ok()?;
    Inputs::new(schema, Settings::default()).ok()
}

/// A row of a prediction, as its detector takes it: words as one of so many bins, infinities as missing.
fn values(inputs: &[Input], tensors: &[Tensor], row: usize, width: usize) -> Option<Vec<f64>> {
    let mut values = Vec::with_capacity(width);
    for input in inputs {
        let tensor = tensors.iter().find(|tensor| tensor.name() == input.name)?;
        let columns = tensor.elements().checked_div(usize::try_from(tensor.rows()).ok()?)?;
        let finite = |value: f64| if value.is_finite() { value } else { f64::NAN };
        match tensor.datatype() {
            DataType::Bytes => values.extend(tensor.iter_bytes().skip(row * columns).take(columns).map(bin)),
            DataType::Bool => {
                values.extend(tensor.data().iter().skip(row * columns).take(columns).map(|flag| f64::from(*flag)));
            }
            _ => values.extend(tensor.iter_numbers().skip(row * columns).take(columns).map(finite)),
        }
        if values.len() >= width {
            break;
        }
    }
    values.truncate(width);
    (values.len() == width).then_some(values)
}

fn bin(word: &[u8]) -> f64 {
    if word.is_empty() { f64::NAN } else { f64::from(crc(word) % WORDS) }
}

/// FNV-1a in 32 bits (Fowler, Noll and Vo).
fn crc(word: &[u8]) -> u32 {
    word.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn as_row(said: &Answer) -> Vec<f64> {
    match said {
        Answer::Probabilities(said) => said.clone(),
        Answer::Class(class) => vec![f64::from(u32::try_from(*class).unwrap_or(0) % WORDS)],
        Answer::Number(number) => vec![*number],
    }
}

fn answer_names(manifest: &Manifest, width: usize) -> Vec<(String, bool)> {
    let classes = manifest.spec.task.as_ref().map(|task| task.classes.as_slice()).unwrap_or_default();
    let name = |place: usize| classes.get(place).cloned().unwrap_or_else(|| format!("answer {place}"));
    (0..width.min(COLUMNS)).map(|place| (name(place), false)).collect()
}

fn observe(
    detector: &mut Inputs,
    values: &[f64],
    now: Timestamp,
    kind: AlarmKind,
    well: &mut Option<Timestamp>,
) -> Option<Alarm> {
    let tests = detector.report().tests;
    let state = detector.update(values).ok()?;
    if state != State::Drift {
        if detector.report().tests > tests {
            *well = Some(now);
        }
        return None;
    }
    let moved = detector.report().moved.iter().flatten().map(|moved| Shift {
        column: named(detector, moved.feature),
        effect: moved.effect,
        evidence: moved.evidence,
    });
    let moved: Vec<Shift> = moved.collect();
    let words: Vec<String> = moved.iter().map(|shift| format!("{} by {:.2}", shift.column, shift.effect)).collect();
    let alarm = Alarm { at: now, kind, what: words.join(", "), since: *well, moved };
    // What is new is what is compared with from now on.
    detector.reset();
    *well = None;
    Some(alarm)
}

#[cfg(test)]
mod tests {
    use types::event::{Captured, Features, Kept};

    use super::*;

    fn manifest() -> Manifest {
        let text = "apiVersion: mantlet.dev/v1\nkind: Model\nmetadata: { name: m }\nspec: { source: { onnx: m.onnx }, \
            inputs: [{ name: amount, type: FP64, shape: [-1, 2] }, { name: country, type: BYTES, shape: [-1, 1] }], \
            task: { kind: classification, classes: [ok, fraud] }, capture: { input: features } }\n";
        Manifest::from_yaml(text).unwrap()
    }

    fn kept(tensor: &Tensor) -> Kept {
        Kept {
            name: tensor.name().into(),
            datatype: tensor.datatype(),
            shape: tensor.shape().to_vec(),
            data: Some(tensor.data().clone()),
        }
    }

    fn prediction(n: u64, shift: f64, country: &str) -> Prediction {
        // Spread over the whole numbers, without a generator.
        let place = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1_u64 << 53) as f64;
        let floats = |name: &str, values: &[f64]| {
            let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            Tensor::new(name, DataType::Fp64, vec![1, values.len() as i64], data.into()).unwrap()
        };
        let country = Tensor::from_elements("country", vec![1, 1], [country.as_bytes()]).unwrap();
        let captured = |tensors: &[Tensor]| {
            let tensors = tensors.iter().map(kept).collect();
            Captured::Features(Features { digest: types::Digest::of(b""), tensors })
        };
        Prediction {
            prediction: types::PredictionId(uuid::Uuid::nil()),
            namespace: None,
            model: None,
            version: None,
            snapshot: None,
            caller: None,
            client_id: None,
            at: Timestamp(n),
            steps: Vec::new(),
            replica: None,
            rows: 1,
            batch: 1,
            attempts: 1,
            assessment: None,
            outcome: Outcome::Answered,
            shadow_of: None,
            input: captured(&[floats("amount", &[place, place + shift]), country]),
            output: captured(&[floats("probabilities", &[1.0 - place, place])]),
            keep: None,
            sketch: Vec::new(),
        }
    }

    #[test]
    fn what_moved_is_named_and_the_new_is_what_counts_from_then_on() {
        let mut watched = Watched::new(&manifest()).unwrap();
        let run = |watched: &mut Watched, rows: std::ops::Range<u64>, shift: f64| {
            rows.flat_map(|n| watched.take(&prediction(n, shift, "NL"), Timestamp(n))).collect::<Vec<_>>()
        };
        assert_eq!(run(&mut watched, 0..8_000, 0.0), [], "nothing moves");
        let mut kept: Watched = serde_json::from_value(serde_json::to_value(&watched).unwrap()).unwrap();
        let alarms = run(&mut kept, 8_000..10_000, 0.5);
        let [alarm] = alarms.as_slice() else { panic!("{alarms:?}") };
        assert_eq!((alarm.kind, alarm.moved[0].column.as_str()), (AlarmKind::Inputs, "amount[1]"));
        assert!(alarm.at < Timestamp(9_100) && alarm.since > Some(Timestamp(7_000)), "{alarm:?}");
        assert!(alarm.what.starts_with("amount[1] by "), "{alarm:?}");
        assert_eq!(run(&mut kept, 10_000..16_000, 0.5), [], "and stays");
        assert_eq!(kept.alarms().len(), 1);
    }

    #[test]
    fn of_what_nobody_keeps_or_knows_nothing_is_watched() {
        let mut bare = manifest();
        bare.spec.capture = types::manifest::Capture::default();
        assert!(Watched::new(&bare).unwrap().inputs.is_none(), "answers alone");
        bare.spec.task = None;
        assert!(Watched::new(&bare).is_none());
    }
}
