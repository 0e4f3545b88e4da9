//! Runs commands: says what starts and how long it took, and names the command that failed.

use std::{
    fmt,
    io::{BufRead as _, BufReader},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// Counts seconds for a person to read; no decision hangs on it.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "there is no service here to ask for the time")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

impl fmt::Display for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.elapsed().as_secs_f64())
    }
}

/// Does some work under a headline, and says how long it took.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("==> {what}");
    let watch = Stopwatch::start();
    let result = work();
    match &result {
        Ok(_) => eprintln!("    {what}: {watch}"),
        Err(_) => eprintln!("    {what}: failed after {watch}"),
    }
    result
}

/// Runs a command under a headline, its output on the terminal.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<()> {
    step(what, || execute(command))
}

/// Runs a command, its output on the terminal.
pub(crate) fn execute(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("`{}` can't be started", shown(command)))?;
    succeeded(command, status)
}

/// Runs a command and returns what it wrote to standard output.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("`{}` can't be started", shown(command)))?;
    succeeded(command, output.status)?;
    String::from_utf8(output.stdout).with_context(|| format!("`{}` wrote something that is not UTF-8", shown(command)))
}

/// Runs a command, copies its standard output to ours, and returns it with how the command ended.
pub(crate) fn watch(command: &mut Command) -> Result<(String, Result<()>)> {
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("`{}` can't be started", shown(command)))?;
    let mut text = String::new();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line.with_context(|| format!("the output of `{}` can't be read", shown(command)))?;
            println!("{line}");
            text.push_str(&line);
            text.push('\n');
        }
    }
    let status = child.wait().with_context(|| format!("`{}` can't be waited for", shown(command)))?;
    Ok((text, succeeded(command, status)))
}

/// Whether a command can be started and succeeds; what it prints is dropped.
pub(crate) fn works(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The cargo that runs this very command, so that one toolchain does everything.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn succeeded(command: &Command, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("`{}` ended with {status}", shown(command))
}

/// The command as a person would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_as_one_would_type_it() {
        let mut command = Command::new("sh");
        let error = execute(command.args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'exit 3'` ended with exit status: 3");
    }

    #[test]
    fn a_command_that_is_not_there_is_named_too() {
        let error = execute(&mut Command::new("mantlet-no-such-command")).unwrap_err();
        assert_eq!(error.to_string(), "`mantlet-no-such-command` can't be started");
    }

    #[test]
    fn watching_keeps_the_output_of_a_command_that_fails() {
        let mut command = Command::new("sh");
        let (text, ended) = watch(command.args(["-c", "echo one; exit 1"])).unwrap();
        assert_eq!(text, "one\n");
        assert!(ended.is_err());
    }
}
