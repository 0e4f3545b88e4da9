//! The house rules that a program can check, one a file.
//!
//! Each check is a pure function over [`Tree`], the workspace's files as text (the arrows also take what
//! `cargo metadata` said), and returns [`Finding`]s. To add a rule: a file here, a line in [`all`], and a test
//! that shows it fail.

mod arrows;
mod code;
mod documents;
mod links;
mod module_docs;
mod panics;
mod paths;
mod refusals;
mod sizes;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{shell, workspace::Workspace};

/// Something to mend.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, from the root.
    pub path: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong, and how to mend it.
    pub what: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// The files that git tracks or would track.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Path from the root, with `/`, and text.
    texts: BTreeMap<String, String>,
    /// Paths of files that are no text.
    binaries: BTreeSet<String>,
}

impl Tree {
    /// Reads the files below `root`.
    fn read(root: &Path) -> Result<Self> {
        let mut command = Command::new("git");
        command.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let list = shell::capture(&mut command).context("tidy asks git for the files, so it needs a clone")?;
        let mut tree = Self::default();
        // A file that was removed is listed until the removal is committed.
        for path in list.split('\0').filter(|path| !path.is_empty() && root.join(path).is_file()) {
            let content = std::fs::read(root.join(path)).with_context(|| format!("`{path}` can't be read"))?;
            match String::from_utf8(content) {
                Ok(text) => drop(tree.texts.insert(path.to_owned(), text)),
                Err(_) => drop(tree.binaries.insert(path.to_owned())),
            }
        }
        Ok(tree)
    }

    /// The text of a file.
    fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// Path and text of the files whose name ends so.
    fn ending(&self, end: &str) -> impl Iterator<Item = (&str, &str)> {
        self.texts
            .iter()
            .filter(move |(path, _)| path.ends_with(end))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Whether a file, or a folder with a file in it, has this path.
    fn exists(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        let inside = |other: &String| other == path || other.starts_with(&folder);
        path.is_empty() || self.texts.keys().any(inside) || self.binaries.iter().any(inside)
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        let texts = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Self { texts, binaries: BTreeSet::new() }
    }
}

/// Prints every finding; whether there was none.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    let tree = Tree::read(&workspace.root)?;
    let findings = all(&tree, workspace);
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => println!("tidy: {} files, nothing to mend", tree.texts.len()),
        count => println!("tidy: {count} to mend"),
    }
    Ok(findings.is_empty())
}

fn all(tree: &Tree, workspace: &Workspace) -> Vec<Finding> {
    let mut findings = arrows::check(tree, workspace);
    let checks: [fn(&Tree) -> Vec<Finding>; 7] = [
        module_docs::check,
        panics::check,
        sizes::check,
        links::check,
        refusals::check,
        paths::check,
        documents::check,
    ];
    findings.extend(checks.iter().flat_map(|check| check(tree)));
    findings.sort();
    findings
}

/// Lines with their numbers, counted from 1.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_that_editors_understand() {
        assert_eq!(Finding::new("node/src/main.rs", 3, "mend it").to_string(), "node/src/main.rs:3: mend it");
    }

    #[test]
    fn folders_exist_when_a_file_is_in_them() {
        let tree = Tree::of(&[("docs/errors/README.md", "")]);
        for path in ["", "docs", "docs/errors", "docs/errors/README.md"] {
            assert!(tree.exists(path), "{path}");
        }
        assert!(!tree.exists("doc"));
    }
}
