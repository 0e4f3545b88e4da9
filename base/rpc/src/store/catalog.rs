//! The catalog from one process to another.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use store::{Catalog, Collection, Committed, Document, Error, Expect, Write};
use types::Refusal;

use super::{Blob, Fault, Outcome, Page, arrived};

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
