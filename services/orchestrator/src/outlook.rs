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
    let (step, replica, server) = match step {
        Step::Start { server, room: Room::One, .. } => ("start", None, Some(server)),
        Step::Start { server, room: Room::Many, .. } => ("start shared", None, Some(server)),
        Step::Load { server, replica, .. } => ("load", Some((replica.model, Some(replica.version))), Some(server)),
        Step::Unload { server, replica } => ("unload", Some((replica.model, Some(replica.version))), Some(server)),
        Step::Route { replica, .. } => ("route", Some((replica.model, Some(replica.version))), None),
        Step::Unroute { model } => ("unroute", Some((model, None)), None),
        Step::Drain { server } => ("drain", None, Some(server)),
    };
    let (model, version) = replica.unzip();
    let home = match (&model, &server) {
        (Some(model), _) => Some(&model.namespace),
        (None, server) => server.as_ref().and_then(|server| homes.get(server)),
    };
    (home == Some(namespace)).then(|| Action {
        step: step.into(),
        model: model.map(|model| model.name),
        version: version.flatten(),
        server: server.map(|server| server.0),
        why: why.to_string(),
    })
}

/// A step that was taken, if it is about this namespace.
pub(crate) fn taken(entry: Entry, namespace: &Namespace, homes: &Homes) -> Option<Taken> {
    let Entry { planned, begun, outcome } = entry;
    Some(Taken { action: action(planned, namespace, homes)?, begun, outcome })
}
