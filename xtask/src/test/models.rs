//! Models for tests: every example, and the small ones for the protocol's corners, made by their scripts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    setup::{
        Environment,
        stamp::{self, Sources},
    },
    shell,
    workspace::Workspace,
};

/// Makes what is missing below `target/setup/models`, or was made from something else.
pub(super) fn make(workspace: &Workspace, environment: &Environment) -> Result<()> {
    for folder in examples(&workspace.root)? {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        make_one(workspace, environment, &name, &folder.join("make.py"))?;
    }
    make_one(workspace, environment, "made", &workspace.root.join("testkit/python/make_models.py"))
}

/// The folders of examples that have a script, in the order of their names.
fn examples(root: &Path) -> Result<Vec<PathBuf>> {
    let examples = root.join("examples");
    let unreadable = || format!("`{}` can't be read", examples.display());
    let entries: Result<Vec<_>, _> = fs::read_dir(&examples).with_context(unreadable)?.collect();
    let mut folders: Vec<_> = entries.with_context(unreadable)?.iter().map(fs::DirEntry::path).collect();
    folders.retain(|folder| folder.join("make.py").is_file());
    folders.sort();
    Ok(folders)
}

/// The script's neighbours count too: it copies or imports them.
fn make_one(workspace: &Workspace, environment: &Environment, name: &str, script: &Path) -> Result<()> {
    let requirements = workspace.root.join("testkit/python/requirements.txt");
    let beside = script.parent().unwrap_or(script);
    let digest = Sources::default().path(beside)?.path(&requirements)?.digest();
    let out = environment.models().join(name);
    let mark = environment.setup.join("stamps").join(format!("models-{name}"));
    if stamp::fits(&mark, &digest) && out.is_dir() {
        eprintln!("{}: there already", workspace.shown(&out));
        return Ok(());
    }
    stamp::remove(&out)?;
    shell::run(&workspace.shown(&out), environment.python().arg(script).arg(&out))?;
    stamp::write(&mark, &digest)
}
