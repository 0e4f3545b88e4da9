//! What every chooser of a replica has in common, so that one simulator, one bench and one gateway can hold any of them.
//!
//! Plain ones: [`RoundRobin`], [`LeastRequest`], two choices by peak latency ([`Pool`]), [`Prequal`]. The learnt one is
//! [`Guarded`](crate::Guarded), which has a [`Pool`] as its champion.

mod least_request;
mod prequal;
mod round_robin;

use std::time::Duration;

pub use least_request::LeastRequest;
pub use prequal::Prequal;
use rand::Rng;
pub use round_robin::RoundRobin;

use crate::{Outcome, Pool, report::Report};

/// What is known of a request before anybody works on it; what its cost is predicted from.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ask {
    /// What the work grows with: tokens of the prompt, or bytes of the tensors; at least 0.
    pub size: f64,
    /// Rows of the batch.
    pub rows: u32,
}

/// A replica that is claimed for a request, with what must be handed back when that has ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claim {
    /// The replica.
    pub key: u64,
    /// The claim's number, unlike that of any other claim of this chooser.
    pub id: u64,
    /// Its predicted work in seconds on a usual replica; 0 where nobody predicts. It goes with the request, so that the
    /// replica can say how much waits there ([`Reporter`](crate::report::Reporter)).
    pub predicted: f64,
}

/// How a claim ended.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// What was claimed.
    pub claim: Claim,
    /// For what.
    pub ask: Ask,
    /// When, on the clock of `now`.
    pub began: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// How long the replica worked on it, without waiting; where the replica says so.
    pub compute: Option<Duration>,
    /// How the replica stood when it answered; where it says so.
    pub report: Option<&'a Report>,
}

/// How a chooser wants to hear from replicas beside their answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listening {
    /// So many replicas, drawn at random, are asked after each request.
    pub after_request: u32,
    /// All are asked so often.
    pub every: Option<Duration>,
}

/// Whoever chooses replicas. `now` is everywhere a monotonic time since any fixed moment; the same calls with the same
/// draws choose the same.
pub trait Policy {
    /// Takes in which replicas there are now; of those that stay what is known is kept.
    fn set(&mut self, keys: &[u64], now: Duration);

    /// Claims a replica; `None` without any. Each claim is ended once.
    fn claim(&mut self, ask: &Ask, now: Duration, rng: &mut dyn Rng) -> Option<Claim>;

    /// A claim has ended.
    fn ended(&mut self, end: &End<'_>, now: Duration);

    /// How it wants to hear from replicas.
    fn listening(&self) -> Listening {
        Listening::default()
    }

    /// A replica that was asked has said how it stood at `at`.
    fn heard(&mut self, _key: u64, _report: &Report, _at: Duration) {}
}

impl Policy for Pool<u64> {
    fn set(&mut self, keys: &[u64], now: Duration) {
        Pool::set(self, keys, now);
    }

    fn claim(&mut self, _ask: &Ask, now: Duration, mut rng: &mut dyn Rng) -> Option<Claim> {
        let key = Pool::claim(self, &[], now, &mut rng)?;
        Some(Claim { key, id: 0, predicted: 0.0 })
    }

    fn ended(&mut self, end: &End<'_>, now: Duration) {
        Pool::ended(self, &end.claim.key, end.began, now, end.outcome);
    }
}

#[cfg(test)]
mod tests;
