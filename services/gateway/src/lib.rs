//! The request ring.
