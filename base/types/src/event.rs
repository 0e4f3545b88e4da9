//! Events: what happened, in one versioned schema for every room that watches or learns.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CallerName, Code, DataType, Digest, ModelName, Namespace, PredictionId, Tensor, Timestamp, Version};

/// The version of this schema; readers take this one and the one before.
pub const SCHEMA: u32 = 1;

/// One event, as stored in a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// A prediction was asked for, and answered or refused.
    Prediction(Box<Prediction>),
    /// Somebody said what the right answer was.
    Feedback(Feedback),
    /// A decider chose.
    Decision(Decision),
    /// An agent or a person acted on a subject.
    Action(Action),
    /// A replica was measured.
    Observation(Observation),
    /// Events were lost; how many.
    Gap(Gap),
    /// Somebody asked for what they may not have.
    Denial(Denial),
}

/// A prediction, refused ones too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Prediction {
    pub prediction: PredictionId,
    pub namespace: Option<Namespace>,
    pub model: Option<ModelName>,
    pub version: Option<Version>,
    /// A streaming version's state at a stream offset.
    pub snapshot: Option<u64>,
    pub caller: Option<CallerName>,
    /// The client's own id of the request, where it gave one of a reasonable length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    pub at: Timestamp,
    /// Microseconds each step of the ring took, in the ring's order.
    pub steps: Vec<(Cow<'static, str>, u32)>,
    pub replica: Option<String>,
    pub rows: u64,
    /// Rows of the batch it was computed in.
    pub batch: u64,
    pub attempts: u32,
    /// What `assess` found, when it found something.
    pub assessment: Option<String>,
    pub outcome: Outcome,
    /// The prediction this one shadows.
    pub shadow_of: Option<PredictionId>,
    pub input: Captured,
    pub output: Captured,
    /// Milliseconds after which it is erased, where that is sooner than everything is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u64>,
    /// A fixed-size summary of the input, at most 256 bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sketch: Vec<u8>,
}

/// How a prediction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was answered.
    Answered,
    /// It was refused with this code.
    Refused(Code),
}

/// How much of a payload is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Captured {
    /// Nothing.
    None,
    /// SHA-256 over names, types, shapes and bytes.
    Digest(Digest),
    /// The tensors themselves.
    Features(Features),
}

impl Captured {
    /// The tensors, when all of them were kept whole.
    pub fn whole(&self) -> Option<Vec<Tensor>> {
        let Self::Features(features) = self else { return None };
        features.tensors.iter().map(Kept::tensor).collect()
    }

    /// Those tensors that were kept whole.
    pub fn kept(&self) -> Vec<Tensor> {
        let Self::Features(features) = self else { return Vec::new() };
        features.tensors.iter().filter_map(Kept::tensor).collect()
    }
}

/// Kept tensors, and the digest over all of them before anything was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// SHA-256 over names, types, shapes and bytes.
    pub digest: Digest,
    /// Every tensor, with its data where they are kept.
    pub tensors: Vec<Kept>,
}

/// A kept tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub datatype: DataType,
    /// Its dimensions.
    pub shape: Vec<i64>,
    /// Its elements in the raw form, in base64; none when it is redacted, or over the byte cap.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "base64_bytes")]
    pub data: Option<Bytes>,
}

impl Kept {
    fn tensor(&self) -> Option<Tensor> {
        let data = self.data.clone()?;
        Tensor::new(&self.name, self.datatype, self.shape.clone(), data).ok()
    }
}

mod base64_bytes {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    use bytes::Bytes;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(data: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
        data.as_ref().map(|data| BASE64_STANDARD.encode(data)).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| BASE64_STANDARD.decode(text).map(Bytes::from).map_err(D::Error::custom)).transpose()
    }
}

/// A label: what the right answer for a row of an earlier prediction was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// Of which prediction.
    pub prediction: PredictionId,
    /// Which row of it, from 0.
    pub row: u64,
    /// The right answer: the class's name or number, or a number.
    pub label: Label,
    /// Who found it out; the caller that sent it when it named nobody.
    pub contributor: String,
    /// When it was found out, as whoever sent it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// When it came.
    pub received: Timestamp,
    /// In which namespace.
    pub namespace: Namespace,
    /// Who sent it.
    pub caller: CallerName,
    /// Whether that caller may label predictions of others.
    #[serde(default, skip_serializing_if = "is_false")]
    pub any: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The stream of a gateway's labels.
pub fn feedback(gateway: &str) -> String {
    format!("feedback.{gateway}")
}

/// How the streams of gateways' predictions begin.
pub const PREDICTIONS: &str = "predictions.";

/// The stream of what became of labels.
pub const JOINED: &str = "joined.trainer";

/// A right answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Label {
    /// Yes or no: the classes `true` and `false`, or 1 and 0.
    Flag(bool),
    /// A number, or a class by its number from 0.
    Number(f64),
    /// A class by its name.
    Word(String),
}

/// A choice a decider made, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Decision {
    pub decider: String,
    pub mode: String,
    pub inputs: Digest,
    pub choice: String,
    pub reason: String,
    pub at: Timestamp,
}

/// Something done to a subject, for a time, with its undo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Action {
    pub subject: String,
    pub rung: String,
    pub reason: String,
    pub evidence: serde_json::Value,
    pub until: Option<Timestamp>,
    pub undo: String,
    pub author: String,
    pub at: Timestamp,
}

/// A replica's measurements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Observation {
    pub replica: String,
    pub metrics: BTreeMap<String, f64>,
    pub at: Timestamp,
}

/// A hole in a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Gap {
    pub lost: u64,
    pub reason: String,
    pub at: Timestamp,
}

/// A call that identify or authorize refused outside the ring: management, metadata, metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Denial {
    /// Who asked; unknown when no credential was good.
    pub subject: Option<String>,
    /// The namespace they acted in.
    pub namespace: Option<Namespace>,
    pub action: String,
    pub resource: String,
    pub code: Code,
    /// How many it stands for: strangers that come too fast are counted together.
    #[serde(default = "once")]
    pub times: u64,
    pub at: Timestamp,
}

fn once() -> u64 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_back_and_names_its_kind() {
        let event = Event::Gap(Gap { lost: 3, reason: "queue full".into(), at: Timestamp(5) });
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(text, r#"{"kind":"gap","lost":3,"reason":"queue full","at":5}"#);
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }

    #[test]
    fn kept_tensors_come_back_whole_or_not_at_all() {
        let kept = |data: Option<&'static [u8]>| Kept {
            name: "x".into(),
            datatype: DataType::Uint8,
            shape: vec![3],
            data: data.map(Bytes::from_static),
        };
        let captured = |tensors| Captured::Features(Features { digest: Digest::of(b""), tensors });
        let event = captured(vec![kept(Some(&[1, 2, 3]))]);
        let text = serde_json::to_string(&event).unwrap();
        assert!(text.contains("\"AQID\""), "{text}");
        let again: Captured = serde_json::from_str(&text).unwrap();
        assert_eq!(again.whole().unwrap()[0].data().as_ref(), [1, 2, 3]);
        let part = captured(vec![kept(None), kept(Some(&[1, 2, 3]))]);
        assert_eq!((part.whole(), part.kept().len()), (None, 1));
        assert_eq!(captured(vec![kept(Some(&[1]))]).whole(), None, "bytes that don't fit are no tensor");
    }
}
