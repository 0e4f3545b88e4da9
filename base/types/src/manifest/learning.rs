//! How a model learns, and when a better version takes over.

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{Drift, day, is_default, week};
use crate::quantity::{Span, as_text};

/// How a model learns.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Learning {
    /// When to retrain; `never` by default.
    #[serde(default)]
    pub retrain: Retrain,
    /// Whether a better version takes over by itself; `off` by default: each deploy takes over at once.
    #[serde(default)]
    pub promote: Promote,
    /// The time over which a challenger must be better on average; 1d by default, 0s where better now is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub season: Option<Span>,
    /// How late a label may come; 7d by default, and no later than its prediction is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizon: Option<Span>,
    /// An input whose categories are slices of the traffic: how right versions are is told for each, and a challenger that is worse
    /// in one of them is not promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<String>,
    /// How a new version is made of what labels taught.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<Train>,
    /// What follows when a version drifts; drift of errors begins a job where `retrain` is `on-drift`, and nobody is told, by
    /// default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub drift: Drift,
}

/// How a new version is trained: of a model that does not learn by itself, by a job; of one that does, by how many workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// The job that trains it, one of those that the node's settings name (`trainer.jobs`); none for a model that learns.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub job: String,
    /// What the job is told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Which examples it gets: `all` that are kept, those `since-drift`, of the last `7d`, or the last `10000`.
    #[serde(default)]
    pub window: Window,
    /// Only examples whose inputs have one of these values, by input.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub only: BTreeMap<String, Vec<serde_json::Value>>,
    /// How many examples there must be; 500 by default.
    #[serde(default = "least", skip_serializing_if = "is_least")]
    pub least: u64,
    /// Processes that share the learning, for a model that learns by itself; 1 by default, up to 8, and no more than
    /// `trainer.workers` allows.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub workers: usize,
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_one(workers: &usize) -> bool {
    *workers == one()
}

fn least() -> u64 {
    500
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_least(least: &u64) -> bool {
    *least == self::least()
}

impl Train {
    /// The most workers.
    pub const MOST_WORKERS: usize = 8;

    /// What a model that learns says.
    pub fn of_workers(workers: usize) -> Self {
        Self {
            job: String::new(),
            parameters: BTreeMap::new(),
            window: Window::All,
            only: BTreeMap::new(),
            least: least(),
            workers,
        }
    }
}

/// Which examples teach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Window {
    /// All that are kept.
    #[default]
    All,
    /// Those after what drifted last was still as before.
    SinceDrift,
    /// Those of this long.
    Last(Span),
    /// So many.
    Examples(u64),
}

impl FromStr for Window {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "since-drift" => Ok(Self::SinceDrift),
            _ => match (text.parse(), text.parse()) {
                (Ok(count), _) if count > 0 => Ok(Self::Examples(count)),
                (_, Ok(Span(span))) if !span.is_zero() => Ok(Self::Last(Span(span))),
                _ => Err(format!("`{text}` is no window: write `all`, `since-drift`, `7d` or `10000`")),
            },
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::SinceDrift => f.write_str("since-drift"),
            Self::Last(span) => span.fmt(f),
            Self::Examples(count) => count.fmt(f),
        }
    }
}

as_text!(Window, "^(all|since-drift|[0-9]+(us|ms|s|m|h|d)?)$");

impl Learning {
    /// How late a label may come.
    pub fn horizon(&self) -> std::time::Duration {
        self.horizon.unwrap_or_else(week).0
    }

    /// Seconds over which a challenger must be better on average; nothing where better now is enough.
    pub fn season(&self) -> Option<f64> {
        let season = self.season.unwrap_or_else(day).0;
        (!season.is_zero()).then_some(season.as_secs_f64())
    }
}

/// When to retrain: `never` (or when somebody says so), `on-drift`, or every `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retrain {
    /// When somebody says so.
    #[default]
    Never,
    /// When it drifts: errs more than before, or whatever `drift.retrain` says.
    OnDrift,
    /// This often.
    Every(Span),
}

impl FromStr for Retrain {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self::Never),
            "on-drift" => Ok(Self::OnDrift),
            _ => match text.parse::<Span>() {
                Ok(every) if every.0.as_secs() >= 60 => Ok(Self::Every(every)),
                _ => {
                    Err(format!("`{text}` is no time to retrain: write `never`, `on-drift`, or a span of 1m and more"))
                }
            },
        }
    }
}

impl fmt::Display for Retrain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::OnDrift => f.write_str("on-drift"),
            Self::Every(span) => span.fmt(f),
        }
    }
}

as_text!(Retrain, "^(never|on-drift|[0-9]+(s|m|h|d))$");

/// Whether a better version takes over by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Promote {
    /// It does.
    Automatic,
    /// A person is asked.
    Suggest,
    /// It does not.
    #[default]
    Off,
}
