//! A column of 0 and 1 for each word.

use serde::{Deserialize, Serialize};

use super::{Transformer, check_row};
use crate::{Error, Feature, Kind, Result, Schema, Snapshot, error::within, schema::FEATURES};

/// How a [`OneHot`] encodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Columns that one column of words may become, at the most. Default 64.
    pub words: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { words: 64 }
    }
}

/// Makes of each column of words as many columns of 0 and 1 as it declares words, up to a bound. Words get theirs in
/// order of appearance in [`learn`](Transformer::learn), so that it is the bound's first words which are told apart
/// where there are more. A word that has no column, since nobody has learnt it yet or there is none left, is 0 in all
/// of them, and so is a missing one. Numbers stay, missing ones too.
///
/// Transform is O(columns that go out) and log(words), learn O(words) for a word that is new. 8 bytes for each word
/// that has a column, and the names of all columns.
///
/// ```
/// use online::{Feature, OneHot, Schema, transform::{Transformer, one_hot::Settings}};
///
/// let schema = Schema::new(vec![Feature::words("country", 200), Feature::number("amount")])?;
/// let mut one_hot = OneHot::new(Settings { words: 3 }, schema)?;
/// for country in [41.0, 7.0, 41.0] {
///     one_hot.learn(&[country, 9.5], 1.0)?;
/// }
/// let mut out = [0.0; 4];
/// one_hot.transform(&[7.0, 9.5], &mut out)?;
/// assert_eq!(out, [0.0, 1.0, 0.0, 9.5]);
/// one_hot.transform(&[8.0, 9.5], &mut out)?;
/// assert_eq!(out, [0.0, 0.0, 0.0, 9.5], "nobody has learnt of country 8 yet");
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OneHot {
    settings: Settings,
    schema: Schema,
    output: Schema,
    /// Of each column that comes in, the words that have a column; none of numbers.
    known: Vec<Known>,
}

/// Words by code, rising, each with its place among its column's columns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Known(Vec<(u32, u32)>);

impl Known {
    fn place(&self, word: u32) -> Option<usize> {
        let found = self.0.binary_search_by_key(&word, |(word, _)| *word).ok()?;
        self.0.get(found).map(|(_, place)| *place as usize)
    }

    fn add(&mut self, word: u32, room: u32) {
        let place = self.0.len() as u32;
        if let Err(at) = self.0.binary_search_by_key(&word, |(word, _)| *word)
            && place < room
        {
            self.0.insert(at, (word, place));
        }
    }

    /// Whether words are of a column, each once, and each place is one of the first, once.
    fn is_sound(&self, words: u32, room: u32) -> bool {
        let rising = self.0.is_sorted_by(|(a, _), (b, _)| a < b) && self.0.last().is_none_or(|(word, _)| *word < words);
        let mut places = vec![false; self.0.len()];
        for (_, place) in &self.0 {
            if let Some(taken) = places.get_mut(*place as usize) {
                *taken = true;
            }
        }
        rising && self.0.len() <= room as usize && places.iter().all(|taken| *taken)
    }
}

impl Settings {
    /// Columns for a column of so many words.
    fn room(&self, words: u32) -> u32 {
        words.min(self.words)
    }

    fn output(&self, schema: &Schema) -> Result<Schema> {
        within("words", f64::from(self.words), (1.0, FEATURES as f64), "from 1 to 65,536")?;
        let mut features = Vec::new();
        for feature in schema.features() {
            match feature.kind {
                Kind::Numeric => features.push(feature.clone()),
                // One too many is enough for the schema to refuse them: names must not fill the memory first.
                Kind::Word(words) => {
                    let room = (self.room(words) as usize).min((FEATURES + 1).saturating_sub(features.len()));
                    features.extend((0..room).map(|place| Feature::number(format!("{} {place}", feature.name))));
                }
            }
        }
        Schema::new(features)
    }
}

impl OneHot {
    /// One that knows no word.
    ///
    /// # Errors
    /// [`Error::Range`] for a setting that can't be, or more than 65,536 columns that would go out.
    pub fn new(settings: Settings, schema: Schema) -> Result<Self> {
        let output = settings.output(&schema)?;
        let known = vec![Known::default(); schema.width()];
        Ok(Self { settings, schema, output, known })
    }
}

impl Transformer for OneHot {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn output(&self) -> &Schema {
        &self.output
    }

    fn transform(&self, row: &[f64], out: &mut [f64]) -> Result<()> {
        check_row(&self.schema, row, (self.output.width(), out.len()))?;
        out.fill(0.0);
        let mut begin = 0;
        for ((value, feature), known) in row.iter().zip(self.schema.features()).zip(&self.known) {
            let (place, written, width) = match feature.kind {
                Kind::Numeric => (Some(0), *value, 1),
                Kind::Word(words) => {
                    let place = if value.is_nan() { None } else { known.place(*value as u32) };
                    (place, 1.0, self.settings.room(words) as usize)
                }
            };
            if let Some(out) = place.and_then(|place| out.get_mut(begin + place)) {
                *out = written;
            }
            begin += width;
        }
        Ok(())
    }

    fn learn(&mut self, row: &[f64], weight: f64) -> Result<()> {
        crate::error::weight(weight)?;
        self.schema.check(row)?;
        if weight == 0.0 {
            return Ok(());
        }
        for ((value, feature), known) in row.iter().zip(self.schema.features()).zip(&mut self.known) {
            if let Kind::Word(words) = feature.kind
                && !value.is_nan()
            {
                known.add(*value as u32, self.settings.room(words));
            }
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        let known: usize = self.known.iter().map(|known| size_of::<Known>() + known.0.capacity() * 8).sum();
        size_of::<Self>() + self.schema.memory() + self.output.memory() + known
    }
}

impl Snapshot for OneHot {
    const KIND: &'static str = "one-hot";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.schema.check_self()?;
        if self.settings.output(&self.schema)? != self.output || self.known.len() != self.schema.width() {
            return Err(Error::Snapshot("has columns that do not fit its rows"));
        }
        let sound = |(known, feature): (&Known, &Feature)| match feature.kind {
            Kind::Numeric => known.0.is_empty(),
            Kind::Word(words) => known.is_sound(words, self.settings.room(words)),
        };
        match self.known.iter().zip(self.schema.features()).all(sound) {
            true => Ok(()),
            false => Err(Error::Snapshot("has words that its rows do not")),
        }
    }
}
