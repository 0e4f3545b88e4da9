//! Where people send requests that name no version: shares to several versions, and certain callers to one.
//!
//! One document per model, written by compare-and-swap with its ledger record; a split that has an end is taken back by the loop. Gateways
//! learn of it with the route.

use plan::{ModelId, Replica};
use rpc::{
    orchestrator::{Part, Pin, SendTo, SendWhat, Sent, Split, Submitted},
    registry::Receipt,
};
use serde_json::json;
use store::{Collection, Expect, Write};
use types::{Code, Refusal, Timestamp, Version};

use crate::{SENT, Shared, key, world::Sending};

/// Shares may sum up to a little more than all, by rounding.
const ROUNDING: f64 = 1e-9;

fn malformed(what: String) -> Refusal {
    Refusal::new(Code::RequestMalformed, what).hint("mantlet split MODEL 2=10% 3=10% --reason WHY")
}

impl Shared {
    /// Takes a person's word on where requests go.
    ///
    /// # Errors
    /// `request_malformed` for shares that are none, `conflict` where somebody else was faster, `model_not_found`, `version_not_found`.
    pub(crate) async fn send(&self, request: SendTo) -> Result<Submitted, Refusal> {
        let about = ModelId { namespace: request.namespace.clone(), name: request.model.clone() };
        let (before, generation) = {
            let world = self.world.lock();
            if !world.wishes.contains_key(&about) {
                return Err(Refusal::unknown_model(&about.namespace, &about.name));
            }
            let none = || (Sending { model: about.clone(), sent: Sent::default(), versions: Vec::new() }, 0);
            world.sendings.get(&about).cloned().unwrap_or_else(none)
        };
        let sending = self.turned(before, &request)?;
        let (action, detail) = told(&request);
        let expect = request.expect.unwrap_or(generation);
        self.put(sending, expect, (action, request.author, detail)).await
    }

    /// What is to stand after a change.
    fn turned(&self, before: Sending, request: &SendTo) -> Result<Sending, Refusal> {
        let SendTo { send, versions, author, reason, .. } = request;
        let now = self.clock.now();
        let Sending { model, mut sent, versions: mut known } = before;
        match send {
            SendWhat::Split { parts, sticky, expires } => {
                let parts = checked(parts.clone())?;
                let named = |parts: &[Part]| parts.iter().map(|part| part.version).collect::<Vec<_>>();
                // Whose shares alone change keeps its salt: as few callers as can be get another version.
                let same =
                    sent.split.as_ref().filter(|old| *sticky && old.sticky && named(&old.parts) == named(&parts));
                let salt = same.map(|old| old.salt.clone());
                let salt = salt.unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
                let (author, reason) = (author.clone(), reason.clone());
                let (sticky, expires) = (*sticky, *expires);
                sent.split = Some(Split { parts, sticky, salt, author, reason, since: now, expires });
            }
            SendWhat::Unsplit if sent.split.is_none() => {
                return Err(malformed(format!("`{}` is not split", model.name)));
            }
            SendWhat::Unsplit => sent.split = None,
            SendWhat::Pin(caller, version) => {
                let pin = Pin { version: *version, author: author.clone(), reason: reason.clone(), since: now };
                sent.pins.insert(caller.clone(), pin);
                if sent.pins.len() > Sent::MOST.1 {
                    return Err(Refusal::new(
                        Code::RequestMalformed,
                        format!("{} callers of `{}` are pinned, which is the most", Sent::MOST.1, model.name),
                    ));
                }
            }
            SendWhat::Unpin(caller) => {
                if sent.pins.remove(caller).is_none() {
                    let what = format!("`{caller}` is not pinned to any version of `{}`", model.name);
                    return Err(Refusal::new(Code::CallerNotFound, what).hint("see `mantlet models show NAME`"));
                }
            }
        }
        known.extend(versions.iter().cloned());
        let named = sent.versions();
        let mut kept = Vec::new();
        for version in named.keys() {
            // What is said last of a version is so.
            let found = known.iter().rev().find(|known| known.version == *version).cloned();
            kept.push(found.ok_or_else(|| no_version(*version, &model))?);
        }
        Ok(Sending { model, sent, versions: kept })
    }

    async fn put(
        &self,
        sending: Sending,
        expect: u64,
        (action, actor, detail): (&str, String, serde_json::Value),
    ) -> Result<Submitted, Refusal> {
        let ModelId { namespace, name } = sending.model.clone();
        let at = key(SENT, (&namespace, &name));
        let expect = if expect == 0 { Expect::Absent } else { Expect::Generation(expect) };
        let empty = sending.sent.is_empty();
        let write = match empty {
            true => Write::remove(Collection::Desired, at, expect),
            false => Write::put(Collection::Desired, at, expect, &sending)?,
        };
        let record = self.record(action, (&namespace, &name), actor, detail);
        let committed = self.catalog.commit(vec![write], vec![record.to_line()]).await;
        let committed = committed.map_err(|error| match error {
            store::Error::Conflict { .. } => {
                Refusal::new(Code::Conflict, format!("somebody else changed where requests of `{name}` go first"))
                    .hint("look at `mantlet models show NAME`, then decide again")
            }
            error => error.into(),
        })?;
        let generation = committed.generations.first().copied().unwrap_or(0);
        {
            let mut world = self.world.lock();
            // It may have been deleted meanwhile.
            if empty || !world.wishes.contains_key(&sending.model) {
                world.sendings.remove(&sending.model);
            } else {
                // What could not be loaded is tried again, since somebody has just decided anew.
                let named = sending.sent.versions();
                let of = |replica: &Replica| replica.model == sending.model && named.contains_key(&replica.version);
                world.trouble.retain(|replica, _| !of(replica));
                world.sendings.insert(sending.model.clone(), (sending, generation));
            }
        }
        self.publish();
        self.changed.notify_one();
        Ok(Submitted { generation, receipt: Receipt(committed.outbox.unwrap_or(0)) })
    }

    /// Takes splits back that are over; when the next one is.
    ///
    /// # Errors
    /// When the catalog can't be used: then it is tried again.
    pub(crate) async fn unsend(&self, now: Timestamp) -> Result<Option<Timestamp>, Refusal> {
        let (over, next) = self.world.lock().expired(now);
        for model in over {
            let Some((mut sending, generation)) = self.world.lock().sendings.get(&model).cloned() else { continue };
            let Some(split) = sending.sent.split.take() else { continue };
            let named = sending.sent.versions();
            sending.versions.retain(|version| named.contains_key(&version.version));
            let detail = json!({ "split": split.parts, "by": split.author });
            match self.put(sending, generation, ("model.split_expired", "orchestrator".into(), detail)).await {
                // A person was faster.
                Err(refusal) if refusal.code == Code::Conflict => {}
                done => drop(done?),
            }
        }
        Ok(next)
    }
}

/// Versions ascending, each once, with shares that sum up to all requests at most.
fn checked(mut parts: Vec<Part>) -> Result<Vec<Part>, Refusal> {
    parts.sort_by_key(|part| part.version);
    let sum: f64 = parts.iter().map(|part| part.share.get()).sum();
    let most = Sent::MOST.0;
    if parts.is_empty() || parts.len() > most {
        return Err(malformed(format!("a split names 1 to {most} versions, not {}", parts.len())));
    }
    if parts.windows(2).any(|two| two[0].version == two[1].version) {
        return Err(malformed("a split names a version twice".into()));
    }
    if sum > 1.0 + ROUNDING || parts.iter().any(|part| part.share.get() <= 0.0) {
        return Err(malformed(format!("shares are above 0% each, and 100% at most together, not {:.1}%", 100.0 * sum)));
    }
    Ok(parts)
}

fn no_version(version: Version, model: &ModelId) -> Refusal {
    Refusal::new(Code::VersionNotFound, format!("`{}` has no version {version}", model.name))
        .hint("see `mantlet models show NAME`")
}

/// What the ledger calls a change, and what it says of it.
fn told(SendTo { send, reason, .. }: &SendTo) -> (&'static str, serde_json::Value) {
    match send {
        SendWhat::Split { parts, sticky, expires } => {
            ("model.split", json!({ "split": parts, "sticky": sticky, "expires": expires, "reason": reason }))
        }
        SendWhat::Unsplit => ("model.unsplit", json!({ "reason": reason })),
        SendWhat::Pin(caller, version) => {
            ("caller.pin", json!({ "caller": caller, "version": version, "reason": reason }))
        }
        SendWhat::Unpin(caller) => ("caller.unpin", json!({ "caller": caller, "reason": reason })),
    }
}

#[cfg(test)]
mod tests {
    use types::quantity::Share;

    use super::*;

    fn parts(of: &[(u64, f64)]) -> Vec<Part> {
        of.iter()
            .map(|(version, share)| Part { version: Version(*version), share: Share::new(*share).unwrap() })
            .collect()
    }

    #[test]
    fn shares_are_of_all_requests_at_most_and_versions_are_named_once() {
        let sorted = checked(parts(&[(3, 0.1), (1, 0.2), (2, 0.7)])).unwrap();
        assert_eq!(sorted.iter().map(|part| part.version.0).collect::<Vec<_>>(), [1, 2, 3]);
        for wrong in [&[][..], &[(1, 0.0)], &[(1, 0.6), (2, 0.5)], &[(1, 0.1), (1, 0.1)]] {
            assert_eq!(checked(parts(wrong)).unwrap_err().code, Code::RequestMalformed, "{wrong:?}");
        }
        let many: Vec<(u64, f64)> = (1..=9).map(|version| (version, 0.01)).collect();
        assert!(checked(parts(&many)).is_err());
    }
}
