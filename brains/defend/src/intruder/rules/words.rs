//! Where fixed words stand in a text: only where one may begin is looked, and there first at two bytes, then at three.
//!
//! A pass of Aho and Corasick ("Efficient string matching", CACM 1975) looks at each byte's place in a machine of a megabyte. Most
//! places of a text can't begin a pattern: the middle of a word, a blank. What is left is told apart by tables that stay in the
//! nearest cache: 16 KB by pairs, 4 KB by threes.

use crate::intruder::plain::is_word;

/// Pairs of bytes of plain text, which are below 0x80 but for two that stand for what is beyond ASCII.
const PAIRS: usize = 1 << 14;
/// Bits by threes of bytes.
const THREES: usize = 1 << 15;

/// What is known of a pair.
const LONG: u8 = 1;
const SHORT: u8 = 2;
const LOOK: u8 = 4;

/// Patterns by how they begin.
#[derive(Debug, Clone)]
pub(super) struct Words {
    pairs: Vec<u8>,
    threes: Vec<u64>,
    /// Of each pair, where its patterns begin among the places.
    begins: Vec<u32>,
    places: Vec<u16>,
}

impl Words {
    /// Takes patterns in: each has a byte at least, and none begins with a blank. Some 100 KB.
    pub(super) fn new<'a>(words: impl Iterator<Item = &'a str> + Clone) -> Self {
        let mut own =
            Self { pairs: vec![0; PAIRS], threes: vec![0; THREES / 64], begins: Vec::new(), places: Vec::new() };
        let mut of: Vec<Vec<u16>> = vec![Vec::new(); PAIRS];
        for (place, word) in words.enumerate() {
            let mut put = |at: usize, kind: u8| {
                if let (Some(pair), Some(of)) = (own.pairs.get_mut(at), of.get_mut(at)) {
                    *pair |= kind;
                    of.push(place as u16);
                }
            };
            match *word.as_bytes() {
                [] => {}
                [only] => (0..128).for_each(|next| put(pair(only, next), SHORT)),
                [first, second] => put(pair(first, second), SHORT),
                [first, second, third, ..] => {
                    put(pair(first, second), LONG);
                    let bit = three(first, second, third);
                    if let Some(bits) = own.threes.get_mut(bit / 64) {
                        *bits |= 1 << (bit % 64);
                    }
                }
            }
        }
        own.begins.push(0);
        for places in of {
            own.places.extend(places);
            own.begins.push(own.places.len() as u32);
        }
        own
    }

    /// A look is to be taken at a pair, whatever words begin so.
    pub(super) fn look_at(&mut self, first: u8, second: u8) {
        if let Some(pair) = self.pairs.get_mut(pair(first, second)) {
            *pair |= LOOK;
        }
    }

    /// Fills `places` with where a pattern or a look may begin: at a sign, or where a word does. Of `near`, which is at most
    /// 65,535 bytes, the last two are only what comes after. Without branches: O(n), about a nanosecond a byte.
    pub(super) fn may_begin(&self, near: &[u8], places: &mut Vec<u16>) {
        let (Ok(pairs), Ok(threes)) =
            (<&[u8; PAIRS]>::try_from(self.pairs.as_slice()), <&[u64; THREES / 64]>::try_from(self.threes.as_slice()))
        else {
            return places.clear();
        };
        places.clear();
        places.resize(near.len(), 0);
        let (mut length, mut inside) = (0, false);
        for (at, here) in near.windows(3).enumerate() {
            let [first, second, third] = here else { break };
            let goes_on = inside;
            inside = is_word(*first);
            let known = pairs.get(pair(*first, *second)).copied().unwrap_or(0);
            let bit = three(*first, *second, *third);
            let is_three = threes.get(bit / 64).is_some_and(|bits| bits >> (bit % 64) & 1 == 1);
            let may = (known & (SHORT | LOOK) != 0) | ((known & LONG != 0) & is_three);
            if let Some(place) = places.get_mut(length) {
                *place = at as u16;
            }
            length += usize::from(may & !(goes_on & inside));
        }
        places.truncate(length);
    }

    /// Patterns that begin with the pair at a place.
    pub(super) fn at(&self, text: &[u8], at: usize) -> &[u16] {
        let byte = |at: usize| text.get(at).copied().unwrap_or(0);
        let pair = pair(byte(at), byte(at + 1));
        let range = self.begins.get(pair).zip(self.begins.get(pair + 1));
        range.and_then(|(from, to)| self.places.get(*from as usize..*to as usize)).unwrap_or_default()
    }
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(first & 0x7f) << 7 | usize::from(second & 0x7f)
}

fn three(first: u8, second: u8, third: u8) -> usize {
    let all = u32::from(first) << 16 | u32::from(second) << 8 | u32::from(third);
    (all.wrapping_mul(0x9e37_79b1) >> 17) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_found_where_it_begins() {
        let words = ["=", "--", "or(", "select", "selection", "<svg"];
        let known = Words::new(words.iter().copied());
        let found = |text: &str| {
            let mut places = Vec::new();
            known.may_begin(&[text.as_bytes(), &[0, 0]].concat(), &mut places);
            let all = places.iter().flat_map(|at| {
                let at = usize::from(*at);
                let starts = move |place: &&u16| text[at..].starts_with(words[usize::from(**place)]);
                known.at(text.as_bytes(), at).iter().filter(starts)
            });
            all.map(|place| words[usize::from(*place)]).collect::<Vec<_>>()
        };
        assert_eq!(found("a=1--"), ["=", "--"]);
        assert_eq!(found("selection<svg"), ["select", "selection", "<svg"]);
        assert_eq!(found("or("), ["or("]);
        assert!(found("o rather selec t").is_empty());
    }
}
