//! How many servers a queue needs.

/// The most servers that are tried.
const MOST: u32 = 100_000;

/// A queue of requests behind servers that are alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Queue {
    /// Requests a second.
    pub rate: f64,
    /// Seconds that one takes alone.
    pub service: f64,
    /// Squared coefficients of variation of the times between requests, and of what they take; 1 is a Poisson process, and
    /// exponential times.
    pub varies: (f64, f64),
}

impl Queue {
    /// The fewest servers with which no more than this share waits longer than `wait` seconds; and no fewer than the square-root
    /// rule gives, R + √R for a load of R servers (Halfin and Whitt, Operations Research 1981).
    ///
    /// P(W > t) ≈ C(c, R) · exp(−2 (1 − ρ) c μ t / (c_a² + c_s²)), where C is Erlang's formula for c servers (Allen 1990, after
    /// Cunneen). O(servers).
    pub fn servers(&self, wait: f64, share: f64) -> u32 {
        let load = (self.rate * self.service).max(0.0);
        if load.is_nan() || load <= 0.0 {
            return 0;
        }
        let floor = (load + load.sqrt()).ceil();
        let mut blocked = 1.0;
        for count in 1..=MOST {
            let servers = f64::from(count);
            // Erlang's B, from one server to the next.
            blocked = load * blocked / (servers + load * blocked);
            if servers >= floor && self.late(servers, load, blocked, wait) <= share {
                return count;
            }
        }
        MOST
    }

    /// The share that waits longer.
    fn late(&self, servers: f64, load: f64, blocked: f64, wait: f64) -> f64 {
        let busy = load / servers;
        if busy >= 1.0 {
            return 1.0;
        }
        let waits = blocked / (1.0 - busy * (1.0 - blocked));
        let (arrivals, services) = self.varies;
        let slope = 2.0 * (1.0 - busy) * servers / self.service / (arrivals + services).max(1e-3);
        waits * (-slope * wait.max(0.0)).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_queue_is_staffed_as_known() {
        // Erlang C for 10 servers at a load of 8 is 0.409; with W > 0 as wait it is what counts.
        let queue = Queue { rate: 8.0, service: 1.0, varies: (1.0, 1.0) };
        let load = 8.0;
        let blocked = (1..=10).fold(1.0, |blocked, c| load * blocked / (f64::from(c) + load * blocked));
        assert!((queue.late(10.0, load, blocked, 0.0) - 0.409).abs() < 0.001);
        assert_eq!(queue.servers(0.0, 0.41), 11, "never fewer than the load and its root");
        assert!(queue.servers(0.0, 0.01) > queue.servers(2.0, 0.01), "who may wait needs fewer");
    }

    #[test]
    fn more_load_and_more_variance_need_more() {
        let of = |rate, varies| Queue { rate, service: 0.1, varies }.servers(0.2, 0.01);
        let mut before = 0;
        for rate in [1.0, 10.0, 40.0, 41.0, 100.0, 1_000.0, 20_000.0] {
            let now = of(rate, (1.0, 1.0));
            assert!(now >= before && f64::from(now) > rate * 0.1, "{rate}: {now}");
            before = now;
        }
        assert!(of(100.0, (8.0, 1.0)) > of(100.0, (1.0, 1.0)));
        assert_eq!((of(0.0, (1.0, 1.0)), of(f64::NAN, (1.0, 1.0))), (0, 0));
    }
}
