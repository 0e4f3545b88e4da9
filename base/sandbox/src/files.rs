//! Landlock: what may be read; everything else that it knows is denied.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, RestrictionStatus, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
};

/// The newest version whose rights are asked for: files, TCP, abstract sockets and signals.
const NEWEST: ABI = ABI::V6;
/// The oldest that is enough: TCP is denied by seccomp too, files by nobody else.
const OLDEST: ABI = ABI::V3;

/// What every program with shared libraries reads, and what a runtime reads about processors.
const SYSTEM: [&str; 13] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/self/maps",
    "/proc/self/cgroup",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/dev/urandom",
];

/// What nobody's program works without.
const DEVICES: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/random"];
/// What interpreters and their libraries read, beside themselves.
pub(crate) const TOOLS: [&str; 8] =
    ["/bin", "/usr", "/etc/alternatives", "/etc/localtime", "/etc/mime.types", "/etc/passwd", "/proc", "/sys"];

/// As [`confine`], for a program that starts others: it reads what is given and the system's tools, and writes in its own
/// folders.
pub(crate) fn confine_guest(read: &[PathBuf], write: &[PathBuf]) -> Result<(), String> {
    let tools = TOOLS.iter().map(PathBuf::from).chain(read.iter().cloned()).collect::<Vec<_>>();
    let write = DEVICES.iter().map(PathBuf::from).chain(write.iter().cloned()).collect::<Vec<_>>();
    restrict(&[], &write, &tools, false)
}

/// As [`confine`], for files alone: what a service reads, writes and starts; signals reach its own children only.
pub(crate) fn fence(read: &[PathBuf], write: &[PathBuf], start: &[PathBuf]) -> Result<(), String> {
    restrict(read, write, start, true)
}

fn restrict(read: &[PathBuf], write: &[PathBuf], start: &[PathBuf], network: bool) -> Result<(), String> {
    let system = SYSTEM.iter().map(Path::new);
    let readable = system.clone().chain(read.iter().map(PathBuf::as_path));
    // A program that is started needs its libraries.
    let startable = start.iter().map(PathBuf::as_path).chain(system.filter(|_| !start.is_empty()));
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|ruleset| if network { Ok(ruleset) } else { ruleset.handle_access(AccessNet::from_all(NEWEST)) })
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .and_then(|ruleset| ruleset.add_rules(path_beneath_rules(readable, AccessFs::ReadFile | AccessFs::ReadDir)))
        .and_then(|ruleset| ruleset.add_rules(path_beneath_rules(write, AccessFs::from_all(NEWEST))))
        .and_then(|ruleset| ruleset.add_rules(path_beneath_rules(startable, AccessFs::from_read(NEWEST))))
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(|error| error.to_string())?;
    enforced(&status)
}

pub(crate) fn confine(read: &[PathBuf]) -> Result<(), String> {
    let why = |error: &dyn std::fmt::Display| error.to_string();
    let paths = SYSTEM.iter().map(Path::new).chain(read.iter().map(PathBuf::as_path));
    // What does not exist can't be read anyway.
    let rules = path_beneath_rules(paths, AccessFs::ReadFile | AccessFs::ReadDir);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .and_then(|ruleset| ruleset.add_rules(rules))
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(|error| why(&error))?;
    enforced(&status)
}

/// Whether the kernel can deny every way to change a file.
fn enforced(status: &RestrictionStatus) -> Result<(), String> {
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("this kernel has no Landlock".into()),
        _ => probe(),
    }
}

pub(crate) fn probe() -> Result<(), String> {
    let all: BitFlags<AccessFs> = AccessFs::from_all(OLDEST);
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(all)
        .and_then(Ruleset::create)
        .map(drop)
        .map_err(|error| format!("this kernel's Landlock can't do all: {error}"))
}
