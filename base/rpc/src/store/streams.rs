//! Event streams from one process to another.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use store::{Entry, Error, Keyed, Retention, Streams};
use types::{Refusal, Timestamp};

use super::{Blob, Fault, Outcome, Page, arrived};

/// Entries to append.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Append {
    /// The stream.
    pub stream: String,
    /// When.
    pub at: Timestamp,
    /// The entries.
    pub entries: Vec<Blob>,
    /// Their keys; none at all where no entry has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Option<u64>>,
}

/// A key to find.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Find {
    /// How the names of the streams begin.
    pub prefix: String,
    /// The key.
    pub key: u64,
    /// Places, at most.
    pub limit: u32,
}

/// Entries to read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReadStream {
    /// The stream.
    pub stream: String,
    /// From which sequence on, and how many.
    pub page: Page,
}

/// An entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kept {
    sequence: u64,
    at: Timestamp,
    data: Blob,
}

/// Entries to empty.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Erase {
    /// The stream.
    pub stream: String,
    /// Which.
    pub sequences: Vec<u64>,
}

/// What is kept of a stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Retain {
    /// The stream.
    pub stream: String,
    /// What is kept.
    pub retention: Retention,
}

service! {
    /// Streams of another process.
    pub trait StreamsDoor, client StreamsClient, router streams_door, path "mantlet.Streams" {
        /// As [`Streams::append_keyed`].
        fn append(Append) -> Outcome<u64>;
        /// As [`Streams::find`].
        fn find(Find) -> Outcome<Vec<(String, u64)>>;
        /// As [`Streams::read`].
        fn read(ReadStream) -> Outcome<Vec<Kept>>;
        /// As [`Streams::names`].
        fn names(String) -> Outcome<Vec<String>>;
        /// As [`Streams::next`].
        fn next(String) -> Outcome<u64>;
        /// As [`Streams::erase`].
        fn erase(Erase) -> Outcome<()>;
        /// As [`Streams::retain`].
        fn retain(Retain) -> Outcome<u64>;
    }
}

/// Streams as their door.
struct StreamsOf(Arc<dyn Streams>);

/// Serves streams.
pub fn streams_router(streams: Arc<dyn Streams>) -> axum::Router {
    streams_door(Arc::new(StreamsOf(streams)))
}

#[async_trait]
impl StreamsDoor for StreamsOf {
    async fn append(&self, request: Append) -> Result<Outcome<u64>, Refusal> {
        let Append { stream, at, entries, keys } = request;
        let keys = keys.into_iter().chain(std::iter::repeat(None));
        let entries = entries.into_iter().map(|blob| blob.0).zip(keys).collect();
        Ok(self.0.append_keyed(&stream, at, entries).await.map_err(Fault::from))
    }
    async fn find(&self, Find { prefix, key, limit }: Find) -> Result<Outcome<Vec<(String, u64)>>, Refusal> {
        Ok(self.0.find(&prefix, key, limit).await.map_err(Fault::from))
    }
    async fn read(&self, request: ReadStream) -> Result<Outcome<Vec<Kept>>, Refusal> {
        let kept = |entry: Entry| Kept { sequence: entry.sequence, at: entry.at, data: Blob(entry.data) };
        let read = self.0.read(&request.stream, request.page.from, request.page.limit).await;
        Ok(read.map(|entries| entries.into_iter().map(kept).collect()).map_err(Fault::from))
    }
    async fn names(&self, prefix: String) -> Result<Outcome<Vec<String>>, Refusal> {
        Ok(self.0.names(&prefix).await.map_err(Fault::from))
    }
    async fn next(&self, stream: String) -> Result<Outcome<u64>, Refusal> {
        Ok(self.0.next(&stream).await.map_err(Fault::from))
    }
    async fn erase(&self, request: Erase) -> Result<Outcome<()>, Refusal> {
        Ok(self.0.erase(&request.stream, &request.sequences).await.map_err(Fault::from))
    }
    async fn retain(&self, request: Retain) -> Result<Outcome<u64>, Refusal> {
        Ok(self.0.retain(&request.stream, request.retention).await.map_err(Fault::from))
    }
}

#[async_trait]
impl Streams for StreamsClient {
    async fn append_keyed(&self, stream: &str, at: Timestamp, entries: Vec<Keyed>) -> Result<u64, Error> {
        let (entries, mut keys): (Vec<Blob>, Vec<_>) = entries.into_iter().map(|(data, key)| (Blob(data), key)).unzip();
        if keys.iter().all(Option::is_none) {
            keys.clear();
        }
        arrived(StreamsDoor::append(self, Append { stream: stream.to_owned(), at, entries, keys }).await)
    }
    async fn find(&self, prefix: &str, key: u64, limit: u32) -> Result<Vec<(String, u64)>, Error> {
        arrived(StreamsDoor::find(self, Find { prefix: prefix.to_owned(), key, limit }).await)
    }
    async fn read(&self, stream: &str, from: u64, limit: u32) -> Result<Vec<Entry>, Error> {
        let request = ReadStream { stream: stream.to_owned(), page: Page { from, limit } };
        let entry = |kept: Kept| Entry { sequence: kept.sequence, at: kept.at, data: kept.data.0 };
        Ok(arrived(StreamsDoor::read(self, request).await)?.into_iter().map(entry).collect())
    }
    async fn names(&self, prefix: &str) -> Result<Vec<String>, Error> {
        arrived(StreamsDoor::names(self, prefix.to_owned()).await)
    }
    async fn next(&self, stream: &str) -> Result<u64, Error> {
        arrived(StreamsDoor::next(self, stream.to_owned()).await)
    }
    async fn erase(&self, stream: &str, sequences: &[u64]) -> Result<(), Error> {
        let request = Erase { stream: stream.to_owned(), sequences: sequences.to_vec() };
        arrived(StreamsDoor::erase(self, request).await)
    }
    async fn retain(&self, stream: &str, retention: Retention) -> Result<u64, Error> {
        arrived(StreamsDoor::retain(self, Retain { stream: stream.to_owned(), retention }).await)
    }
}
