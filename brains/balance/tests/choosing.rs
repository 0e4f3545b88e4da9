//! The learnt rule beside its champion and plain ones, in the fleet of the bench: same requests, same slow moments.

#[path = "../examples/balance_bench/fleet.rs"]
mod fleet;
#[path = "../examples/balance_bench/load.rs"]
#[expect(dead_code, reason = "the bench uses more of it")]
mod load;
#[path = "../examples/balance_bench/subjects.rs"]
mod subjects;

use fleet::{Fault, Scene};

/// p99 and mean slowdown of a subject on drawn requests, and requests until it handed back.
fn run(subject: &str, fault: Fault, gateways: usize, seed: u64) -> (f64, f64, f64) {
    let scene = Scene { replicas: 4, gateways, fault, seed };
    let arrivals = load::drawn().at(0.8 * scene.capacity(), seed, true);
    let (mut chooser, watch) = subjects::chooser(subject, &scene);
    let answers = fleet::run(&scene, &arrivals, &mut chooser);
    assert_eq!(answers.len(), arrivals.len(), "each request is answered");
    assert!(watch.explored() <= 0.005);
    let mut latencies: Vec<f64> = answers[1_000..].iter().map(|answer| answer.latency).collect();
    latencies.sort_unstable_by(f64::total_cmp);
    let slowdown = answers.iter().map(|answer| answer.latency / answer.work).sum::<f64>() / answers.len() as f64;
    (latencies[latencies.len() * 99 / 100], slowdown, watch.handed_back())
}

#[test]
fn a_slow_replica_costs_half_of_what_it_costs_least_request() {
    for gateways in [1, 4] {
        let ours = run("ours", Fault::Slow, gateways, 1).0;
        assert!(ours <= 0.55 * run("least request", Fault::Slow, gateways, 1).0);
        assert!(ours <= run("prequal", Fault::Slow, gateways, 1).0);
    }
}

#[test]
fn between_least_request_and_the_oracle_it_is_nearer_than_the_champion() {
    for fault in [Fault::None, Fault::Antagonist, Fault::Rolling, Fault::Loss] {
        let [ours, champion, oracle] = ["ours", "p2c", "oracle"].map(|subject| run(subject, fault, 1, 2).0);
        assert!(oracle <= ours * 1.02 && ours <= champion, "{fault:?}: {oracle} {ours} {champion}");
    }
}

#[test]
fn garbage_is_handed_back_and_costs_little() {
    let (_, slowdown, handed_back) = run("garbage", Fault::None, 1, 3);
    assert!(handed_back <= 1_000.0, "{handed_back}");
    assert!(slowdown <= 1.1 * run("p2c", Fault::None, 1, 3).1);
}

#[test]
fn a_run_is_the_same_again() {
    assert_eq!(run("ours", Fault::Antagonist, 4, 5), run("ours", Fault::Antagonist, 4, 5));
}
