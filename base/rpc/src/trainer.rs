//! The trainer's trait: how right the versions of a model were, by the labels that came.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use types::{ModelName, Namespace, Timestamp, Version};

/// Names a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvaluationOf {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub model: ModelName,
}

/// How right a model's versions were.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Those with labels, the newest first.
    pub versions: Vec<VersionEvaluation>,
    /// What became of labels for this model, and of those whose prediction nobody knows.
    pub labels: BTreeMap<String, LabelCount>,
    /// Until when events were looked at.
    pub watermark: Option<Timestamp>,
}

/// How right a version was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionEvaluation {
    /// Which one.
    pub version: Version,
    /// `classification` or `regression`.
    pub kind: String,
    /// Names of its classes, in the order of their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Rows with a label.
    pub labelled: u64,
    /// How long labels took to come: the median of the last ones, in milliseconds.
    pub label_age_ms: Option<u64>,
    /// The figures: since the start, of the short and of the long window, and faded.
    pub figures: Value,
}

/// How many labels ended so, and why the last of them did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelCount {
    /// How many.
    pub count: u64,
    /// The last one, and what was wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

service! {
    /// What was learnt about models from labels.
    pub trait Trainer, client TrainerClient, router trainer_router, path "mantlet.Trainer" {
        /// How right a model's versions were.
        fn evaluation(EvaluationOf) -> Evaluation;
    }
}
