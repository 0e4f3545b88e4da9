//! Half-space trees: how crowded the regions are that a row falls into.

use serde::{Deserialize, Serialize};

use super::{Scorer, check, check_count, check_memory, check_width};
use crate::{Error, Random, Result, Snapshot};

/// Rows below which a region is not looked into any further, as a share of the window.
const SPARSE: f64 = 0.1;
/// The most levels of a tree.
const DEEPEST: usize = 15;
/// Rows after which there are first trees.
const FIRST: u32 = 32;

/// The size of [`HalfSpace`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Trees, from 1 to 256. Default 25.
    pub trees: u32,
    /// Levels of a tree, from 1 to 15. Default 15.
    pub depth: u32,
    /// Rows that a tree counts, from 32 to 65,535. Default 250.
    pub window: u32,
    /// What the trees are drawn from.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { trees: 25, depth: 15, window: 250, seed: 0 }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        check_count("the number of trees", self.trees, (1, 256), "from 1 to 256")?;
        check_count("the depth", self.depth, (1, DEEPEST as u32), "from 1 to 15")?;
        check_count("the window", self.window, (FIRST, 65_535), "from 32 to 65,535")
    }
}

/// Half-space trees of Tan, Ting and Liu, "Fast anomaly detection for streaming data" (IJCAI 2011). A tree halves a
/// region of its own, drawn at random, again and again, each time in one column drawn at random; where few of the
/// last rows are for the size of the region, a row is strange. The score is 1 / (1 + s) with s the density, in units
/// of that of rows spread evenly, averaged over trees.
///
/// Three things differ. Values of any size are mapped to (0, 1) by z / (1 + |z|), so scale them:
/// [`Scaled`](super::Scaled). Trees take turns: each time window / trees rows were learnt one tree counts the last
/// window's rows anew, so there is no moment at which all the past goes. Regions inside one with less than a tenth of
/// the rows are never looked at, so they are not kept, and a tree has some hundred nodes instead of 65,535.
///
/// A score takes O(trees · depth), 1 to 2 µs by default; learning the same, amortised. 4 bytes for each value of the
/// window, and about 80 KB.
///
/// ```
/// use online::{Random, anomaly::{HalfSpace, Scorer, half_space::Settings}};
///
/// let mut scorer = HalfSpace::new(2, Settings::default())?;
/// let mut random = Random::new(1);
/// for _ in 0..500 {
///     scorer.learn(&[0.3 * random.normal(), 0.3 * random.normal()])?;
/// }
/// assert!(scorer.score(&[4.0, -4.0])? > scorer.score(&[0.0, 0.0])?);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HalfSpace {
    settings: Settings,
    width: usize,
    trees: Vec<Tree>,
    /// The last rows, each value as its place in (0, 1); the oldest is overwritten.
    rows: Vec<f32>,
    filled: usize,
    next: usize,
    learnt: u64,
    /// The tree that counts next.
    turn: usize,
    #[serde(skip)]
    members: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tree {
    /// Draws the tree's columns and ranges.
    salt: u64,
    /// Rows counted.
    counted: u32,
    /// The root first, then pairs.
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Node {
    mass: u32,
    /// Where the pair of halves begins; 0 where there is none.
    halves: u32,
    /// The column that is halved, and the value from which a row is in the upper half.
    column: u32,
    at: f64,
}

/// A well-mixed number from two (the finalizer of SplitMix64; Steele, Lea and Flood, OOPSLA 2014).
fn mix(salt: u64, number: u64) -> u64 {
    let mut z = salt ^ number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The place of a value in (0, 1).
fn place(value: f64) -> f64 {
    if value.is_nan() { 0.5 } else { 0.5 + 0.5 * (value / (1.0 + value.abs())) }
}

/// The value of a place; none that there is beyond 0 and 1.
fn value(place: f64) -> f64 {
    let side = 2.0 * place - 1.0;
    if side.abs() < 1.0 { side / (1.0 - side.abs()) } else { f64::MAX.copysign(side) }
}

/// The way down a tree so far.
#[derive(Clone, Copy)]
struct Descent {
    salt: u64,
    /// Where in the whole tree it is: 1 at the root, then 2n or 2n + 1.
    region: u64,
    /// Columns that were halved, and what range of places is left of each.
    halved: [(u32, f64, f64); DEEPEST],
    depth: usize,
}

/// How a region is halved: a range of places of a column, and its middle.
#[derive(Clone, Copy)]
struct Cut {
    column: u32,
    low: f64,
    middle: f64,
    high: f64,
}

impl Descent {
    fn new(salt: u64) -> Self {
        Self { salt, region: 1, halved: [(0, 0.0, 0.0); DEEPEST], depth: 0 }
    }

    /// How the region is halved where it is.
    fn cut(&self, width: usize) -> Cut {
        let column = (((mix(self.salt, self.region) >> 32) * width as u64) >> 32) as u32;
        let before = self.halved.iter().take(self.depth).rev().find(|(other, ..)| *other == column);
        let (low, high) = before.map_or_else(|| self.range(column), |(_, low, high)| (*low, *high));
        Cut { column, low, middle: (low + high) / 2.0, high }
    }

    /// The range of a column at the root: [s − 2 m, s + 2 m], with s drawn from (0, 1) and m the farther of its
    /// distances to 0 and 1.
    fn range(&self, column: u32) -> (f64, f64) {
        let s = (mix(self.salt, u64::MAX - u64::from(column)) >> 11) as f64 / (1_u64 << 53) as f64;
        let reach = 2.0 * s.max(1.0 - s);
        (s - reach, s + reach)
    }

    fn enter(mut self, cut: Cut, half: usize) -> Self {
        if let Some(free) = self.halved.get_mut(self.depth) {
            let (low, high) = if half == 0 { (cut.low, cut.middle) } else { (cut.middle, cut.high) };
            *free = (cut.column, low, high);
        }
        self.region = self.region.wrapping_mul(2) | half as u64;
        self.depth += 1;
        self
    }
}

/// Rows of the window.
struct Rows<'a> {
    values: &'a [f32],
    width: usize,
}

impl Rows<'_> {
    fn at(&self, row: u32, column: usize) -> f64 {
        self.values.get(row as usize * self.width + column).map_or(0.5, |place| f64::from(*place))
    }
}

impl Tree {
    /// Density where a row is, in units of that of rows spread evenly.
    fn density(&self, row: &[f64]) -> f64 {
        let mut node = self.nodes.first().copied().unwrap_or_default();
        let mut depth = 0;
        while node.halves != 0 && depth < DEEPEST {
            let value = row.get(node.column as usize).filter(|value| !value.is_nan()).copied().unwrap_or(0.0);
            let half = usize::from(value >= node.at);
            node = self.nodes.get(node.halves as usize + half).copied().unwrap_or_default();
            depth += 1;
        }
        f64::from(node.mass) * (depth as f64).exp2() / f64::from(self.counted.max(1))
    }

    /// Counts rows anew.
    fn count(&mut self, rows: &Rows, members: &mut [u32], depth: u32) {
        self.counted = members.len() as u32;
        self.nodes.clear();
        self.nodes.push(Node { mass: self.counted, ..Node::default() });
        let sparse = members.len() as f64 * SPARSE;
        self.halve(0, rows, members, Descent::new(self.salt), (depth as usize, sparse));
    }

    /// Counts these rows, which are those of a node, in its halves, and so on down to where they are few.
    fn halve(&mut self, at: usize, rows: &Rows, members: &mut [u32], descent: Descent, limits: (usize, f64)) {
        if descent.depth >= limits.0 || (members.len() as f64) < limits.1 {
            return;
        }
        let cut = descent.cut(rows.width);
        let mut middle = 0;
        for next in 0..members.len() {
            if rows.at(members[next], cut.column as usize) < cut.middle {
                members.swap(middle, next);
                middle += 1;
            }
        }
        let (lower, upper) = members.split_at_mut(middle);
        let halves = self.nodes.len();
        self.nodes.extend([&*lower, &*upper].map(|half| Node { mass: half.len() as u32, ..Node::default() }));
        if let Some(node) = self.nodes.get_mut(at) {
            *node = Node { halves: halves as u32, column: cut.column, at: value(cut.middle), ..*node };
        }
        self.halve(halves, rows, lower, descent.enter(cut, 0), limits);
        self.halve(halves + 1, rows, upper, descent.enter(cut, 1), limits);
    }
}

impl HalfSpace {
    /// One that has learnt nothing, for rows of this width.
    ///
    /// # Errors
    /// [`Error::Range`] for a width or setting outside its range, [`Error::Memory`] for a window of too many values.
    pub fn new(width: usize, settings: Settings) -> Result<Self> {
        check_width(width)?;
        settings.check()?;
        let window = settings.window as usize;
        check_memory(width.saturating_mul(window).saturating_mul(size_of::<f32>()))?;
        let mut random = Random::new(settings.seed);
        let tree = |_| Tree { salt: random.bits(), counted: 0, nodes: Vec::new() };
        Ok(Self {
            width,
            trees: (0..settings.trees).map(tree).collect(),
            rows: vec![0.5; width * window],
            filled: 0,
            next: 0,
            learnt: 0,
            turn: 0,
            members: Vec::new(),
            settings,
        })
    }

    fn count(&mut self, turn: usize) {
        let rows = Rows { values: &self.rows, width: self.width };
        self.members.clear();
        self.members.extend(0..self.filled as u32);
        if let Some(tree) = self.trees.get_mut(turn) {
            tree.count(&rows, &mut self.members, self.settings.depth);
        }
    }
}

impl Scorer for HalfSpace {
    fn score(&self, row: &[f64]) -> Result<f64> {
        check(row, self.width)?;
        if self.learnt < u64::from(FIRST) {
            return Ok(0.0);
        }
        let total: f64 = self.trees.iter().map(|tree| tree.density(row)).sum();
        Ok(1.0 / (1.0 + total / self.trees.len() as f64))
    }

    fn learn(&mut self, row: &[f64]) -> Result<()> {
        check(row, self.width)?;
        let (window, trees) = (self.settings.window as usize, self.trees.len());
        for (old, value) in self.rows.iter_mut().skip(self.next * self.width).zip(row) {
            *old = place(*value) as f32;
        }
        self.next = (self.next + 1) % window;
        self.filled = (self.filled + 1).min(window);
        self.learnt = self.learnt.saturating_add(1);
        if self.filled < window {
            // The first trees come early, and are counted anew whenever there are twice as many rows.
            if self.filled >= FIRST as usize && self.filled.is_power_of_two() {
                (0..trees).for_each(|turn| self.count(turn));
            }
        } else if self.learnt.is_multiple_of((window / trees).max(1) as u64) {
            self.count(self.turn);
            self.turn = (self.turn + 1) % trees;
        }
        Ok(())
    }

    fn width(&self) -> usize {
        self.width
    }

    fn memory(&self) -> usize {
        let trees: usize =
            self.trees.iter().map(|tree| size_of::<Tree>() + tree.nodes.capacity() * size_of::<Node>()).sum();
        size_of::<Self>() + trees + (self.rows.len() + self.members.capacity()) * size_of::<f32>()
    }
}

impl Snapshot for HalfSpace {
    const KIND: &'static str = "anomaly half-space";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        check_width(self.width)?;
        self.settings.check()?;
        let window = self.settings.window as usize;
        if self.trees.len() != self.settings.trees as usize || self.turn >= self.trees.len() {
            return Err(Error::Snapshot("has other trees than it says"));
        }
        if self.rows.len() != self.width * window || self.next >= window || self.filled > window {
            return Err(Error::Snapshot("has a window that is not of its rows"));
        }
        if (self.filled as u64) > self.learnt || !self.rows.iter().all(|value| (0.0..=1.0).contains(value)) {
            return Err(Error::Snapshot("has rows that are not scaled"));
        }
        match self.trees.iter().all(|tree| tree.sound(&self.settings, self.width)) {
            true => Ok(()),
            false => Err(Error::Snapshot("has a tree that leads nowhere")),
        }
    }
}

impl Tree {
    /// Whether halves come after what they are halves of, so that every way down ends, and are of columns that there
    /// are.
    fn sound(&self, settings: &Settings, width: usize) -> bool {
        let nodes = self.nodes.len();
        let leads = |(place, node): (usize, &Node)| {
            let halves = node.halves as usize;
            let column = (node.column as usize) < width && node.at.is_finite();
            node.mass <= settings.window && column && (halves == 0 || halves > place && halves + 1 < nodes)
        };
        self.counted <= settings.window && nodes < 2 << settings.depth && self.nodes.iter().enumerate().all(leads)
    }
}
