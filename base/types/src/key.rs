//! The node's own keys.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One of the three keys a node signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// The CA's key: certificates of the port, of services and of callers.
    Ca,
    /// The key of bundles: models.
    Bundle,
    /// The key of checkpoints: the ledger.
    Log,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ca, Self::Bundle, Self::Log];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::Bundle => "bundle",
            Self::Log => "log",
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyKind {
    type Err = crate::Refusal;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            crate::Refusal::new(crate::Code::RequestMalformed, format!("there is no key `{text}`"))
                .hint("a node has the keys ca, bundle and log")
        })
    }
}
