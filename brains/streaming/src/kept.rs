//! States of detectors and guards inside documents: a snapshot in base64, for `#[serde(with)]`.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use online::Snapshot;
use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error};

fn text(state: &impl Snapshot) -> String {
    BASE64_STANDARD.encode(state.save())
}

fn state<T: Snapshot, E: Error>(text: &str) -> Result<T, E> {
    T::load(&BASE64_STANDARD.decode(text).map_err(E::custom)?).map_err(E::custom)
}

/// A state.
#[expect(missing_docs, clippy::missing_errors_doc, reason = "serde's own two functions")]
pub mod whole {
    use super::*;

    pub fn serialize<S: Serializer>(kept: &impl Snapshot, serializer: S) -> Result<S::Ok, S::Error> {
        text(kept).serialize(serializer)
    }

    pub fn deserialize<'de, T: Snapshot, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        state(&String::deserialize(deserializer)?)
    }
}

/// A state that there may be none of yet.
#[expect(missing_docs, clippy::missing_errors_doc, reason = "serde's own two functions")]
pub mod maybe {
    use super::*;

    pub fn serialize<S: Serializer>(kept: &Option<impl Snapshot>, serializer: S) -> Result<S::Ok, S::Error> {
        kept.as_ref().map(text).serialize(serializer)
    }

    pub fn deserialize<'de, T: Snapshot, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        Option::<String>::deserialize(deserializer)?.map(|text| state(&text)).transpose()
    }
}
