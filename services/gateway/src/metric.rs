//! Rate, errors and duration of each step, under the step's own name.

use std::time::Duration;

use metrics::{Counter, Histogram};
use types::Code;

/// The ring's steps, in order.
pub(crate) const STEPS: [&str; 7] = ["identify", "authorize", "assess", "route", "balance", "forward", "record"];

/// 1 while events are stored and get their ledger records, 0 while they don't.
pub const RECORDING: &str = "mantlet_gateway_recording";
/// Events that were lost, as far as they were counted.
pub const LOST: &str = "mantlet_gateway_events_lost_total";

/// Handles made once, so that counting costs no look-up.
pub(crate) struct Metrics {
    steps: Vec<(Histogram, Counter)>,
    answered: Counter,
    whole: Histogram,
    lost: Counter,
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
            "predictions sent once more: in place of a lost attempt (retry), of a silent one (rescue), or for the tail (hedge)"
        );
        metrics::describe_histogram!(
            "mantlet_gateway_request_seconds",
            metrics::Unit::Seconds,
            "time of whole predictions"
        );
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

    pub(crate) fn lost(&self) {
        self.lost.increment(1);
    }
}
