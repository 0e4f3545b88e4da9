//! The supervisor's trait: it alone holds the CA's key.

use serde::{Deserialize, Serialize};
use types::{CallerName, Namespace, Timestamp};

/// Asks for a caller's certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Certify {
    /// The caller's namespace.
    pub namespace: Namespace,
    /// The caller.
    pub caller: CallerName,
    /// The id of its token, beside which the certificate holds.
    pub token: String,
    /// Its own request, PKCS#10 in PEM; only the public key in it counts.
    pub request: String,
    /// Until when the certificate shall hold.
    pub until: Timestamp,
}

/// A certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Certified {
    /// The certificate, PEM.
    pub certificate: String,
}

service! {
    /// Certificates of the node's CA.
    pub trait Supervisor, client SupervisorClient, router supervisor_router, path "mantlet.Supervisor" {
        /// Makes a caller's certificate.
        fn certify(Certify) -> Certified;
    }
}
