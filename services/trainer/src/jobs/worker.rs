//! A worker's process: the node's own binary, which confines itself to nothing but its standard input and output, learns the
//! share that it is sent, and sends back what it has learnt.
//!
//! ```text
//! in:  order · common weights of each round          out: update of each round, or one state
//! ```
//!
//! Each of these is its length (8 bytes, little-endian) and so many bytes. It ends when its input does, or its parent is gone.

use std::{
    io::{Read, Write},
    path::Path,
    process::exit,
};

use rustix::process::{Pid, Resource, Rlimit, getppid, setrlimit};
use sandbox::Profile;
use serde::{Deserialize, Serialize};
use streaming::workers::{self, Worker};
use types::{Code, Refusal};

use super::process::{Confine, NICE};

/// Bytes of an order, at most: more than any job reads.
const ORDER: u64 = 1 << 30;
/// Bytes that it may write into its log.
const LOG: u64 = 1 << 20;

/// What a worker is told before it is confined.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) confine: Confine,
    /// Private memory that it may take, in bytes, and seconds of a core.
    pub(super) memory: u64,
    pub(super) seconds: u64,
}

fn broken(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, format!("a worker: {error}"))
}

/// Works until all is done. There must be no other threads yet.
///
/// # Errors
/// When the order can't be read, or what is sent is none; `sandbox_incomplete` where confinement is required and a layer
/// is missing.
pub fn run(order: &Path, parent: u32) -> Result<(), Refusal> {
    let Order { confine, memory, seconds } = rpc::child::settings(order)?;
    rustix::process::nice(NICE).map_err(broken)?;
    for (resource, most) in [(Resource::Cpu, seconds), (Resource::Fsize, LOG)] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }).map_err(broken)?;
    }
    if confine != Confine::Off {
        let lacking = sandbox::confine(&Profile { read: Vec::new(), memory });
        if !lacking.is_empty() && confine == Confine::Required {
            let lacking = lacking.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            return Err(Refusal::new(Code::SandboxIncomplete, lacking));
        }
    }
    let parent = i32::try_from(parent).ok().and_then(Pid::from_raw);
    let mut look = || {
        if getppid() != parent {
            exit(1);
        }
    };
    work(&mut std::io::stdin().lock(), &mut std::io::stdout().lock(), &mut look)
}

/// Does what the order says.
pub(super) fn work(from: &mut dyn Read, to: &mut dyn Write, look: &mut dyn FnMut()) -> Result<(), Refusal> {
    let order = take(from, ORDER)?;
    let mut worker = Worker::open(&order).map_err(broken)?;
    drop(order);
    let Some(width) = worker.width() else {
        let state = worker.grow(look).map_err(broken)?;
        return give(to, &state);
    };
    for _ in 0..worker.rounds() {
        let common = take(from, width as u64 * 8)?;
        let update = worker.step(&workers::numbers(&common), look).map_err(broken)?;
        give(to, &workers::written(&update))?;
    }
    Ok(())
}

fn take(from: &mut dyn Read, most: u64) -> Result<Vec<u8>, Refusal> {
    let mut length = [0; 8];
    from.read_exact(&mut length).map_err(broken)?;
    let length = u64::from_le_bytes(length);
    if length > most {
        return Err(broken(format!("{length} bytes are sent, of {most} at most")));
    }
    let mut bytes = Vec::new();
    from.take(length).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(broken("what is sent ends too soon")) }
}

fn give(to: &mut dyn Write, bytes: &[u8]) -> Result<(), Refusal> {
    let sent = to.write_all(&(bytes.len() as u64).to_le_bytes()).and_then(|()| to.write_all(bytes));
    sent.and_then(|()| to.flush()).map_err(broken)
}
