//! The remote form of a trait: one gRPC method per function, messages as JSON, refusals whole.
//!
//! Messages are the same serde types that the in-process form passes, so both forms have one schema, and a field
//! with a default is understood by the release before and the one after.

use std::marker::PhantomData;

use bytes::Buf;
use serde::{Serialize, de::DeserializeOwned};
use tonic::{
    Code as Status, Status as Failure,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use types::{Code, Refusal};

/// A codec of JSON messages.
#[derive(Debug)]
pub struct Json<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Json<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Serialize + Send + 'static, U: DeserializeOwned + Send + 'static> Codec for Json<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = Json<T, ()>;
    type Decoder = Json<(), U>;

    fn encoder(&mut self) -> Self::Encoder {
        Json(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        Json(PhantomData)
    }
}

impl<T: Serialize> Encoder for Json<T, ()> {
    type Item = T;
    type Error = Failure;

    fn encode(&mut self, item: T, out: &mut EncodeBuf<'_>) -> Result<(), Failure> {
        serde_json::to_writer(bytes::BufMut::writer(out), &item).map_err(|error| Failure::internal(error.to_string()))
    }
}

impl<U: DeserializeOwned> Decoder for Json<(), U> {
    type Item = U;
    type Error = Failure;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<U>, Failure> {
        serde_json::from_reader(message.reader())
            .map(Some)
            .map_err(|error| Failure::invalid_argument(error.to_string()))
    }
}

/// A refusal as a gRPC status: its text for people, itself in the details.
pub fn status(refusal: &Refusal) -> Failure {
    let code = Status::from_i32(refusal.code.grpc() as i32);
    let details = serde_json::to_vec(refusal).unwrap_or_default();
    Failure::with_details(code, refusal.text(), details.into())
}

/// A gRPC status as the refusal it carries. One that carries none was not made by the other service: the way to it
/// broke, unless it complains of the message itself.
pub fn refusal(status: &Failure) -> Refusal {
    if let Ok(refusal) = serde_json::from_slice(status.details()) {
        return refusal;
    }
    let code = match status.code() {
        Status::DeadlineExceeded => Code::DeadlineExceeded,
        Status::InvalidArgument | Status::OutOfRange | Status::ResourceExhausted | Status::Unimplemented => {
            Code::Internal
        }
        _ => Code::ReplicaLost,
    };
    Refusal::new(code, status.message().to_owned())
}

/// Declares a trait between services with its remote form: a client that is one, and a router that serves one.
macro_rules! service {
    (
        $(#[$doc:meta])*
        pub trait $Trait:ident, client $Client:ident, router $router:ident, path $path:literal {
            $( $(#[$method_doc:meta])* fn $method:ident($request:ty) -> $response:ty; )*
        }
    ) => {
        $(#[$doc])*
        #[async_trait::async_trait]
        pub trait $Trait: Send + Sync {
            $( $(#[$method_doc])* async fn $method(&self, request: $request) -> Result<$response, types::Refusal>; )*
        }

        /// The remote form: calls a door of the other process.
        #[derive(Debug, Clone)]
        pub struct $Client(pub tonic::transport::Channel);

        #[async_trait::async_trait]
        impl $Trait for $Client {
            $(
                async fn $method(&self, request: $request) -> Result<$response, types::Refusal> {
                    let path = http::uri::PathAndQuery::from_static(concat!("/", $path, "/", stringify!($method)));
                    $crate::remote::call(&self.0, path, request).await
                }
            )*
        }

        /// Serves the trait to the other process.
        pub fn $router(inner: std::sync::Arc<dyn $Trait>) -> axum::Router {
            let router = axum::Router::new();
            $(
                let router = {
                    let inner = inner.clone();
                    $crate::remote::serve(
                        router,
                        concat!("/", $path, "/", stringify!($method)),
                        move |request: $request| {
                            let inner = inner.clone();
                            async move { inner.$method(request).await }
                        },
                    )
                };
            )*
            router
        }
    };
}

/// Calls one method of a remote door.
///
/// # Errors
/// The other side's refusal, or the loss of the other side.
pub async fn call<T, U>(
    channel: &tonic::transport::Channel,
    path: http::uri::PathAndQuery,
    request: T,
) -> Result<U, Refusal>
where
    T: Serialize + Send + Sync + 'static,
    U: DeserializeOwned + Send + Sync + 'static,
{
    let lost =
        |error: &dyn std::fmt::Display| Refusal::new(Code::ReplicaLost, format!("the other service is away: {error}"));
    let mut grpc = tonic::client::Grpc::new(channel.clone()).max_decoding_message_size(MESSAGE);
    grpc.ready().await.map_err(|error| lost(&error))?;
    let answer = grpc.unary(tonic::Request::new(request), path, Json::<T, U>::default()).await;
    answer.map(tonic::Response::into_inner).map_err(|status| refusal(&status))
}

/// The largest message between services.
pub const MESSAGE: usize = 256 << 20;

/// Adds one method to a router.
pub fn serve<T, U, F, R>(router: axum::Router, path: &'static str, method: F) -> axum::Router
where
    T: DeserializeOwned + Send + Sync + 'static,
    U: Serialize + Send + Sync + 'static,
    F: Fn(T) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<U, Refusal>> + Send + 'static,
{
    let handler = move |request: axum::extract::Request| {
        let method = method.clone();
        async move {
            let service = tower::service_fn(move |request: tonic::Request<T>| {
                let answer = method(request.into_inner());
                async move { answer.await.map(tonic::Response::new).map_err(|refusal| status(&refusal)) }
            });
            let mut grpc = tonic::server::Grpc::new(Json::<U, T>::default()).max_decoding_message_size(MESSAGE);
            grpc.unary(service, request).await
        }
    };
    router.route(path, axum::routing::post(handler))
}
