//! The binary: every verb of the command line, and the one place where services are wired together.
//!
//! `cli` says what can be typed, `commands` holds one file per verb, `up` wires a node, `settings` resolves
//! defaults < file < environment < flags. Data goes to standard output, everything else to standard error.

mod allocator;
mod cli;
mod client;
mod commands;
mod output;
mod up;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    access::tls::install_provider();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return output::usage(&error),
    };
    let format = cli.output;
    // A worker is one thread, from its confinement to its end.
    if let cli::Verb::Worker { order, parent } = &cli.verb {
        return match trainer::jobs::worker::run(order, *parent) {
            Ok(()) => ExitCode::SUCCESS,
            Err(refusal) => output::fail(&refusal, format),
        };
    }
    // Who confines itself does it first, while it is one thread.
    let child = match &cli.verb {
        cli::Verb::ModelServer { settings, parent } => up::log::start("info", false)
            .and_then(|()| model_server::process::confine(settings))
            .map(|(settings, gauge)| Some(Child::ModelServer(settings, gauge, *parent))),
        cli::Verb::Service { settings, parent } => {
            up::child::prepare(settings).map(|prepared| Some(Child::Service(Box::new(prepared), *parent)))
        }
        cli::Verb::Job { order, parent } => {
            trainer::jobs::process::prepare(order).map(|order| Some(Child::Job(order, *parent)))
        }
        _ => Ok(None),
    };
    let child = match child {
        Ok(child) => child,
        Err(refusal) => return output::fail(&refusal, format),
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // Requests are quick and what takes long has threads of its own, so half of the cores keep up; with as many workers
    // as cores, most are woken to find nothing to do. Tokio's own variable is for who knows better.
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        runtime.worker_threads(cores.div_ceil(2));
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::fail(&output::internal(&error), format),
    };
    let outcome = match child {
        Some(Child::ModelServer(settings, gauge, parent)) => {
            runtime.block_on(model_server::process::run(settings, gauge, parent))
        }
        Some(Child::Service(prepared, parent)) => runtime.block_on(up::child::run(*prepared, parent)),
        Some(Child::Job(order, parent)) => match runtime.block_on(trainer::jobs::process::run(order, parent)) {
            Ok(code) => return ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
            Err(refusal) => Err(refusal),
        },
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
    Job(trainer::jobs::process::Order, u32),
}
