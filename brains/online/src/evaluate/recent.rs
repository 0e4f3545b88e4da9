//! The last rows, in order of arrival.

use serde::{Deserialize, Serialize};

/// A ring of at most so many values; it grows with what comes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Recent<T> {
    values: Vec<T>,
    /// Where the oldest lies, once the ring is full.
    begin: usize,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { values: Vec::new(), begin: 0 }
    }
}

impl<T> Recent<T> {
    pub(super) fn push(&mut self, value: T, most: usize) {
        if self.values.len() < most {
            self.values.push(value);
        } else if let Some(oldest) = self.values.get_mut(self.begin) {
            *oldest = value;
            self.begin = (self.begin + 1) % most.max(1);
        }
    }

    /// The last of them, the newest first.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = &T> {
        let (newer, older) = self.values.split_at(self.begin.min(self.values.len()));
        newer.iter().rev().chain(older.iter().rev()).take(count)
    }

    pub(super) fn memory(&self) -> usize {
        self.values.capacity() * size_of::<T>()
    }

    pub(super) fn is_sound(&self, most: usize, sound: impl Fn(&T) -> bool) -> bool {
        let full = self.values.len() == most;
        let placed = if full { self.begin < most.max(1) } else { self.begin == 0 };
        self.values.len() <= most && placed && self.values.iter().all(sound)
    }
}
