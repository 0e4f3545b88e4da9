//! Signed bundles, versions, callers, and the ledger sequence.
