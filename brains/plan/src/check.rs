//! An independent audit of a plan: it knows the rules, not how plans are made.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Inputs, Plan, Replica, Room, Server, ServerId, State, Step, Wish};

/// What is wrong with a plan; empty when nothing is.
pub fn check(inputs: &Inputs, plan: &Plan) -> Vec<String> {
    let mut audit = Audit { inputs, servers: inputs.servers.clone(), let_go: BTreeSet::new(), wrong: Vec::new() };
    for planned in &plan.steps {
        audit.step(&planned.step);
    }
    audit.last_ready(plan);
    audit.wrong
}

struct Audit<'a> {
    inputs: &'a Inputs,
    /// The servers as they are after the steps so far.
    servers: BTreeMap<ServerId, Server>,
    /// Replicas that the steps so far let go of.
    let_go: BTreeSet<(ServerId, Replica)>,
    wrong: Vec<String>,
}

impl Audit<'_> {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Start { server, namespace, room, outward, .. } => {
                let empty = Server::empty(namespace.clone(), *room, *outward);
                if self.servers.insert(server.clone(), empty).is_some() {
                    self.wrong.push(format!("the id {} is used twice", server.0));
                }
            }
            Step::Load { server, replica, .. } => self.load(server, replica),
            Step::Unload { server, replica } => {
                let there = self.servers.get(server).is_some_and(|s| s.room == Room::Many);
                if !there || !self.let_go_of(server, replica) {
                    self.wrong.push(format!("{replica:?} can't be unloaded from {}", server.0));
                }
            }
            Step::Drain { server } => self.drain(server),
            Step::Route { replica, .. } => {
                if self.inputs.wishes.get(&replica.model).map(|wish| wish.version) != Some(replica.version) {
                    self.wrong.push(format!("{replica:?} is routed, which nobody wants"));
                }
            }
            Step::Unroute { model } => {
                if self.inputs.wishes.contains_key(model) {
                    self.wrong.push(format!("{model:?} is wanted and loses its route"));
                }
            }
        }
    }

    fn load(&mut self, server: &ServerId, replica: &Replica) {
        let wish = self.inputs.wishes.get(&replica.model);
        let current = self.inputs.current.get(&replica.model).map(|current| current.version);
        let shadows =
            |wish: &Wish| wish.shadow.iter().chain(&wish.split).any(|beside| beside.of.version == replica.version);
        let fits = |wish: &Wish| wish.version == replica.version || current == Some(replica.version) || shadows(wish);
        if !wish.is_some_and(fits) {
            self.wrong.push(format!("{replica:?} is loaded and nobody wants it"));
        }
        let Some(found) = self.servers.get_mut(server).filter(|found| !found.draining) else {
            self.wrong.push(format!("{replica:?} is loaded into {}, which is not there", server.0));
            return;
        };
        if found.namespace != replica.model.namespace {
            self.wrong.push(format!("{replica:?} is loaded beside another namespace's"));
        }
        if wish.is_some_and(|wish| wish.version == replica.version && wish.needs.outward != found.outward) {
            self.wrong.push(format!("{replica:?} is loaded into a server of another kind"));
        }
        if found.room == Room::One && !found.replicas.is_empty() {
            self.wrong.push(format!("{replica:?} is loaded into {}, which has no room", server.0));
        }
        if found.replicas.insert(replica.clone(), State::Starting).is_some() {
            self.wrong.push(format!("{replica:?} is loaded twice into {}", server.0));
        }
    }

    fn drain(&mut self, server: &ServerId) {
        let Some(found) = self.servers.get_mut(server).filter(|found| !found.draining) else {
            self.wrong.push(format!("{} is drained and not there", server.0));
            return;
        };
        found.draining = true;
        let replicas: Vec<Replica> = found.replicas.keys().cloned().collect();
        for replica in replicas {
            self.let_go_of(server, &replica);
        }
    }

    /// Whether it was there, and not let go of before.
    fn let_go_of(&mut self, server: &ServerId, replica: &Replica) -> bool {
        let state = self.servers.get(server).and_then(|found| found.replicas.get(replica));
        state.is_some_and(|state| *state != State::Draining) && self.let_go.insert((server.clone(), replica.clone()))
    }

    /// A model that answers and is wanted never loses its last ready replica to a plan.
    fn last_ready(&mut self, plan: &Plan) {
        for (model, wish) in self.inputs.wishes.iter().filter(|(_, wish)| wish.replicas > 0) {
            let routed = plan.steps.iter().find_map(|planned| match &planned.step {
                Step::Route { replica, .. } if replica.model == *model => Some(replica.version),
                _ => None,
            });
            let before = self.inputs.current.get(model).map(|current| current.version);
            let Some(answers) = routed.or(before) else { continue };
            let ready = |version, spare: bool| {
                let replica = Replica { model: model.clone(), version };
                self.inputs.servers.iter().any(|(id, server)| {
                    !server.draining
                        && server.replicas.get(&replica) == Some(&State::Ready)
                        && !(spare && self.let_go.contains(&(id.clone(), replica.clone())))
                })
            };
            if before.is_some_and(|version| ready(version, false)) && !ready(answers, true) {
                self.wrong.push(format!("{model:?} loses its last ready replica (wanted: {})", wish.version));
            }
        }
    }
}
