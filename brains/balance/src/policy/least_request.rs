//! The replica with the fewest of this gateway's own requests in flight.

use std::time::Duration;

use rand::{Rng, RngExt as _};

use super::{Ask, Claim, End, Policy};

/// Chooses whom the fewest requests in flight are at; of several one at random. O(replicas) a claim.
#[derive(Debug, Clone, Default)]
pub struct LeastRequest {
    replicas: Vec<(u64, u32)>,
}

impl Policy for LeastRequest {
    fn set(&mut self, keys: &[u64], _now: Duration) {
        let known = |key: &u64| self.replicas.iter().find(|(other, _)| other == key).map_or(0, |(_, count)| *count);
        self.replicas = keys.iter().map(|key| (*key, known(key))).collect();
    }

    fn claim(&mut self, _ask: &Ask, _now: Duration, rng: &mut dyn Rng) -> Option<Claim> {
        let least = self.replicas.iter().map(|(_, count)| *count).min()?;
        let equal = || self.replicas.iter().enumerate().filter(|(_, (_, count))| *count == least);
        let drawn = rng.random_range(0..equal().count());
        let (place, (key, _)) = equal().nth(drawn)?;
        let claim = Claim { key: *key, id: 0, predicted: 0.0 };
        self.replicas[place].1 += 1;
        Some(claim)
    }

    fn ended(&mut self, end: &End<'_>, _now: Duration) {
        if let Some((_, count)) = self.replicas.iter_mut().find(|(key, _)| *key == end.claim.key) {
            *count = count.saturating_sub(1);
        }
    }
}
