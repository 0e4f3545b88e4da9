//! What would happen from here on, if nothing fails.

use types::Timestamp;

use crate::{Current, Inputs, Planned, Room, Server, ServerId, State, Step, plan};

/// Rounds of planning that are looked ahead; every world settles in fewer.
const ROUNDS: usize = 8;

/// The steps from here on, round by round, as if each went well at once: what is loaded answers, what is let go is gone.
pub fn foresee(inputs: &Inputs, now: Timestamp, name: &mut dyn FnMut() -> ServerId) -> Vec<Vec<Planned>> {
    let mut inputs = inputs.clone();
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (plan, _) = plan(&inputs, 0, now, name);
        for planned in &plan.steps {
            carry_out(&mut inputs, &planned.step, State::Ready);
        }
        let waited = settle(&mut inputs);
        if plan.steps.is_empty() && !waited {
            break;
        }
        if !plan.steps.is_empty() {
            rounds.push(plan.steps);
        }
    }
    rounds
}

/// What loads is ready and what drains is gone; whether there was any such thing.
fn settle(inputs: &mut Inputs) -> bool {
    let before = inputs.servers.clone();
    inputs.servers.retain(|_, server| !server.draining);
    for server in inputs.servers.values_mut() {
        server.replicas.retain(|_, state| *state != State::Draining);
        server.replicas.values_mut().for_each(|state| *state = State::Ready);
    }
    inputs.servers != before
}

/// Changes the world as a step does when it goes well; `loaded` is how far a loaded replica is then.
pub(crate) fn carry_out(inputs: &mut Inputs, step: &Step, loaded: State) {
    let servers = &mut inputs.servers;
    match step.clone() {
        Step::Start { server, namespace, room, outward, .. } => {
            servers.insert(server, Server::empty(namespace, room, outward));
        }
        Step::Load { server, replica, .. } => {
            if let Some(held) = servers.get_mut(&server) {
                held.replicas.insert(replica, loaded);
            }
        }
        Step::Route { replica, digest } => {
            let needs = inputs.wishes.get(&replica.model).map(|wish| wish.needs).unwrap_or_default();
            inputs.current.insert(replica.model, Current { version: replica.version, digest, needs });
        }
        Step::Unroute { model } => {
            inputs.current.remove(&model);
        }
        Step::Unload { server, replica } => {
            if let Some(held) = servers.get_mut(&server).filter(|held| held.room == Room::Many) {
                held.replicas.remove(&replica);
            }
        }
        Step::Drain { server } => {
            servers.remove(&server);
        }
    }
}
