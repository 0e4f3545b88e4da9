//! A caller's scores from what was counted, the plain rules beside them, and words for people.

use std::fmt;

use super::{
    TURNS,
    caller::{Caller, Counts, SETTLED, excess, sharp},
    rates::Rates,
};

/// How many times as much as its own rows a caller may be suspect for what others do along the same chain.
const SHARE: f32 = 6.0;
/// What one row made from others says at most, which may be chance.
const ONCE: f32 = 9.0;
/// How many times as much as its own rows say a caller of few may be suspect for what others of few do.
const CROWDED: f32 = 2.0;
/// The rule twin: own rows near another in a window, as Blacklight's threshold of matches.
const NEAR_ROWS: u32 = 25;
/// The rule twin: rows in a window.
const ROWS: u32 = 1_200;
/// The rule twin: how unlike normal distances are; a Shapiro–Wilk statistic of 0.9, which is PRADA's, is about this.
const UNLIKE_NORMAL: f64 = 0.25;

/// A plain rule that a caller broke: the twin that a learnt score is held against, and the floor below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// More than 25 rows of a window near others of its own, and not the same.
    NearRows,
    /// More than 1,200 rows in a window.
    ManyRows,
    /// Distances to the nearest row are not normal (after PRADA), over 100 rows and more.
    Distances,
}

/// What is known of a caller, in numbers that people understand. Counts fade: those of single steps halve in five minutes, those
/// of kinds of rows in half an hour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// Rows that were new: neither repeats nor near another.
    pub rows: f64,
    /// Rows on a line between two others, with little noise.
    pub on_line: f64,
    /// Rows as far from one as another is, column by column.
    pub mirrored: f64,
    /// Rows near another of its own.
    pub near: f64,
    /// Evidence of near rows with unlike answers, of the caller or of a chain that it goes along, in nats.
    pub flips: f64,
    /// Evidence of answers that become less sure step by step, in nats.
    pub descent: f64,
    /// New rows that are far from what is ordinary.
    pub strange: f64,
    /// New rows with a value outside of its column's range, or of its kind.
    pub odd: f64,
    /// New rows of ordinary values that do not go together.
    pub torn: f64,
    /// New rows beside a boundary.
    pub unsure: f64,
    /// Of the model's size, in a day or so.
    pub spent: f64,
}

/// Evidence of rows that were made from others, in nats.
fn made(counts: &Counts, rates: &Rates) -> f32 {
    let lines = counts.line.into_iter().zip(rates.line()).map(|(line, rate)| excess(line, counts.rows, rate));
    lines.fold(0.0, f32::max) + sharp(counts.mirrored, counts.rows, rates.mirrored())
}

/// Evidence of an evasion by a caller's own rows, in nats.
pub(super) fn evasion(caller: &Caller, rates: &Rates) -> f32 {
    let Counts { rows, near_odd, .. } = caller.quick;
    let odd = excess(near_odd, rows, rates.near_odd());
    made(&caller.quick, rates) + caller.flips + caller.descent + odd / 2.0
}

/// The most that a caller answers for of what is known of the chain that it goes along: so many times what its own rows say, those
/// near others as far as most of its rows are on the chain, and its answers change there. Who has been here for long does not answer
/// for others at all: else anybody could walk along where a film is known to be shot, and have it taken for one of them.
pub(super) fn share(caller: &Caller, rates: &Rates) -> f32 {
    if caller.windows >= SETTLED {
        return 0.0;
    }
    let walk = &caller.walk;
    // Where ordinary rows lie close together all are along one chain, but hardly near their caller's own.
    // One of them is there by chance.
    let along_it = ((walk.rows as f32).min(caller.quick.near) - 1.0).max(0.0);
    let part = (2.0 * along_it / caller.quick.rows.max(1.0)).min(1.0);
    let along = if walk.turns >= TURNS { part * (walk.evidence + walk.descent) } else { 0.0 };
    SHARE * (along + (made(&caller.quick, rates) - ONCE).max(0.0))
}

/// Evidence of an extraction, in nats.
pub(super) fn extraction(caller: &Caller, rates: &Rates, crowd: &Counts, few: f32) -> f32 {
    let own = foreign(&caller.slow, rates) + caller.discrepancy;
    let rows = caller.slow.rows;
    let with_others = if rows <= few && rows >= 2.0 {
        // Only as far as one's own rows are of that kind, and never much more than they say themselves.
        let share = (caller.slow.strange.max(caller.slow.odd).max(caller.slow.torn).max(caller.slow.unsure) / rows
            - 0.5)
            .max(0.0)
            * 2.0;
        (share * foreign(crowd, rates)).min(CROWDED * own)
    } else {
        0.0
    };
    own.max(with_others)
}

fn foreign(counts: &Counts, rates: &Rates) -> f32 {
    let rows = counts.rows;
    let strange = excess(counts.strange, rows, rates.strange()).max(excess(counts.odd, rows, rates.odd()));
    let strange = strange.max(excess(counts.torn, rows, rates.torn()));
    strange
        + excess(counts.very_odd, rows, rates.very_odd())
        + excess(counts.unsure, rows, rates.unsure())
        + made(counts, rates) / 2.0
}

/// The rule that a caller broke, if one.
pub(super) fn rule(caller: &Caller) -> Option<Rule> {
    if caller.window.near > NEAR_ROWS {
        return Some(Rule::NearRows);
    }
    if caller.window.rows > ROWS {
        return Some(Rule::ManyRows);
    }
    caller.unlike_normal().is_some_and(|unlike| unlike > UNLIKE_NORMAL).then_some(Rule::Distances)
}

pub(super) fn of(caller: &Caller, size: f64) -> Evidence {
    Evidence {
        rows: caller.slow.rows.into(),
        on_line: caller.quick.line[1].into(),
        mirrored: caller.quick.mirrored.into(),
        near: caller.quick.near.into(),
        flips: caller.flips.max(caller.shared).into(),
        descent: caller.descent.into(),
        strange: caller.slow.strange.into(),
        odd: caller.slow.odd.into(),
        torn: caller.slow.torn.into(),
        unsure: caller.slow.unsure.into(),
        spent: caller.spent / size.max(1.0),
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "of {:.0} new rows and {:.0} near others", self.rows, self.near)?;
        let counted = [
            (self.on_line, "lie between two others"),
            (self.mirrored, "mirror another"),
            (self.strange, "are far from what is asked"),
            (self.odd, "have values that are never asked"),
            (self.torn, "are of values that do not go together"),
            (self.unsure, "are beside a boundary"),
        ];
        for (number, what) in counted.into_iter().filter(|(number, _)| *number >= 1.0) {
            write!(to, ", {number:.0} {what}")?;
        }
        if self.descent >= 3.0 {
            write!(to, "; the answers become less sure step by step")?;
        }
        write!(to, "; {:.1} % of the model's size was given away", self.spent * 100.0)
    }
}
