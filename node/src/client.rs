//! Talks to a node: the one whose data directory is here, or one elsewhere.

use std::{fs, io::Read as _, path::Path, path::PathBuf, time::Duration};

use reqwest::{Method, RequestBuilder, Response};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use types::{Code, Namespace, Refusal};
use zeroize::Zeroizing;

use crate::{
    cli::Node,
    output::{file, internal},
};

/// What `up` writes for clients on this machine.
#[derive(Serialize, Deserialize)]
pub(crate) struct ClientFile {
    /// Where the node listens.
    pub(crate) url: String,
    /// Where its gateways listen, when there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) urls: Vec<String>,
    /// The CA to trust; empty with security off.
    pub(crate) ca: PathBuf,
    /// The admin's token; empty with security off.
    pub(crate) token: Zeroizing<String>,
    /// The namespace it acts in.
    pub(crate) namespace: Namespace,
}

/// The file's name in the data directory.
pub(crate) const CLIENT_FILE: &str = "client.json";
/// How long a node may take to answer a management call.
const PATIENCE: Duration = Duration::from_secs(90);

/// The data directory that is meant: the one named, or the user's own.
///
/// # Errors
/// When neither is known.
pub(crate) fn data_dir(node: &Node) -> Result<PathBuf, Refusal> {
    if let Some(dir) = &node.data_dir {
        return std::path::absolute(dir).map_err(file(dir));
    }
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    from("XDG_DATA_HOME")
        .or_else(|| Some(from("HOME")?.join(".local/share")))
        .map(|base| base.join("mantlet"))
        .ok_or_else(|| {
            Refusal::new(Code::DataDirUnusable, "there is no home directory to keep data in")
                .hint("name a directory: `--data-dir DIR`, or set MANTLET_DATA_DIR")
        })
}

/// A connection to a node.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    token: Zeroizing<String>,
    namespace: Option<Namespace>,
    /// Where all its gateways listen, when that is known.
    urls: Vec<String>,
    /// The node's data directory, when it is on this machine.
    pub(crate) dir: Option<PathBuf>,
}

fn unreachable_node(what: String) -> Refusal {
    Refusal::new(Code::NodeUnreachable, what).hint("start a node: `mantlet up`, or name one: --data-dir or --url")
}

impl Client {
    /// Finds the node and the credential.
    ///
    /// # Errors
    /// `node_unreachable` when no node runs there.
    pub(crate) fn find(node: &Node) -> Result<Self, Refusal> {
        let named = match (&node.token_file, &node.token) {
            (Some(path), _) => Some(read_token(path)?),
            (None, Some(token)) => Some(Zeroizing::new(token.clone())),
            (None, None) => None,
        };
        if let Some(url) = &node.url {
            let token = named.ok_or_else(|| {
                Refusal::new(Code::CredentialMissing, "a node elsewhere needs a token")
                    .hint("name a file that holds it: --token-file FILE, or set MANTLET_TOKEN")
            })?;
            return Self::new(url.clone(), node.ca.as_deref(), token, node.namespace.clone(), None);
        }
        let dir = data_dir(node)?;
        let path = dir.join(CLIENT_FILE);
        let text = match fs::read(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(unreachable_node(format!("no node runs on {}", dir.display())));
            }
            Err(error) => return Err(file(&path)(error)),
        };
        let ClientFile { url, urls, ca, token, .. } = serde_json::from_slice(&text).map_err(|error| {
            Refusal::new(Code::FileUnreadable, format!("{}: {error}", path.display())).hint("start the node again")
        })?;
        let ca = (!ca.as_os_str().is_empty()).then_some(ca);
        let client = Self::new(url, ca.as_deref(), named.unwrap_or(token), node.namespace.clone(), Some(dir))?;
        Ok(Self { urls, ..client })
    }

    fn new(
        url: String,
        ca: Option<&Path>,
        token: Zeroizing<String>,
        namespace: Option<Namespace>,
        dir: Option<PathBuf>,
    ) -> Result<Self, Refusal> {
        let mut builder =
            reqwest::Client::builder().user_agent(concat!("mantlet/", env!("CARGO_PKG_VERSION"))).no_proxy();
        if let Some(ca) = ca {
            let text = fs::read_to_string(ca).map_err(file(ca))?;
            let config = access::tls::public_client(&text)
                .map_err(|error| Refusal::new(Code::FileUnreadable, format!("{}: {error}", ca.display())))?;
            builder = builder.tls_backend_preconfigured(config);
        }
        let http = builder.build().map_err(|error| internal(&error))?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), token, namespace, urls: Vec::new(), dir })
    }

    /// Where the node listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A connection to each gateway of the node.
    pub(crate) fn gateways(&self) -> Vec<Self> {
        let one = |url: &String| Self { url: url.clone(), ..self.clone() };
        if self.urls.is_empty() { vec![self.clone()] } else { self.urls.iter().map(one).collect() }
    }

    /// A request to a path of the node.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).timeout(PATIENCE);
        if !self.token.is_empty() {
            request = request.bearer_auth(&*self.token);
        }
        if let Some(namespace) = &self.namespace {
            request = request.header("mantlet-namespace", namespace.as_str());
        }
        request
    }

    /// Sends a request; anything but success becomes the refusal it carries.
    ///
    /// # Errors
    /// The node's refusal, or `node_unreachable`.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Refusal> {
        let response = request.send().await.map_err(|error| {
            unreachable_node(format!("{} does not answer: {}", self.url, types::refusal::cause(&error)))
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = response.bytes().await.unwrap_or_default();
        Err(read_problem(&text).unwrap_or_else(|| {
            Refusal::new(Code::NodeUnreachable, format!("{} answered {status}, not as a node does", self.url))
                .hint("check --url: is this a Mantlet node?")
        }))
    }

    /// Sends a request and reads its JSON answer.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Refusal> {
        let response = self.send(request).await?;
        response.json().await.map_err(|error| unreachable_node(format!("the answer can't be read: {error}")))
    }

    /// GETs a JSON answer.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        self.json(self.request(Method::GET, path)).await
    }
}

/// The refusal in a problem document.
pub(crate) fn read_problem(text: &[u8]) -> Option<Refusal> {
    #[derive(Deserialize)]
    struct Problem {
        code: Code,
        detail: String,
        #[serde(default)]
        hint: Option<String>,
    }
    let problem: Problem = serde_json::from_slice(text).ok()?;
    let refusal = Refusal::new(problem.code, problem.detail);
    Some(match problem.hint {
        Some(hint) => refusal.hint(hint),
        None => refusal,
    })
}

fn read_token(path: &Path) -> Result<Zeroizing<String>, Refusal> {
    let mut text = Zeroizing::new(String::new());
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map_err(file(path))?;
    } else {
        *text = fs::read_to_string(path).map_err(file(path))?;
    }
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// Calls of one path with curl and with Python that work as printed on the node's machine; with a `body`, they send
/// that file.
pub(crate) fn examples(dir: &Path, url: &str, path: &str, body: Option<&str>) -> String {
    let dir = dir.display();
    let trust =
        if url.starts_with("https") { format!(" --cacert {dir}/ca.pem -H @{dir}/admin.header") } else { String::new() };
    let sent = body.map(|file| format!(" -d @{file}")).unwrap_or_default();
    let data = body.map(|file| format!(", data=open(\"{file}\", \"rb\").read()")).unwrap_or_default();
    // The script stands at the margin: Python and the shell would stumble over an indent when it is pasted.
    format!(
        "with curl:\n  curl{trust}{sent} {url}{path}\n\nwith Python:\npython3 - <<'EOF'\n\
         import json, ssl, urllib.request\nnode = json.load(open(\"{dir}/client.json\"))\n\
         trust = ssl.create_default_context(cafile=node[\"ca\"]) if node[\"ca\"] else None\n\
         call = urllib.request.Request(node[\"url\"] + \"{path}\"{data})\n\
         if node[\"token\"]: call.add_header(\"authorization\", \"Bearer \" + node[\"token\"])\n\
         print(json.load(urllib.request.urlopen(call, context=trust)))\nEOF\n"
    )
}
