//! The workspace as `cargo metadata` describes it: where it lies, where it builds, and what leans on what.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::shell;

/// The workspace this command was called in.
#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    /// The folder of the topmost `Cargo.toml`.
    #[serde(rename = "workspace_root")]
    pub root: PathBuf,
    /// Where cargo builds; `CARGO_TARGET_DIR` moves it.
    #[serde(rename = "target_directory")]
    pub target: PathBuf,
    /// The workspace's own packages.
    pub packages: Vec<Package>,
}

/// One package of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    /// Its name on a manifest's first lines.
    pub name: String,
    /// Its `Cargo.toml`.
    pub manifest_path: PathBuf,
    /// What it leans on directly.
    pub dependencies: Vec<Dependency>,
}

/// One direct dependency.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    /// The package leant on.
    pub name: String,
    /// `dev` or `build`; none for a normal one.
    pub kind: Option<String>,
}

impl Workspace {
    /// Asks cargo about the workspace around the current folder.
    pub(crate) fn find() -> Result<Self> {
        let mut command = shell::cargo();
        let answer = shell::capture(command.args(["metadata", "--no-deps", "--format-version", "1"]))?;
        serde_json::from_str(&answer).context("`cargo metadata` answered something unexpected")
    }

    /// A path as a person at the root would type it.
    pub(crate) fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}
