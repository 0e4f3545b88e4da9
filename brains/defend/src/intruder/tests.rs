//! The detector through its public door.

use proptest::prelude::*;

use super::*;

/// Texts that people write, and that look like attacks to whoever counts quotes.
pub(super) const ORDINARY: [&str; 1] = ["O'Brien"];
