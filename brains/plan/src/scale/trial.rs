//! Whether the forecast acts: blocks of time go by lot to it and to the rule, and show which of them costs less.

use online::{
    Error, Random, Snapshot as _,
    guard::{Act, Evidence, Guard, Lot, Mode, Outcome, Settings},
};
use serde::{Deserialize, Serialize};

use super::{
    Seen, Terms,
    cost::{Cost, is_late},
};

/// Seconds of a block at the least, and how many times as long it is as what acts needs to show. What comes before that is of the other
/// side and does not count: a fifth of a block at the most.
const BLOCK: (u64, u64) = (300, 5);
/// Seconds, beside a start, that are of the other side: the rule looks back for a minute.
const BACK: u64 = 60;
/// Share of blocks that goes to whoever does not act: while they are compared, and once the forecast acts.
const SHARE: (f64, f64) = (0.5, 0.1);
/// Over how long the forecast must be better on average, where nobody sets the length of a block: loads are other by day than by night.
const SEASON: f64 = 86_400.0;
/// Blocks of the forecast before it is promoted, and blocks between two false alarms once it acts: six weeks of them.
const LEAST: u32 = 20;
const RUN_LENGTH: f64 = 10_000.0;
/// How far what is paid may be below and above what is due, in mean dues: what is beyond counts as that, and for alarms.
const RANGE: (f64, f64) = (0.5, 1.5);
/// Seconds, beside a start, in which requests wait too long and the rule would want more, one after the other: then it is the rule's turn.
const LATE: u64 = 5;
/// Seconds without a word after which a block counts for nothing.
const GAP: u64 = 5;
/// Blocks of each side whose costs are remembered for people.
const SHOWN: f64 = 64.0;
const HOUR: f64 = 3_600.0;

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// The rule.
    Rule,
    /// The forecast.
    Forecast,
}

/// What both say of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    /// How many replicas the rule wants, and whether it is in a panic.
    pub(super) rule: (u32, bool),
    /// How many the forecast wants.
    pub(super) forecast: u32,
}

/// How the forecast stands beside the rule, for people; nothing is decided by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Whether it is shown to cost less, and so acts but for a share of the blocks.
    pub acts: bool,
    /// Blocks that counted so far, of the rule and of the forecast.
    pub blocks: (u64, u64),
    /// What an hour of the latest load costs with the rule and with the forecast, in seconds in which requests wait too long, replicas
    /// at their price among them; nothing before there was a block of each.
    pub costs: Option<(f64, f64)>,
    /// How often it was promoted so far.
    pub promoted: u64,
    /// How often it handed back.
    pub handed_back: u64,
}

impl Standing {
    /// The share of costs that the forecast saves; negative where it costs more.
    pub fn saved(&self) -> Option<f64> {
        self.costs.filter(|(rule, _)| *rule > 0.0).map(|(rule, forecast)| 1.0 - forecast / rule)
    }
}

/// A mean in which the latest values count most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Mean {
    value: f64,
    count: u64,
}

impl Mean {
    fn observe(&mut self, value: f64) {
        self.count = self.count.saturating_add(1);
        self.value += (value - self.value) / (self.count as f64).min(SHOWN);
    }
}

/// A switchback experiment between the rule and the forecast, under a [`Guard`]: who costs less over whole blocks, late seconds and
/// replicas together, acts; the rule until that is known, and whenever it no longer is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Trial {
    guard: Guard,
    /// Seconds of a block, where somebody has set them.
    pub(super) length: Option<u64>,
    seed: u64,
    block: Option<Block>,
    /// Blocks begun so far.
    begun: u64,
    /// What blocks' loads would be charged, and what was paid beyond it, of the rule's and of the forecast's.
    due: Mean,
    beyond: [Mean; 2],
    turns: (u64, u64),
    /// Seconds of the forecast, one after the other, in which requests waited too long and the rule would have wanted more.
    late: u64,
}

/// The block that runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Block {
    lot: Lot,
    began: u64,
    /// From when on it counts, and when it ends.
    settled: u64,
    ends: u64,
    /// The last second, sums over those that count, and their number.
    last: u64,
    cost: Cost,
    requests: f64,
    seconds: u64,
    /// Whether it counts.
    counts: bool,
    /// Whether it went to the rule before its end.
    alarmed: bool,
}

impl Trial {
    /// One in which nothing is shown. `length` is that of a block, in seconds; blocks of unlike seeds have unlike lots.
    ///
    /// # Errors
    /// None that its own settings do not exclude.
    pub(super) fn new(mode: Mode, length: Option<u64>, seed: u64) -> online::Result<Self> {
        let settings = Settings {
            mode,
            evidence: Evidence::Split,
            least: LEAST,
            season: length.is_none().then_some(SEASON),
            run_length: RUN_LENGTH,
            ..Settings::default()
        };
        let (due, beyond) = (Mean::default(), [Mean::default(); 2]);
        let guard = Guard::new(settings)?;
        Ok(Self { guard, length, seed, block: None, begun: 0, due, beyond, turns: (0, 0), late: 0 })
    }

    /// One in which nothing is shown, after this one: who acted hands back.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(super) fn anew(&self, length: Option<u64>) -> online::Result<Self> {
        let turns = (self.turns.0, self.turns.1 + u64::from(self.acts()));
        Ok(Self { turns, ..Self::new(self.mode(), length, self.seed)? })
    }

    fn mode(&self) -> Mode {
        self.guard.settings().mode
    }

    /// Lets the forecast do more, or less; whoever acts and no longer may has to be shown to be better anew.
    pub(super) fn permit(&mut self, mode: Mode) {
        if self.mode() != mode {
            self.turns.1 += u64::from(self.acts() && mode != Mode::On);
            self.guard.permit(mode);
            self.block = None;
        }
    }

    /// The block that runs counts for nothing: somebody else decided in it, or it is about another version.
    pub(super) fn void(&mut self) {
        self.late = 0;
        self.block.iter_mut().for_each(|block| block.counts = false);
    }

    pub(super) fn acts(&self) -> bool {
        self.guard.acting() != Act::Champion
    }

    pub(super) fn standing(&self) -> Standing {
        let [rule, forecast] = &self.beyond;
        let cost = |beyond: &Mean| HOUR * (self.due.value + beyond.value).max(0.0);
        let costs = (rule.count > 0 && forecast.count > 0).then(|| (cost(rule), cost(forecast)));
        let (promoted, handed_back) = self.turns;
        Standing { acts: self.acts(), blocks: (rule.count, forecast.count), costs, promoted, handed_back }
    }

    /// Takes in a second, and says how many replicas are wanted and whose word that is. In the forecast's blocks it is never fewer than
    /// the rule wants in a panic. O(1), and O(8) exponentials at the end of a block.
    pub(super) fn second(&mut self, at: u64, seen: &Seen, terms: &Terms, (target, said): (f64, Said)) -> (u32, Side) {
        if self.mode() != Mode::On {
            return (said.rule.0, Side::Rule);
        }
        if self.block.is_none_or(|block| at >= block.ends || at <= block.last) {
            self.turn(at, terms);
        }
        let Some(block) = &mut self.block else { return (said.rule.0, Side::Rule) };
        block.counts &= at - block.last <= GAP;
        block.last = at;
        if block.counts && at >= block.settled {
            let Cost { paid, due } = Cost::of(seen, terms, target);
            block.cost = Cost { paid: block.cost.paid + paid, due: block.cost.due + due };
            block.requests += seen.requests;
            block.seconds += 1;
        }
        if block.lot.arm() == Act::Champion {
            self.late = 0;
            return (said.rule.0, Side::Rule);
        }
        let wants_more = said.rule.0 > said.forecast;
        self.late = if wants_more && is_late(seen, terms) { self.late + 1 } else { 0 };
        if self.late >= LATE + terms.cold.max(0.0).ceil() as u64 {
            self.alarm();
        }
        let alarmed = self.block.is_some_and(|block| block.alarmed);
        match said.rule {
            (rule, panics) if wants_more && (panics || alarmed) => (rule, Side::Rule),
            _ => (said.forecast, Side::Forecast),
        }
    }

    /// Requests wait too long, and the rule would help: the rest of the block is its. Whoever acted does no longer; while both are
    /// compared the block counts for the forecast all the same, since it is its doing.
    fn alarm(&mut self) {
        self.late = 0;
        self.block.iter_mut().for_each(|block| block.alarmed = true);
        if self.acts() {
            self.turns.1 += 1;
            self.guard.permit(Mode::Shadow);
            self.guard.permit(Mode::On);
            self.void();
        }
    }

    /// A block is over, the next one begins.
    fn turn(&mut self, at: u64, terms: &Terms) {
        if let Some(block) = self.block.take() {
            self.count(&block, at);
        }
        self.begun += 1;
        self.late = 0;
        let draw = Random::new(self.seed ^ self.begun.wrapping_mul(0x9e37_79b9_7f4a_7c15)).uniform();
        let Ok(lot) = self.guard.lot(if self.acts() { SHARE.1 } else { SHARE.0 }, draw) else { return };
        let settling = terms.cold.max(0.0).ceil() as u64 + BACK;
        let length = self.length.unwrap_or((settling * BLOCK.1).max(BLOCK.0)).max(1);
        let settled = at + settling.min(length / BLOCK.1);
        let (cost, last) = (Cost::default(), at);
        self.block = Some(Block {
            lot,
            began: at,
            settled,
            ends: at + length,
            last,
            cost,
            requests: 0.0,
            seconds: 0,
            counts: true,
            alarmed: false,
        });
    }

    /// What a block says. One in which nobody asked says nothing, and so does one of which half was not seen.
    fn count(&mut self, block: &Block, at: u64) {
        let whole = 2 * block.seconds >= block.ends - block.settled;
        if !(block.counts && whole && block.seconds > 0 && block.requests > 0.0) {
            return;
        }
        let seconds = block.seconds as f64;
        let (paid, due) = (block.cost.paid / seconds, block.cost.due / seconds);
        // Known before the block, but for the first one; and nothing that who decides has a say in.
        let unit = if self.due.count > 0 { self.due.value } else { due };
        let loss = (((paid - due) / unit.max(f64::MIN_POSITIVE) + RANGE.0) / (RANGE.0 + RANGE.1)).clamp(0.0, 1.0);
        let outcome = Outcome { lot: block.lot, requested: block.began as f64, loss, slice: None };
        let acted = self.acts();
        // A time that goes back teaches nothing.
        if self.guard.split(&outcome, at as f64).is_err() {
            return;
        }
        self.due.observe(due);
        let [rule, forecast] = &mut self.beyond;
        if block.lot.arm() == Act::Champion { rule } else { forecast }.observe(paid - due);
        self.turns.0 += u64::from(!acted && self.acts());
        self.turns.1 += u64::from(acted && !self.acts());
    }

    pub(super) fn check(&self) -> online::Result<()> {
        self.guard.check()?;
        let means = [self.due, self.beyond[0], self.beyond[1]];
        let sums = self.block.map_or([0.0; 3], |block| [block.cost.paid, block.cost.due, block.requests]);
        let in_order = self.block.is_none_or(|block| block.began <= block.last && block.settled <= block.ends);
        let evidence = self.guard.settings().evidence == Evidence::Split && self.guard.settings().challengers == 1;
        if in_order && evidence && means.iter().map(|mean| mean.value).chain(sums).all(f64::is_finite) {
            Ok(())
        } else {
            Err(Error::Snapshot("has a block that no seconds give"))
        }
    }
}
