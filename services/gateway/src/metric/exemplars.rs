//! Exemplars: for each bucket of a histogram, the last traced prediction that fell into it.

use std::time::Duration;

use parking_lot::Mutex;

use super::{BUCKETS, STEPS};

/// A traced prediction, as a metric remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exemplar {
    /// The trace's id.
    pub(crate) trace: u128,
    /// When it came in, in nanoseconds since 1970.
    pub(crate) at: u64,
}

/// The histograms: one for each step, one for whole predictions. Each has a bucket above the last bound.
const HISTOGRAMS: usize = STEPS.len() + 1;
type Cells = [[Option<(Exemplar, f64)>; BUCKETS.len() + 1]; HISTOGRAMS];

/// The last traced prediction of each bucket.
pub(super) struct Exemplars(Mutex<Box<Cells>>);

impl Default for Exemplars {
    fn default() -> Self {
        Self(Mutex::new(Box::new([[None; BUCKETS.len() + 1]; HISTOGRAMS])))
    }
}

fn bucket(value: f64) -> usize {
    BUCKETS.partition_point(|bound| *bound < value)
}

impl Exemplars {
    /// Notes that a traced prediction took so long, in a step or, without one, as a whole.
    pub(super) fn note(&self, exemplar: &Exemplar, step: Option<usize>, took: Duration) {
        let value = took.as_secs_f64();
        if let Some(cells) = self.0.lock().get_mut(step.unwrap_or(STEPS.len())) {
            cells[bucket(value)] = Some((*exemplar, value));
        }
    }

    /// The exemplar of a bucket, as OpenMetrics writes it; `le` is its bound.
    pub(super) fn of(&self, name: &str, step: Option<&str>, le: f64) -> Option<String> {
        let histogram = match (name, step) {
            ("mantlet_gateway_step_seconds_bucket", Some(step)) => STEPS.iter().position(|known| *known == step)?,
            ("mantlet_gateway_request_seconds_bucket", None) => STEPS.len(),
            _ => return None,
        };
        let (Exemplar { trace, at }, value) = self.0.lock().get(histogram)?[bucket(le)]?;
        Some(format!("{{trace_id=\"{trace:032x}\"}} {value} {}.{:03}", at / 1_000_000_000, at / 1_000_000 % 1_000))
    }
}
