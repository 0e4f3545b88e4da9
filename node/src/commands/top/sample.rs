//! One look at a node's counters.

use std::collections::BTreeMap;

use rpc::Clock;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use types::{Code, ModelName, Refusal, Timestamp};

use crate::{client::Client, output};

/// Counters of a model, over all gateways, since these started.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Counters {
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) rows: u64,
    pub(super) batches: f64,
    /// How many took less than so many microseconds, and not less than the bound below.
    pub(super) latency: BTreeMap<u64, u64>,
    pub(super) in_flight: u64,
    pub(super) waiting: u64,
}

/// Who chooses the replicas of a model.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub(super) struct Balancer {
    /// `off`, `shadow` or `on`.
    pub(super) mode: String,
    /// `pool` or `learnt`.
    pub(super) rule: String,
    /// Share of latency that the learnt rule saves, where both were tried.
    pub(super) saved: Option<f64>,
}

/// A model as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Model {
    pub(super) version: u64,
    /// Ready replicas, and those wanted.
    pub(super) replicas: (u64, u64),
    /// What its load says about their number; null where it has no say.
    pub(super) scaling: Value,
    pub(super) counters: Counters,
    /// Of several gateways, one where the learnt rule acts, if there is one.
    pub(super) balancer: Option<Balancer>,
}

/// Predictions of every namespace since the gateways started.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) answered: f64,
    pub(super) refused: f64,
}

/// What was seen, and when.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) at: Timestamp,
    pub(super) instant: Instant,
    pub(super) models: BTreeMap<ModelName, Model>,
    /// Nothing for who may not read metrics.
    pub(super) totals: Option<Totals>,
}

/// Takes looks.
pub(super) struct Looker {
    gateways: Vec<Client>,
    /// Whether the caller may read metrics, as far as that is known.
    may_read_metrics: bool,
}

impl Looker {
    pub(super) fn new(client: &Client) -> Self {
        Self { gateways: client.gateways(), may_read_metrics: true }
    }

    /// Looks once.
    ///
    /// # Errors
    /// What the node refuses.
    pub(super) async fn look(&mut self) -> Result<Sample, Refusal> {
        let mut models = BTreeMap::new();
        if let Some(first) = self.gateways.first() {
            for listed in first.get::<Vec<Listed>>("/v1/models").await? {
                let (replicas, counters) = (listed.replicas(), Counters::default());
                let scaling = listed.scaling;
                let model = Model { version: listed.version, replicas, scaling, counters, balancer: None };
                models.insert(listed.name, model);
            }
        }
        for gateway in &self.gateways {
            let Answer { model_stats } = gateway.get("/v2/models/stats").await?;
            for statistics in model_stats {
                if let Some(model) = models.get_mut(&statistics.name) {
                    statistics.add_to(&mut model.counters);
                    let balancer = statistics.mantlet.balancer;
                    if model.balancer.is_none() || balancer.as_ref().is_some_and(|one| one.rule == "learnt") {
                        model.balancer = balancer;
                    }
                }
            }
        }
        let totals = self.totals().await?;
        Ok(Sample { at: Clock::System.now(), instant: Instant::now(), models, totals })
    }

    /// Sums of every namespace; asked for no more once they were refused, since each refusal is recorded.
    async fn totals(&mut self) -> Result<Option<Totals>, Refusal> {
        let mut totals = Totals::default();
        for gateway in self.gateways.iter().filter(|_| self.may_read_metrics) {
            let text = match gateway.send(gateway.request(reqwest::Method::GET, "/metrics")).await {
                Ok(response) => response.text().await.map_err(|error| output::internal(&error))?,
                Err(refusal) if refusal.code == Code::NotAllowed => {
                    self.may_read_metrics = false;
                    break;
                }
                Err(refusal) => return Err(refusal),
            };
            totals.answered += sum(&text, "mantlet_gateway_answers_total");
            totals.refused += sum(&text, "mantlet_gateway_refusals_total");
        }
        Ok(self.may_read_metrics.then_some(totals))
    }
}

/// The sum of a counter over all its labels.
fn sum(text: &str, name: &str) -> f64 {
    let samples = text.lines().filter_map(|line| line.strip_prefix(name));
    let samples = samples.filter(|rest| rest.starts_with(['{', ' ']));
    samples.filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// An entry of `GET /v1/models`.
#[derive(Deserialize)]
struct Listed {
    name: ModelName,
    version: u64,
    replicas: String,
    #[serde(default)]
    scaling: Value,
}

impl Listed {
    fn replicas(&self) -> (u64, u64) {
        let number = |text: &str| text.parse().unwrap_or(0);
        self.replicas.split_once('/').map_or((0, 0), |(ready, wanted)| (number(ready), number(wanted)))
    }
}

/// The answer of `GET /v2/models/stats`.
#[derive(Deserialize)]
struct Answer {
    model_stats: Vec<Statistics>,
}

#[derive(Deserialize)]
struct Statistics {
    name: ModelName,
    inference_count: u64,
    inference_stats: Inferences,
    mantlet: Own,
}

#[derive(Deserialize)]
struct Inferences {
    success: Count,
    fail: Count,
}

#[derive(Deserialize)]
struct Count {
    count: u64,
}

#[derive(Deserialize)]
struct Own {
    in_flight: u64,
    waiting: u64,
    batches: f64,
    latency: Vec<(f64, u64)>,
    balancer: Option<Balancer>,
}

impl Statistics {
    fn add_to(&self, counters: &mut Counters) {
        counters.answered += self.inference_stats.success.count;
        counters.failed += self.inference_stats.fail.count;
        counters.rows += self.inference_count;
        counters.batches += self.mantlet.batches;
        counters.in_flight += self.mantlet.in_flight;
        counters.waiting += self.mantlet.waiting;
        for (bound, count) in &self.mantlet.latency {
            *counters.latency.entry(*bound as u64).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_summed_over_its_labels() {
        let text =
            "# TYPE a_total counter\na_total{step=\"x\",code=\"y\"} 3\na_total{step=\"z\"} 4\na_total_more 9\nb 1\n";
        assert_eq!((sum(text, "a_total"), sum(text, "b"), sum(text, "c")), (7.0, 1.0, 0.0));
    }
}
