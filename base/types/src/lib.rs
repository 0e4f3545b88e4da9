//! The vocabulary every room shares: ids, manifests, tensors, events and refusals.
//!
//! Does not know about: I/O, clocks, services, or how anything is stored. Read [`manifest`] for what a user
//! writes, [`tensor`] for what travels, [`event`] for what is recorded, [`refusal`] for how Mantlet says no.

pub mod clean;
pub mod defence;
pub mod event;
pub mod id;
pub mod infer;
pub mod key;
pub mod manifest;
pub mod quantity;
pub mod quota;
pub mod refusal;
pub mod rollout;
pub mod tensor;
pub mod told;

pub use id::{CallerName, Digest, ModelName, Namespace, PredictionId, Role, SecretName, Timestamp, Version};
pub use key::KeyKind;
pub use manifest::Manifest;
pub use refusal::{Code, Refusal};
pub use tensor::{DataType, Tensor};
