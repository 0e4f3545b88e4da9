//! A request taken apart: each piece is what one interpreter would get.

/// Where in a request a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The path.
    Path = 0,
    /// A parameter's name.
    Name = 1,
    /// A parameter's value.
    Value = 2,
    /// A header's value.
    Header = 3,
    /// A body of no known form.
    Body = 4,
}

/// One piece of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where it stands.
    pub part: Part,
    /// The parameter's or header's name.
    pub name: String,
    /// What stands there, still encoded as it came.
    pub text: Vec<u8>,
}

/// A request as it came: nothing decoded. Headers by name and value; the address with or without a host.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// Headers.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body; empty when there is none.
    pub body: &'a [u8],
}

/// Headers whose values no interpreter gets, or that are checked elsewhere.
const PLAIN: [&str; 6] = ["host", "content-length", "connection", "keep-alive", "date", "authorization"];

impl Request<'_> {
    /// Its pieces: the path; each parameter's name and value; headers; cookies as parameters; the body by its form, whatever
    /// its type says: a form's parameters, JSON's strings and keys, else as it is. O(n).
    pub fn pieces(&self) -> Vec<Piece> {
        let mut out = Vec::new();
        let target = self.target.split_once("://").map_or(self.target, |(scheme, rest)| match rest.find('/') {
            Some(path) if scheme.len() < 6 => rest.get(path..).unwrap_or(rest),
            _ => self.target,
        });
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        out.push(Piece { part: Part::Path, name: String::new(), text: path.into() });
        parameters(query.as_bytes(), b'&', &mut out);
        for (name, value) in self.headers.iter().filter(|(_, value)| !value.is_empty()) {
            if name.eq_ignore_ascii_case("cookie") {
                parameters(value.as_bytes(), b';', &mut out);
            } else if !PLAIN.iter().any(|plain| plain.eq_ignore_ascii_case(name)) {
                out.push(Piece { part: Part::Header, name: (*name).to_owned(), text: value.as_bytes().into() });
            }
        }
        body(self.body, &mut out);
        out
    }
}

/// Names and values of `a=b&c=d`.
fn parameters(text: &[u8], between: u8, out: &mut Vec<Piece>) {
    for pair in text.split(|byte| *byte == between).map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()) {
        let cut = pair.iter().position(|byte| *byte == b'=');
        let (name, value) = pair.split_at(cut.unwrap_or(0));
        let value = if cut.is_some() { value.get(1..).unwrap_or_default() } else { value };
        let called = String::from_utf8_lossy(name).into_owned();
        if !name.is_empty() {
            out.push(Piece { part: Part::Name, name: called.clone(), text: name.into() });
        }
        if !value.is_empty() {
            out.push(Piece { part: Part::Value, name: called, text: value.into() });
        }
    }
}

/// Bytes of a name at the most; what has a longer one is no form.
const NAME: usize = 64;

fn body(text: &[u8], out: &mut Vec<Piece>) {
    let text = text.trim_ascii();
    match text.first() {
        None => {}
        Some(b'{' | b'[') if json(text, out) => {}
        Some(first) if *first != b'<' && is_form(text) => parameters(text, b'&', out),
        Some(_) => out.push(Piece { part: Part::Body, name: String::new(), text: text.into() }),
    }
}

/// Whether a form would look so: a name, and no blank before the `=` after it.
fn is_form(text: &[u8]) -> bool {
    let name = text.iter().take(NAME).position(|byte| *byte == b'=');
    name.and_then(|end| text.get(..end)).is_some_and(|name| !name.iter().any(|byte| b" \t\n<>(){}'\"".contains(byte)))
}

/// Strings of JSON, and its keys; whether it looks like any.
fn json(text: &[u8], out: &mut Vec<Piece>) -> bool {
    let before = out.len();
    let (mut at, mut name) = (0, String::new());
    while let Some(byte) = text.get(at) {
        at += 1;
        if *byte != b'"' {
            continue;
        }
        let rest = text.get(at..).unwrap_or_default();
        let Some(end) = string_end(rest) else {
            out.truncate(before);
            return false;
        };
        let string = rest.get(..end).unwrap_or_default();
        at += end + 1;
        let after = text.get(at..).unwrap_or_default().trim_ascii_start();
        if after.first() == Some(&b':') {
            name = String::from_utf8_lossy(string).into_owned();
            // A key that is an operator is one only in its quotes.
            let text = if string.first() == Some(&b'$') { format!("\"{name}\"").into_bytes() } else { string.into() };
            out.push(Piece { part: Part::Name, name: name.clone(), text });
        } else if !string.is_empty() {
            out.push(Piece { part: Part::Value, name: name.clone(), text: unescaped(string) });
        }
    }
    // An object without a string is numbers, or none.
    out.len() > before || !text.iter().any(u8::is_ascii_alphabetic)
}

/// Where a string ends.
fn string_end(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    text.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    })
}

/// A string as JSON reads it, but for `\u`, which the text's own decoding undoes.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, byte == b'\\') {
            (_, false) => out.push(byte),
            _ => match bytes.next() {
                Some(b'n') => out.push(b'\n'),
                Some(b't' | b'r' | b'b' | b'f') => out.push(b' '),
                Some(b'u') => out.extend_from_slice(b"\\u"),
                Some(other) => out.push(other),
                None => {}
            },
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(request: Request<'_>) -> Vec<(Part, String, String)> {
        let text = |piece: Piece| (piece.part, piece.name, String::from_utf8_lossy(&piece.text).into_owned());
        request.pieces().into_iter().map(text).collect()
    }

    #[test]
    fn each_part_stands_alone() {
        let headers = [("Host", "a"), ("Cookie", "s=1; t=<b>"), ("User-Agent", "curl/8")];
        let target = "http://shop.example:8080/a/b.jsp?x=1%27&y&=z";
        let found = texts(Request { method: "GET", target, headers: &headers, body: b"" });
        let wanted = [
            (Part::Path, "", "/a/b.jsp"),
            (Part::Name, "x", "x"),
            (Part::Value, "x", "1%27"),
            (Part::Value, "", "y"),
            (Part::Value, "", "z"),
            (Part::Name, "s", "s"),
            (Part::Value, "s", "1"),
            (Part::Name, "t", "t"),
            (Part::Value, "t", "<b>"),
            (Part::Header, "User-Agent", "curl/8"),
        ];
        assert_eq!(found, wanted.map(|(part, name, text)| (part, name.to_owned(), text.to_owned())));
    }

    #[test]
    fn a_body_is_read_by_what_it_looks_like() {
        let of = |body: &'static str| {
            let found = texts(Request { body: body.as_bytes(), ..Request::default() });
            found.into_iter().skip(1).map(|(part, name, text)| format!("{part:?} {name} {text}")).collect::<Vec<_>>()
        };
        assert_eq!(of("a=1&b=2"), ["Name a a", "Value a 1", "Name b b", "Value b 2"]);
        assert_eq!(
            of(r#"{"a": {"$ne": null}, "b": ["x\"y", 3]}"#),
            ["Name a a", "Name $ne \"$ne\"", "Name b b", "Value b x\"y"]
        );
        assert_eq!(of("<a b='c'/>"), ["Body  <a b='c'/>"]);
        assert_eq!(of("{\"cut"), ["Body  {\"cut"]);
        assert!(of("[1, 2.5]").is_empty());
        assert_eq!(of("say what = what"), ["Body  say what = what"]);
    }
}
