//! Rust tools at pinned versions: ready binaries from PyPI, checked by hash; else from PATH; else compiled.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{python::Venv, stamp, stamp::Sources};
use crate::{shell, workspace::Workspace};

/// Versions and hashes, in pip's own format.
const REQUIREMENTS: &str = "xtask/tools.txt";
const PREFIX: &str = "astral-dev-toolchain-";

/// Puts every tool of `xtask/tools.txt` into `target/setup/bin`.
pub(crate) fn install(workspace: &Workspace, setup: &Path, venv: &Venv) -> Result<()> {
    let list = workspace.root.join(REQUIREMENTS);
    let text = fs::read_to_string(&list).with_context(|| format!("`{}` can't be read", list.display()))?;
    let digest = Sources::default().word(text.as_bytes()).digest();
    let (bin, mark) = (setup.join("bin"), setup.join("stamps/tools"));
    let tools = tools(&text);
    if stamp::fits(&mark, &digest) && tools.iter().all(|(name, _)| bin.join(name).exists()) {
        eprintln!("{}: there already", workspace.shown(&bin));
        return Ok(());
    }
    fs::create_dir_all(&bin).with_context(|| format!("`{}` can't be made", bin.display()))?;
    let unpacked = setup.join("tools");
    stamp::remove(&unpacked)?;
    let what = format!("{}: tools of {REQUIREMENTS}", workspace.shown(&bin));
    let options = ["--no-deps", "--only-binary", ":all:", "--require-hashes"];
    let fetched =
        shell::run(&what, venv.pip("install").args(options).arg("--target").arg(&unpacked).arg("-r").arg(&list));
    if let Err(error) = &fetched {
        eprintln!("{error:#}: falling back on PATH and on `cargo install`");
    }
    for (name, version) in tools {
        place(name, version, &unpacked.join("bin").join(name), setup)?;
    }
    stamp::remove(&unpacked)?;
    stamp::write(&mark, &digest)
}

/// Names and versions of the tools in a requirements file.
fn tools(requirements: &str) -> Vec<(&str, &str)> {
    let lines = requirements.lines().filter_map(|line| line.trim().strip_prefix(PREFIX));
    lines.filter_map(|line| line.split_whitespace().next()?.split_once("==")).collect()
}

fn place(name: &str, version: &str, fetched: &Path, setup: &Path) -> Result<()> {
    let target = setup.join("bin").join(name);
    let found = fetched.exists().then(|| fetched.to_owned()).or_else(|| on_path(name));
    let Some(found) = found else { return compile(name, version, setup) };
    if found != fetched {
        eprintln!("{name}: taken from PATH, `{}`; wanted was {version}", found.display());
    }
    let failed = || format!("`{}` can't be copied to `{}`", found.display(), target.display());
    // A tool that is running can't be overwritten, only replaced.
    let partial = target.with_extension("partial");
    fs::copy(&found, &partial).with_context(failed)?;
    fs::rename(&partial, &target).with_context(failed)
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

pub(crate) fn compile(name: &str, version: &str, setup: &Path) -> Result<()> {
    let mut command: Command = shell::cargo();
    command.args(["install", "--locked", "--root"]).arg(setup).arg(format!("{name}@{version}"));
    shell::run(&format!("{name}: compiling {version}"), &mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_tools_with_versions() {
        let text = include_str!("../../tools.txt");
        let names: Vec<_> = tools(text).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["cargo-nextest", "cargo-deny", "cargo-shear"]);
        assert!(tools(text).iter().all(|(_, version)| version.split('.').count() == 3));
    }
}
