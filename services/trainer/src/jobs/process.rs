//! A job's process: the node's own binary, which confines itself, starts the job's program, and ends it when its time is
//! up or its parent is gone.

use std::{
    fs::File,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, getpgrp, getppid, kill_process_group},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use sandbox::Guest;
use serde::{Deserialize, Serialize};
use tokio::{
    process::{Child, Command},
    time::{Instant, interval},
};
use types::{Code, Refusal};

use super::Kind;

/// Files in a job's folder: what it gets, and what it leaves.
pub(super) const DATA: &str = "examples.parquet";
pub(super) const PARAMETERS: &str = "parameters.json";
pub(super) const MODEL: &str = "model.onnx";
pub(super) const METRICS: &str = "metrics.json";
pub(super) const LOG: &str = "log";
/// A folder that it finds again when it has to begin anew.
pub(super) const STATE: &str = "state";
/// What it is started with.
const ORDER: &str = "order.json";
/// Bytes of the largest file that a job may write, its log too.
const FILE: u64 = 4 << 30;
/// How often it is looked whether the parent is there.
const LOOK: Duration = Duration::from_millis(250);
/// What a job gives way to: everything else that the node does.
pub(super) const NICE: i32 = 10;
/// How a job ends whose time is up.
pub(super) const LATE: i32 = 124;

/// How jobs are confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confine {
    /// As far as the kernel can.
    Auto,
    /// Wholly, or they do not run.
    Required,
    /// Not at all.
    Off,
}

/// What a job's process is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    kind: Kind,
    folder: PathBuf,
    confine: Confine,
}

/// A job that runs. It ends when this is dropped, with everything that it has started.
pub(super) struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Running {
    /// Waits for its end; nothing where a signal ended it.
    pub(super) async fn ended(&mut self) -> std::io::Result<Option<i32>> {
        Ok(self.child.wait().await?.code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // A group that is gone needs no signal.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Starts a job in its folder.
///
/// # Errors
/// When it can't be started.
pub(super) fn start(binary: &Path, kind: &Kind, folder: &Path, confine: Confine) -> Result<Running, Refusal> {
    let fail = |error: std::io::Error| Refusal::new(Code::Internal, format!("a job can't be started: {error}"));
    let order = Order { kind: kind.clone(), folder: folder.to_owned(), confine };
    let text = serde_json::to_vec(&order).map_err(|error| fail(error.into()))?;
    let path = folder.join(ORDER);
    std::fs::write(&path, text).map_err(fail)?;
    let log = File::create(folder.join(LOG)).map_err(fail)?;
    let child = Command::new(binary)
        .arg("job")
        .arg(&path)
        .arg(std::process::id().to_string())
        .env_clear()
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(fail)?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(fail)?;
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    Ok(Running { child, group })
}

/// In the job's process: reads what to do and confines it. There must be no other threads yet.
///
/// # Errors
/// When the order can't be read; `sandbox_incomplete` where confinement is required and a layer is missing.
pub fn prepare(order: &Path) -> Result<Order, Refusal> {
    let order: Order = rpc::child::settings(order)?;
    let broken = |error: rustix::io::Errno| Refusal::new(Code::Internal, error.to_string());
    let there = sched_getaffinity(None).map_err(broken)?;
    let mut some = CpuSet::new();
    // The last ones: what answers requests tends to be on the first.
    let cores = (0..CpuSet::MAX_CPU).rev().filter(|core| there.is_set(*core));
    cores.take(order.kind.cores).for_each(|core| some.set(core));
    sched_setaffinity(None, &some).map_err(broken)?;
    rustix::process::nice(NICE).map_err(broken)?;
    if order.confine == Confine::Off {
        return Ok(order);
    }
    let program = order.kind.command.first().map(PathBuf::from);
    let guest = Guest {
        read: order.kind.read.iter().cloned().chain(program).collect(),
        write: vec![order.folder.clone()],
        memory: order.kind.memory.0,
        file: FILE,
    };
    let lacking = sandbox::confine_guest(&guest);
    if !lacking.is_empty() && order.confine == Confine::Required {
        let lacking = lacking.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        return Err(Refusal::new(Code::SandboxIncomplete, lacking));
    }
    Ok(order)
}

/// In the job's process: runs its program to its end, its time, or its parent's.
///
/// # Errors
/// When the program can't be started.
pub async fn run(order: Order, parent: u32) -> Result<i32, Refusal> {
    let Order { kind, folder, .. } = order;
    let Some((program, arguments)) = kind.command.split_first() else {
        return Err(Refusal::new(Code::SettingsInvalid, "the job has no command"));
    };
    let fail = |error: std::io::Error| Refusal::new(Code::Internal, format!("{program}: {error}"));
    let path = |name: &str| folder.join(name);
    let threads = kind.cores.to_string();
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(&folder)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LANG", "C.UTF-8")
        .env("HOME", &folder)
        .env("TMPDIR", path(STATE))
        .env("PYTHONUNBUFFERED", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"].map(|name| (name, &threads)))
        .env("MANTLET_JOB_DATA", path(DATA))
        .env("MANTLET_JOB_PARAMETERS", path(PARAMETERS))
        .env("MANTLET_JOB_MODEL", path(MODEL))
        .env("MANTLET_JOB_METRICS", path(METRICS))
        .env("MANTLET_JOB_STATE", path(STATE))
        .kill_on_drop(true)
        .spawn()
        .map_err(fail)?;
    let parent = i32::try_from(parent).ok().and_then(Pid::from_raw);
    let (end, mut look) = (Instant::now() + kind.time.0, interval(LOOK));
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(fail)?;
                return Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
            }
            _ = look.tick() => {
                if getppid() != parent {
                    // Nobody is there to end what it has started: this process goes with it.
                    let _ = kill_process_group(getpgrp(), Signal::KILL);
                }
                if Instant::now() >= end {
                    child.kill().await.map_err(fail)?;
                    return Ok(LATE);
                }
            }
        }
    }
}
