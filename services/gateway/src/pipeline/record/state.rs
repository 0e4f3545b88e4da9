//! Whether events are recorded at this moment: said once when that changes, and shown as metrics all the time.

use metrics::{Counter, Gauge};
use types::Refusal;

use crate::metric::{LOST, RECORDING};

/// What is known of it.
pub(super) struct State {
    /// Events lost since it began to fail; none while all is well.
    failing: Option<u64>,
    recording: Gauge,
    lost: Counter,
}

impl State {
    pub(super) fn new() -> Self {
        metrics::describe_gauge!(
            RECORDING,
            "1 while events are stored and get their ledger records, 0 while they don't"
        );
        let recording = metrics::gauge!(RECORDING);
        recording.set(1.0);
        Self { failing: None, recording, lost: metrics::counter!(LOST) }
    }

    /// Notes that events could not be stored or given a record, and how many of them are lost by it.
    pub(super) fn fails(&mut self, refusal: &Refusal, lost: u64) {
        self.lost.increment(lost);
        if self.failing.is_none() {
            self.recording.set(0.0);
            tracing::error!(%refusal, "events can't be recorded; predictions go on, and a gap will say how many were lost");
        }
        *self.failing.get_or_insert(0) += lost;
    }

    /// Notes that all that is stored has its record.
    pub(super) fn works(&mut self) {
        if let Some(lost) = self.failing.take() {
            self.recording.set(1.0);
            tracing::warn!(lost, "events are recorded again");
        }
    }
}
