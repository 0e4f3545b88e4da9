//! Predictions by many clients at once, each checked, while something else happens.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::node::Client;

/// Asks for predictions of [`onnx::add`](crate::onnx::add) models, some at a time, until it is told to stop.
pub struct Load {
    asking: JoinSet<Vec<String>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
}

fn is_right(answer: &Value, value: f64, term: fn(u64) -> f64) -> bool {
    let version = answer["model_version"].as_str().and_then(|version| version.parse().ok());
    let wanted = |term: f64| json!([value + term, term, 1.0 + term, value + term]);
    version.is_some_and(|version| answer["outputs"][0]["data"] == wanted(term(version)))
}

impl Load {
    /// Asks `model`, a version of which adds `term(version)`, this many times at once, each with `patience` as its
    /// deadline.
    pub fn start(client: &Client, model: &str, term: fn(u64) -> f64, clients: u64, patience: Duration) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut asking = JoinSet::new();
        for number in 0..clients {
            let (client, stop, answered) = (client.clone(), stop.clone(), answered.clone());
            let path = format!("/v2/models/{model}/infer");
            asking.spawn(async move {
                let mut failed = Vec::new();
                // Whole numbers that single precision holds, another one each time.
                for value in (0..).map(|n| ((number + n * clients) % 1_000_000) as f64) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let tensor =
                        json!({ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": [value, 0, 1, value] });
                    let request = client.request(Method::POST, &path).timeout(patience * 2);
                    let deadline = u64::try_from(patience.as_micros()).unwrap_or(u64::MAX);
                    let body = json!({ "inputs": [tensor], "parameters": { "timeout": deadline } });
                    let sent = client.try_send(request.json(&body)).await;
                    match sent {
                        Ok((200, answer)) if is_right(&answer, value, term) => {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        other => failed.push(format!("{value}: {other:?}")),
                    }
                }
                failed
            });
        }
        Self { asking, stop, answered }
    }

    /// How many were answered, and rightly, so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many more are answered.
    ///
    /// # Panics
    /// When the next hundred take too long.
    pub async fn more(&self, answers: u64) {
        let wanted = self.answered() + answers;
        while self.answered() < wanted {
            let next = wanted.min(self.answered() + 100);
            let until = tokio::time::Instant::now() + crate::node::PATIENCE;
            while self.answered() < next {
                assert!(tokio::time::Instant::now() < until, "no more answers after {}", self.answered());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// How many were answered, and what failed.
    pub async fn end(mut self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut failed = Vec::new();
        while let Some(asked) = self.asking.join_next().await {
            failed.extend(asked.unwrap());
        }
        (self.answered(), failed)
    }
}
