//! Rows out of what callers send: numbers, words and missing values, in the schema's order.
//!
//! Learners see a word as a code. Which code is learnt here, as the stream goes, so that it is a part of the model and
//! saved beside it; who knows all words beforehand declares them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Feature, Kind, Result, Schema, Snapshot, schema::WORDS};

/// The code of every word that has none of its own.
pub const UNSEEN: u32 = 0;
/// Bytes of a word that count: longer ones that begin alike are one word.
pub const LONGEST: usize = 128;

/// One value as it comes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// A number; NaN is a missing one.
    Number(f64),
    /// A word.
    Word(&'a str),
    /// Nothing.
    Missing,
}

impl From<f64> for Value<'_> {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(word: &'a str) -> Self {
        Self::Word(word)
    }
}

impl<'a, T: Into<Self>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Missing, Into::into)
    }
}

/// Makes rows of values. A number stands for itself, a missing value is NaN, and a word its code: words get codes from 1
/// in order of appearance in [`learn`](Self::learn), and only there. A word without a code, since nobody has learnt it
/// yet or its column has no room for more, is [`UNSEEN`], a word like any other to a learner. A column of words with
/// [`Kind::Word`]`(n)` has n codes, so room for n − 1 words. Of a word longer than 128 bytes the first 128 count.
///
/// Encode allocates nothing. Both are O(width), and log(words) for a word; a word takes its bytes and some 60 more, and
/// all columns together have room for 2²⁰ words at the most.
///
/// Rows of JSON, for one:
///
/// ```
/// use online::{Encoder, Feature, Value};
///
/// fn value(json: &serde_json::Value) -> Value<'_> {
///     match json {
///         serde_json::Value::String(word) => Value::Word(word),
///         number => number.as_f64().into(),
///     }
/// }
///
/// let mut encoder = Encoder::new(vec![Feature::number("amount"), Feature::words("country", 200)])?;
/// let json = serde_json::json!([12.5, "nl"]);
/// let values: Vec<Value<'_>> = json.as_array().unwrap().iter().map(value).collect();
/// let mut row = [0.0; 2];
/// encoder.encode(&values, &mut row)?;
/// assert_eq!(row, [12.5, 0.0], "nobody has learnt of `nl` yet");
/// encoder.learn(&values)?;
/// encoder.encode(&values, &mut row)?;
/// assert_eq!(row, [12.5, 1.0]);
/// assert!(encoder.encode(&["much".into(), "nl".into()], &mut row).is_err());
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Encoder {
    schema: Schema,
    /// Of each column, its words with their codes; none of numbers.
    words: Vec<BTreeMap<String, u32>>,
}

impl Encoder {
    /// One that knows no words, for values in this order.
    ///
    /// # Errors
    /// As [`Schema::new`]; [`Error::Range`] for columns with room for more than 2²⁰ words together.
    pub fn new(columns: Vec<Feature>) -> Result<Self> {
        let schema = Schema::new(columns)?;
        check_room(&schema)?;
        let words = vec![BTreeMap::new(); schema.width()];
        Ok(Self { schema, words })
    }

    /// The columns of the rows that it makes.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Gives words of a column codes before any comes, in this order; those that have one keep it, and those that there
    /// is no room for get none.
    ///
    /// # Errors
    /// [`Error::Width`] for a column that does not exist, [`Error::Value`] for one of numbers.
    pub fn declare<'a>(&mut self, column: usize, words: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let width = self.schema.width();
        let (Some(feature), Some(known)) = (self.schema.features().get(column), self.words.get_mut(column)) else {
            return Err(Error::Width { wanted: width, found: column.saturating_add(1) });
        };
        let Kind::Word(codes) = feature.kind else {
            return Err(Error::Value { index: column, wanted: "a number", found: "a word" });
        };
        words.into_iter().for_each(|word| add(known, word, codes));
        Ok(())
    }

    /// Takes a row in: its words get codes, as long as there is room.
    ///
    /// # Errors
    /// As [`encode`](Self::encode). It has not changed then.
    pub fn learn(&mut self, values: &[Value<'_>]) -> Result<()> {
        self.check_values(values)?;
        for ((value, feature), known) in values.iter().zip(self.schema.features()).zip(&mut self.words) {
            if let (Value::Word(word), Kind::Word(codes)) = (value, feature.kind) {
                add(known, word, codes);
            }
        }
        Ok(())
    }

    /// Writes the row of some values, as [`schema`](Self::schema) has it. Where there is an error, `row` is as it was.
    ///
    /// # Errors
    /// [`Error::Width`] for as many values, or places for them, as there are no columns; [`Error::Value`] for a word
    /// where a number is declared, or a number for a word; [`Error::Infinite`].
    pub fn encode(&self, values: &[Value<'_>], row: &mut [f64]) -> Result<()> {
        self.check_values(values)?;
        if row.len() != values.len() {
            return Err(Error::Width { wanted: values.len(), found: row.len() });
        }
        for ((value, known), place) in values.iter().zip(&self.words).zip(row) {
            *place = match value {
                Value::Number(number) => *number,
                Value::Word(word) => f64::from(known.get(cut(word)).copied().unwrap_or(UNSEEN)),
                Value::Missing => f64::NAN,
            };
        }
        Ok(())
    }

    /// The code of a word, [`UNSEEN`] of one without; nothing where no column of words is.
    pub fn code(&self, column: usize, word: &str) -> Option<u32> {
        match self.schema.features().get(column)?.kind {
            Kind::Numeric => None,
            Kind::Word(_) => Some(self.words.get(column)?.get(cut(word)).copied().unwrap_or(UNSEEN)),
        }
    }

    /// The word that a code stands for, to show it to people. O(words).
    pub fn word(&self, column: usize, code: u32) -> Option<&str> {
        let mut words = self.words.get(column)?.iter();
        words.find(|(_, known)| **known == code).map(|(word, _)| word.as_str())
    }

    /// Bytes that it takes, estimated from what it holds.
    pub fn memory(&self) -> usize {
        let known = |words: &BTreeMap<String, u32>| {
            size_of_val(words) + words.keys().map(|word| ENTRY + word.capacity()).sum::<usize>()
        };
        size_of::<Self>() + self.schema.memory() + self.words.iter().map(known).sum::<usize>()
    }

    fn check_values(&self, values: &[Value<'_>]) -> Result<()> {
        if values.len() != self.schema.width() {
            return Err(Error::Width { wanted: self.schema.width(), found: values.len() });
        }
        for (index, (value, feature)) in values.iter().zip(self.schema.features()).enumerate() {
            match (value, feature.kind) {
                (Value::Number(number), _) if number.is_infinite() => return Err(Error::Infinite { index }),
                (Value::Number(_), Kind::Word(_)) => {
                    return Err(Error::Value { index, wanted: "a word", found: "a number" });
                }
                (Value::Word(_), Kind::Numeric) => {
                    return Err(Error::Value { index, wanted: "a number", found: "a word" });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Bytes of a word's entry beside its own: 28 in a node of a tree that is about two thirds full, and what the
/// allocator keeps.
const ENTRY: usize = 60;

/// What of a word counts: whole characters, up to [`LONGEST`] bytes.
fn cut(word: &str) -> &str {
    word.get(..word.floor_char_boundary(LONGEST)).unwrap_or(word)
}

/// Gives a word the next code, if it has none and there is one.
fn add(known: &mut BTreeMap<String, u32>, word: &str, codes: u32) {
    let (word, code) = (cut(word), known.len() as u32 + 1);
    if code < codes && !known.contains_key(word) {
        known.insert(word.to_owned(), code);
    }
}

/// Whether all columns together have room for no more words than may be.
fn check_room(schema: &Schema) -> Result<()> {
    let words = |feature: &Feature| match feature.kind {
        Kind::Numeric => 0,
        Kind::Word(codes) => u64::from(codes - 1),
    };
    let room: u64 = schema.features().iter().map(words).sum();
    match room <= u64::from(WORDS) {
        true => Ok(()),
        false => Err(Error::Range { what: "the number of words", value: room as f64, range: "2^20 at most, together" }),
    }
}

/// Whether words are no longer than they may be, and their codes are the first, each once.
fn is_sound(known: &BTreeMap<String, u32>, codes: u32) -> bool {
    let mut taken = vec![false; known.len()];
    for code in known.values() {
        if let Some(place) = (*code as usize).checked_sub(1).and_then(|place| taken.get_mut(place)) {
            *place = true;
        }
    }
    known.len() < codes as usize && known.keys().all(|word| word.len() <= LONGEST) && taken.iter().all(|taken| *taken)
}

impl Snapshot for Encoder {
    const KIND: &'static str = "encoder";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.schema.check_self()?;
        check_room(&self.schema)?;
        let sound = |(known, feature): (&BTreeMap<String, u32>, &Feature)| match feature.kind {
            Kind::Numeric => known.is_empty(),
            Kind::Word(codes) => is_sound(known, codes),
        };
        match self.words.len() == self.schema.width() && self.words.iter().zip(self.schema.features()).all(sound) {
            true => Ok(()),
            false => Err(Error::Snapshot("has words that do not fit its columns")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder() -> Encoder {
        Encoder::new(vec![Feature::number("n"), Feature::words("w", 3)]).unwrap()
    }

    fn row(encoder: &Encoder, values: [Value<'_>; 2]) -> Result<[f64; 2]> {
        let mut row = [7.0; 2];
        let encoded = encoder.encode(&values, &mut row);
        if encoded.is_err() {
            assert_eq!(row, [7.0; 2], "an error changes nothing");
        }
        encoded.map(|()| row)
    }

    #[test]
    fn words_have_codes_in_order_of_appearance_until_there_is_no_room() {
        let mut encoder = encoder();
        for word in ["b", "a", "b", "c"] {
            encoder.learn(&[1.0.into(), word.into()]).unwrap();
        }
        for (word, code) in [("b", 1), ("a", 2), ("c", 0), ("d", 0)] {
            assert_eq!(row(&encoder, [0.5.into(), word.into()]), Ok([0.5, f64::from(code)]), "{word}");
            assert_eq!(encoder.code(1, word), Some(code));
        }
        assert_eq!([encoder.word(1, 1), encoder.word(1, 0), encoder.word(0, 1)], [Some("b"), None, None]);
        assert_eq!([encoder.code(0, "b"), encoder.code(2, "b")], [None, None]);
    }

    #[test]
    fn what_is_missing_is_nan() {
        let encoder = encoder();
        for values in [[Value::Missing, Value::Missing], [f64::NAN.into(), None::<&str>.into()]] {
            assert!(row(&encoder, values).unwrap().iter().all(|value| value.is_nan()));
        }
    }

    #[test]
    fn what_is_declared_otherwise_is_an_error_that_changes_nothing() {
        let mut encoder = encoder();
        let before = encoder.clone();
        for (values, error) in [
            ([Value::Word("x"), Value::Word("y")], Error::Value { index: 0, wanted: "a number", found: "a word" }),
            ([Value::Number(1.0), Value::Number(1.0)], Error::Value { index: 1, wanted: "a word", found: "a number" }),
            ([Value::Number(f64::INFINITY), Value::Word("y")], Error::Infinite { index: 0 }),
        ] {
            assert_eq!(row(&encoder, values), Err(error.clone()));
            assert_eq!(encoder.learn(&values), Err(error));
        }
        let one = [Value::Number(1.0)];
        assert_eq!(encoder.learn(&one), Err(Error::Width { wanted: 2, found: 1 }));
        assert_eq!(encoder.encode(&one, &mut [0.0]), Err(Error::Width { wanted: 2, found: 1 }));
        let two = [Value::Number(1.0), Value::Word("y")];
        assert_eq!(encoder.encode(&two, &mut [0.0]), Err(Error::Width { wanted: 2, found: 1 }));
        assert_eq!(encoder, before);
    }

    #[test]
    fn of_a_long_word_whole_characters_count() {
        let mut encoder = encoder();
        let (long, longer) = (format!("{}ä", "x".repeat(127)), format!("{}ö and more", "x".repeat(127)));
        encoder.learn(&[1.0.into(), long.as_str().into()]).unwrap();
        assert_eq!(encoder.code(1, &longer), Some(1), "127 bytes of both count, which are alike");
        assert_eq!(encoder.word(1, 1).map(str::len), Some(127));
    }

    #[test]
    fn words_can_be_declared() {
        let mut encoder = encoder();
        encoder.declare(1, ["no", "yes", "maybe"]).unwrap();
        assert_eq!(["no", "yes", "maybe"].map(|word| encoder.code(1, word)), [Some(1), Some(2), Some(0)]);
        assert!(encoder.declare(0, ["no"]).is_err() && encoder.declare(2, ["no"]).is_err());
    }

    #[test]
    fn there_is_a_bound_on_words() {
        let columns = |count| vec![Feature::words("w", WORDS); count];
        assert!(Encoder::new(columns(1)).is_ok());
        assert!(matches!(Encoder::new(columns(2)), Err(Error::Range { .. })));
    }

    #[test]
    fn a_snapshot_with_codes_that_can_not_be_is_refused() {
        let with = |words: &[(&str, u32)]| Encoder {
            schema: encoder().schema,
            words: vec![BTreeMap::new(), words.iter().map(|(word, code)| ((*word).to_owned(), *code)).collect()],
        };
        assert!(Encoder::load(&with(&[("a", 2), ("b", 1)]).save()).is_ok());
        for words in [&[("a", 0)][..], &[("a", 2)], &[("a", 1), ("b", 1)], &[("a", 1), ("b", 2), ("c", 3)]] {
            assert!(Encoder::load(&with(words).save()).is_err(), "{words:?}");
        }
        assert!(Encoder::load(&with(&[("x".repeat(129).as_str(), 1)]).save()).is_err());
    }
}
