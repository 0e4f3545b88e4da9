//! The learnt rule beside its champion: who chooses, and who hands back when.

use std::time::Duration;

use online::{
    Error,
    evidence::{EDetector, EProcess},
    guard::{Act, Evidence, Guard, Lot, Mode, Outcome as Block, Settings},
};
use rand::Rng;

use crate::{
    Outcome, Pool,
    policy::{Ask, Claim, End, Listening, Policy},
    predict::{Mean, Predict, Ridge},
    work::{Explorer, Work},
};

/// Requests of a block at the least, and mean latencies that it lasts at the least.
const BLOCK: (u32, f64) = (32, 10.0);
/// Share of blocks that goes to whoever does not act: while the challenger is tried, and once it acts.
const SHARE: (f64, f64) = (0.5, 0.005);
/// How much worse than the mean a predictor may be before that speaks against it, in twice the mean absolute deviation.
const MARGIN: f64 = 0.05;
/// Labels between two false alarms about a predictor that is no worse.
const RUN_LENGTH: f64 = 10_000.0;
/// The wealth from which a predictor is credited for the first time: 1/α of 0.05.
const CREDIT: f64 = 20.0;

/// Blocks of each rule whose mean latencies are remembered for people.
const SHOWN: f64 = 64.0;

/// How the learnt rule stands beside the pool, for people; nothing is decided by it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Standing {
    /// Whether the learnt rule acts.
    pub acts: bool,
    /// Whether its predictor is worth being tried.
    pub credited: bool,
    /// Mean latency of the last blocks of the pool and of the learnt rule, in seconds; nothing before there was one of each.
    pub latencies: Option<(f64, f64)>,
    /// How often it was promoted so far.
    pub promoted: u64,
    /// How often it handed back.
    pub handed_back: u64,
    /// Whether others are known to send to the same replicas.
    pub shared: bool,
}

impl Standing {
    /// The share of latency that the learnt rule saves; negative where it is slower.
    pub fn better(&self) -> Option<f64> {
        self.latencies.filter(|(pool, _)| *pool > 0.0).map(|(pool, learnt)| 1.0 - learnt / pool)
    }
}

/// A [`Pool`] as the champion, and beside it [`Work`], which chooses among the replicas that the pool has open, while
/// evidence speaks for it. Ejection, slow start, budgets and hedges stay the pool's.
///
/// - [`Mode::Off`]: every claim is the pool's, and nothing is learnt; bit for bit the pool.
/// - [`Mode::Shadow`]: every claim is the pool's; costs and paces are learnt.
/// - [`Mode::On`]: once the predictor is shown to beat the plain mean, blocks of requests go by lot to both, half and half;
///   once these show that the challenger's latencies are lower ([`Guard`], evidence by split), it acts, and one block in
///   two hundred stays the champion's.
///
/// It hands back when the blocks say so, or as soon as the predictor errs more than the plain mean does (an e-detector on
/// each answer, METHODS: guard): a useless one within some hundred answers. Then both have to be shown again.
pub struct Guarded {
    pool: Pool<u64>,
    work: Work,
    mode: Mode,
    guard: Guard,
    /// Whether the predictor is worth being tried.
    credited: bool,
    worse: EDetector,
    better: EProcess,
    attempts: f64,
    block: Current,
    claims: u64,
    handed_back: Option<u64>,
    /// Times that it was promoted and handed back, and mean latencies of blocks by rule.
    turns: (u64, u64),
    /// Whether copies may be sent; where the next one goes, and the numbers of those in flight.
    copies: bool,
    to_copy: Option<usize>,
    copied: Vec<u64>,
    shown: [Mean; 2],
}

/// The block that runs.
#[derive(Debug, Clone, Copy)]
struct Current {
    number: u64,
    lot: Lot,
    began: Duration,
    loss: f64,
    seconds: f64,
    count: u32,
}

/// What the guard of a balancer is made with.
fn settings(mode: Mode) -> Settings {
    Settings { mode, evidence: Evidence::Split, least: 20, season: None, run_length: 10_000.0, ..Settings::default() }
}

impl Guarded {
    /// One without replicas, whose champion acts.
    ///
    /// # Errors
    /// None that its own settings do not exclude.
    pub fn new(mode: Mode, now: Duration) -> Result<Self, Error> {
        Self::with(mode, Box::<Ridge>::default(), now)
    }

    /// One that predicts so.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with(mode: Mode, predictor: Box<dyn Predict>, now: Duration) -> Result<Self, Error> {
        let guard = Guard::new(settings(mode))?;
        let lot = guard.lot(SHARE.0, 0.999)?;
        Ok(Self {
            pool: Pool::new(now),
            work: Work::new(predictor),
            mode,
            guard,
            credited: false,
            worse: EDetector::new(RUN_LENGTH)?,
            better: EProcess::default(),
            attempts: 1.0,
            block: Current { number: 0, lot, began: now, loss: 0.0, seconds: 0.0, count: 0 },
            claims: 0,
            handed_back: None,
            turns: (0, 0),
            copies: false,
            to_copy: None,
            copied: Vec::new(),
            shown: [Mean::default(); 2],
        })
    }

    /// One that acts from the first request on, as one does that was promoted before: what it must show is taken as shown.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn promoted(predictor: Box<dyn Predict>, now: Duration) -> Result<Self, Error> {
        let mut made = Self::with(Mode::On, predictor, now)?;
        made.credited = true;
        for place in 0..1_000 {
            if made.acts() {
                break;
            }
            let lot = made.guard.lot(SHARE.0, f64::from(place % 2) * 0.9)?;
            let loss = if lot.arm() == Act::Champion { 1.0 } else { 0.0 };
            made.guard.split(&Block { lot, requested: 0.0, loss, slice: None }, 0.0)?;
        }
        made.block.lot = made.guard.lot(SHARE.1, 0.999)?;
        Ok(made)
    }

    /// Takes over a pool that has chosen alone so far, with all that it knows; claims made before end here too.
    pub fn adopt(&mut self, pool: Pool<u64>, now: Duration) {
        let keys: Vec<u64> = pool.keys().copied().collect();
        self.work.set(&keys, now);
        self.pool = pool;
    }

    /// The champion, with what it alone decides: budgets, and when a second replica is asked.
    pub fn pool(&mut self) -> &mut Pool<u64> {
        &mut self.pool
    }

    /// The challenger.
    pub fn work(&self) -> &Work {
        &self.work
    }

    /// Whether the challenger acts, but for the champion's share.
    pub fn acts(&self) -> bool {
        self.guard.acting() != Act::Champion
    }

    /// The number of requests after which it last handed back, if it ever did.
    pub fn handed_back(&self) -> Option<u64> {
        self.handed_back
    }

    /// How the learnt rule stands.
    pub fn standing(&self) -> Standing {
        let [pool, learnt] = &self.shown;
        let latencies = (pool.count > 0.0 && learnt.count > 0.0).then_some((pool.value, learnt.value));
        let (promoted, handed_back) = self.turns;
        let shared = self.work.is_shared();
        Standing { acts: self.acts(), credited: self.credited, latencies, promoted, handed_back, shared }
    }

    /// From now on copies of requests find out whether a slow replica still is, while little is in flight: whoever claims asks for a
    /// [`copy`](Self::copy) after each claim.
    pub fn explore_by_copies(&mut self) {
        self.copies = true;
    }

    /// Claims a replica for a copy of the request that was claimed for last, where one is to be explored and the budget of further
    /// attempts has something for that. The first answer is the caller's; the copy runs to its end, since only then something
    /// is learnt of the replica.
    pub fn copy(&mut self, ask: &Ask, now: Duration) -> Option<Claim> {
        let place = self.to_copy.take()?;
        if !self.pool.budget().hedge(now) {
            return None;
        }
        let key = self.pool.take(place, now)?;
        let claim = self.sent(key, self.work.predict(ask), now);
        self.copied.push(claim.id);
        Some(claim)
    }

    /// The replicas that are to be asked how they stand: nothing was heard of them for a second, though requests come. Each
    /// counts as asked now, so that it is asked once a second at the most.
    pub fn silent(&mut self, now: Duration) -> Vec<u64> {
        if self.mode == Mode::Off { Vec::new() } else { self.work.silent(now) }
    }

    /// Whether the challenger chooses now.
    fn challenges(&self) -> bool {
        self.mode == Mode::On && self.credited && self.block.lot.arm() != Act::Champion
    }

    /// Another attempt at a request, at none of those that were tried: the champion's, since who has tried one gets the
    /// best of the rest.
    pub fn again(&mut self, ask: &Ask, tried: &[u64], now: Duration, mut rng: &mut dyn Rng) -> Option<Claim> {
        let key = self.pool.claim(tried, now, &mut rng)?;
        Some(self.claimed(key, ask, now))
    }

    fn claimed(&mut self, key: u64, ask: &Ask, now: Duration) -> Claim {
        if self.mode == Mode::Off {
            return Claim { key, id: 0, predicted: 0.0 };
        }
        self.sent(key, self.work.predict(ask), now)
    }

    fn sent(&mut self, key: u64, predicted: f64, now: Duration) -> Claim {
        self.claims += 1;
        let claim = Claim { key, id: self.claims, predicted };
        self.work.sent(key, claim.id, claim.predicted, now);
        claim
    }

    /// Judges the predictor by one answer: what it said and what the mean said, against what it took.
    fn judge(&mut self, predicted: f64, plain: (f64, f64), seconds: f64, now: Duration) -> Result<(), Error> {
        let (mean, deviation) = plain;
        let harm = ((seconds - predicted).abs() - (seconds - mean).abs()) / (2.0 * deviation.max(1e-9));
        let harm = if harm.is_finite() { harm.clamp(-1.0, 1.0) } else { 1.0 };
        if !self.credited {
            self.better.observe(-harm)?;
            self.credited = self.better.log_wealth() >= (CREDIT * self.attempts * self.attempts).ln();
            return Ok(());
        }
        if self.worse.observe(harm - MARGIN)? {
            self.hand_back(now);
        }
        Ok(())
    }

    /// The champion acts again, and everything has to be shown anew.
    fn hand_back(&mut self, now: Duration) {
        self.turns.1 += u64::from(self.acts());
        self.credited = false;
        self.better = EProcess::default();
        self.worse.reset();
        self.attempts += 1.0;
        self.handed_back = Some(self.claims);
        self.guard.permit(Mode::Shadow);
        self.guard.permit(self.mode);
        self.turn(now);
    }

    /// An answer's latency counts for the block in which its request came.
    fn count(&mut self, began: Duration, now: Duration, mean: f64) -> Result<(), Error> {
        let latency = now.saturating_sub(began).as_secs_f64();
        if began >= self.block.began {
            self.block.loss += latency / (latency + 4.0 * mean);
            self.block.seconds += latency;
            self.block.count += 1;
        }
        let lasted = now.saturating_sub(self.block.began).as_secs_f64();
        if self.block.count < BLOCK.0 || lasted < BLOCK.1 * mean {
            return Ok(());
        }
        let Current { lot, began, loss, seconds, count, .. } = self.block;
        let (acted, at) = (self.acts(), now.as_secs_f64());
        // Before it is credited the pool chooses in every block.
        let learnt = self.challenges();
        self.shown[usize::from(learnt)].observe(seconds / f64::from(count), SHOWN);
        let loss = (loss / f64::from(count)).clamp(0.0, 1.0);
        self.guard.split(&Block { lot, requested: began.as_secs_f64(), loss, slice: None }, at)?;
        if acted && !self.acts() {
            self.handed_back = Some(self.claims);
            self.turns.1 += 1;
        }
        self.turns.0 += u64::from(!acted && self.acts());
        self.turn(now);
        Ok(())
    }

    /// The next block begins, with a lot that depends on its number alone.
    fn turn(&mut self, now: Duration) {
        let number = self.block.number + 1;
        let draw = spread(number);
        let share = if self.acts() { SHARE.1 } else { SHARE.0 };
        let lot = self.guard.lot(share, draw).unwrap_or(self.block.lot);
        self.block = Current { number, lot, began: now, loss: 0.0, seconds: 0.0, count: 0 };
    }
}

/// A number from 0 to below 1 that looks drawn.
fn spread(number: u64) -> f64 {
    let mut x = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

impl Policy for Guarded {
    fn set(&mut self, keys: &[u64], now: Duration) {
        self.pool.set(keys, now);
        self.work.set(keys, now);
    }

    fn claim(&mut self, ask: &Ask, now: Duration, mut rng: &mut dyn Rng) -> Option<Claim> {
        self.to_copy = None;
        if !self.challenges() {
            let key = self.pool.claim(&[], now, &mut rng)?;
            return Some(self.claimed(key, ask, now));
        }
        let predicted = self.work.predict(ask);
        let explorer = if self.copies && self.pool.is_idle() { Explorer::Copy } else { Explorer::Request };
        let (open, shares) = self.pool.open(now);
        let chosen = self.work.choose(predicted, open, shares, explorer, now, rng)?;
        self.to_copy = chosen.copy;
        let key = self.pool.take(chosen.place, now)?;
        Some(self.sent(key, predicted, now))
    }

    fn ended(&mut self, end: &End<'_>, now: Duration) {
        self.pool.ended(&end.claim.key, end.began, now, end.outcome);
        if self.mode == Mode::Off {
            return;
        }
        let copy = self.copied.iter().position(|id| *id == end.claim.id);
        copy.map(|place| self.copied.swap_remove(place));
        let plain = self.work.plain();
        let which = (end.claim.key, end.claim.id);
        let learnt = self.work.ended(which, &end.ask, end.compute, end.outcome, now);
        if let Some(report) = end.report {
            self.work.heard(end.claim.key, report, now);
        }
        if let (Some(seconds), Some(plain), true) = (learnt, plain, end.claim.predicted > 0.0) {
            // Losses are in range by construction; an error would change nothing.
            let _ = self.judge(end.claim.predicted, plain, seconds, now);
        }
        // Nobody waited for a copy.
        if copy.is_none() && end.outcome != Outcome::Cancelled && plain.is_some() {
            let _ = self.count(end.began, now, self.work.mean());
        }
    }

    fn listening(&self) -> Listening {
        if self.mode == Mode::Off { Listening::default() } else { self.work.listening() }
    }

    fn heard(&mut self, key: u64, report: &crate::report::Report, at: Duration) {
        if self.mode != Mode::Off {
            self.work.heard(key, report, at);
        }
    }
}

#[cfg(test)]
mod tests;
