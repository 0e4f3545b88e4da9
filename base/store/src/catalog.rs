//! The catalog: documents in collections, written by compare-and-swap, with an outbox in the same transaction.

use async_trait::async_trait;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::Error;

/// Kinds of documents; each has one writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Collection {
    /// A model: `namespace/name`. Written by the registry.
    Model,
    /// A version: `namespace/name/number`, zero-padded. Written by the registry.
    Version,
    /// A streaming version's signed state: `namespace/name/version/number`, both zero-padded. Written by the registry.
    Snapshot,
    /// A caller: `namespace/name`. Written by the registry.
    Caller,
    /// A token: its id. Written by the registry.
    Token,
    /// The policies in force: by namespace. Written by the registry.
    Policy,
    /// A namespace's quota: by namespace. Written by the registry.
    Quota,
    /// The node's keys in force, by kind, as the ledger knows them. Written by the registry.
    Key,
    /// A publisher: `namespace/fingerprint`. Written by the registry.
    Publisher,
    /// When a token was used last: its id. Written by the registry.
    Use,
    /// A secret of a namespace: `namespace/name`. Written by the registry.
    Secret,
    /// Desired state: `subject/field`. Written by the orchestrator.
    Desired,
    /// The executor's journal: `plan/step`. Written by the orchestrator.
    Step,
    /// How right models were: `model/namespace/name`, and how far labels were read. Written by the trainer.
    Evaluation,
    /// What attackers did and what was done about it: by its id. Written by the sentinel.
    Incident,
    /// What the sentinel knows: who stands where, and what is usual. Written by the sentinel.
    Sentinel,
}

impl Collection {
    /// Every collection there is.
    pub const ALL: [Self; 16] = [
        Self::Model,
        Self::Version,
        Self::Snapshot,
        Self::Caller,
        Self::Token,
        Self::Policy,
        Self::Quota,
        Self::Key,
        Self::Publisher,
        Self::Use,
        Self::Secret,
        Self::Desired,
        Self::Step,
        Self::Evaluation,
        Self::Incident,
        Self::Sentinel,
    ];

    /// The service that writes it, and no other does.
    pub fn writer(self) -> &'static str {
        match self {
            Self::Desired | Self::Step => "orchestrator",
            Self::Evaluation => "trainer",
            Self::Incident | Self::Sentinel => "sentinel",
            _ => "registry",
        }
    }

    /// Its name in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Version => "version",
            Self::Snapshot => "snapshot",
            Self::Caller => "caller",
            Self::Token => "token",
            Self::Policy => "policy",
            Self::Quota => "quota",
            Self::Key => "key",
            Self::Publisher => "publisher",
            Self::Use => "use",
            Self::Secret => "secret",
            Self::Desired => "desired",
            Self::Step => "step",
            Self::Evaluation => "evaluation",
            Self::Incident => "incident",
            Self::Sentinel => "sentinel",
        }
    }
}

/// A stored document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its key inside its collection.
    pub key: String,
    /// Grows by one with each write, from 1.
    pub generation: u64,
    /// Its value, JSON.
    pub value: Vec<u8>,
}

impl Document {
    /// The value as a type.
    ///
    /// # Errors
    /// `Corrupt` when it has another shape.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.value)
            .map_err(|error| Error::Corrupt { what: format!("document `{}`", self.key), why: error.to_string() })
    }
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// Nothing under this key.
    Absent,
    /// The document at this generation.
    Generation(u64),
    /// Whatever there is.
    Any,
}

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub collection: Collection,
    /// Under which key.
    pub key: String,
    /// What must be there before.
    pub expect: Expect,
    /// The new value; `None` removes the document.
    pub value: Option<Vec<u8>>,
}

impl Write {
    /// Puts a value.
    ///
    /// # Errors
    /// `Corrupt` when it can't be written as JSON.
    pub fn put(
        collection: Collection,
        key: impl Into<String>,
        expect: Expect,
        value: &impl Serialize,
    ) -> Result<Self, Error> {
        let key = key.into();
        let value = serde_json::to_vec(value)
            .map_err(|error| Error::Corrupt { what: format!("document `{key}`"), why: error.to_string() })?;
        Ok(Self { collection, key, expect, value: Some(value) })
    }

    /// Removes a document.
    pub fn remove(collection: Collection, key: impl Into<String>, expect: Expect) -> Self {
        Self { collection, key: key.into(), expect, value: None }
    }
}

/// What a transaction did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The new generation of each write, in order; 0 for removals.
    pub generations: Vec<u64>,
    /// The outbox sequence of its last record, if it had any.
    pub outbox: Option<u64>,
}

/// Documents with compare-and-swap, and an outbox.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// One document.
    async fn get(&self, collection: Collection, key: &str) -> Result<Option<Document>, Error>;

    /// Documents whose keys start with `prefix`, in order of keys, after `after`, at most `limit`.
    async fn list(
        &self,
        collection: Collection,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Document>, Error>;

    /// Writes all or nothing, durably: documents, and records for the ledger.
    async fn commit(&self, writes: Vec<Write>, records: Vec<Vec<u8>>) -> Result<Committed, Error>;

    /// Outbox records after a sequence, in order, at most `limit`.
    async fn outbox(&self, after: u64, limit: u32) -> Result<Vec<(u64, Vec<u8>)>, Error>;

    /// The newest outbox sequence given out so far, forgotten or not; 0 before the first. None is left out.
    async fn given(&self) -> Result<u64, Error>;

    /// Forgets outbox records up to and including a sequence.
    async fn forget_outbox(&self, upto: u64) -> Result<(), Error>;
}

/// Reads every document below a prefix, page by page.
///
/// # Errors
/// As [`Catalog::list`].
pub async fn read_all(catalog: &dyn Catalog, collection: Collection, prefix: &str) -> Result<Vec<Document>, Error> {
    const PAGE: u32 = 500;
    let mut all: Vec<Document> = Vec::new();
    loop {
        let page = catalog.list(collection, prefix, all.last().map(|d| d.key.as_str()), PAGE).await?;
        let done = page.len() < PAGE as usize;
        all.extend(page);
        if done {
            return Ok(all);
        }
    }
}
