//! The ledger's records and hashes from one process to another.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use store::{Error, Head, Log, LogRecord};
use types::Refusal;

use super::{Blob, Fault, Outcome, Page, arrived};

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
