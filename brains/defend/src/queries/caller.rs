//! What is remembered of one caller: counts that fade, sums of its newest rows, and what it spent.

use super::SUSPECT;
use super::artificial::LEVELS;
use super::chains::Walk;
use super::natural::{BLOCK, WAVES, Waves};

/// Seconds after which a row counts half: as a step of an evasion, and as one of an extraction.
const QUICK: f64 = 300.0;
const SLOW: f64 = 1_800.0;
/// Seconds after which what was spent counts half.
const DAY: f64 = 86_400.0;
/// Rows that a rate says at most as much as: ordinary callers differ, and what differs by caller does not become clearer by rows.
const SATURATED: f32 = 50.0;
/// Seconds after which a row is a new beginning.
const SILENCE: f64 = 20.0;
/// Rows for which an anchor is kept.
const ANCHORED: u32 = 100;
/// Windows without suspicion after which a caller is settled.
pub(super) const SETTLED: u32 = 8;
/// Newest rows that are remembered.
pub(super) const RECENT: usize = 5;

/// Rows of a kind, and all of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) rows: f32,
    /// On a line, at each level; mirrored.
    pub(super) line: [f32; LEVELS],
    pub(super) mirrored: f32,
    /// Near another; near one that is less odd.
    pub(super) near: f32,
    pub(super) near_odd: f32,
    /// Far from all that is ordinary, with an odd value, with many.
    pub(super) strange: f32,
    pub(super) odd: f32,
    pub(super) very_odd: f32,
    /// Of columns that hardly hang together.
    pub(super) torn: f32,
    /// Beside a boundary.
    pub(super) unsure: f32,
}

impl Counts {
    pub(super) fn fade(&mut self, kept: f32) {
        for count in [
            &mut self.rows,
            &mut self.mirrored,
            &mut self.near,
            &mut self.near_odd,
            &mut self.strange,
            &mut self.odd,
            &mut self.very_odd,
            &mut self.torn,
            &mut self.unsure,
        ] {
            *count *= kept;
        }
        self.line.iter_mut().for_each(|count| *count *= kept);
    }

    /// These, of which each counts so much.
    pub(super) fn times(mut self, weight: f32) -> Self {
        self.fade(weight);
        self
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.line.iter_mut().zip(other.line).for_each(|(count, more)| *count += more);
        self.mirrored += other.mirrored;
        self.near += other.near;
        self.near_odd += other.near_odd;
        self.strange += other.strange;
        self.odd += other.odd;
        self.very_odd += other.very_odd;
        self.torn += other.torn;
        self.unsure += other.unsure;
    }
}

/// How many nats speak against a rate of `ordinary`, of `count` among `rows`: Kullback and Leibler's divergence of the rates
/// times the rows, which saturate. 0 where the rate is lower.
pub(super) fn excess(count: f32, rows: f32, ordinary: f32) -> f32 {
    beyond(count, rows, ordinary, 1.0)
}

/// The same of kinds of rows that nobody ordinary asks: the first ones say more.
pub(super) fn sharp(count: f32, rows: f32, ordinary: f32) -> f32 {
    beyond(count, rows, ordinary, 0.25)
}

/// `prior` is how many ordinary rows there are beside those.
fn beyond(count: f32, rows: f32, ordinary: f32, prior: f32) -> f32 {
    let rate = (count + ordinary * prior) / (rows + prior);
    if rate <= ordinary {
        return 0.0;
    }
    let rest = if rate < 1.0 { (1.0 - rate) * ((1.0 - rate) / (1.0 - ordinary)).ln() } else { 0.0 };
    (rate * (rate / ordinary).ln() + rest) * rows * SATURATED / (rows + SATURATED)
}

/// The rule twin's counts of a window.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Window {
    pub(super) begin: f64,
    pub(super) rows: u32,
    pub(super) near: u32,
    pub(super) evasion: f32,
    pub(super) extraction: f32,
}

/// At most 512 bytes.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) id: u64,
    pub(super) last: f64,
    pub(super) asked: u64,
    /// Rows that taught what is ordinary.
    pub(super) taught: u32,
    pub(super) quick: Counts,
    pub(super) slow: Counts,
    /// Evidence of near rows with unlike answers, of one's own and of a chain that one takes part in; of walks downhill.
    pub(super) flips: f32,
    pub(super) shared: f32,
    pub(super) descent: f32,
    /// Its own way along the chain of its newest near row.
    pub(super) walk: Walk,
    /// A row that is kept longer than the newest, and when it was asked.
    pub(super) anchor: Option<u64>,
    pub(super) since_anchor: u32,
    pub(super) waves: Waves,
    pub(super) block: u32,
    pub(super) discrepancy: f32,
    pub(super) spent: f64,
    pub(super) recent: [u64; RECENT],
    pub(super) known: u8,
    pub(super) window: Window,
    /// Windows that it asked in before this one.
    pub(super) windows: u32,
    /// Those without suspicion, one after the other, up to [`SETTLED`]: then it stays so.
    pub(super) quiet: u32,
    /// Whether the newest row came after a silence.
    pub(super) fresh: bool,
    /// Sums of the distances to the nearest row, to the fourth power: the rule twin's.
    pub(super) distances: [f64; 5],
}

impl Caller {
    pub(super) fn new(id: u64, now: f64) -> Self {
        Self {
            id,
            last: now,
            asked: 0,
            taught: 0,
            quick: Counts::default(),
            slow: Counts::default(),
            flips: 0.0,
            shared: 0.0,
            descent: 0.0,
            walk: Walk::new(u32::MAX, 0),
            anchor: None,
            since_anchor: 0,
            waves: [0.0; WAVES],
            block: 0,
            discrepancy: 0.0,
            spent: 0.0,
            recent: [0; RECENT],
            known: 0,
            window: Window { begin: now, ..Window::default() },
            windows: 0,
            quiet: 0,
            fresh: true,
            distances: [0.0; 5],
        }
    }

    /// Lets time pass; whether it is settled from now on.
    pub(super) fn pass(&mut self, now: f64, window: f64) -> bool {
        let seconds = (now - self.last).max(0.0);
        let (quick, slow) = ((-seconds / QUICK).exp2() as f32, (-seconds / SLOW).exp2() as f32);
        self.quick.fade(quick);
        self.slow.fade(slow);
        self.flips *= quick;
        self.shared *= quick;
        self.descent *= quick;
        self.discrepancy *= slow;
        self.spent *= (-seconds / DAY).exp2();
        self.fresh = seconds > SILENCE;
        self.last = self.last.max(now);
        if now - self.window.begin >= window {
            self.windows = self.windows.saturating_add(1);
            let was_settled = self.is_settled();
            if !was_settled {
                self.quiet = if self.is_suspect() { 0 } else { self.quiet + 1 };
            }
            self.window = Window { begin: now, ..Window::default() };
            return !was_settled && self.is_settled();
        }
        false
    }

    /// Whether its rows of this window speak against it.
    pub(super) fn is_suspect(&self) -> bool {
        self.window.evasion.max(self.window.extraction) > SUSPECT
    }

    /// Whether it has asked for long enough without suspicion to say what is ordinary.
    pub(super) fn is_settled(&self) -> bool {
        self.quiet >= SETTLED
    }

    /// Remembers where a row lies; `fresh` when the caller was silent before.
    pub(super) fn remember(&mut self, place: u64, fresh: bool) {
        self.since_anchor += 1;
        if self.anchor.is_none() || fresh || self.since_anchor > ANCHORED {
            (self.anchor, self.since_anchor) = (Some(place), 0);
        }
        if !self.recent().contains(&place) {
            self.recent.rotate_right(1);
            self.recent[0] = place;
            self.known = (self.known + 1).min(RECENT as u8);
        }
    }

    pub(super) fn recent(&self) -> &[u64] {
        self.recent.get(..usize::from(self.known)).unwrap_or(&[])
    }

    /// Whether a block of rows is full.
    pub(super) fn block_is_full(&self) -> bool {
        self.block >= BLOCK
    }

    /// Takes a distance in, for the rule twin.
    pub(super) fn measure(&mut self, distance: f64) {
        let mut power = 1.0;
        for sum in &mut self.distances {
            *sum += power;
            power *= distance;
        }
    }

    /// How far the distances are from a normal distribution: Jarque and Bera's statistic by row. `None` before 100 rows.
    pub(super) fn unlike_normal(&self) -> Option<f64> {
        let [number, first, second, third, fourth] = self.distances;
        if number < 100.0 {
            return None;
        }
        let (m, s2, s3, s4) = (first / number, second / number, third / number, fourth / number);
        let variance = s2 - m * m;
        if variance <= 1e-12 {
            return Some(f64::INFINITY);
        }
        let skew = (s3 - 3.0 * m * s2 + 2.0 * m * m * m) / variance.powf(1.5);
        let kurtosis = (s4 - 4.0 * m * s3 + 6.0 * m * m * s2 - 3.0 * m.powi(4)) / (variance * variance);
        Some(skew * skew / 6.0 + (kurtosis - 3.0) * (kurtosis - 3.0) / 24.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_small() {
        assert!(size_of::<Caller>() <= 512, "{}", size_of::<Caller>());
    }

    #[test]
    fn a_rate_says_more_the_more_rows_there_are_up_to_a_bound() {
        assert_eq!(excess(0.0, 0.0, 0.1), 0.0);
        assert_eq!(excess(1.0, 20.0, 0.1), 0.0);
        let of = |rows: f32| excess(rows * 0.6, rows, 0.1);
        assert!(of(10.0) < of(100.0) && of(100.0) < of(10_000.0) && of(10_000.0) < 40.0);
        assert!(excess(1e6, 1e6, 1e-4) < 500.0);
    }

    #[test]
    fn what_was_counted_fades() {
        let mut caller = Caller::new(1, 0.0);
        caller.quick.rows = 8.0;
        caller.spent = 8.0;
        caller.pass(300.0, 60.0);
        assert_eq!((caller.quick.rows, caller.window.begin), (4.0, 300.0));
        caller.pass(200.0, 60.0);
        assert_eq!((caller.quick.rows, caller.last), (4.0, 300.0));
        caller.pass(86_400.0, 60.0);
        assert!((caller.spent - 4.0).abs() < 1e-9);
    }

    #[test]
    fn distances_of_a_normal_distribution_look_like_one() {
        let (mut random, mut normal, mut lumps) = (online::Random::new(1), Caller::new(1, 0.0), Caller::new(2, 0.0));
        for n in 0..400 {
            normal.measure(5.0 + random.normal());
            lumps.measure(if n % 20 == 0 { 9.0 } else { 1.0 + 0.01 * random.normal() });
        }
        assert!(normal.unlike_normal().unwrap() < 0.1);
        assert!(lumps.unlike_normal().unwrap() > 0.25);
        assert_eq!(Caller::new(3, 0.0).unlike_normal(), None);
    }
}
