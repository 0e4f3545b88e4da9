//! The binary: CLI, settings, and the one place where services are wired together.
fn main() {}
