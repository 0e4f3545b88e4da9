//! `cargo xtask evaluate`: benches, one after the other, and one report of all, docs/evaluation.md. Quick ones are kept apart.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{
    bench::{self, Name},
    setup::Environment,
    shell,
    workspace::Workspace,
};

/// How to evaluate.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The benches to run; all of them where none is named. The others keep what they last measured.
    benches: Vec<Name>,
    /// Folder with test data; MANTLET_DATA by default.
    #[arg(long)]
    data: Option<std::path::PathBuf>,
    /// Short runs: shows that all of it works, and measures little. The report goes to target/bench/quick.
    #[arg(long)]
    quick: bool,
    /// Runs nothing, and reports what was measured before.
    #[arg(long, conflicts_with = "benches")]
    report: bool,
}

/// Runs benches, and writes the report. Whether all of them ran: one that fails costs its own lines.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let benches = match &options.benches[..] {
        _ if options.report => &[],
        [] => Name::value_variants(),
        named => named,
    };
    let mut failed = Vec::new();
    for name in benches {
        let title = name.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        println!("==> bench {title}");
        let options = bench::Options::of(*name, options.data.clone(), options.quick);
        if let Err(error) = bench::run(workspace, &options) {
            eprintln!("{title}: {error:#}: going on without");
            failed.push(title);
        }
    }
    let mut report = Environment::prepare(workspace)?.python();
    report.arg(workspace.root.join("evaluation/evaluate/report.py"));
    let results = workspace.target.join("bench");
    let docs = if options.quick { results.join("quick") } else { workspace.root.join("docs") };
    report.arg("--results").arg(results).arg("--docs").arg(docs);
    report.args(options.quick.then_some(format!("--ending={}", bench::QUICK)));
    shell::run("report", &mut report)?;
    if !failed.is_empty() {
        eprintln!("benches that failed: {}", failed.join(", "));
    }
    Ok(failed.is_empty())
}
