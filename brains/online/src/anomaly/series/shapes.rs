//! The shapes of some channels, each at several paces: what is ordinary for a minute may be strange for an hour.

use serde::{Deserialize, Serialize};

use super::{
    lags::Lags,
    past::{PAST, Past},
};

/// Channels whose shapes are looked at; those of the others would cost more than they say.
const CHANNELS: usize = 8;

/// Shapes of up to eight channels: of those that hold numbers, or of any while none does. A flag is set or is not; that
/// it is now, which is seldom, would drown what numbers say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Shapes {
    shapes: Vec<Shape>,
    numbers: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Shape {
    channel: usize,
    paces: Vec<Pace>,
}

/// What a channel has been seen to hold, missing values aside.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) enum Content {
    /// At most two values so far: a flag, or something that never changes.
    Flag(Option<f64>, Option<f64>),
    /// A third one, too.
    Number,
}

/// The shapes of a channel at one pace: of the means of so many values each.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pace {
    every: u32,
    /// Of the values that came since the last mean.
    sum: f64,
    count: u32,
    past: Past,
    means: u64,
    /// What the last mean's was.
    distance: f64,
    lags: Lags,
}

impl Content {
    /// One that holds nothing yet.
    pub(super) const NOTHING: Self = Self::Flag(None, None);

    /// Takes a value in. Says whether that makes it a number.
    pub(super) fn learn(&mut self, value: f64) -> bool {
        let Self::Flag(first, second) = self else { return false };
        let known = |other: &Option<f64>| *other == Some(value);
        if value.is_nan() || known(first) || known(second) {
            return false;
        }
        match (&first, &second) {
            (None, _) => *first = Some(value),
            (_, None) => *second = Some(value),
            _ => *self = Self::Number,
        }
        *self == Self::Number
    }
}

impl Shape {
    fn new(channel: usize, window: usize, paces: &[u32]) -> Self {
        Self { channel, paces: paces.iter().map(|every| Pace::new(*every, window)).collect() }
    }

    /// The logarithm of one and the distance, its mean over the paces that know any.
    fn strangeness(&self, value: f64) -> f64 {
        mean(self.paces.iter().map(|pace| pace.lags.knows().then(|| pace.distance(value))))
    }

    fn take(&mut self, value: f64) -> f64 {
        mean(self.paces.iter_mut().map(|pace| {
            let knew = pace.lags.knows();
            let distance = pace.take(value);
            knew.then_some(distance)
        }))
    }
}

/// The mean of ln(1 + distance) over those that there are; 0 where there are none.
fn mean(distances: impl Iterator<Item = Option<f64>>) -> f64 {
    let (total, count) = distances.flatten().fold((0.0, 0.0), |(total, count), d| (total + d.ln_1p(), count + 1.0));
    total / f64::max(count, 1.0)
}

impl Pace {
    fn new(every: u32, window: usize) -> Self {
        Self { every, sum: 0.0, count: 0, past: Past::new(), means: 0, distance: 0.0, lags: Lags::new(window) }
    }

    /// The mean that this value completes, if it does.
    fn completed(&self, value: f64) -> Option<f64> {
        (self.count + 1 >= self.every).then(|| (self.sum + value) / f64::from(self.every))
    }

    /// How far the last means would be, with this value, from those there have been.
    fn distance(&self, value: f64) -> f64 {
        let far = |mean| self.lags.distance(self.past.last(self.lags.window() - 1), mean);
        self.completed(value).map_or(self.distance, far)
    }

    /// Takes a value in; says what its distance was.
    fn take(&mut self, value: f64) -> f64 {
        let Some(mean) = self.completed(value) else {
            (self.sum, self.count) = (self.sum + value, self.count + 1);
            return self.distance;
        };
        let before = self.past.last(self.lags.window() - 1);
        self.distance = self.lags.distance(before, mean);
        // Before there are so many, the window would be of zeros that never were.
        if self.means >= before.len() as u64 {
            self.lags.learn(before, mean, self.distance);
        }
        self.past.push(mean);
        (self.sum, self.count, self.means) = (0.0, 0, self.means.saturating_add(1));
        self.distance
    }

    fn sound(&self, every: u32, window: usize) -> bool {
        let gathered = self.every == every && self.count < every && self.sum.abs() <= 1e6;
        gathered && self.distance >= 0.0 && self.past.sound() && self.lags.sound(window)
    }
}

impl Shapes {
    /// Of the first channels, until one is known to hold numbers.
    pub(super) fn new(channels: usize, window: usize, paces: &[u32]) -> Self {
        let shape = |channel| Shape::new(channel, window, paces);
        Self { shapes: (0..channels.min(CHANNELS)).map(shape).collect(), numbers: false }
    }

    /// Bytes for so many channels.
    pub(super) fn needed(channels: usize, window: usize, paces: usize) -> usize {
        let pace = size_of::<Pace>() + (2 * PAST + window + window * (window + 1)) * size_of::<f64>();
        channels.min(CHANNELS) * (size_of::<Shape>() + paces * pace)
    }

    /// That of the strangest, if this were the next row.
    pub(super) fn strangest(&self, row: &[f64]) -> f64 {
        let strangeness = |shape: &Shape| row.get(shape.channel).map_or(0.0, |value| shape.strangeness(*value));
        self.shapes.iter().map(strangeness).fold(0.0, f64::max)
    }

    /// Takes a row in; says how strange its strangest was.
    pub(super) fn take(&mut self, row: &[f64]) -> f64 {
        let take = |shape: &mut Shape| row.get(shape.channel).map_or(0.0, |value| shape.take(*value));
        self.shapes.iter_mut().map(take).fold(0.0, f64::max)
    }

    /// A channel turned out to hold numbers: it is looked at if there is room, and flags no more.
    pub(super) fn number(&mut self, channel: usize, window: usize, paces: &[u32]) {
        if !self.numbers {
            self.numbers = true;
            self.shapes.retain(|shape| shape.channel == channel);
        }
        let known = self.shapes.iter().any(|shape| shape.channel == channel);
        if !known && self.shapes.len() < CHANNELS {
            self.shapes.push(Shape::new(channel, window, paces));
        }
    }

    pub(super) fn memory(&self) -> usize {
        let pace = |pace: &Pace| pace.past.memory() + pace.lags.memory() + size_of::<Pace>() - size_of::<Lags>();
        let shape = |shape: &Shape| size_of::<Shape>() + shape.paces.iter().map(pace).sum::<usize>();
        self.shapes.iter().map(shape).sum()
    }

    /// Whether they are of so many channels, and of these settings.
    pub(super) fn sound(&self, channels: usize, window: usize, paces: &[u32]) -> bool {
        let shape = |shape: &Shape| {
            let sizes = shape.channel < channels && shape.paces.len() == paces.len();
            sizes && shape.paces.iter().zip(paces).all(|(pace, every)| pace.sound(*every, window))
        };
        (1..=channels.min(CHANNELS)).contains(&self.shapes.len()) && self.shapes.iter().all(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn three_values_make_a_number() {
        let mut content = Content::NOTHING;
        for value in [0.0, f64::NAN, 0.0, 1.0, 1.0, 0.0] {
            assert!(!content.learn(value), "{value}");
        }
        assert!(content.learn(0.5) && content == Content::Number);
        assert!(!content.learn(0.7), "it is said once");
    }

    #[test]
    fn flags_have_no_shape_beside_a_number() {
        let mut shapes = Shapes::new(20, 4, &[1]);
        assert_eq!(shapes.shapes.len(), CHANNELS);
        shapes.number(12, 4, &[1]);
        assert_eq!(shapes.shapes.iter().map(|shape| shape.channel).collect::<Vec<_>>(), [12]);
        (0..20).for_each(|channel| shapes.number(channel, 4, &[1]));
        assert_eq!(shapes.shapes.iter().map(|shape| shape.channel).collect::<Vec<_>>(), [12, 0, 1, 2, 3, 4, 5, 6]);
        assert!(shapes.sound(20, 4, &[1]) && !shapes.sound(12, 4, &[1]) && !shapes.sound(20, 4, &[2]));
    }

    #[test]
    fn a_slow_change_is_strange_at_a_slow_pace_only() {
        let (mut fast, mut slow) = (Shape::new(0, 8, &[1]), Shape::new(0, 8, &[8]));
        let mut random = Random::new(1);
        for _ in 0..8_000 {
            let value = random.normal();
            fast.take(value);
            slow.take(value);
        }
        let mut most = [0.0_f64; 2];
        for _ in 0..64 {
            // A deviation higher than ever: little for a value, a lot for means of eight.
            let value = 1.0 + random.normal();
            most = [most[0].max(fast.take(value)), most[1].max(slow.take(value))];
        }
        assert!(most[1] > most[0] + 0.3, "{most:?}");
    }

    #[test]
    fn what_would_be_is_what_is() {
        let (mut shapes, mut random) = (Shapes::new(2, 6, &[1, 3]), Random::new(2));
        (0..2).for_each(|channel| shapes.number(channel, 6, &[1, 3]));
        for _ in 0..500 {
            let row = [random.normal(), random.normal()];
            assert_eq!(shapes.strangest(&row), shapes.take(&row));
        }
    }
}
