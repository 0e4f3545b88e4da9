//! record: on every exit, an event into a bounded queue; a full queue never slows a prediction.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use access::{Permit, Principal, Resource};
use rpc::Clock;
use sha2::{Digest as _, Sha256};
use store::{Retention, Streams};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use types::{
    Digest, Refusal, Tensor, Timestamp,
    event::{Captured, Event, Gap, Outcome, Prediction},
    manifest::CaptureInput,
};

use super::{Cleared, Head, Reply, Route};
use crate::{Ring, metric::STEPS, ring::Model};

/// The stream of predictions.
pub const STREAM: &str = "predictions";
/// Events per durable write, and the longest one waits for company.
const BATCH: usize = 1_000;
const LINGER: Duration = Duration::from_millis(100);
/// What is kept: 7 days and 1 GiB.
const KEEP: Duration = Duration::from_secs(7 * 86_400);
const KEEP_BYTES: u64 = 1 << 30;
/// How often what is too old goes.
const SWEEP: Duration = Duration::from_secs(60);

/// A prediction on its way through the ring, as it will be recorded.
pub struct Record {
    event: Box<Prediction>,
    entered: (usize, Instant),
    started: Instant,
    model: Option<Arc<Model>>,
}

impl Record {
    /// Opens the record of a call.
    pub fn open(ring: &Ring, head: &Head) -> Self {
        let event = Prediction {
            prediction: head.prediction,
            namespace: None,
            model: None,
            version: None,
            snapshot: None,
            caller: None,
            at: ring.clock.now(),
            steps: Vec::with_capacity(STEPS.len()),
            replica: None,
            rows: 0,
            batch: 0,
            attempts: 0,
            assessment: None,
            outcome: Outcome::Answered,
            shadow_of: None,
            input: Captured::None,
            output: Captured::None,
            sketch: Vec::new(),
        };
        Self { event: Box::new(event), entered: (STEPS.len(), head.received), started: head.received, model: None }
    }

    /// Notes that a step begins, and how long the one before took.
    pub fn enter(&mut self, ring: &Ring, step: &'static str) {
        let now = Instant::now();
        self.leave(ring, now);
        let index = STEPS.iter().position(|known| *known == step).unwrap_or(STEPS.len());
        self.entered = (index, now);
    }

    fn leave(&mut self, ring: &Ring, now: Instant) {
        let (index, since) = self.entered;
        if let Some(step) = STEPS.get(index) {
            let took = now - since;
            ring.metrics.step(index, took);
            let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
            self.event.steps.push(((*step).to_owned(), micros));
        }
    }

    /// Notes who calls.
    pub fn identified(&mut self, principal: &Principal) {
        self.event.namespace = Some(principal.namespace().clone());
        self.event.caller = Some(principal.caller().clone());
    }

    /// Notes what was allowed.
    pub fn authorized(&mut self, permit: &Permit) {
        if let Resource::Model(_, name) = permit.resource() {
            self.event.model = Some(name.clone());
        }
    }

    /// Notes what came in.
    pub fn cleared(&mut self, cleared: &Cleared) {
        self.event.rows = cleared.request().rows();
        self.event.batch = self.event.rows;
        self.model = Some(cleared.model().clone());
        if cleared.model().route.manifest.spec.capture.input != CaptureInput::None {
            self.event.input = Captured::Digest(digest(&cleared.request().inputs));
        }
    }

    /// Notes which version answers.
    pub fn routed(&mut self, route: &Route) {
        self.event.version = Some(route.version());
    }

    /// Closes the record, whatever happened.
    pub fn close(mut self, ring: &Ring, outcome: &Result<Reply, Refusal>) {
        let step = self.entered.0;
        self.enter(ring, "record");
        match outcome {
            Ok(reply) => {
                self.event.replica = Some(reply.replica().to_owned());
                self.event.attempts = reply.attempts();
                self.event.output = Captured::Digest(digest(&reply.response().outputs));
                let (took, compute) = (self.started.elapsed(), reply.response().compute);
                reply.model().statistics.answered(took, compute, self.event.rows, self.event.at);
            }
            Err(refusal) => {
                self.event.outcome = Outcome::Refused(refusal.code);
                ring.metrics.refused(step, refusal.code);
                if let Some(model) = &self.model {
                    model.statistics.failed(self.started.elapsed());
                }
            }
        }
        ring.metrics.finished(outcome.is_ok(), self.started.elapsed());
        self.leave(ring, Instant::now());
        if !ring.recorder.take(Event::Prediction(self.event)) {
            ring.metrics.lost();
        }
    }
}

/// SHA-256 over names, types, shapes and bytes.
fn digest(tensors: &[Tensor]) -> Digest {
    let mut hasher = Sha256::new();
    for tensor in tensors {
        hasher.update((tensor.name().len() as u64).to_le_bytes());
        hasher.update(tensor.name().as_bytes());
        hasher.update(tensor.datatype().as_str().as_bytes());
        hasher.update((tensor.shape().len() as u64).to_le_bytes());
        tensor.shape().iter().for_each(|dimension| hasher.update(dimension.to_le_bytes()));
        hasher.update(tensor.data());
    }
    Digest(hasher.finalize().into())
}

/// Takes events in and stores them in batches.
pub(crate) struct Recorder {
    queue: mpsc::Sender<Entry>,
    lost: Arc<AtomicU64>,
}

enum Entry {
    Event(Box<Event>),
    Flush(oneshot::Sender<()>),
}

impl Recorder {
    /// Starts the task that stores events; it ends when the recorder is dropped. At most `queue` events wait.
    pub(crate) fn start(streams: Arc<dyn Streams>, clock: Clock, queue: usize) -> Self {
        let (sender, receiver) = mpsc::channel(queue);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer { streams, clock, lost: lost.clone(), swept: Instant::now() };
        tokio::spawn(writer.run(receiver));
        Self { queue: sender, lost }
    }

    /// Takes an event in; false when the queue is full, and then a gap is recorded instead.
    fn take(&self, event: Event) -> bool {
        let taken = self.queue.try_send(Entry::Event(Box::new(event))).is_ok();
        if !taken {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.queue.send(Entry::Flush(done)).await.is_ok() {
            // The writer answers or is gone; either way nothing is left to wait for.
            let _ = flushed.await;
        }
    }
}

struct Writer {
    streams: Arc<dyn Streams>,
    clock: Clock,
    lost: Arc<AtomicU64>,
    swept: Instant,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Entry>) {
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(entry) = queue.recv().await {
            let due = Instant::now() + LINGER;
            let mut flushed = Vec::new();
            take(entry, &mut batch, &mut flushed);
            while batch.len() < BATCH && flushed.is_empty() {
                match tokio::time::timeout_at(due, queue.recv()).await {
                    Ok(Some(entry)) => take(entry, &mut batch, &mut flushed),
                    _ => break,
                }
            }
            self.store(std::mem::take(&mut batch)).await;
            for done in flushed {
                // Nobody waits any more: fine.
                let _ = done.send(());
            }
            self.sweep().await;
        }
    }

    async fn store(&self, events: Vec<Event>) {
        let now = self.clock.now();
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let gap = (lost > 0).then(|| Event::Gap(Gap { lost, reason: "the queue was full".into(), at: now }));
        let count = events.len() as u64;
        let entries: Vec<Vec<u8>> =
            events.iter().chain(gap.iter()).filter_map(|event| serde_json::to_vec(event).ok()).collect();
        if entries.is_empty() {
            return;
        }
        if let Err(error) = self.streams.append(STREAM, now, entries).await {
            tracing::error!(%error, events = count, "events could not be stored; predictions go on");
            self.lost.fetch_add(lost + count, Ordering::Relaxed);
        }
    }

    async fn sweep(&mut self) {
        if self.swept.elapsed() < SWEEP {
            return;
        }
        self.swept = Instant::now();
        let keep = u64::try_from(KEEP.as_millis()).unwrap_or(u64::MAX);
        let not_before = Timestamp(self.clock.now().0.saturating_sub(keep));
        if let Err(error) = self.streams.retain(STREAM, Retention { not_before, bytes: KEEP_BYTES }).await {
            tracing::warn!(%error, "old events could not be dropped");
        }
    }
}

fn take(entry: Entry, batch: &mut Vec<Event>, flushed: &mut Vec<oneshot::Sender<()>>) {
    match entry {
        Entry::Event(event) => batch.push(*event),
        Entry::Flush(done) => flushed.push(done),
    }
}

/// Counts of one model since the gateway started, for the protocol's statistics.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    pub(crate) success: Total,
    pub(crate) fail: Total,
    pub(crate) compute: Total,
    pub(crate) rows: AtomicU64,
    pub(crate) last: AtomicU64,
}

/// A count and a sum of times.
#[derive(Debug, Default)]
pub(crate) struct Total {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl Total {
    fn add(&self, took: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many, and how many nanoseconds in all.
    pub(crate) fn get(&self) -> (u64, u64) {
        (self.count.load(Ordering::Relaxed), self.nanos.load(Ordering::Relaxed))
    }
}

impl Statistics {
    fn answered(&self, took: Duration, compute: Duration, rows: u64, at: Timestamp) {
        self.last.store(at.0, Ordering::Relaxed);
        self.success.add(took);
        self.compute.add(compute);
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    fn failed(&self, took: Duration) {
        self.fail.add(took);
    }
}
