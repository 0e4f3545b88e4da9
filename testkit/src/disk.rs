//! Disks that fail: one with little room, and one that stands still.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A file system in memory that only a node sees, and whoever looks through the process that keeps it.
pub(crate) struct SmallDisk {
    keeper: Child,
}

/// What the keeper runs: it ends, and the disk with it, when the test lets go of its standard input.
const KEEPER: &str = r#"mount -t tmpfs -o "size=$1,mode=0700" tmpfs "$2" && echo mounted && read -r _"#;

impl SmallDisk {
    pub(crate) fn mount(on: &Path, bytes: u64) -> Option<Self> {
        let root = rustix::process::geteuid().is_root();
        let mut command = Command::new("unshare");
        command.args(if root { &["-m"][..] } else { &["-r", "-m"] });
        command.args(["sh", "-c", KEEPER, "sh", &bytes.to_string()]).arg(on);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut disk = Self { keeper: command.spawn().ok()? };
        let mut line = String::new();
        BufReader::new(disk.keeper.stdout.take()?).read_line(&mut line).ok()?;
        (line == "mounted\n").then_some(disk)
    }

    /// The keeper's root directory, through which others see the disk.
    pub(crate) fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.keeper.id()).into()
    }

    /// A command that sees the disk; its process is the program's own.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("-t").arg(self.keeper.id().to_string()).arg("-m");
        if !rustix::process::geteuid().is_root() {
            command.args(["-U", "--preserve-credentials"]);
        }
        command.arg("--").arg(program);
        command
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.keeper.kill().expect("the keeper can be killed");
        self.keeper.wait().expect("the keeper can be waited for");
    }
}

/// Waits inside `fsync` and `fdatasync` while a file exists; built by the system's C compiler.
const STILL: &str = include_str!("disk/still.c");

/// A disk that takes what is written, and can be told to stand still when it should make it durable.
#[derive(Debug, Clone)]
pub struct SlowDisk {
    library: PathBuf,
    gate: PathBuf,
}

impl SlowDisk {
    pub(crate) fn build(folder: &Path) -> Option<Self> {
        let (source, library) = (folder.join("still.c"), folder.join("still.so"));
        fs::write(&source, STILL).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
        let built = compiler.status().ok()?.success();
        built.then(|| Self { library, gate: folder.join("still") })
    }

    /// Starts a command on this disk.
    pub(crate) fn under(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("TESTKIT_DISK_STILL", &self.gate);
    }

    /// Nothing becomes durable until [`goes_on`](Self::goes_on).
    pub fn stands_still(&self) {
        File::create(&self.gate).unwrap();
    }

    /// What was written becomes durable again.
    pub fn goes_on(&self) {
        fs::remove_file(&self.gate).unwrap();
    }
}
