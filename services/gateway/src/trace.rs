//! Traces by OpenTelemetry: a recorded prediction becomes a span, with one below it for each step and each attempt.
//!
//! Spans are made from what `record` has timed anyway, after the answer is known; [`export`] turns them into OTLP and
//! sends them. Whoever is not traced costs one branch. A collector that is slow or away costs spans, which are counted,
//! and never a prediction. There is nothing of a payload or a credential in a span.

mod context;
mod export;
mod spans;

use std::{borrow::Cow, time::Duration};

use access::token::random;
use http::HeaderMap;
use metrics::Counter;
use parking_lot::Mutex;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rpc::Clock;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};
use types::{
    CallerName, Code, ModelName, Namespace, PredictionId, Refusal, Version,
    event::{Outcome, Prediction},
    quantity::Share,
};

use crate::metric::Exemplar;
use context::Context;

/// Traces that wait to be sent; more are dropped and counted. Some 2 KiB each.
const QUEUE: usize = 2_048;
/// How long a stopping gateway waits for its last spans.
const LAST: Duration = Duration::from_secs(2);

/// Where spans go, and whose.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// The collector's address for spans, by OTLP/HTTP.
    pub url: String,
    /// The share of predictions traced where the client did not decide.
    pub share: Share,
}

impl Traces {
    /// Spans to this collector: its base address, as `OTEL_EXPORTER_OTLP_ENDPOINT` has it.
    ///
    /// # Errors
    /// `settings_invalid` for what is no HTTP address.
    pub fn to(endpoint: &str, share: Share) -> Result<Self, Refusal> {
        let known = reqwest::Url::parse(endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !known {
            return Err(Refusal::new(Code::SettingsInvalid, format!("node.otlp is `{endpoint}`"))
                .hint("write a collector's address like `http://127.0.0.1:4318`"));
        }
        Ok(Self { url: format!("{}/v1/traces", endpoint.trim_end_matches('/')), share })
    }
}

/// The door a prediction came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// REST, on this route.
    Rest(&'static str),
    /// gRPC, by this method.
    Grpc(&'static str),
}

/// A traced prediction on its way.
#[derive(Debug, Clone)]
pub struct Trace {
    context: Context,
    door: Door,
    received: Instant,
    /// The same, in nanoseconds since 1970.
    at: u64,
    attempts: Attempts,
}

/// The attempts of a traced prediction.
#[derive(Debug, Clone, Default)]
pub struct Attempts(Vec<Attempt>);

/// One of them.
#[derive(Debug, Clone)]
struct Attempt {
    replica: String,
    version: Version,
    kind: &'static str,
    began: Instant,
    /// When and how it ended; an attempt that was not waited for did not.
    ended: Option<(Instant, &'static str)>,
    /// What the model server said: time in its queue, and time of the model itself.
    queued: Option<Duration>,
    compute: Option<Duration>,
}

impl Attempts {
    /// Notes that a replica is asked: first, or once more as `kind` says.
    pub(crate) fn began(&mut self, replica: &str, version: Version, kind: &'static str) {
        let (replica, began) = (replica.to_owned(), Instant::now());
        self.0.push(Attempt { replica, version, kind, began, ended: None, queued: None, compute: None });
    }

    /// Notes how the attempt of this number ended.
    pub(crate) fn ended(&mut self, number: usize, outcome: &'static str) {
        if let Some(attempt) = self.0.get_mut(number) {
            attempt.ended = Some((Instant::now(), outcome));
        }
    }

    /// Notes what the model server said of it.
    pub(crate) fn served(&mut self, number: usize, queued: Option<Duration>, compute: Duration) {
        if let Some(attempt) = self.0.get_mut(number) {
            (attempt.queued, attempt.compute) = (queued, Some(compute));
        }
    }
}

/// A traced prediction that is over, without its payload.
struct Finished {
    trace: Trace,
    took: Duration,
    prediction: PredictionId,
    namespace: Option<Namespace>,
    caller: Option<CallerName>,
    model: Option<ModelName>,
    version: Option<Version>,
    rows: u64,
    batch: u64,
    steps: Vec<(Cow<'static, str>, u32)>,
    /// The step that refused, if one did.
    last: usize,
    code: Option<Code>,
}

impl Finished {
    /// How many spans it becomes.
    fn spans(&self) -> usize {
        1 + self.steps.len() + self.trace.attempts.0.len()
    }
}

impl Trace {
    /// Where attempts are noted.
    pub(crate) fn attempts(&mut self) -> &mut Attempts {
        &mut self.attempts
    }

    /// What a metric remembers of it.
    pub(crate) fn exemplar(&self) -> Exemplar {
        Exemplar { trace: self.context.id(), at: self.at }
    }

    /// What is traced of a prediction whose record is closed; it took so long.
    pub(crate) fn finish(self, event: &Prediction, took: Duration) -> Ended {
        // The last step is `record`; what refused is the one before.
        let back = if event.outcome == Outcome::Answered { 1 } else { 2 };
        Ended(Box::new(Finished {
            trace: self,
            took,
            prediction: event.prediction,
            namespace: event.namespace.clone(),
            caller: event.caller.clone(),
            model: event.model.clone(),
            version: event.version,
            rows: event.rows,
            batch: event.batch,
            steps: event.steps.clone(),
            last: event.steps.len().saturating_sub(back),
            code: None,
        }))
    }
}

/// A traced prediction whose record is closed.
pub(crate) struct Ended(Box<Finished>);

enum Entry {
    Trace(Box<Finished>),
    Close(oneshot::Sender<()>),
}

/// Decides what is traced, and hands it to who sends it.
pub(crate) struct Tracer {
    share: f64,
    chance: Mutex<ChaCha8Rng>,
    queue: mpsc::Sender<Entry>,
    lost: Counter,
}

impl Tracer {
    /// Starts the task that sends spans, and counts those that are lost; it ends when the tracer is closed or dropped.
    pub(crate) fn start(traces: Traces, gateway: &str, lost: Counter) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE);
        tokio::spawn(export::run(traces.url, gateway.to_owned(), lost.clone(), entries));
        Self { share: traces.share.get(), chance: Mutex::new(ChaCha8Rng::from_seed(*random())), queue, lost }
    }

    /// Begins a trace where the client's `traceparent` wants one, or, where there is none, chance.
    pub(crate) fn begin(&self, headers: &HeaderMap, door: Door, clock: &Clock) -> Option<Box<Trace>> {
        let context = match Context::read(headers) {
            Some(context) if context.sampled() => context,
            Some(_) => return None,
            None => {
                let mut chance = self.chance.lock();
                let chosen = self.share > 0.0 && chance.random::<f64>() < self.share;
                chosen.then(|| Context::new(chance.random()))?
            }
        };
        let (received, at) = (Instant::now(), clock.nanos());
        Some(Box::new(Trace { context, door, received, at, attempts: Attempts::default() }))
    }

    /// Takes a trace in, with the code of its refusal; never waits.
    pub(crate) fn take(&self, Ended(mut trace): Ended, code: Option<Code>) {
        trace.code = code;
        let spans = trace.spans();
        if self.queue.try_send(Entry::Trace(trace)).is_err() {
            self.lost.increment(spans as u64);
        }
    }

    /// Sends what waits, for a moment at most.
    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        let close = async {
            if self.queue.send(Entry::Close(done)).await.is_ok() {
                // The exporter answers or is gone.
                let _ = closed.await;
            }
        };
        // What a silent collector did not take is lost with the process.
        let _ = timeout(LAST, close).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use types::{Timestamp, event::Captured};

    use super::*;

    const WANTED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const UNWANTED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    fn headers(traceparent: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            http::HeaderName::from_static("traceparent"),
            http::HeaderValue::from_static(traceparent),
        )])
    }

    /// A tracer whose collector takes connections and says nothing, and what it lost.
    fn tracer(share: f64) -> (Tracer, Arc<AtomicU64>, std::net::TcpListener) {
        access::tls::install_provider();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let lost = Arc::new(AtomicU64::new(0));
        let url = format!("http://{}", silent.local_addr().unwrap());
        let traces = Traces::to(&url, Share::new(share).unwrap()).unwrap();
        (Tracer::start(traces, "g0", Counter::from_arc(lost.clone())), lost, silent)
    }

    fn event() -> Prediction {
        Prediction {
            prediction: PredictionId(uuid::Uuid::nil()),
            namespace: None,
            model: None,
            version: None,
            snapshot: None,
            caller: None,
            client_id: None,
            at: Timestamp(0),
            steps: vec![("identify".into(), 3), ("record".into(), 4)],
            replica: None,
            rows: 0,
            batch: 0,
            attempts: 0,
            assessment: None,
            outcome: Outcome::Refused(Code::CredentialInvalid),
            shadow_of: None,
            input: Captured::None,
            output: Captured::None,
            keep: None,
            sketch: Vec::new(),
        }
    }

    #[tokio::test]
    async fn the_client_decides_and_else_chance() {
        let begins =
            |tracer: &Tracer, headers: &HeaderMap| tracer.begin(headers, Door::Rest(""), &Clock::System).is_some();
        for (share, by_chance) in [(0.0, false), (1.0, true)] {
            let (tracer, ..) = tracer(share);
            assert!(begins(&tracer, &headers(WANTED)));
            assert!(!begins(&tracer, &headers(UNWANTED)));
            assert_eq!(begins(&tracer, &HeaderMap::new()), by_chance);
            assert_eq!(begins(&tracer, &headers("00-no")), by_chance, "a malformed one is none");
        }
        let (tracer, ..) = tracer(0.25);
        let begun = (0..4_000).filter(|_| begins(&tracer, &HeaderMap::new())).count();
        assert!((800..1_200).contains(&begun), "{begun}");
    }

    #[tokio::test]
    async fn a_silent_collector_costs_spans_and_no_time() {
        let (tracer, lost, _silent) = tracer(0.0);
        // Nothing here awaits: whoever hands a trace over never waits, and what waits for the collector is bounded.
        for _ in 0..QUEUE + 10 {
            let trace = tracer.begin(&headers(WANTED), Door::Rest(""), &Clock::System).unwrap();
            tracer.take(trace.finish(&event(), Duration::from_micros(7)), Some(Code::CredentialInvalid));
        }
        assert_eq!(lost.load(Ordering::Relaxed), 10 * 3, "a prediction and two steps each");
        // The exporter is gone with the runtime; a node that stops waits for a moment at most.
        tokio::time::timeout(LAST * 2, tracer.close()).await.unwrap();
    }

    #[test]
    fn only_an_http_address_is_a_collector() {
        let share = Share::new(0.01).unwrap();
        assert_eq!(Traces::to("http://127.0.0.1:4318/", share).unwrap().url, "http://127.0.0.1:4318/v1/traces");
        assert_eq!(Traces::to("https://o.example/otlp", share).unwrap().url, "https://o.example/otlp/v1/traces");
        for wrong in ["127.0.0.1:4318", "grpc://127.0.0.1:4317", "collector"] {
            assert_eq!(Traces::to(wrong, share).unwrap_err().code, Code::SettingsInvalid, "{wrong}");
        }
    }
}
