//! What a manifest may not say: what contradicts itself, and what this release does not do.

use super::{CaptureInput, Drift, MAX_SLICES, Manifest, Promote, Retrain, Rollout, Source, Train};
use crate::{Code, Refusal};

impl Manifest {
    pub(super) fn check_learning(&self) -> Result<(), Refusal> {
        let wrong = |what: String| Err(Refusal::new(Code::ManifestInvalid, what));
        if let Some(train) = &self.spec.learning.train {
            self.check_train(train)?;
        }
        let learning = &self.spec.learning;
        if self.is_streaming() && learning.retrain != Retrain::Never && learning.promote == Promote::Off {
            return wrong(
                "spec.learning.retrain: what is found has to prove itself: set promote to automatic or suggest".into(),
            );
        }
        if let Some(slice) = &self.spec.learning.slice
            && (self.slices().is_empty()
                || self.slices().len() > MAX_SLICES
                || self.spec.capture.input != CaptureInput::Features)
        {
            return wrong(format!(
                "spec.learning.slice: `{slice}` is no input with 1 to {MAX_SLICES} categories, or spec.capture.input is not features"
            ));
        }
        if self.spec.learning.horizon.is_some_and(|horizon| horizon.0.is_zero()) {
            return wrong("spec.learning.horizon is more than 0s: no label comes sooner than its prediction".into());
        }
        self.check_drift()
    }

    fn check_drift(&self) -> Result<(), Refusal> {
        let wrong = |what: String| Err(Refusal::new(Code::ManifestInvalid, format!("spec.learning.drift.{what}")));
        let (learning, drift) = (&self.spec.learning, &self.spec.learning.drift);
        if drift.retrain != Drift::default().retrain && learning.retrain != Retrain::OnDrift {
            return wrong("retrain: it acts where spec.learning.retrain is on-drift alone".into());
        }
        if drift.retrain.is_empty() {
            return wrong("retrain: it names no kind of drift, so nothing would begin a job".into());
        }
        if let Some(webhook) = &drift.webhook
            && let Err(why) = webhook.origin()
        {
            return wrong(format!("webhook.url `{}`: {why}", webhook.url));
        }
        Ok(())
    }

    fn check_train(&self, train: &Train) -> Result<(), Refusal> {
        let wrong = |what: &str| Err(Refusal::new(Code::ManifestInvalid, format!("spec.learning.train: {what}")));
        if self.is_streaming() {
            if self.spec.learning.promote == Promote::Off {
                return wrong(
                    "what workers make has to prove itself: set spec.learning.promote to automatic or suggest",
                );
            }
            if *train != Train::of_workers(train.workers) || !(1..=Train::MOST_WORKERS).contains(&train.workers) {
                return wrong(
                    "a model that learns by itself names workers, 1 to 8, and nothing else: its job is built in",
                );
            }
            return Ok(());
        }
        if !matches!(self.spec.source, Source::Onnx(_)) {
            return wrong("a model that another server holds is not trained by a job");
        }
        if train.workers != 1 {
            return wrong(
                "workers: how many processes a job starts is its own affair; a model that learns has workers",
            );
        }
        if !self.is_judged() || self.spec.capture.input != CaptureInput::Features {
            return wrong(
                "a job learns from labels and from what was asked: set spec.task, and spec.capture.input to features",
            );
        }
        if self.spec.learning.promote == Promote::Off {
            return wrong("what a job makes has to prove itself: set spec.learning.promote to automatic or suggest");
        }
        let known = |name: &str| self.spec.inputs.iter().any(|input| input.name == name);
        let unknown = train.only.keys().find(|name| !self.spec.inputs.is_empty() && !known(name));
        if let Some(unknown) = unknown {
            return wrong(&format!("only: spec.inputs names no `{unknown}`"));
        }
        if train.job.is_empty() || train.least == 0 {
            return wrong("job is a name, and least at least 1");
        }
        Ok(())
    }

    /// Refuses what this release does not do, naming the first such field.
    ///
    /// # Errors
    /// `not_supported_yet`.
    pub fn refuse_unsupported(&self) -> Result<(), Refusal> {
        let spec = &self.spec;
        let field = if matches!(spec.source, Source::Bundle(_)) {
            "spec.source: `bundle`"
        } else if spec.slo.availability.is_some() {
            "spec.slo.availability"
        } else if spec.rollout != Rollout::default() && spec.learning.promote == Promote::Off {
            "spec.rollout of a model whose versions take over at once: see spec.learning.promote"
        } else if spec.learning.retrain != Retrain::Never && spec.learning.train.is_none() && !self.is_streaming() {
            "spec.learning.retrain without spec.learning.train"
        } else if (spec.learning.promote, spec.learning.season) != (Promote::Off, None) && !self.is_judged() {
            "spec.learning.promote of a model whose answers labels can't judge: see spec.task and spec.capture"
        } else {
            return Ok(());
        };
        Err(Refusal::new(Code::NotSupportedYet, format!("this release does not act on {field}"))
            .hint("leave the field out, or set it to its default"))
    }
}
