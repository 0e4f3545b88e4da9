//! What `mantlet top` takes.

use clap::Args;
use types::quantity::Span;

/// Watches models.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// How often it is looked again.
    #[arg(long, default_value = "1s", value_name = "TIME")]
    pub(crate) interval: Span,

    /// Look for one interval, print that, and end; as without a terminal.
    #[arg(long)]
    pub(crate) once: bool,
}
