//! The operating system's packages: installed where we may, named where we may not.

use std::process::Command;

use anyhow::{Result, bail};

use crate::shell;

/// Sees to a C compiler, which the cryptography's build and SQLite's need.
pub(crate) fn c_compiler() -> Result<()> {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let works = || shell::works(Command::new(&compiler).arg("--version"));
    if works() {
        return Ok(());
    }
    install(&["gcc", "libc6-dev"], "there is no C compiler `cc`")?;
    if works() { Ok(()) } else { bail!("there still is no C compiler `cc`: install one, or name it in CC") }
}

/// Where Debian keeps the sources of Go's packages.
const GO_SOURCES: &str = "/usr/share/gocode";

/// Sees to Go and its `sumdb` packages, which read our ledger as strangers would.
pub(crate) fn go() -> Result<()> {
    let there = || {
        let sources = std::path::Path::new(GO_SOURCES).join("src/golang.org/x/mod/sumdb/tlog");
        sources.is_dir() && shell::works(Command::new("go").arg("version"))
    };
    if there() {
        return Ok(());
    }
    install(&["golang-go", "golang-golang-x-mod-dev"], "there is no Go with golang.org/x/mod")?;
    if there() { Ok(()) } else { bail!("there still is no Go with golang.org/x/mod below {GO_SOURCES}") }
}

/// Installs Debian packages because of `need`, or says what to type.
pub(crate) fn install(names: &[&str], need: &str) -> Result<()> {
    let typed = format!("apt-get install {}", names.join(" "));
    if !shell::works(Command::new("apt-get").arg("--version")) {
        bail!("{need}, and this system has no apt-get: install what `{typed}` would bring");
    }
    let Some(become_root) = privileged() else { bail!("{need}: type `sudo {typed}`, then try again") };
    eprintln!("{need}: installing {}", names.join(", "));
    let apt = |arguments: &[&str]| {
        let mut words = become_root.iter().copied().chain(["apt-get", "-q"]).chain(arguments.iter().copied());
        let mut command = Command::new(words.next().unwrap_or("apt-get"));
        command.args(words).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    shell::run("apt-get update", &mut apt(&["update"]))?;
    shell::run(&typed, apt(&["install", "-y", "--no-install-recommends"]).args(names))
}

/// The words before a command that root must run; none where we can't be root without a password.
fn privileged() -> Option<&'static [&'static str]> {
    if rustix::process::geteuid().is_root() {
        return Some(&[]);
    }
    shell::works(Command::new("sudo").args(["-n", "true"])).then_some(&["sudo", "-n"])
}
