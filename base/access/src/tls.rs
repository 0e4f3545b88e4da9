//! Every TLS setting there is: the public port, clients of a node, and mTLS between services.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

use types::Timestamp;

use crate::{Identity, authority};

/// TLS settings that can't be made.
#[derive(Debug, thiserror::Error)]
#[error("TLS: {0}")]
pub struct Error(String);

fn wrong(error: impl std::fmt::Display) -> Error {
    Error(error.to_string())
}

/// Makes aws-lc-rs the one crypto provider of the process; call it first in `main`.
pub fn install_provider() {
    // A second call finds the same provider in place already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Settings of the public port: TLS 1.3, HTTP/2 and HTTP/1.1; client certificates of this CA are asked for, and not
/// required.
///
/// # Errors
/// When certificate or key can't be read.
pub fn public_server(identity: &Identity, ca: &str) -> Result<ServerConfig, Error> {
    let (chain, key) = read(identity)?;
    let verifier =
        WebPkiClientVerifier::builder(Arc::new(roots(ca)?)).allow_unauthenticated().build().map_err(wrong)?;
    let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(wrong)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Settings of a service's own door: TLS 1.3, HTTP/2, client certificates of this CA required.
///
/// # Errors
/// When certificate or key can't be read.
pub fn service_server(identity: &Identity, ca: &str) -> Result<ServerConfig, Error> {
    let (chain, key) = read(identity)?;
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots(ca)?)).build().map_err(wrong)?;
    let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(wrong)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Settings of a service that calls another: TLS 1.3, its own certificate, servers of this CA only.
///
/// # Errors
/// When certificate or key can't be read.
pub fn service_client(identity: &Identity, ca: &str) -> Result<ClientConfig, Error> {
    let (chain, key) = read(identity)?;
    let mut config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots(ca)?)
        .with_client_auth_cert(chain, key)
        .map_err(wrong)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Both sides of a service's own TLS: as its clients and its servers see it.
pub struct ServiceTls {
    /// For its door.
    pub server: Arc<ServerConfig>,
    /// For the doors of others.
    pub client: Arc<ClientConfig>,
}

impl ServiceTls {
    /// Settings that show this identity and trust this CA.
    ///
    /// # Errors
    /// When certificate or key can't be read.
    pub fn new(identity: &Identity, ca: &str) -> Result<Self, Error> {
        Ok(Self { server: Arc::new(service_server(identity, ca)?), client: Arc::new(service_client(identity, ca)?) })
    }
}

/// Settings of a client of the public port that trusts this CA only.
///
/// # Errors
/// When the CA can't be read.
pub fn public_client(ca: &str) -> Result<ClientConfig, Error> {
    Ok(ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots(ca)?)
        .with_no_client_auth())
}

/// Settings of a client of the public port that shows a certificate.
///
/// # Errors
/// When a certificate or the key can't be read.
pub fn public_client_with(identity: &Identity, ca: &str) -> Result<ClientConfig, Error> {
    let mut config = service_client(identity, ca)?;
    config.alpn_protocols.clear();
    Ok(config)
}

/// Who showed a certificate of this CA, and for how long it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The path in its SPIFFE id.
    pub path: String,
    /// Its common name: for a caller, the id of the token it was issued beside.
    pub name: String,
    /// Until when.
    pub until: Timestamp,
}

/// The peer that showed this chain, which the handshake has verified; none unless it has exactly one SPIFFE id of ours.
pub fn peer(certificates: Option<&[CertificateDer<'_>]>) -> Option<Peer> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificates?.first()?).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut ids = names.value.general_names.iter().filter_map(|name| match name {
        x509_parser::extensions::GeneralName::URI(uri) => uri.strip_prefix(&authority::spiffe_id("")),
        _ => None,
    });
    let path = ids.next()?.to_owned();
    if ids.next().is_some() {
        return None;
    }
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let until = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0).saturating_mul(1000);
    Some(Peer { path, name: name.unwrap_or_default().to_owned(), until: Timestamp(until) })
}

/// The path in the SPIFFE id of a peer's certificate.
pub fn peer_path(certificates: Option<&[CertificateDer<'_>]>) -> Option<String> {
    peer(certificates).map(|peer| peer.path)
}

fn roots(ca: &str) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        store.add(certificate.map_err(wrong)?).map_err(wrong)?;
    }
    if store.is_empty() { Err(Error("the CA file holds no certificate".into())) } else { Ok(store) }
}

fn read(identity: &Identity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(identity.chain.as_bytes()).collect::<Result<_, _>>().map_err(wrong)?;
    if chain.is_empty() {
        return Err(Error("the certificate file holds no certificate".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(wrong)?;
    Ok((chain, key))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Authority;

    #[test]
    fn a_service_is_known_by_its_spiffe_path() {
        install_provider();
        let now = Timestamp(1_700_000_000_000);
        let ca = Authority::generate(now).unwrap();
        let identity = ca.service("default/model-server/m1", now, Duration::from_secs(60)).unwrap();
        let (chain, _) = read(&identity).unwrap();
        assert_eq!(peer_path(Some(&chain)).as_deref(), Some("default/model-server/m1"));
        let public = ca.server(&[], now).unwrap();
        assert_eq!(peer_path(Some(&read(&public).unwrap().0)), None);
        assert!(service_server(&identity, &ca.certificate()).is_ok());
        assert!(service_client(&identity, &ca.certificate()).is_ok());
        assert!(public_server(&public, &ca.certificate()).is_ok());
        assert!(public_client("").is_err());
    }
}
