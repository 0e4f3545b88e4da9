//! Requests that were refused before anybody knew whose they are, or that were for nothing there is: who knocks, and where.
//!
//! Predictions of known callers are seen where they are recorded. Everything else that ends with a 4xx is seen here: counted for
//! the caller, where its credential is good, else for the address that it came from. An address shows nothing of who is behind
//! it, so all that can be held against one is a pace, and only for requests without a credential.

use std::{net::IpAddr, sync::Arc};

use access::{Credential, tls::Peer};
use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, header};
use types::defence::Subject;

use super::{Asker, Glimpse, place, texts::Asked};
use crate::{Ring, listen::Source, rest};

/// Characters of an address or a header that are looked at.
const TEXT: usize = 2_048;
/// Bytes of a path that tell places apart.
const PATH: usize = 512;

/// Sees how a request ends.
pub(crate) async fn watch(State(ring): State<Arc<Ring>>, request: Request, next: Next) -> Response {
    if !ring.sense.is_on() {
        return next.run(request).await;
    }
    let source = request.extensions().get::<Source>().map(|source| source.0);
    let nameless =
        !request.headers().contains_key(header::AUTHORIZATION) && request.extensions().get::<Arc<Peer>>().is_none();
    if let Some(source) = source
        && nameless
        && !ring.restrictions.is_empty()
        && let Err(refusal) = ring.restrictions.admit(&prefix(source), None, ring.clock.steady())
    {
        return rest::refuse(&refusal);
    }
    let inferring = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let inferring = matches!(inferring, Some(rest::INFER | rest::INFER_VERSION));
    let path = request.uri().path().as_bytes();
    let curious = request.uri().query().is_some() || path.contains(&b'%');
    let place = place(path.get(..PATH).unwrap_or(path));
    let peer = request.extensions().get::<Arc<Peer>>().cloned();
    let headers = (!nameless && (curious || !inferring)).then(|| request.headers().clone());
    let asked = (curious || !inferring || nameless).then(|| Box::new(asked(&request)));
    let response = next.run(request).await;
    let code = response.status().as_u16();
    // What a known caller asks of a model is seen where it is recorded.
    // Of what is answered, only addresses are looked at in which something can stand.
    if curious || ((400..500).contains(&code) && (!inferring || code == 401)) {
        let known =
            headers.as_ref().filter(|_| code != 401).and_then(|headers| caller(&ring, headers, peer.as_deref()));
        let asker = known.or_else(|| source.map(|address| Asker { subject: prefix(address), admin: false }));
        if let (Some(asker), Some(asked)) = (asker, asked) {
            ring.sense.take(Glimpse::Probe { asker, code, place, asked });
        }
    }
    response
}

/// What is looked at of a request.
fn asked(request: &Request) -> Asked {
    let clip = |text: &str| text.chars().take(TEXT).collect();
    let header = |name: &header::HeaderName| {
        let value = request.headers().get(name)?.to_str().ok()?;
        Some((name.clone(), clip(value)))
    };
    Asked {
        method: request.method().clone(),
        target: clip(request.uri().path_and_query().map_or("/", |target| target.as_str())),
        headers: [header::USER_AGENT, header::REFERER, header::COOKIE].iter().filter_map(header).collect(),
    }
}

/// Whose credential it is, if it is good.
fn caller(ring: &Ring, headers: &HeaderMap, peer: Option<&Peer>) -> Option<Asker> {
    let authorization = headers.get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
    let namespace = headers.get(rest::NAMESPACE).and_then(|value| value.to_str().ok());
    let credential = Credential { authorization, peer };
    let principal = ring.identifier.identify(credential, namespace, ring.clock.now()).ok()?;
    Some(Asker::of(&principal))
}

/// What is held against an address: of IPv6, that of its network, since everybody has many.
fn prefix(address: IpAddr) -> Subject {
    Subject::Source(match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.to_string(),
            None => {
                let [a, b, c, d, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_held_by_its_network() {
        let of = |text: &str| prefix(text.parse().unwrap()).to_string();
        assert_eq!(of("10.0.0.7"), "source:10.0.0.7");
        assert_eq!(of("::ffff:10.0.0.7"), "source:10.0.0.7");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "source:2001:db8:1:2::/64");
    }
}
