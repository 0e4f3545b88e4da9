//! Texts that are sent: addresses and headers of what was refused, and words that models are asked.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
};

use defend::intruder::{
    Found, Intruder, Request,
    walk::{Place, Walk},
};
use types::{
    DataType, ModelName, Tensor, Timestamp,
    defence::{AgentName, Reading, Subject},
};

/// Senders that are told apart; of more, those of the windows before go.
const SENDERS: usize = 8_192;
/// Words of a request that are looked at, and bytes of a window; of what is longer than three, the beginning, the middle and the
/// end are.
const WORDS: usize = 8;
const BYTES: usize = 512;
/// Texts and bytes that are looked at in a round: some percent of a core.
const TEXTS: u32 = 400;
const ROUND: usize = 64 << 10;

pub(super) struct Desk {
    intruder: Intruder,
    walks: HashMap<u64, (u64, Walk)>,
    /// Milliseconds of a window.
    length: u64,
    left: u32,
    bytes: usize,
}

/// A request that was refused, as far as it is looked at.
pub(crate) struct Asked {
    pub(crate) method: http::Method,
    pub(crate) target: String,
    pub(crate) headers: Vec<(http::HeaderName, String)>,
}

impl Desk {
    pub(super) fn new(length: u64) -> Self {
        Self { intruder: Intruder::shipped(), walks: HashMap::new(), length: length.max(1), left: TEXTS, bytes: ROUND }
    }

    /// A new round begins.
    pub(super) fn round(&mut self) {
        self.left = TEXTS;
        self.bytes = ROUND;
    }

    /// What the address and headers of a request say of whoever sent it.
    pub(super) fn request(&mut self, subject: &Subject, asked: &Asked, now: Timestamp) -> Option<Reading> {
        self.left = self.left.checked_sub(1)?;
        let headers: Vec<(&str, &str)> =
            asked.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let request = Request { method: asked.method.as_str(), target: &asked.target, headers: &headers, body: b"" };
        let found = self.intruder.request(&request);
        let words = |found: &Found| {
            let family = found.family.unwrap_or("what attacks look like");
            let name = if found.name.is_empty() { String::new() } else { format!(" `{}`", clip(&found.name)) };
            format!("{family} in {:?}{name} of {}", found.part, clip(&asked.target)).to_lowercase()
        };
        self.step(subject, None, Place::Address, (found.family.is_some() && found.hostile, found.hostile), now, || {
            words(&found)
        })
    }

    /// What the words that a model is asked say of whoever asks.
    pub(super) fn words(
        &mut self,
        (subject, model): (&Subject, Option<&ModelName>),
        inputs: &[Tensor],
        now: Timestamp,
    ) -> Option<Reading> {
        let words = inputs.iter().filter(|input| input.datatype() == DataType::Bytes).flat_map(Tensor::iter_bytes);
        let mut last = None;
        for word in words.filter(|word| word.len() >= 4).take(WORDS).flat_map(windows) {
            self.left = self.left.checked_sub(1)?;
            self.bytes = self.bytes.checked_sub(word.len())?;
            let found = self.intruder.request(&Request { body: word, ..Request::default() });
            let hit = found.family.is_some() && found.hostile;
            let what = || format!("{} in what is asked", found.family.unwrap_or("what attacks look like"));
            last = self.step(subject, model, Place::Payload, (hit, found.hostile), now, what).or(last);
        }
        last
    }

    /// What a request says of whoever asks that was refused for a clear attack.
    pub(super) fn clear(
        &mut self,
        (subject, model): (&Subject, Option<&ModelName>),
        family: &str,
        now: Timestamp,
    ) -> Option<Reading> {
        let what = || format!("{family} in what is asked, refused");
        self.step(subject, model, Place::Payload, (true, true), now, what)
    }

    fn step(
        &mut self,
        subject: &Subject,
        model: Option<&ModelName>,
        place: Place,
        (hit, hostile): (bool, bool),
        now: Timestamp,
        what: impl FnOnce() -> String,
    ) -> Option<Reading> {
        let window = now.0 / self.length;
        if self.walks.len() >= SENDERS {
            self.walks.retain(|_, (of, _)| *of == window);
        }
        let key = BuildHasherDefault::<DefaultHasher>::default().hash_one((subject, model));
        if self.walks.len() >= SENDERS && !self.walks.contains_key(&key) {
            return None;
        }
        let (of, walk) = self.walks.entry(key).or_insert((window, Walk::default()));
        if *of < window {
            // What was in the window before is half as sure, and counted anew.
            *walk = Walk { rules: walk.rules / 2.0, all: walk.all / 2.0, ..Walk::default() };
            *of = window;
        }
        walk.step(place, hit, hostile);
        let what = match walk.hostile {
            0 => String::new(),
            hostile => format!("{hostile} of {} texts; the last: {}", walk.texts, what()),
        };
        // One text is nobody's alarm, whatever is in it.
        let rule = if walk.hits >= 2 { walk.rules } else { 0.0 };
        Some(Reading { agent: AgentName::Intruder, score: walk.all, rule, twin: 0.0, certain: false, what })
    }
}

/// A text as it is looked at.
fn windows(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = text.len() <= 3 * BYTES;
    let middle = text.len() / 2;
    let cut = [(0, BYTES), (middle, middle + BYTES), (text.len().saturating_sub(BYTES), text.len())];
    let parts = if whole { [(0, text.len()), (0, 0), (0, 0)] } else { cut };
    parts.into_iter().filter_map(|(from, to)| text.get(from..to)).filter(|part| !part.is_empty())
}

fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::*;

    fn asked(target: &str) -> Asked {
        Asked { method: http::Method::GET, target: target.into(), headers: Vec::new() }
    }

    #[test]
    fn who_sends_attacks_is_told_in_words() {
        let (mut desk, eve) = (Desk::new(60_000), "source:10.0.0.9".parse::<Subject>().unwrap());
        let one = desk.request(&eve, &asked("/v1/models?x=1%27%20OR%20%271%27=%271"), Timestamp(1)).unwrap();
        assert_eq!(one.rule, 0.0, "one may be a mistake");
        let two = desk.request(&eve, &asked("/../../etc/passwd"), Timestamp(2)).unwrap();
        assert!(two.rule > 9.0 && two.what.starts_with("2 of 2 texts"), "{two:?}");
    }

    #[test]
    fn ordinary_addresses_and_words_say_nothing() {
        let (mut desk, app) = (Desk::new(60_000), "caller:bank/app".parse::<Subject>().unwrap());
        for target in ["/v1/models/fraud", "/v2/models/fraud/infer", "/v1/incidents?limit=10", "/favicon.ico", "/"] {
            assert_eq!(desk.request(&app, &asked(target), Timestamp(1)).unwrap().rule, 0.0, "{target}");
        }
        let mut data = BytesMut::new();
        types::tensor::push_element(&mut data, b"O'Brien said: select a table for two, and drop by later");
        let words = Tensor::new("text", DataType::Bytes, vec![1], Bytes::from(data)).unwrap();
        let reading = desk.words((&app, None), &[words], Timestamp(1)).unwrap();
        assert_eq!((reading.rule, reading.score), (0.0, 0.0), "{reading:?}");
    }

    #[test]
    fn so_many_senders_are_told_apart() {
        let mut desk = Desk::new(60_000);
        for n in 0..20_000_u64 {
            desk.round();
            let subject: Subject = format!("source:{n}").parse().unwrap();
            desk.request(&subject, &asked("/"), Timestamp(n * 100));
        }
        assert!(desk.walks.len() <= SENDERS);
    }
}
