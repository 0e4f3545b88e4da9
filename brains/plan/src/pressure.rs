//! Which models are unloaded when memory is short, and when one of them may come back.
//!
//! A model is worth what it would cost to be without it: its recent requests, each of which would wait for a start, per byte that
//! it takes ([`Candidate::worth`]). Where less is free than is to stay free, those that are worth least go until there is some
//! more than that, and nothing further happens until their memory can be seen to be free. What has just come stays for a while, so
//! that two models which do not fit together take turns of a length instead of flapping.
//!
//! Who may be unloaded at all (nobody asks right now, no person has said how many replicas there are) is the caller's to say.

use std::time::Duration;

use crate::ModelId;

/// How much more than the reserve is made free, so that the next request does not make it short again.
const MORE: f64 = 1.5;
/// How long until it shows what was unloaded or loaded.
const SETTLE: Duration = Duration::from_secs(10);
/// How long a model stays that has come, whatever it is worth.
const STAY: Duration = Duration::from_secs(30);
/// How many times as much a model must be worth as those that go for it.
const BETTER: f64 = 2.0;
/// Time after which a request counts for 1/e.
const TAU: f64 = 600.0;

/// Memory of a machine, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What can be had without taking anything from anybody.
    pub free: u64,
}

/// Requests of the last ten minutes or so, older ones counting less. O(1).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Recent {
    count: f64,
    at: Duration,
}

impl Recent {
    /// So many came until now; what is no number counts as none.
    pub fn note(&mut self, requests: f64, now: Duration) {
        let kept = self.count(now);
        self.count = kept + if requests.is_finite() { requests.max(0.0) } else { 0.0 };
        self.at = self.at.max(now);
    }

    /// How many they are now.
    pub fn count(&self, now: Duration) -> f64 {
        self.count * (-now.saturating_sub(self.at).as_secs_f64() / TAU).exp()
    }
}

/// A model that may be unloaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Which.
    pub model: ModelId,
    /// Its recent requests.
    pub requests: f64,
    /// Seconds that a start of it takes.
    pub cold: f64,
    /// Bytes that it takes.
    pub bytes: u64,
    /// Since when it is loaded.
    pub since: Duration,
}

impl Candidate {
    /// Seconds that requests would have waited, per byte. One request more than there were: what nobody has asked for yet is
    /// worth what it takes to have it back.
    pub fn worth(&self) -> f64 {
        let number = |number: f64| if number.is_finite() { number.max(0.0) } else { 0.0 };
        (1.0 + number(self.requests)) * number(self.cold).max(1e-3) / self.bytes.max(1) as f64
    }
}

/// Whether memory is short, and what was done about it.
#[derive(Debug, Clone)]
pub struct Pressure {
    /// The share of the memory that is to stay free.
    reserve: f64,
    short: bool,
    /// When something was unloaded or let in last.
    acted: Option<Duration>,
    /// Bytes that were let in lately, and are not seen to be taken yet.
    promised: Vec<(u64, Duration)>,
}

impl Pressure {
    /// One that keeps this share free, from 0 to 1; with 0 nothing is ever unloaded.
    pub fn new(reserve: f64) -> Self {
        let reserve = if reserve.is_finite() { reserve.clamp(0.0, 1.0) } else { 0.0 };
        Self { reserve, short: false, acted: None, promised: Vec::new() }
    }

    /// Whether memory is short.
    pub fn is_short(&self) -> bool {
        self.short
    }

    /// Bytes that are to stay free of this memory.
    pub fn reserve(&self, memory: Memory) -> u64 {
        (memory.total as f64 * self.reserve) as u64
    }

    /// Bytes that are lacking now: nothing while what was done before may not show yet.
    pub fn lacking(&mut self, memory: Memory, now: Duration) -> u64 {
        let (reserve, enough) = (self.reserve(memory), (self.reserve(memory) as f64 * MORE) as u64);
        self.short = memory.free < if self.short { enough } else { reserve };
        let settles = self.acted.is_some_and(|at| now.saturating_sub(at) < SETTLE);
        if !self.short || settles { 0 } else { enough.saturating_sub(memory.free) }
    }

    /// Of these the ones to unload for as many bytes: those that are worth least, and nobody who has just come. All of them, where
    /// they are not enough.
    pub fn unload(&mut self, lacking: u64, candidates: &[Candidate], now: Duration) -> Vec<ModelId> {
        let gone = least(lacking, candidates.iter().filter(|candidate| has_stayed(candidate, now)));
        if !gone.is_empty() {
            self.acted = Some(now);
        }
        gone
    }

    /// Something else was done about it.
    pub fn acted(&mut self, now: Duration) {
        self.acted = Some(now);
    }

    /// Lets a model in that is asked again and takes so many bytes, if as much as is to stay free is free beside it.
    ///
    /// # Errors
    /// Bytes that are lacking.
    pub fn admit(&mut self, bytes: u64, memory: Memory, now: Duration) -> Result<(), u64> {
        self.promised.retain(|(_, at)| now.saturating_sub(*at) < SETTLE);
        let promised = self.promised.iter().fold(0_u64, |sum, (bytes, _)| sum.saturating_add(*bytes));
        let needed = self.reserve(memory).saturating_add(bytes).saturating_add(promised);
        if self.reserve > 0.0 && memory.free < needed {
            return Err(needed - memory.free);
        }
        self.promised.push((bytes, now));
        Ok(())
    }

    /// Of these the ones that go so that one comes back that is worth more: only as long as they are enough, and worth less by
    /// half. Nobody goes while what was done before may not show yet.
    pub fn displace(
        &mut self,
        lacking: u64,
        asked: &Candidate,
        candidates: &[Candidate],
        now: Duration,
    ) -> Vec<ModelId> {
        if self.acted.is_some_and(|at| now.saturating_sub(at) < SETTLE) {
            return Vec::new();
        }
        let lesser = |candidate: &&Candidate| {
            candidate.model != asked.model && has_stayed(candidate, now) && candidate.worth() * BETTER <= asked.worth()
        };
        let lesser: Vec<&Candidate> = candidates.iter().filter(lesser).collect();
        let all = lesser.iter().fold(0_u64, |sum, candidate| sum.saturating_add(candidate.bytes));
        if all < lacking {
            Vec::new()
        } else {
            self.unload(lacking, &lesser.into_iter().cloned().collect::<Vec<_>>(), now)
        }
    }
}

fn has_stayed(candidate: &Candidate, now: Duration) -> bool {
    now.saturating_sub(candidate.since) >= STAY
}

/// Those that are worth least, until they take so many bytes.
fn least<'a>(bytes: u64, candidates: impl Iterator<Item = &'a Candidate>) -> Vec<ModelId> {
    let mut ordered: Vec<&Candidate> = candidates.filter(|candidate| candidate.bytes > 0).collect();
    ordered.sort_by(|a, b| a.worth().total_cmp(&b.worth()).then_with(|| a.model.cmp(&b.model)));
    let (mut taken, mut gone) = (0_u64, Vec::new());
    for candidate in ordered {
        if taken >= bytes {
            break;
        }
        taken = taken.saturating_add(candidate.bytes);
        gone.push(candidate.model.clone());
    }
    gone
}

#[cfg(test)]
mod tests;
