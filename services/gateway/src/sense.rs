//! What the gateway's detectors see of requests, beside them: a thread of its own looks, and tells the sentinel.
//!
//! A request hands over what it was, in a bounded queue, and goes on; what does not fit is dropped and counted, so that looking
//! never slows an answer. Five times a second what changed is told. The thread ends with the gateway.

mod queries;
pub(crate) mod reflex;
mod rows;
pub(crate) mod strangers;
pub(crate) mod texts;

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    },
    time::Duration,
};

use defend::crowd::{Asked, Crowd, Ended, Who};
use rpc::{Clock, Sentinel, orchestrator::ModelKey, sentinel::Report};
use tokio::{runtime::Handle, time::Instant};
use types::{
    CallerName, Code, ModelName, Namespace, Refusal, Tensor,
    defence::{AgentName, Reading, Subject},
    manifest::Autonomy,
};

use crate::ring::Model;
use reflex::Reflex;

/// Requests that wait to be looked at, at most.
const WAITING: usize = 4_096;
/// How often the sentinel is told; and how often where it can't wait.
const TELL: Duration = Duration::from_millis(200);
const URGENT: Duration = Duration::from_millis(5);
/// How long requests gather, and for how long after the last one.
const GATHER: Duration = Duration::from_millis(4);
const BUSY: Duration = Duration::from_millis(100);
/// How long the sentinel may take to take a report.
const PATIENCE: Duration = Duration::from_secs(2);
/// Subjects that are told of at once; of more, the next round tells.
const TOLD: usize = 4_096;

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) subject: Subject,
    pub(crate) admin: bool,
}

impl Asker {
    pub(crate) fn of(principal: &access::Principal) -> Self {
        let (home, caller): (&Namespace, &CallerName) = (principal.home(), principal.caller());
        Self {
            subject: Subject::Caller(home.clone(), caller.clone()),
            admin: principal.roles().contains(&types::Role::Admin),
        }
    }
}

/// What is looked at.
pub(crate) enum Glimpse {
    /// A prediction.
    Prediction(Box<Seen>),
    /// A bundle that was refused.
    Bundle { key: ModelKey, refusal: Refusal },
    /// A request for something else that was refused.
    Probe { asker: Asker, code: u16, place: u64, asked: Box<texts::Asked> },
}

/// A prediction, as it ended.
pub(crate) struct Seen {
    pub(crate) asker: Asker,
    pub(crate) namespace: Option<Namespace>,
    pub(crate) name: Option<ModelName>,
    pub(crate) model: Option<Arc<Model>>,
    pub(crate) refused: Option<Code>,
    /// The family of the clear attack that it was refused for.
    pub(crate) clear: Option<&'static str>,
    pub(crate) rows: u64,
    /// What the model took.
    pub(crate) cost_us: u64,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) outputs: Vec<Tensor>,
}

/// The way to the thread.
pub(crate) struct Sense {
    glimpses: Option<SyncSender<Glimpse>>,
    /// What looks in the request itself.
    reflex: Option<Reflex>,
}

/// How it is looked.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Whether anybody looks.
    pub on: bool,
    /// How long a window is.
    pub window: Duration,
    /// How far the intruder goes in the request itself where a model does not say; nothing where it is not on.
    pub reflex: Option<Autonomy>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { on: true, window: Duration::from_secs(60), reflex: None }
    }
}

impl Sense {
    /// Starts to look.
    pub(crate) fn start(settings: Settings, name: &str, sentinel: Arc<dyn Sentinel>, clock: Clock) -> Self {
        if !settings.on {
            return Self { glimpses: None, reflex: None };
        }
        let (glimpses, seen) = sync_channel(WAITING);
        let length = u64::try_from(settings.window.as_millis()).unwrap_or(u64::MAX);
        let looker = Looker {
            crowd: Crowd::new(length),
            queries: queries::Desk::new(settings.window.as_secs_f64()),
            texts: texts::Desk::new(length),
            clock,
            told: Teller { by: name.to_owned(), sentinel },
        };
        let runtime = Handle::current();
        let work = move || looker.run(&seen, &runtime);
        match std::thread::Builder::new().name("sense".into()).spawn(work) {
            Ok(_) => Self { glimpses: Some(glimpses), reflex: settings.reflex.map(Reflex::new) },
            Err(error) => {
                tracing::error!(%error, "nobody looks for attackers: there is no thread for it");
                Self { glimpses: None, reflex: None }
            }
        }
    }

    /// Whether anybody looks.
    pub(crate) fn is_on(&self) -> bool {
        self.glimpses.is_some()
    }

    /// What looks in the request itself, where anything does.
    pub(crate) fn reflex(&self) -> Option<&Reflex> {
        self.reflex.as_ref()
    }

    /// Hands over what was seen; what there is no room for is counted, and gone.
    pub(crate) fn take(&self, glimpse: Glimpse) {
        let Some(glimpses) = &self.glimpses else { return };
        if glimpses.try_send(glimpse).is_err() {
            metrics::counter!("mantlet_gateway_glimpses_dropped_total").increment(1);
        }
    }
}

struct Teller {
    by: String,
    sentinel: Arc<dyn Sentinel>,
}

struct Looker {
    crowd: Crowd,
    queries: queries::Desk,
    texts: texts::Desk,
    clock: Clock,
    told: Teller,
}

impl Looker {
    fn run(mut self, seen: &Receiver<Glimpse>, runtime: &Handle) {
        let began = Instant::now();
        let (mut next, mut told, mut round) = (began + TELL, began, began + TELL);
        let mut last = began;
        loop {
            // While there is much to see it gathers: a thread that waits for each request is woken by each, which costs that request
            // more than all the rest.
            let received = if last.elapsed() < BUSY {
                std::thread::sleep(GATHER);
                seen.try_recv().map_err(|error| match error {
                    TryRecvError::Empty => RecvTimeoutError::Timeout,
                    TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
                })
            } else {
                seen.recv_timeout(next.saturating_duration_since(Instant::now()))
            };
            match received {
                Ok(glimpse) => {
                    last = Instant::now();
                    self.look(glimpse);
                    seen.try_iter().take(WAITING).for_each(|glimpse| self.look(glimpse));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.crowd.is_hot() {
                next = next.min(told + URGENT);
            }
            let now = Instant::now();
            if now >= round {
                self.queries.round();
                self.texts.round();
                self.tell(runtime, true);
                (round, next, told) = (now + TELL, now + TELL, now);
            } else if now >= next {
                self.tell(runtime, false);
                (next, told) = (round, now);
            }
        }
    }

    fn look(&mut self, glimpse: Glimpse) {
        let now = self.clock.steady();
        match glimpse {
            Glimpse::Probe { asker, code, place, asked } => {
                let end = match code {
                    429 => Ended::KeptOut,
                    401 | 403 | 404 | 405 => Ended::Miss(place),
                    400..500 => Ended::Fault,
                    _ => Ended::Answered,
                };
                let who = Who { subject: &asker.subject, model: None, autonomy: None, admin: asker.admin };
                self.crowd.ask(who, Asked { end, ..Asked::default() }, now);
                if let Some(reading) = self.texts.request(&asker.subject, &asked, now) {
                    self.crowd.read(who, reading, now);
                }
            }
            Glimpse::Bundle { key: (namespace, model), refusal } => {
                let subject = Subject::Bundle(namespace, model.clone());
                let who = Who { subject: &subject, model: Some(&model), autonomy: None, admin: false };
                self.crowd.read(who, bundle(&refusal), now);
            }
            Glimpse::Prediction(seen) => {
                let bytes = seen.inputs.iter().map(|tensor| tensor.data().len() as u64).sum();
                let end = ended(seen.refused, seen.name.as_ref());
                // What is not there is no model of its own.
                let model = seen.model.as_ref().and(seen.name.as_ref());
                let autonomy = seen.model.as_ref().and_then(|model| model.route.manifest.spec.protection.autonomy);
                let who = Who { subject: &seen.asker.subject, model, autonomy, admin: seen.asker.admin };
                let cost_us = if seen.refused.is_none() { seen.cost_us + own_us(bytes) } else { 0 };
                let asked = Asked { rows: seen.rows, bytes, cost_us, end };
                self.crowd.ask(who, asked, now);
                if let Some(family) = seen.clear {
                    let reading = self.texts.clear((&seen.asker.subject, model), family, now);
                    reading.into_iter().for_each(|reading| self.crowd.read(who, reading, now));
                }
                if let Some(reading) = self.texts.words((&seen.asker.subject, model), &seen.inputs, now) {
                    self.crowd.read(who, reading, now);
                }
                if let Some(of) = &seen.model {
                    for reading in self.queries.look(&seen.asker.subject, of, &seen, now) {
                        self.crowd.read(who, reading, now);
                    }
                }
            }
        }
    }

    fn tell(&mut self, runtime: &Handle, all: bool) {
        let mut sightings = self.crowd.drain(self.clock.steady(), all);
        while !sightings.is_empty() {
            let rest = sightings.split_off(sightings.len().min(TOLD));
            let report = Report { by: self.told.by.clone(), sightings: std::mem::replace(&mut sightings, rest) };
            // Where it is away, what is in force holds; what is seen meanwhile is told when it is back.
            let told =
                runtime.block_on(async { tokio::time::timeout(PATIENCE, self.told.sentinel.report(report)).await });
            match told {
                Ok(Ok(())) => {}
                Ok(Err(refusal)) => tracing::debug!(%refusal, "the sentinel can't be told"),
                Err(_) => tracing::debug!("the sentinel does not take what it is told"),
            }
        }
    }
}

/// What a request costs the gateway itself, in microseconds: about as much as a small one takes of a core, and what reading numbers takes.
fn own_us(bytes: u64) -> u64 {
    100 + bytes / 50
}

/// How a prediction ended, as far as it says something of who asked.
fn ended(refused: Option<Code>, name: Option<&ModelName>) -> Ended {
    match refused {
        None => Ended::Answered,
        Some(Code::RateLimited | Code::ConcurrencyLimited | Code::QuotaExceeded | Code::CallerRestricted) => {
            Ended::KeptOut
        }
        Some(Code::ModelNotFound | Code::VersionNotFound | Code::NotAllowed) => {
            Ended::Miss(place(name.map_or("", ModelName::as_str).as_bytes()))
        }
        Some(code) if code.http().is_client_error() => Ended::Fault,
        Some(_) => Ended::Answered,
    }
}

/// What it says of a bundle that it was refused: somebody who tampers, where its signature is bad, or a file that no exporter
/// writes; what was merely not supported says nothing.
fn bundle(refusal: &Refusal) -> Reading {
    let (rule, certain) = match refusal.code {
        Code::BundleUntrusted => (13.8, true),
        Code::ModelInvalid => (6.0, false),
        _ => (0.0, false),
    };
    let what = format!("a bundle was refused: {} [{}]", refusal.message, refusal.code.as_str());
    Reading { agent: AgentName::Supply, score: rule, rule, twin: 0.0, certain, what }
}

/// A number for a place.
pub(crate) fn place(text: &[u8]) -> u64 {
    // FNV-1a.
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nobodys_fault_says_nothing() {
        let model: ModelName = "fraud".parse().unwrap();
        let of = |code| ended(Some(code), Some(&model));
        assert_eq!(of(Code::Overloaded), Ended::Answered);
        assert_eq!(of(Code::CallerRestricted), Ended::KeptOut);
        assert_eq!(of(Code::InputMismatch), Ended::Fault);
        assert!(matches!(of(Code::ModelNotFound), Ended::Miss(_)));
        assert_ne!(place(b"a"), place(b"b"));
    }
}
