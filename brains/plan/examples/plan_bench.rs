//! What a plan costs. `cargo run --release -p mantlet-plan --example plan_bench`.
//!
//! A thousand models over a hundred servers, of which a tenth has crashed, another tenth is wanted in a new version, and the rest stands as it should.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for a person, not product code")]

use std::{collections::BTreeMap, time::Instant};

use plan::{Current, Inputs, ModelId, Needs, Replica, Room, Server, ServerId, Spread, State, Wish, plan};
use types::{Digest, Timestamp, Version};

const MODELS: u32 = 1_000;
const SERVERS: u32 = 100;
const RUNS: u32 = 50;

fn inputs() -> Inputs {
    let namespace: types::Namespace = "bank".parse().unwrap();
    let needs = Needs { memory: 64 << 20, ..Needs::default() };
    let digest = |version: u64| Digest([version as u8; 32]);
    let mut inputs = Inputs { spread: Spread { alone: 0, shared: 4 << 30 }, ..Inputs::default() };
    for server in 0..SERVERS {
        let name = ServerId(format!("server-{server:03}"));
        inputs
            .servers
            .insert(name, Server { replicas: BTreeMap::new(), ..Server::empty(namespace.clone(), Room::Many, false) });
    }
    for number in 0..MODELS {
        let model = ModelId { namespace: namespace.clone(), name: format!("model-{number:04}").parse().unwrap() };
        let version = Version(if number % 10 == 1 { 2 } else { 1 });
        inputs.current.insert(model.clone(), Current { version: Version(1), digest: digest(1), needs });
        let wish = Wish { version, digest: digest(version.0), replicas: 1, needs, shadow: None, split: Vec::new() };
        inputs.wishes.insert(model.clone(), wish);
        if number % 10 != 0 {
            let server = ServerId(format!("server-{:03}", number % SERVERS));
            let held = &mut inputs.servers.get_mut(&server).unwrap().replicas;
            held.insert(Replica { model, version: Version(1) }, State::Ready);
        }
    }
    inputs
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn main() {
    let inputs = inputs();
    let mut took = Vec::new();
    let mut steps = 0;
    for _ in 0..RUNS {
        let begun = Instant::now();
        let mut named = 0;
        let mut name = || {
            named += 1;
            ServerId(format!("new-{named}"))
        };
        let (made, _) = plan(&inputs, 0, Timestamp(1_000_000), &mut name);
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        steps = made.steps.len();
    }
    took.sort_unstable_by(f64::total_cmp);
    let of = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    println!(
        "{MODELS} models, {SERVERS} servers: {steps} steps; {:.1} ms in the median, {:.1} ms at most",
        of(0.5),
        of(1.0)
    );
}
