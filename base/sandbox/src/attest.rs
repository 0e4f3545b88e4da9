//! Tries what a confined process must not be able to do.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};

/// Something that was tried, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What was tried.
    pub what: String,
    /// The name of the error it ended with, `EPERM` or `EACCES` when a layer denied it; none when it worked.
    pub errno: Option<String>,
    /// Which layer says no in this way; none when it was not denied.
    pub layer: Option<crate::Layer>,
}

impl Attempt {
    /// Whether a layer denied it.
    pub fn denied(&self) -> bool {
        self.layer.is_some()
    }

    fn new(what: impl Into<String>, outcome: io::Result<()>) -> Self {
        let what = what.into();
        let Err(error) = outcome else { return Self { what, errno: None, layer: None } };
        // seccomp answers EPERM, Landlock EACCES.
        let (errno, layer) = match error.raw_os_error() {
            Some(libc::EPERM) => ("EPERM".to_owned(), Some(crate::Layer::Seccomp)),
            Some(libc::EACCES) => ("EACCES".to_owned(), Some(crate::Layer::Landlock)),
            Some(libc::ENOENT) => ("ENOENT".to_owned(), None),
            _ => (error.to_string(), None),
        };
        Self { what, errno: Some(errno), layer }
    }
}

impl std::fmt::Display for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.layer, &self.errno) {
            (Some(layer), Some(errno)) => write!(f, "{}: {errno} by {layer}", self.what),
            (None, Some(errno)) => write!(f, "{}: NOT DENIED, it ended with {errno}", self.what),
            _ => write!(f, "{}: NOT DENIED", self.what),
        }
    }
}

/// Tries to open a network socket, read each of `forbidden`, write a file, start a program, and signal its parent;
/// a confined process is denied each. What worked is undone.
pub fn attest(forbidden: &[PathBuf]) -> Vec<Attempt> {
    let port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut attempts = vec![Attempt::new("open a network socket", TcpListener::bind(port).map(drop))];
    attempts.extend(try_to_read(forbidden));
    attempts.push(Attempt::new("write a file", write()));
    attempts.push(Attempt::new("start a program", Command::new("/bin/true").status().map(drop)));
    let parent = rustix::process::getppid().unwrap_or(rustix::process::getpid());
    let signalled = rustix::process::test_kill_process(parent);
    attempts.push(Attempt::new("signal its parent", signalled.map_err(io::Error::from)));
    attempts
}

/// Tries to read each of these, which a fenced process is denied.
pub fn try_to_read(forbidden: &[PathBuf]) -> Vec<Attempt> {
    forbidden.iter().map(|path| Attempt::new(format!("read {}", path.display()), read(path))).collect()
}

fn read(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::read_dir(path).map(drop) } else { File::open(path).map(drop) }
}

fn write() -> io::Result<()> {
    let path = std::env::temp_dir().join(format!("mantlet-attest-{}", std::process::id()));
    File::create(&path)?;
    fs::remove_file(&path)
}
