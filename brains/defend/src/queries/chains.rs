//! Chains of near rows with unlike answers: how a way along a boundary looks, over however many callers.

use super::SUSPECT;

/// The most chains at a time; the one that was longest without a row goes.
const MOST: usize = 1_024;

/// What one chain's flips say at most, in nats: a film of something beside a boundary is one chain, too.
const ONE_CHAIN: f32 = 10.0;
/// What one flip says at most: of many rows, two may be that near by chance.
const ONE_FLIP: f32 = 5.0;
/// Rows with unlike answers beside them after which a chain may say more, and how much more for each e-fold of them.
const FILM: f32 = 30.0;
const LONG: f32 = 3.0;
/// What it says that another account goes along the same chain, and how many are counted.
const ACCOUNT: f32 = 4.0;
const ACCOUNTS: usize = 4;

/// Rows that are near each other, one to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    id: u32,
    last: f64,
    pub(super) rows: u32,
    /// Rows that were near one of another answer.
    pub(super) flips: u32,
    evidence: f32,
    /// The greatest evidence against who goes along it.
    suspicion: f32,
    /// Where its first row lies.
    pub(super) first: u64,
    rarest: f32,
    accounts: [Option<u64>; ACCOUNTS],
}

/// One caller's own way along a chain: its rows there, whoever else goes along it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    pub(super) chain: u32,
    /// Its rows on it, and how often the answer was another than that before.
    pub(super) rows: u32,
    pub(super) turns: u32,
    label: u32,
    flips: u32,
    /// Evidence of its rows' flips.
    pub(super) evidence: f32,
    rarest: f32,
    /// The least margin, and evidence that margins fall more often to a new least than by chance.
    least: f32,
    pub(super) descent: f32,
}

impl Walk {
    pub(super) fn new(chain: u32, label: u32) -> Self {
        Self { chain, rows: 0, turns: 0, label, flips: 0, evidence: 0.0, rarest: 0.0, least: 1.0, descent: 0.0 }
    }

    /// A row more, and how seldom it is near one of another answer, of whomever, if it is.
    pub(super) fn step(&mut self, label: u32, rarity: Option<f32>) {
        self.rows = self.rows.saturating_add(1);
        self.turns += u32::from(label != self.label);
        self.label = label;
        if let Some(rarity) = rarity {
            self.flips += 1;
            self.rarest = self.rarest.max((0.4 / rarity).ln().min(ONE_FLIP));
            self.evidence = along(self.rarest, self.flips);
        }
    }

    /// Evidence that somebody walks downhill: among n rows in no order, the nth is the least with chance 1/n, on a path of
    /// chance 1/√(πn) (Sparre Andersen); of one who looks for the boundary, about every third.
    pub(super) fn descend(&mut self, margin: f32) {
        let ordinary = 1.0 / (std::f32::consts::PI * (self.rows.max(2) as f32)).sqrt();
        let new = margin < self.least;
        let says = if new { (0.35 / ordinary).ln() } else { (0.65 / (1.0 - ordinary)).ln() };
        self.least = self.least.min(margin);
        if self.rows >= 4 {
            self.descent = (self.descent + says).max(0.0);
        }
    }
}

/// What so many flips say, the rarest of which says so much. Each further one says less, so that one ordinary row beside a boundary,
/// with noise, says no more than a little.
fn along(rarest: f32, flips: u32) -> f32 {
    let most = ONE_CHAIN + LONG * (flips as f32 / FILM).max(1.0).ln();
    (rarest * (1.0 + 0.3 * (flips as f32).ln())).min(most)
}

impl Chain {
    /// A row more: what it adds to the evidence that its boundary is looked for. `rarity` is how seldom an ordinary near row has
    /// another answer, given how near it is.
    pub(super) fn flip(&mut self, rarity: f32) -> f32 {
        self.flips += 1;
        self.rarest = self.rarest.max((0.4 / rarity).ln().min(ONE_FLIP));
        let more = (along(self.rarest, self.flips) - self.evidence).max(0.0);
        self.evidence += more;
        more
    }

    /// Notes that one more account has rows with unlike answers along it.
    pub(super) fn join(&mut self, account: u64) {
        let known = self.accounts.iter().position(|known| known.is_none_or(|known| known == account));
        if let Some(into) = known.and_then(|at| self.accounts.get_mut(at)) {
            *into = Some(account);
        }
    }

    fn note(&mut self, now: f64) {
        self.rows = self.rows.saturating_add(1);
        self.last = now;
    }

    /// Notes the evidence against somebody who goes along it, and answers the greatest against anybody, more for each further account
    /// once anybody is suspect: where ordinary rows lie close together, all of them are one chain.
    pub(super) fn suspect(&mut self, evidence: f32) -> f32 {
        self.suspicion = self.suspicion.max(evidence).max(self.evidence);
        let others = self.accounts.iter().flatten().count().saturating_sub(1);
        self.suspicion + if self.suspicion > SUSPECT { ACCOUNT * others as f32 } else { 0.0 }
    }
}

/// All chains of a model. 72 KB.
#[derive(Debug, Clone, Default)]
pub(super) struct Chains {
    chains: Vec<Chain>,
}

impl Chains {
    /// The chain that a row joins, by the chain of its neighbour; a new one when it has none or that is forgotten. `None` never
    /// happens.
    pub(super) fn join(&mut self, id: Option<u32>, first: u64, now: f64) -> Option<(u32, &mut Chain)> {
        let known = id.filter(|id| self.chains.get(*id as usize % MOST).is_some_and(|chain| chain.id == *id));
        let id = known.unwrap_or_else(|| self.begin(first, now));
        let chain = self.chains.get_mut(id as usize % MOST)?;
        chain.note(now);
        Some((id, chain))
    }

    /// A new chain, in the place of the one that was longest without a row when there are too many.
    fn begin(&mut self, first: u64, now: f64) -> u32 {
        let oldest = |chains: &[Chain]| {
            let at = chains.iter().min_by(|one, other| one.last.total_cmp(&other.last));
            at.map_or(0, |chain| chain.id.wrapping_add(MOST as u32))
        };
        let id = if self.chains.len() < MOST { self.chains.len() as u32 } else { oldest(&self.chains) };
        let chain = Chain {
            id,
            last: now,
            rows: 1,
            flips: 0,
            evidence: 0.0,
            suspicion: 0.0,
            first,
            rarest: 0.0,
            accounts: [None; ACCOUNTS],
        };
        match self.chains.get_mut(id as usize % MOST) {
            Some(old) => *old = chain,
            None => self.chains.push(chain),
        }
        id
    }

    pub(super) fn get(&self, id: u32) -> Option<&Chain> {
        self.chains.get(id as usize % MOST).filter(|chain| chain.id == id)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Chain> {
        self.chains.get_mut(id as usize % MOST).filter(|chain| chain.id == id)
    }
}
