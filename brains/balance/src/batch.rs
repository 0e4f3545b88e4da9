//! Dynamic batching: learns what a batch costs, and says how many waiting requests to run together now.
//!
//! A batch of `b` rows is taken to cost `L(b) = a + c·b` seconds, as in Clipper (Crankshaw et al., NSDI 2017). Both
//! numbers are learned by recursive least squares with forgetting, each observation weighed by 1/L(b)², since the noise
//! of a latency grows with it. As in Nexus (Shen et al., SOSP 2019) a batch is one that still meets the budget. Nothing
//! ever waits for company: whoever has a free session runs what is there.
//!
//! Unlike both:
//! - A batch is no larger than the queue is worth. A larger one spends less fixed cost on those behind it, and makes
//!   those in it wait for each other. The last of `q` waiting rows, run in batches of `b` on `w` sessions, is answered
//!   after about `q·L(b)/(b·w) + L(b)`, least at `b = √(q·a/(c·w))`: the economic lot size (Harris, 1913). So batches grow
//!   with the queue.
//! - Where `a/(a + c) < 0.2`, batching can save less than a fifth: every request runs alone.
//! - A head that misses the budget even alone is late whatever is done; what counts then is to catch up, so its age is
//!   left out. Batches that shrink while the queue grows would make a short overload a lasting one.
//! - No batch is larger than twice the largest one seen, so that nothing rests on numbers far from what was measured.
//!
//! A choice takes O(requests taken) and an observation O(1), neither allocates. State: a dozen numbers per model.
//!
//! Does not know about: tensors, sessions, threads, clocks, which requests may share a batch.

use std::time::Duration;

/// Share of the past that an observation leaves in force: about a hundred batches are remembered.
const REMEMBER: f64 = 0.99;
/// An observation counts as at most so many times longer or shorter than expected: a preempted thread is no news.
const SURPRISE: f64 = 4.0;
/// How strongly a direction that is not observed stays as it was, in observations.
const INERTIA: f64 = 0.01;
/// How fast all of it follows an observation in proportion; the rest of the error is left to the least squares.
const FOLLOW: f64 = 0.05;
/// Share of fixed cost in a batch of one row below which batching can't pay.
const OFF: f64 = 0.2;
/// Batches are so many times the economic lot size, since arrivals go on while a queue is worked off. Found by the
/// simulation in `tests.rs`: with less, throughput falls behind; with more, a few clients wait longer than alone.
const GREED: f64 = 1.6;
/// One choice in so many is a trial where batching seems not to pay: with up to [`TRIAL`] rows each, fewer than one
/// request in a hundred pays for it.
const EVERY: u64 = 1_000;
/// Rows of a trial.
const TRIAL: u64 = 8;
/// Seconds that are believed at all: a nanosecond to an hour.
const BELIEVED: (f64, f64) = (1e-9, 3_600.0);

/// What a batch may not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows of a batch; a single request may have more. 1 switches batching off.
    pub rows: u64,
    /// The head of the queue should be answered so long after it came.
    pub budget: Duration,
}

/// A request in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Its rows.
    pub rows: u64,
    /// How long it has waited.
    pub waited: Duration,
}

/// What a batch costs: `fixed + per_row · rows` seconds, neither of them negative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Seconds that a batch takes whatever its size: `a`.
    pub fixed: f64,
    /// Seconds that each row adds: `c`.
    pub per_row: f64,
}

impl Cost {
    /// Seconds of a batch of so many rows.
    pub fn of(&self, rows: u64) -> f64 {
        self.fixed + self.per_row * rows as f64
    }

    /// Share of the fixed cost in a batch of one row, 0 to 1: what batching can save at most.
    pub fn share(&self) -> f64 {
        self.fixed / self.of(1)
    }

    /// The most rows that take no more than so many seconds; 0 where not even one does.
    fn within(&self, seconds: f64) -> u64 {
        let rows = (seconds - self.fixed) / self.per_row;
        // A float becomes an integer by saturating; NaN (0/0) becomes 0, and no rows is then the safe answer.
        if rows >= 1.0 { rows as u64 } else { 0 }
    }

    /// Rows of a batch that so many waiting rows are worth, on so many sessions.
    fn worth(&self, waiting: u64, sessions: u64) -> u64 {
        let lot = (waiting as f64 / sessions as f64 * self.fixed / self.per_row).sqrt();
        (GREED * lot) as u64
    }
}

/// How busy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowd {
    /// Rows in the queue.
    pub rows: u64,
    /// Sessions that have nothing to do, the one that asks among them: they share what waits.
    pub free: u64,
    /// Sessions in all.
    pub sessions: u64,
}

/// Decides the batches of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Batcher {
    limits: Limits,
    learned: Option<Learned>,
    /// The largest batch that was observed.
    largest: u64,
    choices: u64,
}

/// The estimate, and the information in it: the symmetric matrix Σ φφᵀ of what is remembered, φ = (1, rows)/L(rows).
#[derive(Debug, Clone, Copy, PartialEq)]
struct Learned {
    cost: Cost,
    information: [f64; 3],
}

impl Batcher {
    /// A batcher that has seen nothing; until it has, every request runs alone.
    pub fn new(limits: Limits) -> Self {
        Self { limits, learned: None, largest: 0, choices: 0 }
    }

    /// What a batch costs, once one was observed.
    pub fn cost(&self) -> Option<Cost> {
        self.learned.map(|learned| learned.cost)
    }

    /// Whether requests are run together at all.
    pub fn pays(&self) -> bool {
        // Two sizes are the least that tell fixed cost from cost per row.
        let told = self.limits.rows > 1 && self.largest > 1;
        told && self.cost().is_some_and(|cost| cost.share() >= OFF)
    }

    /// Notes how long a batch took. A batch without rows or without a duration says nothing.
    pub fn observe(&mut self, rows: u64, took: Duration) {
        let took = took.as_secs_f64();
        if rows == 0 || took <= 0.0 {
            return;
        }
        let took = took.clamp(BELIEVED.0, BELIEVED.1);
        let learned = match self.learned {
            Some(learned) => learned.updated(rows as f64, took),
            None => Learned::first(rows as f64, took),
        };
        self.largest = self.largest.max(rows);
        self.learned = Some(learned);
    }

    /// Notes that a batch of so many rows failed and its requests did not, one by one: smaller ones from now on.
    pub fn too_large(&mut self, rows: u64) {
        self.limits.rows = self.limits.rows.min(rows / 2).max(1);
    }

    /// How many requests from the front of the queue to run now, together: at least one, unless the queue is empty.
    /// Together they have no more rows than the limit, unless it is one alone.
    pub fn choose(&mut self, queue: impl IntoIterator<Item = Waiting>, crowd: Crowd) -> usize {
        let mut queue = queue.into_iter();
        let Some(head) = queue.next() else { return 0 };
        let most = self.rows(head, crowd);
        let mut rows = head.rows;
        let others = queue.take_while(|request| {
            rows = rows.saturating_add(request.rows);
            rows <= most
        });
        1 + others.count()
    }

    /// Rows of the next batch, at most, with this request at its head.
    fn rows(&mut self, head: Waiting, crowd: Crowd) -> u64 {
        let Some(cost) = self.cost().filter(|_| self.limits.rows > 1) else { return 1 };
        self.choices = self.choices.wrapping_add(1);
        let budget = self.limits.budget.as_secs_f64();
        let in_time = cost.within(budget - head.waited.as_secs_f64());
        let rows = if self.pays() {
            let late = in_time < head.rows;
            let in_time = if late { cost.within(budget) } else { in_time };
            in_time.min(cost.worth(crowd.rows, crowd.sessions.max(1)))
        } else if self.choices.is_multiple_of(EVERY) {
            in_time.min(TRIAL)
        } else {
            1
        };
        let share = crowd.rows.div_ceil(crowd.free.max(1));
        rows.min(share).min(self.largest.saturating_mul(2)).min(self.limits.rows)
    }
}

impl Learned {
    fn first(rows: f64, took: f64) -> Self {
        // Half and half says nothing about the shape, and lets the second size decide.
        let cost = Cost { fixed: took / 2.0, per_row: took / (2.0 * rows) };
        Self { cost, information: outer(1.0 / took, rows / took) }
    }

    fn updated(self, rows: f64, took: f64) -> Self {
        let expected = self.cost.fixed + self.cost.per_row * rows;
        let took = took.clamp(expected / SURPRISE, expected * SURPRISE);
        // A slower machine is slower in both parts; least squares alone would put it all on one while only one size
        // is seen.
        let follow = 1.0 + FOLLOW * (took / expected - 1.0);
        let (fixed, per_row, expected) = (self.cost.fixed * follow, self.cost.per_row * follow, expected * follow);
        let error = took / expected - 1.0;
        let (x, y) = (1.0 / expected, rows / expected);
        let [old_xx, old_xy, old_yy] = self.information.map(|sum| sum * REMEMBER / (follow * follow));
        let [new_xx, new_xy, new_yy] = outer(x, y);
        let information @ [xx, xy, yy] = [old_xx + new_xx, old_xy + new_xy, old_yy + new_yy];
        let level = fixed + per_row;
        let stiff = |part: f64| INERTIA / (level * part.max(level * 1e-3));
        let (xx, yy) = (xx + stiff(fixed), yy + stiff(per_row));
        let determinant = xx * yy - xy * xy;
        let moved = Cost {
            fixed: fixed + error * (yy * x - xy * y) / determinant,
            per_row: per_row + error * (xx * y - xy * x) / determinant,
        };
        match possible(moved, rows) {
            Some(cost) => Self { cost, information },
            None => self,
        }
    }
}

fn outer(x: f64, y: f64) -> [f64; 3] {
    [x * x, x * y, y * y]
}

/// The same level at these rows with no negative part; `None` where there is no level.
fn possible(cost: Cost, rows: f64) -> Option<Cost> {
    let level = cost.fixed + cost.per_row * rows;
    if !level.is_finite() || level < BELIEVED.0 || !cost.fixed.is_finite() || !cost.per_row.is_finite() {
        return None;
    }
    Some(if cost.per_row < 0.0 {
        Cost { fixed: level, per_row: 0.0 }
    } else if cost.fixed < 0.0 {
        Cost { fixed: 0.0, per_row: level / rows }
    } else {
        cost
    })
}

#[cfg(test)]
#[path = "batch/tests.rs"]
mod tests;
