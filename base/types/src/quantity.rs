//! Quantities as people write them in manifests and settings: `4MiB`, `50ms`, `0.1%`, `200/s`.
//!
//! Each parses from text, prints the shortest text that parses back, and has a JSON Schema.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Text that is no quantity of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is no {what}; write it like {example}")]
pub struct QuantityError {
    what: &'static str,
    value: String,
    example: &'static str,
}

/// A number of bytes: `512`, `4KiB`, `4MiB`, `1GiB`, or decimal `4kB`, `4MB`, `1GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteCount(pub u64);

/// A length of time: `250us`, `50ms`, `30s`, `5m`, `24h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// A share between 0 and 1, written as a percentage: `99.9%`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(f64);

/// Events per second, written `200/s`, `30/m` or `1000/h`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Rate(f64);

const BYTES: [(&str, u64); 9] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];
const SPANS: [(&str, u64); 6] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

impl FromStr for ByteCount {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let fail = || error("number of bytes", text, "`4MiB`");
        let (number, unit) = split(text);
        let scale = if unit.is_empty() { 1 } else { lookup(&BYTES, unit).ok_or_else(fail)? };
        number.parse::<u64>().ok().and_then(|n| n.checked_mul(scale)).map(Self).ok_or_else(fail)
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, scale) = BYTES
            .iter()
            .take(3)
            .find(|(_, scale)| self.0 >= *scale && self.0.is_multiple_of(*scale))
            .unwrap_or(&("", 1));
        write!(f, "{}{unit}", self.0 / scale)
    }
}

impl FromStr for Span {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let fail = || error("length of time", text, "`50ms`, `30s` or `7d`");
        let (number, unit) = split(text);
        let scale = lookup(&SPANS, unit).ok_or_else(fail)?;
        let micros = number.parse::<u64>().ok().and_then(|n| n.checked_mul(scale)).ok_or_else(fail)?;
        Ok(Self(Duration::from_micros(micros)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        let (unit, scale) =
            SPANS.iter().find(|(_, scale)| micros >= *scale && micros % scale == 0).unwrap_or(&("us", 1));
        write!(f, "{}{unit}", micros / scale)
    }
}

impl Share {
    /// A share of `value`, when it lies in 0..=1.
    pub fn new(value: f64) -> Option<Self> {
        (0.0..=1.0).contains(&value).then_some(Self(value))
    }

    /// The share as a number in 0..=1.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Share {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let number = text.strip_suffix('%').and_then(|n| n.parse::<f64>().ok());
        number.and_then(|n| Self::new(n / 100.0)).ok_or_else(|| error("percentage", text, "`99.9%`"))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Twelve digits hide the rounding of the division by 100; what a person wrote with more is printed in full.
        let exact = self.0 * 100.0;
        let short = (exact * 1e12).round() / 1e12;
        let near = [short, exact, exact.next_up(), exact.next_down()];
        let percent = near.into_iter().find(|percent| percent / 100.0 == self.0).unwrap_or(exact);
        write!(f, "{percent}%")
    }
}

impl Rate {
    /// Events per second.
    pub fn per_second(self) -> f64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let fail = || error("rate above 0", text, "`200/s`, `30/m` or `1000/h`");
        let (number, unit) = text.split_once('/').ok_or_else(fail)?;
        let seconds = match unit {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(fail()),
        };
        let value = number.parse::<f64>().map_err(|_| fail())? / seconds;
        if value.is_finite() && value > 0.0 { Ok(Self(value)) } else { Err(fail()) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, seconds) in [("s", 1.0), ("m", 60.0), ("h", 3600.0)] {
            let number = (self.0 * seconds).round();
            if number / seconds == self.0 {
                return write!(f, "{number}/{unit}");
            }
        }
        write!(f, "{}/s", self.0)
    }
}

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn lookup(table: &[(&str, u64)], unit: &str) -> Option<u64> {
    table.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale)
}

fn error(what: &'static str, value: &str, example: &'static str) -> QuantityError {
    QuantityError { what, value: value.chars().take(40).collect(), example }
}

macro_rules! as_text {
    ($name:ident, $pattern:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                #[serde(untagged)]
                enum Written<'a> {
                    Text(#[serde(borrow)] Cow<'a, str>),
                    Owned(String),
                    Number(u64),
                }
                let text = match Written::deserialize(d)? {
                    Written::Text(text) => text,
                    Written::Owned(text) => text.into(),
                    Written::Number(number) => number.to_string().into(),
                };
                text.parse().map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

pub(crate) use as_text;

as_text!(ByteCount, "^[0-9]+(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)?$");
as_text!(Span, "^[0-9]+(us|ms|s|m|h|d)$");
as_text!(Share, "^[0-9]+(\\.[0-9]+)?%$");
as_text!(Rate, "^[0-9]+(\\.[0-9]+)?/(s|m|h)$");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!("4MiB".parse(), Ok(ByteCount(4 << 20)));
        assert_eq!("512".parse(), Ok(ByteCount(512)));
        assert_eq!("50ms".parse(), Ok(Span(Duration::from_millis(50))));
        assert_eq!("7d".parse(), Ok(Span(Duration::from_secs(604_800))));
        assert_eq!("0.1%".parse::<Share>().map(|s| s.to_string()), Ok("0.1%".into()));
        assert_eq!("200/s".parse::<Rate>().map(Rate::per_second), Ok(200.0));
    }

    #[test]
    fn refuses_nonsense_and_overflow() {
        for bad in ["", "MiB", "4mb", "-1", "1.5MiB", "99999999999999999999", "18446744073709551615GiB"] {
            assert!(bad.parse::<ByteCount>().is_err(), "{bad}");
        }
        for bad in ["", "5", "5x", "ms", "1h30m", "999999999999999999d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
        for bad in ["1", "101%", "-1%", "NaN%", "%"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
        for bad in ["1", "0/s", "-1/s", "inf/s", "NaN/s", "1/y"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    /// Found by fuzzing: rates near zero were printed as `0/s`, and fine shares were rounded.
    #[test]
    fn what_is_read_is_printed_so_that_it_reads_back() {
        for text in ["30/m", "1000/h", "7/s", "0.5/s", "0.0000000001/s", "1e300/s", "0.3/m", "1e-300/h"] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.to_string().parse(), Ok(rate), "{text}");
        }
        assert!("1e-323/h".parse::<Rate>().is_err() && "30/m".parse::<Rate>().unwrap().to_string() == "30/m");
        for text in ["99.9%", "0.1%", "0.1234567890123456%", "1e-13%", "33.333333333333336%", "0%", "100%"] {
            let share: Share = text.parse().unwrap();
            assert_eq!(share.to_string().parse(), Ok(share), "{text}");
        }
    }

    proptest! {
        #[test]
        fn printing_then_parsing_is_identity(bytes: u64, micros in 0..u64::MAX / 2) {
            prop_assert_eq!(ByteCount(bytes).to_string().parse(), Ok(ByteCount(bytes)));
            let span = Span(Duration::from_micros(micros));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }
    }
}
