//! The stores' remote forms: a supervisor serves its catalog, streams and log to services in other processes.
//!
//! An error of a store crosses as it is, so that a conflict is a conflict on the other side too.

pub mod catalog;
pub mod log;
pub mod streams;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Serialize};
use store::{Collection, Error};
use types::Refusal;

pub use catalog::{CatalogClient, catalog_router};
pub use log::{LogClient, log_router};
pub use streams::{StreamsClient, streams_router};

/// Bytes in a message: base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        BASE64_STANDARD.decode(&*text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// An error of a store, on its way.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in `store::Error`")]
pub enum Fault {
    Conflict { collection: String, key: String },
    TooLarge { what: String, limit: u64 },
    Missing { what: String },
    Corrupt { what: String, why: String },
    Unavailable { what: String, why: String },
}

/// What a store answers.
pub type Outcome<T> = Result<T, Fault>;

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Conflict { collection, key } => Self::Conflict { collection: collection.to_owned(), key },
            Error::TooLarge { what, limit } => Self::TooLarge { what, limit },
            Error::Missing(what) => Self::Missing { what },
            Error::Corrupt { what, why } => Self::Corrupt { what, why },
            // Only artefacts are refused so, and they are on this side.
            no_room @ Error::NoRoom { .. } => Self::Unavailable { what: "the upload".into(), why: no_room.to_string() },
            Error::Unavailable { what, source } => Self::Unavailable { what, why: source.to_string() },
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Conflict { collection, key } => {
                let known = Collection::ALL.into_iter().map(Collection::as_str).find(|known| *known == collection);
                Self::Conflict { collection: known.unwrap_or("log"), key }
            }
            Fault::TooLarge { what, limit } => Self::TooLarge { what, limit },
            Fault::Missing { what } => Self::Missing(what),
            Fault::Corrupt { what, why } => Self::Corrupt { what, why },
            Fault::Unavailable { what, why } => Self::unavailable(what, why),
        }
    }
}

/// The other side's outcome; the loss of the other side is a store that can't be used.
fn arrived<T>(answer: Result<Outcome<T>, Refusal>) -> Result<T, Error> {
    answer.map_err(|refusal| Error::unavailable("the supervisor's store", refusal.text()))?.map_err(Error::from)
}

/// Asks for numbered things from a place on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Page {
    /// From (or after) which number.
    pub from: u64,
    /// At most this many.
    pub limit: u32,
}
