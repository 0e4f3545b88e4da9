//! Half-space trees: how crowded the regions are that a row falls into.

use serde::{Deserialize, Serialize};

use super::{SHORT, Scorer, check, check_count, check_memory, check_width};
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
/// the rows are never looked at, so they are not kept, and a tree has some hundred nodes instead of 65,535. Values are
/// compared as single-precision numbers.
///
/// A score takes O(trees · depth), half a µs by default; learning the same, amortised. 4 bytes for each value of the
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
    /// [`NODES`] for each tree: the root first, then pairs.
    nodes: Vec<Node>,
    /// Beside each node, how dense rows are where it ends.
    densities: Vec<f32>,
    /// The last rows, column by column; the oldest is overwritten.
    rows: Vec<f32>,
    filled: usize,
    next: usize,
    learnt: u64,
    /// The tree that counts next.
    turn: usize,
    #[serde(skip)]
    members: Vec<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Tree {
    /// Draws the tree's columns and ranges.
    salt: u64,
    /// Steps after which every way down has ended.
    steps: u8,
}

/// Where a way goes on: to the second of a pair of nodes from a value on, else to the first. Where it ends, it goes on
/// to the same node, so that ways of all trees may be followed in step, without asking which have ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Node {
    at: f32,
    column: u16,
    pair: u8,
}

/// Nodes that a tree has room for. At most ten regions of a level have a tenth of the rows, so at most
/// 1 + 2 + 4 + 8 + 11 · 10 are halved, and no more than 2 · 125 + 2 places are used.
const NODES: usize = 256;
/// Trees whose ways are followed in step.
const ABREAST: usize = 5;

/// A tree in which every way ends where it begins.
const ENDS: [Node; NODES] = {
    let mut nodes = [Node { at: f32::INFINITY, column: 0, pair: 0 }; NODES];
    let mut place = 0;
    while place < NODES {
        nodes[place].pair = (place / 2) as u8;
        if place % 2 == 1 {
            nodes[place].at = f32::NEG_INFINITY;
        }
        place += 1;
    }
    nodes
};

/// A well-mixed number from two (the finalizer of SplitMix64; Steele, Lea and Flood, OOPSLA 2014).
fn mix(salt: u64, number: u64) -> u64 {
    let mut z = salt ^ number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A value as trees compare it: finite, and in the middle where it is missing.
fn short(value: f64) -> f32 {
    if value.is_nan() { 0.0 } else { (value as f32).clamp(f32::MIN, f32::MAX) }
}

/// The value of a place in (0, 1); none that there is beyond 0 and 1.
fn value(place: f64) -> f32 {
    let side = 2.0 * place - 1.0;
    if side.abs() < 1.0 { short(side / (1.0 - side.abs())) } else { f32::MAX.copysign(side as f32) }
}

/// How dense rows are in one tree after another, in units of that of rows spread evenly, added up.
fn density(trees: &[Tree], nodes: &[Node], densities: &[f32], row: impl Fn(u16) -> f32) -> f64 {
    let (nodes, densities) = (nodes.as_chunks::<NODES>().0, densities.as_chunks::<NODES>().0);
    let several = trees.as_chunks::<ABREAST>();
    let (these, others) = (nodes.as_chunks::<ABREAST>(), densities.as_chunks::<ABREAST>());
    let mut total = 0.0;
    for ((trees, nodes), densities) in several.0.iter().zip(these.0).zip(others.0) {
        total += abreast(trees, nodes, densities, &row);
    }
    for ((tree, nodes), densities) in several.1.iter().zip(these.1).zip(others.1) {
        total += abreast(&[*tree], std::array::from_ref(nodes), std::array::from_ref(densities), &row);
    }
    total
}

/// The same of trees whose ways are followed in step: while one waits for its next node, so do the others.
fn abreast<const N: usize>(
    trees: &[Tree; N],
    nodes: &[[Node; NODES]; N],
    densities: &[[f32; NODES]; N],
    row: impl Fn(u16) -> f32,
) -> f64 {
    let mut places = [0_u8; N];
    for _ in 0..trees.iter().map(|tree| tree.steps).max().unwrap_or(0) {
        for (place, nodes) in places.iter_mut().zip(nodes) {
            let node = nodes[usize::from(*place)];
            *place = node.pair.wrapping_mul(2) | u8::from(row(node.column) >= node.at);
        }
    }
    places.iter().zip(densities).map(|(place, densities)| f64::from(densities[usize::from(*place)])).sum()
}

/// A tree that is counted anew.
struct Count<'a> {
    salt: u64,
    width: usize,
    /// The window's values, column by column, and how many each column has.
    rows: &'a [f32],
    window: usize,
    /// All rows, the rows below which a region is not halved, and the levels below which none is.
    filled: usize,
    sparse: f64,
    depth: usize,
    nodes: &'a mut [Node; NODES],
    densities: &'a mut [f32; NODES],
    /// The last pair that is used.
    pair: u8,
    steps: u8,
    /// Columns that were halved on the way, and what range of places is left of each.
    halved: Vec<(u16, f64, f64)>,
}

impl Count<'_> {
    /// Counts these rows, which are those of a node, in its halves, and so on down to where they are few. The region
    /// says where in the whole tree that is: 1 at the root, then 2n or 2n + 1.
    fn halve(&mut self, place: u8, region: u64, members: &mut [u16], spare: &mut [u16]) {
        let level = self.halved.len();
        self.densities[usize::from(place)] =
            (members.len() as f64 * (1_u64 << level) as f64 / self.filled as f64) as f32;
        self.steps = self.steps.max(level as u8);
        let Some(pair) = self.pair.checked_add(1).filter(|pair| usize::from(*pair) < NODES / 2) else { return };
        if level >= self.depth || (members.len() as f64) < self.sparse {
            return;
        }
        self.pair = pair;
        let column = (((mix(self.salt, region) >> 32) * self.width as u64) >> 32) as u16;
        let before = self.halved.iter().rev().find(|(other, ..)| *other == column);
        let (low, high) = before.map_or_else(|| self.range(column), |(_, low, high)| (*low, *high));
        let middle = (low + high) / 2.0;
        let at = value(middle);
        self.nodes[usize::from(place)] = Node { at, column, pair };
        let values = self.rows.chunks_exact(self.window).nth(usize::from(column)).unwrap_or_default();
        let below = match members.len() == self.filled {
            true => values.iter().take(self.filled).filter(|value| **value < at).count(),
            false => usize::MAX,
        };
        // Above all, a region often has its rows in one half: then they may stay where they are.
        let (below, members, spare) = match below == 0 || below == members.len() {
            true => (below, members, spare),
            false => (part(values, at, members, spare), spare, members),
        };
        let (lower, upper) = members.split_at_mut(below);
        let (spare_lower, spare_upper) = spare.split_at_mut(below);
        self.halved.push((column, low, middle));
        self.halve(2 * pair, 2 * region, lower, spare_lower);
        self.halved.pop();
        self.halved.push((column, middle, high));
        self.halve(2 * pair + 1, 2 * region + 1, upper, spare_upper);
        self.halved.pop();
    }

    /// The range of a column at the root: [s − 2 m, s + 2 m], with s drawn from (0, 1) and m the farther of its
    /// distances to 0 and 1.
    fn range(&self, column: u16) -> (f64, f64) {
        let s = (mix(self.salt, u64::MAX - u64::from(column)) >> 11) as f64 / (1_u64 << 53) as f64;
        let reach = 2.0 * s.max(1.0 - s);
        (s - reach, s + reach)
    }
}

/// Writes rows whose value in a column is below the one at which it is halved to the front of a list, and the others to
/// its back. Each is written to both, for a branch that can't be foretold takes longer. How many are below.
fn part(values: &[f32], at: f32, members: &[u16], parted: &mut [u16]) -> usize {
    let mut below = 0;
    let mut rest = members.len().min(parted.len());
    for member in members {
        rest = rest.wrapping_sub(1);
        if let Some(front) = parted.get_mut(below) {
            *front = *member;
        }
        if let Some(back) = parted.get_mut(rest) {
            *back = *member;
        }
        let is_below = values.get(usize::from(*member)).is_some_and(|value| *value < at);
        below += usize::from(is_below);
        rest = rest.wrapping_add(usize::from(is_below));
    }
    below.min(parted.len())
}

impl HalfSpace {
    /// One that has learnt nothing, for rows of this width.
    ///
    /// # Errors
    /// [`Error::Range`] for a width or setting outside its range, [`Error::Memory`] for a window of too many values.
    pub fn new(width: usize, settings: Settings) -> Result<Self> {
        check_width(width)?;
        settings.check()?;
        let (window, trees) = (settings.window as usize, settings.trees as usize);
        check_memory(width.saturating_mul(window).saturating_mul(size_of::<f32>()))?;
        let mut random = Random::new(settings.seed);
        Ok(Self {
            width,
            trees: (0..trees).map(|_| Tree { salt: random.bits(), steps: 0 }).collect(),
            nodes: ENDS.repeat(trees),
            densities: vec![0.0; NODES * trees],
            rows: vec![0.0; width * window],
            filled: 0,
            next: 0,
            learnt: 0,
            turn: 0,
            members: Vec::new(),
            settings,
        })
    }

    fn count(&mut self, turn: usize) {
        let window = self.settings.window as usize;
        let nodes = self.nodes.as_chunks_mut::<NODES>().0.get_mut(turn);
        let densities = self.densities.as_chunks_mut::<NODES>().0.get_mut(turn);
        let (Some(tree), Some(nodes), Some(densities)) = (self.trees.get_mut(turn), nodes, densities) else { return };
        self.members.clear();
        self.members.extend(0..self.filled as u16);
        self.members.resize(2 * self.filled, 0);
        *nodes = ENDS;
        *densities = [0.0; NODES];
        let mut count = Count {
            salt: tree.salt,
            width: self.width,
            rows: &self.rows,
            window,
            filled: self.filled,
            sparse: self.filled as f64 * SPARSE,
            depth: self.settings.depth as usize,
            nodes,
            densities,
            pair: 0,
            steps: 0,
            halved: Vec::with_capacity(DEEPEST),
        };
        let (members, spare) = self.members.split_at_mut(self.filled);
        count.halve(0, 1, members, spare);
        tree.steps = count.steps;
    }
}

impl Scorer for HalfSpace {
    fn score(&self, row: &[f64]) -> Result<f64> {
        check(row, self.width)?;
        if self.learnt < u64::from(FIRST) {
            return Ok(0.0);
        }
        let total = if row.len() <= SHORT {
            let mut room = [0.0; SHORT];
            room.iter_mut().zip(row).for_each(|(room, value)| *room = short(*value));
            density(&self.trees, &self.nodes, &self.densities, |column| room[usize::from(column) % SHORT])
        } else {
            let value = |column: u16| row.get(usize::from(column)).map_or(0.0, |value| short(*value));
            density(&self.trees, &self.nodes, &self.densities, value)
        };
        Ok(1.0 / (1.0 + total / self.trees.len() as f64))
    }

    fn learn(&mut self, row: &[f64]) -> Result<()> {
        check(row, self.width)?;
        let (window, trees) = (self.settings.window as usize, self.trees.len());
        for (old, value) in self.rows.iter_mut().skip(self.next).step_by(window).zip(row) {
            *old = short(*value);
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
        let trees = self.trees.len() * (size_of::<Tree>() + NODES * (size_of::<Node>() + size_of::<f32>()));
        let rows = self.rows.len() * size_of::<f32>() + self.members.capacity() * size_of::<u16>();
        size_of::<Self>() + trees + rows
    }
}

impl Snapshot for HalfSpace {
    const KIND: &'static str = "anomaly half-space";
    const VERSION: u16 = 2;

    fn check(&self) -> Result<()> {
        check_width(self.width)?;
        self.settings.check()?;
        let (window, trees) = (self.settings.window as usize, self.settings.trees as usize);
        if self.trees.len() != trees || self.turn >= trees {
            return Err(Error::Snapshot("has other trees than it says"));
        }
        if self.rows.len() != self.width * window || self.next >= window || self.filled > window {
            return Err(Error::Snapshot("has a window that is not of its rows"));
        }
        if (self.filled as u64) > self.learnt || !self.rows.iter().all(|value| value.is_finite()) {
            return Err(Error::Snapshot("has rows that are no numbers"));
        }
        let dense = 0.0..=(1_u32 << DEEPEST) as f32;
        if self.densities.len() != NODES * trees || !self.densities.iter().all(|density| dense.contains(density)) {
            return Err(Error::Snapshot("has regions of no density"));
        }
        let (nodes, rest) = self.nodes.as_chunks::<NODES>();
        let short = self.trees.iter().all(|tree| u32::from(tree.steps) <= self.settings.depth);
        match short && nodes.len() == trees && rest.is_empty() && nodes.iter().all(|nodes| sound(nodes, self.width)) {
            true => Ok(()),
            false => Err(Error::Snapshot("has a tree that leads nowhere")),
        }
    }
}

/// Whether every way ends: whether a node that goes on does so after itself, by a column that there is.
fn sound(nodes: &[Node; NODES], width: usize) -> bool {
    let leads = |(place, (node, end)): (usize, (&Node, &Node))| {
        let pair = usize::from(node.pair);
        let on = pair > place / 2 && pair < NODES / 2;
        node == end || on && usize::from(node.column) < width && node.at.is_finite()
    };
    nodes.iter().zip(&ENDS).enumerate().all(leads)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shares of rows where ways end, added up: a way that ends below `level` levels holds its density / 2^level.
    fn held(nodes: &[Node; NODES], densities: &[f32; NODES], place: usize, level: i32) -> (f64, usize) {
        if nodes[place] == ENDS[place] {
            return (f64::from(densities[place]) / 2.0_f64.powi(level), 1);
        }
        let first = 2 * usize::from(nodes[place].pair);
        let [lower, upper] = [first, first + 1].map(|next| held(nodes, densities, next, level + 1));
        (lower.0 + upper.0, lower.1 + upper.1)
    }

    #[test]
    fn every_row_is_where_one_way_ends_and_there_is_room_for_all_ways() {
        for (width, window) in [(1, 32), (3, 33), (70, 250), (2, 4_000)] {
            let mut scorer = HalfSpace::new(width, Settings { window, trees: 7, ..Settings::default() }).unwrap();
            let mut random = Random::new(1);
            for _ in 0..2 * window {
                let row: Vec<f64> = (0..width).map(|_| random.normal()).collect();
                scorer.learn(&row).unwrap();
            }
            scorer.check().unwrap();
            for (nodes, densities) in scorer.nodes.as_chunks().0.iter().zip(scorer.densities.as_chunks().0) {
                let (share, ends) = held(nodes, densities, 0, 0);
                assert!((share - 1.0).abs() < 1e-5 && ends <= 126, "{width} {window}: {share} in {ends}");
            }
        }
    }

    #[test]
    fn ways_that_do_not_end_or_lead_to_no_column_are_refused() {
        let sound = HalfSpace::new(3, Settings { trees: 2, ..Settings::default() }).unwrap();
        assert!(sound.check().is_ok());
        let wrong = [
            (4, Node { at: 0.0, column: 0, pair: 2 }),
            (4, Node { at: 0.0, column: 0, pair: 1 }),
            (4, Node { at: 0.0, column: 0, pair: 128 }),
            (4, Node { at: 0.0, column: 3, pair: 3 }),
            (4, Node { at: f32::NAN, column: 0, pair: 3 }),
            (4, Node { at: f32::NEG_INFINITY, column: 0, pair: 2 }),
        ];
        for (place, node) in wrong {
            let mut scorer = sound.clone();
            scorer.nodes[NODES + place] = node;
            assert!(scorer.check().is_err(), "{node:?}");
        }
        let mut scorer = sound.clone();
        scorer.densities[9] = f32::NAN;
        assert!(scorer.check().is_err());
        let mut scorer = sound;
        scorer.nodes.pop();
        assert!(scorer.check().is_err());
    }
}
