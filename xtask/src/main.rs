//! `cargo xtask`: set-up, tests, checks, benches and demos of this workspace.
//!
//! Each verb is a module: [`setup`] fetches what the others need, [`test`] is what CI runs, [`tidy`] holds the
//! house rules that a program can check, [`fuzz`] looks for inputs that break a
//! parser, [`bench`] measures a promise beside other people's software, [`evaluate`] all of them, [`demo`] shows the whole thing at
//! work. [`shell`] runs commands.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool prints")]

mod bench;
mod demo;
mod evaluate;
mod fuzz;
mod setup;
mod shell;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{setup::Environment, workspace::Workspace};

/// Set-up, tests, checks, benches and demos of Mantlet.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Fetches what tests and demos need: Python clients, ONNX Runtime, cargo-nextest, cargo-deny, cargo-shear.
    Setup,
    /// Formatting, lints, house rules, licences, all tests: what CI runs.
    Test,
    /// Checks the house rules: arrows between crates, module docs, panics, file sizes, links, error pages, paths.
    Tidy,
    /// Writes the reference pages below docs/reference anew from the code.
    Gen,
    /// Runs libFuzzer over every parser of untrusted bytes, and prints what it reached.
    Fuzz(fuzz::Options),
    /// Measures a promise beside other people's software, prints a table, writes target/bench/NAME.json.
    Bench(bench::Options),
    /// Runs every bench, one after the other, and writes docs/evaluation.md: each learnt part beside its plain twin.
    Evaluate(evaluate::Options),
    /// Builds Mantlet, starts a node, deploys the healthcare example, predicts, verifies the ledger.
    Demo {
        /// Stops the node and exits once everything has been shown.
        #[arg(long)]
        once: bool,
    },
}

fn main() -> ExitCode {
    match carry_out(Arguments::parse().verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the tests that hold the reference pages against the code, told to write instead of to compare.
fn generate(workspace: &Workspace) -> Result<()> {
    let mut command = shell::cargo();
    command.args(["test", "--quiet", "--package", "mantlet", "--package", "mantlet-gateway"]);
    command.args(["--package", "mantlet-settings"]);
    command.args(["--", "reference_page", "schema_page"]);
    shell::run("write docs/reference", command.env("MANTLET_GEN", "1").current_dir(&workspace.root))
}

/// Whether all went well; an error has not been printed yet, a `false` has.
fn carry_out(verb: Verb) -> Result<bool> {
    let workspace = Workspace::find()?;
    match verb {
        Verb::Setup => setup::go().and_then(|()| Environment::prepare(&workspace)).map(|environment| {
            environment.describe();
            true
        }),
        Verb::Test => test::run(&workspace),
        Verb::Tidy => tidy::run(&workspace),
        Verb::Gen => generate(&workspace).map(|()| true),
        Verb::Fuzz(options) => fuzz::run(&workspace, &options),
        Verb::Bench(options) => bench::run(&workspace, &options).map(|()| true),
        Verb::Evaluate(options) => evaluate::run(&workspace, &options),
        Verb::Demo { once } => demo::run(&workspace, once).map(|()| true),
    }
}
