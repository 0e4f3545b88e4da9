//! What a namespace may use, and whether it owes a record; whatever is left out is not bounded.

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
    /// What becomes of a prediction that can't be recorded.
    #[serde(default, skip_serializing_if = "AuditDuty::is_drop")]
    pub audit: AuditDuty,
}

/// What becomes of a prediction that can't be recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditDuty {
    /// It is answered, and a gap with its count is recorded.
    #[default]
    Drop,
    /// It is answered only after its event is stored; otherwise it is refused.
    Block,
}

impl AuditDuty {
    fn is_drop(&self) -> bool {
        *self == Self::Drop
    }
}

impl std::str::FromStr for AuditDuty {
    type Err = crate::Refusal;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "drop" => Ok(Self::Drop),
            "block" => Ok(Self::Block),
            _ => Err(crate::Refusal::new(crate::Code::RequestMalformed, format!("there is no audit duty `{text}`"))
                .hint("write drop or block")),
        }
    }
}
