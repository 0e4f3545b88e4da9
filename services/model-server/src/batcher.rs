//! The queue of a loaded model, its sessions, and a worker thread for each: a free one takes the next batch.
//!
//! Where nobody waits and the model takes less time than waking a worker would, whoever asks runs it on the spot.
//!
//! First come, first served: a batch is always the front of the queue, as many as [`balance::batch`] says of those in
//! a row that can be joined. Who goes away while waiting leaves the queue and costs nothing.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use balance::batch::{self, Batcher, Crowd};
use ort::session::Session;
use parking_lot::{Condvar, Mutex};
use tokio::{sync::oneshot, time::Instant};
use types::{
    Code, Refusal,
    infer::{InferRequest, InferResponse, ModelMetadata},
};

use crate::{inference, stand::Mark};

/// Bytes of inputs that are joined, at most: beyond, copying and the model's own memory outweigh what a batch saves.
const JOINED: usize = 8 << 20;

/// What a run may take to be done on the spot: a thread that others wait for is held up no longer than this. Waking a worker
/// and being woken by it takes some tens of microseconds each way.
pub(crate) const QUICK: Duration = Duration::from_micros(100);
/// Rows that are run on the spot, at most: what a run takes is known of runs like those before.
const FEW: u64 = 4;
/// Share of a new run in the mean.
const FRESH: f64 = 0.1;

/// Workers with the queue they share. Dropped, it closes the queue; they end after what they hold.
pub(crate) struct Pool {
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
}

/// Where requests of one model wait.
pub(crate) struct Queue {
    metadata: ModelMetadata,
    sessions: u64,
    state: Mutex<State>,
    arrived: Condvar,
}

struct State {
    /// Sessions with nothing to do.
    free: Vec<Session>,
    waiting: VecDeque<Waiting>,
    /// Rows of all that wait.
    rows: u64,
    /// Who comes next; tickets rise from front to back.
    ticket: u64,
    /// Workers that wait to be woken.
    idle: u64,
    open: bool,
    /// What a run takes, on average; nothing before the first.
    took: Option<Duration>,
    /// `None` where requests can't share a batch.
    batcher: Option<Batcher>,
}

struct Waiting {
    ticket: u64,
    since: Instant,
    rows: u64,
    bytes: usize,
    request: InferRequest,
    /// Where it is counted, if it is.
    mark: Option<Mark>,
    answer: oneshot::Sender<Result<InferResponse, Refusal>>,
}

impl Pool {
    /// Starts a worker for each session.
    pub(crate) fn start(
        sessions: Vec<Session>,
        metadata: ModelMetadata,
        batcher: Option<Batcher>,
    ) -> Result<Self, Refusal> {
        let count = sessions.len();
        let state = State {
            free: sessions,
            waiting: VecDeque::new(),
            rows: 0,
            ticket: 0,
            idle: 0,
            open: true,
            took: None,
            batcher,
        };
        let queue = Queue {
            metadata,
            sessions: u64::try_from(count).unwrap_or(u64::MAX),
            state: Mutex::new(state),
            arrived: Condvar::new(),
        };
        let mut pool = Self { queue: Arc::new(queue), workers: Vec::with_capacity(count) };
        for number in 0..count {
            let queue = pool.queue.clone();
            let worker = thread::Builder::new().name(format!("session-{number}")).spawn(move || queue.work());
            let failed = |error| Refusal::new(Code::LoadFailed, format!("a worker can't be started: {error}"));
            pool.workers.push(worker.map_err(failed)?);
        }
        Ok(pool)
    }

    /// Where to wait.
    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Whether every worker is there.
    pub(crate) fn whole(&self) -> bool {
        self.workers.iter().all(|worker| !worker.is_finished())
    }

    /// Closes the queue and waits for the workers, whatever they run.
    pub(crate) fn join(mut self) {
        self.queue.close();
        for worker in self.workers.drain(..) {
            // One that was lost has said so already.
            let _ = worker.join();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Queue {
    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// The answer: on the spot, or by a worker. Dropped before that, the request leaves the queue.
    pub(crate) async fn infer(&self, request: InferRequest, mark: Option<&Mark>) -> Result<InferResponse, Refusal> {
        // A statement of its own: the lock must not last as long as the run.
        let claimed = self.state.lock().claim(request.rows());
        if let Some(session) = claimed {
            mark.inspect(|mark| mark.began());
            return self.infer_here(session, &request);
        }
        let (ticket, answer) = self.enter(request, mark.cloned())?;
        let mut place = Place { queue: self, ticket: Some(ticket) };
        let outcome = answer.await;
        place.ticket = None;
        outcome.map_err(|_| Refusal::new(Code::Internal, "a worker of the model server was lost"))?
    }

    fn infer_here(&self, mut session: Session, request: &InferRequest) -> Result<InferResponse, Refusal> {
        let started = Instant::now();
        let outcome = self.infer_now(&mut session, &[request]);
        let ran = outcome.is_ok().then(|| (request.rows(), started.elapsed()));
        let mut state = self.state.lock();
        let unneeded = state.put_back(session, ran);
        let wake = state.idle > 0 && !state.waiting.is_empty();
        drop(state);
        drop(unneeded);
        if wake {
            self.arrived.notify_one();
        }
        let answer = outcome?.pop();
        let answer = answer.map(|answer| InferResponse { queued: Some(Duration::ZERO), ..answer });
        answer.ok_or_else(|| Refusal::new(Code::Internal, "a request was run and has no answer"))
    }

    fn enter(
        &self,
        request: InferRequest,
        mark: Option<Mark>,
    ) -> Result<(u64, oneshot::Receiver<Result<InferResponse, Refusal>>), Refusal> {
        let (answer, receiver) = oneshot::channel();
        let (rows, bytes) = (request.rows(), request.inputs.iter().map(|input| input.data().len()).sum());
        let since = Instant::now();
        let mut state = self.state.lock();
        if !state.open {
            return Err(unloaded());
        }
        let ticket = state.ticket;
        state.ticket += 1;
        state.rows = state.rows.saturating_add(rows);
        state.waiting.push_back(Waiting { ticket, since, rows, bytes, request, mark, answer });
        let wake = state.idle > 0;
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
        Ok((ticket, receiver))
    }

    fn leave(&self, ticket: u64) {
        let mut state = self.state.lock();
        if let Ok(place) = state.waiting.binary_search_by_key(&ticket, |waiting| waiting.ticket) {
            let gone = state.waiting.remove(place);
            state.rows = state.rows.saturating_sub(gone.as_ref().map_or(0, |gone| gone.rows));
            // What it holds is freed without the lock.
            drop(state);
        }
    }

    fn close(&self) {
        let mut state = self.state.lock();
        state.open = false;
        state.rows = 0;
        let (waiting, free) = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.free));
        drop(state);
        drop(free);
        self.arrived.notify_all();
        for waiting in waiting {
            let _ = waiting.answer.send(Err(unloaded()));
        }
    }

    fn work(&self) {
        let mut ran = None;
        while let Some((mut session, batch)) = self.next(ran.take()) {
            let took = self.run(&mut session, batch);
            ran = Some((session, took));
        }
    }

    /// Gives a session back with what its batch took, and waits for the next one; `None` once the queue is closed.
    fn next(&self, ran: Option<(Session, Option<(u64, Duration)>)>) -> Option<(Session, Vec<Waiting>)> {
        let mut state = self.state.lock();
        let unneeded = ran.and_then(|(session, took)| state.put_back(session, took));
        if unneeded.is_some() {
            // Letting go of a session takes its time.
            drop(state);
            drop(unneeded);
            state = self.state.lock();
        }
        loop {
            if let Some(next) = state.take(self.sessions) {
                return Some(next);
            }
            if !state.open {
                return None;
            }
            state.idle += 1;
            self.arrived.wait(&mut state);
            state.idle -= 1;
        }
    }

    /// Runs and answers a batch; returns its rows and how long it took, if it went well.
    fn run(&self, session: &mut Session, batch: Vec<Waiting>) -> Option<(u64, Duration)> {
        let started = Instant::now();
        batch.iter().filter_map(|waiting| waiting.mark.as_ref()).for_each(Mark::began);
        let requests: Vec<&InferRequest> = batch.iter().map(|waiting| &waiting.request).collect();
        let outcome = self.infer_now(session, &requests);
        let took = started.elapsed();
        let rows = batch.iter().map(|waiting| waiting.rows).sum();
        match outcome {
            Ok(answers) => {
                for (waiting, answer) in batch.into_iter().zip(answers) {
                    let queued = Some(started.saturating_duration_since(waiting.since));
                    let _ = waiting.answer.send(Ok(InferResponse { queued, ..answer }));
                }
                return Some((rows, took));
            }
            Err(refusal) if requests.len() == 1 => {
                for waiting in batch {
                    let _ = waiting.answer.send(Err(refusal.clone()));
                }
            }
            Err(refusal) => self.run_apart(session, batch, &refusal),
        }
        None
    }

    /// One by one, so that a request pays only for itself.
    fn run_apart(&self, session: &mut Session, batch: Vec<Waiting>, refusal: &Refusal) {
        let rows = batch.iter().map(|waiting| waiting.rows).sum();
        let mut failed = 0;
        for waiting in batch.into_iter().filter(|waiting| !waiting.answer.is_closed()) {
            let outcome = self.infer_now(session, &[&waiting.request]).map(|mut answers| answers.pop());
            let outcome = outcome.and_then(|answer| {
                answer.ok_or_else(|| Refusal::new(Code::Internal, "a request was run and has no answer"))
            });
            failed += u64::from(outcome.is_err());
            let _ = waiting.answer.send(outcome);
        }
        // Nobody's fault but the batch's.
        if failed == 0
            && let Some(batcher) = &mut self.state.lock().batcher
        {
            tracing::warn!(%refusal, rows, "a batch failed and its requests did not: smaller batches from now on");
            batcher.too_large(rows);
        }
    }

    /// A panic in the runtime's wrapper costs its batch, not the worker.
    fn infer_now(&self, session: &mut Session, requests: &[&InferRequest]) -> Result<Vec<InferResponse>, Refusal> {
        catch_unwind(AssertUnwindSafe(|| inference::run(session, &self.metadata, requests)))
            .unwrap_or_else(|_| Err(Refusal::new(Code::Internal, "a worker of the model server failed")))
    }
}

impl State {
    /// A session for so few rows that waking a worker would take longer than running them.
    fn claim(&mut self, rows: u64) -> Option<Session> {
        let quick = rows <= FEW && self.took.is_some_and(|took| took <= QUICK);
        if quick && self.open && self.waiting.is_empty() { self.free.pop() } else { None }
    }

    /// Takes a session back, with what it ran and how long that took; hands it on where it is not needed any more.
    fn put_back(&mut self, session: Session, ran: Option<(u64, Duration)>) -> Option<Session> {
        if let Some((rows, took)) = ran {
            self.took = Some(self.took.map_or(took, |mean| mean.mul_f64(1.0 - FRESH) + took.mul_f64(FRESH)));
            if let Some(batcher) = &mut self.batcher {
                batcher.observe(rows, took);
            }
        }
        if !self.open {
            return Some(session);
        }
        self.free.push(session);
        None
    }

    /// A session, and the front of the queue: as much as is to be run together.
    fn take(&mut self, sessions: u64) -> Option<(Session, Vec<Waiting>)> {
        let batch = self.batch(sessions, u64::try_from(self.free.len()).ok().filter(|free| *free > 0)?)?;
        Some((self.free.pop()?, batch))
    }

    fn batch(&mut self, sessions: u64, free: u64) -> Option<Vec<Waiting>> {
        let head = &self.waiting.front()?.request;
        let taken = match &mut self.batcher {
            Some(batcher) if self.waiting.len() > 1 => {
                let (now, mut bytes) = (Instant::now(), 0_usize);
                let fitting = self.waiting.iter().take_while(|waiting| {
                    bytes = bytes.saturating_add(waiting.bytes);
                    bytes <= JOINED && inference::fits(head, &waiting.request)
                });
                let waiting = |waiting: &Waiting| batch::Waiting { rows: waiting.rows, waited: now - waiting.since };
                let crowd = Crowd { rows: self.rows, free, sessions };
                batcher.choose(fitting.map(waiting), crowd).max(1)
            }
            _ => 1,
        };
        let batch: Vec<Waiting> = self.waiting.drain(..taken.min(self.waiting.len())).collect();
        self.rows = self.rows.saturating_sub(batch.iter().map(|waiting| waiting.rows).sum());
        Some(batch)
    }
}

/// A place in the queue, given back when its owner goes away.
struct Place<'a> {
    queue: &'a Queue,
    ticket: Option<u64>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.queue.leave(ticket);
        }
    }
}

fn unloaded() -> Refusal {
    Refusal::new(Code::ModelNotReady, "the model was unloaded")
}

#[cfg(test)]
mod tests;
