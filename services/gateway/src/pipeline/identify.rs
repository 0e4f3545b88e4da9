//! identify: from a credential to a `Principal`.

use access::{Credential, Principal};
use types::Refusal;

use super::Head;
use crate::Ring;

/// Who calls, acting in which namespace.
///
/// # Errors
/// `credential_missing`, `credential_invalid`, `credential_expired`, or a namespace that is not the caller's.
pub fn identify(ring: &Ring, head: &Head) -> Result<Principal, Refusal> {
    let credential = Credential { authorization: head.authorization.as_deref(), peer: head.peer.as_deref() };
    ring.identifier.identify(credential, head.namespace.as_deref(), ring.clock.now())
}
