//! Decides what becomes of a label once its prediction is there, or known not to come. No I/O.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use types::{
    Manifest, PredictionId,
    event::{Feedback, Outcome, Prediction},
};

use crate::{
    answer::{answer, truth},
    find::Found,
    joined::{Copied, Entry, Example, Reason, Refused},
};

/// How long after its prediction a label may come, where no manifest says.
pub(crate) const HORIZON: Duration = Duration::from_secs(7 * 86_400);
/// Labelled rows that are remembered, so that a second label of a row is found: as many as a table of a million places holds.
/// Some 25 MB, if ever so many come.
const REMEMBERED: usize = 900_000;

/// The rows that have a label: the last ones. A row is known by 64 bits of its prediction's id and its number, and its label by 32: of a
/// million rows two share those once in some forty million nodes.
#[derive(Debug, Default)]
pub(crate) struct Labelled {
    labels: HashMap<u64, u32>,
    order: VecDeque<u64>,
}

/// A row in 64 bits: rows of one prediction all differ, and ids are made at random here.
pub(crate) fn row_key(prediction: PredictionId, row: u64) -> u64 {
    let (high, low) = prediction.0.as_u64_pair();
    let id = (high ^ low.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    id ^ row.wrapping_mul(0xff51_afd7_ed55_8ccd)
}

fn row(example: &Example) -> u64 {
    row_key(example.prediction, example.row)
}

impl Labelled {
    /// Notes a row's label.
    pub(crate) fn note(&mut self, example: &Example) {
        let key = row(example);
        if self.labels.insert(key, fingerprint(&example.truth)).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.labels.remove(&oldest);
            }
        }
    }

    /// Whether the row with this key has a label.
    pub(crate) fn has(&self, key: u64) -> bool {
        self.labels.contains_key(&key)
    }

    /// Whether a row has a label already, and whether it was this one.
    fn same(&self, example: &Example) -> Option<bool> {
        let known = self.labels.get(&row(example))?;
        Some(*known == fingerprint(&example.truth))
    }
}

/// A label in 32 bits: any two classes differ, and numbers but for one pair in four thousand million.
fn fingerprint(truth: &crate::joined::Said) -> u32 {
    let whole: u64 = match truth {
        crate::joined::Said::Number(number) => number.to_bits(),
        crate::joined::Said::Class(class) => *class as u64,
        crate::joined::Said::Probabilities(_) => u64::MAX,
    };
    (whole ^ (whole >> 32)) as u32
}

/// What becomes of a label. `found` is what its id names, of whatever namespace; `manifest` its version's.
pub(crate) fn join(
    label: &Feedback,
    found: Option<&Found>,
    manifest: Option<&Manifest>,
    labelled: [&Labelled; 2],
) -> Entry {
    let known = found.filter(|found| found.prediction.namespace.as_ref() == Some(&label.namespace));
    let refused = |reason, why: String| {
        Entry::Refused(Refused {
            prediction: label.prediction,
            row: label.row,
            namespace: label.namespace.clone(),
            model: known.and_then(|found| found.prediction.model.clone()),
            reason,
            why,
            received: label.received,
        })
    };
    let Some(found) = known else {
        return refused(Reason::Unknown, "no such prediction is kept in this namespace".into());
    };
    match example(label, found, manifest) {
        Err((reason, why)) => refused(reason, why),
        Ok(example) => match labelled.iter().find_map(|labelled| labelled.same(&example)) {
            None => Entry::Example(example),
            Some(true) => refused(Reason::Duplicate, "this row has the same label already".into()),
            Some(false) => refused(Reason::Contradicting, "this row has another label already, which stands".into()),
        },
    }
}

fn example(label: &Feedback, found: &Found, manifest: Option<&Manifest>) -> Result<Example, (Reason, String)> {
    let Found { prediction, copies } = found;
    if !label.any && prediction.caller.as_ref() != Some(&label.caller) {
        return Err((Reason::Foreign, format!("caller `{}` did not ask for this prediction", label.caller)));
    }
    let horizon = manifest.map_or(HORIZON, |manifest| manifest.spec.learning.horizon());
    if label.received.since(prediction.at) > horizon {
        let late = label.received.since(prediction.at);
        let late = if late.as_secs() < 86_400 {
            format!("{} s", late.as_secs())
        } else {
            format!("{} days", late.as_secs() / 86_400)
        };
        return Err((Reason::Late, format!("it came {late} after the prediction: see spec.learning.horizon")));
    }
    let (Outcome::Answered, Some(model), Some(version)) = (prediction.outcome, &prediction.model, prediction.version)
    else {
        return Err((Reason::Unanswered, "the prediction was refused".into()));
    };
    if label.row >= prediction.rows {
        return Err((Reason::NoRow, format!("the prediction has {} rows, counted from 0", prediction.rows)));
    }
    let Some(task) = manifest.and_then(|manifest| manifest.spec.task.as_ref()) else {
        return Err((Reason::NoTask, format!("the manifest of version {version} has no spec.task")));
    };
    let outputs = prediction.output.kept();
    if outputs.is_empty() {
        return Err((Reason::NotCaptured, "its outputs were not kept: see spec.capture of the manifest".into()));
    }
    let wrong = |why| (Reason::WrongType, why);
    let row = usize::try_from(label.row).map_err(|error| wrong(error.to_string()))?;
    let said = answer(task, &outputs, row).map_err(wrong)?;
    let truth = truth(task, &said, &label.label).map_err(wrong)?;
    // A version that answers in another form can't be compared.
    let copied = |copy: &Prediction| {
        let answer = answer(task, &copy.output.kept(), row).ok()?;
        Some(Copied { version: copy.version?, answer: answer.into() })
    };
    let learns = manifest.filter(|manifest| {
        let learning = &manifest.spec.learning;
        manifest.is_streaming() || learning.train.is_some() || learning.slice.is_some()
    });
    // Where not all of it was kept, the row is judged, and not learnt.
    let features =
        learns.and_then(|manifest| streaming::row(&manifest.spec.inputs, &prediction.input.whole()?, row).ok());
    Ok(Example {
        prediction: prediction.prediction,
        row: label.row,
        namespace: label.namespace.clone(),
        model: model.clone(),
        version,
        contributor: label.contributor.clone(),
        answer: said.into(),
        truth: truth.into(),
        copies: copies.iter().filter_map(copied).collect(),
        features,
        weight: 1.0,
        snapshot: prediction.snapshot,
        at: prediction.at,
        received: label.received,
    })
}
