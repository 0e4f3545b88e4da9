//! What is usual at a site: which endpoints there are, by which methods and with which parameters they are asked, and what
//! their values look like.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{History, Part, Piece, Request, history::key};

/// Endpoints that are remembered; the one that was asked least gives way to another.
const ENDPOINTS: usize = 1_024;
/// Parameters and methods of an endpoint that are remembered.
const NAMES: usize = 64;
/// Requests from which on an endpoint, or a site, is known.
const KNOWN: f32 = 50.0;
/// Nats of surprise up to which a request counts in full; beyond, each nat more makes it count less by e.
const PLAIN: f64 = 2.0;
/// Parameters that stand in so large a share of requests are missed when they are not there.
const USUAL: f32 = 0.5;

/// A positive model of a site, learnt from its own requests: what is asked in a way in which nobody asks, a parameter that
/// is new beside one that is missing, a method, a path, a value unlike the others. It finds tampering that no text shows,
/// and knows nothing of attacks: a surprise is no proof.
///
/// A surprise is in nats, 0 before fifty requests: −ln of how often such a path, method, parameter is seen, summed, and the
/// most surprising value's. Some 1,024 endpoints and 2,048 parameters, about 500 KB. Feed it what was not called hostile.
///
/// ```
/// use defend::intruder::{Request, Site};
///
/// let mut site = Site::default();
/// let targets: Vec<String> = (0..300).map(|n| format!("/cart?item={n}&count=1")).collect();
/// for target in &targets {
///     site.learn(&Request { method: "GET", target, ..Request::default() });
/// }
/// let surprise = |target| site.surprise(&Request { method: "GET", target, ..Request::default() });
/// assert!(surprise("/cart?item=17&count=1") < 1.0);
/// assert!(surprise("/cart?itemX=17&count=1") > 6.0);
/// assert!(surprise("/cart.bak") > 4.0);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Site {
    values: History,
    endpoints: BTreeMap<u64, Endpoint>,
    requests: f32,
    /// Requests to endpoints that were not known yet.
    new: f32,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Endpoint {
    requests: f32,
    /// How often each parameter was there, and each method was used.
    names: BTreeMap<u64, f32>,
}

/// How surprising it is that something with these counts is so.
fn nats(count: f32, of: f32) -> f64 {
    -f64::from((count + 0.5) / (of + 1.0)).ln().min(0.0)
}

impl Site {
    /// How surprising a request is, in nats. O(length · log parameters).
    pub fn surprise(&self, request: &Request<'_>) -> f64 {
        if self.requests < KNOWN {
            return 0.0;
        }
        let pieces = request.pieces();
        let path = pieces.first().map(|piece| String::from_utf8_lossy(&piece.text).into_owned()).unwrap_or_default();
        let Some(endpoint) = self.endpoints.get(&key(&path, "")) else { return nats(self.new, self.requests) };
        let rare = if endpoint.requests < KNOWN {
            nats(endpoint.requests, self.requests).min(nats(self.new, self.requests))
        } else {
            0.0
        };
        let mut total = rare;
        if endpoint.requests >= KNOWN {
            let names: Vec<u64> = names(request, &pieces);
            let seen = |name: &u64| endpoint.names.get(name).copied().unwrap_or(0.0);
            let unusual = names.iter().map(|name| nats(seen(name), endpoint.requests)).filter(|nats| *nats > 1.0);
            total += unusual.sum::<f64>();
            // Methods are among the names: one that is used half of the time is no parameter that is missed.
            let methods = METHODS.map(|method| key("", method));
            let missed = endpoint.names.iter().filter(|(name, count)| {
                **count >= USUAL * endpoint.requests && !names.contains(name) && !methods.contains(name)
            });
            total += missed.map(|(_, count)| nats(endpoint.requests - count, endpoint.requests)).sum::<f64>();
        }
        let values = || pieces.iter().filter(|piece| piece.part == Part::Value);
        let worst = values().map(|piece| self.values.surprise(&path, &piece.name, &piece.text)).fold(0.0, f64::max);
        // Of many values, one is soon unusual.
        total + (worst - (values().count().max(1) as f64).ln()).max(0.0)
    }

    /// Takes a request in as usual; the more it surprises, the less it counts, so that what comes seldom and is not told does
    /// not become usual (weights that fall with the residual: Huber, "Robust statistics", 1981). O(length · log parameters).
    pub fn learn(&mut self, request: &Request<'_>) {
        let weight = (PLAIN - self.surprise(request)).min(0.0).exp() as f32;
        let pieces = request.pieces();
        let path = pieces.first().map(|piece| String::from_utf8_lossy(&piece.text).into_owned()).unwrap_or_default();
        let place = key(&path, "");
        self.requests = (self.requests + 1.0).min(1e6);
        if !self.endpoints.contains_key(&place) {
            self.new = (self.new + 1.0).min(1e6);
            if self.endpoints.len() >= ENDPOINTS {
                let least =
                    self.endpoints.iter().min_by(|a, b| a.1.requests.total_cmp(&b.1.requests)).map(|(key, _)| *key);
                least.map(|least| self.endpoints.remove(&least));
            }
        }
        let endpoint = self.endpoints.entry(place).or_default();
        endpoint.requests = (endpoint.requests + weight).min(1e6);
        for name in names(request, &pieces) {
            if endpoint.names.len() < NAMES || endpoint.names.contains_key(&name) {
                let count = endpoint.names.entry(name).or_default();
                *count = (*count + weight).min(1e6);
            }
        }
        for piece in pieces.iter().filter(|piece| piece.part == Part::Value) {
            self.values.learn(&path, &piece.name, &piece.text);
        }
    }

    /// Endpoints that it knows of.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }
}

/// Methods that are not missed.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS"];

/// Keys of the method and of each parameter, once.
fn names(request: &Request<'_>, pieces: &[Piece]) -> Vec<u64> {
    let mut names: Vec<u64> =
        pieces.iter().filter(|piece| piece.part == Part::Name).map(|piece| key("name", &piece.name)).collect();
    names.push(key("", request.method));
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_asks_for_is_a_surprise() {
        let mut site = Site::default();
        let ask = |target: &'static str, method| Request { method, target, ..Request::default() };
        assert_eq!(site.surprise(&ask("/a", "GET")), 0.0);
        for target in
            ["/login?user=anna&go=1", "/login?user=robert&go=1", "/login?user=mei&go=1"].into_iter().cycle().take(400)
        {
            site.learn(&ask(target, "GET"));
            site.learn(&ask("/about", "GET"));
        }
        assert!(site.surprise(&ask("/login?user=bert&go=1", "GET")) < 1.0);
        assert!(site.surprise(&ask("/login?user=bert&go=1", "PUT")) > 5.0);
        assert!(site.surprise(&ask("/login?user=bert", "GET")) > 5.0, "one is missing");
        assert!(site.surprise(&ask("/login?user=%27&go=1", "GET")) > 5.0);
        assert!(site.surprise(&ask("/about.old", "GET")) > 4.0);
        assert_eq!(site.len(), 2);
    }
}
