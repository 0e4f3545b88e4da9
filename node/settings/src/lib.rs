//! Settings: defaults < file < environment < flags, resolved once at start into typed values.
//!
//! A file is TOML with one table per room; the same key in the environment is `MANTLET_<TABLE>__<KEY>`. An
//! unknown key is refused with the nearest known one.

mod jobs;
mod keys;
mod sentinel;

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::Path, path::PathBuf, time::Duration};

use access::{authority::SERVICE_LIFE, jwt::Issuer};
use gateway::{Traces, keys::KeySet};
pub use keys::{KEYS, Key, variable};
use model_server::process::Sandbox;
use serde::Serialize;
use types::{
    Code, Refusal, Role, manifest,
    quantity::{ByteCount, Share, Span},
};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// It is the default.
    Default,
    /// A settings file.
    File(PathBuf),
    /// A variable of the environment.
    Environment(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "${name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Every setting with its value as written, and where that came from.
#[derive(Debug)]
pub struct Resolved(BTreeMap<Name, (String, Origin)>);

/// A setting's table and name.
type Name = (&'static str, &'static str);

/// Settings as typed values.
#[derive(Debug)]
pub struct Settings {
    /// What is logged: a level or a filter.
    pub log: String,
    /// Whether it is logged as JSON.
    pub log_json: bool,
    /// Where gateways listen; at least one.
    pub listen: Vec<SocketAddr>,
    /// More names for the server's certificate.
    pub names: Vec<String>,
    /// What gateways take.
    pub limits: gateway::Limits,
    /// What the learnt rule may do that chooses replicas.
    pub balancer: gateway::Balancer,
    /// ONNX Runtime's library, where it is not to be searched for.
    pub onnxruntime: Option<PathBuf>,
    /// Inferences at a time per replica, at most 256; 0 for what is fastest.
    pub sessions: usize,
    /// Cores of this machine that a node may use.
    pub cores: usize,
    /// How processes are confined.
    pub sandbox: Sandbox,
    /// Replicas with a model server of their own, at most.
    pub alone: u32,
    /// Bytes that replicas of one shared model server may take.
    pub shared_memory: u64,
    /// The share of the data directory's disk that stays free.
    pub disk_reserve: f64,
    /// The share of the machine's memory that stays free.
    pub memory_reserve: f64,
    /// Where it is read how much is.
    pub memory_sources: Vec<PathBuf>,
    /// Origins that models of other servers may be asked at.
    pub upstreams: Vec<String>,
    /// Origins that webhooks may be sent to.
    pub webhooks: Vec<String>,
    /// How it is looked for attackers.
    pub sensing: gateway::Sensing,
    /// How the sentinel decides.
    pub arbiter: defend::arbiter::Settings,
    /// Windows of ordinary callers that may be alarms, as a share.
    pub budget: f64,
    /// Who is told of incidents, if anybody is.
    pub told: Option<::sentinel::Webhook>,
    /// How long certificates of services last, 3 s to 1 h.
    pub life: Duration,
    /// The least time between two states of a streaming model that answer.
    pub snapshot_every: Duration,
    /// Jobs that train new versions.
    pub jobs: trainer::jobs::Kinds,
    /// Workers of a job, at most.
    pub workers: usize,
    /// Where spans go, and of what; none are made where it is nowhere.
    pub traces: Option<Traces>,
    /// Whose JSON Web Tokens are believed, and where its keys are read.
    pub issuer: Option<(Issuer, KeySet)>,
}

fn invalid(what: String, hint: String) -> Refusal {
    Refusal::new(Code::SettingsInvalid, what).hint(hint)
}

/// Resolves settings from a file's text, the environment and flags.
///
/// # Errors
/// `settings_invalid` with the key, where it stands, and the nearest known key.
pub fn resolve(
    file: Option<(&Path, &str)>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &[(&'static str, &'static str, &str, String)],
) -> Result<Resolved, Refusal> {
    let mut values: BTreeMap<_, _> =
        KEYS.iter().map(|key| ((key.table, key.name), (key.default.to_owned(), Origin::Default))).collect();
    if let Some((path, text)) = file {
        for ((table, name), value) in read_file(path, text)? {
            let key = known(&table, &name, &path.display().to_string())?;
            values.insert((key.table, key.name), (value, Origin::File(path.to_owned())));
        }
    }
    for (variable, value) in environment {
        let Some((table, name)) = variable.strip_prefix("MANTLET_").and_then(|rest| rest.split_once("__")) else {
            continue;
        };
        let lower = |text: &str| text.to_ascii_lowercase().replace('_', "-");
        let key = known(&lower(table), &lower(name), &format!("${variable}"))?;
        values.insert((key.table, key.name), (value, Origin::Environment(variable)));
    }
    for (table, name, flag, value) in flags {
        values.insert((table, name), (value.clone(), Origin::Flag((*flag).to_owned())));
    }
    Ok(Resolved(values))
}

/// Table, name and value, as written in a file.
type Written = ((String, String), String);

fn read_file(path: &Path, text: &str) -> Result<Vec<Written>, Refusal> {
    let broken = |why: String| {
        invalid(
            format!("{}: {why}", path.display()),
            "write TOML: [gateway] on one line, listen = \"127.0.0.1:8443\" on the next".into(),
        )
    };
    let document: toml::Table = toml::from_str(text).map_err(|error| broken(error.message().to_owned()))?;
    let mut values = Vec::new();
    for (table, content) in document {
        let toml::Value::Table(content) = content else {
            return Err(broken(format!("`{table}` stands outside a table")));
        };
        for (name, value) in content {
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(flag) => flag.to_string(),
                other => {
                    return Err(broken(format!("{table}.{name} is a {}, not a text or a number", other.type_str())));
                }
            };
            values.push(((table.clone(), name), text));
        }
    }
    Ok(values)
}

fn known(table: &str, name: &str, place: &str) -> Result<&'static Key, Refusal> {
    if let Some(key) = KEYS.iter().find(|key| key.table == table && key.name == name) {
        return Ok(key);
    }
    let wanted = format!("{table}.{name}");
    let nearest = KEYS
        .iter()
        .map(|key| format!("{}.{}", key.table, key.name))
        .min_by_key(|known| strsim::damerau_levenshtein(known, &wanted))
        .unwrap_or_default();
    Err(invalid(
        format!("{place}: there is no setting `{wanted}`"),
        format!("did you mean `{nearest}`? `mantlet config show` lists all settings"),
    ))
}

impl Resolved {
    /// Every setting in the order of [`KEYS`], with its value and origin.
    pub fn rows(&self) -> impl Iterator<Item = (&'static Key, &str, &Origin)> {
        KEYS.iter().filter_map(|key| {
            let (value, origin) = self.0.get(&(key.table, key.name))?;
            Some((key, value.as_str(), origin))
        })
    }

    fn get<T: std::str::FromStr>(&self, table: &'static str, name: &'static str) -> Result<T, Refusal>
    where
        T::Err: fmt::Display,
    {
        let Some((value, origin)) = self.0.get(&(table, name)) else {
            return Err(invalid(format!("there is no setting `{table}.{name}`"), "this is a bug".into()));
        };
        value.parse().map_err(|error: T::Err| {
            let default = KEYS.iter().find(|key| (key.table, key.name) == (table, name)).map_or("", |key| key.default);
            invalid(format!("{table}.{name} is `{value}` ({origin}): {error}"), format!("write it like `{default}`"))
        })
    }

    /// Whose JSON Web Tokens are believed.
    fn issuer(&self) -> Result<Option<(Issuer, KeySet)>, Refusal> {
        let word = |name| self.get::<String>("access", name);
        let (issuer, keys) = (word("jwt-issuer")?, word("jwt-keys")?);
        if issuer.is_empty() {
            return Ok(None);
        }
        if keys.is_empty() {
            let hint = "name the issuer's JWKS, for example https://issuer.example/.well-known/jwks.json";
            return Err(invalid("access.jwt-issuer is set, and access.jwt-keys is not".into(), hint.into()));
        }
        let grants = word("jwt-grants")?;
        let roles = grants.split(',').map(str::trim).filter(|role| !role.is_empty()).map(str::parse);
        let roles = roles.collect::<Result<Vec<Role>, _>>();
        let issuer = Issuer {
            issuer,
            audience: word("jwt-audience")?,
            namespace_claim: word("jwt-namespace")?,
            roles_claim: word("jwt-roles")?,
            roles: roles.map_err(|error| {
                invalid(format!("access.jwt-grants is `{grants}`: {error}"), "write it like `caller,labeller`".into())
            })?,
        };
        Ok(Some((issuer, keys.parse()?)))
    }

    /// Where spans go.
    fn traces(&self) -> Result<Option<Traces>, Refusal> {
        let (endpoint, share): (String, Share) = (self.get("node", "otlp")?, self.get("node", "otlp-share")?);
        (!endpoint.is_empty()).then(|| Traces::to(&endpoint, share)).transpose()
    }

    /// Where gateways listen.
    fn listen(&self) -> Result<Vec<SocketAddr>, Refusal> {
        let text: String = self.get("gateway", "listen")?;
        let addresses = text.split(',').map(|address| address.trim().parse());
        addresses.collect::<Result<_, _>>().map_err(|error| {
            invalid(format!("gateway.listen is `{text}`: {error}"), "write it like `127.0.0.1:8443`".into())
        })
    }

    /// What the learnt rule may do that chooses replicas.
    fn balancer(&self) -> Result<gateway::Balancer, Refusal> {
        let mode: String = self.get("gateway", "balancer")?;
        match mode.as_str() {
            "off" => Ok(gateway::Balancer::Off),
            "shadow" => Ok(gateway::Balancer::Shadow),
            "on" => Ok(gateway::Balancer::On),
            _ => Err(invalid(format!("gateway.balancer is `{mode}`"), "write on, shadow or off".into())),
        }
    }

    /// Processes that share the learning of a job, at most.
    fn workers(&self) -> Result<usize, Refusal> {
        let most = types::manifest::Train::MOST_WORKERS;
        match self.get("trainer", "workers")? {
            0 => Ok(std::thread::available_parallelism().map_or(1, usize::from).min(most)),
            workers if workers <= most => Ok(workers),
            workers => Err(invalid(format!("trainer.workers is {workers}"), format!("write 0 to {most}"))),
        }
    }

    /// Origins that may be called.
    fn origins(&self, table: &'static str, name: &'static str) -> Result<Vec<String>, Refusal> {
        let text: String = self.get(table, name)?;
        let addresses = text.split(',').map(str::trim).filter(|address| !address.is_empty());
        addresses
            .map(|address| {
                manifest::origin(address).map_err(|why| {
                    let what = format!("{table}.{name} holds `{address}`: {why}");
                    invalid(what, "write it like `https://triton:8000`".into())
                })
            })
            .collect()
    }

    /// Paths, separated by commas.
    fn paths(&self, table: &'static str, name: &'static str) -> Result<Vec<PathBuf>, Refusal> {
        let text: String = self.get(table, name)?;
        let paths = text.split(',').map(str::trim).filter(|path| !path.is_empty());
        Ok(paths.map(PathBuf::from).collect())
    }

    /// Every setting with its value, for a process that is given them.
    pub fn values(&self) -> Vec<(String, String, String)> {
        let value = |((table, name), (value, _)): (&Name, &(String, Origin))| {
            ((*table).to_owned(), (*name).to_owned(), value.clone())
        };
        self.0.iter().map(value).collect()
    }

    /// What [`Resolved::values`] gave.
    ///
    /// # Errors
    /// `settings_invalid` for a setting that this release does not know.
    pub fn given(values: Vec<(String, String, String)>) -> Result<Self, Refusal> {
        let origin = || Origin::Flag("the supervisor".into());
        let set = |(table, name, value): (String, String, String)| {
            let key = known(&table, &name, "the supervisor's settings")?;
            Ok(((key.table, key.name), (value, origin())))
        };
        values.into_iter().map(set).collect::<Result<_, _>>().map(Self)
    }

    /// The typed values.
    ///
    /// # Errors
    /// `settings_invalid` for the first value that can't be read.
    pub fn settings(&self) -> Result<Settings, Refusal> {
        let span = |name| self.get::<Span>("gateway", name).map(|span| span.0);
        let size = |name| self.get::<ByteCount>("gateway", name).map(|size| size.0);
        let names: String = self.get("gateway", "names")?;
        let library: PathBuf = self.get("model-server", "onnxruntime")?;
        let sessions: usize = self.get("model-server", "sessions")?;
        let format: String = self.get("node", "log-format")?;
        if !matches!(format.as_str(), "text" | "json") {
            return Err(invalid(format!("node.log-format is `{format}`"), "write text or json".into()));
        }
        let sandbox: String = self.get("model-server", "sandbox")?;
        let sandbox = match sandbox.as_str() {
            "auto" => Sandbox::Auto,
            "required" => Sandbox::Required,
            "off" => Sandbox::Off,
            _ => {
                let what = format!("model-server.sandbox is `{sandbox}`");
                return Err(invalid(what, "write auto, required or off".into()));
            }
        };
        let (sensing, arbiter, budget) = sentinel::read(self)?;
        Ok(Settings {
            sensing,
            arbiter,
            budget,
            told: sentinel::told(self)?,
            traces: self.traces()?,
            issuer: self.issuer()?,
            workers: self.workers()?,
            jobs: jobs::read(&self.get::<PathBuf>("trainer", "jobs")?)?,
            snapshot_every: self.get::<Span>("trainer", "snapshot-every")?.0,
            life: self.get::<Span>("node", "certificates")?.0.clamp(Duration::from_secs(3), SERVICE_LIFE),
            sandbox,
            upstreams: self.origins("orchestrator", "upstreams")?,
            webhooks: self.origins("trainer", "webhooks")?,
            alone: self.get("orchestrator", "alone")?,
            disk_reserve: self.get::<Share>("node", "disk-reserve")?.get(),
            memory_reserve: self.get::<Share>("orchestrator", "memory-reserve")?.get(),
            memory_sources: self.paths("orchestrator", "memory-sources")?,
            shared_memory: self.get::<ByteCount>("orchestrator", "shared-memory")?.0.max(1 << 20),
            log: self.get("node", "log")?,
            log_json: format == "json",
            listen: self.listen()?,
            names: names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            balancer: self.balancer()?,
            limits: gateway::Limits {
                deadline: span("deadline")?,
                longest_deadline: span("longest-deadline")?,
                message: size("message")?,
                upload: size("upload")?,
                connections: self.get::<usize>("gateway", "connections")?.clamp(1, 1 << 20),
                idle: span("idle")?,
                events: self.get::<usize>("gateway", "events")?.clamp(1, 1 << 20),
                keep: span("keep")?,
                keep_bytes: size("keep-bytes")?,
            },
            onnxruntime: (!library.as_os_str().is_empty()).then_some(library),
            sessions: sessions.min(256),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(resolved: &Resolved, table: &'static str, name: &'static str) -> String {
        let (value, origin) = &resolved.0[&(table, name)];
        format!("{value} from {origin}")
    }

    #[test]
    fn later_sources_win_and_say_so() {
        let file = "[gateway]\ndeadline = \"5s\"\nconnections = 7\n[model-server]\nsessions = 3";
        let environment = [("MANTLET_GATEWAY__DEADLINE", "6s"), ("MANTLET_DATA", "x"), ("PATH", "y")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let flags = [("gateway", "listen", "--listen", "127.0.0.1:0".to_owned())];
        let resolved = resolve(Some((Path::new("m.toml"), file)), environment, &flags).unwrap();
        assert_eq!(value(&resolved, "gateway", "deadline"), "6s from $MANTLET_GATEWAY__DEADLINE");
        assert_eq!(value(&resolved, "gateway", "connections"), "7 from m.toml");
        assert_eq!(value(&resolved, "gateway", "listen"), "127.0.0.1:0 from --listen");
        assert_eq!(value(&resolved, "gateway", "idle"), "10s from default");
        let settings = resolved.settings().unwrap();
        assert_eq!((settings.sessions, settings.limits.connections), (3, 7));
    }

    #[test]
    fn a_mistyped_key_is_answered_with_the_right_one() {
        let message = |file: &str, environment: Option<&str>| {
            let environment = environment.map(|name| (name.to_owned(), "1".to_owned()));
            let refusal = resolve(Some((Path::new("m.toml"), file)), environment, &[]).unwrap_err();
            refusal.text()
        };
        assert!(message("[gateway]\ndeadlin = \"5s\"", None).contains("did you mean `gateway.deadline`?"));
        assert!(message("[model_server]\nsessions = 1", None).contains("`model-server.sessions`"));
        assert!(message("", Some("MANTLET_GATEWAY__LISEN")).contains("`gateway.listen`"));
        assert!(message("listen = 1", None).contains("outside a table"));
        assert!(message("[gateway", None).contains("m.toml"));
    }

    #[test]
    fn a_wrong_value_names_key_origin_and_form() {
        let environment = [("MANTLET_GATEWAY__DEADLINE".to_owned(), "soon".to_owned())];
        let refusal = resolve(None, environment, &[]).unwrap().settings().unwrap_err();
        assert!(refusal.message.contains("gateway.deadline is `soon` ($MANTLET_GATEWAY__DEADLINE)"), "{refusal}");
        assert_eq!(refusal.hint.as_deref(), Some("write it like `30s`"));
    }

    #[test]
    fn the_reference_page_lists_every_setting() {
        let mut page = String::from(
            "# Settings\n\nDefaults < file < environment < flags. A file is TOML: `mantlet.toml` in the data directory, or \
             the one that `--config` names.\n`mantlet config show` says where each value came from. All since 0.1.\n\n\
             | setting | environment | default | about |\n|---|---|---|---|\n",
        );
        for Key { table, name, default, doc } in KEYS {
            let default = if default.is_empty() { "—".to_owned() } else { format!("`{default}`") };
            page.push_str(&format!("| `{table}.{name}` | `{}` | {default} | {doc} |\n", variable(table, name)));
        }
        testkit::reference::check("settings.md", &page);
    }

    #[test]
    fn every_default_can_be_read() {
        resolve(None, [], &[]).unwrap().settings().unwrap();
    }
}
