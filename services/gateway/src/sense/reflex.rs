//! What the intruder says in the request itself: a clear attack is told, and refused where agents may act.
//!
//! It takes a bounded time ([`Intruder::reflex`]), and outlives nothing: what lasts is a restriction, which is the sentinel's.

use std::{collections::HashMap, sync::Arc};

use defend::intruder::{Intruder, Usual};
use parking_lot::Mutex;
use rpc::orchestrator::ModelKey;
use types::{Code, DataType, Refusal, Tensor, manifest::Autonomy};

use super::Asker;
use crate::ring::Model;

/// Models of which it is known what is usual; at more, the floor of rules holds.
const MODELS: usize = 256;

pub(crate) struct Reflex {
    intruder: Intruder,
    /// How far it goes where a model does not say.
    autonomy: Autonomy,
    usual: Mutex<HashMap<ModelKey, Usual>>,
}

/// A clear attack in a request.
pub(crate) struct Clear {
    pub(crate) family: &'static str,
    pub(crate) model: Arc<Model>,
    /// Whether the request is refused for it.
    pub(crate) refused: bool,
}

impl Reflex {
    pub(super) fn new(autonomy: Autonomy) -> Self {
        Self { intruder: Intruder::shipped(), autonomy, usual: Mutex::default() }
    }

    /// Looks at what a model is asked; numbers are nothing to look at.
    pub(crate) fn look(&self, asker: &Asker, key: &ModelKey, model: &Arc<Model>, inputs: &[Tensor]) -> Option<Clear> {
        let texts = || inputs.iter().filter(|input| input.datatype() == DataType::Bytes);
        texts().next()?;
        let bytes = texts().map(|input| input.data().len()).sum();
        let family = self.intruder.reflex(texts().flat_map(Tensor::iter_bytes), bytes, rand::random());
        let usual = {
            let mut all = self.usual.lock();
            let room = all.len() < MODELS || all.contains_key(key);
            room.then(|| all.entry(key.clone()).or_default()).is_some_and(|usual| {
                usual.learn(asker.subject.number(), family.is_some());
                family.is_some() && usual.is_usual()
            })
        };
        let family = family.filter(|_| !usual)?;
        let autonomy = model.route.manifest.spec.protection.autonomy.unwrap_or(self.autonomy);
        // An admin is not refused without a person.
        let refused = autonomy == Autonomy::Act && !asker.admin;
        let outcome = if refused { "refused" } else { "told" };
        metrics::counter!("mantlet_gateway_clear_attacks_total", "outcome" => outcome).increment(1);
        Some(Clear { family, model: model.clone(), refused })
    }
}

impl Clear {
    /// What is recorded of it.
    pub(crate) fn what(&self) -> String {
        format!("intruder: {} in what is asked", self.family)
    }

    /// The refusal, where it is refused.
    ///
    /// # Errors
    /// `caller_restricted`.
    pub(crate) fn check(&self, asker: &Asker, key: &ModelKey) -> Result<(), Refusal> {
        if !self.refused {
            return Ok(());
        }
        let (subject, name, family) = (&asker.subject, &key.1, self.family);
        let what = format!("this request of `{subject}` is not answered at `{name}`: {family} in what is asked");
        Err(Refusal::new(Code::CallerRestricted, what)
            .hint("if that is wrong, let agents only tell of it: `protection: { autonomy: recommend }` in the model's manifest"))
    }
}
