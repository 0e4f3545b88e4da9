//! What can be typed about who may do what: callers, namespaces, keys, secrets, publishers, policies.

use std::path::PathBuf;

use clap::Subcommand;
use types::{
    CallerName, KeyKind, ModelName, Namespace, Role, SecretName, Version,
    quantity::{ByteCount, Rate, Span},
    quota::AuditDuty,
};

/// Verbs of callers.
#[derive(Debug, Subcommand)]
pub(crate) enum Callers {
    /// Add a caller; prints its token, this once.
    Add {
        /// The caller's name.
        name: CallerName,
        /// What it may be: admin, deployer, caller, labeller or auditor; may be repeated.
        #[arg(long = "role", required = true)]
        roles: Vec<Role>,
        /// How long its token works, for example 90d; for ever when left out.
        #[arg(long, value_name = "TIME")]
        expires_in: Option<Span>,
        /// Let it act in any namespace.
        #[arg(long)]
        node_wide: bool,
    },
    /// List the callers of the namespace.
    List,
    /// Revoke a caller: its token stops working within a second.
    Revoke {
        /// The caller's name.
        name: CallerName,
    },
    /// Send a caller's requests that name no version to one version of a model.
    Pin {
        /// The caller's name.
        name: CallerName,
        /// The model.
        model: ModelName,
        /// Its version; while that can't answer, the version that answers all others does.
        #[arg(value_parser = super::parse_version)]
        version: Version,
        /// Why; it goes into the ledger.
        #[arg(long)]
        reason: String,
    },
    /// Send them where all others go.
    Unpin {
        /// The caller's name.
        name: CallerName,
        /// The model.
        model: ModelName,
        /// Why; it goes into the ledger.
        #[arg(long)]
        reason: String,
    },
    /// Make a caller a client certificate; its key is made here and leaves this machine with nobody.
    Certificate {
        /// The caller's name.
        name: CallerName,
        /// Folder for NAME.pem and NAME.key.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// How long it holds, for example 30d; 90d when left out, a year at most.
        #[arg(long, value_name = "TIME")]
        expires_in: Option<Span>,
    },
    /// Replace a caller's token, which also ends its certificates; prints the new one, this once.
    Rotate {
        /// The caller's name.
        name: CallerName,
    },
}

/// Verbs of namespaces.
#[derive(Debug, Subcommand)]
pub(crate) enum Namespaces {
    /// List the namespaces that have a quota.
    List,
    /// Set a namespace's quota; what is left out is not bounded.
    Set {
        /// The namespace.
        name: Namespace,
        /// Predictions per second at each gateway, for example 200/s.
        #[arg(long)]
        rate: Option<Rate>,
        /// Predictions in flight at each gateway.
        #[arg(long)]
        concurrency: Option<u32>,
        /// Rows predicted in a day (UTC).
        #[arg(long)]
        rows_per_day: Option<u64>,
        /// Models.
        #[arg(long)]
        models: Option<u32>,
        /// Memory that all replicas may take, for example 8GiB.
        #[arg(long)]
        memory: Option<ByteCount>,
        /// Bytes of the model files of all versions, for example 20GiB.
        #[arg(long)]
        storage: Option<ByteCount>,
        /// What becomes of a prediction that can't be recorded: drop answers it and records a gap, block refuses it.
        #[arg(long, default_value = "drop")]
        audit: AuditDuty,
    },
    /// Take a namespace's bounds away.
    Reset {
        /// The namespace.
        name: Namespace,
    },
}

/// Verbs of keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// List the node's keys: ca, bundle and log.
    List,
    /// Replace a key; what the one before signed holds until that is retired.
    Rotate {
        /// ca, bundle or log.
        key: KeyKind,
    },
    /// End the key before the newest.
    Retire {
        /// ca, bundle or log.
        key: KeyKind,
    },
}

/// Verbs of secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum Secrets {
    /// List secrets by name; their values are never shown.
    List,
    /// Set a secret, read from standard input.
    Set {
        /// Its name, as manifests name it.
        name: SecretName,
    },
    /// Take a secret away; models that are loaded keep it until they are loaded anew.
    Remove {
        /// Its name.
        name: SecretName,
    },
}

/// Verbs of publishers.
#[derive(Debug, Subcommand)]
pub(crate) enum Publishers {
    /// List the keys whose signature lets a model into the namespace.
    List,
    /// Trust a key; from then on the namespace takes signed models alone.
    Add {
        /// File with a P-256 public key in PEM.
        file: PathBuf,
    },
    /// Revoke a key, for good: nothing it signed can be deployed or rolled back to.
    Revoke {
        /// The key's fingerprint, or its first 8 characters and more.
        fingerprint: String,
    },
}

/// Verbs of policy.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Show the namespace's own policies.
    Show,
    /// Show the default policies, which hold in every namespace.
    Default,
    /// Show what a policy may speak of.
    Schema,
    /// Set the namespace's own policies, beside the default ones.
    Set {
        /// File with policies in Cedar; "-" is standard input.
        file: PathBuf,
    },
    /// Take the namespace's own policies back.
    Reset,
    /// Say who may do what, and which policy says so.
    Check {
        /// This caller only.
        #[arg(long)]
        caller: Option<CallerName>,
        /// This action only, for example predict.
        #[arg(long)]
        action: Option<String>,
        /// On this model only, which need not exist.
        #[arg(long)]
        model: Option<ModelName>,
        /// Show what is denied too.
        #[arg(long)]
        all: bool,
    },
}
