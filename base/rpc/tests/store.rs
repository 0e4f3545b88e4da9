//! The stores' remote forms run through the same suites as the embedded ones.

use std::sync::Arc;

use rpc::store::{CatalogClient, LogClient, StreamsClient, catalog_router, log_router, streams_router};
use store::{
    contract,
    sqlite::{SqliteCatalog, SqliteLog, SqliteStreams},
};

#[tokio::test]
async fn catalog() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = SqliteCatalog::open(&dir.path().join("catalog.db")).await.unwrap();
    let remote = testkit::remote::open(catalog_router(Arc::new(catalog)));
    contract::catalog(&CatalogClient(remote.channel.clone())).await;
}

#[tokio::test]
async fn streams() {
    let dir = tempfile::tempdir().unwrap();
    let streams = SqliteStreams::open(&dir.path().join("events.db")).await.unwrap();
    let remote = testkit::remote::open(streams_router(Arc::new(streams)));
    contract::streams(&StreamsClient(remote.channel.clone())).await;
}

#[tokio::test]
async fn log() {
    let dir = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(&dir.path().join("ledger.db")).await.unwrap();
    let remote = testkit::remote::open(log_router(Arc::new(log)));
    contract::log(&LogClient(remote.channel.clone())).await;
}
