//! Replicas under a load, second by second: starts that take their time, a backlog that outlasts a burst.

use plan::scale::{Scaler, Seen, Terms};

/// Seconds that a request takes alone.
pub(crate) const SERVICE: f64 = 0.1;
/// Seconds until a replica that goes has ended what it has, which are paid for.
const DRAIN: f64 = 1.0;

/// What a policy cost, and how often it was too late.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// Seconds in which some request waits too long.
    pub(crate) violating: f64,
    /// Seconds of replicas that start, answer or go.
    pub(crate) replicas: f64,
    /// Ups after downs and downs after ups within 300 s, by 300 s.
    pub(crate) reversals: f64,
    /// Seconds that count.
    pub(crate) seconds: f64,
}

/// Replicas that are there.
struct Fleet {
    ready: u32,
    /// When those that start will answer, the earliest first.
    starting: std::collections::VecDeque<u64>,
}

impl Fleet {
    fn there(&self) -> u32 {
        self.ready + self.starting.len() as u32
    }

    /// Starts and stops until so many are there; how many were stopped.
    fn set(&mut self, wanted: u32, ready_at: u64) -> u32 {
        let mut stopped = 0;
        while self.there() < wanted {
            self.starting.push_back(ready_at);
        }
        while self.there() > wanted && self.there() > 1 {
            // What does not answer yet goes first.
            if self.starting.pop_back().is_none() {
                self.ready -= 1;
                stopped += 1;
            }
        }
        stopped
    }
}

/// Up or down, and when.
#[derive(Default)]
struct Turns {
    last: Option<(u64, bool)>,
    count: f64,
}

impl Turns {
    fn note(&mut self, at: u64, before: u32, after: u32) {
        if before == after {
            return;
        }
        let up = after > before;
        if self.last.is_some_and(|(when, was)| was != up && at - when <= 300) {
            self.count += 1.0;
        }
        self.last = Some((at, up));
    }
}

/// Runs a policy over the requests of each second; NaN is a second that nobody counted.
pub(crate) fn run(requests: &[f64], terms: &Terms, scaler: &mut dyn Scaler) -> Outcome {
    let first = requests.iter().copied().find(|count| count.is_finite()).unwrap_or(0.0);
    let mut fleet = Fleet { ready: terms.bounded(first * SERVICE / 0.7), starting: Default::default() };
    let (mut outcome, mut turns, mut waiting, mut masked) = (Outcome::default(), Turns::default(), 0.0_f64, true);
    for (at, came) in (1_u64..).zip(requests.iter().copied()) {
        while fleet.starting.front().is_some_and(|ready| *ready <= at) {
            fleet.starting.pop_front();
            fleet.ready += 1;
        }
        let gap = came.is_nan();
        let lanes = f64::from(fleet.ready * terms.lanes);
        let most = lanes / SERVICE;
        let before = waiting;
        let served = (waiting + if gap { 0.0 } else { came }).min(most);
        waiting = if gap { 0.0 } else { before + came - served };
        let late = before.max(waiting) / most.max(1e-9) > terms.slo - SERVICE;
        // The first seconds after a gap are nobody's fault.
        if !gap && !masked {
            outcome.seconds += 1.0;
            outcome.violating += f64::from(u8::from(late));
            outcome.replicas += f64::from(fleet.there());
        }
        masked = gap || (masked && late);
        let seen = Seen {
            requests: came,
            in_flight: served * SERVICE + (before + waiting) / 2.0,
            service: SERVICE,
            ready: fleet.ready,
            starting: fleet.starting.len() as u32,
        };
        let there = fleet.there();
        let wanted = scaler.second(at, &seen);
        let stopped = fleet.set(wanted, at + terms.cold as u64);
        if !gap {
            outcome.replicas += f64::from(stopped) * DRAIN;
            turns.note(at, there, fleet.there());
        }
    }
    outcome.reversals = turns.count / (outcome.seconds / 300.0).max(1.0);
    outcome
}
