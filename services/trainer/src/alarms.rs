//! What follows an alarm beside a job: a record in the ledger, and a webhook where the version's manifest names one.
//!
//! Each alarm is noted once, with its record in the same transaction. A note that somebody is to be told of waits in the outbox,
//! which decides when it is sent and for how long ([`webhook`]). All of it goes on beside the joining
//! of labels, and a start goes on with what waits: whoever is told is told at least once, by the same id each time.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use ledger::Record;
use metrics::counter;
use rpc::{
    Clock,
    registry::{Secret, VersionKey},
    trainer::{Alarm, CheckWebhook, VersionAlarm},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use store::{Collection, Expect, Write, read_all};
use tokio::time::sleep;
use types::{Code, Namespace, Refusal, Timestamp, manifest::Webhook};
use webhook::{About, Answer, Key, Outbox, Receiver, Told};

use crate::{Known, learn::Stores};

/// The wait after a store could not be used.
const AGAIN: Duration = Duration::from_secs(2);
/// How long there is rest where nothing is to be sent: notes of alarms that are forgotten go then.
const REST: Duration = Duration::from_secs(60);
/// Where in the catalog alarms are noted.
const PLACE: &str = "alarm/";

/// What an alarm is called; the same whenever it is found again in the joined log.
pub(crate) fn id((namespace, model, version): &VersionKey, alarm: &Alarm) -> String {
    // Labels that came together have one time.
    let text = format!("{namespace}/{model}/{version}/{}/{}/{}", alarm.kind, alarm.at.0, alarm.what);
    let digest = Sha256::digest(text.as_bytes());
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("drift_{hex}")
}

/// What an alarm was about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct News {
    version: VersionKey,
    alarm: Alarm,
}

type Note = webhook::Note<News>;

impl About for News {
    fn at(&self) -> Timestamp {
        self.alarm.at
    }

    fn owner(&self) -> Option<&Namespace> {
        Some(&self.version.0)
    }

    fn kind(&self) -> &'static str {
        "drift"
    }

    fn data(&self) -> Value {
        let ((namespace, model, version), alarm) = (&self.version, &self.alarm);
        json!({
            "namespace": namespace, "model": model, "version": version, "kind": alarm.kind, "what": alarm.what,
            "since": alarm.since.map(webhook::date), "moved": alarm.moved,
        })
    }
}

fn receiver(webhook: &Webhook) -> Receiver<'_> {
    Receiver { url: &webhook.url, ca: webhook.ca.as_deref() }
}

/// Who may be told, and how.
pub(crate) struct Teller {
    stores: Arc<Stores>,
    /// Origins that webhooks may go to.
    origins: Vec<String>,
}

impl Teller {
    pub(crate) fn new(stores: Arc<Stores>, origins: Vec<String>) -> Self {
        Self { stores, origins }
    }

    /// Refuses a webhook that can't be called.
    pub(crate) async fn check(&self, CheckWebhook { namespace, webhook }: CheckWebhook) -> Result<(), Refusal> {
        self.key(&namespace, &webhook).await?;
        receiver(&webhook)
            .check()
            .map_err(|why| Refusal::new(Code::ManifestInvalid, format!("spec.learning.drift.webhook.{why}")))
    }

    /// What a webhook that may be called is signed with.
    async fn key(&self, namespace: &Namespace, webhook: &Webhook) -> Result<Key, Refusal> {
        let origin = webhook.origin().map_err(|why| Refusal::new(Code::ManifestInvalid, why))?;
        if !self.origins.contains(&origin) {
            return Err(Refusal::new(Code::WebhookNotAllowed, format!("webhooks to {origin} are not sent here"))
                .hint("who runs the node allows it by the setting trainer.webhooks"));
        }
        let name = &webhook.secret;
        let secret = self.stores.catalog.get(Collection::Secret, &format!("{namespace}/{name}")).await?;
        let secret = secret.ok_or_else(|| {
            Refusal::new(Code::SecretNotFound, format!("`{namespace}` has no secret `{name}`"))
                .hint(format!("set it: `mantlet secrets set {name} < key`"))
        })?;
        Key::read(&secret.read::<Secret>()?.value).map_err(|why| {
            Refusal::new(Code::ManifestInvalid, format!("spec.learning.drift.webhook: the secret `{name}` {why}"))
                .hint(format!("`mantlet secrets set {name} < key` takes `whsec_` and a key in base64, or a text"))
        })
    }

    /// Whom the manifest of the version names that an alarm was about; nobody when that version is no more.
    async fn webhook(&self, version: &VersionKey, at: Timestamp) -> Result<Option<Webhook>, Refusal> {
        let records = self.stores.versions(&(version.0.clone(), version.1.clone())).await?;
        // One that was made later is another one, of a model that has got the same name.
        let record = records.into_iter().find(|record| record.version == version.2 && record.created <= at);
        Ok(record.and_then(|record| record.manifest.spec.learning.drift.webhook))
    }

    /// Sends what is noted.
    ///
    /// # Errors
    /// When a store can't be used: then nothing was sent.
    async fn tell(&self, note: &Note, now: Timestamp) -> Result<Answer, Refusal> {
        let Some(webhook) = self.webhook(&note.about.version, note.about.alarm.at).await? else {
            return Ok(Answer::Gone("its version is no more".into()));
        };
        let key = match self.key(&note.about.version.0, &webhook).await {
            Err(refusal) if matches!(refusal.code, Code::StorageUnavailable | Code::ReplicaLost) => {
                return Err(refusal);
            }
            Err(refusal) => return Ok(Answer::Not(refusal.message.into_owned())),
            Ok(key) => key,
        };
        Ok(webhook::send(&receiver(&webhook), &key, note, now).await)
    }
}

/// The loop that notes alarms and tells of them.
pub(crate) struct Alarms {
    teller: Arc<Teller>,
    clock: Clock,
    known: Arc<Known>,
    outbox: Outbox<News>,
    /// Notes whose state is not kept.
    unkept: BTreeSet<String>,
}

fn place(note: &Note) -> String {
    format!("{PLACE}{}", note.id)
}

fn count(outcome: &'static str) {
    counter!("mantlet_trainer_webhooks_total", "outcome" => outcome).increment(1);
}

impl Alarms {
    /// Takes up what is noted.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) async fn open(teller: Arc<Teller>, clock: Clock, known: Arc<Known>) -> Result<Self, Refusal> {
        let mut outbox = Outbox::default();
        for document in read_all(&*teller.stores.catalog, Collection::Evaluation, PLACE).await? {
            outbox.put(document.read()?);
        }
        let alarms = Self { teller, clock, known, outbox, unkept: BTreeSet::new() };
        alarms.outbox.notes().for_each(|note| alarms.show(note));
        Ok(alarms)
    }

    /// Runs until `stop` resolves; what waits then is sent after the next start.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            let known = self.known.clone();
            let turn = async {
                let rest = self.round().await.unwrap_or_else(|refusal| {
                    tracing::warn!(%refusal, "nobody can be told of drift right now; it is tried again");
                    AGAIN
                });
                tokio::select! {
                    () = known.alarmed.notified() => {}
                    () = sleep(rest) => {}
                }
            };
            tokio::select! {
                () = &mut stop => return,
                () = turn => {}
            }
        }
    }

    /// Notes what is new, and sends what is due; how long there is nothing to do.
    async fn round(&mut self) -> Result<Duration, Refusal> {
        // While nothing can be kept, nothing is sent: it would be sent again and again.
        self.keep().await?;
        let found = self.known.found();
        let ids: BTreeSet<String> = found.iter().map(|(version, alarm)| id(version, alarm)).collect();
        for (version, alarm) in found {
            if !self.outbox.knows(&id(&version, &alarm)) {
                self.note(version, alarm).await?;
            }
        }
        for note in self.outbox.done(&ids) {
            let remove = Write::remove(Collection::Evaluation, place(&note), Expect::Any);
            self.teller.stores.catalog.commit(vec![remove], Vec::new()).await?;
            self.outbox.forget(&note.id);
            self.known.told.lock().remove(&note.id);
        }
        self.send().await?;
        Ok(self.outbox.next().map_or(REST, |next| next.since(self.clock.steady()).min(REST)))
    }

    async fn note(&mut self, version: VersionKey, alarm: Alarm) -> Result<(), Refusal> {
        let webhook = self.teller.webhook(&version, alarm.at).await?;
        let (now, (namespace, model, number)) = (self.clock.now(), &version);
        tracing::warn!(%namespace, %model, version = %number, kind = %alarm.kind, what = alarm.what, "drift");
        let record = Record {
            v: 1,
            at: now.0,
            action: "model.drift".into(),
            namespace: Some(namespace.to_string()),
            actor: "trainer".into(),
            subject: format!("model:{namespace}/{model}"),
            detail: json!({ "version": number, "alarm": alarm }),
        };
        let waits = webhook.is_some_and(|webhook| webhook.tells(alarm.kind));
        let told = waits.then_some(Told::Waiting { attempts: 0, next: self.clock.steady(), why: None });
        let note = Note { id: id(&version, &alarm), about: News { version, alarm }, told };
        let pushed = note.told.is_some().then(|| self.outbox.room()).flatten();
        let writes = pushed.iter().chain([&note]).map(write).collect::<Result<Vec<_>, _>>()?;
        self.teller.stores.catalog.commit(writes, vec![record.to_line()]).await?;
        for note in pushed.into_iter().inspect(|_| count("dropped")).chain([note]) {
            self.show(&note);
            self.outbox.put(note);
        }
        Ok(())
    }

    /// Sends what is due, several at a time, and keeps each answer as it comes.
    async fn send(&mut self) -> Result<(), Refusal> {
        let now = self.clock.now();
        let told = |note: Note| {
            let teller = self.teller.clone();
            async move { (teller.tell(&note, now).await, note) }
        };
        let mut sent: FuturesUnordered<_> = self.outbox.due(self.clock.steady()).into_iter().map(told).collect();
        while let Some((answer, note)) = sent.next().await {
            let note = webhook::after(note, answer?, self.clock.steady());
            let (namespace, model, id) = (&note.about.version.0, &note.about.version.1, &note.id);
            match &note.told {
                Some(Told::Waiting { why, attempts, .. }) => {
                    count("failed");
                    tracing::info!(%namespace, %model, id, attempts, why, "a webhook was not taken; it is sent again");
                }
                Some(Told::Dropped { why, attempts }) => {
                    count("given_up");
                    tracing::warn!(%namespace, %model, id, attempts, why, "a webhook is given up");
                }
                _ => count("delivered"),
            }
            self.show(&note);
            self.unkept.insert(note.id.clone());
            self.outbox.put(note);
            self.keep().await?;
        }
        Ok(())
    }

    /// Keeps what became of notes.
    async fn keep(&mut self) -> Result<(), Refusal> {
        let writes = self.outbox.notes().filter(|note| self.unkept.contains(&note.id)).map(write);
        let writes = writes.collect::<Result<Vec<_>, _>>()?;
        if !writes.is_empty() {
            self.teller.stores.catalog.commit(writes, Vec::new()).await?;
            self.unkept.clear();
        }
        Ok(())
    }

    fn show(&self, note: &Note) {
        if let Some(told) = &note.told {
            self.known.told.lock().insert(note.id.clone(), told.clone());
        }
    }
}

fn write(note: &Note) -> Result<Write, store::Error> {
    Write::put(Collection::Evaluation, place(note), Expect::Any, note)
}

impl Known {
    /// What drifted of a model's versions lately, the newest first.
    pub(crate) fn alarms_of(&self, key: &rpc::orchestrator::ModelKey) -> Vec<VersionAlarm> {
        let mut alarms: Vec<VersionAlarm> = {
            let alarms = self.alarms.lock();
            let of_model = alarms.iter().filter(|(version, _)| (&version.0, &version.1) == (&key.0, &key.1));
            let of = |(key, alarms): (&VersionKey, &Vec<Alarm>)| {
                let version = key.2;
                alarms.iter().map(move |alarm| VersionAlarm { version, alarm: alarm.clone(), told: None }).collect()
            };
            of_model.flat_map::<Vec<_>, _>(of).collect()
        };
        alarms.extend(self.models.lock().get(key).map(crate::judge::Judged::alarms).unwrap_or_default());
        alarms.sort_by_key(|alarm| std::cmp::Reverse(alarm.alarm.at));
        let told = self.told.lock();
        for VersionAlarm { version, alarm, told: state } in &mut alarms {
            *state = told.get(&id(&(key.0.clone(), key.1.clone(), *version), alarm)).cloned();
        }
        alarms
    }

    /// Every alarm that is remembered.
    fn found(&self) -> Vec<(VersionKey, Alarm)> {
        let of = |(key, alarms): (&VersionKey, &Vec<Alarm>)| {
            alarms.iter().map(|alarm| (key.clone(), alarm.clone())).collect::<Vec<_>>()
        };
        let mut found: Vec<_> = self.alarms.lock().iter().flat_map(of).collect();
        for ((namespace, model), judged) in &*self.models.lock() {
            let of = |alarm: VersionAlarm| ((namespace.clone(), model.clone(), alarm.version), alarm.alarm);
            found.extend(judged.alarms().into_iter().map(of));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use rpc::trainer::Shift;
    use types::manifest::AlarmKind;

    use super::*;

    #[test]
    fn what_is_sent_says_what_moved_how_far_and_since_when() {
        let moved = vec![Shift { column: "amount".into(), effect: 0.5, evidence: 4e6 }];
        let alarm = Alarm {
            at: Timestamp(1_700_000_000_250),
            kind: AlarmKind::Inputs,
            what: "amount by 0.50".into(),
            since: Some(Timestamp(1_699_999_999_000)),
            moved,
        };
        let version = ("bank".parse().unwrap(), "fraud".parse().unwrap(), types::Version(3));
        let note = Note { id: "drift_1".into(), about: News { version, alarm }, told: None };
        assert_eq!(
            note.about.data().to_string(),
            r#"{"namespace":"bank","model":"fraud","version":3,"kind":"inputs","what":"amount by 0.50","#.to_owned()
                + r#""since":"2023-11-14T22:13:19Z","moved":[{"column":"amount","effect":0.5,"evidence":4000000.0}]}"#
        );
        // As it is kept: what waits is read again by the next release.
        let kept = serde_json::to_value(&note).unwrap();
        assert!(kept["version"].is_array() && kept["alarm"].is_object() && kept["told"].is_null(), "{kept}");
        assert_eq!(serde_json::from_value::<Note>(kept).unwrap(), note);
    }
}
