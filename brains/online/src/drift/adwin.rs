//! ADWIN: a window that is as long as its content is of one mean.

use serde::{Deserialize, Serialize};

use super::{Detector, State, number, probability};
use crate::{Error, Result, Snapshot};

/// Buckets of one size before two of them are joined: M of the paper.
const BUCKETS: usize = 5;
/// Sizes of buckets. With 2⁴⁰ values in a bucket the oldest go; no stream gets there.
const ROWS: usize = 40;

/// How an [`Adwin`] looks at its window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The probability δ that one check of an unchanged window cuts it. Default 0.002.
    pub delta: f64,
    /// Values between two checks. Default 32.
    pub clock: u32,
    /// A window that is no longer than this is not checked. Default 10.
    pub least_window: u32,
    /// Both sides of a cut are longer than this by 2 at least, and count as shorter by one less than this. Default 5.
    pub least_side: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { delta: 0.002, clock: 32, least_window: 10, least_side: 5 }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        probability("delta", self.delta)?;
        match self.clock {
            0 => Err(Error::Range { what: "the clock", value: 0.0, range: "at least 1" }),
            _ => Ok(()),
        }
    }
}

/// An adaptive window over numbers: ADWIN2 of Bifet and Gavaldà, "Learning from time-changing data with adaptive
/// windowing" (SDM 2007). The window is an exponential histogram of buckets of 1, 2, 4, … values, five of each size;
/// every so many values each border between two buckets is tried as a cut, and the oldest bucket goes while the means
/// of both sides differ by more than
///
/// ```text
/// ε = √(2 m σ² ln(2 ln n / δ)) + ⅔ m ln(2 ln n / δ),   m = 1/(n₀ − s + 1) + 1/(n₁ − s + 1)
/// ```
///
/// with n values of variance σ² in the window, n₀ and n₁ on its sides, and s the least side. Paper and authors' code
/// differ: the paper has s = 1 and no least window. The defaults here are those of the code, and cut where it cuts.
///
/// An update is O(1) amortised, a check O(log n). At most 4 KB; 1.5 KB for a window of 100,000. No promise for the rate
/// of alarms over time: each check may err. For that there is [`EDetector`](super::EDetector).
///
/// ```
/// use online::drift::{Adwin, Detector, State, adwin::Settings};
///
/// let mut adwin = Adwin::new(Settings::default())?;
/// for i in 0..1_000 {
///     assert_eq!(adwin.update(f64::from(i % 2))?, State::Stable);
/// }
/// let drift = (0..1_000).position(|_| adwin.update(5.0) == Ok(State::Drift));
/// assert_eq!(drift, Some(23), "at the first check after the change");
/// assert!(adwin.width() < 1_000 && adwin.mean() > 0.5);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adwin {
    settings: Settings,
    /// Row `i` has buckets of 2ⁱ values; the newest values are in row 0.
    rows: Vec<Row>,
    width: u64,
    total: f64,
    /// Sum of squared distances from the mean.
    squares: f64,
    seen: u64,
}

/// Buckets of one size, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Row {
    count: usize,
    buckets: [Bucket; BUCKETS + 1],
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Bucket {
    total: f64,
    squares: f64,
}

impl Bucket {
    /// This bucket and another, of so many values each.
    fn join(self, other: Self, size: f64) -> Self {
        let apart = self.total / size - other.total / size;
        Self {
            total: self.total + other.total,
            squares: self.squares + other.squares + size * size * apart * apart / (size + size),
        }
    }
}

impl Row {
    fn filled(&self) -> &[Bucket] {
        self.buckets.get(..self.count).unwrap_or_default()
    }

    fn push(&mut self, bucket: Bucket) {
        if let Some(free) = self.buckets.get_mut(self.count) {
            *free = bucket;
            self.count += 1;
        }
    }

    fn drop_oldest(&mut self, number: usize) {
        self.buckets.rotate_left(number);
        self.count = self.count.saturating_sub(number);
    }
}

/// Values in a bucket of this row.
fn size(row: usize) -> u64 {
    1 << row.min(ROWS)
}

impl Adwin {
    /// An empty window.
    ///
    /// # Errors
    /// [`Error::Range`] for a `delta` that is no probability, or a `clock` of 0.
    pub fn new(settings: Settings) -> Result<Self> {
        settings.check()?;
        Ok(Self { settings, rows: vec![Row::default()], width: 0, total: 0.0, squares: 0.0, seen: 0 })
    }

    /// Values in the window.
    pub fn width(&self) -> u64 {
        self.width
    }

    /// Mean of the window; 0 when it is empty.
    pub fn mean(&self) -> f64 {
        if self.width == 0 { 0.0 } else { self.total / self.width as f64 }
    }

    /// Variance of the window, by n; 0 when it is empty.
    pub fn variance(&self) -> f64 {
        if self.width == 0 { 0.0 } else { (self.squares / self.width as f64).max(0.0) }
    }

    /// As [`update`](Detector::update), but says [`State::Drift`] only of a mean that rose: what watches an error need
    /// not act when it falls. The window is cut either way.
    ///
    /// # Errors
    /// As [`update`](Detector::update).
    pub fn update_rising(&mut self, value: f64) -> Result<State> {
        let before = self.mean();
        let state = self.update(value)?;
        Ok(if self.mean() > before { state } else { State::Stable })
    }

    fn insert(&mut self, value: f64) {
        let before = self.width as f64;
        if self.width > 0 {
            let apart = value - self.total / before;
            self.squares += before * apart * apart / (before + 1.0);
        }
        self.width += 1;
        self.total += value;
        let mut carry = Some(Bucket { total: value, squares: 0.0 });
        for (index, row) in self.rows.iter_mut().enumerate() {
            let Some(bucket) = carry.take() else { break };
            row.push(bucket);
            if row.count > BUCKETS {
                let [first, second, ..] = row.buckets;
                row.drop_oldest(2);
                carry = Some(first.join(second, size(index) as f64));
            }
        }
        let Some(bucket) = carry else { return };
        if self.rows.len() < ROWS {
            let mut row = Row::default();
            row.push(bucket);
            self.rows.push(row);
        } else {
            self.leave(bucket, size(ROWS));
        }
    }

    /// Takes a bucket of so many values out of the window's sums.
    fn leave(&mut self, bucket: Bucket, size: u64) {
        self.width = self.width.saturating_sub(size);
        self.total -= bucket.total;
        if self.width == 0 {
            (self.total, self.squares) = (0.0, 0.0);
            return;
        }
        let (left, gone) = (self.width as f64, size as f64);
        let apart = bucket.total / gone - self.total / left;
        self.squares -= bucket.squares + gone * left * apart * apart / (gone + left);
    }

    fn drop_oldest(&mut self) {
        let Some(row) = self.rows.last_mut() else { return };
        let [oldest, ..] = row.buckets;
        row.drop_oldest(1);
        let emptied = row.count == 0;
        self.leave(oldest, size(self.rows.len() - 1));
        if emptied && self.rows.len() > 1 {
            self.rows.pop();
        }
    }

    /// Whether some border splits the window into sides that differ.
    fn differs(&self) -> bool {
        let n = self.width as f64;
        let log = (2.0 * n.ln() / self.settings.delta).ln();
        let (variance, least) = (self.variance(), f64::from(self.settings.least_side));
        let (mut old, mut old_total) = (0.0, 0.0);
        let (mut new, mut new_total) = (n, self.total);
        for (index, row) in self.rows.iter().enumerate().rev() {
            let size = size(index) as f64;
            for bucket in row.filled() {
                old += size;
                new -= size;
                old_total += bucket.total;
                new_total -= bucket.total;
                if new <= least + 1.0 {
                    return false;
                }
                if old <= least + 1.0 {
                    continue;
                }
                let m = 1.0 / (old - least + 1.0) + 1.0 / (new - least + 1.0);
                let epsilon = (2.0 * m * variance * log).sqrt() + 2.0 / 3.0 * log * m;
                if (old_total / old - new_total / new).abs() > epsilon {
                    return true;
                }
            }
        }
        false
    }
}

impl Detector for Adwin {
    fn update(&mut self, value: f64) -> Result<State> {
        self.insert(number(value)?);
        self.seen = self.seen.wrapping_add(1);
        if !self.seen.is_multiple_of(u64::from(self.settings.clock)) {
            return Ok(State::Stable);
        }
        let mut state = State::Stable;
        while self.width > u64::from(self.settings.least_window) && self.differs() {
            self.drop_oldest();
            state = State::Drift;
        }
        Ok(state)
    }

    fn reset(&mut self) {
        self.rows.truncate(1);
        self.rows.iter_mut().for_each(|row| *row = Row::default());
        (self.width, self.total, self.squares, self.seen) = (0, 0.0, 0.0, 0);
    }

    fn memory(&self) -> usize {
        size_of::<Self>() + self.rows.capacity() * size_of::<Row>()
    }
}

impl Snapshot for Adwin {
    const KIND: &'static str = "drift adwin";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.settings.check()?;
        if !(1..=ROWS).contains(&self.rows.len()) || self.rows.iter().any(|row| row.count > BUCKETS) {
            return Err(Error::Snapshot("has more buckets than ADWIN keeps"));
        }
        let width = self.rows.iter().enumerate().map(|(row, buckets)| size(row) * buckets.count as u64).sum::<u64>();
        let last_is_empty = self.rows.len() > 1 && self.rows.last().is_some_and(|row| row.count == 0);
        if width != self.width || last_is_empty {
            return Err(Error::Snapshot("has buckets that do not make its window"));
        }
        // So much of each that sums over buckets, and squares of totals, are numbers too.
        let sound = |total: f64, squares: f64| total.abs() <= 1e120 && squares.abs() <= 1e240;
        let mut buckets = self.rows.iter().flat_map(|row| &row.buckets);
        if !sound(self.total, self.squares) || !buckets.all(|bucket| sound(bucket.total, bucket.squares)) {
            return Err(Error::Snapshot("has sums that are no numbers"));
        }
        Ok(())
    }
}
