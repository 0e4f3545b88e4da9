//! A log that anybody can check: a Merkle tree over records, in tiles, under signed checkpoints.
//!
//! The tree is RFC 6962's; tiles, checkpoints and signatures follow C2SP (`tlog-tiles`, `tlog-checkpoint`,
//! `signed-note`), so other people's verifiers read it. A record is one line of JSON; its leaf is the hash of
//! the line's bytes without the newline, so nothing has to be written twice in the same way.
//!
//! Does not know about: who may write, where hashes are stored, clocks. [`Frontier`] grows a log, [`Key`] signs
//! it, [`batch`] puts many events under one record, [`proof`] proves single records and older trees, [`export`]
//! hands it to strangers, [`verify`] checks it offline, [`witness`] has others say that they saw it.

pub mod batch;
mod checkpoint;
pub mod export;
mod frontier;
pub mod proof;
mod record;
pub mod tile;
pub mod verify;
pub mod witness;

pub use checkpoint::{Key, KeyError, TrustedKey, only, open, open_seen, sign};
pub use frontier::Frontier;
pub use record::Record;
pub use tlog_tiles::{Hash, record_hash};
