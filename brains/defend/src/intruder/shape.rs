//! The shape of a text: its words by what they are to an interpreter, its signs as they are.

use std::sync::LazyLock;

/// Words that say what language this is. One byte of a shape for each kind.
const KINDS: [(u8, &[&str]); 7] = [
    (
        b'S',
        &[
            "select",
            "union",
            "insert",
            "update",
            "delete",
            "drop",
            "create",
            "alter",
            "where",
            "from",
            "having",
            "exec",
            "execute",
            "declare",
            "table",
            "values",
            "into",
            "order",
            "group",
            "limit",
            "null",
            "case",
            "when",
            "then",
            "waitfor",
            "delay",
            "begin",
            "truncate",
            "database",
            "schema",
            "dual",
            "join",
            "procedure",
        ],
    ),
    (b'L', &["and", "or", "not", "like", "rlike", "regexp", "between", "xor", "in", "is", "exists", "div", "mod"]),
    (
        b'F',
        &[
            "sleep",
            "benchmark",
            "char",
            "chr",
            "concat",
            "ascii",
            "substring",
            "substr",
            "mid",
            "cast",
            "convert",
            "version",
            "user",
            "count",
            "if",
            "ifnull",
            "elt",
            "extractvalue",
            "updatexml",
            "md5",
            "load_file",
            "hex",
            "unhex",
            "rand",
            "floor",
            "make_set",
            "json_keys",
            "row",
            "pg_sleep",
            "current_user",
            "information_schema",
        ],
    ),
    (
        b'J',
        &[
            "alert",
            "eval",
            "document",
            "cookie",
            "window",
            "javascript",
            "vbscript",
            "confirm",
            "prompt",
            "script",
            "location",
            "fromcharcode",
            "settimeout",
            "function",
            "expression",
            "constructor",
            "prototype",
            "innerhtml",
            "this",
            "console",
        ],
    ),
    (
        b'T',
        &[
            "img", "svg", "iframe", "body", "input", "style", "object", "embed", "video", "audio", "link", "meta",
            "base", "src", "href", "div", "form", "button", "textarea", "marquee", "details", "math", "xml", "entity",
            "doctype", "system",
        ],
    ),
    (
        b'C',
        &[
            "cat",
            "ls",
            "id",
            "whoami",
            "wget",
            "curl",
            "nc",
            "ncat",
            "netcat",
            "bash",
            "sh",
            "zsh",
            "ping",
            "uname",
            "cmd",
            "powershell",
            "exe",
            "echo",
            "rm",
            "sudo",
            "chmod",
            "python",
            "perl",
            "php",
            "ruby",
            "nslookup",
            "ifconfig",
            "dir",
            "type",
            "net",
            "netstat",
            "system",
            "passthru",
            "popen",
            "shell_exec",
            "phpinfo",
            "runtime",
            "getruntime",
            "ps",
        ],
    ),
    (
        b'P',
        &[
            "etc", "passwd", "shadow", "boot", "ini", "windows", "winnt", "system32", "proc", "environ", "self",
            "htaccess", "htpasswd", "hosts", "win", "bin", "tmp", "var", "log", "conf", "config", "git", "env", "ssh",
            "bak", "old", "web-inf",
        ],
    ),
];

/// A word and its kind.
type Slot = Option<(&'static [u8], u8)>;

/// Words by a hash of theirs, and the kind of each: most words of a text are none of them, and that must be told soon.
static WORDS: LazyLock<Vec<Slot>> = LazyLock::new(|| {
    let mut table = vec![None; SLOTS];
    let words = KINDS.iter().flat_map(|(kind, words)| words.iter().map(|word| (word.as_bytes(), *kind)));
    for entry in words.chain(EVENTS.iter().map(|word| (*word, b'E'))) {
        // What a table of more than twice as many places has no room for, there is none of.
        let free = (0..SLOTS).map(|step| (slot(entry.0) + step) % SLOTS).find(|place| {
            table.get(*place).is_some_and(|held: &Option<(&[u8], u8)>| held.is_none_or(|(word, _)| word == entry.0))
        });
        if let Some(place) = free.and_then(|place| table.get_mut(place)) {
            place.get_or_insert(entry);
        }
    }
    table
});

/// Places of [`WORDS`].
const SLOTS: usize = 1_024;

fn slot(word: &[u8]) -> usize {
    let hash = word.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    (hash ^ hash >> 15) as usize % SLOTS
}

/// Lengths of the words that begin with two bytes, a bit for each length: what most words of a text fail.
static LENGTHS: LazyLock<[u32; SLOTS]> = LazyLock::new(|| {
    let mut lengths = [0; SLOTS];
    for (word, _) in WORDS.iter().flatten() {
        if let [first, second, ..] = word
            && let Some(bits) = lengths.get_mut(begin(*first, *second))
        {
            *bits |= 1 << word.len();
        }
    }
    lengths
});

fn begin(first: u8, second: u8) -> usize {
    (usize::from(first & 31) << 5 | usize::from(second & 31)) % SLOTS
}

/// What a word is; `W` when it is none that says.
fn kind(words: &[Slot], lengths: &[u32; SLOTS], word: &[u8]) -> u8 {
    let [first, second, ..] = word else { return b'W' };
    let is_there = lengths.get(begin(*first, *second)).is_some_and(|bits| bits >> word.len().min(31) & 1 == 1);
    if !is_there {
        return b'W';
    }
    let mut place = slot(word);
    while let Some(Some((known, kind))) = words.get(place) {
        if *known == word {
            return *kind;
        }
        place = (place + 1) % SLOTS;
    }
    b'W'
}

/// Handlers of events, as HTML has them.
const EVENTS: [&[u8]; 28] = [
    b"onload",
    b"onerror",
    b"onclick",
    b"onfocus",
    b"onblur",
    b"onmouseover",
    b"onmouseout",
    b"onmousemove",
    b"onmouseenter",
    b"onkeyup",
    b"onkeydown",
    b"onkeypress",
    b"onchange",
    b"onsubmit",
    b"ontoggle",
    b"onbegin",
    b"onstart",
    b"onend",
    b"onscroll",
    b"onresize",
    b"onunload",
    b"onpageshow",
    b"onhashchange",
    b"onanimationstart",
    b"onpointerover",
    b"onwheel",
    b"ondrag",
    b"onfocusin",
];

/// Two shapes of a plain text: words by their kind, and all words alike.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// Words by kind, `N` for numbers, `H` for hexadecimal ones, signs as they are.
    pub(super) kinds: Vec<u8>,
    /// The same, with every word a `W`.
    pub(super) bare: Vec<u8>,
}

impl Shape {
    /// Fills the shapes from a plain text. O(n).
    pub(super) fn fill(&mut self, text: &[u8]) {
        self.kinds.clear();
        self.bare.clear();
        let (words, lengths) = (WORDS.as_slice(), &*LENGTHS);
        let mut at = 0;
        while let Some(byte) = text.get(at) {
            let rest = text.get(at..).unwrap_or_default();
            let length = rest.iter().take_while(|byte| is_word(**byte)).count();
            if length == 0 {
                at += 1;
                if *byte != b' ' {
                    self.kinds.push(*byte);
                    self.bare.push(*byte);
                }
                continue;
            }
            at += length;
            let word = rest.get(..length).unwrap_or_default();
            let kind = if word.iter().all(u8::is_ascii_digit) {
                b'N'
            } else if word.len() > 3 && word.starts_with(b"0x") {
                b'H'
            } else {
                kind(words, lengths, word)
            };
            self.kinds.push(kind);
            self.bare.push(if matches!(kind, b'N' | b'H') { b'N' } else { b'W' });
        }
    }
}

fn is_word(byte: u8) -> bool {
    super::plain::is_word(byte) || byte == super::normal::LETTER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_they_are_to_an_interpreter() {
        let mut shape = Shape::default();
        let mut of = |text: &str| {
            shape.fill(text.as_bytes());
            (String::from_utf8_lossy(&shape.kinds).into_owned(), String::from_utf8_lossy(&shape.bare).into_owned())
        };
        assert_eq!(of("1' or 'a'='a"), ("N'L'W'='W".into(), "N'W'W'='W".into()));
        assert_eq!(of("<img onerror=alert(1)>").0, "<TE=J(N)>");
        assert_eq!(of("; cat /etc/passwd").0, ";C/P/P");
        assert_eq!(of("select 0x41").0, "SH");
    }
}
