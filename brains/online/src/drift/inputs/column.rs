//! One column: the bins of its reference, and what of the window is in them.

use serde::{Deserialize, Serialize};

use super::{
    Kind,
    statistics::{chi_square_p, evidence, kolmogorov_p, stability},
};

/// Intervals of a number.
const INTERVALS: usize = 60;
/// Intervals that are one bin of the stability index, which with more bins is large by chance.
const JOINED: usize = 6;
/// Bins of words.
const WORDS: usize = 64;
/// Expected values in a bin of χ², at the least; bins with fewer are taken together (Cochran 1954).
const EXPECTED: f64 = 5.0;

/// Counts of the reference and of the window, bin by bin; the last bin is of missing values.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Column {
    /// For a number, the values below which the intervals end; empty for words.
    cuts: Vec<f32>,
    word: Option<u32>,
    reference: Vec<u32>,
    window: Vec<u32>,
    /// The bin of each row of the window.
    bins: Vec<u8>,
}

impl Column {
    pub(super) fn new(kind: Kind, window: usize) -> Self {
        let (word, bins) = match kind {
            Kind::Numeric => (None, INTERVALS + 1),
            Kind::Word(words) => (Some(words), WORDS + 1),
        };
        Self { cuts: Vec::new(), word, reference: vec![0; bins], window: vec![0; bins], bins: vec![0; window] }
    }

    /// Where a value is counted.
    fn bin(&self, value: f32) -> usize {
        let missing = self.reference.len() - 1;
        match self.word {
            _ if value.is_nan() => missing,
            None => self.cuts.partition_point(|cut| *cut <= value).min(INTERVALS - 1),
            Some(words) if words as usize <= WORDS => (value as usize).min(WORDS - 1),
            Some(_) => spread(value as u32) as usize % WORDS,
        }
    }

    /// Takes its values of the reference.
    pub(super) fn settle(&mut self, values: &[f32]) {
        if self.word.is_none() {
            let mut known: Vec<f32> = values.iter().copied().filter(|value| !value.is_nan()).collect();
            known.sort_unstable_by(f32::total_cmp);
            let cut = |part: usize| known.get(part * known.len() / INTERVALS).copied();
            self.cuts = (1..INTERVALS).filter_map(cut).collect();
        }
        for value in values {
            let bin = self.bin(*value);
            if let Some(count) = self.reference.get_mut(bin) {
                *count += 1;
            }
        }
    }

    /// Puts a value at a place of the window; `full` says whether there was one.
    pub(super) fn compare(&mut self, value: f32, place: usize, full: bool) {
        let bin = self.bin(value);
        let Some(held) = self.bins.get_mut(place) else { return };
        let before = std::mem::replace(held, bin as u8);
        if full && let Some(count) = self.window.get_mut(usize::from(before)) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.window.get_mut(bin) {
            *count += 1;
        }
    }

    /// The evidence that the window is of another distribution, and the stability index.
    pub(super) fn test(&self) -> (f64, f64) {
        let Some((reference_missing, reference)) = self.reference.split_last() else { return (0.0, 0.0) };
        let Some((window_missing, window)) = self.window.split_last() else { return (0.0, 0.0) };
        let known = |counts: &[u32]| counts.iter().sum::<u32>();
        let sizes = (known(reference), known(window));
        let values = if sizes.0 == 0 || sizes.1 == 0 {
            1.0
        } else if self.word.is_none() {
            kolmogorov_p(distance(reference, window, sizes), f64::from(sizes.0), f64::from(sizes.1))
        } else {
            let (expected, observed) = pooled(reference, window, sizes);
            chi_square_p(&expected, &observed)
        };
        let missing = [(sizes.0, sizes.1), (*reference_missing, *window_missing)];
        let (expected, observed) = pooled(&missing.map(|pair| pair.0), &missing.map(|pair| pair.1), self.rows());
        let missing = chi_square_p(&expected, &observed);
        // Half of each: their mean is an e-value, too.
        ((evidence(values) + evidence(missing)) / 2.0, self.effect())
    }

    /// Rows of the reference and of the window.
    fn rows(&self) -> (u32, u32) {
        (self.reference.iter().sum(), self.window.iter().sum())
    }

    fn effect(&self) -> f64 {
        let joined = if self.word.is_none() { JOINED } else { 1 };
        let pairs = self.reference.chunks(joined).zip(self.window.chunks(joined));
        let sum = |counts: &[u32]| counts.iter().map(|count| f64::from(*count)).sum::<f64>();
        stability(pairs.map(|(reference, window)| (sum(reference), sum(window))))
    }

    pub(super) fn memory(&self) -> usize {
        let counts = self.reference.capacity() + self.window.capacity() + self.cuts.capacity();
        size_of::<Self>() + counts * size_of::<u32>() + self.bins.capacity()
    }

    pub(super) fn sound(&self, kind: Kind, (window, held): (usize, usize)) -> bool {
        let new = Self::new(kind, 0);
        let sizes = self.reference.len() == new.reference.len() && self.window.len() == new.window.len();
        let bins = self.bins.len() == window && self.bins.iter().all(|bin| usize::from(*bin) < self.window.len());
        let cuts = self.cuts.len() < INTERVALS && self.cuts.is_sorted() && self.cuts.iter().all(|cut| cut.is_finite());
        let counted = |counts: &[u32]| counts.iter().map(|count| u64::from(*count)).sum::<u64>();
        let counts = counted(&self.window) == held as u64 && counted(&self.reference) <= 65_535;
        self.word == new.word && sizes && bins && cuts && counts
    }
}

/// Spreads codes over bins (the finalizer of MurmurHash3, by Appleby).
fn spread(code: u32) -> u32 {
    let code = (code ^ (code >> 16)).wrapping_mul(0x85eb_ca6b);
    let code = (code ^ (code >> 13)).wrapping_mul(0xc2b2_ae35);
    code ^ (code >> 16)
}

/// The greatest distance between two cumulative distributions of sizes above 0.
fn distance(reference: &[u32], window: &[u32], sizes: (u32, u32)) -> f64 {
    let (mut low, mut high, mut most) = (0_u32, 0_u32, 0.0_f64);
    for (reference, window) in reference.iter().zip(window) {
        low = low.saturating_add(*reference);
        high = high.saturating_add(*window);
        most = most.max((f64::from(low) / f64::from(sizes.0) - f64::from(high) / f64::from(sizes.1)).abs());
    }
    most
}

/// Pairs of counts, those taken together of which the window could expect too few.
fn pooled(reference: &[u32], window: &[u32], (all, all_window): (u32, u32)) -> (Vec<f64>, Vec<f64>) {
    let enough = |reference: u32, window: u32| {
        let share = f64::from(reference + window) / f64::from((all + all_window).max(1));
        share * f64::from(all_window) >= EXPECTED
    };
    let (mut kept, mut rest) = ((Vec::new(), Vec::new()), (0.0, 0.0));
    for (reference, window) in reference.iter().zip(window) {
        if enough(*reference, *window) {
            kept.0.push(f64::from(*reference));
            kept.1.push(f64::from(*window));
        } else {
            rest = (rest.0 + f64::from(*reference), rest.1 + f64::from(*window));
        }
    }
    if rest.0 + rest.1 > 0.0 {
        kept.0.push(rest.0);
        kept.1.push(rest.1);
    }
    kept
}
