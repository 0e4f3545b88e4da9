//! One file per verb.

mod audit;
mod backup;
mod callers;
mod clean;
pub(crate) mod config;
mod deploy;
mod doctor;
mod feedback;
mod history;
mod incidents;
mod jobs;
mod keys;
mod models;
mod namespaces;
mod plan;
mod policy;
mod predict;
mod publishers;
mod rollouts;
mod scaling;
mod secrets;
mod sent;
mod top;

use clap::CommandFactory as _;
use types::Refusal;

use crate::{
    cli::{Challenge, Cli, Format, RolloutsVerb, Verb},
    client::Client,
    up,
};

/// Runs what was typed.
///
/// # Errors
/// What was refused or failed.
pub(crate) async fn run(cli: Cli) -> Result<(), Refusal> {
    let Cli { node, output, verb } = cli;
    match verb {
        Verb::Up(arguments) => up::run(&node, &arguments, output).await,
        // `main` has run it already: it must confine itself before there are threads.
        Verb::ModelServer { .. } | Verb::Service { .. } | Verb::Job { .. } | Verb::Worker { .. } => Ok(()),
        Verb::Deploy(arguments) => deploy::run(&Client::find(&node)?, &arguments, output).await,
        Verb::Predict(arguments) => predict::run(&Client::find(&node)?, &arguments, output).await,
        Verb::Feedback { file } => feedback::run(&Client::find(&node)?, &file, output).await,
        Verb::Models(arguments) => models::run(&node, arguments.verb, output).await,
        Verb::Rollback(arguments) => models::rollback(&Client::find(&node)?, &arguments, output).await,
        Verb::Rollouts { verb: None } => rollouts::list(&Client::find(&node)?, output).await,
        Verb::Rollouts { verb: Some(RolloutsVerb::Explain { id }) } => {
            rollouts::explain(&Client::find(&node)?, &id, output).await
        }
        Verb::Clean(verb) => clean::run(&Client::find(&node)?, &verb, output).await,
        Verb::Retrain { name, reason } => jobs::retrain(&Client::find(&node)?, &name, &reason, output).await,
        Verb::Jobs { name } => jobs::list(&Client::find(&node)?, name.as_ref(), output).await,
        Verb::Incidents { verb } => incidents::run(&Client::find(&node)?, verb.as_ref(), output).await,
        Verb::Agents => incidents::agents(&Client::find(&node)?, output).await,
        Verb::Restrict(arguments) => incidents::restrict(&Client::find(&node)?, &arguments, output).await,
        Verb::Rollouts { verb: Some(RolloutsVerb::Pause(word)) } => {
            rollouts::decide(&Client::find(&node)?, "pause", &word, output).await
        }
        Verb::Rollouts { verb: Some(RolloutsVerb::Resume(word)) } => {
            rollouts::decide(&Client::find(&node)?, "resume", &word, output).await
        }
        Verb::Approve(word) => say(&Client::find(&node)?, "approve", &word, output).await,
        Verb::Reject(word) => say(&Client::find(&node)?, "reject", &word, output).await,
        Verb::Undo(word) => say(&Client::find(&node)?, "undo", &word, output).await,
        Verb::Split(split) => sent::split(&Client::find(&node)?, &split, output).await,
        Verb::Contributors(word) => rollouts::look_at(&Client::find(&node)?, &word, output).await,
        Verb::Scale { name, replicas } => plan::scale(&Client::find(&node)?, &name, replicas, output).await,
        Verb::Plan { file, name } => plan::run(&Client::find(&node)?, file.as_deref(), name, output).await,
        Verb::Delete { name } => models::delete(&Client::find(&node)?, &name, output).await,
        Verb::Callers(verb) => callers::run(&Client::find(&node)?, verb, output).await,
        Verb::Namespaces(verb) => namespaces::run(&Client::find(&node)?, verb, output).await,
        Verb::Keys(verb) => keys::run(&Client::find(&node)?, verb, output).await,
        Verb::Publishers(verb) => publishers::run(&Client::find(&node)?, verb, output).await,
        Verb::Secrets(verb) => secrets::run(&Client::find(&node)?, verb, output).await,
        Verb::Policy(verb) => policy::run(&Client::find(&node)?, verb, output).await,
        Verb::Top(arguments) => top::run(&Client::find(&node)?, &arguments, output).await,
        Verb::Replay(arguments) => history::replay(&Client::find(&node)?, &arguments, output).await,
        Verb::Forget(arguments) => history::forget(&Client::find(&node)?, arguments, output).await,
        Verb::Audit(verb) => audit::run(&node, verb, output).await,
        Verb::Backup { dir } => backup::backup(&node, &dir, output).await,
        Verb::Restore { dir } => backup::restore(&node, &dir, output).await,
        Verb::Config(verb) => config::run(&node, verb, output),
        Verb::Doctor(arguments) => doctor::run(&node, &arguments, output).await,
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "mantlet", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// A person's word on a challenger, which has a version, or on what the sentinel does.
async fn say(client: &Client, say: &str, word: &Challenge, output: Format) -> Result<(), Refusal> {
    match word.id.contains('/') {
        true => rollouts::decide(client, say, word, output).await,
        false => incidents::say(client, say, word, output).await,
    }
}
