//! How a model learns, and when a better version takes over.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{day, week};
use crate::quantity::Span;

/// How a model learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
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
}

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

/// When to retrain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Retrain {
    /// Never.
    #[default]
    Never,
    /// When drift is found.
    OnDrift,
}

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
