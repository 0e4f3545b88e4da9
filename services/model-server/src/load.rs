//! Loads a bundle: verified, into as many sessions as run fastest here, tried, with workers started.

use std::{thread, time::Duration};

use access::signing::PublicKey;
use balance::batch::{Batcher, Limits};
use ort::{environment::Environment, session::Session};
use rpc::model_server::Load;
use tokio::time::Instant;
use types::{
    Code, Refusal,
    infer::{ModelMetadata, TensorSpec},
    manifest::{self, Source},
};

use crate::{
    batcher::Pool,
    bundle::{self, Bundle},
    engine::Sessions,
    inference,
    trial::{self, Golden},
    upstream::Upstream,
    values,
};

/// Sessions that are chosen when nobody says how many, at most: each holds the model's weights once more.
const MOST: usize = 8;
/// A model whose row is faster runs on one thread each: handing parts of it to others costs more than it saves.
const WIDE: Duration = Duration::from_millis(1);
/// Time for each form that sessions are tried in.
const TRIAL: Duration = Duration::from_millis(150);
/// No form is tried for a model that takes longer to load.
const PATIENCE: Duration = Duration::from_millis(200);
/// How much faster one session on all cores must be to be chosen; it shares the cores worse with others.
const BETTER: f64 = 1.1;
/// The head of the queue should be answered so long after it came, where nobody promised anything; half of what was
/// promised (`spec.slo.p99`) where somebody did.
const BUDGET: Duration = Duration::from_millis(25);
/// A batch may take at least so many times as long as one row: a slow model has no fast answers to protect.
const PATIENT: u32 = 10;

/// A model that answers.
pub(crate) struct Loaded {
    pub(crate) pool: Pool,
    pub(crate) metadata: ModelMetadata,
    pub(crate) form: Form,
    pub(crate) golden: Option<Golden>,
}

/// In what form a model runs fastest here, and which of its requests may share a batch.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    sessions: usize,
    threads: usize,
    batcher: Option<Batcher>,
}

/// Verifies, loads, tries and starts.
pub(crate) fn open(environment: &Environment, sessions: Sessions, rows: u64, load: &Load) -> Result<Loaded, Refusal> {
    let bundle = verified(load)?;
    local(&bundle)?;
    let started = Instant::now();
    let mut first = session(environment, &bundle.model, 1)?;
    let made = started.elapsed();
    let mut metadata = declared(&first)?;
    let alone = trial::warm_up(&mut first, &mut metadata);
    let inputs = &bundle.manifest.spec.inputs;
    let golden = trial::golden(&mut first, &metadata, inputs, alone)?;
    let make = |threads: usize| {
        let mut session = session(environment, &bundle.model, threads)?;
        trial::warm_up(&mut session, &mut metadata.clone());
        Ok(session)
    };
    let mut pool = vec![first];
    let number = match sessions {
        Sessions::Exactly(number) => number.clamp(1, 256),
        Sessions::Fastest { cores } => cores.clamp(1, MOST),
    };
    for _ in 1..number {
        pool.push(make(1)?);
    }
    let mut threads = 1;
    if let (Sessions::Fastest { cores: 2.. }, Some(alone)) = (sessions, alone)
        && (WIDE..trial::SLOWER).contains(&alone)
        && made < PATIENCE
        && let Some(wide) = wider(&mut pool, || make(number), &metadata)
    {
        pool = vec![wide];
        threads = number;
    }
    let promised = bundle.manifest.spec.slo.p99.map(|p99| p99.0 / 2);
    let batcher = batcher(&mut pool, &metadata, inputs, (rows, promised), alone);
    let form = Form { sessions: pool.len(), threads, batcher: batcher.clone() };
    Ok(Loaded { pool: Pool::start(pool, metadata.clone(), batcher)?, metadata, form, golden })
}

/// Loads again what was loaded before, in the form that was found best then.
pub(crate) fn reopen(environment: &Environment, load: &Load, form: Form) -> Result<Pool, Refusal> {
    let bundle = verified(load)?;
    let mut metadata = None;
    let mut pool = Vec::with_capacity(form.sessions);
    for _ in 0..form.sessions {
        let mut session = session(environment, &bundle.model, form.threads)?;
        let mut declared = declared(&session)?;
        trial::warm_up(&mut session, &mut declared);
        pool.push(session);
        metadata = Some(declared);
    }
    Pool::start(pool, metadata.unwrap_or_default(), form.batcher)
}

/// The server that holds the model, where that is another one.
pub(crate) fn upstream(load: &Load) -> Result<Upstream, Refusal> {
    match verified(load)?.manifest.spec.source {
        Source::Upstream(source) => Upstream::new(&source, load),
        _ => Err(Refusal::new(Code::LoadFailed, "this process asks other servers, and the model is none of theirs")),
    }
}

/// A streaming model in the state that its bundle holds.
pub(crate) fn streaming(load: &Load) -> Result<::streaming::Model, Refusal> {
    let bundle = verified(load)?;
    ::streaming::Model::load(&bundle.manifest, &bundle.model)
}

fn local(bundle: &Bundle) -> Result<(), Refusal> {
    match bundle.manifest.spec.source {
        Source::Online(_) => {
            Err(Refusal::new(Code::LoadFailed, "the model is one that learns, and was to be loaded as another"))
        }
        Source::Upstream(_) => {
            Err(Refusal::new(Code::LoadFailed, "another server holds the model, and this process asks nobody"))
        }
        _ => Ok(()),
    }
}

fn verified(load: &Load) -> Result<Bundle, Refusal> {
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
    Ok(bundle)
}

pub(crate) fn session(environment: &Environment, model: &[u8], threads: usize) -> Result<Session, Refusal> {
    let failed = |why: &str| {
        Refusal::new(Code::LoadFailed, format!("ONNX Runtime can't load the model: {}", why.trim()))
            .hint("check it with `python -c \"import onnx; onnx.checker.check_model('model.onnx', full_check=True)\"`")
    };
    let mut builder = Session::builder(environment)
        .map_err(|error| failed(error.message()))?
        .with_intra_threads(threads)
        .map_err(|error| failed(error.message()))?
        // Threads that spin while they wait take cores from the gateway and from other models.
        .with_intra_op_spinning(false)
        .map_err(|error| failed(error.message()))?;
    builder.commit_from_memory(model).map_err(|error| failed(error.message()))
}

pub(crate) fn declared(session: &Session) -> Result<ModelMetadata, Refusal> {
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

/// One session on all cores, if single rows go through it faster than through these, which share the cores.
fn wider(
    narrow: &mut [Session],
    make: impl FnOnce() -> Result<Session, Refusal>,
    metadata: &ModelMetadata,
) -> Option<Session> {
    let mut wide = [make().ok()?];
    let (each, all) = (rate(narrow, metadata)?, rate(&mut wide, metadata)?);
    let chosen = all > each * BETTER;
    tracing::info!(one_core_each = each, all_cores = all, chosen, "tried one session on all cores, in rows per second");
    wide.into_iter().next().filter(|_| chosen)
}

/// Rows of zeros per second through all of these at the same time.
fn rate(sessions: &mut [Session], metadata: &ModelMetadata) -> Option<f64> {
    let zeros = &trial::zeros(metadata).ok()?;
    let started = Instant::now();
    let runner = |session: &mut Session| {
        let mut rows = 0.0;
        while started.elapsed() < TRIAL {
            inference::run(session, metadata, &[zeros]).ok()?;
            rows += 1.0;
        }
        Some(rows / started.elapsed().as_secs_f64())
    };
    thread::scope(|scope| {
        let runners: Vec<_> = sessions.iter_mut().map(|session| scope.spawn(|| runner(session))).collect();
        runners.into_iter().map(|runner| runner.join().ok()?).sum()
    })
}

fn batcher(
    pool: &mut [Session],
    metadata: &ModelMetadata,
    declared: &[manifest::Input],
    (rows, promised): (u64, Option<Duration>),
    alone: Option<Duration>,
) -> Option<Batcher> {
    let (session, alone) = (pool.first_mut()?, alone?);
    let limits = Limits { rows, budget: promised.unwrap_or(BUDGET.max(alone * PATIENT)) };
    match trial::batcher(session, metadata, declared, limits, alone) {
        Ok(batcher) => {
            tracing::info!(pays = batcher.pays(), cost = ?batcher.cost(), "requests may share a batch");
            Some(batcher)
        }
        Err(reason) => {
            tracing::info!(reason, "every request runs alone");
            None
        }
    }
}
