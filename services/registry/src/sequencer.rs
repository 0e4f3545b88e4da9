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

use access::Renewable;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use ledger::{
    Frontier, Hash, Key, Record, TrustedKey,
    proof::{Inclusion, Question},
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
    /// The keys of the log, newest first; each signs every checkpoint.
    keys: Renewable<Vec<Key>>,
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
    pub async fn open(catalog: Arc<dyn Catalog>, log: Arc<dyn Log>, keys: Vec<Key>) -> Result<Self, Refusal> {
        let keys = Renewable::new(keys);
        let state = restore(&*log, &keys.current()).await?;
        ends_whole(&*log, &state).await?;
        continues(&*catalog, &state.head).await?;
        let newest = AtomicU64::new(state.head.source);
        let sequencer = Self { catalog, log, keys, state: Mutex::new(state), newest };
        let mut state = sequencer.state.lock().await;
        if state.head.checkpoint.is_empty() {
            // A log without records has a checkpoint too: whoever saw it can tell that nothing was cut later.
            let root = state.frontier.root().map_err(broken)?;
            let checkpoint = ledger::sign(&sequencer.keys.current(), 0, root).map_err(broken)?;
            sequencer.log.append(0, Vec::new(), Vec::new(), checkpoint).await?;
            *state = restore(&*sequencer.log, &sequencer.keys.current()).await?;
        }
        sequencer.drain_locked(&mut state).await?;
        drop(state);
        Ok(sequencer)
    }

    /// Signs with these keys from the next checkpoint on.
    pub async fn replace(&self, keys: Vec<Key>) {
        // Not in the middle of one.
        let _state = self.state.lock().await;
        self.keys.replace(keys);
    }

    /// A checkpoint with the signature of the newest key that signed it; those who know only that one can check it whole.
    fn checkpoint(&self, signed: &[u8]) -> Result<(String, TrustedKey), Refusal> {
        let keys = self.keys.current();
        for key in keys.iter() {
            let key = TrustedKey::parse(key.public()).map_err(broken)?;
            if let Ok(only) = ledger::only(signed, &key) {
                return Ok((text(only)?, key));
            }
        }
        Err(broken("the newest checkpoint is signed by no key of this log"))
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
                Err(store::Error::Conflict { .. }) => *state = restore(&*self.log, &self.keys.current()).await?,
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
        let checkpoint =
            ledger::sign(&self.keys.current(), frontier.size(), root).map_err(|error| corrupt(error.to_string()))?;
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
        let (head, root) = {
            let state = self.state.lock().await;
            (state.head.clone(), state.frontier.root().map_err(broken)?)
        };
        let index = self.log.position(receipt.0).await?.ok_or_else(|| broken("a record is missing"))?;
        let record = self.log.records(index, 1).await?.pop().ok_or_else(|| broken("a record is missing"))?;
        let path = self.answer(Question::Record { index, size: head.size }).await?;
        let inclusion = Inclusion { index, size: head.size, path: path.iter().map(|hash| Hash(hash.0)).collect() };
        if !inclusion.leads(ledger::record_hash(&record), root) {
            return Err(broken(format!("record {index} does not fit the signed checkpoint")));
        }
        Ok(LeafProof {
            record: text(record)?,
            index,
            size: head.size,
            path,
            checkpoint: self.checkpoint(&head.checkpoint)?.0,
        })
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
        Ok(TreeProof { old, size: head.size, path, checkpoint: self.checkpoint(&head.checkpoint)?.0 })
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
        if records.len() as u64 != u64::from(limit) {
            return Err(broken(format!("record {} is missing", request.from + records.len() as u64)));
        }
        let next = request.from.min(head.size) + records.len() as u64;
        let mut records: Vec<String> = records.into_iter().map(text).collect::<Result<_, _>>()?;
        if let Some(namespace) = &request.namespace {
            records.retain(|line| {
                let record: Result<Record, _> = serde_json::from_str(line);
                record.is_ok_and(|record| record.namespace.as_deref() == Some(namespace.as_str()))
            });
        }
        let (checkpoint, key) = self.checkpoint(&head.checkpoint)?;
        let (signed, key) = (text(head.checkpoint)?, key.text().to_owned());
        Ok(LedgerPage { records, next, checkpoint, signed, size: head.size, key })
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
    Refusal::new(Code::StorageUnavailable, format!("the ledger is not whole: {error}")).hint(store::RESTORE)
}

async fn frontier(log: &dyn Log, size: u64) -> Result<Frontier, Refusal> {
    let hashes: BTreeMap<u64, Hash> =
        log.hashes(&Frontier::needs(size)).await?.into_iter().map(|(index, hash)| (index, Hash(hash))).collect();
    Frontier::restore(size, hashes).ok_or_else(|| broken("hashes are missing"))
}

async fn restore(log: &dyn Log, keys: &[Key]) -> Result<State, Refusal> {
    let head = log.head().await?;
    let frontier = frontier(log, head.size).await?;
    if !head.checkpoint.is_empty() {
        // The newest key may have come after the newest checkpoint; then the one before has signed it.
        let signed = keys.iter().map(|key| {
            let trusted = TrustedKey::parse(key.public()).map_err(broken)?;
            ledger::open_seen(&head.checkpoint, &trusted).map_err(broken)
        });
        let signed = signed.reduce(Result::or).unwrap_or_else(|| Err(broken("there is no key")))?;
        if signed != (head.size, frontier.root().map_err(broken)?) {
            return Err(broken("the signed checkpoint does not fit the stored hashes"));
        }
    }
    Ok(State { frontier, head })
}

/// Checks that the last record is the one that the checkpoint covers, and that none lies behind it.
async fn ends_whole(log: &dyn Log, state: &State) -> Result<(), Refusal> {
    let size = state.head.size;
    if !log.records(size, 1).await?.is_empty() {
        return Err(broken(format!("there are records behind the {size} that the checkpoint covers")));
    }
    let Some(before) = size.checked_sub(1) else { return Ok(()) };
    let last = log.records(before, 1).await?.pop().ok_or_else(|| broken(format!("record {before} is missing")))?;
    let mut frontier = frontier(log, before).await?;
    frontier.append(&last).map_err(broken)?;
    if frontier.root().map_err(broken)? != state.frontier.root().map_err(broken)? {
        return Err(broken(format!("record {before} does not fit the signed checkpoint")));
    }
    Ok(())
}

/// Checks that catalog and ledger belong together: what the one gave out is in the other, or still waits.
async fn continues(catalog: &dyn Catalog, head: &Head) -> Result<(), Refusal> {
    let given = catalog.given().await?;
    let apart = |what: String| Refusal::new(Code::StorageUnavailable, what).hint(store::RESTORE);
    if given < head.source {
        // New records would get sequences that the ledger has seen, and be passed over.
        return Err(apart(format!(
            "the catalog has given out {given} records and the ledger holds number {}: catalog.db is older than \
             ledger.db, or was made anew",
            head.source
        )));
    }
    let next = catalog.outbox(head.source, 1).await?.first().map_or(given + 1, |(sequence, _)| *sequence);
    if next != head.source + 1 {
        return Err(apart(format!(
            "the ledger is not whole: it ends with number {}, and the catalog has handed over {}: ledger.db is older \
             than catalog.db, or was made anew",
            head.source,
            next - 1
        )));
    }
    Ok(())
}

/// Checks every record and every hash against the newest checkpoint; returns how many records it covers. Reads all of
/// it, also while the ledger grows.
///
/// # Errors
/// When the ledger is not whole, or was signed by another key.
pub async fn check(log: &dyn Log, key: &ledger::TrustedKey) -> Result<u64, Refusal> {
    let head = log.head().await?;
    let (size, root) = if head.checkpoint.is_empty() {
        (0, Frontier::default().root().map_err(broken)?)
    } else {
        // While a key of the log is not retired yet, it has signed too.
        ledger::open_seen(&head.checkpoint, key).map_err(broken)?
    };
    if head.size != size {
        return Err(broken(format!("it has {} records, and the checkpoint covers {size}", head.size)));
    }
    let mut frontier = Frontier::default();
    loop {
        let from = frontier.size();
        let most = u32::try_from(size.saturating_sub(from)).unwrap_or(BATCH).min(BATCH);
        let records = if most > 0 { log.records(from, most).await? } else { Vec::new() };
        if records.is_empty() {
            break;
        }
        let mut made = Vec::new();
        for record in &records {
            made.extend(frontier.append(record).map_err(broken)?.into_iter().map(|(index, hash)| (index, hash.0)));
        }
        let indexes: Vec<u64> = made.iter().map(|(index, _)| *index).collect();
        if log.hashes(&indexes).await? != made {
            return Err(broken(format!("a hash of records {from} to {} is not theirs", frontier.size() - 1)));
        }
    }
    // More than it covers may be there only under a newer one.
    let grown = !log.records(size, 1).await?.is_empty();
    let uncovered = grown && log.head().await?.size <= size;
    if uncovered || (frontier.size(), frontier.root().map_err(broken)?) != (size, root) {
        return Err(broken(format!("it has {} records, and the checkpoint covers {size} or others", frontier.size())));
    }
    Ok(size)
}
