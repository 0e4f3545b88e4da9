//! Artefacts: uploads wait in staging, bundles are published whole or not at all.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use types::Digest;

use crate::Error;

/// A body as it arrives.
pub type ByteStream = BoxStream<'static, Result<Bytes, std::io::Error>>;

/// An upload that waits to be published.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Staged {
    /// Its name in staging.
    pub id: String,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its bytes.
    pub digest: Digest,
}

/// A file of a bundle.
#[derive(Debug, Clone)]
pub enum Content {
    /// Bytes in hand.
    Bytes(Vec<u8>),
    /// An upload, moved out of staging.
    Staged(String),
}

/// Files of bundles, by the bundle's digest.
#[async_trait]
pub trait Artefacts: Send + Sync {
    /// Takes an upload in, at most `limit` bytes.
    async fn stage(&self, body: ByteStream, limit: u64) -> Result<Staged, Error>;

    /// Reads a staged upload.
    async fn read_staged(&self, id: &str) -> Result<Vec<u8>, Error>;

    /// Forgets a staged upload; one that is not there is fine.
    async fn discard(&self, id: &str) -> Result<(), Error>;

    /// Publishes a bundle durably under its digest; one that is there already is left as it is.
    async fn publish(&self, bundle: Digest, files: Vec<(String, Content)>) -> Result<(), Error>;

    /// Names of a bundle's files, sorted.
    async fn list(&self, bundle: Digest) -> Result<Vec<String>, Error>;

    /// One file of a bundle.
    async fn read(&self, bundle: Digest, file: &str) -> Result<Vec<u8>, Error>;

    /// Replaces a file of a published bundle, whole or not at all.
    async fn replace(&self, bundle: Digest, file: &str, data: &[u8]) -> Result<(), Error>;

    /// Removes a bundle; one that is not there is fine.
    async fn remove(&self, bundle: Digest) -> Result<(), Error>;

    /// Whether so little room is left that what nobody needs should go.
    async fn is_short(&self) -> bool;

    /// Every published bundle, those first that were published longest ago.
    async fn bundles(&self) -> Result<Vec<Digest>, Error>;

    /// Forgets uploads that have waited for as long to be published; how many.
    async fn forget_staged(&self, waited: Duration) -> Result<u64, Error>;

    /// Where a model server on this machine finds the bundle.
    fn path(&self, bundle: Digest) -> PathBuf;
}
