//! Answers of a streaming model: its state is read by as many as ask, and replaced as a whole.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};
use types::{
    Code, Refusal,
    infer::{InferRequest, InferResponse},
};

use crate::batcher::QUICK;

/// What a row is taken to cost before one was answered, in nanoseconds.
const ROW: u64 = 2_000;

/// A streaming model that answers.
pub(crate) struct Streaming {
    model: Arc<::streaming::Model>,
    /// What a row took lately, in nanoseconds.
    row: AtomicU64,
    /// Who may use another thread.
    turns: Arc<Semaphore>,
}

impl Streaming {
    /// One whose answers take at most so many threads at a time.
    pub(crate) fn new(model: ::streaming::Model, threads: usize) -> Self {
        Self { model: Arc::new(model), row: AtomicU64::new(ROW), turns: Arc::new(Semaphore::new(threads.max(1))) }
    }

    pub(crate) fn model(&self) -> &::streaming::Model {
        &self.model
    }

    /// Answers one request.
    ///
    /// # Errors
    /// As [`::streaming::Model::answer`].
    pub(crate) async fn infer(&self, request: InferRequest) -> Result<InferResponse, Refusal> {
        let (rows, entered) = (request.rows(), Instant::now());
        let expected = Duration::from_nanos(self.row.load(Ordering::Relaxed).saturating_mul(rows));
        let model = self.model.clone();
        let work = move || {
            let started = Instant::now();
            (model.answer(&request.inputs, &request.outputs), started, started.elapsed())
        };
        let (outputs, started, compute) = if expected < QUICK {
            work()
        } else {
            let turn = self.turns.clone().acquire_owned().await;
            let done = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                work()
            });
            done.await.map_err(|error| Refusal::new(Code::Internal, format!("a streaming model failed: {error}")))?
        };
        self.note(compute, rows);
        let queued = Some(started.saturating_duration_since(entered));
        let snapshot = Some(self.model.offset());
        Ok(InferResponse { outputs: outputs?, compute, queued, batch: rows, snapshot })
    }

    fn note(&self, compute: Duration, rows: u64) {
        let took = u64::try_from(compute.as_nanos()).unwrap_or(u64::MAX) / rows.max(1);
        let before = self.row.load(Ordering::Relaxed);
        self.row.store(before - before / 8 + took / 8, Ordering::Relaxed);
    }
}
