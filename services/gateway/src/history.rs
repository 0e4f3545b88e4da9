//! Reads what was recorded: one prediction with its proof, the last captured ones; and erases.

use std::{collections::HashSet, time::Duration};

use ledger::{
    Hash,
    batch::{self, Batch, EventProof},
    proof::Inclusion,
};
use serde::Deserialize;
use store::{Entry, Streams, seek};
use tokio::time::{Instant, sleep};
use types::{
    CallerName, Code, Namespace, PredictionId, Refusal, Timestamp,
    event::{Event, JOINED, Prediction, feedback},
};

use crate::{
    Ring,
    pipeline::record::{Seal, batches, commitments, predictions},
};

/// Entries read at a time.
const PAGE: u32 = 500;
/// How much later than its id was made a prediction may have been stored.
const LATE: Duration = Duration::from_secs(90);
/// How much later than a prediction its copy may have been stored.
const COPY: Duration = Duration::from_secs(10);
/// How long a proof is waited for: the record of a fresh prediction is made within moments.
const PATIENCE: Duration = Duration::from_secs(2);

/// A recorded prediction and where it lies.
pub(crate) struct Found {
    pub(crate) gateway: String,
    pub(crate) sequence: u64,
    pub(crate) envelope: Vec<u8>,
}

fn not_found(id: PredictionId) -> Refusal {
    Refusal::new(Code::PredictionNotFound, format!("no prediction `{id}` is kept in this namespace"))
        .hint("events go with age, bytes and `mantlet forget`; check the id and the namespace")
}

/// Names of every gateway that recorded something.
pub(crate) async fn gateways(streams: &dyn Streams) -> Result<Vec<String>, Refusal> {
    let prefix = predictions("");
    let names = streams.names(&prefix).await?;
    Ok(names.iter().filter_map(|name| name.strip_prefix(&prefix)).map(str::to_owned).collect())
}

/// The prediction in an entry; nothing for other events and erased ones.
pub(crate) fn prediction(entry: &Entry) -> Option<Box<Prediction>> {
    match serde_json::from_slice(batch::event(&entry.data)?) {
        Ok(Event::Prediction(prediction)) => Some(prediction),
        _ => None,
    }
}

/// Finds a prediction of this namespace.
///
/// Ids carry the time they were made, so what was stored soon after it is read first. It need not lie there when the
/// clock was set back: then all that is kept is read.
///
/// # Errors
/// `prediction_not_found`, or a stream that can't be read.
pub(crate) async fn find(ring: &Ring, namespace: &Namespace, id: PredictionId) -> Result<Found, Refusal> {
    match find_soon(ring, namespace, id).await {
        Err(refusal) if refusal.code == Code::PredictionNotFound => {}
        found => return found,
    }
    for gateway in gateways(&*ring.streams).await? {
        if let Some(found) = look(ring, namespace, id, &gateway, 0, Timestamp(u64::MAX)).await? {
            return Ok(found);
        }
    }
    Err(not_found(id))
}

/// Finds a prediction that lies where its time says, or at the end.
async fn find_soon(ring: &Ring, namespace: &Namespace, id: PredictionId) -> Result<Found, Refusal> {
    let made = id.made().ok_or_else(|| not_found(id))?;
    for gateway in gateways(&*ring.streams).await? {
        let stream = predictions(&gateway);
        let place = seek(&*ring.streams, &stream, made).await?;
        let end = ring.streams.next(&stream).await?.saturating_sub(PAGE.into());
        for (from, late) in [(place, made.plus(LATE)), (end, Timestamp(u64::MAX))] {
            if let Some(found) = look(ring, namespace, id, &gateway, from, late).await? {
                return Ok(found);
            }
        }
    }
    Err(not_found(id))
}

/// Looks for a prediction from a place on, until entries were stored later than `late`.
async fn look(
    ring: &Ring,
    namespace: &Namespace,
    id: PredictionId,
    gateway: &str,
    mut next: u64,
    late: Timestamp,
) -> Result<Option<Found>, Refusal> {
    let (stream, mark) = (predictions(gateway), format!("\"prediction\":\"{id}\""));
    loop {
        let entries = ring.streams.read(&stream, next, PAGE).await?;
        for entry in &entries {
            // Cheaper than reading each: the id stands within the first bytes of its event.
            let start = entry.data.get(batch::NONCE..).unwrap_or_default();
            let start = &start[..start.len().min(128)];
            if !start.windows(mark.len()).any(|window| window == mark.as_bytes()) {
                continue;
            }
            if prediction(entry).is_some_and(|found| found.namespace.as_ref() == Some(namespace)) {
                let (gateway, envelope) = (gateway.to_owned(), entry.data.clone());
                return Ok(Some(Found { gateway, sequence: entry.sequence, envelope }));
            }
        }
        match entries.last() {
            Some(last) if last.at <= late => next = last.sequence + 1,
            _ => return Ok(None),
        }
    }
}

/// The batch of a recorded envelope.
pub(crate) struct Sealed {
    commitments: Vec<Hash>,
    /// Where the envelope stands among them.
    index: u64,
    receipt: rpc::registry::Receipt,
}

impl Sealed {
    /// Whether the envelope is the one that was recorded here.
    pub(crate) fn holds(&self, envelope: &[u8]) -> bool {
        let place = usize::try_from(self.index).ok().and_then(|index| self.commitments.get(index));
        place == Some(&batch::commitment(envelope))
    }
}

/// The batch of a recorded envelope, once it has its record.
pub(crate) async fn batch_of(ring: &Ring, gateway: &str, sequence: u64) -> Result<Option<Sealed>, Refusal> {
    let found = Seal::of(&*ring.streams, &batches(gateway), sequence).await?;
    let Some(Seal::Batch { first, receipt, commitments: text, .. }) = found else { return Ok(None) };
    let known = commitments(&text).ok_or_else(|| Refusal::new(Code::StorageUnavailable, "a batch is not whole"))?;
    Ok(Some(Sealed { commitments: known, index: sequence - first, receipt }))
}

/// Proves that a prediction was recorded, and as what.
///
/// # Errors
/// `prediction_not_found`; `ledger_invalid` when the event is not the one that was recorded.
pub(crate) async fn prove(ring: &Ring, namespace: &Namespace, id: PredictionId) -> Result<EventProof, Refusal> {
    let due = Instant::now() + PATIENCE;
    let (found, sealed) = loop {
        // It may be on its way; one that was made long ago is not.
        let last = Instant::now() >= due || !fresh(ring, id);
        let found = if last { find(ring, namespace, id).await } else { find_soon(ring, namespace, id).await };
        let sealed = match found {
            Ok(found) => batch_of(ring, &found.gateway, found.sequence).await?.map(|batch| (found, batch)),
            Err(refusal) if last => return Err(refusal),
            Err(_) => None,
        };
        match sealed {
            Some(sealed) => break sealed,
            // The last look decides whether it is there at all.
            None if last => {
                return Err(Refusal::new(Code::StorageUnavailable, "the prediction has no ledger record yet")
                    .hint("ask again in a moment; if it stays so, look at the node's log"));
            }
            None => sleep(Duration::from_millis(50)).await,
        }
    };
    let broken = |error: &dyn std::fmt::Debug| Refusal::new(Code::Internal, format!("no proof can be made: {error:?}"));
    if !sealed.holds(&found.envelope) {
        return Err(Refusal::new(Code::LedgerInvalid, format!("prediction `{id}` is not as it was recorded"))
            .hint("the events file was changed: keep a copy of the data directory as evidence"));
    }
    let leaf = ring.registry.prove_record(sealed.receipt).await?;
    let (nonce, event) = found.envelope.split_at(batch::NONCE.min(found.envelope.len()));
    Ok(EventProof {
        event: String::from_utf8(event.to_vec()).map_err(|error| broken(&error))?,
        nonce: hex::encode(nonce),
        batch: Batch::over(&sealed.commitments)
            .and_then(|batch| batch.prove(sealed.index))
            .map_err(|error| broken(&error))?,
        record: leaf.record,
        log: Inclusion {
            index: leaf.index,
            size: leaf.size,
            path: leaf.path.into_iter().map(|hash| Hash(hash.0)).collect(),
        },
        checkpoint: leaf.checkpoint,
    })
}

fn fresh(ring: &Ring, id: PredictionId) -> bool {
    let now = ring.clock.now();
    id.made().is_some_and(|made| now.since(made).max(made.since(now)) < PATIENCE * 2)
}

/// Erases one prediction; returns how many went.
///
/// # Errors
/// `prediction_not_found`, or a stream that can't be written.
pub(crate) async fn forget(ring: &Ring, namespace: &Namespace, id: PredictionId) -> Result<u64, Refusal> {
    let found = find(ring, namespace, id).await?;
    let stream = predictions(&found.gateway);
    ring.streams.erase(&stream, &[found.sequence]).await?;
    erase_copies(&*ring.streams, &stream, found.sequence, id).await?;
    erase_labels(&*ring.streams, &HashSet::from([id])).await?;
    Ok(1)
}

/// Erases what a version answered to a copy of a prediction: that was stored at about the same time.
async fn erase_copies(streams: &dyn Streams, stream: &str, about: u64, id: PredictionId) -> Result<(), Refusal> {
    let (mut next, mut late) = (about.saturating_sub(PAGE.into()), None);
    loop {
        let entries = streams.read(stream, next, PAGE).await?;
        let is_copy = |entry: &&Entry| prediction(entry).is_some_and(|found| found.shadow_of == Some(id));
        let gone: Vec<u64> = entries.iter().filter(is_copy).map(|entry| entry.sequence).collect();
        if !gone.is_empty() {
            streams.erase(stream, &gone).await?;
        }
        let passed = entries.iter().find(|entry| entry.sequence >= about);
        late = late.or(passed.map(|entry| entry.at.plus(COPY)));
        match entries.last() {
            Some(last) if late.is_none_or(|late| last.at <= late) => next = last.sequence + 1,
            _ => return Ok(()),
        }
    }
}

/// Erases every prediction of a caller; returns how many went. Reads all that is kept.
///
/// # Errors
/// A stream that can't be read or written.
pub(crate) async fn forget_caller(ring: &Ring, namespace: &Namespace, caller: &CallerName) -> Result<u64, Refusal> {
    let theirs = |_: &Entry, found: &Prediction| {
        found.namespace.as_ref() == Some(namespace) && found.caller.as_ref() == Some(caller)
    };
    let mut erased = HashSet::new();
    for gateway in gateways(&*ring.streams).await? {
        erased.extend(erase(&*ring.streams, &predictions(&gateway), theirs).await?);
    }
    erase_labels(&*ring.streams, &erased).await?;
    Ok(erased.len() as u64)
}

/// Erases what was said of predictions: their labels, and what became of those. Reads all that is kept.
///
/// # Errors
/// A stream that can't be read or written.
pub(crate) async fn erase_labels(streams: &dyn Streams, erased: &HashSet<PredictionId>) -> Result<(), Refusal> {
    /// All of these entries name their prediction.
    #[derive(Deserialize)]
    struct About {
        prediction: PredictionId,
    }
    if erased.is_empty() {
        return Ok(());
    }
    for prefix in [feedback(""), JOINED.to_owned()] {
        for stream in streams.names(&prefix).await? {
            let mut next = 0;
            loop {
                let entries = streams.read(&stream, next, PAGE).await?;
                let Some(last) = entries.last() else { break };
                next = last.sequence + 1;
                let about = |entry: &&Entry| {
                    serde_json::from_slice::<About>(&entry.data).is_ok_and(|about| erased.contains(&about.prediction))
                };
                let gone: Vec<u64> = entries.iter().filter(about).map(|entry| entry.sequence).collect();
                if !gone.is_empty() {
                    streams.erase(&stream, &gone).await?;
                }
            }
        }
    }
    Ok(())
}

/// Erases every prediction of a stream that is meant; returns which went. Reads all that is kept.
///
/// # Errors
/// A stream that can't be read or written.
pub(crate) async fn erase(
    streams: &dyn Streams,
    stream: &str,
    meant: impl Fn(&Entry, &Prediction) -> bool + Send,
) -> Result<Vec<PredictionId>, Refusal> {
    let (mut next, mut erased) = (0, Vec::new());
    loop {
        let entries = streams.read(stream, next, PAGE).await?;
        let Some(last) = entries.last() else { return Ok(erased) };
        next = last.sequence + 1;
        let meant = |entry: &Entry| prediction(entry).filter(|found| meant(entry, found));
        let going = entries.iter().filter_map(|entry| Some((entry.sequence, meant(entry)?.prediction)));
        let (gone, ids): (Vec<u64>, Vec<PredictionId>) = going.unzip();
        if !gone.is_empty() {
            streams.erase(stream, &gone).await?;
            erased.extend(ids);
        }
    }
}
