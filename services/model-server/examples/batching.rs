//! Measures what batching is worth: `cargo run --release -p mantlet-model-server --example batching -- MODEL.onnx LIB`.
//!
//! More arguments are numbers of clients, instead of the usual ones.
//! Closed-loop clients in this process ask for one row each, over and over; on and off take turns.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::{collections::BTreeMap, error::Error, fs, path::Path, sync::Arc, time::Duration};

use access::signing::Key;
use model_server::{Engine, Sessions};
use rpc::{ModelServer, model_server::Load};
use tokio::time::Instant;
use types::{
    Tensor, Version,
    infer::{InferRequest, ModelMetadata, TensorSpec},
};

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(500);
const CLIENTS: &str = "1 4 16 64 256";

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(library)) = (arguments.next(), arguments.next()) else {
        return Err("usage: batching MODEL.onnx LIBONNXRUNTIME [CLIENTS...]".into());
    };
    let asked = arguments.collect::<Vec<_>>().join(" ");
    let asked = if asked.is_empty() { CLIENTS } else { &asked };
    let folder = tempfile::tempdir()?;
    let load = bundle(folder.path(), fs::read(&model)?)?;
    let cores = std::thread::available_parallelism()?.get();
    let on = Engine::new(Path::new(&library), Sessions::Fastest { cores })?;
    let mut engines = Vec::new();
    for (name, engine) in [("off", on.with_batches_of(1)), ("on", on)] {
        let started = Instant::now();
        let metadata = engine.load(load.clone()).await?;
        println!("{name}: loaded in {:.0?}", started.elapsed());
        engines.push((name, Arc::new(engine), request(&metadata)?));
    }
    for clients in asked.split(' ') {
        let clients = clients.parse()?;
        let mut seen: BTreeMap<&str, Vec<Round>> = BTreeMap::new();
        for _ in 0..ROUNDS {
            // Each goes first in every other round.
            engines.reverse();
            for (name, engine, request) in &engines {
                seen.entry(name).or_default().push(round(engine, request, clients).await?);
            }
        }
        for (name, mut rounds) in seen {
            let mut median = |key: fn(&Round) -> f64| {
                rounds.sort_by(|a, b| key(a).total_cmp(&key(b)));
                rounds.get(rounds.len() / 2).map_or(f64::NAN, key)
            };
            println!(
                "{clients:3} clients {name:3}: {:8.0} requests/s, us: p50 {:7.0}, p99 {:7.0}, CPU {:6.1}; batches of {:.1}",
                median(|round| round.rate),
                median(|round| round.p50),
                median(|round| round.p99),
                median(|round| round.cpu),
                median(|round| round.batch),
            );
        }
    }
    Ok(())
}

/// What one round shows.
struct Round {
    rate: f64,
    p50: f64,
    p99: f64,
    /// Microseconds of CPU per request, the clients' own among them: what others on the machine do hardly shows.
    cpu: f64,
    batch: f64,
}

/// Seconds of CPU that this process has used.
fn used() -> Outcome<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    // Linux counts in hundredths, whatever the kernel's own tick is.
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

async fn round(engine: &Arc<Engine>, request: &InferRequest, clients: usize) -> Outcome<Round> {
    let (started, end, before) = (Instant::now(), Instant::now() + ROUND, used()?);
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (engine, request) = (engine.clone(), request.clone());
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while Instant::now() < end {
                    let asked = Instant::now();
                    let answer = engine.infer(request.clone()).await?;
                    seen.push((asked.elapsed().as_secs_f64() * 1e6, answer.batch));
                }
                Ok::<_, types::Refusal>(seen)
            })
        })
        .collect();
    let mut seen = Vec::new();
    for task in tasks {
        seen.extend(task.await??);
    }
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), used()? - before);
    let batch = seen.len() as f64 / seen.iter().map(|(_, rows)| 1.0 / *rows as f64).sum::<f64>();
    seen.sort_by(|a, b| a.0.total_cmp(&b.0));
    let at = |share: usize| seen.get(seen.len() * share / 100).map_or(f64::NAN, |(micros, _)| *micros);
    let requests = seen.len() as f64;
    Ok(Round { rate: requests / seconds, p50: at(50), p99: at(99), cpu: cpu * 1e6 / requests, batch })
}

/// One row of ones, of all inputs.
fn request(metadata: &ModelMetadata) -> Outcome<InferRequest> {
    let one = |spec: &TensorSpec| {
        let shape: Vec<i64> = spec.shape.iter().map(|dimension| (*dimension).max(1)).collect();
        let elements = types::tensor::elements(&spec.name, &shape)?;
        let ones = format!("[{}]", vec!["1"; elements].join(","));
        types::tensor::json::read(&spec.name, spec.datatype, shape, &ones)
    };
    let inputs = metadata.inputs.iter().map(one).collect::<Result<Vec<Tensor>, _>>()?;
    Ok(InferRequest { model: "m".parse()?, version: None, id: None, inputs, outputs: Vec::new(), timeout: None })
}

fn bundle(folder: &Path, model: Vec<u8>) -> Outcome<Load> {
    let key = Key::generate()?;
    let digest = testkit::bundle::write(folder, &key, ("default", "m"), &model);
    Ok(Load {
        namespace: "default".parse()?,
        model: "m".parse()?,
        version: Version(1),
        digest,
        path: folder.to_owned(),
        keys: vec![key.public()?.pem().to_owned()],
        known: None,
        state: None,
        credential: None,
    })
}
