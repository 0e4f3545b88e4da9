//! Every setting, with its default and what it means.

/// One setting.
pub struct Key {
    /// Its room.
    pub table: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// Its default, as written.
    pub default: &'static str,
    /// What it means, with its unit.
    pub doc: &'static str,
}

const fn key(table: &'static str, name: &'static str, default: &'static str, doc: &'static str) -> Key {
    Key { table, name, default, doc }
}

/// The environment's name of a setting.
pub fn variable(table: &str, name: &str) -> String {
    let upper = |text: &str| text.to_ascii_uppercase().replace('-', "_");
    format!("MANTLET_{}__{}", upper(table), upper(name))
}

/// Every setting, all since 0.1.
pub const KEYS: &[Key] = &[
    key("node", "log", "info", "what is logged: error, warn, info, debug, or a filter like `info,gateway=debug`"),
    key("node", "log-format", "text", "how it is logged: text or json"),
    key(
        "node",
        "otlp",
        "",
        "address of an OpenTelemetry collector that gets traces of predictions, by OTLP/HTTP: `http://127.0.0.1:4318`; none does when empty",
    ),
    key(
        "node",
        "otlp-share",
        "1%",
        "share of predictions that is traced where the client's `traceparent` does not decide",
    ),
    key(
        "node",
        "certificates",
        "1h",
        "how long certificates of services last, 3s to 1h; each is renewed at a third of it",
    ),
    key(
        "node",
        "disk-reserve",
        "1%",
        "share of the data directory's disk that stays free: below it uploads are refused, so that what was acknowledged can be kept",
    ),
    key("access", "jwt-issuer", "", "`iss` of the JSON Web Tokens that are believed; none are when empty"),
    key("access", "jwt-audience", "mantlet", "`aud` that they must have"),
    key("access", "jwt-keys", "", "file or https address of the issuer's key set (JWKS), read again every 5 minutes"),
    key("access", "jwt-namespace", "namespace", "claim that names the caller's namespace"),
    key("access", "jwt-roles", "roles", "claim that names the caller's roles"),
    key("access", "jwt-grants", "caller,labeller", "roles that a token may give, separated by commas"),
    key(
        "gateway",
        "listen",
        "127.0.0.1:8443",
        "address and port; port 0 picks a free one; several, separated by commas, are several gateways of `up --split`",
    ),
    key("gateway", "names", "", "more names for the server's certificate, separated by commas"),
    key("gateway", "deadline", "30s", "time to answer when a request names none"),
    key("gateway", "longest-deadline", "60s", "the most time a request may name"),
    key("gateway", "message", "64MiB", "bytes of one message before its model's own limit is known"),
    key("gateway", "upload", "2GiB", "bytes of one uploaded model"),
    key("gateway", "connections", "4096", "connections at a time"),
    key("gateway", "idle", "10s", "silence after which a client that still owes bytes is cut"),
    key(
        "gateway",
        "balancer",
        "shadow",
        "who chooses replicas: on, the learnt rule while it is shown to be better than the pool; shadow, the pool, and the rule only learns; off, the pool alone",
    ),
    key("gateway", "events", "16384", "events waiting to be stored, at most; more are dropped and counted"),
    key("gateway", "keep", "7d", "how long events are kept, at most; a model's own `capture.keep` may be shorter"),
    key("gateway", "keep-bytes", "1GiB", "bytes of events that are kept, at most; the oldest go first"),
    key("model-server", "onnxruntime", "", "path of ONNX Runtime's library; searched for when empty"),
    key(
        "model-server",
        "sandbox",
        "auto",
        "confine model servers, and services of `up --split`: auto as far as the kernel can, required or not at all, off",
    ),
    key(
        "model-server",
        "sessions",
        "0",
        "inferences at a time per replica; 0: one per core (at most 8) or one on all cores, as is faster",
    ),
    key("orchestrator", "alone", "8", "replicas with a model server of their own, at most; more share, by namespace"),
    key(
        "orchestrator",
        "shared-memory",
        "4GiB",
        "memory of replicas that share a model server; the least recently used are out of memory until they are asked for",
    ),
    key(
        "orchestrator",
        "memory-reserve",
        "5%",
        "share of the machine's memory that stays free: below it models that may sleep are unloaded, those worth least first; 0% unloads none",
    ),
    key(
        "orchestrator",
        "memory-sources",
        "/proc/meminfo,/sys/fs/cgroup",
        "where it is read how much memory is free, separated by commas: files like /proc/meminfo, folders of control groups; the one with the least left counts",
    ),
    key(
        "orchestrator",
        "upstreams",
        "",
        "addresses that models of other servers may be asked at, like https://triton:8000, separated by commas",
    ),
    key(
        "sentinel",
        "mode",
        "on",
        "on: agents look for attackers; rules: plain rules act, and what was learnt only watches; off: nobody looks",
    ),
    key("sentinel", "agents", "", "agents that are not on, like `intruder=shadow,evasion=off`, separated by commas"),
    key(
        "sentinel",
        "autonomy",
        "recommend",
        "how far agents may go where a model's `protection.autonomy` does not say: observe, recommend, approve or act",
    ),
    key(
        "sentinel",
        "budget",
        "1%",
        "windows of ordinary callers that may be alarms, shared by all agents of a namespace",
    ),
    key(
        "sentinel",
        "blast",
        "1%",
        "callers of a namespace that may be restricted in ten minutes without a person; one at least",
    ),
    key("sentinel", "window", "60s", "how long a window is in which what a caller does is added up, 1s to 1h"),
    key(
        "sentinel",
        "webhook",
        "",
        "address that incidents are told to by signed requests, like https://ops.example/hooks/incidents; nobody is told when empty",
    ),
    key(
        "sentinel",
        "webhook-secret",
        "",
        "name of the secret of the namespace `default` that they are signed with: `whsec_` and a key in base64, or a text of 24 bytes at least",
    ),
    key("trainer", "jobs", "", "file that names the jobs that train new versions; there are none when empty"),
    key(
        "trainer",
        "webhooks",
        "",
        "addresses that webhooks may be sent to, like https://ops.example, separated by commas; none are when empty",
    ),
    key("trainer", "workers", "0", "processes that share the learning of a job, at most; 0: one per core, at most 8"),
    key("trainer", "snapshot-every", "1s", "the least time between two states of a streaming model that answer"),
];
