//! What follows when a version drifts: which kinds of drift begin a job, and who is told.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::origin;
use crate::SecretName;

/// What drifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlarmKind {
    /// What a version is asked.
    Inputs,
    /// What it answers.
    Answers,
    /// How often it is wrong.
    Errors,
    /// How well kept what it is asked is: missing values, requests that are refused for their inputs.
    Quality,
}

impl AlarmKind {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inputs => "inputs",
            Self::Answers => "answers",
            Self::Errors => "errors",
            Self::Quality => "quality",
        }
    }
}

impl fmt::Display for AlarmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What follows when a version drifts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// Drift of what begins a job, where `learning.retrain` is `on-drift`; of `errors` alone by default.
    #[serde(default = "errors", skip_serializing_if = "is_errors")]
    pub retrain: Vec<AlarmKind>,
    /// Who is told; nobody by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

fn errors() -> Vec<AlarmKind> {
    vec![AlarmKind::Errors]
}

fn is_errors(kinds: &[AlarmKind]) -> bool {
    kinds == [AlarmKind::Errors]
}

impl Default for Drift {
    fn default() -> Self {
        Self { retrain: errors(), webhook: None }
    }
}

/// Who is told of drift, by a signed request (Standard Webhooks).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where the request goes: `https://host:port/path`, an address that the node's settings allow (`trainer.webhooks`).
    pub url: String,
    /// The secret of the namespace that it is signed with: `whsec_` and a key in base64, or a text that is the key; 24 bytes at
    /// least.
    pub secret: SecretName,
    /// Drift of what is told; of all by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<AlarmKind>,
    /// Certificates that the receiver's must come from, PEM; the system's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

impl Webhook {
    /// Whether drift of this is told.
    pub fn tells(&self, kind: AlarmKind) -> bool {
        self.of.is_empty() || self.of.contains(&kind)
    }

    /// Scheme, host and port.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub fn origin(&self) -> Result<String, String> {
        origin(&self.url)
    }
}
