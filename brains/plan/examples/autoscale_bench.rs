//! How often scalers are too late on real loads, and what they cost. `cargo run --release -p mantlet-plan --example autoscale_bench --
//! --data DIR [--out FILE] [--quick]`.
//!
//! Every trace of the folder is played to the rules of Kubernetes and Knative at six targets each, and to ours, with replicas that start within 5 and
//! 60 seconds; and once more with bursts of ten times as much within a second, for five minutes every six hours. All get the same
//! seconds.

#[path = "autoscale/load.rs"]
mod load;
#[expect(dead_code, reason = "other benches take the rest")]
#[path = "../../online/examples/measure/mod.rs"]
mod measure;
#[path = "autoscale/plain.rs"]
mod plain;
#[path = "autoscale/school.rs"]
mod school;
#[path = "autoscale/simulator.rs"]
mod simulator;
#[expect(dead_code, reason = "other benches take the rest")]
#[path = "../../online/examples/measure/traces.rs"]
mod traces;

use std::sync::Arc;

use measure::{Arguments, Figures, Result};
use online::guard::Mode;
use plain::{Oracle, Peak};
use plan::scale::{Ahead, DeepQ, Guarded, Hpa, Kpa, PRICE, Scaler, Seen, Terms, network::Network};
use simulator::run;

/// Shares of busy lanes that rules aim at.
const TARGETS: [f64; 6] = [0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// Seconds until a new replica answers.
const COLD: [f64; 2] = [5.0, 60.0];
/// Loads that a network is taught on, and in a short run.
const LOADS: (u32, u32) = (400, 40);
/// The most seconds of a trace, and of a short run.
const LONGEST: (usize, usize) = (1_500_000, 150_000);

fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let longest = if arguments.quick { LONGEST.1 } else { LONGEST.0 };
    let mut figures = Figures::default();
    let network = school::taught(if arguments.quick { LOADS.1 } else { LOADS.0 })?;
    for trace in traces::traces(&arguments.data)? {
        let usual = load::drawn(&trace, longest, 7);
        let bursts = load::with_bursts(&usual);
        for (kind, requests) in [("", &usual), (" burst", &bursts)] {
            for cold in COLD {
                let terms = Terms { lanes: 1, slo: 1.0, cold, bounds: (1, 1_000), price: PRICE };
                let case = format!("{}{kind} cold {cold}s", trace.name);
                for (name, mut scaler) in subjects(requests, terms, &network)? {
                    let outcome = run(requests, &terms, &mut *scaler);
                    figures.add([&case, &name, "violating_s", "s"], outcome.violating)?;
                    figures.add([&case, &name, "replica_s", "s"], outcome.replicas)?;
                    figures.add([&case, &name, "reversals_per_300s", ""], outcome.reversals)?;
                }
            }
        }
    }
    figures.write(arguments.out.as_deref())
}

fn subjects(requests: &[f64], terms: Terms, network: &Arc<Network>) -> Result<Vec<(String, Box<dyn Scaler>)>> {
    let mut all: Vec<(String, Box<dyn Scaler>)> = Vec::new();
    for target in TARGETS {
        all.push((format!("hpa {target}"), Box::new(Hpa::new(terms, target))));
        all.push((format!("kpa {target}"), Box::new(Kpa::new(terms, target))));
    }
    all.push(("static peak".into(), Box::new(Peak::new(requests, &terms))));
    all.push(("ours".into(), Box::new(Ahead::new(terms)?)));
    all.push(("ours under the guard".into(), Box::new(On(Guarded::new(Mode::On, terms, None, 5)?))));
    all.push(("deep-q".into(), Box::new(DeepQ::new(terms, network.clone())?)));
    all.push(("oracle".into(), Box::new(Oracle::new(requests, &terms))));
    Ok(all)
}

/// As a manifest's `mode: on` has it: it begins with nothing shown.
struct On(Guarded);

impl Scaler for On {
    fn second(&mut self, at: u64, seen: &Seen) -> u32 {
        self.0.second(at, seen).wanted
    }
}
