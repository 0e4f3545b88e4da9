//! What Knative's pod autoscaler does, on requests in flight.

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
#[derive(Debug, Clone)]
pub struct Kpa {
    terms: Terms,
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
        } else if self.panicked.is_some_and(|since| at - since > STABLE) {
            self.panicked = None;
        }
        let next = match self.panicked {
            Some(_) => f64::from(wanted).max(panic).max(stable),
            None => stable,
        };
        *self.wanted.insert(self.terms.bounded(next))
    }
}
