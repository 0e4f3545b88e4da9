//! Requests that wait: a newcomer's until those before it were looked at, and a suspect's until the sentinel has decided.
//!
//! It is looked beside the requests, every few milliseconds, and in that time somebody in a hurry is told a hundred rows, which is what a
//! copy of a small model takes. So the first [`FIRST`] rows of a caller at a model are looked at before its next request goes on. And
//! where rows give a caller clearly away, the sentinel's answer is here some milliseconds later: its next request at that model waits for
//! that. Nothing is decided here: who is not restricted goes on after [`LOOK`] and [`LONGEST`] at most, and is no suspect again before
//! [`AGAIN`].

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use defend::ladder::{self, Known, PRIOR};
use parking_lot::Mutex;
use rpc::orchestrator::ModelKey;
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, timeout_at},
};
use types::{
    ModelName,
    defence::{AgentName, Reading, Rung, Subject},
    manifest::Autonomy,
};

/// Rows of a caller at a model that are looked at before the next request, and how long that waits at most.
const FIRST: u64 = 64;
const LOOK: Duration = Duration::from_millis(20);
/// Callers at models that are known; at more, those that wait for nothing are newcomers again.
const CALLERS: usize = 16_384;
/// How long a suspect waits at most.
const LONGEST: Duration = Duration::from_millis(100);
/// How long it is none again.
const AGAIN: Duration = Duration::from_secs(600);
/// Suspects that are remembered, and requests that wait: of more, none waits.
const MOST: usize = 1_024;

pub(crate) struct Pauses {
    /// Agents that act, and how far where a model does not say.
    agents: Vec<AgentName>,
    autonomy: Autonomy,
    newcomers: Mutex<HashMap<u64, Newcomer>>,
    hash: RandomState,
    looked: Notify,
    /// By the caller's number.
    known: Mutex<HashMap<u64, Pause>>,
    /// Whether anybody is known, which is nearly never so.
    any: AtomicBool,
    ended: Notify,
    places: Semaphore,
}

/// What a caller asked a model, until it is known.
#[derive(Default)]
struct Newcomer {
    rows: u64,
    /// Requests that were not looked at yet.
    unseen: u32,
}

/// A suspect.
struct Pause {
    model: ModelName,
    began: Instant,
    over: bool,
}

impl Pauses {
    pub(super) fn new(agents: Vec<AgentName>, autonomy: Autonomy) -> Self {
        Self {
            agents,
            autonomy,
            newcomers: Mutex::default(),
            hash: RandomState::new(),
            looked: Notify::new(),
            known: Mutex::default(),
            any: AtomicBool::new(false),
            ended: Notify::new(),
            places: Semaphore::new(MOST),
        }
    }

    /// Whether the sentinel does something about this for certain: by its rule alone, where the agent acts, and of no admin.
    pub(super) fn is_for(&self, reading: &Reading, autonomy: Option<Autonomy>, admin: bool) -> bool {
        let known = Known { log_odds: PRIOR + reading.rule, kinds: 1, certain: reading.certain };
        self.acts(reading.agent, autonomy, admin) && ladder::rung(known, Rung::Observe) > Rung::Observe
    }

    fn acts(&self, agent: AgentName, autonomy: Option<Autonomy>, admin: bool) -> bool {
        !admin && autonomy.unwrap_or(self.autonomy) == Autonomy::Act && self.agents.contains(&agent)
    }

    /// Whether rows can have consequences at a model with this autonomy, so that newcomers wait.
    pub(crate) fn is_on(&self, autonomy: Option<Autonomy>, admin: bool) -> bool {
        [AgentName::Extraction, AgentName::Evasion].into_iter().any(|agent| self.acts(agent, autonomy, admin))
    }

    /// Rows of a caller are handed over to be looked at.
    pub(super) fn hand_over(&self, subject: &Subject, model: &ModelKey, rows: u64) {
        let key = self.hash.hash_one((subject.number(), model));
        let mut newcomers = self.newcomers.lock();
        if newcomers.len() >= CALLERS && !newcomers.contains_key(&key) {
            newcomers.retain(|_, newcomer| newcomer.unseen > 0);
        }
        if newcomers.len() < CALLERS {
            let newcomer = newcomers.entry(key).or_default();
            newcomer.rows += rows;
            newcomer.unseen += 1;
        }
    }

    /// What was handed over has been looked at, or never will be.
    pub(super) fn look(&self, subject: &Subject, model: &ModelKey) {
        let key = self.hash.hash_one((subject.number(), model));
        let mut newcomers = self.newcomers.lock();
        let Some(newcomer) = newcomers.get_mut(&key) else { return };
        newcomer.unseen = newcomer.unseen.saturating_sub(1);
        let all = newcomer.unseen == 0;
        drop(newcomers);
        if all {
            self.looked.notify_waiters();
        }
    }

    /// Waits until what a newcomer asked before was looked at, and until `deadline` at most.
    pub(crate) async fn wait_for_look(&self, subject: &Subject, model: &ModelKey, deadline: Instant) {
        let key = self.hash.hash_one((subject.number(), model));
        let waits = || {
            let newcomers = self.newcomers.lock();
            newcomers.get(&key).is_some_and(|newcomer| newcomer.unseen > 0 && newcomer.rows <= FIRST)
        };
        if !waits() {
            return;
        }
        let Ok(_place) = self.places.try_acquire() else { return };
        let until = deadline.min(Instant::now() + LOOK);
        loop {
            let mut looked = pin!(self.looked.notified());
            looked.as_mut().enable();
            if !waits() || timeout_at(until, looked).await.is_err() {
                return;
            }
        }
    }

    /// Lets a caller's requests at a model wait from now on.
    pub(super) fn begin(&self, subject: &Subject, model: &ModelName, now: Instant) {
        let mut known = self.known.lock();
        known.retain(|_, pause| now.duration_since(pause.began) < AGAIN);
        if known.len() < MOST {
            known.entry(subject.number()).or_insert_with(|| {
                metrics::counter!("mantlet_gateway_pauses_total").increment(1);
                Pause { model: model.clone(), began: now, over: false }
            });
        }
        self.any.store(true, Ordering::Release);
    }

    /// The sentinel decided about a subject.
    pub(crate) fn end(&self, subject: &Subject) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut known = self.known.lock();
        let Some(pause) = known.get_mut(&subject.number()) else { return };
        pause.over = true;
        drop(known);
        self.ended.notify_waiters();
    }

    /// Waits where a caller's requests at a model do, until `deadline` at most.
    pub(crate) async fn wait(&self, subject: &Subject, model: &ModelName, deadline: Instant) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let caller = subject.number();
        let mut place = None;
        loop {
            let mut ended = pin!(self.ended.notified());
            // From here on no end is missed.
            ended.as_mut().enable();
            let Some(until) = self.until(caller, model) else { return };
            if place.is_none() {
                let Ok(free) = self.places.try_acquire() else { return };
                place = Some(free);
            }
            if timeout_at(until.min(deadline), ended).await.is_err() {
                return;
            }
        }
    }

    fn until(&self, caller: u64, model: &ModelName) -> Option<Instant> {
        let known = self.known.lock();
        let pause = known.get(&caller).filter(|pause| !pause.over && pause.model == *model)?;
        Some(pause.began + LONGEST).filter(|until| Instant::now() < *until)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn pauses() -> Pauses {
        Pauses::new(vec![AgentName::Extraction], Autonomy::Recommend)
    }

    fn names() -> (Subject, ModelName) {
        ("caller:bank/eve".parse().unwrap(), "fraud".parse().unwrap())
    }

    async fn waited(pauses: &Pauses, subject: &Subject, model: &ModelName, deadline: Duration) -> Duration {
        let begin = Instant::now();
        pauses.wait(subject, model, begin + deadline).await;
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_waits_at_its_model_for_a_bounded_time_and_once() {
        let (pauses, (eve, fraud)) = (pauses(), names());
        let (app, other) = ("caller:bank/app".parse().unwrap(), "other".parse().unwrap());
        let (long, none) = (Duration::from_secs(5), Duration::ZERO);
        assert_eq!(waited(&pauses, &eve, &fraud, long).await, none, "nobody is known");
        pauses.begin(&eve, &fraud, Instant::now());
        assert_eq!(waited(&pauses, &app, &fraud, long).await, none);
        assert_eq!(waited(&pauses, &eve, &other, long).await, none);
        let deadline = Duration::from_millis(30);
        assert_eq!(waited(&pauses, &eve, &fraud, deadline).await, deadline, "no longer than its own deadline");
        assert_eq!(waited(&pauses, &eve, &fraud, long).await, LONGEST.checked_sub(deadline).unwrap());
        pauses.begin(&eve, &fraud, Instant::now());
        assert_eq!(waited(&pauses, &eve, &fraud, long).await, none, "it waited already");
        tokio::time::advance(AGAIN).await;
        pauses.begin(&eve, &fraud, Instant::now());
        assert_eq!(waited(&pauses, &eve, &fraud, long).await, LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_goes_on_when_the_sentinel_has_decided_about_it() {
        let (pauses, (eve, fraud)) = (Arc::new(pauses()), names());
        pauses.begin(&eve, &fraud, Instant::now());
        let waits = tokio::spawn({
            let (pauses, eve, fraud) = (pauses.clone(), eve.clone(), fraud.clone());
            async move { waited(&pauses, &eve, &fraud, LONGEST).await }
        });
        tokio::task::yield_now().await;
        pauses.end(&"caller:bank/app".parse().unwrap());
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        pauses.end(&eve);
        assert_eq!(waits.await.unwrap(), Duration::ZERO);
        assert_eq!(waited(&pauses, &eve, &fraud, LONGEST).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_wait_than_there_are_places_and_no_more_are_known() {
        let (pauses, (eve, fraud)) = (pauses(), names());
        for n in 0..2 * MOST {
            pauses.begin(&format!("caller:bank/c{n}").parse().unwrap(), &fraud, Instant::now());
        }
        assert_eq!(pauses.known.lock().len(), MOST);
        assert_eq!(waited(&pauses, &eve, &fraud, LONGEST).await, Duration::ZERO);
        let all = pauses.places.acquire_many(MOST as u32).await.unwrap();
        let known = "caller:bank/c0".parse().unwrap();
        assert_eq!(waited(&pauses, &known, &fraud, LONGEST).await, Duration::ZERO, "no place is free");
        drop(all);
        assert_eq!(waited(&pauses, &known, &fraud, LONGEST).await, LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomers_next_request_waits_until_those_before_were_looked_at() {
        let (pauses, (eve, fraud)) = (Arc::new(pauses()), names());
        let model: ModelKey = ("bank".parse().unwrap(), fraud);
        let other = ("shop".parse().unwrap(), model.1.clone());
        let waited = |model: &ModelKey, deadline| {
            let (pauses, eve, model, begin) = (pauses.clone(), eve.clone(), model.clone(), Instant::now());
            async move {
                pauses.wait_for_look(&eve, &model, begin + deadline).await;
                begin.elapsed()
            }
        };
        let long = Duration::from_secs(5);
        assert_eq!(waited(&model, long).await, Duration::ZERO, "it asked nothing before");
        pauses.hand_over(&eve, &model, 10);
        pauses.hand_over(&eve, &model, 10);
        assert_eq!(waited(&other, long).await, Duration::ZERO);
        assert_eq!(waited(&model, long).await, LOOK);
        assert_eq!(waited(&model, LOOK / 2).await, LOOK / 2);
        pauses.look(&eve, &model);
        let waits = tokio::spawn(waited(&model, long));
        tokio::task::yield_now().await;
        assert!(!waits.is_finished(), "one is left");
        pauses.look(&eve, &model);
        assert_eq!(waits.await.unwrap(), Duration::ZERO);
        pauses.hand_over(&eve, &model, FIRST);
        assert_eq!(waited(&model, long).await, Duration::ZERO, "it is no newcomer any more");
    }

    #[test]
    fn so_many_newcomers_are_known_and_none_that_waits_is_forgotten() {
        let (pauses, (eve, fraud)) = (pauses(), names());
        let model: ModelKey = ("bank".parse().unwrap(), fraud);
        pauses.hand_over(&eve, &model, 1);
        for n in 0..2 * CALLERS {
            let caller = format!("caller:bank/c{n}").parse().unwrap();
            pauses.hand_over(&caller, &model, 1);
            pauses.look(&caller, &model);
        }
        let newcomers = pauses.newcomers.lock();
        assert!(newcomers.len() <= CALLERS && newcomers.values().any(|newcomer| newcomer.unseen == 1));
    }

    #[test]
    fn only_what_is_answered_for_certain_lets_wait() {
        let pauses = pauses();
        let of = |agent, rule| Reading { agent, score: 30.0, rule, twin: 0.0, certain: false, what: String::new() };
        let clear = of(AgentName::Extraction, 8.0);
        assert!(pauses.is_for(&clear, Some(Autonomy::Act), false));
        assert!(!pauses.is_for(&clear, None, false), "agents only recommend here");
        assert!(!pauses.is_for(&clear, Some(Autonomy::Act), true), "an admin is not answered without a person");
        assert!(!pauses.is_for(&of(AgentName::Evasion, 8.0), Some(Autonomy::Act), false), "it is in shadow");
        assert!(!pauses.is_for(&of(AgentName::Extraction, 6.0), Some(Autonomy::Act), false), "learnt, or not enough");
        assert!(pauses.is_on(Some(Autonomy::Act), false) && !pauses.is_on(None, false));
    }
}
