//! Relative links in Markdown lead to a file that exists, and to a heading that exists in it.

use std::collections::HashMap;

use super::{Finding, Tree, numbered};

/// Checks every Markdown file; links that leave the repository are nobody's to check here.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.ending(".md").flat_map(|(path, text)| check_page(tree, path, text)).collect()
}

fn check_page(tree: &Tree, path: &str, text: &str) -> Vec<Finding> {
    let prose = without_code(text);
    let mut findings = Vec::new();
    for (number, line) in numbered(&prose) {
        for target in targets(line) {
            if let Some(what) = broken(tree, path, target) {
                findings.push(Finding::new(path, number, what));
            }
        }
    }
    findings
}

/// What is wrong with a link, if anything.
fn broken(tree: &Tree, page: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let Some(path) = (if file.is_empty() { Some(page.to_owned()) } else { resolve(page, file) }) else {
        return Some(format!("the link `{target}` leaves the repository: link inside it, or to a full address"));
    };
    if !tree.exists(&path) {
        return Some(format!("the link `{target}` leads to `{path}`, which does not exist: mend or drop it"));
    }
    let anchor = anchor.filter(|_| path.ends_with(".md"))?;
    let found = tree.text(&path).is_none_or(|text| anchors(text).iter().any(|known| known == anchor));
    (!found).then(|| format!("the link `{target}` names no heading of `{path}`: mend or drop the part after `#`"))
}

/// The path from the root that `link` means on `page`; none where it leaves the root.
fn resolve(page: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in link.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." => drop(parts.pop()?),
            _ => parts.push(part),
        }
    }
    (!link.starts_with('/')).then(|| parts.join("/"))
}

/// The targets of the links on a line: `[text](target "title")` and `[name]: target`.
fn targets(line: &str) -> Vec<&str> {
    let inline = line.split("](").skip(1).filter_map(|after| after.split(')').next());
    let defined = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target);
    let words = inline.chain(defined).filter_map(|target| target.split_whitespace().next());
    words.map(|target| target.trim_matches(['<', '>'])).filter(|target| !target.is_empty()).collect()
}

/// The names by which headings can be linked to, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let prose = fences(text).filter(|(_, code)| !code).map(|(line, _)| line);
    let headings = prose.filter_map(|line| {
        let title = line.trim_start_matches('#');
        (line.starts_with('#') && title.starts_with(' ')).then(|| slug(title))
    });
    headings
        .map(|slug| {
            let count = seen.entry(slug.clone()).and_modify(|count| *count += 1).or_insert(0);
            if *count == 0 { slug } else { format!("{slug}-{count}") }
        })
        .collect()
}

fn slug(title: &str) -> String {
    let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Lines, each with whether it belongs to a block of code.
fn fences(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut open: Option<&str> = None;
    text.lines().map(move |line| {
        let mark = ["```", "~~~"].into_iter().find(|mark| line.trim_start().starts_with(mark));
        match (open, mark) {
            (None, Some(_)) => open = mark,
            (Some(begun), Some(found)) if begun == found => open = None,
            _ => return (line, open.is_some()),
        }
        (line, true)
    })
}

/// The text with blocks of code emptied and code inside lines cut out; lines keep their numbers.
fn without_code(text: &str) -> String {
    let lines = fences(text).map(|(line, code)| match code {
        true => String::new(),
        false => line.split('`').step_by(2).collect::<Vec<_>>().join("`"),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(page: &str) -> Vec<(usize, String)> {
        let other = "# Two words, and `code`\n\n## Again\n\n## Again\n\n```sh\n# not this\n```\n";
        let tree = Tree::of(&[("docs/page.md", page), ("docs/other.md", other), ("README.md", "# Top\n")]);
        check(&tree).into_iter().map(|finding| (finding.line, finding.what)).collect()
    }

    #[test]
    fn good_links_pass() {
        let page = "# Here\n[a](other.md) [b](../README.md#top) [c](#here) [d](https://a.b/c)\n[e]: ../docs/\n\
                    [f](other.md#two-words-and-code) [g](other.md#again-1) [h](<other.md> \"title\")\n";
        assert_eq!(found(page), []);
    }

    #[test]
    fn links_that_lead_nowhere_are_found_with_their_line() {
        let page = "[a](gone.md)\n\n[b](other.md#gone)\n[c](../../x.md)\n[d]: gone/\n[e](other.md#not-this)\n[f](/README.md)\n";
        let lines: Vec<_> = found(page).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [1, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn code_holds_no_links() {
        assert_eq!(found("`[a](gone.md)` and\n```\n[b](gone.md)\n```\n"), []);
    }
}
