//! What the gateway's detectors see of requests, beside them: a thread of its own looks, and tells the sentinel.
//!
//! A request hands over what it was, in a queue of bounded length and bytes, and goes on; what does not fit is dropped and counted, so
//! that looking never slows an answer. Five times a second what changed is told, and what can't wait at once. The thread ends with the
//! gateway.

pub(crate) mod pause;
mod queries;
pub(crate) mod reflex;
mod rows;
pub(crate) mod strangers;
pub(crate) mod texts;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    time::Duration,
};

use defend::crowd::{Asked, Crowd, Ended, Who};
use rpc::{Clock, Sentinel, orchestrator::ModelKey, sentinel::Report};
use tokio::{runtime::Handle, time::Instant};
use types::{
    CallerName, Code, ModelName, Namespace, Refusal, Tensor, Timestamp,
    defence::{AgentName, Reading, Subject},
    manifest::Autonomy,
};

use crate::ring::Model;
use pause::Pauses;
use reflex::Reflex;

/// Requests that wait to be looked at, at most.
const WAITING: usize = 4_096;
/// Bytes of their rows, at most; of more, rows are not looked at.
const HELD: usize = 64 << 20;
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
    /// Bytes that came.
    pub(crate) bytes: u64,
    /// What the model took.
    pub(crate) cost_us: u64,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) outputs: Vec<Tensor>,
}

/// The way to the thread.
pub(crate) struct Sense {
    glimpses: Option<SyncSender<Glimpse>>,
    /// Bytes of rows that wait.
    held: Arc<AtomicUsize>,
    /// What looks in the request itself.
    reflex: Option<Reflex>,
    pauses: Arc<Pauses>,
}

/// How it is looked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether anybody looks.
    pub on: bool,
    /// How long a window is.
    pub window: Duration,
    /// Agents that act.
    pub agents: Vec<AgentName>,
    /// How far they go where a model does not say.
    pub autonomy: Autonomy,
}

impl Default for Settings {
    fn default() -> Self {
        Self { on: true, window: Duration::from_secs(60), agents: Vec::new(), autonomy: Autonomy::default() }
    }
}

impl Sense {
    /// Starts to look.
    pub(crate) fn start(settings: Settings, name: &str, sentinel: Arc<dyn Sentinel>, clock: Clock) -> Self {
        let Settings { on, window, agents, autonomy } = settings;
        let reflex = agents.contains(&AgentName::Intruder).then(|| Reflex::new(autonomy));
        let pauses = Arc::new(Pauses::new(agents, autonomy));
        let held = Arc::new(AtomicUsize::new(0));
        if !on {
            return Self { glimpses: None, held, reflex: None, pauses };
        }
        let (glimpses, seen) = sync_channel(WAITING);
        let length = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        let looker = Looker {
            crowd: Crowd::new(length),
            queries: queries::Desk::new(window.as_secs_f64()),
            texts: texts::Desk::new(length),
            clock,
            told: Teller { by: name.to_owned(), sentinel },
            held: held.clone(),
            pauses: pauses.clone(),
        };
        let runtime = Handle::current();
        let work = move || looker.run(&seen, &runtime);
        match std::thread::Builder::new().name("sense".into()).spawn(work) {
            Ok(_) => Self { glimpses: Some(glimpses), held, reflex, pauses },
            Err(error) => {
                tracing::error!(%error, "nobody looks for attackers: there is no thread for it");
                Self { glimpses: None, held, reflex: None, pauses }
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

    /// Who waits while the sentinel decides.
    pub(crate) fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    /// Hands over what was seen; what there is no room for is counted, and gone.
    pub(crate) fn take(&self, mut glimpse: Glimpse) {
        let Some(glimpses) = &self.glimpses else { return };
        let dropped = metrics::counter!("mantlet_gateway_glimpses_dropped_total");
        let mut held = glimpse.held();
        if self.held.fetch_add(held, Ordering::Relaxed) + held > HELD {
            dropped.increment(1);
            self.held.fetch_sub(std::mem::take(&mut held), Ordering::Relaxed);
            glimpse.forget_rows();
        }
        if let Some((subject, model, rows)) = glimpse.rows(&self.pauses) {
            self.pauses.hand_over(subject, &model, rows);
        }
        if let Err(TrySendError::Full(glimpse) | TrySendError::Disconnected(glimpse)) = glimpses.try_send(glimpse) {
            dropped.increment(1);
            self.held.fetch_sub(held, Ordering::Relaxed);
            if let Some((subject, model, _)) = glimpse.rows(&self.pauses) {
                self.pauses.look(subject, &model);
            }
        }
    }
}

impl Glimpse {
    /// Bytes of its rows.
    fn held(&self) -> usize {
        match self {
            Self::Prediction(seen) => seen.inputs.iter().chain(&seen.outputs).map(|tensor| tensor.data().len()).sum(),
            Self::Bundle { .. } | Self::Probe { .. } => 0,
        }
    }

    /// Whose rows these are, at which model, and how many, where newcomers wait for them to be looked at.
    fn rows(&self, pauses: &Pauses) -> Option<(&Subject, ModelKey, u64)> {
        let Self::Prediction(seen) = self else { return None };
        let (Some(namespace), Some(name), Some(model)) = (&seen.namespace, &seen.name, &seen.model) else {
            return None;
        };
        let autonomy = model.route.manifest.spec.protection.autonomy;
        let waits = !seen.inputs.is_empty() && pauses.is_on(autonomy, seen.asker.admin);
        waits.then(|| (&seen.asker.subject, (namespace.clone(), name.clone()), seen.rows))
    }

    /// Keeps what is counted.
    fn forget_rows(&mut self) {
        if let Self::Prediction(seen) = self {
            seen.inputs = Vec::new();
            seen.outputs = Vec::new();
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
    held: Arc<AtomicUsize>,
    pauses: Arc<Pauses>,
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
        self.held.fetch_sub(glimpse.held(), Ordering::Relaxed);
        let rows = glimpse.rows(&self.pauses).map(|(subject, model, _)| (subject.clone(), model));
        self.take_in(glimpse, now);
        if let Some((subject, model)) = rows {
            self.pauses.look(&subject, &model);
        }
    }

    fn take_in(&mut self, glimpse: Glimpse, now: Timestamp) {
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
                let end = ended(seen.refused, seen.name.as_ref());
                // What is not there is no model of its own.
                let model = seen.model.as_ref().and(seen.name.as_ref());
                let autonomy = seen.model.as_ref().and_then(|model| model.route.manifest.spec.protection.autonomy);
                let who = Who { subject: &seen.asker.subject, model, autonomy, admin: seen.asker.admin };
                let cost_us = if seen.refused.is_none() { seen.cost_us + own_us(seen.bytes) } else { 0 };
                let asked = Asked { rows: seen.rows, bytes: seen.bytes, cost_us, end };
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
                        if let Some(model) = model.filter(|_| self.pauses.is_for(&reading, autonomy, seen.asker.admin))
                        {
                            self.pauses.begin(&seen.asker.subject, model, Instant::now());
                        }
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

    #[test]
    fn what_waits_is_bounded_by_its_bytes_and_counted_all_the_same() {
        let (glimpses, seen) = sync_channel(2);
        let held = Arc::new(AtomicUsize::new(0));
        let pauses = Arc::new(Pauses::new(Vec::new(), Autonomy::Observe));
        let sense = Sense { glimpses: Some(glimpses), held: held.clone(), reflex: None, pauses };
        let rows = Tensor::new("x", types::DataType::Uint8, vec![HELD as i64 / 2 + 1], vec![0; HELD / 2 + 1].into());
        let rows = rows.unwrap();
        let take = || {
            let asker = Asker { subject: "caller:bank/app".parse().unwrap(), admin: false };
            let (inputs, outputs) = (vec![rows.clone()], Vec::new());
            sense.take(Glimpse::Prediction(Box::new(Seen {
                asker,
                namespace: None,
                name: None,
                model: None,
                refused: None,
                clear: None,
                rows: 1,
                bytes: 7,
                cost_us: 0,
                inputs,
                outputs,
            })));
            held.load(Ordering::Relaxed)
        };
        let one = HELD / 2 + 1;
        assert_eq!(
            (take(), take(), take()),
            (one, one, one),
            "the second has no room for its rows, the third none at all"
        );
        let waits = |glimpse: Glimpse| match &glimpse {
            Glimpse::Prediction(seen) => (glimpse.held(), seen.bytes),
            _ => panic!("it is a prediction"),
        };
        assert_eq!(seen.try_iter().map(waits).collect::<Vec<_>>(), [(one, 7), (0, 7)]);
    }
}
