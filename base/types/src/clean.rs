//! Rows that the owner of a model says are right.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::Label;

/// One row of a clean set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CleanRow {
    /// What is asked, by the input's name: a value, or a list where the input has several columns; `null` is a missing one.
    pub inputs: BTreeMap<String, serde_json::Value>,
    /// What is right.
    pub label: Label,
}
