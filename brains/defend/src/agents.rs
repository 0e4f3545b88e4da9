//! One file for each agent with something to learn across windows; what detectors beside the requests read is passed on.

pub mod caller;
pub mod passed;
