//! A proven version answers a share of the requests before it answers all: step by step, until nothing speaks against it.
//!
//! What is looked at is what a comparison of answers does not see: whether it fails, and whether it is slow, in the tail or as a whole. Each is tested by
//! betting: with the rate of the version before, so far and a margin, as the rate that is allowed, k failures among n requests are worth
//! the mean over bets λ of (1 + λ(1 − b))^k (1 − λb)^(n − k) (Waudby-Smith and Ramdas, JRSS-B 2024), at any time.
//!
//! A hundredth of little traffic never decides anything: a canary answers five requests a second at least, and half of all at most for that.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::{Timestamp, manifest::Rollout};

/// The probability that a version is taken back that is no worse: over all tests, and all steps.
const ALPHA: f64 = 0.05;
/// The part of it that a test may spend: errors, the tail, the whole.
const SPEND: [f64; 3] = [0.45, 0.15, 0.4];
/// Requests a second that a canary answers at least, where that is no more than this share, and by how many times another floor must
/// differ to count.
const FLOOR: (f64, f64) = (5.0, 0.5);
const OTHER: f64 = 1.5;
/// Requests that a step takes at least, and how long.
const LEAST: u64 = 100;
const DWELL: Duration = Duration::from_secs(30);
/// More errors than the version before has, where the manifest says nothing: a tenth of a point.
const ERRORS: f64 = 0.001;
/// More latency, where the manifest says nothing: at the 99th percentile, and as a whole, at the 90th.
const SLOWER: [f64; 2] = [0.5, 0.25];
/// The share of slow requests that is allowed: one of a hundred is by definition, and the percentile is no more than measured.
const SLOW: f64 = 0.03;
/// Bets, as shares of the largest that can't lose all, with their weights. The best one is by how much more often it fails than is allowed, so a small one
/// finds five points of errors, and the large ones what is plain.
const BETS: [(f64, f64); 5] = [(0.05, 0.5), (0.1, 0.15), (0.2, 0.1), (0.4, 0.1), (0.8, 0.15)];
/// Buckets of times, so many to each doubling, from a microsecond on.
const BUCKETS: usize = 256;
const FINE: f64 = 8.0;

/// Who answered a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The version that answers all others.
    Before,
    /// The new one.
    Canary,
}

/// What to do about a canary.
#[derive(Debug, Clone, PartialEq)]
pub enum Move {
    /// Nothing.
    Stay,
    /// It answers this share from now on.
    Step(f64),
    /// It answers all.
    Full,
    /// It answers nobody any more; why.
    Back(String),
}

/// A version that answers a share of the requests.
///
/// Taking a request in is O(1), a judgement O(buckets).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Canary {
    /// Shares, ascending; which one it is at, and since when.
    shares: Vec<f64>,
    step: usize,
    since: Timestamp,
    began: Timestamp,
    /// When a person is to be asked.
    timeout: Duration,
    margin: [f64; 2],
    /// More latency that is allowed at the 90th percentile.
    #[serde(default = "slower")]
    whole: f64,
    /// The share that makes the fewest requests a second.
    #[serde(default)]
    floor: f64,
    sides: [Counts; 2],
    /// Requests of the canary when this step began.
    before: u64,
    /// Since when it is paused, if it is.
    #[serde(default)]
    paused: Option<Timestamp>,
}

/// What one side did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Counts {
    requests: u64,
    failed: u64,
    /// How long answers took.
    #[serde(default, rename = "fine")]
    times: Vec<u64>,
}

impl Canary {
    /// One at its first step; nothing where the manifest has no steps.
    pub fn new(rollout: &Rollout, now: Timestamp) -> Option<Self> {
        let mut shares: Vec<f64> = rollout.canary.iter().map(|share| share.get()).collect();
        shares.retain(|share| *share > 0.0 && *share < 1.0);
        shares.sort_by(f64::total_cmp);
        shares.dedup();
        if shares.is_empty() {
            return None;
        }
        let margin = [
            rollout.margin.errors.map_or(ERRORS, |share| share.get()),
            rollout.margin.p99.map_or(SLOWER[0], |share| share.get()),
        ];
        let whole = rollout.margin.p99.map_or(SLOWER[1], |share| share.get());
        let sides = [Counts::default(), Counts::default()];
        let timeout = rollout.timeout.0;
        Some(Self {
            shares,
            step: 0,
            since: now,
            began: now,
            timeout,
            margin,
            whole,
            floor: 0.0,
            sides,
            before: 0,
            paused: None,
        })
    }

    /// The share that it answers.
    pub fn share(&self) -> f64 {
        self.shares.get(self.step).copied().unwrap_or(1.0).max(self.floor)
    }

    /// Raises or lowers the floor as requests come.
    fn pace(&mut self, now: Timestamp) {
        let seconds = now.since(self.began).as_secs_f64();
        let requests: u64 = self.sides.iter().map(|side| side.requests).sum();
        if seconds < 1.0 || requests == 0 {
            return;
        }
        let floor = (FLOOR.0 * seconds / requests as f64).min(FLOOR.1);
        if floor > OTHER * self.floor || OTHER * floor < self.floor {
            self.floor = floor;
        }
    }

    /// It keeps its share, and answers no more than that, until it goes on; it is taken back all the same where it is worse.
    pub fn pause(&mut self, now: Timestamp) {
        self.paused.get_or_insert(now);
    }

    /// It goes on: what was seen meanwhile counts, and the time does not count towards the manifest's timeout.
    pub fn resume(&mut self, now: Timestamp) {
        if let Some(since) = self.paused.take() {
            self.timeout += now.since(since);
        }
    }

    /// Whether it has taken longer than the manifest says: a person should look. Nobody is asked while it is paused.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.paused.is_none() && now.since(self.began) > self.timeout
    }

    /// Takes a request in: how long its answer took in microseconds, nothing where it failed by the model's own fault.
    pub fn take(&mut self, side: Side, took: Option<u64>) {
        let counts = &mut self.sides[side as usize];
        counts.requests += 1;
        match took {
            None => counts.failed += 1,
            Some(micros) => {
                counts.times.resize(BUCKETS, 0);
                if let Some(count) = counts.times.get_mut(bucket(micros)) {
                    *count += 1;
                }
            }
        }
    }

    /// What is to be done.
    pub fn judge(&mut self, now: Timestamp) -> Move {
        if let Some(why) = self.worse() {
            return Move::Back(why);
        }
        if self.paused.is_some() {
            return Move::Stay;
        }
        self.pace(now);
        let asked = self.sides[1].requests - self.before;
        if asked < LEAST || now.since(self.since) < DWELL {
            return Move::Stay;
        }
        // Whoever can't carry that out is told the same again.
        let Some(share) = self.shares.get(self.step + 1).copied() else { return Move::Full };
        self.step += 1;
        (self.since, self.before) = (now, self.sides[1].requests);
        Move::Step(share)
    }

    /// How it stands, in words.
    pub fn words(&self, now: Timestamp) -> String {
        let [_, canary] = &self.sides;
        let next = match self.shares.get(self.step + 1) {
            Some(share) => format!("{}% next", 100.0 * share),
            None => "all next".to_owned(),
        };
        let ask = if self.is_overdue(now) { "; that takes long: `mantlet approve` or `reject` ends it" } else { "" };
        format!(
            "it answers {}% of the requests: {} looked at, {} failed; {next}, after {LEAST} of them and {} s at least{ask}",
            100.0 * self.share(),
            canary.requests,
            canary.failed,
            DWELL.as_secs()
        )
    }

    fn worse(&self) -> Option<String> {
        let [before, canary] = &self.sides;
        let allowed = upper(before.failed, before.requests) + self.margin[0];
        let [errors, tail, whole] = SPEND.map(|part| 1.0 / (part * ALPHA));
        if evidence(&BETS, canary.failed, canary.requests, allowed) >= errors {
            let of = |counts: &Counts| format!("{} of {}", counts.failed, counts.requests);
            return Some(format!("it fails {} requests, where the version before fails {}", of(canary), of(before)));
        }
        let answered = canary.requests - canary.failed;
        let usual = before.percentile(0.99)?;
        let limit = usual * (1.0 + self.margin[1]);
        let slow = canary.from(limit);
        if evidence(&BETS, slow, answered, SLOW) >= tail {
            return Some(format!(
                "{slow} of {answered} of its answers take more than {:.1} ms, where 99 of 100 took {:.1} ms before",
                limit / 1e3,
                usual / 1e3
            ));
        }
        // Slower by the margin, the version before would have so many above its own 90th percentile.
        let usual = before.percentile(0.9)?;
        let times = before.times.iter().sum();
        let allowed = upper(before.from(usual / (1.0 + self.whole)), times).max(0.1);
        let slow = canary.from(usual);
        (evidence(&BETS, slow, answered, allowed) >= whole).then(|| {
            let whole = 100.0 * self.whole;
            format!("{slow} of {answered} of its answers take more than {:.1} ms, where 90 of 100 took less before: it is more than {whole:.0}% slower", usual / 1e3)
        })
    }
}

fn slower() -> f64 {
    SLOWER[1]
}

impl Counts {
    /// How many answers took at least so many microseconds, by buckets that are above it as a whole.
    fn from(&self, micros: f64) -> u64 {
        self.times
            .iter()
            .enumerate()
            .filter(|(n, _)| lower_edge(*n) >= micros * (1.0 - 1e-9))
            .map(|(_, count)| count)
            .sum()
    }

    /// A percentile of the times, in microseconds, rounded up to its bucket's end; nothing while too few are known.
    fn percentile(&self, share: f64) -> Option<f64> {
        let all: u64 = self.times.iter().sum();
        if all < LEAST {
            return None;
        }
        let mut below = 0;
        let place = self.times.iter().position(|count| {
            below += count;
            below as f64 >= share * all as f64
        })?;
        Some(lower_edge(place + 1))
    }
}

fn bucket(micros: u64) -> usize {
    let place = FINE * (micros.max(1) as f64).log2();
    (place as usize).min(BUCKETS - 1)
}

/// Where a bucket begins, in microseconds.
fn lower_edge(bucket: usize) -> f64 {
    (bucket as f64 / FINE).exp2()
}

/// A rate that is not much lower than the true one: the mean of its posterior and two standard errors.
fn upper(failed: u64, of: u64) -> f64 {
    bound(failed, of, 2.0)
}

/// The mean of a rate's posterior, and so many standard errors more.
pub(crate) fn bound(failed: u64, of: u64, errors: f64) -> f64 {
    let (failed, of) = (failed as f64 + 1.0, of as f64 + 2.0);
    let mean = failed / of;
    (mean + errors * (mean * (1.0 - mean) / of).sqrt()).min(1.0)
}

/// The e-value of so many among so many against a rate of at most `allowed`, by bets with their weights.
pub(crate) fn evidence(bets: &[(f64, f64)], many: u64, of: u64, allowed: f64) -> f64 {
    if allowed >= 1.0 || many == 0 {
        return 0.0;
    }
    let worth = |(share, weight): &(f64, f64)| {
        let bet = share / allowed;
        weight * (many as f64 * (bet * (1.0 - allowed)).ln_1p() + (of - many) as f64 * (-bet * allowed).ln_1p()).exp()
    };
    bets.iter().map(worth).sum()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;
    use types::quantity::Share;

    use super::*;

    fn rollout(shares: &[f64]) -> Rollout {
        Rollout { canary: shares.iter().map(|share| Share::new(*share).unwrap()).collect(), ..Rollout::default() }
    }

    /// A rollout with so many errors and times of each side; what came of it, and after how many requests of the canary.
    fn run(seed: u64, share: f64, errors: [f64; 2], factor: f64) -> (Move, u64) {
        let mut canary = Canary::new(&rollout(&[share, 0.5]), Timestamp(0)).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut requests, mut at) = (0, 0);
        for n in 1.. {
            at += 20;
            let side = if rng.random::<f64>() < canary.share() { Side::Canary } else { Side::Before };
            requests += u64::from(side == Side::Canary);
            let took =
                1_000.0 * (1.0_f64 - rng.random::<f64>()).powf(-0.2) * if side == Side::Canary { factor } else { 1.0 };
            let failed = rng.random::<f64>() < errors[side as usize];
            canary.take(side, (!failed).then_some(took as u64));
            if n % 10 == 0 {
                match canary.judge(Timestamp(at)) {
                    Move::Stay | Move::Step(_) => {}
                    over => return (over, requests),
                }
            }
        }
        panic!("it ends")
    }

    fn taken_back(runs: u64, errors: [f64; 2], factor: f64) -> (f64, Vec<u64>) {
        let all: Vec<(Move, u64)> = (0..runs).map(|seed| run(seed, 0.1, errors, factor)).collect();
        let mut after: Vec<u64> =
            all.iter().filter(|(over, _)| matches!(over, Move::Back(_))).map(|(_, after)| *after).collect();
        after.sort_unstable();
        (after.len() as f64 / runs as f64, after)
    }

    #[test]
    fn one_that_is_no_worse_gets_through_and_one_that_fails_or_is_slow_is_taken_back() {
        for errors in [0.0, 0.002, 0.05] {
            let (back, _) = taken_back(500, [errors; 2], 1.0);
            assert!(back <= 0.05, "{back} of those that are no worse, at {errors}");
        }
        let (back, after) = taken_back(500, [0.002, 0.3], 1.0);
        assert!(back == 1.0 && after[475] <= 60, "{back}, {after:?}");
        let (back, after) = taken_back(500, [0.002, 0.1], 1.0);
        assert!(back >= 0.95 && after[after.len() / 2] <= 150, "{back}, {after:?}");
        let (back, after) = taken_back(500, [0.0, 0.0], 4.0);
        assert!(back == 1.0 && after[475] <= 60, "{back}, {after:?}");
    }

    #[test]
    fn steps_take_requests_and_time_and_are_as_the_manifest_says() {
        let mut canary = Canary::new(&rollout(&[0.5, 0.1, 1.0]), Timestamp(0)).unwrap();
        assert_eq!(canary.share(), 0.1);
        (0..200).for_each(|_| canary.take(Side::Canary, Some(900)));
        assert_eq!(canary.judge(Timestamp(29_000)), Move::Stay, "too early");
        assert_eq!(canary.judge(Timestamp(31_000)), Move::Step(0.5));
        assert_eq!(canary.judge(Timestamp(99_000)), Move::Stay, "too few since");
        assert!(canary.words(Timestamp(0)).contains("50%") && canary.words(Timestamp(0)).contains("all next"));
        (0..100).for_each(|_| canary.take(Side::Canary, Some(900)));
        assert_eq!(canary.judge(Timestamp(99_000)), Move::Full);
        assert_eq!((canary.judge(Timestamp(99_001)), canary.share()), (Move::Full, 0.5), "until it was carried out");
        assert!(Canary::new(&rollout(&[]), Timestamp(0)).is_none());
        assert!(!canary.is_overdue(Timestamp(1_000)) && canary.is_overdue(Timestamp(90_000_000)));
    }

    #[test]
    fn one_that_is_paused_keeps_its_share_goes_on_later_and_is_taken_back_where_it_is_worse() {
        let mut canary = Canary::new(&rollout(&[0.1, 0.5]), Timestamp(0)).unwrap();
        (0..200).for_each(|_| canary.take(Side::Canary, Some(900)));
        canary.pause(Timestamp(20_000));
        canary.pause(Timestamp(30_000));
        let mut kept: Canary = serde_json::from_value(serde_json::to_value(&canary).unwrap()).unwrap();
        let late = Timestamp(200_000_000);
        assert_eq!((kept.judge(late), kept.share(), kept.is_overdue(late)), (Move::Stay, 0.1, false));
        kept.resume(late);
        assert_eq!((kept.judge(late), kept.is_overdue(late)), (Move::Step(0.5), false), "what was seen counts");
        assert!(kept.is_overdue(Timestamp(200_000_000 + 86_400_000)));
        (0..200).for_each(|_| canary.take(Side::Before, Some(900)));
        (0..100).for_each(|_| canary.take(Side::Canary, None));
        assert!(matches!(canary.judge(Timestamp(40_000)), Move::Back(_)));
    }

    #[test]
    fn what_is_kept_is_what_was_known() {
        let mut canary = Canary::new(&rollout(&[0.1]), Timestamp(7)).unwrap();
        (0..300)
            .for_each(|n| canary.take(if n % 3 == 0 { Side::Canary } else { Side::Before }, (n % 7 > 0).then_some(n)));
        let mut kept: Canary = serde_json::from_value(serde_json::to_value(&canary).unwrap()).unwrap();
        let said = |canary: &mut Canary| (canary.words(Timestamp(90_000_000)), canary.judge(Timestamp(40_000)));
        let (kept, known) = (said(&mut kept), said(&mut canary));
        assert!(known.0.contains("takes long"), "{known:?}");
        assert_eq!(kept, known);
    }
}
