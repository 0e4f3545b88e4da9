//! What must outlive the process, behind four traits: [`Catalog`], [`Streams`], [`Log`] and [`Artefacts`].
//!
//! Each trait has an embedded form ([`sqlite`], [`directory`]) and a contract suite ([`contract`]) that any
//! other form runs through unchanged. A node's supervisor alone opens the files.
//!
//! Does not know about: what the documents mean, who may read them, clocks.

mod artefact;
mod catalog;
#[cfg(feature = "contract")]
pub mod contract;
pub mod directory;
mod log;
pub mod sqlite;
mod stream;

pub use artefact::{Artefacts, ByteStream, Content, Staged};
pub use catalog::{Catalog, Collection, Committed, Document, Expect, Write, read_all};
pub use log::{Head, Log, LogRecord};
pub use stream::{Entry, Keyed, Retention, Streams, newest, search, seek};

use types::{Code, Refusal};

/// Why a store did not do it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("somebody else changed {collection} `{key}` first")]
    Conflict { collection: &'static str, key: String },
    #[error("{what} is over the limit of {limit} bytes")]
    TooLarge { what: String, limit: u64 },
    #[error("{0} is missing")]
    Missing(String),
    #[error("{what} holds something that can't be read: {why}")]
    Corrupt { what: String, why: String },
    #[error("{what} is not taken: {free} bytes of the disk are free, and {reserve} are to stay free")]
    NoRoom { what: String, free: u64, reserve: u64 },
    #[error("{what} can't be used")]
    Unavailable {
        what: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// An error of the medium below.
    pub fn unavailable(what: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable { what: what.into(), source: source.into() }
    }
}

/// What to do about a data directory that is damaged.
pub const RESTORE: &str = "look at the rest with `mantlet doctor`; keep a copy of the data directory, and restore from a backup: \
                           `mantlet --data-dir NEW restore BACKUP`";

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match &error {
            Error::Conflict { .. } => Self::new(Code::Conflict, error.to_string()).hint("read it again and retry"),
            Error::TooLarge { .. } => Self::new(Code::BodyTooLarge, error.to_string()),
            Error::Missing(_) | Error::Corrupt { .. } => {
                Self::new(Code::StorageUnavailable, error.to_string()).hint(RESTORE)
            }
            Error::NoRoom { .. } => Self::new(Code::StorageUnavailable, error.to_string()).hint(
                "make room on the disk of the data directory, or delete models that are not needed: `mantlet delete NAME`",
            ),
            Error::Unavailable { source, .. } => Self::new(Code::StorageUnavailable, format!("{error}: {source}"))
                .hint("check that the disk of the data directory has space and can be written: `mantlet doctor`"),
        }
    }
}
