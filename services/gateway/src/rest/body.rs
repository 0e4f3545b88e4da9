//! Reads bodies: bounded in bytes, in silence and in time, unpacked as they say.

use std::{io::Read as _, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use types::{Code, Refusal, quantity::ByteCount};

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Not at all.
    Identity,
    /// gzip (RFC 1952).
    Gzip,
    /// zlib (RFC 1950), which HTTP calls deflate.
    Deflate,
}

impl Encoding {
    /// The encoding named by a header.
    ///
    /// # Errors
    /// `encoding_unsupported` for any other.
    pub(crate) fn parse(name: Option<&str>) -> Result<Self, Refusal> {
        match name.map(|name| name.trim().to_ascii_lowercase()).as_deref() {
            None | Some("" | "identity") => Ok(Self::Identity),
            Some("gzip" | "x-gzip") => Ok(Self::Gzip),
            Some("deflate") => Ok(Self::Deflate),
            Some(other) => {
                let shown: String = other.chars().take(40).collect();
                Err(Refusal::new(Code::EncodingUnsupported, format!("content encoding `{shown}` is not supported"))
                    .hint("send gzip, deflate, or the plain body"))
            }
        }
    }

    /// The encoding's word in a header.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }
}

/// A body that is too large.
pub(crate) fn too_large(limit: u64) -> Refusal {
    Refusal::new(Code::BodyTooLarge, format!("the body is over the limit of {}", ByteCount(limit)))
        .hint("send fewer rows at once, or raise spec.limits.body of the model")
}

/// A body that did not come in time, however steadily it dripped.
pub(crate) fn slow(within: Duration) -> Refusal {
    Refusal::new(Code::SlowClient, format!("the body was not complete after {} s", within.as_secs()))
        .hint("send the body faster, or in smaller requests")
}

/// Reads a whole body of at most `limit` bytes; a client that is silent for `idle` is cut.
///
/// # Errors
/// `body_too_large`, `slow_client`, `request_malformed` when the client went away.
pub(crate) async fn read(body: &mut Body, limit: u64, idle: Duration) -> Result<Bytes, Refusal> {
    let expected = http_body::Body::size_hint(body).exact().unwrap_or(0);
    if expected > limit {
        return Err(too_large(limit));
    }
    let mut first: Option<Bytes> = None;
    let mut rest: Option<BytesMut> = None;
    let mut size = 0_u64;
    loop {
        let frame = tokio::time::timeout(idle, body.frame()).await.map_err(|_| {
            Refusal::new(Code::SlowClient, format!("no byte of the body came for {} s", idle.as_secs()))
                .hint("send the body faster, or in smaller requests")
        })?;
        let Some(frame) = frame else { break };
        let frame =
            frame.map_err(|error| Refusal::new(Code::RequestMalformed, format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        size += data.len() as u64;
        if size > limit {
            return Err(too_large(limit));
        }
        match (&mut first, &mut rest) {
            (None, None) => first = Some(data),
            (_, Some(rest)) => rest.extend_from_slice(&data),
            (Some(begun), None) => {
                // What a client claims to send is reserved only up to a point.
                let reserve = usize::try_from(expected.min(1 << 20)).unwrap_or(0).max(begun.len() + data.len());
                let mut all = BytesMut::with_capacity(reserve);
                all.extend_from_slice(begun);
                all.extend_from_slice(&data);
                rest = Some(all);
            }
        }
    }
    Ok(rest.map_or_else(|| first.unwrap_or_default(), BytesMut::freeze))
}

/// Reads what a refused client still sends, and throws it away: a client of HTTP/1.1 that is cut in the middle of
/// its body loses the answer too. Bounded in bytes and time.
pub(crate) async fn drain(body: &mut Body) {
    const BYTES: usize = 32 << 20;
    const TIME: Duration = Duration::from_secs(1);
    let read = async {
        let mut left = BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    // Whoever needs longer is cut.
    let _ = tokio::time::timeout(TIME, read).await;
}

/// Unpacks a body to at most `limit` bytes, so that a small body can't grow without bound.
///
/// # Errors
/// `body_too_large`, or `request_malformed` when it is not packed as it says.
pub(crate) async fn unpack(encoding: Encoding, data: Bytes, limit: u64) -> Result<Bytes, Refusal> {
    /// Below this, unpacking is shorter than handing it to another thread.
    const INLINE: usize = 16 << 10;
    if encoding == Encoding::Identity {
        return Ok(data);
    }
    if data.len() < INLINE {
        return inflate(encoding, &data, limit);
    }
    let work = move || inflate(encoding, &data, limit);
    tokio::task::spawn_blocking(work).await.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?
}

fn inflate(encoding: Encoding, data: &[u8], limit: u64) -> Result<Bytes, Refusal> {
    let mut out = Vec::new();
    let bound = limit.saturating_add(1);
    let read = match encoding {
        Encoding::Identity => return Ok(Bytes::copy_from_slice(data)),
        Encoding::Gzip => flate2::read::MultiGzDecoder::new(data).take(bound).read_to_end(&mut out),
        Encoding::Deflate => flate2::read::ZlibDecoder::new(data).take(bound).read_to_end(&mut out),
    };
    let name = encoding.as_str();
    read.map_err(|error| Refusal::new(Code::RequestMalformed, format!("the body is no {name}: {error}")))?;
    if out.len() as u64 > limit {
        return Err(too_large(limit));
    }
    Ok(out.into())
}

/// Packs an answer.
pub(crate) fn pack(encoding: Encoding, data: Vec<u8>) -> Vec<u8> {
    use std::io::Write as _;
    let level = flate2::Compression::fast();
    let packed = match encoding {
        Encoding::Identity => return data,
        Encoding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(&data).and_then(|()| encoder.finish())
        }
        Encoding::Deflate => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(&data).and_then(|()| encoder.finish())
        }
    };
    // Writing into memory has no way to fail.
    packed.unwrap_or(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packing_and_unpacking_are_inverse_and_bounded() {
        let data = b"0123456789".repeat(5_000);
        for encoding in [Encoding::Gzip, Encoding::Deflate] {
            let packed = Bytes::from(pack(encoding, data.clone()));
            assert_eq!(unpack(encoding, packed.clone(), 50_000).await.unwrap(), data);
            assert_eq!(unpack(encoding, packed, 49_999).await.unwrap_err().code, Code::BodyTooLarge);
            let garbage = Bytes::from_static(b"not packed at all");
            assert_eq!(unpack(encoding, garbage, 100).await.unwrap_err().code, Code::RequestMalformed);
        }
    }

    #[tokio::test]
    async fn bodies_are_bounded() {
        let read = async |size: usize, limit| read(&mut Body::from(vec![7; size]), limit, Duration::from_secs(1)).await;
        assert_eq!(read(10, 10).await.unwrap().len(), 10);
        assert_eq!(read(11, 10).await.unwrap_err().code, Code::BodyTooLarge);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_cut() {
        let mut silent = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read(&mut silent, 10, Duration::from_secs(10)).await.unwrap_err().code, Code::SlowClient);
    }

    #[test]
    fn unknown_encodings_are_named() {
        assert_eq!(Encoding::parse(Some(" GZIP ")).unwrap(), Encoding::Gzip);
        assert!(Encoding::parse(Some("br")).unwrap_err().message.contains("br"));
    }
}
