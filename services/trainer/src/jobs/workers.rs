//! Workers as the trainer sees them: it starts them, sends each its share, takes what they send, and believes none of it.
//!
//! A worker that ends, hangs, or sends what is nothing is killed and left out; the job's log says which and why. What is made of
//! the others' is [`streaming::workers`]' affair. All end with the job: they are killed when this is dropped, and see it
//! when the trainer is gone.

#[cfg(test)]
mod tests;

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use futures::future::join_all;
use serde_json::{Map, Value, json};
use streaming::workers::{self, Alone, Fit, Fitted, Steps, Told, Way};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{Instant, timeout, timeout_at},
};
use types::{Code, Refusal};

use super::{
    Settings,
    process::{Confine, LOG},
    tuner::gently,
    worker::Order,
};

/// How long a fit may take, and a worker in it to answer a round of few examples: who hangs is not waited for by the others.
const TIME: Duration = Duration::from_secs(900);
const ROUND: Duration = Duration::from_secs(60);
/// Private memory that a worker may take.
const MEMORY: u64 = 2 << 30;
/// How long it is waited to see how a worker ended that has closed its output.
const END: Duration = Duration::from_secs(5);

/// Who starts workers.
#[derive(Debug)]
pub(super) struct Crew {
    binary: PathBuf,
    folder: PathBuf,
    confine: Confine,
    time: Duration,
    round: Duration,
}

/// What is told of a fit: part of the job's metrics.
type Metrics = Map<String, Value>;

/// A worker that runs; it is killed when this is dropped.
struct Running {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

/// Each worker, or why it is left out.
type Workers = Vec<Result<Running, String>>;

impl Crew {
    pub(super) fn new(settings: &Settings, folder: &Path) -> Self {
        let (binary, folder) = (settings.binary.clone(), folder.to_owned());
        Self { binary, folder, confine: settings.confine, time: TIME, round: ROUND }
    }

    /// Writes a line into the job's log.
    pub(super) fn say(&self, line: &str) {
        let log = OpenOptions::new().create(true).append(true).open(self.folder.join(LOG));
        // Who reads the log misses a line then; the metrics have it too.
        let _ = log.and_then(|mut log| writeln!(log, "{line}"));
    }

    /// Has workers learn; gives the state that came out, or why one is to learn alone, and what is told of them.
    ///
    /// # Errors
    /// When the trainer itself fails.
    pub(super) async fn run(&self, fit: Fit) -> Result<(Result<Vec<u8>, Alone>, Metrics), Refusal> {
        let (began, way, count, held) = (Instant::now(), fit.way(), fit.workers(), fit.held());
        let (outcome, told) = self.learn(fit, began + self.time).await?;
        for (worker, told) in told.iter().enumerate() {
            if let Some(why) = &told.left_out {
                self.say(&format!("worker {} of {count} is left out: {why}", worker + 1));
            }
        }
        let examples: usize = told.iter().map(|told| told.examples).sum();
        let seconds = began.elapsed().as_secs_f64();
        if outcome.is_ok() {
            self.say(&format!("{count} workers learnt {examples} examples in {seconds:.1} s; {held} were held out"));
        }
        let told = json!({ "way": way, "held_out": held, "seconds": seconds, "each": told });
        let Value::Object(told) = told else { return Err(Refusal::new(Code::Internal, "what is told is an object")) };
        Ok((outcome, told))
    }

    async fn learn(&self, fit: Fit, end: Instant) -> Result<(Result<Vec<u8>, Alone>, Vec<Told>), Refusal> {
        let orders = move || {
            let orders: Result<Vec<Vec<u8>>, Alone> = (0..fit.workers()).map(|worker| fit.order(worker)).collect();
            (fit, orders)
        };
        let (fit, orders) = gently(orders).await?;
        let orders = match orders {
            Ok(orders) => orders,
            Err(alone) => return Ok((Err(alone), Vec::new())),
        };
        let workers: Workers = (0..orders.len()).map(|worker| self.start(worker)).collect();
        let begun = workers.into_iter().zip(orders);
        match fit.way() {
            Way::Trees => {
                let state = |(worker, order): (Result<Running, String>, Vec<u8>)| async move {
                    let mut running = worker?;
                    running.give(&order, end).await?;
                    drop(order);
                    running.take(1..=workers::LARGEST, end).await
                };
                let sent = join_all(begun.map(state)).await;
                gently(move || saved(fit.merged(sent))).await
            }
            Way::Weights => {
                let soon = self.soon(end);
                let order = |(worker, order): (Result<Running, String>, Vec<u8>)| async move {
                    let mut running = worker?;
                    running.give(&order, soon).await.map(|()| running)
                };
                let workers = join_all(begun.map(order)).await;
                match fit.steps() {
                    Ok(steps) => self.steps(fit, steps, workers, end).await,
                    Err(alone) => Ok((Err(alone), Vec::new())),
                }
            }
        }
    }

    /// Until when an answer is waited for that takes little.
    fn soon(&self, end: Instant) -> Instant {
        end.min(Instant::now() + self.round)
    }

    /// Takes one common step after the other.
    async fn steps(
        &self,
        fit: Fit,
        mut steps: Steps,
        mut workers: Workers,
        end: Instant,
    ) -> Result<(Result<Vec<u8>, Alone>, Vec<Told>), Refusal> {
        while !steps.is_done() {
            let common = workers::written(steps.common());
            let (length, soon) = (common.len() as u64, self.soon(end));
            let ask = |worker: Result<Running, String>| {
                let common = &common;
                async move {
                    let mut running = worker?;
                    running.give(common, soon).await?;
                    let update = running.take(length..=length, soon).await?;
                    Ok((running, workers::numbers(&update)))
                }
            };
            let answers: Vec<Result<(Running, Vec<f64>), String>> = join_all(workers.drain(..).map(ask)).await;
            let mut updates = Vec::with_capacity(answers.len());
            for answer in answers {
                match answer {
                    Ok((running, update)) => {
                        workers.push(Ok(running));
                        updates.push(Ok(update));
                    }
                    Err(why) => {
                        workers.push(Err(why.clone()));
                        updates.push(Err(why));
                    }
                }
            }
            let step = move || {
                let taken = steps.take(updates);
                (steps, taken)
            };
            // Of wide models it takes a while, and all workers wait for it.
            let taken;
            (steps, taken) = tokio::task::spawn_blocking(step).await.map_err(failed)?;
            if let Err(alone) = taken {
                return Ok((Err(alone), steps.told().to_vec()));
            }
            for (number, worker) in workers.iter_mut().enumerate() {
                if !steps.asks(number) && worker.is_ok() {
                    *worker = Err("it is left out".into());
                }
            }
        }
        gently(move || saved(fit.stepped(steps).map_err(|alone| (alone, Vec::new())))).await
    }

    fn start(&self, worker: usize) -> Result<Running, String> {
        let fail = |error: std::io::Error| format!("it can't be started: {error}");
        let order = Order { confine: self.confine, memory: MEMORY, seconds: self.time.as_secs().max(1) };
        let text = serde_json::to_vec(&order).map_err(|error| fail(error.into()))?;
        let path = self.folder.join(format!("worker-{}.json", worker + 1));
        std::fs::write(&path, text).map_err(fail)?;
        let log = OpenOptions::new().create(true).append(true).open(self.folder.join(LOG)).map_err(fail)?;
        let mut child = Command::new(&self.binary)
            .arg("worker")
            .arg(&path)
            .arg(std::process::id().to_string())
            .env_clear()
            // The allocator takes memory as it needs it then, and not a gibibyte of what there may be.
            .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(fail)?;
        tracing::info!(worker = worker + 1, pid = child.id(), "a worker learns");
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let (Some(to), Some(from)) = (to, from) else { return Err("it has no input or output".into()) };
        Ok(Running { child, to, from })
    }
}

/// The state of what came out.
fn saved(fitted: Result<Fitted, (Alone, Vec<Told>)>) -> (Result<Vec<u8>, Alone>, Vec<Told>) {
    match fitted {
        Ok(Fitted { model, told }) => (Ok(model.save()), told),
        Err((alone, told)) => (Err(alone), told),
    }
}

impl Running {
    /// Sends it this.
    async fn give(&mut self, bytes: &[u8], end: Instant) -> Result<(), String> {
        let give = async {
            self.to.write_all(&(bytes.len() as u64).to_le_bytes()).await?;
            self.to.write_all(bytes).await?;
            self.to.flush().await
        };
        match timeout_at(end, give).await {
            Err(_) => Err(late()),
            Ok(Err(_)) => Err(self.ended().await),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// Takes what it sends, of a length in this range. No room is made for more than has come.
    async fn take(&mut self, lengths: std::ops::RangeInclusive<u64>, end: Instant) -> Result<Vec<u8>, String> {
        let from = &mut self.from;
        let take = async {
            let length = from.read_u64_le().await.map_err(|_| None)?;
            if !lengths.contains(&length) {
                let (least, most) = (lengths.start(), lengths.end());
                return Err(Some(format!("it sends {length} bytes, where {least} to {most} are wanted")));
            }
            let mut bytes = Vec::new();
            from.take(length).read_to_end(&mut bytes).await.map_err(|_| None)?;
            if bytes.len() as u64 == length { Ok(bytes) } else { Err(None) }
        };
        match timeout_at(end, take).await {
            Err(_) => Err(late()),
            Ok(Err(None)) => Err(self.ended().await),
            Ok(Err(Some(why))) => Err(why),
            Ok(Ok(bytes)) => Ok(bytes),
        }
    }

    /// How it ended that says no more.
    async fn ended(&mut self) -> String {
        let status = match timeout(END, self.child.wait()).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return format!("it is gone: {error}"),
            Err(_) => return "it says nothing more".into(),
        };
        match (status.signal(), status.code()) {
            (Some(signal), _) => format!("signal {signal} ended it"),
            (None, Some(code)) => format!("it ended with {code}, and had more to say"),
            (None, None) => "it ended".into(),
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, format!("workers can't be brought together: {error}"))
}

fn late() -> String {
    "it was not done in time".into()
}
