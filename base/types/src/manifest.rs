//! The manifest: what a user writes about a model, and what a bundle carries.
//!
//! Every field has a documented default. [`Manifest::refuse_unsupported`] says which fields act in this
//! release: a field that does not act yet is accepted at its default and refused at any other value, so that a
//! manifest never promises what nobody does.

mod check;
mod drift;
mod learning;
mod scale;
mod upstream;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Code, DataType, ModelName, Namespace, Refusal,
    quantity::{ByteCount, Rate, Share, Span},
};
pub use drift::{AlarmKind, Drift, Webhook};
pub use learning::{Learning, Promote, Retrain, Train, Window};
pub use scale::{Scale, ScaleMode};
pub use upstream::{Upstream, origin, secure_origin};

/// The one API version there is.
pub const API_VERSION: &str = "mantlet.dev/v1";

/// A model, as written in YAML or JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// Always `mantlet.dev/v1`.
    pub api_version: ApiVersion,
    /// Always `Model`.
    pub kind: Kind,
    /// What the model is called.
    pub metadata: Metadata,
    /// What it is and how it is served.
    pub spec: Spec,
}

/// The API version, checked while reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// `mantlet.dev/v1`
    #[default]
    #[serde(rename = "mantlet.dev/v1")]
    V1,
}

/// The kind, checked while reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// A model.
    #[default]
    Model,
}

/// What the model is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// The model's name.
    pub name: ModelName,
    /// Its namespace; the deployer's own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Free labels for people; Mantlet keeps them and reads nothing into them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What the model is and how it is served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Where the model comes from.
    pub source: Source,
    /// Its inputs; read from the graph when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// What its outputs mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// What its users were promised; no promise by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub slo: Slo,
    /// How many replicas; 1 by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scale: Scale,
    /// What a replica may use.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// What one caller may ask of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// What is kept of each prediction; a digest for 7 days by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub capture: Capture,
    /// How a new version takes over.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rollout: Rollout,
    /// How it learns; it does not by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub learning: Learning,
    /// How far agents may go with those who attack this model.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protection: Protection,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Where a model comes from: exactly one of these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// A path to an ONNX file beside the manifest, uploaded by `deploy`.
    Onnx(String),
    /// A signed bundle somewhere else.
    Bundle(String),
    /// A server of the Open Inference Protocol, by its address.
    Upstream(Upstream),
    /// A streaming learner.
    Online(Online),
}

/// A streaming learner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Online {
    /// The learner's name.
    pub learner: String,
    /// Its settings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, serde_json::Value>,
    /// The first entry of the joined log that it learns from; all that are kept when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// What its first state knows already; the trainer says it, and nobody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
}

/// What several workers learnt before a version's first example.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The first entry of the joined log that they learnt, and the first that they did not.
    pub entries: [u64; 2],
    /// How many they were.
    pub workers: usize,
}

/// One declared input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Its name in the graph.
    pub name: String,
    /// Its element type.
    #[serde(rename = "type")]
    pub datatype: DataType,
    /// Its dimensions, -1 where any size goes; read from the graph when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<i64>>,
    /// Least and greatest value of every element; NaN is refused then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// The only words a BYTES input may hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// Whether NaN may stand for a missing value; `allow` by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub nan: Nan,
}

/// What to do with NaN in a float input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Nan {
    /// The model gets it.
    #[default]
    Allow,
    /// The request is refused.
    Refuse,
}

/// What the outputs mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// What is predicted.
    pub kind: TaskKind,
    /// The output that holds scores or values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Names of the classes, in the order of the output's columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// The class that counts as positive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive: Option<String>,
}

/// Kinds of prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaskKind {
    /// One of several classes.
    Classification,
    /// A number.
    Regression,
    /// How unusual a row is.
    Anomaly,
    /// Anything else.
    Other,
}

/// What users were promised.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slo {
    /// 99 of 100 answers come at least this fast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<Span>,
    /// This share of requests is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<Share>,
}

/// What a replica may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Address space a model server may take beyond what an empty one takes; 4GiB by default.
    #[serde(default = "default_memory")]
    pub memory: ByteCount,
    /// Whether it is always in memory, in a model server of its own, however many models there are.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pinned: bool,
}

fn default_memory() -> ByteCount {
    ByteCount(4 << 30)
}

impl Default for Resources {
    fn default() -> Self {
        Self { memory: default_memory(), pinned: false }
    }
}

/// What one caller may ask of the model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Requests per second and caller, with a burst of one second; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Requests in flight per caller; 256 by default.
    #[serde(default = "default_concurrency")]
    pub concurrency: u32,
    /// Bytes of one request's body, unpacked; 16MiB by default.
    #[serde(default = "default_body")]
    pub body: ByteCount,
}

fn default_concurrency() -> u32 {
    256
}

fn default_body() -> ByteCount {
    ByteCount(16 << 20)
}

impl Default for Limits {
    fn default() -> Self {
        Self { rate: None, concurrency: default_concurrency(), body: default_body() }
    }
}

/// What is kept of each prediction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// How much of the input; `digest` by default.
    #[serde(default)]
    pub input: CaptureInput,
    /// Inputs and outputs never kept, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redact: Vec<String>,
    /// Bytes of values kept of one prediction, inputs and outputs together; beyond it tensors are left out, the
    /// last first. 64KiB by default.
    #[serde(default = "default_capture", skip_serializing_if = "is_default_capture")]
    pub bytes: ByteCount,
    /// For how long; 7d by default.
    #[serde(default = "week")]
    pub keep: Span,
}

fn default_capture() -> ByteCount {
    ByteCount(64 << 10)
}

fn is_default_capture(bytes: &ByteCount) -> bool {
    *bytes == default_capture()
}

fn week() -> Span {
    Span(std::time::Duration::from_secs(604_800))
}

impl Default for Capture {
    fn default() -> Self {
        Self { input: CaptureInput::default(), redact: Vec::new(), bytes: default_capture(), keep: week() }
    }
}

/// How much of the input is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CaptureInput {
    /// Nothing.
    None,
    /// A SHA-256 digest.
    #[default]
    Digest,
    /// The values.
    Features,
}

/// How a new version takes over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// Shares of traffic, step by step; none by default: the new version takes over once it is ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub canary: Vec<Share>,
    /// How much worse the new version may be.
    #[serde(default, skip_serializing_if = "is_default")]
    pub margin: Margin,
    /// When to ask a person; 24h by default.
    #[serde(default = "day")]
    pub timeout: Span,
}

fn day() -> Span {
    Span(std::time::Duration::from_secs(86_400))
}

impl Default for Rollout {
    fn default() -> Self {
        Self { canary: Vec::new(), margin: Margin::default(), timeout: day() }
    }
}

/// How much worse a new version may be.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Margin {
    /// More errors, as a share of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<Share>,
    /// More latency at the 99th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<Share>,
}

/// How far agents may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Protection {
    /// As the node's setting `sentinel.autonomy` says, by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autonomy: Option<Autonomy>,
}

/// How far agents may go by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Autonomy {
    /// They watch.
    #[default]
    Observe,
    /// They say what they would do.
    Recommend,
    /// They ask before they act.
    Approve,
    /// They act.
    Act,
}

/// The most slices that traffic may have.
const MAX_SLICES: usize = 32;

impl Manifest {
    /// The manifest of `mantlet deploy MODEL.onnx --name N`: everything at its default.
    pub fn for_onnx(name: ModelName, file: &str) -> Self {
        Self {
            api_version: ApiVersion::V1,
            kind: Kind::Model,
            metadata: Metadata { name, namespace: None, labels: BTreeMap::new() },
            spec: Spec {
                source: Source::Onnx(file.to_owned()),
                inputs: Vec::new(),
                task: None,
                slo: Slo::default(),
                scale: Scale::default(),
                resources: Resources::default(),
                limits: Limits::default(),
                capture: Capture::default(),
                rollout: Rollout::default(),
                learning: Learning::default(),
                protection: Protection::default(),
            },
        }
    }

    /// Reads a manifest from YAML; JSON is YAML too.
    ///
    /// # Errors
    /// `manifest_invalid` with the place and the cause.
    pub fn from_yaml(text: &str) -> Result<Self, Refusal> {
        let manifest: Self = serde_saphyr::from_str(text).map_err(|error| {
            Refusal::new(
                Code::ManifestInvalid,
                format!("the manifest can't be read: {}", first_line(&error.to_string())),
            )
            .hint("compare it with the schema: `mantlet models schema`")
        })?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Reads a manifest from JSON.
    ///
    /// # Errors
    /// `manifest_invalid` with the place and the cause.
    pub fn from_json(text: &[u8]) -> Result<Self, Refusal> {
        let manifest: Self = serde_json::from_slice(text).map_err(|error| {
            Refusal::new(Code::ManifestInvalid, format!("the manifest can't be read: {error}"))
                .hint("compare it with the schema: `mantlet models schema`")
        })?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The JSON Schema of a manifest, as a value.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    /// Checks what the types alone can't say; reading a manifest by [`Manifest::from_yaml`] or
    /// [`Manifest::from_json`] has done it already.
    ///
    /// # Errors
    /// `manifest_invalid` with the field.
    pub fn check(&self) -> Result<(), Refusal> {
        let wrong = |what: String| Err(Refusal::new(Code::ManifestInvalid, what));
        let Spec { inputs, scale, limits, resources, task, source, .. } = &self.spec;
        if let Source::Upstream(upstream) = source
            && let Err(why) = upstream.origin()
        {
            return wrong(format!("spec.source.upstream `{}`: {why}", upstream.url));
        }
        let mut names = std::collections::BTreeSet::new();
        for input in inputs {
            if !names.insert(&input.name) {
                return wrong(format!("spec.inputs names `{}` twice", input.name));
            }
            if let Some([low, high]) = input.range
                && !(low.is_finite() && high.is_finite() && low <= high)
            {
                return wrong(format!("spec.inputs `{}`: range [{low}, {high}] is no range of numbers", input.name));
            }
            if input.range.is_some() && matches!(input.datatype, DataType::Bytes | DataType::Bool) {
                return wrong(format!("spec.inputs `{}`: {} has no range", input.name, input.datatype));
            }
            if !input.categories.is_empty() && input.datatype != DataType::Bytes {
                return wrong(format!("spec.inputs `{}`: only BYTES inputs have categories", input.name));
            }
            if let Some(shape) = &input.shape
                && shape.iter().any(|d| *d < -1)
            {
                return wrong(format!("spec.inputs `{}`: a dimension is at least 0, or -1 for any", input.name));
            }
        }
        self.check_learning()?;
        if let Err(why) = scale.check() {
            return wrong(why);
        }
        if limits.concurrency == 0 || limits.body.0 == 0 {
            return wrong("spec.limits: concurrency and body are at least 1".into());
        }
        if resources.memory.0 < 1 << 20 {
            return wrong("spec.resources.memory is at least 1MiB".into());
        }
        if let Some(task) = task
            && let Some(positive) = &task.positive
            && !task.classes.contains(positive)
        {
            return wrong(format!("spec.task.positive `{positive}` is not among the classes"));
        }
        Ok(())
    }

    /// Values of the input by which traffic is sliced; none where it is not.
    pub fn slices(&self) -> &[String] {
        let slice = self.spec.learning.slice.as_ref();
        let input = slice.and_then(|name| self.spec.inputs.iter().find(|input| input.name == *name));
        input.map(|input| input.categories.as_slice()).unwrap_or_default()
    }

    /// Whether the model learns from labels while it answers.
    pub fn is_streaming(&self) -> bool {
        matches!(self.spec.source, Source::Online(_))
    }

    /// Whether labels say how right its answers are: what it is for is known, and its answers are kept.
    pub fn is_judged(&self) -> bool {
        let kind = self.spec.task.as_ref().map(|task| task.kind);
        matches!(kind, Some(TaskKind::Classification | TaskKind::Regression))
            && self.spec.capture.input != CaptureInput::None
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text).trim_start_matches("error: ")
}

#[cfg(test)]
mod tests;
