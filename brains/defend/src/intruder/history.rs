//! What is usual for each parameter of an endpoint, and how surprising another value is.

use std::{collections::BTreeMap, hash::Hasher as _};

use serde::{Deserialize, Serialize};

use super::Normal;

/// Parameters that are remembered; the one that was seen least gives way to another.
const PARAMETERS: usize = 2_048;
/// Values from which on a parameter is known.
const KNOWN: f32 = 30.0;
/// Kinds of signs that are counted: letters, digits, blanks, other scripts, and each sign of ASCII.
const KINDS: usize = 36;
/// More nats than this one thing does not add.
const MOST: f64 = 12.0;

/// The usual length, signs and mixture of each parameter's values, after Kruegel and Vigna, "Anomaly detection of web-based
/// attacks" (CCS 2003): a model for each endpoint and parameter, some 170 bytes, 2,048 of them at the most.
///
/// A surprise is in nats: how rare the rarest kind of sign in the value is there, and how far its length and mixture lie
/// outside of what is usual. 0 until thirty values were seen. What it is fed decides what is usual: feed it what was not
/// called hostile.
///
/// ```
/// use defend::intruder::History;
///
/// let mut history = History::default();
/// for n in 0..100 {
///     history.learn("/cart", "amount", &n.to_string().into_bytes());
/// }
/// assert!(history.surprise("/cart", "amount", b"17") < 2.0);
/// assert!(history.surprise("/cart", "amount", b"17' or '1'='1") > 4.0);
/// assert_eq!(history.surprise("/cart", "unknown", b"17' or '1'='1"), 0.0);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    parameters: BTreeMap<u64, Parameter>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Parameter {
    seen: f32,
    /// Values that had signs of a kind.
    with: Vec<f32>,
    /// Mean and spread of the length's logarithm, and of the entropy in bits a sign.
    length: [f32; 2],
    entropy: [f32; 2],
}

impl History {
    /// How surprising a value is for an endpoint's parameter, in nats. O(n + log parameters).
    pub fn surprise(&self, endpoint: &str, name: &str, value: &[u8]) -> f64 {
        let Some(known) = self.parameters.get(&key(endpoint, name)).filter(|known| known.seen >= KNOWN) else {
            return 0.0;
        };
        let look = Look::of(value);
        let rare = known
            .with
            .iter()
            .zip(look.with)
            .filter(|(_, with)| *with)
            .map(|(count, _)| -f64::from((count + 0.5) / (known.seen + 1.0)).ln());
        let rarest = rare.fold(0.0, f64::max);
        let outside = |[mean, spread]: [f32; 2], value: f32| {
            let distance = f64::from((value - mean).abs() / (spread / known.seen).sqrt().max(0.15));
            // A normal tail, in nats, from two deviations on.
            if distance > 2.0 { (distance * distance / 2.0).min(MOST) } else { 0.0 }
        };
        rarest.min(MOST) + outside(known.length, look.length).max(outside(known.entropy, look.entropy))
    }

    /// Takes a value in as usual. O(n + log parameters), O(parameters) where one gives way.
    pub fn learn(&mut self, endpoint: &str, name: &str, value: &[u8]) {
        let key = key(endpoint, name);
        if self.parameters.len() >= PARAMETERS && !self.parameters.contains_key(&key) {
            let least = self.parameters.iter().min_by(|a, b| a.1.seen.total_cmp(&b.1.seen)).map(|(key, _)| *key);
            least.map(|least| self.parameters.remove(&least));
        }
        let own = self.parameters.entry(key).or_insert_with(|| Parameter {
            seen: 0.0,
            with: vec![0.0; KINDS],
            length: [0.0; 2],
            entropy: [0.0; 2],
        });
        let look = Look::of(value);
        // Counts of f32 stand still at 2²⁴.
        own.seen = (own.seen + 1.0).min(1e6);
        own.with
            .iter_mut()
            .zip(look.with)
            .for_each(|(count, with)| *count = (*count + f32::from(u8::from(with))).min(1e6));
        for ([mean, spread], value) in [(&mut own.length, look.length), (&mut own.entropy, look.entropy)] {
            let apart = value - *mean;
            *mean += apart / own.seen;
            *spread += apart * (value - *mean);
        }
    }

    /// Parameters that it knows of.
    pub fn len(&self) -> usize {
        self.parameters.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }
}

/// FNV-1a: the same on every machine. A parameter that shares another's key shares its history.
pub(super) fn key(endpoint: &str, name: &str) -> u64 {
    struct Fnv(u64);
    impl std::hash::Hasher for Fnv {
        fn finish(&self) -> u64 {
            self.0
        }

        fn write(&mut self, bytes: &[u8]) {
            self.0 = bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        }
    }
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    hash.write(endpoint.as_bytes());
    hash.write(&[0]);
    hash.write(name.as_bytes());
    hash.finish()
}

/// What is counted of a value.
struct Look {
    with: [bool; KINDS],
    length: f32,
    entropy: f32,
}

impl Look {
    fn of(value: &[u8]) -> Self {
        let text = Normal::new(value);
        let mut with = [false; KINDS];
        let mut counts = [0_u32; 256];
        for byte in text.text() {
            let kind = match byte {
                b'a'..=b'z' => 0,
                b'0'..=b'9' => 1,
                b' ' => 2,
                0x80.. => 3,
                b'!'..=b'/' => 4 + usize::from(byte - b'!'),
                b':'..=b'@' => 19 + usize::from(byte - b':'),
                b'['..=b'`' => 26 + usize::from(byte - b'['),
                b'{'..=b'~' => 32 + usize::from(byte - b'{'),
                _ => 2,
            };
            if let (Some(with), Some(count)) = (with.get_mut(kind), counts.get_mut(usize::from(*byte))) {
                *with = true;
                *count += 1;
            }
        }
        let n = text.text().len().max(1) as f32;
        let share = |count: &u32| *count as f32 / n;
        let entropy = counts.iter().filter(|count| **count > 0).map(|count| -share(count) * share(count).log2()).sum();
        Self { with, length: (1.0 + n).ln(), entropy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usual_at_one_place_is_not_at_another() {
        let mut history = History::default();
        for n in 0..200 {
            history.learn("/a", "name", ["O'Brien", "d'Arcy", "Smith", "Müller-Lüdenscheidt"][n % 4].as_bytes());
            history.learn("/a", "id", n.to_string().as_bytes());
        }
        assert!(history.surprise("/a", "name", b"O'Neill") < 3.0);
        assert!(history.surprise("/a", "id", b"O'Neill") > 5.0);
        assert!(history.surprise("/a", "id", &[b'7'; 400]) > 8.0);
        assert_eq!(history.surprise("/b", "id", b"O'Neill"), 0.0);
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let mut history = History::default();
        (0..3 * PARAMETERS).for_each(|n| history.learn("/a", &n.to_string(), b"1"));
        assert_eq!(history.len(), PARAMETERS);
    }
}
