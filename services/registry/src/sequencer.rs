//! The ledger's one sequencer: outbox records become leaves, each once, under a signed checkpoint.
//!
//! Whoever waits for a record drains the outbox under one lock, so that records of many calls share one durable
//! write. A call that is cut short leaves the memory behind the store; the next one notices the conflict and
//! reads the store again.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ledger::{
    Frontier, Hash, Key, Record,
    proof::Question,
    tile::{TILE, Tile},
};
use rpc::registry::{LeafProof, LedgerPage, ReadLedger, ReadTile, Receipt, TileData, TreeProof};
use store::{Catalog, Head, Log, LogRecord};
use tokio::sync::Mutex;
use types::{Code, Digest, Refusal};

/// Records per durable write, at most.
const BATCH: u32 = 1_000;
/// How long a caller waits for its leaf.
const WAIT: Duration = Duration::from_secs(15);
/// Records in one page of the ledger, at most.
const PAGE: u32 = 10_000;

/// The sequencer.
pub struct Sequencer {
    catalog: Arc<dyn Catalog>,
    log: Arc<dyn Log>,
    key: Key,
    state: Mutex<State>,
    newest: AtomicU64,
}

struct State {
    frontier: Frontier,
    head: Head,
}

impl Sequencer {
    /// Opens the ledger, checks that its head fits its hashes, and drains the outbox.
    ///
    /// # Errors
    /// When the ledger is not whole, or was signed by another key.
    pub async fn open(catalog: Arc<dyn Catalog>, log: Arc<dyn Log>, key: Key) -> Result<Self, Refusal> {
        let state = restore(&*log, &key).await?;
        let newest = AtomicU64::new(state.head.source);
        let sequencer = Self { catalog, log, key, state: Mutex::new(state), newest };
        let mut state = sequencer.state.lock().await;
        if state.head.checkpoint.is_empty() {
            // A log without records has a checkpoint too: whoever saw it can tell that nothing was cut later.
            let root = state.frontier.root().map_err(broken)?;
            let checkpoint = sequencer.key.sign(0, root).map_err(broken)?;
            sequencer.log.append(0, Vec::new(), Vec::new(), checkpoint).await?;
            *state = restore(&*sequencer.log, &sequencer.key).await?;
        }
        sequencer.drain_locked(&mut state).await?;
        drop(state);
        Ok(sequencer)
    }

    /// Notes a committed outbox sequence; what to wait for to see it sealed.
    pub fn note(&self, outbox: Option<u64>) -> Receipt {
        let outbox = outbox.unwrap_or(0);
        self.newest.fetch_max(outbox, Ordering::Relaxed);
        Receipt(outbox)
    }

    /// What to wait for to see everything sealed that was committed so far.
    pub fn newest(&self) -> Receipt {
        Receipt(self.newest.load(Ordering::Relaxed))
    }

    /// Returns once the ledger durably holds the record.
    ///
    /// # Errors
    /// `storage_unavailable` when it does not within 15 seconds; the change itself stands, and its record
    /// follows.
    pub async fn seal(&self, receipt: Receipt) -> Result<(), Refusal> {
        let sealed = tokio::time::timeout(WAIT, async {
            let mut state = self.state.lock().await;
            if state.head.source < receipt.0 {
                self.drain_locked(&mut state).await?;
            }
            Ok(())
        });
        sealed.await.unwrap_or_else(|_| {
            Err(Refusal::new(Code::StorageUnavailable, "the change was written, but its ledger record is late")
                .hint("look whether it is there, and check the disk: `mantlet doctor`"))
        })
    }

    /// Drains the outbox.
    ///
    /// # Errors
    /// When a store can't be used.
    pub async fn drain(&self) -> Result<(), Refusal> {
        let mut state = self.state.lock().await;
        self.drain_locked(&mut state).await
    }

    async fn drain_locked(&self, state: &mut State) -> Result<(), Refusal> {
        loop {
            let pending = self.catalog.outbox(state.head.source, BATCH).await?;
            let Some((last, _)) = pending.last() else { break };
            let last = *last;
            match self.append(state, pending).await {
                Ok(()) => self.catalog.forget_outbox(last).await?,
                Err(store::Error::Conflict { .. }) => *state = restore(&*self.log, &self.key).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn append(&self, state: &mut State, pending: Vec<(u64, Vec<u8>)>) -> Result<(), store::Error> {
        let corrupt = |why: String| store::Error::Corrupt { what: "the ledger".into(), why };
        let mut frontier = state.frontier.clone();
        let (first, mut hashes) = (frontier.size(), Vec::new());
        let mut source = state.head.source;
        let mut records = Vec::with_capacity(pending.len());
        for (sequence, data) in pending {
            let made = frontier.append(&data).map_err(|error| corrupt(error.to_string()))?;
            hashes.extend(made.into_iter().map(|(index, hash)| (index, hash.0)));
            records.push(LogRecord { source: sequence, data });
            source = sequence;
        }
        let root = frontier.root().map_err(|error| corrupt(error.to_string()))?;
        let checkpoint = self.key.sign(frontier.size(), root).map_err(|error| corrupt(error.to_string()))?;
        self.log.append(first, records, hashes, checkpoint.clone()).await?;
        state.head = Head { size: frontier.size(), checkpoint, source };
        state.frontier = frontier;
        Ok(())
    }

    /// The newest signed state.
    async fn head(&self) -> Head {
        self.state.lock().await.head.clone()
    }

    /// Answers a question about the tree from the stored hashes.
    async fn answer(&self, question: Question) -> Result<Vec<Digest>, Refusal> {
        let stored = self.log.hashes(&question.needs()).await?;
        let stored = stored.into_iter().map(|(index, hash)| (index, Hash(hash))).collect();
        let path = question.answer(&stored).map_err(broken)?;
        Ok(path.into_iter().map(|hash| Digest(hash.0)).collect())
    }

    /// Proves the record behind a receipt.
    ///
    /// # Errors
    /// When the store can't be read, or has no such record.
    pub async fn prove_record(&self, receipt: Receipt) -> Result<LeafProof, Refusal> {
        self.seal(receipt).await?;
        let head = self.head().await;
        let index = self.log.position(receipt.0).await?.ok_or_else(|| broken("a record is missing"))?;
        let record = self.log.records(index, 1).await?.pop().ok_or_else(|| broken("a record is missing"))?;
        let path = self.answer(Question::Record { index, size: head.size }).await?;
        Ok(LeafProof { record: text(record)?, index, size: head.size, path, checkpoint: text(head.checkpoint)? })
    }

    /// Proves that an earlier tree is the start of the newest one.
    ///
    /// # Errors
    /// `request_malformed` for a tree that is not earlier.
    pub async fn prove_tree(&self, old: u64) -> Result<TreeProof, Refusal> {
        let head = self.head().await;
        if old > head.size {
            return Err(Refusal::new(
                Code::RequestMalformed,
                format!("the ledger has {} records, not {old}", head.size),
            )
            .hint("a checkpoint with more records is of another log, or this one was cut: keep it as evidence"));
        }
        let path = self.answer(Question::Tree { old, size: head.size }).await?;
        Ok(TreeProof { old, size: head.size, path, checkpoint: text(head.checkpoint)? })
    }

    /// Reads a tile: hashes of a level, or records.
    ///
    /// # Errors
    /// `path_not_found` for one that the newest checkpoint does not cover.
    pub async fn tile(&self, request: ReadTile) -> Result<TileData, Refusal> {
        let size = self.head().await.size;
        let missing = || Refusal::new(Code::PathNotFound, "the newest checkpoint does not cover this tile");
        let tile = Tile::new(request.level, request.number, request.width).ok_or_else(missing)?;
        if !tile.is_within(size) {
            return Err(missing());
        }
        let data = match tile.hashes() {
            Some(indexes) => {
                let stored = self.log.hashes(&indexes).await?;
                if stored.len() != indexes.len() {
                    return Err(broken("hashes are missing"));
                }
                stored.into_iter().flat_map(|(_, hash)| hash).collect()
            }
            None => entries(&self.log.records(request.number * TILE, u32::from(request.width)).await?),
        };
        Ok(TileData { data: BASE64_STANDARD.encode(data) })
    }

    /// Reads a page of records under the newest checkpoint.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn read(&self, request: ReadLedger) -> Result<LedgerPage, Refusal> {
        let head = self.head().await;
        let left = u32::try_from(head.size.saturating_sub(request.from)).unwrap_or(u32::MAX);
        let limit = request.limit.min(PAGE).min(left);
        let records = if limit == 0 { Vec::new() } else { self.log.records(request.from, limit).await? };
        let next = request.from.min(head.size) + records.len() as u64;
        let mut records: Vec<String> = records.into_iter().map(text).collect::<Result<_, _>>()?;
        if let Some(namespace) = &request.namespace {
            records.retain(|line| {
                let record: Result<Record, _> = serde_json::from_str(line);
                record.is_ok_and(|record| record.namespace.as_deref() == Some(namespace.as_str()))
            });
        }
        Ok(LedgerPage {
            records,
            next,
            checkpoint: text(head.checkpoint)?,
            size: head.size,
            key: self.key.public().to_owned(),
        })
    }
}

fn text(bytes: Vec<u8>) -> Result<String, Refusal> {
    String::from_utf8(bytes).map_err(broken)
}

/// An entry bundle: each record behind its length.
fn entries(records: &[Vec<u8>]) -> Vec<u8> {
    let length = |record: &Vec<u8>| u16::try_from(record.len()).unwrap_or(u16::MAX).to_be_bytes();
    records.iter().flat_map(|record| length(record).into_iter().chain(record.iter().copied())).collect()
}

fn broken(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::StorageUnavailable, format!("the ledger is not whole: {error}"))
        .hint("keep a copy of the data directory, and restore the ledger from a backup")
}

async fn restore(log: &dyn Log, key: &Key) -> Result<State, Refusal> {
    let head = log.head().await?;
    let hashes: BTreeMap<u64, Hash> =
        log.hashes(&Frontier::needs(head.size)).await?.into_iter().map(|(index, hash)| (index, Hash(hash))).collect();
    let frontier = Frontier::restore(head.size, hashes).ok_or_else(|| broken("hashes are missing"))?;
    if !head.checkpoint.is_empty() {
        let trusted = ledger::TrustedKey::parse(key.public()).map_err(broken)?;
        let signed = ledger::open(&head.checkpoint, &trusted).map_err(broken)?;
        if signed != (head.size, frontier.root().map_err(broken)?) {
            return Err(broken("the signed checkpoint does not fit the stored hashes"));
        }
    }
    Ok(State { frontier, head })
}
