//! The book of incidents: what belongs together, in words, with what was done and how to take it back.
//!
//! What is done to a subject within half an hour of the last that was known of it belongs to one incident.

use std::{collections::BTreeMap, time::Duration};

use defend::{
    arbiter::{Act, Kind},
    ladder, techniques,
    trust::Turn,
};
use parking_lot::RwLock;
use rpc::sentinel::IncidentsOf;
use store::{Catalog, Collection, Expect, Write, read_all};
use types::{
    Code, ModelName, Namespace, Refusal, Timestamp,
    defence::{ActionState, Incident, IncidentState, Moment, Restriction, Rung, Subject, Taken, Technique},
};

/// Incidents that are kept; of more, the oldest that is over goes.
const INCIDENTS: usize = 10_000;
/// Moments and actions of one that are kept.
const MOMENTS: usize = 200;
const ACTIONS: usize = 100;
/// How long after the last word of an incident another one is told of the same subject.
const TOGETHER: Duration = Duration::from_secs(1_800);

/// All incidents, as they are kept.
#[derive(Debug, Default)]
pub(crate) struct Book(RwLock<BTreeMap<String, Incident>>);

/// What became of an act.
pub(crate) struct Noted {
    /// The incident as it is now.
    pub(crate) incident: Incident,
    /// Restrictions that are in force now, and those that are not any more.
    pub(crate) set: Vec<Restriction>,
    pub(crate) ended: Vec<Restriction>,
    /// One that is no longer kept.
    pub(crate) dropped: Option<String>,
}

/// Nothing is called so.
pub(crate) fn unknown(id: &str) -> Refusal {
    Refusal::new(Code::IncidentNotFound, format!("there is no incident or action `{id}` here"))
        .hint("see `mantlet incidents`")
}

fn name(kind: &str) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("{kind}-{}", id.get(..10).unwrap_or(&id))
}

impl Book {
    pub(crate) async fn open(catalog: &dyn Catalog) -> Result<Self, Refusal> {
        let mut incidents = BTreeMap::new();
        for document in read_all(catalog, Collection::Incident, "").await? {
            let incident: Incident = document.read()?;
            incidents.insert(incident.id.clone(), incident);
        }
        Ok(Self(RwLock::new(incidents)))
    }

    /// What is in force.
    pub(crate) fn in_force(&self, now: Timestamp) -> Vec<Restriction> {
        let book = self.0.read();
        let actions = book.values().flat_map(|incident| &incident.actions);
        let acting = actions.filter(|taken| taken.state == ActionState::Acting).map(|taken| &taken.restriction);
        acting.filter(|restriction| restriction.until.is_none_or(|until| until > now)).cloned().collect()
    }

    pub(crate) fn list(&self, of: &IncidentsOf) -> Vec<Incident> {
        let here = |incident: &&Incident| {
            of.id.as_ref().is_none_or(|id| holds(incident, id)) && belongs(incident, &of.namespace, of.node)
        };
        let mut found: Vec<Incident> = self.0.read().values().filter(here).cloned().collect();
        found.sort_by_key(|incident| std::cmp::Reverse(incident.updated));
        found.truncate(usize::try_from(of.limit).unwrap_or(usize::MAX));
        found
    }

    /// The incident that an id names: its own, or one of its actions'.
    pub(crate) fn find(&self, id: &str, namespace: &Namespace, node: bool) -> Option<Incident> {
        let book = self.0.read();
        let found = book.values().find(|incident| holds(incident, id))?;
        belongs(found, namespace, node).then(|| found.clone())
    }

    /// An incident as it stands.
    pub(crate) fn get(&self, id: &str) -> Option<Incident> {
        self.0.read().get(id).cloned()
    }

    /// Takes in a new state of an incident.
    pub(crate) fn put(&self, noted: &Noted) {
        let mut book = self.0.write();
        book.insert(noted.incident.id.clone(), noted.incident.clone());
        if let Some(dropped) = &noted.dropped {
            book.remove(dropped);
        }
    }

    /// The incident that an act belongs to, with the act in it; nothing is kept yet.
    pub(crate) fn note(&self, act: &Act) -> Noted {
        let mut incident = self.current(&act.subject, act.namespace(), act.at);
        let (mut set, mut ended) = (Vec::new(), Vec::new());
        let at = act.at;
        incident.updated = at;
        if act.known.log_odds > ladder::PRIOR {
            incident.probability = ladder::probability(act.known.log_odds);
        }
        for reason in &act.reasons {
            if !incident.agents.contains(&reason.agent) {
                incident.agents.push(reason.agent);
                let of = techniques(reason.agent).iter();
                incident.techniques.extend(of.map(|(id, name)| Technique { id: (*id).into(), name: (*name).into() }));
            }
            if let Some(model) = &reason.model
                && !incident.models.contains(model)
                && incident.models.len() < MOMENTS
            {
                incident.models.push(model.clone());
            }
        }
        let reason = reasons(act);
        if !reason.is_empty() {
            incident.summary = format!("{} looks hostile: {reason}", act.subject);
        }
        let what = match &act.kind {
            Kind::Note => format!("seen: {reason}"),
            Kind::Suspect { agent, .. } => {
                incident.summary = format!("{agent} finds more suspicious at once than can be: it is the suspect");
                incident.agents = vec![*agent];
                format!("{agent} finds too many suspicious at once: its plain rule acts alone for ten minutes")
            }
            Kind::Guard { agent, turn: Turn::HandedBack, .. } => {
                incident.summary = format!(
                    "{agent} is handed back to its plain rule: people undid what it learnt more often than they approved it"
                );
                incident.agents = vec![*agent];
                let again = restriction(&incident, act, Rung::Observe, None, "what it learnt acts again");
                let what = format!("its plain rule acts alone; {} proposes that what it learnt acts again", again.id);
                incident.state = IncidentState::Open;
                incident.actions.push(Taken { restriction: again, state: ActionState::Proposed, word: None });
                what
            }
            Kind::Guard { turn: Turn::TakenUp, .. } => {
                let open = incident.actions.iter_mut().filter(|taken| taken.state == ActionState::Proposed);
                open.for_each(|taken| taken.state = ActionState::Ended);
                incident.state = IncidentState::Closed;
                "what it learnt acts again: it is better than its plain rule, or a person said so".into()
            }
            Kind::Propose { rung, why } => {
                let restriction = restriction(&incident, act, *rung, None, &reason);
                let what = format!("{rung} is proposed as {}, since {why}: {reason}", restriction.id);
                incident.actions.retain(|taken| taken.state != ActionState::Proposed);
                incident.actions.push(Taken { restriction, state: ActionState::Proposed, word: None });
                what
            }
            Kind::Set { rung, until } => {
                ended.extend(end(&mut incident, ActionState::Ended));
                incident.actions.retain(|taken| taken.state != ActionState::Proposed);
                let restriction = restriction(&incident, act, *rung, *until, &reason);
                let what = format!("{rung} as {}{}: {reason}", restriction.id, lasts(act.at, *until));
                incident.state = IncidentState::Contained;
                set.push(restriction.clone());
                incident.actions.push(Taken { restriction, state: ActionState::Acting, word: None });
                what
            }
            Kind::End { why } => {
                ended.extend(end(&mut incident, ActionState::Ended));
                incident.state = IncidentState::Closed;
                format!("free again: {why}")
            }
        };
        moment(&mut incident, at, what);
        Noted { dropped: self.oldest(&incident), incident, set, ended }
    }

    /// The incident of a subject that is not long over, or a new one. What an agent is in one namespace is apart from what it is
    /// elsewhere.
    fn current(&self, subject: &Subject, namespace: Option<&Namespace>, now: Timestamp) -> Incident {
        let book = self.0.read();
        // Where an agent is handed back, that is what stands.
        let agent = matches!(subject, Subject::Agent(_));
        let stands = |state| state == ActionState::Acting || agent && state == ActionState::Proposed;
        let acting = |incident: &Incident| incident.actions.iter().any(|taken| stands(taken.state));
        let here = |incident: &&Incident| incident.subject == *subject && incident.namespace.as_ref() == namespace;
        let of_subject = book.values().filter(here);
        let recent = of_subject.filter(|incident| acting(incident) || now.since(incident.updated) < TOGETHER);
        recent.max_by_key(|incident| incident.updated).cloned().map_or_else(
            || Incident {
                id: name("inc"),
                namespace: namespace.cloned(),
                subject: subject.clone(),
                state: IncidentState::Open,
                summary: String::new(),
                probability: ladder::probability(ladder::PRIOR),
                agents: Vec::new(),
                techniques: Vec::new(),
                models: Vec::new(),
                opened: now,
                updated: now,
                timeline: Vec::new(),
                actions: Vec::new(),
            },
            |mut incident| {
                if incident.state == IncidentState::Closed {
                    incident.state = IncidentState::Open;
                }
                incident
            },
        )
    }

    fn oldest(&self, new: &Incident) -> Option<String> {
        let book = self.0.read();
        if book.len() < INCIDENTS || book.contains_key(&new.id) {
            return None;
        }
        let over = |incident: &&Incident| !incident.actions.iter().any(|taken| taken.state == ActionState::Acting);
        book.values().filter(over).min_by_key(|incident| incident.updated).map(|incident| incident.id.clone())
    }

    /// A person's restriction, in the subject's incident.
    pub(crate) fn set(&self, act: &Act, by: &str, reason: &str) -> Noted {
        let mut incident = self.current(&act.subject, act.namespace(), act.at);
        let Kind::Set { rung, until } = act.kind else { return self.note(act) };
        let ended = end(&mut incident, ActionState::Ended);
        let mut restriction = restriction(&incident, act, rung, until, reason);
        restriction.author = by.to_owned();
        if incident.summary.is_empty() {
            incident.summary = format!("{} is restricted by {by}: {reason}", act.subject);
        }
        incident.state = IncidentState::Contained;
        incident.updated = act.at;
        let what = format!("{by} sets {rung} as {}{}: {reason}", restriction.id, lasts(act.at, until));
        moment(&mut incident, act.at, what);
        let set = vec![restriction.clone()];
        incident.actions.push(Taken { restriction, state: ActionState::Acting, word: None });
        Noted { dropped: self.oldest(&incident), incident, set, ended }
    }

    /// A person's word on actions: they stand so from now on.
    pub(crate) fn word(
        &self,
        mut incident: Incident,
        ids: &[String],
        state: ActionState,
        (word, now): (String, Timestamp),
    ) -> Noted {
        let mut ended = Vec::new();
        for taken in incident.actions.iter_mut().filter(|taken| ids.contains(&taken.restriction.id)) {
            if taken.state == ActionState::Acting && state != ActionState::Acting {
                ended.push(taken.restriction.clone());
            }
            taken.state = state;
            taken.word = Some(word.clone());
        }
        if !incident.actions.iter().any(|taken| taken.state == ActionState::Acting) {
            incident.state = IncidentState::Closed;
        }
        incident.updated = now;
        moment(&mut incident, now, word);
        Noted { incident, set: Vec::new(), ended, dropped: None }
    }
}

/// How a book is written.
pub(crate) fn writes(noted: &Noted) -> Result<Vec<Write>, store::Error> {
    let incident = &noted.incident;
    let put = Write::put(Collection::Incident, incident.id.clone(), Expect::Any, incident)?;
    let dropped = noted.dropped.as_ref().map(|id| Write::remove(Collection::Incident, id.clone(), Expect::Any));
    Ok(std::iter::once(put).chain(dropped).collect())
}

/// Whether somebody of a namespace may see it; whoever is of the node sees what belongs to none, too.
fn belongs(incident: &Incident, namespace: &Namespace, node: bool) -> bool {
    incident.namespace.as_ref().map_or(node, |of| of == namespace)
}

fn holds(incident: &Incident, id: &str) -> bool {
    incident.id == id || incident.actions.iter().any(|taken| taken.restriction.id == id)
}

fn end(incident: &mut Incident, state: ActionState) -> Vec<Restriction> {
    let acting = incident.actions.iter_mut().filter(|taken| taken.state == ActionState::Acting);
    acting
        .map(|taken| {
            taken.state = state;
            taken.restriction.clone()
        })
        .collect()
}

fn moment(incident: &mut Incident, at: Timestamp, what: String) {
    if incident.timeline.len() >= MOMENTS {
        // The beginning and the end tell most.
        incident.timeline.remove(MOMENTS / 2);
    }
    incident.timeline.push(Moment { at, what });
    if incident.actions.len() > ACTIONS {
        let over = incident.actions.iter().position(|taken| taken.state != ActionState::Acting);
        over.map(|place| incident.actions.remove(place));
    }
}

fn restriction(incident: &Incident, act: &Act, rung: Rung, until: Option<Timestamp>, reason: &str) -> Restriction {
    let model: Option<ModelName> = if rung >= Rung::Block { None } else { act.model.clone() };
    Restriction {
        id: name("act"),
        subject: act.subject.clone(),
        model,
        rung,
        measures: ladder::measures(rung),
        until,
        since: act.at,
        reason: reason.to_owned(),
        author: "sentinel".into(),
        incident: Some(incident.id.clone()),
    }
}

fn lasts(now: Timestamp, until: Option<Timestamp>) -> String {
    match until {
        Some(until) => format!(" for {} s", until.since(now).as_secs()),
        None => " until it is taken back".into(),
    }
}

/// Who says what, the strongest first.
fn reasons(act: &Act) -> String {
    let say = |reason: &defend::belief::Reason| {
        let at = reason.model.as_ref().map(|model| format!(" at {model}")).unwrap_or_default();
        format!("{}{at}: {}", reason.agent, reason.what)
    };
    act.reasons.iter().map(say).collect::<Vec<_>>().join("; ")
}
