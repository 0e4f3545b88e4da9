//! The data directory: one node at a time, keys that only their owner may read, and the client's file.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use access::{Authority, Token, signing};
use rpc::{
    Registry as _,
    registry::{AddCaller, NameCaller, Select},
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
/// Longest path of a socket's folder: a Unix socket's whole path has room for about 100 bytes.
const SOCKETS: usize = 70;

/// An open data directory; no other node can open it while this lasts.
pub(crate) struct DataDir {
    root: PathBuf,
    pub(crate) authority: Arc<Authority>,
    run: PathBuf,
    /// Sockets of a deep directory lie elsewhere; gone with the node.
    _sockets: Option<tempfile::TempDir>,
    _lock: File,
}

impl DataDir {
    /// Opens the directory, makes it when it is missing, and withdraws what an earlier node announced.
    ///
    /// # Errors
    /// `data_dir_unusable`, `data_dir_locked`.
    pub(crate) fn open(root: PathBuf, now: Timestamp) -> Result<Self, Refusal> {
        if !root.exists() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&root).map_err(|e| unusable(&root, &e))?;
        }
        let lock = lock(&root)?;
        let client = root.join(CLIENT_FILE);
        match fs::remove_file(&client) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unusable(&client, &error)),
            _ => {}
        }
        let authority = authority(&root, now)?;
        let (run, sockets) = run_dir(&root)?;
        Ok(Self { root, authority: Arc::new(authority), run, _sockets: sockets, _lock: lock })
    }

    /// A path inside the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where sockets of model servers lie: an empty folder of this node alone.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.run.clone()
    }

    /// The key that signs bundles; its public half lies beside it.
    pub(crate) fn signing_key(&self) -> Result<signing::Key, Refusal> {
        let path = self.path("bundle.key");
        let key = match read_secret(&path)? {
            Some(text) => signing::Key::parse(&text).map_err(|error| broken_key(&path, &error))?,
            None => {
                let key = signing::Key::generate().map_err(|error| output::internal(&error))?;
                write(&path, key.secret().as_bytes(), 0o600)?;
                key
            }
        };
        let public = key.public().map_err(|error| output::internal(&error))?;
        write(&self.path("bundle.pub"), public.pem().as_bytes(), 0o644)?;
        Ok(key)
    }

    /// The public key that bundles are signed with, PEM.
    pub(crate) fn bundle_key(&self) -> Result<String, Refusal> {
        let path = self.path("bundle.pub");
        fs::read_to_string(&path).map_err(|error| unusable(&path, &error))
    }

    /// The key that signs checkpoints; its public half is `log.key`.
    pub(crate) fn ledger_key(&self) -> Result<ledger::Key, Refusal> {
        let path = self.path("log.secret");
        let key = match read_secret(&path)? {
            Some(text) => ledger::Key::parse(&text).map_err(|error| broken_key(&path, &error))?,
            None => {
                let origin = format!("{ORIGIN}/{}", hex::encode(&access::token::random()[..8]));
                let key = ledger::Key::generate(&origin).map_err(|error| output::internal(&error))?;
                write(&path, key.secret().as_bytes(), 0o600)?;
                key
            }
        };
        write(&self.path("log.key"), format!("{}\n", key.public()).as_bytes(), 0o644)?;
        Ok(key)
    }

    /// The token of the node's admin: the one kept from an earlier start while it works, or a new one.
    pub(crate) async fn admin(&self, registry: &registry::Registry) -> Result<Zeroizing<String>, Refusal> {
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
    pub(crate) fn announce(&self, url: &str, token: &str, secure: bool) -> Result<(), Refusal> {
        let file = ClientFile {
            url: url.to_owned(),
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
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(Refusal::new(Code::DataDirLocked, format!("another node uses {}", root.display()))
                .hint("stop it first, or name another directory: --data-dir DIR"))
        }
        Err(fs::TryLockError::Error(error)) => Err(unusable(&path, &error)),
    }
}

fn authority(root: &Path, now: Timestamp) -> Result<Authority, Refusal> {
    let (certificate, key) = (root.join("ca.pem"), root.join("ca.key"));
    if let Some(secret) = read_secret(&key)? {
        let text = fs::read_to_string(&certificate).map_err(|error| unusable(&certificate, &error))?;
        return Authority::parse(&text, &secret).map_err(|error| broken_key(&key, &error));
    }
    let authority = Authority::generate(now).map_err(|error| output::internal(&error))?;
    // The key last: a start that is cut short between the two makes both anew.
    write(&certificate, authority.certificate().as_bytes(), 0o644)?;
    write(&key, authority.key().as_bytes(), 0o600)?;
    Ok(authority)
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
    fs::read_to_string(path).map(|text| Some(Zeroizing::new(text))).map_err(|error| unusable(path, &error))
}

/// Writes a file whole or not at all, durably, with these permissions from the start.
fn write(path: &Path, data: &[u8], mode: u32) -> Result<(), Refusal> {
    let fail = |error: std::io::Error| unusable(path, &error);
    let folder = path.parent().unwrap_or(path);
    let mut file =
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(mode)).tempfile_in(folder).map_err(fail)?;
    file.write_all(data).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)
}
