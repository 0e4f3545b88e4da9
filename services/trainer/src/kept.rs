//! States of detectors and guards inside documents of the catalog: a snapshot in base64.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use online::Snapshot;
use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error};

fn text(state: &impl Snapshot) -> String {
    BASE64_STANDARD.encode(state.save())
}

fn state<T: Snapshot, E: Error>(text: &str) -> Result<T, E> {
    T::load(&BASE64_STANDARD.decode(text).map_err(E::custom)?).map_err(E::custom)
}

/// For `#[serde(with)]` of a state.
pub(crate) mod whole {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(kept: &impl Snapshot, serializer: S) -> Result<S::Ok, S::Error> {
        text(kept).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T: Snapshot, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        state(&String::deserialize(deserializer)?)
    }
}

/// For `#[serde(with)]` of a state that there may be none of yet.
pub(crate) mod maybe {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(kept: &Option<impl Snapshot>, serializer: S) -> Result<S::Ok, S::Error> {
        kept.as_ref().map(text).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T: Snapshot, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        Option::<String>::deserialize(deserializer)?.map(|text| state(&text)).transpose()
    }
}
