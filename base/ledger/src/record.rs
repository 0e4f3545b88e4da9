//! A record: who did what to whom, on one line.

use serde::{Deserialize, Serialize};

/// One entry of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The version of this layout: 1.
    pub v: u32,
    /// Milliseconds since 1970-01-01T00:00:00Z, by the writer's clock.
    pub at: u64,
    /// What was done, for example `deploy` or `caller.add`.
    pub action: String,
    /// The namespace it was done in; none for the node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Who did it, for example `caller:default/admin`.
    pub actor: String,
    /// To what, for example `model:default/digits`.
    pub subject: String,
    /// What else an auditor needs; never a secret.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub detail: serde_json::Value,
}

impl Record {
    /// The record as one line of JSON, without the newline.
    pub fn to_line(&self) -> Vec<u8> {
        // A struct of strings and numbers has no way to fail, and JSON escapes newlines inside texts.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
