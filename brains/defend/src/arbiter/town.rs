//! A namespace: how many callers it has, and who of them was answered lately.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    time::Duration,
};

use types::{CallerName, Timestamp, defence::Subject};

/// Callers that are counted; there may be more.
const CALLERS: usize = 100_000;
/// How long somebody counts as answered lately.
const LATELY: Duration = Duration::from_secs(600);
/// How long a caller counts after it was last seen, at least; twice as long at most.
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Debug, Default)]
pub(super) struct Town {
    /// Callers of this day and of the one before.
    today: HashSet<u64>,
    yesterday: HashSet<u64>,
    since: Option<Timestamp>,
    raised: VecDeque<(Timestamp, Subject)>,
}

impl Town {
    pub(super) fn see(&mut self, caller: &CallerName, now: Timestamp) {
        if self.today.len() < CALLERS {
            self.today.insert(BuildHasherDefault::<DefaultHasher>::default().hash_one(caller));
        }
        self.since.get_or_insert(now);
    }

    pub(super) fn callers(&self) -> usize {
        self.today.len().max(self.yesterday.len())
    }

    pub(super) fn raised(&mut self, subject: &Subject, now: Timestamp) {
        self.raised.retain(|(_, other)| other != subject);
        self.raised.push_back((now, subject.clone()));
    }

    /// How many others were answered lately.
    pub(super) fn lately(&self, subject: &Subject, now: Timestamp) -> usize {
        self.raised.iter().filter(|(at, other)| now.since(*at) < LATELY && other != subject).count()
    }

    pub(super) fn tick(&mut self, now: Timestamp) {
        while self.raised.front().is_some_and(|(at, _)| now.since(*at) >= LATELY) {
            self.raised.pop_front();
        }
        if self.since.is_some_and(|since| now.since(since) >= DAY) {
            self.yesterday = std::mem::take(&mut self.today);
            self.since = Some(now);
        }
    }
}
