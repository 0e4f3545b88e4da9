//! The door and the loop behind it, over a real catalog; agents that fail.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use defend::{Agent, Make, Seat};
use rpc::{
    Clock, Sentinel as _, Since,
    sentinel::{IncidentsOf, Report, Restrict, Said, Say},
};
use store::sqlite::SqliteCatalog;
use tokio::{sync::oneshot, task::JoinHandle};
use types::{
    Code,
    defence::{AgentName, Counts, Incident, Reading, Restriction, Rung, Sighting, Subject},
    manifest::Autonomy,
};

use super::*;

/// A sentinel that runs, over a catalog in a folder.
struct Running {
    door: Sentinel,
    stop: oneshot::Sender<()>,
    work: JoinHandle<()>,
}

fn passed(agent: AgentName) -> Make {
    match agent {
        AgentName::Evasion => || Box::new(defend::agents::passed::Passed(AgentName::Evasion)),
        _ => || Box::new(defend::agents::passed::Passed(AgentName::Intruder)),
    }
}

async fn start(folder: &std::path::Path, agents: Vec<(AgentName, Make)>) -> Running {
    start_with(folder, agents, 0.01).await
}

/// One that may restrict such a share of the callers at once.
async fn start_with(folder: &std::path::Path, agents: Vec<(AgentName, Make)>, blast: f64) -> Running {
    start_by(folder, agents, blast, Clock::System).await
}

/// One with this clock.
async fn start_by(folder: &std::path::Path, agents: Vec<(AgentName, Make)>, blast: f64, clock: Clock) -> Running {
    let catalog = Arc::new(SqliteCatalog::open(&folder.join("catalog.db")).await.unwrap());
    let parts = Parts {
        catalog,
        clock,
        arbiter: arbiter::Settings { autonomy: Autonomy::Act, blast, ..arbiter::Settings::default() },
        budget: 0.01,
        window: Duration::from_secs(60),
        webhook: None,
        agents: agents.into_iter().map(|(agent, make)| Seat { agent, make, wants: |_| true }).collect(),
    };
    let (door, work) = Sentinel::open(parts).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let work = tokio::spawn(work.run(async {
        let _ = stopped.await;
    }));
    Running { door, stop, work }
}

impl Running {
    async fn end(self) {
        self.stop.send(()).unwrap();
        self.work.await.unwrap();
    }

    async fn see(&self, sighting: Sighting) {
        self.door.report(Report { by: "g0".into(), sightings: vec![sighting] }).await.unwrap();
    }

    /// Waits until what is in force is so.
    async fn until(&self, holds: impl Fn(&[Restriction]) -> bool) -> Vec<Restriction> {
        let mut since = Since::default();
        let mut known = std::collections::BTreeMap::new();
        loop {
            let changes = self.door.restrictions(since).await.unwrap();
            since = changes.since;
            for change in changes.changes {
                match change.value {
                    Some(value) => known.insert(change.key, value),
                    None => known.remove(&change.key),
                };
            }
            let all: Vec<Restriction> = known.values().cloned().collect();
            if holds(&all) {
                return all;
            }
        }
    }

    async fn incidents(&self) -> Vec<Incident> {
        let of = IncidentsOf { namespace: "bank".parse().unwrap(), node: true, id: None, limit: 100 };
        self.door.incidents(of).await.unwrap()
    }

    async fn state(&self, agent: AgentName) -> rpc::sentinel::AgentState {
        let states = self.door.agents(Some("bank".parse().unwrap())).await.unwrap();
        states.into_iter().find(|state| state.agent == agent).unwrap()
    }

    /// Waits until an incident of an agent tells this.
    async fn until_told(&self, agent: AgentName, what: &str) -> Incident {
        loop {
            let of_agent = |incident: &Incident| incident.subject == Subject::Agent(agent);
            let told = |incident: &Incident| of_agent(incident) && incident.summary.contains(what);
            if let Some(incident) = self.incidents().await.into_iter().find(told) {
                return incident;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn sighting(caller: &str, agent: AgentName, rule: f64) -> Sighting {
    let now = Clock::System.now();
    Sighting {
        subject: format!("caller:bank/{caller}").parse().unwrap(),
        model: Some("fraud".parse().unwrap()),
        autonomy: None,
        admin: false,
        length_ms: 60_000,
        window: now.0 / 60_000,
        at: now,
        counts: Counts { requests: 1, ..Counts::default() },
        readings: vec![Reading { agent, score: 1.0, rule, twin: 0.0, certain: false, what: "it looks bad".into() }],
    }
}

fn said(id: &str, say: Say) -> Said {
    let (actor, namespace) = ("caller:bank/boss".to_owned(), "bank".parse().unwrap());
    Said { actor, namespace, node: false, id: id.into(), say, reason: "I know it".into() }
}

#[tokio::test]
async fn what_is_in_force_outlives_the_sentinel_and_a_person_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let agents = || vec![(AgentName::Evasion, passed(AgentName::Evasion))];
    let running = start(folder.path(), agents()).await;
    running.see(sighting("eve", AgentName::Evasion, 9.2)).await;
    let held = running.until(|held| !held.is_empty()).await;
    assert_eq!((held[0].rung, held[0].author.as_str()), (Rung::Quarantine, "sentinel"));
    let incident = running.incidents().await.remove(0);
    assert!(incident.summary.contains("evasion at fraud: it looks bad"), "{incident:?}");
    running.end().await;

    let running = start(folder.path(), agents()).await;
    assert_eq!(running.until(|held| !held.is_empty()).await, held, "the same, to the second");
    let elsewhere = Said { namespace: "other".parse().unwrap(), ..said(&held[0].id, Say::Undo) };
    assert_eq!(running.door.say(elsewhere).await.unwrap_err().code, Code::IncidentNotFound);
    let settled = running.door.say(said(&held[0].id, Say::Undo)).await.unwrap();
    assert!(settled.receipt.0 > 0 && settled.incident.timeline.last().unwrap().what.contains("undone by"));
    running.until(<[Restriction]>::is_empty).await;
    assert_eq!(running.door.say(said(&incident.id, Say::Undo)).await.unwrap_err().code, Code::Conflict);
    // It is believed: the same is no evidence for a day.
    running.see(sighting("eve", AgentName::Evasion, 9.2)).await;
    running.see(sighting("mal", AgentName::Evasion, 9.2)).await;
    let held = running.until(|held| !held.is_empty()).await;
    assert_eq!(held[0].subject.to_string(), "caller:bank/mal");
    running.end().await;
}

#[tokio::test]
async fn a_persons_restriction_is_an_incident_and_lasts_as_said() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), Vec::new()).await;
    let restrict = Restrict {
        actor: "caller:bank/boss".into(),
        subject: "caller:bank/app".parse().unwrap(),
        model: None,
        rung: Rung::Block,
        lasts_ms: Some(50),
        reason: "it is broken".into(),
    };
    let settled = running.door.restrict(restrict.clone()).await.unwrap();
    assert!(settled.incident.summary.contains("by caller:bank/boss: it is broken"), "{settled:?}");
    running.until(|held| held.iter().any(|held| held.author == "caller:bank/boss")).await;
    running.until(<[Restriction]>::is_empty).await;
    let settled = running.door.restrict(Restrict { lasts_ms: None, rung: Rung::Revoke, ..restrict }).await.unwrap();
    let action = settled.incident.actions.last().unwrap();
    assert_eq!(action.restriction.until, None, "until it is undone");
    running.door.say(said(&action.restriction.id, Say::Undo)).await.unwrap();
    running.until(<[Restriction]>::is_empty).await;
    running.end().await;
}

struct Fails(AgentName);

impl Agent for Fails {
    fn name(&self) -> AgentName {
        self.0
    }

    fn look(&mut self, sighting: &Sighting) -> Option<Reading> {
        match self.0 {
            AgentName::Caller => panic!("I can't go on"),
            // Longer than anybody waits.
            AgentName::Extraction => loop {
                std::thread::sleep(Duration::from_secs(3_600));
            },
            // It lies: it says what another one found.
            _ => Some(Reading {
                agent: AgentName::Evasion,
                score: f64::NAN,
                rule: 9.2,
                twin: 0.0,
                certain: true,
                what: sighting.subject.to_string(),
            }),
        }
    }
}

#[tokio::test]
async fn agents_that_fail_are_told_of_and_keep_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let agents: Vec<(AgentName, Make)> = vec![
        (AgentName::Caller, || Box::new(Fails(AgentName::Caller))),
        (AgentName::Extraction, || Box::new(Fails(AgentName::Extraction))),
        (AgentName::Supply, || Box::new(Fails(AgentName::Supply))),
        (AgentName::Evasion, passed(AgentName::Evasion)),
    ];
    let running = start(folder.path(), agents).await;
    for _ in 0..2_000 {
        running.see(sighting("eve", AgentName::Evasion, 9.2)).await;
    }
    assert_eq!(running.until(|held| !held.is_empty()).await[0].subject.to_string(), "caller:bank/eve");
    running.until_told(AgentName::Caller, "it panicked: I can't go on").await;
    running.until_told(AgentName::Supply, "it says what it may not").await;
    running.until_told(AgentName::Extraction, "it hangs for 5 s").await;
    let states = running.door.agents(Some("bank".parse().unwrap())).await.unwrap();
    let of = |agent| states.iter().find(|state| state.agent == agent).unwrap();
    assert!(of(AgentName::Evasion).alive && of(AgentName::Evasion).failures == 0);
    assert!(of(AgentName::Caller).failures > 0 && of(AgentName::Extraction).failures > 0);
    running.end().await;
}

#[tokio::test]
async fn a_detector_that_finds_everybody_is_the_suspect() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), vec![(AgentName::Evasion, passed(AgentName::Evasion))]).await;
    for n in 0..40 {
        running.see(sighting(&format!("c{n}"), AgentName::Evasion, 0.0)).await;
    }
    for n in 0..40 {
        running.see(sighting(&format!("c{n}"), AgentName::Evasion, 9.2)).await;
    }
    running.until_told(AgentName::Evasion, "it is the suspect").await;
    let held = running.until(|held| !held.is_empty()).await;
    assert_eq!(held.len(), 1, "one in a hundred, and one at least");
    running.end().await;
}

#[tokio::test]
async fn what_people_undo_is_handed_back_to_the_rule_until_one_brings_it_back() {
    let (folder, agent) = (tempfile::tempdir().unwrap(), AgentName::Evasion);
    let running = start_with(folder.path(), vec![(agent, passed(agent))], 1.0).await;
    let seen = |caller: String, window: u64, score: f64| {
        let mut seen = sighting(&caller, agent, 0.0);
        seen.window += window;
        seen.readings.iter_mut().for_each(|reading| reading.score = score);
        seen
    };
    // What is usual is learnt first.
    let mut window = 0;
    while running.state(agent).await.threshold.is_none() {
        window += 1;
        for n in 0..40 {
            running.see(seen(format!("c{n}"), window, 1.0 + (7 * n + 13 * window) as f64 % 17.0)).await;
        }
    }
    // Each is restricted on what was learnt alone, and a person takes it back.
    let mut undone = 0;
    while running.state(agent).await.mode == "on" {
        assert!(undone < 8, "it is handed back after a handful");
        running.see(seen(format!("app{undone}"), window, 1_000.0)).await;
        let held = running.until(|held| !held.is_empty()).await;
        running.door.say(said(&held[0].id, Say::Undo)).await.unwrap();
        undone += 1;
    }
    assert_eq!(running.state(agent).await.mode, "shadow (handed back)");
    let incident = running.until_told(agent, "is handed back to its plain rule").await;
    assert_eq!(incident.namespace, Some("bank".parse().unwrap()), "it is that namespace's own");
    running.end().await;

    let running = start_with(folder.path(), vec![(agent, passed(agent))], 1.0).await;
    assert_eq!(running.state(agent).await.mode, "shadow (handed back)", "a start forgets nothing");
    let settled = running.door.say(said(&incident.id, Say::Approve)).await.unwrap();
    assert_eq!(settled.incident.state, types::defence::IncidentState::Closed);
    assert_eq!(running.state(agent).await.mode, "on");
    running.end().await;
}

#[tokio::test]
async fn a_restriction_lasts_as_long_as_it_was_to_though_the_clock_is_set_by_hours() {
    let folder = tempfile::tempdir().unwrap();
    let [now, steady] = [0; 2].map(|_| Arc::new(AtomicU64::new(1_800_000_000_000)));
    let clock = Clock::Hands(now.clone(), steady.clone());
    let sentinel = start_by(folder.path(), Vec::new(), 0.01, clock).await;
    let restrict = |caller: &str, seconds: u64| Restrict {
        actor: "caller:bank/boss".into(),
        subject: format!("caller:bank/{caller}").parse().unwrap(),
        model: None,
        rung: Rung::Block,
        lasts_ms: Some(seconds * 1_000),
        reason: "I know it".into(),
    };
    sentinel.door.restrict(restrict("eve", 3_600)).await.unwrap();
    sentinel.until(|all| all.len() == 1).await;
    // The clock is set by hours, forwards and back. What lasts a second ends after a second, and what lasts an hour does not.
    for hours in [5, -5, 24] {
        now.store(1_800_000_000_000_u64.saturating_add_signed(hours * 3_600_000), Ordering::Relaxed);
        sentinel.door.restrict(restrict("mallory", 1)).await.unwrap();
        sentinel.until(|all| all.len() == 2).await;
        steady.fetch_add(2_000, Ordering::Relaxed);
        let left = sentinel.until(|all| all.len() < 2).await;
        assert_eq!(left.iter().map(|one| one.subject.to_string()).collect::<Vec<_>>(), ["caller:bank/eve"]);
    }
    // An hour that has passed is one.
    steady.fetch_add(3_700_000, Ordering::Relaxed);
    sentinel.until(<[Restriction]>::is_empty).await;
    sentinel.end().await;
}
