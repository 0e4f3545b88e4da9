//! Rust source without what is no product code: comments, texts, and items for tests only.
//!
//! Everything taken out becomes spaces, so that lines keep their numbers. Reads as much of the language as that
//! needs, and no more.

/// The source with comments, string and character literals blanked.
pub(super) fn without_texts(source: &str) -> String {
    let mut scanner = Scanner { rest: source, out: String::with_capacity(source.len()) };
    while !scanner.rest.is_empty() {
        scanner.next();
    }
    scanner.out
}

/// The source, blanked by [`without_texts`], with every item under `#[cfg(test)]` blanked too.
pub(super) fn without_tests(blanked: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(blanked.len());
    let mut rest = blanked;
    while let Some(at) = rest.find(MARK) {
        let (before, item) = rest.split_at(at);
        out.push_str(before);
        let (item, after) = item.split_at(item_length(item));
        out.extend(item.chars().map(blank));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// How far the item goes that starts here: to its `;`, or to the end of its braces.
fn item_length(item: &str) -> usize {
    let mut open: usize = 0;
    for (at, c) in item.char_indices() {
        match c {
            '(' | '[' | '{' => open += 1,
            ')' | ']' => open = open.saturating_sub(1),
            '}' => {
                open = open.saturating_sub(1);
                if open == 0 {
                    return at + 1;
                }
            }
            ';' if open == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

fn blank(c: char) -> char {
    if c == '\n' { c } else { ' ' }
}

struct Scanner<'a> {
    rest: &'a str,
    out: String,
}

impl Scanner<'_> {
    /// Takes one token: a comment, a literal, a word, or a single character.
    fn next(&mut self) {
        let rest = self.rest;
        if rest.starts_with("//") {
            self.blank(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.blank(block_comment(rest));
        } else if let Some(length) = raw_text(rest) {
            self.blank(length);
        } else if rest.starts_with('"') {
            self.blank(quoted(rest, '"'));
        } else if let Some(length) = character(rest) {
            self.blank(length);
        } else {
            // A word is taken whole, so that its end never looks like the `r` of a raw text.
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            self.keep(word.max(rest.chars().next().map_or(1, char::len_utf8)));
        }
    }

    fn keep(&mut self, length: usize) {
        let (taken, rest) = self.rest.split_at(length);
        self.out.push_str(taken);
        self.rest = rest;
    }

    fn blank(&mut self, length: usize) {
        let (taken, rest) = self.rest.split_at(length);
        self.out.extend(taken.chars().map(blank));
        self.rest = rest;
    }
}

/// Block comments nest.
fn block_comment(text: &str) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(next) = text.get(at..).and_then(|rest| rest.find(['/', '*'])).map(|found| at + found) {
        match text.get(next..next + 2) {
            Some("/*") => (at, depth) = (next + 2, depth + 1),
            Some("*/") => (at, depth) = (next + 2, depth.saturating_sub(1)),
            _ => at = next + 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of `r"…"`, `br#"…"#` and their like; none when no raw text starts here.
fn raw_text(text: &str) -> Option<usize> {
    let after = ["r", "br", "cr"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix).filter(|rest| rest.starts_with(['"', '#'])))?;
    let body = after.trim_start_matches('#');
    let hashes = after.len() - body.len();
    let inside = body.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let begin = text.len() - inside.len();
    Some(inside.find(&end).map_or(text.len(), |at| begin + at + end.len()))
}

/// The length of a literal with escapes, both quotes included.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal; none where the quote starts a lifetime.
fn character(text: &str) -> Option<usize> {
    let mut inside = text.strip_prefix('\'')?.chars();
    match (inside.next()?, inside.next()) {
        ('\\', _) => Some(quoted(text, '\'')),
        (c, Some('\'')) => Some(c.len_utf8() + 2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left, with runs of spaces folded.
    fn left(source: &str) -> String {
        without_texts(source).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_texts_vanish() {
        assert_eq!(left("a // x.unwrap()\nb"), "a b");
        assert_eq!(left("a /* b /* c */ panic!() */ d"), "a d");
        assert_eq!(left(r#"f("a \" panic!", c)"#), "f( , c)");
        assert_eq!(left("f(r#\"say \"panic!\"\"#, br\"x\")"), "f( , )");
        assert_eq!(left("/// docs\nfn x() {}"), "fn x() {}");
    }

    #[test]
    fn lifetimes_and_raw_names_stay() {
        assert_eq!(left("fn f<'a>(x: &'a str) -> char { '\"' }"), "fn f<'a>(x: &'a str) -> char { }");
        assert_eq!(left(r"['\'', '\\', 'ä'] r#type"), "[ , , ] r#type");
        assert_eq!(left("for \"a\" bar\"b\""), "for bar");
    }

    #[test]
    fn lines_keep_their_numbers() {
        let source = "a\n/* one\ntwo */\n\"x\ny\"\nz";
        assert_eq!(without_texts(source).lines().count(), source.lines().count());
    }

    #[test]
    fn items_for_tests_vanish_and_what_follows_stays() {
        let source = "fn a() {}\n#[cfg(test)]\nmod tests { fn x() { panic!() } }\n#[cfg(test)]\nmod more;\nfn b() {}";
        let kept = without_tests(source);
        assert_eq!(kept.split_whitespace().collect::<Vec<_>>().join(" "), "fn a() {} fn b() {}");
        assert_eq!(kept.lines().count(), source.lines().count());
    }

    #[test]
    fn arrays_in_a_signature_do_not_end_an_item() {
        let source = "#[cfg(test)]\nfn f(x: [u8; 4]) { y() }\nfn b() {}";
        assert_eq!(without_tests(source).trim(), "fn b() {}");
    }
}
