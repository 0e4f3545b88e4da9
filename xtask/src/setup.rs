//! Fetches what tests and demos need, once: Python with other people's clients, ONNX Runtime, and Rust tools.
//!
//! Everything lands below `target/setup/` and `target/onnxruntime/`; deleting those folders undoes it. A stamp
//! remembers what each part was made from, so that a second run does nothing and needs no network.

mod onnxruntime;
pub(crate) mod packages;
mod python;
pub(crate) mod stamp;
pub(crate) mod tools;

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{shell, workspace::Workspace};
pub(crate) use packages::go;

/// What the other verbs and their child processes get.
#[derive(Debug)]
pub(crate) struct Environment {
    /// The workspace's root: where children start.
    root: PathBuf,
    /// `target/setup`.
    pub setup: PathBuf,
    /// The virtual environment's Python.
    python: PathBuf,
    /// ONNX Runtime's shared library.
    pub library: PathBuf,
    /// Test data that is not part of the repository, where there is any.
    pub data: Option<PathBuf>,
    /// The search path, our own tools first.
    path: OsString,
}

impl Environment {
    /// Makes what is missing and says so.
    pub(crate) fn prepare(workspace: &Workspace) -> Result<Self> {
        let setup = workspace.target.join("setup");
        std::fs::create_dir_all(&setup).with_context(|| format!("`{}` can't be made", setup.display()))?;
        packages::c_compiler()?;
        let venv = python::venv(workspace, &setup)?;
        let library = onnxruntime::library(workspace, &setup, &venv)?;
        tools::install(workspace, &setup, &venv)?;
        Ok(Self {
            root: workspace.root.clone(),
            path: search_path(&setup.join("bin"))?,
            setup,
            python: venv.python(),
            library,
            data: data(&workspace.root, std::env::var_os("MANTLET_DATA").as_deref()),
        })
    }

    /// Prints what children are told.
    pub(crate) fn describe(&self) {
        for (name, value) in self.variables() {
            println!("{name}={}", value.to_string_lossy());
        }
        if self.data.is_none() {
            println!("MANTLET_DATA is not set, and there is no ../shared/data: tests that need it say SKIPPED");
        }
    }

    /// A command that starts at the root, with everything set.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).envs(self.variables()).env("PATH", &self.path);
        command
    }

    /// The cargo that runs this very command.
    pub(crate) fn cargo(&self) -> Command {
        self.command(shell::cargo().get_program())
    }

    /// One of the tools installed here, at the version pinned here.
    pub(crate) fn tool(&self, name: &str) -> Command {
        self.command(self.setup.join("bin").join(name))
    }

    /// The virtual environment's Python.
    pub(crate) fn python(&self) -> Command {
        self.command(&self.python)
    }

    /// Where models for tests are made.
    pub(crate) fn models(&self) -> PathBuf {
        self.setup.join("models")
    }

    fn variables(&self) -> Vec<(&'static str, OsString)> {
        let mut variables = vec![
            ("ORT_DISABLE_TELEMETRY", "1".into()),
            ("MANTLET_PYTHON", self.python.clone().into()),
            ("MANTLET_ONNXRUNTIME", self.library.clone().into()),
            ("MANTLET_MODELS", self.models().into()),
        ];
        variables.extend(self.data.clone().map(|data| ("MANTLET_DATA", data.into())));
        variables
    }
}

fn search_path(first: &Path) -> Result<OsString> {
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(first.to_owned()).chain(std::env::split_paths(&inherited));
    std::env::join_paths(all).with_context(|| format!("`{}` can't be part of PATH", first.display()))
}

/// The folder named by `MANTLET_DATA`, else the one beside the workspace; none where it does not exist.
fn data(root: &Path, named: Option<&OsStr>) -> Option<PathBuf> {
    let folder = named.map_or_else(|| Path::new("../shared/data").to_owned(), PathBuf::from);
    root.join(folder).canonicalize().ok().filter(|path| path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_an_absolute_path_or_nothing() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("code");
        std::fs::create_dir_all(&root).unwrap();
        assert_eq!(data(&root, None), None);
        assert_eq!(data(&root, Some(OsStr::new("nowhere"))), None);
        std::fs::create_dir_all(home.path().join("shared/data")).unwrap();
        let found = data(&root, None).unwrap();
        assert!(found.is_absolute() && found.ends_with("shared/data"));
        assert_eq!(data(&root, Some(found.as_os_str())), Some(found));
    }
}
