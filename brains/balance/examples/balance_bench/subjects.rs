//! Who is compared.

use std::time::Duration;

use balance::{
    Pool,
    policy::{LeastRequest, Policy, Prequal, RoundRobin},
};

use crate::fleet::{Chooser, Scene};

/// Who is compared, plain ones first.
pub(crate) const SUBJECTS: [&str; 5] = ["round robin", "least request", "p2c", "prequal", "oracle"];

/// What is watched of a subject while it chooses.
#[derive(Debug, Default)]
pub(crate) struct Watch;

impl Watch {
    /// Requests until the first gateway handed back; infinite while it did not.
    pub(crate) fn handed_back(&self) -> f64 {
        f64::INFINITY
    }
}

/// One of each gateway.
pub(crate) fn chooser(subject: &str, scene: &Scene) -> (Chooser, Watch) {
    if subject == "oracle" {
        return (Chooser::Oracle, Watch);
    }
    let policies = (0..scene.gateways).map(|_| -> Box<dyn Policy> {
        match subject {
            "round robin" => Box::new(RoundRobin::default()),
            "least request" => Box::new(LeastRequest::default()),
            "prequal" => Box::new(Prequal::default()),
            _ => Box::new(Pool::new(Duration::ZERO)),
        }
    });
    (Chooser::Policies(policies.collect()), Watch)
}
