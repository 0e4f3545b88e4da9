//! Product code has no way to panic that nobody gave a reason for.
//!
//! Clippy says the same where it sees; this also sees code under features and targets that are not built.

use super::{Finding, Tree, code, numbered};

/// A way to panic, and the lint whose `#[expect]` in the same file allows it.
const WAYS: [(&str, &str); 6] = [
    (".unwrap()", "unwrap_used"),
    (".expect(", "expect_used"),
    ("panic!", "panic"),
    ("unreachable!", "unreachable"),
    ("todo!", "todo"),
    ("unimplemented!", "unimplemented"),
];

/// Checks the product's `.rs` files.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.ending(".rs").filter(|(path, _)| is_product(path)).flat_map(|(path, text)| check_file(path, text)).collect()
}

fn is_product(path: &str) -> bool {
    let folders_for_tests =
        path.split('/').any(|part| matches!(part, "tests" | "benches" | "testkit" | "evaluation" | "fuzz"));
    !folders_for_tests && !path.ends_with("/tests.rs")
}

fn check_file(path: &str, text: &str) -> Vec<Finding> {
    let source = code::without_tests(&code::without_texts(text));
    let forbidden = WAYS.into_iter().filter(|(_, lint)| !expected(&source, lint));
    let found = forbidden.flat_map(|(way, lint)| {
        let lines = numbered(&source).filter(move |(_, line)| has(line, way));
        lines.map(move |(number, _)| Finding::new(path, number, mend(way, lint)))
    });
    found.collect()
}

/// Whether an `#[expect]` or `#![expect]` names the lint.
fn expected(source: &str, lint: &str) -> bool {
    source.split("[expect(").skip(1).any(|after| {
        let attribute = after.split(")]").next().unwrap_or(after);
        let mut words = attribute.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
        words.any(|word| word.strip_prefix("clippy::") == Some(lint))
    })
}

/// Whether the line has this way to panic, and not merely a longer name that ends so.
fn has(line: &str, way: &str) -> bool {
    line.match_indices(way).any(|(at, _)| {
        let before = line.get(..at).and_then(|head| head.chars().next_back());
        way.starts_with('.') || !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

fn mend(way: &str, lint: &str) -> String {
    format!("`{way}` in product code: return an error, or write `#[expect(clippy::{lint}, reason = \"why it holds\")]`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let mut lines: Vec<_> = check(&Tree::of(&[(path, text)])).iter().map(|finding| finding.line).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn every_way_to_panic_is_found() {
        let text = "fn f() {\n x.unwrap();\n x.expect(\"y\");\n panic!();\n unreachable!();\n todo!();\n std::unimplemented!();\n}";
        assert_eq!(lines("base/a/src/lib.rs", text), [2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_stated_reason_allows_one_way_only() {
        let text = "#[expect(clippy::unwrap_used, reason = \"a (b)\")]\nfn f() { x.unwrap(); }\nfn g() { panic!(); }";
        assert_eq!(lines("base/a/src/lib.rs", text), [3]);
    }

    #[test]
    fn tests_comments_and_longer_names_are_left_alone() {
        let text = "// x.unwrap()\nfn f() { dont_panic!(\"todo!\"); x.expecting(1); x.unwrap_or(2) }\n#[cfg(test)]\nmod tests { fn x() { y.unwrap() } }";
        assert!(lines("base/a/src/lib.rs", text).is_empty());
        for path in ["base/a/tests/all.rs", "base/a/src/x/tests.rs", "testkit/src/lib.rs"] {
            assert!(lines(path, "fn f() { x.unwrap() }").is_empty(), "{path}");
        }
    }

    #[test]
    fn code_after_the_tests_is_still_product_code() {
        assert_eq!(lines("a/src/lib.rs", "#[cfg(test)]\nuse x::y;\nfn f() { z.unwrap() }"), [3]);
    }
}
