//! Requests in flight and latencies as replicas themselves tell them: Prequal.

use std::time::Duration;

use rand::{Rng, RngExt as _};

use super::{Ask, Claim, End, Listening, Policy};
use crate::report::Report;

/// Answers that are kept where replicas are drawn.
const POOL: usize = 16;
/// Replicas that are asked after each request.
const PROBES: u32 = 3;
/// How often all are asked beside, where there are no more than [`POOL`].
const POLL: Duration = Duration::from_millis(50);
/// The age at which an answer is thrown away, where replicas are drawn.
const OLDEST: Duration = Duration::from_secs(1);
/// Above this quantile of requests in flight lately a replica is hot.
const HOT: f64 = 0.84;
/// Readings that the quantile is of.
const RECENT: usize = 128;

/// What is known of a replica.
#[derive(Debug, Clone, Copy)]
struct Heard {
    place: usize,
    in_flight: u32,
    latency: f64,
    at: Duration,
}

/// Prequal (Wydrowski et al., NSDI 2024): of the replicas that told of themselves lately, the quickest of those that are
/// not hot, else the least busy.
///
/// As in the paper three are asked after each request and sixteen answers are kept, the oldest or worst of them removed at
/// each request. Its formula of how often an answer may be used wants more replicas than answers; with sixteen replicas or
/// fewer all of them are kept and asked every 50 ms beside, and what this gateway sent since is added. O(replicas) a claim.
#[derive(Debug, Clone, Default)]
pub struct Prequal {
    keys: Vec<u64>,
    /// One of each replica where all are asked, in order of places; else the pool.
    pool: Vec<Heard>,
    /// Latest requests in flight that were heard of, a ring.
    recent: Vec<u32>,
    next: usize,
    sorted: Vec<u32>,
    worst_next: bool,
}

impl Prequal {
    fn few(&self) -> bool {
        self.keys.len() <= POOL
    }

    fn hear(&mut self, in_flight: u32) {
        if self.recent.len() < RECENT {
            self.recent.push(in_flight);
        } else {
            self.recent[self.next] = in_flight;
            self.next = (self.next + 1) % RECENT;
        }
    }

    /// Requests in flight from which a replica is hot.
    fn hot(&mut self) -> u32 {
        self.sorted.clone_from(&self.recent);
        let place = (self.sorted.len() as f64 * HOT) as usize;
        if place >= self.sorted.len() {
            return u32::MAX;
        }
        *self.sorted.select_nth_unstable(place).1
    }

    /// The best one of the pool.
    fn best(&mut self) -> Option<usize> {
        let hot = self.hot();
        let order = |heard: &Heard| {
            let is_hot = heard.in_flight > hot;
            (is_hot, if is_hot { f64::from(heard.in_flight) } else { heard.latency }, f64::from(heard.in_flight))
        };
        let ordered = |a: &&Heard, b: &&Heard| {
            let (a, b) = (order(a), order(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.total_cmp(&b.2))
        };
        let best = self.pool.iter().min_by(ordered)?;
        self.pool.iter().position(|heard| std::ptr::eq(heard, best))
    }

    /// Removes the oldest answer and the worst in turn.
    fn remove(&mut self) {
        let oldest = (0..self.pool.len()).min_by_key(|place| self.pool[*place].at);
        let worst = (0..self.pool.len()).max_by_key(|place| self.pool[*place].in_flight);
        let removed = if self.worst_next { worst } else { oldest };
        self.worst_next = !self.worst_next;
        if let Some(place) = removed {
            self.pool.swap_remove(place);
        }
    }
}

impl Policy for Prequal {
    fn set(&mut self, keys: &[u64], now: Duration) {
        self.keys = keys.to_vec();
        self.pool.clear();
        if self.few() {
            self.pool = (0..keys.len()).map(|place| Heard { place, in_flight: 0, latency: 0.0, at: now }).collect();
        }
    }

    fn claim(&mut self, _ask: &Ask, now: Duration, rng: &mut dyn Rng) -> Option<Claim> {
        let few = self.few();
        if !few {
            self.pool.retain(|heard| now.saturating_sub(heard.at) <= OLDEST);
        }
        let place = if !few && self.pool.len() < 2 {
            if self.keys.is_empty() { None } else { Some(rng.random_range(0..self.keys.len())) }
        } else {
            let best = self.best()?;
            self.pool[best].in_flight += 1;
            Some(self.pool[best].place)
        }?;
        if !few && self.pool.len() >= POOL - PROBES as usize {
            self.remove();
        }
        self.keys.get(place).map(|key| Claim { key: *key, id: 0, predicted: 0.0 })
    }

    fn ended(&mut self, end: &End<'_>, now: Duration) {
        if let (true, Some(report)) = (self.few(), end.report) {
            self.heard(end.claim.key, report, now);
        }
    }

    fn listening(&self) -> Listening {
        Listening { after_request: PROBES, every: self.few().then_some(POLL) }
    }

    fn heard(&mut self, key: u64, report: &Report, at: Duration) {
        let Some(place) = self.keys.iter().position(|other| *other == key) else { return };
        if self.pool.iter().any(|known| known.place == place && known.at > at) {
            return;
        }
        self.hear(report.in_flight);
        let heard = Heard { place, in_flight: report.in_flight, latency: report.latency, at };
        if self.few() {
            self.pool[place] = heard;
            return;
        }
        if self.pool.len() >= POOL {
            self.remove();
        }
        self.pool.push(heard);
    }
}
