//! The versions of one model that learn. Those that are up to date go through the log together, so that what they say of an
//! example can be compared; who is behind catches up by itself.

mod promote;
mod slices;

use std::{collections::BTreeMap, time::Duration};

use plan::{canary::Canary, slices::Slice};
use rpc::{
    orchestrator::{ModelKey, Status},
    registry::VersionRecord,
    trainer::{Learning, Paused, Rollout, Stand, Word},
};
use serde::{Deserialize, Serialize};
use store::{Collection, Entry as Stored, Expect, Write};
use streaming::{Contest, Row, Seen, Truth, Verdict};
use tokio::time::Instant;
use types::{Code, Manifest, Refusal, Timestamp, Version, event::JOINED, manifest::Promote};

use slices::Sight;

use super::{
    Stores,
    learner::{self, Learner},
};
use crate::{
    contributors,
    joined::{Entry, Example},
};

/// Entries of the joined log that are taken in at a time.
pub(super) const PAGE: u32 = 500;
/// How long a version goes on learning after its last answer with a label, if nothing else keeps it.
const QUIET: Duration = Duration::from_secs(600);
/// How often it is kept how versions compare that do not learn.
const KEEP: Duration = Duration::from_secs(1);
/// Where in the catalog it is kept how a challenger stands.
const CONTEST: &str = "contest/";
/// Who says that a challenger is to answer.
const AUTHOR: &str = "trainer";

pub(super) struct Group {
    model: ModelKey,
    learners: BTreeMap<Version, Learner>,
    records: BTreeMap<Version, VersionRecord>,
    kept: Kept,
    /// A person splits the model's requests: nothing is promoted meanwhile.
    split: bool,
    /// What both versions answered the same requests.
    sight: Sight,
    /// What is kept has changed since.
    dirty: bool,
    /// When it was kept last.
    stored: Instant,
}

/// How a challenger stands, as it is kept.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// Challengers so far.
    attempts: u32,
    contest: Option<Contest>,
    /// What is to be done about it and was not yet.
    verdict: Option<Verdict>,
    /// It answers a share of the requests, before it answers all.
    #[serde(default)]
    canary: Option<Canary>,
    /// A person has it wait.
    #[serde(default)]
    paused: Option<Paused>,
    /// Where both versions differ far more than elsewhere; and whether a person has said that it may answer all the same.
    #[serde(default)]
    slice: Option<Slice>,
    #[serde(default)]
    overruled: bool,
}

/// Whether a version of a model is a reason to look at it: it learns, or is to prove itself.
pub(super) fn concerns(manifest: &Manifest) -> bool {
    manifest.is_streaming() || manifest.spec.learning.promote != Promote::Off
}

fn place((namespace, model): &ModelKey) -> String {
    format!("{CONTEST}{namespace}/{model}")
}

/// Forgets the challenger of a model that is no more.
pub(super) async fn forget(stores: &Stores, model: &ModelKey) -> Result<(), Refusal> {
    let write = Write::remove(Collection::Evaluation, place(model), Expect::Any);
    stores.catalog.commit(vec![write, Group::forget_slices(model)], Vec::new()).await?;
    Ok(())
}

pub(super) fn no_challenger(word: &Word) -> Refusal {
    let what = format!("version {} of `{}` is no challenger", word.challenger, word.model);
    Refusal::new(Code::VersionNotFound, what).hint("see `mantlet rollouts`")
}

impl Group {
    /// The group of a model, with its challenger as it was kept.
    ///
    /// # Errors
    /// When the catalog can't be read.
    pub(super) async fn open(stores: &Stores, model: ModelKey) -> Result<Self, Refusal> {
        let kept = stores.catalog.get(Collection::Evaluation, &place(&model)).await?;
        let kept = kept.map(|kept| kept.read()).transpose()?.unwrap_or_default();
        Ok(Self {
            model,
            learners: BTreeMap::new(),
            records: BTreeMap::new(),
            kept,
            split: false,
            sight: Sight::None,
            dirty: false,
            stored: Instant::now(),
        })
    }

    /// Takes in which versions there are, and which one is wanted; `end` is the next entry of the joined log.
    ///
    /// # Errors
    /// When a store can't be used.
    pub(super) async fn look(
        &mut self,
        stores: &Stores,
        versions: Vec<VersionRecord>,
        (answered, end): (&BTreeMap<Version, Instant>, u64),
        status: Option<&Status>,
    ) -> Result<(), Refusal> {
        self.records = versions.into_iter().map(|record| (record.version, record)).collect();
        let current = status.and_then(|status| status.desired);
        self.split = status.is_some_and(|status| status.sent.0.split.is_some());
        self.note_current(current);
        let lately = |version: &Version| answered.get(version).is_some_and(|at| at.elapsed() < QUIET);
        let newest = self.records.keys().next_back().copied();
        let wanted = |version: &Version| Some(*version) == newest || Some(*version) == current || lately(version);
        let wanted: Vec<Version> = self.records.keys().copied().filter(wanted).collect();
        for version in &wanted {
            if !self.learners.contains_key(version)
                && let Some(record) = self.records.get(version).filter(|record| record.manifest.is_streaming())
            {
                self.learners.insert(*version, Learner::open(stores, record).await?);
            }
        }
        let gone: Vec<Version> = self.learners.keys().copied().filter(|version| !wanted.contains(version)).collect();
        for version in gone {
            if let Some(mut learner) = self.learners.remove(&version) {
                gone_or(learner.sign(stores).await)?;
            }
        }
        self.begin(current, end)?;
        self.look_at_slices(stores, current).await?;
        if self.kept.verdict.is_some() {
            self.carry_out(stores, status).await?;
        } else {
            self.shadow(stores, status).await?;
        }
        self.keep(stores).await
    }

    /// Whether versions are compared that do not learn: both are asked the same, one of them by copies.
    pub(super) fn is_copied(&self) -> bool {
        let goes_on = |contest: &&Contest| contest.goes_on();
        self.learners.is_empty() && self.kept.contest.as_ref().filter(goes_on).is_some()
    }

    /// The version that is to be asked what this one answers.
    fn shadow_of(&self, version: Version) -> Option<&VersionRecord> {
        let contest = self.kept.contest.as_ref().filter(|_| self.is_copied())?;
        let shadow = match contest.stand {
            Stand::Promoted => (version == contest.challenger).then_some(contest.champion),
            _ => (version == contest.champion).then_some(contest.challenger),
        };
        self.records.get(&shadow?)
    }

    /// Whatever people did about the versions holds.
    fn note_current(&mut self, current: Option<Version>) {
        let pending = self.kept.verdict.is_some();
        let Some(contest) = &mut self.kept.contest else { return };
        if !self.records.contains_key(&contest.champion) || !self.records.contains_key(&contest.challenger) {
            self.kept = Kept { attempts: self.kept.attempts, ..Kept::default() };
            self.dirty = true;
            return;
        }
        if pending {
            return;
        }
        if contest.acts() && current == Some(contest.champion) {
            contest.reject("the version before was chosen by hand".into());
            (self.kept.paused, self.dirty) = (None, true);
        } else if contest.stand == Stand::Judging && current == Some(contest.challenger) {
            contest.approve("it was chosen by hand".into());
            (self.kept.paused, self.dirty) = (None, true);
        }
    }

    /// Begins a contest, where a newer version than the one that answers is to prove itself.
    fn begin(&mut self, current: Option<Version>, end: u64) -> Result<(), Refusal> {
        let (Some(current), Some((newest, record))) = (current, self.records.last_key_value()) else { return Ok(()) };
        let learning = record.manifest.spec.learning.clone();
        let known = self.kept.contest.as_ref().is_some_and(|contest| contest.challenger == *newest);
        if known || *newest <= current || learning.promote == Promote::Off {
            return Ok(());
        }
        let from = match (self.learners.get(&current), self.learners.get(newest)) {
            // Both have to be up to date, so that both are asked about the same examples.
            (Some(champion), Some(challenger)) if champion.offset() == challenger.offset() => champion.offset(),
            (None, None) if self.learners.is_empty() && self.records.contains_key(&current) => end,
            _ => return Ok(()),
        };
        let attempt = self.kept.attempts + 1;
        let contest = Contest::new([current, *newest], attempt, from, (&learning, slices(&record.manifest)))?;
        tracing::info!(model = %self.model.1, champion = %current, challenger = %newest, "a challenger is compared");
        self.kept = Kept { attempts: attempt, contest: Some(contest), ..Kept::default() };
        self.dirty = true;
        Ok(())
    }

    /// Has the versions take the next entries in, and those signed whose time has come. The outcome is how long there is
    /// nothing to do; an error of the outer kind has lost the group.
    pub(super) async fn round(
        mut self,
        stores: &Stores,
        every: Duration,
    ) -> Result<(Self, Result<Duration, Refusal>), Refusal> {
        let learnt = self.learners.values().map(Learner::offset).max();
        let compared = self.kept.contest.as_ref().filter(|_| self.is_copied()).map(Contest::offset);
        let Some(head) = learnt.or(compared) else {
            let outcome = self.keep(stores).await;
            return Ok((self, outcome.map(|()| Duration::MAX)));
        };
        let read = async {
            let entries = stores.streams.read(JOINED, head, PAGE).await?;
            let mut behind = Vec::new();
            for (version, learner) in self.learners.iter().filter(|(_, learner)| learner.offset() < head) {
                let mut entries = stores.streams.read(JOINED, learner.offset(), PAGE).await?;
                entries.retain(|entry| entry.sequence < head);
                behind.push((*version, entries));
            }
            Ok::<_, store::Error>((entries, behind))
        };
        let (entries, behind) = match read.await {
            Ok(read) => read,
            Err(error) => return Ok((self, Err(error.into()))),
        };
        let more = entries.len() == PAGE as usize || !behind.is_empty();
        let work = tokio::task::spawn_blocking(move || {
            for (version, entries) in &behind {
                self.catch_up(*version, entries, head);
            }
            // What both sides of a contest are to say something about waits until both can.
            let level = |version| self.learners.get(version).is_none_or(|learner| learner.offset() == head);
            if self.kept.contest.as_ref().is_none_or(|contest| level(&contest.champion) && level(&contest.challenger)) {
                self.take(head, &entries);
            }
            if compared.is_some() {
                self.compare(&entries);
            }
            self
        });
        let mut group =
            work.await.map_err(|error| Refusal::new(Code::Internal, format!("a learner failed: {error}")))?;
        let outcome = group.finish(stores, every).await;
        Ok((group, outcome.map(|rest| if more { Duration::ZERO } else { rest })))
    }

    /// Those who are up to date take entries in, together.
    fn take(&mut self, head: u64, entries: &[Stored]) {
        let (model, kept, dirty, records) = (&self.model, &mut self.kept, &mut self.dirty, &self.records);
        let mut leaders: Vec<(&Version, &mut Learner)> =
            self.learners.iter_mut().filter(|(_, learner)| learner.offset() == head).collect();
        for entry in entries {
            if let Some((example, row, truth)) = lesson(entry, model) {
                let answers: BTreeMap<Version, _> = leaders
                    .iter_mut()
                    .filter_map(|(version, learner)| {
                        Some((**version, learner.learn(entry.sequence, &example, &row, truth)?))
                    })
                    .collect();
                if let Some(contest) = &mut kept.contest
                    && let (Some(champion), Some(challenger)) =
                        (answers.get(&contest.champion), answers.get(&contest.challenger))
                {
                    *dirty = true;
                    let manifest = records.get(&contest.challenger).map(|record| &record.manifest);
                    let slice = manifest.and_then(|manifest| streaming::slice(manifest, &row));
                    let verdict = contest.take(&seen(entry.sequence, &example, slice, truth), [champion, challenger]);
                    kept.verdict = verdict.or(kept.verdict);
                }
            }
            leaders.iter_mut().for_each(|(_, learner)| learner.advance(entry.sequence + 1));
        }
    }

    /// Versions that do not learn are compared by what was recorded of both.
    fn compare(&mut self, entries: &[Stored]) {
        let Some(contest) = &mut self.kept.contest else { return };
        let Some(record) = self.records.get(&contest.challenger) else { return };
        for entry in entries {
            if let Some(verdict) = compare(contest, entry, (&self.model, &record.manifest)) {
                self.dirty = true;
                self.kept.verdict = verdict.or(self.kept.verdict);
            }
            contest.advance(entry.sequence + 1);
        }
    }

    /// Goes back to an earlier state of a version.
    ///
    /// # Errors
    /// `version_not_found` where it does not learn, or no such state is kept.
    pub(super) async fn revert(
        &mut self,
        stores: &Stores,
        version: Option<Version>,
        snapshot: Option<u64>,
    ) -> Result<Learning, Refusal> {
        self.keep(stores).await?;
        let learner =
            version.and_then(|version| self.learners.get_mut(&version)).ok_or_else(|| no_learner(&self.model))?;
        learner.revert(stores, snapshot).await?;
        Ok(learner.report(learner.offset()))
    }

    fn catch_up(&mut self, version: Version, entries: &[Stored], head: u64) {
        let Some(learner) = self.learners.get_mut(&version) else { return };
        for entry in entries {
            if let Some((example, row, truth)) = lesson(entry, &self.model) {
                learner.learn(entry.sequence, &example, &row, truth);
            }
            learner.advance(entry.sequence + 1);
        }
        if entries.is_empty() {
            // What lay between was dropped long ago.
            learner.advance(head);
        }
    }

    async fn finish(&mut self, stores: &Stores, every: Duration) -> Result<Duration, Refusal> {
        // A canary is looked at now and then.
        if self.kept.verdict.is_some() && self.kept.canary.is_none() && !self.waits() {
            self.keep(stores).await?;
            let status = stores.status(&self.model).await?;
            self.carry_out(stores, status.as_ref()).await?;
        }
        let mut rest = Duration::MAX;
        if self.is_copied() && self.dirty {
            if self.stored.elapsed() >= KEEP {
                self.keep(stores).await?;
            }
            rest = KEEP;
        }
        let versions: Vec<Version> = self.learners.keys().copied().collect();
        for version in versions {
            let due = self.learners.get(&version).and_then(|learner| learner.due(every));
            match due {
                // How both compare is kept first: that may be ahead of a state, and never behind it.
                Some(Duration::ZERO) => {
                    self.keep(stores).await?;
                    if let Some(learner) = self.learners.get_mut(&version) {
                        learner.sign(stores).await?;
                    }
                }
                Some(due) => rest = rest.min(due),
                None => {}
            }
        }
        Ok(rest)
    }

    /// Signs what every version has learnt.
    ///
    /// # Errors
    /// When a store can't be used.
    pub(super) async fn sign_all(&mut self, stores: &Stores) -> Result<(), Refusal> {
        self.keep(stores).await?;
        self.keep_slices(stores).await?;
        for learner in self.learners.values_mut() {
            gone_or(learner.sign(stores).await)?;
        }
        Ok(())
    }

    async fn keep(&mut self, stores: &Stores) -> Result<(), Refusal> {
        if self.dirty {
            let write = Write::put(Collection::Evaluation, place(&self.model), Expect::Any, &self.kept)?;
            stores.catalog.commit(vec![write], Vec::new()).await?;
            (self.dirty, self.stored) = (false, Instant::now());
        }
        Ok(())
    }

    /// What is told of the versions that learn, the newest first; `end` is the next entry of the joined log.
    pub(super) fn reports(&self, end: u64) -> Vec<Learning> {
        self.learners.values().rev().map(|learner| learner.report(end)).collect()
    }

    /// How the challenger stands, if there is one.
    pub(super) fn rollout(&self, now: Timestamp) -> Option<Rollout> {
        let contest = self.kept.contest.as_ref()?;
        let wait = if self.split { "; a person's split of the requests comes first: it waits" } else { "" };
        let canary = self.kept.canary.as_ref().map(|canary| format!("{}{wait}", canary.words(now)));
        let told = report(contest, &self.model);
        // What waits is proven, and does not answer.
        let stand = if self.waits() && canary.is_none() { Stand::Proposed } else { told.stand };
        let split = (self.waits() && self.split).then(|| "proven, and waits until a person's split ends".to_owned());
        let why = split.or_else(|| told.why.clone());
        let (slice, slices) = self.words_of_slices();
        Some(Rollout { stand, canary, slice, slices, paused: self.kept.paused.clone(), why, ..told })
    }
}

pub(super) fn no_learner((_, model): &ModelKey) -> Refusal {
    Refusal::new(Code::VersionNotFound, format!("no version of `{model}` learns"))
        .hint("`mantlet models evaluation NAME` shows those that do, once labels came")
}

/// How this challenger stands, as it is kept.
pub(super) async fn contest(stores: &Stores, model: &ModelKey, challenger: Version) -> Result<Contest, Refusal> {
    let kept = stores.catalog.get(Collection::Evaluation, &place(model)).await?;
    let kept = kept.map(|kept| kept.read::<Kept>()).transpose()?;
    kept.and_then(|kept| kept.contest).filter(|contest| contest.challenger == challenger).ok_or_else(|| {
        let what = format!("version {challenger} of `{}` is no challenger", model.1);
        Refusal::new(Code::VersionNotFound, what)
            .hint("see `mantlet rollouts`; what was compared last is kept moments later")
    })
}

/// Has a contest take an entry in, by what was recorded of both sides; nothing where it does not tell of both.
pub(super) fn compare(
    contest: &mut Contest,
    entry: &Stored,
    (model, manifest): (&ModelKey, &Manifest),
) -> Option<Option<Verdict>> {
    let example = example(entry, model)?;
    let truth = learner::truth(&example.truth)?;
    let said = |version| learner::answer(example.answer_of(version)?, truth);
    let (champion, challenger) = (said(contest.champion)?, said(contest.challenger)?);
    let slice = example.features.as_ref().and_then(|row| streaming::slice(manifest, row));
    Some(contest.take(&seen(entry.sequence, &example, slice, truth), [&champion, &challenger]))
}

/// A label, as a contest sees it.
pub(super) fn seen(sequence: u64, example: &Example, slice: Option<u16>, truth: Truth) -> Seen {
    let contributor = contributors::number(&example.contributor);
    Seen { sequence, at: example.at, received: example.received, contributor, slice, truth }
}

/// Slices of the traffic, as many as a manifest names.
pub(super) fn slices(manifest: &Manifest) -> u16 {
    u16::try_from(manifest.slices().len()).unwrap_or(u16::MAX)
}

/// What is told of a contest.
pub(super) fn report(contest: &Contest, (_, model): &ModelKey) -> Rollout {
    Rollout {
        model: model.clone(),
        champion: contest.champion,
        challenger: contest.challenger,
        stand: contest.stand,
        evidence: contest.evidence(),
        decided: contest.decided().cloned(),
        why: contest.why(),
        word: contest.word().map(str::to_owned),
        canary: None,
        paused: None,
        slice: None,
        slices: None,
    }
}

/// An example of this model in an entry of the joined log; nothing in an erased one.
fn example(entry: &Stored, (namespace, model): &ModelKey) -> Option<Example> {
    let Ok(Entry::Example(example)) = serde_json::from_slice(&entry.data) else { return None };
    ((&example.namespace, &example.model) == (namespace, model)).then_some(example)
}

/// What an entry of the joined log teaches this model: an example with what was asked and what was right.
pub(crate) fn lesson(entry: &Stored, model: &ModelKey) -> Option<(Example, Row, Truth)> {
    let mut example = example(entry, model)?;
    let (row, truth) = (example.features.take()?, learner::truth(&example.truth)?);
    Some((example, row, truth))
}

/// Of a version that is no more, nothing needs to be signed.
fn gone_or(signed: Result<(), Refusal>) -> Result<(), Refusal> {
    match signed {
        Err(refusal) if refusal.code == Code::ModelNotFound => Ok(()),
        signed => signed,
    }
}
