//! How many replicas the load of one model needs, who says so, and why.
//!
//! The rule is Knative's, the forecast is [`plan::scale::Ahead`]; how far the forecast may act is the manifest's word, and [`Guarded`] sees
//! to it. Sleep stands above both: a model that may have none and is not asked has none, and begins with one. All of it is told what was seen, a
//! second at a time, and reads no clock.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use online::{Snapshot as _, guard::Mode};
use plan::scale::{Guarded, Seen, Side, Standing, TARGET, Terms, Verdict};
use rpc::orchestrator::{Comparison, Scaling};
use serde::{Deserialize, Serialize};
use types::{
    Manifest, Timestamp,
    manifest::{Scale, ScaleMode},
};

/// Seconds in which a request is to be answered where the manifest promises nothing.
const SLO: f64 = 1.0;
/// Seconds that a start takes before one was seen.
pub(crate) const COLD: f64 = 2.0;
/// Starts are timed to this part of a second, so that each new one does not change all terms.
const GRAIN: f64 = 0.5;
/// Weight of a second with 30 answers or more in what one takes; fewer weigh less.
const FRESH: f64 = 0.2;

/// Seconds for which what is said is still of those that waited for the first replica.
const ECHO: u64 = 3;

/// Names of the two as they are told.
const RULE: &str = "rule";
const FORECAST: &str = "forecast";

/// What is so of a model in a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Second {
    /// Requests a second; NaN where no gateway says anything.
    pub(crate) requests: f64,
    /// Requests in flight, on average.
    pub(crate) in_flight: f64,
    /// Requests that are there right now.
    pub(crate) open: u32,
    /// Requests that were answered, and the seconds of a replica that all of them took.
    pub(crate) served: (u64, f64),
    /// Replicas that answer, and those that start.
    pub(crate) ready: u32,
    pub(crate) starting: u32,
    /// Whether somebody has set another number, which counts instead.
    pub(crate) overruled: bool,
}

/// The scaler of one model.
#[derive(Debug, Clone)]
pub(crate) struct Scaler {
    scale: Scale,
    mode: ScaleMode,
    terms: Terms,
    guarded: Guarded,
    /// Mean seconds that a request takes; nothing before one was answered.
    service: f64,
    /// The last second that was told, and the last in which somebody asked.
    at: u64,
    asked: u64,
    /// Whether it slept and its first replica is not ready; and the second in which that became ready last.
    waking: bool,
    woke: Option<u64>,
    /// Why it can't be woken, where it can't.
    short: Option<String>,
    said: Said,
}

/// What was said last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) wanted: u32,
    pub(crate) why: String,
    /// Of the one whose word it is not.
    pub(crate) twin: Option<u32>,
    pub(crate) by: Side,
    pub(crate) since: Timestamp,
}

/// A scaler as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    at: u64,
    asked: u64,
    service: f64,
    pub(crate) cold: f64,
    pub(crate) said: Said,
    guarded: String,
}

/// What a manifest and the machine say of a model's replicas.
pub(crate) fn terms(manifest: &Manifest, lanes: u32, cold: f64) -> Terms {
    let (least, most) = manifest.scale_bounds();
    let slo = manifest.spec.slo.p99.map_or(SLO, |span| span.0.as_secs_f64());
    let cold = (cold / GRAIN).ceil() * GRAIN;
    let price = f64::from(manifest.spec.scale.price) / 3_600.0;
    // Sleep is not theirs to decide.
    Terms { lanes: lanes.max(1), slo, cold, bounds: (least.max(1), most), price }
}

/// What the forecast may do.
fn mode(manifest: &Manifest) -> Mode {
    match manifest.scale_mode() {
        ScaleMode::Off | ScaleMode::Rule => Mode::Off,
        ScaleMode::Shadow => Mode::Shadow,
        ScaleMode::On => Mode::On,
    }
}

/// Seconds of a block, where the manifest says so, and what lots depend on: each model's are its own.
fn blocks(manifest: &Manifest) -> (Option<u64>, u64) {
    let name = manifest.metadata.name.as_str().bytes();
    // The hash of Fowler, Noll and Vo.
    let seed = name.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (manifest.spec.scale.block.map(|block| block.0.as_secs().max(1)), seed)
}

fn name(side: Side) -> &'static str {
    match side {
        Side::Rule => RULE,
        Side::Forecast => FORECAST,
    }
}

fn other(side: Side) -> Side {
    match side {
        Side::Rule => Side::Forecast,
        Side::Forecast => Side::Rule,
    }
}

impl Scaler {
    /// One that knows nothing yet, of a model that was just asked for, and has so many replicas.
    ///
    /// # Errors
    /// None that a guard's own settings do not exclude.
    pub(crate) fn new(
        manifest: &Manifest,
        terms: Terms,
        at: u64,
        (there, now): (u32, Timestamp),
    ) -> online::Result<Self> {
        let wanted = there.clamp(terms.bounds.0, terms.bounds.1);
        let said = Said { wanted, why: "it begins with what is there".into(), twin: None, by: Side::Rule, since: now };
        let (length, seed) = blocks(manifest);
        Ok(Self {
            scale: manifest.spec.scale,
            mode: manifest.scale_mode(),
            terms,
            guarded: Guarded::new(mode(manifest), terms, length, seed)?,
            service: 0.0,
            at,
            asked: at,
            waking: false,
            woke: None,
            short: None,
            said,
        })
    }

    /// One that goes on where it was kept; what can't be read of it begins anew.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn resume(manifest: &Manifest, terms: Terms, at: u64, kept: &Kept) -> online::Result<Self> {
        let mut scaler = Self::new(manifest, terms, at, (kept.said.wanted, kept.said.since))?;
        scaler.at = kept.at;
        scaler.asked = kept.asked;
        scaler.service = if kept.service.is_finite() { kept.service.max(0.0) } else { 0.0 };
        scaler.said.clone_from(&kept.said);
        if let Ok(guarded) = Guarded::load(&BASE64_STANDARD.decode(&kept.guarded).unwrap_or_default()) {
            scaler.guarded = guarded;
        }
        scaler.set(manifest, terms);
        Ok(scaler)
    }

    /// As it is kept.
    pub(crate) fn kept(&self, cold: f64) -> Kept {
        Kept {
            at: self.at,
            asked: self.asked,
            service: self.service,
            cold,
            said: self.said.clone(),
            guarded: BASE64_STANDARD.encode(self.guarded.save()),
        }
    }

    /// Takes in what the manifest says now.
    pub(crate) fn set(&mut self, manifest: &Manifest, terms: Terms) {
        (self.scale, self.mode, self.terms) = (manifest.spec.scale, manifest.scale_mode(), terms);
        let (length, _) = blocks(manifest);
        if let Err(error) = self.guarded.set(mode(manifest), terms, length) {
            tracing::warn!(%error, "a time to start is too long for a forecast");
        }
    }

    /// Whether the manifest or the machine say something else than before.
    pub(crate) fn differs(&self, manifest: &Manifest, terms: Terms) -> bool {
        self.scale != manifest.spec.scale || self.mode != manifest.scale_mode() || self.terms != terms
    }

    pub(crate) fn said(&self) -> &Said {
        &self.said
    }

    pub(crate) fn sleeps(&self) -> bool {
        self.said.wanted == 0
    }

    /// Somebody wants it anew: it has to show that it can be loaded, and is not put to sleep meanwhile.
    pub(crate) fn touch(&mut self, now: Timestamp) {
        (self.asked, self.short) = (self.at, None);
        self.guarded.void();
        if self.sleeps() {
            self.waking = true;
            self.say(1, "somebody has decided about it anew", now);
        }
    }

    /// Memory is short, and it is worth least: it sleeps, as if nobody had asked for long.
    pub(crate) fn unload(&mut self, why: &str, now: Timestamp) {
        if !self.sleeps() && self.scale.min == 0 {
            self.waking = false;
            self.say(0, why, now);
        }
    }

    /// Whether it may sleep at all.
    pub(crate) fn may_sleep(&self) -> bool {
        self.scale.min == 0
    }

    /// It sleeps on though it is asked, for this reason; with none it may be woken.
    pub(crate) fn hold(&mut self, short: Option<String>) {
        self.short = short;
    }

    /// Why it sleeps on though it is asked.
    pub(crate) fn short(&self) -> Option<&String> {
        self.short.as_ref()
    }

    /// A request waits for a model that sleeps: one replica, at once, however many wait; none while memory is short.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        if self.sleeps() && self.short.is_none() {
            (self.waking, self.asked) = (true, self.at);
            self.say(1, "it slept and is asked: one replica first", now);
        }
    }

    /// As it is told.
    pub(crate) fn scaling(&self, overruled: bool, cold: f64) -> Scaling {
        let standing = self.standing();
        let comparison =
            Comparison { acts: standing.acts, blocks: standing.blocks, costs: standing.costs, saved: standing.saved() };
        Scaling {
            mode: self.mode,
            wanted: self.said.wanted,
            why: self.said.why.clone(),
            by: name(self.said.by).to_owned(),
            twin: self.said.twin.map(|wanted| (name(other(self.said.by)).to_owned(), wanted)),
            comparison: (self.mode == ScaleMode::On).then_some(comparison),
            overruled,
            since: self.said.since,
            cold_seconds: cold,
            short: self.short.clone(),
        }
    }

    /// How the forecast stands beside the rule.
    pub(crate) fn standing(&self) -> Standing {
        self.guarded.standing()
    }

    /// Takes in a second. `at` is in whole seconds; one that does not grow is taken for the next.
    pub(crate) fn second(&mut self, at: u64, second: Second, now: Timestamp) {
        self.at = at.max(self.at + 1);
        if !second.requests.is_finite() {
            self.why("no gateway says anything: it stays as it was");
            return;
        }
        self.serve(second.served);
        let busy = second.open > 0 || second.requests > 0.0 || second.in_flight > 0.0;
        // What is wanted and not ready can't have been asked yet.
        if busy || (second.ready == 0 && !self.sleeps()) {
            self.asked = self.at;
        }
        if self.waking && second.ready > 0 {
            (self.waking, self.woke) = (false, Some(self.at));
        }
        let Verdict { wanted, by, twin } = self.ask(second);
        self.said.by = by;
        if self.scale.min == 0 && self.at - self.asked >= self.scale.idle.0.as_secs().max(1) {
            self.twin(twin.map(|_| 0));
            self.say(0, &format!("nobody has asked for {}", self.scale.idle), now);
        } else if self.sleeps() && !busy {
            self.twin(twin.map(|_| 0));
        } else if self.sleeps() {
            self.twin(twin.map(|_| 1));
            self.wake(now);
        } else if self.waking {
            self.twin(twin.map(|_| 1));
        } else {
            self.twin(twin);
            let why = self.explain(second, wanted);
            self.say(wanted, &why, now);
        }
    }

    /// Asks the rule, and the forecast where it is told.
    fn ask(&mut self, second: Second) -> Verdict {
        let Second { requests, in_flight, ready, starting, .. } = second;
        let mut seen = Seen { requests, in_flight, service: self.service, ready, starting };
        if self.waking || self.sleeps() {
            (seen.ready, seen.starting) = (1, 0);
        }
        // Who waits for the first replica is no crowd: as many are counted as it may have, until what is said of the wait is over.
        if self.waking || self.sleeps() || self.woke.is_some_and(|woke| self.at - woke < ECHO) {
            seen.in_flight = in_flight.min(TARGET * f64::from(self.terms.lanes));
        }
        let verdict = self.guarded.second(self.at, &seen);
        // Neither of them decides about a model that sleeps or wakes, or whose number a person has set.
        if self.waking || self.sleeps() || second.overruled {
            self.guarded.void();
        }
        verdict
    }

    fn serve(&mut self, (count, seconds): (u64, f64)) {
        if count == 0 {
            return;
        }
        let mean = seconds / count as f64;
        let fresh = FRESH * (count as f64 / 30.0).min(1.0);
        self.service = if self.service > 0.0 { self.service + fresh * (mean - self.service) } else { mean };
    }

    fn explain(&self, second: Second, wanted: u32) -> String {
        let Second { requests, in_flight, ready, .. } = second;
        let load =
            format!("{requests:.1} requests/s of {:.3} s, {in_flight:.1} in flight at {ready} ready", self.service);
        let (least, most) = self.terms.bounds;
        let bound = match wanted {
            _ if least == most => String::new(),
            wanted if wanted == most => format!("; at most {most}"),
            wanted if wanted == least => format!("; at least {least}"),
            _ => String::new(),
        };
        let who = match (self.guarded.staffed(), self.said.by) {
            (Some(staffed), Side::Forecast) => {
                if wanted <= least || staffed.ceil() >= f64::from(wanted) {
                    format!("the forecast asks for {staffed:.1}")
                } else if wanted > self.said.wanted || in_flight > f64::from(ready * self.terms.lanes) {
                    format!("what comes and waits now asks for more than the forecast's {staffed:.1}")
                } else {
                    format!("the forecast asks for {staffed:.1}, and fewer go slowly")
                }
            }
            _ => format!("the rule keeps {:.0} % of {} lane(s) busy", TARGET * 100.0, self.terms.lanes),
        };
        format!("{load}: {who}{bound}")
    }

    fn say(&mut self, wanted: u32, why: &str, now: Timestamp) {
        if self.said.wanted != wanted {
            self.said.wanted = wanted;
            self.said.since = now;
        }
        self.why(why);
    }

    fn why(&mut self, why: &str) {
        why.clone_into(&mut self.said.why);
    }

    fn twin(&mut self, twin: Option<u32>) {
        self.said.twin = twin;
    }
}

#[cfg(test)]
mod tests;
