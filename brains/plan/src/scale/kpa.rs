//! What Knative's pod autoscaler does, on requests in flight.

use online::{Error, Snapshot};
use serde::{Deserialize, Serialize};

use super::{Scaler, Seen, Terms, Window};

/// Seconds between decisions, of the stable and of the panic window.
const EVERY: u64 = 2;
const STABLE: u64 = 60;
const PANIC: u64 = 6;
/// How many times too few replicas are a panic.
const THRESHOLD: f64 = 2.0;
/// How many times more, and fewer, replicas are wanted in a decision at most.
const UP: f64 = 1_000.0;
const DOWN: f64 = 2.0;

/// The rule of Knative's documentation (its autoscaler's default settings): every 2 s, requests in flight over 60 s / target; over 6 s in a panic, when
/// that needs twice the replicas that are ready; for a minute after it, none are taken away. O(1) a second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kpa {
    terms: Terms,
    /// The share of a replica's lanes that should be busy.
    target: f64,
    /// What is wanted; what is there, until there was a decision.
    wanted: Option<u32>,
    stable: Window,
    panic: Window,
    panicked: Option<u64>,
}

impl Kpa {
    /// One that aims at this share of busy lanes.
    pub fn new(terms: Terms, target: f64) -> Self {
        Self {
            terms,
            target,
            wanted: None,
            stable: Window::new(STABLE as usize),
            panic: Window::new(PANIC as usize),
            panicked: None,
        }
    }

    /// Takes other terms from now on.
    pub fn set(&mut self, terms: Terms) {
        self.terms = terms;
    }

    /// Whether it is in a panic, or was within the last minute.
    pub fn panics(&self) -> bool {
        self.panicked.is_some()
    }
}

impl Snapshot for Kpa {
    const KIND: &'static str = "kpa";
    const VERSION: u16 = 2;

    fn check(&self) -> online::Result<()> {
        let numbers = [self.target, self.stable.sum, self.panic.sum];
        let whole = self.stable.length == STABLE as usize && self.panic.length == PANIC as usize;
        if whole && self.target > 0.0 && numbers.iter().all(|number| number.is_finite()) {
            Ok(())
        } else {
            Err(Error::Snapshot("has numbers that can't be"))
        }
    }
}

impl Scaler for Kpa {
    fn second(&mut self, at: u64, seen: &Seen) -> u32 {
        self.stable.push(seen.in_flight);
        self.panic.push(seen.in_flight);
        let wanted = *self.wanted.get_or_insert(self.terms.bounded(seen.there().into()));
        if !at.is_multiple_of(EVERY) {
            return wanted;
        }
        let ready = f64::from(seen.ready.max(1));
        let target = self.target * f64::from(self.terms.lanes);
        let within = |wanted: f64| wanted.ceil().clamp((ready / DOWN).floor(), ready * UP);
        let (stable, panic) = (within(self.stable.mean() / target), within(self.panic.mean() / target));
        if panic / ready >= THRESHOLD {
            self.panicked = Some(at);
        } else if self.panicked.is_some_and(|since| at.saturating_sub(since) > STABLE) {
            self.panicked = None;
        }
        let next = match self.panicked {
            Some(_) => f64::from(wanted).max(panic).max(stable),
            None => stable,
        };
        *self.wanted.insert(self.terms.bounded(next))
    }
}
