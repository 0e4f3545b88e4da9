//! A real node: the binary itself on a directory of its own, ended when the test is over.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use prost::Message as _;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tempfile::TempDir;

use crate::disk::{SlowDisk, SmallDisk};

/// How long anything a test waits for may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// A node of its own.
pub struct Node {
    binary: PathBuf,
    home: TempDir,
    /// A small disk of its own, where it has one.
    disk: Option<SmallDisk>,
    /// What makes it wait for its disk, where something does.
    slow: Option<SlowDisk>,
    arguments: Vec<String>,
    address: String,
    child: Option<Child>,
    library: bool,
}

impl Node {
    /// A directory for a node that is not started yet.
    pub fn new(binary: &str) -> Self {
        access::tls::install_provider();
        let home = tempfile::Builder::new().prefix("mt").tempdir().expect("a temporary directory can be made");
        Self {
            binary: binary.into(),
            home,
            disk: None,
            slow: None,
            arguments: Vec::new(),
            address: "127.0.0.1:0".into(),
            child: None,
            library: true,
        }
    }

    /// As [`Node::new`], with the data directory on a disk that has room for this many bytes; none where this system
    /// lets us make no such disk.
    pub fn on_small_disk(binary: &str, bytes: u64) -> Option<Self> {
        let mut node = Self::new(binary);
        fs::create_dir(node.home.path().join("node")).unwrap();
        node.disk = Some(SmallDisk::mount(&node.home.path().join("node"), bytes)?);
        Some(node)
    }

    /// As [`Node::new`], with a disk that can be told to stand still; none where there is no C compiler.
    pub fn on_slow_disk(binary: &str) -> Option<(Self, SlowDisk)> {
        let mut node = Self::new(binary);
        let slow = SlowDisk::build(node.home.path())?;
        node.slow = Some(slow.clone());
        Some((node, slow))
    }

    /// A node that listens.
    pub async fn start(binary: &str) -> Self {
        let mut node = Self::new(binary);
        node.up().await;
        node
    }

    /// Lets it listen where it listens now at its next starts, too.
    pub fn stay(&mut self) {
        self.address = self.client().url().rsplit('/').next().unwrap().to_owned();
    }

    /// Adds arguments to `up`.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// The data directory, as the test sees it.
    pub fn dir(&self) -> PathBuf {
        self.seen(self.home.path().join("node"))
    }

    /// Where the test finds what the node calls so.
    fn seen(&self, path: PathBuf) -> PathBuf {
        match &self.disk {
            Some(disk) => disk.root().join(path.strip_prefix("/").unwrap()),
            None => path,
        }
    }

    /// A folder beside the data directory, for the test's own files.
    pub fn scratch(&self) -> &Path {
        self.home.path()
    }

    /// What the node has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// The command with this node's directory and nothing of the test's own environment.
    pub fn command(&self) -> Command {
        let mut command = match &self.disk {
            Some(disk) => disk.command(&self.binary),
            None => Command::new(&self.binary),
        };
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MANTLET_")) {
            command.env_remove(name);
        }
        command.arg("--data-dir").arg(self.home.path().join("node"));
        if let Some(library) = crate::setup::onnxruntime().filter(|_| self.library) {
            command.env("MANTLET_MODEL_SERVER__ONNXRUNTIME", library);
        }
        command
    }

    /// Starts the process without waiting for it.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "the node runs already");
        let log = File::options().create(true).append(true).open(self.home.path().join("log")).unwrap();
        let mut command = self.command();
        command.args(["up", "--listen", &self.address]).args(&self.arguments);
        if let Some(slow) = &self.slow {
            slow.under(&mut command);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().expect("the binary can be started"));
    }

    /// Starts it and waits until it listens, without telling it where ONNX Runtime's library is.
    pub async fn up_without_library(&mut self) {
        self.library = false;
        self.up().await;
    }

    /// Starts it and waits until it listens.
    pub async fn up(&mut self) {
        self.launch();
        let client = self.dir().join("client.json");
        let (until, mut child) = (tokio::time::Instant::now() + PATIENCE, self.child.take().unwrap());
        // A killed node leaves its announcement behind; the new one takes it back first, then makes its own.
        while !(client.is_file() && self.answers().await) {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the node ended at its start ({status}):\n{}", self.log());
            }
            assert!(tokio::time::Instant::now() < until, "the node does not listen:\n{}", self.log());
            tokio::time::sleep(LOOK).await;
        }
        self.child = Some(child);
    }

    async fn answers(&self) -> bool {
        let Ok(client) = self.try_client(&[]) else { return false };
        matches!(client.try_send(client.request(Method::GET, "/v2/health/ready")).await, Ok((200, _)))
    }

    /// Ends it at once, as a power cut would; only this one process, by its id.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the node can be killed");
            child.wait().expect("the node can be waited for");
        }
    }

    /// Starts the process with more arguments, without waiting for it.
    pub fn launch_with(&mut self, arguments: &[&str]) {
        let before = self.arguments.len();
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self.launch();
        self.arguments.truncate(before);
    }

    /// Waits until it has ended by itself.
    pub fn ended(&mut self) -> std::process::ExitStatus {
        self.child.take().expect("the node was started").wait().unwrap()
    }

    /// Asks it to stop and waits for it; returns whether it said that all went well.
    pub fn stop(&mut self) -> bool {
        let mut child = self.child.take().expect("the node runs");
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap().success()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// The node's process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the node runs").id()
    }

    /// The newest process of a service of a split node, from the log.
    pub fn service(&self, name: &str) -> u32 {
        let log = self.log();
        let line = log.lines().rfind(|line| line.contains(&format!("service=\"{name}\" pid="))).unwrap();
        line.rsplit_once("pid=").unwrap().1.trim().parse().unwrap()
    }

    /// Process ids of its model servers.
    pub fn model_servers(&self) -> Vec<u32> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let mut all: Vec<u32> = children.split_whitespace().filter_map(|id| id.parse().ok()).collect();
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(text.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Runs a verb of the command line.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().expect("the binary can be started")
    }

    /// Runs a verb that must succeed; its JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.cli(&[arguments, &["--output", "json"]].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}\n{}", self.log());
        serde_json::from_slice(&output.stdout).expect("JSON on standard output")
    }

    /// Runs a verb that must be refused; the error's code.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = self.cli(&[arguments, &["--output", "json"]].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?} must be refused");
        let error: Value = serde_json::from_slice(&output.stderr).expect("JSON on standard error");
        error["error"]["code"].as_str().expect("a code").to_owned()
    }

    /// Writes a file beside the data directory.
    pub fn file(&self, name: &str, data: &[u8]) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, data).unwrap();
        path
    }

    /// Deploys a model file and waits for it.
    pub fn deploy(&self, name: &str, model: &[u8]) -> Value {
        let path = self.file(&format!("{name}.onnx"), model);
        self.json(&["deploy", path.to_str().unwrap(), "--name", name, "--wait"])
    }

    /// A client with the admin's token.
    pub fn client(&self) -> Client {
        self.client_speaking(&[])
    }

    /// As [`Node::client`], with every request on one HTTP/2 connection.
    pub fn client_h2(&self) -> Client {
        self.client_speaking(&[b"h2"])
    }

    /// A client of each gateway.
    pub fn clients(&self) -> Vec<Client> {
        let text = fs::read_to_string(self.dir().join("client.json")).unwrap();
        let urls = serde_json::from_str::<Value>(&text).unwrap()["urls"].clone();
        let one = |url: &Value| Client { url: url.as_str().unwrap().to_owned(), ..self.client() };
        urls.as_array().expect("several gateways").iter().map(one).collect()
    }

    fn client_speaking(&self, protocols: &[&[u8]]) -> Client {
        self.try_client(protocols).expect("the node listens")
    }

    fn try_client(&self, protocols: &[&[u8]]) -> std::io::Result<Client> {
        let client: Value = serde_json::from_str(&fs::read_to_string(self.dir().join("client.json"))?)?;
        let field = |name: &str| client[name].as_str().unwrap().to_owned();
        let ca = Some(field("ca")).filter(|ca| !ca.is_empty()).map(|ca| self.seen(ca.into()));
        Ok(Client::new(&field("url"), ca.as_deref(), &field("token"), protocols))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ends a process of a node at once, by its id, and waits until it is gone.
pub fn kill(id: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("the process can be killed");
    while Path::new(&format!("/proc/{id}")).exists() {
        std::thread::sleep(LOOK);
    }
}

/// A client of a node's port.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
}

/// A status and a JSON body.
pub type Answer = (u16, Value);

impl Client {
    fn new(url: &str, ca: Option<&Path>, token: &str, protocols: &[&[u8]]) -> Self {
        let mut builder = reqwest::Client::builder().no_proxy();
        if let Some(ca) = ca {
            let mut config = access::tls::public_client(&fs::read_to_string(ca).unwrap()).unwrap();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            builder = builder.tls_backend_preconfigured(config);
        }
        Self { http: builder.build().unwrap(), url: url.to_owned(), token: token.to_owned() }
    }

    /// A client that shows this certificate, and no token.
    pub fn certified(node: &Node, identity: &access::Identity) -> Self {
        let plain = node.client();
        let ca = fs::read_to_string(node.dir().join("ca.pem")).unwrap();
        let config = access::tls::public_client_with(identity, &ca).unwrap();
        let http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(config).build().unwrap();
        Self { http, url: plain.url, token: String::new() }
    }

    /// The same client with another token; none when it is empty.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// The token that it sends.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Where the node listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A request to a path.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url)).timeout(PATIENCE);
        if self.token.is_empty() { request } else { request.bearer_auth(&self.token) }
    }

    /// Sends a request; its status and JSON (null when the body is none).
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        self.try_send(request).await.expect("the node answers")
    }

    /// As [`Client::send`], for nodes that may be gone.
    pub async fn try_send(&self, request: RequestBuilder) -> Result<Answer, reqwest::Error> {
        let response = request.send().await?;
        let status = response.status().as_u16();
        let body = response.bytes().await?;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    /// GETs a path.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// POSTs JSON to a path.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// Asks a model for a prediction.
    pub async fn infer(&self, model: &str, body: &Value) -> Answer {
        self.post(&format!("/v2/models/{model}/infer"), body).await
    }

    /// A gRPC call that asks a model for a prediction; its outcome is in the answer's head or trailers.
    pub fn grpc_infer(&self, model: &str, inputs: Vec<types::Tensor>) -> RequestBuilder {
        let (model, outputs) = (model.parse().expect("a model's name"), Vec::new());
        let request = types::infer::InferRequest { model, version: None, id: None, inputs, outputs, timeout: None };
        let message = rpc::oip::write_request(request).encode_to_vec();
        let length = u32::try_from(message.len()).expect("a small message").to_be_bytes();
        let request = self.request(Method::POST, "/inference.GRPCInferenceService/ModelInfer");
        request.header("content-type", "application/grpc").body([&[0], &length[..], &message].concat())
    }

    /// Uploads a model and deploys it with this manifest; does not wait until it answers.
    pub async fn deploy(&self, model: &[u8], manifest: &Value) -> Result<Answer, reqwest::Error> {
        let upload = self.request(Method::PUT, "/v1/uploads").body(model.to_vec());
        let (status, staged) = self.try_send(upload).await?;
        if status != 200 {
            return Ok((status, staged));
        }
        let body = serde_json::json!({ "upload": staged["id"], "manifest": manifest });
        self.try_send(self.request(Method::POST, "/v1/deploys").json(&body)).await
    }

    /// Waits until a prediction is answered.
    pub async fn until_answers(&self, model: &str, body: &Value) -> Value {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (status, answer) = self.infer(model, body).await;
            if status == 200 {
                return answer;
            }
            assert!(tokio::time::Instant::now() < until, "`{model}` does not answer: {status} {answer}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the ledger has a record of this action.
    pub async fn until_in_ledger(&self, action: &str) {
        let (mut from, until) = (0, tokio::time::Instant::now() + PATIENCE);
        let said = format!("\"action\":\"{action}\"");
        loop {
            let (status, page) = self.get(&format!("/v1/ledger?from={from}")).await;
            assert_eq!(status, 200, "{page}");
            let records = page["records"].as_array().into_iter().flatten();
            if records.filter_map(Value::as_str).any(|record| record.contains(&said)) {
                return;
            }
            assert!(tokio::time::Instant::now() < until, "the ledger has no {action}");
            // New ones come when they are sealed.
            from = page["next"].as_u64().unwrap_or(from);
            tokio::time::sleep(LOOK).await;
        }
    }
}
