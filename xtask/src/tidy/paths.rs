//! No file names a folder of somebody's machine, and no Rust file has tabs.

use super::{Finding, Tree, numbered};

/// Folders that exist on one machine and not on the next; written so that this file does not name them.
const FOLDERS: [&str; 4] =
    [concat!("/", "root/"), concat!("/", "home/"), concat!("/", "work/"), concat!("/", "Users/")];

/// Checks every text file.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let machine = tree.texts.iter().flat_map(|(path, text)| {
        let named =
            numbered(text).filter_map(|(number, line)| Some((number, FOLDERS.into_iter().find(|f| names(line, f))?)));
        named.map(move |(number, folder)| {
            Finding::new(
                path,
                number,
                format!("names `{folder}`, a folder of one machine: use a relative path or a setting"),
            )
        })
    });
    let tabs = tree.ending(".rs").flat_map(|(path, text)| {
        let lines = numbered(text).filter(|(_, line)| line.contains('\t'));
        lines.map(move |(number, _)| Finding::new(path, number, "has a tab: indent with spaces, write \\t in texts"))
    });
    machine.chain(tabs).collect()
}

/// Whether the line names the folder as an absolute path; `target/work/` and addresses are none.
fn names(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line.get(..at).and_then(|head| head.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~})$".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_one_machine_are_found() {
        let [root, home, work, users] = FOLDERS;
        let text = format!("`{root}x`\nsee {home}me\nDATA={work}y\n\"{users}me\"\ntarget{work}x\nhttps://a.b{home}\n");
        let found: Vec<_> = check(&Tree::of(&[("a.md", &text)])).iter().map(|finding| finding.line).collect();
        assert_eq!(found, [1, 2, 3, 4]);
    }

    #[test]
    fn tabs_are_found_in_rust_only() {
        let tree = Tree::of(&[("a.rs", "fn f() {\n\tx();\n}\n"), ("Makefile", "all:\n\ttrue\n")]);
        let found = check(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].path.as_str(), found[0].line), ("a.rs", 2));
    }
}
