//! No source file is longer than 600 lines, but for a short list with reasons.

use super::{Finding, Tree};

const LIMIT: usize = 600;
const SOURCES: [&str; 8] = [".rs", ".py", ".proto", ".sql", ".ts", ".svelte", ".css", ".cedar"];
/// Files that may be longer, each with the reason why splitting it would help nobody.
const LONGER: [(&str, &str); 1] = [(
    "testkit/python/triton_examples.py",
    "a flat list: one function for each of Triton's published examples, read side by side with them",
)];

/// Checks every source file.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    check_against(tree, &LONGER)
}

fn check_against(tree: &Tree, longer: &[(&str, &str)]) -> Vec<Finding> {
    let may_be_longer = |path: &str| longer.iter().any(|(allowed, _)| *allowed == path);
    let sources = SOURCES.iter().flat_map(|end| tree.ending(end));
    let long = sources.filter(|(path, text)| text.lines().count() > LIMIT && !may_be_longer(path));
    let found = long.map(|(path, text)| {
        let what = format!("{} lines, over {LIMIT}: split it at its second responsibility", text.lines().count());
        Finding::new(path, LIMIT + 1, what)
    });
    found.chain(stale(tree, longer)).collect()
}

/// Entries of the list that are not needed any more.
fn stale<'a>(tree: &'a Tree, longer: &'a [(&str, &str)]) -> impl Iterator<Item = Finding> + 'a {
    let needed = |path: &str| tree.text(path).is_some_and(|text| text.lines().count() > LIMIT);
    let what = |path: &str| format!("`{path}` is not over {LIMIT} lines: take it off the list");
    longer
        .iter()
        .filter(move |(path, _)| !needed(path))
        .map(move |(path, _)| Finding::new("xtask/src/tidy/sizes.rs", 1, what(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_needs_a_place_on_the_list() {
        let (just, over) = ("x\n".repeat(LIMIT), "x\n".repeat(LIMIT + 1));
        let tree = Tree::of(&[("a.rs", &just), ("b.rs", &over), ("c.py", &over), ("long.md", &over)]);
        let paths = |longer: &[(&str, &str)]| -> Vec<String> {
            check_against(&tree, longer).into_iter().map(|finding| finding.path).collect()
        };
        assert_eq!(paths(&[]), ["b.rs", "c.py"]);
        assert_eq!(paths(&[("b.rs", "generated"), ("c.py", "a table")]), [""; 0]);
    }

    #[test]
    fn a_place_on_the_list_that_is_not_needed_is_found() {
        let found = check_against(&Tree::of(&[("a.rs", "x\n")]), &[("a.rs", "once long")]);
        assert_eq!(found.len(), 1);
    }
}
