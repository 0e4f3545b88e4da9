//! Comes to a decision on a challenger once more, from the joined log alone: what both versions said, what each lost, and
//! what the guard made of it.
//!
//! Versions that learn are taught all over, from the log's first entry on, so that takes as long as catching up does. One that
//! began with what workers had learnt begins with that state here too, as it was signed.

use std::collections::BTreeMap;

use rpc::{orchestrator::ModelKey, registry::VersionRecord, trainer::Explanation};
use streaming::{Contest, Model, Verdict};
use types::{Code, Manifest, Refusal, Version, event::JOINED};

use super::{
    Stores,
    group::{self, PAGE},
    learner::beginning,
};

/// A decision that is come to again.
struct Again {
    model: ModelKey,
    /// The challenger's.
    manifest: Manifest,
    contest: Contest,
    /// Both sides, where they learn.
    learners: Option<[Model; 2]>,
    verdicts: Vec<(u64, String)>,
    /// The entry after the last that counts.
    end: u64,
}

/// Why a challenger stands as it does.
///
/// # Errors
/// `version_not_found` where it is no challenger; `conflict` where the log no longer holds what was decided on.
pub(crate) async fn explain(stores: &Stores, key: &ModelKey, challenger: Version) -> Result<Explanation, Refusal> {
    let contest = group::contest(stores, key, challenger).await?;
    let recorded = contest.decided_on();
    let records = records(stores, key).await?;
    let record = |version: Version| {
        let missing = || Refusal::new(Code::VersionNotFound, format!("version {version} of `{}` is no more", key.1));
        records.get(&version).ok_or_else(missing)
    };
    let sides = [record(contest.champion)?, record(contest.challenger)?];
    let manifest = &sides[1].manifest;
    let terms = (&manifest.spec.learning, group::slices(manifest));
    let fresh = Contest::new([contest.champion, contest.challenger], contest.attempt, recorded.from, terms)?;
    let learners = match sides.map(|side| side.manifest.is_streaming()) {
        [true, true] => Some([beginning(stores, sides[0]).await?, beginning(stores, sides[1]).await?]),
        _ => None,
    };
    let begin = if learners.is_some() { 0 } else { recorded.from };
    let first = stores.streams.read(JOINED, begin, 1).await?.first().map_or(begin, |entry| entry.sequence);
    if first > begin.max(1) {
        let what = format!("the joined log begins with entry {first}: what was decided on is no longer kept");
        return Err(Refusal::new(Code::Conflict, what).hint("gateway.keep and gateway.keep-bytes say how long it is"));
    }
    let (model, manifest) = (key.clone(), manifest.clone());
    let again = Again { model, manifest, contest: fresh, learners, verdicts: Vec::new(), end: recorded.offset };
    let Again { contest: mut fresh, verdicts, .. } = again.run(stores, begin).await?;
    // Entries that tell of neither side are done with, too.
    fresh.advance(recorded.offset);
    let evidence = if verdicts.is_empty() { fresh.evidence() } else { fresh.decided_on() };
    let agrees = evidence == recorded;
    Ok(Explanation { rollout: group::report(&contest, key), verdicts, evidence, agrees })
}

async fn records(stores: &Stores, key: &ModelKey) -> Result<BTreeMap<Version, VersionRecord>, Refusal> {
    let named = |mut record: VersionRecord| {
        record.manifest.metadata.namespace = Some(key.0.clone());
        (record.version, record)
    };
    Ok(stores.versions(key).await?.into_iter().map(named).collect())
}

impl Again {
    async fn run(self, stores: &Stores, begin: u64) -> Result<Self, Refusal> {
        let (mut again, mut next) = (self, begin);
        while next < again.end {
            let entries = stores.streams.read(JOINED, next, PAGE).await?;
            let Some(last) = entries.last() else { break };
            next = last.sequence + 1;
            let end = again.end;
            let work = tokio::task::spawn_blocking(move || {
                entries.iter().filter(|entry| entry.sequence < end).for_each(|entry| again.take(entry));
                again
            });
            again = work.await.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        }
        Ok(again)
    }

    fn take(&mut self, entry: &store::Entry) {
        let verdict = match &mut self.learners {
            None => group::compare(&mut self.contest, entry, (&self.model, &self.manifest)).flatten(),
            Some(learners) => group::lesson(entry, &self.model).and_then(|(example, row, truth)| {
                let mut said = learners.iter_mut().map(|learner| {
                    if entry.sequence < learner.offset() {
                        return None;
                    }
                    let answer = learner.predict(&row).ok()?;
                    // What can't be learnt teaches nothing, here as there.
                    let _ = learner.learn(&row, truth, example.weight);
                    Some(answer)
                });
                let said = [said.next()??, said.next()??];
                let counts = entry.sequence >= self.contest.offset();
                let slice = streaming::slice(&self.manifest, &row);
                let seen = group::seen(entry.sequence, &example, slice, truth);
                counts.then(|| self.contest.take(&seen, [&said[0], &said[1]])).flatten()
            }),
        };
        if let Some(verdict) = verdict {
            let what = match verdict {
                Verdict::Promote => "the challenger is to answer",
                Verdict::Propose => "a person is to be asked",
                Verdict::HandBack => "the champion is to answer again",
            };
            self.verdicts.push((entry.sequence, what.to_owned()));
        }
    }
}
