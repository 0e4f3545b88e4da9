//! gRPC's framing over HTTP/2: length-prefixed messages, packed or not, and a status in the trailers.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use bytes::{Buf as _, BufMut as _, BytesMut};
use futures::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use types::{Code, PredictionId, Refusal};

use super::number;
use crate::rest::{
    PREDICTION,
    body::{self, Encoding},
};

/// Answers are packed only below this: above, packing costs more than it saves on the way.
const PACK_FROM: usize = 1 << 10;

/// How messages are packed.
pub(crate) type Packed = Encoding;

/// Reads messages off a request's body.
pub(crate) struct Reader {
    body: Body,
    buffer: BytesMut,
    encoding: Encoding,
    idle: Duration,
    ended: bool,
}

impl Reader {
    /// A reader of this request's body.
    ///
    /// # Errors
    /// `encoding_unsupported`.
    pub(crate) fn new(headers: &HeaderMap, body: Body, idle: Duration) -> Result<Self, Refusal> {
        let encoding = headers.get("grpc-encoding").and_then(|value| value.to_str().ok());
        Ok(Self { body, buffer: BytesMut::new(), encoding: Encoding::parse(encoding)?, idle, ended: false })
    }

    /// The next message of at most `limit` bytes; `None` at the end of the body. Between messages a client may
    /// be silent for as long as it likes when `patient`; inside one it may not.
    ///
    /// # Errors
    /// `body_too_large`, `slow_client`, `request_malformed`.
    pub(crate) async fn next(&mut self, limit: u64, patient: bool) -> Result<Option<Bytes>, Refusal> {
        while self.buffer.len() < 5 {
            let waits = patient && self.buffer.is_empty();
            if !self.fill(waits).await? {
                return match self.buffer.len() {
                    0 => Ok(None),
                    _ => Err(malformed("the body ends inside a message's prefix")),
                };
            }
        }
        let (flag, length) =
            (self.buffer[0], u32::from_be_bytes([self.buffer[1], self.buffer[2], self.buffer[3], self.buffer[4]]));
        if u64::from(length) > limit {
            return Err(body::too_large(limit));
        }
        let length = length as usize;
        self.buffer.advance(5);
        while self.buffer.len() < length {
            if !self.fill(false).await? {
                return Err(malformed("the body ends inside a message"));
            }
        }
        let message = self.buffer.split_to(length).freeze();
        match flag {
            0 => Ok(Some(message)),
            1 if self.encoding == Encoding::Identity => {
                Err(malformed("a message is packed, and the call names no packing"))
            }
            1 => body::unpack(self.encoding, message, limit).await.map(Some),
            _ => Err(malformed("a message's prefix has an unknown flag")),
        }
    }

    async fn fill(&mut self, patient: bool) -> Result<bool, Refusal> {
        if self.ended {
            return Ok(false);
        }
        let frame = if patient {
            self.body.frame().await
        } else {
            tokio::time::timeout(self.idle, self.body.frame()).await.map_err(|_| {
                Refusal::new(Code::SlowClient, format!("no byte of the message came for {} s", self.idle.as_secs()))
            })?
        };
        match frame {
            None => {
                self.ended = true;
                Ok(false)
            }
            Some(Err(error)) => Err(malformed(format!("the body broke off: {error}"))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    if self.buffer.is_empty() && self.buffer.capacity() < data.len() {
                        // The usual case, a message in one frame, is taken over without a copy where possible.
                        self.buffer = data.try_into_mut().unwrap_or_else(|data| BytesMut::from(&data[..]));
                    } else {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Ok(true)
            }
        }
    }
}

fn malformed(what: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Code::RequestMalformed, what)
}

/// The packing that a client takes: the one it used itself, as gRPC's own servers choose.
pub(super) fn accepted(headers: &HeaderMap) -> Packed {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let own = Encoding::parse(text("grpc-encoding")).unwrap_or(Encoding::Identity);
    let takes =
        text("grpc-accept-encoding").is_some_and(|list| list.split(',').any(|name| name.trim() == own.as_str()));
    if takes { own } else { Encoding::Identity }
}

/// One message with its prefix.
fn prefixed(message: Bytes, packed: Packed) -> [Bytes; 2] {
    let pack = packed != Encoding::Identity && message.len() >= PACK_FROM;
    let message = if pack { body::pack(packed, message.into()).into() } else { message };
    let mut prefix = BytesMut::with_capacity(5);
    prefix.put_u8(u8::from(pack));
    prefix.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    [prefix.freeze(), message]
}

fn status(outcome: Result<(), &Refusal>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let code = outcome.err().map_or(0, |refusal| number(refusal.code.grpc()));
    trailers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(u16::from(code)));
    if let Err(refusal) = outcome {
        if let Ok(text) = HeaderValue::from_str(&percent(&refusal.text())) {
            trailers.insert(HeaderName::from_static("grpc-message"), text);
        }
        trailers.insert(HeaderName::from_static("mantlet-code"), HeaderValue::from_static(refusal.code.as_str()));
        if let Some(millis) = refusal.retry_after_ms {
            trailers.insert(HeaderName::from_static("grpc-retry-pushback-ms"), HeaderValue::from(millis));
        }
    }
    trailers
}

/// Status messages are percent-encoded but for printable ASCII.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' => out.push_str("%25"),
            0x20..=0x7e => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn head(packed: Packed, prediction: Option<PredictionId>) -> http::response::Builder {
    let mut builder = Response::builder().header(header::CONTENT_TYPE, "application/grpc");
    if packed != Encoding::Identity {
        builder = builder.header("grpc-encoding", packed.as_str());
    }
    if let Some(prediction) = prediction {
        builder = builder.header(PREDICTION, prediction.to_string());
    }
    builder.header("grpc-accept-encoding", "identity,gzip,deflate")
}

fn built(response: Result<Response, http::Error>) -> Response {
    response.unwrap_or_else(|error| {
        let refusal = Refusal::new(Code::Internal, error.to_string());
        crate::rest::refuse(&refusal)
    })
}

/// The response of a unary call.
pub(super) fn unary(outcome: Result<Bytes, Refusal>, packed: Packed, prediction: Option<PredictionId>) -> Response {
    match outcome {
        Ok(message) => {
            let data = prefixed(message, packed).into_iter().map(Frame::data);
            let frames = data.chain([Frame::trailers(status(Ok(())))]).map(Ok::<_, std::convert::Infallible>);
            built(
                head(packed, prediction)
                    .body(Body::new(StreamBody::new(futures::stream::iter(frames.collect::<Vec<_>>())))),
            )
        }
        Err(refusal) => {
            // A refusal alone travels as trailers in the head.
            let mut response = built(head(Encoding::Identity, prediction).body(Body::empty()));
            response.headers_mut().extend(status(Err(&refusal)));
            response
        }
    }
}

/// The response of a streaming call: messages until the stream ends or refuses.
pub(super) fn stream(
    messages: impl Stream<Item = Result<Bytes, Refusal>> + Send + 'static,
    packed: Packed,
) -> Response {
    enum Part {
        Message(Result<Bytes, Refusal>),
        End,
    }
    let parts = messages.map(Part::Message).chain(futures::stream::iter([Part::End]));
    let frames = parts.scan(false, move |over, part| {
        let frames: Vec<Frame<Bytes>> = match part {
            _ if *over => Vec::new(),
            Part::Message(Ok(message)) => prefixed(message, packed).into_iter().map(Frame::data).collect(),
            Part::Message(Err(refusal)) => {
                *over = true;
                vec![Frame::trailers(status(Err(&refusal)))]
            }
            Part::End => vec![Frame::trailers(status(Ok(())))],
        };
        futures::future::ready(Some(frames))
    });
    let frames =
        frames.flat_map(|frames| futures::stream::iter(frames.into_iter().map(Ok::<_, std::convert::Infallible>)));
    built(head(packed, None).body(Body::new(StreamBody::new(frames))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(data: Vec<u8>) -> Reader {
        Reader::new(&HeaderMap::new(), Body::from(data), Duration::from_secs(1)).unwrap()
    }

    #[tokio::test]
    async fn messages_are_read_one_by_one() {
        let [prefix, message] = prefixed(Bytes::from_static(b"abc"), Encoding::Identity);
        let twice = [&prefix[..], &message, &prefix, &message].concat();
        let mut reader = reader(twice);
        assert_eq!(reader.next(10, false).await.unwrap().as_deref(), Some(&b"abc"[..]));
        assert_eq!(reader.next(10, false).await.unwrap().as_deref(), Some(&b"abc"[..]));
        assert_eq!(reader.next(10, false).await.unwrap(), None);
    }

    #[tokio::test]
    async fn lying_prefixes_are_refused_before_anything_is_reserved() {
        let code = async |data: Vec<u8>| reader(data).next(10, false).await.unwrap_err().code;
        assert_eq!(code(vec![0, 255, 255, 255, 255]).await, Code::BodyTooLarge);
        assert_eq!(code(vec![0, 0, 0, 0, 5, 1]).await, Code::RequestMalformed);
        assert_eq!(code(vec![0, 0]).await, Code::RequestMalformed);
        assert_eq!(code(vec![7, 0, 0, 0, 0]).await, Code::RequestMalformed);
        // Found by fuzzing: a packed message of a call without packing was taken for a plain one.
        assert_eq!(code(vec![1, 0, 0, 0, 1, 9]).await, Code::RequestMalformed);
    }

    #[test]
    fn status_messages_stay_printable() {
        assert_eq!(percent("50 % über"), "50 %25 %C3%BCber");
    }
}
