//! The data directory: one node at a time, keys that only their owner may read, and the client's file.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use access::{Authority, Token, signing};
use rpc::{
    registry::{AddCaller, NameCaller, Select},
    supervisor::Keyring,
};
use types::{Code, Namespace, Refusal, Role, Timestamp};
use zeroize::Zeroizing;

use super::unusable;
use crate::{
    client::{CLIENT_FILE, ClientFile},
    output,
};

/// How the name of a node's log begins; it stands in its checkpoints, and a random part makes it the log's own.
const ORIGIN: &str = "mantlet.dev/node";
/// The caller that a node makes at its first start.
const ADMIN: &str = "admin";
/// How the text of a public key begins.
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----";
/// How often a lock is tried.
const TRIES: u32 = 40;
/// The time between two tries.
const LOOK: std::time::Duration = std::time::Duration::from_millis(50);
/// Longest path of a socket's folder: a Unix socket's whole path has room for about 100 bytes.
const SOCKETS: usize = 70;

/// An open data directory; no other node can open it while this lasts.
pub(crate) struct DataDir {
    root: PathBuf,
    run: PathBuf,
    /// Whether an earlier node has left its catalog here, so that its keys must be here too.
    used: bool,
    /// Sockets of a deep directory lie elsewhere; gone with the node.
    _sockets: Option<tempfile::TempDir>,
    _lock: File,
}

impl DataDir {
    /// Opens the directory, makes it when it is missing, and withdraws what an earlier node announced.
    ///
    /// # Errors
    /// `data_dir_unusable`, `data_dir_locked`.
    pub(crate) fn open(root: PathBuf) -> Result<Self, Refusal> {
        if !root.exists() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&root).map_err(|e| unusable(&root, &e))?;
        }
        let lock = lock(&root)?;
        let client = root.join(CLIENT_FILE);
        match fs::remove_file(&client) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unusable(&client, &error)),
            _ => {}
        }
        let (run, sockets) = run_dir(&root)?;
        let used = root.join("catalog.db").exists();
        Ok(Self { root, run, used, _sockets: sockets, _lock: lock })
    }

    /// A path inside the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where sockets of model servers lie: an empty folder of this node alone.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.run.clone()
    }

    /// A key's file; `None` in a new directory alone, where one may be made.
    fn key(&self, path: &Path) -> Result<Option<Zeroizing<String>>, Refusal> {
        match read_secret(path)? {
            None if self.used => Err(broken_key(path, &"it is missing, and the node's data is here")),
            found => Ok(found),
        }
    }

    /// The node's CA, made when there is none yet.
    pub(crate) fn authority(&self, now: Timestamp) -> Result<Authority, Refusal> {
        let path = self.path("ca.key");
        let authority = match self.key(&path)? {
            Some(secret) => Authority::parse(&secret).map_err(|error| broken_key(&path, &error))?,
            None => Authority::generate(now).map_err(|error| output::internal(&error))?,
        };
        self.keep_authority(&authority)?;
        Ok(authority)
    }

    /// Keeps the CA: all that matters in one file, and beside it what clients trust.
    pub(crate) fn keep_authority(&self, authority: &Authority) -> Result<(), Refusal> {
        write(&self.path("ca.key"), authority.secret().as_bytes(), 0o600)?;
        write(&self.path("ca.pem"), authority.certificate().as_bytes(), 0o644)
    }

    /// The key that signs bundles, and the public one before it while that is not retired; made when there is none yet.
    pub(crate) fn bundle_keys(&self) -> Result<(signing::Key, Option<String>), Refusal> {
        let path = self.path("bundle.key");
        let Some(text) = self.key(&path)? else {
            let key = signing::Key::generate().map_err(|error| output::internal(&error))?;
            self.keep_bundle_keys(&key, None)?;
            return Ok((key, None));
        };
        let (secret, before) = text.find(PUBLIC).map_or((&**text, None), |at| {
            let (secret, before) = text.split_at(at);
            (secret, Some(before.to_owned()))
        });
        let key = signing::Key::parse(secret).map_err(|error| broken_key(&path, &error))?;
        Ok((key, before))
    }

    /// Keeps them; `bundle.pub` is for people who verify a bundle themselves.
    pub(crate) fn keep_bundle_keys(&self, key: &signing::Key, before: Option<&str>) -> Result<(), Refusal> {
        let text = Zeroizing::new(format!("{}{}", key.secret(), before.unwrap_or_default()));
        write(&self.path("bundle.key"), text.as_bytes(), 0o600)?;
        let public = key.public().map_err(|error| output::internal(&error))?;
        write(&self.path("bundle.pub"), public.pem().as_bytes(), 0o644)
    }

    /// The keys that sign checkpoints, newest first; one is made when there is none yet.
    pub(crate) fn log_keys(&self) -> Result<Vec<ledger::Key>, Refusal> {
        let path = self.path("log.secret");
        let Some(text) = self.key(&path)? else {
            let origin = format!("{ORIGIN}/{}", hex::encode(&access::token::random()[..8]));
            let keys = vec![ledger::Key::generate(&origin).map_err(|error| output::internal(&error))?];
            self.keep_log_keys(&keys)?;
            return Ok(keys);
        };
        // Each key has two lines.
        let lines: Vec<&str> = text.lines().collect();
        let keys = lines.chunks(2).map(|lines| ledger::Key::parse(&lines.join("\n")));
        let keys = keys.collect::<Result<Vec<_>, _>>().map_err(|error| broken_key(&path, &error))?;
        if keys.is_empty() { Err(broken_key(&path, &"it is empty")) } else { Ok(keys) }
    }

    /// Keeps them; `log.key` is the one to trust.
    pub(crate) fn keep_log_keys(&self, keys: &[ledger::Key]) -> Result<(), Refusal> {
        let Some(newest) = keys.first() else { return Err(broken_key(&self.path("log.secret"), &"it is empty")) };
        let lines = keys.iter().map(|key| format!("{}\n", key.secret().trim_end()));
        let text = Zeroizing::new(lines.collect::<String>());
        write(&self.path("log.secret"), text.as_bytes(), 0o600)?;
        write(&self.path("log.key"), format!("{}\n", newest.public()).as_bytes(), 0o644)
    }

    /// Writes the public halves beside the keys anew: only the secret ones count, and theirs may be lost.
    pub(crate) fn publish(&self) -> Result<(), Refusal> {
        let (key, before) = self.bundle_keys()?;
        self.keep_bundle_keys(&key, before.as_deref())?;
        self.keep_log_keys(&self.log_keys()?)
    }

    /// Public keys that bundles may be signed with, PEM, newest first.
    pub(crate) fn trusted_bundle_keys(&self) -> Result<Vec<String>, Refusal> {
        let (key, before) = self.bundle_keys()?;
        let newest = key.public().map_err(|error| output::internal(&error))?;
        Ok(std::iter::once(newest.pem().to_owned()).chain(before).collect())
    }

    /// All keys that sign.
    pub(crate) fn keyring(&self, authority: &Authority) -> Result<Keyring, Refusal> {
        let (key, _) = self.bundle_keys()?;
        Ok(Keyring {
            bundle: Zeroizing::new(key.secret().to_owned()),
            bundles: self.trusted_bundle_keys()?,
            log: self.log_keys()?.iter().map(|key| Zeroizing::new(key.secret().to_owned())).collect(),
            ca: authority.roots(),
        })
    }

    /// The token of the node's admin: the one kept from an earlier start while it works, or a new one.
    pub(crate) async fn admin(&self, registry: &dyn rpc::Registry) -> Result<Zeroizing<String>, Refusal> {
        let path = self.path("admin.token");
        let kept = read_secret(&path)?;
        let namespace = Namespace::default();
        let caller = ADMIN.parse()?;
        let callers = registry.callers(Select { namespace: namespace.clone(), model: None }).await?;
        let known = callers.iter().find(|known| known.caller == caller);
        let id = kept.as_ref().and_then(|text| text.trim().parse::<Token>().ok()).map(|token| token.id().to_string());
        if let (Some(token), Some(known)) = (&kept, known)
            && Some(&known.token) == id.as_ref()
        {
            return Ok(Zeroizing::new(token.trim().to_owned()));
        }
        let actor = "node".to_owned();
        let made = match known {
            Some(_) => registry.rotate_caller(NameCaller { actor, namespace, caller }).await?,
            None => {
                let roles = vec![Role::Admin];
                let add = AddCaller { actor, namespace, caller, roles, node_wide: true, expires: None };
                registry.add_caller(add).await?
            }
        };
        registry.sealed(made.receipt).await?;
        let token = Zeroizing::new(made.token);
        write(&path, token.as_bytes(), 0o600)?;
        Ok(token)
    }

    /// Tells clients on this machine where the node listens and how to be let in.
    pub(crate) fn announce(&self, urls: &[String], token: &str, secure: bool) -> Result<(), Refusal> {
        let file = ClientFile {
            url: urls.first().cloned().unwrap_or_default(),
            urls: if urls.len() > 1 { urls.to_vec() } else { Vec::new() },
            ca: if secure { self.path("ca.pem") } else { PathBuf::new() },
            token: Zeroizing::new(if secure { token.to_owned() } else { String::new() }),
            namespace: Namespace::default(),
        };
        let header = Zeroizing::new(format!("authorization: Bearer {token}\n"));
        write(&self.path("admin.header"), header.as_bytes(), 0o600)?;
        let text = Zeroizing::new(serde_json::to_vec_pretty(&file).map_err(|error| output::internal(&error))?);
        write(&self.path(CLIENT_FILE), &text, 0o600)
    }

    /// Takes the announcement back.
    pub(crate) fn withdraw(&self) {
        // It may be gone already; a new start removes it first in any case.
        let _ = fs::remove_file(self.path(CLIENT_FILE));
    }
}

fn lock(root: &Path) -> Result<File, Refusal> {
    let path = root.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| unusable(root, &error))?;
    // A node that was killed may leave a child that is about to become a model server; it lets go in a moment.
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(LOOK),
            Err(fs::TryLockError::Error(error)) => return Err(unusable(&path, &error)),
        }
    }
    Err(Refusal::new(Code::DataDirLocked, format!("another node uses {}", root.display()))
        .hint("stop it first, or name another directory: --data-dir DIR"))
}

fn run_dir(root: &Path) -> Result<(PathBuf, Option<tempfile::TempDir>), Refusal> {
    let run = root.join("run");
    if run.exists() {
        fs::remove_dir_all(&run).map_err(|error| unusable(&run, &error))?;
    }
    if run.as_os_str().len() <= SOCKETS {
        fs::DirBuilder::new().mode(0o700).create(&run).map_err(|error| unusable(&run, &error))?;
        return Ok((run, None));
    }
    let mut builder = tempfile::Builder::new();
    let made = builder.prefix("mantlet-").permissions(fs::Permissions::from_mode(0o700)).tempdir();
    let made = made.map_err(|error| unusable(&std::env::temp_dir(), &error))?;
    Ok((made.path().to_owned(), Some(made)))
}

fn broken_key(path: &Path, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Code::DataDirUnusable, format!("{}: {error}", path.display()))
        .hint("restore the file from a backup; what it signed can't be verified with a new one")
}

/// A secret that only its owner may read; `None` when there is none yet.
fn read_secret(path: &Path) -> Result<Option<Zeroizing<String>>, Refusal> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(path, &error)),
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(Refusal::new(Code::DataDirUnusable, format!("{} can be read by others", path.display())).hint(
            format!("close it: `chmod 600 {}`, and replace the key if others may have seen it", path.display()),
        ));
    }
    // What is no text is no key either, and whoever parses it says so better.
    let bytes = Zeroizing::new(fs::read(path).map_err(|error| unusable(path, &error))?);
    Ok(Some(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())))
}

/// Writes a file whole or not at all, durably, with these permissions from the start; one that says the same stays.
fn write(path: &Path, data: &[u8], mode: u32) -> Result<(), Refusal> {
    if fs::read(path).is_ok_and(|there| Zeroizing::new(there).as_slice() == data) {
        return Ok(());
    }
    let fail = |error: std::io::Error| unusable(path, &error);
    let folder = path.parent().unwrap_or(path);
    let mut file =
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(mode)).tempfile_in(folder).map_err(fail)?;
    file.write_all(data).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)
}
