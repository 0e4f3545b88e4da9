//! Arguments of `incidents` and `restrict`.

use clap::{Args, Subcommand, ValueEnum};
use types::{ModelName, quantity::Span};

/// Verbs of incidents.
#[derive(Debug, Subcommand)]
pub(crate) enum IncidentsVerb {
    /// Look at one: what happened, what was done, and how to take it back.
    Show {
        /// The incident, or one of its actions.
        id: String,
    },
    /// Print them for other programs, one a line.
    Export {
        /// In which form.
        #[arg(long, value_enum, default_value_t)]
        format: Export,
        /// At most so many, the newest.
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
}

/// Forms of incidents for other programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Export {
    /// Detection Findings of the Open Cybersecurity Schema Framework.
    #[default]
    Ocsf,
    /// As the API tells them.
    Json,
}

/// How far a restriction goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rung {
    /// It is slowed down.
    Throttle,
    /// Its answers tell less, and come later.
    Degrade,
    /// It is not answered at the model, or at all where none is named.
    Quarantine,
    /// It is not answered at all.
    Block,
    /// The same, and only a person ends it.
    Revoke,
}

/// A restriction.
#[derive(Debug, Args)]
pub(crate) struct Restrict {
    /// Whom: a caller of the namespace by its name, or source:ADDRESS.
    pub(crate) subject: String,

    /// How far it goes.
    #[arg(long, value_enum)]
    pub(crate) rung: Rung,

    /// At this model alone.
    #[arg(long)]
    pub(crate) model: Option<ModelName>,

    /// For so long, like 1h; until it is undone where it is left out.
    #[arg(long = "for", value_name = "SPAN")]
    pub(crate) lasts: Option<Span>,

    /// Why; it goes into the ledger.
    #[arg(long)]
    pub(crate) reason: String,
}
