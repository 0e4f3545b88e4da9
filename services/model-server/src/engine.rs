//! Runs one model on ONNX Runtime: verified, warmed up, with a pool of sessions.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use access::signing::PublicKey;
use async_trait::async_trait;
use ort::{environment::Environment, logging::LogLevel, session::Session};
use parking_lot::{Mutex, RwLock};
use rpc::model_server::{Load, ModelServer, ServerStatus};
use tokio::{sync::Semaphore, time::Instant};
use types::{
    Code, Refusal, Tensor, Version,
    infer::{InferRequest, InferResponse, ModelMetadata, TensorSpec},
};

use crate::{bundle, runtime, values};

/// Inferences waiting for a session, at most; more are refused at once.
const QUEUE: usize = 1_024;

/// The engine of a model server.
pub struct Engine {
    environment: Arc<Environment>,
    sessions: usize,
    loaded: RwLock<Option<Arc<Loaded>>>,
    in_flight: AtomicU32,
    answered: AtomicU64,
}

struct Loaded {
    version: Version,
    metadata: ModelMetadata,
    pool: Mutex<Vec<Session>>,
    free: Semaphore,
}

impl Engine {
    /// Loads ONNX Runtime from this file; `sessions` inferences run at a time, one thread each.
    ///
    /// # Errors
    /// `runtime_missing` when the library does not load.
    pub fn new(library: &Path, sessions: usize) -> Result<Self, Refusal> {
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
        Ok(Self {
            environment: Arc::new(environment),
            sessions: sessions.max(1),
            loaded: RwLock::new(None),
            in_flight: AtomicU32::new(0),
            answered: AtomicU64::new(0),
        })
    }

    fn loaded(&self) -> Result<Arc<Loaded>, Refusal> {
        let loaded = self.loaded.read().clone();
        loaded.ok_or_else(|| Refusal::new(Code::ModelNotReady, "the model server has no model loaded"))
    }
}

#[async_trait]
impl ModelServer for Engine {
    async fn load(&self, load: Load) -> Result<ModelMetadata, Refusal> {
        let (environment, sessions) = (self.environment.clone(), self.sessions);
        let loaded = off_the_runtime(move || open(&environment, sessions, &load)).await??;
        let metadata = loaded.metadata.clone();
        *self.loaded.write() = Some(Arc::new(loaded));
        Ok(metadata)
    }

    async fn unload(&self, version: Version) -> Result<(), Refusal> {
        let mut loaded = self.loaded.write();
        if loaded.as_ref().is_some_and(|loaded| loaded.version == version) {
            *loaded = None;
        }
        Ok(())
    }

    async fn status(&self) -> Result<ServerStatus, Refusal> {
        Ok(ServerStatus {
            ready: self.loaded.read().is_some(),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            answered: self.answered.load(Ordering::Relaxed),
        })
    }

    async fn infer(&self, request: InferRequest) -> Result<InferResponse, Refusal> {
        let loaded = self.loaded()?;
        let in_flight = InFlight::enter(&self.in_flight)?;
        let came = Instant::now();
        let permit = loaded.free.acquire().await;
        permit.map_err(|_| Refusal::new(Code::ModelNotReady, "the model was unloaded"))?.forget();
        let running = Running::take(loaded.clone())?;
        let queued = came.elapsed();
        let response = off_the_runtime(move || running.infer(&request)).await?;
        drop(in_flight);
        self.answered.fetch_add(1, Ordering::Relaxed);
        response.map(|response| InferResponse { queued: Some(queued), ..response })
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

/// A session taken from the pool; goes back when dropped, also after a panic.
struct Running {
    loaded: Arc<Loaded>,
    session: Option<Session>,
}

impl Running {
    fn take(loaded: Arc<Loaded>) -> Result<Self, Refusal> {
        let session = loaded.pool.lock().pop();
        if session.is_none() {
            return Err(Refusal::new(Code::Internal, "a session was promised and is not there"));
        }
        Ok(Self { loaded, session })
    }

    fn infer(mut self, request: &InferRequest) -> Result<InferResponse, Refusal> {
        let session = self.session.as_mut();
        let session = session.ok_or_else(|| Refusal::new(Code::Internal, "a session is used after its return"))?;
        run(session, &self.loaded.metadata, request)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.loaded.pool.lock().extend(self.session.take());
        self.loaded.free.add_permits(1);
    }
}

async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Refusal::new(Code::Internal, format!("a worker of the model server failed: {error}")))
}

fn open(environment: &Environment, sessions: usize, load: &Load) -> Result<Loaded, Refusal> {
    let keys = load.keys.iter().map(|pem| PublicKey::parse(pem));
    let keys: Vec<PublicKey> = keys
        .collect::<Result<_, _>>()
        .map_err(|error| Refusal::new(Code::BundleUntrusted, format!("a trusted key can't be read: {error}")))?;
    let bundle = bundle::open(&load.path, load.digest, &keys)?;
    let name = (&bundle.manifest.metadata.name, &bundle.manifest.metadata.namespace);
    if name != (&load.model, &Some(load.namespace.clone())) {
        return Err(Refusal::new(
            Code::BundleUntrusted,
            format!("the bundle is signed as another model than `{}/{}`", load.namespace, load.model),
        ));
    }
    let mut pool: Vec<Session> =
        (0..sessions).map(|_| session(environment, &bundle.model)).collect::<Result<_, _>>()?;
    drop(bundle);
    let mut metadata = declared(&pool)?;
    for session in &mut pool {
        warm_up(session, &mut metadata);
    }
    let free = Semaphore::new(pool.len());
    Ok(Loaded { version: load.version, metadata, pool: Mutex::new(pool), free })
}

fn session(environment: &Environment, model: &[u8]) -> Result<Session, Refusal> {
    let failed = |why: &str| {
        Refusal::new(Code::LoadFailed, format!("ONNX Runtime can't load the model: {}", why.trim()))
            .hint("check it with `python -c \"import onnx; onnx.checker.check_model('model.onnx', full_check=True)\"`")
    };
    let mut builder = Session::builder(environment)
        .map_err(|error| failed(error.message()))?
        .with_intra_threads(1)
        .map_err(|error| failed(error.message()))?;
    builder.commit_from_memory(model).map_err(|error| failed(error.message()))
}

fn declared(pool: &[Session]) -> Result<ModelMetadata, Refusal> {
    let session = pool.first().ok_or_else(|| Refusal::new(Code::Internal, "there is no session"))?;
    let specs = |outlets: &[ort::value::Outlet], what: &str| -> Result<Vec<TensorSpec>, Refusal> {
        let spec = |outlet: &ort::value::Outlet| {
            values::spec(outlet.name(), outlet.dtype()).ok_or_else(|| {
                Refusal::new(
                    Code::ModelUnsupported,
                    format!("{what} `{}` is {}, which the protocol can't carry", outlet.name(), outlet.dtype()),
                )
                .hint("export the model again with tensors only, for example with zipmap=False in skl2onnx")
            })
        };
        outlets.iter().map(spec).collect()
    };
    Ok(ModelMetadata { inputs: specs(session.inputs(), "input")?, outputs: specs(session.outputs(), "output")? })
}

/// Runs the model once on zeros, so that the first caller does not pay for what is made lazily, and learns the
/// class names of score maps. A model that can't take zeros is ready all the same.
fn warm_up(session: &mut Session, metadata: &mut ModelMetadata) {
    let inputs: Result<Vec<Tensor>, Refusal> = metadata.inputs.iter().map(zeros).collect();
    let outcome = inputs.and_then(|inputs| {
        let prepared = prepare(&inputs)?;
        let outputs = session.run(prepared).map_err(|error| failure(&error))?;
        let maps = metadata.outputs.iter_mut().filter(|spec| spec.shape == [-1, -1]);
        for spec in maps {
            let Some(value) = outputs.get(&spec.name).filter(|value| values::is_score_maps(value.dtype())) else {
                continue;
            };
            spec.classes = values::class_order(&values::score_rows(value).map_err(|error| failure(&error))?);
            spec.shape = vec![-1, i64::try_from(spec.classes.len()).unwrap_or(-1)];
        }
        Ok(())
    });
    if let Err(refusal) = outcome {
        tracing::info!(reason = %refusal, "the model takes no zeros; it is ready without a warm-up");
    }
}

fn zeros(spec: &TensorSpec) -> Result<Tensor, Refusal> {
    let shape: Vec<i64> = spec.shape.iter().map(|d| if *d < 0 { 1 } else { *d }).collect();
    let elements = types::tensor::elements(&spec.name, &shape)?;
    // A declared shape may be absurd; warming up is not worth more than this.
    if elements > 64 << 20 {
        return Err(Refusal::new(Code::InputMismatch, format!("input `{}` is too large to warm up with", spec.name)));
    }
    match spec.datatype.width() {
        Some(width) => Ok(Tensor::new(&spec.name, spec.datatype, shape, vec![0; elements * width].into())?),
        None => Ok(Tensor::from_elements(&spec.name, shape, std::iter::repeat_n(&b""[..], elements))?),
    }
}

type Prepared = Vec<(String, ort::session::SessionInputValue<'static>)>;

fn prepare(inputs: &[Tensor]) -> Result<Prepared, Refusal> {
    inputs.iter().map(|tensor| Ok((tensor.name().to_owned(), values::to_runtime(tensor)?))).collect()
}

fn run(session: &mut Session, metadata: &ModelMetadata, request: &InferRequest) -> Result<InferResponse, Refusal> {
    let prepared = prepare(&request.inputs)?;
    let started = Instant::now();
    let outputs = session.run(prepared).map_err(|error| failure(&error))?;
    let compute = started.elapsed();
    let wanted = |spec: &&TensorSpec| request.outputs.is_empty() || request.outputs.contains(&spec.name);
    let outputs = metadata.outputs.iter().filter(wanted).map(|spec| {
        let value = outputs.get(&spec.name);
        let value = value
            .ok_or_else(|| Refusal::new(Code::InferenceFailed, format!("the model gave no output `{}`", spec.name)))?;
        values::from_runtime(&spec.name, value, &spec.classes)
    });
    Ok(InferResponse { outputs: outputs.collect::<Result<_, _>>()?, compute, queued: None })
}

fn failure(error: &ort::Error) -> Refusal {
    Refusal::new(Code::InferenceFailed, format!("ONNX Runtime refused the inputs: {}", error.message().trim()))
        .hint("compare shapes and values with the model's metadata: `mantlet models show NAME`")
}
