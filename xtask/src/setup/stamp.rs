//! Stamps: what a thing below `target/` was made from, so that it is made again only when that changes.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// A digest over files and words that something is made from.
#[derive(Default)]
pub(crate) struct Sources(Sha256);

impl Sources {
    /// Adds a file's content, or that of every file in a folder, in the order of their names.
    pub(crate) fn path(mut self, path: &Path) -> Result<Self> {
        let unreadable = || format!("`{}` can't be read", path.display());
        if !path.is_dir() {
            return Ok(self.word(&fs::read(path).with_context(unreadable)?));
        }
        let entries: Result<Vec<_>, _> = fs::read_dir(path).with_context(unreadable)?.collect();
        let mut files: Vec<_> = entries.with_context(unreadable)?.iter().map(fs::DirEntry::path).collect();
        files.retain(|file| file.is_file());
        files.sort();
        for file in files {
            self = self.word(file.as_os_str().as_encoded_bytes()).path(&file)?;
        }
        Ok(self)
    }

    /// Adds bytes; their length goes first, so that no two lists of words look alike.
    pub(crate) fn word(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// The digest in hex.
    pub(crate) fn digest(self) -> String {
        hex::encode(self.0.finalize())
    }
}

/// Whether the stamp says that the thing was made from just this.
pub(crate) fn fits(stamp: &Path, digest: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|found| found.trim() == digest)
}

/// Writes the stamp: the last thing to do when something has been made.
pub(crate) fn write(stamp: &Path, digest: &str) -> Result<()> {
    let failed = || format!("`{}` can't be written", stamp.display());
    if let Some(folder) = stamp.parent() {
        fs::create_dir_all(folder).with_context(failed)?;
    }
    fs::write(stamp, format!("{digest}\n")).with_context(failed)
}

/// The SHA-256 of a file in hex.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let content = fs::read(path).with_context(|| format!("`{}` can't be read", path.display()))?;
    Ok(hex::encode(Sha256::digest(content)))
}

/// Removes a folder with all in it; nothing to do when it is not there.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("`{}` can't be removed", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_fits_what_it_was_made_from_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (source, stamp) = (folder.path().join("in/a"), folder.path().join("out/stamp"));
        fs::create_dir_all(folder.path().join("in")).unwrap();
        fs::write(&source, "one").unwrap();
        let digest = || Sources::default().path(&folder.path().join("in")).unwrap().digest();
        let first = digest();
        assert!(!fits(&stamp, &first));
        write(&stamp, &first).unwrap();
        assert!(fits(&stamp, &digest()));
        fs::write(&source, "two").unwrap();
        assert!(!fits(&stamp, &digest()));
    }

    #[test]
    fn words_do_not_run_into_each_other() {
        let digest = |one: &str, two: &str| Sources::default().word(one.as_bytes()).word(two.as_bytes()).digest();
        assert_ne!(digest("ab", "c"), digest("a", "bc"));
    }
}
