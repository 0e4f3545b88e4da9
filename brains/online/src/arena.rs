//! The shape of a binary tree: nodes and leaves in two lists, walked by asking each cut on the way.

use serde::{Deserialize, Serialize};

use crate::{Error, Result, error::within};

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

    /// The child that a row goes to.
    fn next(&self, [passing, other]: &[u32; 2], row: &[f64]) -> usize {
        if self.passes(row) { *passing as usize } else { *other as usize }
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Node<S> {
    /// Here it goes on: for those that pass the cut, and for the others.
    Split { cut: Cut, children: [u32; 2], state: S },
    /// Here it ends, with this leaf.
    Leaf(u32),
}

/// The most leaves.
const LEAVES: usize = 1 << 24;

/// Whether a tree can grow by such settings.
///
/// # Errors
/// [`Error::Range`] names what can't be.
pub(crate) fn check_growth(grace: f64, delta: f64, tie: f64, depth: u16, memory: usize) -> Result<()> {
    within("grace", grace, (1.0, 1e9), "from 1 to 10^9")?;
    within("delta", delta, (1e-300, 0.5), "from 10^-300 to 0.5")?;
    within("tie", tie, (0.0, 1.0), "from 0 to 1")?;
    within("depth", f64::from(depth), (1.0, 1_000.0), "from 1 to 1,000")?;
    within("memory", memory as f64, (4_096.0, 1e15), "from 4 KiB to 10^15 bytes").map(|_| ())
}

/// What a tree needs to know of its leaves to stay within its memory.
pub(crate) trait Leafage {
    /// Bytes that it holds beside itself.
    fn held(&self) -> usize;

    /// What looking for cuts here is worth, against other leaves.
    fn promise(&self) -> f64;

    /// Looks for no cuts any more, and lets go of what that took.
    fn rest(&mut self);
}

/// What may be kept at a split.
pub(crate) trait Kept: Default {
    /// Bytes that it takes beside itself.
    const ELSEWHERE: usize;
}

impl Kept for () {
    const ELSEWHERE: usize = 0;
}

/// The most trees that grow beside the branches of one.
pub(crate) const ALTERNATES: usize = 8;

/// What of so many bytes a tree may take that watches its branches, and what each tree beside one.
pub(crate) fn halves(memory: usize) -> [usize; 2] {
    [memory / 2, (memory / 2 / ALTERNATES).max(4_096)]
}

/// A binary tree with leaves of some kind, and something to keep at each split. Nodes lie in order of their making, so
/// children come after their parents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Arena<L, S = ()> {
    nodes: Vec<Node<S>>,
    leaves: Vec<L>,
    /// Bytes that the leaves hold.
    held: usize,
}

/// Where a row ends: a node, and its leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    node: usize,
    leaf: usize,
}

impl<L: Leafage, S: Kept> Arena<L, S> {
    pub(crate) fn new(leaf: L) -> Self {
        Self { nodes: vec![Node::Leaf(0)], held: leaf.held(), leaves: vec![leaf] }
    }

    /// Where a row ends. O(depth).
    pub(crate) fn find(&self, row: &[f64]) -> End {
        let mut node = 0_usize;
        // Children come after their parents, so this ends.
        loop {
            match self.nodes.get(node) {
                Some(Node::Split { cut, children, .. }) => node = cut.next(children, row),
                Some(Node::Leaf(leaf)) => return End { node, leaf: *leaf as usize },
                // A tree has a root, and children that are there.
                None => return End { node: 0, leaf: 0 },
            }
        }
    }

    /// Calls `visit` with each split that a row passes by from the root on, and what is kept there, until it answers
    /// with something.
    pub(crate) fn walk<T>(&mut self, row: &[f64], mut visit: impl FnMut(usize, &mut S) -> Option<T>) -> Option<T> {
        let mut node = 0_usize;
        while let Some(Node::Split { cut, children, state }) = self.nodes.get_mut(node) {
            if let Some(answer) = visit(node, state) {
                return Some(answer);
            }
            node = cut.next(children, row);
        }
        None
    }

    pub(crate) fn leaf(&self, end: End) -> Option<&L> {
        self.leaves.get(end.leaf)
    }

    /// Changes a leaf by `change`, which gives the bytes that the leaf holds more than before beside its answer.
    pub(crate) fn change<T>(&mut self, end: End, change: impl FnOnce(&mut L) -> (T, usize)) -> Option<T> {
        let (answer, grown) = change(self.leaves.get_mut(end.leaf)?);
        self.held += grown;
        Some(answer)
    }

    pub(crate) fn leaves(&self) -> &[L] {
        &self.leaves
    }

    /// What is kept at each split.
    pub(crate) fn splits(&self) -> impl Iterator<Item = &S> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Split { state, .. } => Some(state),
            Node::Leaf(_) => None,
        })
    }

    /// Whether one more leaf can be numbered.
    pub(crate) fn has_room(&self) -> bool {
        self.leaves.len() < LEAVES
    }

    /// Puts a cut in a leaf's place, with two leaves below it.
    pub(crate) fn split(&mut self, end: End, cut: Cut, [passing, other]: [L; 2], state: S) {
        let Some(leaf) = self.leaves.get_mut(end.leaf) else { return };
        self.held = (self.held + passing.held() + other.held()).saturating_sub(leaf.held());
        *leaf = passing;
        let (first, second) = (self.nodes.len() as u32, self.leaves.len() as u32);
        self.leaves.push(other);
        self.nodes.push(Node::Leaf(end.leaf as u32));
        self.nodes.push(Node::Leaf(second));
        if let Some(node) = self.nodes.get_mut(end.node) {
            *node = Node::Split { cut, children: [first, first + 1], state };
        }
    }

    /// Puts another tree in the place of a node and all below it. O(nodes).
    pub(crate) fn graft(&mut self, at: usize, other: Arena<L>) {
        let own = Arena { nodes: std::mem::take(&mut self.nodes), leaves: std::mem::take(&mut self.leaves), held: 0 };
        let mut sources = [Parts::of(own), Parts::of(other.kept())];
        // What is still to be copied: a node of a source, and its place here.
        let mut waiting = vec![(0, 0, 0)];
        self.nodes.push(Node::Leaf(0));
        while let Some((source, node, place)) = waiting.pop() {
            let (source, node) = if (source, node) == (0, at) { (1, 0) } else { (source, node) };
            let Some(parts) = sources.get_mut(source) else { continue };
            let copied = match parts.nodes.get_mut(node).and_then(Option::take) {
                Some(Node::Split { cut, children, state }) => {
                    let first = self.nodes.len();
                    self.nodes.extend([Node::Leaf(0), Node::Leaf(0)]);
                    let places = [first, first + 1];
                    waiting.extend(children.iter().zip(places).map(|(child, to)| (source, *child as usize, to)));
                    Node::Split { cut, children: places.map(|place| place as u32), state }
                }
                Some(Node::Leaf(leaf)) => {
                    self.leaves.extend(parts.leaves.get_mut(leaf as usize).and_then(Option::take));
                    Node::Leaf(self.leaves.len().saturating_sub(1) as u32)
                }
                // Each node has one parent.
                None => continue,
            };
            if let Some(place) = self.nodes.get_mut(place) {
                *place = copied;
            }
        }
        self.held = self.leaves.iter().map(L::held).sum();
    }

    /// The same tree with nothing kept so far at its splits.
    fn kept<T: Kept>(self) -> Arena<L, T> {
        let node = |node| match node {
            Node::Split { cut, children, .. } => Node::Split { cut, children, state: T::default() },
            Node::Leaf(leaf) => Node::Leaf(leaf),
        };
        Arena { nodes: self.nodes.into_iter().map(node).collect(), leaves: self.leaves, held: self.held }
    }

    /// Lets the leaves that promise least rest, until the tree takes a tenth less than `allowed`: so this is rare.
    pub(crate) fn bound(&mut self, allowed: usize) {
        let wanted = (allowed / 10 * 9).saturating_sub(self.memory() - self.held);
        let mut order: Vec<(f64, usize)> = self.leaves.iter().map(L::promise).zip(0..).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (_, place) in order {
            if self.held <= wanted {
                break;
            }
            if let Some(leaf) = self.leaves.get_mut(place) {
                let before = leaf.held();
                leaf.rest();
                self.held = (self.held + leaf.held()).saturating_sub(before);
            }
        }
    }

    /// Bytes that it takes. O(1).
    pub(crate) fn memory(&self) -> usize {
        // A tree has a split less than leaves.
        let kept = self.leaves.len().saturating_sub(1) * S::ELSEWHERE;
        kept + self.nodes.len() * size_of::<Node<S>>() + self.leaves.len() * size_of::<L>() + self.held
    }

    /// Whether a loaded tree can be walked by rows of this width, and reaches each leaf once.
    ///
    /// # Errors
    /// [`Error::Snapshot`].
    pub(crate) fn check(&self, width: usize) -> Result<()> {
        let mut reached = vec![0_u32; self.leaves.len()];
        let mut below = vec![0_u32; self.nodes.len()];
        let sound = self.nodes.iter().enumerate().all(|(at, node)| match node {
            Node::Split { cut, children, .. } => {
                let fits = (cut.column as usize) < width && cut.value.is_finite();
                fits && children.iter().all(|child| {
                    let known = below.get_mut(*child as usize).filter(|_| *child as usize > at);
                    known.map(|times| *times += 1).is_some()
                })
            }
            Node::Leaf(leaf) => reached.get_mut(*leaf as usize).map(|times| *times += 1).is_some(),
        });
        let once = reached.iter().chain(below.iter().skip(1)).all(|times| *times == 1);
        let counted = self.held == self.leaves.iter().map(L::held).sum::<usize>();
        if sound && once && counted && !self.nodes.is_empty() && self.leaves.len() <= LEAVES {
            Ok(())
        } else {
            Err(Error::Snapshot("has a tree that can't be walked"))
        }
    }
}

/// A tree in parts, each of which can be taken once.
struct Parts<L, S> {
    nodes: Vec<Option<Node<S>>>,
    leaves: Vec<Option<L>>,
}

impl<L, S> Parts<L, S> {
    fn of(arena: Arena<L, S>) -> Self {
        let leaves = arena.leaves.into_iter().map(Some).collect();
        Self { nodes: arena.nodes.into_iter().map(Some).collect(), leaves }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Kept for u8 {
        const ELSEWHERE: usize = 0;
    }

    impl Leafage for &str {
        fn held(&self) -> usize {
            self.len()
        }

        fn promise(&self) -> f64 {
            self.len() as f64
        }

        fn rest(&mut self) {
            *self = "";
        }
    }

    #[test]
    fn rows_end_where_the_cuts_send_them() {
        let arena = grown();
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

    /// A tree that numbers its splits.
    fn grown() -> Arena<&'static str, u8> {
        let mut arena = Arena::new("all");
        arena.split(arena.find(&[0.0, 0.0]), Cut::new(0, 1.0, false, false), ["low", "high"], 1);
        arena.split(arena.find(&[0.0, 0.0]), Cut::new(1, 2.0, true, true), ["low, two", "low, other"], 2);
        arena
    }

    #[test]
    fn a_tree_takes_the_place_of_a_branch() {
        let mut other = Arena::<_, ()>::new("new");
        other.split(other.find(&[0.0, 0.0]), Cut::new(1, 5.0, false, false), ["new, five", "new, more"], ());
        for (at, expected) in [
            (0, ["new, five", "new, more", "new, five"]),
            (1, ["new, five", "new, more", "high"]),
            (4, ["low, two", "new, more", "high"]),
        ] {
            let mut arena = grown();
            arena.graft(at, other.clone());
            let found = [[0.0, 2.0], [0.0, 7.0], [2.0, 2.0]].map(|row| *arena.leaf(arena.find(&row)).unwrap());
            assert_eq!(found, expected, "at {at}");
            assert_eq!(arena.check(2), Ok(()));
        }
    }

    #[test]
    fn splits_are_passed_from_the_root_on() {
        let mut arena = grown();
        let mut passed = Vec::new();
        let answer = arena.walk(&[0.0, 2.0], |_, state| {
            passed.push(*state);
            (*state == 2).then_some("two")
        });
        assert_eq!((passed, answer), (vec![1, 2], Some("two")));
        assert_eq!(arena.walk(&[9.0, 2.0], |_, state| (*state == 2).then_some("two")), None);
    }

    impl Leafage for usize {
        fn held(&self) -> usize {
            *self
        }

        fn promise(&self) -> f64 {
            *self as f64
        }

        fn rest(&mut self) {
            *self = 0;
        }
    }

    #[test]
    fn leaves_that_promise_least_rest_first() {
        let mut arena = Arena::<usize>::new(1);
        arena.split(arena.find(&[0.0]), Cut::new(0, 0.0, false, false), [3_000, 100], ());
        arena.split(arena.find(&[1.0]), Cut::new(0, 5.0, false, false), [2_000, 100], ());
        let full = arena.memory();
        arena.bound(full);
        assert_eq!(arena.leaves(), [3_000, 0, 0]);
        assert_eq!(arena.memory(), full - 2_100);
        assert_eq!(arena.check(1), Ok(()));
    }

    #[test]
    fn what_can_t_be_walked_is_no_tree() {
        let cut = Cut::new(0, 0.0, false, false);
        let split = |children| Node::Split { cut, children, state: () };
        for nodes in [
            vec![],
            vec![split([0, 0])],
            vec![split([1, 1]), Node::Leaf(0)],
            vec![split([1, 2]), Node::Leaf(0), Node::Leaf(0)],
            vec![split([1, 9]), Node::Leaf(0), Node::Leaf(1)],
            vec![Node::Leaf(0), Node::Leaf(1)],
        ] {
            let arena = Arena { nodes: nodes.clone(), leaves: vec!["", ""], held: 0 };
            assert!(arena.check(1).is_err(), "{nodes:?}");
        }
    }
}
