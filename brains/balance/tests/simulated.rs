//! Pool and gate under simulated load: against their plain twins, and against what is possible.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::{collections::BTreeMap, time::Duration};

use balance::{
    Gate, Outcome, Pool,
    gate::{Ask, Entry, Priority, Served, Verdict},
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use testkit::sim::{Events, Job, Load, Station, quantile};

const SERVICE: f64 = 0.005;

/// Latencies of jobs on replicas of one worker each with these speeds, at this share of what they can take together.
fn balanced(speeds: &[f64], load: f64, seed: u64, pool: bool) -> Vec<Duration> {
    enum Event {
        Arrive,
        Done(u64),
    }
    let mut stations: Vec<Station> = speeds.iter().map(|speed| Station::new(1, *speed)).collect();
    let load = Load { rate: load * speeds.iter().sum::<f64>() / SERVICE, work: SERVICE, spread: 0.5 };
    let (mut events, mut draws) = (Events::default(), ChaCha8Rng::seed_from_u64(seed));
    let mut rng = ChaCha8Rng::seed_from_u64(seed + 1);
    let mut replicas = Pool::new(Duration::ZERO);
    replicas.set(&(0..speeds.len()).collect::<Vec<_>>(), Duration::ZERO);
    let (mut open, mut latencies, mut next) = (BTreeMap::new(), Vec::new(), 0);
    events.after(Duration::ZERO, Event::Arrive);
    while latencies.len() < 30_000 {
        let event = events.pop().unwrap();
        let now = events.now();
        let started = match event {
            Event::Arrive => {
                let (pause, work) = load.draw(&mut draws);
                events.after(pause, Event::Arrive);
                let place = if pool {
                    replicas.claim(&[], now, &mut rng).unwrap()
                } else {
                    // The plain twin: the less busy one of two.
                    let (a, b) = (rng.random_range(0..stations.len()), rng.random_range(0..stations.len()));
                    if stations[a].jobs() <= stations[b].jobs() { a } else { b }
                };
                let job = Job { id: next, work };
                next += 1;
                open.insert(job.id, (place, now));
                stations[place].arrive(job).map(|takes| (job, takes))
            }
            Event::Done(id) => {
                let (place, began) = open.remove(&id).unwrap();
                if pool {
                    replicas.ended(&place, began, now, Outcome::Answered);
                }
                latencies.push(now - began);
                stations[place].done()
            }
        };
        if let Some((job, takes)) = started {
            events.after(takes, Event::Done(job.id));
        }
    }
    latencies
}

/// p99 with the pool over p99 with its twin, over some seeds: the middle and the worst.
fn ratio(speeds: &[f64], load: f64) -> (f64, f64) {
    let mut ratios: Vec<f64> = (0..5)
        .map(|seed| {
            let p99 = |pool| quantile(&mut balanced(speeds, load, seed, pool), 0.99).as_secs_f64();
            p99(true) / p99(false)
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    (ratios[2], ratios[4])
}

#[test]
fn one_slow_replica_of_four_is_avoided() {
    for load in [0.5, 0.8] {
        let (middle, worst) = ratio(&[1.0, 1.0, 1.0, 0.2], load);
        assert!(middle <= 0.6 && worst <= 0.8, "at {load}: {middle:.2}, at worst {worst:.2}");
    }
}

#[test]
fn equal_replicas_are_served_about_as_well_as_by_the_twin() {
    for (replicas, load) in [(4, 0.5), (4, 0.8), (16, 0.8)] {
        let (middle, _) = ratio(&vec![1.0; replicas], load);
        assert!(middle <= 1.25, "{replicas} at {load}: {middle:.2}");
    }
}

/// A caller's flood at the gate of a machine.
struct Flood {
    namespace: u8,
    model: u8,
    priority: Priority,
    load: Load,
}

impl Flood {
    fn who(&self) -> (u8, Priority) {
        (self.namespace, self.priority)
    }
}

/// What a namespace got for one priority.
#[derive(Debug, Default)]
struct Got {
    offered: u64,
    /// Answers inside the deadline.
    good: u64,
    latencies: Vec<Duration>,
    shed: u64,
}

/// Two cores that all models share; `deadline` for each request. With or without a gate before them.
fn gated(floods: &[Flood], deadline: Duration, seconds: u64, gate: bool) -> BTreeMap<(u8, Priority), Got> {
    enum Event {
        Arrive(usize),
        Done(u64),
        Late(u64),
    }
    let (mut events, mut cores) = (Events::default(), Station::new(2, 1.0));
    let mut doors: Gate<u8, u8> = Gate::new(2);
    let mut draws: Vec<_> = (0..floods.len() as u64).map(|n| ChaCha8Rng::seed_from_u64(11 + n)).collect();
    let (mut next, mut got) = (0_u64, BTreeMap::<(u8, Priority), Got>::new());
    // Job → (ticket, flood, came, sent, work), and ticket → job.
    let (mut jobs, mut tickets) = (BTreeMap::new(), BTreeMap::new());
    (0..floods.len()).for_each(|flood| events.after(Duration::ZERO, Event::Arrive(flood)));
    while let Some(event) = events.pop() {
        let now = events.now();
        if now > Duration::from_secs(seconds) {
            break;
        }
        let mut sent: Vec<u64> = Vec::new();
        let mut verdicts = Vec::new();
        match event {
            Event::Arrive(flood) => {
                let Flood { namespace, model, priority, load } = floods[flood];
                let (pause, work) = load.draw(&mut draws[flood]);
                events.after(pause, Event::Arrive(flood));
                let job = next;
                next += 1;
                got.entry((namespace, priority)).or_default().offered += 1;
                if gate {
                    let ask = Ask { namespace, model, rows: 1, priority, deadline: now + deadline };
                    let (entry, others) = doors.enter(ask, now);
                    verdicts.extend(others);
                    match entry {
                        Entry::Admitted(ticket) => {
                            jobs.insert(job, (Some(ticket), flood, now, now, work));
                            sent.push(job);
                        }
                        Entry::Waiting(ticket) => {
                            tickets.insert(ticket.id, job);
                            jobs.insert(job, (Some(ticket), flood, now, now, work));
                            events.after(deadline, Event::Late(job));
                        }
                        Entry::Shed(_) => got.entry((namespace, priority)).or_default().shed += 1,
                    }
                } else {
                    jobs.insert(job, (None, flood, now, now, work));
                    sent.push(job);
                }
            }
            Event::Done(job) => {
                let (ticket, flood, came, began, work) = jobs.remove(&job).unwrap();
                let got = got.entry(floods[flood].who()).or_default();
                got.good += u64::from(now - came <= deadline);
                got.latencies.push(now - came);
                if let Some(ticket) = ticket {
                    let compute = Duration::from_secs_f64(work);
                    verdicts.extend(doors.leave(
                        &ticket,
                        Some(Served { latency: now - began, compute, queued: None, batch: 1, cost: compute }),
                        now,
                    ));
                }
                if let Some((job, takes)) = cores.done() {
                    events.after(takes, Event::Done(job.id));
                }
            }
            Event::Late(job) => {
                if let Some((Some(ticket), ..)) = jobs.get(&job)
                    && tickets.remove(&ticket.id).is_some()
                {
                    verdicts.extend(doors.cancel(&ticket.clone(), now));
                    jobs.remove(&job);
                }
            }
        }
        for (id, verdict) in verdicts {
            let job = tickets.remove(&id).unwrap();
            if verdict == Verdict::Admitted {
                jobs.get_mut(&job).unwrap().3 = now;
                sent.push(job);
            } else {
                let (_, flood, ..) = jobs.remove(&job).unwrap();
                got.entry(floods[flood].who()).or_default().shed += 1;
            }
        }
        for job in sent {
            let work = jobs[&job].4;
            if let Some(takes) = cores.arrive(Job { id: job, work }) {
                events.after(takes, Event::Done(job));
            }
        }
    }
    got
}

#[test]
fn five_times_more_than_possible_still_gives_what_is_possible() {
    let load = Load { rate: 5.0 * 2.0 / SERVICE, work: SERVICE, spread: 0.3 };
    let floods = || [Flood { namespace: 1, model: 1, priority: Priority::Normal, load }];
    let deadline = Duration::from_millis(100);
    let possible = 60.0 * 2.0 / SERVICE;
    let mut got = gated(&floods(), deadline, 60, true).remove(&(1, Priority::Normal)).unwrap();
    let share = got.good as f64 / possible;
    assert!(share >= 0.95, "{share:.3} of what is possible");
    let p99 = quantile(&mut got.latencies, 0.99);
    assert!(p99 <= deadline * 11 / 10, "{p99:?}");
    assert!(got.shed > got.offered / 2);
    let open = gated(&floods(), deadline, 60, false).remove(&(1, Priority::Normal)).unwrap();
    assert!((open.good as f64) < possible * 0.05, "without a gate nobody is answered in time: {}", open.good);
}

#[test]
fn a_flooding_namespace_takes_little_from_another() {
    // One asks for a quarter of the machine; the other for ten times the machine, over four models.
    let modest = Load { rate: 0.25 * 2.0 / SERVICE, work: SERVICE, spread: 0.3 };
    let flood = Load { rate: 2.5 * 2.0 / SERVICE, ..modest };
    let modest = || Flood { namespace: 1, model: 1, priority: Priority::Normal, load: modest };
    let deadline = Duration::from_millis(200);
    let alone = gated(&[modest()], deadline, 60, true).remove(&(1, Priority::Normal)).unwrap();
    let floods: Vec<_> = (2..6)
        .map(|model| Flood { namespace: 2, model, priority: Priority::Normal, load: flood })
        .chain([modest()])
        .collect();
    let beside = gated(&floods, deadline, 60, true).remove(&(1, Priority::Normal)).unwrap();
    let share = beside.good as f64 / beside.offered as f64;
    assert!(share >= 0.9 * alone.good as f64 / alone.offered as f64, "{share:.3}, {} shed", beside.shed);
}

#[test]
fn what_matters_most_is_answered_under_five_times_the_load() {
    let load = |share: f64| Load { rate: share * 2.0 / SERVICE, work: SERVICE, spread: 0.3 };
    let high = Flood { namespace: 1, model: 1, priority: Priority::High, load: load(0.3) };
    let rest = [Priority::Normal, Priority::Low];
    let rest = rest.map(|priority| Flood { namespace: 1, model: 1, priority, load: load(2.35) });
    let floods: Vec<_> = rest.into_iter().chain([high]).collect();
    let got = gated(&floods, Duration::from_millis(100), 60, true);
    let share = |priority| {
        let got = &got[&(1, priority)];
        got.good as f64 / got.offered as f64
    };
    let [high, normal, low] = [Priority::High, Priority::Normal, Priority::Low].map(share);
    assert!(high >= 0.99 && normal > 0.2 && low < 0.05, "{high:.3} {normal:.3} {low:.3}");
}
