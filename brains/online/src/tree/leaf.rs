//! A leaf: what it saw of each class, how it answers, and where it would best be cut.

use serde::{Deserialize, Serialize};

use super::{
    Answer, Plan,
    observer::{Numbers, Words},
    split::{Best, entropy, left_over, share_below},
};
use crate::{
    Error, Kind, Random, Result,
    arena::{Cut, Leafage},
    scratch::{CLASSES_INLINE, with_places},
};

/// Places between the least and the greatest number that are tried as a cut.
const PLACES: u32 = 10;

/// Classes get their slots as they come, so a leaf costs what it has seen and not what there could be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Leaf {
    /// The class of each slot, and its weight.
    slots: Vec<(u32, f64)>,
    /// Columns of numbers, and those of words, that are observed; none where it looks for no cuts.
    numeric: Vec<u32>,
    worded: Vec<u32>,
    /// By slot, then column.
    numbers: Vec<Numbers>,
    words: Vec<Words>,
    weight: f64,
    /// Its weight when it last looked for a cut.
    looked: f64,
    /// Weight of rows that the most frequent class, and that naive Bayes, would have been right about.
    right: [f64; 2],
    depth: u16,
    rests: bool,
}

/// The two best cuts of a leaf, by bits gained.
struct Contest {
    first: (f64, Option<(Cut, Vec<f64>)>),
    second: f64,
}

impl Contest {
    /// Not to cut gains nothing, and takes part.
    fn new() -> Self {
        Self { first: (0.0, None), second: f64::NEG_INFINITY }
    }

    fn enter(&mut self, gain: f64, cut: impl FnOnce() -> (Cut, Vec<f64>)) {
        if gain > self.first.0 {
            self.second = self.first.0;
            self.first = (gain, Some(cut()));
        } else if gain > self.second {
            self.second = gain;
        }
    }
}

impl Leaf {
    pub(super) fn new(plan: &Plan, columns: &[u32], depth: u16, random: &mut Random) -> Self {
        let drawn = match plan.per_leaf {
            Some(count) if count < columns.len() => draw(columns, count, random),
            _ => columns.to_vec(),
        };
        let (numeric, worded) = drawn.into_iter().partition(|column| plan.kind(*column) == Kind::Numeric);
        Self {
            slots: Vec::new(),
            numeric,
            worded,
            numbers: Vec::new(),
            words: Vec::new(),
            weight: 0.0,
            looked: 0.0,
            right: [0.0; 2],
            depth,
            rests: false,
        }
    }

    /// Begins with these weights of classes: what the cut above gave it.
    pub(super) fn with(mut self, classes: Vec<(u32, f64)>) -> Self {
        for (class, weight) in classes {
            let slot = self.slot(class);
            if let Some((_, known)) = self.slots.get_mut(slot) {
                *known += weight;
            }
            self.weight += weight;
        }
        self.looked = self.weight;
        self
    }

    pub(super) fn depth(&self) -> u16 {
        self.depth
    }

    /// The slot of a class, a new one where it has none.
    fn slot(&mut self, class: u32) -> usize {
        if let Some(slot) = self.slots.iter().position(|(known, _)| *known == class) {
            return slot;
        }
        self.slots.push((class, 0.0));
        if !self.rests {
            self.numbers.resize(self.slots.len() * self.numeric.len(), Numbers::default());
            self.words.resize(self.slots.len() * self.worded.len(), Words::default());
        }
        self.slots.len() - 1
    }

    fn numbers(&self, slot: usize) -> &[Numbers] {
        let columns = self.numeric.len();
        self.numbers.get(slot * columns..(slot + 1) * columns).unwrap_or_default()
    }

    fn words(&self, slot: usize) -> &[Words] {
        let columns = self.worded.len();
        self.words.get(slot * columns..(slot + 1) * columns).unwrap_or_default()
    }

    /// Learns a row; says whether it had been right about it, and how many bytes it holds more than before.
    pub(super) fn learn(&mut self, plan: &Plan, row: &[f64], class: usize, weight: f64) -> (bool, usize) {
        let majority = self.most_frequent() == Some(class as u32);
        let adaptive = plan.settings.answer == Answer::Adaptive;
        let bayes = if plan.settings.answer == Answer::Majority || self.rests {
            majority
        } else {
            self.likeliest(plan, row) == Some(class as u32)
        };
        let right = if self.answers_by_bayes(plan) { bayes } else { majority };
        if adaptive {
            let [by_majority, by_bayes] = &mut self.right;
            *by_majority += if majority { weight } else { 0.0 };
            *by_bayes += if bayes { weight } else { 0.0 };
        }
        (right, self.observe(row, class as u32, weight))
    }

    /// Counts a row; says how many bytes that takes.
    fn observe(&mut self, row: &[f64], class: u32, weight: f64) -> usize {
        let before = self.slots.len();
        let slot = self.slot(class);
        let mut grown = (self.slots.len() - before) * self.slot_bytes();
        self.weight += weight;
        if let Some((_, known)) = self.slots.get_mut(slot) {
            *known += weight;
        }
        if self.rests {
            return grown;
        }
        let value = |column: &u32| row.get(*column as usize).copied().unwrap_or(f64::NAN);
        let (numeric, worded) = (self.numeric.len(), self.worded.len());
        let numbers = self.numbers.get_mut(slot * numeric..).unwrap_or_default();
        for (numbers, value) in numbers.iter_mut().zip(self.numeric.iter().map(value)) {
            if !value.is_nan() {
                numbers.add(value, weight);
            }
        }
        let words = self.words.get_mut(slot * worded..).unwrap_or_default();
        for (words, value) in words.iter_mut().zip(self.worded.iter().map(value)) {
            if !value.is_nan() {
                grown += words.add(value as u32, weight);
            }
        }
        grown
    }

    /// Bytes of a class's slot, without its words.
    fn slot_bytes(&self) -> usize {
        let columns = self.numeric.len() * size_of::<Numbers>() + self.worded.len() * size_of::<Words>();
        size_of::<(u32, f64)>() + if self.rests { 0 } else { columns }
    }

    fn most_frequent(&self) -> Option<u32> {
        let mut best: Option<(u32, f64)> = None;
        for (class, weight) in &self.slots {
            if best.is_none_or(|(_, most)| *weight > most) {
                best = Some((*class, *weight));
            }
        }
        best.map(|(class, _)| class)
    }

    fn answers_by_bayes(&self, plan: &Plan) -> bool {
        let [majority, bayes] = self.right;
        match plan.settings.answer {
            _ if self.rests => false,
            Answer::Majority => false,
            Answer::Bayes => true,
            Answer::Adaptive => bayes >= majority,
        }
    }

    /// The logarithm of what naive Bayes gives a slot's class, but for a constant.
    fn score(&self, plan: &Plan, row: &[f64], slot: usize) -> f64 {
        let Some((_, weight)) = self.slots.get(slot) else { return f64::NEG_INFINITY };
        let mut score = weight.ln();
        for (numbers, column) in self.numbers(slot).iter().zip(&self.numeric) {
            let value = row.get(*column as usize).copied().unwrap_or(f64::NAN);
            if !value.is_nan() {
                score += numbers.log_density(value);
            }
        }
        for (words, column) in self.words(slot).iter().zip(&self.worded) {
            let value = row.get(*column as usize).copied().unwrap_or(f64::NAN);
            if let Kind::Word(count) = plan.kind(*column)
                && !value.is_nan()
            {
                score += words.log_probability(value as u32, count);
            }
        }
        score
    }

    fn likeliest(&self, plan: &Plan, row: &[f64]) -> Option<u32> {
        let mut best: Option<(u32, f64)> = None;
        for (slot, (class, _)) in self.slots.iter().enumerate() {
            let score = self.score(plan, row, slot);
            if best.is_none_or(|(_, most)| score > most) {
                best = Some((*class, score));
            }
        }
        best.map(|(class, _)| class)
    }

    /// Adds what it says to `votes`, `weight` altogether.
    pub(super) fn vote(&self, plan: &Plan, row: &[f64], weight: f64, votes: &mut [f64]) {
        if self.weight <= 0.0 {
            return;
        }
        if !self.answers_by_bayes(plan) {
            for (class, seen) in &self.slots {
                if let Some(vote) = votes.get_mut(*class as usize) {
                    *vote += weight * seen / self.weight;
                }
            }
            return;
        }
        with_places::<CLASSES_INLINE, _>(self.slots.len(), |scores| {
            let mut most = f64::NEG_INFINITY;
            for (slot, score) in scores.iter_mut().enumerate() {
                *score = self.score(plan, row, slot);
                most = most.max(*score);
            }
            let mut sum = 0.0;
            for score in scores.iter_mut() {
                *score = (*score - most).exp();
                sum += *score;
            }
            for ((class, _), score) in self.slots.iter().zip(scores.iter()) {
                if let Some(vote) = votes.get_mut(*class as usize) {
                    *vote += weight * score / sum;
                }
            }
        });
    }

    /// Whether it has taken enough in to look for a cut again, and there is anything to tell apart.
    pub(super) fn is_due(&self, plan: &Plan) -> bool {
        !self.rests && self.depth < plan.settings.depth && self.weight - self.looked >= plan.settings.grace
    }

    pub(super) fn looked(&mut self) {
        self.looked = self.weight;
    }

    /// The cut that gains most, once it is known to: by Hoeffding's bound better than the second, or as good as it.
    pub(super) fn best_cut(&self, plan: &Plan) -> Option<Best> {
        let classes = self.slots.iter().filter(|(_, weight)| *weight > 0.0).count();
        if classes < 2 {
            return None;
        }
        let before = entropy(self.slots.iter().map(|(_, weight)| *weight));
        let range = (self.range().max(2) as f64).log2();
        let bound = (range * range * (1.0 / plan.settings.delta).ln() / (2.0 * self.weight)).sqrt();
        // No cut gains more than there is.
        if bound >= plan.settings.tie && before <= bound {
            return None;
        }
        let mut contest = Contest::new();
        with_places::<{ 2 * CLASSES_INLINE }, _>(2 * self.slots.len(), |sides| {
            let (passing, other) = sides.split_at_mut(self.slots.len());
            for index in 0..self.numeric.len() {
                self.enter_number(index, before, (passing, other), &mut contest);
            }
            for index in 0..self.worded.len() {
                self.enter_words(index, before, (passing, other), &mut contest);
            }
        });
        let (gain, Some((cut, passing))) = contest.first else { return None };
        if gain - contest.second <= bound && bound >= plan.settings.tie {
            return None;
        }
        let side = |weights: &dyn Fn(f64, f64) -> f64| {
            let slots = self.slots.iter().zip(&passing);
            slots.map(|((class, all), passing)| (*class, weights(*all, *passing))).filter(|(_, w)| *w > 0.0).collect()
        };
        Some(Best { cut, sides: [side(&|_, passing| passing), side(&|all, passing| all - passing)] })
    }

    /// What the bits of a class can be at the most here: by the highest class seen, as the customary trees have it.
    fn range(&self) -> u32 {
        self.slots.iter().map(|(class, _)| class + 1).max().unwrap_or(0)
    }

    /// The best of the places where a column of numbers could be cut.
    fn enter_number(&self, index: usize, before: f64, sides: (&mut [f64], &mut [f64]), contest: &mut Contest) {
        let columns = self.numeric.len();
        let of = |slot: usize| self.numbers.get(slot * columns + index);
        let slots = self.slots.len();
        let seen = (0..slots).filter_map(of).filter(|numbers| numbers.weight > 0.0);
        let least = seen.clone().map(|numbers| numbers.least).fold(f64::INFINITY, f64::min);
        let greatest = seen.map(|numbers| numbers.greatest).fold(f64::NEG_INFINITY, f64::max);
        let Some(&column) = self.numeric.get(index) else { return };
        let step = (greatest - least) / f64::from(PLACES + 1);
        if !(step > 0.0 && step.is_finite()) {
            return;
        }
        let (passing, other) = sides;
        let mut best: Option<(f64, f64)> = None;
        for place in 1..=PLACES {
            let value = least + step * f64::from(place);
            if value <= least || value >= greatest {
                continue;
            }
            self.divide(index, value, passing, other);
            if let Some(bits) = left_over(passing, other)
                && best.is_none_or(|(least, _)| bits < least)
            {
                best = Some((bits, value));
            }
        }
        if let Some((bits, value)) = best {
            contest.enter(before - bits, || {
                self.divide(index, value, passing, other);
                self.chosen(column, value, false, passing)
            });
        }
    }

    /// The weight of each slot on either side of a value, by the normal distributions.
    fn divide(&self, index: usize, value: f64, passing: &mut [f64], other: &mut [f64]) {
        let columns = self.numeric.len();
        for (slot, (passing, other)) in passing.iter_mut().zip(other).enumerate() {
            let Some(numbers) = self.numbers.get(slot * columns + index) else { continue };
            let share = if numbers.weight == 0.0 || value < numbers.least {
                0.0
            } else if value >= numbers.greatest {
                1.0
            } else {
                let deviation = numbers.deviation();
                if deviation > 0.0 {
                    share_below((value - numbers.mean) / deviation)
                } else if value < numbers.mean {
                    0.0
                } else {
                    1.0
                }
            };
            *passing = numbers.weight * share;
            *other = numbers.weight - *passing;
        }
    }

    /// The word that is best told from all others.
    fn enter_words(&self, index: usize, before: f64, sides: (&mut [f64], &mut [f64]), contest: &mut Contest) {
        let columns = self.worded.len();
        let Some(&column) = self.worded.get(index) else { return };
        let (passing, other) = sides;
        let mut divide = |word: u32, passing: &mut [f64]| {
            for (slot, (passing, other)) in passing.iter_mut().zip(other.iter_mut()).enumerate() {
                let Some(words) = self.words.get(slot * columns + index) else { continue };
                *passing = words.count(word);
                *other = words.weight - *passing;
            }
            left_over(passing, other)
        };
        let mut best: Option<(f64, u32)> = None;
        for slot in 0..self.slots.len() {
            let Some(words) = self.words.get(slot * columns + index) else { continue };
            for (word, _) in &words.counts {
                if let Some(bits) = divide(*word, passing)
                    && best.is_none_or(|(least, _)| bits < least)
                {
                    best = Some((bits, *word));
                }
            }
        }
        if let Some((bits, word)) = best {
            divide(word, passing);
            contest.enter(before - bits, || self.chosen(column, f64::from(word), true, passing));
        }
    }

    /// A cut, with what passes of each slot: of rows without the value, all go to the greater side.
    fn chosen(&self, column: u32, value: f64, word: bool, passing: &[f64]) -> (Cut, Vec<f64>) {
        let missing = 2.0 * passing.iter().sum::<f64>() >= self.weight;
        (Cut::new(column, value, word, missing), passing.to_vec())
    }

    pub(super) fn check(&self, plan: &Plan) -> Result<()> {
        let slots = self.slots.len();
        let class =
            |(class, weight): &(u32, f64)| (*class as usize) < plan.classes && *weight >= 0.0 && weight.is_finite();
        let column = |column: &u32, numeric: bool| {
            let kind = plan.kinds.get(*column as usize);
            kind.is_some_and(|kind| (*kind == Kind::Numeric) == numeric)
        };
        let sizes = self.numbers.len() == slots * self.numeric.len() && self.words.len() == slots * self.worded.len();
        let sound = self.slots.iter().all(class)
            && self.numeric.iter().all(|of| column(of, true))
            && self.worded.iter().all(|of| column(of, false))
            && sizes
            && self.numbers.iter().all(Numbers::is_sound)
            && self.words.iter().all(Words::is_sound)
            && [self.weight, self.looked, self.right[0], self.right[1]].iter().all(|n| n.is_finite() && *n >= 0.0);
        if sound { Ok(()) } else { Err(Error::Snapshot("has a leaf whose parts do not fit together")) }
    }
}

impl Leafage for Leaf {
    fn held(&self) -> usize {
        let words: usize = self.words.iter().map(Words::held).sum();
        (self.numeric.len() + self.worded.len()) * 4 + self.slots.len() * self.slot_bytes() + words
    }

    /// Weight of rows that are not of the most frequent class.
    fn promise(&self) -> f64 {
        let most = self.slots.iter().map(|(_, weight)| *weight).fold(0.0, f64::max);
        self.weight - most
    }

    /// It answers by the shares of classes from now on.
    fn rest(&mut self) {
        self.rests = true;
        (self.numeric, self.worded) = (Vec::new(), Vec::new());
        (self.numbers, self.words) = (Vec::new(), Vec::new());
    }
}

/// So many of the columns, in their order: selection sampling (Knuth, volume 2, algorithm S).
pub(crate) fn draw(columns: &[u32], count: usize, random: &mut Random) -> Vec<u32> {
    let mut drawn = Vec::with_capacity(count);
    for (seen, column) in columns.iter().enumerate() {
        let (left, wanted) = ((columns.len() - seen) as f64, count.saturating_sub(drawn.len()) as f64);
        if left * random.uniform() < wanted {
            drawn.push(*column);
        }
    }
    drawn
}
