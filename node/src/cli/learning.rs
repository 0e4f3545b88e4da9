//! What people say of what is learnt: of challengers, of contributors, and what is right whatever they say.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use types::ModelName;

/// A word on a contributor.
#[derive(Debug, Args)]
pub(crate) struct Contributors {
    /// What.
    #[arg(value_enum)]
    pub(crate) say: Trust,

    /// The model.
    pub(crate) name: ModelName,

    /// The contributor, as `mantlet models evaluation` shows it.
    pub(crate) contributor: String,

    /// Why; it goes into the ledger.
    #[arg(long)]
    pub(crate) reason: String,
}

/// What to do with a model's clean set.
#[derive(Debug, Subcommand)]
pub(crate) enum Clean {
    /// Give it one, in place of the one before.
    Set {
        /// The model.
        name: ModelName,
        /// Rows, one a line: {"inputs": {"amount": 1.5, "country": "DE"}, "label": "ok"}.
        file: PathBuf,
        /// It holds while a drift alarm stands, too: the rows are right whatever happens.
        #[arg(long)]
        strict: bool,
        /// Why; it goes into the ledger.
        #[arg(long)]
        reason: String,
    },
    /// Say how many rows it has, who gave it and when.
    Show {
        /// The model.
        name: ModelName,
    },
    /// Take it away.
    Remove {
        /// The model.
        name: ModelName,
    },
}

/// Whether a contributor's labels may teach.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Trust {
    /// They may.
    Trust,
    /// They may not.
    Distrust,
}

/// A word on a challenger, or on what the sentinel does.
#[derive(Debug, Args)]
pub(crate) struct Challenge {
    /// The challenger, as `mantlet rollouts` shows it: MODEL/VERSION; or an incident or action, as `mantlet incidents` shows it.
    pub(crate) id: String,

    /// Why; it goes into the ledger.
    #[arg(long)]
    pub(crate) reason: String,
}
