//! Injection, traversal and scanning in text.
