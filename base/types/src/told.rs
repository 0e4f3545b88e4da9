//! How far a piece of news has got, of which somebody outside is told.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// How far a piece of news has got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Told {
    /// It is still to be taken.
    Waiting {
        /// How often it was sent.
        attempts: u32,
        /// When it is sent next.
        next: Timestamp,
        /// Why it was not taken the last time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// It was taken.
    Delivered {
        /// How often it was sent.
        attempts: u32,
        /// When it was taken.
        at: Timestamp,
    },
    /// It is not sent again.
    Dropped {
        /// How often it was sent.
        attempts: u32,
        /// Why.
        why: String,
    },
}
