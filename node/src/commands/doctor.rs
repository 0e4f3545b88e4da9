//! `mantlet doctor`: what is well, what is not, and how to mend it.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path};

use model_server::{process::Sandbox, runtime};
use reqwest::Method;
use serde::Serialize;
use store::sqlite::{self, SqliteLog};
use types::{Code, Refusal};

use crate::{
    cli::{Doctor, Format, Node},
    client::{self, Client},
    output,
};

/// Bytes written to see whether there is room for any.
const PROBE: usize = 64 << 10;
/// The ledger's file.
const LEDGER: &str = "ledger.db";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Failed,
}

#[derive(Debug, Serialize)]
struct Check {
    #[serde(skip)]
    code: Code,
    check: &'static str,
    state: State,
    found: String,
    hint: Option<String>,
}

impl Check {
    fn new(check: &'static str, state: State, found: impl Into<String>) -> Self {
        Self { code: Code::DataDirUnusable, check, state, found: found.into(), hint: None }
    }

    fn refused(check: &'static str, state: State, refusal: &Refusal) -> Self {
        Self {
            code: refusal.code,
            check,
            state,
            found: refusal.message.clone().into_owned(),
            hint: refusal.hint.clone().map(Into::into),
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

pub(crate) async fn run(node: &Node, arguments: &Doctor, format: Format) -> Result<(), Refusal> {
    let dir = client::data_dir(node)?;
    let mut checks = Vec::new();
    let settings =
        super::config::resolve(&dir, arguments.config.as_deref(), &[]).and_then(|resolved| resolved.settings());
    match &settings {
        Ok(settings) => {
            checks.push(Check::new("settings", State::Ok, "all can be read"));
            checks.push(library(settings.onnxruntime.as_deref()));
            checks.push(sandbox(settings.sandbox));
        }
        Err(refusal) => checks.push(Check::refused("settings", State::Failed, refusal)),
    }
    checks.push(data_dir(&dir));
    checks.extend(disk(&dir));
    for name in super::backup::DATABASES {
        checks.extend(database(&dir, name).await);
    }
    checks.extend(running(node).await);
    let failed = checks.iter().filter(|check| check.state == State::Failed).count();
    output::show(&checks, format, |checks| {
        let mut out = String::new();
        for check in checks {
            let mark = match check.state {
                State::Ok => "ok  ",
                State::Warning => "warn",
                State::Failed => "FAIL",
            };
            out.push_str(&format!("{mark}  {}: {}\n", check.check, check.found));
            if let Some(hint) = &check.hint {
                out.push_str(&format!("      hint: {hint}\n"));
            }
        }
        out
    });
    match checks.into_iter().find(|check| check.state == State::Failed) {
        Some(first) => Err(Refusal::new(first.code, format!("{failed} check(s) failed, first: {}", first.check))
            .hint("mend what is marked FAIL, then run `mantlet doctor` again")),
        None => Ok(()),
    }
}

fn library(named: Option<&Path>) -> Check {
    const CHECK: &str = "ONNX Runtime";
    match runtime::find(named) {
        Ok(library) if runtime::refuse_talker(&library, None).is_err() => Check::new(
            CHECK,
            State::Warning,
            format!(
                "{} is version {}, which phones home unless told not to; Mantlet tells every model server",
                library.path.display(),
                library.version
            ),
        )
        .hint("version 1.28.0 does not phone home at all"),
        Ok(library) => {
            Check::new(CHECK, State::Ok, format!("version {} at {}", library.version, library.path.display()))
        }
        Err(refusal) => Check::refused(CHECK, State::Failed, &refusal),
    }
}

fn sandbox(wanted: Sandbox) -> Check {
    const CHECK: &str = "sandbox of model servers";
    if wanted == Sandbox::Off {
        return Check::new(CHECK, State::Warning, "the settings say off").hint("set model-server.sandbox to auto");
    }
    let lacking = sandbox::probe();
    if lacking.is_empty() {
        return Check::new(CHECK, State::Ok, "no-new-privileges, limits, landlock and seccomp are in force");
    }
    let found = lacking.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let state = if wanted == Sandbox::Required { State::Failed } else { State::Warning };
    Check { code: Code::SandboxIncomplete, ..Check::new(CHECK, state, found) }
        .hint("run it on a kernel of 6.2 or later with Landlock among its security modules")
}

fn data_dir(dir: &Path) -> Check {
    const CHECK: &str = "data directory";
    let metadata = match fs::metadata(dir) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Check::new(
                CHECK,
                State::Ok,
                format!("{} does not exist yet; `mantlet up` makes it", dir.display()),
            );
        }
        Err(error) => {
            return Check::new(CHECK, State::Failed, format!("{}: {error}", dir.display()))
                .hint("name another: --data-dir DIR");
        }
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Check::new(CHECK, State::Warning, format!("{} is open to others (mode {mode:o})", dir.display()))
            .hint(format!("close it: `chmod 700 {}`", dir.display()));
    }
    // A full disk may well have room for a file's name.
    let probe = tempfile::Builder::new().prefix(".doctor").tempfile_in(dir);
    let probe = probe.and_then(|mut file| {
        file.write_all(&[0; PROBE])?;
        file.as_file().sync_all()
    });
    match probe {
        Ok(()) => Check::new(CHECK, State::Ok, format!("{} can be written", dir.display())),
        Err(error) => Check::new(CHECK, State::Failed, format!("{} can't be written: {error}", dir.display()))
            .hint("make room on its disk, or give it to this user, or name another: --data-dir DIR"),
    }
}

/// Looks through a database, and through the records of the ledger; nothing to say of one that was not made yet.
async fn database(dir: &Path, name: &'static str) -> Option<Check> {
    let path = dir.join(name);
    if !path.exists() {
        let others = super::backup::DATABASES.iter().any(|other| dir.join(other).exists());
        let missing = || Check::new(name, State::Failed, format!("{} is missing", path.display())).hint(store::RESTORE);
        return others.then(missing);
    }
    let found = async {
        sqlite::check(&path).await?;
        if name != LEDGER {
            return Ok("whole".to_owned());
        }
        let key = fs::read_to_string(dir.join("log.key")).map_err(output::file(&dir.join("log.key")))?;
        let key = ledger::TrustedKey::parse(&key).map_err(|error| output::internal(&error))?;
        let log = SqliteLog::open_to_read(&path).await?;
        let records = registry::sequencer::check(&log, &key).await;
        log.close().await;
        Ok(format!("whole, with {} records", records?))
    };
    Some(match found.await {
        Ok(found) => Check::new(name, State::Ok, found),
        Err(refusal) => Check::refused(name, State::Failed, &refusal),
    })
}

fn disk(dir: &Path) -> Option<Check> {
    const CHECK: &str = "disk";
    let place = dir.ancestors().find(|path| path.exists())?;
    let stat = rustix::fs::statvfs(place).ok()?;
    let free = types::quantity::ByteCount((stat.f_bavail * stat.f_frsize) & !((1 << 20) - 1));
    let found = format!("{free} free at {}", place.display());
    Some(if free.0 < 1 << 30 {
        Check::new(CHECK, State::Warning, found).hint("below 1GiB events and uploads may be refused; make room")
    } else {
        Check::new(CHECK, State::Ok, found)
    })
}

async fn running(node: &Node) -> Vec<Check> {
    const CHECK: &str = "node";
    let client = match Client::find(node) {
        Ok(client) => client,
        Err(refusal) => return vec![Check::refused(CHECK, State::Warning, &refusal)],
    };
    let ready = client.send(client.request(Method::GET, "/v2/health/ready")).await;
    match ready {
        Ok(_) => {
            let answers = Check::new(CHECK, State::Ok, format!("answers at {}", client.url()));
            [Some(answers), recording(&client).await].into_iter().flatten().collect()
        }
        Err(refusal) => vec![Check::refused(CHECK, State::Failed, &refusal)],
    }
}

/// Whether the node records what it answers; nothing to say to whoever may not ask.
async fn recording(client: &Client) -> Option<Check> {
    const CHECK: &str = "recording";
    let metrics = client.send(client.request(Method::GET, "/metrics")).await.ok()?.text().await.ok()?;
    let value = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    let lost = value(gateway::LOST).unwrap_or(0.0);
    Some(match value(gateway::RECORDING)? {
        1.0 if lost > 0.0 => Check::new(CHECK, State::Warning, format!("{lost} event(s) were lost since the start"))
            .hint("the ledger has a gap for them; look into the node's log for the cause"),
        1.0 => Check::new(CHECK, State::Ok, "every event is stored and gets its record"),
        _ => Check {
            code: Code::StorageUnavailable,
            ..Check::new(CHECK, State::Failed, format!("events can't be recorded; {lost} were lost since the start"))
        }
        .hint("make room on the disk of the data directory, and look into the node's log"),
    })
}
