//! State that others follow: keyed values, each change numbered, waited for instead of polled.
//!
//! A follower asks for what changed since a number and waits until something did. Only the newest value of each
//! key is kept, so memory is bounded by the number of keys, and a follower that was away never replays history.
//! A new epoch (the writer restarted) tells followers to forget everything and start over.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Where a follower stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Since {
    /// The epoch it last saw; 0 before the first answer.
    pub epoch: u64,
    /// The last change it saw in that epoch.
    pub sequence: u64,
}

/// One changed key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change<K, V> {
    /// Which.
    pub key: K,
    /// Its value now; `None` when it went away.
    pub value: Option<V>,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changes<K, V> {
    /// Whether the follower must forget all it knew before it takes these.
    pub restart: bool,
    /// The changed keys, oldest change first.
    pub changes: Vec<Change<K, V>>,
    /// Where the follower stands now.
    pub since: Since,
}

/// The longest a follower is kept waiting before it gets an empty answer.
pub const WAIT: Duration = Duration::from_secs(20);
/// Keys that went away and are remembered for followers; older ones force a restart.
const GRAVES: usize = 4_096;

#[derive(Debug)]
struct State<K, V> {
    /// Value (or grave) and the number of its last change.
    keys: BTreeMap<K, (u64, Option<V>)>,
    /// Keys by the number of their last change.
    order: BTreeMap<u64, K>,
    sequence: u64,
    /// Followers that stand before this number have missed forgotten graves.
    floor: u64,
    graves: usize,
}

/// The writer's side of a feed.
#[derive(Debug)]
pub struct Feed<K, V> {
    epoch: u64,
    state: Mutex<State<K, V>>,
    changed: watch::Sender<u64>,
}

impl<K: Ord + Clone, V: Clone + PartialEq> Default for Feed<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> Feed<K, V> {
    /// An empty feed of a new epoch.
    pub fn new() -> Self {
        let (high, low) = uuid::Uuid::now_v7().as_u64_pair();
        let state = State { keys: BTreeMap::new(), order: BTreeMap::new(), sequence: 0, floor: 0, graves: 0 };
        Self { epoch: (high ^ low).max(1), state: Mutex::new(state), changed: watch::channel(0).0 }
    }

    /// Sets or removes a key; what does not change is no change.
    pub fn set(&self, key: K, value: Option<V>) {
        let mut state = self.state.lock();
        let old = state.keys.get(&key).map(|(sequence, value)| (*sequence, value.clone()));
        if old.as_ref().map_or(value.is_none(), |(_, old)| *old == value) {
            return;
        }
        if let Some((sequence, was)) = old {
            state.order.remove(&sequence);
            state.graves -= usize::from(was.is_none());
        }
        state.sequence += 1;
        let sequence = state.sequence;
        state.graves += usize::from(value.is_none());
        state.order.insert(sequence, key.clone());
        state.keys.insert(key, (sequence, value));
        if state.graves > GRAVES {
            state.forget_graves();
        }
        drop(state);
        self.changed.send_replace(sequence);
    }

    /// What changed since, at once.
    pub fn now(&self, since: Since) -> Changes<K, V> {
        let state = self.state.lock();
        let known = since.epoch == self.epoch && since.sequence >= state.floor && since.sequence <= state.sequence;
        let from = if known { since.sequence } else { 0 };
        let changes = state
            .order
            .range(from + 1..)
            .filter_map(|(_, key)| state.keys.get(key).map(|(_, value)| (key, value)))
            .filter(|(_, value)| known || value.is_some())
            .map(|(key, value)| Change { key: key.clone(), value: value.clone() })
            .collect();
        Changes { restart: !known, changes, since: Since { epoch: self.epoch, sequence: state.sequence } }
    }

    /// What changed since; waits at most [`WAIT`] until something did.
    pub async fn wait(&self, since: Since) -> Changes<K, V> {
        let mut changed = self.changed.subscribe();
        let first = self.now(since);
        if first.restart || !first.changes.is_empty() {
            return first;
        }
        // The sender lives as long as the feed, so waiting ends by a change or by the time limit.
        let _ = tokio::time::timeout(WAIT, changed.wait_for(|sequence| *sequence > since.sequence)).await;
        self.now(since)
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<V> {
        self.state.lock().keys.get(key).and_then(|(_, value)| value.clone())
    }
}

impl<K: Ord + Clone, V> State<K, V> {
    fn forget_graves(&mut self) {
        self.keys.retain(|_, (_, value)| value.is_some());
        self.order.retain(|_, key| self.keys.contains_key(key));
        self.graves = 0;
        self.floor = self.sequence;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_follower_sees_the_newest_value_of_each_key_once() {
        let feed = Feed::new();
        feed.set("a", Some(1));
        feed.set("b", Some(1));
        feed.set("a", Some(2));
        let first = feed.wait(Since::default()).await;
        assert!(first.restart);
        assert_eq!(first.changes, [Change { key: "b", value: Some(1) }, Change { key: "a", value: Some(2) }]);
        feed.set("b", None);
        let next = feed.wait(first.since).await;
        assert!(!next.restart);
        assert_eq!(next.changes, [Change { key: "b", value: None }]);
        assert!(feed.now(next.since).changes.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_with_the_change_or_with_the_time() {
        let feed = std::sync::Arc::new(Feed::new());
        feed.set("a", Some(1));
        let since = feed.now(Since::default()).since;
        let waiting = tokio::spawn({
            let feed = feed.clone();
            async move { feed.wait(since).await }
        });
        tokio::task::yield_now().await;
        feed.set("a", Some(2));
        assert_eq!(waiting.await.unwrap().changes.len(), 1);
        assert!(feed.wait(feed.now(since).since).await.changes.is_empty());
    }

    #[test]
    fn a_new_epoch_or_forgotten_graves_start_a_follower_over() {
        let feed = Feed::new();
        for key in 0..=GRAVES {
            feed.set(key, Some(1));
        }
        let since = feed.now(Since::default()).since;
        for key in 0..=GRAVES {
            feed.set(key, None);
        }
        assert!(feed.now(since).restart);
        assert!(Feed::<usize, u32>::new().now(since).restart);
    }
}
