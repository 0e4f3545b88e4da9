//! A virtual environment with the Python clients that tests and examples use.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{packages, stamp, stamp::Sources};
use crate::{shell, workspace::Workspace};

/// Tried in this order; the first that is new enough and can make virtual environments is taken.
const NAMES: [&str; 4] = ["python3", "python3.11", "python3.12", "python3.13"];
/// Debian ships `venv`, and the pip inside it, as a package of their own.
const SUITABLE: &str = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))";

/// A virtual environment that exists.
#[derive(Debug)]
pub(crate) struct Venv(PathBuf);

impl Venv {
    /// Its Python.
    pub(crate) fn python(&self) -> PathBuf {
        self.0.join("bin/python")
    }

    /// Its pip, quiet and without questions.
    pub(crate) fn pip(&self, verb: &str) -> Command {
        let mut command = Command::new(self.python());
        let quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"];
        command.args(["-m", "pip", verb]).args(quiet);
        command
    }

    /// Where its packages lie.
    pub(crate) fn packages(&self) -> Result<PathBuf> {
        let script = "import sysconfig; print(sysconfig.get_path('platlib'))";
        Ok(shell::capture(Command::new(self.python()).args(["-c", script]))?.trim_end().into())
    }
}

/// The virtual environment for tests, made anew when its requirements have changed.
pub(crate) fn venv(workspace: &Workspace, setup: &Path) -> Result<Venv> {
    let folder = workspace.root.join("testkit/python");
    let (all, alone) = (folder.join("requirements.txt"), folder.join("requirements-no-deps.txt"));
    let digest = Sources::default().path(&all)?.path(&alone)?.digest();
    let (venv, mark) = (Venv(setup.join("venv")), setup.join("stamps/venv"));
    if stamp::fits(&mark, &digest) && shell::works(Command::new(venv.python()).arg("--version")) {
        eprintln!("{}: there already", workspace.shown(&venv.0));
        return Ok(venv);
    }
    stamp::remove(&venv.0)?;
    let base = find()?;
    let what = format!("{}: virtual environment by {base}", workspace.shown(&venv.0));
    shell::run(&what, Command::new(base).args(["-m", "venv"]).arg(&venv.0))?;
    let what = |file: &Path| format!("{}: packages of {}", workspace.shown(&venv.0), workspace.shown(file));
    shell::run(&what(&all), venv.pip("install").arg("-r").arg(&all))?;
    shell::run(&what(&alone), venv.pip("install").args(["--no-deps", "-r"]).arg(&alone))?;
    stamp::write(&mark, &digest)?;
    Ok(venv)
}

/// A Python that can make virtual environments.
fn find() -> Result<&'static str> {
    let suitable = || NAMES.into_iter().find(|name| shell::works(Command::new(name).args(["-c", SUITABLE])));
    if let Some(name) = suitable() {
        return Ok(name);
    }
    packages::install(&["python3", "python3-venv"], "there is no Python 3.11 or newer with `venv`")?;
    suitable().context("the system's Python is older than 3.11: install a newer one as `python3`")
}
