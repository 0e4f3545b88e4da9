//! identify: from a credential to a `Principal`.

use access::Principal;
use types::Refusal;

use super::Head;
use crate::Ring;

/// Who calls, acting in which namespace.
///
/// # Errors
/// `credential_missing`, `credential_invalid`, `credential_expired`, or a namespace that is not the caller's.
pub fn identify(ring: &Ring, head: &Head) -> Result<Principal, Refusal> {
    ring.identifier.identify(head.authorization.as_deref(), head.namespace.as_deref(), ring.clock.now())
}
