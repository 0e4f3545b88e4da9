//! The loop: reports in, agents, arbiter, book, and out to gateways.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use defend::{
    Arbiter,
    arbiter::{Act, Kept, Kind, Mode},
    judges::{Judges, Worth},
    ladder::{Known, PRIOR},
    trust::Turn,
    windows::{Finished, Windows},
};
use ledger::Record;
use metrics::counter;
use rpc::{
    Clock, Feed,
    registry::Receipt,
    sentinel::{AgentState, Report, Restrict, Said, Say, Settled},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Catalog, Collection, Expect, Write, read_all};
use tokio::sync::mpsc;
use types::{
    Code, Namespace, Refusal, Timestamp,
    defence::{ActionState, AgentName, Incident, Reading, Restriction, Sighting, Subject},
};

use crate::{
    Asked, Parts,
    book::{self, Book, Noted},
    news::Newsroom,
    team::{self, Team},
};

/// How often time alone is looked at.
const TICK: Duration = Duration::from_millis(250);
/// How often what was learnt is kept.
const KEEP: Duration = Duration::from_secs(30);
/// Records that wait to be written, at most, while the catalog is away.
const RECORDS: usize = 1_000;
/// Where in the catalog it is kept who stands where, and what is usual.
const ARBITER: &str = "arbiter";
const JUDGE: &str = "judge/";
const TOGETHER: &str = "together";

/// The sentinel's loop.
pub struct Work {
    catalog: Arc<dyn Catalog>,
    clock: Clock,
    window: Duration,
    book: Arc<Book>,
    feed: Arc<Feed<String, Restriction>>,
    arbiter: Arbiter,
    judges: Judges,
    windows: Windows,
    news: Newsroom,
    team: Team,
    said: mpsc::Receiver<team::Said>,
    reports: mpsc::Receiver<Report>,
    words: mpsc::Receiver<Asked>,
    counts: BTreeMap<AgentName, Seen>,
    /// What is not written yet.
    unkept: BTreeMap<String, Vec<Write>>,
    records: Vec<Record>,
    changed: bool,
}

/// What an agent has looked at.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    windows: u64,
    alarms: u64,
    last: Option<Timestamp>,
}

/// A threshold, as it is kept.
#[derive(Serialize, Deserialize)]
struct Judge {
    namespace: Option<Namespace>,
    /// None is all of them together.
    agent: Option<AgentName>,
    state: String,
}

fn seconds(at: Timestamp) -> f64 {
    at.0 as f64 / 1_000.0
}

impl Work {
    pub(crate) async fn open(
        parts: Parts,
        book: Arc<Book>,
        feed: Arc<Feed<String, Restriction>>,
        (reports, words): (mpsc::Receiver<Report>, mpsc::Receiver<Asked>),
    ) -> Result<Self, Refusal> {
        let kept = match parts.catalog.get(Collection::Sentinel, ARBITER).await? {
            Some(document) => document.read::<Kept>()?,
            None => Kept::default(),
        };
        let mut judges = Judges::new(parts.budget);
        for document in read_all(&*parts.catalog, Collection::Sentinel, JUDGE).await? {
            let judge: Judge = document.read()?;
            let state = BASE64_STANDARD.decode(&judge.state).unwrap_or_default();
            if let Err(error) = judges.load(judge.namespace, judge.agent, &state) {
                let agent = judge.agent.map_or(TOGETHER, AgentName::as_str);
                tracing::warn!(agent, %error, "what is usual can't be read; it is learnt again");
            }
        }
        for restriction in book.in_force(parts.clock.steady()) {
            feed.set(restriction.id.clone(), Some(restriction));
        }
        let news = Newsroom::open(parts.catalog.clone(), parts.webhook).await?;
        let (team, said) = Team::new(parts.agents);
        Ok(Self {
            arbiter: Arbiter::resume(parts.arbiter, kept),
            catalog: parts.catalog,
            clock: parts.clock,
            window: parts.window,
            book,
            feed,
            judges,
            windows: Windows::default(),
            changed: news.changed(),
            news,
            team,
            said,
            reports,
            words,
            counts: BTreeMap::new(),
            unkept: BTreeMap::new(),
            records: Vec::new(),
        })
    }

    /// Runs until `stop` resolves; what was learnt is kept then.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let (mut ticks, mut keeps) = (team::every(TICK), team::every(KEEP));
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(asked) = self.words.recv() => self.answer(asked).await,
                tried = self.news.next() => self.news.take(tried, self.clock.steady()),
                Some(said) = self.said.recv() => self.hear(said),
                Some(report) = self.reports.recv() => self.report(&report),
                _ = ticks.tick() => self.tick(),
                _ = keeps.tick() => self.keep().await,
            }
            self.write().await;
        }
        self.keep().await;
        self.write().await;
    }

    fn report(&mut self, report: &Report) {
        for sighting in &report.sightings {
            let (all, finished) = self.windows.take(&report.by, sighting);
            if let Some(finished) = finished {
                self.learn(&finished, sighting.at);
            }
            self.team.show(all);
        }
    }

    fn hear(&mut self, said: team::Said) {
        match said {
            team::Said::Read(sighting, reading) => self.read(&sighting, &reading),
            team::Said::Failed(agent, what) => {
                self.team.failed(agent);
                self.failed(agent, &what);
            }
        }
    }

    fn read(&mut self, sighting: &Sighting, reading: &Reading) {
        let (subject, agent) = (&sighting.subject, reading.agent);
        let worth = match subject {
            Subject::Caller(..) => self.judges.judge(subject.namespace(), agent, reading.score),
            _ => Worth::Unknown,
        };
        self.windows.note(subject, sighting.window, agent, reading.score);
        let seen = self.counts.entry(agent).or_default();
        seen.last = Some(sighting.at);
        // A window is counted when it is over.
        let mut acts = self.arbiter.take(sighting, reading, worth);
        acts.extend(self.together(sighting));
        acts.into_iter().for_each(|act| self.carry_out(&act));
    }

    /// What all agents' learnt parts come to together.
    fn together(&mut self, sighting: &Sighting) -> Vec<Act> {
        let Some(sum) = self.arbiter.sum(sighting) else { return Vec::new() };
        let (subject, namespace) = (sighting.subject.number(), sighting.subject.namespace());
        if let Some(over) = sum.over {
            self.judges.learn_together(namespace, subject, over, seconds(sighting.at));
        }
        self.arbiter.together(sighting, self.judges.together(namespace, sum.now))
    }

    fn learn(&mut self, finished: &Finished, now: Timestamp) {
        for (agent, score) in &finished.scores {
            let seen = self.counts.entry(*agent).or_default();
            seen.windows += 1;
            if !matches!(finished.subject, Subject::Caller(..)) {
                continue;
            }
            let namespace = finished.subject.namespace();
            if matches!(self.judges.judge(namespace, *agent, *score), Worth::Known(_, true)) {
                seen.alarms += 1;
                counter!("mantlet_sentinel_alarms_total", "agent" => agent.as_str()).increment(1);
            }
            self.judges.learn(namespace, *agent, finished.subject.number(), *score, seconds(now));
        }
    }

    fn tick(&mut self) {
        let now = self.clock.steady();
        for (agent, what) in self.team.tick() {
            self.failed(agent, &what);
        }
        let length = u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX);
        for finished in self.windows.finish(now, length) {
            self.learn(&finished, now);
        }
        let acts = self.arbiter.tick(now);
        acts.into_iter().for_each(|act| self.carry_out(&act));
    }

    /// An agent that failed is an incident of its own.
    fn failed(&mut self, agent: AgentName, what: &str) {
        counter!("mantlet_sentinel_agent_failures_total", "agent" => agent.as_str()).increment(1);
        tracing::error!(%agent, what, "an agent failed; the others go on");
        let reasons = vec![defend::belief::Reason { evidence: 0.0, agent, model: None, what: what.to_owned() }];
        let act = Act { reasons, ..nothing(&Subject::Agent(agent), self.clock.steady()) };
        let mut noted = self.book.note(&act);
        noted.incident.summary = format!("the agent {agent} failed: {what}");
        noted.incident.techniques.clear();
        self.take(noted, record("agent.failed", &act, json!({ "what": what })));
    }

    /// What the arbiter decided comes into the book, and to gateways.
    fn carry_out(&mut self, act: &Act) {
        let about = match act.kind {
            // The incident is the agent's own.
            Kind::Suspect { agent, .. } => Act { subject: Subject::Agent(agent), ..act.clone() },
            _ => act.clone(),
        };
        let noted = self.book.note(&about);
        let (action, detail) = match &act.kind {
            Kind::Note => ("incident.note", json!({})),
            Kind::Propose { rung, why } => ("restriction.propose", json!({ "rung": rung, "why": why })),
            Kind::Set { rung, until } => ("restriction.set", json!({ "rung": rung, "until": until })),
            Kind::End { why } => ("restriction.end", json!({ "why": why })),
            Kind::Suspect { agent, until } => ("agent.suspect", json!({ "agent": agent, "until": until })),
            Kind::Guard { agent, turn: Turn::HandedBack, .. } => ("agent.handed_back", json!({ "agent": agent })),
            Kind::Guard { agent, turn: Turn::TakenUp, .. } => ("agent.taken_up", json!({ "agent": agent })),
        };
        counter!("mantlet_sentinel_acts_total", "kind" => action).increment(1);
        let summary = noted.incident.summary.as_str();
        tracing::warn!(subject = %about.subject, action, %detail, summary, "the sentinel decided");
        let record = record(action, &about, detail);
        self.take(noted, record);
    }

    fn take(&mut self, noted: Noted, mut record: Record) {
        if let Value::Object(detail) = &mut record.detail {
            detail.insert("incident".into(), json!(noted.incident.id));
            detail.insert("summary".into(), json!(noted.incident.summary));
            detail.insert("probability".into(), json!(noted.incident.probability));
            let ids = |restrictions: &[Restriction]| json!(restrictions.iter().map(|r| &r.id).collect::<Vec<_>>());
            detail.insert("set".into(), ids(&noted.set));
            detail.insert("ended".into(), ids(&noted.ended));
        }
        self.news.note(self.book.get(&noted.incident.id).as_ref(), &noted.incident);
        self.book.put(&noted);
        for ended in &noted.ended {
            self.feed.set(ended.id.clone(), None);
        }
        for set in &noted.set {
            self.feed.set(set.id.clone(), Some(set.clone()));
        }
        match book::writes(&noted) {
            Ok(writes) => {
                self.unkept.insert(noted.incident.id.clone(), writes);
            }
            Err(error) => tracing::error!(%error, "an incident can't be written"),
        }
        if self.records.len() < RECORDS {
            self.records.push(record);
        } else {
            counter!("mantlet_sentinel_records_dropped_total").increment(1);
        }
        self.changed = true;
    }

    async fn answer(&mut self, asked: Asked) {
        match asked {
            Asked::Say(said, answer) => {
                let outcome = match self.say(&said) {
                    Ok(incident) => self.settled(incident).await,
                    Err(refusal) => Err(refusal),
                };
                // Whoever asked may be gone.
                let _ = answer.send(outcome);
            }
            Asked::Restrict(restrict, answer) => {
                let incident = self.restrict(restrict);
                let outcome = self.settled(incident).await;
                let _ = answer.send(outcome);
            }
            Asked::Agents(namespace, answer) => {
                let _ = answer.send(self.agents(namespace.as_ref()));
            }
        }
    }

    fn say(&mut self, said: &Said) -> Result<Incident, Refusal> {
        let Said { actor, namespace, node, id, say, reason } = said;
        let incident = self.book.find(id, namespace, *node).ok_or_else(|| book::unknown(id))?;
        let wanted = match say {
            Say::Approve => ActionState::Proposed,
            Say::Reject => ActionState::Proposed,
            Say::Undo => ActionState::Acting,
        };
        let meant = |taken: &&types::defence::Taken| {
            taken.state == wanted && (incident.id == *id || taken.restriction.id == *id)
        };
        let actions: Vec<Restriction> =
            incident.actions.iter().filter(meant).map(|taken| taken.restriction.clone()).collect();
        let Some(last) = actions.last().cloned() else {
            let what = match say {
                Say::Undo => "in force",
                _ => "proposed",
            };
            return Err(Refusal::new(Code::Conflict, format!("nothing of `{id}` is {what}"))
                .hint(format!("see how it stands: `mantlet incidents show {}`", incident.id)));
        };
        let (now, ids) = (self.clock.steady(), actions.iter().map(|action| action.id.clone()).collect::<Vec<_>>());
        let (verb, state) = match say {
            Say::Approve => ("approved", ActionState::Ended),
            Say::Reject => ("rejected", ActionState::Rejected),
            Say::Undo => ("undone", ActionState::Undone),
        };
        let word = format!("{verb} by {actor}: {reason}");
        let subject = incident.subject.clone();
        // It is a label of what agents learnt, too.
        let turns = self.arbiter.label(&subject, *say == Say::Approve, now);
        let (noted, act) = match (say, &subject) {
            // What an agent learnt: it acts again, or it is left as it is.
            (_, Subject::Agent(agent)) => {
                let again = incident.namespace.clone().filter(|_| *say == Say::Approve);
                let act = again.and_then(|namespace| self.arbiter.take_up(&namespace, *agent, now));
                let act = act.unwrap_or_else(|| nothing(&subject, now));
                (self.book.word(incident, &ids, state, (word.clone(), now)), act)
            }
            (Say::Approve, _) => {
                self.judges.confirm(subject.namespace(), subject.number());
                let act = self.arbiter.approve(&subject, last.rung, last.model.clone(), now);
                let noted = self.book.word(incident, &ids, state, (word.clone(), now));
                self.book.put(&noted);
                let mut set = self.book.note(&act);
                if let Some(taken) = set.incident.actions.last_mut() {
                    taken.word = Some(word.clone());
                }
                (set, act)
            }
            (Say::Reject | Say::Undo, _) => {
                let act = self.arbiter.pardon(&subject, now);
                (self.book.word(incident, &ids, state, (word.clone(), now)), act)
            }
        };
        let incident = noted.incident.clone();
        let mut record = record(&format!("restriction.{verb}"), &act, json!({ "actions": ids, "reason": reason }));
        record.actor.clone_from(actor);
        record.namespace = incident.namespace.as_ref().map(ToString::to_string);
        self.take(noted, record);
        turns.iter().for_each(|act| self.carry_out(act));
        Ok(incident)
    }

    fn restrict(&mut self, restrict: Restrict) -> Incident {
        let Restrict { actor, subject, model, rung, lasts_ms, reason } = restrict;
        let now = self.clock.steady();
        let mut act = self.arbiter.approve(&subject, rung, model, now);
        let until = lasts_ms.map(|lasts| now.plus(Duration::from_millis(lasts)));
        self.arbiter.until(&subject, until);
        act.kind = Kind::Set { rung, until };
        let noted = self.book.set(&act, &actor, &reason);
        let incident = noted.incident.clone();
        let mut record = record("restriction.set", &act, json!({ "rung": rung, "until": until, "reason": reason }));
        record.actor = actor;
        self.take(noted, record);
        incident
    }

    fn agents(&self, namespace: Option<&Namespace>) -> Vec<AgentState> {
        let now = self.clock.steady();
        let state = |agent: &AgentName| {
            let (alive, failures, _) = self.team.state(*agent);
            let seen = self.counts.get(agent).copied().unwrap_or_default();
            AgentState {
                agent: *agent,
                mode: match self.arbiter.mode(namespace, *agent, now) {
                    Mode::Off => "off",
                    Mode::Shadow if self.arbiter.is_handed_back(namespace, *agent) => "shadow (handed back)",
                    Mode::Shadow => "shadow",
                    Mode::On => "on",
                }
                .into(),
                alive,
                failures,
                threshold: self.judges.threshold(namespace, *agent),
                windows: seen.windows,
                alarms: seen.alarms,
                last: seen.last,
            }
        };
        AgentName::ALL.iter().map(state).collect()
    }

    /// Writes what is not written yet; what can't be stays for the next time.
    async fn write(&mut self) {
        if let Err(refusal) = self.durable().await {
            tracing::warn!(%refusal, "incidents can't be kept right now; it is tried again");
            tokio::time::sleep(TICK).await;
        }
        self.news.send(self.clock.steady(), self.clock.now());
    }

    async fn settled(&mut self, incident: Incident) -> Result<Settled, Refusal> {
        let outbox = self.durable().await?;
        Ok(Settled { incident, receipt: Receipt(outbox.unwrap_or_default()) })
    }

    /// Writes what is not written yet; the place of its last record.
    async fn durable(&mut self) -> Result<Option<u64>, Refusal> {
        if !self.changed && !self.news.changed() {
            return Ok(None);
        }
        let mut writes: Vec<Write> = self.unkept.values().flatten().cloned().collect();
        writes.push(Write::put(Collection::Sentinel, ARBITER, Expect::Any, &self.arbiter.keep())?);
        writes.extend(self.news.writes()?);
        let records = self.records.iter().map(Record::to_line).collect();
        let committed = self.catalog.commit(writes, records).await?;
        self.unkept.clear();
        self.news.written();
        self.records.clear();
        self.changed = false;
        Ok(committed.outbox)
    }

    /// Keeps what is usual.
    async fn keep(&mut self) {
        let mut writes = Vec::new();
        for (namespace, agent, state) in self.judges.save() {
            let name = agent.map_or(TOGETHER, AgentName::as_str);
            let place = match &namespace {
                Some(namespace) => format!("{JUDGE}{namespace}/{name}"),
                None => format!("{JUDGE}/{name}"),
            };
            let judge = Judge { namespace, agent, state: BASE64_STANDARD.encode(state) };
            match Write::put(Collection::Sentinel, place, Expect::Any, &judge) {
                Ok(write) => writes.push(write),
                Err(error) => tracing::error!(%error, "what is usual can't be written"),
            }
        }
        if !writes.is_empty()
            && let Err(error) = self.catalog.commit(writes, Vec::new()).await
        {
            tracing::warn!(%error, "what is usual can't be kept right now; it is tried again");
        }
    }
}

/// An act that changes nothing.
fn nothing(subject: &Subject, at: Timestamp) -> Act {
    let known = Known { log_odds: PRIOR, kinds: 0, certain: false };
    Act { subject: subject.clone(), model: None, kind: Kind::Note, at, known, reasons: Vec::new() }
}

fn record(action: &str, act: &Act, detail: Value) -> Record {
    Record {
        v: 1,
        at: act.at.0,
        action: action.to_owned(),
        namespace: act.namespace().map(ToString::to_string),
        actor: "sentinel".into(),
        subject: act.subject.to_string(),
        detail,
    }
}
