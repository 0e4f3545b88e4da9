//! Event streams: append and read by offset.

use async_trait::async_trait;
use types::Timestamp;

use crate::Error;

/// One entry of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its offset, from 1, without holes.
    pub sequence: u64,
    /// When it was appended, by the writer's clock.
    pub at: Timestamp,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// How long entries are kept: whichever bound is hit first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Entries older than this go.
    pub not_before: Timestamp,
    /// The oldest go while a stream holds more than this.
    pub bytes: u64,
}

/// Append-only streams of bytes; consumers keep their own offsets.
#[async_trait]
pub trait Streams: Send + Sync {
    /// Appends entries in one write; returns the sequence of the first.
    async fn append(&self, stream: &str, at: Timestamp, entries: Vec<Vec<u8>>) -> Result<u64, Error>;

    /// Entries from a sequence on (or the oldest kept), at most `limit`.
    async fn read(&self, stream: &str, from: u64, limit: u32) -> Result<Vec<Entry>, Error>;

    /// The sequence that the next entry will have.
    async fn next(&self, stream: &str) -> Result<u64, Error>;

    /// Drops what retention no longer keeps; returns how many entries went.
    async fn retain(&self, stream: &str, retention: Retention) -> Result<u64, Error>;
}
