//! What of a text speaks for an attack: pieces of it, its shape, its signs, what rules say. Each is a place among 2¹⁷.

use super::{
    Part,
    normal::Normal,
    rules::{FAMILIES, HIT, Points},
    shape::Shape,
};

/// Bits of a place.
pub(super) const BITS: u32 = 17;
/// Places that there are: those of several features may be one (Weinberger et al., ICML 2009).
pub(super) const PLACES: usize = 1 << BITS;
/// A text is looked at by windows of so many bytes: an attack is in one of them, whatever stands around it.
const WINDOW: usize = 128;
/// From one window to the next: what is cut by one is whole in another, up to 32 bytes.
const STEP: usize = 96;

/// Groups of features: those of a group share what they say, so that a long text says no more than a short one.
const GROUPS: usize = 4;

/// The windows of a plain text; one for an empty one.
pub(super) fn windows(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let last = text.len().saturating_sub(WINDOW).div_ceil(STEP);
    (0..=last).map(move |n| text.get(n * STEP..text.len().min(n * STEP + WINDOW)).unwrap_or_default())
}

/// Features of one window, in groups.
#[derive(Debug, Default)]
pub(super) struct Features {
    groups: [Vec<u32>; GROUPS],
    shape: Shape,
}

impl Features {
    /// Looks at one window. O(n).
    pub(super) fn fill(&mut self, window: &[u8], text: &Normal, points: &Points, part: Part) {
        self.groups.iter_mut().for_each(Vec::clear);
        self.shape.fill(window);
        let [letters, kinds, bare, signs] = &mut self.groups;
        grams(window, 2..=4, 1, letters);
        grams(&self.shape.kinds, 1..=4, 8, kinds);
        grams(&self.shape.bare, 2..=5, 16, bare);
        counts(window, signs);
        signs.push(place(31, part as u32));
        for (bit, is) in text.evasion().bits().into_iter().enumerate() {
            if is {
                signs.push(place(32, bit as u32));
            }
        }
        // By family, and of all alike: what a family's points are worth holds for one that was never seen.
        for (family, points) in points.iter().enumerate().take(FAMILIES.len()) {
            if *points > 0 {
                signs.push(place(33, family as u32 * 8 + (*points).min(HIT + 2)));
            }
        }
        let most = points.iter().copied().max().unwrap_or(0);
        signs.push(place(34, most.min(9)));
        signs.push(place(35, points.iter().filter(|points| **points > 0).count() as u32));
    }

    /// What weights say of it all.
    pub(super) fn score(&self, weights: &[f32]) -> f32 {
        let weigh = |place: &u32| weights.get(*place as usize).copied().unwrap_or(0.0);
        self.groups.iter().map(|group| group.iter().map(weigh).sum::<f32>() * value(group.len())).sum()
    }

    /// Each place with its value.
    pub(super) fn each(&self, mut visit: impl FnMut(usize, f32)) {
        for group in &self.groups {
            let value = value(group.len());
            group.iter().for_each(|place| visit(*place as usize, value));
        }
    }
}

/// Of so many features each is worth this: their squares sum up to 4.
fn value(count: usize) -> f32 {
    2.0 / (count.max(4) as f32).sqrt()
}

fn place(kind: u32, what: u32) -> u32 {
    let mixed = (what ^ kind.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0x9e37_79b1);
    (mixed ^ mixed >> 15).wrapping_mul(0xc2b2_ae35) >> (32 - BITS)
}

/// Pieces of so many bytes; digits are alike. One that follows itself is not counted again.
fn grams(text: &[u8], lengths: std::ops::RangeInclusive<usize>, kind: u32, out: &mut Vec<u32>) {
    let alike = |byte: &u8| if byte.is_ascii_digit() { b'0' } else { *byte };
    for length in lengths {
        let mut last = u32::MAX;
        for piece in text.windows(length) {
            let content = piece.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(0x0100_0193) ^ u32::from(alike(byte)));
            let found = place(kind + length as u32, content);
            if found != last {
                out.push(found);
                last = found;
            }
        }
    }
}

/// Signs that interpreters act on.
const SIGNS: &[u8; 30] = b"'\"<>()=;|&$`{}[]\\/%.*#-!:,@+^~";

/// How many of each sign there are, which come together, how long and how mixed the window is.
fn counts(window: &[u8], out: &mut Vec<u32>) {
    let mut count = [0_u32; 256];
    for byte in window {
        if let Some(count) = count.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let of = |byte: u8| count.get(usize::from(byte)).copied().unwrap_or(0);
    let level = |count: u32| 32 - count.leading_zeros();
    let mut total = 0;
    for (at, sign) in SIGNS.iter().enumerate() {
        let found = of(*sign);
        if found == 0 {
            continue;
        }
        total += found;
        out.push(place(40, at as u32 * 8 + level(found).min(5)));
        for (other, sign) in SIGNS.iter().enumerate().skip(at + 1) {
            if of(*sign) > 0 {
                out.push(place(41, (at * 32 + other) as u32));
            }
        }
    }
    let length = window.len().max(1) as u32;
    let digits: u32 = (b'0'..=b'9').map(of).sum();
    out.push(place(42, total * 12 / length));
    out.push(place(43, level(length)));
    out.push(place(44, digits * 6 / length));
    out.push(place(45, of(b' ') * 12 / length));
    out.push(place(46, level(of(super::normal::SIGN))));
    out.push(place(47, level(total).min(6) * 8 + level(length)));
}
