//! Sends inferences at a given rate, or when a trace says so, whatever becomes of those before: arrivals are a Poisson process or the
//! trace's, and an answer's latency counts from the moment its request was due. Prints one JSON object. One thread.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Parser;
use hdrhistogram::Histogram;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// Open-loop load on one model.
#[derive(Parser)]
struct Options {
    /// Where to post to.
    #[arg(long)]
    url: String,
    /// The certificate to trust.
    #[arg(long)]
    ca: String,
    /// A file with the caller's token.
    #[arg(long)]
    token: String,
    /// A file with the request's JSON; of several, each request is one that is drawn.
    #[arg(long, required = true)]
    body: Vec<String>,
    /// A file with the numbers of the right answer's first output; one for each body.
    #[arg(long, required = true)]
    expected: Vec<String>,
    /// Requests a second.
    #[arg(long, default_value_t = 1.0, required_unless_present = "arrivals")]
    rate: f64,
    /// A file with the seconds at which requests are due, ascending, one a line; in place of a rate.
    #[arg(long)]
    arrivals: Option<String>,
    /// Connections that are opened before the clock runs, by a request each: handshakes are not what is measured.
    #[arg(long, default_value_t = 64)]
    warm: usize,
    /// How long, in seconds.
    #[arg(long)]
    seconds: f64,
    /// What counts as in time, in milliseconds; named in the requests, too.
    #[arg(long)]
    deadline: u64,
    /// Of the arrivals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Connections at a time, as a client with a pool has them; whoever finds none free waits, and its latency goes on.
    /// Without this bound, a moment's silence on either side ends in thousands of handshakes.
    #[arg(long, default_value_t = 512)]
    connections: usize,
    /// Milliseconds that the generator stands still after a quarter of its time; what fell due meanwhile is sent at once.
    #[arg(long, default_value_t = 0)]
    silence: u64,
}

struct Outcome {
    latency: Histogram<u64>,
    good: u64,
    late: u64,
    wrong: u64,
    refused: BTreeMap<String, u64>,
    /// Refusals for want of room that do not say when to come again.
    silent: u64,
    failed: BTreeMap<String, u64>,
    /// The latest that a request was sent after it was due.
    lag: Duration,
    /// How many fell due in each second that were not answered in time.
    missed: BTreeMap<u64, u64>,
}

fn main() -> Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let said = tokio::task::LocalSet::new().block_on(&runtime, run(&options))?;
    println!("{said}");
    Ok(())
}

async fn run(options: &Options) -> Result<Value> {
    let read = |path: &str| fs::read(path).with_context(|| path.to_owned());
    anyhow::ensure!(options.body.len() == options.expected.len(), "each body has one right answer");
    let questions = options.body.iter().zip(&options.expected).map(|(body, expected)| {
        let mut body: Value = serde_json::from_slice(&read(body)?)?;
        body["parameters"]["timeout"] = json!(options.deadline * 1_000);
        let expected: Vec<f64> = serde_json::from_slice(&read(expected)?)?;
        Ok((serde_json::to_vec(&body)?, Rc::new(expected)))
    });
    let questions: Vec<_> = questions.collect::<Result<_>>()?;
    let token = String::from_utf8(read(&options.token)?)?;
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(&read(&options.ca)?)?])
        .http1_only()
        .pool_max_idle_per_host(usize::MAX)
        .timeout(Duration::from_secs(20))
        .build()?;
    let outcome = Rc::new(RefCell::new(Outcome {
        latency: Histogram::new(3)?,
        good: 0,
        late: 0,
        wrong: 0,
        refused: BTreeMap::new(),
        silent: 0,
        failed: BTreeMap::new(),
        lag: Duration::ZERO,
        missed: BTreeMap::new(),
    }));
    let request = |question: usize| {
        client
            .post(&options.url)
            .bearer_auth(token.trim())
            .header("content-type", "application/json")
            .body(questions[question].0.clone())
    };
    let warm: Vec<_> = (0..options.warm).map(|_| tokio::task::spawn_local(ask(request(0)))).collect();
    for warm in warm {
        // What is wrong with these is wrong with the others, and counted there.
        let _ = warm.await?;
    }
    let pool = Rc::new(tokio::sync::Semaphore::new(options.connections));
    let (mut rng, began) = (ChaCha8Rng::seed_from_u64(options.seed), Instant::now());
    let (mut due, mut sent) = (0.0_f64, 0_u64);
    let mut asked = Vec::new();
    let arrivals = match &options.arrivals {
        None => None,
        Some(file) => {
            let text = String::from_utf8(read(file)?)?;
            let seconds = text.lines().map(str::parse).collect::<Result<Vec<f64>, _>>();
            Some(seconds.with_context(|| format!("`{file}` has a line that is no number of seconds"))?)
        }
    };
    let mut arrivals = arrivals.map(Vec::into_iter);
    let mut silence = (options.silence > 0).then(|| (options.seconds / 4.0, Duration::from_millis(options.silence)));
    loop {
        due = match &mut arrivals {
            Some(arrivals) => arrivals.next().unwrap_or(f64::INFINITY),
            // Exponential gaps; the logarithm of a number that is never zero.
            None => due - (1.0 - rng.random::<f64>()).ln() / options.rate,
        };
        if due >= options.seconds {
            break;
        }
        if let Some((_, still)) = silence.take_if(|(from, _)| due >= *from) {
            std::thread::sleep(still);
        }
        let at = began + Duration::from_secs_f64(due);
        tokio::time::sleep_until(at.into()).await;
        {
            let mut outcome = outcome.borrow_mut();
            outcome.lag = outcome.lag.max(at.elapsed());
        }
        // One body leaves the arrivals of a seed as they are.
        let question = if questions.len() > 1 { rng.random_range(0..questions.len()) } else { 0 };
        let request = request(question);
        let (outcome, expected, pool) = (outcome.clone(), questions[question].1.clone(), pool.clone());
        let deadline = Duration::from_millis(options.deadline);
        asked.push(tokio::task::spawn_local(async move {
            // It fails only when it is closed, which nobody does.
            let _place = pool.acquire().await;
            let answer = ask(request).await;
            let (took, due) = (at.elapsed(), at - began);
            outcome.borrow_mut().take(answer, (due, took), deadline, &expected);
        }));
        sent += 1;
    }
    for asked in asked {
        asked.await?;
    }
    let outcome = outcome.borrow();
    let millis = |quantile: f64| outcome.latency.value_at_quantile(quantile) as f64 / 1_000.0;
    Ok(json!({
        "sent": sent,
        "good": outcome.good,
        "good_per_s": outcome.good as f64 / options.seconds,
        "late": outcome.late,
        "wrong": outcome.wrong,
        "refused": outcome.refused,
        "refused_without_retry_after": outcome.silent,
        "failed": outcome.failed,
        "answered_p50_ms": millis(0.5),
        "answered_p99_ms": millis(0.99),
        "missed_by_second": outcome.missed,
        "lag_ms": outcome.lag.as_secs_f64() * 1_000.0,
    }))
}

struct Answer {
    status: u16,
    retry_after: bool,
    body: Value,
}

async fn ask(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let (status, retry_after) = (response.status().as_u16(), response.headers().contains_key("retry-after"));
    let body = serde_json::from_slice(&response.bytes().await?).unwrap_or(Value::Null);
    Ok(Answer { status, retry_after, body })
}

impl Outcome {
    fn take(&mut self, answer: Result<Answer, reqwest::Error>, (due, took): (Duration, Duration), deadline: Duration, expected: &[f64]) {
        let good = self.good;
        self.count(answer, took, deadline, expected);
        if self.good == good {
            *self.missed.entry(due.as_secs()).or_default() += 1;
        }
    }

    fn count(&mut self, answer: Result<Answer, reqwest::Error>, took: Duration, deadline: Duration, expected: &[f64]) {
        match answer {
            Err(error) => *self.failed.entry(error.without_url().to_string()).or_default() += 1,
            Ok(Answer { status: 200, body, .. }) => {
                let _ = self.latency.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                let numbers = body["outputs"][0]["data"].as_array().map(Vec::as_slice).unwrap_or_default();
                let near = |(found, wanted): (&Value, &f64)| {
                    found.as_f64().is_some_and(|found| (found - wanted).abs() <= 1e-4 * wanted.abs().max(1.0))
                };
                if numbers.len() != expected.len() || !numbers.iter().zip(expected).all(near) {
                    self.wrong += 1;
                } else if took <= deadline {
                    self.good += 1;
                } else {
                    self.late += 1;
                }
            }
            Ok(Answer { status, retry_after, body }) => {
                self.silent += u64::from(matches!(status, 429 | 503) && !retry_after);
                let code = body["code"].as_str().unwrap_or("no code");
                *self.refused.entry(format!("{status} {code}")).or_default() += 1;
            }
        }
    }
}
