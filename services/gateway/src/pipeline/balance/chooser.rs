//! Who chooses among a version's replicas: the pool alone, or with the learnt rule beside it.

use std::{mem, time::Duration};

use ::balance::{
    Guarded, Mode, Outcome, Pool, Standing,
    policy::{Ask, Claim, End, Policy as _},
};
use rand_chacha::ChaCha8Rng;
use rpc::report::Report;

/// The most that a logarithm of pace may be, and the readings that it may stand on: what a replica could have counted.
const PACE: (f64, f64) = (3.0, 24.0);

/// Whoever chooses. With the setting `off`, and as long as there is nothing to choose, that is a plain pool: nothing is
/// learnt, nothing is told to replicas.
pub(super) enum Chooser {
    Plain(Box<Pool<u64>>),
    Guarded(Box<Guarded>),
}

impl Chooser {
    pub(super) fn new(now: Duration) -> Self {
        Self::Plain(Box::new(Pool::new(now)))
    }

    /// Takes in which replicas there are now. With the second one there is something to learn.
    pub(super) fn set(&mut self, keys: &[u64], mode: Mode, now: Duration) {
        if let Self::Plain(pool) = self
            && mode != Mode::Off
            && keys.len() > 1
            // Its own settings are what it can be made with; if they were not, the pool would go on.
            && let Ok(mut guarded) = Guarded::new(mode, now)
        {
            guarded.adopt(mem::replace(&mut **pool, Pool::new(now)), now);
            guarded.explore_by_copies();
            *self = Self::Guarded(Box::new(guarded));
        }
        match self {
            Self::Plain(pool) => pool.set(keys, now),
            Self::Guarded(guarded) => guarded.set(keys, now),
        }
    }

    /// The pool, which alone decides on budgets and patience.
    pub(super) fn pool(&mut self) -> &mut Pool<u64> {
        match self {
            Self::Plain(pool) => pool,
            Self::Guarded(guarded) => guarded.pool(),
        }
    }

    /// Claims a replica for a first attempt.
    pub(super) fn claim(&mut self, ask: &Ask, now: Duration, rng: &mut ChaCha8Rng) -> Option<Claim> {
        match self {
            Self::Plain(pool) => pool.claim(&[], now, rng).map(plain),
            Self::Guarded(guarded) => guarded.claim(ask, now, rng),
        }
    }

    /// Claims a replica for a copy of what was claimed for last, where that finds something out.
    pub(super) fn copy(&mut self, ask: &Ask, now: Duration) -> Option<Claim> {
        match self {
            Self::Plain(_) => None,
            Self::Guarded(guarded) => guarded.copy(ask, now),
        }
    }

    /// Claims a replica for a further attempt.
    pub(super) fn again(&mut self, ask: &Ask, tried: &[u64], now: Duration, rng: &mut ChaCha8Rng) -> Option<Claim> {
        match self {
            Self::Plain(pool) => pool.claim(tried, now, rng).map(plain),
            Self::Guarded(guarded) => guarded.again(ask, tried, now, rng),
        }
    }

    /// An attempt has ended.
    pub(super) fn ended(&mut self, end: &Ended, now: Duration) {
        let Ended { claim, ask, began, outcome, work, report } = *end;
        match self {
            Self::Plain(pool) => pool.ended(&claim.key, began, now, outcome),
            Self::Guarded(guarded) => {
                let report = report.map(|report| heard(&report, now));
                let report = report.as_ref();
                guarded.ended(&End { claim, ask, began, outcome, compute: work, report }, now);
            }
        }
    }

    /// The replicas that are to be asked how they stand.
    pub(super) fn silent(&mut self, now: Duration) -> Vec<u64> {
        match self {
            Self::Plain(_) => Vec::new(),
            Self::Guarded(guarded) => guarded.silent(now),
        }
    }

    /// A replica that was asked has said how it stands.
    pub(super) fn told(&mut self, key: u64, report: &Report, now: Duration) {
        if let Self::Guarded(guarded) = self {
            guarded.heard(key, &heard(report, now), now);
        }
    }

    /// How the learnt rule stands, where there is one.
    pub(super) fn standing(&self) -> Option<Standing> {
        match self {
            Self::Plain(_) => None,
            Self::Guarded(guarded) => Some(guarded.standing()),
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) claim: Claim,
    pub(super) ask: Ask,
    pub(super) began: Duration,
    pub(super) outcome: Outcome,
    /// How long the replica worked on it, as far as that is known.
    pub(super) work: Option<Duration>,
    /// What it said of itself, if it did.
    pub(super) report: Option<Report>,
}

fn plain(key: u64) -> Claim {
    Claim { key, id: 0, predicted: 0.0 }
}

/// What a replica said, on this gateway's clock, and no more than it could have counted.
fn heard(report: &Report, now: Duration) -> ::balance::report::Report {
    let pace = ::balance::pace::Pace {
        log: report.pace.clamp(-PACE.0, PACE.0),
        weight: report.readings.min(PACE.1),
        seconds: report.mean.as_secs_f64(),
        at: now.saturating_sub(report.age),
    };
    ::balance::report::Report {
        in_flight: report.in_flight,
        waiting: report.waiting.as_secs_f64(),
        running: report.running.as_secs_f64(),
        running_for: report.running_for.as_secs_f64(),
        pace,
        latency: report.latency.as_secs_f64(),
    }
}

#[cfg(test)]
mod tests;
