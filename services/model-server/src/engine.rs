//! The engine of a model server: one model on ONNX Runtime, loaded, replaced, asked.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use ort::{environment::Environment, logging::LogLevel};
use parking_lot::RwLock;
use rpc::model_server::{Load, ModelServer, ServerStatus};
use types::{
    Code, Refusal, Version,
    infer::{InferRequest, InferResponse, ModelMetadata},
};

use crate::{
    batcher::Queue,
    load::{self, Loaded},
    runtime,
};

/// Inferences waiting for a session, at most; more are refused at once.
const QUEUE: usize = 1_024;
/// Rows of a batch, at most: what larger ones save is small, and what they hold grows with every row.
const ROWS: u64 = 64;

/// How many inferences run at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sessions {
    /// So many, one thread each.
    Exactly(usize),
    /// One per core and thread, or one on all cores: whichever is faster for the model.
    Fastest {
        /// Cores there are.
        cores: usize,
    },
}

/// The engine of a model server.
pub struct Engine {
    environment: Arc<Environment>,
    sessions: Sessions,
    rows: u64,
    loaded: RwLock<Option<Loaded>>,
    in_flight: AtomicU32,
    answered: AtomicU64,
}

impl Engine {
    /// Loads ONNX Runtime from this file.
    ///
    /// # Errors
    /// `runtime_missing` when the library does not load.
    pub fn new(library: &Path, sessions: Sessions) -> Result<Self, Refusal> {
        let missing = |why: String| {
            Refusal::new(Code::RuntimeMissing, format!("{} does not load: {why}", library.display()))
                .hint("run `mantlet doctor`")
        };
        let quiet = std::env::var(runtime::QUIET).ok();
        runtime::refuse_talker(&runtime::inspect(library)?, quiet.as_deref())?;
        let environment = ort::init_from(library)
            .map_err(|error| missing(error.to_string()))?
            .with_name("mantlet")
            .with_telemetry(false)
            .build()
            .map_err(|error| missing(error.message().to_owned()))?;
        environment.set_log_level(LogLevel::Error);
        Ok(Self::on(Arc::new(environment), sessions, ROWS))
    }

    /// An empty engine on the same runtime, of which there is one per process, where so many rows share a batch at
    /// most; with 1 every request runs alone.
    #[must_use]
    pub fn with_batches_of(&self, rows: u64) -> Self {
        Self::on(self.environment.clone(), self.sessions, rows)
    }

    fn on(environment: Arc<Environment>, sessions: Sessions, rows: u64) -> Self {
        Self {
            environment,
            sessions,
            rows,
            loaded: RwLock::new(None),
            in_flight: AtomicU32::new(0),
            answered: AtomicU64::new(0),
        }
    }

    /// Lets go of the model. The runtime, when it ends, waits for what the workers still run.
    pub fn stop(&self) {
        if let Some(loaded) = self.loaded.write().take() {
            drop(tokio::task::spawn_blocking(move || loaded.pool.join()));
        }
    }

    #[cfg(test)]
    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    fn queue(&self) -> Result<Arc<Queue>, Refusal> {
        let loaded = self.loaded.read();
        let queue = loaded.as_ref().map(|loaded| loaded.pool.queue().clone());
        queue.ok_or_else(|| Refusal::new(Code::ModelNotReady, "the model server has no model loaded"))
    }
}

#[async_trait]
impl ModelServer for Engine {
    async fn load(&self, load: Load) -> Result<ModelMetadata, Refusal> {
        let (environment, sessions, rows) = (self.environment.clone(), self.sessions, self.rows);
        let (loaded, metadata) = off_the_runtime(move || load::open(&environment, sessions, rows, &load)).await??;
        let before = self.loaded.write().replace(loaded);
        if let Some(before) = before {
            off_the_runtime(move || before.pool.join()).await?;
        }
        Ok(metadata)
    }

    async fn unload(&self, version: Version) -> Result<(), Refusal> {
        let loaded = self.loaded.write().take_if(|loaded| loaded.version == version);
        if let Some(loaded) = loaded {
            off_the_runtime(move || loaded.pool.join()).await?;
        }
        Ok(())
    }

    async fn status(&self) -> Result<ServerStatus, Refusal> {
        let (ready, queued) = {
            let loaded = self.loaded.read();
            let pool = loaded.as_ref().map(|loaded| &loaded.pool);
            (pool.is_some_and(|pool| pool.whole()), pool.map_or(0, |pool| pool.queue().waiting()))
        };
        Ok(ServerStatus {
            ready,
            in_flight: self.in_flight.load(Ordering::Relaxed),
            answered: self.answered.load(Ordering::Relaxed),
            queued: u32::try_from(queued).unwrap_or(u32::MAX),
        })
    }

    async fn infer(&self, request: InferRequest) -> Result<InferResponse, Refusal> {
        let queue = self.queue()?;
        let in_flight = InFlight::enter(&self.in_flight)?;
        let response = queue.infer(request).await;
        drop(in_flight);
        self.answered.fetch_add(1, Ordering::Relaxed);
        response
    }
}

struct InFlight<'a>(&'a AtomicU32);

impl<'a> InFlight<'a> {
    fn enter(count: &'a AtomicU32) -> Result<Self, Refusal> {
        let entered = Self(count);
        if count.fetch_add(1, Ordering::Relaxed) as usize >= QUEUE {
            return Err(Refusal::new(Code::Overloaded, format!("{QUEUE} inferences wait at this replica already"))
                .retry_after(Duration::from_secs(1)));
        }
        Ok(entered)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Refusal::new(Code::Internal, format!("a worker of the model server failed: {error}")))
}
