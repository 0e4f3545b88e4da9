//! What people say of what is learnt: of challengers, of contributors, and what is right whatever they say.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use types::{
    ModelName, Version,
    quantity::{Share, Span},
};

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

/// Splits a model's requests over versions.
#[derive(Debug, Args)]
pub(crate) struct Split {
    /// The model.
    pub(crate) name: ModelName,

    /// A version with its share of the requests that name none, for example 2=10%; the rest goes to the version that answers.
    #[arg(value_name = "VERSION=SHARE", value_parser = parse_part, required_unless_present = "off", conflicts_with = "off")]
    pub(crate) parts: Vec<(Version, Share)>,

    /// A caller always gets the same version: shares hold over callers. Without it each request is drawn.
    #[arg(long, conflicts_with = "off")]
    pub(crate) sticky: bool,

    /// How long it lasts, for example 7d; until `--off` when left out.
    #[arg(long = "for", value_name = "TIME", conflicts_with = "off")]
    pub(crate) lasts: Option<Span>,

    /// End it: all requests go to the version that answers.
    #[arg(long)]
    pub(crate) off: bool,

    /// Why; it goes into the ledger.
    #[arg(long)]
    pub(crate) reason: String,
}

fn parse_part(text: &str) -> Result<(Version, Share), String> {
    let wrong = || "write a version and its share: 2=10%".to_owned();
    let (version, share) = text.split_once('=').ok_or_else(wrong)?;
    let version = version.parse().ok().filter(|version| *version > 0).ok_or_else(wrong)?;
    Ok((Version(version), share.parse().map_err(|_| wrong())?))
}
