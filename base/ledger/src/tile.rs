//! Tiles of a log as C2SP `tlog-tiles` names and cuts them: 256 entries wide, records below, hashes above.

use tlog_tiles::stored_hash_index;

/// Entries of a whole tile.
pub const TILE: u64 = 256;
/// The highest level there is: 2^64 records end below it.
const LEVELS: u8 = 8;

/// The most records there can be: hashes are counted in 64 bits, and there are nearly two for each record.
pub(crate) const LARGEST: u64 = 1 << 62;

/// One tile: hashes of a level, or records (an entry bundle).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    level: Option<u8>,
    number: u64,
    width: u16,
}

impl Tile {
    /// The tile of this level (none for records), number and width; `None` when there can't be one.
    pub fn new(level: Option<u8>, number: u64, width: u16) -> Option<Self> {
        let tile = Self { level, number, width };
        let possible = level.unwrap_or(0) < LEVELS && (1..=256).contains(&width) && tile.is_within(LARGEST);
        possible.then_some(tile)
    }

    /// The tile under this path below the log's prefix: `tile/0/x001/234`, `tile/entries/000.p/8`.
    pub fn parse(path: &str) -> Option<Self> {
        let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let level = match level {
            "entries" => None,
            level => Some(level.parse().ok()?),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().ok().filter(|width| *width < 256)?),
            None => (rest, 256),
        };
        let mut parts = number.split('/').rev();
        let last = parts.next()?;
        let three = |part: &str| (part.len() == 3).then(|| part.parse::<u64>().ok()).flatten();
        let (mut value, mut scale) = (three(last)?, 1000_u64);
        for part in parts {
            value = three(part.strip_prefix('x')?)?.checked_mul(scale)?.checked_add(value)?;
            scale = scale.checked_mul(1000)?;
        }
        let tile = Self::new(level, value, width)?;
        // One name for each tile: no zeros in front.
        (tile.path() == path).then_some(tile)
    }

    /// Its path below the log's prefix.
    pub fn path(&self) -> String {
        let mut number = format!("{:03}", self.number % 1000);
        let mut rest = self.number / 1000;
        while rest > 0 {
            number = format!("x{:03}/{number}", rest % 1000);
            rest /= 1000;
        }
        let level = self.level.map_or_else(|| "entries".to_owned(), |level| level.to_string());
        let width = if self.width == 256 { String::new() } else { format!(".p/{}", self.width) };
        format!("tile/{level}/{number}{width}")
    }

    /// Its level; none for records.
    pub fn level(&self) -> Option<u8> {
        self.level
    }

    /// Its number at its level.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many entries it has.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Whether a log of `size` records has all of it.
    pub fn is_within(&self, size: u64) -> bool {
        let complete = size.checked_shr(8 * u32::from(self.level.unwrap_or(0))).unwrap_or(0);
        self.number
            .checked_mul(TILE)
            .and_then(|first| first.checked_add(self.width.into()))
            .is_some_and(|end| end <= complete)
    }

    /// Indexes of its stored hashes, in order; `None` for records.
    pub fn hashes(&self) -> Option<Vec<u64>> {
        let level = self.level?;
        let first = self.number * TILE;
        Some((first..first + u64::from(self.width)).map(|n| stored_hash_index(level * 8, n)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::Tree;

    #[test]
    fn names_are_read_in_their_one_form_and_no_other() {
        for path in ["tile/0/000", "tile/1/000.p/1", "tile/entries/x001/234.p/255", "tile/2/x001/x234/067"] {
            assert_eq!(Tile::parse(path).unwrap().path(), path);
        }
        for path in [
            "tile/0/0",
            "tile/0/x000/001",
            "tile/8/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/-01",
            "tile/0/000.p/08",
            "tile/00/000",
            "tile/x/000",
            "tile/0/",
            "tile",
            "",
            "tile/0/001/002",
            "tile/0/x001",
            // Found by fuzzing: their hashes have no numbers.
            "tile/7/x001/x234/067",
            "tile/7/000",
            "tile/0/x018/x014/x398/x509/x481/984",
        ] {
            assert_eq!(Tile::parse(path), None, "{path}");
        }
    }

    #[test]
    fn tiles_hold_what_an_export_holds() {
        use tlog_tiles::HashReader as _;
        let records: Vec<Vec<u8>> = (0..70_000_u32).map(|n| n.to_le_bytes().to_vec()).collect();
        let tree = Tree::over(records.iter().map(Vec::as_slice)).unwrap();
        for (path, data) in tree.tiles().unwrap() {
            let tile = Tile::parse(&path).unwrap();
            assert!(tile.is_within(70_000), "{path}");
            let hashes = tree.read_hashes(&tile.hashes().unwrap()).unwrap();
            assert_eq!(hashes.iter().flat_map(|hash| hash.0).collect::<Vec<_>>(), data, "{path}");
        }
        assert!(!Tile::parse("tile/1/001.p/18").unwrap().is_within(70_000));
        assert!(!Tile::parse("tile/0/273").unwrap().is_within(70_000));
    }
}
