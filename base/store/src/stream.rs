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
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Retention {
    /// Entries older than this go.
    pub not_before: Timestamp,
    /// The oldest go while a stream holds more than this.
    pub bytes: u64,
}

/// An entry to append, and its key.
pub type Keyed = (Vec<u8>, Option<u64>);

/// Append-only streams of bytes; consumers keep their own offsets.
#[async_trait]
pub trait Streams: Send + Sync {
    /// Appends entries in one write; returns the sequence of the first.
    async fn append(&self, stream: &str, at: Timestamp, entries: Vec<Vec<u8>>) -> Result<u64, Error> {
        self.append_keyed(stream, at, entries.into_iter().map(|entry| (entry, None)).collect()).await
    }

    /// As [`append`](Self::append); an entry with a key is found by it. Keys are hashes: who finds an entry looks whether it is the one.
    async fn append_keyed(&self, stream: &str, at: Timestamp, entries: Vec<Keyed>) -> Result<u64, Error>;

    /// Where entries with this key lie, in streams whose names begin so, at most `limit`.
    async fn find(&self, prefix: &str, key: u64, limit: u32) -> Result<Vec<(String, u64)>, Error>;

    /// Entries from a sequence on (or the oldest kept), at most `limit`.
    async fn read(&self, stream: &str, from: u64, limit: u32) -> Result<Vec<Entry>, Error>;

    /// Names of the streams that begin so, in order.
    async fn names(&self, prefix: &str) -> Result<Vec<String>, Error>;

    /// The sequence that the next entry will have.
    async fn next(&self, stream: &str) -> Result<u64, Error>;

    /// Empties entries: their bytes are gone for good, their places stay. Those that are not there are passed over.
    async fn erase(&self, stream: &str, sequences: &[u64]) -> Result<(), Error>;

    /// Drops what retention no longer keeps; returns how many entries went.
    async fn retain(&self, stream: &str, retention: Retention) -> Result<u64, Error>;
}

/// The newest entry of a stream.
///
/// # Errors
/// When the stream can't be read.
pub async fn newest(streams: &dyn Streams, stream: &str) -> Result<Option<Entry>, Error> {
    let last = streams.next(stream).await?.saturating_sub(1);
    Ok(streams.read(stream, last, 1).await?.pop())
}

/// The first sequence whose entry was appended at `at` or later; the next one to come when none was.
///
/// Where the writer's clock was set back it may land too late by what was appended meanwhile.
///
/// # Errors
/// When the stream can't be read.
pub async fn seek(streams: &dyn Streams, stream: &str, at: Timestamp) -> Result<u64, Error> {
    search(streams, stream, |entry| Ok(entry.at < at)).await
}

/// The first sequence whose entry does not lie `before`, which holds for the first entries and then for none; the next
/// one to come when it holds for all. A binary search: O(log entries) reads.
///
/// # Errors
/// When the stream can't be read, or `before` can't tell.
pub async fn search(
    streams: &dyn Streams,
    stream: &str,
    before: impl Fn(&Entry) -> Result<bool, Error> + Send,
) -> Result<u64, Error> {
    let mut end = streams.next(stream).await?;
    let Some(oldest) = streams.read(stream, 0, 1).await?.pop() else { return Ok(end) };
    let mut start = oldest.sequence;
    while start < end {
        let middle = start + (end - start) / 2;
        match streams.read(stream, middle, 1).await?.pop() {
            Some(entry) if before(&entry)? => start = entry.sequence + 1,
            _ => end = middle,
        }
    }
    Ok(start)
}
