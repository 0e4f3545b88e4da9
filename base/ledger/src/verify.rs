//! Offline verification: an exported folder against a trusted key, every byte of it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{TrustedKey, checkpoint, export::Tree};

/// What a verified log is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Its records.
    pub records: u64,
    /// Its root.
    pub root: String,
}

/// Why an export does not verify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}{what}", index.map_or_else(String::new, |i| format!("record {i}: ")))]
pub struct Failure {
    /// The first record concerned, counted from 0, where one can be told.
    pub index: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl Failure {
    fn new(index: Option<u64>, what: impl Into<String>) -> Self {
        Self { index, what: what.into() }
    }
}

/// Verifies the folder `dir` against the trusted key, and against an earlier checkpoint of the same log.
///
/// Reads everything into memory: O(size of the export).
///
/// # Errors
/// The first thing that is wrong.
pub fn directory(dir: &Path, trusted: &TrustedKey, since: Option<&[u8]>) -> Result<Verified, Failure> {
    let files = read(dir, dir).map_err(|error| Failure::new(None, format!("{}: {error}", dir.display())))?;
    files_verify(&files, trusted, since)
}

/// Verifies the files of an export, by their paths inside the folder.
///
/// # Errors
/// The first thing that is wrong.
pub fn files_verify(
    files: &BTreeMap<String, Vec<u8>>,
    trusted: &TrustedKey,
    since: Option<&[u8]>,
) -> Result<Verified, Failure> {
    let file = |name: &str| files.get(name).ok_or_else(|| Failure::new(None, format!("`{name}` is missing")));
    if file("log.key")? != format!("{}\n", trusted.text()).as_bytes() {
        return Err(Failure::new(None, "`log.key` is not the trusted key"));
    }
    let (size, root) = checkpoint::open(file("checkpoint")?, trusted).map_err(|what| Failure::new(None, what))?;
    let lines = file("records.ndjson")?;
    let records = split(lines)?;
    let tree = Tree::over(records.iter().copied()).map_err(internal)?;
    let tiles = tree.tiles().map_err(internal)?;

    compare(&tiles, files)?;
    if tree.size() != size {
        let what = format!("the checkpoint is signed over {size} records, the export has {}", tree.size());
        return Err(Failure::new(Some(tree.size().min(size)), what));
    }
    if tree.root_at(size).map_err(internal)? != root {
        return Err(Failure::new(None, "records and tiles agree with each other, but not with the signed root"));
    }
    if let Some(earlier) = since {
        let (size, root) = checkpoint::open_seen(earlier, trusted).map_err(|what| Failure::new(None, what))?;
        if size > tree.size() {
            let what = format!("the earlier checkpoint has {size} records: the log was cut");
            return Err(Failure::new(Some(tree.size()), what));
        }
        if tree.root_at(size).map_err(internal)? != root {
            return Err(Failure::new(
                None,
                format!("the first {size} records were rewritten since the earlier checkpoint"),
            ));
        }
    }
    Ok(Verified { records: size, root: root.to_string() })
}

fn internal(error: tlog_tiles::Error) -> Failure {
    Failure::new(None, format!("the tree can't be built: {error}"))
}

fn split(lines: &[u8]) -> Result<Vec<&[u8]>, Failure> {
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    let body = lines.strip_suffix(b"\n").ok_or_else(|| {
        let index = lines.split(|b| *b == b'\n').count() as u64 - 1;
        Failure::new(Some(index), "`records.ndjson` does not end with a newline")
    })?;
    Ok(body.split(|b| *b == b'\n').collect())
}

/// Compares the tiles that the records give with those in the export; a difference at level 0 names the record.
fn compare(tiles: &BTreeMap<String, Vec<u8>>, files: &BTreeMap<String, Vec<u8>>) -> Result<(), Failure> {
    let mut expected = leaves(tiles).into_iter();
    let mut found = leaves(files).into_iter();
    for index in 0.. {
        match (expected.next(), found.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            _ => return Err(Failure::new(Some(index), "the record does not match its hash in the tiles")),
        }
    }
    for (name, data) in tiles {
        match files.get(name) {
            None => return Err(Failure::new(first(name), format!("`{name}` is missing"))),
            Some(have) if have != data => {
                return Err(Failure::new(first(name), format!("`{name}` does not match the records")));
            }
            Some(_) => {}
        }
    }
    let known = |name: &str| tiles.contains_key(name) || matches!(name, "checkpoint" | "records.ndjson" | "log.key");
    match files.keys().find(|name| !known(name)) {
        Some(extra) => Err(Failure::new(None, format!("`{extra}` does not belong to an export"))),
        None => Ok(()),
    }
}

/// Leaf hashes of the level-0 tiles, in order; each tile is cut to whole hashes.
fn leaves(files: &BTreeMap<String, Vec<u8>>) -> Vec<&[u8]> {
    let mut tiles: Vec<(u64, &Vec<u8>)> =
        files.iter().filter_map(|(name, data)| Some((number(name.strip_prefix("tile/0/")?)?, data))).collect();
    tiles.sort_by_key(|(number, _)| *number);
    tiles.into_iter().flat_map(|(_, data)| data.chunks(32)).collect()
}

/// The number of a tile from its path below the level: `x001/x234/067.p/8` is 1234067.
fn number(path: &str) -> Option<u64> {
    let path = path.split(".p/").next()?;
    path.split('/')
        .try_fold(0_u64, |n, part| n.checked_mul(1000)?.checked_add(part.trim_start_matches('x').parse().ok()?))
}

/// The first record a tile covers.
fn first(name: &str) -> Option<u64> {
    let (level, path) = name.strip_prefix("tile/")?.split_once('/')?;
    let level: u32 = level.parse().ok()?;
    number(path)?.checked_mul(256_u64.checked_pow(level + 1)?)
}

fn read(root: &Path, dir: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path: PathBuf = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let inner = read(root, &path)?;
            if inner.is_empty() {
                files.insert(relative(root, &path) + "/", Vec::new());
            }
            files.extend(inner);
        } else if kind.is_file() {
            files.insert(relative(root, &path), fs::read(&path)?);
        } else {
            files.insert(relative(root, &path), b"not a regular file".to_vec());
        }
    }
    Ok(files)
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Key, Record, export};

    fn log(size: u64) -> (BTreeMap<String, Vec<u8>>, Key) {
        let key = Key::generate("test.example/log").unwrap();
        let records: Vec<Vec<u8>> = (0..size)
            .map(|n| {
                Record {
                    v: 1,
                    at: n,
                    action: "test".into(),
                    namespace: None,
                    actor: "nobody".into(),
                    subject: format!("thing:{n}"),
                    detail: serde_json::Value::Null,
                }
                .to_line()
            })
            .collect();
        let tree = Tree::over(records.iter().map(Vec::as_slice)).unwrap();
        let checkpoint = key.sign(size, tree.root_at(size).unwrap()).unwrap();
        (export::files(&records, checkpoint, key.public()).unwrap(), key)
    }

    fn check(files: &BTreeMap<String, Vec<u8>>, key: &Key) -> Result<Verified, Failure> {
        files_verify(files, &TrustedKey::parse(key.public()).unwrap(), None)
    }

    #[test]
    fn an_untouched_export_verifies_at_every_size_around_a_tile() {
        for size in [0, 1, 2, 255, 256, 257, 513] {
            let (files, key) = log(size);
            assert_eq!(check(&files, &key).map(|v| v.records), Ok(size));
        }
    }

    #[test]
    fn a_removed_record_is_caught_though_every_tile_was_recomputed() {
        let (files, key) = log(300);
        let records: Vec<Vec<u8>> = split(&files["records.ndjson"]).unwrap().into_iter().map(<[u8]>::to_vec).collect();
        for gone in [0, 150, 299] {
            let mut fewer = records.clone();
            fewer.remove(gone);
            let forged = export::files(&fewer, files["checkpoint"].clone(), key.public()).unwrap();
            assert!(check(&forged, &key).is_err());
        }
        let mut edited = records;
        edited[7][3] ^= 1;
        let forged = export::files(&edited, files["checkpoint"].clone(), key.public()).unwrap();
        assert_eq!(check(&forged, &key).unwrap_err().index, None);
    }

    #[test]
    fn missing_and_extra_files_are_refused() {
        let (files, key) = log(300);
        for name in files.keys() {
            let mut fewer = files.clone();
            fewer.remove(name);
            assert!(check(&fewer, &key).is_err(), "{name} may not be missing");
        }
        for extra in ["notes.txt", "tile/0/002", "tile/0/000.p/5", "empty/"] {
            let mut more = files.clone();
            more.insert(extra.into(), Vec::new());
            assert!(check(&more, &key).is_err(), "{extra} is not expected");
        }
    }

    #[test]
    fn an_earlier_checkpoint_catches_a_log_that_was_cut_or_rewritten() {
        let (files, key) = log(300);
        let trusted = TrustedKey::parse(key.public()).unwrap();
        let records: Vec<&[u8]> = split(&files["records.ndjson"]).unwrap();
        let tree = Tree::over(records).unwrap();
        let at = |size: u64| key.sign(size, tree.root_at(size).unwrap()).unwrap();
        assert!(files_verify(&files, &trusted, Some(&at(120))).is_ok());
        let longer = key.sign(301, tree.root_at(300).unwrap()).unwrap();
        assert_eq!(files_verify(&files, &trusted, Some(&longer)).unwrap_err().index, Some(300));
        let other = key.sign(120, tree.root_at(119).unwrap()).unwrap();
        assert!(files_verify(&files, &trusted, Some(&other)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn any_one_bit_edit_is_caught(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let (mut files, key) = log(260);
            let names: Vec<String> = files.keys().filter(|n| *n != "log.key").cloned().collect();
            let total: usize = names.iter().map(|n| files[n].len()).sum();
            let mut offset = at.index(total);
            let mut hit = None;
            for name in &names {
                let data = files.get_mut(name).unwrap();
                if offset < data.len() {
                    data[offset] ^= 1 << bit;
                    hit = Some(name.clone());
                    break;
                }
                offset -= data.len();
            }
            let failure = check(&files, &key).unwrap_err();
            let hit = hit.unwrap();
            prop_assert!(hit == "checkpoint" || failure.index.is_some(), "{hit}: {failure}");
        }
    }
}
