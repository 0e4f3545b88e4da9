//! An independent audit of a plan: it knows the rules, not how plans are made.

use std::collections::BTreeSet;

use crate::{Inputs, Plan, State, Step};

/// What is wrong with a plan; empty when nothing is.
pub fn check(inputs: &Inputs, plan: &Plan) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut drained = BTreeSet::new();
    let mut started = BTreeSet::new();
    for step in &plan.steps {
        match step {
            Step::Start { server, model, version, digest } => {
                if !started.insert(server) || inputs.servers.contains_key(server) {
                    wrong.push(format!("the id {} is used twice", server.0));
                }
                let wished = inputs.wishes.get(model).is_some_and(|w| (w.version, w.digest) == (*version, *digest));
                let current =
                    inputs.wishes.contains_key(model) && inputs.current.get(model) == Some(&(*version, *digest));
                if !wished && !current {
                    wrong.push(format!("{}/{} {version} is started and nobody wants it", model.namespace, model.name));
                }
            }
            Step::Drain { server } => match inputs.servers.get(server) {
                None => wrong.push(format!("{} is drained and does not exist", server.0)),
                Some(found) if found.state == State::Draining || !drained.insert(server) => {
                    wrong.push(format!("{} is drained twice", server.0));
                }
                Some(_) => {}
            },
            Step::Route { model, version, .. } => {
                if inputs.wishes.get(model).map(|wish| wish.version) != Some(*version) {
                    wrong
                        .push(format!("{}/{} is routed to {version}, which nobody wants", model.namespace, model.name));
                }
            }
            Step::Unroute { model } => {
                if inputs.wishes.contains_key(model) {
                    wrong.push(format!("{}/{} is wanted and loses its route", model.namespace, model.name));
                }
            }
        }
    }
    wrong.extend(last_ready_drained(inputs, plan, &drained));
    wrong
}

/// A model that answers and is wanted never loses its last ready replica to a plan.
fn last_ready_drained(inputs: &Inputs, plan: &Plan, drained: &BTreeSet<&crate::ServerId>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (model, wish) in inputs.wishes.iter().filter(|(_, wish)| wish.replicas > 0) {
        let routed = plan.steps.iter().find_map(|step| match step {
            Step::Route { model: routed, version, .. } if routed == model => Some(*version),
            _ => None,
        });
        let before = inputs.current.get(model).map(|(version, _)| *version);
        let Some(answers) = routed.or(before) else { continue };
        let ready = |version, spare: bool| {
            inputs.servers.iter().any(|(id, server)| {
                server.model == *model
                    && server.version == version
                    && server.state == State::Ready
                    && (!spare || !drained.contains(id))
            })
        };
        let had = before.is_some_and(|version| ready(version, false));
        if had && !ready(answers, true) {
            wrong.push(format!(
                "{}/{} loses its last ready replica (wanted: {})",
                model.namespace, model.name, wish.version
            ));
        }
    }
    wrong
}
