//! The documents that a newcomer looks for first are there.

use super::{Finding, Tree};

/// Each with what belongs into it.
const WANTED: [(&str, &str); 7] = [
    ("README.md", "what Mantlet is, and a first prediction in a minute"),
    ("ARCHITECTURE.md", "rooms, arrows, and where each thing is found"),
    ("CHANGELOG.md", "what changed for users, newest first"),
    ("CONTRIBUTING.md", "how to build, test and change it"),
    ("docs/glossary.md", "one word per concept"),
    ("LICENSE-APACHE", "the Apache License 2.0"),
    ("LICENSE-MIT", "the MIT License"),
];

/// Checks that each is there and not empty.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let missing = |path: &str| tree.text(path).is_none_or(|text| text.trim().is_empty());
    let wanted = WANTED.into_iter().filter(|(path, _)| missing(path));
    wanted.map(|(path, holds)| Finding::new(path, 1, format!("is missing or empty: write {holds}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_empty_is_named() {
        let mut files: Vec<_> = WANTED.iter().map(|(path, _)| (*path, "text")).collect();
        assert!(check(&Tree::of(&files)).is_empty());
        files[0].1 = "\n";
        files.pop();
        let found: Vec<_> = check(&Tree::of(&files)).into_iter().map(|finding| finding.path).collect();
        assert_eq!(found, ["README.md", "LICENSE-MIT"]);
    }
}
