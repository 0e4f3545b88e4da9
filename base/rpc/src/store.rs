//! The stores' remote forms: a supervisor serves its catalog, streams and log to services in other processes.
//!
//! An error of a store crosses as it is, so that a conflict is a conflict on the other side too.

use std::sync::Arc;

use async_trait::async_trait;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Serialize};
use store::{
    Catalog, Collection, Committed, Document, Entry, Error, Expect, Head, Log, LogRecord, Retention, Streams, Write,
};
use types::{Refusal, Timestamp};

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

/// Names a document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Get {
    /// Where.
    pub collection: Collection,
    /// Its key.
    pub key: String,
}

/// Names documents below a prefix.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct List {
    /// Where.
    pub collection: Collection,
    /// How their keys begin.
    pub prefix: String,
    /// After which key.
    pub after: Option<String>,
    /// At most this many.
    pub limit: u32,
}

/// A document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    key: String,
    generation: u64,
    value: Blob,
}

impl From<Document> for Found {
    fn from(document: Document) -> Self {
        Self { key: document.key, generation: document.generation, value: Blob(document.value) }
    }
}

impl From<Found> for Document {
    fn from(found: Found) -> Self {
        Self { key: found.key, generation: found.generation, value: found.value.0 }
    }
}

/// One write.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WriteOne {
    collection: Collection,
    key: String,
    expect: Expect,
    value: Option<Blob>,
}

/// A transaction.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Commit {
    /// Documents.
    pub writes: Vec<WriteOne>,
    /// Records for the ledger.
    pub records: Vec<Blob>,
}

/// Asks for numbered things from a place on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Page {
    /// From (or after) which number.
    pub from: u64,
    /// At most this many.
    pub limit: u32,
}

service! {
    /// A catalog of another process.
    pub trait CatalogDoor, client CatalogClient, router catalog_door, path "mantlet.Catalog" {
        /// As [`Catalog::get`].
        fn get(Get) -> Outcome<Option<Found>>;
        /// As [`Catalog::list`].
        fn list(List) -> Outcome<Vec<Found>>;
        /// As [`Catalog::commit`].
        fn commit(Commit) -> Outcome<Committed>;
        /// As [`Catalog::outbox`].
        fn outbox(Page) -> Outcome<Vec<(u64, Blob)>>;
        /// As [`Catalog::forget_outbox`].
        fn forget_outbox(u64) -> Outcome<()>;
        /// As [`Catalog::given`].
        fn given(()) -> Outcome<u64>;
    }
}

/// A catalog as its door.
struct CatalogOf(Arc<dyn Catalog>);

/// Serves a catalog.
pub fn catalog_router(catalog: Arc<dyn Catalog>) -> axum::Router {
    catalog_door(Arc::new(CatalogOf(catalog)))
}

#[async_trait]
impl CatalogDoor for CatalogOf {
    async fn get(&self, Get { collection, key }: Get) -> Result<Outcome<Option<Found>>, Refusal> {
        Ok(self.0.get(collection, &key).await.map(|found| found.map(Found::from)).map_err(Fault::from))
    }
    async fn list(&self, request: List) -> Result<Outcome<Vec<Found>>, Refusal> {
        let List { collection, prefix, after, limit } = request;
        let listed = self.0.list(collection, &prefix, after.as_deref(), limit).await;
        Ok(listed.map(|all| all.into_iter().map(Found::from).collect()).map_err(Fault::from))
    }
    async fn commit(&self, request: Commit) -> Result<Outcome<Committed>, Refusal> {
        let write = |write: WriteOne| Write {
            collection: write.collection,
            key: write.key,
            expect: write.expect,
            value: write.value.map(|blob| blob.0),
        };
        let records = request.records.into_iter().map(|blob| blob.0).collect();
        let done = self.0.commit(request.writes.into_iter().map(write).collect(), records).await;
        Ok(done.map_err(Fault::from))
    }
    async fn outbox(&self, Page { from, limit }: Page) -> Result<Outcome<Vec<(u64, Blob)>>, Refusal> {
        let pending = self.0.outbox(from, limit).await;
        Ok(pending.map(|all| all.into_iter().map(|(n, data)| (n, Blob(data))).collect()).map_err(Fault::from))
    }
    async fn forget_outbox(&self, upto: u64) -> Result<Outcome<()>, Refusal> {
        Ok(self.0.forget_outbox(upto).await.map_err(Fault::from))
    }
    async fn given(&self, (): ()) -> Result<Outcome<u64>, Refusal> {
        Ok(self.0.given().await.map_err(Fault::from))
    }
}

#[async_trait]
impl Catalog for CatalogClient {
    async fn get(&self, collection: Collection, key: &str) -> Result<Option<Document>, Error> {
        let get = Get { collection, key: key.to_owned() };
        Ok(arrived(CatalogDoor::get(self, get).await)?.map(Document::from))
    }
    async fn list(
        &self,
        collection: Collection,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Document>, Error> {
        let list = List { collection, prefix: prefix.to_owned(), after: after.map(str::to_owned), limit };
        Ok(arrived(CatalogDoor::list(self, list).await)?.into_iter().map(Document::from).collect())
    }
    async fn commit(&self, writes: Vec<Write>, records: Vec<Vec<u8>>) -> Result<Committed, Error> {
        let write = |write: Write| WriteOne {
            collection: write.collection,
            key: write.key,
            expect: write.expect,
            value: write.value.map(Blob),
        };
        let writes = writes.into_iter().map(write).collect();
        let commit = Commit { writes, records: records.into_iter().map(Blob).collect() };
        arrived(CatalogDoor::commit(self, commit).await)
    }
    async fn outbox(&self, after: u64, limit: u32) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        let pending = arrived(CatalogDoor::outbox(self, Page { from: after, limit }).await)?;
        Ok(pending.into_iter().map(|(n, blob)| (n, blob.0)).collect())
    }
    async fn forget_outbox(&self, upto: u64) -> Result<(), Error> {
        arrived(CatalogDoor::forget_outbox(self, upto).await)
    }
    async fn given(&self) -> Result<u64, Error> {
        arrived(CatalogDoor::given(self, ()).await)
    }
}

/// Entries to append.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Append {
    /// The stream.
    pub stream: String,
    /// When.
    pub at: Timestamp,
    /// The entries.
    pub entries: Vec<Blob>,
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
        /// As [`Streams::append`].
        fn append(Append) -> Outcome<u64>;
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
        let Append { stream, at, entries } = request;
        let entries = entries.into_iter().map(|blob| blob.0).collect();
        Ok(self.0.append(&stream, at, entries).await.map_err(Fault::from))
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
    async fn append(&self, stream: &str, at: Timestamp, entries: Vec<Vec<u8>>) -> Result<u64, Error> {
        let entries = entries.into_iter().map(Blob).collect();
        arrived(StreamsDoor::append(self, Append { stream: stream.to_owned(), at, entries }).await)
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

/// The newest signed state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeadOf {
    size: u64,
    checkpoint: Blob,
    source: u64,
}

/// Records to append.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Grow {
    first: u64,
    records: Vec<(u64, Blob)>,
    hashes: Vec<(u64, [u8; 32])>,
    checkpoint: Blob,
}

service! {
    /// A log of another process.
    pub trait LogDoor, client LogClient, router log_door, path "mantlet.Log" {
        /// As [`Log::head`].
        fn head(()) -> Outcome<HeadOf>;
        /// As [`Log::hashes`].
        fn hashes(Vec<u64>) -> Outcome<Vec<(u64, [u8; 32])>>;
        /// As [`Log::position`].
        fn position(u64) -> Outcome<Option<u64>>;
        /// As [`Log::append`].
        fn append(Grow) -> Outcome<()>;
        /// As [`Log::records`].
        fn records(Page) -> Outcome<Vec<Blob>>;
    }
}

/// A log as its door.
struct LogOf(Arc<dyn Log>);

/// Serves a log.
pub fn log_router(log: Arc<dyn Log>) -> axum::Router {
    log_door(Arc::new(LogOf(log)))
}

#[async_trait]
impl LogDoor for LogOf {
    async fn head(&self, (): ()) -> Result<Outcome<HeadOf>, Refusal> {
        let of = |head: Head| HeadOf { size: head.size, checkpoint: Blob(head.checkpoint), source: head.source };
        Ok(self.0.head().await.map(of).map_err(Fault::from))
    }
    async fn hashes(&self, indexes: Vec<u64>) -> Result<Outcome<Vec<(u64, [u8; 32])>>, Refusal> {
        Ok(self.0.hashes(&indexes).await.map_err(Fault::from))
    }
    async fn position(&self, source: u64) -> Result<Outcome<Option<u64>>, Refusal> {
        Ok(self.0.position(source).await.map_err(Fault::from))
    }
    async fn append(&self, request: Grow) -> Result<Outcome<()>, Refusal> {
        let Grow { first, records, hashes, checkpoint } = request;
        let records = records.into_iter().map(|(source, blob)| LogRecord { source, data: blob.0 }).collect();
        Ok(self.0.append(first, records, hashes, checkpoint.0).await.map_err(Fault::from))
    }
    async fn records(&self, Page { from, limit }: Page) -> Result<Outcome<Vec<Blob>>, Refusal> {
        let records = self.0.records(from, limit).await;
        Ok(records.map(|all| all.into_iter().map(Blob).collect()).map_err(Fault::from))
    }
}

#[async_trait]
impl Log for LogClient {
    async fn head(&self) -> Result<Head, Error> {
        let HeadOf { size, checkpoint, source } = arrived(LogDoor::head(self, ()).await)?;
        Ok(Head { size, checkpoint: checkpoint.0, source })
    }
    async fn hashes(&self, indexes: &[u64]) -> Result<Vec<(u64, [u8; 32])>, Error> {
        arrived(LogDoor::hashes(self, indexes.to_vec()).await)
    }
    async fn position(&self, source: u64) -> Result<Option<u64>, Error> {
        arrived(LogDoor::position(self, source).await)
    }
    async fn append(
        &self,
        first: u64,
        records: Vec<LogRecord>,
        hashes: Vec<(u64, [u8; 32])>,
        checkpoint: Vec<u8>,
    ) -> Result<(), Error> {
        let records = records.into_iter().map(|record| (record.source, Blob(record.data))).collect();
        arrived(LogDoor::append(self, Grow { first, records, hashes, checkpoint: Blob(checkpoint) }).await)
    }
    async fn records(&self, from: u64, limit: u32) -> Result<Vec<Vec<u8>>, Error> {
        let records = arrived(LogDoor::records(self, Page { from, limit }).await)?;
        Ok(records.into_iter().map(|blob| blob.0).collect())
    }
}
