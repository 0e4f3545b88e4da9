//! Online isolation forest: how few splits it takes until a row is nearly alone.

use serde::{Deserialize, Serialize};

use super::{Scorer, check, check_count, check_memory, check_width};
use crate::{Error, Random, Result, Snapshot};

/// Splits that would separate n rows at random: log n to this base. Twice the branches of a split, as in the authors'
/// code.
const BASE: f64 = 4.0;
/// Columns tried until one is found in which a leaf's rows differ.
const TRIES: usize = 8;

/// The size of an [`Isolation`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Trees, from 1 to 256. Default 32.
    pub trees: u32,
    /// Rows that the forest stands for, from 32 to 65,536. Default 2,048.
    pub window: u32,
    /// Rows that a leaf at the root holds, from 1 to the window; twice as many at each level below. Default 32.
    pub leaf: u32,
    /// What splits are drawn from.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { trees: 32, window: 2_048, leaf: 32, seed: 0 }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        check_count("the number of trees", self.trees, (1, 256), "from 1 to 256")?;
        check_count("the window", self.window, (32, 65_536), "from 32 to 65,536")?;
        check_count("the rows of a leaf", self.leaf, (1, self.window), "from 1 to the window")
    }

    /// Splits that it takes to separate so many rows into leaves.
    fn path(&self, rows: u32) -> f64 {
        (f64::from(rows) / f64::from(self.leaf)).max(1.0).ln() / BASE.ln()
    }

    /// Nodes of a whole tree.
    fn nodes(&self) -> usize {
        // No leaf of twice the rows at each level ever splits below this.
        let levels = self.path(self.window).ceil() as u32;
        (2 << levels) - 1
    }
}

/// The online isolation forest of Leveni, Weigert Cassales, Pfahringer, Bifet and Boracchi, "Online isolation forest"
/// (ICML 2024), with splits along the axes. Each tree is a histogram that grows where rows are: a leaf at depth k
/// that holds leaf · 2ᵏ rows splits its box at random, and splits are undone when the window's oldest row leaves too
/// few. The score is 2^(−E\[depth\] / c), with c the depth at which the window's rows would be separated by chance.
///
/// Two things differ. The rows of a new leaf are drawn as numbers, not as points of the box: of rows spread evenly,
/// so many fall to each side of a cut, so the work is O(rows) and not O(rows · columns). And a split is along a
/// column in which the leaf's rows differ, if 8 draws find one. Rows should be [`Scaled`](super::Scaled) where
/// columns have outliers.
///
/// A score takes O(trees · depth), learning the same and O(trees · width) for the boxes; 1 to 2 µs each. 4 bytes for
/// each value of the window, and 8 for each value and node, 15 nodes a tree by default.
///
/// ```
/// use online::{Random, anomaly::{Isolation, Scorer, isolation::Settings}};
///
/// let mut forest = Isolation::new(2, Settings::default())?;
/// let mut random = Random::new(1);
/// for _ in 0..2_000 {
///     forest.learn(&[random.normal(), random.normal()])?;
/// }
/// assert!(forest.score(&[5.0, -5.0])? > forest.score(&[0.0, 0.0])? + 0.1);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Isolation {
    settings: Settings,
    width: usize,
    trees: Vec<Tree>,
    /// The window, the oldest row overwritten; missing values are 0.
    rows: Vec<f32>,
    filled: u32,
    next: u32,
    random: Random,
}

/// A tree in an array: the root at 0, the halves of `n` at 2n + 1 and 2n + 2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tree {
    nodes: Vec<Node>,
    /// Least and greatest value of each node's rows, column by column; only those of leaves are kept up to date.
    boxes: Vec<(f32, f32)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Node {
    rows: u32,
    split: Option<Split>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Split {
    column: u32,
    at: f32,
}

impl Split {
    /// 0 or 1: the half that a row is in.
    fn half(self, row: &[f32]) -> usize {
        usize::from(row.get(self.column as usize).is_some_and(|value| *value >= self.at))
    }
}

/// The box that holds nothing.
const EMPTY: (f32, f32) = (f32::INFINITY, f32::NEG_INFINITY);

fn join(a: (f32, f32), b: (f32, f32)) -> (f32, f32) {
    (a.0.min(b.0), a.1.max(b.1))
}

impl Tree {
    fn new(nodes: usize, width: usize) -> Self {
        Self { nodes: vec![Node::default(); nodes], boxes: vec![EMPTY; nodes * width] }
    }

    fn node(&self, at: usize) -> Node {
        self.nodes.get(at).copied().unwrap_or_default()
    }

    /// Adds a row; splits its leaf when that is full and above the `limit` of depths.
    fn learn(&mut self, row: &[f32], settings: &Settings, limit: f64, random: &mut Random) {
        let (mut at, mut depth) = (0, 0);
        loop {
            let Some(node) = self.nodes.get_mut(at) else { return };
            node.rows = node.rows.saturating_add(1);
            let Some(split) = node.split else { break };
            (at, depth) = (2 * at + 1 + split.half(row), depth + 1);
        }
        if let Some(bounds) = self.boxes.chunks_exact_mut(row.len()).nth(at) {
            for (bounds, value) in bounds.iter_mut().zip(row) {
                *bounds = join(*bounds, (*value, *value));
            }
        }
        self.split(at, depth, (settings.leaf, limit), row.len(), random);
    }

    /// Splits a leaf that is full, and the leaves that come of it.
    fn split(&mut self, at: usize, depth: u32, (leaf, limit): (u32, f64), width: usize, random: &mut Random) {
        let rows = self.node(at).rows;
        let full = u64::from(rows) >= u64::from(leaf) << depth.min(32);
        if !full || f64::from(depth) >= limit || 2 * at + 2 >= self.nodes.len() {
            return;
        }
        let bounds = |column: usize| self.boxes.get(at * width + column).copied().unwrap_or(EMPTY);
        let differs = |column: usize| bounds(column).0 < bounds(column).1;
        let drawn = (0..TRIES).map(|_| random.below(width as u32) as usize).find(|column| differs(*column));
        let Some(column) = drawn else { return };
        let (low, high) = bounds(column);
        let part = random.uniform();
        let cut = (f64::from(low) + part * (f64::from(high) - f64::from(low))) as f32;
        let upper = (0..rows).filter(|_| random.uniform() >= part).count() as u32;
        if let Some(node) = self.nodes.get_mut(at) {
            node.split = Some(Split { column: column as u32, at: cut });
        }
        for (half, rows) in [rows - upper, upper].into_iter().enumerate() {
            let child = 2 * at + 1 + half;
            if let Some(node) = self.nodes.get_mut(child) {
                *node = Node { rows, split: None };
            }
            let (from, to) = (at * width, child * width);
            if to + width <= self.boxes.len() {
                self.boxes.copy_within(from..from + width, to);
            }
            if let Some(bounds) = self.boxes.get_mut(to + column) {
                *bounds = if half == 0 { (low, cut) } else { (cut, high) };
            }
            self.split(child, depth + 1, (leaf, limit), width, random);
        }
    }

    /// Takes a row away again; undoes the first split on its way that too few rows are left for.
    fn forget(&mut self, row: &[f32], leaf: u32) {
        let (mut at, mut depth) = (0, 0_u32);
        loop {
            let Some(node) = self.nodes.get_mut(at) else { return };
            // The rows of a new leaf were drawn, so there may be fewer of them than leave it.
            node.rows = node.rows.saturating_sub(1);
            let Some(split) = node.split else { return };
            if u64::from(node.rows) < u64::from(leaf) << depth.min(32) {
                return self.merge(at, row.len());
            }
            (at, depth) = (2 * at + 1 + split.half(row), depth + 1);
        }
    }

    /// Makes a leaf of a node again, whose box holds those of the leaves below it.
    fn merge(&mut self, at: usize, width: usize) {
        if self.node(at).split.is_none() {
            return;
        }
        for child in [2 * at + 1, 2 * at + 2] {
            self.merge(child, width);
        }
        for column in 0..width {
            let bounds = |node: usize| self.boxes.get(node * width + column).copied().unwrap_or(EMPTY);
            let joined = join(bounds(2 * at + 1), bounds(2 * at + 2));
            if let Some(bounds) = self.boxes.get_mut(at * width + column) {
                *bounds = joined;
            }
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.split = None;
        }
    }

    /// How deep a row comes, with the splits that its leaf's rows would still need.
    fn depth(&self, row: &[f64], settings: &Settings) -> f64 {
        let (mut at, mut depth) = (0, 0.0);
        loop {
            let node = self.node(at);
            let Some(split) = node.split else { return depth + settings.path(node.rows) };
            let value = row.get(split.column as usize).map_or(0.0, |value| stored(*value));
            (at, depth) = (2 * at + 1 + usize::from(value >= split.at), depth + 1.0);
        }
    }
}

/// A value as the window holds it.
fn stored(value: f64) -> f32 {
    if value.is_nan() { 0.0 } else { (value as f32).clamp(f32::MIN, f32::MAX) }
}

impl Isolation {
    /// One that has learnt nothing, for rows of this width.
    ///
    /// # Errors
    /// [`Error::Range`] for a width or setting outside its range, [`Error::Memory`] for more than can be allowed.
    pub fn new(width: usize, settings: Settings) -> Result<Self> {
        check_width(width)?;
        settings.check()?;
        let (window, trees, nodes) = (settings.window as usize, settings.trees as usize, settings.nodes());
        check_memory(width * (window * size_of::<f32>() + trees * nodes * size_of::<(f32, f32)>()))?;
        let mut random = Random::new(settings.seed);
        Ok(Self {
            width,
            trees: vec![Tree::new(nodes, width); trees],
            rows: vec![0.0; width * window],
            filled: 0,
            next: 0,
            random: random.fork(),
            settings,
        })
    }
}

impl Scorer for Isolation {
    fn score(&self, row: &[f64]) -> Result<f64> {
        check(row, self.width)?;
        let scale = self.settings.path(self.filled);
        if scale <= 0.0 {
            return Ok(0.0);
        }
        let depth: f64 = self.trees.iter().map(|tree| tree.depth(row, &self.settings)).sum();
        Ok((-depth / self.trees.len() as f64 / scale).exp2())
    }

    fn learn(&mut self, row: &[f64]) -> Result<()> {
        check(row, self.width)?;
        let place = self.next as usize * self.width..(self.next as usize + 1) * self.width;
        let Some(stored_row) = self.rows.get_mut(place) else { return Ok(()) };
        if self.filled == self.settings.window {
            self.trees.iter_mut().for_each(|tree| tree.forget(stored_row, self.settings.leaf));
        }
        self.filled = (self.filled + 1).min(self.settings.window);
        self.next = (self.next + 1) % self.settings.window;
        for (old, value) in stored_row.iter_mut().zip(row) {
            *old = stored(*value);
        }
        let limit = self.settings.path(self.filled);
        for tree in &mut self.trees {
            tree.learn(stored_row, &self.settings, limit, &mut self.random);
        }
        Ok(())
    }

    fn width(&self) -> usize {
        self.width
    }

    fn memory(&self) -> usize {
        let tree =
            |tree: &Tree| tree.nodes.capacity() * size_of::<Node>() + tree.boxes.capacity() * size_of::<(f32, f32)>();
        size_of::<Self>() + self.trees.iter().map(tree).sum::<usize>() + self.rows.capacity() * size_of::<f32>()
    }
}

impl Snapshot for Isolation {
    const KIND: &'static str = "anomaly isolation";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        check_width(self.width)?;
        self.settings.check()?;
        let (window, nodes) = (self.settings.window as usize, self.settings.nodes());
        if self.rows.len() != self.width * window
            || self.next >= self.settings.window
            || self.filled > self.settings.window
        {
            return Err(Error::Snapshot("has a window that is not of its rows"));
        }
        if self.trees.len() != self.settings.trees as usize || !self.rows.iter().all(|value| value.is_finite()) {
            return Err(Error::Snapshot("has other trees or rows than it says"));
        }
        // A new leaf draws as many rows as the window has at the most, and as many can be learnt until it is merged.
        let most = self.settings.window * 4;
        match self.trees.iter().all(|tree| tree.sound(nodes, self.width, most)) {
            true => Ok(()),
            false => Err(Error::Snapshot("has a tree that leads nowhere")),
        }
    }
}

impl Tree {
    /// Whether every split has halves in the tree and is of a column that there is, and no node has too many rows.
    fn sound(&self, nodes: usize, width: usize, most: u32) -> bool {
        let leads = |(at, node): (usize, &Node)| {
            let split = node.split.is_none_or(|split| (split.column as usize) < width && split.at.is_finite());
            split && node.rows <= most && (node.split.is_none() || 2 * at + 2 < nodes)
        };
        let holds = |bounds: &(f32, f32)| *bounds == EMPTY || bounds.0.is_finite() && bounds.1.is_finite();
        self.nodes.len() == nodes
            && self.boxes.len() == nodes * width
            && self.nodes.iter().enumerate().all(leads)
            && self.boxes.iter().all(holds)
    }
}
