//! The task behind `record`: events become envelopes, envelopes become batches, each batch one ledger record.
//!
//! Nothing here slows a prediction. When the disk is full or the registry is away, predictions go on: what can't
//! be stored is counted and becomes a gap record as soon as there is somebody to take it; what is stored and has
//! no record yet gets one later, also after a crash.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use access::token::random;
use ledger::{
    Hash, Record,
    batch::{self, Batch},
};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use rpc::{
    Clock, Registry,
    registry::{ReadLedger, RecordBatch, RecordGap},
};
use store::{Keyed, Streams};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use types::{
    Digest, Refusal,
    event::{Event, Gap},
};

use super::{
    key,
    seal::{Seal, batches, predictions},
    state::State,
    sweep,
};

/// Events per batch, and the longest one waits for company.
const BATCH: usize = 1_000;
const LINGER: Duration = Duration::from_millis(100);
/// How often envelopes without a record are looked for when nothing comes in.
const LOOK: Duration = Duration::from_secs(5);
/// Records of the ledger that are read at a time.
const LEDGER: u32 = 5_000;
/// How long to wait after a store or the registry failed, before envelopes without a record get one.
const AGAIN: Duration = Duration::from_secs(2);

/// What the writer works with.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) gateway: String,
    pub(crate) streams: Arc<dyn Streams>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) clock: Clock,
    /// What is kept of a stream.
    pub(crate) keep: (Duration, u64),
}

/// Takes events in and stores them in batches.
#[derive(Clone)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Entry>,
    lost: Arc<AtomicU64>,
}

pub(super) enum Entry {
    Event(Box<Event>),
    /// One that somebody waits for.
    Owed(Box<Event>, oneshot::Sender<bool>),
    Close(oneshot::Sender<()>),
}

impl Recorder {
    /// Starts the task that stores events; it ends when the recorder is closed, or all its clones are dropped. At most `queue` events
    /// wait.
    pub(crate) fn start(stores: Stores, queue: usize) -> Self {
        let (sender, receiver) = mpsc::channel(queue);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            stores,
            lost: lost.clone(),
            nonces: ChaCha20Rng::from_seed(*random()),
            next: None,
            again: Instant::now(),
            opened: Opened::No,
            state: State::new(),
        };
        let sweeper = sweep::run(writer.stores.clone(), sender.downgrade());
        tokio::spawn(writer.run(receiver));
        tokio::spawn(sweeper);
        Self { queue: sender, lost }
    }

    /// Takes an event in; false when the queue is full, and then a gap is recorded instead.
    pub(crate) fn take(&self, event: Event) -> bool {
        let taken = self.queue.try_send(Entry::Event(Box::new(event))).is_ok();
        if !taken {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Takes an event in and waits until it is stored; false when it is not by the deadline.
    pub(crate) async fn store(&self, event: Event, deadline: Instant) -> bool {
        let (done, stored) = oneshot::channel();
        let waited = async {
            match self.queue.send(Entry::Owed(Box::new(event), done)).await {
                Ok(()) => stored.await.unwrap_or(false),
                Err(_) => false,
            }
        };
        // What comes too late is stored all the same; nobody can be told.
        tokio::time::timeout_at(deadline, waited).await.unwrap_or(false)
    }

    /// Stores every event accepted so far, and ends.
    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Entry::Close(done)).await.is_ok() {
            // The writer answers or is gone; either way nothing is left to wait for.
            let _ = closed.await;
        }
    }
}

struct Writer {
    stores: Stores,
    lost: Arc<AtomicU64>,
    nonces: ChaCha20Rng,
    /// The first envelope without a record, once it is known.
    next: Option<u64>,
    /// Not before this is tried again what failed.
    again: Instant,
    /// How far this start is noted.
    opened: Opened,
    state: State,
}

/// How far a start is noted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opened {
    No,
    /// What an earlier process lost is on its way to the ledger.
    Lost,
    /// The start stands in the stream of batches.
    Yes,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Entry>) {
        self.catch_up().await;
        let mut batch = Vec::with_capacity(BATCH);
        let (mut owed, mut closing) = (Vec::new(), None);
        while closing.is_none() {
            match tokio::time::timeout(LOOK, queue.recv()).await {
                Ok(None) => break,
                Ok(Some(entry)) => {
                    take(entry, &mut batch, &mut owed, &mut closing);
                    let due = Instant::now() + LINGER;
                    while batch.len() < BATCH && closing.is_none() {
                        // Whoever waits does not wait for company.
                        let due = if owed.is_empty() { due } else { Instant::now() };
                        match tokio::time::timeout_at(due, queue.recv()).await {
                            Ok(Some(entry)) => take(entry, &mut batch, &mut owed, &mut closing),
                            _ => break,
                        }
                    }
                }
                Err(_) => {}
            }
            let stored = self.store(&mut batch).await;
            for owed in owed.drain(..) {
                // Whoever waited may have given up.
                let _ = owed.send(stored);
            }
        }
        self.again = Instant::now();
        self.catch_up().await;
        if let (Some(next), 0) = (self.next, self.lost.load(Ordering::Relaxed)) {
            let mark = Seal::Closed { next }.to_bytes();
            self.append(&batches(&self.stores.gateway), vec![mark]).await.ok();
        }
        if let Some(done) = closing {
            // Nobody waits any more: fine.
            let _ = done.send(());
        }
    }

    async fn append(&self, stream: &str, entries: Vec<Vec<u8>>) -> Result<u64, Refusal> {
        Ok(self.stores.streams.append(stream, self.stores.clock.now(), entries).await?)
    }

    /// Stores events and gives them a record; says whether they are stored.
    async fn store(&mut self, events: &mut Vec<Event>) -> bool {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 {
            let gap =
                Gap { lost, reason: "the queue was full or could not be stored".into(), at: self.stores.clock.now() };
            events.push(Event::Gap(gap));
        }
        let count = events.len() as u64;
        let key = |event: &Event| if let Event::Prediction(prediction) = event { key::of(prediction) } else { None };
        let bytes = events.drain(..).filter_map(|event| Some((serde_json::to_vec(&event).ok()?, key(&event))));
        let envelopes: Vec<Keyed> = bytes
            .map(|(event, key)| {
                let mut nonce = [0; batch::NONCE];
                self.nonces.fill_bytes(&mut nonce);
                (batch::envelope(nonce, &event), key)
            })
            .collect();
        if envelopes.is_empty() {
            self.catch_up_when_due().await;
            return true;
        }
        let commitments: Vec<Hash> = envelopes.iter().map(|(envelope, _)| batch::commitment(envelope)).collect();
        let (stream, now) = (predictions(&self.stores.gateway), self.stores.clock.now());
        let stored = self.stores.streams.append_keyed(&stream, now, envelopes);
        match stored.await.map_err(Refusal::from) {
            Err(refusal) => {
                // The gap event of this round, if any, is made anew from the count.
                let count = count - u64::from(lost > 0);
                self.lost.fetch_add(count, Ordering::Relaxed);
                self.state.fails(&refusal, count);
                false
            }
            Ok(first) => {
                if self.next != Some(first) {
                    // Envelopes lie between: all of them get their record together.
                    self.next = None;
                    self.catch_up_when_due().await;
                    return true;
                }
                match self.seal(first, &commitments, lost).await {
                    Ok(()) => self.state.works(),
                    Err(refusal) => self.put_off(&refusal),
                }
                true
            }
        }
    }

    /// Gives the envelopes from `first` on a record, and says how many events were lost before them.
    async fn seal(&mut self, first: u64, commitments: &[Hash], lost: u64) -> Result<(), Refusal> {
        let actor = format!("gateway:{}", self.stores.gateway);
        if lost > 0 {
            let reason = "the queue was full, or the disk".to_owned();
            self.stores.registry.record_gap(RecordGap { actor: actor.clone(), lost: Some(lost), reason }).await?;
            self.lost.fetch_sub(lost, Ordering::Relaxed);
        }
        let root = Batch::over(commitments)
            .and_then(|batch| batch.root())
            .map_err(|error| Refusal::new(types::Code::Internal, format!("a batch has no root: {error:?}")))?;
        let count = commitments.len() as u64;
        let receipt = self.stores.registry.record_batch(RecordBatch { actor, count, root: Digest(root.0) }).await?;
        let seal = Seal::batch(first, commitments, receipt);
        self.append(&batches(&self.stores.gateway), vec![seal.to_bytes()]).await?;
        self.next = Some(seal.next());
        Ok(())
    }

    async fn catch_up_when_due(&mut self) {
        if self.next.is_none() && self.again <= Instant::now() {
            self.catch_up().await;
        }
    }

    /// Gives every stored envelope a record that has none: at start, and after a failure.
    async fn catch_up(&mut self) {
        match self.try_catch_up().await {
            Ok(()) => self.state.works(),
            Err(refusal) => self.put_off(&refusal),
        }
    }

    /// Leaves what has no record for later.
    fn put_off(&mut self, refusal: &Refusal) {
        self.state.fails(refusal, 0);
        self.next = None;
        self.again = Instant::now() + AGAIN;
    }

    /// Says on the ledger what an earlier process lost: what was on its way when it was killed, or all of its events.
    async fn note_lost(&self, newest: Option<&Seal>, marks: &str) -> Result<(), Refusal> {
        let actor = format!("gateway:{}", self.stores.gateway);
        let reason = match newest {
            Some(Seal::Opened { .. } | Seal::Batch { .. }) => {
                "the gateway ended without warning: events on their way are lost, uncounted"
            }
            None if self.stores.streams.next(marks).await? == 1
                && has_recorded(&*self.stores.registry, &actor).await? =>
            {
                tracing::warn!(
                    "events of earlier predictions are gone, and can't be proved any more: was events.db lost?"
                );
                "all events recorded before this are gone, with their file"
            }
            _ => return Ok(()),
        };
        self.stores.registry.record_gap(RecordGap { actor, lost: None, reason: reason.to_owned() }).await?;
        Ok(())
    }

    async fn try_catch_up(&mut self) -> Result<(), Refusal> {
        let (events, marks) = (predictions(&self.stores.gateway), batches(&self.stores.gateway));
        let newest = Seal::newest(&*self.stores.streams, &marks).await?;
        let mut next = newest.as_ref().map_or(1, Seal::next);
        if self.opened == Opened::No {
            self.note_lost(newest.as_ref(), &marks).await?;
            self.opened = Opened::Lost;
        }
        if self.opened == Opened::Lost {
            self.append(&marks, vec![Seal::Opened { next }.to_bytes()]).await?;
            self.opened = Opened::Yes;
        }
        let end = self.stores.streams.next(&events).await?;
        while next < end {
            let limit = u32::try_from(BATCH as u64).unwrap_or(u32::MAX);
            let entries = self.stores.streams.read(&events, next, limit).await?;
            let Some(first) = entries.first().map(|entry| entry.sequence) else { break };
            let commitments: Vec<Hash> = entries.iter().map(|entry| batch::commitment(&entry.data)).collect();
            self.seal(first, &commitments, self.lost.load(Ordering::Relaxed)).await?;
            next = first + commitments.len() as u64;
        }
        self.next = Some(next.max(end));
        Ok(())
    }
}

/// Whether the ledger has records of this actor, looked for from its end.
async fn has_recorded(registry: &dyn Registry, actor: &str) -> Result<bool, Refusal> {
    let read = async |from: u64, limit| registry.ledger(ReadLedger { from, limit, namespace: None }).await;
    let mut end = read(0, 0).await?.size;
    while end > 0 {
        let from = end.saturating_sub(LEDGER.into());
        let limit = u32::try_from(end - from).unwrap_or(LEDGER);
        let page = read(from, limit).await?;
        let theirs = |line: &String| serde_json::from_str::<Record>(line).is_ok_and(|record| record.actor == actor);
        if page.records.iter().any(theirs) {
            return Ok(true);
        }
        end = from;
    }
    Ok(false)
}

fn take(
    entry: Entry,
    batch: &mut Vec<Event>,
    owed: &mut Vec<oneshot::Sender<bool>>,
    closing: &mut Option<oneshot::Sender<()>>,
) {
    match entry {
        Entry::Event(event) => batch.push(*event),
        Entry::Owed(event, done) => {
            batch.push(*event);
            owed.push(done);
        }
        Entry::Close(done) => *closing = Some(done),
    }
}
