//! The supervisor's trait: it alone holds the CA's key, and it alone writes the files of keys.

use serde::{Deserialize, Serialize};
use types::{CallerName, KeyKind, Namespace, Timestamp};
use zeroize::Zeroizing;

use crate::model_server::Renewal;

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

/// The keys that sign, newest first; for the registry alone.
#[derive(Clone, Serialize, Deserialize)]
pub struct Keyring {
    /// The key that signs bundles.
    pub bundle: Zeroizing<String>,
    /// Public keys that bundles may be signed with, PEM.
    pub bundles: Vec<String>,
    /// The keys that sign checkpoints; each signs every one.
    pub log: Vec<Zeroizing<String>>,
    /// The CA's own certificates, PEM.
    pub ca: Vec<String>,
}

/// Replaces a key, or ends the overlap of the one before.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ChangeKey {
    /// Which.
    pub key: KeyKind,
    /// Whether the one before ends, instead of a new one beginning.
    pub retire: bool,
}

service! {
    /// Certificates of the node's CA, and the node's keys.
    pub trait Supervisor, client SupervisorClient, router supervisor_router, path "mantlet.Supervisor" {
        /// Makes a caller's certificate.
        fn certify(Certify) -> Certified;
        /// Makes a certificate for a service or a model server, by the path of its SPIFFE id.
        fn identity(String) -> Renewal;
        /// Makes a certificate for the public port.
        fn port(()) -> Renewal;
        /// Public keys that bundles may be signed with, PEM, newest first.
        fn bundle_keys(()) -> Vec<String>;
        /// The keys that sign.
        fn keyring(()) -> Keyring;
        /// Changes a key durably; the keys that sign from now on.
        fn change_key(ChangeKey) -> Keyring;
    }
}
