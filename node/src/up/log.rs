//! Structured logs, on standard error.

use tracing_subscriber::EnvFilter;
use types::{Code, Refusal};

/// Starts logging with this filter, as text or JSON.
///
/// # Errors
/// `settings_invalid` for a filter that can't be read.
pub(crate) fn start(filter: &str, json: bool) -> Result<(), Refusal> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Refusal::new(Code::SettingsInvalid, format!("node.log is `{filter}`: {error}"))
            .hint("write error, warn, info, debug, or a filter like `info,gateway=debug`")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true);
    if json {
        builder.json().init();
    } else {
        builder.with_ansi(false).init();
    }
    Ok(())
}
