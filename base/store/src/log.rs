//! Where the ledger's records and hashes lie; the tree itself is the ledger's business.

use async_trait::async_trait;

use crate::Error;

/// The newest signed state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// How many records.
    pub size: u64,
    /// The checkpoint over them; empty before the first.
    pub checkpoint: Vec<u8>,
    /// The outbox sequence of the last record.
    pub source: u64,
}

/// A record to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// The outbox sequence it came from; each is appended once.
    pub source: u64,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// Records by position, hashes by index, and the head.
#[async_trait]
pub trait Log: Send + Sync {
    /// The newest signed state.
    async fn head(&self) -> Result<Head, Error>;

    /// Stored hashes by index; those that are not there are left out.
    async fn hashes(&self, indexes: &[u64]) -> Result<Vec<(u64, [u8; 32])>, Error>;

    /// The position of the record that came from this outbox sequence.
    async fn position(&self, source: u64) -> Result<Option<u64>, Error>;

    /// Appends records from position `first` on, with their hashes and the new checkpoint, all or nothing and
    /// durably; a log that has grown meanwhile is a conflict.
    async fn append(
        &self,
        first: u64,
        records: Vec<LogRecord>,
        hashes: Vec<(u64, [u8; 32])>,
        checkpoint: Vec<u8>,
    ) -> Result<(), Error>;

    /// Records from a position on, at most `limit`.
    async fn records(&self, from: u64, limit: u32) -> Result<Vec<Vec<u8>>, Error>;
}
