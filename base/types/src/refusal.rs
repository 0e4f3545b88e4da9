//! Every way Mantlet says no: one list of stable codes, each with its HTTP and gRPC status.
//!
//! A page in `docs/errors/` explains each code: its cause, an example, the next command to type.

use std::{borrow::Cow, fmt};

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose doing a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request or the command is at fault; sending it again changes nothing.
    Client,
    /// Mantlet itself is at fault or at its limit.
    Gateway,
    /// The model or its server is at fault.
    Model,
    /// Something Mantlet leans on (disk, library, network) is at fault.
    Dependency,
}

/// gRPC status codes, as numbered by the gRPC specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own names")]
pub enum Grpc {
    Cancelled = 1,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

macro_rules! codes {
    ($($name:ident = $text:literal, $http:ident, $grpc:ident, $fault:ident, $retry:literal, $title:literal;)*) => {
        /// A stable code; what it is called never changes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as it is written.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// One line for people.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// The HTTP status that carries it.
            pub fn http(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$http,)* }
            }

            /// The gRPC status that carries it.
            pub fn grpc(self) -> Grpc {
                match self { $(Self::$name => Grpc::$grpc,)* }
            }

            /// Whose doing it is.
            pub fn fault(self) -> Fault {
                match self { $(Self::$name => Fault::$fault,)* }
            }

            /// Whether the same request may succeed later.
            pub fn retryable(self) -> bool {
                match self { $(Self::$name => $retry,)* }
            }
        }
    };
}

codes! {
    CredentialMissing = "credential_missing", UNAUTHORIZED, Unauthenticated, Client, false, "no credential was sent";
    CredentialInvalid = "credential_invalid", UNAUTHORIZED, Unauthenticated, Client, false, "the credential is unknown, forged or revoked";
    CredentialExpired = "credential_expired", UNAUTHORIZED, Unauthenticated, Client, false, "the credential has expired";
    NotAllowed = "not_allowed", FORBIDDEN, PermissionDenied, Client, false, "the caller may not do this";
    LastAdmin = "last_admin", CONFLICT, FailedPrecondition, Client, false, "the last admin can't be revoked";
    PathNotFound = "path_not_found", NOT_FOUND, Unimplemented, Client, false, "there is nothing at this path";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, Unimplemented, Client, false, "the path does not take this method";
    ModelNotFound = "model_not_found", NOT_FOUND, NotFound, Client, false, "no such model in this namespace";
    VersionNotFound = "version_not_found", NOT_FOUND, NotFound, Client, false, "the model has no such version";
    CallerNotFound = "caller_not_found", NOT_FOUND, NotFound, Client, false, "no such caller in this namespace";
    PublisherNotFound = "publisher_not_found", NOT_FOUND, NotFound, Client, false, "no such publisher in this namespace";
    IncidentNotFound = "incident_not_found", NOT_FOUND, NotFound, Client, false, "no such incident or action in this namespace";
    SecretNotFound = "secret_not_found", NOT_FOUND, NotFound, Client, false, "no such secret in this namespace";
    UpstreamNotAllowed = "upstream_not_allowed", FORBIDDEN, PermissionDenied, Client, false, "the node does not let models be asked at this address";
    WebhookNotAllowed = "webhook_not_allowed", FORBIDDEN, PermissionDenied, Client, false, "the node does not send webhooks to this address";
    AlreadyExists = "already_exists", CONFLICT, AlreadyExists, Client, false, "the name is taken";
    Conflict = "conflict", CONFLICT, Aborted, Client, true, "somebody else changed it first";
    NameInvalid = "name_invalid", BAD_REQUEST, InvalidArgument, Client, false, "the name does not match the pattern";
    RequestMalformed = "request_malformed", BAD_REQUEST, InvalidArgument, Client, false, "the request can't be read";
    InputMismatch = "input_mismatch", BAD_REQUEST, InvalidArgument, Client, false, "the inputs are not those the model declares";
    InputValueRefused = "input_value_refused", BAD_REQUEST, InvalidArgument, Client, false, "an input value lies outside what the manifest allows";
    OutputUnknown = "output_unknown", BAD_REQUEST, InvalidArgument, Client, false, "the model has no such output";
    OutputNotJson = "output_not_json", BAD_REQUEST, InvalidArgument, Client, false, "an output has no JSON form";
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, ResourceExhausted, Client, false, "the body is over the limit";
    EncodingUnsupported = "encoding_unsupported", UNSUPPORTED_MEDIA_TYPE, Unimplemented, Client, false, "the content encoding or type is not supported";
    SlowClient = "slow_client", REQUEST_TIMEOUT, DeadlineExceeded, Client, true, "the request came too slowly";
    ClientGone = "client_gone", REQUEST_TIMEOUT, Cancelled, Client, true, "the client went away before its answer came";
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, ResourceExhausted, Client, true, "the caller sends more requests than its limit";
    CallerRestricted = "caller_restricted", FORBIDDEN, PermissionDenied, Client, true, "the caller is not answered for now, since it looks like an attacker";
    ConcurrencyLimited = "concurrency_limited", TOO_MANY_REQUESTS, ResourceExhausted, Client, true, "the caller has too many requests in flight";
    QuotaExceeded = "quota_exceeded", TOO_MANY_REQUESTS, ResourceExhausted, Client, true, "the namespace has used up its quota";
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, Unavailable, Gateway, true, "the node has no room for this request";
    DeadlineExceeded = "deadline_exceeded", GATEWAY_TIMEOUT, DeadlineExceeded, Gateway, true, "the answer did not come before the deadline";
    ModelNotReady = "model_not_ready", SERVICE_UNAVAILABLE, Unavailable, Model, true, "the model has no ready replica";
    ModelStopped = "model_stopped", SERVICE_UNAVAILABLE, Unavailable, Client, false, "somebody wants the model to have no replica";
    ReplicaLost = "replica_lost", BAD_GATEWAY, Unavailable, Model, true, "the model server went away while answering";
    InferenceFailed = "inference_failed", UNPROCESSABLE_ENTITY, FailedPrecondition, Model, false, "the model could not answer these inputs";
    ManifestInvalid = "manifest_invalid", BAD_REQUEST, InvalidArgument, Client, false, "the manifest can't be read";
    PolicyInvalid = "policy_invalid", UNPROCESSABLE_ENTITY, InvalidArgument, Client, false, "the policies can't be used";
    PredictionNotFound = "prediction_not_found", NOT_FOUND, NotFound, Client, false, "no such prediction is kept";
    NotSupportedYet = "not_supported_yet", UNPROCESSABLE_ENTITY, Unimplemented, Client, false, "the manifest asks for what this release can't do";
    ModelInvalid = "model_invalid", UNPROCESSABLE_ENTITY, InvalidArgument, Client, false, "the file is no valid ONNX model";
    ModelUnsupported = "model_unsupported", UNPROCESSABLE_ENTITY, InvalidArgument, Client, false, "the model can't be served as it is";
    BundleUntrusted = "bundle_untrusted", UNPROCESSABLE_ENTITY, FailedPrecondition, Model, false, "the bundle is unsigned, changed, or signed by a key that is not trusted";
    LoadFailed = "load_failed", UNPROCESSABLE_ENTITY, FailedPrecondition, Model, false, "the model could not be loaded";
    RuntimeMissing = "runtime_missing", SERVICE_UNAVAILABLE, FailedPrecondition, Dependency, true, "the ONNX Runtime library is missing or does not fit";
    SandboxIncomplete = "sandbox_incomplete", SERVICE_UNAVAILABLE, FailedPrecondition, Dependency, false, "the kernel can't confine a model server as the settings require";
    StorageUnavailable = "storage_unavailable", SERVICE_UNAVAILABLE, Unavailable, Dependency, true, "the data directory can't be read or written";
    Internal = "internal", INTERNAL_SERVER_ERROR, Internal, Gateway, true, "Mantlet failed; this is a bug";
    AddressInUse = "address_in_use", CONFLICT, FailedPrecondition, Client, true, "another program listens on this address";
    DataDirLocked = "data_dir_locked", CONFLICT, FailedPrecondition, Client, true, "another node uses this data directory";
    DataDirUnusable = "data_dir_unusable", SERVICE_UNAVAILABLE, FailedPrecondition, Dependency, false, "the data directory can't be used";
    SettingsInvalid = "settings_invalid", BAD_REQUEST, InvalidArgument, Client, false, "a setting is unknown or wrong";
    NodeUnreachable = "node_unreachable", SERVICE_UNAVAILABLE, Unavailable, Dependency, true, "no node answers";
    FileUnreadable = "file_unreadable", BAD_REQUEST, InvalidArgument, Client, false, "a file can't be read or written";
    LedgerInvalid = "ledger_invalid", UNPROCESSABLE_ENTITY, FailedPrecondition, Client, false, "the exported ledger does not verify";
}

/// What is at the bottom of an error: the words of its last cause, which say more than its own.
pub fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: what happened, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// What happened, with the values in hand.
    pub message: Cow<'static, str>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Cow<'static, str>>,
    /// When trying again may help, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    /// A refusal with this code and message.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), hint: None, retry_after_ms: None }
    }

    /// A model that a namespace does not have; the message begins as clients of the protocol expect.
    pub fn unknown_model(namespace: &crate::Namespace, model: &crate::ModelName) -> Self {
        let message = format!("Request for unknown model: '{model}' is not found in namespace '{namespace}'");
        Self::new(Code::ModelNotFound, message).hint("`mantlet models` lists the models")
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds when to try again.
    #[must_use]
    pub fn retry_after(mut self, span: std::time::Duration) -> Self {
        self.retry_after_ms = Some(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// The problem document of RFC 9457 for this refusal.
    pub fn problem(&self) -> serde_json::Value {
        let mut problem = serde_json::json!({
            "type": format!("https://mantlet.dev/errors/{}", self.code),
            "title": self.code.title(),
            "status": self.code.http().as_u16(),
            "detail": self.message,
            "code": self.code,
            // Clients of the Open Inference Protocol look here.
            "error": self.text(),
        });
        if let Some(hint) = &self.hint {
            problem["hint"] = hint.as_ref().into();
        }
        problem
    }

    /// Message, hint and code on one line, where a protocol has room for one text only.
    pub fn text(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}; {hint} [{}]", self.message, self.code),
            None => format!("{} [{}]", self.message, self.code),
        }
    }
}

impl From<crate::id::NameError> for Refusal {
    fn from(error: crate::id::NameError) -> Self {
        Self::new(Code::NameInvalid, error.to_string())
    }
}

impl From<crate::tensor::Error> for Refusal {
    fn from(error: crate::tensor::Error) -> Self {
        Self::new(Code::InputMismatch, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_written_the_same_everywhere() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!(code.http().is_client_error() || code.http().is_server_error());
        }
    }

    #[test]
    fn a_problem_says_what_and_what_next() {
        let refusal =
            Refusal::new(Code::ModelNotFound, "no model `digit` in namespace `default`").hint("run `mantlet models`");
        insta::assert_json_snapshot!(refusal.problem(), @r#"
        {
          "type": "https://mantlet.dev/errors/model_not_found",
          "title": "no such model in this namespace",
          "status": 404,
          "detail": "no model `digit` in namespace `default`",
          "code": "model_not_found",
          "error": "no model `digit` in namespace `default`; run `mantlet models` [model_not_found]",
          "hint": "run `mantlet models`"
        }
        "#);
    }
}
