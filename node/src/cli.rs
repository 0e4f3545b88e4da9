//! What can be typed.

mod access;
mod incidents;
mod learning;
mod top;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use types::{CallerName, ModelName, Namespace, Version, quantity::Span};

pub(crate) use access::{Callers, Keys, Namespaces, Policy, Publishers, Secrets};
pub(crate) use incidents::{Export, IncidentsVerb, Restrict};
pub(crate) use learning::{Challenge, Clean, Contributors, Split, Trust};
pub(crate) use top::Top;

/// Serves machine-learning models behind a gateway that checks, balances, records and proves.
#[derive(Debug, Parser)]
#[command(name = "mantlet", version, about, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) node: Node,

    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Global options")]
    pub(crate) output: Format,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Tables and sentences.
    #[default]
    Text,
    /// One JSON value.
    Json,
}

/// Which node is meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct Node {
    /// Directory of the node on this machine.
    #[arg(
        long,
        global = true,
        env = "MANTLET_DATA_DIR",
        hide_env_values = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub(crate) data_dir: Option<PathBuf>,

    /// Address of a node elsewhere, for example https://models.example:8443.
    #[arg(
        long,
        global = true,
        env = "MANTLET_URL",
        hide_env_values = true,
        requires = "ca",
        help_heading = "Global options"
    )]
    pub(crate) url: Option<String>,

    /// File with that node's CA certificate.
    #[arg(
        long,
        global = true,
        env = "MANTLET_CA",
        hide_env_values = true,
        value_name = "FILE",
        help_heading = "Global options"
    )]
    pub(crate) ca: Option<PathBuf>,

    /// File that holds the token to use ("-" is standard input); the node's own admin token when left out.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) token_file: Option<PathBuf>,

    /// The token to use; a file or the environment keeps it out of other people's sight.
    #[arg(
        long,
        global = true,
        env = "MANTLET_TOKEN",
        hide_env_values = true,
        conflicts_with = "token_file",
        help_heading = "Global options"
    )]
    pub(crate) token: Option<String>,

    /// Namespace to act in, for tokens that may choose.
    #[arg(long, global = true, env = "MANTLET_NAMESPACE", hide_env_values = true, help_heading = "Global options")]
    pub(crate) namespace: Option<Namespace>,
}

/// Verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start a node: the whole system in one process, model servers as its children.
    Up(Up),
    /// Deploy a model from an ONNX file or a manifest.
    Deploy(Deploy),
    /// Ask a model for a prediction.
    Predict(Predict),
    /// Say what the right answers to earlier predictions were.
    Feedback {
        /// File with labels in JSON, one a line or an array; "-" is standard input.
        file: PathBuf,
    },
    /// List models, or look at one.
    #[command(args_conflicts_with_subcommands = true)]
    Models(Models),
    /// Let an earlier version of a model answer again.
    Rollback(Rollback),
    /// Show the versions that would like to answer instead of another, and what speaks for them.
    Rollouts {
        #[command(subcommand)]
        verb: Option<RolloutsVerb>,
    },
    /// Have a model's job train a new version of what labels taught.
    Retrain {
        /// The model.
        name: ModelName,
        /// Why; it goes into the ledger.
        #[arg(long)]
        reason: String,
    },
    /// Show the jobs that train new versions.
    Jobs {
        /// Those of one model alone, with the last lines that they printed.
        name: Option<ModelName>,
    },
    /// Show who attacked, what was done about it, and how to take that back.
    Incidents {
        #[command(subcommand)]
        verb: Option<IncidentsVerb>,
    },
    /// Show the agents that look for attackers.
    Agents,
    /// Slow a caller down, let its answers tell less, or answer it no more.
    Restrict(Restrict),
    /// Let a challenger answer, or do what an incident proposes.
    #[command(visible_alias = "promote")]
    Approve(Challenge),
    /// Let a challenger not answer, or leave what an incident proposes.
    #[command(visible_alias = "abort")]
    Reject(Challenge),
    /// Let the version before a promoted challenger answer again, or take an incident's action back.
    Undo(Challenge),
    /// Split a model's requests over its versions by shares, to compare them: A/B.
    Split(Split),
    /// Let a contributor's labels teach a model again, or hold them back.
    Contributors(Contributors),
    /// Give a model that learns rows that no feedback can touch: what it learns may not fall far behind on them.
    #[command(subcommand)]
    Clean(Clean),
    /// Want another number of replicas of a model.
    Scale {
        /// The model.
        name: ModelName,
        /// How many; `manifest` leaves it to the manifest again, and to the load where that has a say.
        #[arg(value_parser = parse_replicas)]
        replicas: Replicas,
    },
    /// Say what happens next, why, and what happened lately; or what a deploy would do.
    Plan {
        /// A manifest or an ONNX file: what if it were deployed?
        file: Option<PathBuf>,
        /// The model's name, for an ONNX file.
        #[arg(long)]
        name: Option<ModelName>,
    },
    /// Watch what every model does: requests, errors, latency, load, replicas.
    Top(Top),
    /// Delete a model with all its versions.
    Delete {
        /// The model.
        name: ModelName,
    },
    /// Add, list and revoke callers.
    #[command(subcommand)]
    Callers(Callers),
    /// Say what a namespace may use; for node-wide admins.
    #[command(subcommand)]
    Namespaces(Namespaces),
    /// Show, set and check the policies of the namespace.
    #[command(subcommand)]
    Policy(Policy),

    /// The node's own keys.
    #[command(subcommand)]
    Keys(Keys),

    /// Whose signature lets a model in.
    #[command(subcommand)]
    Publishers(Publishers),
    /// What models of other servers are asked with.
    #[command(subcommand)]
    Secrets(Secrets),
    /// Export the ledger, prove a prediction, and verify either offline.
    #[command(subcommand)]
    Audit(Audit),
    /// Run captured predictions again and compare.
    Replay(Replay),
    /// Erase what was recorded of a prediction or of a caller, for good.
    Forget(Forget),
    /// Copy the whole data directory into a folder, while the node runs; it holds the keys.
    Backup {
        /// A folder that does not exist yet, or is empty.
        dir: PathBuf,
    },
    /// Make a data directory from a backup.
    Restore {
        /// The backup's folder.
        dir: PathBuf,
    },
    /// Show settings and where each value came from.
    #[command(subcommand)]
    Config(Config),
    /// Check this machine and the node, and say how to mend what is wrong.
    Doctor(Doctor),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// A child process of a node; not for people.
    #[command(hide = true)]
    ModelServer {
        /// Its settings.
        settings: PathBuf,
        /// The process that starts it.
        parent: u32,
    },

    /// A service of `up --split`; its supervisor starts it.
    #[command(hide = true)]
    Service {
        /// Its settings.
        settings: PathBuf,
        /// The process that starts it.
        parent: u32,
    },

    /// A job that trains a model; the trainer starts it.
    #[command(hide = true)]
    Job {
        /// What it is to do.
        order: PathBuf,
        /// The process that starts it.
        parent: u32,
    },

    /// A worker that learns a share of a job's examples; the trainer starts it.
    #[command(hide = true)]
    Worker {
        /// How it is confined.
        order: PathBuf,
        /// The process that starts it.
        parent: u32,
    },
}

/// Starts a node.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Address to listen on; port 0 picks a free one; once per gateway with --split [default: 127.0.0.1:8443].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Vec<SocketAddr>,

    /// Run each service as a process of its own.
    #[arg(long)]
    pub(crate) split: bool,

    /// Settings file; mantlet.toml in the data directory when left out.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Off: plain HTTP for everybody on this machine, to measure what security costs.
    #[arg(long, value_enum, default_value = "on")]
    pub(crate) security: Security,
}

/// Whether callers are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Security {
    /// TLS, tokens and policies.
    On,
    /// None of them.
    Off,
}

/// Deploys a model.
#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// An ONNX file, or a manifest (.yaml) that names one.
    pub(crate) file: PathBuf,

    /// Name of the model; a manifest has its own.
    #[arg(long)]
    pub(crate) name: Option<ModelName>,

    /// Wait until it answers, or can't.
    #[arg(long)]
    pub(crate) wait: bool,

    /// A publisher's signature over the model, where the namespace has publishers.
    #[arg(long, value_name = "FILE")]
    pub(crate) signature: Option<PathBuf>,

    /// How long to wait.
    #[arg(long, default_value = "120s", value_name = "TIME")]
    pub(crate) timeout: Span,
}

/// Asks for a prediction.
#[derive(Debug, Args)]
pub(crate) struct Predict {
    /// The model.
    pub(crate) name: ModelName,

    /// File with an inference request in JSON; "-" is standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) input: PathBuf,

    /// A certain version.
    #[arg(long, value_parser = parse_version)]
    pub(crate) version: Option<Version>,
}

/// Lists models, or looks at one.
#[derive(Debug, Args)]
pub(crate) struct Models {
    #[command(subcommand)]
    pub(crate) verb: Option<ModelsVerb>,
}

/// Verbs of models.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelsVerb {
    /// List the models of the namespace.
    List,
    /// Show one model: versions, state, inputs and outputs.
    Show {
        /// The model.
        name: ModelName,
    },
    /// Write the signed bundle of a model into a folder, for anybody to verify.
    Export {
        /// The model.
        name: ModelName,
        /// A folder that does not exist yet, or is empty.
        dir: PathBuf,
        /// A certain version.
        #[arg(long, value_parser = parse_version)]
        version: Option<Version>,
    },
    /// Show how right each version of a model was, by the labels that came.
    Evaluation {
        /// The model.
        name: ModelName,
    },
    /// Print predictions of a model with their labels, one JSON object a line, in the order in which they are learnt.
    Examples {
        /// The model.
        name: ModelName,
        /// From this offset of the joined log on.
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Let a model forget what it has learnt since an earlier state.
    Revert {
        /// The model.
        name: ModelName,
        /// The state's number, as `models evaluation` shows it; the one before the newest when left out.
        #[arg(long)]
        snapshot: Option<u64>,
        /// Why; it goes into the ledger.
        #[arg(long)]
        reason: String,
    },
    /// Print an example request of zeros for a model.
    Sample {
        /// The model.
        name: ModelName,
    },
    /// Print the JSON Schema of a manifest.
    Schema,
}

/// Verbs of rollouts.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutsVerb {
    /// Come to the decision once more, from the log alone.
    Explain {
        /// The challenger, as `mantlet rollouts` shows it: MODEL/VERSION.
        id: String,
    },
    /// Have a challenger wait: it keeps its share of the requests, and is taken back where it is worse, but gets no further.
    Pause(Challenge),
    /// Let a challenger go on that was to wait.
    Resume(Challenge),
}

/// How many replicas somebody wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replicas(pub(crate) Option<u32>);

fn parse_replicas(text: &str) -> Result<Replicas, String> {
    match text {
        "manifest" => Ok(Replicas(None)),
        number => match number.parse() {
            Ok(number) => Ok(Replicas(Some(number))),
            Err(_) => Err("write a number, or `manifest`".into()),
        },
    }
}

/// Goes back to an earlier version.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The model.
    pub(crate) name: ModelName,

    /// The version to go back to; the one before when left out.
    #[arg(long, value_parser = parse_version)]
    pub(crate) to: Option<Version>,
}

/// Runs captured predictions again.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// How many of the last captured predictions, at most 10000.
    #[arg(long, value_name = "N")]
    pub(crate) last: u64,

    /// Those of this model only.
    #[arg(long)]
    pub(crate) model: Option<ModelName>,
}

/// Erases what was recorded.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Forget {
    /// This prediction, by its id.
    #[arg(long, value_name = "ID")]
    pub(crate) prediction: Option<String>,

    /// Every prediction of this caller.
    #[arg(long, value_name = "NAME")]
    pub(crate) caller: Option<CallerName>,
}

/// Verbs of audit.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Export the whole ledger into a folder.
    Export {
        /// A folder that does not exist yet, or is empty.
        dir: PathBuf,
    },
    /// Prove that a prediction was recorded, and as what.
    Prove {
        /// The prediction's id.
        prediction: String,
        /// File to write the proof to; standard output when left out.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Cosign the newest checkpoint, once it continues the one cosigned before; run it elsewhere, now and then.
    Witness {
        /// The witness's secret key; made, with its public half beside it, when it is missing.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Where the newest cosigned checkpoint is kept: what `verify --since` takes.
        #[arg(long, value_name = "FILE")]
        state: PathBuf,
        /// The log's key to trust: `log.key` of the node's data directory.
        #[arg(long, value_name = "FILE")]
        log_key: PathBuf,
        /// The witness's name, for a new key.
        #[arg(long, default_value = "mantlet-witness")]
        name: String,
    },
    /// Verify an export or a proof; needs no node.
    Verify {
        /// The exported folder, or the file with a proof.
        #[arg(value_name = "DIR|FILE")]
        dir: PathBuf,
        /// The key to trust: `log.key` of the node's data directory, not the one in the export.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// A checkpoint kept from an earlier export: catches a log that was cut or rewritten since.
        #[arg(long, value_name = "CHECKPOINT")]
        since: Option<PathBuf>,
        /// Public key of a witness that must have cosigned that checkpoint.
        #[arg(long, value_name = "FILE", requires = "since")]
        witness: Option<PathBuf>,
    },
}

/// Verbs of config.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Show every setting, its value, and where the value came from.
    Show {
        /// Settings file; mantlet.toml in the data directory when left out.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// Checks this machine and the node.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Settings file; mantlet.toml in the data directory when left out.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

fn parse_version(text: &str) -> Result<Version, String> {
    text.parse().ok().filter(|n| *n > 0).map(Version).ok_or_else(|| "a version is a number from 1".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn describe(command: &mut clap::Command, path: &str, page: &mut String) {
        let path = format!("{path} {}", command.get_name()).trim().to_owned();
        let help = command.render_long_help().to_string();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        page.push_str(&format!("## {path}\n\n```text\n{}\n```\n\n", lines.join("\n").trim_end()));
        for inner in command.get_subcommands_mut().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help") {
            describe(inner, &path, page);
        }
    }

    #[test]
    fn the_reference_page_shows_the_help_of_every_verb() {
        let mut command = Cli::command().term_width(100).disable_version_flag(true);
        command.build();
        let mut page = String::from("# Command line\n\n");
        describe(&mut command, "", &mut page);
        testkit::reference::check("cli.md", &page);
    }

    #[test]
    fn the_schema_page_is_what_models_schema_prints() {
        let schema = serde_json::to_string_pretty(&types::Manifest::schema()).unwrap();
        testkit::reference::check("manifest.schema.json", &schema);
    }
}
