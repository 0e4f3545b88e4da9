//! Tells the sentinel whose labels are held back, and who is trusted again: what its poisoner agent looks at.
//!
//! Who that is, is found in [`contributors`](crate::contributors), which hold the labels back by themselves. It is told when it
//! changes, and now and then again, since a sentinel that was away knows nothing of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rpc::{Clock, Sentinel, orchestrator::ModelKey, sentinel::Report, trainer::Contributor};
use tokio::time::{Instant, sleep};
use types::{
    Refusal,
    defence::{AgentName, Counts, Reading, Sighting, Subject},
};

use crate::Known;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(500);
/// How often all are told again.
const AGAIN: Duration = Duration::from_secs(60);
/// What it says that somebody's labels are held back: the bound that the test of peers was stopped at, or more.
const EVIDENCE: f64 = 9.2;

type Who = (ModelKey, String);

/// The loop.
pub(crate) struct Suspects {
    sentinel: Arc<dyn Sentinel>,
    clock: Clock,
    known: Arc<Known>,
    told: BTreeSet<Who>,
}

impl Suspects {
    pub(crate) fn new(sentinel: Arc<dyn Sentinel>, clock: Clock, known: Arc<Known>) -> Self {
        Self { sentinel, clock, known, told: BTreeSet::new() }
    }

    /// Runs until `stop` resolves.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut all = Instant::now();
        loop {
            let again = all.elapsed() >= AGAIN;
            if again {
                all = Instant::now();
            }
            if let Err(refusal) = self.round(again).await {
                tracing::debug!(%refusal, "the sentinel can't be told of suspects; it is tried again");
            }
            tokio::select! {
                () = &mut stop => return,
                () = sleep(LOOK) => {}
            }
        }
    }

    async fn round(&mut self, again: bool) -> Result<(), Refusal> {
        let now: BTreeMap<Who, Contributor> = {
            let models = self.known.models.lock();
            let of = |(key, judged): (&ModelKey, &crate::Judged)| {
                let held = judged.standings().into_iter().filter(|contributor| contributor.held_back);
                held.map(|contributor| ((key.clone(), contributor.name.clone()), contributor)).collect::<Vec<_>>()
            };
            models.iter().flat_map(of).collect()
        };
        let new = now.iter().filter(|(who, _)| again || !self.told.contains(*who));
        let mut sightings: Vec<Sighting> =
            new.map(|(who, contributor)| self.sighting(who, Some(contributor))).collect();
        sightings.extend(self.told.iter().filter(|who| !now.contains_key(*who)).map(|who| self.sighting(who, None)));
        if !sightings.is_empty() {
            self.sentinel.report(Report { by: "trainer".into(), sightings }).await?;
        }
        self.told = now.into_keys().collect();
        Ok(())
    }

    fn sighting(&self, ((namespace, model), name): &Who, held: Option<&Contributor>) -> Sighting {
        let at = self.clock.now();
        let what = held.map(|contributor| {
            format!(
                "{} of its {} labels are not what was answered, far more than others' at the same time; they are held back",
                contributor.disagreed, contributor.labels
            )
        });
        let reading = Reading {
            agent: AgentName::Poisoner,
            score: held.map_or(0.0, |contributor| contributor.level.max(0.0)),
            rule: if held.is_some() { EVIDENCE } else { 0.0 },
            twin: 0.0,
            certain: false,
            what: what.unwrap_or_default(),
        };
        Sighting {
            subject: Subject::Contributor(namespace.clone(), model.clone(), name.clone()),
            model: Some(model.clone()),
            autonomy: None,
            admin: false,
            length_ms: 60_000,
            // Each word is a window of its own: the newest is what is so.
            window: at.0,
            at,
            counts: Counts::default(),
            readings: vec![reading],
        }
    }
}
