//! Child processes: a parent starts one with a socket, its settings and nothing else; the child goes with its parent.
//!
//! The socket is the child's standard input, already listening, so that callers wait while a child is started anew. The
//! settings lie in a file that only its owner may read and that the child removes. Its last argument is its parent's id.

use std::{
    fs,
    io::Write as _,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{
            fs::{OpenOptionsExt as _, PermissionsExt as _},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde::de::DeserializeOwned;
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};
use types::{Code, Refusal};
use zeroize::Zeroizing;

/// How often a child looks whether its parent is still there.
const LOOK: Duration = Duration::from_millis(500);

fn broken(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, error.to_string())
}

/// What a child is started with.
pub struct Start<'a> {
    /// The binary, and the arguments before the settings file.
    pub command: (&'a Path, &'a [String]),
    /// Its environment; there is nothing else in it.
    pub environment: &'a [(String, String)],
    /// Where its settings file lies.
    pub run: &'a Path,
    /// Where it runs.
    pub dir: &'a Path,
    /// Its name: that of its settings file.
    pub name: &'a str,
    /// Its standard input.
    pub socket: OwnedFd,
}

/// Makes a listening Unix socket that only its owner may use.
///
/// # Errors
/// What the system says.
pub fn bind(path: &Path) -> Result<UnixListener, Refusal> {
    let fail = |error: std::io::Error| broken(format!("{}: {error}", path.display()));
    let listener = UnixListener::bind(path).map_err(fail)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(fail)?;
    Ok(listener)
}

impl Start<'_> {
    /// Starts the child; it is killed when what is returned is dropped. Returns also where its settings lie until it has
    /// read them.
    ///
    /// # Errors
    /// What the system says.
    pub fn spawn(self, settings: &[u8]) -> Result<(Child, PathBuf), Refusal> {
        let path = self.run.join(format!("{}.json", self.name));
        let fail = |error: std::io::Error| broken(format!("{}: {error}", path.display()));
        // An earlier child may have ended before it has read its own.
        let _ = fs::remove_file(&path);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(fail)?;
        file.write_all(settings).map_err(fail)?;
        let (binary, arguments) = self.command;
        let child = Command::new(binary)
            .args(arguments)
            .arg(&path)
            .arg(std::process::id().to_string())
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir)
            .stdin(Stdio::from(self.socket))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| broken(format!("{}: {error}", binary.display())))?;
        Ok((child, path))
    }
}

/// Asks a child to end.
pub fn terminate(child: &Child) {
    let pid = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(pid) = pid {
        // A process that is gone already needs no signal.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// In the child: its settings, whose file it removes.
///
/// # Errors
/// When they can't be read.
pub fn settings<T: DeserializeOwned>(path: &Path) -> Result<T, Refusal> {
    let fail = |error: std::io::Error| broken(format!("{}: {error}", path.display()));
    let text = Zeroizing::new(fs::read(path).map_err(fail)?);
    fs::remove_file(path).map_err(fail)?;
    serde_json::from_slice(&text).map_err(broken)
}

/// In the child: the socket it was started with.
///
/// # Errors
/// When there is none.
pub fn socket() -> Result<OwnedFd, Refusal> {
    std::io::stdin().as_fd().try_clone_to_owned().map_err(broken)
}

/// In the child: the Unix socket it was started with.
///
/// # Errors
/// When there is none.
pub fn unix_listener() -> Result<tokio::net::UnixListener, Refusal> {
    accepting(UnixListener::from(socket()?))
}

/// A listening socket as this process accepts at it.
///
/// # Errors
/// What the system says.
pub fn accepting(listener: UnixListener) -> Result<tokio::net::UnixListener, Refusal> {
    listener.set_nonblocking(true).map_err(broken)?;
    tokio::net::UnixListener::from_std(listener).map_err(broken)
}

/// In the child: resolves at SIGTERM, or when its parent is not (any more) the process that has started it, which may
/// have ended before this is called.
///
/// # Errors
/// When signals can't be received.
pub fn stopped(parent: u32) -> Result<impl Future<Output = ()>, Refusal> {
    let parent = i32::try_from(parent).ok().and_then(rustix::process::Pid::from_raw);
    let mut terminate = signal(SignalKind::terminate()).map_err(broken)?;
    let mut look = tokio::time::interval(LOOK);
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = look.tick() => {
                    if rustix::process::getppid() != parent {
                        return;
                    }
                }
            }
        }
    })
}
