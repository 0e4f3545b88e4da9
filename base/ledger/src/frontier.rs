//! The right edge of the tree: all that is needed to append, and nothing else.

use std::collections::BTreeMap;

use tlog_tiles::{Error, Hash, HashReader, record_hash, stored_hash_index, stored_hashes_for_record_hash, tree_hash};

/// A growing log, reduced to the hashes of its complete subtrees.
///
/// Memory and each append are O(log size); every hash ever made is handed out once, to be stored under its
/// index (the numbering of `tlog_tiles::stored_hash_index`, which Go's `sumdb/tlog` shares).
#[derive(Debug, Clone, Default)]
pub struct Frontier {
    size: u64,
    hashes: BTreeMap<u64, Hash>,
}

impl HashReader for Frontier {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        indexes.iter().map(|index| self.hashes.get(index).copied().ok_or(Error::IndexesNotInTree)).collect()
    }
}

impl Frontier {
    /// Indexes of the hashes that a log of this size needs to grow.
    pub fn needs(size: u64) -> Vec<u64> {
        if size == 0 { Vec::new() } else { tlog_tiles::sub_tree_index(0, size, Vec::new()) }
    }

    /// A log of this size, from the stored hashes that [`Frontier::needs`] names; `None` when one is missing.
    pub fn restore(size: u64, hashes: BTreeMap<u64, Hash>) -> Option<Self> {
        Self::needs(size).iter().all(|index| hashes.contains_key(index)).then_some(Self { size, hashes })
    }

    /// How many records the log has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a record; returns the new hashes with their indexes.
    ///
    /// # Errors
    /// When a needed hash is missing, which [`Frontier::restore`] rules out.
    pub fn append(&mut self, record: &[u8]) -> Result<Vec<(u64, Hash)>, Error> {
        let made = stored_hashes_for_record_hash(self.size, record_hash(record), self)?;
        let first = stored_hash_index(0, self.size);
        let made: Vec<(u64, Hash)> = (first..).zip(made).collect();
        self.size += 1;
        self.hashes.extend(made.iter().copied());
        let keep = Self::needs(self.size);
        self.hashes.retain(|index, _| keep.contains(index));
        Ok(made)
    }

    /// The root of the tree.
    ///
    /// # Errors
    /// As [`Frontier::append`].
    pub fn root(&self) -> Result<Hash, Error> {
        tree_hash(self.size, self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 6962 section 2.1, as written there: split at the largest power of two below n.
    fn naive(leaves: &[Vec<u8>]) -> Hash {
        match leaves {
            [] => tlog_tiles::EMPTY_HASH,
            [leaf] => record_hash(leaf),
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                tlog_tiles::node_hash(naive(&leaves[..split]), naive(&leaves[split..]))
            }
        }
    }

    proptest! {
        #[test]
        fn the_root_is_that_of_the_naive_tree(leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..70)) {
            let mut frontier = Frontier::default();
            let mut stored = BTreeMap::new();
            for (n, leaf) in leaves.iter().enumerate() {
                stored.extend(frontier.append(leaf).unwrap());
                prop_assert_eq!(frontier.root().unwrap(), naive(&leaves[..=n]));
            }
            let needed = Frontier::needs(frontier.size());
            let restored: BTreeMap<u64, Hash> = stored.into_iter().filter(|(i, _)| needed.contains(i)).collect();
            let restored = Frontier::restore(frontier.size(), restored).unwrap();
            prop_assert_eq!(restored.root().unwrap(), frontier.root().unwrap());
        }
    }

    #[test]
    fn a_frontier_stays_small_and_a_missing_hash_is_noticed() {
        let mut frontier = Frontier::default();
        for n in 0..5000_u32 {
            frontier.append(&n.to_le_bytes()).unwrap();
            assert!(frontier.hashes.len() <= 13);
        }
        let mut hashes = frontier.hashes.clone();
        hashes.pop_first();
        assert!(Frontier::restore(5000, hashes).is_none());
    }
}
