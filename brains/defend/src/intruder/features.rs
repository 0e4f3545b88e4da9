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

/// A weight is a whole number of these where texts are scored.
pub(super) const QUANTUM: f32 = 1.0 / 64.0;
/// One weight for each place, in quanta: 128 KiB, which stay in a core's own cache.
pub(super) type Weights = [i8; PLACES];

/// Groups of features: those of a group share what they say, so that a long text says no more than a short one.
const GROUPS: usize = 4;

/// The windows of a plain text; one for an empty one.
pub(super) fn windows(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let last = text.len().saturating_sub(WINDOW).div_ceil(STEP);
    (0..=last).map(move |n| text.get(n * STEP..text.len().min(n * STEP + WINDOW)).unwrap_or_default())
}

/// Looks at windows, one after the other, in the same room.
#[derive(Debug, Default)]
pub(super) struct Features {
    shape: Shape,
}

impl Features {
    /// Shows each place of one window, by group. O(n).
    #[inline(always)]
    fn visit(&mut self, window: &[u8], text: &Normal, points: &Points, part: Part, mut show: impl FnMut(usize, u32)) {
        self.shape.fill(window);
        grams::<2, 4>(window, 1, |place| show(0, place));
        grams::<1, 4>(&self.shape.kinds, 8, |place| show(1, place));
        grams::<2, 5>(&self.shape.bare, 16, |place| show(2, place));
        let mut sign = |kind, what| show(3, place(kind, what));
        counts(window, &mut sign);
        sign(31, part as u32);
        for (bit, is) in text.evasion().bits().into_iter().enumerate() {
            if is {
                sign(32, bit as u32);
            }
        }
        // By family, and of all alike: what a family's points are worth holds for one that was never seen.
        for (family, points) in points.iter().enumerate().take(FAMILIES.len()) {
            if *points > 0 {
                sign(33, family as u32 * 8 + (*points).min(HIT + 2));
            }
        }
        let most = points.iter().copied().max().unwrap_or(0);
        sign(34, most.min(9));
        sign(35, points.iter().filter(|points| **points > 0).count() as u32);
    }

    /// What weights say of a window.
    pub(super) fn score(
        &mut self,
        weights: &Weights,
        window: &[u8],
        text: &Normal,
        points: &Points,
        part: Part,
    ) -> f32 {
        let mut sums = [(0_i32, 0_u32); GROUPS];
        self.visit(window, text, points, part, |group, place| {
            if let (Some((sum, count)), Some(weight)) = (sums.get_mut(group), weights.get(place as usize)) {
                *sum += i32::from(*weight);
                *count += 1;
            }
        });
        sums.into_iter().map(|(sum, count)| sum as f32 * QUANTUM * value(count as usize)).sum()
    }

    /// Each place of a window with its value.
    pub(super) fn all(&mut self, window: &[u8], text: &Normal, points: &Points, part: Part) -> Vec<(usize, f32)> {
        let mut found: [Vec<u32>; GROUPS] = Default::default();
        self.visit(window, text, points, part, |group, place| {
            if let Some(group) = found.get_mut(group) {
                group.push(place);
            }
        });
        let valued = |group: &Vec<u32>| {
            let value = value(group.len());
            group.iter().map(|place| (*place as usize, value)).collect::<Vec<_>>()
        };
        found.iter().flat_map(valued).collect()
    }
}

/// Of so many features each is worth this: their squares sum up to 4.
fn value(count: usize) -> f32 {
    2.0 / (count.max(4) as f32).sqrt()
}

#[inline(always)]
fn place(kind: u32, what: u32) -> u32 {
    let mixed = (what ^ kind.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0x9e37_79b1);
    (mixed ^ mixed >> 15).wrapping_mul(0xc2b2_ae35) >> (32 - BITS)
}

/// Pieces of `FROM` to `TO` bytes; digits are alike. One that follows itself is not counted again: a run of one byte is one piece.
#[inline(always)]
fn grams<const FROM: usize, const TO: usize>(text: &[u8], kind: u32, mut show: impl FnMut(u32)) {
    let mut bytes = 0_u64;
    let mut run = 0;
    for (at, byte) in text.iter().enumerate() {
        let alike = if byte.is_ascii_digit() { b'0' } else { *byte };
        run = if bytes as u8 == alike { run + 1 } else { 0 };
        bytes = bytes << 8 | u64::from(alike);
        for length in FROM..=TO {
            if length <= at + 1 && run < length {
                let piece = bytes & ((1 << (8 * length)) - 1);
                let mixed = (piece ^ u64::from(kind + length as u32) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                show(((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> (64 - BITS)) as u32);
            }
        }
    }
}

/// Signs that interpreters act on.
const SIGNS: &[u8; 30] = b"'\"<>()=;|&$`{}[]\\/%.*#-!:,@+^~";

/// How many of each sign there are, which come together, how long and how mixed the window is.
#[inline(always)]
fn counts(window: &[u8], show: &mut impl FnMut(u32, u32)) {
    // A window is shorter than what a byte counts to.
    let mut count = [0_u8; 256];
    for byte in window {
        if let Some(count) = count.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let of = |byte: u8| u32::from(count.get(usize::from(byte)).copied().unwrap_or(0));
    let level = |count: u32| 32 - count.leading_zeros();
    let mut total = 0;
    let mut there = [0_usize; SIGNS.len()];
    let mut kinds = 0;
    for (at, sign) in SIGNS.iter().enumerate() {
        let found = of(*sign);
        if found == 0 {
            continue;
        }
        total += found;
        show(40, at as u32 * 8 + level(found).min(5));
        for other in there.iter().take(kinds) {
            show(41, (other * 32 + at) as u32);
        }
        if let Some(place) = there.get_mut(kinds) {
            *place = at;
            kinds += 1;
        }
    }
    let length = window.len().max(1) as u32;
    let digits: u32 = (b'0'..=b'9').map(of).sum();
    show(42, total * 12 / length);
    show(43, level(length));
    show(44, digits * 6 / length);
    show(45, of(b' ') * 12 / length);
    show(46, level(of(super::normal::SIGN)));
    show(47, level(total).min(6) * 8 + level(length));
}
