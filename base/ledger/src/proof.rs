//! Proofs in the sense of RFC 6962: a record is in a tree, a tree is the start of another.
//!
//! A proof is made from stored hashes: [`Question::needs`] says which, [`Question::answer`] makes it from them. So
//! whoever holds the hashes may fetch them as slowly as it likes. All of it is O(log size).

use std::{cell::RefCell, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use tlog_tiles::{Error, Hash, HashReader, RecordProof, check_record, check_tree, prove_record, prove_tree, tree_hash};

use crate::tile::LARGEST;

/// What is to be proved about a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// That the record at `index` is in the tree over the first `size` records.
    Record {
        /// The record, counted from 0.
        index: u64,
        /// How many records the tree has.
        size: u64,
    },
    /// That the tree over the first `old` records is the start of the one over `size`.
    Tree {
        /// The earlier tree.
        old: u64,
        /// The later tree.
        size: u64,
    },
    /// The root over the first `size` records.
    Root {
        /// How many records the tree has.
        size: u64,
    },
}

/// Notes what is asked for, and has nothing.
#[derive(Default)]
struct Wanted(RefCell<Vec<u64>>);

impl HashReader for Wanted {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        self.0.borrow_mut().extend_from_slice(indexes);
        Err(Error::IndexesNotInTree)
    }
}

/// Hashes by their stored index.
struct Stored<'a>(&'a BTreeMap<u64, Hash>);

impl HashReader for Stored<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        indexes.iter().map(|index| self.0.get(index).copied().ok_or(Error::IndexesNotInTree)).collect()
    }
}

impl Question {
    /// Indexes of the stored hashes that an answer is made from; none for a question that makes no sense.
    pub fn needs(self) -> Vec<u64> {
        let wanted = Wanted::default();
        // It can't succeed: it only asks.
        let _ = self.ask(&wanted);
        wanted.0.into_inner()
    }

    /// The proof, from the hashes that [`Question::needs`] names.
    ///
    /// # Errors
    /// When one is missing, or the question makes no sense (`index >= size`, `old > size`).
    pub fn answer(self, hashes: &BTreeMap<u64, Hash>) -> Result<Vec<Hash>, Error> {
        self.ask(&Stored(hashes))
    }

    pub(crate) fn ask(self, reader: &impl HashReader) -> Result<Vec<Hash>, Error> {
        match self {
            Self::Record { size, .. } | Self::Tree { size, .. } | Self::Root { size } if size > LARGEST => {
                Err(Error::IndexesNotInTree)
            }
            Self::Record { index, size } if index < size => prove_record(size, index, reader),
            Self::Tree { old, size } if 0 < old && old <= size => prove_tree(size, old, reader),
            Self::Tree { old: 0, .. } => Ok(Vec::new()),
            Self::Root { size } => Ok(vec![tree_hash(size, reader)?]),
            _ => Err(Error::IndexesNotInTree),
        }
    }
}

/// A leaf's way up to a root.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inclusion {
    /// The leaf, counted from 0.
    pub index: u64,
    /// How many leaves the tree has.
    pub size: u64,
    /// The hashes beside the way, from the leaf up, in base64.
    #[serde(with = "hashes")]
    pub path: RecordProof,
}

impl Inclusion {
    /// Whether the leaf with this hash is in the tree with this root.
    pub fn leads(&self, leaf: Hash, root: Hash) -> bool {
        self.index < self.size && check_record(&self.path, self.size, root, self.index, leaf).is_ok()
    }
}

/// Whether the tree `(old, old_root)` is the start of the tree `(size, root)`, by this proof.
pub fn is_start(path: &[Hash], (old, old_root): (u64, Hash), (size, root): (u64, Hash)) -> bool {
    match old {
        0 => true,
        _ if old > size => false,
        _ => check_tree(&path.to_vec(), size, root, old, old_root).is_ok(),
    }
}

mod hashes {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use tlog_tiles::Hash;

    pub(super) fn serialize<S: Serializer>(hashes: &[Hash], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(hashes.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Hash>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts
            .iter()
            .map(|text| Hash::parse_hash(text).map_err(|error| D::Error::custom(format!("{error:?}"))))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::Tree;

    fn tree(size: u32) -> Tree {
        let records: Vec<Vec<u8>> = (0..size).map(|n| n.to_le_bytes().to_vec()).collect();
        Tree::over(records.iter().map(Vec::as_slice)).unwrap()
    }

    #[test]
    fn every_record_of_every_size_is_proved_and_no_other() {
        let all = tree(40);
        for size in 1..=40_u64 {
            let root = all.root_at(size).unwrap();
            for index in 0..size {
                let proof = all.prove(index, size).unwrap();
                let leaf = tlog_tiles::record_hash(&u32::try_from(index).unwrap().to_le_bytes());
                assert!(proof.leads(leaf, root), "{index} of {size}");
                assert!(!proof.leads(tlog_tiles::record_hash(b"other"), root));
                let moved = Inclusion { index: (index + 1) % size, ..proof };
                assert!(size == 1 || !moved.leads(leaf, root), "{index} of {size} proves another place");
            }
            assert!(all.prove(size, size).is_err());
        }
    }

    #[test]
    fn every_start_is_proved_and_a_rewritten_one_is_not() {
        let (all, other) = (tree(33), Tree::over([&b"x"[..]; 33]).unwrap());
        for size in 1..=33_u64 {
            for old in 0..=size {
                let path = Question::Tree { old, size }.ask(&all).unwrap();
                let later = (size, all.root_at(size).unwrap());
                assert!(is_start(&path, (old, all.root_at(old).unwrap()), later), "{old} of {size}");
                assert!(old == 0 || !is_start(&path, (old, other.root_at(old).unwrap()), later));
            }
        }
        assert!(Question::Tree { old: 5, size: 4 }.ask(&all).is_err());
    }

    /// Found by fuzzing: the numbers of such a log's hashes overflowed.
    #[test]
    fn a_log_that_cannot_be_is_not_asked() {
        for size in [LARGEST + 1, u64::MAX] {
            for question in [
                Question::Record { index: size - 1, size },
                Question::Tree { old: size - 1, size },
                Question::Root { size },
            ] {
                assert!(question.needs().is_empty() && question.answer(&BTreeMap::new()).is_err(), "{question:?}");
            }
        }
        assert!(!Question::Record { index: LARGEST - 1, size: LARGEST }.needs().is_empty());
    }

    #[test]
    fn an_answer_needs_only_what_it_says() {
        let all = tree(300);
        for question in [
            Question::Record { index: 7, size: 300 },
            Question::Tree { old: 77, size: 300 },
            Question::Root { size: 123 },
        ] {
            let needs = question.needs();
            assert!((1..40).contains(&needs.len()), "{question:?} needs {}", needs.len());
            let hashes = all.read_hashes(&needs).unwrap();
            let stored = needs.into_iter().zip(hashes).collect();
            assert_eq!(question.answer(&stored).unwrap(), question.ask(&all).unwrap());
        }
    }
}
