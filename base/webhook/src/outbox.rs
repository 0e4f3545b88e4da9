//! Which notes wait to be sent, when each is, and which is given up; without a clock or anything that is sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use types::{Timestamp, told::Told};

use crate::{About, Answer, Note};

/// Notes that wait, at most; of whom most wait, the oldest goes.
const WAITING: usize = 200;
/// Notes that are sent at a time.
const AT_ONCE: usize = 8;
/// The wait after the first attempt, at most; doubled with each, up to the most.
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(3_600);
/// How long after it happened something is told again.
const LONGEST: Duration = Duration::from_secs(86_400);

/// What is noted: any number of notes, of which at most 200 wait. Its owner bounds how many it remembers beside those
/// ([`Outbox::done`]).
#[derive(Debug)]
pub struct Outbox<A>(BTreeMap<String, Note<A>>);

impl<A> Default for Outbox<A> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<A> Note<A> {
    /// When it is sent next, where it waits.
    pub fn next(&self) -> Option<Timestamp> {
        match self.told {
            Some(Told::Waiting { next, .. }) => Some(next),
            _ => None,
        }
    }

    /// How often it was sent.
    fn attempts(&self) -> u32 {
        match self.told {
            Some(
                Told::Waiting { attempts, .. } | Told::Delivered { attempts, .. } | Told::Dropped { attempts, .. },
            ) => attempts,
            None => 0,
        }
    }
}

impl<A: About + Clone> Outbox<A> {
    /// Takes a note in, or its newer state.
    pub fn put(&mut self, note: Note<A>) {
        self.0.insert(note.id.clone(), note);
    }

    /// All of them.
    pub fn notes(&self) -> impl Iterator<Item = &Note<A>> {
        self.0.values()
    }

    /// Whether something is noted.
    pub fn knows(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// Drops a note.
    pub fn forget(&mut self, id: &str) {
        self.0.remove(id);
    }

    /// Those of which nobody remembers what they are about, and that wait for nothing.
    pub fn done(&self, remembered: &BTreeSet<String>) -> Vec<Note<A>> {
        let done = |note: &&Note<A>| note.next().is_none() && !remembered.contains(&note.id);
        self.0.values().filter(done).cloned().collect()
    }

    /// The note that has to go before another one waits, in its last state: the oldest of the owner of whom most wait, so
    /// that one whose receiver is away takes no other's place. Nothing while there is room.
    pub fn room(&self) -> Option<Note<A>> {
        let waiting = || self.0.values().filter(|note| note.next().is_some());
        if waiting().count() < WAITING {
            return None;
        }
        let mut counts = BTreeMap::<_, usize>::new();
        waiting().for_each(|note| *counts.entry(note.about.owner()).or_default() += 1);
        let (most, _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        let mut oldest =
            waiting().filter(|note| note.about.owner() == most).min_by_key(|note| note.about.at())?.clone();
        let why = format!("{WAITING} newer ones waited");
        oldest.told = Some(Told::Dropped { attempts: oldest.attempts(), why });
        Some(oldest)
    }

    /// Those to send now: at most so many as are sent at a time, those first that have waited longest.
    pub fn due(&self, now: Timestamp) -> Vec<Note<A>> {
        let mut due: Vec<&Note<A>> =
            self.0.values().filter(|note| note.next().is_some_and(|next| next <= now)).collect();
        due.sort_by_key(|note| note.next());
        due.into_iter().take(AT_ONCE).cloned().collect()
    }

    /// When the next is to be sent.
    pub fn next(&self) -> Option<Timestamp> {
        self.0.values().filter_map(Note::next).min()
    }
}

/// The note after an attempt.
pub fn after<A: About>(mut note: Note<A>, answer: Answer, now: Timestamp) -> Note<A> {
    let attempts = note.attempts() + 1;
    note.told = Some(match answer {
        Answer::Taken => Told::Delivered { attempts, at: now },
        Answer::Gone(why) => Told::Dropped { attempts, why },
        Answer::Not(why) => {
            let next = now.plus(wait(&note.id, attempts));
            if next.since(note.about.at()) > LONGEST {
                Told::Dropped { attempts, why: format!("nobody took it for a day; at last: {why}") }
            } else {
                Told::Waiting { attempts, next, why: Some(why) }
            }
        }
    });
    note
}

/// How long an attempt is waited for after so many: between half of a bound that doubles and all of it. What is drawn is made of
/// the note's id, so that notes which failed together are not sent together again, and the same note waits the same each time.
fn wait(id: &str, attempts: u32) -> Duration {
    let bound = FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(MOST);
    let digest = Sha256::new().chain_update(id.as_bytes()).chain_update(attempts.to_be_bytes()).finalize();
    let drawn = digest.iter().take(4).fold(0_u32, |drawn, byte| drawn << 8 | u32::from(*byte));
    bound.mul_f64(0.5 + 0.5 * f64::from(drawn) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use types::Namespace;

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    #[derive(Debug, Clone, PartialEq)]
    struct Thing(Namespace, Timestamp);

    impl About for Thing {
        fn at(&self) -> Timestamp {
            self.1
        }

        fn owner(&self) -> Option<&Namespace> {
            Some(&self.0)
        }

        fn kind(&self) -> &'static str {
            "thing"
        }

        fn data(&self) -> Value {
            json!({})
        }
    }

    fn note(namespace: &str, n: u64) -> Note<Thing> {
        let at = NOW.plus(Duration::from_millis(n));
        let told = Some(Told::Waiting { attempts: 0, next: at, why: None });
        Note { id: format!("drift_{namespace}_{n}"), about: Thing(namespace.parse().unwrap(), at), told }
    }

    #[test]
    fn what_is_not_taken_is_sent_again_ever_more_rarely_for_a_day() {
        let (mut note, mut now, mut waits) = (note("a", 0), NOW, Vec::new());
        while let Some(next) = note.next() {
            waits.push(next.since(now));
            now = next;
            note = after(note, Answer::Not("it said 500".into()), now);
        }
        for (attempt, wait) in waits.iter().enumerate().skip(1) {
            let bound = FIRST * 2_u32.pow(u32::try_from(attempt - 1).unwrap().min(20));
            assert!(*wait <= bound.min(MOST) && *wait * 2 >= bound.min(MOST), "{attempt}: {wait:?}");
        }
        assert!(now.since(NOW) <= LONGEST && now.since(NOW) > LONGEST - MOST, "{waits:?}");
        assert!((30..70).contains(&waits.len()), "{}", waits.len());
        let Some(Told::Dropped { attempts, why }) = &note.told else { panic!("{note:?}") };
        assert!(*attempts as usize == waits.len() && why.ends_with("at last: it said 500"), "{why}");
        let other = |id: &str| wait(id, 9);
        assert!(other("drift_1") != other("drift_2") && other("drift_1") == other("drift_1"));
    }

    #[test]
    fn what_is_taken_or_gone_is_not_sent_again() {
        let taken = after(note("a", 0), Answer::Taken, NOW);
        assert_eq!(taken.told, Some(Told::Delivered { attempts: 1, at: NOW }));
        let gone = after(after(note("a", 1), Answer::Not("no".into()), NOW), Answer::Gone("it said 410".into()), NOW);
        assert_eq!(gone.told, Some(Told::Dropped { attempts: 2, why: "it said 410".into() }));
        let mut outbox = Outbox::default();
        [taken, gone.clone(), note("a", 2)].into_iter().for_each(|note| outbox.put(note));
        assert_eq!(outbox.due(NOW.plus(LONGEST)).len(), 1);
        assert!(outbox.due(NOW).is_empty() && outbox.next() == Some(NOW.plus(Duration::from_millis(2))));
        // Whose alarm is remembered still is known, so that it is not told twice.
        let remembered = BTreeSet::from(["drift_a_0".to_owned()]);
        assert_eq!(outbox.done(&remembered), [gone]);
        outbox.forget("drift_a_1");
        assert!(!outbox.knows("drift_a_1") && outbox.knows("drift_a_0"));
    }

    #[test]
    fn so_many_wait_and_who_has_most_gives_way() {
        let mut outbox = Outbox::default();
        let mut dropped = Vec::new();
        outbox.put(note("small", 0));
        for n in 1..=300 {
            if let Some(pushed) = outbox.room() {
                dropped.push(pushed.about.1.since(NOW).as_millis() as u64);
                outbox.put(pushed);
            }
            outbox.put(note("large", n));
        }
        assert_eq!(outbox.notes().filter(|note| note.next().is_some()).count(), WAITING);
        assert_eq!(dropped, (1..=101).collect::<Vec<_>>(), "the oldest ones");
        assert_eq!(outbox.due(NOW.plus(FIRST)).len(), AT_ONCE);
        assert_eq!(outbox.due(NOW.plus(FIRST))[0].id, "drift_small_0");
    }
}
