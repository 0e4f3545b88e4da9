//! Each in turn: the plainest twin.

use std::time::Duration;

use rand::Rng;

use super::{Ask, Claim, End, Policy};

/// Gives requests to replicas in turn. O(1) a claim.
#[derive(Debug, Clone, Default)]
pub struct RoundRobin {
    keys: Vec<u64>,
    next: usize,
}

impl Policy for RoundRobin {
    fn set(&mut self, keys: &[u64], _now: Duration) {
        self.keys = keys.to_vec();
    }

    fn claim(&mut self, _ask: &Ask, _now: Duration, _rng: &mut dyn Rng) -> Option<Claim> {
        let place = self.next % self.keys.len().max(1);
        self.next = place + 1;
        self.keys.get(place).map(|key| Claim { key: *key, id: 0, predicted: 0.0 })
    }

    fn ended(&mut self, _end: &End<'_>, _now: Duration) {}
}
