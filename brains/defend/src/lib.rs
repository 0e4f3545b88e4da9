//! Who attacks, and what is done about it: detectors, the evidence of several fused, and the ladder of answers.
//!
//! Nothing here does I/O, reads a clock or draws chance of its own. A gateway feeds what it sees ([`intruder`], [`queries`]), the
//! sentinel fuses what came of it and decides.
//!
//! Does not know about: HTTP, where state is kept, who carries out what is decided.

pub mod intruder;
pub mod queries;
