//! Plans as people read them, each namespace its own.

use std::collections::BTreeMap;

use plan::{Planned, Room, ServerId, Step};
use rpc::orchestrator::{Action, Taken};
use types::Namespace;

use crate::journal::Entry;

/// Whose model servers are whose.
type Homes = BTreeMap<ServerId, Namespace>;

/// Whose a model server will be.
pub(crate) fn home(step: &Step) -> Option<(ServerId, Namespace)> {
    match step {
        Step::Start { server, namespace, .. } => Some((server.clone(), namespace.clone())),
        _ => None,
    }
}

/// A step as people read it, if it is about this namespace.
pub(crate) fn action(planned: Planned, namespace: &Namespace, homes: &Homes) -> Option<Action> {
    let Planned { step, why } = planned;
    let (step, of, replica, server) = match step {
        Step::Start { server, namespace, room, .. } => {
            let kind = if room == Room::One { "start" } else { "start shared" };
            (kind, Some(namespace), None, Some(server))
        }
        Step::Load { server, replica, .. } => ("load", None, Some(replica), Some(server)),
        Step::Unload { server, replica } => ("unload", None, Some(replica), Some(server)),
        Step::Route { replica, .. } => ("route", None, Some(replica), None),
        Step::Unroute { model } if model.namespace != *namespace => return None,
        Step::Unroute { model } => {
            let why = why.to_string();
            return Some(Action { step: "unroute".into(), model: Some(model.name), version: None, server: None, why });
        }
        Step::Drain { server } => ("drain", homes.get(&server).cloned(), None, Some(server)),
    };
    let of = of.or_else(|| replica.as_ref().map(|replica| replica.model.namespace.clone()));
    (of.as_ref() == Some(namespace)).then(|| Action {
        step: step.into(),
        version: replica.as_ref().map(|replica| replica.version),
        model: replica.map(|replica| replica.model.name),
        server: server.map(|server| server.0),
        why: why.to_string(),
    })
}

/// A step that was taken, if it is about this namespace.
pub(crate) fn taken(entry: Entry, namespace: &Namespace, homes: &Homes) -> Option<Taken> {
    let Entry { planned, begun, outcome } = entry;
    Some(Taken { action: action(planned, namespace, homes)?, begun, outcome })
}
