//! What was a day and a week ago, in a ring of slots.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Slots beyond a week: the one that fills, and those between which is interpolated.
const SPARE: usize = 3;

/// Means of the last week by slots of one or more intervals. A slot without a value is NaN. 4 bytes a slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Profile {
    slots: Vec<f32>,
    /// Intervals of a slot.
    per_slot: u64,
    /// The slot that fills, counted from the first interval ever.
    slot: u64,
    sum: f64,
    count: u32,
}

impl Profile {
    /// For a week of so many intervals in at most so many slots.
    pub(super) fn new(week: u64, most: u16) -> Self {
        let per_slot = week.div_ceil(u64::from(most.max(1))).max(1);
        let slots = usize::try_from(week / per_slot).unwrap_or(0) + SPARE;
        Self { slots: vec![f32::NAN; slots], per_slot, slot: 0, sum: 0.0, count: 0 }
    }

    /// Intervals of a slot.
    pub(super) fn per_slot(&self) -> u64 {
        self.per_slot
    }

    /// Takes in the value of an interval, NaN for a missing one; intervals come in order, with gaps.
    pub(super) fn observe(&mut self, interval: u64, value: f64) {
        let slot = interval / self.per_slot;
        if slot != self.slot {
            self.close(slot);
        }
        if !value.is_nan() {
            self.sum += value;
            self.count += 1;
        }
    }

    /// Closes the slot that filled, and empties those that had no interval: at most a week of them.
    fn close(&mut self, next: u64) {
        let length = self.slots.len() as u64;
        let mean = if self.count > 0 { (self.sum / f64::from(self.count)) as f32 } else { f32::NAN };
        self.put(self.slot, mean);
        for empty in (self.slot + 1..next).rev().take(self.slots.len()) {
            self.put(empty, f32::NAN);
        }
        // A gap of more than a week has emptied the closed one as well.
        if next.saturating_sub(self.slot) > length {
            self.put(self.slot, f32::NAN);
        }
        (self.slot, self.sum, self.count) = (next, 0.0, 0);
    }

    fn put(&mut self, slot: u64, mean: f32) {
        let place = (slot % self.slots.len() as u64) as usize;
        if let Some(kept) = self.slots.get_mut(place) {
            *kept = mean;
        }
    }

    /// The mean around an interval of the past, interpolated between the middles of slots; NaN where nothing is known.
    pub(super) fn at(&self, interval: f64) -> f64 {
        let place = (interval - (self.per_slot - 1) as f64 / 2.0) / self.per_slot as f64;
        let (low, part) = (place.floor(), place - place.floor());
        let [a, b] = [low, low + 1.0].map(|slot| self.slot_at(slot));
        match (a.is_nan(), b.is_nan()) {
            (false, false) => a + part * (b - a),
            (false, true) => a,
            (true, false) if part > 0.0 => b,
            _ => f64::NAN,
        }
    }

    fn slot_at(&self, slot: f64) -> f64 {
        let oldest = self.slot as f64 - self.slots.len() as f64;
        if !(slot >= 0.0 && slot > oldest && slot < self.slot as f64) {
            return f64::NAN;
        }
        let place = (slot as u64 % self.slots.len() as u64) as usize;
        self.slots.get(place).map_or(f64::NAN, |mean| f64::from(*mean))
    }

    /// Whether it is what `new` makes, filled by values of at most `bound`.
    pub(super) fn check(&self, fresh: &Self, bound: f64) -> Result<()> {
        let sizes = self.slots.len() == fresh.slots.len() && self.per_slot == fresh.per_slot;
        let mean = |mean: &f32| mean.is_nan() || f64::from(mean.abs()) <= bound * 1.001;
        let filling = u64::from(self.count) <= self.per_slot && self.sum.abs() <= f64::from(self.count) * bound;
        // Far enough below 2⁶⁴ that no count of intervals overflows.
        let time = self.slot <= (1 << 53) / fresh.per_slot;
        if sizes && filling && time && self.slots.iter().all(mean) {
            Ok(())
        } else {
            Err(Error::Snapshot("has a profile that no values give"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_is_remembered_and_no_more() {
        let mut profile = Profile::new(100, 100);
        (0..300).for_each(|interval| profile.observe(interval, interval as f64));
        assert_eq!(profile.at(250.0), 250.0);
        assert_eq!(profile.at(199.5), 199.5);
        assert!(profile.at(190.0).is_nan() && profile.at(299.5).is_nan() && profile.at(-1.0).is_nan());
    }

    #[test]
    fn slots_of_no_intervals_are_refused() {
        let fresh = Profile::new(100, 10);
        assert_eq!(fresh.check(&fresh, 1.0), Ok(()));
        assert!(Profile { per_slot: 0, ..fresh.clone() }.check(&fresh, 1.0).is_err());
    }

    #[test]
    fn slots_are_means_and_gaps_are_empty() {
        let mut profile = Profile::new(100, 10);
        (0..50).for_each(|interval| profile.observe(interval, interval as f64));
        assert_eq!(profile.at(20.0), 20.0);
        profile.observe(90, 1.0);
        assert!(profile.at(70.0).is_nan());
        assert_eq!(profile.at(44.5), 44.5);
        profile.observe(100_000, 1.0);
        profile.observe(100_010, 1.0);
        assert!(profile.at(99_950.0).is_nan());
        assert_eq!(profile.at(100_004.5), 1.0);
    }
}
