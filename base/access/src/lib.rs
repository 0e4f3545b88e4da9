//! Who is calling, what they may do, and what is signed by whom.
//!
//! The first two proofs of the request ring are earned here and nowhere else: [`Principal`] by
//! [`Identifier::identify`], [`Permit`] by [`Authorizer::authorize`]. [`authority`] is the embedded CA,
//! [`tls`] builds every TLS setting, [`signing`] signs and verifies bundles.
//!
//! Does not know about: sockets, HTTP, where credentials are stored, clocks (`now` is an argument).

pub mod authority;
mod authorize;
mod identify;
pub mod jwt;
pub mod policy;
mod renew;
pub mod signing;
pub mod tls;
pub mod token;

pub use authority::{Authority, Identity};
pub use authorize::{Action, Asker, Authorizer, Explanation, Permit, Resource};
pub use identify::{Credential, Identifier, Principal};
pub use policy::{POLICIES, PolicyError, SCHEMA};
pub use renew::Renewable;
pub use token::{Token, TokenId, TokenRecord};
