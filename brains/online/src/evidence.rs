//! Evidence that may be looked at after every label: how sure it is by now that one of two is better.
//!
//! A test that is looked at again and again finds something sooner or later. An *e-process* does not: it is the
//! wealth of somebody who bets against the null hypothesis and can't win in the long run while it holds, so that
//! wealth reaches `1 / α` with a probability of at most `α` however often one looks (Ville 1939; Ramdas, Grünwald,
//! Vovk and Shafer, Statistical Science 2023).
//!
//! - [`EProcess`]: the wealth of eight constant bets on a difference of losses.
//! - [`Season`]: looks at it only where a claim about the *average* over whole seasons is due.
//! - [`EDetector`]: notices that what was better has become worse, with a certified run length.
//! - [`Interval`] and [`SplitInterval`]: between which bounds the average difference lies, at all times.
//! - [`spending`]: what retries and many challengers cost.
//! - [`split`]: differences where only one of both outcomes is seen.
//!
//! Who acts on it is [`crate::guard`].

mod detector;
mod interval;
mod process;
mod season;
pub mod spending;
pub mod split;

pub use detector::EDetector;
pub use interval::{Interval, SplitInterval};
pub use process::{BETS, EProcess};
pub use season::Season;
