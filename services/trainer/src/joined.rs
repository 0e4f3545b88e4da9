//! The joined log: what became of each label, in the order in which labels came.
//!
//! It is a stream of its own, which the trainer alone writes. What is written at once ends with how far the gateways'
//! streams of labels have been read, so a start after a crash goes on exactly there: no label is joined twice, none is
//! left out.

use std::collections::BTreeMap;

use rpc::trainer::Look;
use serde::{Deserialize, Serialize};
use streaming::Row;
use types::{ModelName, Namespace, PredictionId, Timestamp, Version};

use crate::answer::{Answer, Truth};

/// One entry of the joined log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Entry {
    /// A label met its prediction.
    Example(Example),
    /// A label did not, or may not.
    Refused(Refused),
    /// A person's word on a contributor.
    Looked(Look),
    /// The next entry to read of each gateway's labels.
    Progress {
        /// By gateway.
        offsets: BTreeMap<String, u64>,
    },
}

/// A prediction's row with its label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Example {
    pub(crate) prediction: PredictionId,
    pub(crate) row: u64,
    pub(crate) namespace: Namespace,
    pub(crate) model: ModelName,
    pub(crate) version: Version,
    pub(crate) contributor: String,
    /// What was answered.
    pub(crate) answer: Said,
    /// What was right.
    pub(crate) truth: Said,
    /// What a model that learns was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) features: Option<Row>,
    /// What versions answered that were asked the same, to be compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) copies: Vec<Copied>,
    /// How much it teaches: less where its contributor brings much and is not known yet.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub(crate) weight: f64,
    /// How far the state that answered had learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot: Option<u64>,
    /// When the prediction was made, and when its label came.
    pub(crate) at: Timestamp,
    pub(crate) received: Timestamp,
}

/// What a version said of a copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Copied {
    pub(crate) version: Version,
    pub(crate) answer: Said,
}

fn whole() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_whole(weight: &f64) -> bool {
    *weight >= 1.0
}

impl Example {
    /// What a version answered: it, or a copy of what another one was asked.
    pub(crate) fn answer_of(&self, version: Version) -> Option<&Said> {
        if self.version == version {
            return Some(&self.answer);
        }
        self.copies.iter().find(|copied| copied.version == version).map(|copied| &copied.answer)
    }
}

/// An answer or a truth, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    Probabilities(Vec<f64>),
    Class(usize),
    Number(f64),
}

impl From<Answer> for Said {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Probabilities(said) => Self::Probabilities(said),
            Answer::Class(class) => Self::Class(class),
            Answer::Number(number) => Self::Number(number),
        }
    }
}

impl From<Truth> for Said {
    fn from(truth: Truth) -> Self {
        match truth {
            Truth::Class(class) => Self::Class(class),
            Truth::Number(number) => Self::Number(number),
        }
    }
}

/// A label that teaches nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) prediction: PredictionId,
    pub(crate) row: u64,
    pub(crate) namespace: Namespace,
    /// The prediction's model, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<ModelName>,
    pub(crate) reason: Reason,
    /// What was wrong, in words.
    pub(crate) why: String,
    pub(crate) received: Timestamp,
}

/// Why a label teaches nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// The same label of this row is known.
    Duplicate,
    /// Another label of this row is known, and it stands: what was learnt can't be unlearnt.
    Contradicting,
    /// It came after the horizon.
    Late,
    /// No such prediction is kept in this namespace.
    Unknown,
    /// The prediction is another caller's.
    Foreign,
    /// The prediction has no such row.
    NoRow,
    /// The prediction was refused: there is no answer to judge.
    Unanswered,
    /// It does not fit the model's task.
    WrongType,
    /// The model's manifest says nothing about its task.
    NoTask,
    /// The answer was not kept.
    NotCaptured,
    /// Its contributor's labels are held back.
    HeldBack,
    /// The row lacks what rows always had: whoever sends it is not well.
    Unfit,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Contradicting => "contradicting",
            Self::Late => "late",
            Self::Unknown => "unknown",
            Self::Foreign => "foreign",
            Self::NoRow => "no_row",
            Self::Unanswered => "unanswered",
            Self::WrongType => "wrong_type",
            Self::NoTask => "no_task",
            Self::NotCaptured => "not_captured",
            Self::HeldBack => "held_back",
            Self::Unfit => "unfit",
        }
    }
}
