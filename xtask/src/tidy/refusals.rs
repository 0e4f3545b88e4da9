//! Every refusal code has a page in `docs/errors/`, with a cause, an example and the next command; no page is
//! without its code; and the table of all codes tells the statuses that the code carries.

use super::{Finding, Tree, numbered};

const CODES: &str = "base/types/src/refusal.rs";
const PAGES: &str = "docs/errors/";
const INDEX: &str = "docs/errors/README.md";
const SECTIONS: [&str; 3] = ["## Cause", "## Example", "## Next"];

/// The HTTP statuses that codes use, by the names they have in Rust.
const STATUSES: [(&str, u16); 17] = [
    ("BAD_REQUEST", 400),
    ("UNAUTHORIZED", 401),
    ("FORBIDDEN", 403),
    ("NOT_FOUND", 404),
    ("METHOD_NOT_ALLOWED", 405),
    ("REQUEST_TIMEOUT", 408),
    ("CONFLICT", 409),
    ("GONE", 410),
    ("PAYLOAD_TOO_LARGE", 413),
    ("UNSUPPORTED_MEDIA_TYPE", 415),
    ("UNPROCESSABLE_ENTITY", 422),
    ("TOO_MANY_REQUESTS", 429),
    ("INTERNAL_SERVER_ERROR", 500),
    ("NOT_IMPLEMENTED", 501),
    ("BAD_GATEWAY", 502),
    ("SERVICE_UNAVAILABLE", 503),
    ("GATEWAY_TIMEOUT", 504),
];

/// One code as `refusal.rs` declares it.
#[derive(Debug, PartialEq, Eq)]
struct Code<'a> {
    line: usize,
    name: &'a str,
    http: &'a str,
    grpc: &'a str,
}

/// Checks codes, pages and table against each other.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let codes = codes(tree.text(CODES).unwrap_or_default());
    if codes.is_empty() {
        return vec![Finding::new(CODES, 1, "declares no codes that xtask/src/tidy/refusals.rs can read: mend either")];
    }
    let mut findings: Vec<_> = codes.iter().flat_map(|code| check_code(tree, code)).collect();
    let orphans = tree.ending(".md").filter_map(|(path, _)| path.strip_prefix(PAGES)?.strip_suffix(".md"));
    for page in orphans.filter(|page| *page != "README" && !codes.iter().any(|code| code.name == *page)) {
        findings.push(Finding::new(
            &format!("{PAGES}{page}.md"),
            1,
            format!("explains no code of {CODES}: delete the page"),
        ));
    }
    findings
}

fn check_code(tree: &Tree, code: &Code<'_>) -> Vec<Finding> {
    let path = format!("{PAGES}{}.md", code.name);
    let mut findings = match tree.text(&path) {
        Some(text) => check_page(&path, text, code.name),
        None => vec![Finding::new(CODES, code.line, format!("`{}` has no page: write {path}", code.name))],
    };
    let row = row(code);
    if !tree.text(INDEX).is_some_and(|text| text.lines().any(|line| line.starts_with(&row))) {
        findings.push(Finding::new(INDEX, 1, format!("has no row that starts with `{row}`: add or mend it")));
    }
    findings
}

/// How the code's row begins in the table of all codes.
fn row(code: &Code<'_>) -> String {
    let status = STATUSES.iter().find(|(name, _)| *name == code.http).map_or(0, |(_, status)| *status);
    format!("| [`{0}`]({0}.md) | {status} | {1} |", code.name, code.grpc)
}

fn check_page(path: &str, text: &str, name: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if text.lines().next() != Some(&format!("# {name}")) {
        findings.push(Finding::new(path, 1, format!("does not begin with the line `# {name}`: give it that title")));
    }
    let headings: Vec<_> = numbered(text).filter(|(_, line)| line.starts_with("## ")).collect();
    if !headings.iter().map(|(_, line)| *line).eq(SECTIONS) {
        let what = format!("has not just the sections {}: bring them into that order", SECTIONS.join(", "));
        findings.push(Finding::new(path, headings.first().map_or(1, |(line, _)| *line), what));
    }
    for (line, heading) in headings {
        let body = text.lines().skip(line).take_while(|next| !next.starts_with("## "));
        if body.map(str::trim).all(str::is_empty) {
            findings.push(Finding::new(path, line, format!("says nothing under `{heading}`: fill it in")));
        }
    }
    findings
}

/// The rows of `codes! { Name = "code", HTTP, Grpc, …; }`.
fn codes(source: &str) -> Vec<Code<'_>> {
    let after = numbered(source).skip_while(|(_, line)| !line.starts_with("codes! {")).skip(1);
    after.take_while(|(_, line)| !line.starts_with('}')).filter_map(|(line, text)| code(line, text)).collect()
}

fn code(line: usize, text: &str) -> Option<Code<'_>> {
    let (_, quoted) = text.split_once(" = \"")?;
    let (name, rest) = quoted.split_once("\", ")?;
    let mut words = rest.split(", ");
    Some(Code { line, name, http: words.next()?, grpc: words.next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "macro_rules! codes { }\ncodes! {\n    ModelNotFound = \"model_not_found\", NOT_FOUND, NotFound, Client, false, \"no such model\";\n}\n";
    const PAGE: &str = "# model_not_found\n\nx\n\n## Cause\n\na\n\n## Example\n\nb\n\n## Next\n\nc\n";
    const TABLE: &str = "| code | HTTP | gRPC |\n| [`model_not_found`](model_not_found.md) | 404 | NotFound | x |\n";

    fn found(page: &str, table: &str, more: &[(&str, &str)]) -> Vec<String> {
        let mut files = vec![(CODES, SOURCE), ("docs/errors/model_not_found.md", page), (INDEX, table)];
        files.extend(more);
        check(&Tree::of(&files)).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_page_and_a_row_are_enough() {
        assert_eq!(found(PAGE, TABLE, &[]), [""; 0]);
    }

    #[test]
    fn the_codes_are_read_with_line_and_statuses() {
        let expected = Code { line: 3, name: "model_not_found", http: "NOT_FOUND", grpc: "NotFound" };
        assert_eq!(codes(SOURCE), [expected]);
        assert_eq!(check(&Tree::default()).len(), 1);
    }

    #[test]
    fn a_page_without_a_section_or_with_an_empty_one_is_found() {
        assert!(found(&PAGE.replace("## Next", "## Then"), TABLE, &[])[0].contains(":5: has not just the sections"));
        assert!(found(&PAGE.replace("\na\n", "\n"), TABLE, &[])[0].contains(":5: says nothing under `## Cause`"));
        assert!(found(&PAGE.replace("# model", "# a model"), TABLE, &[])[0].contains(":1: does not begin"));
    }

    #[test]
    fn a_code_without_a_page_and_a_page_without_a_code_are_found() {
        let tree = Tree::of(&[(CODES, SOURCE), (INDEX, TABLE), ("docs/errors/gone.md", PAGE)]);
        let found: Vec<_> = check(&tree).iter().map(Finding::to_string).collect();
        assert!(found[0].starts_with("base/types/src/refusal.rs:3: `model_not_found` has no page"));
        assert!(found[1].starts_with("docs/errors/gone.md:1: explains no code"));
    }

    #[test]
    fn a_row_with_another_status_is_found() {
        assert!(found(PAGE, &TABLE.replace("404", "400"), &[])[0].starts_with("docs/errors/README.md:1: has no row"));
    }

    #[test]
    fn the_codes_as_they_are_can_be_read() {
        let codes = codes(include_str!("../../../base/types/src/refusal.rs"));
        assert!(codes.len() > 40);
        for code in codes {
            assert!(STATUSES.iter().any(|(name, _)| *name == code.http), "{code:?}");
        }
    }
}
