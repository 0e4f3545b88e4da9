//! Notes of which somebody is told by signed requests, as [Standard Webhooks](https://www.standardwebhooks.com) has them.
//!
//! [`Outbox`] says which notes wait, when each is sent and which is given up; [`send`] signs and sends one. Whoever uses them keeps
//! the notes where they outlive a crash, so that each is sent at least once, by the same id each time.
//!
//! Does not know about: what a note is about, where notes and secrets are kept, clocks.

mod outbox;
mod send;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use types::{Namespace, Timestamp};

pub use outbox::{Outbox, after};
pub use send::{Key, Receiver, date, send};
pub use types::told::Told;

/// What a note is about.
pub trait About {
    /// When it happened.
    fn at(&self) -> Timestamp;

    /// Whose it is, so that one whose receiver is away takes no other's place; nothing for what is the node's.
    fn owner(&self) -> Option<&Namespace>;

    /// The message's `type`.
    fn kind(&self) -> &'static str;

    /// The message's `data`; the same each time.
    fn data(&self) -> Value;
}

/// Something that is noted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note<A> {
    /// What it is called, and the webhook.
    pub id: String,
    /// What it is about.
    #[serde(flatten)]
    pub about: A,
    /// How far its news has got; nothing where nobody is told.
    pub told: Option<Told>,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was taken.
    Taken,
    /// It was not, and may be later.
    Not(String),
    /// It was not, and never will be.
    Gone(String),
}
