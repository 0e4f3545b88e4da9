//! The shape of a binary tree: nodes and leaves in two lists, walked by asking each cut on the way.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A question that a row passes or not.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cut {
    column: u32,
    value: f64,
    /// Whether `value` is a word: then whoever has it passes, else whoever is at most as great.
    word: bool,
    /// Whether a missing value passes: it goes with the greater side.
    missing: bool,
}

impl Cut {
    pub(crate) fn new(column: u32, value: f64, word: bool, missing: bool) -> Self {
        Self { column, value, word, missing }
    }

    fn passes(&self, row: &[f64]) -> bool {
        let value = row.get(self.column as usize).copied().unwrap_or(f64::NAN);
        if value.is_nan() {
            self.missing
        } else if self.word {
            value == self.value
        } else {
            value <= self.value
        }
    }
}

/// A place in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Node {
    /// Here it goes on: for those that pass the cut, and for the others.
    Split { cut: Cut, children: [u32; 2] },
    /// Here it ends, with this leaf.
    Leaf(u32),
}

/// The most leaves.
const LEAVES: usize = 1 << 24;

/// A binary tree with leaves of some kind. Nodes lie in order of their making, so children come after their parents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Arena<L> {
    nodes: Vec<Node>,
    leaves: Vec<L>,
}

/// Where a row ends: a node, and its leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    node: usize,
    leaf: usize,
}

impl<L> Arena<L> {
    pub(crate) fn new(leaf: L) -> Self {
        Self { nodes: vec![Node::Leaf(0)], leaves: vec![leaf] }
    }

    /// Where a row ends. O(depth).
    pub(crate) fn find(&self, row: &[f64]) -> End {
        let mut node = 0_usize;
        // Children come after their parents, so this ends.
        loop {
            match self.nodes.get(node) {
                Some(Node::Split { cut, children: [passing, other] }) => {
                    node = if cut.passes(row) { *passing as usize } else { *other as usize };
                }
                Some(Node::Leaf(leaf)) => return End { node, leaf: *leaf as usize },
                // A tree has a root, and children that are there.
                None => return End { node: 0, leaf: 0 },
            }
        }
    }

    pub(crate) fn leaf(&self, end: End) -> Option<&L> {
        self.leaves.get(end.leaf)
    }

    pub(crate) fn leaf_mut(&mut self, end: End) -> Option<&mut L> {
        self.leaves.get_mut(end.leaf)
    }

    pub(crate) fn leaves(&self) -> &[L] {
        &self.leaves
    }

    pub(crate) fn leaves_mut(&mut self) -> &mut [L] {
        &mut self.leaves
    }

    /// Whether one more leaf can be numbered.
    pub(crate) fn has_room(&self) -> bool {
        self.leaves.len() < LEAVES
    }

    /// Puts a cut in a leaf's place, with two leaves below it.
    pub(crate) fn split(&mut self, end: End, cut: Cut, [passing, other]: [L; 2]) {
        let Some(leaf) = self.leaves.get_mut(end.leaf) else { return };
        *leaf = passing;
        let (first, second) = (self.nodes.len() as u32, self.leaves.len() as u32);
        self.leaves.push(other);
        self.nodes.push(Node::Leaf(end.leaf as u32));
        self.nodes.push(Node::Leaf(second));
        if let Some(node) = self.nodes.get_mut(end.node) {
            *node = Node::Split { cut, children: [first, first + 1] };
        }
    }

    /// Bytes of nodes, and of leaves but for what they hold elsewhere.
    pub(crate) fn memory(&self) -> usize {
        self.nodes.len() * size_of::<Node>() + self.leaves.len() * size_of::<L>()
    }

    /// Whether a loaded tree can be walked by rows of this width, and reaches each leaf once.
    ///
    /// # Errors
    /// [`Error::Snapshot`].
    pub(crate) fn check(&self, width: usize) -> Result<()> {
        let mut reached = vec![0_u32; self.leaves.len()];
        let mut below = vec![0_u32; self.nodes.len()];
        let sound = self.nodes.iter().enumerate().all(|(at, node)| match node {
            Node::Split { cut, children } => {
                let fits = (cut.column as usize) < width && cut.value.is_finite();
                fits && children.iter().all(|child| {
                    let known = below.get_mut(*child as usize).filter(|_| *child as usize > at);
                    known.map(|times| *times += 1).is_some()
                })
            }
            Node::Leaf(leaf) => reached.get_mut(*leaf as usize).map(|times| *times += 1).is_some(),
        });
        let once = reached.iter().chain(below.iter().skip(1)).all(|times| *times == 1);
        if sound && once && !self.nodes.is_empty() && self.leaves.len() <= LEAVES {
            Ok(())
        } else {
            Err(Error::Snapshot("has a tree that can't be walked"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_end_where_the_cuts_send_them() {
        let mut arena = Arena::new("all");
        arena.split(arena.find(&[0.0, 0.0]), Cut::new(0, 1.0, false, false), ["low", "high"]);
        arena.split(arena.find(&[0.0, 0.0]), Cut::new(1, 2.0, true, true), ["low, two", "low, other"]);
        for (row, leaf) in [
            ([0.0, 2.0], "low, two"),
            ([1.0, 3.0], "low, other"),
            ([1.5, 2.0], "high"),
            ([0.0, f64::NAN], "low, two"),
            ([f64::NAN, 2.0], "high"),
        ] {
            assert_eq!(arena.leaf(arena.find(&row)), Some(&leaf), "{row:?}");
        }
        assert_eq!(arena.check(2), Ok(()));
        assert!(arena.check(1).is_err(), "a cut of a column that is not there");
    }

    #[test]
    fn what_can_t_be_walked_is_no_tree() {
        let cut = Cut::new(0, 0.0, false, false);
        let split = |children| Node::Split { cut, children };
        for nodes in [
            vec![],
            vec![split([0, 0])],
            vec![split([1, 1]), Node::Leaf(0)],
            vec![split([1, 2]), Node::Leaf(0), Node::Leaf(0)],
            vec![split([1, 9]), Node::Leaf(0), Node::Leaf(1)],
            vec![Node::Leaf(0), Node::Leaf(1)],
        ] {
            let arena = Arena { nodes: nodes.clone(), leaves: vec![(), ()] };
            assert!(arena.check(1).is_err(), "{nodes:?}");
        }
    }
}
