//! Replicas, a network and gateways, simulated event by event: whoever chooses gets the same requests, the same slow
//! moments and the same lost messages.

use std::{collections::VecDeque, time::Duration};

use balance::{
    Outcome,
    policy::{Ask, Claim, End, Policy},
    report::{Report, Reporter},
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use testkit::sim::{Events, Job, Station};

use crate::load::Arrival;

/// How long a message takes, in seconds: at least, and the mean of what is added.
const DELAY: (f64, f64) = (0.000_2, 0.000_3);
/// How long it takes until a message that was lost is sent again, in seconds: TCP's least, as Linux has it.
const AGAIN: f64 = 0.2;
/// How fast a cold replica works, and for how many mean works.
const COLD: (f64, f64) = (0.3, 200.0);

/// What befalls the replicas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// Nothing: all are alike.
    None,
    /// The first is five times slower.
    Slow,
    /// A quarter of them, each at its own moments, has a third of its speed for 10 s of every 20 s.
    Antagonist,
    /// A quarter joins cold after a third of the requests; another leaves after two thirds and ends what it has.
    Rolling,
    /// One message in a thousand is lost.
    Loss,
}

/// A fleet and what befalls it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene {
    pub(crate) replicas: usize,
    pub(crate) gateways: usize,
    pub(crate) fault: Fault,
    pub(crate) seed: u64,
}

impl Scene {
    /// What all replicas together get done, in those of speed 1.
    pub(crate) fn capacity(&self) -> f64 {
        let n = self.replicas as f64;
        let quarter = (self.replicas / 4).max(1) as f64;
        match self.fault {
            Fault::Slow => n - 0.8,
            Fault::Antagonist => n - quarter * (1.0 - 1.0 / 3.0) / 2.0,
            Fault::Rolling => n - quarter,
            Fault::None | Fault::Loss => n,
        }
    }
}

/// A replica's state that only a simulator knows.
struct Replica {
    station: Station,
    speed: Speed,
    reporter: Reporter,
    /// How it stood at the last tick that somebody may ask about.
    seen: (u64, Report),
    /// True work of those that wait, and when the one that runs is done.
    waits: f64,
    done_at: f64,
    here: VecDeque<(u64, f64)>,
    /// The attempt that is worked on.
    running: Option<u64>,
}

/// How fast a replica works, by time.
#[derive(Debug, Clone, Copy)]
struct Speed {
    base: f64,
    /// Phase of an antagonist.
    antagonist: Option<f64>,
    /// Until when it is cold.
    cold_until: f64,
}

impl Speed {
    /// The speed now, and when it may change.
    fn at(&self, now: f64) -> (f64, f64) {
        if now < self.cold_until {
            return (self.base * COLD.0, self.cold_until);
        }
        let Some(phase) = self.antagonist else { return (self.base, f64::INFINITY) };
        let turn = ((now + phase) / 10.0).floor();
        let factor = if turn % 2.0 == 0.0 { 1.0 / 3.0 } else { 1.0 };
        (self.base * factor, (turn + 1.0) * 10.0 - phase)
    }

    /// When work that begins now is done.
    fn done(&self, now: f64, mut work: f64) -> f64 {
        let mut now = now;
        loop {
            let (speed, until) = self.at(now);
            let until = until.max(now + 1e-6);
            if work <= (until - now) * speed {
                return now + work / speed;
            }
            work -= (until - now) * speed;
            now = until;
        }
    }
}

/// Who chooses: a policy that could run anywhere, or whoever knows the truth.
pub(crate) enum Chooser {
    Policies(Vec<Box<dyn Policy>>),
    Oracle,
}

/// What came of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) latency: f64,
    pub(crate) work: f64,
}

enum Event {
    Arrive,
    Reach(usize),
    Done(usize),
    Back(usize, Box<Report>, Option<Duration>),
    Heard(usize, usize),
}

/// An attempt at a request.
struct Attempt {
    request: usize,
    gateway: usize,
    place: usize,
    claim: Claim,
    began: Duration,
}

struct Run<'a> {
    scene: &'a Scene,
    arrivals: &'a [Arrival],
    chooser: &'a mut Chooser,
    rng: ChaCha8Rng,
    events: Events<Event>,
    replicas: Vec<Replica>,
    open: Vec<usize>,
    attempts: Vec<Attempt>,
    answers: Vec<Option<Answer>>,
    polled: Vec<Vec<u64>>,
    next: usize,
}

/// A draw of this run that is the same whoever chooses, from 0 to below 1.
fn draw(seed: u64, what: u64, number: u64) -> f64 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ what.wrapping_mul(0xd1b5_4a32_d192_ed03) ^ number;
    for _ in 0..2 {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
    }
    (x >> 11) as f64 / (1_u64 << 53) as f64
}

/// What came of each request, in order.
pub(crate) fn run(scene: &Scene, arrivals: &[Arrival], chooser: &mut Chooser) -> Vec<Answer> {
    let mean = arrivals.iter().map(|arrival| arrival.work).sum::<f64>() / arrivals.len().max(1) as f64;
    let quarter = (scene.replicas / 4).max(1);
    let replicas = (0..scene.replicas).map(|place| Replica {
        station: Station::new(1, 1.0),
        speed: Speed {
            base: if scene.fault == Fault::Slow && place == 0 { 0.2 } else { 1.0 },
            antagonist: (scene.fault == Fault::Antagonist && place < quarter)
                .then(|| draw(scene.seed, 1, place as u64) * 20.0),
            cold_until: 0.0,
        },
        reporter: Reporter::default(),
        seen: (0, Report::default()),
        waits: 0.0,
        done_at: 0.0,
        here: VecDeque::new(),
        running: None,
    });
    let late = if scene.fault == Fault::Rolling { quarter } else { 0 };
    let mut run = Run {
        scene,
        arrivals,
        chooser,
        rng: ChaCha8Rng::seed_from_u64(scene.seed ^ 0x6d61_6e74),
        events: Events::default(),
        replicas: replicas.collect(),
        open: (0..scene.replicas - late).collect(),
        attempts: Vec::new(),
        answers: vec![None; arrivals.len()],
        polled: vec![vec![0; scene.replicas]; scene.gateways],
        next: 0,
    };
    run.set(Duration::ZERO);
    if let Some(first) = arrivals.first() {
        run.events.after(Duration::from_secs_f64(first.at), Event::Arrive);
    }
    while let Some(event) = run.events.pop() {
        run.handle(event, mean);
    }
    run.answers.into_iter().flatten().collect()
}

impl Run<'_> {
    fn set(&mut self, now: Duration) {
        let keys: Vec<u64> = self.open.iter().map(|place| *place as u64).collect();
        if let Chooser::Policies(policies) = self.chooser {
            policies.iter_mut().for_each(|policy| policy.set(&keys, now));
        }
    }

    fn handle(&mut self, event: Event, mean: f64) {
        let now = self.events.now();
        match event {
            Event::Arrive => {
                self.change(mean, now);
                let request = self.next;
                self.next += 1;
                if let Some(next) = self.arrivals.get(self.next) {
                    self.events.after(Duration::from_secs_f64(next.at).saturating_sub(now), Event::Arrive);
                }
                self.attempt(request, now);
            }
            Event::Reach(attempt) => self.reach(attempt, now),
            Event::Done(place) => self.done(place, now),
            Event::Back(attempt, report, compute) => {
                self.end(attempt, compute, &report, now);
            }
            Event::Heard(gateway, place) => {
                let report = self.replicas[place].reporter.report(now);
                if let Chooser::Policies(policies) = self.chooser {
                    policies[gateway].heard(place as u64, &report, now);
                }
            }
        }
    }

    /// Replicas come and go.
    fn change(&mut self, mean: f64, now: Duration) {
        if self.scene.fault != Fault::Rolling {
            return;
        }
        let (all, quarter) = (self.scene.replicas, (self.scene.replicas / 4).max(1));
        if self.next == self.arrivals.len() / 3 {
            for place in all - quarter..all {
                self.replicas[place].speed.cold_until = now.as_secs_f64() + mean * COLD.1;
            }
            self.open = (0..all).collect();
            self.set(now);
        }
        if self.next == self.arrivals.len() * 2 / 3 {
            self.open = (quarter..all).collect();
            self.set(now);
        }
    }

    fn attempt(&mut self, request: usize, now: Duration) {
        let seed = self.scene.seed;
        let gateway = (draw(seed, 2, request as u64) * self.scene.gateways as f64) as usize;
        let arrival = self.arrivals[request];
        self.poll(gateway, now);
        let ask = Ask { size: arrival.size, rows: arrival.rows };
        let claim = match self.chooser {
            Chooser::Policies(policies) => policies[gateway].claim(&ask, now, &mut self.rng),
            Chooser::Oracle => {
                let place = oracle(&self.replicas, &self.open, arrival.work, now.as_secs_f64());
                Some(Claim { key: place as u64, id: 0, predicted: 0.0 })
            }
        };
        let Some(claim) = claim else { return };
        let place = claim.key as usize;
        if let Chooser::Oracle = self.chooser {
            self.replicas[place].here.push_back((request as u64, arrival.work));
            self.replicas[place].waits += arrival.work;
        }
        let id = self.attempts.len();
        self.attempts.push(Attempt { request, gateway, place, claim, began: now });
        self.events.after(self.delay(3, request as u64), Event::Reach(id));
        if let Chooser::Policies(policies) = self.chooser {
            for _ in 0..policies[gateway].listening().after_request {
                let asked = self.open[self.rng.random_range(0..self.open.len())];
                self.events.after(Duration::from_secs_f64(2.0 * DELAY.0 + DELAY.1), Event::Heard(gateway, asked));
            }
        }
    }

    /// Lets a gateway hear what replicas said at the last tick, as far as it has not heard it yet.
    fn poll(&mut self, gateway: usize, now: Duration) {
        let Chooser::Policies(policies) = self.chooser else { return };
        let Some(pause) = policies[gateway].listening().every else { return };
        let tick = (now.as_nanos() / pause.as_nanos()) as u64;
        for place in &self.open {
            let (replica, polled) = (&mut self.replicas[*place], &mut self.polled[gateway][*place]);
            if *polled == tick {
                continue;
            }
            *polled = tick;
            let lost = self.scene.fault == Fault::Loss && draw(tick, 5, *place as u64) < 0.001;
            if !lost {
                replica.look(tick, pause);
                policies[gateway].heard(*place as u64, &replica.seen.1, pause * tick as u32);
            }
        }
    }

    fn look(&mut self, place: usize, now: Duration) {
        let Chooser::Policies(policies) = self.chooser else { return };
        if let Some(pause) = policies[0].listening().every {
            self.replicas[place].look((now.as_nanos() / pause.as_nanos()) as u64, pause);
        }
    }

    fn reach(&mut self, attempt: usize, now: Duration) {
        let Attempt { place, claim, request, .. } = self.attempts[attempt];
        self.look(place, now);
        let replica = &mut self.replicas[place];
        replica.reporter.came(attempt as u64, claim.predicted, now);
        let job = Job { id: attempt as u64, work: self.arrivals[request].work };
        if replica.station.arrive(job).is_some() {
            self.begin(place, job, now);
        }
    }

    fn begin(&mut self, place: usize, job: Job, now: Duration) {
        let replica = &mut self.replicas[place];
        replica.reporter.began(job.id, now);
        replica.here.retain(|(request, _)| *request != self.attempts[job.id as usize].request as u64);
        replica.waits = replica.here.iter().map(|(_, work)| work).sum();
        replica.done_at = replica.speed.done(now.as_secs_f64(), job.work);
        let takes = Duration::from_secs_f64((replica.done_at - now.as_secs_f64()).max(0.0));
        self.events.after(takes, Event::Done(place));
        self.replicas[place].running = Some(job.id);
    }

    fn done(&mut self, place: usize, now: Duration) {
        self.look(place, now);
        let replica = &mut self.replicas[place];
        let Some(attempt) = replica.running.take() else { return };
        let compute = replica.reporter.done(attempt, now);
        let report = replica.reporter.report(now);
        if let Some((job, _)) = replica.station.done() {
            self.begin(place, job, now);
        }
        let back = Event::Back(attempt as usize, Box::new(report), compute);
        self.events.after(self.delay(4, attempt), back);
    }

    /// How long a message takes; longer where it is lost and sent again.
    fn delay(&self, what: u64, number: u64) -> Duration {
        let seed = self.scene.seed;
        let lost = self.scene.fault == Fault::Loss && draw(seed, what + 10, number) < 0.001;
        let again = if lost { AGAIN } else { 0.0 };
        Duration::from_secs_f64(DELAY.0 - DELAY.1 * (1.0 - draw(seed, what, number)).ln() + again)
    }

    fn end(&mut self, id: usize, compute: Option<Duration>, report: &Report, now: Duration) {
        let attempt = &self.attempts[id];
        let arrival = self.arrivals[attempt.request];
        if let Chooser::Policies(policies) = self.chooser {
            let ask = Ask { size: arrival.size, rows: arrival.rows };
            let (claim, began) = (attempt.claim, attempt.began);
            let end = End { claim, ask, began, outcome: Outcome::Answered, compute, report: Some(report) };
            policies[attempt.gateway].ended(&end, now);
        }
        let latency = now.as_secs_f64() - arrival.at;
        self.answers[attempt.request] = Some(Answer { latency, work: arrival.work });
    }
}

impl Replica {
    /// Keeps how it stood at this tick, before anything of it changes.
    fn look(&mut self, tick: u64, pause: Duration) {
        if self.seen.0 < tick {
            self.seen = (tick, self.reporter.report(pause * tick as u32));
        }
    }
}

/// The replica where work that comes now is done first, by the true work and speed of all.
fn oracle(replicas: &[Replica], open: &[usize], work: f64, now: f64) -> usize {
    let done = |place: &usize| {
        let replica = &replicas[*place];
        replica.speed.done(replica.done_at.max(now), replica.waits + work)
    };
    open.iter().copied().min_by(|a, b| done(a).total_cmp(&done(b))).unwrap_or(0)
}
