//! route: from a model's name to the version that answers.

use std::sync::Arc;

use access::Action;
use tokio::time::Instant;
use types::{Code, Refusal, Version, infer::InferRequest};

use super::Cleared;
use crate::{Ring, ring::Model};

/// A request with the version that answers it; made only here.
pub struct Route {
    cleared: Cleared,
    version: Version,
    /// Whether the caller named it.
    named: bool,
    /// Whether it stands beside the one that answers: a person sends requests there, or it answers a share of them.
    beside: bool,
}

impl Route {
    /// The version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether the caller named the version.
    pub(crate) fn is_named(&self) -> bool {
        self.named
    }

    /// The versions to ask now, the first that can be: who named none is not held to one that has stopped answering since.
    pub(crate) fn versions_of(&self, model: &Model) -> [Version; 2] {
        let current = if self.named { self.version } else { model.route.current };
        let still = self.beside && model.is_beside(self.version);
        [if still { self.version } else { current }, current]
    }

    /// The request.
    pub fn request(&self) -> &InferRequest {
        self.cleared.request()
    }

    /// How it matters inside its namespace.
    pub fn priority(&self) -> ::balance::gate::Priority {
        self.cleared.priority()
    }

    /// When the answer is due.
    pub fn deadline(&self) -> Instant {
        self.cleared.deadline()
    }

    /// The model's key.
    pub(crate) fn key(&self) -> rpc::orchestrator::ModelKey {
        (self.cleared.permit().namespace().clone(), self.cleared.request().model.clone())
    }

    pub(crate) fn held(&self) -> Option<&crate::restrictions::Held> {
        self.cleared.held()
    }

    pub(crate) fn model(&self) -> &Arc<Model> {
        self.cleared.model()
    }
}

/// Chooses the version: the one named, for callers who may pin; else the one that a person sends this caller or this share of the requests
/// to; else, by a draw, one that is to take over; else the one that answers now.
///
/// # Errors
/// `not_allowed` without the grant `pin`, `version_not_found` for a version that has no replica.
pub fn route(ring: &Ring, cleared: Cleared, named: Option<Version>) -> Result<Route, Refusal> {
    let model = cleared.model().clone();
    let named = named.or(cleared.request().version);
    let caller = cleared.permit().principal().caller();
    let beside = named.is_none().then(|| model.draw(caller)).flatten();
    let version = match named {
        None => beside.unwrap_or(model.route.current),
        Some(version) => {
            let permit = cleared.permit();
            ring.authorizer.authorize(permit.principal().clone(), Action::Pin, permit.resource().clone())?;
            if version != model.route.current && !model.has_replica(version) {
                return Err(Refusal::new(
                    Code::VersionNotFound,
                    format!("version {version} of `{}` has no replica", cleared.request().model),
                )
                .hint(format!("leave the version out: version {} answers", model.route.current)));
            }
            version
        }
    };
    Ok(Route { cleared, version, named: named.is_some(), beside: beside.is_some() })
}
