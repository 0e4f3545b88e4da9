//! Every Rust file opens with `//!`: what it is, why it exists, where to go next.

use super::{Finding, Tree};

/// Checks every `.rs` file.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let undocumented = |text: &str| !text.trim_start_matches('\u{feff}').starts_with("//! ");
    let what = "the file does not open with `//!`: say in a sentence what it is, and why it exists";
    tree.ending(".rs").filter(|(_, text)| undocumented(text)).map(|(path, _)| Finding::new(path, 1, what)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_docs_is_found() {
        let tree = Tree::of(&[
            ("base/a/src/lib.rs", "//! What it is.\n"),
            ("base/a/src/x.rs", "use std::fmt;\n"),
            ("base/a/build.rs", "// no docs\n"),
            ("base/a/src/empty.rs", "//!\n"),
            ("README.md", "# not Rust\n"),
        ]);
        let found: Vec<_> = check(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(found, ["base/a/build.rs", "base/a/src/empty.rs", "base/a/src/x.rs"]);
    }
}
