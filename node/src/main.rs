//! The binary: every verb of the command line, and the one place where services are wired together.
//!
//! `cli` says what can be typed, `commands` holds one file per verb, `up` wires a node, `settings` resolves
//! defaults < file < environment < flags. Data goes to standard output, everything else to standard error.

mod cli;
mod client;
mod commands;
mod output;
mod up;

use std::process::ExitCode;

use clap::Parser as _;

/// A small prediction is some hundred allocations, many of them freed by another thread than made them, which the
/// system's allocator takes an eighth of the time for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    access::tls::install_provider();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return output::usage(&error),
    };
    let format = cli.output;
    // Who confines itself does it first, while it is one thread.
    let child = match &cli.verb {
        cli::Verb::ModelServer { settings, parent } => up::log::start("info", false)
            .and_then(|()| model_server::process::confine(settings))
            .map(|(settings, gauge)| Some(Child::ModelServer(settings, gauge, *parent))),
        cli::Verb::Service { settings, parent } => {
            up::child::prepare(settings).map(|prepared| Some(Child::Service(Box::new(prepared), *parent)))
        }
        _ => Ok(None),
    };
    let child = match child {
        Ok(child) => child,
        Err(refusal) => return output::fail(&refusal, format),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::fail(&output::internal(&error), format),
    };
    let outcome = match child {
        Some(Child::ModelServer(settings, gauge, parent)) => {
            runtime.block_on(model_server::process::run(settings, gauge, parent))
        }
        Some(Child::Service(prepared, parent)) => runtime.block_on(up::child::run(*prepared, parent)),
        None => runtime.block_on(commands::run(cli)),
    };
    // Blocking work of a stopped node must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => output::fail(&refusal, format),
    }
}

/// A process that another one started.
enum Child {
    ModelServer(model_server::process::Settings, Option<model_server::Gauge>, u32),
    Service(Box<up::child::Prepared>, u32),
}
