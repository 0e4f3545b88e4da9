//! The exported log: `checkpoint`, `tile/…`, `records.ndjson` and `log.key`, and nothing else.

use std::collections::BTreeMap;

use tlog_tiles::{Error, Hash, HashReader, Tile, record_hash, stored_hashes_for_record_hash, tree_hash};

use crate::proof::{Inclusion, Question};

/// Tiles are 256 hashes wide, as `tlog-tiles` wants.
const HEIGHT: u8 = 8;

/// The whole tree in memory: for export and verification, 64 bytes a record.
#[derive(Debug, Default)]
pub struct Tree {
    hashes: Vec<Hash>,
    size: u64,
}

impl HashReader for Tree {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        let read = |index: &u64| usize::try_from(*index).ok().and_then(|i| self.hashes.get(i)).copied();
        indexes.iter().map(|index| read(index).ok_or(Error::IndexesNotInTree)).collect()
    }
}

impl Tree {
    /// The tree over these records.
    ///
    /// # Errors
    /// None that can happen with a tree of its own making.
    pub fn over<'a>(records: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, Error> {
        let mut tree = Self::default();
        for record in records {
            let made = stored_hashes_for_record_hash(tree.size, record_hash(record), &tree)?;
            tree.hashes.extend(made);
            tree.size += 1;
        }
        Ok(tree)
    }

    /// How many records it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over the first `size` records.
    ///
    /// # Errors
    /// When it has fewer.
    pub fn root_at(&self, size: u64) -> Result<Hash, Error> {
        if size > self.size { Err(Error::IndexesNotInTree) } else { tree_hash(size, self) }
    }

    /// The way of the record at `index` to the root over the first `size` records.
    ///
    /// # Errors
    /// When the tree has no such record or fewer of them.
    pub fn prove(&self, index: u64, size: u64) -> Result<Inclusion, Error> {
        let path = Question::Record { index, size }.ask(self)?;
        Ok(Inclusion { index, size, path })
    }

    /// Every tile with its path, as `tlog-tiles` names them: `tile/0/000`, `tile/0/001.p/7`, …
    ///
    /// # Errors
    /// None that can happen with a tree of its own making.
    pub fn tiles(&self) -> Result<BTreeMap<String, Vec<u8>>, Error> {
        let tiles = Tile::new_tiles(HEIGHT, 0, self.size);
        tiles.into_iter().map(|tile| Ok((path(&tile), tile.read_data(self)?))).collect()
    }
}

/// `tlog-tiles` fixes the height and leaves it out of the path.
fn path(tile: &Tile) -> String {
    tile.path().replacen("tile/8/", "tile/", 1)
}

/// Every file of an export, by its path inside the folder.
///
/// # Errors
/// None that can happen with a tree of its own making.
pub fn files(records: &[Vec<u8>], checkpoint: Vec<u8>, public_key: &str) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let tree = Tree::over(records.iter().map(Vec::as_slice))?;
    let mut files = tree.tiles()?;
    let mut lines = Vec::with_capacity(records.iter().map(|r| r.len() + 1).sum());
    for record in records {
        lines.extend_from_slice(record);
        lines.push(b'\n');
    }
    files.insert("records.ndjson".into(), lines);
    files.insert("checkpoint".into(), checkpoint);
    files.insert("log.key".into(), format!("{public_key}\n").into_bytes());
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_named_as_the_specification_says() {
        let records: Vec<Vec<u8>> = (0..700_u32).map(|n| n.to_le_bytes().to_vec()).collect();
        let tree = Tree::over(records.iter().map(Vec::as_slice)).unwrap();
        let names: Vec<String> = tree.tiles().unwrap().into_keys().collect();
        assert_eq!(names, ["tile/0/000", "tile/0/001", "tile/0/002.p/188", "tile/1/000.p/2"]);
    }
}
