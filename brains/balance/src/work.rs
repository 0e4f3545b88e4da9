//! The learnt rule: the replica where predicted work is done first.

use std::{collections::VecDeque, time::Duration};

use rand::{Rng, RngExt as _};

use crate::{
    Outcome,
    pace::Pace,
    policy::{Ask, Listening},
    predict::{Left, Mean, Predict},
    report::Report,
};

/// A prediction is at least this share of the mean, and at most as many mean absolute deviations above it: a wrong one
/// weighs no more.
const CAP: (f64, f64) = (1.0 / 16.0, 4.0);
/// What work is supposed of a request before so many answers tell more: all alike, so that requests are counted.
const COLD: (f64, f64) = (1e-3, 10.0);
/// Answers before which a predictor is not judged.
const JUDGED: f64 = 50.0;
/// How often all replicas are asked once it is known that others send to them too, for each sixteen of them.
const POLL: Duration = Duration::from_millis(50);
/// Replicas that are asked after each request then, as Prequal asks.
const PROBES: u32 = 3;
/// How many mean works it takes until what others had at a replica says nothing any more of what they have there.
const STALE: f64 = 4.0;
/// How many standard errors a replica must be apart from the others before it counts as slower or quicker.
const APART: f64 = 2.0;
/// Variance of the logarithm of actual over predicted seconds, at the least.
const LEAST_VARIANCE: f64 = 0.01;
/// Share of requests that may go where only forgetting makes a replica look good, and how many may be saved up.
const EXPLORE: (f64, f64) = (0.004, 2.0);
/// Readings of paces after which the usual one is found anew.
const USUAL: u32 = 16;
/// How long others are reckoned with that nothing is heard of.
const GONE: Duration = Duration::from_secs(10);
/// A replica of which nothing was heard for as long is asked how it stands.
const SILENT: Duration = Duration::from_secs(1);
/// And only as long after a request: where nobody asks, nothing is to be known.
const LIVELY: Duration = Duration::from_secs(5);
/// How long a message takes to a replica, as far as it is not yet in what that said of itself.
const ON_ITS_WAY: Duration = Duration::from_micros(500);

/// A request of ours that has no answer yet.
#[derive(Debug, Clone, Copy)]
struct Sent {
    id: u64,
    began: Duration,
    predicted: f64,
}

/// A replica, as its gateway sees it.
#[derive(Debug, Clone)]
struct Replica {
    key: u64,
    sent: VecDeque<Sent>,
    /// Predicted work of all that were sent.
    work: f64,
    /// The one that is worked on.
    head: Head,
    /// When it last answered.
    answered: Duration,
    /// When it was heard last, or was asked.
    heard: Duration,
    /// Predicted work that it said to have beside ours, less what is done, and when.
    others: Option<(f64, Duration)>,
    pace: Pace,
    /// How many times as long work takes here, shrunk towards 1 as far as that may be chance; and how sure that was.
    slowness: f64,
}

/// Who finds out whether a replica still is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Explorer {
    /// A request goes there instead of to the best.
    Request,
    /// A copy of a request goes there, beside the best.
    Copy,
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The best place.
    pub(crate) place: usize,
    /// Where a copy of it finds something out.
    pub(crate) copy: Option<usize>,
}

/// The first of what was sent: when work on it began in seconds, its prediction, and one over that.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    began: f64,
    predicted: f64,
    inverse: f64,
}

impl Replica {
    /// Looks at what is worked on.
    fn look(&mut self) {
        self.head = self.sent.front().map_or(Head::default(), |first| {
            let predicted = supposed(first.predicted);
            Head { began: first.began.max(self.answered).as_secs_f64(), predicted, inverse: 1.0 / predicted }
        });
    }
}

/// Chooses by predicted work in flight and the replicas' relative speeds (METHODS: balancing).
///
/// A replica's score is what waits there by prediction, less what is done of it, and the request's own work, times the
/// replica's slowness. What waits is this gateway's own; once answers say that others send too, it is what the replica
/// said of itself last and what was sent since. Slowness is the mean logarithm of actual over predicted seconds beside
/// the median replica's, shrunk as James and Stein (1961) do, since requests of unlike cost make equal replicas look
/// unlike. A replica that looks slow gets no request to find out whether it still is but from a budget of 0.4 %.
///
/// A claim is O(replicas), without allocation. Memory: 32 bytes a request in flight, of which the gate admits a bounded
/// number.
pub struct Work {
    replicas: Vec<Replica>,
    predictor: Box<dyn Predict>,
    left: Left,
    /// What plain prediction says: the mean.
    plain: Mean,
    deviation: Mean,
    usual: f64,
    variance: Mean,
    fresh: u32,
    /// Whether others send to these replicas too, and what they have at one on average.
    others: bool,
    /// When a replica was last heard.
    heard: Duration,
    /// When the last request was sent.
    sent: Option<Duration>,
    elsewhere: f64,
    explore: f64,
    explored: u64,
}

impl Work {
    /// One without replicas that predicts so.
    pub fn new(predictor: Box<dyn Predict>) -> Self {
        Self {
            replicas: Vec::new(),
            predictor,
            left: Left::default(),
            plain: Mean::default(),
            deviation: Mean::default(),
            usual: 0.0,
            variance: Mean::default(),
            fresh: 0,
            others: false,
            heard: Duration::ZERO,
            sent: None,
            elsewhere: 0.0,
            explore: 0.0,
            explored: 0,
        }
    }

    /// Takes in which replicas there are, in the order in which a [`Pool`](crate::Pool) has them.
    pub(crate) fn set(&mut self, keys: &[u64], now: Duration) {
        self.replicas.retain(|replica| keys.contains(&replica.key));
        for key in keys {
            if !self.replicas.iter().any(|replica| replica.key == *key) {
                self.replicas.push(Replica {
                    key: *key,
                    sent: VecDeque::new(),
                    work: 0.0,
                    head: Head::default(),
                    answered: now,
                    heard: now,
                    others: None,
                    pace: Pace::default(),
                    slowness: 1.0,
                });
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn keys(&self) -> Vec<u64> {
        self.replicas.iter().map(|replica| replica.key).collect()
    }

    /// How it hears from replicas beside their answers; not at all as long as nobody else sends to them.
    pub(crate) fn listening(&self) -> Listening {
        if !self.others {
            return Listening::default();
        }
        let sixteens = self.replicas.len().div_ceil(16).max(1);
        Listening { after_request: PROBES, every: Some(POLL * sixteens as u32) }
    }

    /// The replicas of which nothing was heard for a second, though requests come; each counts as asked now.
    pub(crate) fn silent(&mut self, now: Duration) -> Vec<u64> {
        let lively = self.sent.is_some_and(|at| now.saturating_sub(at) <= LIVELY);
        if !lively || self.replicas.len() < 2 {
            return Vec::new();
        }
        let silent = self.replicas.iter_mut().filter(|replica| now.saturating_sub(replica.heard) >= SILENT);
        silent
            .map(|replica| {
                replica.heard = now;
                replica.key
            })
            .collect()
    }

    /// Whether others are known to send to these replicas too.
    pub(crate) fn is_shared(&self) -> bool {
        self.others
    }

    /// What this request will take on a usual replica, in seconds; 0 as long as nothing is known.
    pub(crate) fn predict(&self, ask: &Ask) -> f64 {
        if self.plain.count < COLD.1 {
            return 0.0;
        }
        let (mean, deviation) = (self.plain.value.max(1e-9), self.deviation.value);
        let (said, most) = (self.predictor.predict(ask), mean + CAP.1 * deviation);
        if said.is_nan() { mean } else { said.clamp((mean * CAP.0).min(most), most) }
    }

    /// What plain prediction says once enough is known to judge others by it: the mean, and the mean absolute deviation
    /// from it.
    pub(crate) fn plain(&self) -> Option<(f64, f64)> {
        (self.plain.count >= JUDGED).then(|| (self.plain.value.max(1e-9), self.deviation.value))
    }

    /// The mean seconds of work, as far as known.
    pub(crate) fn mean(&self) -> f64 {
        self.plain.value
    }

    /// Requests that went where only forgetting made a replica look good.
    pub fn explored(&self) -> u64 {
        self.explored
    }

    /// The best of these places for work of this prediction. `share` is what share of its usual one a replica gets, from
    /// 0.1 to 1. Where copies explore, nothing else does.
    pub(crate) fn choose(
        &mut self,
        predicted: f64,
        open: &[usize],
        share: impl Fn(usize) -> f64,
        explorer: Explorer,
        now: Duration,
        rng: &mut dyn Rng,
    ) -> Option<Choice> {
        let predicted = supposed(predicted);
        let stale = 1.0 / (STALE * self.mean()).max(1e-6);
        let seconds = now.as_secs_f64();
        self.explore = (self.explore + EXPLORE.0).min(EXPLORE.1);
        let (mut known, mut faded) = (Best::default(), Best::default());
        for place in open {
            let Some(replica) = self.replicas.get(*place) else { continue };
            let work = (self.waits(replica, stale, seconds) + predicted) / share(*place);
            known.offer(*place, work * replica.slowness, rng);
            if replica.slowness > 1.5 {
                faded.offer(*place, work * self.slowness(replica, replica.pace.weight(now)), rng);
            }
        }
        let explores = faded.score < known.score && faded.place != known.place && self.explore >= 1.0;
        if explores {
            self.explore -= 1.0;
            self.explored += u64::from(explorer == Explorer::Request);
        }
        let by = |who| faded.place.filter(|_| explores && explorer == who);
        Some(Choice { place: by(Explorer::Request).or(known.place)?, copy: by(Explorer::Copy) })
    }

    /// A request goes to this replica, whoever chose it.
    pub(crate) fn sent(&mut self, key: u64, id: u64, predicted: f64, now: Duration) {
        self.sent = Some(now);
        if let Some(replica) = self.replicas.iter_mut().find(|replica| replica.key == key) {
            replica.sent.push_back(Sent { id, began: now, predicted });
            replica.work += supposed(predicted);
            if replica.sent.len() == 1 {
                replica.look();
            }
        }
    }

    /// It has ended; `compute` is how long was worked on it where the replica says so. Gives the seconds that were learnt.
    pub(crate) fn ended(
        &mut self,
        (key, id): (u64, u64),
        ask: &Ask,
        compute: Option<Duration>,
        outcome: Outcome,
        now: Duration,
    ) -> Option<f64> {
        self.miss(now);
        let replica = self.replicas.iter_mut().find(|replica| replica.key == key)?;
        let place = replica.sent.iter().position(|sent| sent.id == id)?;
        let sent = replica.sent.remove(place)?;
        replica.work = if replica.sent.is_empty() { 0.0 } else { (replica.work - supposed(sent.predicted)).max(0.0) };
        let began = sent.began.max(replica.answered);
        let seconds = compute.unwrap_or_else(|| now.saturating_sub(began)).as_secs_f64();
        replica.answered = now;
        replica.look();
        if outcome == Outcome::Cancelled {
            return None;
        }
        let answered = outcome == Outcome::Answered;
        if answered {
            replica.heard = replica.heard.max(now);
        }
        // An error counts as slow: whoever fails fast must not look fast.
        let seconds =
            if answered { seconds } else { seconds.max(now.saturating_sub(sent.began).as_secs_f64()).max(1.0) };
        if replica.pace.weight > 2.0 && sent.predicted > 0.0 {
            let log = (seconds.max(1e-9) / sent.predicted).ln().clamp(-3.0, 3.0);
            self.variance.observe((log - replica.pace.log).powi(2), 1_000.0);
        }
        replica.pace.observe(seconds, sent.predicted, now);
        self.look(key, now);
        if !answered {
            return None;
        }
        // A slow replica's seconds are no usual replica's. A quick one's are taken as they are, so that costs and paces can't
        // drive one another up.
        let slowness = self.replicas.iter().find(|replica| replica.key == key).map_or(1.0, |replica| replica.slowness);
        let usual = seconds / slowness.max(1.0);
        self.left.observe(usual, sent.predicted);
        self.deviation.observe((usual - self.plain.value).abs(), 1_000.0);
        self.plain.observe(usual, 1_000.0);
        self.predictor.learn(ask, usual);
        Some(usual)
    }

    /// A replica said of itself how it stood at `at`.
    pub(crate) fn heard(&mut self, key: u64, report: &Report, at: Duration) {
        let count = self.replicas.len().max(1) as f64;
        let Some(replica) = self.replicas.iter_mut().find(|replica| replica.key == key) else { return };
        if replica.others.is_some_and(|(_, known)| known > at) {
            return;
        }
        self.others |= report.in_flight as usize > replica.sent.len();
        self.heard = self.heard.max(at);
        replica.heard = replica.heard.max(at);
        let there = replica.sent.iter().take_while(|sent| sent.began + ON_ITS_WAY <= at);
        let own: f64 = there.map(|sent| supposed(sent.predicted)).sum();
        let running = self.left.of(report.running, report.running_for / replica.slowness);
        // Below 0 where it is ours that is worked on.
        let others = report.waiting + running - own;
        self.elsewhere += (others - self.elsewhere) / (4.0 * count);
        replica.others = Some((others, at));
        if self.others && report.pace.at > replica.pace.at {
            replica.pace = report.pace;
            self.look(key, at);
        }
    }

    /// Others that nothing has been heard of for long are gone: what waits is this gateway's own again.
    fn miss(&mut self, now: Duration) {
        if self.others && now.saturating_sub(self.heard) > GONE {
            (self.others, self.elsewhere) = (false, 0.0);
            self.replicas.iter_mut().for_each(|replica| replica.others = None);
        }
    }

    /// Predicted work that waits at a replica, less what is done of it. `stale` is how much of what was heard of others is
    /// lost in a second.
    fn waits(&self, replica: &Replica, stale: f64, now: f64) -> f64 {
        if self.others
            && let Some((others, at)) = replica.others
        {
            // What was heard some works ago is no better than what the others have anywhere.
            let fresh = (-(now - at.as_secs_f64()).max(0.0) * stale).exp();
            return (replica.work + self.elsewhere + (others - self.elsewhere) * fresh).max(0.0);
        }
        let head = &replica.head;
        if head.predicted == 0.0 {
            return 0.0;
        }
        let ratio = (now - head.began).max(0.0) * head.inverse / replica.slowness;
        (replica.work - head.predicted).max(0.0) + self.left.share(ratio) * head.predicted
    }

    /// How many times as long work takes at a replica.
    fn slowness(&self, replica: &Replica, weight: f64) -> f64 {
        let apart = replica.pace.log - self.usual;
        let error = self.variance.value.max(LEAST_VARIANCE) / weight.max(1e-9);
        let kept = (1.0 - APART * APART * error / (apart * apart).max(1e-12)).max(0.0);
        (apart * kept).exp()
    }

    /// Looks at the paces anew: of one replica, and from time to time of all.
    fn look(&mut self, key: u64, now: Duration) {
        self.fresh += 1;
        let all = self.fresh >= USUAL || self.usual == 0.0;
        if all {
            self.fresh = 0;
            self.find_usual(now);
        }
        for place in 0..self.replicas.len() {
            if all || self.replicas[place].key == key {
                let replica = &self.replicas[place];
                let slowness = self.slowness(replica, replica.pace.weight);
                self.replicas[place].slowness = slowness;
            }
        }
    }

    /// The median pace of those that are known.
    fn find_usual(&mut self, _now: Duration) {
        let known = self.replicas.iter().filter(|replica| replica.pace.weight >= 1.0);
        let mut logs: Vec<f64> = known.map(|replica| replica.pace.log).collect();
        logs.sort_unstable_by(f64::total_cmp);
        if let Some(middle) = logs.get(logs.len().saturating_sub(1) / 2) {
            self.usual = *middle;
        }
    }
}

/// What is reckoned with where nothing is predicted.
fn supposed(predicted: f64) -> f64 {
    if predicted > 0.0 { predicted } else { COLD.0 }
}

/// The least score so far; of equal ones any, by lot.
#[derive(Debug, Clone, Copy)]
struct Best {
    place: Option<usize>,
    score: f64,
    equals: u32,
}

impl Default for Best {
    fn default() -> Self {
        Self { place: None, score: f64::INFINITY, equals: 0 }
    }
}

impl Best {
    fn offer(&mut self, place: usize, score: f64, rng: &mut dyn Rng) {
        if score < self.score {
            (self.place, self.score, self.equals) = (Some(place), score, 1);
        } else if score == self.score {
            self.equals += 1;
            if rng.random_range(0..self.equals) == 0 {
                self.place = Some(place);
            }
        }
    }
}
