//! What a job runs: whoever runs the node says it, and models name it. So no model brings a program along.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use types::{
    Code, Refusal,
    quantity::{ByteCount, Span},
};

/// A program that makes a model of examples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kind {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Files and folders that it reads, beside the system's programs and libraries.
    #[serde(default)]
    pub read: Vec<PathBuf>,
    /// How long it may take.
    #[serde(default = "hour")]
    pub time: Span,
    /// Private memory that each of its processes may take.
    #[serde(default = "memory")]
    pub memory: ByteCount,
    /// Cores that it may use.
    #[serde(default = "one")]
    pub cores: usize,
}

fn hour() -> Span {
    Span(Duration::from_secs(3_600))
}

fn memory() -> ByteCount {
    ByteCount(2 << 30)
}

fn one() -> usize {
    1
}

/// Jobs by name.
pub type Kinds = BTreeMap<String, Kind>;

impl Kind {
    /// Checks what can be checked before it runs.
    ///
    /// # Errors
    /// `settings_invalid`, with the job's name.
    pub fn check(&self, name: &str) -> Result<(), Refusal> {
        let wrong = |what: &str| Err(Refusal::new(Code::SettingsInvalid, format!("job `{name}`: {what}")));
        match self.command.first() {
            None => return wrong("command is empty"),
            Some(program) if !program.starts_with('/') => {
                return wrong("command begins with the whole path of a program");
            }
            Some(_) => {}
        }
        if let Some(path) = self.read.iter().find(|path| !path.is_absolute()) {
            return wrong(&format!("read: `{}` is no whole path", path.display()));
        }
        if self.time.0.is_zero() || self.memory.0 < 16 << 20 || self.cores == 0 {
            return wrong("it needs some time, a core, and 16MiB of memory");
        }
        Ok(())
    }
}
