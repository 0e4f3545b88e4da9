//! What gateways say of their models' load, second by second, put together.

use std::collections::BTreeMap;

use plan::ModelId;
use rpc::orchestrator::{Load, Loads};
use types::Timestamp;

/// A gateway that has said nothing for so many milliseconds counts as nothing.
const SILENT: u64 = 5_000;
/// Gateways that are listened to.
const GATEWAYS: usize = 64;

/// What every gateway said since it was last looked at.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    gateways: BTreeMap<String, Gateway>,
}

#[derive(Debug, Default)]
struct Gateway {
    /// When it said something last, in milliseconds since 1970.
    at: u64,
    models: BTreeMap<ModelId, Part>,
}

/// One model at one gateway.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// When this was said last, likewise.
    at: u64,
    seconds: f64,
    requests: f64,
    /// Requests in flight, times seconds.
    area: f64,
    served: (u64, f64),
    open: u32,
    /// Requests a second and in flight, as it said last.
    last: (f64, f64),
}

/// What was asked of a model, all gateways together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Asked {
    /// Requests a second.
    pub(crate) requests: f64,
    /// Requests in flight, on average.
    pub(crate) in_flight: f64,
    /// Requests that are there right now.
    pub(crate) open: u32,
    /// Requests that were answered, and the seconds of a replica that all of them took.
    pub(crate) served: (u64, f64),
}

impl Heard {
    /// Takes in what a gateway says of these models; of others nothing is kept.
    pub(crate) fn note(&mut self, loads: Loads, now: Timestamp, is_scaled: impl Fn(&ModelId) -> bool) {
        if self.gateways.len() >= GATEWAYS && !self.gateways.contains_key(&loads.gateway) {
            return;
        }
        let gateway = self.gateways.entry(loads.gateway).or_default();
        gateway.at = now.0;
        for load in loads.models.into_iter().take(Loads::MOST) {
            let Load { namespace, model, seconds, requests, in_flight, open, served } = load;
            let model = ModelId { namespace, name: model };
            let numbers = [seconds, in_flight, served.1];
            if !is_scaled(&model) || numbers.iter().any(|number| !number.is_finite() || *number < 0.0) {
                continue;
            }
            let part = gateway.models.entry(model).or_default();
            part.at = now.0;
            part.seconds += seconds;
            part.requests += requests as f64;
            part.area += in_flight * seconds;
            part.served = (part.served.0 + served.0, part.served.1 + served.1);
            part.open = open;
        }
    }

    /// Whether a request for this model is there right now.
    pub(crate) fn is_asked(&self, model: &ModelId) -> bool {
        let mut parts = self.gateways.values().filter_map(|gateway| gateway.models.get(model));
        parts.any(|part| part.open > 0)
    }

    /// What was said since the last look, and of who said nothing since, what it said before; nothing where no gateway says
    /// anything any more.
    pub(crate) fn look(&mut self, now: Timestamp) -> Option<BTreeMap<ModelId, Asked>> {
        let is_silent = |at: u64| now.0.saturating_sub(at) >= SILENT;
        self.gateways.retain(|_, gateway| !is_silent(gateway.at));
        let mut asked: BTreeMap<ModelId, Asked> = BTreeMap::new();
        for gateway in self.gateways.values_mut() {
            gateway.models.retain(|_, part| !is_silent(part.at));
            for (model, part) in &mut gateway.models {
                let sum = asked.entry(model.clone()).or_default();
                let (rate, in_flight) = part.take();
                sum.requests += rate;
                sum.in_flight += in_flight;
                sum.open += part.open;
                sum.served = (sum.served.0 + part.served.0, sum.served.1 + part.served.1);
                part.served = (0, 0.0);
            }
        }
        (!self.gateways.is_empty()).then_some(asked)
    }
}

impl Part {
    fn take(&mut self) -> (f64, f64) {
        if self.seconds > 0.0 {
            self.last = (self.requests / self.seconds, self.area / self.seconds);
        }
        (self.seconds, self.requests, self.area) = (0.0, 0.0, 0.0);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str) -> ModelId {
        ModelId { namespace: "bank".parse().unwrap(), name: name.parse().unwrap() }
    }

    fn said(gateway: &str, name: &str, seconds: f64, requests: u64, in_flight: f64) -> Loads {
        let (namespace, model) = (model(name).namespace, model(name).name);
        let served = (requests, requests as f64 * 0.1);
        let load = Load { namespace, model, seconds, requests, in_flight, open: requests as u32, served };
        Loads { gateway: gateway.into(), models: vec![load] }
    }

    #[test]
    fn gateways_are_summed_and_their_seconds_need_not_be_ours() {
        let (mut heard, all) = (Heard::default(), |_: &ModelId| true);
        assert_eq!(heard.look(Timestamp(0)), None, "nobody says anything");
        heard.note(said("g0", "a", 1.0, 10, 2.0), Timestamp(1_000), all);
        heard.note(said("g0", "a", 0.5, 20, 5.0), Timestamp(1_500), all);
        heard.note(said("g1", "a", 1.0, 7, 1.0), Timestamp(1_500), all);
        heard.note(said("g1", "other", 1.0, 7, 1.0), Timestamp(1_500), |model| model.name.as_str() == "a");
        let asked = heard.look(Timestamp(2_000)).unwrap();
        assert_eq!(asked.len(), 1);
        let a = asked[&model("a")];
        assert_eq!((a.requests, a.in_flight, a.open, a.served.0), (27.0, 4.0, 27, 37));
        // No word in this second: it goes on as before, and nothing is served twice.
        let a = heard.look(Timestamp(3_000)).unwrap()[&model("a")];
        assert_eq!((a.requests, a.served), (27.0, (0, 0.0)));
        // One that is there and does not name the model has no requests for it; one that is silent does not count.
        heard.note(Loads { gateway: "g1".into(), models: Vec::new() }, Timestamp(6_400), all);
        assert!(heard.is_asked(&model("a")));
        let asked = heard.look(Timestamp(6_500)).unwrap();
        assert!(asked.is_empty() && !heard.is_asked(&model("a")), "{asked:?}");
        assert_eq!(heard.look(Timestamp(20_000)), None);
    }

    #[test]
    fn what_can_not_be_is_left_out_and_there_are_only_so_many() {
        let (mut heard, all) = (Heard::default(), |_: &ModelId| true);
        heard.note(said("g0", "a", f64::NAN, 1, 1.0), Timestamp(0), all);
        heard.note(said("g0", "b", 1.0, 1, -1.0), Timestamp(0), all);
        assert_eq!(heard.look(Timestamp(0)).map(|asked| asked.len()), Some(0));
        for number in 0..100 {
            heard.note(said(&format!("g{number}"), "a", 1.0, 1, 1.0), Timestamp(0), all);
        }
        assert_eq!(heard.look(Timestamp(0)).unwrap()[&model("a")].requests, GATEWAYS as f64);
    }
}
