//! A node as a child process that never outlives this one's work: it is stopped on every way out.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{self, SignalKind},
};

/// How often to look, and how many times before giving up: a minute to start, ten seconds to stop.
const PAUSE: Duration = Duration::from_millis(100);
const LOOKS_TO_START: u32 = 600;
const LOOKS_TO_STOP: u32 = 100;
/// How much of its log to show when it ended by itself.
const LAST_LINES: usize = 20;

/// A running node; dropped, it is stopped.
pub(super) struct Node {
    child: Child,
    log: PathBuf,
}

impl Node {
    /// Starts the command, what it prints going to `log`.
    pub(super) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let failed = || format!("`{}` can't be written", log.display());
        let (out, error) = File::create(log).and_then(|file| Ok((file.try_clone()?, file))).with_context(failed)?;
        command.stdin(Stdio::null()).stdout(out).stderr(error);
        // Ctrl-C reaches every process of the terminal's group; in a group of its own the node hears only us.
        let child = command.process_group(0).spawn().context("the node can't be started")?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Waits, for a minute at most, until `ready` says so.
    pub(super) fn wait_until(&mut self, what: &str, ready: impl Fn() -> bool) -> Result<()> {
        for _ in 0..LOOKS_TO_START {
            if ready() {
                return Ok(());
            }
            if let Some(status) = self.ended()? {
                bail!("the node ended with {status} before {what}; the end of its log:\n{}", self.last_lines());
            }
            std::thread::sleep(PAUSE);
        }
        bail!("the node runs but {what} not after a minute; the end of its log:\n{}", self.last_lines())
    }

    /// Asks it to stop, and insists after ten seconds.
    pub(super) fn stop(&mut self) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("the node can't be told to stop")?;
        for _ in 0..LOOKS_TO_STOP {
            match self.ended()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the node ended with {status}; the end of its log:\n{}", self.last_lines()),
                None => std::thread::sleep(PAUSE),
            }
        }
        self.child.kill().and_then(|()| self.child.wait()).context("the node can't be ended")?;
        bail!("the node did not stop by itself within ten seconds; the end of its log:\n{}", self.last_lines())
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("the node can't be watched")
    }

    fn last_lines(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("error: {error:#}");
        }
    }
}

/// Ctrl-C and its like, caught from now on: they end the demo in order, not this process at once.
pub(super) struct Stop {
    runtime: Runtime,
    signals: Vec<unix::Signal>,
}

impl Stop {
    /// Catches them.
    pub(super) fn listen() -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("signals can't be caught")?;
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let inside = runtime.enter();
        let signals =
            kinds.into_iter().map(unix::signal).collect::<Result<_, _>>().context("signals can't be caught")?;
        drop(inside);
        Ok(Self { runtime, signals })
    }

    /// Waits until one arrives, or the node ends by itself, which is a failure.
    pub(super) fn wait(mut self, node: &mut Node) -> Result<()> {
        self.runtime.block_on(async {
            loop {
                let caught = std::future::poll_fn(|context| {
                    let caught = self.signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
                    if caught { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
                });
                if tokio::time::timeout(PAUSE, caught).await.is_ok() {
                    return Ok(());
                }
                if let Some(status) = node.ended()? {
                    bail!("the node ended by itself with {status}; the end of its log:\n{}", node.last_lines());
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, log: &Path) -> Node {
        Node::start(Command::new("sh").args(["-c", script]), log).unwrap()
    }

    fn runs(pid: Pid) -> bool {
        rustix::process::test_kill_process(pid).is_ok()
    }

    #[test]
    fn a_node_that_ends_early_is_reported_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut node = shell("echo 'the port is taken' >&2; exit 3", &folder.path().join("log"));
        let error = node.wait_until("it listens", || false).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("the port is taken"), "{error}");
    }

    #[test]
    fn dropping_a_node_stops_it() {
        let folder = tempfile::tempdir().unwrap();
        let started = folder.path().join("log");
        let mut node = shell("trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done", &started);
        node.wait_until("it is up", || fs::read_to_string(&started).is_ok_and(|text| text == "up\n")).unwrap();
        let pid = Pid::from_child(&node.child);
        assert!(runs(pid));
        drop(node);
        assert!(!runs(pid));
    }
}
