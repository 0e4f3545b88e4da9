//! `mantlet backup` and `mantlet restore`: the data directory, whole, while the node runs; and back.
//!
//! The catalog is copied before the ledger. So the copy's ledger may know more than its catalog, never less: whatever
//! the copied catalog holds has its record. Bundles are copied before and after the catalog, so that all it names
//! is there.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use ledger::Record;
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{
    Catalog as _,
    sqlite::{SqliteCatalog, continue_outbox, snapshot},
};
use types::{Code, Digest, Refusal};

use crate::{
    cli::{Format, Node},
    client, output,
};

/// The list of a backup's files, in the backup.
const LIST: &str = "backup.json";
/// The node's databases, in the order they are copied.
pub(super) const DATABASES: [&str; 3] = ["catalog.db", "events.db", "ledger.db"];
/// Other files of the data directory that are worth keeping, where they are.
const FILES: [&str; 8] =
    ["ca.pem", "ca.key", "bundle.key", "bundle.pub", "log.key", "log.secret", "admin.token", "mantlet.toml"];
/// Where bundles lie.
const BUNDLES: &str = "artefacts/bundles";

/// What a backup holds.
#[derive(Debug, Serialize, Deserialize)]
struct List {
    /// The version of this layout: 1.
    v: u32,
    /// When it was begun, in milliseconds since 1970.
    at: u64,
    /// SHA-256 of every file, by its path in the backup.
    files: BTreeMap<String, Digest>,
}

fn invalid(what: String) -> Refusal {
    Refusal::new(Code::FileUnreadable, what).hint("name a folder that `mantlet backup` has made, or make a new one")
}

pub(crate) async fn backup(node: &Node, to: &Path, format: Format) -> Result<(), Refusal> {
    private();
    let from = client::data_dir(node)?;
    if !from.join(DATABASES[0]).is_file() {
        return Err(Refusal::new(Code::DataDirUnusable, format!("{} is no data directory of a node", from.display()))
            .hint("name it: --data-dir DIR"));
    }
    super::models::empty_folder(to)?;
    let at = rpc::Clock::System.now().0;
    for name in FILES.iter().filter(|name| from.join(name).is_file()) {
        copy(&from.join(name), &to.join(name))?;
    }
    copy_all(&from.join(BUNDLES), &to.join(BUNDLES))?;
    for (place, name) in DATABASES.iter().enumerate() {
        output::note(&format!("copying {name}"));
        snapshot(&from.join(name), &to.join(name)).await?;
        if place == 0 {
            copy_all(&from.join(BUNDLES), &to.join(BUNDLES))?;
        }
    }
    let list = List { v: 1, at, files: digests(to, to)? };
    let text = serde_json::to_vec_pretty(&list).map_err(|error| output::internal(&error))?;
    fs::write(to.join(LIST), text).map_err(output::file(&to.join(LIST)))?;
    let shown = json!({ "dir": to, "files": list.files.len() });
    output::show(&shown, format, |_| {
        format!(
            "{} files are in {}; it holds the node's keys: keep it where only you can read it\nrestore it: mantlet \
             --data-dir NEW restore {}\n",
            list.files.len(),
            to.display(),
            to.display()
        )
    });
    Ok(())
}

pub(crate) async fn restore(node: &Node, from: &Path, format: Format) -> Result<(), Refusal> {
    private();
    let to = client::data_dir(node)?;
    let text = fs::read(from.join(LIST)).map_err(|error| invalid(format!("{}: {error}", from.join(LIST).display())))?;
    let list: List = serde_json::from_slice(&text).map_err(|error| invalid(format!("{LIST}: {error}")))?;
    if list.v != 1 {
        return Err(invalid(format!("{LIST} has version {}, not 1", list.v)));
    }
    let mut found = digests(from, from)?;
    found.remove(LIST);
    if let Some((name, _)) = list.files.iter().find(|(name, digest)| found.get(*name) != Some(digest)) {
        return Err(invalid(format!("{name} is missing or not as it was backed up")));
    }
    if let Some(name) = found.keys().find(|name| !list.files.contains_key(*name)) {
        return Err(invalid(format!("{name} does not belong to the backup")));
    }
    super::models::empty_folder(&to)?;
    for name in list.files.keys() {
        copy(&from.join(name), &to.join(name))?;
    }
    continue_outbox(&to.join(DATABASES[0]), &to.join(DATABASES[2])).await?;
    let record = Record {
        v: 1,
        at: rpc::Clock::System.now().0,
        action: "node.restore".into(),
        namespace: None,
        actor: "node".into(),
        subject: "node".into(),
        detail: json!({ "backup": list.at }),
    };
    let catalog = SqliteCatalog::open(&to.join(DATABASES[0])).await?;
    let noted = catalog.commit(Vec::new(), vec![record.to_line()]).await;
    catalog.close().await;
    noted?;
    let shown = json!({ "dir": to, "files": list.files.len(), "at": list.at });
    output::show(&shown, format, |_| {
        format!(
            "{} is as it was at {}; what changed since is lost\nstart it: mantlet up --data-dir {}\n",
            to.display(),
            output::date(types::Timestamp(list.at)),
            to.display()
        )
    });
    Ok(())
}

/// Whatever is written from here on is its owner's alone.
fn private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

fn copy(from: &Path, to: &Path) -> Result<(), Refusal> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(output::file(folder))?;
    }
    fs::copy(from, to).map(drop).map_err(output::file(from))
}

/// Copies every file below a folder that is not there yet; one that goes away meanwhile is passed over.
fn copy_all(from: &Path, to: &Path) -> Result<(), Refusal> {
    for path in walk(from)? {
        let target = to.join(path.strip_prefix(from).unwrap_or(&path));
        if target.exists() || !path.exists() {
            continue;
        }
        copy(&path, &target)?;
    }
    Ok(())
}

/// Every file below a folder; none when it does not exist.
fn walk(folder: &Path) -> Result<Vec<PathBuf>, Refusal> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(output::file(folder)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(output::file(folder))?;
        match entry.file_type().map_err(output::file(folder))? {
            kind if kind.is_dir() => files.extend(walk(&entry.path())?),
            kind if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    Ok(files)
}

fn digests(root: &Path, folder: &Path) -> Result<BTreeMap<String, Digest>, Refusal> {
    let digest = |path: PathBuf| {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        let data = fs::read(&path).map_err(output::file(&path))?;
        Ok((name, Digest::of(&data)))
    };
    walk(folder)?.into_iter().map(digest).collect()
}
