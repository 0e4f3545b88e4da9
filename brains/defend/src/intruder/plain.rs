//! The plain text of what needs no undoing, which is nearly all of what is ordinary: passes that work on many bytes at a time.

/// What of a text asks for care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Care(u8);

const ENCODED: u8 = 1;
const BEYOND: u8 = 2;
const PLUS: u8 = 4;
const BLANK: u8 = 8;
const LINE: u8 = 16;
const MARK: u8 = 32;
const SEAM: u8 = 64;
const COMMENT: u8 = 128;

impl Care {
    /// Looks at a text, without branches, so that it becomes loops over vectors. O(n), some tenths of a nanosecond a byte.
    pub(super) fn of(text: &[u8]) -> Self {
        let is = |yes: bool, what: u8| if yes { what } else { 0 };
        let signs = text.iter().fold(0, |care, byte| {
            let byte = *byte;
            let between = (b'\t'..=0x0c).contains(&byte);
            care | is(byte == b'%' || byte == b'&' || byte == b'\\', ENCODED)
                | is(byte >= 0x7f || byte < b' ' && !between, BEYOND)
                | is(byte == b'+', PLUS)
                | is(byte == b' ', BLANK)
                | is(between, LINE)
                | is(byte == b'#' || byte == b'-', MARK)
                | is(byte == b'\'' || byte == b'"' || byte == b'$' || byte == b'^', SEAM)
        });
        let pairs = text.iter().zip(text.get(1..).unwrap_or_default());
        Self(pairs.fold(signs, |care, (one, next)| care | is(*one == b'/' && *next == b'*', COMMENT)))
    }

    /// Whether there is something to decode: signs of an encoding, or a form's blanks.
    pub(super) fn is_encoded(self) -> bool {
        self.0 & ENCODED != 0 || self.0 & PLUS != 0 && self.0 & BLANK == 0
    }

    /// Whether words may be put together of pieces.
    pub(super) fn has_seams(self) -> bool {
        self.0 & SEAM != 0
    }

    /// Whether there is something beyond ASCII, or a control character.
    pub(super) fn is_beyond(self) -> bool {
        self.0 & BEYOND != 0
    }

    /// Whether there may be comments: one up to the end of a line needs one.
    pub(super) fn has_comments(self) -> bool {
        self.0 & COMMENT != 0 || self.0 & LINE != 0 && self.0 & MARK != 0
    }
}

/// Fills `out` with a text of no comments in lower case, runs of blanks as one. O(n).
pub(super) fn fill(text: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend(text.iter().map(|byte| byte.to_ascii_lowercase().max(b' ')));
    let pairs = out.iter().zip(out.get(1..).unwrap_or_default());
    if pairs.fold(false, |found, (one, next)| found | (*one == b' ' && *next == b' ')) {
        out.dedup_by(|next, before| *next == b' ' && *before == b' ');
    }
}

/// Leaves the blanks beside signs out: an interpreter does not need them. `room` is what it works in. O(n).
pub(super) fn squeezed(text: &[u8], room: &mut Vec<u8>, out: &mut Vec<u8>) {
    // Whether each byte is of a word, with one before the first and one after the last.
    room.clear();
    room.resize(text.len() + 2, 0);
    if let Some(words) = room.get_mut(1..=text.len()) {
        words.iter_mut().zip(text).for_each(|(word, byte)| *word = u8::from(is_word(*byte)));
    }
    out.clear();
    out.resize(text.len(), 0);
    let beside = room.iter().zip(room.get(2..).unwrap_or_default());
    let mut length = 0;
    for (byte, (before, after)) in text.iter().zip(beside) {
        if let Some(place) = out.get_mut(length) {
            *place = *byte;
        }
        length += usize::from(*byte != b' ' || before & after != 0);
    }
    out.truncate(length);
}

/// Whether a byte is of a word. Without branches.
pub(super) fn is_word(byte: u8) -> bool {
    (byte | 0x20).wrapping_sub(b'a') < 26 || byte.wrapping_sub(b'0') < 10 || byte == b'_'
}
