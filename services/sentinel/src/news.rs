//! News of incidents for somebody outside, by signed webhooks ([`webhook`]).
//!
//! One message tells that something is proposed, that it is contained further than before, or that it is over; what is merely seen is
//! in the book. A message is frozen when it happens, and kept in the transaction of its incident; it is sent beside the loop, so that a
//! receiver that is slow keeps nobody. What was taken, or is given up, is forgotten.

use std::{collections::BTreeMap, future, sync::Arc};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use metrics::counter;
use rpc::registry::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Catalog, Collection, Expect, Write, read_all};
use types::{
    Namespace, Refusal, SecretName, Timestamp,
    defence::{ActionState, Incident, IncidentState, Taken},
};
use webhook::{About, Answer, Key, Outbox, Receiver, Told};

/// Where in the catalog notes are kept.
const PLACE: &str = "webhook/";
/// Actions that a message tells of: the last ones.
const ACTIONS: usize = 10;
/// The namespace whose secret it is signed with.
const SECRETS: &str = "default";

/// Who is told of incidents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where messages go.
    pub url: String,
    /// The secret of the namespace `default` that they are signed with.
    pub secret: SecretName,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct News {
    at: Timestamp,
    namespace: Option<Namespace>,
    data: Value,
}

type Note = webhook::Note<News>;

impl About for News {
    fn at(&self) -> Timestamp {
        self.at
    }

    fn owner(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }

    fn kind(&self) -> &'static str {
        "incident"
    }

    fn data(&self) -> Value {
        self.data.clone()
    }
}

/// What of an incident's change is worth a message; nothing where nobody needs to look.
fn event(before: Option<&Incident>, after: &Incident) -> Option<&'static str> {
    let highest = |incident: &Incident, state: ActionState| {
        let so = incident.actions.iter().filter(|taken| taken.state == state).map(|taken| taken.restriction.rung);
        so.max()
    };
    let higher = |state| highest(after, state) > before.and_then(|before| highest(before, state));
    let open = before.is_some_and(|before| before.state != IncidentState::Closed);
    if higher(ActionState::Acting) {
        Some("contained")
    } else if higher(ActionState::Proposed) {
        Some("proposed")
    } else {
        (after.state == IncidentState::Closed && open).then_some("closed")
    }
}

/// An action, with what a person may type about it.
fn action(taken: &Taken) -> Value {
    let restriction = &taken.restriction;
    let id = &restriction.id;
    let mut said = json!({
        "id": id, "rung": restriction.rung, "state": taken.state, "reason": restriction.reason,
        "model": restriction.model, "until": restriction.until.and_then(webhook::date), "author": restriction.author,
    });
    let command = match taken.state {
        ActionState::Acting => Some(("undo", format!("mantlet undo {id} --reason WHY"))),
        ActionState::Proposed => Some(("approve", format!("mantlet approve {id} --reason WHY"))),
        _ => None,
    };
    if let (Some((word, command)), Value::Object(said)) = (command, &mut said) {
        said.insert(word.into(), json!(command));
    }
    said
}

fn data(event: &str, incident: &Incident) -> Value {
    let last = incident.actions.len().saturating_sub(ACTIONS);
    json!({
        "event": event, "id": incident.id, "state": incident.state, "namespace": incident.namespace,
        "subject": incident.subject, "summary": incident.summary, "probability": incident.probability,
        "agents": incident.agents, "models": incident.models, "techniques": incident.techniques,
        "opened": webhook::date(incident.opened),
        "actions": incident.actions.iter().skip(last).map(action).collect::<Vec<_>>(),
    })
}

/// What became of an attempt; nothing where the catalog was away, and nothing was sent.
type Tried = (Note, Option<Answer>);

/// The messages that wait, and those on their way.
pub(crate) struct Newsroom {
    catalog: Arc<dyn Catalog>,
    to: Option<Arc<Webhook>>,
    outbox: Outbox<News>,
    sending: FuturesUnordered<BoxFuture<'static, Tried>>,
    /// What is not written yet: a note, or that it is no more.
    unkept: BTreeMap<String, Option<Note>>,
}

fn count(outcome: &'static str) {
    counter!("mantlet_sentinel_webhooks_total", "outcome" => outcome).increment(1);
}

fn place(id: &str) -> String {
    format!("{PLACE}{id}")
}

impl Newsroom {
    /// Takes up what waits. What waited for somebody who is told no more goes.
    pub(crate) async fn open(catalog: Arc<dyn Catalog>, to: Option<Webhook>) -> Result<Self, Refusal> {
        let (mut outbox, mut unkept) = (Outbox::default(), BTreeMap::new());
        for document in read_all(&*catalog, Collection::Sentinel, PLACE).await? {
            let note: Note = document.read()?;
            if to.is_some() {
                outbox.put(note);
            } else {
                unkept.insert(note.id, None);
            }
        }
        Ok(Self { catalog, to: to.map(Arc::new), outbox, sending: FuturesUnordered::new(), unkept })
    }

    /// Notes what is to be told of an incident's change.
    pub(crate) fn note(&mut self, before: Option<&Incident>, after: &Incident) {
        let Some(event) = event(before, after).filter(|_| self.to.is_some()) else { return };
        if let Some(pushed) = self.outbox.room() {
            count("dropped");
            self.forget(&pushed.id);
        }
        let (at, namespace) = (after.updated, after.namespace.clone());
        let note = Note {
            id: format!("incident_{}", uuid::Uuid::new_v4().simple()),
            about: News { at, namespace, data: data(event, after) },
            told: Some(Told::Waiting { attempts: 0, next: at, why: None }),
        };
        self.put(note);
    }

    fn put(&mut self, note: Note) {
        self.unkept.insert(note.id.clone(), Some(note.clone()));
        self.outbox.put(note);
    }

    fn forget(&mut self, id: &str) {
        self.outbox.forget(id);
        self.unkept.insert(id.to_owned(), None);
    }

    /// Whether something is to be written.
    pub(crate) fn changed(&self) -> bool {
        !self.unkept.is_empty()
    }

    /// What is to be written.
    pub(crate) fn writes(&self) -> Result<Vec<Write>, store::Error> {
        let write = |(id, note): (&String, &Option<Note>)| match note {
            Some(note) => Write::put(Collection::Sentinel, place(id), Expect::Any, note),
            None => Ok(Write::remove(Collection::Sentinel, place(id), Expect::Any)),
        };
        self.unkept.iter().map(write).collect()
    }

    /// It is written.
    pub(crate) fn written(&mut self) {
        self.unkept.clear();
    }

    /// Sends what is due, unless something is on its way, or is not written yet: that would be sent again and again.
    /// It is due by steady time, and signed with the time that its receiver compares.
    pub(crate) fn send(&mut self, steady: Timestamp, now: Timestamp) {
        let Some(to) = self.to.clone().filter(|_| self.sending.is_empty() && self.unkept.is_empty()) else { return };
        for note in self.outbox.due(steady) {
            let (catalog, to) = (self.catalog.clone(), to.clone());
            self.sending
                .push(async move { (tell(&*catalog, &to, &note, now).await, note) }.map(|(a, n)| (n, a)).boxed());
        }
    }

    /// Waits for what becomes of something that is on its way; forever where nothing is.
    pub(crate) async fn next(&mut self) -> Tried {
        match self.sending.next().await {
            Some(tried) => tried,
            None => future::pending().await,
        }
    }

    /// Takes in what became of an attempt.
    pub(crate) fn take(&mut self, (note, answer): Tried, now: Timestamp) {
        // It may have been pushed out meanwhile.
        let Some(answer) = answer.filter(|_| self.outbox.knows(&note.id)) else { return };
        let note = webhook::after(note, answer, now);
        let id = note.id.as_str();
        match &note.told {
            Some(Told::Waiting { why, attempts, .. }) => {
                count("failed");
                tracing::info!(id, attempts, why, "news of an incident was not taken; it is sent again");
                return self.put(note);
            }
            Some(Told::Dropped { why, attempts }) => {
                count("given_up");
                tracing::warn!(id, attempts, why, "news of an incident is given up");
            }
            _ => count("delivered"),
        }
        self.forget(&note.id);
    }
}

async fn tell(catalog: &dyn Catalog, to: &Webhook, note: &Note, now: Timestamp) -> Option<Answer> {
    let name = &to.secret;
    let secret = match catalog.get(Collection::Secret, &format!("{SECRETS}/{name}")).await {
        Ok(Some(secret)) => secret,
        Ok(None) => return Some(Answer::Not(format!("`{SECRETS}` has no secret `{name}`"))),
        Err(error) => {
            tracing::warn!(%error, "nobody can be told of incidents right now; it is tried again");
            return None;
        }
    };
    let key = match secret.read::<Secret>().map(|secret| Key::read(&secret.value)) {
        Ok(Ok(key)) => key,
        Ok(Err(why)) => return Some(Answer::Not(format!("the secret `{name}` {why}"))),
        Err(_) => return Some(Answer::Not(format!("the secret `{name}` can't be read"))),
    };
    Some(webhook::send(&Receiver { url: &to.url, ca: None }, &key, note, now).await)
}

#[cfg(test)]
mod tests {
    use types::defence::{Restriction, Rung, Subject};

    use super::*;

    fn incident(state: IncidentState, actions: &[(Rung, ActionState)]) -> Incident {
        let subject: Subject = "caller:bank/eve".parse().unwrap();
        let taken = |(rung, state): &(Rung, ActionState)| Taken {
            restriction: Restriction {
                id: format!("act-{rung}"),
                subject: "caller:bank/eve".parse().unwrap(),
                model: None,
                rung: *rung,
                measures: defend::ladder::measures(*rung),
                until: None,
                since: Timestamp(1),
                reason: "it scans".into(),
                author: "sentinel".into(),
                incident: Some("inc-1".into()),
            },
            state: *state,
            word: None,
        };
        Incident {
            id: "inc-1".into(),
            namespace: subject.namespace().cloned(),
            subject,
            state,
            summary: "it looks hostile".into(),
            probability: 0.5,
            agents: Vec::new(),
            techniques: Vec::new(),
            models: Vec::new(),
            opened: Timestamp(1),
            updated: Timestamp(2),
            timeline: Vec::new(),
            actions: actions.iter().map(taken).collect(),
        }
    }

    #[test]
    fn it_is_told_what_somebody_needs_to_look_at_and_once() {
        use ActionState::{Acting, Ended, Proposed, Rejected};
        use IncidentState::{Closed, Contained, Open};
        let noted = incident(Open, &[]);
        let proposed = incident(Open, &[(Rung::Throttle, Proposed)]);
        let contained = incident(Contained, &[(Rung::Throttle, Acting)]);
        let further = incident(Contained, &[(Rung::Throttle, Ended), (Rung::Block, Acting)]);
        let asked = incident(Contained, &[(Rung::Throttle, Acting), (Rung::Block, Proposed)]);
        let over = incident(Closed, &[(Rung::Throttle, Ended)]);
        let rejected = incident(Closed, &[(Rung::Throttle, Rejected)]);
        for (before, after, told) in [
            (None, &noted, None),
            (Some(&noted), &proposed, Some("proposed")),
            (None, &proposed, Some("proposed")),
            (Some(&proposed), &proposed, None),
            (Some(&proposed), &contained, Some("contained")),
            (Some(&contained), &contained, None),
            (Some(&contained), &further, Some("contained")),
            // A step down is no news.
            (Some(&further), &contained, None),
            (Some(&contained), &asked, Some("proposed")),
            (Some(&contained), &over, Some("closed")),
            (Some(&proposed), &rejected, Some("closed")),
            (Some(&over), &over, None),
            (Some(&over), &contained, Some("contained")),
        ] {
            assert_eq!(event(before, after), told, "{before:?} {after:?}");
        }
        let said = data("proposed", &asked);
        assert_eq!(said["actions"][0]["undo"], "mantlet undo act-throttle --reason WHY");
        assert_eq!(said["actions"][1]["approve"], "mantlet approve act-block --reason WHY");
        assert_eq!((&said["subject"], &said["probability"]), (&json!("caller:bank/eve"), &json!(0.5)));
    }
}
