//! Sends spans to a collector, by OTLP/HTTP with protobuf.
//!
//! Traces gather for a moment and go together. A collector that is away or busy is asked again, as the protocol has it;
//! what it does not take then is dropped and counted. Meanwhile the queue fills, and what does not fit is dropped there.

use std::time::Duration;

use access::token::random;
use metrics::Counter;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use reqwest::StatusCode;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout_at},
};

use super::{Entry, Finished, spans};
use types::refusal;

/// Traces sent together, and the longest one waits for company: some 200 KiB.
const BATCH: usize = 128;
const LINGER: Duration = Duration::from_millis(500);
/// How long the collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long is waited before it is asked again.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// The largest answer that is read.
const ANSWER: usize = 64 << 10;

/// Sends what comes until the queue is closed.
pub(super) async fn run(url: String, gateway: String, lost: Counter, mut queue: mpsc::Receiver<Entry>) {
    let mut exporter =
        Exporter { client: None, url, gateway, lost, ids: ChaCha8Rng::from_seed(*random()), works: true };
    let mut closing: Option<oneshot::Sender<()>> = None;
    while closing.is_none() {
        let mut batch = Vec::new();
        let Some(first) = queue.recv().await else { return };
        take(first, &mut batch, &mut closing);
        let due = Instant::now() + LINGER;
        while batch.len() < BATCH && closing.is_none() {
            match timeout_at(due, queue.recv()).await {
                Ok(Some(entry)) => take(entry, &mut batch, &mut closing),
                Ok(None) | Err(_) => break,
            }
        }
        exporter.send(&batch, closing.is_some()).await;
    }
    if let Some(done) = closing {
        // Who waited may have given up.
        let _ = done.send(());
    }
}

fn take(entry: Entry, batch: &mut Vec<Finished>, closing: &mut Option<oneshot::Sender<()>>) {
    match entry {
        Entry::Trace(trace) => batch.push(*trace),
        Entry::Close(done) => *closing = Some(done),
    }
}

struct Exporter {
    client: Option<reqwest::Client>,
    url: String,
    gateway: String,
    lost: Counter,
    ids: ChaCha8Rng,
    works: bool,
}

/// Why spans were not taken.
struct Failure {
    why: String,
    /// Whether the same may be taken later.
    passing: bool,
}

impl Exporter {
    /// Sends traces; the last ones once only.
    async fn send(&mut self, batch: &[Finished], last: bool) {
        let mut all = Vec::with_capacity(batch.iter().map(Finished::spans).sum());
        for trace in batch {
            spans::write(trace, &mut self.ids, &mut all);
        }
        let count = all.len() as u64;
        if count == 0 {
            return;
        }
        let resource_spans = vec![spans::resource(&self.gateway, all)];
        let body = bytes::Bytes::from(ExportTraceServiceRequest { resource_spans }.encode_to_vec());
        let mut waits = AGAIN.iter().filter(|_| !last);
        loop {
            match self.post(body.clone()).await {
                Ok(rejected) => return self.taken(rejected.min(count)),
                Err(Failure { why, passing }) => {
                    self.fails(&why);
                    match waits.next().filter(|_| passing) {
                        Some(wait) => sleep(*wait).await,
                        None => return self.lost.increment(count),
                    }
                }
            }
        }
    }

    /// Sends a request; how many of its spans were rejected.
    async fn post(&mut self, body: bytes::Bytes) -> Result<u64, Failure> {
        let passing = |error: reqwest::Error| Failure { why: refusal::cause(&error), passing: true };
        let client = match &self.client {
            Some(client) => client.clone(),
            None => self.client.insert(client(&self.url).map_err(passing)?).clone(),
        };
        let request = client.post(&self.url).header(http::header::CONTENT_TYPE, "application/x-protobuf").body(body);
        let mut response = request.send().await.map_err(passing)?;
        let status = response.status();
        if !status.is_success() {
            let again = [
                StatusCode::TOO_MANY_REQUESTS,
                StatusCode::BAD_GATEWAY,
                StatusCode::SERVICE_UNAVAILABLE,
                StatusCode::GATEWAY_TIMEOUT,
            ];
            return Err(Failure { why: format!("it answers {status}"), passing: again.contains(&status) });
        }
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(passing)? {
            if answer.len() + chunk.len() > ANSWER {
                return Ok(0);
            }
            answer.extend_from_slice(&chunk);
        }
        // Whoever answers otherwise has taken all of it: it said so by its status.
        let rejected = ExportTraceServiceResponse::decode(answer.as_slice()).ok().and_then(|it| it.partial_success);
        Ok(rejected.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0)))
    }

    fn taken(&mut self, rejected: u64) {
        self.lost.increment(rejected);
        if !self.works {
            self.works = true;
            tracing::info!(collector = self.url, "spans are exported again");
        }
    }

    /// Said once, until it works again.
    fn fails(&mut self, why: &str) {
        if self.works {
            self.works = false;
            tracing::warn!(collector = self.url, why, "spans can't be exported; they are dropped and counted");
        }
    }
}

/// A client of the collector. One in plain HTTP is near: no proxy stands before it.
fn client(url: &str) -> reqwest::Result<reqwest::Client> {
    let builder = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
    if url.starts_with("http://") { builder.no_proxy().build() } else { builder.build() }
}
