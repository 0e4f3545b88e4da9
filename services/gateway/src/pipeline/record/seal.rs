//! What a gateway keeps of a batch beside its events: the commitments, and the receipt of its ledger record.
//!
//! A gateway has two streams. `predictions.<gateway>` holds envelopes (a nonce, then the event). `batches.<gateway>`
//! holds one [`Seal`] per batch, and marks where the gateway started and stopped. Each entry says which envelope
//! comes next, so that after a crash it is known which ones have no record yet.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ledger::Hash;
use rpc::registry::Receipt;
use serde::{Deserialize, Serialize};
use store::{Error, Streams};
use types::event::PREDICTIONS;

/// The stream of a gateway's envelopes.
pub(crate) fn predictions(gateway: &str) -> String {
    format!("{PREDICTIONS}{gateway}")
}

/// The stream of a gateway's batches.
pub(crate) fn batches(gateway: &str) -> String {
    format!("batches.{gateway}")
}

/// One entry of a stream of batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Seal {
    /// The gateway started.
    Opened {
        /// The first envelope without a record.
        next: u64,
    },
    /// A batch has its record.
    Batch {
        /// Its first envelope.
        first: u64,
        /// The envelope after its last.
        next: u64,
        /// What to ask the registry for.
        receipt: Receipt,
        /// The commitments of its envelopes, 32 bytes each, in base64.
        commitments: String,
    },
    /// The gateway stopped, and nothing was left.
    Closed {
        /// The first envelope without a record.
        next: u64,
    },
}

impl Seal {
    /// The batch of envelopes from `first` on.
    pub(crate) fn batch(first: u64, commitments: &[Hash], receipt: Receipt) -> Self {
        let bytes: Vec<u8> = commitments.iter().flat_map(|hash| hash.0).collect();
        let next = first + commitments.len() as u64;
        Self::Batch { first, next, receipt, commitments: BASE64_STANDARD.encode(bytes) }
    }

    /// The first envelope without a record.
    pub(crate) fn next(&self) -> u64 {
        match self {
            Self::Opened { next } | Self::Batch { next, .. } | Self::Closed { next } => *next,
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Numbers and texts have no way to fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The newest entry of a stream.
    pub(crate) async fn newest(streams: &dyn Streams, stream: &str) -> Result<Option<Self>, Error> {
        store::newest(streams, stream).await?.map(|entry| read(stream, &entry.data)).transpose()
    }

    /// The batch that holds this envelope.
    pub(crate) async fn of(streams: &dyn Streams, stream: &str, envelope: u64) -> Result<Option<Self>, Error> {
        let place = store::search(streams, stream, |entry| Ok(read(stream, &entry.data)?.next() <= envelope)).await?;
        let found = streams.read(stream, place, 1).await?.pop();
        let seal = found.map(|entry| read(stream, &entry.data)).transpose()?;
        Ok(seal.filter(|seal| matches!(seal, Self::Batch { first, .. } if *first <= envelope)))
    }
}

/// The commitments of a batch.
pub(crate) fn commitments(text: &str) -> Option<Vec<Hash>> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    bytes.chunks(32).map(|chunk| chunk.try_into().ok().map(Hash)).collect()
}

fn read(stream: &str, data: &[u8]) -> Result<Seal, Error> {
    serde_json::from_slice(data)
        .map_err(|error| Error::Corrupt { what: format!("stream `{stream}`"), why: error.to_string() })
}
