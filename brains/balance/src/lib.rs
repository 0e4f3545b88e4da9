//! Chooses a replica.
