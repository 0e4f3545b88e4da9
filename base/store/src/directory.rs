//! Artefacts in a directory: `staging/<id>` and `bundles/<digest>/<file>`.
//!
//! A bundle is built under a temporary name, synced, and renamed: it is there whole or not at all. Where less of the disk is free than
//! is to stay free, no upload is taken: what was acknowledged needs room to be kept.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::{fs, io::AsyncWriteExt as _};
use types::Digest;

use crate::{Artefacts, ByteStream, Content, Error, Staged};

/// Artefacts below one directory.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
    /// The share of the disk that stays free.
    reserve: f64,
}

/// How many times what is to stay free is little.
const SHORT: u64 = 2;
/// Bytes of an upload after which it is looked again how much is free.
const LOOK: u64 = 4 << 20;

impl Directory {
    /// Opens the directory, makes what is missing, and clears what an earlier process left in staging.
    ///
    /// # Errors
    /// `Unavailable` when it can't be written.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self, Error> {
        let directory = Self::opened(root);
        let staging = directory.root.join("staging");
        match fs::remove_dir_all(&staging).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at(&staging)(error)),
            _ => {}
        }
        for path in [staging, directory.root.join("bundles")] {
            fs::create_dir_all(&path).await.map_err(at(&path))?;
        }
        Ok(directory)
    }

    /// A directory that another process of this node has opened.
    pub fn opened(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), reserve: 0.0 }
    }

    /// It keeps this share of the disk free, from 0 to 1.
    #[must_use]
    pub fn keeping(self, share: f64) -> Self {
        Self { reserve: share, ..self }
    }

    /// Whether so many bytes more may be taken.
    fn has_room(&self, bytes: u64) -> Result<(), Error> {
        match self.room() {
            Some((free, reserve)) if free < reserve.saturating_add(bytes) => {
                Err(Error::NoRoom { what: "the upload".into(), free, reserve })
            }
            _ => Ok(()),
        }
    }

    /// Bytes that are free, and those that are to stay free; nothing where none are, or the file system can't say it.
    fn room(&self) -> Option<(u64, u64)> {
        let disk = rustix::fs::statvfs(&self.root).ok().filter(|_| self.reserve > 0.0)?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Some((bytes(disk.f_bavail), (bytes(disk.f_blocks) as f64 * self.reserve) as u64))
    }

    /// Writes a bundle's files into a folder of their own.
    async fn build(&self, building: &Path, files: Vec<(String, Content)>) -> Result<(), Error> {
        for (name, content) in files {
            file_name(&name)?;
            let path = building.join(&name);
            match content {
                Content::Bytes(data) => write_synced(&path, &data).await?,
                Content::Staged(id) => {
                    let from = self.staged(&id)?;
                    fs::rename(&from, &path).await.map_err(at(&from))?;
                }
            }
        }
        sync_directory(building).await
    }

    fn staged(&self, id: &str) -> Result<PathBuf, Error> {
        file_name(id)?;
        Ok(self.root.join("staging").join(id))
    }
}

/// Names come from requests and catalogs: nothing may leave its folder.
fn file_name(name: &str) -> Result<(), Error> {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if plain && !name.starts_with('.') { Ok(()) } else { Err(Error::Missing(format!("file `{name}`"))) }
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> Error + use<> {
    let what = path.display().to_string();
    move |error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::Missing(what.clone()),
        _ => Error::unavailable(what.clone(), error),
    }
}

async fn write_synced(path: &Path, data: &[u8]) -> Result<(), Error> {
    let mut file = fs::File::create(path).await.map_err(at(path))?;
    file.write_all(data).await.map_err(at(path))?;
    sync(&mut file).await.map_err(at(path))
}

/// Waits until all of a file is on the disk. The last write may still be on its way, and only a flush tells that it
/// failed: a sync alone passes over that.
async fn sync(file: &mut fs::File) -> std::io::Result<()> {
    file.flush().await?;
    file.sync_all().await
}

async fn sync_directory(path: &Path) -> Result<(), Error> {
    fs::File::open(path).await.map_err(at(path))?.sync_all().await.map_err(at(path))
}

/// An upload that is not whole yet; goes when it is dropped.
struct Unfinished(Option<PathBuf>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // It may never have been made; a start clears what could not be removed.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[async_trait]
impl Artefacts for Directory {
    async fn stage(&self, mut body: ByteStream, limit: u64) -> Result<Staged, Error> {
        self.has_room(0)?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let path = self.staged(&id)?;
        // Whoever sends it may go away, and this call with it.
        let mut unfinished = Unfinished(Some(path.clone()));
        let result = async {
            let mut file = fs::File::create(&path).await.map_err(at(&path))?;
            let (mut size, mut looked, mut hasher) = (0_u64, 0, Sha256::new());
            while let Some(chunk) = body.next().await {
                let chunk = chunk.map_err(|error| Error::unavailable("the upload", error))?;
                size += chunk.len() as u64;
                if size > limit {
                    return Err(Error::TooLarge { what: "the upload".into(), limit });
                }
                if size >= looked + LOOK {
                    self.has_room(chunk.len() as u64)?;
                    looked = size;
                }
                hasher.update(&chunk);
                file.write_all(&chunk).await.map_err(at(&path))?;
            }
            sync(&mut file).await.map_err(at(&path))?;
            Ok(Staged { id: id.clone(), size, digest: Digest(hasher.finalize().into()) })
        }
        .await;
        match result {
            Ok(staged) => {
                unfinished.0 = None;
                Ok(staged)
            }
            Err(error) => {
                self.discard(&id).await?;
                Err(error)
            }
        }
    }

    async fn read_staged(&self, id: &str) -> Result<Vec<u8>, Error> {
        let path = self.staged(id)?;
        fs::read(&path).await.map_err(at(&path))
    }

    async fn discard(&self, id: &str) -> Result<(), Error> {
        let path = self.staged(id)?;
        match fs::remove_file(&path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(&path)(error)),
            _ => Ok(()),
        }
    }

    async fn publish(&self, bundle: Digest, files: Vec<(String, Content)>) -> Result<(), Error> {
        let target = self.path(bundle);
        if fs::try_exists(&target).await.map_err(at(&target))? {
            return Ok(());
        }
        let building = self.root.join("staging").join(format!("{}.bundle", uuid::Uuid::new_v4().simple()));
        fs::create_dir(&building).await.map_err(at(&building))?;
        if let Err(error) = self.build(&building, files).await {
            // On a full disk nothing may stay that takes room.
            fs::remove_dir_all(&building).await.map_err(at(&building))?;
            return Err(error);
        }
        match fs::rename(&building, &target).await {
            Ok(()) => sync_directory(&self.root.join("bundles")).await,
            // Another publisher of the same digest was faster; the contents are the same by construction.
            Err(_) if fs::try_exists(&target).await.map_err(at(&target))? => {
                fs::remove_dir_all(&building).await.map_err(at(&building))
            }
            Err(error) => Err(at(&target)(error)),
        }
    }

    async fn list(&self, bundle: Digest) -> Result<Vec<String>, Error> {
        let path = self.path(bundle);
        let mut entries = fs::read_dir(&path).await.map_err(at(&path))?;
        let mut names = Vec::new();
        while let Some(entry) = entries.next_entry().await.map_err(at(&path))? {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    async fn read(&self, bundle: Digest, file: &str) -> Result<Vec<u8>, Error> {
        file_name(file)?;
        let path = self.path(bundle).join(file);
        fs::read(&path).await.map_err(at(&path))
    }

    async fn replace(&self, bundle: Digest, file: &str, data: &[u8]) -> Result<(), Error> {
        file_name(file)?;
        let target = self.path(bundle).join(file);
        if !fs::try_exists(&target).await.map_err(at(&target))? {
            return Err(Error::Missing(target.display().to_string()));
        }
        let written = self.root.join("staging").join(format!("{}.file", uuid::Uuid::new_v4().simple()));
        write_synced(&written, data).await?;
        fs::rename(&written, &target).await.map_err(at(&target))?;
        sync_directory(&self.path(bundle)).await
    }

    async fn remove(&self, bundle: Digest) -> Result<(), Error> {
        let path = self.path(bundle);
        match fs::remove_dir_all(&path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(&path)(error)),
            _ => Ok(()),
        }
    }

    async fn is_short(&self) -> bool {
        self.room().is_some_and(|(free, reserve)| free < reserve.saturating_mul(SHORT))
    }

    async fn bundles(&self) -> Result<Vec<Digest>, Error> {
        let folder = self.root.join("bundles");
        let mut entries = fs::read_dir(&folder).await.map_err(at(&folder))?;
        let mut found = Vec::new();
        while let Some(entry) = entries.next_entry().await.map_err(at(&folder))? {
            let digest = entry.file_name().to_str().and_then(|name| name.parse::<Digest>().ok());
            let changed = entry.metadata().await.and_then(|metadata| metadata.modified());
            found.extend(digest.zip(changed.ok()));
        }
        found.sort_by_key(|(_, changed)| *changed);
        Ok(found.into_iter().map(|(digest, _)| digest).collect())
    }

    async fn forget_staged(&self, waited: Duration) -> Result<u64, Error> {
        let folder = self.root.join("staging");
        let mut entries = fs::read_dir(&folder).await.map_err(at(&folder))?;
        let mut forgotten = 0;
        while let Some(entry) = entries.next_entry().await.map_err(at(&folder))? {
            let Ok(metadata) = entry.metadata().await else { continue };
            // What is written still has just changed; what is from the future is not old.
            let age = metadata.modified().ok().and_then(|at| at.elapsed().ok()).unwrap_or(Duration::ZERO);
            if metadata.is_file() && age >= waited {
                fs::remove_file(entry.path()).await.map_err(at(&entry.path()))?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    fn path(&self, bundle: Digest) -> PathBuf {
        self.root.join("bundles").join(bundle.to_string())
    }
}
