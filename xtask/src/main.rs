//! Set-up, tests, checks and demos: cargo xtask.
fn main() {}
