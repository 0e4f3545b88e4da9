//! The engine of a model server: models on ONNX Runtime, loaded, asked, out of memory and back, let go.

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
use rpc::{
    model_server::{Away, Load, ModelServer, Relieve, ServerStatus, StandOf, State, Unload},
    report::{Asked, Report},
};
use tokio::time::Instant;
use types::{
    Code, Refusal,
    infer::{InferRequest, InferResponse, ModelMetadata},
};

use crate::{
    batcher::{Pool, Queue},
    cache::{Cache, Gauge, Slot},
    load::{self, Loaded},
    runtime,
    stand::{Here, Mark},
    streaming::Streaming,
};

/// Inferences waiting for a session, at most; more are refused at once.
const QUEUE: usize = 1_024;
/// Bytes that stay free for what a model works in.
const WORK: u64 = 4 << 20;
/// Golden inputs that are asked about at a time.
const PROBES: usize = 4;
/// How often it is looked whether a model that is let go has ended.
const LOOK: Duration = Duration::from_millis(5);
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
pub struct Engine(Arc<Inner>);

struct Inner {
    /// Nothing where only other servers are asked.
    environment: Option<Arc<Environment>>,
    sessions: Sessions,
    rows: u64,
    cache: Cache,
    gauge: Option<Gauge>,
    /// One model is loaded at a time, so that what it takes can be measured.
    loading: tokio::sync::Mutex<()>,
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
        Ok(Self::on(Some(Arc::new(environment)), sessions, ROWS, (u64::MAX, None)))
    }

    /// One that holds no model, and asks other servers for theirs.
    pub fn outward() -> Self {
        Self::on(None, Sessions::Exactly(1), ROWS, (u64::MAX, None))
    }

    /// An empty engine on the same runtime, of which there is one per process, where so many rows share a batch at
    /// most; with 1 every request runs alone.
    #[must_use]
    pub fn with_batches_of(&self, rows: u64) -> Self {
        Self::on(self.0.environment.clone(), self.0.sessions, rows, (u64::MAX, None))
    }

    /// An empty engine on the same runtime, whose models take so many bytes together at most: those used least
    /// recently are out of memory until they are asked for again. `gauge` tells what they take.
    #[must_use]
    pub fn with_room(&self, bytes: u64, gauge: Option<Gauge>) -> Self {
        Self::on(self.0.environment.clone(), self.0.sessions, self.0.rows, (bytes, gauge))
    }

    fn on(
        environment: Option<Arc<Environment>>,
        sessions: Sessions,
        rows: u64,
        (room, gauge): (u64, Option<Gauge>),
    ) -> Self {
        Self(Arc::new(Inner {
            environment,
            sessions,
            rows,
            cache: Cache::new(room),
            gauge,
            loading: tokio::sync::Mutex::new(()),
            in_flight: AtomicU32::new(0),
            answered: AtomicU64::new(0),
        }))
    }

    /// Lets go of every model. The runtime, when it ends, waits for what the workers still run.
    pub fn stop(&self) {
        for pool in self.0.cache.all().iter().filter_map(|slot| slot.take()) {
            drop(tokio::task::spawn_blocking(move || pool.join()));
        }
    }

    #[cfg(test)]
    pub(crate) fn environment(&self) -> &Environment {
        self.0.environment.as_ref().unwrap()
    }
}

impl Inner {
    fn runtime(&self) -> Result<&Environment, Refusal> {
        let missing = || Refusal::new(Code::LoadFailed, "this process asks other servers and holds no model itself");
        self.environment.as_deref().ok_or_else(missing)
    }

    /// Finds the way to a model that another server holds; asks what it takes and gives where that is not known.
    async fn reach(&self, load: Load) -> Result<ModelMetadata, Refusal> {
        let of = load.clone();
        let upstream = off_the_runtime(move || load::upstream(&of)).await??;
        let metadata = match load.known.clone() {
            Some(metadata) => metadata,
            None => upstream.metadata().await?,
        };
        self.replace(Arc::new(Slot::outward(load, upstream))).await?;
        Ok(metadata)
    }

    /// Takes a streaming model's state in; the one before answers until then.
    async fn hold(&self, load: Load, state: State) -> Result<ModelMetadata, Refusal> {
        let of = load.clone();
        let model = off_the_runtime(move || load::streaming(&of)).await??;
        let metadata = model.metadata();
        let threads = match self.sessions {
            Sessions::Exactly(number) => number,
            Sessions::Fastest { cores } => cores,
        };
        let before = self.cache.get(&load.model, Some(load.version)).map(|slot| slot.stand.clone());
        let slot = Arc::new(Slot::streaming(load, Streaming::new(model, threads), before.unwrap_or_default()));
        match state {
            State::First => self.replace(slot).await?,
            State::Newer => self.cache.swap(slot),
        }
        Ok(metadata)
    }

    /// Loads a model in the form that is fastest here.
    async fn open(self: Arc<Self>, load: Load) -> Result<ModelMetadata, Refusal> {
        let _one = self.loading.lock().await;
        self.make_room(need(&load)).await?;
        let (loaded, bytes) = self.measured(&load, Self::load).await?;
        let metadata = loaded.metadata.clone();
        self.replace(Arc::new(Slot::warm(load, loaded, bytes))).await?;
        Ok(metadata)
    }

    fn load(&self, load: &Load) -> Result<Loaded, Refusal> {
        load::open(self.runtime()?, self.sessions, self.rows, load)
    }

    /// Loads a model, and measures what it takes: as much as the process grows, and no less than its file.
    async fn measured<T: Send + 'static>(
        self: &Arc<Self>,
        load: &Load,
        work: impl FnOnce(&Self, &Load) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<(T, u64), Refusal> {
        let bytes = || self.gauge.as_ref().and_then(Gauge::bytes);
        let before = bytes();
        let (inner, of) = (self.clone(), load.clone());
        let loaded = off_the_runtime(move || work(&inner, &of)).await??;
        let grown = before.zip(bytes()).map_or(0, |(before, after)| after.saturating_sub(before));
        Ok((loaded, grown.max(size(load))))
    }

    async fn replace(&self, slot: Arc<Slot>) -> Result<(), Refusal> {
        match self.cache.insert(slot).and_then(|before| before.take()) {
            Some(pool) => off_the_runtime(move || pool.join()).await,
            None => Ok(()),
        }
    }

    /// Loads a model that somebody asks for; however many ask, and whether they wait or go, it is loaded once.
    async fn wake(self: Arc<Self>, slot: Arc<Slot>) -> Result<Arc<Queue>, Refusal> {
        let _user = slot.enter();
        let _one = slot.waking.lock().await;
        if let Some(queue) = slot.queue() {
            return Ok(queue);
        }
        let _one = self.loading.lock().await;
        let known = slot.bytes();
        self.make_room(if known > 0 { known.saturating_add(WORK) } else { need(&slot.load) }).await?;
        let started = Instant::now();
        match slot.form() {
            Some(form) => {
                let reopen = |inner: &Self, load: &Load| load::reopen(inner.runtime()?, load, form);
                let (pool, bytes) = self.measured(&slot.load, reopen).await?;
                slot.refill(pool, bytes);
            }
            None => {
                let (loaded, bytes) = self.measured(&slot.load, Self::load).await?;
                slot.fill(loaded, bytes);
            }
        }
        let Load { model, version, .. } = &slot.load;
        tracing::info!(%model, %version, bytes = slot.bytes(), took = ?started.elapsed(), "back in memory");
        slot.queue().ok_or_else(|| Refusal::new(Code::ModelNotReady, "the model was unloaded"))
    }

    /// Answers an inference, counted where who asks wants that.
    async fn answer(
        self: &Arc<Self>,
        request: InferRequest,
        asked: Option<Asked>,
    ) -> Result<(InferResponse, Option<Report>), Refusal> {
        let in_flight = InFlight::enter(&self.in_flight)?;
        let slot = self.cache.get(&request.model, request.version).ok_or_else(|| {
            Refusal::new(Code::ModelNotReady, format!("the model server does not hold `{}`", request.model))
        })?;
        let user = slot.enter();
        let here = asked.map(|asked| slot.stand.enter(asked));
        let outcome = self.run(&slot, request, here.as_ref().map(Here::mark)).await;
        drop((in_flight, user));
        let report = here.and_then(Here::done);
        self.answered.fetch_add(1, Ordering::Relaxed);
        Ok((outcome?, report))
    }

    async fn run(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        request: InferRequest,
        mark: Option<&Mark>,
    ) -> Result<InferResponse, Refusal> {
        if let Some(upstream) = &slot.upstream {
            mark.inspect(|mark| mark.began());
            return upstream.infer(&request).await;
        }
        if let Some(streaming) = &slot.streaming {
            mark.inspect(|mark| mark.began());
            return streaming.infer(request).await;
        }
        let queue = match slot.queue() {
            Some(queue) => queue,
            // Who goes away while it is loaded leaves the loading to those who come after.
            None => off_the_request(self.clone().wake(slot.clone())).await?,
        };
        queue.infer(request, mark).await
    }

    async fn make_room(&self, need: u64) -> Result<(), Refusal> {
        match self.cache.make_room(need) {
            Ok(gone) if gone.is_empty() => Ok(()),
            Ok(gone) => off_the_runtime(move || gone.into_iter().for_each(Pool::join)).await,
            Err(lacking) => Err(Refusal::new(
                Code::Overloaded,
                format!("{lacking} bytes are lacking, and every model in memory is in use"),
            )
            .hint("give the shared model servers more memory, or pin what is used most: docs/operations.md")
            .retry_after(Duration::from_secs(1))),
        }
    }

    /// Asks a few models for what they answered before.
    fn probe(self: &Arc<Self>) {
        for (slot, golden) in self.cache.due(PROBES) {
            tokio::spawn(async move {
                let _user = slot.enter();
                let Some(queue) = slot.queue() else { return slot.probed(true) };
                let answer = queue.infer(golden.request(), None).await;
                let well = answer.as_ref().is_ok_and(|answer| golden.is_answer(&answer.outputs));
                if !well {
                    let Load { model, version, .. } = &slot.load;
                    let why = answer.err().map_or_else(|| "another answer".into(), |refusal| refusal.to_string());
                    tracing::warn!(%model, %version, why, "the golden input was not answered as before");
                }
                slot.probed(well);
            });
        }
    }
}

fn away(slot: &Slot) -> Option<Away> {
    let why = slot.upstream.as_ref()?.away()?;
    Some(Away { model: slot.load.model.clone(), version: slot.load.version, why })
}

/// Bytes of a bundle.
fn size(load: &Load) -> u64 {
    let files = std::fs::read_dir(&load.path).into_iter().flatten().flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

/// What a model will take that was never loaded: its weights in two sessions, and what it works in.
fn need(load: &Load) -> u64 {
    size(load).saturating_mul(2).saturating_add(WORK)
}

#[async_trait]
impl ModelServer for Engine {
    async fn load(&self, load: Load) -> Result<ModelMetadata, Refusal> {
        if self.0.environment.is_none() {
            return self.0.reach(load).await;
        }
        if let Some(state) = load.state {
            return self.0.hold(load, state).await;
        }
        match load.known.clone() {
            Some(metadata) => {
                self.0.replace(Arc::new(Slot::cold(load))).await?;
                Ok(metadata)
            }
            None => self.0.clone().open(load).await,
        }
    }

    async fn unload(&self, unload: Unload) -> Result<(), Refusal> {
        let Some(slot) = self.0.cache.remove(&unload.model, unload.version) else { return Ok(()) };
        // Nobody finds it any more; who found it before ends first.
        while slot.is_used() {
            tokio::time::sleep(LOOK).await;
        }
        match slot.take() {
            Some(pool) => off_the_runtime(move || pool.join()).await,
            None => Ok(()),
        }
    }

    async fn status(&self) -> Result<ServerStatus, Refusal> {
        self.0.probe();
        let slots = self.0.cache.all();
        let queues: Vec<_> = slots.iter().filter_map(|slot| slot.queue()).collect();
        let queued = queues.iter().map(|queue| queue.waiting()).sum::<usize>();
        Ok(ServerStatus {
            ready: self.0.cache.is_well(),
            in_flight: self.0.in_flight.load(Ordering::Relaxed),
            answered: self.0.answered.load(Ordering::Relaxed),
            queued: u32::try_from(queued).unwrap_or(u32::MAX),
            loaded: u32::try_from(queues.len()).unwrap_or(u32::MAX),
            unloaded: self.0.cache.unloaded(),
            memory: self.0.gauge.as_ref().and_then(Gauge::resident).unwrap_or(0),
            away: slots.iter().filter_map(|slot| away(slot)).collect(),
        })
    }

    async fn relieve(&self, Relieve { bytes }: Relieve) -> Result<u64, Refusal> {
        let (gone, given_up) = self.0.cache.relieve(bytes);
        off_the_runtime(move || gone.into_iter().for_each(Pool::join)).await?;
        Ok(given_up)
    }

    async fn infer(&self, request: InferRequest) -> Result<InferResponse, Refusal> {
        self.0.answer(request, None).await.map(|(response, _)| response)
    }

    async fn infer_counted(
        &self,
        request: InferRequest,
        asked: Asked,
    ) -> Result<(InferResponse, Option<Report>), Refusal> {
        self.0.answer(request, Some(asked)).await
    }

    async fn stand(&self, of: StandOf) -> Result<Option<Report>, Refusal> {
        let slot = self.0.cache.find(&of.model, Some(of.version));
        Ok(slot.and_then(|slot| slot.stand.told(of.sender)))
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

/// Runs to its end even when nobody waits for it any more.
async fn off_the_request<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(lost(&error)))
}

async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| lost(&error))
}

fn lost(error: &tokio::task::JoinError) -> Refusal {
    Refusal::new(Code::Internal, format!("a worker of the model server failed: {error}"))
}
