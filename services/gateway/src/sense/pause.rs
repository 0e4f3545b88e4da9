//! Requests that wait while the sentinel decides about whoever asks.
//!
//! Where rows give a caller clearly away, the sentinel's answer is here some milliseconds later, and in that time a caller without
//! scruples is told a hundred rows more. So its next request at that model waits, until the answer is here, [`LONGEST`] at most. It
//! decides nothing: who is not restricted goes on, and does not wait again before [`AGAIN`].

use std::{
    collections::HashMap,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use defend::ladder::{self, Known, PRIOR};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, timeout_at},
};
use types::{
    ModelName,
    defence::{AgentName, Reading, Rung, Subject},
    manifest::Autonomy,
};

/// How long a request waits at most.
const LONGEST: Duration = Duration::from_millis(100);
/// How long nobody waits again.
const AGAIN: Duration = Duration::from_secs(600);
/// Callers that are remembered, and requests that wait: of more, none waits.
const MOST: usize = 1_024;

pub(crate) struct Pauses {
    /// Agents that act, and how far where a model does not say.
    agents: Vec<AgentName>,
    autonomy: Autonomy,
    /// By the caller's number.
    known: Mutex<HashMap<u64, Pause>>,
    /// Whether anybody is known, which is nearly never so.
    any: AtomicBool,
    ended: Notify,
    places: Semaphore,
}

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
            known: Mutex::default(),
            any: AtomicBool::new(false),
            ended: Notify::new(),
            places: Semaphore::new(MOST),
        }
    }

    /// Whether the sentinel does something about this for certain: by its rule alone, where the agent acts, and of no admin.
    pub(super) fn is_for(&self, reading: &Reading, autonomy: Option<Autonomy>, admin: bool) -> bool {
        let known = Known { log_odds: PRIOR + reading.rule, kinds: 1, certain: reading.certain };
        !admin
            && autonomy.unwrap_or(self.autonomy) == Autonomy::Act
            && self.agents.contains(&reading.agent)
            && ladder::rung(known, Rung::Observe) > Rung::Observe
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
    pub(crate) async fn wait(&self, subject: impl FnOnce() -> Subject, model: &ModelName, deadline: Instant) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let caller = subject().number();
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
        pauses.wait(|| subject.clone(), model, begin + deadline).await;
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
    }
}
