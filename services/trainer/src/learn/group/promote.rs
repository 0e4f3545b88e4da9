//! What follows from what is proven, and from what people say: copies, a share of the requests, all of them, and back.

use plan::canary::{Canary, Move};
use rpc::{
    orchestrator::{Desired, Shadow, Status, Submit},
    registry::VersionRecord,
    trainer::{Paused, Rollout, Ruling, Stand, Word},
};
use streaming::Verdict;
use types::{Code, Refusal, Version, quantity::Share};

use super::{AUTHOR, Group, no_challenger, report};
use crate::learn::{Stores, learner::Learner};

impl Group {
    /// Has the other side of a comparison asked, too, and no version for longer than that.
    pub(super) async fn shadow(&self, stores: &Stores, status: Option<&Status>) -> Result<(), Refusal> {
        let Some((status, current)) = status.and_then(|status| Some((status, status.desired?))) else { return Ok(()) };
        let shadow = self.shadow_of(current).map(|record| record.version);
        if self.kept.contest.is_none() || status.shadow == shadow {
            return Ok(());
        }
        let (action, reason) = match shadow {
            Some(shadow) => ("model.compare", format!("version {shadow} is compared with version {current}")),
            None => ("model.compared", "no version is compared with it any more".to_owned()),
        };
        match self.want(stores, current, action, AUTHOR, reason, status.generation).await {
            // Somebody else was faster; the next look sees what is wanted now.
            Err(refusal) if refusal.code == Code::Conflict => Ok(()),
            wanted => wanted,
        }
    }

    /// Does what was decided, unless somebody wants another version by now.
    pub(super) async fn carry_out(&mut self, stores: &Stores, status: Option<&Status>) -> Result<(), Refusal> {
        let (Some(verdict), Some(contest), Some(status)) = (self.kept.verdict, &self.kept.contest, status) else {
            return Ok(());
        };
        // A canary is looked at all the same: it is taken back where it is worse.
        if self.waits() && self.kept.canary.is_none() && status.desired == Some(contest.champion) {
            return Ok(());
        }
        let sides = [contest.champion, contest.challenger].map(|side| self.learners.get(&side).map(Learner::model));
        if verdict == Verdict::Promote
            && let Some(why) = stores.known.behind_on_clean(&self.model, sides, stores.clock.now()).await?
        {
            if let Some(contest) = &mut self.kept.contest {
                contest.reject(why);
            }
            self.kept.verdict = None;
            self.dirty = true;
            return self.keep(stores).await;
        }
        let (from, to, action) = match verdict {
            Verdict::Promote => (contest.champion, contest.challenger, "model.promote"),
            Verdict::HandBack => (contest.challenger, contest.champion, "model.hand_back"),
            Verdict::Propose => {
                tracing::info!(model = %self.model.1, challenger = %contest.challenger, "a person is asked: mantlet rollouts");
                self.kept.verdict = None;
                self.dirty = true;
                return self.keep(stores).await;
            }
        };
        let reason = contest.reason();
        if status.desired == Some(from) {
            if verdict == Verdict::Promote && self.is_canary(stores, status).await? {
                return self.keep(stores).await;
            }
            self.want(stores, to, action, AUTHOR, reason, status.generation).await?;
            tracing::info!(model = %self.model.1, version = %to, action, "another version is to answer");
        }
        self.leave_canary(stores);
        (self.kept.verdict, self.kept.paused) = (None, None);
        self.dirty = true;
        self.keep(stores).await
    }

    /// Whether the challenger may not get any further, though it is proven.
    pub(super) fn waits(&self) -> bool {
        self.kept.verdict == Some(Verdict::Promote) && self.is_held()
    }

    /// Whether a person has it wait or splits the requests, or it differs in a slice that no person has looked at.
    fn is_held(&self) -> bool {
        self.kept.paused.is_some() || self.split || self.differs_in_a_slice()
    }

    /// Has a proven version answer a share of the requests first, where its manifest says so; whether that is all for now: it
    /// still does, or was taken back.
    async fn is_canary(&mut self, stores: &Stores, status: &Status) -> Result<bool, Refusal> {
        let Some(contest) = &self.kept.contest else { return Ok(false) };
        let (champion, challenger) = (contest.champion, contest.challenger);
        let now = stores.clock.now();
        if self.kept.canary.is_none() {
            let manifest = self.records.get(&challenger).map(|record| &record.manifest);
            self.kept.canary = manifest.and_then(|manifest| Canary::new(&manifest.spec.rollout, now));
        }
        let held = self.is_held();
        let Some(canary) = &mut self.kept.canary else { return Ok(false) };
        self.dirty = true;
        match held {
            true => canary.pause(now),
            false => canary.resume(now),
        }
        let canaries = &stores.known.canaries;
        canaries.follow(&self.model, [champion, challenger]);
        canaries.hand_over(&self.model, canary);
        match canary.judge(now) {
            Move::Full => return Ok(false),
            Move::Back(why) => {
                tracing::warn!(model = %self.model.1, version = %challenger, why, "a canary is taken back");
                if let Some(contest) = &mut self.kept.contest {
                    contest.reject(why.clone());
                }
                self.leave_canary(stores);
                (self.kept.verdict, self.kept.paused) = (None, None);
                self.want(stores, champion, "model.canary_back", AUTHOR, why, status.generation).await?;
                return Ok(true);
            }
            Move::Stay | Move::Step(_) => {}
        }
        let share = Share::new(canary.share());
        if status.shadow != Some(challenger) || status.share != share {
            let reason = canary.words(now);
            match self.want(stores, champion, "model.canary", AUTHOR, reason, status.generation).await {
                // Somebody else was faster; the next look sees what is wanted now.
                Err(refusal) if refusal.code == Code::Conflict => {}
                wanted => wanted?,
            }
        }
        Ok(true)
    }

    fn leave_canary(&mut self, stores: &Stores) {
        if self.kept.canary.take().is_some() {
            stores.known.canaries.leave(&self.model);
        }
    }

    async fn want(
        &self,
        stores: &Stores,
        version: Version,
        action: &str,
        actor: &str,
        reason: String,
        expect: u64,
    ) -> Result<(), Refusal> {
        let record = self.records.get(&version).ok_or_else(|| {
            Refusal::new(Code::VersionNotFound, format!("`{}` has no version {version}", self.model.1))
        })?;
        stores.registry.may_answer(record.clone()).await?;
        let beside = |record: &VersionRecord, share| Shadow {
            version: record.version,
            digest: record.digest,
            manifest: record.manifest.clone(),
            share,
        };
        let contest = self.kept.contest.as_ref().filter(|contest| contest.champion == version);
        let canary = self.kept.canary.as_ref().zip(contest);
        let canary = canary.and_then(|(canary, contest)| {
            Some(beside(self.records.get(&contest.challenger)?, Share::new(canary.share())))
        });
        let shadow = canary.or_else(|| self.shadow_of(version).map(|record| beside(record, None)));
        let desired = Desired {
            namespace: self.model.0.clone(),
            model: self.model.1.clone(),
            version,
            digest: record.digest,
            manifest: record.manifest.clone(),
            author: actor.to_owned(),
            reason,
            shadow,
        };
        let submit = Submit {
            desired: Some(desired),
            namespace: self.model.0.clone(),
            model: self.model.1.clone(),
            actor: actor.to_owned(),
            expect: Some(expect),
            action: action.to_owned(),
        };
        stores.orchestrator.submit(submit).await?;
        Ok(())
    }

    /// Takes a person's word on the challenger.
    ///
    /// # Errors
    /// `version_not_found` where it is none, `conflict` where it stands otherwise than the word supposes.
    pub(in crate::learn) async fn decide(&mut self, stores: &Stores, word: Word) -> Result<Rollout, Refusal> {
        let (canary, paused) = (self.kept.canary.is_some(), self.kept.paused.is_some());
        let waits = canary || self.waits();
        let contest = self.kept.contest.as_mut().filter(|contest| contest.challenger == word.challenger);
        let contest = contest.ok_or_else(|| no_challenger(&word))?;
        let open = waits || matches!(contest.stand, Stand::Judging | Stand::Proposed);
        let fits = match word.say {
            Ruling::Approve | Ruling::Reject | Ruling::Pause => open,
            Ruling::Undo => contest.stand == Stand::Promoted && !waits,
            Ruling::Resume => paused,
        };
        if !fits {
            let stands = match contest.stand {
                _ if word.say == Ruling::Resume => "nobody has it wait",
                Stand::Promoted if waits => "it is proven, and does not answer all yet",
                Stand::Judging => "it is compared still",
                Stand::Proposed => "a person is asked whether it may answer",
                Stand::Promoted => "it answers",
                Stand::HandedBack => "it answered, and handed back",
                Stand::Rejected => "a person has said no",
            };
            let what = format!("version {} stands otherwise: {stands}", word.challenger);
            return Err(Refusal::new(Code::Conflict, what).hint("see `mantlet rollouts`"));
        }
        if matches!(word.say, Ruling::Pause | Ruling::Resume) {
            return self.hold(stores, word).await;
        }
        let said = format!("{}: {}", word.actor, word.reason);
        let (to, action) = match word.say {
            Ruling::Approve => (Some(contest.challenger), "model.approve"),
            Ruling::Undo => (Some(contest.champion), "model.undo"),
            _ => (canary.then_some(contest.champion), "model.reject"),
        };
        match word.say {
            Ruling::Approve => contest.approve(said),
            _ => contest.reject(said),
        }
        self.kept.paused = None;
        self.kept.overruled |= word.say == Ruling::Approve;
        let reason = format!("{}; {}", word.reason, contest.reason());
        let rollout = report(contest, &self.model);
        let steps =
            self.records.get(&word.challenger).is_some_and(|record| !record.manifest.spec.rollout.canary.is_empty());
        if word.say == Ruling::Approve && steps && !canary {
            // What answers a share of the requests comes first; a second approval ends that.
            self.kept.verdict = Some(Verdict::Promote);
            self.dirty = true;
            self.keep(stores).await?;
            return Ok(rollout);
        }
        self.leave_canary(stores);
        if let Some(to) = to {
            let generation = stores.status(&self.model).await?.map_or(0, |status| status.generation);
            self.want(stores, to, action, &word.actor, reason, generation).await?;
        }
        self.kept.verdict = None;
        self.dirty = true;
        self.keep(stores).await?;
        Ok(rollout)
    }

    /// Has the challenger wait, or go on.
    async fn hold(&mut self, stores: &Stores, word: Word) -> Result<Rollout, Refusal> {
        let now = stores.clock.now();
        let paused = Paused { by: word.actor.clone(), reason: word.reason.clone(), since: now };
        self.kept.paused = (word.say == Ruling::Pause).then_some(paused);
        // A canary is told when it is looked at next.
        self.dirty = true;
        self.keep(stores).await?;
        self.rollout(now).ok_or_else(|| no_challenger(&word))
    }
}
