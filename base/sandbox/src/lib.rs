//! Confines the process that calls it to what it needs, in four layers that the kernel keeps until the process ends.
//!
//! [`confine`] is called once, before any other thread is started: no new privileges, resource limits, Landlock (which
//! files, no network, no signals to others) and seccomp (which system calls). [`attest`] then tries what must not work,
//! and says which layer said no. [`probe`] asks what this kernel could do, without confining anybody.
//!
//! Does not know about: whom it confines, and why.

mod attest;
mod files;
mod syscalls;

use std::{fmt, path::PathBuf};

use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

pub use attest::{Attempt, attest, try_to_read};

/// What a process needs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Profile {
    /// Files and folders it may read, beside the system's libraries.
    pub read: Vec<PathBuf>,
    /// Private memory it may take, in bytes.
    pub memory: u64,
}

/// Files that a process reads to find other machines by name, and to know whose certificates to believe.
pub const OUTWARD: [&str; 7] = [
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/ssl",
    "/etc/pki",
    "/usr/share/ca-certificates",
];

/// A layer of confinement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// No program it starts has more rights than it has.
    NoNewPrivileges,
    /// Memory, open files, no core dumps.
    Limits,
    /// Which files it may read; none to write; no TCP; no signals to others.
    Landlock,
    /// Which system calls it may make.
    Seccomp,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNewPrivileges => "no-new-privileges",
            Self::Limits => "limits",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
        })
    }
}

/// A layer that is not in force, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{layer}: {why}")]
pub struct Missing {
    /// The layer.
    pub layer: Layer,
    /// Why it is not in force.
    pub why: String,
}

/// Files a confined process may have open.
const FILES: u64 = 4_096;

/// Confines this process, as far as the kernel can; returns what is missing, nothing when all is in force.
///
/// Only threads that are started later are confined with it, so there must be no others yet.
pub fn confine(profile: &Profile) -> Vec<Missing> {
    [
        no_new_privileges(),
        missing(Layer::Limits, limits(profile)),
        missing(Layer::Landlock, files::confine(&profile.read)),
        // Last: what the others need is not among what is left.
        missing(Layer::Seccomp, syscalls::confine()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Fences a service in, as far as the kernel can: it reads, writes and starts what is below these paths and the system's
/// libraries, and nothing else; returns what is missing.
///
/// Only threads that are started later are fenced in with it, so there must be no others yet.
pub fn fence(read: &[PathBuf], write: &[PathBuf], start: &[PathBuf]) -> Vec<Missing> {
    let landlock = missing(Layer::Landlock, files::fence(read, write, start));
    [no_new_privileges(), landlock].into_iter().flatten().collect()
}

/// What somebody else's program needs: one that nobody here has written, with whatever it starts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Guest {
    /// Files and folders that it may read, and start programs from, beside the system's libraries.
    pub read: Vec<PathBuf>,
    /// Folders that it may do anything in.
    pub write: Vec<PathBuf>,
    /// Private memory that each of its processes may take, in bytes.
    pub memory: u64,
    /// Bytes of the largest file that it may write.
    pub file: u64,
}

/// What a guest may read and start programs from, whoever it is.
pub fn tools() -> impl Iterator<Item = PathBuf> {
    files::TOOLS.iter().map(PathBuf::from)
}

/// Confines this process, and whatever it starts, as far as the kernel can; returns what is missing. A guest has no
/// network, reaches no process but its own, and no system call that changes the machine.
///
/// Only threads that are started later are confined with it, so there must be no others yet.
pub fn confine_guest(guest: &Guest) -> Vec<Missing> {
    let limits = || {
        limit(Resource::Core, 0)?;
        limit(Resource::Data, guest.memory)?;
        limit(Resource::Fsize, guest.file)
    };
    [
        no_new_privileges(),
        missing(Layer::Limits, limits()),
        missing(Layer::Landlock, files::confine_guest(&guest.read, &guest.write)),
        missing(Layer::Seccomp, syscalls::confine_guest()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What of all this the kernel can't do; nothing when it can do all.
pub fn probe() -> Vec<Missing> {
    [missing(Layer::Landlock, files::probe()), missing(Layer::Seccomp, syscalls::probe())]
        .into_iter()
        .flatten()
        .collect()
}

fn missing(layer: Layer, outcome: Result<(), String>) -> Option<Missing> {
    outcome.err().map(|why| Missing { layer, why })
}

fn no_new_privileges() -> Option<Missing> {
    let outcome = rustix::thread::set_no_new_privs(true).map_err(|error| error.to_string());
    missing(Layer::NoNewPrivileges, outcome)
}

fn limits(profile: &Profile) -> Result<(), String> {
    limit(Resource::Core, 0)?;
    limit(Resource::Data, profile.memory)?;
    limit(Resource::Nofile, FILES)
}

fn limit(resource: Resource, value: u64) -> Result<(), String> {
    let limit = Some(value);
    setrlimit(resource, Rlimit { current: limit, maximum: limit }).map_err(|error| error.to_string())
}
