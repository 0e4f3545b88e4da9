//! The one place that reads the time; tests hold the hands.
//!
//! There are two times. [`Clock::now`] is what the system says: for records, and for whatever is compared with what others
//! say (certificates, tokens, ends that a person named). It jumps when somebody sets the system's clock. [`Clock::steady`]
//! goes on evenly: for how long something has lasted and how long it may last. Both are the same when a node starts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use types::Timestamp;

/// A moment by which the steady time is reckoned: the same for every process of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// What the system said then, in milliseconds since 1970.
    now: u64,
    /// How long the machine had been up, asleep or not, in milliseconds.
    up: u64,
}

impl Anchor {
    /// This moment.
    pub fn here() -> Self {
        Self { now: Clock::System.now().0, up: up() }
    }
}

/// How long this machine has been up, in milliseconds.
fn up() -> u64 {
    let up = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(up.tv_sec).unwrap_or(0), u64::try_from(up.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000)
}

/// Where services get the time from.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The system's clock, for both times: whoever does not run for long sees no jump.
    #[default]
    System,
    /// The system's clock, and steady time since a node has started.
    Node(Anchor),
    /// A clock that stands until it is set; milliseconds since 1970.
    Manual(Arc<AtomicU64>),
    /// A clock whose two times are set apart: what the system says, and steady time; both in milliseconds since 1970.
    Hands(Arc<AtomicU64>, Arc<AtomicU64>),
}

impl Clock {
    /// Now, by this clock.
    #[expect(clippy::disallowed_methods, reason = "this is where the time is read")]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System | Self::Node(_) => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            Self::Manual(millis) | Self::Hands(millis, _) => Timestamp(millis.load(Ordering::Relaxed)),
        }
    }

    /// Steady time: as far from the node's start as it is, whatever was done to the system's clock since.
    pub fn steady(&self) -> Timestamp {
        match self {
            Self::Node(anchor) => Timestamp(anchor.now.saturating_add(up().saturating_sub(anchor.up))),
            Self::Hands(_, millis) => Timestamp(millis.load(Ordering::Relaxed)),
            Self::System | Self::Manual(_) => self.now(),
        }
    }

    /// How far the system's clock has jumped since the node started: forwards, and backwards.
    pub fn jumped(&self) -> (Duration, Duration) {
        let (now, steady) = (self.now(), self.steady());
        (now.since(steady), steady.since(now))
    }

    /// Now in nanoseconds since 1970, as traces count; as fine as this clock is.
    #[expect(clippy::disallowed_methods, reason = "this is where the time is read")]
    pub fn nanos(&self) -> u64 {
        match self {
            Self::System | Self::Node(_) => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
            }
            Self::Manual(millis) | Self::Hands(millis, _) => millis.load(Ordering::Relaxed).saturating_mul(1_000_000),
        }
    }
}

/// The least jump that is one: less is how clocks are kept right.
const JUMP: Duration = Duration::from_secs(60);

/// Watches for jumps of the system's clock, for what is judged by it and must be made anew then.
#[derive(Debug, Clone, Copy)]
pub struct Jumps((Duration, Duration));

impl Jumps {
    /// None since now.
    pub fn of(clock: &Clock) -> Self {
        Self(clock.jumped())
    }

    /// Whether it has jumped since it was asked the last time.
    pub fn jumped(&mut self, clock: &Clock) -> bool {
        let (was, is) = (self.0, clock.jumped());
        let forwards = |(forwards, backwards): (Duration, Duration)| forwards.as_secs_f64() - backwards.as_secs_f64();
        let jumped = (forwards(is) - forwards(was)).abs() >= JUMP.as_secs_f64();
        if jumped {
            self.0 = is;
        }
        jumped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_times_are_the_same_when_a_node_starts_and_go_on_apart() {
        let anchor = Anchor::here();
        let clock = Clock::Node(anchor);
        let (forwards, backwards) = clock.jumped();
        assert!(forwards < Duration::from_secs(60) && backwards < Duration::from_secs(60));
        // As if the system's clock had been set back by two hours since: steady time knows nothing of it.
        let hours = 2 * 3_600 * 1_000;
        let set_back = Clock::Node(Anchor { now: anchor.now + hours, ..anchor });
        assert!(set_back.jumped().1 > Duration::from_secs(7_000));
        assert!(set_back.steady() >= Timestamp(anchor.now + hours));
    }

    #[test]
    fn hands_are_set_apart() {
        let (now, steady) = (Arc::new(AtomicU64::new(5)), Arc::new(AtomicU64::new(5)));
        let clock = Clock::Hands(now.clone(), steady);
        now.store(9, Ordering::Relaxed);
        assert_eq!((clock.now(), clock.steady()), (Timestamp(9), Timestamp(5)));
        assert_eq!(clock.jumped(), (Duration::from_millis(4), Duration::ZERO));
        let mut jumps = Jumps::of(&clock);
        now.store(50_000, Ordering::Relaxed);
        assert!(!jumps.jumped(&clock), "less than a minute");
        now.store(7_200_000, Ordering::Relaxed);
        assert!(jumps.jumped(&clock) && !jumps.jumped(&clock), "once");
        now.store(0, Ordering::Relaxed);
        assert!(jumps.jumped(&clock), "back again");
    }
}
