//! authorize: from a `Principal` to a `Permit` to predict with one model.

use access::{Action, Permit, Principal, Resource};
use types::{ModelName, Refusal};

use crate::Ring;

/// Whether the policies let this principal predict with this model, which need not exist.
///
/// # Errors
/// `not_allowed`, or `model_not_found` in a namespace that is not the principal's.
pub fn authorize(ring: &Ring, principal: Principal, model: ModelName) -> Result<Permit, Refusal> {
    let resource = Resource::Model(principal.namespace().clone(), model);
    ring.authorizer.authorize(principal, Action::Predict, resource)
}
