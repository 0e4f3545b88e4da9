//! Rate, errors and duration of each step, under the step's own name.

mod exemplars;
pub(crate) mod openmetrics;

use std::{borrow::Cow, time::Duration};

use metrics::{Counter, Histogram};
use types::Code;

pub(crate) use exemplars::Exemplar;
use exemplars::Exemplars;

use crate::pipeline::{
    balance::{
        probe::PROBED,
        turns::{ACTS, SAVED},
    },
    record::COPIED,
};

/// The ring's steps, in order.
pub(crate) const STEPS: [&str; 7] = ["identify", "authorize", "assess", "route", "balance", "forward", "record"];

/// Bounds of the histograms' buckets, in seconds.
pub const BUCKETS: [f64; 18] =
    [1e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// 1 while events are stored and get their ledger records, 0 while they don't.
pub const RECORDING: &str = "mantlet_gateway_recording";
/// Events that were lost, as far as they were counted.
pub const LOST: &str = "mantlet_gateway_events_lost_total";

/// Labels that were stored.
const LABELS: &str = "mantlet_gateway_labels_total";

/// Spans that were lost.
const SPANS_LOST: &str = "mantlet_gateway_spans_lost_total";

/// Handles made once, so that counting costs no look-up.
pub(crate) struct Metrics {
    steps: Vec<(Histogram, Counter)>,
    answered: Counter,
    whole: Histogram,
    lost: Counter,
    spans_lost: Counter,
    labels: Counter,
    exemplars: Exemplars,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        metrics::describe_histogram!(
            "mantlet_gateway_step_seconds",
            metrics::Unit::Seconds,
            "time a step of the ring took"
        );
        metrics::describe_counter!("mantlet_gateway_step_total", "requests that entered a step of the ring");
        metrics::describe_counter!("mantlet_gateway_refusals_total", "requests refused, by the step and code");
        metrics::describe_counter!("mantlet_gateway_answers_total", "predictions answered");
        metrics::describe_counter!(
            "mantlet_gateway_attempts_total",
            "predictions sent once more: in place of a lost attempt (retry), of a silent one (rescue), for the tail (hedge), or to find out how quick a replica is (explore)"
        );
        metrics::describe_histogram!(
            "mantlet_gateway_request_seconds",
            metrics::Unit::Seconds,
            "time of whole predictions"
        );
        metrics::describe_counter!(
            COPIED,
            "copies of predictions for a version that is compared, by what became of them: left out under load (dropped)"
        );
        metrics::describe_gauge!(ACTS, "1 while the learnt rule chooses a version's replicas, 0 while the pool does");
        metrics::describe_gauge!(
            SAVED,
            "share of latency that the learnt rule saves beside the pool, below 0 where it costs"
        );
        metrics::describe_counter!(
            PROBED,
            "replicas asked how they stand between requests: told what others have there (told), that there are none (alone), or nothing in time (missed)"
        );
        metrics::describe_counter!(SPANS_LOST, "spans lost because the collector was away, busy or refused them");
        metrics::describe_counter!(LABELS, "labels of predictions that were stored");
        metrics::describe_counter!(LOST, "events lost because the queue was full, or the disk");
        let step = |step: &&'static str| {
            let name = *step;
            (
                metrics::histogram!("mantlet_gateway_step_seconds", "step" => name),
                metrics::counter!("mantlet_gateway_step_total", "step" => name),
            )
        };
        Self {
            steps: STEPS.iter().map(step).collect(),
            answered: metrics::counter!("mantlet_gateway_answers_total"),
            whole: metrics::histogram!("mantlet_gateway_request_seconds"),
            lost: metrics::counter!(LOST),
            spans_lost: metrics::counter!(SPANS_LOST),
            labels: metrics::counter!(LABELS),
            exemplars: Exemplars::default(),
        }
    }

    pub(crate) fn step(&self, step: usize, took: Duration) {
        if let Some((histogram, counter)) = self.steps.get(step) {
            counter.increment(1);
            histogram.record(took.as_secs_f64());
        }
    }

    pub(crate) fn refused(&self, step: usize, code: Code) {
        let step = STEPS.get(step).copied().unwrap_or("listen");
        metrics::counter!("mantlet_gateway_refusals_total", "step" => step, "code" => code.as_str()).increment(1);
    }

    pub(crate) fn finished(&self, answered: bool, took: Duration) {
        self.whole.record(took.as_secs_f64());
        if answered {
            self.answered.increment(1);
        }
    }

    /// A prediction was sent once more.
    pub(crate) fn again(&self, kind: &'static str) {
        metrics::counter!("mantlet_gateway_attempts_total", "kind" => kind).increment(1);
    }

    /// Remembers a traced prediction in the buckets it fell into.
    pub(crate) fn traced(&self, exemplar: &Exemplar, steps: &[(Cow<'static, str>, u32)], took: Duration) {
        for (name, micros) in steps {
            if let Some(step) = STEPS.iter().position(|step| step == name) {
                self.exemplars.note(exemplar, Some(step), Duration::from_micros((*micros).into()));
            }
        }
        self.exemplars.note(exemplar, None, took);
    }

    /// Prometheus' text of this process as OpenMetrics, with exemplars.
    pub(crate) fn open_metrics(&self, text: &str) -> String {
        openmetrics::render(text, |name, step, le| self.exemplars.of(name, step, le))
    }

    /// Where lost spans are counted.
    pub(crate) fn spans_lost(&self) -> Counter {
        self.spans_lost.clone()
    }

    /// So many labels were stored.
    pub(crate) fn labels(&self, count: u64) {
        self.labels.increment(count);
    }

    /// Where lost events are counted.
    pub(crate) fn losses(&self) -> Counter {
        self.lost.clone()
    }

    pub(crate) fn lost(&self) {
        self.lost.increment(1);
    }
}
