//! A row as places with values: numbers scaled, each word a place of its own, a constant at the end.

use serde::{Deserialize, Serialize};

use crate::{Error, Kind, Result, Schema, moments::Moments};

/// What linear learners make of a row. Numbers are scaled by the mean and spread seen so far; where words are more than
/// there is room for, they are spread over it by a hash (Weinberger and others, "Feature hashing", ICML 2009).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Places {
    schema: Schema,
    moments: Moments,
    /// Where the words of each column begin among all words.
    begins: Vec<u64>,
    /// Words of all columns, and places for them.
    words: u64,
    room: u32,
}

impl Places {
    /// With at most so many places for words.
    pub(crate) fn new(schema: Schema, room: u32) -> Self {
        let mut words = 0_u64;
        let begins = schema.features().iter().map(|feature| {
            let begin = words;
            if let Kind::Word(count) = feature.kind {
                words += u64::from(count);
            }
            begin
        });
        let begins = begins.collect();
        let moments = Moments::new(schema.width());
        let room = u32::try_from(words).unwrap_or(u32::MAX).min(room);
        Self { schema, moments, begins, words, room }
    }

    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// How many places there are.
    pub(crate) fn count(&self) -> usize {
        self.schema.width() + self.room as usize + 1
    }

    /// Takes a row into means and spreads.
    pub(crate) fn learn(&mut self, row: &[f64], weight: f64) {
        self.moments.add(row, weight);
    }

    /// Calls `visit` with each place of a row, and the value there. O(width).
    pub(crate) fn visit(&self, row: &[f64], mut visit: impl FnMut(usize, f64)) {
        for (column, (value, feature)) in row.iter().zip(self.schema.features()).enumerate() {
            match feature.kind {
                _ if value.is_nan() => {}
                Kind::Numeric => visit(column, self.moments.scaled(column, *value)),
                Kind::Word(_) => visit(self.place(column, *value as u64), 1.0),
            }
        }
        visit(self.count() - 1, 1.0);
    }

    fn place(&self, column: usize, word: u64) -> usize {
        let word = self.begins.get(column).copied().unwrap_or(0).wrapping_add(word);
        let room = u64::from(self.room.max(1));
        // Multiplicative hashing (Knuth, volume 3), where not every word has a place of its own.
        let place = if self.words <= room { word } else { word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24 };
        self.schema.width() + (place % room) as usize
    }

    pub(crate) fn memory(&self) -> usize {
        self.moments.memory() + self.begins.len() * 8
    }

    pub(crate) fn check(&self, room: u32) -> Result<()> {
        self.schema.check_self()?;
        let fresh = Self::new(self.schema.clone(), room);
        let same = fresh.begins == self.begins && (fresh.words, fresh.room) == (self.words, self.room);
        if same && self.moments.is_sound(self.schema.width()) {
            Ok(())
        } else {
            Err(Error::Snapshot("has places that do not fit its rows"))
        }
    }
}
