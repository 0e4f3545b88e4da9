//! The agents at work, each in a thread of its own, so that one that fails keeps nobody else.
//!
//! An agent that panics is made anew after a while, which doubles; one that does not come back within seconds is left where it is
//! and made anew, three times at most, since its thread can't be ended. What an agent can't take in is dropped: its next sighting
//! of the window says more.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use defend::{Make, Seat};
use tokio::{
    sync::mpsc,
    time::{Instant, interval_at},
};
use types::defence::{AgentName, Reading, Sighting};

/// Sightings that wait for an agent, at most.
const WAITING: usize = 1_024;
/// Readings that wait for the arbiter, at most.
const READINGS: usize = 4_096;
/// How long an agent may look.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first wait before one that failed is made anew.
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(300);
/// How often one is left where it hangs.
const LEFT: u32 = 3;

/// What an agent read, or how it failed.
pub(crate) enum Said {
    Read(Arc<Sighting>, Reading),
    Failed(AgentName, String),
}

/// All agents.
pub(crate) struct Team {
    members: Vec<Member>,
    says: mpsc::Sender<Said>,
}

struct Member {
    agent: AgentName,
    seat: Seat,
    /// Nothing while it is not there.
    desk: Option<Desk>,
    failures: u32,
    left: u32,
    again: Instant,
    dropped: u64,
}

struct Desk {
    sightings: SyncSender<Arc<Sighting>>,
    /// Sightings handed over and looked at, and since when it looks at one: milliseconds after the start, 0 for none.
    since: Arc<AtomicU64>,
    started: Instant,
}

impl Team {
    pub(crate) fn new(agents: Vec<Seat>) -> (Self, mpsc::Receiver<Said>) {
        let (says, said) = mpsc::channel(READINGS);
        let now = Instant::now();
        let member =
            |seat: Seat| Member { agent: seat.agent, seat, desk: None, failures: 0, left: 0, again: now, dropped: 0 };
        let mut team = Self { members: agents.into_iter().map(member).collect(), says };
        team.tick();
        (team, said)
    }

    /// Shows what was seen to every agent that it is about.
    pub(crate) fn show(&mut self, sighting: Sighting) {
        let sighting = Arc::new(sighting);
        for member in &mut self.members {
            let Some(desk) = member.desk.as_ref().filter(|_| (member.seat.wants)(&sighting)) else { continue };
            match desk.sightings.try_send(sighting.clone()) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => member.dropped += 1,
                // It failed; the next round makes it anew.
                Err(TrySendError::Disconnected(_)) => member.desk = None,
            }
        }
    }

    /// Makes those anew that are not there, and leaves those that hang. Returns what failed now.
    pub(crate) fn tick(&mut self) -> Vec<(AgentName, String)> {
        let mut failed = Vec::new();
        for member in &mut self.members {
            if let Some(desk) = &member.desk {
                let since = desk.since.load(Ordering::Relaxed);
                let now = u64::try_from(desk.started.elapsed().as_millis()).unwrap_or(u64::MAX);
                if since > 0 && now.saturating_sub(since) > PATIENCE.as_millis() as u64 {
                    member.desk = None;
                    member.left += 1;
                    member.failed();
                    let what = if member.left < LEFT { "it is made anew" } else { "it is off until the next start" };
                    failed.push((member.agent, format!("it hangs for {} s: {what}", PATIENCE.as_secs())));
                }
            } else if member.left < LEFT && member.again <= Instant::now() {
                member.desk = Some(sit(member.agent, member.seat.make, self.says.clone()));
            }
        }
        failed
    }

    /// Notes that one failed.
    pub(crate) fn failed(&mut self, agent: AgentName) {
        if let Some(member) = self.members.iter_mut().find(|member| member.agent == agent) {
            member.desk = None;
            member.failed();
        }
    }

    /// Whether an agent is there, how often it failed, and what it could not take in.
    pub(crate) fn state(&self, agent: AgentName) -> (bool, u32, u64) {
        let member = self.members.iter().find(|member| member.agent == agent);
        member.map_or((false, 0, 0), |member| (member.desk.is_some(), member.failures, member.dropped))
    }
}

impl Member {
    fn failed(&mut self) {
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(MOST);
        self.failures += 1;
        self.again = Instant::now() + wait;
    }
}

fn sit(agent: AgentName, make: Make, says: mpsc::Sender<Said>) -> Desk {
    let (sightings, shown) = sync_channel::<Arc<Sighting>>(WAITING);
    let since = Arc::new(AtomicU64::new(0));
    let (started, mark) = (Instant::now(), since.clone());
    let work = move || {
        let mut member = make();
        while let Ok(sighting) = shown.recv() {
            let now = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            mark.store(now.max(1), Ordering::Relaxed);
            let read = catch_unwind(AssertUnwindSafe(|| member.look(&sighting)));
            mark.store(0, Ordering::Relaxed);
            let said = match read {
                Ok(None) => continue,
                Ok(Some(reading)) if reading.agent == agent && reading.score.is_finite() => {
                    Said::Read(sighting, Reading { score: reading.score.max(0.0), ..reading })
                }
                Ok(Some(_)) => {
                    Said::Failed(agent, "it says what it may not: a score that is no number, or another's".into())
                }
                Err(panic) => Said::Failed(agent, format!("it panicked: {}", cause(&*panic))),
            };
            let over = matches!(said, Said::Failed(..));
            if says.blocking_send(said).is_err() || over {
                return;
            }
        }
    };
    let name = format!("agent-{agent}");
    if let Err(error) = std::thread::Builder::new().name(name).spawn(work) {
        tracing::error!(%agent, %error, "an agent has no thread");
    }
    Desk { sightings, since, started }
}

fn cause(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "for no reason that it tells".into())
}

/// A clock that ticks, from now on.
pub(crate) fn every(span: Duration) -> tokio::time::Interval {
    let mut ticks = interval_at(Instant::now() + span, span);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    ticks
}
