//! What the sentinel and people hold against subjects, as it is in force: followed, and ended here when its time is over.

use std::collections::HashMap;

use parking_lot::{Mutex, RwLock};
use types::{
    Code, ModelName, Refusal, Timestamp,
    defence::{Measures, Output, Restriction, Subject},
};

use crate::bucket::Bucket;

/// Answers that are held back at a time; of more, each is refused.
pub(crate) const HELD: usize = 1_024;

/// Everything in force.
pub(crate) struct Restrictions {
    known: RwLock<Known>,
    /// How much of its rate each subject has left, by the restriction.
    buckets: Mutex<HashMap<String, Bucket>>,
    /// Places for answers that are held back.
    pub(crate) held: tokio::sync::Semaphore,
}

#[derive(Default)]
struct Known {
    by_id: HashMap<String, Restriction>,
    of: HashMap<Subject, Vec<String>>,
}

impl Default for Restrictions {
    fn default() -> Self {
        Self { known: RwLock::default(), buckets: Mutex::default(), held: tokio::sync::Semaphore::new(HELD) }
    }
}

/// What holds for one request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held {
    /// The strictest of each.
    pub(crate) measures: Measures,
    /// The restriction that says most.
    pub(crate) id: String,
}

impl Restrictions {
    /// Takes a change in.
    pub(crate) fn set(&self, id: String, restriction: Option<Restriction>) {
        let known = &mut *self.known.write();
        if let Some(old) = known.by_id.remove(&id)
            && let Some(ids) = known.of.get_mut(&old.subject)
        {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                known.of.remove(&old.subject);
            }
        }
        match restriction {
            Some(restriction) => {
                known.of.entry(restriction.subject.clone()).or_default().push(id.clone());
                known.by_id.insert(id, restriction);
            }
            None => {
                self.buckets.lock().remove(&id);
            }
        }
    }

    /// Every one that is known.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.known.read().by_id.keys().cloned().collect()
    }

    /// Whether nothing is in force, which is so nearly always.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.read().by_id.is_empty()
    }

    /// What holds for a subject at a model; takes one request from its rate.
    ///
    /// # Errors
    /// `caller_restricted` where it is not answered, `rate_limited` where it asks too fast.
    pub(crate) fn admit(
        &self,
        subject: &Subject,
        model: Option<&ModelName>,
        now: Timestamp,
    ) -> Result<Option<Held>, Refusal> {
        let known = self.known.read();
        let Some(ids) = known.of.get(subject) else { return Ok(None) };
        let holds = |restriction: &&Restriction| {
            restriction.until.is_none_or(|until| until > now)
                && (restriction.model.is_none() || restriction.model.as_ref() == model)
        };
        let mut held: Option<Held> = None;
        for restriction in ids.iter().filter_map(|id| known.by_id.get(id)).filter(holds) {
            let Restriction { id, measures, until, rung, .. } = restriction;
            if measures.refuse {
                let at = restriction.model.as_ref().map(|model| format!(" at `{model}`")).unwrap_or_default();
                let refusal = Refusal::new(
                    Code::CallerRestricted,
                    format!("`{subject}` is not answered{at} for now: {rung}, {id}"),
                )
                .hint(format!("if that is wrong, an admin takes it back: `mantlet undo {id} --reason …`"));
                return Err(match until {
                    Some(until) => refusal.retry_after(until.since(now)),
                    None => refusal,
                });
            }
            if let Some(rate) = measures.rate.filter(|rate| *rate > 0.0) {
                let burst = rate.max(1.0);
                let mut buckets = self.buckets.lock();
                let bucket = buckets.entry(id.clone()).or_insert_with(|| Bucket::full(burst));
                bucket.take(rate, burst).map_err(|wait| {
                    Refusal::new(Code::RateLimited, format!("`{subject}` is slowed down for now: {rung}, {id}"))
                        .hint("send less, or wait; if that is wrong, an admin takes it back: `mantlet undo`")
                        .retry_after(wait)
                })?;
            }
            held = Some(match held {
                None => Held { measures: *measures, id: id.clone() },
                Some(before) => both(before, measures, id),
            });
        }
        Ok(held)
    }
}

fn both(before: Held, measures: &Measures, id: &str) -> Held {
    let order = |output: Output| match output {
        Output::Full => 0,
        Output::Rounded => 1,
        Output::Label => 2,
    };
    let output = match order(measures.output) > order(before.measures.output) {
        true => measures.output,
        false => before.measures.output,
    };
    let delay_ms = measures.delay_ms.max(before.measures.delay_ms);
    let id = if measures.delay_ms > before.measures.delay_ms { id.to_owned() } else { before.id };
    Held { measures: Measures { rate: None, delay_ms, output, refuse: false }, id }
}

#[cfg(test)]
mod tests {
    use types::defence::Rung;

    use super::*;

    fn restriction(id: &str, rung: Rung, model: Option<&str>, until: Option<u64>) -> Restriction {
        Restriction {
            id: id.into(),
            subject: "caller:bank/eve".parse().unwrap(),
            model: model.map(|model| model.parse().unwrap()),
            rung,
            measures: defend::ladder::measures(rung),
            until: until.map(Timestamp),
            since: Timestamp(0),
            reason: String::new(),
            author: "sentinel".into(),
            incident: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_force_holds_for_its_subject_model_and_time() {
        let restrictions = Restrictions::default();
        let (eve, app): (Subject, Subject) = ("caller:bank/eve".parse().unwrap(), "caller:bank/app".parse().unwrap());
        let fraud: ModelName = "fraud".parse().unwrap();
        let put = |one: Restriction| restrictions.set(one.id.clone(), Some(one));
        put(restriction("a", Rung::Quarantine, Some("fraud"), Some(1_000)));
        let refusal = restrictions.admit(&eve, Some(&fraud), Timestamp(1)).unwrap_err();
        assert_eq!((refusal.code, refusal.retry_after_ms), (Code::CallerRestricted, Some(999)));
        assert_eq!(restrictions.admit(&eve, Some(&"other".parse().unwrap()), Timestamp(1)), Ok(None));
        assert_eq!(restrictions.admit(&app, Some(&fraud), Timestamp(1)), Ok(None));
        assert_eq!(restrictions.admit(&eve, Some(&fraud), Timestamp(1_000)), Ok(None), "it ends by itself");
        put(restriction("b", Rung::Degrade, None, None));
        let held = restrictions.admit(&eve, Some(&fraud), Timestamp(2_000)).unwrap().unwrap();
        assert_eq!((held.measures.output, held.id.as_str()), (Output::Label, "b"));
        assert_eq!(restrictions.admit(&eve, Some(&fraud), Timestamp(2_000)).unwrap_err().code, Code::RateLimited);
        restrictions.set("b".into(), None);
        restrictions.set("a".into(), None);
        assert!(restrictions.is_empty() && restrictions.admit(&eve, Some(&fraud), Timestamp(1)) == Ok(None));
    }
}
