//! One inference, free of any wire format: what every front door makes and every model server takes.

use std::time::Duration;

use crate::{ModelName, Tensor, Version, tensor::DataType};

/// A request for one inference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InferRequest {
    /// The model asked for.
    pub model: ModelName,
    /// A version by number; `None` lets the rollout weights choose.
    pub version: Option<Version>,
    /// The client's own id, echoed in the answer.
    pub id: Option<String>,
    /// Named inputs.
    pub inputs: Vec<Tensor>,
    /// Outputs wanted; empty means all.
    pub outputs: Vec<String>,
    /// The client's own time limit, if it named one.
    pub timeout: Option<Duration>,
}

impl InferRequest {
    /// Rows of the request: those of its first input.
    pub fn rows(&self) -> u64 {
        self.inputs.first().map_or(0, Tensor::rows)
    }
}

/// The answer to one inference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InferResponse {
    /// Named outputs, in the model's order.
    pub outputs: Vec<Tensor>,
    /// Time the model itself took, for the whole batch.
    pub compute: Duration,
    /// Time it waited at its replica before that; nothing where a server does not say.
    pub queued: Option<Duration>,
    /// Rows of the batch it was computed in, its own among them.
    pub batch: u64,
    /// How far the state that answered had learnt, where the model is one that learns: its offset in the joined log.
    pub snapshot: Option<u64>,
}

impl InferResponse {
    /// Of what was computed together, the part of so many of its rows.
    pub fn compute_of(&self, rows: u64) -> Duration {
        let rows = rows.max(1);
        self.compute.mul_f64(rows as f64 / self.batch.max(rows) as f64)
    }
}

/// What a model declares of one input or output.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct TensorSpec {
    /// The tensor's name in the graph.
    pub name: String,
    /// Its element type.
    pub datatype: DataType,
    /// Its dimensions; -1 where any size goes.
    pub shape: Vec<i64>,
    /// Names of the columns, where the output is a table of class scores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
}

/// What a loaded model takes and gives.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ModelMetadata {
    /// Inputs, in the graph's order.
    pub inputs: Vec<TensorSpec>,
    /// Outputs, in the graph's order.
    pub outputs: Vec<TensorSpec>,
}
