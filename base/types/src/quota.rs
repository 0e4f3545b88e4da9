//! What a namespace may use; whatever is left out is not bounded.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::{ByteCount, Rate};

/// Bounds of one namespace, over all its callers and models.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Quota {
    /// Predictions per second at each gateway, with a burst of one second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Predictions in flight at each gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Rows predicted in a day (UTC), over all gateways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_per_day: Option<u64>,
    /// Models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<u32>,
    /// Memory that all replicas of the newest versions may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteCount>,
    /// Bytes of the model files of all versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<ByteCount>,
}
