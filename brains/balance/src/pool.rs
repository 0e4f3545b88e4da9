//! The replicas of one version: which one answers, which are left out, and when a second one is asked.

use std::{mem, time::Duration};

use rand::{Rng, RngExt as _};

use crate::{budget::Budget, ewma::PeakEwma, least::Least, quantile::Quantiles};

/// How long a replica is left out after a failure; twice as long after each further one in a row.
const EJECTED: Duration = Duration::from_secs(1);
/// How long it is left out at the most.
const LONGEST: Duration = Duration::from_secs(64);
/// When more than this share is silent, silence alone says nothing: then all may be used, the best of them first.
const PANIC: f64 = 0.5;
/// How long a new replica's share grows from a tenth to the whole.
const SLOW_START: Duration = Duration::from_secs(10);
/// A replica of which nothing is known, that owes answers and gave none for as long, is stalled.
const STALLED: Duration = Duration::from_secs(1);
/// How many times its usual latency is long for a replica.
const LONG: f64 = 4.0;
/// Of two that were drawn, the better one is left for the best of all when its score is so many times as high.
const FAR_BEHIND: f64 = 4.0;
/// What a failure counts as, at the least: who fails fast must not look fast.
const FAILURE: Duration = Duration::from_secs(1);
/// Readings below which no quantile is believed.
const ENOUGH: u32 = 20;
/// Share of answers that come sooner than a hedge.
const HEDGE_AT: f64 = 0.95;
/// The soonest that a second replica is asked.
const SOONEST: Duration = Duration::from_millis(5);
/// The soonest that an attempt is taken for lost, and how many times the hedge's delay that is.
const RESCUE: (Duration, u32) = (Duration::from_millis(250), 5);
/// Requests in flight per replica up to which there are hedges: beyond that they would make the queues that they are
/// to avoid.
const IDLE_ENOUGH: f64 = 2.0;

/// How long a look at all replicas holds, apart from what claims and ends change: what changes by time alone does so over
/// many times as long.
const FRESH: Duration = Duration::from_millis(1);

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With an answer, or a refusal that the replica itself gave.
    Answered,
    /// The replica was lost.
    Failed,
    /// Nobody waited for it any more; says little about the replica.
    Cancelled,
}

/// When a second replica is asked, though the first may yet answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// After this time, as a hedge: for the tail.
    Hedge(Duration),
    /// After this time, as a rescue: the first attempt is as good as lost.
    Rescue(Duration),
}

/// One replica, as its gateway sees it.
#[derive(Debug, Clone)]
struct Replica<K> {
    key: K,
    since: Duration,
    in_flight: u32,
    /// The last time that it answered, or began to owe an answer.
    moved: Duration,
    latency: PeakEwma,
    /// Failures in a row.
    failures: u32,
    ejected_until: Duration,
}

/// The replicas of one version. `now` is everywhere a monotonic time since any fixed moment.
#[derive(Debug, Clone)]
pub struct Pool<K> {
    replicas: Vec<Replica<K>>,
    /// Requests in flight at all of them.
    in_flight: u32,
    latencies: Quantiles,
    budget: Budget,
    view: View,
}

/// What a look at all replicas saw, and what changed at single ones since.
#[derive(Debug, Clone, Default)]
struct View {
    /// When; `None` once it no longer holds.
    at: Option<Duration>,
    glances: Vec<Glance>,
    /// The latency that is supposed of a replica that nothing is known of.
    unknown: f64,
    /// Those that a first attempt may go to.
    open: Vec<usize>,
    /// The best of these.
    best: Least,
    /// Whether most are silent.
    panics: bool,
}

impl<K: Clone + PartialEq> Pool<K> {
    /// One without replicas.
    pub fn new(now: Duration) -> Self {
        Self {
            replicas: Vec::new(),
            in_flight: 0,
            latencies: Quantiles::default(),
            budget: Budget::new(now),
            view: View::default(),
        }
    }

    /// Takes in which replicas there are now; those that stay keep what is known about them. O(n²) in replicas.
    pub fn set(&mut self, keys: &[K], now: Duration) {
        // The first ones have nobody to be slower than.
        let since = if self.replicas.is_empty() { Duration::ZERO } else { now + SLOW_START };
        self.replicas.retain(|replica| keys.contains(&replica.key));
        for key in keys {
            if !self.replicas.iter().any(|replica| replica.key == *key) {
                self.replicas.push(Replica {
                    key: key.clone(),
                    since,
                    in_flight: 0,
                    moved: now,
                    latency: PeakEwma::default(),
                    failures: 0,
                    ejected_until: Duration::ZERO,
                });
            }
        }
        self.in_flight = self.replicas.iter().map(|replica| replica.in_flight).sum();
        self.view.at = None;
    }

    /// The replicas, in the pool's order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.replicas.iter().map(|replica| &replica.key)
    }

    /// How many replicas there are.
    pub fn len(&self) -> usize {
        self.replicas.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.replicas.is_empty()
    }

    /// Requests in flight at all of them.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Claims a replica that is not among `tried`: the better of two drawn at random, by latency times requests in flight,
    /// unless it is far behind the best of all.
    /// Who has tried one has lost time and is paid for: it gets the best that is left, and none that failed last and is
    /// only tried again.
    ///
    /// `None` when there is none. Whoever claims one says later how it ended: [`Pool::ended`]. Without `tried`, O(log n), and
    /// O(n) once a millisecond; else O(n). No allocation.
    pub fn claim(&mut self, tried: &[K], now: Duration, rng: &mut impl Rng) -> Option<K> {
        if !tried.is_empty() || !self.view.holds(now) {
            self.look(now);
        }
        let place = if tried.is_empty() { self.view.draw(rng)? } else { self.best_of_rest(tried)? };
        self.take(place, now)
    }

    /// The places that a first attempt may go to, and what share of its usual one each gets, from 0.1 to 1: whoever chooses
    /// among them says so by [`Pool::take`].
    pub(crate) fn open(&mut self, now: Duration) -> (&[usize], impl Fn(usize) -> f64) {
        if !self.view.holds(now) {
            self.look(now);
        }
        let replicas = &self.replicas;
        (&self.view.open, move |place: usize| replicas.get(place).map_or(1.0, |replica| replica.share(now)))
    }

    /// Claims the replica at this place, as [`Pool::claim`] does.
    pub(crate) fn take(&mut self, place: usize, now: Duration) -> Option<K> {
        let replica = self.replicas.get_mut(place)?;
        if replica.in_flight == 0 {
            replica.moved = now;
        }
        replica.in_flight += 1;
        self.in_flight += 1;
        let key = replica.key.clone();
        self.look_again(place, now);
        Some(key)
    }

    /// The best one that was not tried: rather one that works and did not fail last.
    fn best_of_rest(&self, tried: &[K]) -> Option<usize> {
        let rest = || (0..self.replicas.len()).filter(|place| !tried.contains(&self.replicas[*place].key));
        let well = |place: &usize| self.view.well(*place) && self.replicas[*place].failures == 0;
        let score = |place: &usize| self.view.glances[*place].score;
        let best = |a: &usize, b: &usize| score(a).total_cmp(&score(b));
        rest().filter(well).min_by(best).or_else(|| rest().min_by(best))
    }

    /// An attempt at this replica, begun at `began`, has ended. O(n) to find it.
    pub fn ended(&mut self, key: &K, began: Duration, now: Duration, outcome: Outcome) {
        let latency = now.saturating_sub(began);
        if outcome == Outcome::Answered {
            self.latencies.observe(latency);
        }
        let Some(place) = self.replicas.iter().position(|replica| replica.key == *key) else { return };
        let replica = &mut self.replicas[place];
        if replica.in_flight > 0 {
            replica.in_flight -= 1;
            self.in_flight -= 1;
        }
        match outcome {
            Outcome::Answered => {
                replica.moved = now;
                replica.failures = 0;
                replica.latency.observe(latency, now);
            }
            Outcome::Failed => replica.fail(latency, now),
            // It gave nothing to anybody all the time, and that was long for it.
            Outcome::Cancelled if replica.moved <= began && replica.is_long(latency, began) => {
                replica.fail(latency, now)
            }
            // It took at least as long.
            Outcome::Cancelled => {
                if replica.latency.seconds(now).is_some_and(|seconds| latency.as_secs_f64() > seconds) {
                    replica.latency.observe(latency, now);
                }
            }
        }
        self.look_again(place, now);
    }

    /// How long to wait for a replica's answer before a second one is asked; `None` without a second one.
    ///
    /// At the live 95th percentile while the replicas are idle enough (Dean and Barroso, «The tail at scale», CACM 2013),
    /// far beyond it otherwise, when the attempt must be taken for lost.
    pub fn patience(&self) -> Option<Patience> {
        if self.replicas.len() < 2 {
            return None;
        }
        let usual = (self.latencies.count() >= ENOUGH).then(|| self.latencies.at(HEDGE_AT)).flatten();
        let Some(usual) = usual else { return Some(Patience::Rescue(STALLED)) };
        Some(if self.is_idle() {
            Patience::Hedge(usual.max(SOONEST))
        } else {
            Patience::Rescue((usual * RESCUE.1).max(RESCUE.0))
        })
    }

    /// Whether so little is in flight that a further request makes no queue.
    pub(crate) fn is_idle(&self) -> bool {
        f64::from(self.in_flight()) <= IDLE_ENOUGH * self.replicas.len() as f64
    }

    /// What further attempts are paid from.
    pub fn budget(&mut self) -> &mut Budget {
        &mut self.budget
    }

    /// Looks at every replica once.
    fn look(&mut self, now: Duration) {
        let view = &mut self.view;
        view.at = Some(now);
        view.glances.clear();
        view.glances.extend(self.replicas.iter().map(|replica| replica.glance(now)));
        // The lowest latency that is known is supposed of a replica that nothing is known of.
        let known = view.glances.iter().filter_map(|glance| glance.seconds);
        let lowest = known.fold(f64::INFINITY, f64::min);
        view.unknown = if lowest.is_finite() { lowest.max(1e-6) } else { 1e-3 };
        for (replica, glance) in self.replicas.iter().zip(&mut view.glances) {
            glance.score = replica.score(glance.seconds, view.unknown, now);
        }
        let working = view.glances.iter().filter(|glance| glance.works);
        let (count, silent) = working
            .fold((0.0, 0.0), |(count, silent), glance| (count + 1.0, silent + f64::from(u8::from(glance.stalled))));
        view.panics = silent > count * PANIC;
        let (mut open, places) = (mem::take(&mut view.open), 0..view.glances.len());
        open.clear();
        open.extend(places.clone().filter(|place| view.well(*place)));
        if open.is_empty() {
            // Rather one that is left out than none.
            open.extend(places);
        }
        view.best.fill(view.glances.len(), open.iter().map(|place| (*place, view.glances[*place].score)));
        view.open = open;
    }

    /// Looks at one replica, of which something has just changed.
    fn look_again(&mut self, place: usize, now: Duration) {
        let (replica, view) = (&self.replicas[place], &mut self.view);
        let Some(old) = view.glances.get_mut(place) else { return };
        let mut new = replica.glance(now);
        new.score = replica.score(new.seconds, view.unknown, now);
        if (new.works, new.stalled, new.seconds.is_some()) != (old.works, old.stalled, old.seconds.is_some()) {
            view.at = None;
        }
        view.best.change(place, new.score);
        *old = new;
    }
}

impl View {
    fn holds(&self, now: Duration) -> bool {
        self.at.is_some_and(|at| now.saturating_sub(at) < FRESH)
    }

    /// Whether nothing speaks against it.
    fn well(&self, place: usize) -> bool {
        let glance = &self.glances[place];
        glance.works && (self.panics || !glance.stalled)
    }

    /// The better of two drawn at random, unless it is far behind the best of all.
    fn draw(&self, rng: &mut impl Rng) -> Option<usize> {
        let (open, score) = (&self.open, |place: usize| self.glances[place].score);
        let best = self.best.place()?;
        // Two drawn of many that may be lost would often both be.
        if open.len() == 1 || self.panics {
            return Some(best);
        }
        let first = rng.random_range(0..open.len());
        let second = (first + rng.random_range(1..open.len())) % open.len();
        let (first, second) = (open[first], open[second]);
        let better = if score(second) < score(first) { second } else { first };
        // Of few replicas two slow ones are drawn often; by then it is known who is quick.
        Some(if score(better) > FAR_BEHIND * score(best) { best } else { better })
    }
}

/// What was seen of a replica.
#[derive(Debug, Clone)]
struct Glance {
    works: bool,
    stalled: bool,
    /// Its latency now, where one is known.
    seconds: Option<f64>,
    score: f64,
}

impl<K> Replica<K> {
    /// What there is to see of it, but for its score.
    fn glance(&self, now: Duration) -> Glance {
        Glance { works: self.works(now), stalled: self.stalled(now), seconds: self.latency.seconds(now), score: 0.0 }
    }

    /// Whether it did not fail lately. Once its time is over, one request at a time finds out whether it works again.
    fn works(&self, now: Duration) -> bool {
        self.failures == 0 || (self.ejected_until <= now && self.in_flight == 0)
    }

    fn fail(&mut self, latency: Duration, now: Duration) {
        self.failures += 1;
        self.latency.observe(latency.max(FAILURE), now);
        let times = 1_u32 << (self.failures - 1).min(6);
        self.ejected_until = now + (EJECTED * times).min(LONGEST);
    }

    /// Whether it owes answers and has given none for much longer than it usually takes.
    fn stalled(&self, now: Duration) -> bool {
        self.in_flight > 0 && self.is_long(now.saturating_sub(self.moved), self.moved)
    }

    /// Whether an answer begun then should have come in this time.
    fn is_long(&self, time: Duration, began: Duration) -> bool {
        let usual = self.latency.seconds(began).map_or(STALLED, |usual| Duration::from_secs_f64(usual * LONG));
        time >= usual.clamp(RESCUE.0, STALLED.max(usual))
    }

    /// What one more request would wait here, in seconds, where one takes so long; the more the newer the replica is.
    /// `unknown` is supposed of one that nothing is known of.
    fn score(&self, latency: Option<f64>, unknown: f64, now: Duration) -> f64 {
        let silent = if self.in_flight > 0 { now.saturating_sub(self.moved).as_secs_f64() } else { 0.0 };
        let latency = latency.unwrap_or(unknown).max(unknown).max(silent);
        latency * f64::from(self.in_flight + 1) / self.share(now)
    }

    /// What share of its usual one it gets, from 0.1 while it is new to 1.
    fn share(&self, now: Duration) -> f64 {
        if self.since <= now {
            return 1.0;
        }
        let young = self.since.saturating_sub(now).as_secs_f64() / SLOW_START.as_secs_f64();
        1.0 - 0.9 * young.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests;
