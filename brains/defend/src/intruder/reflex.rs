//! What is so clearly an attack that the request in hand may be refused, in a time that is known beforehand.
//!
//! All of a text is only weighed: signs that interpreters act on, block by block. The heaviest places are made plain and held
//! against the rules, and only where those hit, the learner is asked as well. Rules must hit twice, or the learner say so by far.
//!
//! Blind spots, beside those of the [`Intruder`](super::Intruder): what is encoded as base64, attacks of letters alone, an attack
//! behind four places with more signs, and what a sample of a long text leaves out. What is not refused is still looked at in
//! full, beside the answer.

use super::{
    FAMILIES, Intruder, Normal, Part,
    features::{Features, windows},
    rules::{HIT, Room},
};

/// Bytes of a request's texts that are weighed; of more, pieces are, by chance.
const BYTES: usize = 4_096;
/// Bytes of such a piece.
const PIECE: usize = 512;
/// Bytes that are weighed together.
const BLOCK: usize = 32;
/// Places that are looked at.
const PLACES: usize = 4;
/// Bytes of a place, before its heaviest block and from there on.
const BEFORE: usize = 64;
const AFTER: usize = 128;
/// Less weight is an apostrophe, or a comparison.
const LEAST: u16 = 3;
/// Texts that are shorter are no attack.
const SHORT: usize = 4;
/// Points of one family that are clear whatever the learner says: as many as two hits.
const FLOOR: u32 = 2 * HIT;
/// Log-odds above the threshold of a request from which on a hit is clear.
const CLEARLY: f64 = 2.0;

/// Texts of a model from which on it is known what is usual there: 1/α.
const KNOWN: f64 = 1_000.0;
/// The share α of texts that may be clear attacks where none is usual.
const USUAL: f64 = 1.0 / KNOWN;
/// Callers whose clear texts are told apart, and callers that it takes to make them usual, at least.
const CALLERS: usize = 64;
const FEW: f64 = 4.0;
/// Texts after which all counts are halved.
const HALVED: f64 = 100_000.0;

/// Whether what is clearly an attack elsewhere is usual at a model: one that is asked about attacks, by its trade.
///
/// A conformal p-value (Vovk et al., "Algorithmic learning in a random world", 2005): so many of n requests were as hostile. Of
/// one caller no more counts than a quarter of what would make it usual, so that it takes four. Below n = 1/α nothing is usual,
/// and the floor of rules holds. 1.5 KB at the most.
///
/// ```
/// use defend::intruder::Usual;
///
/// let mut usual = Usual::default();
/// (0..2_000).for_each(|n| usual.learn(n % 40, n % 5 == 0));
/// assert!(usual.is_usual(), "eight of forty callers ask about attacks");
/// let mut usual = Usual::default();
/// (0..2_000).for_each(|n| usual.learn(n % 40, n % 40 == 7));
/// assert!(!usual.is_usual(), "one attacks");
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usual {
    requests: f64,
    clear: Vec<(u64, f64)>,
}

impl Usual {
    /// Takes in whether a caller's request was clearly an attack. O(callers that sent any).
    pub fn learn(&mut self, caller: u64, clear: bool) {
        self.requests += 1.0;
        if clear {
            let room = self.clear.len() < CALLERS;
            match self.clear.iter_mut().find(|(known, _)| *known == caller) {
                Some((_, count)) => *count += 1.0,
                None if room => self.clear.push((caller, 1.0)),
                None => {}
            }
        }
        if self.requests >= HALVED {
            self.requests /= 2.0;
            self.clear.iter_mut().for_each(|(_, count)| *count /= 2.0);
            self.clear.retain(|(_, count)| *count >= 0.5);
        }
    }

    /// Whether more than α of the requests are as hostile, of several callers.
    pub fn is_usual(&self) -> bool {
        let most = (self.requests * USUAL / FEW).max(1.0);
        let clear: f64 = self.clear.iter().map(|(_, count)| count.min(most)).sum();
        self.requests >= KNOWN && clear > self.requests * USUAL && clear >= FEW
    }
}

/// How heavy a byte is, as it came.
static WEIGHTS: [u8; 256] = weights();

const fn weights() -> [u8; 256] {
    let mut weights = [0; 256];
    let heavy = b"'=()<>;$\\/%*";
    let light = b"&{}[]#-!:@";
    let mut at = 0;
    while at < heavy.len() {
        weights[heavy[at] as usize] = 2;
        at += 1;
    }
    at = 0;
    while at < light.len() {
        weights[light[at] as usize] = 1;
        at += 1;
    }
    weights[b'`' as usize] = 3;
    weights[b'|' as usize] = 3;
    // Full width, and a sign in more bytes than it needs.
    weights[0xef] = 2;
    weights[0xc0] = 3;
    weights[0xc1] = 3;
    weights
}

/// A place that is looked at: how heavy, in which text, where.
type Place<'a> = (u16, &'a [u8], usize);

impl Intruder {
    /// The family of what clearly is an attack among a request's texts, if anything is. They are of so many bytes together;
    /// `chance` says which pieces of more than 4 KiB are looked at. At most 4 KiB are weighed and four places of 192 bytes looked at, whatever is in them; nothing is kept.
    ///
    /// ```
    /// use defend::intruder::Intruder;
    ///
    /// let intruder = Intruder::shipped();
    /// let of = |text: &'static str| intruder.reflex([text.as_bytes()].into_iter(), text.len(), 0);
    /// assert_eq!(of("1' union select user,password from users--"), Some("sqli"));
    /// assert!(of("O'Brien & Sons (select committee), 50% off").is_none());
    /// ```
    pub fn reflex<'a>(&self, texts: impl Iterator<Item = &'a [u8]>, bytes: usize, chance: u64) -> Option<&'static str> {
        let mut places = [(0, &[][..], 0); PLACES];
        let pieces = bytes.div_ceil(BYTES).max(1);
        let mut left = BYTES;
        // Of many texts each so-many-th is looked at, of long ones pieces; which of them, nobody knows beforehand.
        let first = if pieces > 1 { (chance % pieces as u64) as usize } else { 0 };
        let long = |text: &[u8]| text.len() > PIECE && pieces > 1;
        for (number, text) in texts.enumerate() {
            if left == 0 {
                break;
            }
            if long(text) {
                for piece in text.chunks(PIECE).skip(first).step_by(pieces) {
                    weigh(piece.get(..piece.len().min(left)).unwrap_or_default(), &mut places);
                    left = left.saturating_sub(piece.len());
                }
            } else if number % pieces == first {
                weigh(text.get(..text.len().min(left)).unwrap_or_default(), &mut places);
                left = left.saturating_sub(text.len());
            }
        }
        let mut room = (Normal::default(), Room::default(), Features::default());
        places.into_iter().filter(|(weight, ..)| *weight >= LEAST).find_map(|place| self.clear(place, &mut room))
    }

    /// Looks at one place.
    fn clear(&self, (_, text, at): Place<'_>, room: &mut (Normal, Room, Features)) -> Option<&'static str> {
        let (normal, room, features) = room;
        let is_part = |at: &usize| text.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
        let begin = (at.saturating_sub(BEFORE)..at).find(|at| !is_part(at)).unwrap_or(at);
        let end = (text.len().min(at + AFTER)..text.len()).find(|at| !is_part(at)).unwrap_or(text.len());
        normal.fill(text.get(begin..end).unwrap_or_default());
        let points = Self::at_part(self.rules.points_in(normal.text(), normal.evasion(), room), Part::Body);
        let (family, most) = FAMILIES.iter().zip(points).max_by_key(|(_, points)| *points)?;
        if most >= FLOOR {
            return Some(family);
        }
        if most < HIT {
            return None;
        }
        let clear = self.thresholds().request + CLEARLY;
        let mut scores = windows(normal.text())
            .map(|window| features.score(self.learner.known(), window, normal, &points, Part::Body));
        scores.any(|score| f64::from(score) >= clear).then_some(*family)
    }
}

/// Takes a text's heaviest blocks in among the places, which are sorted.
fn weigh<'a>(text: &'a [u8], places: &mut [Place<'a>; PLACES]) {
    // What is no text is no attack on whoever reads text.
    let is_binary = text.iter().fold(false, |found, byte| found | matches!(byte, 0..=0x08 | 0x0e..=0x1a));
    if text.len() < SHORT || is_binary {
        return;
    }
    // What stands at the end of a block goes on in the next.
    let (mut before, mut taken) = (0, None);
    for (number, block) in text.chunks(BLOCK).enumerate() {
        let own =
            block.iter().map(|byte| u16::from(WEIGHTS.get(usize::from(*byte)).copied().unwrap_or(0))).sum::<u16>();
        let weight = own + before;
        before = own;
        if places.last().is_none_or(|(least, ..)| weight <= *least) {
            continue;
        }
        // A block beside one that was taken is seen with it: the heavier stays.
        let beside = taken.filter(|taken| number - taken <= 2).map(|taken: usize| taken.saturating_sub(1) * BLOCK);
        let same = |place: &Place<'_>| beside == Some(place.2) && std::ptr::eq(place.1.as_ptr(), text.as_ptr());
        let slot = places.iter().position(same).unwrap_or(PLACES - 1);
        if let Some(place) = places.get_mut(slot).filter(|place| place.0 < weight) {
            *place = (weight, text, number.saturating_sub(1) * BLOCK);
            taken = Some(number);
            places.sort_unstable_by_key(|(weight, ..)| std::cmp::Reverse(*weight));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{ATTACKS, ORDINARY},
        *,
    };

    fn of(text: &str) -> Option<&'static str> {
        Intruder::shipped().reflex([text.as_bytes()].into_iter(), text.len(), 0)
    }

    #[test]
    fn attacks_are_clear_and_people_are_not() {
        for text in ORDINARY {
            assert_eq!(of(text), None, "{text}");
        }
        let missed: Vec<&str> = ATTACKS.iter().map(|(_, text)| *text).filter(|text| of(text).is_none()).collect();
        assert!(missed.len() <= 10, "{missed:?}");
    }

    #[test]
    fn an_attack_is_found_among_other_texts() {
        let intruder = Intruder::shipped();
        let attack = "1' union select user,password from users--";
        let prose = ORDINARY[2].repeat(20);
        let text = format!("{prose} {attack} {prose}");
        assert!(text.len() < BYTES && of(&text).is_some());
        let attack = "<script>alert(document.cookie)</script>";
        let texts: Vec<&[u8]> = ORDINARY.iter().map(|text| text.as_bytes()).chain([attack.as_bytes()]).collect();
        assert!(intruder.reflex(texts.iter().copied(), 1_000, 0).is_some());
        assert!(intruder.reflex(texts[..ORDINARY.len()].iter().copied(), 1_000, 0).is_none());
    }

    #[test]
    fn of_long_texts_pieces_are_seen_and_none_is_never_seen() {
        let prose = ORDINARY[2].repeat(600);
        let text = format!("{prose} 1' union select null,(select password from users)-- {prose}");
        let intruder = Intruder::shipped();
        let found = |chance| intruder.reflex([text.as_bytes()].into_iter(), text.len(), chance).is_some();
        let seen = (0..16).filter(|chance| found(*chance)).count();
        assert!((1..=4).contains(&seen), "{seen}");
    }
}
